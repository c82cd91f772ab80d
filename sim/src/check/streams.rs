//! Stream transactions: each has a snapshot with its own writes, and is committed as a whole, over nothing that others
//! have changed, or not at all.
//!
//! Built from what servers answer, when they answer it, whether the client hears it or not. What a transaction reads is
//! held against the documents where it began and what it was told that it wrote; its commit against the entry that it
//! became. A conflict must have a reason: somebody has changed the document since, or another transaction has it, or
//! might have it, or has taken a value that a unique index gives to one only. A transaction may be gone only with the
//! leadership that it was begun under. A query writes as a whole, too, within a transaction and outside.

use super::replication::Replication;
use super::{Ctx, Verdict, broken};
use crate::action::{Action, STREAMED, Slot};
use crate::check::history::Answer;
use crate::clock::At;
use crate::model::{Doc, Docs, Effect};
use std::collections::BTreeMap;
use std::time::Duration;
use tanist_engine::db::log::{self, LogOp};
use tanist_engine::demand::Token;
use tanist_engine::http::header;
use tanist_engine::io::Ran;
use tanist_engine::message::Entry;
use tanist_engine::types::{Epoch, Position, Time};

/// So many writes of unknown outcome are looked at in one transaction: clients give it up after the first.
const UNSURE_MAX: usize = 4;
const CONFLICT: u64 = 1200;
const OUTCOME_UNKNOWN: u64 = 1457;
const SAME_KEY: u64 = 1210;
const NO_DOCUMENT: u64 = 1202;

/// A server, one of its processes, and the epoch that this leads.
type Reign = (usize, u64, Epoch);

/// A stream transaction.
#[derive(Clone, Debug)]
struct Stream {
    reign: Reign,
    exclusive: bool,
    /// When somebody asked for it: it began then or a little later.
    since: At,
    /// The documents where it began.
    base: Docs,
    /// The same with what it has written.
    view: Docs,
    writes: Vec<Effect>,
    /// When each of them was told.
    told_at: Vec<At>,
    /// What may have been written within it, with nobody being told: an effect, and how many writes were before it.
    unsure: Vec<(usize, Effect)>,
    /// What it has written, and when it was told so first.
    touched: BTreeMap<Slot, At>,
    /// When the latest of the requests that were answered had come, by the server's clock.
    used: Time,
    /// Somebody has asked for its end, or may have met it.
    ending: bool,
    ended: Option<At>,
    committed: Option<Position>,
}

impl Stream {
    /// Whether it had this document to itself at some moment since `since`.
    fn had(&self, slot: Slot, since: At) -> bool {
        let exclusively = self.exclusive && slot.collection == STREAMED[0];
        let unsure = self.unsure.iter().flat_map(|(_, effect)| effect.slots());
        let touched = self.touched.keys().copied().chain(unsure).any(|touched| touched == slot);
        self.ended.is_none_or(|ended| ended >= since) && (exclusively || touched)
    }

    /// Whether it has been used so lately that it can't have expired.
    fn is_in_use(&self, now: Time, idle: Duration) -> bool {
        u128::from(now.0.saturating_sub(self.used.0)) < idle.as_nanos()
    }

    /// An operation may have been done within it.
    fn may_have(&mut self, op: u64, inner: &Action) {
        if !inner.is_read() {
            let parts = self.view.expect(op, inner).parts.into_iter();
            let effects: Vec<Effect> = parts.filter_map(|part| part.result.ok()).collect();
            self.unsure.extend((!effects.is_empty()).then_some((self.writes.len(), Effect::All(effects))));
        }
    }

    /// Documents as it saw them at moments since `since`, the latest first. A request that does not write may be
    /// answered later than one that comes after it and does: its answer waits for followers, the other for the commit.
    fn views(&self, since: At) -> impl Iterator<Item = Docs> + '_ {
        let earlier = self.told_at.partition_point(|at| *at < since);
        (earlier..=self.writes.len()).rev().map(|count| {
            let mut view = self.base.clone();
            self.writes[..count].iter().for_each(|effect| view.apply(effect));
            view
        })
    }

    /// All that its commit may write: what is unsure may be among it or not.
    fn may_become(&self) -> Vec<Vec<Effect>> {
        let count = self.unsure.len().min(UNSURE_MAX);
        let chosen = |choice: usize| {
            let mut writes = self.writes.clone();
            for nth in (0..count).rev().filter(|nth| choice >> nth & 1 == 1) {
                let (before, effect) = &self.unsure[nth];
                writes.insert(*before, effect.clone());
            }
            writes
        };
        (0..1 << count).map(chosen).collect()
    }
}

