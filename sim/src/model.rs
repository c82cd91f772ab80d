//! The truth about documents: what each may be, given the log entries that a server has applied.
//!
//! Written from the HTTP API's description, with nothing of the engine in it. A server's *shadow* holds what its
//! documents, users and databases must be after the entries that the checkers saw it apply, and when each changed, so
//! that a read can be judged by the instants between its start and its end.

use crate::action::{self, Action, EXPIRE_AFTER_MS, GRAPH, OnDuplicate, Slot, USERS, database_of, ends, unique_value};
use crate::clock::At;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A document of the workload. `v` names the operation that wrote it last; `a` and `b` tell replace from update. Of a
/// user, `v` stands in `extra`, and `a` is the level that it was granted. What it has in a unique index follows from
/// `v`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Doc {
    pub v: u64,
    pub a: Option<u64>,
    pub b: Option<u64>,
    /// The moment that it names, by which it may expire.
    pub moment_ms: Option<u64>,
    /// Empty where no client is told of it.
    pub rev: String,
}

impl Doc {
    /// Takes a document apart as a client sees it; `None` if it is not of this shape, or another one.
    pub fn from_json(slot: Slot, value: &Value) -> Option<Doc> {
        let object = value.as_object()?;
        if slot.is_user() {
            let named = object.get("user")? == slot.key().as_str() && object.get("active")? == true;
            let v = object.get("extra")?.get("v")?.as_u64()?;
            return named.then_some(Doc { v, a: None, b: None, moment_ms: None, rev: String::new() });
        }
        let known = ["_key", "_id", "_rev", "_from", "_to", "v", "a", "b", "moment", "n"];
        let id = format!("c{}/{}", slot.collection, slot.key());
        if object.keys().any(|k| !known.contains(&k.as_str())) || object.get("_id")? != id.as_str() {
            return None;
        }
        let number = |name: &str| object.get(name).map(|v| v.as_u64());
        let v = number("v")??;
        let leads = |name: &str, to: Slot| object.get(name) == Some(&to.to_string().into());
        let [from, to] = ends(v);
        let leads_astray = slot.collection == GRAPH[1] && !(leads("_from", from) && leads("_to", to));
        if leads_astray || number("n").flatten() != unique_value(slot, v) {
            return None;
        }
        Some(Doc {
            v,
            a: number("a").flatten(),
            b: number("b").flatten(),
            moment_ms: moment_ms(value),
            rev: object.get("_rev")?.as_str()?.to_owned(),
        })
    }

    /// Whether a client may see this document as `seen`.
    pub fn shows_as(&self, slot: Slot, seen: &Doc) -> bool {
        if slot.is_user() {
            return self.v == seen.v;
        }
        (self.v, self.a, self.b, self.moment_ms) == (seen.v, seen.a, seen.b, seen.moment_ms)
            && (self.rev.is_empty() || self.rev == seen.rev)
    }
}

/// The moment that a document's body names.
pub fn moment_ms(body: &Value) -> Option<u64> {
    body.get("moment")?.as_f64().map(|moment_s| (moment_s * 1000.0).round() as u64)
}

/// What one log entry did, as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    Put(Slot, Doc),
    Gone(Slot),
    Created(u8),
    /// Its index is being built from here on: a unique one refuses a value as soon as all documents are in it, which
    /// each server knows for itself.
    Declared(u8),
    /// It has its index from here on.
    Indexed(u8),
    /// Its index can't be built.
    Undeclared(u8),
    /// It has its index no longer, or it is built no longer.
    Unindexed(u8),
    Emptied(u8),
    Dropped(u8),
    DatabaseMade(u8),
    DatabaseGone(u8),
    GraphMade,
    GraphGone,
    /// One after the other.
    All(Vec<Effect>),
}

impl Effect {
    /// The documents that it is about.
    pub fn slots(&self) -> Vec<Slot> {
        match self {
            Effect::Put(slot, _) | Effect::Gone(slot) => vec![*slot],
            Effect::All(effects) => effects.iter().flat_map(Effect::slots).collect(),
            _ => Vec::new(),
        }
    }

    /// The effects that it is made of, one after the other.
    pub fn each(&self) -> Vec<&Effect> {
        match self {
            Effect::All(effects) => effects.iter().flat_map(Effect::each).collect(),
            one => vec![one],
        }
    }

    /// The documents that it wrote.
    pub fn puts(&self) -> Vec<(Slot, &Doc)> {
        match self {
            Effect::Put(slot, doc) => vec![(*slot, doc)],
            Effect::All(effects) => effects.iter().flat_map(Effect::puts).collect(),
            _ => Vec::new(),
        }
    }
}

/// What must become of one document that a request speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub slot: Slot,
    pub before: Option<Doc>,
    pub result: Result<Effect, u32>,
}

/// What a write must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub status: u16,
    /// 0 for a success.
    pub error: u32,
    pub parts: Vec<Part>,
    /// What it does beside that to its parts.
    pub whole: Option<Effect>,
}

/// What was done, if anything, or what is wrong with the answer.
pub type Judged = Result<Option<Effect>, String>;

const NO_DOCUMENT: (u16, u32) = (404, 1202);
const NO_COLLECTION: (u16, u32) = (404, 1203);
const NO_DATABASE: (u16, u32) = (404, 1228);
const NO_USER: (u16, u32) = (404, 1703);
const CONFLICT: (u16, u32) = (412, 1200);
const SAME_KEY: (u16, u32) = (409, 1210);
/// Of an index that is to be made: ArangoDB calls that a bad request.
const SAME_VALUE: (u16, u32) = (400, 1210);
const SAME_NAME: (u16, u32) = (409, 1207);
const NO_INDEX: (u16, u32) = (404, 1212);
const SAME_GRAPH: (u16, u32) = (409, 1925);
const NO_GRAPH: (u16, u32) = (404, 1924);
const SAME_USER: (u16, u32) = (409, 1702);

