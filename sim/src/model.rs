//! The truth about documents: what each may be, given the log entries that a server has applied.
//!
//! Written from the HTTP API's description, with nothing of the engine in it. A server's *shadow* holds what its
//! documents must be after the entries that the checkers saw it apply, and when each changed, so that a read can be
//! judged by the instants between its start and its end.

use crate::clock::At;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use tanist_engine::http::{Method, Request, header};

/// A document's place: collection and key number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub collection: u8,
    pub key: u8,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}/k{}", self.collection, self.key)
    }
}

/// A document of the workload. `v` names the operation that wrote it last; `a` and `b` tell replace from update.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Doc {
    pub v: u64,
    pub a: Option<u64>,
    pub b: Option<u64>,
    pub rev: String,
}

impl Doc {
    /// Takes a document apart as a client sees it; `None` if it is not of this shape.
    pub fn from_json(value: &serde_json::Value) -> Option<Doc> {
        let object = value.as_object()?;
        let known = ["_key", "_id", "_rev", "v", "a", "b"];
        if object.keys().any(|k| !known.contains(&k.as_str())) {
            return None;
        }
        let number = |name: &str| object.get(name).map(|v| v.as_u64());
        Some(Doc {
            v: number("v")??,
            a: number("a").flatten(),
            b: number("b").flatten(),
            rev: object.get("_rev")?.as_str()?.to_owned(),
        })
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Insert(Slot),
    /// Merges `b`.
    Update(Slot, Option<String>),
    /// Leaves nothing but `v`.
    Replace(Slot, Option<String>),
    Remove(Slot, Option<String>),
    Read {
        slot: Slot,
        dirty: bool,
    },
    Create(u8),
    Truncate(u8),
    Drop(u8),
    /// Adds one to a counter in the agency, with a client id: applied once however often it is sent.
    Count(u8),
    ReadCount(u8),
}

impl Action {
    pub fn is_agency(&self) -> bool {
        matches!(self, Action::Count(_) | Action::ReadCount(_))
    }

    pub fn is_read(&self) -> bool {
        matches!(self, Action::Read { .. } | Action::ReadCount(_))
    }

