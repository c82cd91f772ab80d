//! `tanist status` and `tanist switchover`: what an operator asks a deployment.
//!
//! Any node is enough to find the others: the starter, a server, or an agent. What is shown comes from the agency's
//! leader and, for what only a server knows, from each server itself.

use crate::client::Client;
use crate::exit::Exit;
use crate::options::{self, parse_any};
use clap::Parser;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tanist_engine::types::{Endpoint, NodeId};

const PATIENCE: Duration = Duration::from_secs(2);
const STATUS: &str = "/_api/tanist/status";

#[derive(Parser, Debug)]
#[command(
    name = "tanist status",
    about = "Who leads, and how everybody is",
    no_binary_name = true,
    disable_version_flag = true
)]
struct StatusFlags {
    /// The starter, a server or an agent; may be repeated [default: 127.0.0.1, ports 8528 to 8531].
    #[arg(long = "endpoint", value_name = "ENDPOINT")]
    endpoint: Vec<String>,
    /// Print JSON.
    #[arg(long = "json", value_name = "BOOL", value_parser = clap::value_parser!(bool), num_args = 0..=1,
        require_equals = true, default_missing_value = "true", default_value = "false")]
    json: bool,
    /// File or folder with the deployment's secret.
    #[arg(long = "auth.jwt-secret", value_name = "FILE")]
    jwt_secret: Option<PathBuf>,
}

#[derive(Parser, Debug)]
#[command(
    name = "tanist switchover",
    about = "Hands the lead to another server",
    no_binary_name = true,
    disable_version_flag = true
)]
struct SwitchoverFlags {
    /// The starter, a server or an agent; may be repeated [default: 127.0.0.1, ports 8528 to 8531].
    #[arg(long = "endpoint", value_name = "ENDPOINT")]
    endpoint: Vec<String>,
    /// Who is to lead: an id, a short name (Single0002) or an endpoint; without it, the follower that is furthest.
    #[arg(long = "to", value_name = "SERVER")]
    to: Option<String>,
    /// Seconds to wait for the new leader.
    #[arg(long = "timeout", value_name = "SECONDS", value_parser = options::parse_seconds, default_value = "30")]
    timeout: Duration,
    /// File or folder with the deployment's secret.
    #[arg(long = "auth.jwt-secret", value_name = "FILE")]
    jwt_secret: Option<PathBuf>,
}

/// Where the nodes of a deployment are.
#[derive(Debug, Default)]
pub struct Found {
    pub agents: BTreeSet<Endpoint>,
    pub servers: BTreeSet<Endpoint>,
}

pub fn status(arguments: &[String]) -> Result<(), Exit> {
    let (flags, _) = parse_any::<StatusFlags>(arguments, |_| false)?;
    let client = Client::new(options::read_secret_path(flags.jwt_secret.as_deref())?);
    let entries = entries(&flags.endpoint)?;
    run(async {
        let report = report(&client, &find(&client, &entries).await?).await;
        if flags.json {
            println!("{}", serde_json::to_string_pretty(&report).expect("a JSON value can be written"));
        } else {
            print!("{}", table(&report));
        }
        Ok(())
    })
}

pub fn switchover(arguments: &[String]) -> Result<(), Exit> {
    let (flags, _) = parse_any::<SwitchoverFlags>(arguments, |_| false)?;
    let client = Client::new(options::read_secret_path(flags.jwt_secret.as_deref())?);
    let entries = entries(&flags.endpoint)?;
    run(async {
        let found = find(&client, &entries).await?;
        let before = report(&client, &found).await;
        let to = flags.to.as_deref().map(|to| resolve(&before, to)).transpose()?;
        let old = leader(&before).map(str::to_owned);
        if to.is_some() && to == old {
            println!("{} leads already.", old.unwrap_or_default());
            return Ok(());
        }
        let (id, server) = hand_over(&client, &found, old.as_deref(), to.as_deref(), flags.timeout).await?;
        println!("{id} at {} leads now.", server.url());
        Ok(())
    })
}

