//! Options of `tanist agent` and `tanist server`: ArangoDB's names where Tanist has the thing.
//!
//! An option may stand on the command line (`--name value`, `--name=value`), in the environment (`TANIST_` and the name
//! in capitals with `_`), or in a file of ArangoDB's form (`-c FILE`); the first of these that has it counts. Options
//! of ArangoDB that mean nothing here are accepted and named; what neither knows is refused.

use crate::etcd::Address;
use crate::exit::{Code, Exit};
use crate::http::cors::Trusted;
use crate::known;
use crate::log;
use crate::storage::check::Extent;
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tanist_engine::http::truthy;
use tanist_engine::types::*;
use tracing::level_filters::LevelFilter;

/// Secrets below this length are accepted with a warning.
pub const SECRET_BYTES_WEAK: usize = 16;
/// ArangoDB's limit on a secret.
const SECRET_BYTES_MAX: usize = 64;
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Parser, Debug)]
#[command(name = "tanist", no_binary_name = true, args_override_self = true, disable_version_flag = true)]
pub struct NodeOptions {
    /// Where the data is kept.
    #[arg(value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,

    #[command(flatten, next_help_heading = "Server")]
    pub server: ServerOptions,
    #[command(flatten, next_help_heading = "Agency")]
    pub agency: AgencyOptions,
    #[command(flatten, next_help_heading = "Membership")]
    pub cluster: ClusterOptions,
    #[command(flatten, next_help_heading = "Storage and log")]
    pub storage: StorageOptions,
    #[command(flatten, next_help_heading = "Documents that expire")]
    pub ttl: TtlOptions,
}

#[derive(Args, Debug)]
pub struct ServerOptions {
    /// Where to listen; may be repeated, the first is the node's own address.
    #[arg(long = "server.endpoint", value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:8529")]
    pub endpoint: Vec<String>,
    /// Whether clients and peers must prove who they are.
    #[arg(long = "server.authentication", value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", default_value = "true")]
    pub authentication: bool,
    /// The secret of the deployment's tokens, in plain sight; a file is better.
    #[arg(long = "server.jwt-secret", value_name = "TEXT", hide_env_values = true)]
    pub jwt_secret: Option<String>,
    /// File with the secret of the deployment's tokens.
    #[arg(long = "server.jwt-secret-keyfile", value_name = "FILE")]
    pub jwt_secret_keyfile: Option<PathBuf>,
    /// Folder of such files: the first by name signs, all verify.
    #[arg(long = "server.jwt-secret-folder", value_name = "FOLDER")]
    pub jwt_secret_folder: Option<PathBuf>,
    /// Seconds for which a token of /_open/auth is good.
    #[arg(long = "server.session-timeout", value_name = "SECONDS", value_parser = parse_seconds, default_value = "3600")]
    pub session_timeout: Duration,
    /// Password of root where the data directory is created.
    #[arg(long = "server.root-password", value_name = "TEXT", hide_env_values = true, default_value = "")]
    pub root_password: String,
    /// Let names of databases, collections and views be almost any text.
    #[arg(long = "database.extended-names", value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", default_value = "false")]
    pub extended_names: bool,
    /// Seconds for which an idle connection is kept.
    #[arg(long = "http.keep-alive-timeout", value_name = "SECONDS", value_parser = parse_seconds, default_value = "300")]
    pub keep_alive_timeout: Duration,
    /// Longest request body.
    #[arg(long = "http.max-body-bytes", value_name = "BYTES", value_parser = parse_bytes, default_value = "512m")]
    pub max_body_bytes: u64,
    /// Connections of clients at one moment; further ones are refused.
    #[arg(long = "http.max-connections", value_name = "NUMBER", default_value_t = 4096,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Origin whose web pages may send a browser's own credentials; may be repeated. `*`: all of them.
    #[arg(long = "http.trusted-origin", value_name = "ORIGIN")]
    pub trusted_origins: Vec<String>,
    /// Seconds after which a stream transaction is aborted that nobody uses; 120 at most.
    #[arg(long = "transaction.streaming-idle-timeout", value_name = "SECONDS", value_parser = parse_seconds,
        default_value = "60")]
    pub transaction_idle_timeout: Duration,
    /// Seconds that a request waits for another one in the same stream transaction.
    #[arg(long = "transaction.streaming-lock-timeout", value_name = "SECONDS", value_parser = parse_seconds,
        default_value = "8")]
    pub transaction_lock_timeout: Duration,
    /// What a stream transaction may write, with the documents as they were before; 128m at most.
    #[arg(long = "transaction.streaming-max-transaction-size", value_name = "BYTES", value_parser = parse_bytes,
        default_value = "128m")]
    pub transaction_bytes: u64,
}