/// A request that a server has not answered yet.
#[derive(Clone, Debug)]
struct Waiting {
    process: (usize, u64),
    action: Action,
    local: Time,
}

#[derive(Default)]
pub struct Streams {
    idle: Duration,
    streams: BTreeMap<u64, Stream>,
    /// By the attempt's number.
    waiting: BTreeMap<u64, Waiting>,
    /// Where one that has a collection to itself may have been begun whose client was told that nobody knows.
    nameless: Vec<Reign>,
}

/// What an entry writes: each document's key, and the operation that it is of now.
fn written(entry: &Entry) -> Option<Vec<(String, Option<u64>)>> {
    let one = |op| match op {
        LogOp::Document { key, after, .. } => {
            let body = after.map(|image| serde_json::from_slice::<serde_json::Value>(&image.body));
            let v = body.transpose().ok()?.and_then(|body| body.get("v")?.as_u64());
            Some((key, v))
        }
        _ => None,
    };
    log::operations(entry).ok()?.into_iter().map(one).collect()
}

/// The same of what somebody was told that he wrote.
fn told(writes: &[Effect]) -> Option<Vec<(String, Option<u64>)>> {
    let one = |effect: &Effect| match effect {
        Effect::Put(slot, doc) => Some((slot.key(), Some(doc.v))),
        Effect::Gone(slot) => Some((slot.key(), None)),
        _ => None,
    };
    writes.iter().flat_map(Effect::each).map(one).collect()
}

/// Whether an entry is all that somebody was told he wrote, in order, and nothing else.
pub fn is_whole(entry: &Entry, writes: &[Effect]) -> bool {
    let told = told(writes);
    told.is_some() && told == written(entry)
}

impl Streams {
    pub fn new(idle: Duration) -> Streams {
        Streams { idle, ..Streams::default() }
    }

    /// The entry that a transaction became.
    pub fn committed(&self, id: u64) -> Option<Position> {
        self.streams.get(&id)?.committed
    }

    /// A request has come to a server.
    pub fn arrives(&mut self, ctx: &Ctx, attempt: u64, action: &Action) {
        if let Action::Commit(id) | Action::Abort(id) = action
            && let Some(stream) = self.streams.get_mut(id)
        {
            stream.ending = true;
        }
        if action.is_streamed() {
            let process = (ctx.node, ctx.incarnation);
            self.waiting.insert(attempt, Waiting { process, action: action.clone(), local: ctx.local });
        }
    }

    /// Whether a transaction other than `me` may have had a document at some moment since `since`.
    pub fn may_hold(&self, reign: Reign, slot: Slot, since: At, me: Option<u64>) -> bool {
        let by_another =
            |(id, stream): (&u64, &Stream)| Some(*id) != me && stream.reign == reign && stream.had(slot, since);
        let process = (reign.0, reign.1);
        let nameless = slot.collection == STREAMED[0] && self.nameless.contains(&reign);
        nameless
            || self.streams.iter().any(by_another)
            || self.waiting.values().filter(|waiting| waiting.process == process).any(|waiting| match &waiting.action {
                Action::Begin { exclusive, .. } => *exclusive && slot.collection == STREAMED[0],
                Action::Within(id, _) => Some(*id) != me && waiting.action.slots().contains(&slot),
                _ => false,
            })
    }

