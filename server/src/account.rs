//! `tanist failovers` and `tanist rollbacks`: what changes of leaders have cost, and how to bring it back.
//!
//! The account of failovers is the agency's. Rollback records lie on the servers that made them, and stay until an
//! operator removes them. Writing one again goes through the document API like any client's write: only where the
//! document still is as it was before the first operation that was undone.

use crate::client::{Answer, Client};
use crate::exit::Exit;
use crate::options::{self, parse_any};
use crate::status::{Found, columns, entries, find, leader, report, resolve, run};
use clap::{Args, Parser};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tanist_engine::types::Endpoint;

const PATIENCE: Duration = Duration::from_secs(10);
const RECORDS: &str = "/_api/tanist/rollbacks";

#[derive(Args, Debug)]
struct Common {
    /// The starter, a server or an agent; may be repeated [default: 127.0.0.1, ports 8528 to 8531].
    #[arg(long = "endpoint", value_name = "ENDPOINT")]
    endpoint: Vec<String>,
    /// File or folder with the deployment's secret.
    #[arg(long = "auth.jwt-secret", value_name = "FILE")]
    jwt_secret: Option<PathBuf>,
}

impl Common {
    fn client(&self) -> Result<Client, Exit> {
        Ok(Client::new(options::read_secret_path(self.jwt_secret.as_deref())?))
    }
}

#[derive(Parser, Debug)]
#[command(
    name = "tanist failovers",
    about = "Who led when, why that ended, and what it has cost",
    no_binary_name = true,
    disable_version_flag = true
)]
struct FailoversFlags {
    #[command(flatten)]
    common: Common,
    /// Print JSON.
    #[arg(long = "json", value_name = "BOOL", value_parser = clap::value_parser!(bool), num_args = 0..=1,
        require_equals = true, default_missing_value = "true", default_value = "false")]
    json: bool,
}

#[derive(Parser, Debug)]
#[command(
    name = "tanist rollbacks list",
    about = "All rollback records of all servers",
    no_binary_name = true,
    disable_version_flag = true
)]
struct ListFlags {
    #[command(flatten)]
    common: Common,
}

#[derive(Parser, Debug)]
#[command(
    name = "tanist rollbacks show|export|reapply|remove",
    about = "One rollback record: its operations as JSON lines, written again, or removed for good",
    no_binary_name = true,
    disable_version_flag = true
)]
struct RecordFlags {
    /// The record, as `list` shows it.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    common: Common,
    /// The server that has it: an id, a short name or an endpoint; needed if several have one of that name.
    #[arg(long = "server", value_name = "SERVER")]
    server: Option<String>,
    /// Of a store that was kept whole: the documents of this collection (DATABASE/NAME) instead of a list.
    #[arg(long = "collection", value_name = "COLLECTION")]
    collection: Option<String>,
    /// export: the file to write, which must not exist yet [default: standard output].
    #[arg(long = "output", value_name = "FILE")]
    output: Option<PathBuf>,
    /// reapply: also where the document is another by now.
    #[arg(long = "force", value_name = "BOOL", value_parser = clap::value_parser!(bool), num_args = 0..=1,
        require_equals = true, default_missing_value = "true", default_value = "false")]
    force: bool,
}

impl RecordFlags {
    /// A store that was kept whole, rather than entries that were undone.
    fn is_store(&self) -> bool {
        self.id.starts_with("store-")
    }
}

const ROLLBACKS_HELP: &str = "\
What returning servers had to give up, kept operation by operation.

Usage: tanist rollbacks VERB [ID] [OPTIONS]

  list      all records of all servers
  show      the operations of a record, one JSON object a line
  export    the same, into a file that does not exist yet (--output FILE)
  reapply   writes what a record holds to the leader again, where nothing else was written since (--force: everywhere)
  remove    removes a record for good

`tanist rollbacks VERB --help` lists the options.
";

pub fn failovers(arguments: &[String]) -> Result<(), Exit> {
    let (flags, _) = parse_any::<FailoversFlags>(arguments, |_| false)?;
    let client = flags.common.client()?;
    let entries = entries(&flags.common.endpoint)?;
    run(async {
        let found = find(&client, &entries).await?;
        let agents: Vec<Endpoint> = found.agents.iter().cloned().collect();
        let answer = client.ask_agency(&agents, "GET", "/_api/tanist/failovers", None, PATIENCE).await;
        let answer = answer.map_err(|e| Exit::failed(format!("the agency can't be asked: {e}")))?;
        let list = result(&answer)?;
        if flags.json {
            println!("{}", serde_json::to_string_pretty(&list).expect("a JSON value can be written"));
        } else {
            print!("{}", failover_table(&list));
        }
        Ok(())
    })
}