#[derive(Args, Debug)]
pub struct AgencyOptions {
    /// Be an agent (for scripts that start both kinds with one command).
    #[arg(long = "agency.activate", value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", default_value = "false")]
    pub activate: bool,
    /// Agents in the agency: 1, 3 or 5.
    #[arg(long = "agency.size", value_name = "NUMBER", default_value_t = 1)]
    pub size: usize,
    /// Join an agency that exists (`tanist agents add` lets it in) instead of forming one.
    #[arg(long = "agency.join", value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", default_value = "false")]
    pub join: bool,
    /// Another agent; may be repeated. Or the etcd that orders the agency's entries: etcd://HOST:PORT,HOST:PORT/NAME.
    #[arg(long = "agency.endpoint", value_name = "ENDPOINT")]
    pub peers: Vec<String>,
    /// Where others reach this agent.
    #[arg(long = "agency.my-address", value_name = "ENDPOINT")]
    pub address: Option<String>,
    /// Seconds without a word from the leader before an agent asks for an election, at least; 0.3, or 1 on an etcd.
    #[arg(long = "agency.election-timeout-min", value_name = "SECONDS", value_parser = parse_seconds)]
    pub election_timeout_min: Option<Duration>,
    /// The same, at most; 0.6, or 5 on an etcd.
    #[arg(long = "agency.election-timeout-max", value_name = "SECONDS", value_parser = parse_seconds)]
    pub election_timeout_max: Option<Duration>,
    /// Seconds between two looks of the supervision.
    #[arg(long = "agency.supervision-frequency", value_name = "SECONDS", value_parser = parse_seconds, default_value = "1")]
    pub supervision_frequency: Duration,
    /// Seconds without a word from a server before it counts as BAD.
    #[arg(long = "agency.supervision-ok-threshold", value_name = "SECONDS", value_parser = parse_seconds, default_value = "5")]
    pub ok_threshold: Duration,
    /// The lease: seconds after a leader's last renewal before another may be elected.
    #[arg(long = "agency.supervision-grace-period", value_name = "SECONDS", value_parser = parse_seconds, default_value = "2")]
    pub grace_period: Duration,
    /// By how many thousandths the rates of two machines' clocks may differ.
    #[arg(long = "agency.clock-drift-permille", value_name = "NUMBER", default_value_t = 200,
        value_parser = clap::value_parser!(u32).range(1..=900))]
    pub clock_drift_permille: u32,
    /// Log entries after which the log is compacted.
    #[arg(long = "agency.compaction-step-size", value_name = "NUMBER", default_value_t = 1000,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub compaction_step: u64,
    /// Log entries kept behind a compaction.
    #[arg(long = "agency.compaction-keep-size", value_name = "NUMBER", default_value_t = 50_000)]
    pub compaction_keep: u64,
}

#[derive(Args, Debug)]
pub struct ClusterOptions {
    /// An agent; may be repeated. Without one this is a plain single server.
    #[arg(long = "cluster.agency-endpoint", value_name = "ENDPOINT")]
    pub agency_endpoint: Vec<String>,
    /// Where agents and other servers reach this one.
    #[arg(long = "cluster.my-address", value_name = "ENDPOINT")]
    pub my_address: Option<String>,
    /// What clients are told, if it differs.
    #[arg(long = "cluster.my-advertised-endpoint", value_name = "ENDPOINT")]
    pub my_advertised_endpoint: Option<String>,
    /// SINGLE is all there is.
    #[arg(long = "cluster.my-role", value_name = "ROLE")]
    pub my_role: Option<String>,
    /// Be a member of an Active Failover deployment; needs --cluster.agency-endpoint.
    #[arg(long = "replication.active-failover", alias = "replication.automatic-failover", value_name = "BOOL",
        value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub active_failover: Option<bool>,
    /// Entries of the replication log kept for followers that lag.
    #[arg(long = "replication.log-keep", value_name = "NUMBER", default_value_t = 100_000)]
    pub log_keep: u64,
    /// Entries kept at most while a connected follower still needs them.
    #[arg(long = "replication.log-keep-cap", value_name = "NUMBER", default_value_t = 2_000_000)]
    pub log_keep_cap: u64,
    /// Followers that must have a write before it is acknowledged; 0: none. The same on all servers.
    #[arg(long = "replication.sync-followers", value_name = "NUMBER",
        value_parser = clap::value_parser!(u8).range(0..=16), default_value_t = 0)]
    pub sync_followers: u8,
    /// How long an answer waits for followers; a follower that takes half of it is replaced by another.
    #[arg(long = "replication.sync-timeout", value_name = "SECONDS", value_parser = parse_seconds, default_value = "5")]
    pub sync_timeout: Duration,
    /// Operations by which what is acknowledged may be ahead of the best follower, and so all that a failover may lose.
    #[arg(long = "replication.max-failover-lag", value_name = "NUMBER")]
    pub max_failover_lag: Option<u64>,
}

