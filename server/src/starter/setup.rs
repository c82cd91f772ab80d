//! What the starter was asked for, and what it remembers in `setup.json`.

use super::machines::{Hello, Machine, Welcome};
use crate::etcd::Address;
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

/// The starter's port where none is said.
const PORT: u16 = 8528;
/// Between the ports of one machine's peers, as the ArangoDB Starter numbers them.
const PEER_PORT_STEP: u16 = 10;

#[derive(Parser, Debug)]
#[command(
    name = "tanist start",
    about = "A deployment on this machine, or this machine's part of one: agents and servers as child processes, \
        watched and restarted",
    no_binary_name = true,
    args_override_self = true,
    disable_version_flag = true
)]
struct Flags {
    /// Everything on this machine [default: true, without --starter.join]. With false others may join.
    #[arg(long = "starter.local", value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    local: Option<bool>,
    /// Other machines' starters, ADDRESS or ADDRESS:PORT; the same list may be given to all of them.
    #[arg(long = "starter.join", value_name = "ADDRESSES", value_delimiter = ',')]
    join: Vec<String>,
    /// Take the place of this dead machine (its id, or ADDRESS:PORT) in the deployment that is joined.
    #[arg(long = "starter.replace", value_name = "MACHINE")]
    replace: Option<String>,
    /// Where all data, logs and the set-up are kept.
    #[arg(long = "starter.data-dir", value_name = "DIRECTORY", default_value = "./tanist-data")]
    directory: PathBuf,
    /// The starter's port; servers and agents get the next ones [default: 8528].
    #[arg(long = "starter.port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..65000))]
    port: Option<u16>,
    /// activefailover or single [default: activefailover].
    #[arg(long = "starter.mode", value_name = "MODE")]
    mode: Option<String>,
    /// Address that everything listens on, and where others reach it [default: 127.0.0.1; with --starter.join the one
    /// that faces them].
    #[arg(long = "starter.address", value_name = "ADDRESS")]
    address: Option<String>,
    /// An etcd that keeps the agency's log, in the place of the agents: etcd://HOST:PORT,HOST:PORT/NAME.
    #[arg(long = "agency.endpoint", value_name = "ETCD")]
    etcd: Option<String>,
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
    /// Whether this machine runs an agent [default: the first ones do, as many as the agency has].
    #[arg(long = "cluster.start-agent", value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    start_agent: Option<bool>,
    /// Whether this machine runs a server [default: true].
    #[arg(long = "cluster.start-single", alias = "cluster.start-dbserver", value_name = "BOOL",
        value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    start_server: Option<bool>,
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
    /// The address of the etcd that keeps the agency's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_secret: Option<PathBuf>,
    /// The deployment of several machines that this one belongs to; everything is here without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// All machines of that deployment, as far as this one knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<Machine>,
}

impl Setup {
    /// The peers of the deployment: its machines, or those that share this one.
    pub fn peers(&self) -> Vec<Machine> {
        if self.deployment.is_some() {
            return self.machines.clone();
        }
        let peers = match self.mode {
            Mode::Single => 1,
            Mode::ActiveFailover => self.agency_size.max(2),
        };
        let peer = |number: usize| Machine {
            id: self.id.clone(),
            address: self.address.clone(),
            port: self.port + number as u16 * PEER_PORT_STEP,
            agent: number < self.agency_size,
            server: true,
            joined: false,
            replaces: None,
        };
        (0..peers).map(peer).collect()
    }

    /// This machine's place among several.
    pub fn own(&self) -> Option<&Machine> {
        self.machines.iter().find(|machine| machine.id == self.id)
    }

    pub fn endpoints(&self, role: Role) -> Vec<Endpoint> {
        self.peers().iter().filter_map(|peer| peer.endpoint(role)).collect()
    }

    pub fn welcome(&self) -> Option<Welcome> {
        let deployment = self.deployment.clone()?;
        let (etcd, machines) = (self.etcd.clone(), self.machines.clone());
        Some(Welcome { deployment, formed: true, agency_size: self.agency_size, etcd, machines })
    }