/// Databases, collections, documents and users at one point of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Docs {
    pub databases: BTreeSet<u8>,
    /// The named graph is there.
    pub graph: bool,
    pub collections: BTreeSet<u8>,
    /// Those that have their index: their documents may expire, or have values that are unique.
    pub indexed: BTreeSet<u8>,
    /// Those whose index is being built.
    pub building: BTreeSet<u8>,
    pub documents: BTreeMap<Slot, Doc>,
}

impl Docs {
    pub fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Put(slot, doc) => {
                self.documents.insert(*slot, doc.clone());
            }
            Effect::Gone(slot) => {
                self.documents.remove(slot);
            }
            Effect::Created(c) => {
                self.collections.insert(*c);
            }
            Effect::Declared(c) => {
                self.building.insert(*c);
            }
            Effect::Indexed(c) => {
                self.building.remove(c);
                self.indexed.insert(*c);
            }
            Effect::Undeclared(c) => {
                self.building.remove(c);
            }
            Effect::Unindexed(c) => {
                self.indexed.remove(c);
                self.building.remove(c);
            }
            Effect::Emptied(c) => self.documents.retain(|slot, _| slot.collection != *c),
            Effect::Dropped(c) => {
                self.documents.retain(|slot, _| slot.collection != *c);
                self.collections.remove(c);
                self.indexed.remove(c);
                self.building.remove(c);
            }
            Effect::DatabaseMade(d) => {
                self.databases.insert(*d);
            }
            Effect::DatabaseGone(d) => {
                self.documents.retain(|slot, _| database_of(slot.collection) != Some(*d));
                self.collections.retain(|c| database_of(*c) != Some(*d));
                self.indexed.retain(|c| database_of(*c) != Some(*d));
                self.building.retain(|c| database_of(*c) != Some(*d));
                self.databases.remove(d);
            }
            Effect::GraphMade => self.graph = true,
            Effect::GraphGone => self.graph = false,
            Effect::All(effects) => effects.iter().for_each(|effect| self.apply(effect)),
        }
    }

    /// The same with all indexes that are being built, if there are any.
    pub fn as_if_built(&self) -> Option<Docs> {
        let mut built = self.clone();
        built.indexed.append(&mut built.building);
        (built.indexed.len() > self.indexed.len()).then_some(built)
    }

    fn has_database(&self, collection: u8) -> Result<(), (u16, u32)> {
        let there = database_of(collection).is_none_or(|d| self.databases.contains(&d));
        if there { Ok(()) } else { Err(NO_DATABASE) }
    }

    fn has_collection(&self, collection: u8) -> Result<(), (u16, u32)> {
        self.has_database(collection)?;
        let there = collection == USERS || self.collections.contains(&collection);
        if there { Ok(()) } else { Err(NO_COLLECTION) }
    }

    fn found(&self, slot: Slot, rev: &Option<String>) -> Result<&Doc, (u16, u32)> {
        let doc = self.documents.get(&slot).ok_or(if slot.is_user() { NO_USER } else { NO_DOCUMENT })?;
        match rev {
            Some(rev) if *rev != doc.rev => Err(CONFLICT),
            _ => Ok(doc),
        }
    }

    /// Another document that has the value which a document of operation `v` has in the collection's unique index.
    fn taken_by(&self, slot: Slot, v: u64) -> Option<Slot> {
        let value = unique_value(slot, v).filter(|_| self.indexed.contains(&slot.collection))?;
        let has = |other: &Slot, doc: &Doc| {
            *other != slot && other.collection == slot.collection && unique_value(*other, doc.v) == Some(value)
        };
        self.documents.iter().find(|(other, doc)| has(other, doc)).map(|(other, _)| *other)
    }

    /// Two documents that have the same value in a unique index.
    pub fn doubles(&self) -> Option<(Slot, Slot)> {
        self.documents.iter().find_map(|(slot, doc)| Some((*slot, self.taken_by(*slot, doc.v)?)))
    }

    /// Whether each of several effects, one after the other, finds its value free in the unique index.
    pub fn admits(&self, effects: &[Effect]) -> bool {
        let mut now = self.clone();
        effects.iter().flat_map(Effect::each).all(|effect| {
            let free = now.with_free_value(effect.clone()).is_ok();
            now.apply(effect);
            free
        })
    }

    /// What becomes of one document, whose collection is there.
    fn one(&self, op: u64, action: &Action) -> Result<Effect, (u16, u32)> {
        self.with_free_value(self.unindexed(op, action)?)
    }

    fn with_free_value(&self, effect: Effect) -> Result<Effect, (u16, u32)> {
        match &effect {
            Effect::Put(slot, doc) if self.taken_by(*slot, doc.v).is_some() => Err(SAME_KEY),
            _ => Ok(effect),
        }
    }

    /// The same where no value has to be unique.
    fn unindexed(&self, op: u64, action: &Action) -> Result<Effect, (u16, u32)> {
        let due =
            |slot: &Slot, v, a, b, moment_ms| Ok(Effect::Put(*slot, Doc { v, a, b, moment_ms, rev: String::new() }));
        let put = |slot: &Slot, v, a, b| due(slot, v, a, b, None);
        match action {
            Action::Insert(slot) | Action::InsertDue(slot, _) if self.documents.contains_key(slot) => {
                Err(if slot.is_user() { SAME_USER } else { SAME_KEY })
            }
            Action::Insert(slot) if slot.is_user() => put(slot, op, None, None),
            Action::Insert(slot) => put(slot, op, Some(op), None),
            Action::InsertDue(slot, moment_ms) => due(slot, op, Some(op), None, Some(*moment_ms)),
            Action::Update(slot, rev) => {
                let old = self.found(*slot, rev)?;
                due(slot, op, old.a, if slot.is_user() { None } else { Some(op) }, old.moment_ms)
            }
            Action::Replace(slot, rev) => {
                let old = self.found(*slot, rev)?;
                put(slot, op, old.a.filter(|_| slot.is_user()), None)
            }
            Action::Grant(slot, level) => put(slot, self.found(*slot, &None)?.v, Some(u64::from(*level)), None),
            Action::Remove(slot, rev) => self.found(*slot, rev).map(|_| Effect::Gone(*slot)),
            _ => unreachable!("'{action}' is not about one document"),
        }
    }

    /// What becomes of a vertex or an edge: an edge needs what it leads to, and goes with it.
    fn in_graph(&self, op: u64, inner: &Action) -> Result<Expected, (u16, u32)> {
        if !self.graph {
            return Err(NO_GRAPH);
        }
        let slot = inner.slot().expect("it is about one document");
        let is_there = |vertex: &Slot| self.documents.contains_key(vertex);
        let leads = slot.collection == GRAPH[1] && !matches!(inner, Action::Remove(..));
        if leads && !ends(op).iter().all(is_there) {
            return Err(NO_DOCUMENT);
        }
        let expected = self.expect(op, inner);
        let has_edges = matches!(inner, Action::Remove(..)) && expected.error == 0;
        let edges =
            self.documents.iter().filter(|(edge, doc)| edge.collection == GRAPH[1] && ends(doc.v).contains(&slot));
        let gone: Vec<Effect> = edges.filter(|_| has_edges).map(|(edge, _)| Effect::Gone(*edge)).collect();
        Ok(Expected { whole: (!gone.is_empty()).then_some(Effect::All(gone)), ..expected })
    }

    /// One after the other, each with the effects of those before it. What is done with one may depend on whether it
    /// is there.
    fn each<F: FnOnce(bool) -> Action>(&self, op: u64, actions: impl Iterator<Item = (Slot, F)>) -> Vec<Part> {
        let mut now = self.clone();
        let part = |(slot, action): (Slot, F)| {
            let before = now.documents.get(&slot).cloned();
            let result = now.one(op, &action(before.is_some())).map_err(|(_, error)| error);
            if let Ok(effect) = &result {
                now.apply(effect);
            }
            Part { slot, before, result }
        };
        actions.map(part).collect()
    }

    fn import(&self, op: u64, slots: &[Slot], on_duplicate: OnDuplicate) -> Vec<Part> {
        let mut now = self.clone();
        let mut parts = Vec::new();
        for slot in slots {
            let before = now.documents.get(slot).cloned();
            let new = |b| {
                let moment_ms =
                    before.as_ref().filter(|_| on_duplicate == OnDuplicate::Update).and_then(|d| d.moment_ms);
                Effect::Put(*slot, Doc { v: op, a: Some(op), b, moment_ms, rev: String::new() })
            };
            let result = match (&before, on_duplicate) {
                (None, _) | (Some(_), OnDuplicate::Replace) => now.with_free_value(new(None)),
                (Some(old), OnDuplicate::Update) => now.with_free_value(new(old.b)),
                (Some(_), OnDuplicate::Ignore | OnDuplicate::Error) => Err(SAME_KEY),
            };
            let result = result.map_err(|(_, error)| error);
            if let Ok(effect) = &result {
                now.apply(effect);
            }
            parts.push(Part { slot: *slot, before, result });
        }
        parts
    }

    /// What the removal of documents that are due at `wall_ms` does, each told by its key and what wrote it last; in
    /// words if one of them can't be due.
    pub fn expire(&self, wall_ms: u64, removed: &[(String, u64)]) -> Result<Effect, String> {
        let gone = |(key, v): &(String, u64)| {
            let found = self.documents.iter().find(|(slot, doc)| !slot.is_user() && slot.key() == *key && doc.v == *v);
            let Some((slot, doc)) = found else { return Err(format!("{key} of operation {v} is not there")) };
            let due_ms = doc.moment_ms.map(|moment_ms| moment_ms + EXPIRE_AFTER_MS);
            match due_ms {
                Some(due_ms) if self.indexed.contains(&slot.collection) && due_ms <= wall_ms => Ok(Effect::Gone(*slot)),
                Some(due_ms) => Err(format!("{slot} is due at {due_ms} ms, and it is {wall_ms} ms")),
                None => Err(format!("{slot} never expires")),
            }
        };
        removed.iter().map(gone).collect::<Result<_, _>>().map(Effect::All)
    }

    /// What a write must come to here, and what it has come to, held against that. Where that is wrong, indexes that
    /// are being built may hold all documents already.
    pub fn judge(&self, op: u64, action: &Action, status: u16, body: &Value) -> (Expected, Judged) {
        let judge = |docs: &Docs| {
            let expected = docs.expect(op, action);
            let judged = expected.judge(action, status, body);
            (expected, judged)
        };
        match (judge(self), self.as_if_built()) {
            ((_, Err(_)), Some(built)) => judge(&built),
            (judged, _) => judged,
        }
    }

    /// What a write must come to here. (The revisions of new documents are not known before.)
    pub fn expect(&self, op: u64, action: &Action) -> Expected {
        let outcome = || -> Result<Expected, (u16, u32)> {
            let success = |status| Expected { status, error: 0, parts: Vec::new(), whole: None };
            let parts = |collection: u8, parts: &dyn Fn() -> Vec<Part>| {
                self.has_collection(collection)?;
                Ok(Expected { parts: parts(), ..success(202) })
            };
            let whole = |status, effect| Ok(Expected { whole: Some(effect), ..success(status) });
            match action {
                Action::Insert(slot)
                | Action::InsertDue(slot, _)
                | Action::Update(slot, _)
                | Action::Replace(slot, _)
                | Action::Remove(slot, _)
                | Action::Grant(slot, _) => {
                    self.has_collection(slot.collection)?;
                    let status = match action {
                        Action::Insert(_) if slot.is_user() => 201,
                        Action::Remove(..) => 202,
                        _ if slot.is_user() => 200,
                        _ => 202,
                    };
                    let result = self.one(op, action);
                    let (status, error) = result.as_ref().err().copied().unwrap_or((status, 0));
                    let (before, result) = (self.documents.get(slot).cloned(), result.map_err(|(_, error)| error));
                    Ok(Expected { status, error, parts: vec![Part { slot: *slot, before, result }], whole: None })
                }
                Action::InsertMany(slots) => parts(slots[0].collection, &|| {
                    self.each(op, slots.iter().map(|slot| (*slot, move |_| Action::Insert(*slot))))
                }),
                Action::UpdateMany(slots) => parts(slots[0].0.collection, &|| {
                    self.each(op, slots.iter().map(|(slot, rev)| (*slot, move |_| Action::Update(*slot, rev.clone()))))
                }),
                Action::RemoveMany(slots) => parts(slots[0].collection, &|| {
                    self.each(op, slots.iter().map(|slot| (*slot, move |_| Action::Remove(*slot, None))))
                }),
                Action::Import { slots, on_duplicate } => {
                    let expected = parts(slots[0].collection, &|| self.import(op, slots, *on_duplicate))?;
                    Ok(Expected { status: 201, ..expected })
                }
                Action::Query { verb, slots } => {
                    let expected = parts(slots[0].collection, &|| {
                        self.each(op, slots.iter().map(|slot| (*slot, move |there| verb.on(*slot, there))))
                    })?;
                    let error = expected.parts.iter().find_map(|part| part.result.as_ref().err().copied());
                    match error {
                        None => Ok(Expected { status: 201, ..expected }),
                        Some(error) if error == NO_DOCUMENT.1 => Err(NO_DOCUMENT),
                        Some(_) => Err(SAME_KEY),
                    }
                }
                Action::MakeGraph if self.graph => Err(SAME_GRAPH),
                Action::MakeGraph => {
                    let missing = GRAPH.into_iter().filter(|c| !self.collections.contains(c));
                    let made = missing.map(Effect::Created).chain([Effect::GraphMade]);
                    whole(202, Effect::All(made.collect()))
                }
                Action::DropGraph if !self.graph => Err(NO_GRAPH),
                Action::DropGraph => {
                    let gone = GRAPH.into_iter().map(Effect::Dropped).chain([Effect::GraphGone]);
                    whole(202, Effect::All(gone.collect()))
                }
                Action::InGraph(inner) => self.in_graph(op, inner),
                Action::Create(c) => {
                    self.has_database(*c)?;
                    if self.collections.contains(c) { Err(SAME_NAME) } else { whole(200, Effect::Created(*c)) }
                }
                Action::Index(c) => {
                    self.has_collection(*c)?;
                    let mut with = self.clone();
                    match with.indexed.insert(*c) {
                        false => Ok(success(200)),
                        // The client is answered once it is built.
                        true if self.building.contains(c) => Ok(success(202)),
                        true if action::in_background(op) => whole(202, Effect::Declared(*c)),
                        true if with.doubles().is_some() => Err(SAME_VALUE),
                        true => whole(201, Effect::Indexed(*c)),
                    }
                }
                Action::Unindex(c) => {
                    self.has_collection(*c)?;
                    let there = self.indexed.contains(c) || self.building.contains(c);
                    if there { whole(200, Effect::Unindexed(*c)) } else { Err(NO_INDEX) }
                }
                Action::Truncate(c) => {
                    self.has_collection(*c)?;
                    whole(200, Effect::Emptied(*c))
                }
                Action::Drop(c) => {
                    self.has_collection(*c)?;
                    whole(200, Effect::Dropped(*c))
                }
                Action::CreateDatabase(d) if self.databases.contains(d) => Err(SAME_NAME),
                Action::CreateDatabase(d) => whole(201, Effect::DatabaseMade(*d)),
                Action::DropDatabase(d) if !self.databases.contains(d) => Err(NO_DATABASE),
                Action::DropDatabase(d) => whole(200, Effect::DatabaseGone(*d)),
                _ => unreachable!("'{action}' writes no data"),
            }
        };
        outcome().unwrap_or_else(|(status, error)| Expected { status, error, parts: Vec::new(), whole: None })
    }
}

