//! `/_api/transaction`: stream transactions, and which requests may belong to one.
//!
//! The transactions themselves are the node's loop's ([`crate::transaction`]); here is what clients send and are told.
//! A request that names a transaction is carried out in it if it is about documents. The header means nothing to what
//! only looks at the catalog, and nothing that changes the catalog is done within a transaction.

use super::cursor::owner;
use super::*;

use crate::db::transaction::BYTES_MAX;
use crate::http::header::TRANSACTION;
use crate::transaction::{Access as Use, End, Known, Question, Terms};
use crate::types::Duration;
use serde_json::json;
use std::collections::BTreeMap;

/// What anybody may read within a transaction without having declared it: how else would a graph be known?
const GRAPHS: &str = "_graphs";

/// Whether a request is about a transaction, so that only the leader can answer it.
pub fn is_transactional(request: &Request) -> bool {
    request.header(TRANSACTION).is_some() || request.split_database().1.starts_with("/_api/transaction")
}

/// Whether requests on this route are carried out in the transaction that they name.
fn joins(route: &Route) -> bool {
    let area = |name: &str| route.path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let of_graph = route.path.starts_with("/_api/gharial/{graph}/")
        && (route.path.ends_with("/{key}") || (route.method == Post && route.path.ends_with("/{collection}")));
    area("/_api/document")
        || area("/_api/simple")
        || area("/_api/import")
        || area("/_api/edges")
        || of_graph
        || (route.method == Post && route.path == "/_api/cursor")
        || route.path == "/_api/collection/{collection}/count"
        || route.path == "/_api/collection/{collection}/truncate"
}

/// Whether a route is one of this file's.
fn is_own(route: &Route) -> bool {
    route.path.starts_with("/_api/transaction")
}

fn id(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|id| *id > 0)
}

/// What a request has to do with a transaction.
pub(super) fn concern(request: &Request, route: &Route, open: &[String]) -> Concern {
    if is_own(route) {
        return match (open.first().and_then(|text| id(text)), route.method) {
            (None, _) => Concern::Nothing,
            (Some(id), Get) => Concern::Looks(id),
            (Some(id), _) => Concern::Ends(id),
        };
    }
    match request.header(TRANSACTION).and_then(id) {
        Some(id) if joins(route) => Concern::Within(id),
        _ => Concern::Nothing,
    }
}

/// The transaction that a request is carried out in, if it may be.
pub(super) fn check<'a>(call: &Call<'a, '_>, route: &Route) -> Result<Option<&'a Open>, Failure> {
    let run = call.run;
    let Some(named) = run.request.header(TRANSACTION) else { return Ok(None) };
    if is_own(route) {
        if route.path.ends_with("/begin") {
            let what = "unexpected transaction ID received in begin transaction request";
            return Err(errors::BAD_PARAMETER.says(what).into());
        }
        return Ok(None);
    }
    if !joins(route) {
        return match route.effect {
            Does::Write => Err(errors::TRANSACTION_DISALLOWED_OPERATION.into()),
            Does::Read | Does::Kept | Does::Query => Ok(None),
        };
    }
    let Some(id) = id(named) else {
        return Err(errors::BAD_PARAMETER.says("invalid transaction ID").into());
    };
    let who = owner(call);
    match &run.transaction.known {
        Some(Known::Open(open)) if open.terms.belongs_to(&who) => Ok(Some(open)),
        Some(Known::Over(over)) if over.belongs_to(&who) => Err(match over.end {
            End::Committed => {
                let what = format!("transaction {id} has already been committed");
                errors::TRANSACTION_DISALLOWED_OPERATION.says(what).into()
            }
            End::Aborted => {
                errors::TRANSACTION_ABORTED.says(format!("transaction {id} has already been aborted")).into()
            }
            End::Expired => errors::TRANSACTION_ABORTED.says(format!("transaction {id} has already expired")).into(),
        }),
        _ => Err(not_found(id, "")),
    }
}