/// The `result` of an answer.
fn result(answer: &Answer) -> Result<Vec<Value>, Exit> {
    match answer.json()["result"].as_array() {
        Some(list) if answer.status == 200 => Ok(list.clone()),
        _ => Err(Exit::failed(answer.problem())),
    }
}

fn failover_table(list: &[Value]) -> String {
    let titles = ["BEGUN", "EPOCH", "KIND", "FROM", "TO", "OUTAGE", "AT RISK", "LOST", "WHY"];
    let mut lines = vec![titles.map(str::to_owned)];
    for failover in list {
        let word = |name: &str| failover[name].as_str().unwrap_or("-").to_owned();
        let number = |value: &Value, unit: &str| value.as_u64().map_or("-".to_owned(), |n| format!("{n}{unit}"));
        let loss = &failover["loss"];
        let lost = match (loss["operations"].as_u64(), loss["exact"].as_bool(), loss["whole"].as_bool()) {
            (Some(0), Some(true), _) => "nothing".to_owned(),
            (Some(lost), Some(true), _) => format!("{lost} operations"),
            (Some(_), _, Some(true)) => "a store kept whole".to_owned(),
            (Some(lost), _, _) => format!("at least {lost}"),
            // Nobody led before: nothing can be lost.
            (None, _, _) if failover["server"].is_null() => "-".to_owned(),
            (None, _, _) => "not known yet".to_owned(),
        };
        let at_risk = match failover["ticksAtRisk"].as_u64() {
            _ if failover["acknowledgedLossMax"].is_u64() => format!("at most {}", failover["acknowledgedLossMax"]),
            Some(ticks) if failover["kind"] == "failover" => format!("at least {ticks}"),
            _ => number(&failover["ticksAtRisk"], ""),
        };
        lines.push([
            word("timeCreated"),
            number(&failover["epoch"], ""),
            word("kind"),
            word("fromName"),
            word("toName"),
            number(&failover["outageMs"], " ms"),
            at_risk,
            lost,
            word("reason"),
        ]);
    }
    columns(&lines)
}

pub fn rollbacks(arguments: &[String]) -> Result<(), Exit> {
    let (verb, rest) = match arguments.split_first() {
        Some((verb, rest)) => (verb.as_str(), rest),
        None => ("help", arguments),
    };
    match verb {
        "list" => {
            let (flags, _) = parse_any::<ListFlags>(rest, |_| false)?;
            let (client, entries) = (flags.common.client()?, entries(&flags.common.endpoint)?);
            run(async { list(&client, &find(&client, &entries).await?).await })
        }
        "show" | "export" | "reapply" | "remove" => {
            let (of, _) = parse_any::<RecordFlags>(rest, |_| false)?;
            if (of.force && verb != "reapply") || (of.output.is_some() && verb != "export") {
                return Err(Exit::options("--output is for export, --force for reapply"));
            }
            let (client, entries) = (of.common.client()?, entries(&of.common.endpoint)?);
            run(async {
                let found = find(&client, &entries).await?;
                let server = holder(&client, &found, &of).await?;
                match (verb, &of.output) {
                    ("reapply", _) => reapply(&client, &found, &server, &of).await,
                    ("remove", _) => remove(&client, &server, &of).await,
                    (_, Some(path)) => read(&client, &server, &of, &mut create(path)?).await,
                    (_, None) => read(&client, &server, &of, &mut std::io::stdout()).await,
                }
            })
        }
        "help" | "--help" | "-h" => {
            print!("{ROLLBACKS_HELP}");
            Ok(())
        }
        other => Err(Exit::options(format!("unknown verb '{other}' (tanist rollbacks help lists all)"))),
    }
}

async fn remove(client: &Client, server: &Endpoint, of: &RecordFlags) -> Result<(), Exit> {
    let path = format!("{RECORDS}/{}", encode(&of.id));
    let answer = client.send("DELETE", server, &path, None, &[], PATIENCE).await.map_err(Exit::failed)?;
    if answer.status != 200 {
        return Err(Exit::failed(answer.problem()));
    }
    println!("Removed.");
    Ok(())
}

