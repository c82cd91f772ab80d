//! `/_api/cursor`: queries, and the batches of their results.
//!
//! A query is run to its end in one go. What does not fit into the first batch goes to the node's loop, which keeps it
//! ([`crate::cursor`]); all that is done here for the other batches is to see who asks.

use super::document::{Expected, Options};
use super::*;
use crate::aql::ast::Query;
use crate::aql::execute::{self, Data, Profile, Settings, Writing, Written};
use crate::aql::functions::{WARNINGS_MAX, Warning};
use crate::aql::parser;
use crate::aql::plan::Plan;
use crate::aql::plan::light::is_light;
use crate::aql::plan::rules::{Rule, Rules};
use crate::aql::value::Value as AqlValue;
use crate::cursor::{CursorCall, CursorWish, Owner, QueryResult, Rows};
use crate::db::rows::LogBase;
use crate::queries::{Description, Interrupt};
use crate::results::{Kept, Question, TEXT_BYTES_MIN};
use crate::types::Time;
use serde_json::json;

const BATCH_ROWS: usize = 1000;
/// More warnings than this are not told of a query, whatever it asks for.
const WARNINGS_LIMIT: usize = 1000;
const TTL_S: f64 = 30.0;
const TTL_S_MAX: f64 = 24.0 * 3600.0;

/// For how long a query may sleep, all in all: one that reads holds a snapshot meanwhile, one that writes the writer.
const SLEEP_MAX_READING: Duration = Duration::from_secs(600);
const SLEEP_MAX_WRITING: Duration = Duration::from_secs(1);

/// Whether the query that a request sends changes data. One that can't be read does not get far.
pub(super) fn writes(request: &Request) -> bool {
    if !may_write(&request.body) {
        return false;
    }
    let body: Option<Map<String, Value>> = serde_json::from_slice(&request.body).ok();
    let text = body.as_ref().and_then(|body| body.get("query")).and_then(Value::as_str);
    text.and_then(|text| parser::parse(text, None).ok()).is_some_and(|query| query.writes())
}

/// Whether a request names what a query does that writes. Most do not, and need not be parsed to know that they read; a
/// name in a text or an attribute is no harm, and one that JSON writes in other letters is looked for by the parser.
fn may_write(body: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] = [b"insert", b"update", b"replace", b"remove", b"upsert"];
    body.iter().enumerate().any(|(at, byte)| match byte.to_ascii_lowercase() {
        b'i' | b'u' | b'r' => {
            NAMES.iter().any(|name| body[at..].get(..name.len()).is_some_and(|word| word.eq_ignore_ascii_case(name)))
        }
        b'\\' => body.get(at + 1) == Some(&b'u'),
        _ => false,
    })
}

/// For how long a cursor is kept that nobody asks for.
pub(super) fn ttl(body: &Map<String, Value>) -> Duration {
    let seconds = body.get("ttl").and_then(Value::as_f64).filter(|seconds| *seconds > 0.0).unwrap_or(TTL_S);
    Duration::from_millis((seconds.min(TTL_S_MAX) * 1000.0) as u64)
}

/// How many rows a batch has. What is no number is as if nothing were said.
pub(super) fn batch_rows(body: &Map<String, Value>) -> Result<usize, Failure> {
    match body.get("batchSize").and_then(Value::as_f64) {
        None => Ok(BATCH_ROWS),
        Some(size) if size >= 1.0 => Ok(size as usize),
        Some(_) => Err(errors::TYPE_ERROR.says("expecting non-zero value for <batchSize>").into()),
    }
}

/// An error as ArangoDB tells it of a query.
pub(super) fn during(phase: &str, error: Error) -> Error {
    Error { message: format!("AQL: {} (while {phase})", error.message).into(), ..error }
}

/// What a client asks for with a query.
struct Asked {
    batch_rows: usize,
    count: bool,
    ttl: Duration,
    retry: bool,
    settings: Settings,
    rules: Rules,
    /// How much is told of how it was carried out: 1 when, 2 also what.
    profile: u64,
    max_runtime: Option<Duration>,
    /// All plans are to be explained; there is one.
    all_plans: bool,
    /// What it says about a result that was kept.
    cache: Option<bool>,
    stream: bool,
    description: Description,
    timings: Timings,
}

/// What a query has spent its time with.
struct Timings {
    began: Time,
    phases: Vec<(&'static str, Duration)>,
}

impl Timings {
    /// A phase is over at this moment.
    fn phase(&mut self, name: &'static str, now: Time) {
        let before = self.phases.iter().map(|(_, took)| *took).sum();
        self.phases.push((name, now.since(self.began.plus(before))));
    }

