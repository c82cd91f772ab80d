//! I9 and I10 on the stores themselves: what a reader finds in them once everything has converged, whatever the engine
//! said on the way.
//!
//! Every store holds what the model says and the same as the others, and in its indexes what its documents have. Its
//! rollback record holds exactly the entries that rollbacks took away here, each as it was written; and each store that
//! a copy replaced although it had a tail of its own is there as a whole.

use super::replication::{Born, Replaced, Store};
use super::{Verdict, broken};
use crate::action::{Slot, USERS, home, unique_value};
use crate::model::{Doc, Docs, moment_ms};
use crate::trace::Hash;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tanist_engine::db::store::StoreResult;
use tanist_engine::db::{Reader, index};
use tanist_engine::message::Entry;
use tanist_engine::types::{Epoch, EpochRow, Position};

/// A digest of an operation's bytes, to tell it from others.
pub fn digest(payload: &[u8]) -> u64 {
    let mut hash = Hash::new();
    hash.bytes(payload);
    hash.0
}

/// What two converged stores must have in common.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    pub last: Position,
    pub history: Vec<EpochRow>,
    pub databases: Vec<String>,
    pub collections: Vec<String>,
    /// By database, collection and key: `_rev` and body.
    pub documents: BTreeMap<(String, String, String), (String, Vec<u8>)>,
}

/// What was found in one store.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub dump: Dump,
    /// Of which collection the indexes are not what its documents have.
    pub wrong_indexes: Vec<String>,
    /// The rollback record: in which epoch each entry was undone, and the entry.
    pub rolled: Vec<(Epoch, Entry)>,
    /// Stores that were kept whole: the epoch in which each was replaced, what it holds, its log.
    pub kept: Vec<(Epoch, Dump, Vec<Entry>)>,
}

pub fn find(store: &impl tanist_engine::db::store::Store) -> StoreResult<Found> {
    let snapshot = store.snapshot()?;
    let reader = Reader::new(&*snapshot)?;
    let mut found = Found { dump: dump(&reader)?, rolled: reader.rolled_back(usize::MAX)?, ..Found::default() };
    found.wrong_indexes = wrong_indexes(&reader)?;
    for kept in reader.kept_stores()? {
        let old = Reader::of_generation(&*snapshot, kept.generation);
        let base = old.log_base()?.position.tick;
        found.kept.push((kept.epoch, dump(&old)?, old.log(base, usize::MAX)?));
    }
    Ok(found)
}

fn wrong_indexes(reader: &Reader) -> StoreResult<Vec<String>> {
    let mut wrong = Vec::new();
    for database in reader.databases()? {
        for collection in reader.collections(database.id)? {
            wrong.extend(index::check::wrong(reader, &collection)?);
        }
    }
    Ok(wrong)
}

/// Holds the indexes of a store against its documents, at any moment. What can't be read is another checker's.
pub fn indexes_agree(server: usize, store: &impl tanist_engine::db::store::Store) -> Verdict {
    let wrong = store.snapshot().and_then(|snapshot| wrong_indexes(&Reader::new(&*snapshot)?)).unwrap_or_default();
    match wrong.first() {
        Some(what) => broken!("unique", "s{server}: {what}"),
        None => Ok(()),
    }
}

fn dump(reader: &Reader) -> StoreResult<Dump> {
    let mut dump = Dump { last: reader.last()?, history: reader.history()?, ..Dump::default() };
    for database in reader.databases()? {
        dump.databases.push(format!("{database:?} with the views {:?}", reader.views(database.id)?));
        for collection in reader.collections(database.id)? {
            dump.collections.push(format!("{collection:?} holds {}", reader.count(&collection)?));
            for document in reader.documents(&collection, None, usize::MAX)? {
                let place = (database.name.clone(), collection.name.clone(), document.key.clone());
                dump.documents.insert(place, (document.revision.encode(), document.body.to_vec()));
            }
        }
    }
    Ok(dump)
}