#[derive(Args, Debug)]
pub struct StorageOptions {
    /// Where the data is kept.
    #[arg(long = "database.directory", value_name = "DIRECTORY")]
    pub database_directory: Option<PathBuf>,
    /// Address space for the data file, and so the most it can hold; disk space is taken only as data comes.
    #[arg(long = "storage.map-size", value_name = "BYTES", value_parser = parse_bytes, default_value = "64g")]
    pub map_size: u64,
    /// Look at the structure of the data file before using it: auto (about 1 GiB of it), true (all of it) or false.
    #[arg(long = "database.check-at-start", value_name = "EXTENT", value_parser = parse_extent, default_value = "auto")]
    pub check_at_start: Extent,
    /// error, warning, info, debug or trace.
    #[arg(long = "log.level", short = 'l', value_name = "LEVEL")]
    pub log_level: Vec<String>,
    /// File for the log; `-` is standard output, `+` standard error.
    #[arg(long = "log.file", value_name = "FILE", default_value = "+")]
    pub log_file: String,
    /// File with options; `none` for no file.
    #[arg(long = "configuration", short = 'c', value_name = "FILE")]
    pub configuration: Option<String>,
}

#[derive(Args, Debug)]
pub struct TtlOptions {
    /// Milliseconds from one removal of documents that have expired to the next; 0: never, else 1000 at least.
    #[arg(long = "ttl.frequency", value_name = "MS", value_parser = parse_ttl_frequency, default_value = "30000")]
    pub frequency: Duration,
    /// Documents removed at most each time.
    #[arg(long = "ttl.max-total-removes", value_name = "NUMBER", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub max_total_removes: u64,
    /// The same, of one collection.
    #[arg(long = "ttl.max-collection-removes", value_name = "NUMBER", default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub max_collection_removes: u64,
}

/// The two kinds of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Agent,
    Server,
}

/// Options with everything resolved: what a node is started with.
#[derive(Debug)]
pub struct Node {
    pub config: Config,
    pub directory: PathBuf,
    pub listen: Vec<Endpoint>,
    pub map_bytes: u64,
    pub log: log::Target,
    pub level: LevelFilter,
    pub keep_alive: Duration,
    pub body_bytes: usize,
    pub connections: usize,
    pub trusted_origins: Trusted,
    pub check: Extent,
    /// Of the etcd that orders the agency's entries, if there is one.
    pub etcd: Vec<Endpoint>,
    /// What the operator should know, once.
    pub remarks: Vec<String>,
}

fn parse_bool(text: &str) -> Result<bool, String> {
    truthy(text).ok_or_else(|| "true or false is expected".to_owned())
}

fn parse_extent(text: &str) -> Result<Extent, String> {
    match (text, truthy(text)) {
        ("auto", _) => Ok(Extent::Auto),
        (_, Some(true)) => Ok(Extent::All),
        (_, Some(false)) => Ok(Extent::Nothing),
        _ => Err("auto, true or false is expected".to_owned()),
    }
}

fn parse_ttl_frequency(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(ms) if ms == 0 || ms >= 1000 => Ok(Duration::from_millis(ms)),
        _ => Err("0 or a number of milliseconds from 1000 is expected".to_owned()),
    }
}

/// Seconds, with a fraction if need be.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    let text = text.strip_suffix('s').unwrap_or(text);
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e6).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number of seconds from 0 to 1000000 is expected".to_owned()),
    }
}

