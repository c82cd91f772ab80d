//! How far a server is: ArangoDB's read-only replication routes, and Tanist's own status and rollback records.
//!
//! Ticks and server ids are decimal strings, as ArangoDB has them. Replication itself does not go through here.

use super::*;
use crate::db::log::{self, Image, LogOp};
use crate::http::ContentType;
use crate::message::Entry;
use crate::types::{Epoch, Position};
use serde_json::json;
use std::collections::BTreeMap;

/// ArangoDB's 48-bit number of a server, which is not its id.
fn id_number(call: &Call<'_, '_>) -> String {
    (call.run.view.me.id.uuid as u64 & 0xffff_ffff_ffff).to_string()
}

fn server(call: &Call<'_, '_>) -> Value {
    json!({"version": VERSION, "serverId": id_number(call)})
}

pub(super) fn server_id(call: &mut Call<'_, '_>) -> Answer {
    Ok(Response::json(200, &json!({"serverId": id_number(call)})).into())
}

pub(super) fn logger_state(call: &mut Call<'_, '_>) -> Answer {
    let last = call.reader().last()?.tick.0;
    let time = iso8601(call.run.now.wall_ms);
    let mut server = server(call);
    server["engine"] = "rocksdb".into();
    let clients: Vec<Value> = call
        .run
        .view
        .replication
        .followers
        .iter()
        .map(|(peer, durable)| {
            json!({
                "syncerId": "0",
                "serverId": (peer.id.uuid as u64 & 0xffff_ffff_ffff).to_string(),
                "clientInfo": peer.endpoint.0,
                "time": time,
                "expires": time,
                "lastServedTick": durable.tick.0.to_string(),
            })
        })
        .collect();
    let state = json!({
        "running": true,
        "lastLogTick": last.to_string(),
        "lastUncommittedLogTick": last.to_string(),
        "totalEvents": last,
        "time": time,
    });
    Ok(Response::json(200, &json!({"state": state, "server": server, "clients": clients})).into())
}

pub(super) fn logger_first_tick(call: &mut Call<'_, '_>) -> Answer {
    let first = call.reader().log_first()?.0;
    Ok(Response::json(200, &json!({"firstTick": first.to_string()})).into())
}

pub(super) fn logger_tick_ranges(call: &mut Call<'_, '_>) -> Answer {
    let (first, last) = (call.reader().log_first()?.0, call.reader().last()?.tick.0);
    let range = json!({
        "datafile": "log",
        "status": "open",
        "tickMin": first.to_string(),
        "tickMax": last.to_string(),
    });
    Ok(Response::json(200, &json!([range])).into())
}

/// With `global` (and always in `_system`) it is about the applier of this server; other databases have none.
pub(super) fn applier_state(call: &mut Call<'_, '_>) -> Answer {
    let global = call.flag("global", false);
    if global && call.database.name != SYSTEM {
        return Err(errors::USE_SYSTEM_DATABASE.into());
    }
    let body = applier(call, global)?;
    Ok(Response::json(200, &body).into())
}

pub(super) fn applier_state_all(call: &mut Call<'_, '_>) -> Answer {
    let mut all = Map::new();
    for database in call.reader().databases()? {
        all.insert(database.name, applier(call, false)?);
    }
    Ok(Response::json(200, &Value::Object(all)).into())
}