    fn seconds(&self) -> f64 {
        self.phases.iter().map(|(_, took)| took.as_secs_f64()).sum()
    }
}

fn asked(call: &Call<'_, '_>) -> Result<(Query, Asked), Failure> {
    let now = || call.attendant.now().time;
    let mut timings = Timings { began: now(), phases: Vec::new() };
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
    let bind_text = match body.get("bindVars") {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(binds @ Value::Object(_)) => binds.to_string(),
        Some(_) => return Err(errors::TYPE_ERROR.says("expecting object for <bindVars>").into()),
    };
    let binds = AqlValue::parse_stored(&bind_text);
    timings.phase("initializing", now());
    let query = parser::parse(text, binds.as_object()).map_err(|error| during("parsing", error))?;
    timings.phase("parsing", now());
    let batch_rows = batch_rows(&body)?;
    let steps_max = match query.writes() {
        true => execute::STEPS_MAX_WRITING,
        false => execute::STEPS_MAX_READING,
    };
    // Neither its rows are counted nor is its result kept.
    let stream = flag(&options, "stream") || flag(&body, "stream");
    let memory = number(&body, "memoryLimit").or_else(|| number(&options, "memoryLimit"));
    let profile =
        options.get("profile").map_or(0, |level| level.as_u64().unwrap_or(level.as_bool().unwrap_or(false).into()));
    let settings = Settings {
        memory_bytes: memory.map_or(usize::MAX, |bytes| bytes as usize).min(execute::MEMORY_BYTES_MAX),
        steps: steps_max,
        full_count: flag(&options, "fullCount") && !stream,
        fail_on_warning: flag(&options, "failOnWarning"),
        warnings_max: options
            .get("maxWarningCount")
            .and_then(Value::as_u64)
            .map_or(WARNINGS_MAX, |most| usize::try_from(most).unwrap_or(usize::MAX).min(WARNINGS_LIMIT)),
        profile: profile > 1,
        now_ms: i64::try_from(call.run.now.wall_ms).unwrap_or(i64::MAX),
        seed: call.run.seed,
    };
    let description = Description {
        id: call.run.query(),
        database_id: call.database.id,
        database: call.database.name.clone(),
        user: call.who.name().map(str::to_owned),
        text: text.to_owned(),
        binds: bind_text,
        stream,
    };
    let max_runtime_s = number(&options, "maxRuntime").filter(|seconds| *seconds < TTL_S_MAX);
    let asked = Asked {
        batch_rows,
        count: flag(&body, "count") && !stream,
        ttl: ttl(&body),
        retry: flag(&options, "allowRetry"),
        settings,
        rules: rules(&options),
        profile,
        all_plans: flag(&options, "allPlans"),
        cache: body.get("cache").and_then(Value::as_bool).or_else(|| options.get("cache").and_then(Value::as_bool)),
        stream: description.stream,
        max_runtime: max_runtime_s.map(Duration::from_secs_f64),
        description,
        timings,
    };
    Ok((query, asked))
}

/// `optimizer.rules`, a list of switches.
fn rules(options: &Map<String, Value>) -> Rules {
    let switches = options.get("optimizer").and_then(|optimizer| optimizer.get("rules")).and_then(Value::as_array);
    Rules::chosen(switches.into_iter().flatten().filter_map(Value::as_str))
}

/// What is to be done for a query, and what there is to warn of before it runs.
fn planned(
    call: &Call<'_, '_>,
    mut query: Query,
    asked: &mut Asked,
    runs: bool,
) -> Result<(Plan, Vec<Warning>), Failure> {
    let now = || call.attendant.now().time;
    let warnings = execute::fold(&mut query, call.reader(), asked.settings);
    let warnings = warnings.map_err(|error| during("optimizing ast", error))?;
    asked.timings.phase("optimizing ast", now());
    let catalog = execute::catalog(&query, call, runs).map_err(|error| during("parsing", error))?;
    asked.timings.phase("loading collections", now());
    // Operations are the plan's nodes, as they were parsed.
    asked.timings.phase("instantiating plan", now());
    let reader = call.reader();
    let plan = Plan::timed(query, catalog, asked.rules, &reader, &now).map_err(|error| during("parsing", error))?;
    asked.timings.phase("optimizing plan", now());
    Ok((plan, warnings))
}

pub(super) fn open(call: &mut Call<'_, '_>) -> Answer {
    let (query, mut asked) = asked(call)?;
    if call.attendant.hurries() {
        if !is_light(&query) {
            return Ok(at_leisure());
        }
        let Settings { memory_bytes, steps, .. } = &mut asked.settings;
        *memory_bytes = (*memory_bytes).min(execute::MEMORY_BYTES_MAX_HURRIED);
        *steps = execute::STEPS_MAX_HURRIED;
    }
    let (plan, warnings) = planned(call, query, &mut asked, true)?;
    let question = question(call, &asked, &plan)?;
    let find = |(question, end): &(Question, LogBase)| call.queries(|queries| queries.results.find(question, *end));
    if let Some(rows) = question.as_ref().and_then(find) {
        return first_batch(asked.result(call, rows, "{}".to_owned(), true));
    }
    let (began, id) = (call.attendant.now(), asked.description.id);
    call.queries(|queries| queries.begin(asked.description.clone(), began, asked.max_runtime));
    asked.timings.phase("instantiating executors", call.attendant.now().time);
    let outcome = execute::execute(&plan, warnings, call, asked.settings);
    if outcome.is_err() && call.attendant.hurries() {
        call.queries(|queries| queries.forget(id));
        return Ok(at_leisure());
    }
    let now = call.attendant.now().time;
    let peak_memory_bytes = outcome.as_ref().map_or(0, |outcome| outcome.stats.peak_memory_bytes);
    call.queries(|queries| queries.end(id, now, peak_memory_bytes));
    let outcome = outcome.map_err(|error| during("executing", error))?;
    asked.timings.phase("executing", now);
    let profiled = |profile: &Profile| (execute::profiled(&plan, profile), execute::explain(&plan));
    let profiled = outcome.profile.as_ref().map(profiled);
    asked.timings.phase("finalizing", call.attendant.now().time);
    let rows = outcome.rows.finish();
    if let Some((question, end)) = question.filter(|_| outcome.warnings.is_empty()) {
        let collections = plan.catalog.keys().map(|name| name.to_string()).collect();
        let kept = Kept::new(rows.clone(), began, now.since(began.time), collections);
        call.queries(|queries| queries.results.keep(question, end, kept));
    }
    let extra = extra(&outcome.stats, &outcome.warnings, &asked.timings, asked.profile, profiled);
    first_batch(asked.result(call, rows, extra, false))
}

/// It is to be asked for again where there is time.
fn at_leisure() -> Handled {
    Handled { response: Response::empty(202), then: Some(Then::AtLeisure) }
}

impl Asked {
    fn result(&self, call: &Call<'_, '_>, rows: Rows, extra: String, cached: bool) -> QueryResult {
        QueryResult {
            rows,
            batch_rows: self.batch_rows,
            count: self.count,
            extra,
            ttl: self.ttl,
            retry: self.retry,
            owner: owner(call),
            cached,
        }
    }
}

/// What a query asks, and of which data, if its result may have been kept or may be.
fn question(call: &Call<'_, '_>, asked: &Asked, plan: &Plan) -> StoreResult<Option<(Question, LogBase)>> {
    // What is told of how it ran is not kept; a transaction sees what nobody else does.
    let plain = !asked.stream && !asked.settings.full_count && asked.profile == 0;
    let plain = plain && call.within.is_none() && matches!(call.db, Access::Read(_));
    let Description { text, binds, database_id, user, .. } = &asked.description;
    let takes_part = plain
        && plan.cacheable
        && text.len() >= TEXT_BYTES_MIN
        && call.queries(|queries| queries.results.takes(asked.cache));
    if !takes_part {
        return Ok(None);
    }
    let (user, text, binds) = (user.clone(), text.clone(), binds.clone());
    Ok(Some((Question { database: *database_id, user, text, binds }, call.reader().log_end()?)))
}

/// The answer with as much of a result as one batch has.
pub(super) fn first_batch(result: QueryResult) -> Answer {
    if result.fits() {
        return Ok(result.whole(201).into());
    }
    Ok(Handled { response: Response::empty(201), then: Some(Then::Keep(Box::new(result))) })
}

fn shown(warnings: &[Warning]) -> Vec<Value> {
    warnings.iter().map(|warning| json!({"code": warning.number, "message": warning.message})).collect()
}

fn extra(
    stats: &execute::Stats,
    warnings: &[Warning],
    timings: &Timings,
    profile: u64,
    profiled: Option<(Value, Value)>,
) -> String {
    let mut told = json!({
        "writesExecuted": stats.writes_executed,
        "writesIgnored": stats.writes_ignored,
        "scannedFull": stats.scanned_full,
        "scannedIndex": stats.scanned_index,
        "cursorsCreated": stats.cursors_created,
        "cursorsRearmed": 0,
        "cacheHits": 0,
        "cacheMisses": 0,
        "filtered": stats.filtered,
        "httpRequests": 0,
        "executionTime": timings.seconds(),
        "peakMemoryUsage": stats.peak_memory_bytes,
        "intermediateCommits": 0,
    });
    if let Some(count) = stats.full_count {
        told["fullCount"] = count.into();
    }
    let plan = profiled.map(|(nodes, plan)| {
        told["nodes"] = nodes;
        plan
    });
    let mut extra = json!({"warnings": shown(warnings), "stats": told});
    if profile > 0 {
        let phases = timings.phases.iter().map(|(name, took)| ((*name).to_owned(), took.as_secs_f64().into()));
        extra["profile"] = Value::Object(phases.collect());
    }
    if let Some(plan) = plan {
        extra["plan"] = plan;
    }
    extra.to_string()
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
    let (query, mut asked) = asked(call)?;
    let (plan, warnings) = planned(call, query, &mut asked, false)?;
    let Asked { rules, timings, .. } = &asked;
    let (cacheable, times) = (plan.cacheable, &plan.times);
    let plan = execute::explain(&plan);
    let executed = rules.iter().count();
    let skipped = Rules::ALL.iter().count() - executed;
    // There is never more than one plan.
    let mut body = match asked.all_plans {
        true => json!({"plans": [plan]}),
        false => json!({"plan": plan, "cacheable": cacheable}),
    };
    body["warnings"] = shown(&warnings).into();
    body["stats"] = json!({
        "rulesExecuted": executed,
        "rulesSkipped": skipped,
        "plansCreated": 1,
        // Memory is counted where rows are held, and there are none.
        "peakMemoryUsage": 0,
        "executionTime": timings.seconds(),
    });
    if asked.profile > 1 {
        let took = |rule: Rule| times.get(&rule).copied().unwrap_or_default().as_secs_f64();
        let times: Map<String, Value> = rules.iter().map(|rule| (rule.name().to_owned(), took(rule).into())).collect();
        body["stats"]["rules"] = times.into();
    }
    body["error"] = false.into();
    body["code"] = 200.into();
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
        validate: how.validate,
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

/// What the next write of a query goes to.
fn writer<'c, 'a>(call: &'c mut Call<'_, 'a>) -> Result<&'c mut Writer<'a>, Error> {
    let db = call.writer().map_err(plain)?;
    if planted!(aql_write_in_parts) {
        db.cut()?;
    }
    Ok(db)
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

    fn now(&self) -> Time {
        self.attendant.now().time
    }

    fn go_on(&self) -> Result<(), Error> {
        if self.attendant.hurries() {
            return Err(errors::QUERY_KILLED.into());
        }
        let (id, now) = (self.run.query(), self.attendant.now().time);
        match self.queries(|queries| queries.interrupted(id, now)) {
            None => Ok(()),
            // ArangoDB does not tell one from the other.
            Some(Interrupt::Killed | Interrupt::TooLong) => Err(errors::QUERY_KILLED.into()),
        }
    }

    fn sleep(&self, time: Duration) -> Result<bool, Error> {
        let most = if matches!(self.db, Access::Write(_)) { SLEEP_MAX_WRITING } else { SLEEP_MAX_READING };
        let left = most.saturating_sub(self.slept.get());
        self.slept.set(self.slept.get() + time.min(left));
        self.attendant.sleep(self.run.query(), time.min(left));
        self.go_on()?;
        Ok(time <= left)
    }

    fn collection(&self, name: &str, writes: bool) -> Result<CollectionRow, Error> {
        Call::collection(self, name, if writes { Level::Rw } else { Level::Ro }).map_err(plain)
    }

    fn collections(&self) -> Result<Vec<CollectionRow>, Error> {
        let mut rows = self.db.reader().collections(self.database.id)?;
        rows.retain(|row| self.collection_level(&row.name) > Level::None);
        Ok(rows)
    }

    fn edge_collections(&self, graph: &str) -> Result<Vec<String>, Error> {
        graph::edge_collections_of(self, graph).map_err(plain)
    }

    fn insert(&mut self, collection: &CollectionRow, text: &str, how: Writing) -> Result<Written, Error> {
        let options = options(self, how);
        written(document::insert_one(writer(self)?, collection, text, &options))
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
        written(document::modify_one(writer(self)?, collection, Some(key), text, patch, None, &options))
    }

    fn remove(
        &mut self,
        collection: &CollectionRow,
        key: &str,
        expected: Option<Option<Revision>>,
    ) -> Result<Written, Error> {
        written(document::remove_one(writer(self)?, collection, key, expected.map(Expected)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_writes_is_known_however_it_is_written() {
        let query = |text: &str| {
            let body = json!({"query": text}).to_string();
            writes(&Request::new(crate::http::Method::Post, "/_api/cursor").with_body(body))
        };
        for text in [
            "INSERT {} INTO c",
            "FOR d IN c UPDATE d WITH {} IN c",
            "for d in c replace d with {} in c",
            "FOR d IN c\n\tReMove d IN c",
            "UPSERT {a: 1} INSERT {} UPDATE {} IN c",
        ] {
            assert!(query(text), "{text}");
        }
        assert!(!query("FOR d IN c FILTER d.insert == 'remove' RETURN d"));
        let escaped = r#"{"query": "\u0049NSERT {} INTO c"}"#;
        assert!(writes(&Request::new(crate::http::Method::Post, "/_api/cursor").with_body(escaped.to_owned())));
    }
}