/// Bytes, perhaps with a unit: k, m, g, t (or kib, mib, …), all powers of 1024.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower[digits.len()..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("a number of bytes is expected, perhaps with k, m, g or t".to_owned()),
    };
    let number = digits.parse::<u64>().map_err(|_| "a number of bytes is expected".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

/// The name of an option in the environment.
fn environment_name(option: &str) -> String {
    format!("TANIST_{}", option.to_ascii_uppercase().replace(['.', '-'], "_"))
}

fn command<T: CommandFactory>() -> Command {
    T::command().mut_args(|arg| match arg.get_long() {
        Some(long) if long != "help" => {
            let name = environment_name(long);
            arg.env(name)
        }
        _ => arg,
    })
}

/// An agent by its options (`--agency.activate`), whatever else they say.
pub fn wants_agent(arguments: &[String]) -> Result<bool, Exit> {
    let (options, _) = parse_any::<NodeOptions>(arguments, known::meaningless)?;
    Ok(options.agency.activate)
}

/// Reads options from the command line, the environment and the file that they name. Also returns the names of those
/// that mean nothing here.
pub fn parse_any<T: CommandFactory + FromArgMatches>(
    arguments: &[String],
    meaningless: fn(&str) -> bool,
) -> Result<(T, Vec<String>), Exit> {
    let command = command::<T>();
    let mut ignored = BTreeSet::new();
    let mut line = normalise(&command, arguments, meaningless, &mut ignored)?;
    if let Some(file) = configuration_file(&line) {
        let given: BTreeSet<String> =
            line.iter().filter_map(|a| Some(a.strip_prefix("--")?.split_once('=')?.0.to_owned())).collect();
        let from_file = read_file(Path::new(&file))?;
        let from_file = normalise(&command, &from_file, meaningless, &mut ignored)?;
        let further = from_file.into_iter().filter(|argument| {
            let name = argument.trim_start_matches("--").split('=').next().unwrap_or_default();
            !given.contains(name) && std::env::var_os(environment_name(name)).is_none()
        });
        line = further.chain(line).collect();
    }
    let matches = command.try_get_matches_from(&line).map_err(clap_error)?;
    let options = T::from_arg_matches(&matches).map_err(clap_error)?;
    Ok((options, ignored.into_iter().collect()))
}

fn clap_error(error: clap::Error) -> Exit {
    use clap::error::ErrorKind;
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand) {
        let _ = error.print();
        std::process::exit(0);
    }
    // clap's own text begins with "error: " and ends with usage; one line is what a log wants.
    let text = error.to_string();
    let first: Vec<&str> =
        text.lines().take_while(|l| !l.starts_with("Usage")).map(str::trim).filter(|l| !l.is_empty()).collect();
    Exit::options(first.join("; ").trim_start_matches("error: ").to_owned())
}

/// Brings every option into the form `--name=value`, and takes out what means nothing here. ArangoDB lets a boolean
/// stand alone or with its value as the next word.
fn normalise(
    command: &Command,
    arguments: &[String],
    meaningless: fn(&str) -> bool,
    ignored: &mut BTreeSet<String>,
) -> Result<Vec<String>, Exit> {
    let mut out = Vec::new();
    let mut arguments = arguments.iter().peekable();
    while let Some(argument) = arguments.next() {
        let Some(option) = argument.strip_prefix("--").filter(|option| !option.is_empty()) else {
            match argument.as_str() {
                "-c" => out.push("--configuration".to_owned()),
                "-l" => out.push("--log.level".to_owned()),
                _ => {
                    out.push(argument.clone());
                    continue;
                }
            }
            let value = arguments.next().ok_or_else(|| Exit::options(format!("{argument} needs a value")))?;
            let option = out.pop().expect("just pushed");
            out.push(format!("{option}={value}"));
            continue;
        };
        if option == "help" {
            out.push(argument.clone());
            continue;
        }
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (option, None),
        };
        let known_here = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(name) || arg.get_all_aliases().unwrap_or_default().contains(&name));
        match known_here {
            Some(arg) => {
                let boolean = arg.is_require_equals_set();
                let value = match value {
                    Some(value) => value,
                    None if boolean => match arguments.next_if(|next| truthy(next).is_some()) {
                        Some(next) => next.clone(),
                        None => "true".to_owned(),
                    },
                    None => arguments
                        .next()
                        .cloned()
                        .ok_or_else(|| Exit::options(format!("option --{name} needs a value")))?,
                };
                out.push(format!("--{}={value}", arg.get_long().expect("found by it")));
            }
            None if meaningless(name) => {
                ignored.insert(name.to_owned());
                // Its value, if that is a word of its own: a path or a number is never taken for the data directory.
                if value.is_none() {
                    arguments.next_if(|next| !next.starts_with('-'));
                }
            }
            None => return Err(Exit::options(unknown(command, name))),
        }
    }
    Ok(out)
}

