//! Isolation: random interleavings of transactions, single writes and queries, held against a slow reference that
//! copies all documents wherever one begins.

use crate::db::mem::MemStore;
use crate::db::store::Store;
use crate::db::{Reader, api, index};
use crate::exec::{self, fixture};
use crate::http::{Method, Request, header};
use crate::io::{Op, OpId, OpResult, Then};
use crate::transaction::{Attached, Transactions};
use crate::types::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const TRANSACTIONS: usize = 3;
const KEYS: u8 = 5;
/// Of the unique index over `n`.
const VALUES: u8 = 4;

const CONFLICT: u64 = 1200;
const NOT_FOUND: u64 = 1202;
const TAKEN: u64 = 1210;

// ---- a leader's store and transactions, driven without a server -----------------------------------------------------

struct Stage {
    store: MemStore,
    transactions: Transactions,
    asked: u64,
}

impl Stage {
    fn new() -> Stage {
        let mut stage = Stage { store: fixture::store(), transactions: Transactions::default(), asked: 0 };
        stage.ask(Method::Post, "/_api/collection", &json!({"name": "c"}), None);
        let index = json!({"type": "persistent", "fields": ["n"], "unique": true});
        assert_eq!(stage.ask(Method::Post, "/_api/index?collection=c", &index, None).0, 201);
        stage
    }

    /// As the loop does it, with nothing else under way.
    fn ask(&mut self, method: Method, path: &str, body: &Value, within: Option<u64>) -> (u16, Value) {
        self.asked += 1;
        let (now, limits) = (fixture::NOW, TransactionLimits::default());
        let request = Request::new(method, path).with_body(body.to_string());
        let request = match within {
            Some(id) => request.with_header(header::TRANSACTION, id.to_string()),
            None => request,
        };
        let mut run = fixture::admitted(request, self.asked << 12);
        let holds = self.transactions.attach(&mut run.transaction, run.writes, &limits, now.time);
        let op = Op::Run(run);
        let result = match op.writes() {
            true => exec::perform(vec![(OpId(1), op)], &mut self.store).remove(0).1,
            false => exec::read(op, &self.store),
        };
        let OpResult::Ran(mut ran) = result else { panic!("{result:?}") };
        let last = ran.entry.as_ref().map_or_else(|| self.look(|reader| reader.last().unwrap()), |e| e.position());
        if let Attached::Holding(id) = holds {
            self.transactions.settle(id, Some(&mut ran), last, &limits, now.time);
        }
        let response = match ran.then.take() {
            Some(Then::Begin(terms)) => {
                self.transactions.begin(self.asked, *terms, ran.last, &limits, now.time).expect("it is begun");
                api::transaction_answer(201, self.asked, "running")
            }
            _ => ran.response,
        };
        (response.status, serde_json::from_slice(&response.body).unwrap_or_default())
    }

    fn look<T>(&self, look: impl FnOnce(&Reader<'_>) -> T) -> T {
        let snapshot = self.store.snapshot().unwrap();
        look(&Reader::new(&*snapshot).unwrap())
    }

    /// What is written of the document, `v` and `n`.
    fn read(&mut self, key: u8, within: Option<u64>) -> Option<(u64, u8)> {
        let (status, body) = self.ask(Method::Get, &format!("/_api/document/c/k{key}"), &Value::Null, within);
        assert_eq!(status == 404, body["errorNum"] == NOT_FOUND, "{body}");
        (status == 200).then(|| (body["v"].as_u64().unwrap(), body["n"].as_u64().unwrap() as u8))
    }
}

// ---- the reference --------------------------------------------------------------------------------------------------

/// By key: what was written last, and the value in the unique index.
type Docs = BTreeMap<u8, (u64, u8)>;

#[derive(Clone, Default)]
struct Transaction {
    id: u64,
    base: Docs,
    view: Docs,
    writes: Vec<(u8, Option<(u64, u8)>)>,
}

impl Transaction {
    fn has(&self, key: u8) -> bool {
        self.writes.iter().any(|(written, _)| *written == key)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Insert,
    Change,
    Remove,
    Upsert,
}

#[derive(Default)]
struct Reference {
    docs: Docs,
    open: BTreeMap<usize, Transaction>,
}

fn is_taken(docs: &Docs, key: u8, n: u8) -> bool {
    docs.iter().any(|(other, (_, value))| *other != key && *value == n)
}

impl Reference {
    /// Writes several documents, all or none of them. The error is that of the first which can't be written.
    fn write(&mut self, who: Option<usize>, verb: Verb, all: &[(u8, u64, u8)]) -> Result<(), u64> {
        let mine = who.map(|who| self.open[&who].clone());
        let mut view = mine.as_ref().map_or(&self.docs, |mine| &mine.view).clone();
        let mut writes = Vec::new();
        for &(key, v, n) in all {
            match (verb, view.contains_key(&key)) {
                (Verb::Insert, true) => return Err(TAKEN),
                (Verb::Change | Verb::Remove, false) => return Err(NOT_FOUND),
                _ => {}
            }
            if self.open.iter().any(|(other, open)| Some(*other) != who && open.has(key)) {
                return Err(CONFLICT);
            }
            let changed = |mine: &Transaction| !mine.has(key) && mine.base.get(&key) != self.docs.get(&key);
            if mine.as_ref().is_some_and(changed) {
                return Err(CONFLICT);
            }
            let after = (verb != Verb::Remove).then_some((v, n));
            if after.is_some() && is_taken(&view, key, n) {
                return Err(TAKEN);
            }
            put(&mut view, key, after);
            writes.push((key, after));
        }
        match who {
            None => self.docs = view,
            Some(who) => {
                let mine = self.open.get_mut(&who).unwrap();
                mine.view = view;
                mine.writes.extend(writes);
            }
        }
        Ok(())
    }