/// None outlives the leadership that it was begun under, so after a failover this is the answer.
fn not_found(id: u64, when: &str) -> Failure {
    errors::TRANSACTION_NOT_FOUND.says(format!("transaction {id} not found{when}")).into()
}

/// Whether a transaction may use a collection so.
pub(super) fn check_declared(open: &Open, row: &CollectionRow, level: Level) -> Result<(), Failure> {
    let may = match (open.terms.collections.get(&row.id), level) {
        (Some(Use::Write | Use::Exclusive), _) => true,
        (_, Level::Rw) => false,
        (Some(Use::Read), _) => true,
        (None, _) => open.terms.allow_implicit || row.name == GRAPHS,
    };
    match may {
        true => Ok(()),
        false => {
            let what = format!("{} [{}]", row.name, verb(level));
            Err(errors::TRANSACTION_UNREGISTERED_COLLECTION.because(what).into())
        }
    }
}

// ---- begin ----------------------------------------------------------------------------------------------------------

pub(super) fn begin(call: &mut Call<'_, '_>) -> Answer {
    let body = call.json()?;
    let Some(declared) = body.get("collections").and_then(Value::as_object) else {
        return Err(errors::BAD_PARAMETER.says("missing 'collections'").into());
    };
    let mut collections = BTreeMap::new();
    for (name, how) in [("exclusive", Use::Exclusive), ("write", Use::Write), ("read", Use::Read)] {
        for name in names(declared.get(name))? {
            let row = declare(call, name, how)?;
            let declared = collections.entry(row.id).or_insert(how);
            *declared = how.max(*declared);
        }
    }
    let number = |name: &str| body.get(name).and_then(Value::as_f64);
    let lock_timeout = match number("lockTimeout") {
        Some(seconds) if seconds < 0.0 => {
            return Err(errors::BAD_PARAMETER.says("<lockTimeout> needs to be positive").into());
        }
        // Zero is to have no timeout.
        Some(seconds) if seconds > 0.0 => Some(Duration::from_millis((seconds * 1000.0) as u64)),
        _ => None,
    };
    let bytes_max =
        number("maxTransactionSize").filter(|bytes| *bytes >= 0.0).map_or(usize::MAX, |bytes| bytes as usize);
    let terms = Terms {
        owner: owner(call),
        collections,
        allow_implicit: body.get("allowImplicit").and_then(Value::as_bool).unwrap_or(true),
        bytes_max: bytes_max.min(BYTES_MAX),
        lock_timeout,
    };
    Ok(Handled { response: Response::empty(201), then: Some(Then::Begin(Box::new(terms))) })
}

/// One name, or an array of them.
fn names(given: Option<&Value>) -> Result<Vec<&str>, Failure> {
    let invalid = || errors::BAD_PARAMETER.says("invalid 'collections' attribute").into();
    match given {
        None => Ok(Vec::new()),
        Some(Value::String(name)) => Ok(vec![name]),
        Some(Value::Array(names)) => {
            let name = |name: &'_ Value| name.as_str().filter(|name| !name.is_empty()).map(str::len);
            if names.iter().any(|given| name(given).is_none()) {
                return Err(invalid());
            }
            Ok(names.iter().filter_map(Value::as_str).collect())
        }
        Some(_) => Err(invalid()),
    }
}

fn declare(call: &Call<'_, '_>, name: &str, how: Use) -> Result<CollectionRow, Failure> {
    // Only the rights are looked at: to begin writes nothing.
    let row = call.collection(name, Level::Ro)?;
    if how > Use::Read {
        if call.run.view.read_only {
            return Err(errors::READ_ONLY.says("server is in read-only mode").into());
        }
        if call.collection_level(&row.name) < Level::Rw {
            return Err(errors::READ_ONLY.because(format!("{} [write]", row.name)).into());
        }
    }
    Ok(row)
}

// ---- the others -----------------------------------------------------------------------------------------------------

/// The answer that tells how a transaction is.
pub fn answer(status: u16, id: u64, state: &str) -> Response {
    let body = json!({"code": status, "error": false, "result": {"id": id.to_string(), "status": state}});
    Response::json(status, &body)
}

