//! `/_api/query`: the queries that run and those that were slow. `/_api/query-cache`: the results that are kept.

use super::*;
use crate::aql::plan::rules::Rule;
use crate::queries::{Listed, Tracking};
use crate::results::{CacheMode, Caching, Kept, Question};
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
    call.attendant.catch_up();
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

/// Of all databases; a route of ArangoDB 3.12 that drivers ask for.
pub(super) fn recent(call: &mut Call<'_, '_>) -> Answer {
    let shown = |listed: &Listed| {
        json!({
            "timeStamp": iso8601(listed.began.wall_ms),
            "database": listed.query.database,
            "query": listed.query.text,
            "bindVars": serde_json::from_str::<Value>(&listed.query.binds).unwrap_or_default(),
            "duration": listed.took.as_secs_f64(),
        })
    };
    let recent: Vec<Value> = call.queries(|queries| queries.recent().map(shown).collect());
    ok(200, json!({"result": {"queries": recent}}))
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

fn flag(body: &Map<String, Value>, name: &str, before: bool) -> bool {
    body.get(name).and_then(Value::as_bool).unwrap_or(before)
}

fn number(body: &Map<String, Value>, name: &str, before: usize) -> usize {
    body.get(name).and_then(Value::as_u64).map_or(before, |number| usize::try_from(number).unwrap_or(usize::MAX))
}

pub(super) fn set_properties(call: &mut Call<'_, '_>) -> Answer {
    let body = call.object()?;
    let seconds =
        |name: &str, before: f64| body.get(name).and_then(Value::as_f64).filter(|s| *s >= 0.0).unwrap_or(before);
    let database = call.database.id;
    told(call.queries(|queries| {
        let before = queries.tracking(database);
        let tracking = Tracking {
            enabled: flag(&body, "enabled", before.enabled),
            slow: flag(&body, "trackSlowQueries", before.slow),
            binds: flag(&body, "trackBindVars", before.binds),
            slow_max: number(&body, "maxSlowQueries", before.slow_max),
            slow_after_s: seconds("slowQueryThreshold", before.slow_after_s),
            slow_streaming_after_s: seconds("slowStreamingQueryThreshold", before.slow_streaming_after_s),
            text_bytes_max: number(&body, "maxQueryStringLength", before.text_bytes_max),
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

fn shown(caching: Caching) -> Answer {
    let body = json!({
        "mode": caching.mode.name(),
        "maxResults": caching.results_max,
        "maxResultsSize": caching.bytes_max,
        "maxEntrySize": caching.entry_bytes_max,
        "includeSystem": caching.system,
    });
    Ok(Response::json(200, &body).into())
}

pub(super) fn cache_properties(call: &mut Call<'_, '_>) -> Answer {
    shown(call.queries(|queries| queries.results.caching()))
}

pub(super) fn set_cache_properties(call: &mut Call<'_, '_>) -> Answer {
    let body = call.object()?;
    let mode = match body.get("mode").and_then(Value::as_str) {
        None => None,
        Some(name) => Some(
            CacheMode::ALL
                .into_iter()
                .find(|mode| mode.name() == name)
                .ok_or_else(|| errors::HTTP_BAD_PARAMETER.says("expecting 'off', 'on' or 'demand' for <mode>"))?,
        ),
    };
    shown(call.queries(|queries| {
        let before = queries.results.caching();
        queries.results.cache(Caching {
            mode: mode.unwrap_or(before.mode),
            results_max: number(&body, "maxResults", before.results_max),
            bytes_max: number(&body, "maxResultsSize", before.bytes_max),
            entry_bytes_max: number(&body, "maxEntrySize", before.entry_bytes_max),
            system: flag(&body, "includeSystem", before.system),
        })
    }))
}

/// What is kept for others is shown as well: of a result, only how big it is.
pub(super) fn cache_entries(call: &mut Call<'_, '_>) -> Answer {
    let (database, end) = (call.database.id, call.reader().log_end()?);
    let entry = |(question, kept): (&Question, &Kept)| {
        let words = [question.user.as_deref().unwrap_or_default(), &question.text, &question.binds].join("\0");
        json!({
            "hash": crc32fast::hash(words.as_bytes()).to_string(),
            "query": question.text,
            "bindVars": serde_json::from_str::<Value>(&question.binds).unwrap_or_default(),
            "size": kept.bytes(),
            "results": kept.rows.len(),
            "hits": kept.hits,
            "runTime": kept.took.as_secs_f64(),
            "started": iso8601(kept.began.wall_ms),
            "dataSources": kept.collections,
        })
    };
    let entries: Vec<Value> = call.queries(|queries| queries.results.list(database, end).map(entry).collect());
    Ok(Response::json(200, &entries.into()).into())
}

pub(super) fn clear_cache(call: &mut Call<'_, '_>) -> Answer {
    let database = call.database.id;
    call.queries(|queries| queries.results.clear(database));
    ok(200, json!({}))
}
