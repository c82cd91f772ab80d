//! I11 to I14: what clients were told, held against the truth.

use super::replication::{Replication, Store, has};
use super::streams::{Streams, is_whole};
use super::{Ctx, Verdict, broken};
use crate::action::{self, Action, Slot};
use crate::clock::At;
use crate::model::{Doc, Docs, Effect};
use crate::workload::{Demand, Record};
use std::collections::{BTreeMap, BTreeSet};
use tanist_engine::demand::Token;
use tanist_engine::http::{Response, header};
use tanist_engine::io::{Ran, Run};
use tanist_engine::types::{Epoch, NodeId, Position};

#[derive(Default)]
pub struct History {
    /// The log entry that each operation became.
    written: BTreeMap<u64, Position>,
    /// Those that succeeded without changing anything: each element of an array failed, say.
    idle: BTreeSet<u64>,
    /// Those that a server has called a success.
    pub acknowledged: BTreeMap<u64, Position>,
    /// When.
    told_at: BTreeMap<u64, At>,
    /// The latest version that a client has read: by client, server process, epoch and document.
    read: BTreeMap<(usize, usize, u64, Epoch, Slot), usize>,
    pub streams: Streams,
}

/// An answer on its way out of a server.
pub struct Answer<'a> {
    pub op: u64,
    pub record: &'a Record,
    pub response: &'a Response,
    /// When the request arrived at the server.
    pub arrived: At,
    /// The epoch whose lease the server held then.
    pub admitted: Option<Epoch>,
    /// The epoch whose lease the server truly holds at this instant.
    pub holds: Option<Epoch>,
    /// The epoch of the server's view, and whom the checkers know as its leader.
    pub epoch: Epoch,
    pub leader: Option<NodeId>,
    pub me: NodeId,
    /// The server that the answer's endpoint belongs to.
    pub named: Option<NodeId>,
    /// The client still waits for it.
    pub waited_for: bool,
}

impl History {
    pub fn new(streams: Streams) -> History {
        History { streams, ..History::default() }
    }

    /// A client's write has gone through a store whose documents were `before`. Says what it did.
    pub fn ran(
        &mut self,
        ctx: &Ctx,
        run: &Run,
        ran: &Ran,
        record: &Record,
        before: &Docs,
    ) -> Result<Option<Effect>, (&'static str, String)> {
        let Some(op) = action::op_of(&run.request) else { return Ok(None) };
        let (action, status) = (&record.action, ran.response.status);
        if let Action::Commit(id) = action {
            let effect = self.streams.commits(ctx, *id, ran, before)?;
            self.written.extend(ran.entry.as_ref().map(|entry| (op, entry.position())));
            return Ok(effect);
        }
        let success = (200..300).contains(&status);
        if let Some(entry) = ran.entry.as_ref().filter(|_| !success) {
            let position = entry.position();
            return Err(("I12", format!("s{}: '{action}' failed with {status} and wrote {position}", ctx.node)));
        }
        // Anything else is not about what is in the store.
        if !success && !matches!(status, 400 | 404 | 409 | 412) {
            return Ok(None);
        }
        // A transaction has it: perhaps no longer, but when the request was looked at.
        let held = |slot| self.streams.may_hold((ctx.node, ctx.incarnation, run.epoch), slot, record.called, None);
        if (status, ran.response.error_num()) == (409, Some(1200)) && action.slots().into_iter().any(held) {
            return Ok(None);
        }
        let body: serde_json::Value = serde_json::from_slice(&ran.response.body).unwrap_or_default();
        let (expected, judged) = before.judge(op, action, status, &body);
        let effect = judged.map_err(|what| ("I14", format!("s{}: '{action}' {what}", ctx.node)))?;
        let told = ran.response.header(header::ERROR_CODES).map(|text| serde_json::from_str(text).unwrap_or_default());
        let failed = expected.failures().filter(|_| matches!(body, serde_json::Value::Array(_)));
        if told != failed {
            let (told, failed) = (told.unwrap_or_default(), failed.unwrap_or_default());
            return Err(("I14", format!("s{}: '{action}' counts errors {told}, the model {failed}", ctx.node)));
        }
        match (&ran.entry, &effect) {
            (None, None) => {}
            (None, Some(_)) => {
                return Err(("I12", format!("s{}: '{action}' succeeded without a log entry", ctx.node)));
            }
            (Some(entry), None) => {
                let position = entry.position();
                return Err(("I12", format!("s{}: '{action}' changed nothing and wrote {position}", ctx.node)));
            }
            (Some(entry), Some(effect)) => {
                let position = entry.position();
                if matches!(action, Action::Query { .. }) && !is_whole(entry, std::slice::from_ref(effect)) {
                    let what = format!("s{}: '{action}' is {position}, which is not all that it did", ctx.node);
                    return Err(("transaction", what));
                }
                if let Some(first) = self.written.insert(op, position) {
                    return Err(("R14", format!("operation {op} '{action}' was done twice: {first} and {position}")));
                }
            }
        }
        if success && effect.is_none() {
            self.idle.insert(op);
        }
        Ok(effect)
    }

