//! What the starter was asked for, and what it remembers in `setup.json`.

use crate::exit::{Code, Exit};
use crate::options::{self, parse_any};
use clap::Parser;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tanist_engine::http::truthy;
use tanist_engine::types::Endpoint;

const SETUP_FILE: &str = "setup.json";
const SETUP_VERSION: u32 = 1;

/// Between the ports of one machine's peers, as the ArangoDB Starter numbers them.
const PEER_PORT_STEP: u16 = 10;

#[derive(Parser, Debug)]
#[command(
    name = "tanist start",
    about = "A deployment on this machine: agents and servers as child processes, watched and restarted",
    no_binary_name = true,
    args_override_self = true,
    disable_version_flag = true
)]
struct Flags {
    /// Everything on this machine (there is no other way yet).
    #[arg(long = "starter.local", value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", default_value = "true")]
    local: bool,
    /// Where all data, logs and the set-up are kept.
    #[arg(long = "starter.data-dir", value_name = "DIRECTORY", default_value = "./tanist-data")]
    directory: PathBuf,
    /// The starter's port; servers and agents get the next ones [default: 8528].
    #[arg(long = "starter.port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..65000))]
    port: Option<u16>,
    /// activefailover or single [default: activefailover].
    #[arg(long = "starter.mode", value_name = "MODE")]
    mode: Option<String>,
    /// Address that everything listens on [default: 127.0.0.1].
    #[arg(long = "starter.address", value_name = "ADDRESS")]
    address: Option<String>,
    /// Agents: 1, 3 or 5 [default: 3].
    #[arg(long = "cluster.agency-size", value_name = "NUMBER")]
    agency_size: Option<usize>,
    /// File (or folder of files) with the secret of the deployment's tokens; without one there is no authentication.
    #[arg(long = "auth.jwt-secret", value_name = "FILE")]
    jwt_secret: Option<PathBuf>,
    /// Listen on an address that others reach although there is no authentication.
    #[arg(long = "insecure", value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", default_value = "false")]
    insecure: bool,
    /// Not possible yet.
    #[arg(long = "starter.join", value_name = "ADDRESSES", hide = true)]
    join: Vec<String>,
    /// File with options of this command.
    #[arg(long = "configuration", short = 'c', value_name = "FILE")]
    configuration: Option<String>,
}

fn parse_bool(text: &str) -> Result<bool, String> {
    truthy(text).ok_or_else(|| "true or false is expected".to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    ActiveFailover,
    Single,
}

/// What is remembered from the first start on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Setup {
    pub version: u32,
    pub id: String,
    pub mode: Mode,
    pub port: u16,
    pub address: String,
    pub agency_size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_secret: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Agent,
    Server,
}

impl Role {
    /// The name in paths, and the command that runs it.
    pub fn folder(self) -> &'static str {
        match self {
            Role::Agent => "agent",
            Role::Server => "single",
        }
    }

    /// As the ArangoDB Starter calls it in `/process`.
    pub fn kind(self, mode: Mode) -> &'static str {
        match (self, mode) {
            (Role::Agent, _) => "agent",
            (Role::Server, Mode::ActiveFailover) => "resilientsingle",
            (Role::Server, Mode::Single) => "single",
        }
    }
}

/// One process to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub role: Role,
    pub endpoint: Endpoint,
    pub directory: PathBuf,
    pub arguments: Vec<String>,
}

