//! `tanist upgrade`: a deployment goes over to the program that is on the disk, process by process, while it serves.
//!
//! Agents first, the leading one last; then the followers; then, after a hand-over, the server that led. Between two
//! steps everything must be well again: all agents heard, all servers in good health and caught up. Whatever would
//! leave less than that to fall back on is refused before anything is touched. The starters do the restarting; they
//! themselves go on with the program that they were started with.

use crate::client::{Client, endpoint_of_url};
use crate::exit::Exit;
use crate::options::{self, parse_any};
use crate::status::{Found, columns, find, hand_over, leader, report, run};
use clap::Parser;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tanist_engine::types::Endpoint;

const PATIENCE: Duration = Duration::from_secs(5);
/// A follower this many entries behind is caught up enough to be relied on.
const LAG_TICKS_MAX: u64 = 1000;
/// An agent that was not heard of for this long is not there.
const AGENT_SILENCE_MAX_MS: u64 = 3000;

#[derive(Parser, Debug)]
#[command(
    name = "tanist upgrade",
    about = "Restarts all of a deployment with the program on the disk, one after the other, without an outage",
    no_binary_name = true,
    disable_version_flag = true
)]
struct UpgradeFlags {
    /// A starter; may be repeated, others are found by it [default: tcp://127.0.0.1:8528].
    #[arg(long = "endpoint", value_name = "ENDPOINT")]
    endpoint: Vec<String>,
    /// Seconds that one process may take until all is well again.
    #[arg(long = "timeout", value_name = "SECONDS", value_parser = options::parse_seconds, default_value = "120")]
    timeout: Duration,
    /// Also where there is nothing to fall back on meanwhile: one server, one agent, a follower that is away.
    #[arg(long = "force", value_name = "BOOL", value_parser = clap::value_parser!(bool), num_args = 0..=1,
        require_equals = true, default_missing_value = "true", default_value = "false")]
    force: bool,
    /// File or folder with the deployment's secret.
    #[arg(long = "auth.jwt-secret", value_name = "FILE")]
    jwt_secret: Option<PathBuf>,
}

/// A process under a starter.
#[derive(Clone, Debug, PartialEq)]
struct Process {
    endpoint: Endpoint,
    starter: Endpoint,
    pid: u64,
    agent: bool,
}

struct Upgrade {
    client: Client,
    found: Found,
    starters: Vec<Endpoint>,
    timeout: Duration,
    force: bool,
}

pub fn upgrade(arguments: &[String]) -> Result<(), Exit> {
    let (flags, _) = parse_any::<UpgradeFlags>(arguments, |_| false)?;
    let client = Client::new(options::read_secret_path(flags.jwt_secret.as_deref())?);
    let given = if flags.endpoint.is_empty() { vec!["tcp://127.0.0.1:8528".to_owned()] } else { flags.endpoint };
    let given: Result<Vec<Endpoint>, String> = given.iter().map(|text| Endpoint::parse(text)).collect();
    let given = given.map_err(|e| Exit::options(format!("--endpoint: {e}")))?;
    run(async {
        let starters = starters(&client, &given).await?;
        let found = find(&client, &starters).await?;
        Upgrade { client, found, starters, timeout: flags.timeout, force: flags.force }.go().await
    })
}

/// The starters that were given, and those that they know of.
async fn starters(client: &Client, given: &[Endpoint]) -> Result<Vec<Endpoint>, Exit> {
    let mut all: Vec<Endpoint> = Vec::new();
    for starter in given {
        let answer = client.get(starter, "/endpoints", PATIENCE).await;
        let answer = answer.map_err(|e| Exit::failed(format!("no starter answers at {starter}: {e}")))?;
        let body = answer.json();
        let Some(known) = body["starters"].as_array().filter(|_| answer.status == 200) else {
            return Err(Exit::failed(format!("{starter} is no starter: {}", answer.problem())));
        };
        all.push(starter.clone());
        all.extend(known.iter().filter_map(|url| endpoint_of_url(url.as_str()?)));
    }
    all.sort();
    all.dedup();
    Ok(all)
}