fn unknown(command: &Command, name: &str) -> String {
    if let Some(why) = known::refused(name) {
        return format!("option --{name}: {why}");
    }
    let candidates = command.get_arguments().filter_map(|arg| arg.get_long());
    let nearest = candidates.map(|c| (known::distance(c, name), c)).min().filter(|(d, _)| *d <= 1 + name.len() / 4);
    match nearest {
        Some((_, candidate)) => format!("unknown option --{name}; did you mean --{candidate}?"),
        None => format!("unknown option --{name} (--help lists all)"),
    }
}

fn configuration_file(line: &[String]) -> Option<String> {
    let given = line.iter().rev().find_map(|argument| argument.strip_prefix("--configuration=").map(str::to_owned));
    given.or_else(|| std::env::var("TANIST_CONFIGURATION").ok()).filter(|file| file != "none" && !file.is_empty())
}

/// ArangoDB's form: `[section]`, `key = value`, comments with `#` or `;`. A key in a section is `section.key`.
fn read_file(path: &Path) -> Result<Vec<String>, Exit> {
    let text = read_bounded(path).map_err(|e| Exit::options(format!("configuration file {}: {e}", path.display())))?;
    let mut section = String::new();
    let mut out = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim().to_owned();
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            let place = format!("configuration file {}, line {}", path.display(), number + 1);
            return Err(Exit::options(format!("{place}: not of the form key = value")));
        };
        let key = key.trim();
        let name = if section.is_empty() || key.contains('.') { key.to_owned() } else { format!("{section}.{key}") };
        out.push(format!("--{name}={}", value.trim().trim_matches('"')));
    }
    Ok(out)
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    if length > FILE_BYTES_MAX {
        return Err(std::io::Error::other("too long"));
    }
    std::fs::read_to_string(path)
}

/// The secrets that a file or a folder holds: the first signs, all verify.
pub fn read_secrets(keyfile: Option<&Path>, folder: Option<&Path>) -> Result<Vec<Vec<u8>>, Exit> {
    let cannot =
        |path: &Path, e: &dyn std::fmt::Display| Exit::new(Code::Secret, format!("JWT secret {}: {e}", path.display()));
    let mut files = Vec::new();
    match (keyfile, folder) {
        (Some(_), Some(_)) => {
            return Err(Exit::options("--server.jwt-secret-keyfile and --server.jwt-secret-folder exclude each other"));
        }
        (Some(file), None) => files.push(file.to_owned()),
        (None, Some(folder)) => {
            for entry in std::fs::read_dir(folder).map_err(|e| cannot(folder, &e))? {
                let path = entry.map_err(|e| cannot(folder, &e))?.path();
                let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
                if path.is_file() && !hidden {
                    files.push(path);
                }
            }
            files.sort();
            if files.is_empty() {
                return Err(cannot(folder, &"the folder holds no file"));
            }
        }
        (None, None) => {}
    }
    files
        .iter()
        .map(|file| {
            let text = read_bounded(file).map_err(|e| cannot(file, &e))?;
            let secret = text.trim().as_bytes().to_vec();
            match secret.len() {
                0 => Err(cannot(file, &"the file is empty")),
                length if length > SECRET_BYTES_MAX => {
                    Err(cannot(file, &format!("{length} bytes, at most {SECRET_BYTES_MAX} are allowed")))
                }
                _ => Ok(secret),
            }
        })
        .collect()
}

/// The secrets at a path that may be a file or a folder.
pub fn read_secret_path(path: Option<&Path>) -> Result<Vec<Vec<u8>>, Exit> {
    match path {
        Some(path) if path.is_dir() => read_secrets(None, Some(path)),
        path => read_secrets(path, None),
    }
}

/// Random bytes from the system.
pub fn entropy<const N: usize>() -> [u8; N] {
    use std::io::Read;
    let mut bytes = [0; N];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.expect("the system gives random bytes");
    bytes
}

pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads and checks the options of one node.
pub fn resolve(kind: Kind, arguments: &[String]) -> Result<Node, Exit> {
    let (options, ignored) = parse_any::<NodeOptions>(arguments, known::meaningless)?;
    let mut remarks = Vec::new();
    if !ignored.is_empty() {
        remarks.push(format!("options of ArangoDB that have no meaning here: {}", ignored.join(", ")));
    }
    let endpoint = |name: &str, text: &str| {
        let parsed = Endpoint::parse(text).map_err(|e| Exit::options(format!("--{name}: {e}")))?;
        if parsed.is_tls() {
            return Err(Exit::options(format!("--{name}: {text}: TLS is not supported yet")));
        }
        Ok(parsed)
    };
    let endpoints = |name: &str, texts: &[String]| {
        texts.iter().flat_map(|text| text.split(',')).map(|text| endpoint(name, text)).collect::<Result<Vec<_>, _>>()
    };

    let listen = endpoints("server.endpoint", &options.server.endpoint)?;
    let Some(first) = listen.first().cloned() else { return Err(Exit::options("--server.endpoint is empty")) };
    let (address_option, address) = match kind {
        Kind::Agent => ("agency.my-address", &options.agency.address),
        Kind::Server => ("cluster.my-address", &options.cluster.my_address),
    };
    let me = match address.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => endpoint(address_option, text)?,
        None => first.clone(),
    };
    let agency = endpoints("cluster.agency-endpoint", &options.cluster.agency_endpoint)?;
    let etcd = etcd_address(&options.agency)?;
    let alone = match kind {
        Kind::Agent => options.agency.size == 1 && etcd.is_none(),
        Kind::Server => agency.is_empty(),
    };
    let host = me.authority().rsplit_once(':').map_or("", |(host, _)| host);
    if !alone && ["0.0.0.0", "[::]"].contains(&host) {
        return Err(Exit::options(format!("--{address_option} is needed: others can't reach '{me}'")));
    }

    let directory = match (&options.storage.database_directory, &options.directory) {
        (Some(_), Some(_)) => return Err(Exit::options("the data directory is given twice")),
        (Some(directory), None) | (None, Some(directory)) => directory.clone(),
        (None, None) => return Err(Exit::options("a data directory is needed: tanist server DIRECTORY")),
    };

    let auth = resolve_auth(&options.server, alone, &mut remarks)?;
    if !auth.enabled && !is_loopback(&first) {
        remarks.push(format!("anyone who reaches {first} may do everything: authentication is off"));
    }
    let mut level = LevelFilter::INFO;
    for text in &options.storage.log_level {
        level = log::parse_level(text).map_err(Exit::options)?.unwrap_or(level);
    }
    if options.storage.map_size < 1 << 20 {
        return Err(Exit::options("--storage.map-size: at least 1m is needed"));
    }
    let body_bytes = usize::try_from(options.server.max_body_bytes).unwrap_or(usize::MAX);
    let config = match kind {
        Kind::Agent => {
            let mut config = agent_config(&options.agency, me, endpoints, auth)?;
            config.etcd = etcd.as_ref().map(|etcd| etcd.prefix.clone());
            Config::Agent(config)
        }
        Kind::Server => {
            let advertised = options.cluster.my_advertised_endpoint.as_deref().filter(|text| !text.is_empty());
            let advertised = advertised.map(|text| endpoint("cluster.my-advertised-endpoint", text)).transpose()?;
            let config = server_config(&options, me, agency, advertised, auth)?;
            Config::Server(config)
        }
    };
    let log = log::Target::parse(&options.storage.log_file);
    let (map_bytes, keep_alive) = (options.storage.map_size, options.server.keep_alive_timeout);
    let trusted_origins = Trusted(options.server.trusted_origins);
    let (connections, check) = (options.server.max_connections as usize, options.storage.check_at_start);
    let etcd = etcd.map(|etcd| etcd.endpoints).unwrap_or_default();
    Ok(Node {
        config,
        directory,
        listen,
        map_bytes,
        log,
        level,
        keep_alive,
        body_bytes,
        connections,
        trusted_origins,
        check,
        etcd,
        remarks,
    })
}