    /// What a process is told of the others.
    pub fn topology(&self, role: Role, me: &Endpoint) -> Vec<String> {
        let agents = self.endpoints(Role::Agent);
        match role {
            Role::Agent => {
                let mut words =
                    vec![format!("--agency.size={}", self.agency_size), format!("--agency.my-address={me}")];
                match &self.etcd {
                    Some(etcd) => words.push(format!("--agency.endpoint={etcd}")),
                    None => {
                        let others = agents.iter().filter(|other| *other != me);
                        words.extend(others.map(|other| format!("--agency.endpoint={other}")));
                    }
                }
                if self.own().is_some_and(|own| own.joined) {
                    words.push("--agency.join=true".to_owned());
                }
                words
            }
            Role::Server => {
                let mut words = vec![format!("--cluster.my-address={me}")];
                words.extend(agents.iter().map(|agent| format!("--cluster.agency-endpoint={agent}")));
                words
            }
        }
    }
}

/// How this machine finds the others, the first time.
#[derive(Clone, Debug)]
pub struct Meeting {
    /// Starters to ask.
    pub join: Vec<Endpoint>,
    pub hello: Hello,
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

/// One process to run. `arguments` is all that does not depend on the others ([`Setup::topology`] does).
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
    pub passed: Passed,
    /// `None` if everything is on this machine, or what was found is remembered.
    pub meeting: Option<Meeting>,
    pub remarks: Vec<String>,
}

/// Options that the starter sets itself, so that passing them on would break the deployment.
const OWN_OPTIONS: &[&str] = &[
    "agency.activate",
    "agency.endpoint",
    "agency.join",
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
        "cluster.start-coordinator",
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
    let directory =
        std::path::absolute(&flags.directory).map_err(|e| Exit::options(format!("--starter.data-dir: {e}")))?;
    let (setup, remembered) = settle(&flags, &directory)?;
    let secrets = options::read_secret_path(setup.jwt_secret.as_deref())?;
    let listen = Endpoint::parse(&format!("tcp://{}:{}", setup.address, setup.port)).map_err(Exit::options)?;
    if secrets.is_empty() && !options::is_loopback(&listen) && !flags.insecure {
        return Err(Exit::options(format!(
            "--starter.address {}: without --auth.jwt-secret FILE everybody who reaches it may do everything \
             (--insecure allows it)",
            setup.address
        )));
    }
    let meeting = if remembered { None } else { meeting(&flags, &setup)? };
    let mut remarks = Vec::new();
    if !ignored.is_empty() {
        remarks.push(format!("options that have no meaning here: {}", ignored.join(", ")));
    }
    Ok(Asked { setup, directory, secrets, passed, meeting, remarks })
}

/// Several machines, if the flags ask for that.
fn meeting(flags: &Flags, setup: &Setup) -> Result<Option<Meeting>, Exit> {
    let several = !flags.join.is_empty() || flags.local == Some(false);
    if !several {
        let of_several = [
            ("starter.replace", flags.replace.is_some()),
            ("cluster.start-agent", flags.start_agent.is_some()),
            ("cluster.start-single", flags.start_server.is_some()),
        ];
        return match of_several.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Exit::options(format!("--{name} needs --starter.join (or --starter.local=false)"))),
            None => Ok(None),
        };
    }
    if flags.local == Some(true) {
        return Err(Exit::options("--starter.local=true and --starter.join exclude each other"));
    }
    if setup.mode != Mode::ActiveFailover {
        return Err(Exit::options("--starter.mode=single: a single server joins nobody"));
    }
    if flags.replace.is_some() && flags.join.is_empty() {
        return Err(Exit::options("--starter.replace needs --starter.join"));
    }
    let hello = Hello {
        id: setup.id.clone(),
        address: setup.address.clone(),
        port: setup.port,
        mode: setup.mode,
        agency_size: flags.agency_size,
        etcd: setup.etcd.clone(),
        agent: flags.start_agent,
        server: flags.start_server,
        replaces: flags.replace.clone(),
    };
    Ok(Some(Meeting { join: join(flags)?, hello }))
}