impl Upgrade {
    async fn go(&self) -> Result<(), Exit> {
        let report = report(&self.client, &self.found).await;
        let mut problems = problems(&report);
        let processes = self.processes().await?;
        problems.extend(lacks(&report, &processes));
        if !problems.is_empty() && !self.force {
            return Err(Exit::failed(format!("nothing was touched: {} (--force)", problems.join("; "))));
        }
        for problem in &problems {
            println!("Goes on although {problem}");
        }
        let mut lines = vec![["NODE", "WAS", "IS", "SECONDS"].map(str::to_owned)];
        let (agents, servers): (Vec<_>, Vec<_>) = processes.into_iter().partition(|process| process.agent);
        // Who leads may change on the way: those that lead wait for the end of their kind.
        let mut left = agents;
        while !left.is_empty() {
            let leading = self.leading_agent().await;
            let next = left.iter().position(|agent| Some(&agent.endpoint) != leading.as_ref()).unwrap_or(0);
            self.restart(left.remove(next), &mut lines).await?;
        }
        let mut left = servers;
        while !left.is_empty() {
            let (id, leading) = self.leading_server().await;
            let next = left.iter().position(|server| Some(&server.endpoint) != leading.as_ref());
            if next.is_none() && self.found.servers.len() > 1 {
                let (new, endpoint) = hand_over(&self.client, &self.found, id.as_deref(), None, self.timeout).await?;
                println!("{new} at {} leads now", endpoint.url());
                self.wait_until_well().await?;
            }
            self.restart(left.remove(next.unwrap_or(0)), &mut lines).await?;
        }
        print!("\n{}", columns(&lines));
        Ok(())
    }

    /// All processes of all starters.
    async fn processes(&self) -> Result<Vec<Process>, Exit> {
        let mut all = Vec::new();
        for starter in &self.starters {
            let answer = self.client.get(starter, "/process", PATIENCE).await;
            let answer = answer.map_err(|e| Exit::failed(format!("{starter}: {e}")))?;
            let body = answer.json();
            let list = body["servers"].as_array().cloned().unwrap_or_default();
            all.extend(list.iter().filter_map(|process| {
                let authority = format!("{}:{}", process["ip"].as_str()?, process["port"].as_u64()?);
                let endpoint = Endpoint::parse(&format!("tcp://{authority}")).ok()?;
                let agent = process["type"] == "agent";
                Some(Process { endpoint, starter: starter.clone(), pid: process["pid"].as_u64()?, agent })
            }));
        }
        Ok(all)
    }

    async fn leading_agent(&self) -> Option<Endpoint> {
        let report = report(&self.client, &self.found).await;
        let agents = report["agency"]["agents"].as_array()?;
        let leading = agents.iter().find(|agent| agent["leading"] == true)?;
        Endpoint::parse(leading["endpoint"].as_str()?).ok()
    }

