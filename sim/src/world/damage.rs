//! What happens to disks: they fill up, refuse to sync, rot, are wiped, or are put back as they once were.
//!
//! No fault takes the last sound, complete copy of the data: nothing could bring it back, so such a strike is spared,
//! and the trace tells of it. One that is about to be undone to nothing, because its leader shares no entry with it, is
//! no such copy. A rotten disk that has become the last one meanwhile (the others may have rolled back to
//! nothing) is repaired in the end instead of being replaced. What a lost disk alone had is gone without a trace: I12
//! is excused for that, and no more.

use super::*;
use crate::check::replication::Store;
use crate::faults::Rotten;
use std::ops::Bound;
use tanist_engine::db::mem::MemStore;
use tanist_engine::db::store::Store as _;
use tanist_engine::db::store::{Direction, Table};

/// How soon a process that its disk has ended is started again, and how often an operator looks at a refused server.
const RESTART: Duration = Duration::from_millis(200);
pub(super) const OPERATOR: Duration = Duration::from_millis(500);

/// An old copy of a server's directory, and what the checkers knew of it.
pub(super) struct Backup {
    node: usize,
    id: NodeId,
    store: MemStore,
    known: Store,
}

impl World {
    /// Whether a server has all the data of some time, undamaged, and keeps them. If its log begins otherwise than that
    /// of the furthest one, that one may lead and be about to have all of it undone.
    pub(super) fn is_sound(&self, node: usize) -> bool {
        let first = |store: &Store| store.log.first_key_value().map(|(tick, row)| (*tick, *row));
        let stores = &self.replication.stores;
        let begins = first(&stores[node - self.agents]);
        let furthest = stores.iter().max_by_key(|store| store.last()).and_then(first);
        self.machines[node].rotten_by.is_none() && begins.is_some() && begins == furthest
    }

    /// Whether the deployment can live without what this node's disk holds.
    fn can_spare(&mut self, node: usize) -> bool {
        let can = if node < self.agents {
            // The first pool needs all its agents.
            (0..self.agents).all(|agent| self.agency.applied(agent) > 0)
        } else {
            (self.agents..self.machines.len()).any(|other| other != node && self.is_sound(other))
        };
        if !can {
            self.say(node, "is spared: nobody else has what its disk holds");
        }
        can
    }

    // ---- a disk that does not take what it is given -----------------------------------------------------------------

    /// Whether the sync that is over now has failed. What it wrote is there, or not, or in part: nobody knows.
    pub(super) fn sync_failed(&mut self, node: usize) -> bool {
        let Some(number) = self.machines[node].sync_fails_by else { return false };
        let Kind::SyncFails { permille } = self.scenario.faults[number].kind else { return false };
        let Some(struck) = self.struck.get_mut(&number) else { return false };
        struck.rng.below(1000) < permille
    }

    /// As the server does: after a failed fsync the process ends, and its starter reports and restarts it.
    pub(super) fn ends_by_its_disk(&mut self, node: usize) {
        let Some(number) = self.machines[node].sync_fails_by else { return };
        self.say(node, "the disk refused a write");
        self.kill(node, number, 1, 1);
        self.again_after(number, RESTART);
    }

    /// A process could not be started; as long as a fault is the reason, its starter tries again.
    pub(super) fn not_started(&mut self, node: usize, error: &str) {
        let machine = &mut self.machines[node];
        let Some(number) = machine.sync_fails_by.or(machine.full_by).or(machine.rotten_by) else {
            return self.hold(Err(("contract", format!("{} can't be opened: {error}", self.machines[node].name))));
        };
        machine.down_by = Some(number);
        self.say(node, format_args!("does not start: {error}"));
        self.again_after(number, RESTART);
    }

    /// Disks that are full keep what they have, and take no more than `room_bytes`.
    pub(super) fn fill(&mut self, node: usize, number: usize, room_bytes: u64) {
        let machine = &mut self.machines[node];
        machine.full_by = Some(number);
        machine.store.set_capacity(Some(machine.store.bytes_used() + room_bytes as usize));
    }

    pub(super) fn disk_heals(&mut self, node: usize, number: usize) {
        let machine = &mut self.machines[node];
        if machine.full_by == Some(number) {
            machine.full_by = None;
            machine.store.set_capacity(None);
        }
        if machine.sync_fails_by == Some(number) {
            machine.sync_fails_by = None;
        }
        self.start_again(node, number);
    }

    // ---- a disk that loses what it has ------------------------------------------------------------------------------