/// The etcd that `--agency.endpoint` names, if it does not name agents.
fn etcd_address(options: &AgencyOptions) -> Result<Option<Address>, Exit> {
    let etcds: Vec<_> = options.peers.iter().filter_map(|text| Address::parse(text)).collect();
    match etcds.len() {
        0 => Ok(None),
        1 if options.peers.len() == 1 => {
            etcds.into_iter().next().transpose().map_err(|e| Exit::options(format!("--agency.endpoint: {e}")))
        }
        _ => Err(Exit::options(
            "--agency.endpoint: either other agents, or one address of an etcd with all its endpoints",
        )),
    }
}

pub fn is_loopback(endpoint: &Endpoint) -> bool {
    let host = endpoint.authority().rsplit_once(':').map_or("", |(host, _)| host);
    host == "localhost" || host == "[::1]" || host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

fn resolve_auth(options: &ServerOptions, alone: bool, remarks: &mut Vec<String>) -> Result<Auth, Exit> {
    let file = options.jwt_secret_keyfile.as_deref().filter(|path| !path.as_os_str().is_empty());
    let folder = options.jwt_secret_folder.as_deref().filter(|path| !path.as_os_str().is_empty());
    let mut secrets = read_secrets(file, folder)?;
    if let Some(text) = options.jwt_secret.as_deref().filter(|text| !text.is_empty()) {
        if !secrets.is_empty() {
            return Err(Exit::options("--server.jwt-secret and a secret in a file exclude each other"));
        }
        if text.len() > SECRET_BYTES_MAX {
            let message = format!("--server.jwt-secret: at most {SECRET_BYTES_MAX} bytes are allowed");
            return Err(Exit::new(Code::Secret, message));
        }
        secrets.push(text.as_bytes().to_vec());
    }
    if options.authentication && secrets.is_empty() {
        if !alone {
            return Err(Exit::options(
                "with authentication the nodes of a deployment need one secret: --server.jwt-secret-keyfile FILE \
                 (or --server.authentication false)",
            ));
        }
        secrets.push(entropy::<32>().to_vec());
    }
    if options.authentication && secrets.iter().any(|secret| secret.len() < SECRET_BYTES_WEAK) {
        remarks.push(format!("a JWT secret of less than {SECRET_BYTES_WEAK} bytes is easily guessed"));
    }
    Ok(Auth {
        enabled: options.authentication,
        secrets,
        session_timeout: options.session_timeout,
        root_password: options.root_password.clone(),
    })
}

/// Until an agent asks for an election: so soon that the next leader of the agency grants renewals well before the
/// database's lease (0.8 of 2 seconds for its holder) has ended, with slow disks and a vote that is split once. A
/// leader that is heard so late was away for four of its heartbeats.
const ELECTION_TIMEOUTS: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(600));

/// An etcd has elections of its own, by default a second and more without an answer.
const ELECTION_TIMEOUTS_ON_ETCD: (Duration, Duration) = (Duration::from_millis(1000), Duration::from_millis(5000));

fn agent_config(
    options: &AgencyOptions,
    me: Endpoint,
    endpoints: impl Fn(&str, &[String]) -> Result<Vec<Endpoint>, Exit>,
    auth: Auth,
) -> Result<AgentConfig, Exit> {
    if ![1, 3, 5].contains(&options.size) && !options.join {
        return Err(Exit::options(format!("--agency.size: 1, 3 or 5 are possible, not {}", options.size)));
    }
    let on_etcd = etcd_address(options)?.is_some();
    let (min, max) = if on_etcd { ELECTION_TIMEOUTS_ON_ETCD } else { ELECTION_TIMEOUTS };
    let election_timeout_min = options.election_timeout_min.unwrap_or(min);
    // Whoever asks for a longer minimum alone gets a maximum that fits.
    let election_timeout_max = options.election_timeout_max.unwrap_or(max.max(election_timeout_min * 2));
    if election_timeout_min.is_zero() || election_timeout_max < election_timeout_min {
        return Err(Exit::options("--agency.election-timeout-min must be above 0 and at most the -max"));
    }
    if options.grace_period < Duration::from_millis(100) {
        return Err(Exit::options("--agency.supervision-grace-period: at least 0.1 seconds are needed"));
    }
    if options.supervision_frequency.is_zero() {
        return Err(Exit::options("--agency.supervision-frequency must be above 0"));
    }
    let mut peers = if on_etcd { Vec::new() } else { endpoints("agency.endpoint", &options.peers)? };
    peers.retain(|peer| *peer != me);
    Ok(AgentConfig {
        peers,
        size: options.size,
        joins: options.join,
        election_timeout_min,
        election_timeout_max,
        supervision_frequency: options.supervision_frequency,
        ok_threshold: options.ok_threshold,
        timing: Timing { lease: options.grace_period, drift_permille: options.clock_drift_permille },
        compaction_step: options.compaction_step,
        compaction_keep: options.compaction_keep,
        auth,
        ..AgentConfig::new(me)
    })
}

