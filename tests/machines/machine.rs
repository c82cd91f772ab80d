//! Machines that run `tanist start --starter.join`, each in its own namespace.

use crate::PROGRAM;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tanist_tests::http::Client;
use tanist_tests::net::{Link, Net, address};
use tanist_tests::process::{Process, run};
use tanist_tests::wait::{wait, wait_until};

pub struct Machines {
    pub processes: Vec<Process>,
    pub net: Net,
    // Last, so that it is removed when all processes are gone.
    directory: tempfile::TempDir,
}

/// What makes a failover quick enough for a test.
const QUICK: &[&str] = &[
    "--insecure",
    "--args.agents.agency.election-timeout-min=0.5",
    "--args.agents.agency.election-timeout-max=1",
    "--args.agents.agency.supervision-frequency=0.2",
];

/// The document that a writer wants to be there, and whether it was acknowledged.
pub const REFUSED: [(u16, u64); 2] = [(503, 1495), (503, 1496)];

impl Machines {
    /// `count` machines, none of them started; `None` (and a line that says so) where that can't be done.
    pub fn new(count: usize) -> Option<Machines> {
        let net = match Net::new(count) {
            Ok(net) => net,
            Err(why) => {
                tanist_tests::skip(&why);
                return None;
            }
        };
        let directory = tempfile::Builder::new().prefix("tanist-machines-").tempdir().expect("a directory");
        let process = |number: usize| {
            let log = directory.path().join(format!("log{number}"));
            Process::new(&format!("machine {number}"), Path::new(PROGRAM), Vec::new(), log)
        };
        Some(Machines { processes: (1..=count).map(process).collect(), net, directory })
    }

    pub fn data(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("data{number}"))
    }

    pub fn process(&mut self, number: usize) -> &mut Process {
        &mut self.processes[number - 1]
    }

    /// Starts a machine's starter.
    #[track_caller]
    pub fn start(&mut self, number: usize, more: &[&str]) {
        let mut arguments = vec!["start".to_owned(), format!("--starter.data-dir={}", self.data(number).display())];
        arguments.extend(QUICK.iter().chain(more).map(|argument| argument.to_string()));
        let process = &mut self.processes[number - 1];
        process.arguments = arguments;
        self.net.on(number, || process.start());
    }

    /// Three machines that were given the same list, and serve.
    pub fn three(more: &[&str]) -> Option<Machines> {
        let mut machines = Machines::new(3)?;
        for number in 1..=3 {
            machines.start(number, &[&[JOIN_ALL], more].concat());
        }
        machines.wait_followers(&[1, 2, 3]);
        Some(machines)
    }

    pub fn client(&self, number: usize) -> Client {
        Client::new(&format!("{}:8529", address(number))).with_timeout(Duration::from_secs(2))
    }

    pub fn serves(&self, number: usize) -> bool {
        let mut client = self.client(number).with_timeout(Duration::from_millis(500));
        client.get("/_admin/server/availability").is_ok_and(|answer| answer.status == 200)
    }

    /// The machine whose server serves now; there are never two.
    #[track_caller]
    pub fn leader(&self, among: &[usize]) -> Option<usize> {
        among.iter().copied().find(|number| self.serves(*number))
    }

    #[track_caller]
    pub fn wait_leader(&self, among: &[usize]) -> usize {
        wait(&format!("a server of machines {among:?} leads"), || self.leader(among))
    }

    /// Waits until the servers of all these machines have what their leader has.
    #[track_caller]
    pub fn wait_followers(&self, among: &[usize]) -> usize {
        wait(&format!("machines {among:?} have everything"), || {
            let leader = self.leader(among)?;
            let status = self.client(leader).get("/_api/tanist/status").ok()?.json();
            let followers = status["followers"].as_array().cloned().unwrap_or_default();
            let up = |number: &usize| {
                let endpoint = json!(format!("tcp://{}:8529", address(*number)));
                followers.iter().any(|follower| follower["endpoint"] == endpoint && follower["lag"] == json!(0))
            };
            among.iter().filter(|number| **number != leader).all(up).then_some(leader)
        })
    }

    /// Writes a document through one server; true if it was acknowledged.
    pub fn writes(&self, number: usize, key: &str) -> bool {
        let answer = self.client(number).post("/_api/document/c", &json!({"_key": key}));
        answer.is_ok_and(|answer| answer.ok())
    }

    pub fn has(&self, number: usize, key: &str) -> bool {
        self.client(number).get(&format!("/_api/document/c/{key}")).is_ok_and(|answer| answer.ok())
    }

    pub fn cut(&self, number: usize) {
        self.net.set_all(number, Link { cut: true, ..Link::default() });
    }

    pub fn heal(&self, number: usize) {
        self.net.set_all(number, Link::default());
    }

    /// A command of the program, from the test's own machine.
    #[track_caller]
    pub fn tanist(&self, words: &[&str]) -> (i32, String) {
        run(std::process::Command::new("timeout").args(["-s", "KILL", "60", PROGRAM]).args(words))
    }

    /// What the starter of a machine says.
    pub fn ask(&self, number: usize, target: &str) -> Value {
        let mut starter = Client::new(&format!("{}:8528", address(number))).with_timeout(Duration::from_secs(2));
        starter.get(target).map(|answer| answer.json()).unwrap_or(Value::Null)
    }

    #[track_caller]
    pub fn wait_says(&self, number: usize, text: &str) {
        let process = &self.processes[number - 1];
        wait_until(&format!("machine {number} says {text:?}"), || process.log_text().contains(text));
    }
}

pub const JOIN_ALL: &str = "--starter.join=10.77.0.1,10.77.0.2,10.77.0.3";