    /// It is over, whatever comes of it.
    fn commit(&mut self, who: usize) -> Result<(), u64> {
        let mine = self.open.remove(&who).unwrap();
        let mut docs = self.docs.clone();
        for (key, after) in mine.writes {
            if after.is_some_and(|(_, n)| is_taken(&docs, key, n)) {
                return Err(TAKEN);
            }
            put(&mut docs, key, after);
        }
        self.docs = docs;
        Ok(())
    }
}

fn put(docs: &mut Docs, key: u8, after: Option<(u64, u8)>) {
    match after {
        Some(doc) => docs.insert(key, doc),
        None => docs.remove(&key),
    };
}

// ---- both -----------------------------------------------------------------------------------------------------------

/// Who (the last is in no transaction), what, on which key, with which value.
type Step = (usize, u8, u8, u8);

fn take(stage: &mut Stage, reference: &mut Reference, (who, what, key, n): Step) -> Result<(), TestCaseError> {
    let who = (who < TRANSACTIONS).then_some(who);
    if let Some(who) = who.filter(|who| !reference.open.contains_key(who)) {
        let (status, body) =
            stage.ask(Method::Post, "/_api/transaction/begin", &json!({"collections": {"write": ["c"]}}), None);
        prop_assert_eq!(status, 201, "{}", body);
        let id = body["result"]["id"].as_str().unwrap().parse().unwrap();
        let (base, view) = (reference.docs.clone(), reference.docs.clone());
        reference.open.insert(who, Transaction { id, base, view, writes: Vec::new() });
        return Ok(());
    }
    let within = who.map(|who| reference.open[&who].id);
    let (v, document) = (stage.asked, format!("/_api/document/c/k{key}"));
    let body = json!({"_key": format!("k{key}"), "v": v, "n": n});
    let second = ((key + 1) % KEYS, v, (n + 1) % VALUES);
    let (told, expected) = match (what, who) {
        (0..=2, _) => (
            stage.ask(Method::Post, "/_api/document/c", &body, within),
            reference.write(who, Verb::Insert, &[(key, v, n)]),
        ),
        (3..=5, _) => {
            let method = if what == 3 { Method::Put } else { Method::Patch };
            (stage.ask(method, &document, &body, within), reference.write(who, Verb::Change, &[(key, v, n)]))
        }
        (6, _) => (
            stage.ask(Method::Delete, &document, &Value::Null, within),
            reference.write(who, Verb::Remove, &[(key, v, n)]),
        ),
        (7..=9, _) => {
            let (verb, text) = match what {
                7 => (Verb::Upsert, "UPSERT {_key: d._key} INSERT d UPDATE d"),
                8 => (Verb::Insert, "INSERT d"),
                _ => (Verb::Remove, "REMOVE d"),
            };
            let all = [(key, v, n), second];
            let documents = all.map(|(key, v, n)| json!({"_key": format!("k{key}"), "v": v, "n": n}));
            let query = json!({"query": format!("FOR d IN @all {text} IN c"), "bindVars": {"all": documents}});
            (stage.ask(Method::Post, "/_api/cursor", &query, within), reference.write(who, verb, &all))
        }
        (10, Some(who)) => {
            let path = format!("/_api/transaction/{}", within.unwrap());
            (stage.ask(Method::Put, &path, &Value::Null, None), reference.commit(who))
        }
        (11, Some(who)) => {
            reference.open.remove(&who);
            let path = format!("/_api/transaction/{}", within.unwrap());
            (stage.ask(Method::Delete, &path, &Value::Null, None), Ok(()))
        }
        _ => {
            let there = reference.open.get(&who.unwrap_or(TRANSACTIONS)).map_or(&reference.docs, |mine| &mine.view);
            prop_assert_eq!(stage.read(key, within), there.get(&key).copied());
            return Ok(());
        }
    };
    let error = if told.0 < 400 { Ok(()) } else { Err(told.1["errorNum"].as_u64().unwrap_or(0)) };
    prop_assert_eq!(error, expected, "{}", told.1);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Each reads what was there when it began and what it wrote; the first who writes a document has it; a commit is
    /// all of it, an end without one leaves nothing, and so does a query or a commit that fails.
    #[test]
    fn transactions_are_isolated(
        steps in prop::collection::vec((0..=TRANSACTIONS, 0..14_u8, 0..KEYS, 0..VALUES), 1..80),
    ) {
        let (mut stage, mut reference) = (Stage::new(), Reference::default());
        for step in steps {
            take(&mut stage, &mut reference, step)?;
            let there: BTreeSet<(u8, (u64, u8))> =
                (0..KEYS).filter_map(|key| Some((key, stage.read(key, None)?))).collect();
            prop_assert_eq!(there, reference.docs.clone().into_iter().collect());
        }
        let wrong = stage.look(|reader| {
            let database = reader.database("_system").unwrap().unwrap();
            let collection = reader.collection(database.id, "c").unwrap().unwrap();
            index::check::wrong(reader, &collection).unwrap()
        });
        prop_assert_eq!(wrong, None);
    }
}
