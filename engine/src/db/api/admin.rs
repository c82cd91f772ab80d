//! What a server tells of itself, and what it asks the agency for an operator.

use super::*;
use crate::io::{AgencyAnswer, View};
use crate::message::{Health, Member};
use serde_json::json;

/// ArangoDB's number for the version, as in `Current/ServersRegistered`.
const VERSION_NUMBER: u32 = 31114;
const MAINTENANCE_SECONDS: u64 = 3600;
const MAINTENANCE_SECONDS_MAX: u64 = 30 * 24 * 3600;

// ---- who this is ----------------------------------------------------------------------------------------------------

/// There is no web interface to send a browser to.
pub(super) fn root(_: &mut Call<'_, '_>) -> Answer {
    Ok(Response::text(200, format!("Tanist, speaking ArangoDB {VERSION}'s HTTP API. See /_api/version.\n")).into())
}

/// Exactly three members unless details are asked for: tools count them.
pub(super) fn version(call: &mut Call<'_, '_>) -> Answer {
    let mut body = json!({"server": "arango", "license": "community", "version": VERSION});
    if call.flag("details", false) {
        body["details"] = json!({
            "architecture": if cfg!(target_pointer_width = "64") { "64bit" } else { "32bit" },
            "build-date": "unknown",
            "debug": cfg!(debug_assertions).to_string(),
            "host": call.run.view.me.id.to_string(),
            "icu-version": "none",
            "license": "community",
            "mode": "server",
            "openssl-version-compile-time": "none",
            "role": "SINGLE",
            "server-version": VERSION,
            "tanist-version": env!("CARGO_PKG_VERSION"),
            "v8-version": "none",
            "version-number": VERSION_NUMBER.to_string(),
        });
    }
    Ok(Response::json(200, &body).into())
}

pub(super) fn engine(_: &mut Call<'_, '_>) -> Answer {
    let supports = json!({"dfdb": false, "indexes": ["primary", "edge", "hash", "skiplist", "ttl", "persistent", "geo", "fulltext", "zkd", "inverted"], "aliases": {"indexes": {"hash": "persistent", "skiplist": "persistent"}}});
    Ok(Response::json(200, &json!({"name": "rocksdb", "supports": supports})).into())
}

/// ArangoDB tells of RocksDB here, of which there is nothing.
pub(super) fn engine_stats(_: &mut Call<'_, '_>) -> Answer {
    Ok(Response::json(200, &json!({"cache.limit": 0, "cache.allocated": 0, "columnFamilies": {}})).into())
}

/// Where this server listens.
pub(super) fn own_endpoints(call: &mut Call<'_, '_>) -> Answer {
    if call.database.name != SYSTEM {
        return Err(errors::USE_SYSTEM_DATABASE.into());
    }
    Ok(Response::json(200, &json!([{"endpoint": call.run.view.me.endpoint.url()}])).into())
}

/// Without `errorNum`: python-arango takes any answer that has one for an error.
pub(super) fn role(call: &mut Call<'_, '_>) -> Answer {
    let mode = if call.run.view.standalone { "default" } else { "resilient" };
    ok(200, json!({"role": "SINGLE", "mode": mode}))
}

/// The version that the data is at.
pub(super) fn target_version(_: &mut Call<'_, '_>) -> Answer {
    ok(200, json!({"version": VERSION_NUMBER.to_string()}))
}

fn mode_name(view: &View) -> &'static str {
    if view.read_only { "readonly" } else { "default" }
}

pub(super) fn availability(call: &mut Call<'_, '_>) -> Answer {
    if call.leads() {
        return ok(200, json!({"mode": mode_name(&call.run.view)}));
    }
    Err(errors::HTTP_SERVICE_UNAVAILABLE.into())
}

pub(super) fn mode(call: &mut Call<'_, '_>) -> Answer {
    ok(200, json!({"mode": mode_name(&call.run.view)}))
}

/// Only servers of a cluster have one.
pub(super) fn server_id(_: &mut Call<'_, '_>) -> Answer {
    Err(errors::INTERNAL.into())
}