    /// Some rows rot. Their checksums name them whenever they are read; the operator replaces the disk at the end, or
    /// repairs it.
    pub(super) fn rot(&mut self, node: usize, number: usize, table: Rotten, rows: u64) {
        if self.machines[node].rotten_by.is_some() || !self.can_spare(node) {
            return self.spared(number);
        }
        let table = match table {
            Rotten::Documents => Table::Documents,
            Rotten::Log => Table::Log,
        };
        let machine = &mut self.machines[node];
        let mut keys: Vec<Vec<u8>> = match machine.store.snapshot() {
            Ok(snapshot) => {
                let all = snapshot.scan(table, Bound::Unbounded, Bound::Unbounded, Direction::Forward);
                all.flatten().map(|(key, _)| key.to_vec()).collect()
            }
            Err(_) => return,
        };
        let Some(struck) = self.struck.get_mut(&number) else { return };
        let mut rotten = Vec::new();
        while (rotten.len() as u64) < rows && !keys.is_empty() {
            let key = keys.swap_remove(struck.rng.below(keys.len() as u64) as usize);
            if machine.store.corrupt(table, &key) {
                let value = machine.row(table, &key).expect("it is there");
                rotten.push((table, key, value));
            }
        }
        let count = rotten.len();
        if count > 0 {
            machine.rotten_by = Some(number);
            machine.rotten = rotten;
            self.replication.rotten.insert(node - self.agents);
        } else {
            self.spared(number);
        }
        self.say(node, format_args!("{count} rows of '{}' are rotten", table.name()));
    }

    /// An operator looks after a rotten disk.
    pub(super) fn rot_ends(&mut self, node: usize, number: usize) {
        if self.can_spare(node) {
            self.wipe(node, number);
        } else {
            self.kill(node, number, 1, 1);
            let machine = &mut self.machines[node];
            for (table, key, value) in std::mem::take(&mut machine.rotten) {
                // What was written since is sound.
                if machine.row(table, &key) == Some(value) {
                    machine.store.corrupt(table, &key);
                }
            }
            machine.rotten_by = None;
            self.replication.rotten.remove(&(node - self.agents));
            self.say(node, "its rows are repaired");
        }
        self.start_again(node, number);
    }

    /// The disk is replaced by an empty one. Whoever starts on it is somebody new at the same address.
    pub(super) fn wipe(&mut self, node: usize, number: usize) {
        self.kill(node, number, 1, 1);
        let machine = &mut self.machines[node];
        let machine_id = machine.id.take();
        machine.store = MemStore::new();
        machine.signed = None;
        machine.rotten_by = None;
        machine.rotten.clear();
        if let Some(number) = machine.full_by {
            self.fill(node, number, 0);
        }
        self.former.extend(machine_id.map(|id| (id, node)));
        self.say(node, "its disk is empty now");
        match node.checked_sub(self.agents) {
            None => self.agency.wiped(node),
            Some(server) => {
                self.loses(server, Store::default());
                self.replication.replaced(server);
            }
        }
    }

    /// The identity on its disk, or the one that was there last.
    pub(super) fn identity(&self, node: usize) -> Option<NodeId> {
        let before = || self.former.iter().find(|(_, who)| **who == node).map(|(id, _)| *id);
        self.machines[node].id.or_else(before)
    }

    pub(super) fn wipe_if_spared(&mut self, node: usize, number: usize) {
        if self.machines[node].down_by.is_none() && self.can_spare(node) {
            self.machines[node].down_by = Some(number);
            self.wipe(node, number);
        } else {
            self.spared(number);
        }
    }

    fn loses(&mut self, server: usize, back_to: Store) {
        let gone = self.replication.loses(self.at, server, back_to);
        if gone > 0 {
            self.excuse("I12", format!("{gone} entries were on the disk of s{server} only, which was lost"));
        }
    }

    pub(super) fn back_up(&mut self, node: usize, number: usize) {
        let Some(id) = self.machines[node].id.filter(|_| self.machines[node].rotten_by.is_none()) else {
            return self.spared(number);
        };
        let (store, known) = (self.machines[node].store.clone(), self.replication.stores[node - self.agents].clone());
        self.backups.entry(number).or_default().push(Backup { node, id, store, known });
    }

    /// The directory is put back as it was when the fault struck, with its identity.
    pub(super) fn restore(&mut self, number: usize) {
        for Backup { node, id, mut store, known } in self.backups.remove(&number).unwrap_or_default() {
            // A directory that was wiped meanwhile belongs to somebody else now; whose disk rots gets a new one.
            let same = self.machines[node].id == Some(id);
            let down = self.machines[node].down_by.is_some();
            let forgets_all = known.log.is_empty() && !self.can_spare(node);
            if !same || down || self.machines[node].rotten_by.is_some() || forgets_all {
                self.spared(number);
                continue;
            }
            self.kill(node, number, 1, 1);
            store.set_capacity(None);
            self.machines[node].store = store;
            self.machines[node].signed = None;
            if let Some(full) = self.machines[node].full_by {
                self.fill(node, full, 0);
            }
            self.say(node, "its directory is an old copy now");
            self.loses(node - self.agents, known);
            self.boot(node);
            self.after(OPERATOR, Happening::LetIn { node });
        }
    }

    /// The agency refuses a server whose directory is older than what it knows of it, until an operator lets it in.
    pub(super) fn let_in(&mut self, node: usize) {
        let machine = &self.machines[node];
        let Some(id) = machine.id else { return };
        if machine.process.as_ref().is_some_and(|process| process.boot.is_some()) {
            return;
        }
        if machine.process.is_some() {
            self.write_to_agency(node, format!(r#"[[{{"/arango/Plan/Singles/{id}":{{"op":"delete"}}}}]]"#));
        }
        self.after(OPERATOR, Happening::LetIn { node });
    }
}