    /// A commit has gone through a store whose documents were `before`. Says what it did.
    pub fn commits(
        &mut self,
        ctx: &Ctx,
        id: u64,
        ran: &Ran,
        before: &Docs,
    ) -> Result<Option<Effect>, (&'static str, String)> {
        let status = ran.response.status;
        let wrong = |what: String| Err(("transaction", format!("s{}: transaction {id} {what}", ctx.node)));
        let Some(stream) = self.streams.get_mut(&id) else {
            return match status {
                200..=299 => wrong("is committed, and was never begun".into()),
                _ => Ok(None),
            };
        };
        // Documents that are no longer what they were where it began.
        let changed = |slot: &&Slot| before.documents.get(slot) != stream.base.documents.get(slot);
        // What may have been written within it may be what others have changed, too.
        let unsure: Vec<Slot> = stream.unsure.iter().flat_map(|(_, effect)| effect.slots()).collect();
        let perhaps = unsure.iter().any(|slot| changed(&slot));
        let changed: Vec<&Slot> = stream.touched.keys().filter(changed).collect();
        match (status, &ran.entry) {
            (200..=299, Some(entry)) => {
                let position = entry.position();
                if let Some(slot) = changed.first() {
                    return wrong(format!("is committed by {position} over what others have made of {slot}"));
                }
                if let Some(first) = stream.committed {
                    return wrong(format!("is committed twice, by {first} and {position}"));
                }
                let Some(writes) = stream.may_become().into_iter().find(|writes| is_whole(entry, writes)) else {
                    return wrong(format!("is committed by {position}, which is {:?}", written(entry)));
                };
                (stream.committed, stream.ended) = (Some(position), Some(ctx.at));
                Ok(Some(Effect::All(writes)))
            }
            (200..=299, None) => {
                if stream.committed.is_none() && !stream.writes.is_empty() {
                    return wrong("is committed without an entry".into());
                }
                stream.ended.get_or_insert(ctx.at);
                Ok(None)
            }
            (400 | 404 | 409 | 410 | 412, None) => {
                let error = ran.response.error_num().unwrap_or(0);
                // Of a transaction that is over (165x) its end tells more.
                if stream.ended.is_none() && !(1650..1660).contains(&error) {
                    let strictest = before.as_if_built().unwrap_or_else(|| before.clone());
                    let untouched = changed.is_empty() && !perhaps;
                    if untouched && stream.may_become().iter().all(|writes| strictest.admits(writes)) {
                        return wrong(format!("fails with {status} ({error}), and nobody has changed anything"));
                    }
                    stream.ended = Some(ctx.at);
                }
                Ok(None)
            }
            (_, None) => Ok(None),
            (_, Some(entry)) => wrong(format!("fails with {status} and wrote {}", entry.position())),
        }
    }

    /// A server answers a request about transactions.
    pub fn answered(&mut self, ctx: &Ctx, attempt: u64, answer: &Answer, replication: &Replication) -> Verdict {
        let Some(waiting) = self.waiting.remove(&attempt) else { return Ok(()) };
        let (status, action) = (answer.response.status, &answer.record.action);
        let error = if status >= 400 { answer.response.error_num().unwrap_or(0) } else { 0 };
        let body: serde_json::Value = serde_json::from_slice(&answer.response.body).unwrap_or_default();
        if let Action::Begin { exclusive, .. } = action {
            let begin = answer.response.header(header::TICK).and_then(Token::parse).map(|token| token.position());
            let id = body.pointer("/result/id").and_then(|id| id.as_str()?.parse().ok());
            if *exclusive && error == OUTCOME_UNKNOWN {
                self.nameless.push((ctx.node, ctx.incarnation, answer.epoch));
            }
            let (201, Some(begin), Some(id)) = (status, begin, id) else { return Ok(()) };
            let base = replication.docs_at(&replication.stores[ctx.node].log, begin);
            let stream = Stream {
                reign: (ctx.node, ctx.incarnation, answer.epoch),
                exclusive: *exclusive,
                since: answer.arrived,
                view: base.clone(),
                base,
                writes: Vec::new(),
                told_at: Vec::new(),
                unsure: Vec::new(),
                touched: BTreeMap::new(),
                used: waiting.local,
                ending: false,
                ended: None,
                committed: None,
            };
            self.streams.insert(id, stream);
            return Ok(());
        }
        let id = action.transaction().expect("it is about a transaction");
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let node = ctx.node;
        let lives_here = stream.reign == (node, ctx.incarnation, answer.epoch) && answer.holds == Some(answer.epoch);
        // It may have been too old, and nobody was told so.
        stream.ending |= status >= 500 && matches!(action, Action::Within(..));
        // Told when the lease was over for a moment: the transaction may live on.
        if let (Action::Within(_, inner), true) = (action, error == OUTCOME_UNKNOWN) {
            stream.may_have(answer.op, inner);
            return Ok(());
        }
        let told = body.pointer("/result/status").and_then(|status| status.as_str()).unwrap_or_default();
        let aborted = error == 1654 || told == "aborted" || (error == 1653 && !matches!(action, Action::Within(..)));
        if !lives_here {
            if status < 400 && !told.is_empty() {
                broken!("transaction", "s{node} answers '{action}' with '{told}', and it was begun elsewhere");
            }
            return Ok(());
        }
        if error == 1655 {
            broken!(
                "transaction",
                "s{node} has forgotten transaction {id}, which it began in epoch {}",
                answer.epoch.0
            );
        }
        if told == "committed" && stream.committed.is_none() && !stream.writes.is_empty() {
            broken!("transaction", "s{node} says that transaction {id} is committed, and its writes are nowhere");
        }
        if told == "aborted" && stream.committed.is_some() {
            broken!("transaction", "s{node} says that transaction {id} is aborted, and it was committed");
        }
        let too_old = body.get("errorMessage").is_some_and(|text| text.to_string().contains("does not reach back"));
        let expired = !stream.is_in_use(ctx.local, self.idle);
        if aborted && !stream.ending && stream.ended.is_none() && !too_old && !expired {
            broken!("transaction", "s{node} has aborted transaction {id}, which was in use: '{action}' {status}");
        }
        if aborted {
            stream.ended.get_or_insert(ctx.at);
            return Ok(());
        }
        // To ask how it is does not keep it alive.
        match action {
            Action::Within(_, inner) => {
                // What was refused at the gate has not come to it.
                if status < 500 {
                    stream.used = stream.used.max(waiting.local);
                }
                self.within(ctx, id, inner, answer, replication)
            }
            _ => Ok(()),
        }
    }

