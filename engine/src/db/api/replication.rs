//! How far a server is: ArangoDB's read-only replication routes, and Tanist's own status.
//!
//! Ticks and server ids are decimal strings, as ArangoDB has them. Replication itself does not go through here.

use super::*;
use crate::dumps::Batches;
use crate::http::ContentType;
use crate::types::Position;
use serde_json::json;

/// ArangoDB's default.
const BATCH_TTL_S: f64 = 300.0;
const BATCH_TTL_S_MAX: f64 = 24.0 * 3600.0;

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
    Ok(Response::json(200, &json!({"state": state(call)?, "server": server, "clients": clients})).into())
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

/// Whom a server follows is decided by the deployment, and nobody else.
pub(super) fn no_applier(_: &mut Call<'_, '_>) -> Answer {
    Err(errors::NOT_IMPLEMENTED.because("servers replicate over their own protocol").into())
}

/// ArangoDB's defaults, for there is nothing to configure.
pub(super) fn applier_config(call: &mut Call<'_, '_>) -> Answer {
    let mut body = json!({
        "requestTimeout": 600, "connectTimeout": 10, "ignoreErrors": 0, "maxConnectRetries": 100,
        "lockTimeoutRetries": 0, "sslProtocol": 0, "chunkSize": 0, "skipCreateDrop": false, "autoStart": false,
        "adaptivePolling": true, "autoResync": false, "autoResyncRetries": 2, "maxPacketSize": 536_870_912,
        "includeSystem": true, "includeFoxxQueues": false, "requireFromPresent": true, "verbose": false,
        "incremental": false, "restrictType": "", "restrictCollections": [], "connectionRetryWaitTime": 15,
        "initialSyncMaxWaitTime": 300, "idleMinWaitTime": 1, "idleMaxWaitTime": 2.5
    });
    if !call.flag("global", false) {
        body["database"] = call.database.name.as_str().into();
    }
    Ok(Response::json(200, &body).into())
}

/// Only what is committed is in the log.
pub(super) fn open_transactions(_: &mut Call<'_, '_>) -> Answer {
    Ok(Response::json(200, &json!([])).into())
}

/// Followers of other makes can't be served.
pub(super) fn no_command(call: &mut Call<'_, '_>) -> Answer {
    if call.open[0] == "clusterInventory" {
        return Err(errors::ONLY_ON_COORDINATOR.into());
    }
    if ["keys", "revisions"].contains(&call.open[0].as_str()) {
        return no_applier(call);
    }
    Err(errors::HTTP_BAD_PARAMETER.says("invalid command").into())
}

// ---- what there is, for tools that copy or list it ------------------------------------------------------------------

/// For how long a batch is kept that nobody asks for.
fn ttl(call: &Call<'_, '_>) -> Result<Duration, Failure> {
    let seconds = call.json()?.get("ttl").and_then(Value::as_f64).filter(|seconds| *seconds > 0.0);
    Ok(Duration::from_secs_f64(seconds.unwrap_or(BATCH_TTL_S).min(BATCH_TTL_S_MAX)))
}

/// Nothing is held back for a batch: it tells a tick from which `wal/tail` goes on.
pub(super) fn begin_batch(call: &mut Call<'_, '_>) -> Answer {
    let (ttl, now, id) = (ttl(call)?, call.attendant.now().time, call.chance() >> 12);
    if !call.queries(|queries| queries.batches.begin(id, ttl, now)) {
        return Err(errors::RESOURCE_LIMIT.because("there are too many batches").into());
    }
    let last = call.reader().last()?.tick.0.to_string();
    Ok(Response::json(200, &json!({"id": id.to_string(), "lastTick": last, "state": state(call)?})).into())
}

pub(super) fn keep_batch(call: &mut Call<'_, '_>) -> Answer {
    let (ttl, now) = (ttl(call)?, call.attendant.now().time);
    with_batch(call, |batches, id| batches.keep(id, ttl, now))
}

pub(super) fn end_batch(call: &mut Call<'_, '_>) -> Answer {
    let now = call.attendant.now().time;
    with_batch(call, |batches, id| batches.end(id, now))
}

