//! Who belongs to a deployment of several machines, once it is there.
//!
//! The record is in the agency, below [`KEY`], one entry a machine; it is changed by a transaction on what was read.
//! Each starter remembers a copy in its `setup.json`, so that it can start without anybody. What the starters record
//! here decides about nothing but processes: who has a seat in the agency, and what a server is, the engine knows.
//!
//! What the record asks of a machine, its own starter does, and looks again until it is so: it starts an agent and has
//! it let into the agency, stops one that is to go, and removes what a dead machine has left whose place it took.

use super::Deployment;
use super::child::{self, Child};
use super::machines::{Hello, Machine, Refusal, Welcome, admit};
use super::setup::{self, Mode, Role};
use crate::client::Answer;
use crate::exit::Exit;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tanist_engine::agency::AGENTS_MAX;
use tanist_engine::types::Endpoint;

/// Where the machines are recorded.
const KEY: &str = "/tanist/machines";
const INTERVAL: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a machine that is removed may take to stop, and its agent to lose its seat.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(45);
const AGENTS: &str = "/_api/tanist/agents";
const SINGLES: &str = "/arango/Plan/Singles";

/// The record as it was read: what a change of it rests on.
struct Record {
    value: Value,
    machines: Vec<Machine>,
}

/// Keeps the copy of the record fresh, and makes the record from it if there is none.
pub async fn keep_up(deployment: Arc<Deployment>) {
    if deployment.setup().deployment.is_none() || deployment.setup().mode != Mode::ActiveFailover {
        return;
    }
    let mut interval = Duration::from_millis(200);
    loop {
        match read(&deployment).await {
            Ok(record) if record.machines.is_empty() => {
                let new = Value::Object(deployment.setup().machines.iter().map(entry).collect());
                let made = write(&deployment, json!({KEY: {"op": "set", "new": new}}), &record.value).await;
                tracing::info!("the deployment's machines are recorded: {made:?}");
            }
            Ok(record) => {
                adopt(&deployment, record.machines.clone());
                interval = match reconcile(&deployment, &record).await {
                    Ok(true) => INTERVAL,
                    Ok(false) => INTERVAL / 10,
                    Err(problem) => {
                        tracing::warn!("{problem}");
                        INTERVAL
                    }
                };
            }
            Err(problem) => tracing::debug!("the machines can't be read: {problem}"),
        }
        tokio::time::sleep(interval).await;
    }
}

fn entry(machine: &Machine) -> (String, Value) {
    (machine.id.clone(), serde_json::to_value(machine).expect("plain data can be written"))
}

async fn ask(deployment: &Deployment, path: &str, body: &Value) -> Result<Answer, String> {
    deployment.client.ask_agency(&deployment.agents(), "POST", path, Some(body), PATIENCE).await
}

/// The same with any method, and a failure for any answer but success.
async fn call(deployment: &Deployment, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
    let answer = deployment.client.ask_agency(&deployment.agents(), method, path, body, PATIENCE).await?;
    if answer.status < 300 { Ok(answer.json()) } else { Err(answer.problem()) }
}

async fn read(deployment: &Deployment) -> Result<Record, String> {
    let answer = ask(deployment, "/_api/agency/read", &json!([[KEY]])).await?;
    if answer.status != 200 {
        return Err(answer.problem());
    }
    let value = answer.json()[0]["tanist"]["machines"].take();
    let value = if value.is_object() { value } else { Value::Object(Map::new()) };
    let entries: BTreeMap<String, Machine> =
        serde_json::from_value(value.clone()).map_err(|e| format!("the record of the machines ({KEY}): {e}"))?;
    let mut machines: Vec<Machine> = entries.into_values().collect();
    machines.sort_by_key(Machine::name);
    Ok(Record { value, machines })
}

/// One transaction on the record; false if somebody else was faster.
async fn write(deployment: &Deployment, change: Value, before: &Value) -> Result<bool, String> {
    let empty = before.as_object().is_none_or(Map::is_empty);
    let condition = if empty { json!({KEY: {"oldEmpty": true}}) } else { json!({KEY: {"old": before}}) };
    let answer = ask(deployment, "/_api/agency/write", &json!([[change, condition]])).await?;
    match answer.status {
        200 => Ok(true),
        412 => Ok(false),
        _ => Err(answer.problem()),
    }
}