impl Dump {
    pub fn compare(&self, other: &Dump) -> Result<(), String> {
        let differ = |what: &str| Err(format!("{what} differ"));
        if self.last != other.last {
            return differ("the ends of the logs");
        }
        if self.history != other.history {
            return Err(format!("the epoch histories differ: {:?} and {:?}", self.history, other.history));
        }
        if self.databases != other.databases {
            return Err(format!("the databases differ: {:?} and {:?}", self.databases, other.databases));
        }
        if self.collections != other.collections {
            return Err(format!("the collections differ: {:?} and {:?}", self.collections, other.collections));
        }
        let keys = self.documents.keys().chain(other.documents.keys());
        for key in keys {
            if self.documents.get(key) != other.documents.get(key) {
                return Err(format!("the documents at {}/{}/{} differ", key.0, key.1, key.2));
            }
        }
        Ok(())
    }

    /// The workload's documents and users.
    fn docs(&self) -> Result<BTreeMap<Slot, Doc>, String> {
        let mut docs = BTreeMap::new();
        for ((database, collection, key), (rev, body)) in &self.documents {
            let body: Value = serde_json::from_slice(body).map_err(|e| format!("{collection}/{key}: {e}"))?;
            let number = |text: &str, first: char| text.strip_prefix(first)?.parse::<u8>().ok();
            let strange = || format!("{database}/{collection}/{key} is no document of the workload: {body}");
            if (database.as_str(), collection.as_str()) == ("_system", "_users") {
                let name = body.get("user").and_then(Value::as_str).ok_or_else(strange)?;
                let Some(key) = number(name, 'u') else { continue };
                let v = body.pointer("/userData/v").and_then(Value::as_u64).ok_or_else(strange)?;
                let grant = body.pointer("/databases/_system/permissions");
                let level = grant.map(|grant| match (&grant["read"], &grant["write"]) {
                    (_, Value::Bool(true)) => 2,
                    (Value::Bool(true), _) => 1,
                    _ => 0,
                });
                docs.insert(
                    Slot { collection: USERS, key },
                    Doc { v, a: level, b: None, moment_ms: None, rev: String::new() },
                );
                continue;
            }
            let Some(c) = number(collection, 'c') else { continue };
            let slot = Slot { collection: c, key: number(key, 'k').ok_or_else(strange)? };
            let home = home(c);
            let field = |name: &str| body.get(name).and_then(Value::as_u64);
            let v = field("v").filter(|_| home == *database).ok_or_else(strange)?;
            if field("n") != unique_value(slot, v) {
                return Err(strange());
            }
            let moment_ms = moment_ms(&body);
            docs.insert(slot, Doc { v, a: field("a"), b: field("b"), moment_ms, rev: rev.clone() });
        }
        Ok(docs)
    }

    /// Whether it holds what the model says, and nothing else.
    fn holds(&self, truth: &Docs) -> Result<(), String> {
        let mut docs = self.docs()?;
        for (slot, doc) in &truth.documents {
            let same = |found: &Doc| {
                (found.v, found.a, found.b, found.moment_ms) == (doc.v, doc.a, doc.b, doc.moment_ms)
                    && (doc.rev.is_empty() || doc.rev == found.rev)
            };
            match docs.remove(slot) {
                Some(found) if same(&found) => {}
                found => return Err(format!("{slot} is {found:?}, and was written as {doc:?}")),
            }
        }
        match docs.pop_first() {
            Some((slot, found)) => Err(format!("{slot} is {found:?}, which is gone")),
            None => Ok(()),
        }
    }
}

/// Holds one store against what the checkers saw it do.
pub fn judge(server: usize, found: &Found, truth: &Store, born: &BTreeMap<Position, Born>) -> Verdict {
    if let Err(what) = found.dump.holds(&truth.shadow.docs) {
        broken!("I9", "s{server}: {what}");
    }
    if let Some(what) = found.wrong_indexes.first() {
        broken!("I9", "s{server}: {what}");
    }
    let as_written = |entry: &Entry| born.get(&entry.position()).is_some_and(|b| b.digest == digest(&entry.payload));
    let mut recorded = BTreeSet::new();
    for (epoch, entry) in &found.rolled {
        let position = entry.position();
        if !truth.undone.contains(&(*epoch, position)) {
            broken!("I10", "s{server} records that {position} was undone in epoch {}, but it was not", epoch.0);
        }
        if !as_written(entry) {
            broken!("I10", "s{server} records {position} with another operation than was written");
        }
        recorded.insert((*epoch, position));
    }
    if let Some((epoch, missing)) = truth.undone.difference(&recorded).next() {
        broken!("I10", "s{server} undid {missing} in epoch {}, but does not record it", epoch.0);
    }
    let mut kept: Vec<&(Epoch, Dump, Vec<Entry>)> = found.kept.iter().collect();
    for Replaced { epoch, last, gone, docs } in &truth.replaced {
        let Some(at) = kept.iter().position(|(in_epoch, dump, _)| (in_epoch, &dump.last) == (epoch, last)) else {
            broken!("I10", "s{server} was replaced at {last} in epoch {}, but that is not kept", epoch.0);
        };
        let (_, dump, log) = kept.swap_remove(at);
        if let Err(what) = dump.holds(docs) {
            broken!("I10", "s{server} keeps what it had at {last}, but there {what}");
        }
        // What its log had forgotten is in its documents.
        let first = log.first().map_or(u64::MAX, |entry| entry.tick.0);
        let there: BTreeSet<Position> = log.iter().filter(|entry| as_written(entry)).map(Entry::position).collect();
        if let Some(missing) = gone.iter().find(|p| p.tick.0 >= first && !there.contains(p)) {
            broken!("I10", "s{server} keeps what it had at {last}, but without entry {missing}");
        }
    }
    if let Some((epoch, dump, _)) = kept.first() {
        broken!("I10", "s{server} keeps a store at {} of epoch {} that lost nothing", dump.last, epoch.0);
    }
    Ok(())
}