    /// Its id and its endpoint.
    async fn leading_server(&self) -> (Option<String>, Option<Endpoint>) {
        let report = report(&self.client, &self.found).await;
        let id = leader(&report).map(str::to_owned);
        let rows = report["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let row = rows.iter().find(|row| id.is_some() && row["status"]["id"].as_str() == id.as_deref());
        let endpoint = row.and_then(|row| Endpoint::parse(row["endpoint"].as_str()?).ok());
        (id, endpoint)
    }

    /// Restarts one process, and waits until all is well again.
    async fn restart(&self, process: Process, lines: &mut Vec<[String; 4]>) -> Result<(), Exit> {
        let begun = Instant::now();
        let body = json!({"endpoint": *process.endpoint.0});
        let answer = self.client.post(&process.starter, "/restart", &body, PATIENCE).await;
        let answer = answer.map_err(|e| Exit::failed(format!("{}: {e}", process.starter)))?;
        if answer.status != 200 {
            return Err(Exit::failed(format!("{}: {}", process.starter, answer.problem())));
        }
        let is_new = |other: &Process| other.endpoint == process.endpoint && other.pid != process.pid;
        let new = loop {
            if let Some(new) = self.processes().await?.into_iter().find(is_new) {
                break new;
            }
            if begun.elapsed() > self.timeout {
                return Err(Exit::failed(format!("{} does not start again", process.endpoint)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        // The others may not have noticed yet that it was away: it must itself say that it is back among them.
        while process.agent && !self.knows_leader(&process.endpoint).await {
            if begun.elapsed() > self.timeout {
                return Err(Exit::failed(format!("agent {} does not find its leader", process.endpoint)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.wait_until_well().await?;
        let what = if process.agent { "agent" } else { "server" };
        let seconds = begun.elapsed().as_secs_f64();
        println!("{what} {} goes on as process {}", process.endpoint.url(), new.pid);
        let word = |pid: u64| pid.to_string();
        lines.push([process.endpoint.url(), word(process.pid), word(new.pid), format!("{seconds:.1}")]);
        Ok(())
    }

    async fn knows_leader(&self, agent: &Endpoint) -> bool {
        let status = self.client.get(agent, "/_admin/status", PATIENCE).await.map(|answer| answer.json());
        status.is_ok_and(|status| status["agent"]["leaderId"].as_str().is_some_and(|leader| !leader.is_empty()))
    }

    async fn wait_until_well(&self) -> Result<(), Exit> {
        let begun = Instant::now();
        loop {
            let problems = problems(&report(&self.client, &self.found).await);
            if problems.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > self.timeout {
                return Err(Exit::failed(format!("stopped, for {}", problems.join("; "))));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What a deployment lacks to be rolled over without a risk, however well it is. `processes`: those under the starters.
fn lacks(report: &Value, processes: &[Process]) -> Vec<String> {
    let count = |list: &Value| list.as_array().map_or(0, Vec::len);
    let mut lacks = Vec::new();
    let servers = count(&report["servers"]);
    if servers < 2 {
        lacks.push("there is only one server: nobody can take over from it".to_owned());
    }
    let in_sync = count(&report["agency"]["leadership"]["inSync"]);
    if in_sync > 0 && servers < in_sync + 2 {
        lacks.push("while a synchronous follower is away no other can stand in for it: writes would wait".to_owned());
    }
    let seats = count(&report["agency"]["agents"]);
    let agents = processes.iter().filter(|process| process.agent).count();
    match report["agency"]["witness"].as_str() {
        None => lacks.push("there is no agency".to_owned()),
        // Any other takes the seat.
        Some("etcd") if agents < 2 => lacks.push("there is only one agent: nobody can take its seat".to_owned()),
        Some("etcd") => {}
        Some(_) if seats < 3 => lacks.push("while one agent is away the others are no majority".to_owned()),
        Some(_) => {}
    }
    for (kind, list) in [("agent", &report["agency"]["agents"]), ("server", &report["servers"])] {
        let endpoints = list.as_array().into_iter().flatten().filter_map(|member| member["endpoint"].as_str());
        for endpoint in endpoints.filter_map(|endpoint| Endpoint::parse(endpoint).ok()) {
            if !processes.iter().any(|process| process.endpoint == endpoint) {
                lacks.push(format!("{kind} {endpoint} is under no starter, and would be left as it is"));
            }
        }
    }
    lacks
}

/// What is not well in a deployment at this moment.
fn problems(report: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let agency = &report["agency"];
    if let Some(problem) = agency["problem"].as_str() {
        problems.push(format!("the agency does not answer: {problem}"));
    }
    let applied = agency["applied"].as_u64().unwrap_or(0);
    for agent in agency["agents"].as_array().into_iter().flatten().filter(|agent| agent["leading"] != true) {
        let endpoint = agent["endpoint"].as_str().unwrap_or("?");
        let silent = agent["silentMs"].as_u64().is_none_or(|ms| ms > AGENT_SILENCE_MAX_MS);
        if silent || agent["matched"].as_u64().is_none_or(|matched| matched + LAG_TICKS_MAX < applied) {
            problems.push(format!("agent {endpoint} is away or behind"));
        }
    }
    let rows = report["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let tick = |row: &Value| row["status"]["last"]["tick"].as_u64();
    let front = rows.iter().filter_map(tick).max().unwrap_or(0);
    let mut roles: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        let (endpoint, status) = (row["endpoint"].as_str().unwrap_or("?"), &row["status"]);
        let role = status["role"].as_str().unwrap_or("unreachable");
        *roles.entry(role).or_default() += 1;
        let well = match role {
            "leader" => true,
            "follower" => status["replicating"] == true && tick(row).is_some_and(|own| own + LAG_TICKS_MAX >= front),
            _ => false,
        };
        if !well {
            problems.push(format!("server {endpoint} is {role} and not caught up"));
        } else if row["agency"]["health"] != "GOOD" && !status["standalone"].as_bool().unwrap_or(false) {
            problems.push(format!("server {endpoint} is not in good health"));
        }
    }
    if roles.get("leader") != Some(&1) {
        problems.push("there is no leader at this moment".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Value {
        let server = |port: u16, role: &str, tick: u64| {
            json!({"endpoint": format!("tcp://127.0.0.1:{port}"), "agency": {"health": "GOOD"},
                "status": {"role": role, "replicating": role == "follower", "last": {"epoch": 1, "tick": tick}}})
        };
        let agent = |port: u16, leading: bool| {
            json!({"endpoint": format!("tcp://127.0.0.1:{port}"), "leading": leading,
                "silentMs": (!leading).then_some(20), "matched": (!leading).then_some(900)})
        };
        json!({
            "agency": {"applied": 901, "witness": "agents", "agents": [agent(1, false), agent(2, true), agent(3, false)]},
            "servers": [server(4, "leader", 5000), server(5, "follower", 4990), server(6, "follower", 5000)],
        })
    }

    #[test]
    fn what_is_not_well_is_named() {
        assert_eq!((problems(&well()), lacks(&well(), &under_starters(&[1, 2, 3, 4, 5, 6]))), (vec![], vec![]));
        let with = |pointer: &str, value: Value| {
            let mut report = well();
            *report.pointer_mut(pointer).expect("a place in the report") = value;
            problems(&report)
        };
        assert_eq!(with("/agency/agents/0/silentMs", json!(9000)), ["agent tcp://127.0.0.1:1 is away or behind"]);
        assert_eq!(with("/agency/agents/2/matched", Value::Null), ["agent tcp://127.0.0.1:3 is away or behind"]);
        let behind = "server tcp://127.0.0.1:5 is follower and not caught up";
        assert_eq!(with("/servers/1/status/last/tick", json!(10)), [behind]);
        assert_eq!(with("/servers/1/status/replicating", json!(false)), [behind]);
        assert_eq!(with("/servers/2/agency/health", json!("BAD")), ["server tcp://127.0.0.1:6 is not in good health"]);
        let away = ["server tcp://127.0.0.1:4 is unreachable and not caught up", "there is no leader at this moment"];
        assert_eq!(with("/servers/0/status", json!({"problem": "connection refused"})), away);
    }

    /// Those with ports up to 3 are agents.
    fn under_starters(ports: &[u16]) -> Vec<Process> {
        let endpoint = |port: u16| Endpoint::parse(&format!("tcp://127.0.0.1:{port}")).unwrap();
        let process = |port: &u16| {
            let (endpoint, agent, pid) = (endpoint(*port), *port <= 3, u64::from(*port));
            Process { starter: endpoint.clone(), endpoint, pid, agent }
        };
        ports.iter().map(process).collect()
    }

    #[test]
    fn what_has_nothing_to_fall_back_on_is_named() {
        let one =
            |witness: &str| json!({"agency": {"witness": witness, "agents": [{"leading": true}]}, "servers": [{}]});
        let of = |agents: u16| under_starters(&(1..=agents).collect::<Vec<u16>>());
        assert_eq!((lacks(&one("agents"), &of(1)).len(), lacks(&one("etcd"), &of(1)).len()), (2, 2));
        assert_eq!(lacks(&one("etcd"), &of(2)), ["there is only one server: nobody can take over from it"]);
        assert_eq!(lacks(&json!({"agency": {}, "servers": [{}, {}]}), &[]), ["there is no agency"]);
        let alone = "server tcp://127.0.0.1:6 is under no starter, and would be left as it is";
        assert_eq!(lacks(&well(), &under_starters(&[1, 2, 3, 4, 5])), [alone]);
        let with = |in_sync: Value| {
            let mut report = well();
            report["agency"]["leadership"] = json!({"inSync": in_sync});
            lacks(&report, &under_starters(&[1, 2, 3, 4, 5, 6])).len()
        };
        assert_eq!([with(json!([])), with(json!(["a"])), with(json!(["a", "b"]))], [0, 0, 1]);
    }
}
