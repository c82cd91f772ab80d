//! Who belongs to a deployment of several machines, once it is there.
//!
//! The record is in the agency, below [`KEY`], one entry a machine; it is changed by a transaction on what was read. Each
//! starter remembers a copy in its `setup.json`, so that it can start without anybody. What the starters record here
//! decides about nothing but processes: the pool of agents and the servers' roles are the engine's.

use super::Deployment;
use super::machines::{Hello, Machine, Refusal, Welcome, admit};
use super::setup::{self, Mode};
use crate::client::Answer;
use crate::exit::Exit;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Where the machines are recorded.
const KEY: &str = "/tanist/machines";
const INTERVAL: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(2);

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
                adopt(&deployment, record.machines);
                interval = INTERVAL;
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
    println!("The deployment's machines are now {}", names.join(", "));
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