    /// Whether an operation has become a log entry of its own.
    pub fn wrote(&self, op: u64) -> bool {
        self.written.contains_key(&op)
    }

    /// A server answers a client's document operation.
    pub fn answered(&mut self, ctx: &Ctx, answer: &Answer, store: &Store) -> Verdict {
        let Answer { op, record, response, .. } = *answer;
        let action = &record.action;
        let marked = response.header(header::POTENTIAL_DIRTY_READ).is_some();
        let asked_dirty = matches!(action, Action::Read { dirty: true, .. });
        let success = (200..300).contains(&response.status);
        if success && marked && !asked_dirty {
            broken!("I11", "s{} served '{action}' as a dirty read that nobody asked for", ctx.node);
        }
        if success && !marked && answer.holds.is_none() {
            broken!("I11", "s{} answered '{action}' with {} without a lease", ctx.node, response.status);
        }
        if success && !marked && answer.admitted != answer.holds {
            let (then, now) = (answer.admitted.unwrap_or_default().0, answer.holds.unwrap_or_default().0);
            broken!("R13", "s{} admitted '{action}' in epoch {then} and answers in epoch {now}", ctx.node);
        }
        let error_num = (response.status >= 400).then(|| response.error_num()).flatten();
        if matches!(error_num, Some(1429 | 1495 | 1496)) && self.written.contains_key(&op) {
            broken!("R14", "s{} refused '{action}', which it had done", ctx.node);
        }
        if let Some(endpoint) = response.header(header::ENDPOINT) {
            match answer.named {
                None => broken!("I13", "s{} names '{endpoint}', which is no server's", ctx.node),
                Some(named) if named == answer.me => broken!("I13", "s{} refuses and names itself", ctx.node),
                Some(named) if answer.leader.is_some_and(|leader| leader != named) => {
                    let epoch = answer.epoch.0;
                    broken!("I13", "s{} names {named}, which does not lead epoch {epoch}", ctx.node)
                }
                Some(_) => {}
            }
        }
        match action {
            Action::Read { slot, .. } if success || (response.status == 404 && (marked || answer.holds.is_some())) => {
                let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
                let doc = if success { Doc::from_json(*slot, &body) } else { None };
                if success && doc.is_none() {
                    broken!("I14", "s{} returned a document that nobody wrote: {body}", ctx.node);
                }
                let missing = if slot.is_user() { &[1703][..] } else { &[1202, 1203, 1228] };
                if !success && response.error_num().is_none_or(|error| !missing.contains(&error)) {
                    broken!("I14", "s{} answered '{action}' with another 404: {body}", ctx.node);
                }
                let Some(version) = store.shadow.version_read(*slot, answer.arrived, ctx.at, doc.as_ref()) else {
                    broken!("I14", "s{} read {slot} as {doc:?}, which it was not since {}", ctx.node, answer.arrived);
                };
                if !marked && answer.waited_for {
                    let reader = (record.client, ctx.node, ctx.incarnation, answer.epoch, *slot);
                    let before = self.read.insert(reader, version).unwrap_or(0);
                    if version < before && doc.is_some() {
                        broken!("I14", "client {} read {slot} at s{} going back in time", record.client, ctx.node);
                    }
                }
            }
            Action::Read { .. } => {}
            Action::Commit(id) | Action::Status(id) if success => {
                let told: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
                let committed = told.pointer("/result/status").is_some_and(|status| status == "committed");
                if let Some(position) = self.streams.committed(*id).filter(|_| committed) {
                    self.acknowledged.insert(op, position);
                    self.told_at.entry(op).or_insert(ctx.at);
                }
            }
            _ if action.is_streamed() => {}
            _ if success => match self.written.get(&op) {
                Some(position) => {
                    self.acknowledged.insert(op, *position);
                    self.told_at.entry(op).or_insert(ctx.at);
                }
                None if self.idle.contains(&op) => {}
                None => broken!("I12", "s{} acknowledged '{action}', which it did not write", ctx.node),
            },
            _ => {}
        }
        Ok(())
    }