/// What the record says becomes what this starter remembers.
fn adopt(deployment: &Deployment, machines: Vec<Machine>) {
    let mut own = deployment.setup.lock().unwrap_or_else(PoisonError::into_inner);
    if !machines.iter().any(|machine| machine.id == own.id) {
        let message = "this machine was removed from the deployment (delete its data directory to join anew)";
        let _ = deployment.failed.send(Exit::failed(message));
        return;
    }
    let mut known = own.machines.clone();
    known.sort_by_key(Machine::name);
    if known == machines {
        return;
    }
    let names: Vec<String> = machines.iter().map(Machine::name).collect();
    tracing::info!("the deployment's machines: {}", names.join(", "));
    crate::log::say!("The deployment's machines are now {}", names.join(", "));
    own.machines = machines;
    if let Err(exit) = setup::remember(&own, &deployment.directory) {
        tracing::error!("the set-up can't be remembered: {exit}");
    }
}

/// Lets another machine into the deployment.
pub async fn let_in(deployment: &Deployment, hello: Hello) -> Result<Welcome, Refusal> {
    let later = |message: String| Refusal { status: 503, message };
    let own = deployment.setup().welcome().expect("asked of one of several machines");
    // Who is known already needs nobody's consent: so a machine gets its welcome while the agency is still forming.
    if let Ok(None) = admit(&own, &hello) {
        return Ok(own);
    }
    let record = read(deployment).await.map_err(|problem| later(format!("the agency can't be asked: {problem}")))?;
    if record.machines.is_empty() {
        return Err(later("the deployment is just being formed".to_owned()));
    }
    let mut welcome = Welcome { machines: record.machines.clone(), ..own };
    let Some(admission) = admit(&welcome, &hello)? else { return Ok(welcome) };
    let (id, new) = entry(&admission.machine);
    let mut change = Map::new();
    change.insert(format!("{KEY}/{id}"), json!({"op": "set", "new": new}));
    if let Some(replaced) = &admission.replaced {
        change.insert(format!("{KEY}/{}", replaced.id), json!({"op": "delete"}));
    }
    match write(deployment, Value::Object(change), &record.value).await {
        Ok(true) => {}
        Ok(false) => return Err(later("another machine joined at the same moment".to_owned())),
        Err(problem) => return Err(later(format!("the agency can't be asked: {problem}"))),
    }
    tracing::info!("machine {} at {} joins", admission.machine.id, admission.machine.name());
    welcome.machines.retain(|machine| Some(machine) != admission.replaced.as_ref());
    welcome.machines.push(admission.machine);
    welcome.machines.sort_by_key(Machine::name);
    adopt(deployment, welcome.machines.clone());
    Ok(welcome)
}

// ---- what the record asks of this machine ---------------------------------------------------------------------------

/// True once this machine is as the record wants it.
async fn reconcile(deployment: &Arc<Deployment>, record: &Record) -> Result<bool, String> {
    let setup = deployment.setup();
    let Some(own) = setup.own() else { return Ok(true) };
    let child = deployment.children().into_iter().find(|child| child.plan.role == Role::Agent);
    match (own.endpoint(Role::Agent), child) {
        (Some(endpoint), None) => {
            let plan = setup::plan_one(&setup, &deployment.directory, &deployment.passed, Role::Agent, endpoint);
            crate::log::say!("This machine gets an agent");
            let child = Arc::new(Child::new(plan));
            deployment.children.lock().unwrap_or_else(PoisonError::into_inner).push(child.clone());
            tokio::spawn(child::keep(deployment.clone(), child, deployment.failed.clone()));
            return Ok(false);
        }
        (None, Some(child)) => {
            crate::log::say!("This machine's agent is no longer needed");
            child.stop();
            child.stopped().await;
            deployment.children.lock().unwrap_or_else(PoisonError::into_inner).retain(|c| c.plan.role != Role::Agent);
            // What it knows is of no use to the next one.
            let _ = std::fs::remove_dir_all(child.plan.data());
            return Ok(false);
        }
        _ => {}
    }
    let agent = match own.endpoint(Role::Agent) {
        Some(endpoint) if own.joined => match let_agent_in(deployment, &endpoint).await? {
            Some(id) => Some(id),
            None => return Ok(false),
        },
        _ => None,
    };
    if let Some(old) = &own.replaces {
        let server = deployment.children().into_iter().find(|child| child.plan.role == Role::Server);
        let server = server.and_then(|child| child.id());
        if !clear(deployment, old, agent.as_deref(), server.as_deref()).await? {
            return Ok(false);
        }
        let done = Machine { replaces: None, ..own.clone() };
        let (id, new) = entry(&done);
        write(deployment, json!({format!("{KEY}/{id}"): {"op": "set", "new": new}}), &record.value).await?;
        crate::log::say!("This machine has taken the place of {}", old.name());
        return Ok(false);
    }
    Ok(true)
}