impl Expected {
    /// How often each error occurs among the parts of a request that succeeds; `None` if none does.
    pub fn failures(&self) -> Option<Value> {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for error in self.parts.iter().filter_map(|part| part.result.as_ref().err()) {
            *counts.entry(*error).or_default() += 1;
        }
        let counts = counts.into_iter().map(|(error, count)| (error.to_string(), count.into()));
        Some(Value::Object(counts.collect())).filter(|counts| counts != &Value::Object(Default::default()))
    }

    /// Holds what a client is told against it. On success: what was done, with the revisions that were told.
    pub fn judge(&self, action: &Action, status: u16, body: &Value) -> Judged {
        let error = body.get("errorNum").and_then(Value::as_u64).unwrap_or(0);
        if (status, error) != (self.status, u64::from(self.error)) {
            return Err(format!("got {status} ({error}), the model says {} ({})", self.status, self.error));
        }
        let effects: Vec<Effect> = match action {
            Action::InsertMany(_) | Action::UpdateMany(_) | Action::RemoveMany(_) | Action::Query { .. }
                if self.error == 0 =>
            {
                let told = body.get("result").unwrap_or(body).as_array().filter(|told| told.len() == self.parts.len());
                let told = told.ok_or("the answer has not one element for each of the request's")?;
                let parts = self.parts.iter().zip(told).map(|(part, told)| part.judge(action, told));
                parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()
            }
            Action::Import { on_duplicate, .. } if self.error == 0 => {
                let tally = |wanted: &dyn Fn(&Part) -> bool| self.parts.iter().filter(|part| wanted(part)).count();
                let ignores = *on_duplicate == OnDuplicate::Ignore;
                let counts = [
                    ("created", tally(&|part| part.result.is_ok() && part.before.is_none())),
                    ("updated", tally(&|part| part.result.is_ok() && part.before.is_some())),
                    ("ignored", tally(&|part| part.result.is_err() && ignores)),
                    ("errors", tally(&|part| part.result.is_err() && !ignores)),
                    ("empty", 0),
                ];
                if let Some((name, count)) =
                    counts.iter().find(|(name, count)| body.get(name) != Some(&(*count).into()))
                {
                    return Err(format!("the answer should count {count} as {name}: {body}"));
                }
                self.parts.iter().filter_map(|part| part.result.clone().ok()).collect()
            }
            _ => {
                let told = match action {
                    Action::InGraph(_) if self.error == 0 => as_document(body),
                    _ => body.clone(),
                };
                let parts = self.parts.iter().map(|part| part.judge(action, &told));
                let parts = parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
                parts.chain(self.whole.clone()).collect()
            }
        };
        Ok(match effects.len() {
            0 => None,
            1 => effects.into_iter().next(),
            _ => Some(Effect::All(effects)),
        })
    }
}