    /// The request, marked with the operation's number in a header that nobody but the checkers looks at.
    pub fn request(&self, op: u64) -> Request {
        let document = |method: Method, slot: &Slot, rest: &str| {
            Request::new(method, format!("/_api/document/c{}/k{}{rest}", slot.collection, slot.key))
        };
        let matching = |request: Request, rev: &Option<String>| match rev {
            Some(rev) => request.with_header(header::IF_MATCH, format!("\"{rev}\"")),
            None => request,
        };
        let request = match self {
            Action::Insert(slot) => {
                Request::new(Method::Post, format!("/_api/document/c{}?returnNew=true", slot.collection))
                    .with_body(format!(r#"{{"_key":"k{}","v":{op},"a":{op}}}"#, slot.key))
            }
            Action::Update(slot, rev) => matching(document(Method::Patch, slot, "?returnNew=true"), rev)
                .with_body(format!(r#"{{"v":{op},"b":{op}}}"#)),
            Action::Replace(slot, rev) => {
                matching(document(Method::Put, slot, "?returnNew=true"), rev).with_body(format!(r#"{{"v":{op}}}"#))
            }
            Action::Remove(slot, rev) => matching(document(Method::Delete, slot, ""), rev),
            Action::Read { slot, dirty: false } => document(Method::Get, slot, ""),
            Action::Read { slot, dirty: true } => {
                document(Method::Get, slot, "").with_header(header::ALLOW_DIRTY_READ, "true")
            }
            Action::Create(c) => {
                Request::new(Method::Post, "/_api/collection").with_body(format!(r#"{{"name":"c{c}"}}"#))
            }
            Action::Truncate(c) => Request::new(Method::Put, format!("/_api/collection/c{c}/truncate")),
            Action::Drop(c) => Request::new(Method::Delete, format!("/_api/collection/c{c}")),
            Action::Count(n) => Request::new(Method::Post, "/_api/agency/write")
                .with_body(format!(r#"[[{{"/sim/n{n}":{{"op":"increment"}}}},{{}},"sim-{op}"]]"#)),
            Action::ReadCount(n) => {
                Request::new(Method::Post, "/_api/agency/read").with_body(format!(r#"[["/sim/n{n}"]]"#))
            }
        };
        // Some drivers allow dirty reads with everything that they send.
        let request = match self {
            Action::Insert(_) | Action::Update(..) | Action::Replace(..) | Action::Remove(..)
                if op.is_multiple_of(6) =>
            {
                request.with_header(header::ALLOW_DIRTY_READ, "true")
            }
            _ => request,
        };
        request.with_header(OP_HEADER, op.to_string())
    }
}

/// Carries the operation's number through the engine, which ignores it.
pub const OP_HEADER: &str = "x-sim-op";

pub fn op_of(request: &Request) -> Option<u64> {
    request.header(OP_HEADER)?.parse().ok()
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cond = |rev: &Option<String>| rev.as_ref().map_or(String::new(), |r| format!(" if {r}"));
        match self {
            Action::Insert(slot) => write!(f, "insert {slot}"),
            Action::Update(slot, rev) => write!(f, "update {slot}{}", cond(rev)),
            Action::Replace(slot, rev) => write!(f, "replace {slot}{}", cond(rev)),
            Action::Remove(slot, rev) => write!(f, "remove {slot}{}", cond(rev)),
            Action::Read { slot, dirty } => write!(f, "{}read {slot}", if *dirty { "dirty " } else { "" }),
            Action::Create(c) => write!(f, "create c{c}"),
            Action::Truncate(c) => write!(f, "truncate c{c}"),
            Action::Drop(c) => write!(f, "drop c{c}"),
            Action::Count(n) => write!(f, "count n{n}"),
            Action::ReadCount(n) => write!(f, "read n{n}"),
        }
    }
}

/// What one log entry did, as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    Put(Slot, Doc),
    Gone(Slot),
    Created(u8),
    Emptied(u8),
    Dropped(u8),
}

/// Collections and their documents at one point of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Docs {
    pub collections: BTreeSet<u8>,
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
            Effect::Emptied(c) => self.documents.retain(|slot, _| slot.collection != *c),
            Effect::Dropped(c) => {
                self.documents.retain(|slot, _| slot.collection != *c);
                self.collections.remove(c);
            }
        }
    }

    /// The status that a write must get here, and the document it must leave (its `_rev` is not known before).
    pub fn expect(&self, op: u64, action: &Action) -> (u16, Option<Doc>) {
        let new = |a, b| Some(Doc { v: op, a, b, rev: String::new() });
        let old = |slot: &Slot, rev: &Option<String>| -> Result<&Doc, u16> {
            let doc = self.documents.get(slot).ok_or(404u16)?;
            match rev {
                Some(rev) if *rev != doc.rev => Err(412),
                _ => Ok(doc),
            }
        };
        let outcome = match action {
            Action::Insert(slot) if !self.collections.contains(&slot.collection) => Err(404),
            Action::Insert(slot) if self.documents.contains_key(slot) => Err(409),
            Action::Insert(_) => Ok(new(Some(op), None)),
            Action::Update(slot, rev) => old(slot, rev).map(|doc| new(doc.a, Some(op))),
            Action::Replace(slot, rev) => old(slot, rev).map(|_| new(None, None)),
            Action::Remove(slot, rev) => old(slot, rev).map(|_| None),
            Action::Create(c) if self.collections.contains(c) => Err(409),
            Action::Truncate(c) | Action::Drop(c) if !self.collections.contains(c) => Err(404),
            _ => Ok(None),
        };
        match outcome {
            Ok(doc) => (200, doc),
            Err(status) => (status, None),
        }
    }

    /// What a write that succeeded did. `rev` is the new document's.
    pub fn effect(&self, op: u64, action: &Action, rev: String) -> Option<Effect> {
        let (_, doc) = self.expect(op, action);
        Some(match action {
            Action::Insert(slot) | Action::Update(slot, _) | Action::Replace(slot, _) => {
                Effect::Put(*slot, Doc { rev, ..doc? })
            }
            Action::Remove(slot, _) => Effect::Gone(*slot),
            Action::Create(c) => Effect::Created(*c),
            Action::Truncate(c) => Effect::Emptied(*c),
            Action::Drop(c) => Effect::Dropped(*c),
            Action::Read { .. } | Action::Count(_) | Action::ReadCount(_) => return None,
        })
    }
}

/// What one server's documents are, and when they changed.
#[derive(Clone, Debug, Default, Hash)]
pub struct Shadow {
    pub docs: Docs,
    changes: BTreeMap<Slot, Vec<(At, Option<Doc>)>>,
}

impl Shadow {
    pub fn apply(&mut self, at: At, effect: &Effect) {
        match effect {
            Effect::Put(slot, doc) => self.changes.entry(*slot).or_default().push((at, Some(doc.clone()))),
            Effect::Gone(slot) => self.changes.entry(*slot).or_default().push((at, None)),
            Effect::Created(_) => {}
            Effect::Emptied(c) | Effect::Dropped(c) => {
                for slot in self.docs.documents.keys().filter(|slot| slot.collection == *c) {
                    self.changes.entry(*slot).or_default().push((at, None));
                }
            }
        }
        self.docs.apply(effect);
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

    /// Which of the slot's versions a read between two instants returned: its place in the order of changes, the
    /// earliest that fits; `None` if it fits none.
    pub fn version_read(&self, slot: Slot, from: At, to: At, read: Option<&Doc>) -> Option<usize> {
        let none = Vec::new();
        let changes = self.changes.get(&slot).unwrap_or(&none);
        let before = changes.iter().take_while(|(at, _)| *at < from).count();
        // Version 0 is "never written"; version n is what the nth change left.
        let version = |n: usize| if n == 0 { None } else { changes[n - 1].1.as_ref() };
        let last = changes.iter().take_while(|(at, _)| *at <= to).count();
        (before..=last).find(|n| version(*n) == read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot { collection: 0, key: 1 };

    fn doc(v: u64) -> Doc {
        Doc { v, a: None, b: None, rev: format!("r{v}") }
    }

    #[test]
    fn the_model_knows_the_api() {
        let mut docs = Docs::default();
        assert_eq!(docs.expect(1, &Action::Insert(SLOT)).0, 404);
        docs.apply(&docs.effect(1, &Action::Create(0), String::new()).unwrap());
        assert_eq!(docs.expect(1, &Action::Create(0)).0, 409);
        docs.apply(&docs.effect(2, &Action::Insert(SLOT), "r2".into()).unwrap());
        assert_eq!(docs.expect(3, &Action::Insert(SLOT)).0, 409);
        assert_eq!(docs.expect(3, &Action::Update(SLOT, Some("r1".into()))).0, 412);
        docs.apply(&docs.effect(3, &Action::Update(SLOT, Some("r2".into())), "r3".into()).unwrap());
        assert_eq!(docs.documents[&SLOT], Doc { v: 3, a: Some(2), b: Some(3), rev: "r3".into() });
        docs.apply(&docs.effect(4, &Action::Replace(SLOT, None), "r4".into()).unwrap());
        assert_eq!(docs.documents[&SLOT], doc(4));
        docs.apply(&docs.effect(5, &Action::Truncate(0), String::new()).unwrap());
        assert_eq!(docs.expect(6, &Action::Remove(SLOT, None)).0, 404);
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
    }
}
