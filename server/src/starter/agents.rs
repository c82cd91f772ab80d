//! `tanist agents` and `tanist remove`: who has a seat in the agency, and machines that leave.

use crate::client::Client;
use crate::exit::Exit;
use crate::options::{self, parse_any};
use crate::status::{columns, endpoints};
use clap::Parser;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tanist_engine::types::Endpoint;

const PATIENCE: Duration = Duration::from_secs(2);
/// A machine that is removed stops in good order first.
const LONG_PATIENCE: Duration = Duration::from_secs(150);
const SEAT_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Parser, Debug)]
#[command(
    name = "tanist agents",
    about = "The agents: list; add one on a machine, remove that of a machine (one at a time)",
    no_binary_name = true,
    disable_version_flag = true
)]
struct AgentsFlags {
    /// list, add or remove.
    #[arg(value_name = "WHAT", value_parser = ["list", "add", "remove"], default_value = "list")]
    what: String,
    /// The machine (its id, or ADDRESS:PORT of its starter) [default: the one at --endpoint].
    #[arg(value_name = "MACHINE")]
    machine: Option<String>,
    /// Any machine's starter.
    #[arg(long = "endpoint", value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:8528")]
    endpoint: String,
    /// File or folder with the deployment's secret.
    #[arg(long = "auth.jwt-secret", value_name = "FILE")]
    jwt_secret: Option<PathBuf>,
}

#[derive(Parser, Debug)]
#[command(
    name = "tanist remove",
    about = "Removes a machine from the deployment: its server, its agent, its starter",
    no_binary_name = true,
    disable_version_flag = true
)]
struct RemoveFlags {
    /// The machine: its id, or ADDRESS:PORT of its starter.
    #[arg(value_name = "MACHINE")]
    machine: String,
    /// The starter of another machine.
    #[arg(long = "endpoint", value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:8528")]
    endpoint: String,
    /// File or folder with the deployment's secret.
    #[arg(long = "auth.jwt-secret", value_name = "FILE")]
    jwt_secret: Option<PathBuf>,
}

/// A starter to ask, and how.
struct Starter {
    endpoint: Endpoint,
    client: Client,
}

impl Starter {
    fn new(endpoint: &str, jwt_secret: Option<&std::path::Path>) -> Result<Starter, Exit> {
        let endpoint = Endpoint::parse(endpoint).map_err(|e| Exit::options(format!("--endpoint: {e}")))?;
        Ok(Starter { endpoint, client: Client::new(options::read_secret_path(jwt_secret)?) })
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Exit> {
        let answer = self.client.post(&self.endpoint, path, body, LONG_PATIENCE).await;
        let answer = answer.map_err(|e| Exit::failed(format!("no starter answers at {}: {e}", self.endpoint)))?;
        if answer.status == 200 { Ok(answer.json()) } else { Err(Exit::failed(answer.problem())) }
    }

    /// What the agency says of its agents.
    async fn agents(&self) -> Result<Vec<Value>, String> {
        let known = self.client.get(&self.endpoint, "/endpoints", PATIENCE).await?;
        if known.status != 200 {
            return Err(format!("{}: {}", self.endpoint, known.problem()));
        }
        let agents = endpoints(&known.json()["agents"]);
        let answer = self.client.ask_agency(&agents, "GET", "/_api/tanist/agents", None, PATIENCE).await?;
        let listed = answer.json()["agents"].as_array().cloned();
        listed.ok_or_else(|| answer.problem())
    }
}

pub fn agents(arguments: &[String]) -> Result<(), Exit> {
    let (flags, _) = parse_any::<AgentsFlags>(arguments, |_| false)?;
    let starter = Starter::new(&flags.endpoint, flags.jwt_secret.as_deref())?;
    crate::status::run(async {
        if flags.what != "list" {
            let wanted = flags.what == "add";
            let changed = starter.post("/agents", &json!({"machine": flags.machine, "agent": wanted})).await?;
            if changed["seat"] == true {
                wait_for_seat(&starter, &changed["endpoint"], wanted).await?;
            }
        }
        let listed = starter.agents().await.map_err(Exit::failed)?;
        let mut lines = vec![["AGENT", "ROLE", "ID"].map(str::to_owned)];
        for agent in &listed {
            let word = |name: &str| agent[name].as_str().unwrap_or("-").to_owned();
            let url = Endpoint::parse(&word("endpoint")).map_or_else(|_| word("endpoint"), |endpoint| endpoint.url());
            let role = match (agent["leading"].as_bool(), agent["state"].as_str()) {
                (_, Some("learning")) => "catching up",
                (Some(true), _) => "leader",
                _ => "follower",
            };
            lines.push([url, role.to_owned(), word("id")]);
        }
        print!("{}", columns(&lines));
        Ok(())
    })
}

async fn wait_for_seat(starter: &Starter, endpoint: &Value, wanted: bool) -> Result<(), Exit> {
    let began = Instant::now();
    while began.elapsed() < SEAT_TIMEOUT {
        if let Ok(agents) = starter.agents().await {
            let seated = agents.iter().any(|agent| agent["endpoint"] == *endpoint && agent["state"] == "member");
            if seated == wanted {
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Exit::failed(format!("the agent at {endpoint} has not got there yet (tanist agents tells more)")))
}

/// `tanist remove`: answers when the machine is gone.
pub fn remove(arguments: &[String]) -> Result<(), Exit> {
    let (flags, _) = parse_any::<RemoveFlags>(arguments, |_| false)?;
    let starter = Starter::new(&flags.endpoint, flags.jwt_secret.as_deref())?;
    crate::status::run(async {
        let removed = starter.post("/goodbye", &json!({"SlaveID": flags.machine})).await?;
        println!("Machine {} is removed.", removed["removed"].as_str().unwrap_or(&flags.machine));
        Ok(())
    })
}