/// What the interface for graphs tells, as the one for documents would.
fn as_document(body: &Value) -> Value {
    let of = |name: &str| body.get(name).cloned();
    let mut told = of("vertex").or(of("edge")).or(of("old")).unwrap_or_default();
    for image in ["old", "new"] {
        if let Some(image_of_it) = of(image) {
            told[image] = image_of_it;
        }
    }
    told
}

impl Part {
    fn judge(&self, action: &Action, told: &Value) -> Result<Option<Effect>, String> {
        let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default();
        let old = self.before.as_ref().map_or("", |doc| &doc.rev);
        let wrong = |what: String| Err(format!("{}: {what}: {told}", self.slot));
        if let Some(before) = told.get("old") {
            let right = match (&self.before, Doc::from_json(self.slot, before)) {
                (Some(doc), Some(seen)) => doc.shows_as(self.slot, &seen),
                (None, None) => before.is_null(),
                _ => false,
            };
            if !right {
                return wrong(format!("it was {:?} before", self.before));
            }
        }
        match &self.result {
            Err(error) => {
                if told.get("errorNum").and_then(Value::as_u64) != Some(u64::from(*error)) {
                    return wrong(format!("the model says {error}"));
                }
                // Among several results its place says which document is meant, and no more is told of it.
                let several = matches!(action, Action::InsertMany(_) | Action::UpdateMany(_) | Action::RemoveMany(_));
                let named = if several { "" } else { old };
                if *error == CONFLICT.1 && !old.is_empty() && text("_rev") != named {
                    return wrong(format!("it has the revision {old}"));
                }
                Ok(None)
            }
            Ok(Effect::Put(slot, doc)) if slot.is_user() => {
                let right = match action {
                    Action::Grant(_, level) => {
                        told.get("_system") == Some(&crate::action::LEVELS[usize::from(*level)].into())
                    }
                    _ => Doc::from_json(*slot, told).is_some_and(|seen| doc.shows_as(*slot, &seen)),
                };
                if right { Ok(Some(Effect::Put(*slot, doc.clone()))) } else { wrong(format!("it is {doc:?} now")) }
            }
            Ok(Effect::Put(slot, doc)) => {
                let doc = Doc { rev: text("_rev").to_owned(), ..doc.clone() };
                if doc.rev.is_empty() || text("_key") != slot.key() {
                    return wrong("no key, or no revision".into());
                }
                if !old.is_empty() && text("_oldRev") != old {
                    return wrong(format!("it had the revision {old}"));
                }
                match told.get("new").and_then(|new| Doc::from_json(*slot, new)) {
                    Some(new) if new == doc => Ok(Some(Effect::Put(*slot, doc))),
                    _ => wrong(format!("it is {doc:?} now")),
                }
            }
            Ok(effect @ Effect::Gone(slot)) => {
                if !slot.is_user() && !old.is_empty() && text("_rev") != old {
                    return wrong(format!("it had the revision {old}"));
                }
                Ok(Some(effect.clone()))
            }
            Ok(effect) => Ok(Some(effect.clone())),
        }
    }
}

