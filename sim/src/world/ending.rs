//! The end of a run: everything is healed, must converge within a bound, and is compared row by row.

use super::*;
use tanist_engine::db::meta;
use tanist_engine::db::store::{self, Table};

impl World {
    pub(super) fn watch(&mut self) {
        let Some(healed) = self.healed else { return };
        let stores = &self.replication.stores;
        let progress = Progress {
            leader: self.lease.serving(&self.server_times()).map(|(server, _)| server),
            servers: (0..stores.len()).map(|i| (self.runs(self.agents + i), stores[i].last().to_string())).collect(),
            served: self.workload.served_since_heal() && self.at > healed.plus(Duration::from_secs(1)),
            idle: true,
        };
        match liveness::pending(&progress) {
            // While clients write, followers are always a little behind: stop them once everybody has been served.
            _ if !self.workload.closing && progress.leader.is_some() && progress.served => {
                self.workload.closing = true;
            }
            None if self.workload.closing => {
                match liveness::pending(&Progress { idle: self.workload.idle(), ..progress }) {
                    None => return self.finish(),
                    Some((invariant, what)) => self.too_late(healed, invariant, what),
                }
            }
            Some((invariant, what)) => self.too_late(healed, invariant, what),
            None => self.too_late(healed, "I17", "a client has had no answer since the healing".into()),
        }
        self.after(WATCH_EVERY, Happening::Watch);
    }

    pub(super) fn too_late(&mut self, healed: At, invariant: &'static str, what: String) {
        let s = &self.scenario;
        let ms = Duration::from_millis;
        let bound = liveness::bound(ms(s.lease_ms), ms(s.election_max_ms), ms(s.ok_threshold_ms), ms(s.supervision_ms));
        if self.at > healed.plus(bound) {
            self.hold(Err((invariant, format!("{what}, {bound:?} after everything was healed"))));
        }
    }

    /// Everything has converged: compare what must be the same now.
    pub(super) fn finish(&mut self) {
        let verdict = self.replication.converged();
        self.hold(verdict);
        let verdict = self.history.nothing_vanished(&self.replication);
        self.hold(verdict);
        let verdict = history::counters(&self.workload.history);
        self.hold(verdict);
        let verdict = self.same_stores();
        self.hold(verdict);
        self.figures.operations = self.workload.history.len();
        self.figures.acknowledged = self.history.acknowledged.len();
        self.figures.lost = self.history.lost(&self.replication);
        self.tell("end", "everything has converged");
        self.over = true;
    }

    /// I9 and I10 on the stores themselves: what a reader finds in them, whatever the engine says.
    pub(super) fn same_stores(&self) -> Verdict {
        let mut first: Option<Dump> = None;
        for (server, machine) in self.machines[self.agents..].iter().enumerate() {
            let broken = |error| ("I9", format!("s{server} can't be read: {error}"));
            let snapshot = machine.store.snapshot().map_err(broken)?;
            let reader = Reader::new(&*snapshot).map_err(broken)?;
            let dump = dump(&reader).map_err(broken)?;
            let rolled: Vec<Position> =
                reader.rolled_back(usize::MAX).map_err(broken)?.iter().map(|(_, e)| e.position()).collect();
            let shadow = &self.replication.stores[server];
            let kept = meta::KEPT.as_bytes();
            let kept = store::scan_prefix(&*snapshot, Table::Meta, kept, store::Direction::Forward).count();
            if kept < shadow.replaced {
                let replaced = shadow.replaced;
                return Err(("I10", format!("s{server} replaced its data {replaced} times, but keeps {kept} (R8)")));
            }
            if let Some(missing) = shadow.undone.iter().find(|p| !rolled.contains(p)) {
                return Err(("I10", format!("s{server} undid {missing}, but its rollback record does not have it")));
            }
            for (slot, doc) in &shadow.shadow.docs.documents {
                let place = (format!("c{}", slot.collection), format!("k{}", slot.key));
                if dump.documents.get(&place).is_none_or(|(rev, _)| *rev != doc.rev) {
                    return Err(("I9", format!("s{server} does not hold {slot} as it was written: {doc:?}")));
                }
            }
            let held = dump.documents.keys().filter(|(c, _)| ["c0", "c1", "c2"].contains(&c.as_str())).count();
            if held != shadow.shadow.docs.documents.len() {
                return Err((
                    "I9",
                    format!(
                        "s{server} holds {held} documents of the workload, which wrote {}",
                        shadow.shadow.docs.documents.len()
                    ),
                ));
            }
            match &first {
                Some(first) => first.compare(&dump).map_err(|what| ("I9", format!("s0 and s{server}: {what}")))?,
                None => first = Some(dump),
            }
        }
        Ok(())
    }
}

/// What two converged stores must have in common.
#[derive(Default)]
pub struct Dump {
    pub last: Position,
    pub history: Vec<EpochRow>,
    pub databases: Vec<String>,
    pub collections: Vec<String>,
    /// By collection and key: `_rev` and body.
    pub documents: BTreeMap<(String, String), (String, Vec<u8>)>,
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
            return differ("the databases");
        }
        if self.collections != other.collections {
            return Err(format!("the collections differ: {:?} and {:?}", self.collections, other.collections));
        }
        let keys = self.documents.keys().chain(other.documents.keys());
        for key in keys {
            if self.documents.get(key) != other.documents.get(key) {
                return Err(format!("the documents at {}/{} differ", key.0, key.1));
            }
        }
        Ok(())
    }
}

fn dump(reader: &Reader) -> Result<Dump, tanist_engine::db::store::StoreError> {
    let mut dump = Dump { last: reader.last()?, history: reader.history()?, ..Dump::default() };
    for database in reader.databases()? {
        dump.databases.push(format!("{database:?}"));
        for collection in reader.collections(database.id)? {
            dump.collections.push(format!("{collection:?} holds {}", reader.count(&collection)?));
            for document in reader.documents(&collection, None, usize::MAX)? {
                let place = (collection.name.clone(), document.key.clone());
                dump.documents.insert(place, (document.revision.encode(), document.body.to_vec()));
            }
        }
    }
    Ok(dump)
}