impl Plan {
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("tanist.log")
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn name(&self) -> String {
        self.directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// All that the starter needs to know.
#[derive(Clone, Debug)]
pub struct Asked {
    pub setup: Setup,
    pub directory: PathBuf,
    pub secrets: Vec<Vec<u8>>,
    pub plans: Vec<Plan>,
    pub remarks: Vec<String>,
}

/// Options that the starter sets itself, so that passing them on would break the deployment.
const OWN_OPTIONS: &[&str] = &[
    "agency.activate",
    "agency.endpoint",
    "agency.my-address",
    "agency.size",
    "agency.supervision",
    "cluster.agency-endpoint",
    "cluster.my-address",
    "cluster.my-role",
    "configuration",
    "database.directory",
    "javascript.app-path",
    "javascript.startup-directory",
    "log.file",
    "replication.active-failover",
    "replication.automatic-failover",
    "server.authentication",
    "server.endpoint",
    "server.jwt-secret",
    "server.jwt-secret-folder",
    "server.jwt-secret-keyfile",
    "server.storage-engine",
];

fn meaningless(name: &str) -> bool {
    const OPTIONS: &[&str] = &[
        "cluster.start-agent",
        "cluster.start-coordinator",
        "cluster.start-dbserver",
        "cluster.start-single",
        "server.arangod",
        "server.js-dir",
        "server.storage-engine",
        "server.threads",
        "starter.debug-cluster",
        "starter.disable-ipv6",
        "starter.host",
        "starter.id",
        "starter.instance-up-timeout",
        "starter.sync",
        "starter.unique-port-offsets",
        "starter.wait",
    ];
    OPTIONS.contains(&name) || name.starts_with("docker.") || name.starts_with("log.")
}

/// Reads the flags and what an earlier start remembered, and plans the processes.
pub fn ask(arguments: &[String]) -> Result<Asked, Exit> {
    let (own, passed) = take_passed(arguments)?;
    let (flags, ignored) = parse_any::<Flags>(&own, meaningless)?;
    if !flags.join.is_empty() {
        return Err(Exit::options(
            "--starter.join: several machines are not supported by the starter yet; start `tanist agent` and \
             `tanist server` on each (see README)",
        ));
    }
    if !flags.local {
        return Err(Exit::options("--starter.local=false: several machines are not supported by the starter yet"));
    }
    let directory =
        std::path::absolute(&flags.directory).map_err(|e| Exit::options(format!("--starter.data-dir: {e}")))?;
    let setup = settle(&flags, &directory)?;
    let secrets = options::read_secret_path(setup.jwt_secret.as_deref())?;
    let listen = Endpoint::parse(&format!("tcp://{}:{}", setup.address, setup.port)).map_err(Exit::options)?;
    if secrets.is_empty() && !options::is_loopback(&listen) && !flags.insecure {
        return Err(Exit::options(format!(
            "--starter.address {}: without --auth.jwt-secret FILE everybody who reaches it may do everything \
             (--insecure allows it)",
            setup.address
        )));
    }
    let plans = plan(&setup, &directory, &passed)?;
    let mut remarks = Vec::new();
    if !ignored.is_empty() {
        remarks.push(format!("options that have no meaning here: {}", ignored.join(", ")));
    }
    Ok(Asked { setup, directory, secrets, plans, remarks })
}

/// Takes `--args.GROUP.OPTION` (and the older `--GROUP.OPTION`) out of the line, by group.
fn take_passed(arguments: &[String]) -> Result<(Vec<String>, Passed), Exit> {
    let mut own = Vec::new();
    let mut passed: Passed = BTreeMap::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let option = argument.strip_prefix("--").unwrap_or_default();
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let Some((group, name)) = group(name) else {
            own.push(argument.clone());
            continue;
        };
        if OWN_OPTIONS.contains(&name) || name.starts_with("ssl.") {
            return Err(Exit::options(format!("--{option}: the starter sets {name} itself")));
        }
        let value = match value {
            Some(value) => value.to_owned(),
            None => arguments.next().cloned().ok_or_else(|| Exit::options(format!("--{option} needs a value")))?,
        };
        if let Some(group) = group {
            passed.entry(group).or_default().push(format!("--{name}={value}"));
        }
    }
    Ok((own, passed))
}

/// Options that go to the processes, by group.
type Passed = BTreeMap<Group, Vec<String>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    All,
    Agents,
    Servers,
}

/// The group and the option in `args.all.log.level`; groups that do not exist here have no one to pass to.
fn group(name: &str) -> Option<(Option<Group>, &str)> {
    let name = name.strip_prefix("args.").unwrap_or(name);
    let (group, option) = name.split_once('.')?;
    let group = match group {
        "all" => Some(Group::All),
        "agents" => Some(Group::Agents),
        "dbservers" | "singles" => Some(Group::Servers),
        "coordinators" | "syncmasters" | "syncworkers" => None,
        _ => return None,
    };
    Some((group, option))
}