/// What one server's documents are, and when they changed.
#[derive(Clone, Debug, Default, Hash)]
pub struct Shadow {
    pub docs: Docs,
    changes: BTreeMap<Slot, Vec<(At, Option<Doc>)>>,
    /// When a collection lost its index last.
    unindexed: BTreeMap<u8, At>,
}

impl Shadow {
    pub fn apply(&mut self, at: At, effect: &Effect) {
        let mut gone = |lost: &dyn Fn(&Slot) -> bool| {
            for slot in self.docs.documents.keys().filter(|slot| lost(slot)) {
                self.changes.entry(*slot).or_default().push((at, None));
            }
        };
        match effect {
            Effect::Put(slot, doc) => self.changes.entry(*slot).or_default().push((at, Some(doc.clone()))),
            Effect::Gone(slot) => self.changes.entry(*slot).or_default().push((at, None)),
            Effect::Created(_)
            | Effect::Declared(_)
            | Effect::Indexed(_)
            | Effect::Undeclared(_)
            | Effect::Unindexed(_)
            | Effect::DatabaseMade(_)
            | Effect::GraphMade
            | Effect::GraphGone => {}
            Effect::Emptied(c) | Effect::Dropped(c) => gone(&|slot| slot.collection == *c),
            Effect::DatabaseGone(d) => gone(&|slot| database_of(slot.collection) == Some(*d)),
            Effect::All(effects) => return effects.iter().for_each(|effect| self.apply(at, effect)),
        }
        if let Effect::Unindexed(c) | Effect::Dropped(c) = effect {
            self.unindexed.insert(*c, at);
        }
        self.docs.apply(effect);
    }