/// Asks for a hand-over, and waits until another server than `old` serves: its id and endpoint.
pub async fn hand_over(
    client: &Client,
    found: &Found,
    old: Option<&str>,
    to: Option<&str>,
    patience: Duration,
) -> Result<(String, Endpoint), Exit> {
    let agents: Vec<Endpoint> = found.agents.iter().cloned().collect();
    let answer = client.ask_agency(&agents, "POST", "/_api/tanist/handover", Some(&json!({"to": to})), PATIENCE).await;
    let answer = answer.map_err(|e| Exit::failed(format!("the agency can't be asked: {e}")))?;
    if answer.status >= 300 {
        return Err(Exit::failed(format!("the agency refuses: {}", answer.problem())));
    }
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        for server in &found.servers {
            let serves = client.get(server, "/_admin/server/availability", PATIENCE).await;
            if !serves.is_ok_and(|answer| answer.status == 200) {
                continue;
            }
            let id = client.get(server, STATUS, PATIENCE).await.map(|answer| answer.json()["id"].clone());
            let id = id.ok().and_then(|id| id.as_str().map(str::to_owned)).unwrap_or_default();
            if Some(id.as_str()) != old && to.is_none_or(|to| to == id) {
                return Ok((id, server.clone()));
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(Exit::failed("no new leader serves yet (tanist status tells more)"))
}

pub fn run(work: impl Future<Output = Result<(), Exit>>) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Exit::failed(format!("the runtime can't be started: {e}")))?.block_on(work)
}

pub fn entries(given: &[String]) -> Result<Vec<Endpoint>, Exit> {
    if given.is_empty() {
        let usual = [8528, 8529, 8530, 8531].map(|port| Endpoint::parse(&format!("tcp://127.0.0.1:{port}")));
        return usual.into_iter().collect::<Result<_, _>>().map_err(Exit::options);
    }
    given.iter().map(|text| Endpoint::parse(text).map_err(|e| Exit::options(format!("--endpoint: {e}")))).collect()
}

/// Asks the entries, one after the other, until one has named the deployment's nodes.
pub async fn find(client: &Client, entries: &[Endpoint]) -> Result<Found, Exit> {
    let mut problems = Vec::new();
    for entry in entries {
        let mut found = Found::default();
        match client.get(entry, "/endpoints", PATIENCE).await {
            Ok(answer) if answer.status == 200 && answer.json()["starters"].is_array() => {
                let starter = answer.json();
                found.agents.extend(endpoints(&starter["agents"]));
                found.servers.extend(endpoints(&starter["coordinators"]));
                return Ok(found);
            }
            Ok(answer) if answer.status == 401 => {
                problems.push(format!("{entry}: {} (--auth.jwt-secret FILE)", answer.problem()));
                continue;
            }
            Ok(_) => {}
            Err(e) => {
                problems.push(format!("{entry}: {e}"));
                continue;
            }
        }
        match client.ask_agency(std::slice::from_ref(entry), "GET", STATUS, None, PATIENCE).await {
            Ok(answer) if answer.status == 200 => {
                let status = answer.json();
                found.agents.extend(endpoints(&status["agents"]));
                found.servers.extend(endpoints(&status["members"]));
                found.servers.extend(endpoints(&status["servers"]));
                if status["role"].is_string() {
                    found.servers.insert(entry.clone());
                }
                return Ok(found);
            }
            Ok(answer) => problems.push(format!("{entry}: {}", answer.problem())),
            Err(e) => problems.push(e),
        }
    }
    Err(Exit::failed(format!("no node answers ({})", problems.join("; "))))
}

/// Endpoints in a list of URLs or of objects that have one.
pub fn endpoints(list: &Value) -> Vec<Endpoint> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |item: &Value| item.as_str().or_else(|| item["endpoint"].as_str()).map(str::to_owned);
    list.iter().filter_map(|item| Endpoint::parse(&text(item)?).ok()).collect()
}