/// What holds: what an earlier start remembered, which a flag may not contradict, or else flags and defaults.
fn settle(flags: &Flags, directory: &Path) -> Result<Setup, Exit> {
    let mode = match flags.mode.as_deref() {
        None => None,
        Some("activefailover" | "resilientsingle") => Some(Mode::ActiveFailover),
        Some("single") => Some(Mode::Single),
        Some(other) => {
            return Err(Exit::options(format!("--starter.mode: activefailover or single are possible, not {other}")));
        }
    };
    if flags.agency_size.is_some_and(|size| ![1, 3, 5].contains(&size)) {
        return Err(Exit::options("--cluster.agency-size: 1, 3 or 5 are possible"));
    }
    let secret = match &flags.jwt_secret {
        Some(path) => Some(std::path::absolute(path).map_err(|e| Exit::options(format!("--auth.jwt-secret: {e}")))?),
        None => None,
    };
    let path = directory.join(SETUP_FILE);
    let remembered: Option<Setup> =
        match std::fs::read_to_string(&path) {
            Ok(text) => Some(serde_json::from_str(&text).map_err(|e| {
                Exit::new(Code::Corrupt, format!("{}: {e}; delete it to set up afresh", path.display()))
            })?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(Exit::failed(format!("{}: {e}", path.display()))),
        };
    let Some(mut setup) = remembered else {
        let address = flags.address.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
        let address = if address.contains(':') && !address.starts_with('[') { format!("[{address}]") } else { address };
        let mode = mode.unwrap_or(Mode::ActiveFailover);
        return Ok(Setup {
            version: SETUP_VERSION,
            id: options::hexadecimal(&options::entropy::<4>()),
            mode,
            port: flags.port.unwrap_or(8528),
            address,
            agency_size: if mode == Mode::Single { 0 } else { flags.agency_size.unwrap_or(3) },
            jwt_secret: secret,
        });
    };
    if setup.version != SETUP_VERSION {
        let message = format!("{}: version {} is not known here", path.display(), setup.version);
        return Err(Exit::new(Code::NewerFormat, message));
    }
    let differs = |name: &str| {
        Err(Exit::options(format!("--{name} differs from what {} remembers from the first start", path.display())))
    };
    if mode.is_some_and(|mode| mode != setup.mode) {
        return differs("starter.mode");
    }
    if setup.mode == Mode::ActiveFailover && flags.agency_size.is_some_and(|size| size != setup.agency_size) {
        return differs("cluster.agency-size");
    }
    if flags.port.is_some_and(|port| port != setup.port) {
        return differs("starter.port");
    }
    if flags
        .address
        .as_ref()
        .is_some_and(|address| address.trim_matches(['[', ']']) != setup.address.trim_matches(['[', ']']))
    {
        return differs("starter.address");
    }
    // The secret's file may move, and authentication be switched on.
    setup.jwt_secret = secret.or(setup.jwt_secret);
    Ok(setup)
}

/// Remembers the set-up.
pub fn remember(asked: &Asked) -> Result<(), Exit> {
    let path = asked.directory.join(SETUP_FILE);
    let fresh = path.with_extension("json.new");
    let text = serde_json::to_string_pretty(&asked.setup).expect("a set-up can be written");
    std::fs::write(&fresh, text + "\n")
        .and_then(|()| std::fs::rename(&fresh, &path))
        .map_err(|e| Exit::new(Code::Storage, format!("{}: {e}", path.display())))
}

/// The processes of a set-up. Each peer of an Active Failover deployment has a server, the first ones an agent.
fn plan(setup: &Setup, directory: &Path, passed: &Passed) -> Result<Vec<Plan>, Exit> {
    let endpoint = |port: u16| Endpoint::parse(&format!("tcp://{}:{port}", setup.address)).map_err(Exit::options);
    let peers = match setup.mode {
        Mode::Single => 1,
        Mode::ActiveFailover => setup.agency_size.max(2) as u16,
    };
    if setup.port.checked_add(peers * PEER_PORT_STEP).is_none() {
        return Err(Exit::options("--starter.port: there are not enough ports above it"));
    }
    let base = |peer: u16| setup.port + peer * PEER_PORT_STEP;
    let agents = (0..setup.agency_size as u16).map(|peer| endpoint(base(peer) + 3)).collect::<Result<Vec<_>, _>>()?;
    let servers = (0..peers).map(|peer| endpoint(base(peer) + 1)).collect::<Result<Vec<_>, _>>()?;
    let authentication = match &setup.jwt_secret {
        None => vec!["--server.authentication=false".to_owned()],
        Some(path) => {
            let option = if path.is_dir() { "server.jwt-secret-folder" } else { "server.jwt-secret-keyfile" };
            vec!["--server.authentication=true".to_owned(), format!("--{option}={}", path.display())]
        }
    };
    let process = |role: Role, me: &Endpoint, own: Vec<String>| {
        let port = me.authority().rsplit_once(':').map_or("", |(_, port)| port);
        let mut plan = Plan {
            role,
            endpoint: me.clone(),
            directory: directory.join(format!("{}{port}", role.folder())),
            arguments: Vec::new(),
        };
        let command = if role == Role::Agent { "agent" } else { "server" };
        plan.arguments.push(command.to_owned());
        for group in [Group::All, if role == Role::Agent { Group::Agents } else { Group::Servers }] {
            plan.arguments.extend(passed.get(&group).into_iter().flatten().cloned());
        }
        plan.arguments.push(format!("--server.endpoint={me}"));
        plan.arguments.push(format!("--database.directory={}", plan.data().display()));
        plan.arguments.push(format!("--log.file={}", plan.log_file().display()));
        plan.arguments.extend(authentication.iter().cloned());
        plan.arguments.extend(own);
        plan
    };
    let mut plans = Vec::new();
    for me in &agents {
        let mut own = vec![format!("--agency.size={}", agents.len()), format!("--agency.my-address={me}")];
        own.extend(agents.iter().filter(|other| *other != me).map(|other| format!("--agency.endpoint={other}")));
        plans.push(process(Role::Agent, me, own));
    }
    for me in &servers {
        let mut own = vec![format!("--cluster.my-address={me}")];
        own.extend(agents.iter().map(|agent| format!("--cluster.agency-endpoint={agent}")));
        plans.push(process(Role::Server, me, own));
    }
    Ok(plans)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask_in(directory: &Path, text: &str) -> Result<Asked, Exit> {
        let mut words = vec![format!("--starter.data-dir={}", directory.display())];
        words.extend(text.split_whitespace().map(str::to_owned));
        ask(&words)
    }

    #[test]
    fn without_flags_three_peers_on_the_usual_ports() {
        let directory = tempfile::tempdir().unwrap();
        let asked = ask_in(directory.path(), "").unwrap();
        let names: Vec<String> = asked.plans.iter().map(Plan::name).collect();
        assert_eq!(names, ["agent8531", "agent8541", "agent8551", "single8529", "single8539", "single8549"]);
        assert!(asked.plans.iter().all(|plan| plan.arguments.contains(&"--server.authentication=false".to_owned())));
        let single = ask_in(directory.path(), "--starter.mode single --starter.port 9000").unwrap();
        assert_eq!(single.plans.iter().map(Plan::name).collect::<Vec<_>>(), ["single9001"]);
        let small = ask_in(directory.path(), "--cluster.agency-size=1").unwrap();
        assert_eq!(small.plans.len(), 3, "one agent, two servers");
    }

    #[test]
    fn every_planned_process_understands_its_options() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        std::fs::write(&secret, "0123456789abcdef").unwrap();
        let text = format!(
            "--auth.jwt-secret {} --starter.address 10.0.0.1 --args.all.log.level=debug --agents.agency.supervision-grace-period=30 \
             --args.dbservers.storage.map-size 1g",
            secret.display()
        );
        let asked = ask_in(directory.path(), &text).unwrap();
        for plan in &asked.plans {
            let kind = if plan.role == Role::Agent { options::Kind::Agent } else { options::Kind::Server };
            let node = options::resolve(kind, &plan.arguments[1..]).unwrap();
            assert_eq!(node.config.endpoint(), &plan.endpoint);
            assert!(node.config.auth().enabled);
            assert_eq!(node.level, tracing::level_filters::LevelFilter::DEBUG);
            assert_eq!(node.map_bytes, if plan.role == Role::Agent { 64 << 30 } else { 1 << 30 });
        }
    }

    #[test]
    fn the_first_start_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let asked = ask_in(directory.path(), "--starter.port 9528 --cluster.agency-size 1").unwrap();
        remember(&asked).unwrap();
        let again = ask_in(directory.path(), "").unwrap();
        assert_eq!(again.setup, asked.setup);
        for contradiction in
            ["--starter.port 1", "--cluster.agency-size 3", "--starter.mode single", "--starter.address ::1"]
        {
            let error = ask_in(directory.path(), contradiction).unwrap_err();
            assert!(error.message.contains("setup.json"), "{error}");
        }
        std::fs::write(directory.path().join(SETUP_FILE), "{").unwrap();
        assert_eq!(ask_in(directory.path(), "").unwrap_err().code, Code::Corrupt);
    }

    #[test]
    fn what_can_not_work_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let cases = [
            ("--starter.join a,b", "--starter.join"),
            ("--starter.local=false", "several machines"),
            ("--starter.mode cluster", "activefailover or single"),
            ("--cluster.agency-size 2", "1, 3 or 5"),
            ("--starter.address 10.1.2.3", "without --auth.jwt-secret"),
            ("--auth.jwt-secret /no/such/file", "/no/such/file"),
            ("--args.all.server.endpoint=tcp://a:1", "the starter sets server.endpoint itself"),
            ("--starter.prot 1", "did you mean --starter.port?"),
        ];
        for (text, expected) in cases {
            let error = ask_in(directory.path(), text).map(|a| a.setup).expect_err(text);
            assert!(error.message.contains(expected), "{text}: {error}");
        }
        assert!(ask_in(directory.path(), "--starter.address 10.1.2.3 --insecure").is_ok());
    }
}