fn applier(call: &Call<'_, '_>, global: bool) -> Result<Value, Failure> {
    let view = &call.run.view;
    let replication = &view.replication;
    let follows = global && view.mode == Mode::Redirect;
    let running = follows && replication.running;
    let time = iso8601(call.run.now.wall_ms);
    let tick = |position: Position| if follows { json!(position.tick.0.to_string()) } else { Value::Null };
    let last = call.reader().last()?;
    let available = replication.leader_last.max(last);
    let phase = match (follows && replication.copying, running) {
        (true, _) => "initial",
        (false, true) => "running",
        (false, false) => "inactive",
    };
    let message = match phase {
        "initial" => "copying everything from the leader",
        "running" => "tailing the leader's log",
        _ => "not replicating",
    };
    let mut state = json!({
        "started": time,
        "running": running,
        "phase": phase,
        "lastAppliedContinuousTick": tick(last),
        "lastProcessedContinuousTick": tick(last),
        "lastAvailableContinuousTick": tick(available),
        "safeResumeTick": tick(last),
        "progress": {"time": time, "message": message, "failedConnects": 0},
        "lastError": {"errorNum": 0},
        "time": time,
    });
    if running {
        state["ticksBehind"] = (available.tick.0 - last.tick.0.min(available.tick.0)).into();
    }
    let mut body = json!({"state": state, "server": server(call)});
    if follows && let Some(leader) = &view.leader {
        body["endpoint"] = leader.endpoint.0.as_ref().into();
    }
    if !global {
        body["database"] = call.database.name.as_str().into();
    }
    Ok(body)
}

/// Followers of other makes can't be served.
pub(super) fn no_command(call: &mut Call<'_, '_>) -> Answer {
    let known = ["inventory", "dump", "batch", "logger-follow", "applier-config", "clusterInventory"];
    if known.contains(&call.open[0].as_str()) {
        return Err(errors::NOT_IMPLEMENTED.because("servers replicate over their own protocol").into());
    }
    Err(errors::HTTP_BAD_PARAMETER.says("invalid command").into())
}

pub(super) fn wal_range(call: &mut Call<'_, '_>) -> Answer {
    let (first, last) = (call.reader().log_first()?.0, call.reader().last()?.tick.0);
    let body = json!({
        "time": iso8601(call.run.now.wall_ms),
        "tickMin": first.to_string(),
        "tickMax": last.to_string(),
        "server": server(call),
    });
    Ok(Response::json(200, &body).into())
}

pub(super) fn wal_last_tick(call: &mut Call<'_, '_>) -> Answer {
    let last = call.reader().last()?.tick.0;
    let body = json!({"time": iso8601(call.run.now.wall_ms), "tick": last.to_string(), "server": server(call)});
    Ok(Response::json(200, &body).into())
}

// ---- Tanist's own ---------------------------------------------------------------------------------------------------

fn position(position: Position) -> Value {
    json!({"epoch": position.epoch.0, "tick": position.tick.0})
}

/// What `tanist status` shows.
pub(super) fn status(call: &mut Call<'_, '_>) -> Answer {
    let view = &call.run.view;
    let last = call.reader().last()?;
    let leads = call.leads();
    let role = match view.mode {
        Mode::Default if leads => "leader",
        Mode::Default | Mode::TryAgain => "undecided",
        Mode::Redirect => "follower",
        Mode::Maintenance => "starting",
        Mode::Stopping => "stopping",
    };
    let leader = if leads { Some(&view.me) } else { view.leader.as_ref() };
    let lease_left_ms = match (leads, view.standalone) {
        (true, false) => json!(view.lease_end.since(call.run.now.time).as_millis() as u64),
        _ => Value::Null,
    };
    let followers: Vec<Value> = view
        .replication
        .followers
        .iter()
        .map(|(peer, durable)| {
            let lag = last.tick.0.saturating_sub(durable.tick.0);
            json!({"id": peer.id.to_string(), "endpoint": peer.endpoint.0, "durable": position(*durable), "lag": lag})
        })
        .collect();
    let members: Vec<Value> = view
        .members
        .iter()
        .map(|member| {
            json!({
                "id": member.peer.id.to_string(),
                "endpoint": member.peer.endpoint.0,
                "shortName": member.short_name,
                "health": member.health.as_str(),
                "last": position(member.last),
            })
        })
        .collect();
    let history: Vec<Value> = call
        .reader()
        .history()?
        .iter()
        .map(|row| json!({"epoch": row.epoch.0, "first": row.first.0, "lineage": format!("{:016x}", row.lineage.0)}))
        .collect();
    let peer = |peer: &crate::message::Peer| json!({"id": peer.id.to_string(), "endpoint": peer.endpoint.0});
    let body = json!({
        "id": view.me.id.to_string(),
        "endpoint": view.me.endpoint.0,
        "version": env!("CARGO_PKG_VERSION"),
        "role": role,
        "standalone": view.standalone,
        "readOnly": view.read_only,
        "epoch": view.epoch.0,
        "boot": view.boot.0,
        "leaseLeftMs": lease_left_ms,
        "leader": leader.map(peer),
        "last": position(last),
        "leaderLast": position(view.replication.leader_last.max(last)),
        "replicating": view.replication.running,
        "copying": view.replication.copying,
        "followers": followers,
        "members": members,
        "agents": view.agents.iter().map(peer).collect::<Vec<_>>(),
        "history": history,
    });
    ok(200, body)
}