/// Everything there is to know, as JSON.
pub async fn report(client: &Client, found: &Found) -> Value {
    let agents: Vec<Endpoint> = found.agents.iter().cloned().collect();
    let mut servers = found.servers.clone();
    let agency = match client.ask_agency(&agents, "GET", STATUS, None, PATIENCE).await {
        Ok(answer) if answer.status == 200 => answer.json(),
        Ok(answer) => json!({"problem": answer.problem()}),
        Err(problem) => json!({"problem": if agents.is_empty() { Value::Null } else { problem.into() }}),
    };
    servers.extend(endpoints(&agency["servers"]));
    let mut rows = Vec::new();
    for server in &servers {
        let status = match client.get(server, STATUS, PATIENCE).await {
            Ok(answer) if answer.status == 200 => answer.json(),
            Ok(answer) => json!({"problem": answer.problem()}),
            Err(problem) => json!({"problem": problem}),
        };
        let known = agency["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let known = known.iter().find(|known| known["endpoint"] == *server.0).cloned().unwrap_or(Value::Null);
        rows.push(json!({"endpoint": *server.0, "agency": known, "status": status}));
    }
    json!({"agency": agency, "agents": agents.iter().map(|a| a.0.to_string()).collect::<Vec<_>>(), "servers": rows})
}

/// The id of the server that leads.
pub fn leader(report: &Value) -> Option<&str> {
    let by_agency = report["agency"]["leadership"]["leader"].as_str();
    by_agency.or_else(|| {
        let leads = |row: &&Value| row["status"]["role"] == "leader";
        report["servers"].as_array()?.iter().find(leads)?["status"]["id"].as_str()
    })
}

/// A server's id from what an operator calls it.
pub fn resolve(report: &Value, name: &str) -> Result<String, Exit> {
    if NodeId::parse(name).is_some() {
        return Ok(name.to_owned());
    }
    let endpoint = Endpoint::parse(name).ok();
    let rows = report["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let called = |row: &&Value| {
        row["agency"]["shortName"] == name || endpoint.as_ref().is_some_and(|endpoint| row["endpoint"] == *endpoint.0)
    };
    let id = rows.iter().find(called).and_then(|row| row["status"]["id"].as_str().or(row["agency"]["id"].as_str()));
    id.map(str::to_owned).ok_or_else(|| Exit::options(format!("--to: there is no server '{name}'")))
}

/// The report for people.
fn table(report: &Value) -> String {
    let agency = &report["agency"];
    let rows = report["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let url = |text: &str| Endpoint::parse(text).map_or_else(|_| text.to_owned(), |endpoint| endpoint.url());
    let mut text = String::new();
    match (leader(report), agency["leadership"]["endpoint"].as_str()) {
        (Some(id), endpoint) => {
            let row = rows.iter().find(|row| row["status"]["id"] == id);
            let endpoint = endpoint.or_else(|| row?["endpoint"].as_str()).unwrap_or_default();
            text += &format!("Leader   {} ({id})\n", url(endpoint));
            let status = row.map_or(&Value::Null, |row| &row["status"]);
            let epoch = agency["leadership"]["epoch"].as_u64().or(status["epoch"].as_u64());
            text += &format!("Epoch    {}\n", epoch.map_or("?".to_owned(), |epoch| epoch.to_string()));
            if let Some(left_ms) = status["leaseLeftMs"].as_u64() {
                text += &format!("Lease    {}.{:03} s left\n", left_ms / 1000, left_ms % 1000);
            }
        }
        (None, _) => {
            text += "Leader   none at this moment\n";
            if let Some(why) = agency["supervision"].as_str() {
                text += &format!("Why      {why}\n");
            }
        }
    }
    let in_sync: Vec<&str> =
        agency["leadership"]["inSync"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !in_sync.is_empty() {
        let lag = agency["leadership"]["inSyncLag"].as_u64().filter(|lag| *lag > 0);
        let within = lag.map_or(String::new(), |lag| format!(", within {lag} operations"));
        text += &format!("In sync  {}{within}\n", in_sync.join(", "));
    }
    if agency["maintenance"].is_object() {
        let word = |name: &str| agency["maintenance"][name].as_str().unwrap_or("?").to_owned();
        let until =
            if agency["maintenance"]["until"].is_string() { word("until") } else { "it is switched off".into() };
        text += &format!("Failover suspended by maintenance since {} until {until}\n", word("since"));
    }
    if agency["readOnly"] == true {
        text += "Writes   refused everywhere: read-only mode\n";
    }
    let agents = agency["agents"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(problem) = agency["problem"].as_str() {
        text += &format!("Agency   does not answer: {problem}\n");
    } else if !agents.is_empty() {
        let count = if agents.len() == 1 { "1 agent".to_owned() } else { format!("{} agents", agents.len()) };
        text += &format!("Agency   {count}, term {}\n", agency["term"].as_u64().unwrap_or(0));
    }

    let mut lines = vec![["SERVER", "ENDPOINT", "ROLE", "HEALTH", "TICK", "LAG", "ID"].map(str::to_owned)];
    // Beyond what the most advanced server has, nobody is known to be behind.
    let tick = |row: &Value| row["status"]["last"]["tick"].as_u64();
    let front = rows.iter().filter_map(tick).max();
    for row in rows {
        let (status, known) = (&row["status"], &row["agency"]);
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let role = match (status["role"].as_str(), status["copying"].as_bool()) {
            (Some("follower"), Some(true)) => "copying".to_owned(),
            (Some(role), _) => role.to_owned(),
            (None, _) => "unreachable".to_owned(),
        };
        let lag = match (tick(row), front) {
            (Some(own), Some(front)) if status["role"] != "leader" => (front - own).to_string(),
            _ => "-".to_owned(),
        };
        lines.push([
            word(&known["shortName"]),
            url(row["endpoint"].as_str().unwrap_or_default()),
            role,
            word(&known["health"]),
            tick(row).map_or("-".to_owned(), |tick| tick.to_string()),
            lag,
            word(if status["id"].is_string() { &status["id"] } else { &known["id"] }),
        ]);
    }
    text += "\n";
    text += &columns(&lines);
    if !agents.is_empty() {
        let mut lines = vec![["AGENT", "ROLE", "ID"].map(str::to_owned)];
        for agent in agents {
            let role = match (agent["leading"].as_bool(), agent["silentMs"].as_u64()) {
                (Some(true), _) => "leader".to_owned(),
                (_, Some(silent_ms)) if silent_ms > 2000 => format!("silent for {} s", silent_ms / 1000),
                _ => "follower".to_owned(),
            };
            let endpoint = agent["endpoint"].as_str().unwrap_or_default();
            lines.push([url(endpoint), role, agent["id"].as_str().unwrap_or("-").to_owned()]);
        }
        text += "\n";
        text += &columns(&lines);
    }
    text
}

/// Lines with their cells under one another.
pub fn columns<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Value {
        json!({
            "agency": {
                "leadership": {"leader": "SNGL-1", "endpoint": "tcp://127.0.0.1:8529", "epoch": 3},
                "term": 2,
                "agents": [{"id": "AGNT-1", "endpoint": "tcp://127.0.0.1:8531", "leading": true}]
            },
            "servers": [
                {"endpoint": "tcp://127.0.0.1:8529", "agency": {"shortName": "Single0001", "health": "GOOD", "id": "SNGL-1"},
                 "status": {"id": "SNGL-1", "role": "leader", "leaseLeftMs": 1234, "last": {"epoch": 3, "tick": 20}}},
                {"endpoint": "tcp://127.0.0.1:8539", "agency": {"shortName": "Single0002", "health": "GOOD", "id": "SNGL-2"},
                 "status": {"id": "SNGL-2", "role": "follower", "last": {"epoch": 3, "tick": 18}}},
                {"endpoint": "tcp://127.0.0.1:8549", "agency": {"shortName": "Single0003", "health": "FAILED", "id": "SNGL-3"},
                 "status": {"problem": "connection refused"}}
            ]
        })
    }

    #[test]
    fn the_table_tells_who_leads_and_how_far_the_others_are() {
        let expected = "\
Leader   http://127.0.0.1:8529 (SNGL-1)
Epoch    3
Lease    1.234 s left
Agency   1 agent, term 2

SERVER      ENDPOINT               ROLE         HEALTH  TICK  LAG  ID
Single0001  http://127.0.0.1:8529  leader       GOOD    20    -    SNGL-1
Single0002  http://127.0.0.1:8539  follower     GOOD    18    2    SNGL-2
Single0003  http://127.0.0.1:8549  unreachable  FAILED  -     -    SNGL-3

AGENT                  ROLE    ID
http://127.0.0.1:8531  leader  AGNT-1
";
        assert_eq!(table(&sample()), expected);
        assert!(table(&json!({"agency": {}, "servers": []})).starts_with("Leader   none"));
    }

    #[test]
    fn a_server_is_called_by_any_of_its_names() {
        for name in ["Single0002", "tcp://127.0.0.1:8539", "http://127.0.0.1:8539"] {
            assert_eq!(resolve(&sample(), name).unwrap(), "SNGL-2", "{name}");
        }
        let id = "SNGL-01234567-89ab-cdef-0011-223344556677";
        assert_eq!(resolve(&sample(), id).unwrap(), id);
        assert!(resolve(&sample(), "Single0009").is_err());
    }
}