/// I9: all converged stores are the same.
pub fn same(all: &[Found]) -> Verdict {
    for (server, found) in all.iter().enumerate().skip(1) {
        if let Err(what) = all[0].dump.compare(&found.dump) {
            broken!("I9", "s0 and s{server}: {what}");
        }
    }
    Ok(())
}

/// The revision under which a store holds a document of the workload.
pub fn revision_of(store: &impl tanist_engine::db::store::Store, slot: Slot, doc: &Doc) -> Option<String> {
    let snapshot = store.snapshot().ok()?;
    let reader = Reader::new(&*snapshot).ok()?;
    let home = home(slot.collection);
    let database = reader.database(&home).ok()??;
    let collection = reader.collection(database.id, &format!("c{}", slot.collection)).ok()??;
    let found = reader.document(&collection, &slot.key()).ok()??;
    let body: Value = serde_json::from_slice(&found.body).ok()?;
    (body.get("v")? == doc.v).then(|| found.revision.encode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Effect;
    use bytes::Bytes;
    use tanist_engine::types::{Lineage, Tick};

    const SLOT: Slot = Slot { collection: 0, key: 1 };

    fn at(epoch: u64, tick: u64) -> Position {
        Position { epoch: Epoch(epoch), tick: Tick(tick) }
    }

    fn entry(tick: u64, payload: &'static str) -> Entry {
        Entry::new(Epoch(1), Tick(tick), Bytes::from_static(payload.as_bytes()))
    }

    fn place(collection: &str, key: &str) -> (String, String, String) {
        ("_system".into(), collection.into(), key.into())
    }

    fn dump() -> Dump {
        let user =
            r#"{"user":"u2","userData":{"v":5},"databases":{"_system":{"permissions":{"read":true,"write":false}}}}"#;
        let documents = [
            (place("c0", "k1"), ("r".into(), br#"{"v":3,"a":3}"#.to_vec())),
            (place("_users", "17"), ("x".into(), user.into())),
            (place("_users", "1"), ("y".into(), br#"{"user":"root"}"#.to_vec())),
        ];
        Dump {
            last: at(2, 9),
            history: vec![EpochRow { epoch: Epoch(1), first: Tick(1), lineage: Lineage(7) }],
            databases: vec!["_system".into()],
            collections: vec!["c0".into()],
            documents: documents.into_iter().collect(),
        }
    }

    /// A store in which nothing is amiss: entries 6 and 7 were undone in epoch 2, and a copy has replaced it once.
    fn sound() -> (Found, Store, BTreeMap<Position, Born>) {
        let found = Found {
            dump: dump(),
            wrong_indexes: Vec::new(),
            rolled: vec![(Epoch(2), entry(6, "six")), (Epoch(2), entry(7, "seven"))],
            kept: vec![(Epoch(3), Dump { last: at(1, 8), ..dump() }, vec![entry(7, "seven"), entry(8, "eight")])],
        };
        let mut docs = Docs::default();
        docs.apply(&Effect::Put(SLOT, Doc { v: 3, a: Some(3), b: None, moment_ms: None, rev: "r".into() }));
        let user = Doc { v: 5, a: Some(1), b: None, moment_ms: None, rev: String::new() };
        docs.apply(&Effect::Put(Slot { collection: USERS, key: 2 }, user));
        let mut truth = Store::default();
        truth.undone.extend([(Epoch(2), at(1, 6)), (Epoch(2), at(1, 7))]);
        truth.shadow.docs = docs.clone();
        let gone = vec![at(1, 5), at(1, 8)];
        truth.replaced.push(Replaced { epoch: Epoch(3), last: at(1, 8), gone, docs });
        let born = [entry(5, "five"), entry(6, "six"), entry(7, "seven"), entry(8, "eight")].map(|entry| {
            let digest = digest(&entry.payload);
            (entry.position(), Born { checksum: entry.checksum, digest, effect: None })
        });
        (found, truth, born.into_iter().collect())
    }

    #[test]
    fn a_broken_record_or_store_is_found() {
        let verdict = |break_it: &dyn Fn(&mut Found)| {
            let (mut found, truth, born) = sound();
            break_it(&mut found);
            judge(0, &found, &truth, &born).map_err(|(invariant, _)| invariant)
        };
        assert_eq!(verdict(&|_| {}), Ok(()));
        let document = |body: &'static str| {
            move |found: &mut Found| {
                let rev = "r".to_owned();
                found.dump.documents.insert(place("c0", "k1"), (rev, body.into()));
            }
        };
        assert_eq!(verdict(&document(r#"{"v":3,"a":4}"#)), Err("I9"), "another body");
        assert_eq!(verdict(&document("{}")), Err("I9"), "no document");
        let revision = |f: &mut Found| f.dump.documents.get_mut(&place("c0", "k1")).unwrap().0 = "s".into();
        assert_eq!(verdict(&revision), Err("I9"), "another revision");
        assert_eq!(verdict(&|f| drop(f.dump.documents.remove(&place("c0", "k1")))), Err("I9"), "missing");
        assert_eq!(verdict(&|f| drop(f.dump.documents.remove(&place("_users", "17")))), Err("I9"), "no user");
        let more =
            |f: &mut Found| drop(f.dump.documents.insert(place("c0", "k2"), ("r".into(), b"{\"v\":1}".to_vec())));
        assert_eq!(verdict(&more), Err("I9"), "one too many");
        assert_eq!(verdict(&|f| f.wrong_indexes.push("of c0".into())), Err("I9"), "another index");

        assert_eq!(verdict(&|f| drop(f.rolled.pop())), Err("I10"), "not recorded");
        assert_eq!(verdict(&|f| f.rolled.push((Epoch(2), entry(8, "eight")))), Err("I10"), "it was never undone");
        assert_eq!(verdict(&|f| f.rolled[0].0 = Epoch(4)), Err("I10"), "in another epoch");
        assert_eq!(verdict(&|f| f.rolled[0].1 = entry(6, "nine")), Err("I10"), "another operation");

        assert_eq!(verdict(&|f| f.kept.clear()), Err("I10"), "not kept");
        assert_eq!(verdict(&|f| f.kept.push((Epoch(4), dump(), vec![]))), Err("I10"), "kept without need");
        assert_eq!(verdict(&|f| f.kept[0].1.documents.clear()), Err("I10"), "kept without its documents");
        assert_eq!(verdict(&|f| drop(f.kept[0].2.pop())), Err("I10"), "kept without an entry");
        assert_eq!(verdict(&|f| f.kept[0].2[1] = entry(8, "nine")), Err("I10"), "kept with another operation");
    }

    #[test]
    fn stores_that_differ_are_found() {
        let verdict = |break_it: &dyn Fn(&mut Dump)| {
            let mut other = Found { dump: dump(), ..Found::default() };
            break_it(&mut other.dump);
            same(&[Found { dump: dump(), ..Found::default() }, other])
        };
        verdict(&|_| {}).unwrap();
        assert!(verdict(&|d| d.last = at(2, 8)).is_err());
        assert!(verdict(&|d| d.history[0].lineage = Lineage(8)).is_err());
        assert!(verdict(&|d| d.databases.clear()).is_err());
        assert!(verdict(&|d| d.collections.clear()).is_err());
        assert!(verdict(&|d| drop(d.documents.pop_first())).is_err());
        assert!(verdict(&|d| d.documents.get_mut(&place("c0", "k1")).unwrap().0 = "s".into()).is_err(), "_rev");
    }
}