pub(super) fn status(call: &mut Call<'_, '_>) -> Answer {
    let view = &call.run.view;
    let mut info = json!({
        "maintenance": view.mode == Mode::Maintenance,
        "role": "SINGLE",
        "writeOpsEnabled": !view.read_only,
        "readOnly": view.read_only,
        "progress": {"phase": "in wait", "feature": "", "recoveryTick": 0},
    });
    let mut body = json!({
        "server": "arango",
        "version": VERSION,
        "license": "community",
        "mode": "server",
        "operationMode": "server",
        "foxxApi": false,
        "host": view.me.id.to_string(),
    });
    if !view.standalone {
        info["persistedId"] = view.me.id.to_string().into();
        info["rebootId"] = view.boot.0.into();
        info["address"] = view.me.endpoint.0.as_ref().into();
        info["serverId"] = view.me.id.to_string().into();
        info["state"] = "SERVING".into();
        let agents: Vec<&str> = view.agents.iter().map(|agent| agent.endpoint.0.as_ref()).collect();
        body["agency"] = json!({"agencyComm": {"endpoints": agents}});
    }
    body["serverInfo"] = info;
    Ok(Response::json(200, &body).into())
}

pub(super) fn time(call: &mut Call<'_, '_>) -> Answer {
    ok(200, json!({"time": call.run.now.wall_ms as f64 / 1000.0}))
}

pub(super) fn echo(call: &mut Call<'_, '_>) -> Answer {
    let request = call.request();
    let (_, path) = request.split_database();
    let headers: Map<String, Value> = request
        .headers
        .iter()
        .filter(|(name, _)| name != header::AUTHORIZATION)
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    let user = match &call.who {
        Who::User(user) => Value::from(user.name.as_str()),
        Who::Superuser | Who::Nobody => Value::Null,
    };
    let body = json!({
        "authorized": call.who != Who::Nobody,
        "user": user,
        "database": call.database.name,
        "url": request.target,
        "protocol": "http",
        "path": path,
        "prefix": "/",
        "headers": headers,
        "requestType": request.method.to_string(),
        "rawRequestBody": request.body.as_ref(),
        "requestBody": String::from_utf8_lossy(&request.body),
        "suffix": [],
    });
    ok(200, body)
}

/// Whoever comes so far may send a batch here.
pub(super) fn admit_batch(_: &mut Call<'_, '_>) -> Answer {
    ok(200, json!({}))
}

// ---- the deployment -------------------------------------------------------------------------------------------------

/// The leader first, then the healthy (the newest found in front, as ArangoDB has it), then those that are late.
pub(super) fn endpoints(call: &mut Call<'_, '_>) -> Answer {
    let view = &call.run.view;
    if view.standalone {
        return Err(errors::NOT_IMPLEMENTED.says("automatic failover is not enabled").into());
    }
    let leader = if call.leads() { Some(&view.me) } else { view.leader.as_ref() };
    let leader = leader.ok_or(errors::LEADERSHIP_CHALLENGE)?;
    let advertised = |id| match view.members.iter().find(|member| member.peer.id == id) {
        Some(member) => member.advertised.clone(),
        None if id == view.me.id => view.advertised.clone(),
        None => None,
    };
    let show = |peer: &crate::message::Peer| match advertised(peer.id) {
        Some(outside) => json!({"endpoint": outside.0, "internal": peer.endpoint.0}),
        None => json!({"endpoint": peer.endpoint.0}),
    };
    let mut members: Vec<&Member> = view.members.iter().filter(|member| member.peer.id != leader.id).collect();
    members.sort_by_key(|member| member.peer.id);
    let good = members.iter().rev().filter(|member| member.health == Health::Good);
    let bad = members.iter().filter(|member| member.health == Health::Bad);
    let list: Vec<Value> =
        std::iter::once(show(leader)).chain(good.chain(bad).map(|member| show(&member.peer))).collect();
    ok(200, json!({"endpoints": list}))
}

fn ask_agency(request: Request, make: AgencyAnswer) -> Answer {
    Ok(Handled { response: Response::empty(200), then: Some(Then::Agency { request, make }) })
}

fn agency_request(verb: &str, body: Value) -> Request {
    Request::new(Post, format!("/_api/agency/{verb}")).with_body(body.to_string())
}

