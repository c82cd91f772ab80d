//! A deployment of agents and servers as processes of this test, each started by hand as an operator would on several
//! machines. (What `tanist start` adds is tested through `tanist start`.)

use crate::http::{Answer, Client};
use crate::process::{Process, free_ports};
use crate::wait::{wait, wait_for_success, wait_until};
use serde_json::{Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tanist_engine::auth::superuser_token;
use tanist_engine::types::Auth;

/// What to start. The defaults are 3 agents, 3 servers, a lease of 2 seconds, and no authentication.
#[derive(Clone, Debug)]
pub struct Setup {
    pub program: PathBuf,
    pub agents: usize,
    pub servers: usize,
    pub lease_s: f64,
    pub secret: Option<String>,
    /// The etcd that orders the agency's entries.
    pub etcd: Option<String>,
    pub server_arguments: Vec<String>,
}

impl Setup {
    pub fn new(program: &str) -> Setup {
        Setup {
            program: program.into(),
            agents: 3,
            servers: 3,
            lease_s: 2.0,
            secret: None,
            etcd: None,
            server_arguments: Vec::new(),
        }
    }

    pub fn agents(mut self, agents: usize) -> Setup {
        self.agents = agents;
        self
    }

    pub fn servers(mut self, servers: usize) -> Setup {
        self.servers = servers;
        self
    }

    pub fn lease_s(mut self, seconds: f64) -> Setup {
        self.lease_s = seconds;
        self
    }

    pub fn secret(mut self, secret: &str) -> Setup {
        self.secret = Some(secret.to_owned());
        self
    }

    pub fn etcd(mut self, address: &str) -> Setup {
        self.etcd = Some(address.to_owned());
        self
    }

    pub fn server_argument(mut self, argument: &str) -> Setup {
        self.server_arguments.push(argument.to_owned());
        self
    }

    /// Starts it, and waits until a leader serves and all servers follow it.
    #[track_caller]
    pub fn start(self) -> Deployment {
        let mut deployment = self.prepare();
        deployment.agents.iter_mut().chain(&mut deployment.servers).for_each(Process::start);
        deployment.wait_in_sync();
        deployment
    }

    /// Everything that is needed, nothing started yet.
    pub fn prepare(self) -> Deployment {
        let directory = tempfile::Builder::new().prefix("tanist-test-").tempdir().expect("a directory can be made");
        let base = free_ports((self.agents + self.servers) as u16);
        let mut deployment = Deployment {
            agent_ports: (base..).take(self.agents).collect(),
            server_ports: Vec::new(),
            agents: Vec::new(),
            servers: Vec::new(),
            directory,
            setup: self,
        };
        for index in 0..deployment.setup.agents {
            let process = deployment.agent_process(index);
            deployment.agents.push(process);
        }
        for index in 0..deployment.setup.servers {
            deployment.add_server_at(base + (deployment.setup.agents + index) as u16);
        }
        deployment
    }
}

/// Processes by number. Fields are open: a test kills, pauses and starts what it likes.
pub struct Deployment {
    pub agents: Vec<Process>,
    pub servers: Vec<Process>,
    pub agent_ports: Vec<u16>,
    pub server_ports: Vec<u16>,
    pub setup: Setup,
    // Last, so that it is removed when all processes are gone.
    directory: tempfile::TempDir,
}

impl Deployment {
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn common_arguments(&self, port: u16, name: &str) -> Vec<String> {
        let data = self.directory().join(name);
        let mut arguments = vec![
            format!("--server.endpoint=tcp://127.0.0.1:{port}"),
            format!("--database.directory={}", data.display()),
            "--log.file=+".to_owned(),
        ];
        match &self.setup.secret {
            None => arguments.push("--server.authentication=false".to_owned()),
            Some(secret) => {
                let file = self.directory().join("secret");
                std::fs::write(&file, secret).expect("the secret can be written");
                arguments.push(format!("--server.jwt-secret-keyfile={}", file.display()));
            }
        }
        arguments
    }

    fn agent_process(&self, index: usize) -> Process {
        let port = self.agent_ports[index];
        let name = format!("agent{index}");
        let mut arguments = vec!["agent".to_owned()];
        arguments.extend(self.common_arguments(port, &name));
        arguments.push("--agency.activate=true".to_owned());
        arguments.push(format!("--agency.my-address=tcp://127.0.0.1:{port}"));
        let agents = match &self.setup.etcd {
            Some(etcd) => {
                arguments.push(format!("--agency.endpoint={etcd}"));
                &[][..]
            }
            None => {
                arguments.push(format!("--agency.size={}", self.agent_ports.len()));
                &self.agent_ports[..]
            }
        };
        for peer in agents.iter().filter(|peer| **peer != port) {
            arguments.push(format!("--agency.endpoint=tcp://127.0.0.1:{peer}"));
        }
        arguments.push(format!("--agency.supervision-grace-period={}", self.setup.lease_s));
        arguments.push("--agency.supervision-frequency=0.1".to_owned());
        arguments.push("--agency.supervision-ok-threshold=0.7".to_owned());
        arguments.push("--agency.election-timeout-min=0.5".to_owned());
        arguments.push("--agency.election-timeout-max=1".to_owned());
        Process::new(&name, &self.setup.program, arguments, self.directory().join(format!("{name}.log")))
    }

    /// One more server, not started yet; its number.
    pub fn add_server(&mut self) -> usize {
        self.add_server_at(free_ports(1))
    }

    fn add_server_at(&mut self, port: u16) -> usize {
        let name = format!("server{}", self.servers.len());
        let mut arguments = vec!["server".to_owned()];
        arguments.extend(self.common_arguments(port, &name));
        arguments.push("--replication.active-failover=true".to_owned());
        arguments.push("--cluster.my-role=SINGLE".to_owned());
        arguments.push(format!("--cluster.my-address=tcp://127.0.0.1:{port}"));
        for agent in &self.agent_ports {
            arguments.push(format!("--cluster.agency-endpoint=tcp://127.0.0.1:{agent}"));
        }
        arguments.extend(self.setup.server_arguments.iter().cloned());
        let log = self.directory().join(format!("{name}.log"));
        self.servers.push(Process::new(&name, &self.setup.program, arguments, log));
        self.server_ports.push(port);
        self.servers.len() - 1
    }

    pub fn data_directory(&self, server: usize) -> PathBuf {
        self.directory().join(format!("server{server}"))
    }

    pub fn address(&self, server: usize) -> String {
        format!("127.0.0.1:{}", self.server_ports[server])
    }

    /// `http://host:port`, as `X-Arango-Endpoint` tells it.
    pub fn url(&self, server: usize) -> String {
        format!("http://{}", self.address(server))
    }

    /// A client of one server, with a superuser's rights if the deployment asks for any.
    pub fn client(&self, server: usize) -> Client {
        Client::new(&self.address(server)).with_authorization(self.superuser())
    }

    pub fn agent_client(&self, agent: usize) -> Client {
        Client::new(&format!("127.0.0.1:{}", self.agent_ports[agent])).with_authorization(self.superuser())
    }

    /// The token that nodes use among themselves.
    fn superuser(&self) -> Option<String> {
        let secret = self.setup.secret.as_ref()?;
        let auth = Auth { enabled: true, secrets: vec![secret.as_bytes().to_vec()], ..Auth::default() };
        superuser_token(&auth).map(|token| format!("bearer {token}"))
    }

    // ---- who leads --------------------------------------------------------------------------------------------------

    /// The server that serves now, if one does.
    pub fn leader(&self) -> Option<usize> {
        (0..self.servers.len()).filter(|server| self.servers[*server].active()).find(|server| self.serves(*server))
    }

    fn serves(&self, server: usize) -> bool {
        let mut client = self.client(server).with_timeout(Duration::from_secs(1));
        client.get("/_admin/server/availability").is_ok_and(|answer| answer.status == 200)
    }

    #[track_caller]
    pub fn wait_leader(&self) -> usize {
        wait("a server leads", || self.leader())
    }

    #[track_caller]
    pub fn wait_leader_other_than(&self, server: usize) -> usize {
        wait(&format!("a server other than {server} leads"), || self.leader().filter(|leader| *leader != server))
    }

    /// The servers that run and do not lead.
    pub fn followers(&self) -> Vec<usize> {
        let leader = self.leader();
        (0..self.servers.len()).filter(|s| self.servers[*s].active() && Some(*s) != leader).collect()
    }

    /// Waits until a leader serves and every other server that runs has what the leader has; the leader.
    #[track_caller]
    pub fn wait_in_sync(&self) -> usize {
        wait_for_success(|| {
            let leader = self.leader().ok_or("no server leads")?;
            let tick = last_tick(&mut self.client(leader)).ok_or("the leader does not tell its last tick")?;
            let running = (0..self.servers.len()).filter(|s| self.servers[*s].active() && *s != leader);
            for server in running {
                self.follows(server, leader, tick).map_err(|why| format!("server{server}: {why}"))?;
            }
            Ok(leader)
        })
    }

    /// ArangoDB's own criterion of "in sync".
    fn follows(&self, server: usize, leader: usize, tick: u64) -> Result<(), String> {
        let mut client = self.client(server).with_timeout(Duration::from_secs(2));
        let answer = client.get("/_api/replication/applier-state?global=true").map_err(|e| e.to_string())?;
        let body = answer.json();
        let state = &body["state"];
        let endpoint = body["endpoint"].as_str().unwrap_or_default();
        let applied = number(&state["lastAppliedContinuousTick"]).max(number(&state["lastProcessedContinuousTick"]));
        let right = endpoint.ends_with(&format!(":{}", self.server_ports[leader]));
        if state["running"] == json!(true) && right && applied >= Some(tick) {
            Ok(())
        } else {
            Err(format!("not at tick {tick} of server{leader}: {answer}"))
        }
    }

    // ---- documents --------------------------------------------------------------------------------------------------

    #[track_caller]
    pub fn create_collection(&self, name: &str) {
        let leader = self.wait_leader();
        self.client(leader).post("/_api/collection", &json!({"name": name})).expect("an answer").expect(200);
    }

    /// Stores documents with these numbers as keys on a server, in one request for each thousand.
    #[track_caller]
    pub fn insert(&self, server: usize, collection: &str, numbers: Range<u64>) {
        let mut client = self.client(server);
        let all: Vec<u64> = numbers.collect();
        for part in all.chunks(1000) {
            let documents: Vec<Value> = part.iter().map(|n| json!({"_key": n.to_string(), "value": n})).collect();
            let target = format!("/_api/document/{collection}?silent=true");
            let answer = client.post(&target, &json!(documents)).expect("an answer");
            assert!(answer.ok() && answer.header("x-arango-error-codes").is_none(), "{answer}");
        }
    }

    /// The numbers of all documents that a server has (a dirty read on a follower), sorted.
    #[track_caller]
    pub fn numbers(&self, server: usize, collection: &str) -> Vec<u64> {
        let body = json!({"collection": collection, "batchSize": 1_000_000}).to_string();
        let dirty = [("X-Arango-Allow-Dirty-Read", "true")];
        let answer = self.client(server).send("PUT", "/_api/simple/all", &dirty, body.as_bytes()).expect("an answer");
        assert!(answer.ok(), "{answer}");
        let body = answer.json();
        assert_eq!(body["hasMore"], json!(false), "all in one batch");
        let documents = body["result"].as_array().expect("a result");
        let mut numbers: Vec<u64> = documents.iter().map(|d| d["value"].as_u64().expect("a number")).collect();
        numbers.sort_unstable();
        numbers
    }

    /// How many documents a server has; `None` if it does not say.
    pub fn count(&self, server: usize, collection: &str) -> Option<u64> {
        let dirty = [("X-Arango-Allow-Dirty-Read", "true")];
        let target = format!("/_api/collection/{collection}/count");
        self.client(server).send("GET", &target, &dirty, b"").ok()?.json()["count"].as_u64()
    }

    /// One document; the answer, whatever it is.
    pub fn write(&self, server: usize, collection: &str, number: u64) -> std::io::Result<Answer> {
        let document = json!({"_key": number.to_string(), "value": number});
        self.client(server).post(&format!("/_api/document/{collection}"), &document)
    }

    /// Waits until a server refuses as a follower of `leader`.
    #[track_caller]
    pub fn wait_follower(&self, server: usize, leader: usize) {
        wait_until(&format!("server{server} follows server{leader}"), || {
            self.client(server).get("/_api/collection").is_ok_and(|answer| {
                answer.refusal() == (503, 1496) && answer.header("x-arango-endpoint") == Some(&self.url(leader))
            })
        });
    }

    // ---- the agency -------------------------------------------------------------------------------------------------

    /// The agent that leads the agency.
    #[track_caller]
    pub fn agency_leader(&self) -> usize {
        wait("an agent leads", || {
            (0..self.agents.len()).filter(|agent| self.agents[*agent].active()).find(|agent| {
                let config = self.agent_client(*agent).get("/_api/agency/config").map(|answer| answer.json());
                config.is_ok_and(|c| c["leaderId"].is_string() && c["leaderId"] == c["configuration"]["id"])
            })
        })
    }
}

/// ArangoDB's ticks are numbers in strings.
pub fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

pub fn last_tick(client: &mut Client) -> Option<u64> {
    let body = client.get("/_api/replication/logger-state").ok()?.json();
    number(&body["state"]["lastLogTick"])
}