    /// These documents, as they were at some earlier instant, without the indexes that were dropped since.
    pub fn without_dropped_indexes(&self, docs: &Docs, since: At) -> Docs {
        let kept = |c: &u8| self.unindexed.get(c).is_none_or(|at| *at < since);
        let indexed = docs.indexed.iter().copied().filter(kept).collect();
        Docs { indexed, ..docs.clone() }
    }

    /// The server's documents were replaced as a whole: a tail undone, or a copy swapped in.
    pub fn become_at(&mut self, at: At, docs: Docs) {
        let slots: BTreeSet<Slot> = self.docs.documents.keys().chain(docs.documents.keys()).copied().collect();
        for slot in slots {
            let doc = docs.documents.get(&slot);
            if self.docs.documents.get(&slot) != doc {
                self.changes.entry(slot).or_default().push((at, doc.cloned()));
            }
        }
        self.docs = docs;
    }

    /// Whether the slot held anything else than this at some moment between two instants.
    pub fn was_other(&self, slot: Slot, from: At, to: At, doc: Option<&Doc>) -> bool {
        let changes = self.changes.get(&slot).map_or(&[][..], Vec::as_slice);
        let before = changes.partition_point(|(at, _)| *at < from);
        let first = before.checked_sub(1).and_then(|last| changes[last].1.as_ref());
        let then = changes[before..].iter().take_while(|(at, _)| *at <= to).map(|(_, doc)| doc.as_ref());
        std::iter::once(first).chain(then).any(|version| version != doc)
    }