/// A file for one record; what is there already is never written over.
fn create(path: &Path) -> Result<std::fs::File, Exit> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.map_err(|e| Exit::failed(format!("{}: {e}", path.display())))
}

/// The records of each server that answers.
async fn records(client: &Client, found: &Found) -> Result<Vec<(Endpoint, Value)>, Exit> {
    let mut all = Vec::new();
    for server in &found.servers {
        match client.get(server, RECORDS, PATIENCE).await {
            Ok(answer) => all.extend(result(&answer)?.into_iter().map(|record| (server.clone(), record))),
            Err(problem) => eprintln!("{server} does not answer: {problem}"),
        }
    }
    Ok(all)
}

async fn list(client: &Client, found: &Found) -> Result<(), Exit> {
    let mut lines = vec![["SERVER", "ID", "IN EPOCH", "ENTRIES", "OPERATIONS", "AFTER", "UP TO"].map(str::to_owned)];
    for (server, record) in records(client, found).await? {
        let word = |value: &Value| value.as_u64().map_or("all".to_owned(), |n| n.to_string());
        let position = |value: &Value| match (value["epoch"].as_u64(), value["tick"].as_u64()) {
            (Some(epoch), Some(tick)) => format!("{epoch}/{tick}"),
            _ => "-".to_owned(),
        };
        lines.push([
            server.url(),
            record["id"].as_str().unwrap_or_default().to_owned(),
            word(&record["epoch"]),
            word(&record["entries"]),
            word(&record["operations"]),
            position(&record["common"]),
            position(&record["last"]),
        ]);
    }
    print!("{}", columns(&lines));
    Ok(())
}

/// The server that has the record.
async fn holder(client: &Client, found: &Found, of: &RecordFlags) -> Result<Endpoint, Exit> {
    let wanted = match &of.server {
        None => None,
        Some(name) => {
            let report = report(client, found).await;
            let id = resolve(&report, name)?;
            let rows = report["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
            let row = rows.iter().find(|row| row["status"]["id"] == id || row["agency"]["id"] == id);
            Some(row.and_then(|row| row["endpoint"].as_str()).unwrap_or_default().to_owned())
        }
    };
    let mut holders: Vec<Endpoint> = records(client, found)
        .await?
        .into_iter()
        .filter(|(server, record)| record["id"] == of.id && wanted.as_ref().is_none_or(|wanted| *wanted == *server.0))
        .map(|(server, _)| server)
        .collect();
    match holders.len() {
        1 => Ok(holders.remove(0)),
        0 => Err(Exit::failed(format!("there is no rollback record '{}' (tanist rollbacks list)", of.id))),
        _ => Err(Exit::options(format!("several servers have a record '{}': say which by --server", of.id))),
    }
}

/// Copies a record, page by page.
async fn read(client: &Client, server: &Endpoint, of: &RecordFlags, to: &mut impl Write) -> Result<(), Exit> {
    let mut after: Option<String> = None;
    loop {
        let mut query: Vec<String> = Vec::new();
        query.extend(of.collection.as_ref().map(|name| format!("collection={}", encode(name))));
        query.extend(after.as_ref().map(|after| format!("after={}", encode(after))));
        let path = format!("{RECORDS}/{}?{}", encode(&of.id), query.join("&"));
        let answer = client.get(server, &path, PATIENCE).await.map_err(Exit::failed)?;
        if answer.status != 200 {
            return Err(Exit::failed(answer.problem()));
        }
        to.write_all(&answer.text).map_err(|e| Exit::failed(format!("can't be written: {e}")))?;
        let text = String::from_utf8_lossy(&answer.text);
        let last: Value = text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null);
        after = match (last["epoch"].as_u64(), last["tick"].as_u64(), last["_rev"].as_str()) {
            // A document may have any attributes.
            (_, _, revision) if of.is_store() => revision.filter(|_| of.collection.is_some()).map(str::to_owned),
            (Some(epoch), Some(tick), _) => Some(format!("{epoch}/{tick}")),
            _ => None,
        };
        if after.is_none() {
            return Ok(());
        }
    }
}

/// What became of one thing that was to be written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Reapplied,
    AlreadyThere,
    Conflict,
    Skipped,
    Failed,
}

/// All that a record did to one document.
#[derive(Debug, PartialEq)]
struct Change {
    database: String,
    collection: String,
    key: String,
    before: Value,
    after: Value,
}