/// The addresses of `--starter.join`, with the usual port where there is none.
fn join(flags: &Flags) -> Result<Vec<Endpoint>, Exit> {
    let parse = |text: &String| {
        let bare = text.trim().trim_start_matches("tcp://").trim_start_matches("http://");
        let with_port = bare
            .rsplit_once(':')
            .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
        let bare = if bare.contains(':') && !bare.starts_with('[') && !with_port {
            format!("[{bare}]")
        } else {
            bare.to_owned()
        };
        let authority = if with_port { bare } else { format!("{bare}:{PORT}") };
        Endpoint::parse(&format!("tcp://{authority}")).map_err(|e| Exit::options(format!("--starter.join {text}: {e}")))
    };
    flags.join.iter().filter(|text| !text.trim().is_empty()).map(parse).collect()
}

/// The address of this machine that faces the others.
fn facing(join: &[Endpoint]) -> Option<String> {
    join.iter().find_map(|other| {
        // Nothing is sent: the system only chooses a route.
        let any = if other.authority().starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = std::net::UdpSocket::bind(any).ok()?;
        socket.connect(other.authority()).ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    })
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
pub type Passed = BTreeMap<Group, Vec<String>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
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

/// What holds: what an earlier start remembered, which a flag may not contradict, or else flags and defaults. Also
/// whether it was remembered.
fn settle(flags: &Flags, directory: &Path) -> Result<(Setup, bool), Exit> {
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
    if let Some(etcd) = &flags.etcd {
        let address =
            Address::parse(etcd).unwrap_or_else(|| Err(format!("{etcd} is not of the form etcd://HOST:PORT")));
        address.map_err(|e| Exit::options(format!("--agency.endpoint: {e}")))?;
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
        let others = join(flags)?;
        let address = match &flags.address {
            Some(address) => address.clone(),
            None if others.is_empty() => "127.0.0.1".to_owned(),
            None => facing(&others).ok_or_else(|| {
                Exit::options("--starter.address is needed: there is no way to the addresses of --starter.join")
            })?,
        };
        let address = if address.contains(':') && !address.starts_with('[') { format!("[{address}]") } else { address };
        let mode = mode.unwrap_or(Mode::ActiveFailover);
        let setup = Setup {
            version: SETUP_VERSION,
            id: options::hexadecimal(&options::entropy::<4>()),
            mode,
            port: flags.port.unwrap_or(PORT),
            address,
            agency_size: if mode == Mode::Single { 0 } else { flags.agency_size.unwrap_or(3) },
            etcd: flags.etcd.clone(),
            jwt_secret: secret,
            deployment: None,
            machines: Vec::new(),
        };
        if setup.port.checked_add(setup.agency_size.max(2) as u16 * PEER_PORT_STEP).is_none() {
            return Err(Exit::options("--starter.port: there are not enough ports above it"));
        }
        return Ok((setup, false));
    };
    if setup.version != SETUP_VERSION {
        let message = format!("{}: version {} is not known here", path.display(), setup.version);
        return Err(Exit::new(Code::OtherFormat, message));
    }
    let differs = |name: &str| {
        Err(Exit::options(format!("--{name} differs from what {} remembers from the first start", path.display())))
    };
    if flags.local.is_some_and(|local| local == setup.deployment.is_some()) {
        return differs("starter.local");
    }
    if !flags.join.is_empty() && setup.deployment.is_none() {
        return differs("starter.join");
    }
    if mode.is_some_and(|mode| mode != setup.mode) {
        return differs("starter.mode");
    }
    if setup.mode == Mode::ActiveFailover && flags.agency_size.is_some_and(|size| size != setup.agency_size) {
        return differs("cluster.agency-size");
    }
    if flags.etcd.is_some() && flags.etcd != setup.etcd {
        return differs("agency.endpoint");
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
    Ok((setup, true))
}

/// Remembers the set-up.
pub fn remember(setup: &Setup, directory: &Path) -> Result<(), Exit> {
    let path = directory.join(SETUP_FILE);
    let fresh = path.with_extension("json.new");
    let text = serde_json::to_string_pretty(setup).expect("a set-up can be written");
    std::fs::write(&fresh, text + "\n")
        .and_then(|()| std::fs::rename(&fresh, &path))
        .map_err(|e| Exit::new(Code::Storage, format!("{}: {e}", path.display())))
}

/// The processes that a set-up has on this machine, agents first.
pub fn plan(setup: &Setup, directory: &Path, passed: &Passed) -> Vec<Plan> {
    let here: Vec<Machine> = setup.peers().into_iter().filter(|peer| peer.id == setup.id).collect();
    let of = |role: Role| here.iter().filter_map(move |peer| Some((role, peer.endpoint(role)?)));
    let plans = of(Role::Agent).chain(of(Role::Server));
    plans.map(|(role, me)| plan_one(setup, directory, passed, role, me)).collect()
}

pub fn plan_one(setup: &Setup, directory: &Path, passed: &Passed, role: Role, me: Endpoint) -> Plan {
    let port = me.authority().rsplit_once(':').map_or("", |(_, port)| port).to_owned();
    let directory = directory.join(format!("{}{port}", role.folder()));
    let mut plan = Plan { role, directory, arguments: Vec::new(), endpoint: me };
    let command = if role == Role::Agent { "agent" } else { "server" };
    let mut arguments = vec![command.to_owned()];
    for group in [Group::All, if role == Role::Agent { Group::Agents } else { Group::Servers }] {
        arguments.extend(passed.get(&group).into_iter().flatten().cloned());
    }
    arguments.push(format!("--server.endpoint={}", plan.endpoint));
    arguments.push(format!("--database.directory={}", plan.data().display()));
    arguments.push(format!("--log.file={}", plan.log_file().display()));
    match &setup.jwt_secret {
        None => arguments.push("--server.authentication=false".to_owned()),
        Some(path) => {
            let option = if path.is_dir() { "server.jwt-secret-folder" } else { "server.jwt-secret-keyfile" };
            arguments.push("--server.authentication=true".to_owned());
            arguments.push(format!("--{option}={}", path.display()));
        }
    }
    plan.arguments = arguments;
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask_in(directory: &Path, text: &str) -> Result<Asked, Exit> {
        let mut words = vec![format!("--starter.data-dir={}", directory.display())];
        words.extend(text.split_whitespace().map(str::to_owned));
        ask(&words)
    }

    fn plans(asked: &Asked) -> Vec<Plan> {
        plan(&asked.setup, &asked.directory, &asked.passed)
    }

    #[test]
    fn without_flags_three_peers_on_the_usual_ports() {
        let directory = tempfile::tempdir().unwrap();
        let asked = ask_in(directory.path(), "").unwrap();
        let names: Vec<String> = plans(&asked).iter().map(Plan::name).collect();
        assert_eq!(names, ["agent8531", "agent8541", "agent8551", "single8529", "single8539", "single8549"]);
        assert!(plans(&asked).iter().all(|plan| plan.arguments.contains(&"--server.authentication=false".to_owned())));
        let single = ask_in(directory.path(), "--starter.mode single --starter.port 9000").unwrap();
        assert_eq!(plans(&single).iter().map(Plan::name).collect::<Vec<_>>(), ["single9001"]);
        let small = ask_in(directory.path(), "--cluster.agency-size=1").unwrap();
        assert_eq!(plans(&small).len(), 3, "one agent, two servers");
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
        for plan in plans(&asked) {
            let kind = if plan.role == Role::Agent { options::Kind::Agent } else { options::Kind::Server };
            let arguments = [&plan.arguments[1..], &asked.setup.topology(plan.role, &plan.endpoint)].concat();
            let node = options::resolve(kind, &arguments).unwrap();
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
        remember(&asked.setup, &asked.directory).unwrap();
        let again = ask_in(directory.path(), "").unwrap();
        assert_eq!(again.setup, asked.setup);
        for contradiction in [
            "--starter.port 1",
            "--cluster.agency-size 3",
            "--starter.mode single",
            "--starter.address ::1",
            "--starter.local=false",
            "--starter.join 127.0.0.1",
        ] {
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
            ("--starter.join a/b --starter.address 127.0.0.1", "--starter.join a/b"),
            ("--starter.join 127.0.0.1 --starter.local=true", "exclude each other"),
            ("--starter.join 127.0.0.1 --starter.mode=single", "joins nobody"),
            ("--starter.join 10.1.2.3 --starter.address 10.1.2.4", "without --auth.jwt-secret"),
            ("--cluster.start-agent=false", "needs --starter.join"),
            ("--starter.local=false --starter.replace x", "needs --starter.join"),
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
