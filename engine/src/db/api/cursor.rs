//! `/_api/cursor`: queries, and the batches of their results.
//!
//! A query is run to its end in one go. What does not fit into the first batch goes to the node's loop, which keeps it
//! ([`crate::cursor`]); all that is done here for the other batches is to see who asks.

use super::document::{Expected, Options};
use super::*;
use crate::aql::ast::Query;
use crate::aql::execute::{self, Data, Settings, Writing, Written};
use crate::aql::functions::Warning;
use crate::aql::parser;
use crate::aql::plan::rules::Rules;
use crate::aql::value::Value as AqlValue;
use crate::cursor::{CursorCall, CursorWish, Owner, QueryResult};
use crate::types::Duration;
use serde_json::json;

const BATCH_ROWS: u64 = 1000;
const TTL_S: f64 = 30.0;
const TTL_S_MAX: f64 = 24.0 * 3600.0;

/// Whether the query that a request sends changes data. One that can't be read does not get far.
pub(super) fn writes(request: &Request) -> bool {
    let body: Option<Map<String, Value>> = serde_json::from_slice(&request.body).ok();
    let text = body.as_ref().and_then(|body| body.get("query")).and_then(Value::as_str);
    text.and_then(|text| parser::parse(text, None).ok()).is_some_and(|query| query.writes())
}

/// What a client asks for with a query.
struct Asked {
    query: Query,
    batch_rows: usize,
    count: bool,
    ttl: Duration,
    retry: bool,
    settings: Settings,
    rules: Rules,
}

fn asked(call: &Call<'_, '_>) -> Result<Asked, Failure> {
    let body = call.object()?;
    let options = match body.get("options") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(options)) => options.clone(),
        Some(_) => return Err(errors::TYPE_ERROR.says("expecting object for <options>").into()),
    };
    let flag = |of: &Map<String, Value>, name: &str| of.get(name).and_then(Value::as_bool).unwrap_or(false);
    let number = |of: &Map<String, Value>, name: &str| of.get(name).and_then(Value::as_f64).filter(|n| *n > 0.0);
    let Some(text) = body.get("query").and_then(Value::as_str) else {
        return Err(errors::QUERY_EMPTY.into());
    };
    let binds = match body.get("bindVars") {
        None | Some(Value::Null) => AqlValue::Object(Default::default()),
        Some(binds @ Value::Object(_)) => AqlValue::parse_stored(&binds.to_string()),
        Some(_) => return Err(errors::TYPE_ERROR.says("expecting object for <bindVars>").into()),
    };
    let query = parser::parse(text, binds.as_object())?;
    let batch_rows = match body.get("batchSize") {
        None | Some(Value::Null) => BATCH_ROWS,
        Some(size) => match size.as_u64() {
            Some(size) if size > 0 => size,
            _ => return Err(errors::TYPE_ERROR.says("expecting non-zero value for <batchSize>").into()),
        },
    };
    let steps_max = match query.writes() {
        true => execute::STEPS_MAX_WRITING,
        false => execute::STEPS_MAX_READING,
    };
    let asked_steps = number(&options, "maxRuntime").map(|seconds| (seconds * execute::STEPS_A_SECOND) as u64);
    let memory = number(&body, "memoryLimit").or_else(|| number(&options, "memoryLimit"));
    let settings = Settings {
        memory_bytes: memory.map_or(usize::MAX, |bytes| bytes as usize).min(execute::MEMORY_BYTES_MAX),
        steps: asked_steps.unwrap_or(u64::MAX).min(steps_max),
        full_count: flag(&options, "fullCount"),
        fail_on_warning: flag(&options, "failOnWarning"),
        now_ms: i64::try_from(call.run.now.wall_ms).unwrap_or(i64::MAX),
        seed: call.run.seed,
    };
    let ttl_s = number(&body, "ttl").unwrap_or(TTL_S).min(TTL_S_MAX);
    Ok(Asked {
        query,
        batch_rows: usize::try_from(batch_rows).unwrap_or(usize::MAX),
        count: flag(&body, "count"),
        ttl: Duration::from_millis((ttl_s * 1000.0) as u64),
        retry: flag(&options, "allowRetry"),
        settings,
        rules: rules(&options),
    })
}

/// `optimizer.rules`, a list of switches.
fn rules(options: &Map<String, Value>) -> Rules {
    let switches = options.get("optimizer").and_then(|optimizer| optimizer.get("rules")).and_then(Value::as_array);
    Rules::chosen(switches.into_iter().flatten().filter_map(Value::as_str))
}

pub(super) fn open(call: &mut Call<'_, '_>) -> Answer {
    let asked = asked(call)?;
    let plan = execute::plan(asked.query, call, asked.rules, true)?;
    let outcome = execute::execute(&plan, call, asked.settings)?;
    let result = QueryResult {
        rows: outcome.rows.finish(),
        batch_rows: asked.batch_rows,
        count: asked.count,
        extra: extra(&outcome.stats, &outcome.warnings),
        ttl: asked.ttl,
        retry: asked.retry,
        owner: owner(call),
    };
    if result.fits() {
        return Ok(result.whole(201).into());
    }
    Ok(Handled { response: Response::empty(201), then: Some(Then::Keep(Box::new(result))) })
}