fn needs_agency(call: &Call<'_, '_>) -> Result<(), Failure> {
    if call.run.view.standalone {
        return Err(errors::NOT_IMPLEMENTED.says("automatic failover is not enabled").into());
    }
    Ok(())
}

/// Who led when, why that ended, and what it has cost: the agency's account.
pub(super) fn failovers(call: &mut Call<'_, '_>) -> Answer {
    needs_agency(call)?;
    ask_agency(Request::new(Get, "/_api/tanist/failovers"), AgencyAnswer::Verbatim)
}

pub(super) fn cluster_health(call: &mut Call<'_, '_>) -> Answer {
    needs_agency(call)?;
    let paths = json!([["/arango/Supervision/Health", "/arango/Cluster", "/.agency"]]);
    ask_agency(agency_request("read", paths), AgencyAnswer::ClusterHealth)
}

/// Whether a request's body asks for "readonly" (or for "default").
pub fn wanted_mode(request: &Request) -> Option<bool> {
    let body: Value = serde_json::from_slice(&request.body).ok()?;
    match body.get("mode")?.as_str()? {
        "readonly" => Some(true),
        "default" => Some(false),
        _ => None,
    }
}

pub(super) fn set_mode(call: &mut Call<'_, '_>) -> Answer {
    call.object()?;
    let Some(read_only) = wanted_mode(call.request()) else {
        return Err(errors::HTTP_BAD_PARAMETER.says("mode must be \"default\" or \"readonly\"").into());
    };
    if call.run.view.standalone {
        let mode = if read_only { "readonly" } else { "default" };
        let Handled { response, .. } = ok(200, json!({"mode": mode}))?;
        return Ok(Handled { response, then: Some(Then::ReadOnly(read_only)) });
    }
    let write = json!([[{"/arango/Readonly": {"op": "set", "new": read_only}}]]);
    ask_agency(agency_request("write", write), AgencyAnswer::ServerMode)
}

/// "on", "off", or for how many seconds, in a request's body: 0 is "off". `None` for anything else.
fn wanted_maintenance(request: &Request) -> Option<u64> {
    let seconds = match serde_json::from_slice::<Value>(&request.body).ok()? {
        Value::String(text) => match text.as_str() {
            "on" => MAINTENANCE_SECONDS,
            "off" => return Some(0),
            seconds => seconds.parse().ok()?,
        },
        number => number.as_u64()?,
    };
    (1..=MAINTENANCE_SECONDS_MAX).contains(&seconds).then_some(seconds)
}

pub(super) fn maintenance(call: &mut Call<'_, '_>) -> Answer {
    needs_agency(call)?;
    ask_agency(Request::new(Get, "/_api/tanist/status"), AgencyAnswer::MaintenanceState)
}

pub(super) fn set_maintenance(call: &mut Call<'_, '_>) -> Answer {
    needs_agency(call)?;
    let Some(seconds) = wanted_maintenance(call.request()) else {
        let text = format!("state must be \"on\", \"off\" or a number of seconds up to {MAINTENANCE_SECONDS_MAX}");
        return Err(errors::HTTP_BAD_PARAMETER.says(text).into());
    };
    // The agency counts the time by its own clock.
    let change = if seconds > 0 { json!({"op": "set", "new": true, "ttl": seconds}) } else { json!({"op": "delete"}) };
    let write = json!([[{"/arango/Supervision/Maintenance": change}]]);
    ask_agency(agency_request("write", write), AgencyAnswer::Maintenance)
}

