//! The end of a run: everything is healed, must converge within a bound, and is compared row by row.

use super::*;

impl World {
    pub(super) fn watch(&mut self) {
        if self.core.is_some() {
            return self.watch_core();
        }
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
                    None => {
                        let took = Duration::from_nanos(self.at.0 - healed.0);
                        self.figures.converged = Some((took, self.bound()));
                        return self.finish();
                    }
                    Some((invariant, what)) => self.too_late(healed, invariant, what),
                }
            }
            Some((invariant, what)) => self.too_late(healed, invariant, what),
            None => self.too_late(healed, "I17", "a client has had no answer since the healing".into()),
        }
        self.after(WATCH_EVERY, Happening::Watch);
    }

    /// How long a healed deployment may take.
    pub(super) fn bound(&self) -> Duration {
        let (s, ms) = (&self.scenario, Duration::from_millis);
        liveness::bound(ms(s.lease_ms), ms(s.election_max_ms), ms(s.ok_threshold_ms), ms(s.supervision_ms))
    }

    pub(super) fn too_late(&mut self, healed: At, invariant: &'static str, what: String) {
        let bound = self.bound();
        if self.at > healed.plus(bound) {
            self.hold(Err((invariant, format!("{what}, {bound:?} after everything was healed"))));
        }
    }

    /// Everything has converged: compare what must be the same now.
    pub(super) fn finish(&mut self) {
        let verdict = self.replication.converged();
        self.hold(verdict);
        let verdict = self.replication.accounts_hold();
        self.hold(verdict);
        let verdict = self.synchrony.converged(&self.replication);
        self.hold(verdict);
        let verdict = self.history.nothing_vanished(&self.replication);
        self.hold(verdict);
        let verdict = registers::check(&self.workload.history);
        self.hold(verdict);
        let verdict = self.same_stores();
        self.hold(verdict);
        self.figures.operations = self.workload.history.len();
        self.figures.acknowledged = self.history.acknowledged.len();
        self.figures.lost = self.history.lost(&self.replication);
        self.tell("end", "everything has converged");
        self.over = true;
    }

    /// I9 and I10 on the stores themselves.
    pub(super) fn same_stores(&self) -> Verdict {
        let mut all = Vec::new();
        for (server, machine) in self.machines[self.agents..].iter().enumerate() {
            let found = stores::find(&machine.store).map_err(|error| ("I9", format!("s{server}: {error}")))?;
            stores::judge(server, &found, &self.replication.stores[server], &self.replication.born)?;
            all.push(found);
        }
        stores::same(&all)
    }
}