// ---- rollback records -----------------------------------------------------------------------------------------------
//
// What a rollback took away is kept: entries that were undone one by one, as a record for each epoch in which that
// happened, and stores that were replaced whole, because their tail could not be undone.

/// Documents of a kept store in one answer stop at about this many bytes; the client goes on after the last one.
const PAGE_BYTES_MAX: usize = 16 << 20;
const STORE: &str = "store-";

fn records(call: &Call<'_, '_>) -> Result<BTreeMap<Epoch, Vec<Entry>>, Failure> {
    let mut records: BTreeMap<Epoch, Vec<Entry>> = BTreeMap::new();
    for (epoch, entry) in call.reader().rolled_back(usize::MAX)? {
        records.entry(epoch).or_default().push(entry);
    }
    Ok(records)
}

pub(super) fn rollbacks(call: &mut Call<'_, '_>) -> Answer {
    let mut list = Vec::new();
    for (epoch, entries) in records(call)? {
        let mut operations = 0;
        for entry in &entries {
            operations += log::operations(entry)?.len();
        }
        let positions = entries.iter().map(Entry::position);
        list.push(json!({
            "id": epoch.0.to_string(),
            "epoch": epoch.0,
            "entries": entries.len(),
            "operations": operations,
            "first": positions.clone().min().map(position),
            "last": positions.max().map(position),
        }));
    }
    for store in call.reader().kept_stores()? {
        let id = format!("{STORE}{}", store.generation);
        list.push(json!({"id": id, "epoch": store.epoch.0, "last": position(store.last)}));
    }
    ok(200, list.into())
}

/// One operation a line, in the order in which they had been made; for a kept store its collections, or with
/// `collection=<database>/<collection>` the documents of one, after the one with the revision `after`.
pub(super) fn rollback(call: &mut Call<'_, '_>) -> Answer {
    let missing = || Failure::from(errors::HTTP_NOT_FOUND.says("no such rollback record"));
    let id = call.open[0].clone();
    let text = if let Some(generation) = id.strip_prefix(STORE) {
        let generation: u32 = generation.parse().map_err(|_| missing())?;
        let known = call.reader().kept_stores()?.iter().any(|store| store.generation == generation);
        if !known {
            return Err(missing());
        }
        kept_store(call, generation)?
    } else {
        let epoch = id.parse::<u64>().map_err(|_| missing())?;
        let entries = records(call)?.remove(&Epoch(epoch)).ok_or_else(missing)?;
        undone(call, entries)?
    };
    Ok(Response { content_type: ContentType::Dump, ..Response::raw(200, text) }.into())
}