    /// I14: an answer reflects the tick that it names, and what its client demanded of it.
    pub fn demanded(&self, ctx: &Ctx, answer: &Answer, replication: &Replication) -> Verdict {
        let (Action::Read { slot, .. }, Some(demand)) = (&answer.record.action, answer.record.demand) else {
            return Ok(());
        };
        let response = answer.response;
        let found = (200..300).contains(&response.status);
        let absent = response.status == 404 && matches!(response.error_num(), Some(1202 | 1203 | 1228));
        let store = &replication.stores[ctx.node];
        let named = response.header(header::TICK).and_then(Token::parse).map(|token| token.position());
        // What has been rolled back since it was read can't be held against anything any more.
        let Some(at) = named.filter(|at| (found || absent) && has(&store.log, at)) else { return Ok(()) };
        let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let doc = if found { Doc::from_json(*slot, &body) } else { None };
        let truth = replication.docs_at(&store.log, at);
        match (&doc, truth.documents.get(slot)) {
            (None, None) => {}
            (Some(doc), Some(truth)) if truth.shows_as(*slot, doc) => {}
            (doc, truth) => broken!("I14", "s{} read {slot} as {doc:?}, which is {truth:?} at {at}", ctx.node),
        }
        match demand {
            Demand::AtLeast(token) if !has(&store.log, &token.position()) || token.tick > at.tick => {
                broken!("I14", "s{} answered with {at} whoever wanted to see {token} at least", ctx.node)
            }
            Demand::AtLeast(_) => {}
            Demand::Staleness(most) => {
                let before = At(ctx.at.0.saturating_sub(most.as_nanos() as u64));
                let told = self.told_at.iter().filter(|(_, told)| **told <= before);
                for position in told.filter_map(|(op, _)| self.acknowledged.get(op)) {
                    // What this epoch's leader lacks was lost, and is missing with reason.
                    let lost = position.epoch <= answer.epoch
                        && replication.leader(answer.epoch).is_none_or(|(_, leader)| !has(&leader.log, position));
                    if !lost && position.tick > at.tick {
                        let node = ctx.node;
                        broken!("I14", "s{node} read {at}, where {position} was told more than {most:?} before");
                    }
                }
            }
        }
        Ok(())
    }

    /// I12, second half: after convergence each acknowledged write is in the log, or in somebody's rollback record.
    pub fn nothing_vanished(&self, replication: &Replication) -> Verdict {
        let log = &replication.stores[0].log;
        for (op, position) in &self.acknowledged {
            if !has(log, position)
                && !replication.gone.contains(position)
                && !replication.stores.iter().any(|store| store.kept.contains(position))
            {
                broken!("I12", "operation {op} was acknowledged as {position} and is gone without a trace");
            }
        }
        Ok(())
    }

