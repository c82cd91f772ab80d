//! Scripts with transcripts: a small cluster of engine nodes, driven by commands, all that comes out written down.
//!
//! A script is a text of blocks: a command line (or several), `----`, and all that the cluster said until it was quiet
//! again, up to an empty line. `TANIST_REWRITE=1` rewrites the transcripts; read the diff. The cluster here has no
//! faults of its own: messages take 1 ms, storage takes 1 ms, clocks agree. What goes wrong is what the script says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use tanist_engine::db::mem::MemStore;
use tanist_engine::exec;
use tanist_engine::http::{Method, Request, Response, header};
use tanist_engine::io::*;
use tanist_engine::message::Envelope;
use tanist_engine::node::Node;
use tanist_engine::types::*;

const MS: u64 = 1_000_000;
/// Where every script's wall clock begins: 2026-01-01.
const WALL_MS: u64 = 1_767_225_600_000;

struct Member {
    name: String,
    config: Config,
    store: MemStore,
    node: Option<Node>,
    /// As it prints, once it has started.
    id: String,
    starts: u64,
    paused: bool,
    /// What arrived while it was paused.
    waiting: Vec<Input>,
}

enum Due {
    Deliver { to: String, input: Box<Input> },
    Done { to: String, start: u64, op: OpId, what: Box<Op> },
}

/// A cluster under the command of a script.
#[derive(Default)]
pub struct Cluster {
    now_ms: u64,
    members: BTreeMap<String, Member>,
    due: BTreeMap<(u64, u64), Due>,
    order: u64,
    cut: BTreeSet<(String, String)>,
    requests: u64,
    asked: BTreeMap<u64, String>,
    /// What the latest answer reflected.
    last_tick: String,
    /// The latest job that was begun.
    last_job: String,
    /// Events below this severity are left out.
    least: Option<Severity>,
    out: String,
}

impl Cluster {
    /// Runs one command; returns what came out.
    pub fn command(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        let result = match verb {
            "cluster" => self.cluster(&rest),
            "log" => self.log(&rest),
            "run" => self.run(&rest),
            "kill" => self.each(&rest, |cluster, name| cluster.kill(name)),
            "start" => self.each(&rest, |cluster, name| cluster.start(name)),
            "wipe" => self.each(&rest, |cluster, name| {
                cluster.member(name)?.store = MemStore::new();
                Ok(())
            }),
            "stop" => self.each(&rest, |cluster, name| {
                cluster.step(name, Input::Stop);
                Ok(())
            }),
            "pause" => self.each(&rest, |cluster, name| {
                cluster.member(name)?.paused = true;
                Ok(())
            }),
            "resume" => self.each(&rest, |cluster, name| cluster.resume(name)),
            "notice" => self.each(&rest, |cluster, name| cluster.notice(name)),
            "full" => self.each(&rest, |cluster, name| cluster.fill(name, true)),
            "roomy" => self.each(&rest, |cluster, name| cluster.fill(name, false)),
            "cut" => self.cut(&rest, true),
            "heal" => self.cut(&rest, false),
            "view" => self.view(&rest),
            _ if self.members.contains_key(verb) => self.request(verb, line),
            _ => Err(format!("unknown command '{verb}'")),
        };
        if let Err(message) = result {
            let _ = writeln!(self.out, "error: {message}");
        }
        let out = std::mem::take(&mut self.out);
        if out.is_empty() { "ok\n".into() } else { out }
    }

    fn member(&mut self, name: &str) -> Result<&mut Member, String> {
        self.members.get_mut(name).ok_or_else(|| format!("there is no '{name}'"))
    }

    fn each(&mut self, names: &[&str], act: impl Fn(&mut Cluster, &str) -> Result<(), String>) -> Result<(), String> {
        names.iter().try_for_each(|name| act(self, name))
    }

    fn now(&self) -> Now {
        Now { time: Time(self.now_ms * MS), wall_ms: WALL_MS + self.now_ms }
    }

    fn log(&mut self, words: &[&str]) -> Result<(), String> {
        self.least = match words {
            ["debug"] => Some(Severity::Debug),
            ["info"] => Some(Severity::Info),
            ["warn"] => Some(Severity::Warn),
            ["none"] => None,
            _ => return Err("log debug|info|warn|none".into()),
        };
        Ok(())
    }

    // ---- nodes ------------------------------------------------------------------------------------------------------

