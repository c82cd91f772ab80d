//! `/_api/query`: the queries that run and those that were slow, and the cache of results that there is not.

use super::*;
use crate::aql::plan::rules::Rule;
use crate::queries::{Listed, Tracking};
use serde_json::json;

/// The database that is asked about; `None` for all of them, which only the deployment's secret may ask for.
fn scope(call: &Call<'_, '_>) -> Result<Option<u64>, Failure> {
    if !call.flag("all", false) {
        return Ok(Some(call.database.id));
    }
    if call.who != Who::Superuser {
        return Err(errors::FORBIDDEN.says("only superusers may ask for the queries of all databases").into());
    }
    Ok(None)
}

fn list(queries: Vec<Listed>) -> Answer {
    let listed = |listed: Listed| {
        let query = listed.query;
        json!({
            "id": query.id.to_string(),
            "database": query.database,
            "user": query.user.unwrap_or_else(|| "root".to_owned()),
            "query": query.text,
            "bindVars": serde_json::from_str::<Value>(&query.binds).unwrap_or_default(),
            "started": iso8601(listed.began.wall_ms),
            "runTime": listed.took.as_secs_f64(),
            "peakMemoryUsage": listed.peak_memory_bytes,
            "state": if listed.finished { "finished" } else { "executing" },
            "stream": query.stream,
        })
    };
    let list: Vec<Value> = queries.into_iter().map(listed).collect();
    Ok(Response::json(200, &list.into()).into())
}

pub(super) fn current(call: &mut Call<'_, '_>) -> Answer {
    let (scope, now) = (scope(call)?, call.attendant.now().time);
    list(call.queries(|queries| queries.current(scope, now)))
}

pub(super) fn slow(call: &mut Call<'_, '_>) -> Answer {
    let scope = scope(call)?;
    list(call.queries(|queries| queries.slow(scope)))
}

pub(super) fn forget_slow(call: &mut Call<'_, '_>) -> Answer {
    let scope = scope(call)?;
    call.queries(|queries| queries.forget_slow(scope));
    ok(200, json!({}))
}

pub(super) fn kill(call: &mut Call<'_, '_>) -> Answer {
    let scope = scope(call)?;
    let id = call.open[0].parse::<u64>().map_err(|_| errors::QUERY_NOT_FOUND)?;
    match call.queries(|queries| queries.kill(id, scope)) {
        true => ok(200, json!({})),
        false => Err(errors::QUERY_NOT_FOUND.into()),
    }
}

// ---- what is kept ---------------------------------------------------------------------------------------------------

fn told(tracking: Tracking) -> Answer {
    let seconds = |s: f64| if s.fract() == 0.0 { json!(s as u64) } else { json!(s) };
    ok(
        200,
        json!({
            "enabled": tracking.enabled,
            "trackSlowQueries": tracking.slow,
            "trackBindVars": tracking.binds,
            "maxSlowQueries": tracking.slow_max,
            "slowQueryThreshold": seconds(tracking.slow_after_s),
            "slowStreamingQueryThreshold": seconds(tracking.slow_streaming_after_s),
            "maxQueryStringLength": tracking.text_bytes_max,
        }),
    )
}

pub(super) fn properties(call: &mut Call<'_, '_>) -> Answer {
    let database = call.database.id;
    told(call.queries(|queries| queries.tracking(database)))
}

pub(super) fn set_properties(call: &mut Call<'_, '_>) -> Answer {
    let body = call.object()?;
    let flag = |name: &str, before: bool| body.get(name).and_then(Value::as_bool).unwrap_or(before);
    let number = |name: &str, before: usize| {
        body.get(name).and_then(Value::as_u64).map_or(before, |number| usize::try_from(number).unwrap_or(usize::MAX))
    };
    let seconds =
        |name: &str, before: f64| body.get(name).and_then(Value::as_f64).filter(|s| *s >= 0.0).unwrap_or(before);
    let database = call.database.id;
    told(call.queries(|queries| {
        let before = queries.tracking(database);
        let tracking = Tracking {
            enabled: flag("enabled", before.enabled),
            slow: flag("trackSlowQueries", before.slow),
            binds: flag("trackBindVars", before.binds),
            slow_max: number("maxSlowQueries", before.slow_max),
            slow_after_s: seconds("slowQueryThreshold", before.slow_after_s),
            slow_streaming_after_s: seconds("slowStreamingQueryThreshold", before.slow_streaming_after_s),
            text_bytes_max: number("maxQueryStringLength", before.text_bytes_max),
        };
        queries.track(database, tracking)
    }))
}

// ---- the optimizer, and the cache -----------------------------------------------------------------------------------

pub(super) fn rules(_: &mut Call<'_, '_>) -> Answer {
    let rule = |rule: &Rule| {
        let flags = json!({
            "hidden": false, "clusterOnly": false, "canBeDisabled": true, "canCreateAdditionalPlans": false,
            "disabledByDefault": false, "enterpriseOnly": false
        });
        json!({"name": rule.name(), "flags": flags})
    };
    let rules: Vec<Value> = Rule::ALL.iter().map(rule).collect();
    Ok(Response::json(200, &rules.into()).into())
}

/// There is no cache of results: it is off, and stays so.
pub(super) fn cache_properties(_: &mut Call<'_, '_>) -> Answer {
    let body = json!({"mode": "off", "maxResults": 0, "maxResultsSize": 0, "maxEntrySize": 0, "includeSystem": false});
    Ok(Response::json(200, &body).into())
}

pub(super) fn set_cache_properties(call: &mut Call<'_, '_>) -> Answer {
    match call.object()?.get("mode").and_then(Value::as_str) {
        None | Some("off" | "on" | "demand") => cache_properties(call),
        Some(_) => Err(errors::HTTP_BAD_PARAMETER.says("expecting 'off', 'on' or 'demand' for <mode>").into()),
    }
}

pub(super) fn cache_entries(_: &mut Call<'_, '_>) -> Answer {
    Ok(Response::raw(200, "[]").into())
}

pub(super) fn clear_cache(_: &mut Call<'_, '_>) -> Answer {
    ok(200, json!({}))
}