fn state(end: End) -> &'static str {
    match end {
        End::Committed => "committed",
        End::Aborted | End::Expired => "aborted",
    }
}

fn named(call: &Call<'_, '_>, what: &'static str) -> Result<u64, Failure> {
    id(&call.open[0]).ok_or_else(|| errors::BAD_PARAMETER.says(what).into())
}

pub(super) fn status(call: &mut Call<'_, '_>) -> Answer {
    let id = named(call, "Illegal transaction ID")?;
    let who = owner(call);
    match &call.run.transaction.known {
        Some(Known::Open(open)) if open.terms.belongs_to(&who) => Ok(answer(200, id, "running").into()),
        Some(Known::Over(over)) if over.belongs_to(&who) => Ok(answer(200, id, state(over.end)).into()),
        _ => Err(errors::TRANSACTION_NOT_FOUND.into()),
    }
}

/// The transaction to be ended: open, or over already in the way that is asked for.
fn ending<'a>(call: &Call<'a, '_>, wanted: End) -> Result<(u64, Option<&'a Open>), Failure> {
    let id = named(call, "bad transaction ID")?;
    let who = owner(call);
    let verb = if wanted == End::Committed { "commit" } else { "abort" };
    match &call.run.transaction.known {
        Some(Known::Open(open)) if open.terms.belongs_to(&who) => Ok((id, Some(open))),
        Some(Known::Over(over)) if over.belongs_to(&who) => {
            if state(over.end) == state(wanted) {
                return Ok((id, None));
            }
            let was = if over.end == End::Expired { "expired" } else { state(over.end) };
            let what = format!("while trying to {verb} transaction {id}: transaction was already {was}");
            Err(errors::TRANSACTION_DISALLOWED_OPERATION.says(what).into())
        }
        Some(_) => {
            Err(errors::TRANSACTION_NOT_FOUND.says(format!("transaction {id} inaccessible on {verb} operation")).into())
        }
        None => Err(not_found(id, &format!(" on {verb} operation"))),
    }
}

pub(super) fn commit(call: &mut Call<'_, '_>) -> Answer {
    let (id, open) = ending(call, End::Committed)?;
    let response = answer(200, id, "committed");
    let Some(open) = open else { return Ok(response.into()) };
    if open.changes.is_empty() {
        return Ok(Handled { response, then: Some(Then::End(End::Committed)) });
    }
    match call.writer()?.commit(open) {
        Ok(()) => Ok(Handled { response, then: Some(Then::End(End::Committed)) }),
        Err(PutError::Store(error)) => Err(error.into()),
        Err(error) => match Failure::from(error) {
            Failure::Error(error) => Ok(Handled { response: error.response(), then: Some(Then::End(End::Aborted)) }),
            failure => Err(failure),
        },
    }
}

pub(super) fn abort(call: &mut Call<'_, '_>) -> Answer {
    let (id, open) = ending(call, End::Aborted)?;
    Ok(Handled { response: answer(200, id, "aborted"), then: open.map(|_| Then::End(End::Aborted)) })
}

pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    ask(call, Question::List)
}

pub(super) fn abort_writing(call: &mut Call<'_, '_>) -> Answer {
    ask(call, Question::AbortWriting)
}

fn ask(call: &Call<'_, '_>, question: Question) -> Answer {
    let then = Then::Transactions { question, who: owner(call) };
    Ok(Handled { response: Response::empty(200), then: Some(then) })
}

/// The body of the answer to a question about all transactions.
pub fn told(question: Question, ids: &[u64]) -> Response {
    match question {
        Question::List => {
            let shown: Vec<Value> = ids.iter().map(|id| json!({"id": id.to_string(), "state": "running"})).collect();
            Response::json(200, &json!({"transactions": shown}))
        }
        Question::AbortWriting => Response::json(200, &json!({"error": false, "code": 200, "result": {}})),
    }
}

/// Transactions that are a program.
pub(super) fn javascript(_: &mut Call<'_, '_>) -> Answer {
    Err(errors::NOT_IMPLEMENTED.says("JavaScript operations are disabled").into())
}