/// A record's lines as one change for each document, and the collections that it made; what can't be written again is
/// said.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    /// Database, name, and whether of edges.
    collections: Vec<(String, String, bool)>,
    changes: Vec<Change>,
    skipped: Vec<String>,
}

fn plan(text: &str) -> Plan {
    let mut plan = Plan::default();
    // Where the change of a document is, by where that is.
    let mut known: HashMap<(String, String, String), usize> = HashMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or(Value::Null);
        let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        match (line["type"].as_str(), line["kind"].as_str()) {
            (Some("epoch"), _) => {}
            (Some("collection"), Some("create")) => {
                plan.collections.push((word("database"), word("after"), line["edges"] == true));
            }
            (Some("document"), _) if !word("collection").is_empty() && !word("collection").starts_with('_') => {
                let (database, collection, key) = (word("database"), word("collection"), word("_key"));
                match known.entry((database.clone(), collection.clone(), key.clone())) {
                    Entry::Occupied(at) => plan.changes[*at.get()].after = line["after"].clone(),
                    Entry::Vacant(place) => {
                        place.insert(plan.changes.len());
                        let (before, after) = (line["before"].clone(), line["after"].clone());
                        plan.changes.push(Change { database, collection, key, before, after });
                    }
                }
            }
            (Some(what), kind) => {
                let name = if line["_key"].is_string() { word("_key") } else { word("before") + &word("after") };
                plan.skipped.push(format!("{} of {what} {name}", kind.unwrap_or("change")));
            }
            (None, _) => plan.skipped.push("a line that is no operation".to_owned()),
        }
    }
    plan
}

/// The documents of a collection of a store that was kept whole, each as if it had been inserted: nobody knows what was
/// there before. `collection`: `<database>/<collection>`.
fn plan_of_store(text: &str, collection: &str) -> Option<Plan> {
    let (database, collection) = collection.split_once('/').filter(|(_, name)| !name.starts_with('_'))?;
    let document = |line: &str| -> Option<Change> {
        let after: Value = serde_json::from_str(line).ok()?;
        let key = after["_key"].as_str()?.to_owned();
        let (database, collection) = (database.to_owned(), collection.to_owned());
        Some(Change { database, collection, key, before: Value::Null, after })
    };
    let mut plan = Plan::default();
    for line in text.lines() {
        match document(line) {
            Some(change) => plan.changes.push(change),
            None => plan.skipped.push("a line that is no document".to_owned()),
        }
    }
    Some(plan)
}

/// A document without what the server makes of it.
fn content(document: &Value) -> Value {
    let mut document = document.clone();
    if let Some(members) = document.as_object_mut() {
        for name in ["_rev", "_id", "_key"] {
            members.shift_remove(name);
        }
    }
    document
}

/// What is to be done with a change, given the document as it is now (null if it is not there). `Ok`: write it.
fn judge(change: &Change, now: &Value, force: bool) -> Result<(), Fate> {
    if content(now) == content(&change.after) {
        return Err(Fate::AlreadyThere);
    }
    let unchanged = match (&change.before, now) {
        (Value::Null, Value::Null) => true,
        (before, now) => before["_rev"].is_string() && before["_rev"] == now["_rev"],
    };
    if unchanged || force { Ok(()) } else { Err(Fate::Conflict) }
}