/// Asks the agency to let this machine's agent in; its id once it has a seat.
async fn let_agent_in(deployment: &Deployment, endpoint: &Endpoint) -> Result<Option<String>, String> {
    let Ok(answer) = deployment.client.get(endpoint, "/_api/agency/config", PATIENCE).await else { return Ok(None) };
    let configuration = answer.json()["configuration"].take();
    let (Some(id), Some(disk)) = (configuration["id"].as_str(), configuration["disk"].as_str()) else {
        return Ok(None);
    };
    let listed = call(deployment, "GET", AGENTS, None).await?;
    if seats(&listed).any(|(seated, _)| seated == id) {
        return Ok(Some(id.to_owned()));
    }
    let seat = json!({"id": id, "disk": disk, "endpoint": endpoint.to_string()});
    call(deployment, "POST", AGENTS, Some(&seat)).await.map_err(|why| format!("the agent is not let in yet: {why}"))?;
    Ok(None)
}

/// Id and endpoint of all who have a seat.
fn seats(listed: &Value) -> impl Iterator<Item = (&str, &str)> {
    let agents = listed["agents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let seated = agents.iter().filter(|agent| agent["state"] == "member");
    seated.filter_map(|agent| Some((agent["id"].as_str()?, agent["endpoint"].as_str()?)))
}

/// Removes the nodes of a machine that is gone from the agency, but not these two; true once there is none left.
async fn clear(
    deployment: &Deployment,
    old: &Machine,
    agent: Option<&str>,
    server: Option<&str>,
) -> Result<bool, String> {
    let mut clean = true;
    // On an etcd no agent has a seat: it is gone when its process is.
    let seated = deployment.setup().etcd.is_none();
    if let Some(endpoint) = old.endpoint(Role::Agent).filter(|_| seated) {
        let listed = call(deployment, "GET", AGENTS, None).await?;
        for (id, at) in seats(&listed) {
            if at == &*endpoint.0 && Some(id) != agent {
                clean = false;
                call(deployment, "DELETE", AGENTS, Some(&json!({"id": id}))).await?;
            }
        }
    }
    if let Some(endpoint) = old.endpoint(Role::Server) {
        for id in servers_at(deployment, &endpoint).await?.iter().filter(|id| Some(id.as_str()) != server) {
            clean = false;
            unlist(deployment, id).await?;
        }
    }
    Ok(clean)
}

/// The servers that the agency has at an address.
async fn servers_at(deployment: &Deployment, endpoint: &Endpoint) -> Result<Vec<String>, String> {
    let status = call(deployment, "GET", "/_api/tanist/status", None).await?;
    let servers = status["servers"].as_array().cloned().unwrap_or_default();
    let there = servers.iter().filter(|server| server["endpoint"] == *endpoint.0);
    Ok(there.filter_map(|server| server["id"].as_str().map(str::to_owned)).collect())
}

/// Takes a server out of the plan, unless it leads.
async fn unlist(deployment: &Deployment, id: &str) -> Result<(), String> {
    let change = json!({format!("{SINGLES}/{id}"): {"op": "delete"}});
    let condition = json!({"/arango/Plan/AsyncReplication/Leader": {"oldNot": id}});
    let answer = ask(deployment, "/_api/agency/write", &json!([[change, condition]])).await?;
    match answer.status {
        200 => Ok(()),
        412 => Err(format!("{id} still leads: hand over first (tanist switchover)")),
        _ => Err(answer.problem()),
    }
}

// ---- what an operator asks ------------------------------------------------------------------------------------------

/// The machine that is meant (this one, if none is named), and the record.
async fn find(deployment: &Deployment, name: Option<&str>) -> Result<(Record, Machine), Refusal> {
    let unavailable = |problem| Refusal { status: 503, message: format!("the agency can't be asked: {problem}") };
    let record = read(deployment).await.map_err(unavailable)?;
    let own = deployment.setup().id;
    let found = record.machines.iter().find(|machine| match name {
        Some(name) => machine.is_called(name),
        None => machine.id == own,
    });
    match found.cloned() {
        Some(machine) => Ok((record, machine)),
        None => {
            let message = format!("there is no machine {} in this deployment", name.unwrap_or_default());
            Err(Refusal { status: 404, message })
        }
    }
}

fn refuse<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status: 409, message: message.into() })
}