/// What the client is told when the agency has answered. `request` is the client's own.
pub fn agency_answer(make: AgencyAnswer, request: &Request, answer: Response, wall_ms: u64) -> Response {
    if make == AgencyAnswer::Verbatim {
        return answer;
    }
    if answer.status != 200 {
        let said = String::from_utf8_lossy(&answer.body);
        let message = format!("the agency did not do it ({}): {said}", answer.status);
        return errors::HTTP_SERVICE_UNAVAILABLE.says(message).response();
    }
    let done = match make {
        AgencyAnswer::ClusterHealth => return cluster_health_from(&answer),
        AgencyAnswer::ServerMode => {
            let mode = if wanted_mode(request) == Some(true) { "readonly" } else { "default" };
            json!({"error": false, "code": 200, "mode": mode})
        }
        AgencyAnswer::Maintenance => {
            let warning = match wanted_maintenance(request) {
                Some(seconds) if seconds > 0 => format!(
                    "Cluster supervision deactivated. It will be reactivated automatically on {} unless this call is \
                     repeated until then.",
                    iso8601(wall_ms + seconds * 1000)
                ),
                _ => "Cluster supervision reactivated.".to_owned(),
            };
            json!({"error": false, "code": 200, "warning": warning})
        }
        AgencyAnswer::MaintenanceState => {
            let status: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
            let maintenance = &status["maintenance"];
            let mode = if maintenance.is_null() { "Normal" } else { "Maintenance" };
            let (since, until) = (&maintenance["since"], &maintenance["until"]);
            json!({"error": false, "code": 200, "result": mode, "since": since, "until": until})
        }
        AgencyAnswer::Verbatim => unreachable!("returned above"),
    };
    Response::json(200, &done)
}

fn cluster_health_from(answer: &Response) -> Response {
    let tree: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    let at = |path: &str| tree.pointer(&format!("/0{path}"));
    let mut health = Map::new();
    for (id, record) in at("/arango/Supervision/Health").and_then(Value::as_object).into_iter().flatten() {
        let mut record = record.clone();
        if record.is_object() {
            record["CanBeDeleted"] = false.into();
        }
        health.insert(id.clone(), record);
    }
    // Agents are in the pool, not in the health records.
    let leading = at("/.agency/id").and_then(Value::as_str);
    for (id, endpoint) in at("/.agency/pool").and_then(Value::as_object).into_iter().flatten() {
        let mut record = json!({
            "Role": "Agent",
            "Endpoint": endpoint,
            "Version": VERSION,
            "Engine": "rocksdb",
            "Leader": leading,
            "CanBeDeleted": false,
        });
        if leading == Some(id) {
            record["Leading"] = true.into();
        }
        health.insert(id.clone(), record);
    }
    let cluster = at("/arango/Cluster").filter(|id| id.is_string()).cloned().unwrap_or("".into());
    Response::json(200, &json!({"error": false, "code": 200, "ClusterId": cluster, "Health": health}))
}

pub(super) fn shutdown_state(_: &mut Call<'_, '_>) -> Answer {
    Ok(Response::json(200, &json!({"softShutdownOngoing": false})).into())
}

pub(super) fn shutdown(_: &mut Call<'_, '_>) -> Answer {
    Ok(Handled { response: Response::raw(200, "\"OK\""), then: Some(Then::Shutdown) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agencys_answer_becomes_the_clients() {
        let request = Request::new(Put, "/_admin/server/mode").with_body(r#"{"mode":"readonly"}"#);
        let make = |make, answer| agency_answer(make, &request, answer, 0);
        let good = make(AgencyAnswer::ServerMode, Response::raw(200, r#"{"results":[7]}"#));
        assert_eq!(good.body, r#"{"error":false,"code":200,"mode":"readonly"}"#.as_bytes());
        let bad = make(AgencyAnswer::ServerMode, Response::raw(503, r#"{"message":"No leader"}"#));
        assert_eq!((bad.status, bad.error_num()), (503, Some(503)));
        let verbatim = make(AgencyAnswer::Verbatim, Response::raw(412, "x"));
        assert_eq!((verbatim.status, verbatim.body.as_ref()), (412, &b"x"[..]));
    }

    #[test]
    fn health_is_the_servers_and_the_agents() {
        let tree = json!([{
            "arango": {"Supervision": {"Health": {"SNGL-1": {"Status": "GOOD"}}}, "Cluster": "c-1"},
            ".agency": {"id": "AGNT-1", "pool": {"AGNT-1": "tcp://a:1", "AGNT-2": "tcp://b:2"}},
        }]);
        let request = Request::new(Get, "/_admin/cluster/health");
        let answer = agency_answer(AgencyAnswer::ClusterHealth, &request, Response::json(200, &tree), 0);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["ClusterId"], "c-1");
        assert_eq!(body["Health"]["SNGL-1"], json!({"Status": "GOOD", "CanBeDeleted": false}));
        assert_eq!(body["Health"]["AGNT-1"]["Leading"], true);
        assert_eq!(body["Health"]["AGNT-2"].get("Leading"), None);
    }
}