async fn reapply(client: &Client, found: &Found, server: &Endpoint, of: &RecordFlags) -> Result<(), Exit> {
    let whole = of.is_store();
    if whole && of.collection.is_none() {
        let text = "this is a whole store: --collection DATABASE/COLLECTION names what is to be written again \
                    (`tanist rollbacks show` lists its collections)";
        return Err(Exit::options(text));
    }
    let mut text = Vec::new();
    read(client, server, of, &mut text).await?;
    let report = report(client, found).await;
    let leading = leader(&report);
    let rows = report["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = rows.iter().find(|row| leading.is_some() && row["status"]["id"].as_str() == leading);
    let leader = row.and_then(|row| Endpoint::parse(row["endpoint"].as_str()?).ok());
    let leader = &leader.ok_or_else(|| Exit::failed("there is no leader at this moment"))?;
    let text = String::from_utf8_lossy(&text);
    let plan = match of.collection.as_deref().filter(|_| whole) {
        Some(collection) => plan_of_store(&text, collection)
            .ok_or_else(|| Exit::options("--collection is DATABASE/COLLECTION, and no system collection"))?,
        None => plan(&text),
    };
    let mut fates: Vec<(Fate, String)> = plan.skipped.iter().map(|what| (Fate::Skipped, what.clone())).collect();
    for (database, name, edges) in &plan.collections {
        let path = format!("/_db/{}/_api/collection", encode(database));
        let body = json!({"name": name, "type": if *edges { 3 } else { 2 }});
        let answer = client.send("POST", leader, &path, Some(&body), &[], PATIENCE).await.map_err(Exit::failed)?;
        let fate = match answer.status {
            200 => Fate::Reapplied,
            409 => Fate::AlreadyThere,
            _ => Fate::Failed,
        };
        fates.push((fate, format!("collection {database}/{name}")));
    }
    for change in &plan.changes {
        let name = format!("{}/{}/{}", change.database, change.collection, change.key);
        fates.push(match write_again(client, leader, change, of.force).await {
            Ok(fate) => (fate, name),
            Err(problem) => (Fate::Failed, format!("{name}: {problem}")),
        });
    }
    fates.sort();
    for (fate, name) in fates.iter().filter(|(fate, _)| *fate > Fate::AlreadyThere) {
        println!("{fate:?}: {name}");
    }
    let count = |fate: Fate| fates.iter().filter(|(other, _)| *other == fate).count().to_string();
    let titles = ["REAPPLIED", "ALREADY THERE", "CONFLICTS", "SKIPPED", "FAILED"].map(str::to_owned);
    let all = [Fate::Reapplied, Fate::AlreadyThere, Fate::Conflict, Fate::Skipped, Fate::Failed];
    print!("{}", columns(&[titles, all.map(count)]));
    if fates.iter().any(|(fate, _)| *fate > Fate::AlreadyThere) {
        return Err(Exit::failed("not everything was written again"));
    }
    Ok(())
}

async fn write_again(client: &Client, leader: &Endpoint, change: &Change, force: bool) -> Result<Fate, String> {
    let collection = format!("/_db/{}/_api/document/{}", encode(&change.database), encode(&change.collection));
    let path = format!("{collection}/{}", encode(&change.key));
    let answer = client.get(leader, &path, PATIENCE).await?;
    let now = match (answer.status, answer.json()["errorNum"].as_u64()) {
        (200, _) => answer.json(),
        (404, Some(1202)) => Value::Null,
        _ => return Err(answer.problem()),
    };
    if let Err(fate) = judge(change, &now, force) {
        return Ok(fate);
    }
    let mut body = content(&change.after);
    // Whoever writes between our look and our write is not written over.
    let condition = now["_rev"].as_str().map(|revision| format!("\"{revision}\""));
    let headers: Vec<(&str, &str)> = condition.iter().map(|revision| ("if-match", revision.as_str())).collect();
    let answer = match (&now, &change.after) {
        (Value::Null, Value::Null) => return Ok(Fate::AlreadyThere),
        (Value::Null, _) => {
            body["_key"] = change.key.as_str().into();
            client.send("POST", leader, &collection, Some(&body), &[], PATIENCE).await?
        }
        (_, Value::Null) => client.send("DELETE", leader, &path, None, &headers, PATIENCE).await?,
        _ => client.send("PUT", leader, &path, Some(&body), &headers, PATIENCE).await?,
    };
    match answer.status {
        200..=202 => Ok(Fate::Reapplied),
        409 | 412 => Ok(Fate::Conflict),
        _ => Err(answer.problem()),
    }
}

/// A name as a segment of a path, or a value of a query.
fn encode(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_becomes_one_change_for_each_document() {
        let text = r#"{"epoch":2,"tick":7,"type":"epoch","begins":2}
{"epoch":2,"tick":8,"type":"collection","kind":"create","database":"_system","edges":false,"before":null,"after":"c"}
{"epoch":2,"tick":9,"type":"document","kind":"insert","database":"_system","collection":"c","_key":"k","before":null,"after":{"a":1,"_rev":"r1"}}
{"epoch":2,"tick":10,"type":"document","kind":"replace","database":"_system","collection":"c","_key":"k","before":{"a":1,"_rev":"r1"},"after":{"a":2,"_rev":"r2"}}
{"epoch":2,"tick":11,"type":"document","kind":"insert","database":"_system","collection":"_users","_key":"u","before":null,"after":{"_rev":"r3"}}
{"epoch":2,"tick":12,"type":"collection","kind":"drop","database":"_system","edges":false,"before":"d","after":null}"#;
        let plan = plan(text);
        assert_eq!(plan.collections, [("_system".to_owned(), "c".to_owned(), false)]);
        assert_eq!(plan.changes.len(), 1);
        assert_eq!((&plan.changes[0].before, &plan.changes[0].after["a"]), (&Value::Null, &json!(2)));
        assert_eq!(plan.skipped, ["insert of document u", "drop of collection d"]);
    }

    #[test]
    fn a_store_that_was_kept_whole_is_written_again_by_collections() {
        let text = r#"{"_key":"a","_id":"c/a","_rev":"r1","n":1}
{"_key":"b","_id":"c/b","_rev":"r2","n":2}"#;
        let plan = plan_of_store(text, "shop/c").unwrap();
        let keys: Vec<&str> = plan.changes.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(keys, ["a", "b"]);
        let change = &plan.changes[0];
        assert_eq!((change.database.as_str(), change.collection.as_str()), ("shop", "c"));
        assert_eq!(judge(change, &Value::Null, false), Ok(()));
        assert_eq!(judge(change, &json!({"_key": "a", "_rev": "r9", "n": 1}), false), Err(Fate::AlreadyThere));
        assert_eq!(judge(change, &json!({"_key": "a", "_rev": "r9", "n": 7}), false), Err(Fate::Conflict));
        assert_eq!(plan_of_store(text, "c"), None);
        assert_eq!(plan_of_store(text, "_system/_users"), None);
        assert_eq!(plan_of_store("nonsense", "shop/c").unwrap().skipped.len(), 1);
    }

    #[test]
    fn only_what_nobody_has_written_since_is_written_again() {
        let change = |before: Value, after: Value| Change {
            database: "_system".into(),
            collection: "c".into(),
            key: "k".into(),
            before,
            after,
        };
        let document = |a: u32, rev: &str| json!({"_key": "k", "_id": "c/k", "_rev": rev, "a": a});
        let inserted = change(Value::Null, json!({"a": 1, "_rev": "r1"}));
        let replaced = change(json!({"a": 1, "_rev": "r1"}), json!({"a": 2, "_rev": "r2"}));
        let removed = change(json!({"a": 1, "_rev": "r1"}), Value::Null);
        assert_eq!(judge(&inserted, &Value::Null, false), Ok(()));
        assert_eq!(judge(&inserted, &document(1, "r9"), false), Err(Fate::AlreadyThere));
        assert_eq!(judge(&inserted, &document(5, "r9"), false), Err(Fate::Conflict));
        assert_eq!(judge(&inserted, &document(5, "r9"), true), Ok(()));
        assert_eq!(judge(&replaced, &document(1, "r1"), false), Ok(()));
        assert_eq!(judge(&replaced, &document(1, "r8"), false), Err(Fate::Conflict), "written again meanwhile");
        assert_eq!(judge(&replaced, &Value::Null, false), Err(Fate::Conflict));
        assert_eq!(judge(&removed, &document(1, "r1"), false), Ok(()));
        assert_eq!(judge(&removed, &Value::Null, false), Err(Fate::AlreadyThere));
    }

    #[test]
    fn failovers_are_told_in_a_table() {
        let list = [
            json!({"timeCreated": "2026-01-01T00:00:05Z", "epoch": 3, "kind": "failover", "server": "SNGL-1",
                "fromName": "Single0001", "toName": "Single0002", "outageMs": 21, "ticksAtRisk": 2,
                "loss": {"operations": 3, "exact": true, "whole": false}, "reason": "the process of SNGL-1 is dead"}),
            json!({"timeCreated": "2026-01-01T00:00:01Z", "epoch": 1, "kind": "first", "server": null,
                "fromName": null, "toName": "Single0001", "outageMs": null, "ticksAtRisk": null, "loss": null,
                "reason": "nobody has led yet"}),
        ];
        let expected = "\
BEGUN                 EPOCH  KIND      FROM        TO          OUTAGE  AT RISK     LOST          WHY
2026-01-01T00:00:05Z  3      failover  Single0001  Single0002  21 ms   at least 2  3 operations  the process of SNGL-1 is dead
2026-01-01T00:00:01Z  1      first     -           Single0001  -       -           -             nobody has led yet
";
        assert_eq!(failover_table(&list), expected);
    }

    #[test]
    fn names_are_encoded_for_paths() {
        assert_eq!(encode("a-b_c/ü"), "a-b_c%2F%C3%BC");
    }
}