fn undone(call: &Call<'_, '_>, mut entries: Vec<Entry>) -> Result<String, Failure> {
    entries.sort_by_key(Entry::position);
    let mut operations = Vec::new();
    for entry in &entries {
        operations.extend(log::operations(entry)?.into_iter().map(|op| (entry.position(), op)));
    }
    // Documents name the object that they were in; people know collections by name.
    let mut names: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    let mut databases: BTreeMap<u64, String> = BTreeMap::new();
    for database in call.reader().databases()? {
        for row in call.reader().collections(database.id)? {
            names.insert(row.object, (database.id, row.name));
        }
        databases.insert(database.id, database.name);
    }
    for (_, op) in &operations {
        match op {
            LogOp::Collection { before, after } => {
                for row in [before, after].into_iter().flatten() {
                    names.insert(row.object, (row.database, row.name.clone()));
                }
            }
            LogOp::Database { before, after } => {
                for row in [before, after].into_iter().flatten() {
                    databases.insert(row.id, row.name.clone());
                }
            }
            LogOp::Epoch(_) | LogOp::Document { .. } => {}
        }
    }
    let mut text = String::new();
    for (at, op) in &operations {
        let mut line = json!({"epoch": at.epoch.0, "tick": at.tick.0});
        describe(op, &names, &databases, &mut line);
        text += &line.to_string();
        text.push('\n');
    }
    Ok(text)
}

fn describe(op: &LogOp, names: &BTreeMap<u64, (u64, String)>, databases: &BTreeMap<u64, String>, line: &mut Value) {
    let image = |image: &Option<Image>| match image {
        None => Value::Null,
        Some(image) => {
            let mut document: Value = serde_json::from_slice(&image.body).unwrap_or(Value::Null);
            if document.is_object() {
                document["_rev"] = image.revision.encode().into();
            }
            document
        }
    };
    let name = |name: Option<&String>| name.map_or(Value::Null, |name| name.as_str().into());
    match op {
        LogOp::Epoch(row) => {
            line["type"] = "epoch".into();
            line["begins"] = row.epoch.0.into();
        }
        LogOp::Database { before, after } => {
            line["type"] = "database".into();
            line["before"] = name(before.as_ref().map(|row| &row.name));
            line["after"] = name(after.as_ref().map(|row| &row.name));
        }
        LogOp::Collection { before, after } => {
            line["type"] = "collection".into();
            let database = after.as_ref().or(before.as_ref()).and_then(|row| databases.get(&row.database));
            line["database"] = name(database);
            line["before"] = name(before.as_ref().map(|row| &row.name));
            line["after"] = name(after.as_ref().map(|row| &row.name));
        }
        LogOp::Document { object, key, before, after } => {
            line["type"] = "document".into();
            let found = names.get(object);
            line["database"] = name(found.and_then(|(database, _)| databases.get(database)));
            line["collection"] = name(found.map(|(_, name)| name));
            line["_key"] = key.as_str().into();
            line["before"] = image(before);
            line["after"] = image(after);
        }
    }
}

fn kept_store(call: &Call<'_, '_>, generation: u32) -> Result<String, Failure> {
    let store = Reader::of_generation(call.reader().rows, generation);
    let mut text = String::new();
    let Some(wanted) = call.request().query("collection") else {
        for database in store.databases()? {
            for row in store.collections(database.id)? {
                let count = store.count(&row)?;
                text += &json!({"database": database.name, "collection": row.name, "count": count}).to_string();
                text.push('\n');
            }
        }
        return Ok(text);
    };
    let (database, name) = wanted.split_once('/').unwrap_or((SYSTEM, &wanted));
    let bounded = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len());
    let database = if bounded(database) { store.database(database)? } else { None };
    let database = database.ok_or(errors::DATABASE_NOT_FOUND)?;
    let row = if bounded(name) { store.collection(database.id, name)? } else { None };
    let row = row.ok_or_else(|| errors::DATA_SOURCE_NOT_FOUND.because(name))?;
    let after = call.request().query("after").and_then(|after| Revision::decode(&after));
    let mut lines = Vec::new();
    for document in store.scan_documents(&row, after) {
        document?.write_json(&row.name, &mut lines);
        lines.push(b'\n');
        if lines.len() > PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&lines).into_owned())
}