fn server_config(
    options: &NodeOptions,
    me: Endpoint,
    agency: Vec<Endpoint>,
    advertised: Option<Endpoint>,
    auth: Auth,
) -> Result<ServerConfig, Exit> {
    let cluster = &options.cluster;
    if let Some(role) = cluster.my_role.as_deref()
        && !["", "SINGLE"].contains(&role.to_ascii_uppercase().as_str())
    {
        return Err(Exit::options(format!("--cluster.my-role: SINGLE is all there is, not {role}")));
    }
    match cluster.active_failover {
        Some(true) if agency.is_empty() => {
            return Err(Exit::options("--replication.active-failover needs at least one --cluster.agency-endpoint"));
        }
        Some(false) if !agency.is_empty() => {
            return Err(Exit::options("--cluster.agency-endpoint needs --replication.active-failover true"));
        }
        _ => {}
    }
    let nonce = match std::env::var("TANIST_BOOT_NONCE") {
        Ok(text) if text.len() == 32 => u128::from_str_radix(&text, 16)
            .map_err(|_| Exit::options("TANIST_BOOT_NONCE: 32 hexadecimal digits are expected"))?,
        Ok(_) => return Err(Exit::options("TANIST_BOOT_NONCE: 32 hexadecimal digits are expected")),
        Err(_) => u128::from_le_bytes(entropy()),
    };
    let mut config = ServerConfig::new(me.clone(), Nonce(nonce));
    config.host = host_name(&me);
    config.agency = agency;
    config.advertised = advertised;
    config.auth = auth;
    config.log_keep = cluster.log_keep;
    config.log_keep_cap = cluster.log_keep_cap.max(cluster.log_keep);
    config.durability = Durability {
        sync_followers: usize::from(cluster.sync_followers),
        max_lag: cluster.max_failover_lag,
        timeout: cluster.sync_timeout.max(Duration::from_millis(10)),
    };
    config.expiry = ExpiryProperties {
        frequency: options.ttl.frequency,
        total_max: options.ttl.max_total_removes,
        collection_max: options.ttl.max_collection_removes,
        ..ExpiryProperties::default()
    };
    if config.durability.wanted() > 0 && config.agency.is_empty() {
        return Err(Exit::options(
            "--replication.sync-followers and --replication.max-failover-lag need followers, and so an agency",
        ));
    }
    config.limits.extended_names = options.server.extended_names;
    config.limits.body_bytes = usize::try_from(options.server.max_body_bytes).unwrap_or(usize::MAX);
    limit_transactions(&mut config.transactions, &options.server)?;
    Ok(config)
}

/// The engine's own limits are as far as the options may go: memory is reckoned with them.
fn limit_transactions(limits: &mut TransactionLimits, options: &ServerOptions) -> Result<(), Exit> {
    const IDLE_MAX: Duration = Duration::from_secs(120);
    if options.transaction_idle_timeout.is_zero() || options.transaction_idle_timeout > IDLE_MAX {
        return Err(Exit::options("--transaction.streaming-idle-timeout is above 0 and at most 120 seconds"));
    }
    let bytes = usize::try_from(options.transaction_bytes).ok().filter(|bytes| (1..=limits.bytes).contains(bytes));
    let Some(bytes) = bytes else {
        return Err(Exit::options("--transaction.streaming-max-transaction-size is from 1 byte to 128m"));
    };
    limits.idle = options.transaction_idle_timeout;
    limits.wait = options.transaction_lock_timeout;
    limits.bytes = bytes;
    Ok(())
}

/// The machine's name in health records, found as ArangoDB finds it.
fn host_name(me: &Endpoint) -> String {
    let named = ["ARANGODB_SERVER_HOST", "NODE_NAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let machine = || std::fs::read_to_string("/etc/machine-id").ok();
    let name = named.or_else(machine).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| me.authority().to_owned())
}

#[cfg(test)]
mod tests;