async fn change(deployment: &Deployment, change: Value, record: &Record) -> Result<(), Refusal> {
    match write(deployment, change, &record.value).await {
        Ok(true) => Ok(()),
        Ok(false) => refuse("somebody else has changed the deployment's machines at the same moment: try again"),
        Err(problem) => Err(Refusal { status: 503, message: problem }),
    }
}

/// Gives a machine an agent, or takes it away. Answers with the agent's endpoint, and whether it gets or loses a seat,
/// when that is decided; the machine's own starter does it.
pub async fn set_agent(deployment: &Deployment, name: Option<&str>, wanted: bool) -> Result<Value, Refusal> {
    let (record, machine) = find(deployment, name).await?;
    let agents = record.machines.iter().filter(|machine| machine.agent).count();
    match (machine.agent, wanted) {
        (false, true) if agents >= AGENTS_MAX => return refuse(format!("there are {AGENTS_MAX} agents already")),
        (true, false) if agents == 1 => return refuse("it is the last agent"),
        (true, false) if !machine.server => {
            return refuse("a machine with neither agent nor server has nothing to do (tanist remove removes it)");
        }
        _ => {}
    }
    let seat = deployment.setup().etcd.is_none();
    let joined = wanted && seat && (machine.joined || !machine.agent);
    let changed = Machine { agent: wanted, joined, ..machine.clone() };
    if machine.agent && !wanted {
        take_seats(deployment, &machine).await?;
    }
    if changed != machine {
        let (id, new) = entry(&changed);
        change(deployment, json!({format!("{KEY}/{id}"): {"op": "set", "new": new}}), &record).await?;
    }
    let endpoint = Machine { agent: true, ..machine }.endpoint(Role::Agent);
    Ok(json!({"endpoint": endpoint.map(|endpoint| endpoint.to_string()), "seat": seat}))
}

/// Until a machine's agent has no seat.
async fn take_seats(deployment: &Deployment, machine: &Machine) -> Result<(), Refusal> {
    let agent_only = Machine { server: false, ..machine.clone() };
    let began = Instant::now();
    loop {
        match clear(deployment, &agent_only, None, None).await {
            Ok(true) => return Ok(()),
            Err(problem) if began.elapsed() > REMOVAL_TIMEOUT => return refuse(problem),
            _ if began.elapsed() > REMOVAL_TIMEOUT => return refuse("the agent keeps its seat"),
            _ => tokio::time::sleep(INTERVAL / 20).await,
        }
    }
}

/// Removes a machine: its starter stops, its agent loses its seat, its server is taken out of the plan. Whoever leads
/// must have handed over.
pub async fn remove(deployment: &Deployment, name: &str) -> Result<Value, Refusal> {
    let unavailable = |problem| Refusal { status: 503, message: format!("the agency can't be asked: {problem}") };
    let (record, machine) = find(deployment, Some(name)).await?;
    if machine.id == deployment.setup().id {
        return refuse("a machine does not remove itself: ask another one's starter (--endpoint)");
    }
    if machine.agent && record.machines.iter().filter(|machine| machine.agent).count() == 1 {
        return refuse("it has the last agent");
    }
    if let Some(endpoint) = machine.endpoint(Role::Server) {
        let status = call(deployment, "GET", "/_api/tanist/status", None).await.map_err(unavailable)?;
        if status["leadership"]["endpoint"] == *endpoint.0 {
            return refuse("its server leads: hand over first (tanist switchover)");
        }
    }
    change(deployment, json!({format!("{KEY}/{}", machine.id): {"op": "delete"}}), &record).await?;
    // Its starter sees that, and stops; what does not answer is stopped already.
    let began = Instant::now();
    if let Ok(starter) = machine.starter() {
        let _ = deployment.client.post(&starter, "/shutdown", &Value::Null, PATIENCE).await;
        while deployment.client.get(&starter, "/id", PATIENCE).await.is_ok() && began.elapsed() < REMOVAL_TIMEOUT {
            tokio::time::sleep(INTERVAL / 20).await;
        }
    }
    while !clear(deployment, &machine, None, None).await.or_else(refuse)? {
        if began.elapsed() > 2 * REMOVAL_TIMEOUT {
            return refuse("its nodes are still known to the agency");
        }
        tokio::time::sleep(INTERVAL / 20).await;
    }
    Ok(json!({"removed": machine.id}))
}
