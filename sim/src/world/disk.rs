//! The disk: batches of writes, reads, and what a crash leaves of them.

use super::words::{Brief, cut};
use super::*;
use crate::model::Effect;
use crate::node;
use tanist_engine::exec;
use tanist_engine::io::Ran;

impl World {
    pub(super) fn synced(&mut self, node: usize) {
        if self.sync_failed(node) {
            return self.ends_by_its_disk(node);
        }
        let Some(process) = &mut self.machines[node].process else { return };
        let batch = process.take_batch();
        let results = self.perform(node, batch, |transactions| transactions);
        let incarnation = self.machines[node].incarnation;
        for (op, result) in results {
            // A step may end the process.
            if self.process(node, incarnation).is_some() {
                if node >= self.agents {
                    let ctx = self.ctx(node);
                    self.room.done(&ctx, &result);
                }
                self.step(node, Input::Done { op, result });
            }
        }
        self.begin_batch(node);
    }

    /// Performs ops, shows them to the checkers. `durable`: how many of the transactions that it took reach the disk.
    pub(super) fn perform(
        &mut self,
        node: usize,
        batch: Vec<(tanist_engine::io::OpId, Op)>,
        durable: impl FnOnce(usize) -> usize,
    ) -> Vec<(tanist_engine::io::OpId, OpResult)> {
        let store = &mut self.machines[node].store;
        let results = node::perform(store, batch);
        match store.unsynced() {
            0 => {}
            transactions => store.crash(durable(transactions)),
        }
        let ctx = self.ctx(node);
        // Where much is turned over at once, and where somebody begins to rely on it.
        let anew = results.iter().any(|(_, _, result)| {
            matches!(result, OpResult::Undone { .. } | OpResult::CopyFinished { .. } | OpResult::Began { .. })
        });
        if node >= self.agents && anew {
            let verdict = stores::indexes_agree(node - self.agents, &self.machines[node].store);
            self.hold(verdict);
        }
        let mut done = Vec::with_capacity(results.len());
        for (id, op, result) in results {
            if self.trace.on() {
                self.say(node, format_args!("disk {}", cut(&format!("{:?}", Brief(&op, &result)))));
            }
            if node < self.agents {
                if let (Op::Persist(persist), OpResult::Persisted) = (&op, &result) {
                    let verdict = self.agency.persisted(&ctx, persist);
                    self.hold(verdict);
                }
            } else {
                if let (Op::BeginEpoch { .. }, Some(process)) = (&op, &mut self.machines[node].process)
                    && !matches!(result, OpResult::Began { .. })
                {
                    process.unfit = Some(ctx.local);
                }
                let mut effect = None;
                if let (Op::Run(run), OpResult::Ran(ran)) = (&op, &result)
                    && let Some(number) = action::op_of(&run.request)
                {
                    let record = &self.workload.history[&number];
                    let before = &self.replication.stores[node - self.agents].shadow.docs;
                    match self.history.ran(&ctx, run, ran, record, before) {
                        Ok(what) => effect = what.map(|what| self.with_revisions(node, what)),
                        Err(broken) => self.hold(Err(broken)),
                    }
                }
                let verdict = self.replication.performed(&ctx, &op, &result, effect);
                self.hold(verdict);
                if let (Op::BeginEpoch { epoch, .. }, OpResult::Began { .. }) = (&op, &result) {
                    let verdict = self.lease.began(&ctx, *epoch);
                    self.hold(verdict);
                }
            }
            done.push((id, result));
        }
        done
    }

    /// An import does not tell the revisions that it made: they are looked up where it was done.
    fn with_revisions(&self, node: usize, effect: Effect) -> Effect {
        match effect {
            Effect::Put(slot, mut doc) if doc.rev.is_empty() && !slot.is_user() => {
                doc.rev = stores::revision_of(&self.machines[node].store, slot, &doc).unwrap_or_default();
                Effect::Put(slot, doc)
            }
            Effect::All(effects) => {
                Effect::All(effects.into_iter().map(|effect| self.with_revisions(node, effect)).collect())
            }
            other => other,
        }
    }

    pub(super) fn read(&mut self, node: usize, number: u64) {
        let incarnation = self.machines[node].incarnation;
        let Some(reading) = self.machines[node].process.as_mut().and_then(|p| p.readings.remove(&number)) else {
            return;
        };
        let again = |world: &mut World, reading: Reading| {
            let s = &world.scenario;
            let drawn = s.read_pause_ms > 0 && world.disk_rng.below(1000) < s.read_pause_permille;
            let pause = drawn && world.healed.is_none() && !world.is_of_core(node);
            let wait = if pause { world.disk_rng.below(world.scenario.read_pause_ms) * 1000 } else { 20 };
            if let Some(process) = &mut world.machines[node].process {
                let reading = process.reading(reading);
                world.after(Duration::from_micros(wait), Happening::Read { node, incarnation, reading });
            }
        };
        match reading {
            Reading::Op(id, op) => {
                let result = exec::read(op.clone(), &self.machines[node].store);
                if node >= self.agents {
                    let ctx = self.ctx(node);
                    let verdict = self.replication.performed(&ctx, &op, &result, None);
                    self.hold(verdict);
                }
                again(self, Reading::Read(id, result));
            }
            Reading::Read(op, result) => self.step(node, Input::Done { op, result }),
            Reading::Fast { run, request, pending } => {
                let ticket = run.ticket();
                match exec::read(Op::Run(*run), &self.machines[node].store) {
                    OpResult::Ran(Ran { response, last, then: None, .. }) => {
                        again(self, Reading::Answer { ticket, response, last, request, pending });
                    }
                    // It needs the agency, or has to wait.
                    OpResult::Ran(_) | OpResult::Behind(_) => self.through_loop(node, request, pending),
                    other => {
                        let (response, last) = (Response::error(500, 4, &format!("{other:?}")), Position::ZERO);
                        again(self, Reading::Answer { ticket, response, last, request, pending });
                    }
                }
            }
            Reading::Answer { ticket, response, last, request, pending } => {
                let now = self.machines[node].clock.now(self.at);
                let Some(view) = self.machines[node].process.as_ref().and_then(|p| p.view.clone()) else { return };
                if !gate::is_acknowledged(ticket, last, &view) {
                    return self.through_loop(node, request, pending);
                }
                let response = gate::confirm(ticket, response, &view, now);
                self.reply(node, pending, response);
            }
        }
    }
}