/// There is no clock in the engine, and so no execution time.
fn extra(stats: &execute::Stats, warnings: &[Warning]) -> String {
    let warnings: Vec<Value> =
        warnings.iter().map(|warning| json!({"code": warning.number, "message": warning.message})).collect();
    let mut told = json!({
        "writesExecuted": stats.writes_executed,
        "writesIgnored": stats.writes_ignored,
        "scannedFull": stats.scanned_full,
        "scannedIndex": stats.scanned_index,
        "cursorsCreated": 0,
        "cursorsRearmed": 0,
        "cacheHits": 0,
        "cacheMisses": 0,
        "filtered": stats.filtered,
        "httpRequests": 0,
        "executionTime": 0.0,
        "peakMemoryUsage": stats.peak_memory_bytes,
        "intermediateCommits": 0,
    });
    if let Some(count) = stats.full_count {
        told["fullCount"] = count.into();
    }
    json!({"warnings": warnings, "stats": told}).to_string()
}

// ---- the batches ----------------------------------------------------------------------------------------------------

pub(super) fn owner(call: &Call<'_, '_>) -> Owner {
    Owner { database: call.database.id, user: Data::user(call).map(str::to_owned) }
}

pub(super) fn next(call: &mut Call<'_, '_>) -> Answer {
    go_on(call, CursorWish::Next)
}

pub(super) fn batch(call: &mut Call<'_, '_>) -> Answer {
    let number = call.open[1].parse().map_err(|_| errors::HTTP_BAD_PARAMETER.says("expecting a batch id"))?;
    go_on(call, CursorWish::Batch(number))
}

pub(super) fn end(call: &mut Call<'_, '_>) -> Answer {
    go_on(call, CursorWish::End)
}

fn go_on(call: &Call<'_, '_>, what: CursorWish) -> Answer {
    let asked = CursorCall { id: call.open[0].clone(), owner: owner(call), what };
    Ok(Handled { response: Response::empty(200), then: Some(Then::Cursor(asked)) })
}

// ---- /_api/explain and /_api/query ----------------------------------------------------------------------------------

pub(super) fn explain(call: &mut Call<'_, '_>) -> Answer {
    let asked = asked(call)?;
    let plan = execute::plan(asked.query, call, asked.rules, false)?;
    let stats = json!({"rulesExecuted": 0, "rulesSkipped": 0, "plansCreated": 1});
    let plan = execute::explain(&plan);
    let body = json!({
        "plan": plan, "cacheable": false, "warnings": [], "stats": stats, "error": false, "code": 200
    });
    Ok(Response::json(200, &body).into())
}

/// Queries are over before anybody could ask for them.
pub(super) fn none(_: &mut Call<'_, '_>) -> Answer {
    Ok(Response::raw(200, "[]").into())
}

pub(super) fn properties(_: &mut Call<'_, '_>) -> Answer {
    let body = json!({
        "error": false, "code": 200, "enabled": false, "trackSlowQueries": false, "trackBindVars": false,
        "maxSlowQueries": 0, "slowQueryThreshold": 0, "maxQueryStringLength": 0
    });
    Ok(Response::json(200, &body).into())
}

// ---- the store, as queries see it -----------------------------------------------------------------------------------

fn plain(failure: Failure) -> Error {
    match failure {
        Failure::Error(error) => error,
        Failure::Store(failure) => failure.into(),
        Failure::Response(_) => errors::INTERNAL.into(),
    }
}

fn options(call: &Call<'_, '_>, how: Writing) -> Options {
    Options {
        ignore_revisions: how.ignore_revisions,
        overwrite: how.overwrite,
        merge: how.merge,
        // An array answer would say more of each document.
        return_old: true,
        return_new: true,
        ..Options::of(call)
    }
}

fn written(done: Result<document::Done, Failure>) -> Result<Written, Error> {
    let done = done.map_err(plain)?;
    Ok(Written { old: done.old, new: done.new })
}

impl Data for Call<'_, '_> {
    fn reader(&self) -> Reader<'_> {
        self.db.reader()
    }

    fn database(&self) -> &str {
        &self.database.name
    }

    fn user(&self) -> Option<&str> {
        self.who.name()
    }

    fn collection(&self, name: &str, writes: bool) -> Result<CollectionRow, Error> {
        Call::collection(self, name, if writes { Level::Rw } else { Level::Ro }).map_err(plain)
    }

    fn collections(&self) -> Result<Vec<CollectionRow>, Error> {
        let mut rows = self.db.reader().collections(self.database.id)?;
        rows.retain(|row| self.collection_level(&row.name) > Level::None);
        Ok(rows)
    }

    fn insert(&mut self, collection: &CollectionRow, text: &str, how: Writing) -> Result<Written, Error> {
        let options = options(self, how);
        written(document::insert_one(self.writer().map_err(plain)?, collection, text, &options))
    }

    fn modify(
        &mut self,
        collection: &CollectionRow,
        key: &str,
        text: &str,
        patch: bool,
        how: Writing,
    ) -> Result<Written, Error> {
        let options = options(self, how);
        let db = self.writer().map_err(plain)?;
        written(document::modify_one(db, collection, Some(key), text, patch, None, &options))
    }

    fn remove(
        &mut self,
        collection: &CollectionRow,
        key: &str,
        expected: Option<Option<Revision>>,
    ) -> Result<Written, Error> {
        let db = self.writer().map_err(plain)?;
        written(document::remove_one(db, collection, key, expected.map(Expected)))
    }
}