/// Does something with a batch, if it is there.
fn with_batch(call: &Call<'_, '_>, act: impl FnOnce(&mut Batches, u64) -> bool) -> Answer {
    match call.open[0].parse::<u64>().is_ok_and(|id| call.queries(|queries| act(&mut queries.batches, id))) {
        true => Ok(Response::empty(204).into()),
        false => Err(errors::CURSOR_NOT_FOUND.into()),
    }
}

/// Of this database, or with `global`, in `_system`, of all: as much of it as the user may see.
pub(super) fn inventory(call: &mut Call<'_, '_>) -> Answer {
    let (global, with_system) = (call.flag("global", false), call.flag("includeSystem", true));
    if global && call.database.name != SYSTEM {
        return Err(errors::USE_SYSTEM_DATABASE.into());
    }
    let mut body = if global {
        let mut databases = Map::new();
        for database in call.reader().databases()? {
            if call.database_level(&database.name) == Level::None {
                continue;
            }
            let mut shown = contents(call, &database, with_system)?;
            shown["id"] = database.id.to_string().into();
            shown["name"] = database.name.as_str().into();
            databases.insert(database.name, shown);
        }
        json!({"databases": databases})
    } else {
        contents(call, &call.database, with_system)?
    };
    body["state"] = state(call)?;
    body["tick"] = call.reader().last()?.tick.0.to_string().into();
    Ok(Response::json(200, &body).into())
}

/// The documents of a collection, a line each, in one answer.
pub(super) fn dump(call: &mut Call<'_, '_>) -> Answer {
    let name = call.request().query("collection").unwrap_or_default();
    let row = call.collection(&name, Level::Ro)?;
    let envelope = call.flag("useEnvelope", true);
    let mut lines = Vec::new();
    for_each_document(&call.reader(), &row, |document| {
        if envelope {
            lines.extend_from_slice(br#"{"type":2300,"data":"#);
        }
        document.write_json(&row.name, &mut lines);
        lines.extend_from_slice(if envelope { b"}\n" } else { b"\n" });
        if lines.len() > simple::ANSWER_BYTES_MAX {
            return Err(errors::RESOURCE_LIMIT.because("the collection is too big for one answer").into());
        }
        Ok(true)
    })?;
    let status = if lines.is_empty() { 204 } else { 200 };
    let last = call.reader().last()?.tick.0.to_string();
    let response = Response { content_type: ContentType::Dump, ..Response::raw(status, lines) }
        .with_header("x-arango-replication-checkmore", "false")
        .with_header("x-arango-replication-lastincluded", last);
    Ok(response.into())
}

fn contents(call: &Call<'_, '_>, database: &DatabaseRow, with_system: bool) -> Result<Value, Failure> {
    let reader = call.reader();
    let mut collections = Vec::new();
    for row in reader.collections(database.id)?.iter().filter(|row| with_system || !row.system) {
        if call.collection_level_in(&database.name, &row.name) == Level::None {
            continue;
        }
        let mut parameters = collection::full(&reader, row)?;
        parameters["cid"] = row.id.to_string().into();
        parameters["deleted"] = false.into();
        let mut indexes = index::list(&reader, row, false)?;
        indexes.retain(|index| !["primary", "edge"].contains(&index["type"].as_str().unwrap_or_default()));
        collections.push(json!({"parameters": parameters, "indexes": indexes}));
    }
    let views = reader.views(database.id)?;
    let views = views.iter().map(|row| view::full(&reader, row)).collect::<StoreResult<Vec<_>>>()?;
    Ok(json!({
        "properties": {"id": database.id.to_string(), "name": database.name},
        "collections": collections,
        "views": views,
    }))
}

fn state(call: &Call<'_, '_>) -> Result<Value, Failure> {
    let last = call.reader().last()?.tick.0;
    Ok(json!({
        "running": true,
        "lastLogTick": last.to_string(),
        "lastUncommittedLogTick": last.to_string(),
        "totalEvents": last,
        "time": iso8601(call.run.now.wall_ms),
    }))
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

pub(super) fn position(position: Position) -> Value {
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
        "rollbacks": rollback::count(call)?,
    });
    ok(200, body)
}