    /// How many acknowledged writes asynchronous replication lost (and kept in a rollback record).
    pub fn lost(&self, replication: &Replication) -> usize {
        let log = &replication.stores[0].log;
        self.acknowledged.values().filter(|position| !has(log, position)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Outcome;
    use tanist_engine::types::{NodeKind, Tick, Time};

    const SLOT: Slot = Slot { collection: 0, key: 0 };

    fn id(uuid: u128) -> NodeId {
        NodeId { kind: NodeKind::Server, uuid }
    }

    /// Judges one answer of server 1 to an action; `change` makes it wrong.
    fn judge(history: &mut History, action: Action, response: Response, change: impl Fn(&mut Answer)) -> Verdict {
        let record = Record::of(action, 0, 0, Outcome::Open, None);
        let mut answer = Answer {
            op: 1,
            record: &record,
            response: &response,
            arrived: At(5),
            admitted: Some(Epoch(1)),
            holds: Some(Epoch(1)),
            epoch: Epoch(1),
            leader: Some(id(1)),
            me: id(1),
            named: None,
            waited_for: true,
        };
        change(&mut answer);
        let mut store = Store::default();
        let doc = Doc { v: 7, a: None, b: None, moment_ms: None, rev: "r".into() };
        store.shadow.apply(At(1), &Effect::Put(SLOT, Doc { v: 6, ..doc.clone() }));
        store.shadow.apply(At(2), &Effect::Put(SLOT, doc));
        let ctx = Ctx { at: At(9), event: 0, node: 1, incarnation: 1, local: Time(9) };
        history.answered(&ctx, &answer, &store)
    }

    fn read(v: u64) -> Response {
        Response::raw(200, format!(r#"{{"_key":"k0","_id":"c0/k0","_rev":"r","v":{v}}}"#))
    }

    #[test]
    fn wrong_answers_are_found() {
        let get = |dirty| Action::Read { slot: SLOT, dirty };
        let broken = |action, response, change: &dyn Fn(&mut Answer)| {
            judge(&mut History::default(), action, response, change).map_err(|(invariant, _)| invariant)
        };
        assert_eq!(broken(get(false), read(7), &|_| {}), Ok(()));
        assert_eq!(broken(get(false), read(6), &|_| {}), Err("I14"), "stale");
        assert_eq!(broken(get(false), read(5), &|_| {}), Err("I14"), "never written");
        assert_eq!(broken(get(false), Response::error(404, 1202, "not found"), &|_| {}), Err("I14"));
        assert_eq!(broken(get(false), read(7), &|a| a.holds = None), Err("I11"));
        let later = |a: &mut Answer| (a.holds, a.epoch) = (Some(Epoch(3)), Epoch(3));
        assert_eq!(broken(get(false), read(7), &later), Err("R13"), "admitted in another epoch");
        let marked = read(7).with_header(header::POTENTIAL_DIRTY_READ, "true");
        assert_eq!(broken(get(true), marked.clone(), &|a| a.holds = None), Ok(()));
        assert_eq!(broken(get(false), marked, &|a| a.holds = None), Err("I11"), "nobody asked for dirt");
        assert_eq!(broken(Action::Insert(SLOT), Response::raw(202, "{}"), &|_| {}), Err("I12"), "not written");

        let refusal = Response::error(503, 1496, "not a leader").with_header(header::ENDPOINT, "http://s0:1");
        assert_eq!(broken(get(false), refusal.clone(), &|a| a.named = Some(id(1))), Err("I13"), "itself");
        assert_eq!(broken(get(false), refusal.clone(), &|a| a.named = None), Err("I13"), "nobody's");
        let other = |a: &mut Answer| (a.named, a.leader) = (Some(id(0)), Some(id(2)));
        assert_eq!(broken(get(false), refusal.clone(), &other), Err("I13"), "not the leader");
        assert_eq!(broken(get(false), refusal.clone(), &|a| (a.named, a.leader) = (Some(id(0)), Some(id(0)))), Ok(()));

        let mut history = History::default();
        history.written.insert(1, Position::ZERO);
        let refused = judge(&mut history, Action::Insert(SLOT), Response::error(503, 1496, ""), |_| {});
        assert_eq!(refused.unwrap_err().0, "R14");
    }

    #[test]
    fn a_vanished_write_is_found_and_a_kept_one_is_not() {
        let mut history = History::default();
        let position = Position { epoch: Epoch(1), tick: Tick(4) };
        history.acknowledged.insert(1, position);
        let mut replication = Replication::new(2);
        assert_eq!(history.nothing_vanished(&replication).unwrap_err().0, "I12");
        replication.stores[1].kept.insert(position);
        history.nothing_vanished(&replication).unwrap();
        assert_eq!(history.lost(&replication), 1);
    }
}