    /// `cluster agents=1,2,3 servers=a,b lease=1000ms [log_keep=N]`
    fn cluster(&mut self, words: &[&str]) -> Result<(), String> {
        let mut options: BTreeMap<&str, &str> = BTreeMap::new();
        for word in words {
            let (key, value) = word.split_once('=').ok_or("cluster key=value ...")?;
            options.insert(key, value);
        }
        let names = |key: &str| -> Vec<String> {
            options.get(key).map(|list| list.split(',').map(String::from).collect()).unwrap_or_default()
        };
        let lease_ms = options.get("lease").map_or(Ok(1000), |text| milliseconds(text))?;
        let log_keep = options.get("log_keep").map_or(Ok(10_000), |text| text.parse()).map_err(|_| "log_keep=N")?;
        let (agents, servers) = (names("agents"), names("servers"));
        let endpoint = |name: &str| Endpoint::parse(&format!("tcp://{name}:1")).expect("a name is a host");
        for name in &agents {
            let mut config = AgentConfig::new(endpoint(name));
            config.peers = agents.iter().filter(|other| *other != name).map(|other| endpoint(other)).collect();
            config.size = agents.len();
            config.election_timeout_min = Duration::from_millis(150);
            config.election_timeout_max = Duration::from_millis(300);
            config.supervision_frequency = Duration::from_millis(100);
            config.ok_threshold = Duration::from_millis(500);
            config.timing = Timing { lease: Duration::from_millis(lease_ms), drift_permille: 200 };
            self.add(name, Config::Agent(config));
        }
        for name in &servers {
            let mut config = ServerConfig::new(endpoint(name), Nonce(0));
            config.agency = agents.iter().map(|agent| endpoint(agent)).collect();
            config.log_keep = log_keep;
            config.log_keep_cap = log_keep * 2;
            config.chunk_bytes = 4096;
            self.add(name, Config::Server(config));
        }
        for name in agents {
            self.start(&name)?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, config: Config) {
        let member = Member {
            name: name.into(),
            config,
            store: MemStore::new(),
            node: None,
            id: String::new(),
            starts: 0,
            paused: false,
            waiting: Vec::new(),
        };
        self.members.insert(name.into(), member);
    }

    fn start(&mut self, name: &str) -> Result<(), String> {
        let now = self.now();
        let member = self.member(name)?;
        if member.node.is_some() {
            return Err(format!("{name} runs already"));
        }
        member.starts += 1;
        member.paused = false;
        let seed = member.name.bytes().fold(member.starts, |sum, byte| sum * 31 + u64::from(byte));
        if let Config::Server(config) = &mut member.config {
            config.nonce = Nonce(u128::from(seed));
        }
        let saved = exec::open(&mut member.store, &member.config, now, seed).map_err(|error| format!("{error:?}"))?;
        member.store.sync();
        let node = Node::boot(member.config.clone(), saved, seed, now);
        member.id = node.id().to_string();
        member.node = Some(node);
        Ok(())
    }

    fn kill(&mut self, name: &str) -> Result<(), String> {
        let member = self.member(name)?;
        member.node = None;
        member.waiting.clear();
        member.store.crash(0);
        Ok(())
    }

    /// Nothing more fits onto its disk, or anything does.
    fn fill(&mut self, name: &str, full: bool) -> Result<(), String> {
        let store = &mut self.member(name)?.store;
        store.set_capacity(full.then(|| store.bytes_used()));
        Ok(())
    }

    fn resume(&mut self, name: &str) -> Result<(), String> {
        let member = self.member(name)?;
        member.paused = false;
        for input in std::mem::take(&mut member.waiting) {
            self.step(name, input);
        }
        Ok(())
    }

    /// What a starter does that has reaped its child: tells every agent.
    fn notice(&mut self, name: &str) -> Result<(), String> {
        let member = self.member(name)?;
        let Config::Server(config) = &member.config else { return Err(format!("{name} is no server")) };
        let nonce = config.nonce.0;
        let id = member.id.clone();
        let body = format!(r#"{{"server":"{id}","nonce":"{nonce:032x}"}}"#);
        let agents: Vec<String> =
            self.members.iter().filter(|(_, m)| matches!(m.config, Config::Agent(_))).map(|(n, _)| n.clone()).collect();
        for agent in agents {
            let request = Request::new(Method::Post, "/_api/tanist/death-notice").with_body(body.clone());
            self.send_request(&agent, "notice", request);
        }
        Ok(())
    }

    fn cut(&mut self, words: &[&str], cut: bool) -> Result<(), String> {
        match words {
            [] if !cut => self.cut.clear(),
            [from, "->", to] => self.set_cut(from, to, cut),
            [one, other] => {
                self.set_cut(one, other, cut);
                self.set_cut(other, one, cut);
            }
            _ => return Err("cut a b | cut a -> b | heal | heal a b".into()),
        }
        Ok(())
    }

    fn set_cut(&mut self, from: &str, to: &str, cut: bool) {
        let everybody: Vec<String> = self.members.keys().cloned().collect();
        for other in everybody.iter().filter(|name| *name != from && (to == "*" || *name == to)) {
            let pair = (from.to_string(), other.clone());
            if cut {
                self.cut.insert(pair)
            } else {
                self.cut.remove(&pair)
            };
        }
        if from == "*" {
            for other in everybody.iter().filter(|name| *name != to) {
                let pair = (other.clone(), to.to_string());
                if cut {
                    self.cut.insert(pair)
                } else {
                    self.cut.remove(&pair)
                };
            }
        }
    }

    fn view(&mut self, words: &[&str]) -> Result<(), String> {
        for name in words {
            let line = match self.member(name)?.node.as_ref().and_then(Node::view) {
                Some(view) => format!("{:?} epoch {} last {}", view.mode, view.epoch.0, view.replication.last),
                None => "not running".into(),
            };
            let _ = writeln!(self.out, "{name}: {line}");
        }
        Ok(())
    }

    // ---- requests ---------------------------------------------------------------------------------------------------

    /// `a [dirty] [name=value …] METHOD path [body]`; names are those of headers, `last` stands for the latest tick,
    /// `{job}` in a path for the latest job.
    fn request(&mut self, name: &str, line: &str) -> Result<(), String> {
        let mut rest = line.trim_start().strip_prefix(name).unwrap_or_default().trim_start();
        let dirty = rest.strip_prefix("dirty ");
        rest = dirty.unwrap_or(rest).trim_start();
        let mut headers = Vec::new();
        while let Some((first, after)) = rest.split_once(' ').filter(|(first, _)| first.starts_with("x-")) {
            let (name, value) = first.split_once('=').ok_or("name=value")?;
            headers.push((name, value.replace("last", &self.last_tick)));
            rest = after;
        }
        let (method, rest) = rest.split_once(' ').ok_or("METHOD path [body]")?;
        let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
        let path = path.replace("{job}", &self.last_job);
        let method = Method::parse(method).ok_or("METHOD path [body]")?;
        let mut request = Request::new(method, path).with_body(body.to_string());
        if dirty.is_some() {
            request = request.with_header(header::ALLOW_DIRTY_READ, "true");
        }
        for (name, value) in headers {
            request = request.with_header(name, value);
        }
        self.send_request(name, name, request);
        self.advance(20);
        Ok(())
    }

    fn send_request(&mut self, to: &str, label: &str, request: Request) {
        self.requests += 1;
        self.asked.insert(self.requests, label.into());
        let id = RequestId(self.requests);
        self.step(to, Input::Request { id, request });
    }

    fn answered(&mut self, name: &str, id: RequestId, response: &Response) {
        let label = self.asked.remove(&id.0).unwrap_or_default();
        if label == "notice" && response.status != 200 {
            return;
        }
        if let Some(tick) = response.header(header::TICK) {
            tick.clone_into(&mut self.last_tick);
        }
        let mut body = String::from_utf8_lossy(&response.body).into_owned();
        let job = response.header(header::ASYNC_ID);
        if let Some(job) = job {
            job.clone_into(&mut self.last_job);
        }
        if !self.last_job.is_empty() {
            body = body.replace(&self.last_job, "{job}");
        }
        let job = if job.is_some() { " [job]" } else { "" };
        let named = if response.status == 307 { header::LOCATION } else { header::ENDPOINT };
        let endpoint = response.header(named).map(|url| format!(" [{url}]")).unwrap_or_default();
        let dirty = if response.header(header::POTENTIAL_DIRTY_READ).is_some() { " [dirty]" } else { "" };
        let _ = writeln!(self.out, "{:>6} {name}: {}{endpoint}{dirty}{job} {body}", self.now_ms, response.status);
    }

    // ---- time -------------------------------------------------------------------------------------------------------

    /// `run 500ms`, or `run until a leads` (bounded by 60 s).
    fn run(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            [time] => {
                self.advance(milliseconds(time)?);
                Ok(())
            }
            ["until", name, "leads"] => self.run_until(name, |view| view.mode == Mode::Default),
            ["until", name, "follows"] => self.run_until(name, |view| view.replication.running),
            _ => Err("run 500ms | run until a leads | run until a follows".into()),
        }
    }

    fn run_until(&mut self, name: &str, condition: impl Fn(&View) -> bool) -> Result<(), String> {
        for _ in 0..60_000 {
            if self.member(name)?.node.as_ref().and_then(Node::view).is_some_and(|view| condition(view)) {
                return Ok(());
            }
            self.advance(1);
        }
        Err(format!("{name} did not within a minute"))
    }

    fn advance(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        loop {
            let wake = self.members.iter().filter(|(_, member)| !member.paused).filter_map(|(name, member)| {
                let at = member.node.as_ref()?.deadline()?.at.0.div_ceil(MS).max(self.now_ms);
                Some((at, name.clone()))
            });
            let wake = wake.min();
            let event = self.due.keys().next().copied();
            match (event, wake) {
                (Some((at, order)), wake) if at <= end && wake.as_ref().is_none_or(|(due, _)| at <= *due) => {
                    self.now_ms = self.now_ms.max(at);
                    let due = self.due.remove(&(at, order)).expect("just seen");
                    self.fire(due);
                }
                (_, Some((at, name))) if at <= end => {
                    self.now_ms = self.now_ms.max(at);
                    self.step(&name, Input::Timer);
                }
                _ => break,
            }
        }
        self.now_ms = end;
    }

    fn fire(&mut self, due: Due) {
        match due {
            Due::Deliver { to, input } => self.step(&to, *input),
            Due::Done { to, start, op, what } => {
                let Some(member) = self.members.get_mut(&to) else { return };
                if member.starts != start || member.node.is_none() {
                    return;
                }
                let results = if what.writes() {
                    let results = exec::perform(vec![(op, *what)], &mut member.store);
                    member.store.sync();
                    results
                } else {
                    vec![(op, exec::read(*what, &member.store))]
                };
                for (op, result) in results {
                    self.step(&to, Input::Done { op, result });
                }
            }
        }
    }

    fn step(&mut self, name: &str, input: Input) {
        let now = self.now();
        let Some(member) = self.members.get_mut(name) else { return };
        if member.paused {
            return member.waiting.push(input);
        }
        let Some(node) = &mut member.node else { return };
        let mut out = Vec::new();
        node.step(now, input, &mut out);
        let start = member.starts;
        for output in out {
            self.carry_out(name, start, output);
        }
    }

    fn carry_out(&mut self, name: &str, start: u64, output: Output) {
        match output {
            Output::Send { to, envelope } => {
                let to = to.authority().split(':').next().unwrap_or_default().to_string();
                if !self.cut.contains(&(name.to_string(), to.clone())) {
                    let envelope = Envelope::decode(&envelope.encode()).expect("what is encoded can be decoded");
                    self.later(1, Due::Deliver { to, input: Box::new(Input::Message(envelope)) });
                }
            }
            Output::Reply { id, response } => self.answered(name, id, &response),
            Output::Start { op, what } => {
                self.later(1, Due::Done { to: name.into(), start, op, what: Box::new(what) });
            }
            Output::Note(event) => {
                if self.least.is_some_and(|least| event.severity() >= least) {
                    let line = self.shorten(&event.to_string());
                    let _ = writeln!(self.out, "{:>6} {name}: {line}", self.now_ms);
                }
            }
            Output::Ask { .. } => panic!("scripts have no etcd"),
            Output::Interrupt { .. } => {
                let _ = writeln!(self.out, "{:>6} {name}: a query is to end", self.now_ms);
            }
            Output::Stopped => {
                let _ = writeln!(self.out, "{:>6} {name}: stopped", self.now_ms);
                if let Some(member) = self.members.get_mut(name) {
                    member.node = None;
                }
            }
        }
    }

    fn later(&mut self, ms: u64, due: Due) {
        self.order += 1;
        self.due.insert((self.now_ms + ms, self.order), due);
    }

    /// Names instead of ids.
    fn shorten(&self, line: &str) -> String {
        let started = self.members.values().filter(|member| !member.id.is_empty());
        started.fold(line.to_string(), |line, member| line.replace(&member.id, &member.name))
    }
}

fn milliseconds(text: &str) -> Result<u64, String> {
    let error = || format!("'{text}' is no duration (500ms, 3s)");
    let number = |digits: &str| digits.parse::<u64>().map_err(|_| error());
    match text.strip_suffix("ms") {
        Some(digits) => number(digits),
        None => Ok(number(text.strip_suffix('s').ok_or_else(error)?)? * 1000),
    }
}

/// Runs a script; returns it with the transcripts that came out.
pub fn run(script: &str) -> String {
    let mut cluster = Cluster::default();
    let mut output = String::new();
    let mut lines = script.lines().peekable();
    let mut pending: Vec<String> = Vec::new();
    while let Some(line) = lines.next() {
        if line == "----" {
            let _ = writeln!(output, "----");
            for command in pending.drain(..) {
                let _ = write!(output, "{}", cluster.command(&command));
            }
            while lines.peek().is_some_and(|line| !line.is_empty()) {
                lines.next();
            }
        } else {
            let _ = writeln!(output, "{line}");
            if !line.is_empty() && !line.starts_with('#') {
                pending.push(line.into());
            }
        }
    }
    assert!(pending.is_empty(), "a command without ----");
    output
}