    /// A request on documents within a transaction that lives has been answered.
    fn within(&mut self, ctx: &Ctx, id: u64, inner: &Action, answer: &Answer, replication: &Replication) -> Verdict {
        let slots = inner.slots();
        let Answer { op, response, arrived, .. } = *answer;
        let (node, reign, status) = (ctx.node, (ctx.node, ctx.incarnation, answer.epoch), response.status);
        let error = if status >= 400 { response.error_num().unwrap_or(0) } else { 0 };
        let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let shadow = &replication.stores[node].shadow;
        if !self.streams[&id].unsure.is_empty() {
            if status < 300 {
                self.streams.get_mut(&id).expect("it was there").may_have(op, inner);
            }
            return Ok(());
        }
        let stream = &self.streams[&id];
        let own = |slot: &Slot| stream.touched.contains_key(slot);
        let changed = |slot: &Slot| shadow.docs.documents.get(slot) != stream.base.documents.get(slot);
        if (status, error) == (409, CONFLICT) {
            let held = |slot: &Slot| self.may_hold(reign, *slot, arrived, Some(id));
            // It may be again what it was, or have become so before the answer left.
            let other = |slot: &Slot| shadow.was_other(*slot, stream.since, ctx.at, stream.base.documents.get(slot));
            if !slots.iter().any(|slot| held(slot) || (!own(slot) && other(slot))) {
                broken!("transaction", "s{node}: '{inner}' within {id} is a conflict with nobody");
            }
            return Ok(());
        }
        if status >= 300 && !matches!(error, CONFLICT | SAME_KEY | NO_DOCUMENT) {
            return Ok(());
        }
        if let Action::Read { slot, .. } = inner {
            let seen = if status == 200 { Doc::from_json(*slot, &body) } else { None };
            let right = |view: &Docs| match (view.documents.get(slot), &seen) {
                (Some(doc), Some(seen)) => doc.shows_as(*slot, seen),
                (None, None) => status == 404,
                _ => false,
            };
            if !right(&stream.view) && !stream.views(arrived).any(|view| right(&view)) {
                let there = stream.view.documents.get(slot);
                broken!("transaction", "s{node}: transaction {id} reads {slot} as {body}, and it is {there:?} for it");
            }
            return Ok(());
        }
        let judge = |view: &Docs| view.judge(op, inner, status, &body).1;
        // It need not keep what an index asked for that is gone by now.
        let freely = || judge(&shadow.without_dropped_indexes(&stream.view, stream.since));
        let effect = match judge(&stream.view).or_else(|what| freely().map_err(|_| what)) {
            Ok(effect) => effect,
            Err(_) if stream.views(arrived).any(|view| judge(&view) == Ok(None)) => None,
            Err(what) => broken!("transaction", "s{node}: '{inner}' within {id} {what}"),
        };
        let Some(effect) = effect else { return Ok(()) };
        // By then it was known to be somebody else's, or another one than where the transaction began.
        let over_others = |slot: &Slot| {
            let base = stream.base.documents.get(slot);
            !own(slot) && changed(slot) && shadow.version_read(*slot, arrived, ctx.at, base).is_none()
        };
        if slots.iter().any(over_others) {
            broken!("transaction", "s{node}: '{inner}' within {id} writes over what has changed since it began");
        }
        let surely = |(other, stream): (&u64, &Stream)| {
            // What is asked of it and not answered yet may have been its end: it may reach back too far.
            let asked = |waiting: &Waiting| waiting.action.transaction() == Some(*other);
            let over = stream.ending || stream.ended.is_some() || self.waiting.values().any(asked);
            let here = *other != id && stream.reign == reign && !over;
            let lives = here && stream.is_in_use(ctx.local, self.idle);
            lives && slots.iter().any(|slot| stream.touched.get(slot).is_some_and(|at| *at < arrived))
        };
        if let Some((other, _)) = self.streams.iter().find(|other| surely(*other)) {
            broken!("transaction", "s{node}: '{inner}' within {id} writes what transaction {other} has");
        }
        let stream = self.streams.get_mut(&id).expect("it was there");
        stream.view.apply(&effect);
        stream.writes.push(effect);
        stream.told_at.push(ctx.at);
        for slot in slots {
            stream.touched.entry(slot).or_insert(ctx.at);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::UNIQUE;
    use tanist_engine::db::log::Image;
    use tanist_engine::db::rows::Revision;
    use tanist_engine::http::Response;
    use tanist_engine::message::raft::encode;
    use tanist_engine::types::Tick;

    const ONE: Slot = Slot { collection: 5, key: 0 };
    const TWO: Slot = Slot { collection: 6, key: 1 };

    fn doc(v: u64) -> Doc {
        Doc { v, a: None, b: None, moment_ms: None, rev: format!("r{v}") }
    }

    /// A transaction that has written two documents.
    fn streams() -> Streams {
        let stream = Stream {
            reign: (0, 1, Epoch(1)),
            exclusive: false,
            since: At(1),
            base: Docs::default(),
            view: Docs::default(),
            writes: vec![Effect::Put(ONE, doc(7)), Effect::Gone(TWO)],
            told_at: vec![At(5), At(6)],
            unsure: Vec::new(),
            touched: [(ONE, At(5)), (TWO, At(6))].into(),
            used: Time(9),
            ending: false,
            ended: None,
            committed: None,
        };
        Streams { streams: [(3, stream)].into(), ..Streams::new(Duration::from_secs(1)) }
    }

    fn op(key: &str, v: Option<u64>) -> LogOp {
        let after = v.map(|v| Image { revision: Revision(1), body: format!(r#"{{"v":{v}}}"#).into() });
        LogOp::Document { object: 1, key: key.into(), before: None, after }
    }

    fn commit(streams: &mut Streams, status: u16, ops: &[LogOp], before: &Docs) -> Result<Option<Effect>, String> {
        let entry = (!ops.is_empty()).then(|| Entry::new(Epoch(1), Tick(4), encode(ops)));
        let response = if status < 400 { Response::empty(status) } else { Response::error(status, 1200, "") };
        let ran = Ran { response, entry, last: Position::ZERO, then: None, progress: None };
        let ctx = Ctx { at: At(20), event: 0, node: 0, incarnation: 1, local: Time(20) };
        streams.commits(&ctx, 3, &ran, before).map_err(|(_, what)| what)
    }

    #[test]
    fn a_commit_is_all_that_was_written_and_nothing_else() {
        let (all, none) = ([op("k0", Some(7)), op("k1", None)], Docs::default());
        let wrong = |ops: &[LogOp], docs: &Docs| commit(&mut streams(), 200, ops, docs).unwrap_err();
        assert!(wrong(&all[..1], &none).contains("which is"));
        assert!(wrong(&[op("k0", Some(8)), op("k1", None)], &none).contains("which is"));
        assert!(wrong(&[], &none).contains("without an entry"));
        let mut changed = Docs::default();
        changed.apply(&Effect::Put(ONE, doc(6)));
        assert!(wrong(&all, &changed).contains("over what others have made of c5/k0"));
        assert!(commit(&mut streams(), 409, &[], &none).unwrap_err().contains("nobody has changed anything"));
        assert_eq!(commit(&mut streams(), 409, &[], &changed), Ok(None));
        let mut once = streams();
        assert!(matches!(commit(&mut once, 200, &all, &none), Ok(Some(Effect::All(writes))) if writes.len() == 2));
        assert_eq!(commit(&mut once, 200, &[], &none), Ok(None), "told again");
        assert!(commit(&mut once, 200, &all, &none).unwrap_err().contains("twice"));
    }

    #[test]
    fn a_commit_may_fail_for_a_value_that_another_document_has() {
        let (mine, other) = (Slot { collection: UNIQUE[0], key: 0 }, Slot { collection: UNIQUE[0], key: 1 });
        let writing = || {
            let mut streams = streams();
            let stream = streams.streams.get_mut(&3).unwrap();
            stream.writes = vec![Effect::All(vec![Effect::Put(mine, doc(7))])];
            stream.touched = [(mine, At(5))].into();
            streams
        };
        let mut before = Docs::default();
        before.apply(&Effect::Put(other, doc(7)));
        assert!(commit(&mut writing(), 409, &[], &before).unwrap_err().contains("nobody has changed anything"));
        before.apply(&Effect::Indexed(UNIQUE[0]));
        assert_eq!(commit(&mut writing(), 409, &[], &before), Ok(None));
        before.apply(&Effect::Put(other, doc(8)));
        assert!(commit(&mut writing(), 409, &[], &before).is_err(), "it has another value");
        assert!(commit(&mut writing(), 200, &[op("k0", Some(7))], &before).is_ok());
    }

    #[test]
    fn an_entry_is_all_that_a_query_wrote() {
        let writes = [Effect::All(vec![Effect::Put(ONE, doc(7)), Effect::Gone(TWO)])];
        let whole = |ops: &[LogOp]| is_whole(&Entry::new(Epoch(1), Tick(4), encode(ops)), &writes);
        assert!(whole(&[op("k0", Some(7)), op("k1", None)]));
        assert!(!whole(&[op("k0", Some(7))]), "the first part");
        assert!(!whole(&[op("k1", None)]), "the second part");
        assert!(!whole(&[op("k1", None), op("k0", Some(7))]), "in another order");
        let nothing: [LogOp; 0] = [];
        let entry = Entry::new(Epoch(1), Tick(4), encode(&nothing[..]));
        assert!(!is_whole(&entry, &[Effect::Created(0)]), "no documents");
    }

    #[test]
    fn what_nobody_was_told_of_is_committed_or_not() {
        let mut unsure = streams();
        let stream = unsure.streams.get_mut(&3).unwrap();
        stream.unsure.push((1, Effect::Put(TWO, doc(9))));
        let with = [op("k0", Some(7)), op("k1", Some(9)), op("k1", None)];
        assert!(commit(&mut unsure, 200, &with, &Docs::default()).is_ok());
        let without = [op("k0", Some(7)), op("k1", None)];
        let stream = unsure.streams.get_mut(&3).unwrap();
        (stream.committed, stream.ended) = (None, None);
        assert!(commit(&mut unsure, 200, &without, &Docs::default()).is_ok());
    }

    #[test]
    fn a_commit_may_fail_over_what_nobody_was_told_of() {
        let (other, nothing) = (Slot { collection: 6, key: 0 }, Docs::default());
        let changed = Docs { documents: [(other, doc(8))].into(), ..Docs::default() };
        for (unsure, before, may_fail) in [(true, &changed, true), (true, &nothing, false), (false, &changed, false)] {
            let mut streams = streams();
            let stream = streams.streams.get_mut(&3).unwrap();
            if unsure {
                stream.unsure.push((1, Effect::Put(other, doc(9))));
            }
            assert_eq!(commit(&mut streams, 409, &[], before).is_ok(), may_fail);
        }
    }

    #[test]
    fn what_it_saw_is_what_it_had_since_the_request_came() {
        let mut streams = streams();
        let stream = streams.streams.get_mut(&3).unwrap();
        stream.base.apply(&Effect::Put(TWO, doc(1)));
        let seen = |since| {
            let views = stream.views(At(since));
            views.map(|view| [ONE, TWO].map(|slot| view.documents.contains_key(&slot))).collect::<Vec<_>>()
        };
        assert_eq!(seen(7), [[true, false]]);
        assert_eq!(seen(6), [[true, false], [true, true]], "the second write was under way");
        assert_eq!(seen(5), [[true, false], [true, true], [false, true]]);
    }

    #[test]
    fn documents_are_held_until_the_end_and_by_those_of_the_same_reign() {
        let mut streams = streams();
        let reign = (0, 1, Epoch(1));
        assert!(streams.may_hold(reign, ONE, At(10), None));
        assert!(!streams.may_hold(reign, ONE, At(10), Some(3)), "its own");
        assert!(!streams.may_hold((0, 1, Epoch(2)), ONE, At(10), None), "that reign is over");
        assert!(!streams.may_hold(reign, Slot { key: 5, ..ONE }, At(10), None));
        streams.streams.get_mut(&3).unwrap().ended = Some(At(12));
        assert!(streams.may_hold(reign, ONE, At(12), None), "it was there when the request came");
        assert!(!streams.may_hold(reign, ONE, At(13), None));
    }
}
