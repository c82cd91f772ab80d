//! What an etcd does with each question, as far as it is used: for the simulator and for tests. `tests/etcd` holds it
//! against the real one.
//!
//! It is one linearizable store: each question has its effect at once, in the order of the calls. What delays, loses
//! and repeats questions and answers is not here, and neither is time: leases end when somebody says so.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Hash)]
struct Stored {
    value: Bytes,
    created: u64,
    modified: u64,
    lease: Option<u64>,
}

#[derive(Clone, Debug, Hash)]
pub struct Model {
    revision: u64,
    rows: BTreeMap<String, Stored>,
    leases: BTreeSet<u64>,
    granted: u64,
}

impl Default for Model {
    fn default() -> Model {
        Model { revision: 1, rows: BTreeMap::new(), leases: BTreeSet::new(), granted: 0 }
    }
}

impl Model {
    pub fn perform(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::Grant { .. } => {
                self.granted += 1;
                self.leases.insert(self.granted);
                Answer::Granted { lease: self.granted }
            }
            Ask::KeepAlive { lease } => Answer::Alive { ttl_s: u64::from(self.leases.contains(lease)) },
            Ask::Revoke { lease } => {
                self.end_lease(*lease);
                Answer::Revoked
            }
            Ask::Range { span, limit } => {
                let mut rows = self.range(span);
                let more = rows.len() > *limit;
                rows.truncate(*limit);
                Answer::Rows { rows, more }
            }
            Ask::Transaction(transaction) => self.decide(transaction),
        }
    }

    /// A lease is over: the keys that were bound to it go.
    pub fn end_lease(&mut self, lease: u64) {
        if !self.leases.remove(&lease) {
            return;
        }
        let before = self.rows.len();
        self.rows.retain(|_, row| row.lease != Some(lease));
        self.revision += u64::from(self.rows.len() < before);
    }

    pub fn leases(&self) -> impl Iterator<Item = u64> + '_ {
        self.leases.iter().copied()
    }

    pub fn range(&self, span: &Span) -> Vec<Row> {
        let row = |(key, row): (&String, &Stored)| Row {
            key: key.clone(),
            value: row.value.clone(),
            created: row.created,
            modified: row.modified,
        };
        self.rows.iter().filter(|(key, _)| span.contains(key)).map(row).collect()
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Created { key, revision } => self.rows.get(key).map_or(0, |row| row.created) == *revision,
            Compare::Modified { key, revision } => self.rows.get(key).map_or(0, |row| row.modified) == *revision,
        }
    }

    fn decide(&mut self, transaction: &Transaction) -> Answer {
        if !transaction.compare.iter().all(|compare| self.holds(compare)) {
            let ranges = transaction.otherwise.iter().map(|span| self.range(span)).collect();
            return Answer::Decided { succeeded: false, revision: self.revision, ranges };
        }
        let unknown = |change: &Change| match change {
            Change::Put { lease: Some(lease), .. } => !self.leases.contains(lease),
            _ => false,
        };
        if transaction.then.iter().any(unknown) {
            return Answer::NoSuchLease;
        }
        let revision = self.revision + 1;
        let mut changed = false;
        for change in &transaction.then {
            match change {
                Change::Put { key, value, lease } => {
                    changed = true;
                    let created = self.rows.get(key).map_or(revision, |row| row.created);
                    let row = Stored { value: value.clone(), created, modified: revision, lease: *lease };
                    self.rows.insert(key.clone(), row);
                }
                Change::Delete(span) => {
                    let before = self.rows.len();
                    self.rows.retain(|key, _| !span.contains(key));
                    changed |= self.rows.len() < before;
                }
            }
        }
        self.revision += u64::from(changed);
        Answer::Decided { succeeded: true, revision: self.revision, ranges: Vec::new() }
    }
}