    /// Which of the slot's versions a read between two instants returned: its place in the order of changes, the
    /// earliest that fits; `None` if it fits none.
    pub fn version_read(&self, slot: Slot, from: At, to: At, read: Option<&Doc>) -> Option<usize> {
        let none = Vec::new();
        let changes = self.changes.get(&slot).unwrap_or(&none);
        let before = changes.iter().take_while(|(at, _)| *at < from).count();
        // Version 0 is "never written"; version n is what the nth change left.
        let version = |n: usize| if n == 0 { None } else { changes[n - 1].1.as_ref() };
        let last = changes.iter().take_while(|(at, _)| *at <= to).count();
        let fits = |n: usize| match (version(n), read) {
            (Some(doc), Some(seen)) => doc.shows_as(slot, seen),
            (doc, seen) => doc.is_none() && seen.is_none(),
        };
        (before..=last).find(|n| fits(*n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{INNER, UNIQUE, Verb};
    use serde_json::json;

    const SLOT: Slot = Slot { collection: 0, key: 1 };

    fn doc(v: u64) -> Doc {
        Doc { v, a: None, b: None, moment_ms: None, rev: format!("r{v}") }
    }

    fn put(v: u64, a: Option<u64>, b: Option<u64>) -> Effect {
        Effect::Put(SLOT, Doc { v, a, b, moment_ms: None, rev: format!("r{v}") })
    }

    /// The status and error that a write must get.
    fn told(docs: &Docs, action: Action) -> (u16, u32) {
        let expected = docs.expect(9, &action);
        (expected.status, expected.error)
    }

    #[test]
    fn the_model_knows_the_api() {
        let mut docs = Docs::default();
        assert_eq!(told(&docs, Action::Insert(SLOT)), NO_COLLECTION);
        docs.apply(&Effect::Created(0));
        assert_eq!(told(&docs, Action::Create(0)), SAME_NAME);
        assert_eq!(told(&docs, Action::Insert(SLOT)), (202, 0));
        docs.apply(&put(2, Some(2), None));
        assert_eq!(told(&docs, Action::Insert(SLOT)), SAME_KEY);
        let conflict = Action::Update(SLOT, Some("r1".into()));
        assert_eq!(told(&docs, conflict.clone()), CONFLICT);
        let names = |rev| docs.expect(9, &conflict).judge(&conflict, 412, &json!({"errorNum": 1200, "_rev": rev}));
        assert_eq!(names("r2"), Ok(None));
        assert!(names("r1").is_err(), "the revision that it has is another");
        let after = |docs: &Docs, action: Action| match &docs.expect(3, &action).parts[0].result {
            Ok(Effect::Put(_, doc)) => (doc.v, doc.a, doc.b),
            other => panic!("{other:?}"),
        };
        assert_eq!(after(&docs, Action::Update(SLOT, Some("r2".into()))), (3, Some(2), Some(3)));
        assert_eq!(after(&docs, Action::Replace(SLOT, None)), (3, None, None));
        docs.apply(&Effect::Emptied(0));
        assert_eq!(told(&docs, Action::Remove(SLOT, None)), NO_DOCUMENT);
    }

    #[test]
    fn a_query_writes_all_of_its_documents_or_none() {
        let mut docs = Docs::default();
        docs.apply(&Effect::All(vec![Effect::Created(0), put(2, Some(2), None)]));
        let other = Slot { key: 5, ..SLOT };
        let query = |verb, slots: &[Slot]| Action::Query { verb, slots: slots.to_vec() };
        assert_eq!(told(&docs, query(Verb::Insert, &[other, SLOT])), SAME_KEY);
        assert_eq!(told(&docs, query(Verb::Remove, &[SLOT, SLOT])), NO_DOCUMENT, "it sees what it has done");
        let upsert = query(Verb::Upsert, &[SLOT, other]);
        let expected = docs.expect(9, &upsert);
        assert_eq!((expected.status, expected.parts.len()), (201, 2));
        let row = |key: &str, old: Value, mut new: Value| {
            (new["_key"], new["_id"], new["_rev"]) = (key.into(), format!("c0/{key}").into(), "x".into());
            json!({"_key": key, "_rev": "x", "_oldRev": old.get("_rev"), "old": old, "new": new})
        };
        let old = json!({"_key": "k1", "_id": "c0/k1", "_rev": "r2", "v": 2, "a": 2});
        let good = json!({"result": [row("k1", old, json!({"v": 9, "a": 2, "b": 9})),
            row("k5", Value::Null, json!({"v": 9, "a": 9}))]});
        let Ok(Some(Effect::All(effects))) = expected.judge(&upsert, 201, &good) else { panic!("it did two things") };
        assert_eq!(effects.iter().flat_map(Effect::slots).collect::<Vec<_>>(), [SLOT, other]);
        let wrong = |pointer: &str, value: Value| {
            let mut told = good.clone();
            *told.pointer_mut(pointer).unwrap() = value;
            expected.judge(&upsert, 201, &told).is_err()
        };
        assert!(wrong("/result/0/old/a", json!(3)), "it was another document before");
        assert!(wrong("/result/1/old", json!({"v": 1})), "there was none before");
        assert!(wrong("/result/1/new/a", Value::Null), "it was updated, not inserted");
        assert!(wrong("/result", json!([])), "rows are missing");
    }

    #[test]
    fn a_value_of_a_unique_index_has_one_document() {
        let c = UNIQUE[1];
        let [one, two, three] = [0, 1, 2].map(|key| Slot { collection: c, key });
        let mut docs = Docs::default();
        let fresh = |slot| Effect::Put(slot, doc(9));
        docs.apply(&Effect::All(vec![Effect::Created(c), fresh(one), fresh(two)]));
        assert_eq!(docs.doubles(), None, "there is no index yet");
        assert_eq!(told(&docs, Action::Index(c)), SAME_VALUE);
        docs.apply(&Effect::Gone(two));
        assert_eq!(told(&docs, Action::Index(c)), (201, 0));
        assert_eq!(told(&docs, Action::Unindex(c)), NO_INDEX);
        docs.apply(&Effect::Indexed(c));
        assert_eq!(told(&docs, Action::Index(c)), (200, 0));
        assert_eq!(docs.expect(9, &Action::Unindex(c)).whole, Some(Effect::Unindexed(c)));
        assert_eq!(told(&docs, Action::Insert(two)), SAME_KEY, "its neighbour has the value");
        assert_eq!(told(&docs, Action::Insert(three)), (202, 0));
        assert_eq!(told(&docs, Action::Update(one, None)), (202, 0), "it may keep its own");
        let both = |verb| Action::Query { verb, slots: vec![three, two] };
        assert_eq!(told(&docs, both(Verb::Upsert)), SAME_KEY);
        let many = docs.expect(9, &Action::InsertMany(vec![three, two]));
        assert_eq!(many.parts.iter().map(|part| part.result.is_ok()).collect::<Vec<_>>(), [true, false]);
        assert!(docs.admits(&[Effect::Gone(one), fresh(two)]), "free once it is gone");
        assert!(!docs.admits(&[fresh(two), Effect::Gone(one)]), "not before");
        docs.apply(&fresh(two));
        assert_eq!(docs.doubles(), Some((one, two)));
        docs.apply(&Effect::Dropped(c));
        docs.apply(&Effect::All(vec![Effect::Created(c), fresh(one), fresh(two)]));
        assert_eq!(docs.doubles(), None, "the index is gone with the collection");
    }

    #[test]
    fn with_a_vertex_go_its_edges_and_an_edge_needs_its_vertices() {
        let [vertices, edges] = GRAPH;
        let (one, two) = (Slot { collection: vertices, key: 1 }, Slot { collection: vertices, key: 2 });
        let edge = Slot { collection: edges, key: 0 };
        // By operation 9 an edge leads from the vertex 1 to 2.
        assert_eq!(ends(9), [one, two]);
        let graph = |action: Action| Action::InGraph(Box::new(action));
        let mut docs = Docs::default();
        assert_eq!(told(&docs, graph(Action::Insert(one))), NO_GRAPH);
        assert_eq!(told(&docs, Action::DropGraph), NO_GRAPH);
        docs.apply(&docs.expect(1, &Action::MakeGraph).whole.unwrap());
        assert_eq!(told(&docs, Action::MakeGraph), SAME_GRAPH);
        docs.apply(&Effect::Put(one, doc(1)));
        assert_eq!(told(&docs, graph(Action::Insert(edge))), NO_DOCUMENT, "where it leads nothing is");
        docs.apply(&Effect::Put(two, doc(2)));
        assert_eq!(told(&docs, graph(Action::Insert(edge))), (202, 0));
        docs.apply(&Effect::Put(edge, doc(9)));
        let removal = graph(Action::Remove(two, None));
        let expected = docs.expect(10, &removal);
        assert_eq!(expected.whole, Some(Effect::All(vec![Effect::Gone(edge)])));
        let body = json!({"removed": true, "old": {"_key": "k2", "_id": "c9/k2", "_rev": "r2", "v": 2}});
        let gone = Effect::All(vec![Effect::Gone(two), Effect::All(vec![Effect::Gone(edge)])]);
        assert_eq!(expected.judge(&removal, 202, &body), Ok(Some(gone)));
        let plain = docs.expect(10, &Action::Remove(two, None));
        assert_eq!(plain.whole, None, "the interface for documents leaves edges alone");
        docs.apply(&docs.expect(11, &Action::DropGraph).whole.unwrap());
        assert_eq!(docs, Docs::default(), "all that was in it is gone");
    }

    #[test]
    fn documents_expire_once_they_are_due() {
        let mut docs = Docs::default();
        docs.apply(&Effect::Created(0));
        let insert = Action::InsertDue(SLOT, 10_000);
        let Ok(inserted) = &docs.expect(1, &insert).parts[0].result else { panic!("an insert") };
        docs.apply(inserted);
        let removed = [("k1".to_owned(), 1)];
        assert!(docs.expire(20_000, &removed).is_err(), "there is no index");
        docs.apply(&Effect::Indexed(0));
        assert!(docs.expire(10_000 + EXPIRE_AFTER_MS - 1, &removed).is_err(), "too early");
        let all = Effect::All(vec![Effect::Gone(SLOT)]);
        assert_eq!(docs.expire(10_000 + EXPIRE_AFTER_MS, &removed), Ok(all));
        assert!(docs.expire(20_000, &[("k1".to_owned(), 2)]).is_err(), "another document");
        docs.apply(&put(2, Some(2), None));
        assert!(docs.expire(20_000, &[("k1".to_owned(), 2)]).is_err(), "it names no moment");
    }

    #[test]
    fn the_model_knows_databases_and_users() {
        let mut docs = Docs::default();
        let inner = Slot { collection: INNER, key: 0 };
        assert_eq!(told(&docs, Action::Insert(inner)), NO_DATABASE);
        assert_eq!(told(&docs, Action::Create(INNER)), NO_DATABASE);
        docs.apply(&Effect::DatabaseMade(0));
        assert_eq!(told(&docs, Action::CreateDatabase(0)), SAME_NAME);
        assert_eq!(told(&docs, Action::Insert(inner)), NO_COLLECTION);
        docs.apply(&Effect::All(vec![Effect::Created(INNER), Effect::Put(inner, doc(1))]));
        docs.apply(&Effect::DatabaseGone(0));
        assert_eq!(docs, Docs::default(), "all that was in it is gone");

        let user = Slot { collection: USERS, key: 0 };
        assert_eq!(told(&docs, Action::Update(user, None)), NO_USER);
        assert_eq!(told(&docs, Action::Insert(user)), (201, 0));
        docs.apply(&Effect::Put(user, Doc { rev: String::new(), ..doc(1) }));
        assert_eq!(told(&docs, Action::Insert(user)), SAME_USER);
        let granted = docs.expect(2, &Action::Grant(user, 2));
        let told = |level: &str| granted.judge(&Action::Grant(user, 2), 200, &json!({"_system": level}));
        assert!(told("rw").is_ok());
        assert!(told("ro").is_err());
    }

    #[test]
    fn each_element_of_an_array_is_judged() {
        let mut docs = Docs::default();
        docs.apply(&Effect::All(vec![Effect::Created(0), put(2, Some(2), None)]));
        let action = Action::UpdateMany(vec![
            (SLOT, Some("r2".into())),
            (SLOT, Some("r2".into())),
            (Slot { key: 5, ..SLOT }, None),
        ]);
        let expected = docs.expect(7, &action);
        let new = json!({"_key": "k1", "_id": "c0/k1", "_rev": "x", "v": 7, "a": 2, "b": 7});
        let good = json!([
            {"_key": "k1", "_id": "c0/k1", "_rev": "x", "_oldRev": "r2", "new": new},
            {"error": true, "errorNum": 1200, "_rev": "x"},
            {"error": true, "errorNum": 1202},
        ]);
        let doc = Doc { v: 7, a: Some(2), b: Some(7), moment_ms: None, rev: "x".into() };
        assert_eq!(expected.judge(&action, 202, &good), Ok(Some(Effect::Put(SLOT, doc))));
        assert!(expected.judge(&action, 200, &good).is_err(), "another status");
        let wrong = |pointer: &str, value: Value| {
            let mut told = good.clone();
            *told.pointer_mut(pointer).unwrap() = value;
            expected.judge(&action, 202, &told).is_err()
        };
        assert!(wrong("/0/_oldRev", json!("r1")), "it replaced another revision");
        assert!(wrong("/0/new/b", json!(6)), "it left another document");
        assert!(wrong("/1/errorNum", json!(1202)), "it failed for another reason");
        assert!(wrong("/2", json!({"_key": "k5", "_rev": "y"})), "it can't succeed");
        assert!(wrong("", json!([])), "elements are missing");
    }

    #[test]
    fn an_import_is_counted() {
        let mut docs = Docs::default();
        docs.apply(&Effect::All(vec![Effect::Created(0), put(2, Some(2), Some(2))]));
        let other = Slot { key: 5, ..SLOT };
        for (on_duplicate, updated, ignored, errors) in [
            (OnDuplicate::Update, 1, 0, 0),
            (OnDuplicate::Replace, 1, 0, 0),
            (OnDuplicate::Ignore, 0, 1, 0),
            (OnDuplicate::Error, 0, 0, 1),
        ] {
            let action = Action::Import { slots: vec![SLOT, other], on_duplicate };
            let expected = docs.expect(7, &action);
            let told = |created: u64| {
                let body = json!({"created": created, "updated": updated, "ignored": ignored, "errors": errors,
                    "empty": 0});
                expected.judge(&action, 201, &body)
            };
            assert!(told(1).is_ok(), "{on_duplicate:?}");
            assert!(told(2).is_err(), "{on_duplicate:?}");
        }
    }

    #[test]
    fn a_read_must_fit_an_instant_of_its_own() {
        let mut shadow = Shadow::default();
        shadow.apply(At(10), &Effect::Put(SLOT, doc(1)));
        shadow.apply(At(20), &Effect::Put(SLOT, doc(2)));
        shadow.become_at(At(30), Docs::default());
        let read = |from, to, value: Option<Doc>| shadow.version_read(SLOT, At(from), At(to), value.as_ref());
        assert_eq!(read(1, 5, None), Some(0));
        assert_eq!(read(1, 15, Some(doc(1))), Some(1));
        assert_eq!(read(15, 16, Some(doc(1))), Some(1));
        assert_eq!(read(21, 25, Some(doc(1))), None, "stale");
        assert_eq!(read(11, 15, Some(doc(2))), None, "from the future");
        assert_eq!(read(25, 35, None), Some(3), "undone");
        let other = |from, to| shadow.was_other(SLOT, At(from), At(to), Some(&doc(1)));
        assert!(!other(11, 19));
        assert!(other(10, 19), "nothing, just before");
        assert!(other(11, 20) && other(21, 25) && other(31, 40));
    }
}
