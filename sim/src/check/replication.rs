//! I7 to I10, and I4 for followers: every server's log as the checkers saw it written.
//!
//! Each entry is born once, on the leader of its epoch; from then on it is known by (epoch, tick, checksum). A server's
//! shadow log follows the operations that its store performed, never what the engine says about itself.

use super::stores::digest;
use super::{Ctx, Verdict, broken};
use crate::action::Slot;
use crate::clock::At;
use crate::model::{Docs, Effect, Shadow};
use std::collections::{BTreeMap, BTreeSet};
use tanist_engine::db::log::{self, LogOp};
use tanist_engine::db::store::StoreError;
use tanist_engine::io::{Build, Op, OpResult, Target};
use tanist_engine::message::{Beat, Entry, Envelope, Message, Report, SnapshotId};
use tanist_engine::types::{Boot, Epoch, Position, Tick};

/// What was written where: (epoch, checksum) by tick.
pub type Log = BTreeMap<u64, (Epoch, u32)>;

fn position((tick, (epoch, _)): (&u64, &(Epoch, u32))) -> Position {
    Position { epoch: *epoch, tick: Tick(*tick) }
}

fn positions(log: &Log) -> impl Iterator<Item = Position> {
    log.iter().map(position)
}

fn last_of(log: &Log) -> Position {
    log.last_key_value().map_or(Position::ZERO, position)
}

/// Whether a log has the entry at a position.
pub fn has(log: &Log, position: &Position) -> bool {
    log.get(&position.tick.0).is_some_and(|(epoch, _)| *epoch == position.epoch)
}

/// An entry at its birth.
#[derive(Clone, Debug, Hash)]
pub struct Born {
    pub checksum: u32,
    /// Of its operation.
    pub digest: u64,
    pub effect: Option<Effect>,
}

#[derive(Clone, Debug, Default, Hash)]
struct Copy {
    id: Option<(u64, u64, u64)>,
    log: Log,
}

/// Data that a copy has replaced, with what nobody else had.
#[derive(Clone, Debug, Hash)]
pub struct Replaced {
    /// In which epoch.
    pub epoch: Epoch,
    pub last: Position,
    pub gone: Vec<Position>,
    pub docs: Docs,
}

#[derive(Clone, Debug, Default, Hash)]
pub struct Store {
    pub log: Log,
    pub seen: Epoch,
    pub shadow: Shadow,
    /// What rollbacks took away here and kept.
    pub kept: BTreeSet<Position>,
    /// Of these, what was undone entry by entry, and in which epoch.
    pub undone: BTreeSet<(Epoch, Position)>,
    /// Each time a copy replaced data with a tail of its own: they are kept whole.
    pub replaced: Vec<Replaced>,
    copy: Copy,
}

impl Store {
    pub fn last(&self) -> Position {
        last_of(&self.log)
    }

    /// Whether the log or a rollback record has the entry at a position.
    pub fn keeps(&self, position: &Position) -> bool {
        self.kept.contains(position) || has(&self.log, position)
    }
}

/// A server's answer to a freeze, as it arrived at an agent.
#[derive(Clone, Copy, Debug, Hash)]
struct Arrived {
    event: u64,
    agent: usize,
    server: usize,
    report: Report,
}

#[derive(Clone, Hash)]
pub struct Replication {
    pub stores: Vec<Store>,
    pub born: BTreeMap<Position, Born>,
    /// On which server an epoch was begun.
    owners: BTreeMap<Epoch, usize>,
    /// The leader's log where a snapshot starts.
    offers: BTreeMap<(u64, u64, u64), Log>,
    reports: Vec<Arrived>,
    /// What a server's process has told an agent of whether it may be chosen: each change, with its event.
    told: BTreeMap<(usize, usize, Boot), Vec<(u64, bool)>>,
    /// Servers whose disks have rotten rows, which their checksums must name.
    pub rotten: BTreeSet<usize>,
    /// Servers whose disks have lost something: what they undid may be forgotten, too.
    lost: BTreeSet<usize>,
    /// Epochs whose owner has forgotten what it wrote in them.
    forgotten: BTreeSet<Epoch>,
    /// Entries that nobody has since a disk was lost.
    pub gone: BTreeSet<Position>,
    /// R16: which write got which `_rev`.
    revisions: BTreeMap<String, (Slot, Position)>,
    accounts: Vec<Account>,
}

/// What the agency has been told, exactly, of the end of an epoch; the server had seen that epoch by then.
#[derive(Clone, Copy, Debug, Hash)]
struct Account {
    ended: Epoch,
    server: usize,
    ticks: u64,
    seen: Epoch,
}

/// The documents that an entry removes, by key and what wrote them last; `None` if it does anything else.
fn removals(entry: &Entry) -> Option<Vec<(String, u64)>> {
    let removal = |op: LogOp| match op {
        LogOp::Document { key, before: Some(image), after: None, .. } => {
            let body: serde_json::Value = serde_json::from_slice(&image.body).ok()?;
            Some((key, body.get("v")?.as_u64()?))
        }
        _ => None,
    };
    log::operations(entry).ok()?.into_iter().map(removal).collect()
}

fn number(id: &SnapshotId) -> (u64, u64, u64) {
    (id.epoch.0, id.boot.0, id.number)
}

impl Replication {
    pub fn new(servers: usize) -> Replication {
        Replication {
            stores: vec![Store::default(); servers],
            born: BTreeMap::new(),
            owners: BTreeMap::new(),
            offers: BTreeMap::new(),
            reports: Vec::new(),
            told: BTreeMap::new(),
            rotten: BTreeSet::new(),
            lost: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            gone: BTreeSet::new(),
            revisions: BTreeMap::new(),
            accounts: Vec::new(),
        }
    }

    /// A server's disk holds no more than `back_to`. Says how many entries nobody has any more.
    pub fn loses(&mut self, at: At, server: usize, back_to: Store) -> usize {
        self.accounts.retain(|account| account.server != server);
        let docs = self.docs_of(&back_to.log);
        let shadow = std::mem::take(&mut self.stores[server].shadow);
        let before = std::mem::replace(&mut self.stores[server], Store { shadow, ..back_to });
        self.stores[server].shadow.become_at(at, docs);
        let had = positions(&before.log).chain(before.kept.iter().copied());
        let gone: Vec<Position> = had.filter(|p| !self.stores.iter().any(|store| store.keeps(p))).collect();
        self.gone.extend(&gone);
        self.forgotten.extend(self.owners.iter().filter(|(_, owner)| **owner == server).map(|(epoch, _)| *epoch));
        self.rotten.remove(&server);
        self.lost.insert(server);
        gone.len()
    }

    /// Somebody new is where a server was, and counts its processes from the beginning.
    pub fn replaced(&mut self, server: usize) {
        self.reports.retain(|report| report.server != server);
        self.told.retain(|(_, who, _), _| *who != server);
    }

    /// The store of the server that owns `epoch`, as long as it has not seen a later one.
    pub fn leader(&self, epoch: Epoch) -> Option<(usize, &Store)> {
        let owner = *self.owners.get(&epoch).filter(|_| !self.forgotten.contains(&epoch))?;
        Some((owner, &self.stores[owner])).filter(|(_, store)| store.seen == epoch)
    }

    /// The documents as of a position of a log.
    pub fn docs_at(&self, log: &Log, at: Position) -> Docs {
        self.docs_from(positions(log).take_while(|position| *position <= at))
    }

    /// The entry that gave a document this `_rev`.
    pub fn written_as(&self, rev: &str) -> Option<Position> {
        self.revisions.get(rev).map(|(_, position)| *position)
    }

    fn docs_of(&self, log: &Log) -> Docs {
        self.docs_from(positions(log))
    }

    fn docs_from(&self, positions: impl Iterator<Item = Position>) -> Docs {
        let mut docs = Docs::default();
        for position in positions {
            if let Some(effect) = self.born.get(&position).and_then(|b| b.effect.as_ref()) {
                docs.apply(effect);
            }
        }
        docs
    }

    fn fresh(&self, ctx: &Ctx, epoch: Epoch, what: &str) -> Verdict {
        let seen = self.stores[ctx.node].seen;
        if epoch < seen {
            broken!("I7", "s{} has seen epoch {} and performed {what} of epoch {}", ctx.node, seen.0, epoch.0);
        }
        Ok(())
    }

    /// A new entry of the leader's own.
    fn birth(&mut self, ctx: &Ctx, entry: &Entry, effect: Option<Effect>) -> Verdict {
        let store = &mut self.stores[ctx.node];
        let (last, position) = (last_of(&store.log), entry.position());
        if entry.tick.0 != last.tick.0 + 1 {
            broken!("I8", "s{} wrote {position} right after {last}", ctx.node);
        }
        let owner = *self.owners.entry(entry.epoch).or_insert(ctx.node);
        if owner != ctx.node {
            broken!("I6", "s{owner} and s{} both wrote entries of epoch {}", ctx.node, entry.epoch.0);
        }
        let born = Born { checksum: entry.checksum, digest: digest(&entry.payload), effect: effect.clone() };
        if self.born.insert(position, born).is_some() {
            broken!("I8", "the entry {position} was written twice");
        }
        store.log.insert(entry.tick.0, (entry.epoch, entry.checksum));
        if let Some(effect) = &effect {
            store.shadow.apply(ctx.at, effect);
            if let Some((one, other)) = store.shadow.docs.doubles() {
                broken!("unique", "s{}: {one} and {other} have the same value since {position}", ctx.node);
            }
        }
        for (slot, doc) in effect.iter().flat_map(Effect::puts).filter(|(_, doc)| !doc.rev.is_empty()) {
            // (An import that writes a document twice shows only its last revision.)
            if let Some((first, earlier)) = self.revisions.insert(doc.rev.clone(), (slot, position))
                && (first, earlier) != (slot, position)
            {
                broken!("R16", "s{} gave {slot} at {position} the _rev of {first} at {earlier}", ctx.node);
            }
        }
        Ok(())
    }

    /// Entries of a leader are added to a log.
    fn extend(&self, who: usize, log: &mut Log, epoch: Epoch, entries: &[Entry], last: Position) -> Verdict {
        for entry in entries {
            let (tick, row, position) = (entry.tick.0, (entry.epoch, entry.checksum), entry.position());
            if self.born.get(&position).is_none_or(|born| born.checksum != entry.checksum) {
                broken!("I8", "s{who} took the entry {position}, which no leader wrote");
            }
            match log.get(&tick) {
                Some(old) if *old == row => continue,
                Some(old) => broken!("I8", "s{who} has epoch {} at tick {tick} and took {position}", old.0.0),
                None if tick != last_of(log).tick.0 + 1 => {
                    broken!("I8", "s{who} took {position} right after {}", last_of(log))
                }
                None => {
                    log.insert(tick, row);
                }
            }
            // The leader's log, as far as it is still the leader of that epoch.
            if let Some((leader, store)) = self.leader(epoch) {
                for tick in [tick - 1, tick] {
                    let (mine, theirs) = (log.get(&tick), store.log.get(&tick));
                    if tick > 0 && mine.is_some() && mine != theirs {
                        broken!("I8", "s{who} follows s{leader} in epoch {} but differs at tick {tick}", epoch.0);
                    }
                }
            }
        }
        if last_of(log) != last {
            broken!("I8", "s{who} says it is at {last}, but is at {}", last_of(log));
        }
        Ok(())
    }

    /// A store has performed an operation. `effect` is what the model says a client's write did.
    pub fn performed(&mut self, ctx: &Ctx, op: &Op, result: &OpResult, effect: Option<Effect>) -> Verdict {
        let who = ctx.node;
        match (op, result) {
            (Op::Run(run), OpResult::Ran(ran)) => {
                let Some(entry) = &ran.entry else { return Ok(()) };
                self.fresh(ctx, run.epoch, "a client's write")?;
                if entry.epoch != run.epoch {
                    broken!("I7", "s{who} wrote {} for a request of epoch {}", entry.position(), run.epoch.0);
                }
                self.birth(ctx, entry, effect)
            }
            (Op::Expire(expire), OpResult::Expired { done, entry }) => {
                let Some(entry) = entry else { return Ok(()) };
                self.fresh(ctx, expire.epoch, "the removal of what is due")?;
                if entry.epoch != expire.epoch {
                    broken!("I7", "s{who} wrote {} for a removal of epoch {}", entry.position(), expire.epoch.0);
                }
                let removed = match removals(entry) {
                    Some(removed) if removed.len() as u64 == done.removed => removed,
                    _ => broken!("I9", "s{who} removed {} documents by {}", done.removed, entry.position()),
                };
                match self.stores[who].shadow.docs.expire(expire.wall_ms, &removed) {
                    Ok(effect) => self.birth(ctx, entry, Some(effect)),
                    Err(what) => broken!("I9", "s{who} removed by {} what is not due: {what}", entry.position()),
                }
            }
            (Op::Build(Build { lead: Some(lead), .. }), OpResult::Built { over, entry, .. }) => {
                let (Some(entry), Some(over)) = (entry, over) else { return Ok(()) };
                self.fresh(ctx, lead.epoch, "the end of an index")?;
                if entry.epoch != lead.epoch {
                    broken!("I7", "s{who} wrote {} for an index of epoch {}", entry.position(), lead.epoch.0);
                }
                let Some(c) = over.collection.strip_prefix('c').and_then(|number| number.parse().ok()) else {
                    broken!("unique", "s{who} has built an index of '{}'", over.collection);
                };
                let mut built = self.stores[who].shadow.docs.clone();
                built.indexed.insert(c);
                let effect = match over.response.status {
                    201 => Effect::Indexed(c),
                    _ if built.doubles().is_some() => Effect::Undeclared(c),
                    status => broken!("unique", "s{who} can't build the index of c{c} ({status}): nothing is double"),
                };
                self.birth(ctx, entry, Some(effect))
            }
            (Op::BeginEpoch { epoch, .. }, OpResult::Began { entry }) => {
                self.fresh(ctx, *epoch, "the beginning")?;
                self.stores[who].seen = *epoch;
                self.birth(ctx, entry, None)
            }
            (Op::See { epoch }, OpResult::Seen { .. }) => {
                let store = &mut self.stores[who];
                store.seen = store.seen.max(*epoch);
                Ok(())
            }
            (Op::Append { epoch, into, entries, .. }, OpResult::Appended { last, .. }) => {
                self.fresh(ctx, *epoch, "an append")?;
                self.stores[who].seen = *epoch;
                match into {
                    Target::Data => {
                        let mut log = std::mem::take(&mut self.stores[who].log);
                        let before = last_of(&log);
                        let verdict = self.extend(who, &mut log, *epoch, entries, *last);
                        let store = &mut self.stores[who];
                        for entry in entries.iter().filter(|e| e.tick > before.tick) {
                            if let Some(effect) = self.born.get(&entry.position()).and_then(|b| b.effect.as_ref()) {
                                store.shadow.apply(ctx.at, effect);
                            }
                        }
                        store.log = log;
                        verdict
                    }
                    Target::Copy(id) => {
                        let mut copy = std::mem::take(&mut self.stores[who].copy);
                        let known = copy.id == Some(number(id));
                        let verdict =
                            if known { self.extend(who, &mut copy.log, *epoch, entries, *last) } else { Ok(()) };
                        self.stores[who].copy = copy;
                        if !known {
                            broken!("I8", "s{who} appended to a copy that it does not build");
                        }
                        verdict
                    }
                }
            }
            (Op::Undo { epoch, common, .. }, OpResult::Undone { last, undone, .. }) => {
                self.fresh(ctx, *epoch, "a rollback")?;
                self.stores[who].seen = *epoch;
                self.undone(ctx, *epoch, *common, *last, *undone)
            }
            (Op::SnapshotBegin { id }, OpResult::SnapshotBegun(offer)) => {
                let mut log = self.stores[who].log.clone();
                log.split_off(&(offer.start.tick.0 + 1));
                if last_of(&log) != offer.start {
                    broken!("I8", "s{who} offers a copy from {}, where its log has {}", offer.start, last_of(&log));
                }
                self.offers.insert(number(id), log);
                Ok(())
            }
            (Op::CopyBegin(offer), OpResult::CopyBegun) => {
                self.fresh(ctx, offer.id.epoch, "the beginning of a copy")?;
                self.stores[who].seen = offer.id.epoch;
                let id = number(&offer.id);
                let Some(log) = self.offers.get(&id) else { broken!("I8", "s{who} copies what nobody offered") };
                self.stores[who].copy = Copy { id: Some(id), log: log.clone() };
                Ok(())
            }
            (Op::CopyRows(piece), OpResult::Copied { .. }) if self.stores[who].copy.id != Some(number(&piece.id)) => {
                broken!("I8", "s{who} takes in a piece of another copy than the one that it builds")
            }
            (Op::CopyFinish { id }, OpResult::CopyFinished { last, .. }) => {
                let copy = std::mem::take(&mut self.stores[who].copy);
                if copy.id != Some(number(id)) || last_of(&copy.log) != *last {
                    broken!("I8", "s{who} finished a copy at {last} that is at {}", last_of(&copy.log));
                }
                let docs = self.docs_of(&copy.log);
                let store = &mut self.stores[who];
                let old = std::mem::replace(&mut store.log, copy.log);
                let gone = old.iter().filter(|(tick, row)| store.log.get(tick) != Some(row));
                let gone: Vec<Position> = gone.map(position).collect();
                store.kept.extend(&gone);
                if !gone.is_empty() {
                    let docs = store.shadow.docs.clone();
                    store.replaced.push(Replaced { epoch: id.epoch, last: last_of(&old), gone, docs });
                }
                store.shadow.become_at(ctx.at, docs);
                Ok(())
            }
            (Op::CopyDrop, OpResult::CopyDropped) => {
                self.stores[who].copy = Copy::default();
                Ok(())
            }
            // Only a disk that rots damages anything: elsewhere, what does not fit was written wrong.
            (_, OpResult::Failed(StoreError::Corrupt(what))) if !self.rotten.contains(&who) => {
                broken!("I9", "s{who} finds its own data wrong: {what}")
            }
            _ => Ok(()),
        }
    }

    fn undone(&mut self, ctx: &Ctx, epoch: Epoch, common: Position, last: Position, undone: u64) -> Verdict {
        let who = ctx.node;
        let mut log = std::mem::take(&mut self.stores[who].log);
        let tail = log.split_off(&(last.tick.0 + 1));
        let (end, count) = (last_of(&log), tail.len() as u64);
        let leader_row = |tick: u64| self.leader(epoch).map(|(_, store)| store.log.get(&tick).copied());
        let wrong = if end != last {
            Some(format!("s{who} rolled back to {last}, where its log has {end}"))
        } else if count != undone {
            Some(format!("s{who} says it undid {undone} entries, but {count} are gone"))
        } else if last.tick < common.tick {
            Some(format!("s{who} rolled back to {last}, below the common point {common}"))
        } else if last == common
            && last.tick.0 > 0
            && leader_row(last.tick.0).is_some_and(|r| r != log.last_key_value().map(|(_, row)| *row))
        {
            Some(format!("s{who} rolled back to {common}, which its leader does not have"))
        } else {
            let shared = tail
                .first_key_value()
                .filter(|(tick, row)| last == common && leader_row(**tick).is_some_and(|r| r == Some(**row)));
            shared.map(|(tick, _)| format!("s{who} undid tick {tick}, which its leader has"))
        };
        if let Some(what) = wrong {
            return Err(("I10", what));
        }
        let docs = self.docs_of(&log);
        let store = &mut self.stores[who];
        store.log = log;
        for position in positions(&tail) {
            store.kept.insert(position);
            store.undone.insert((epoch, position));
        }
        store.shadow.become_at(ctx.at, docs);
        Ok(())
    }

    /// A server sends a message: whatever it says of its disk must be so by now (I4).
    pub fn sent(&self, ctx: &Ctx, envelope: &Envelope) -> Verdict {
        let store = &self.stores[ctx.node];
        match &envelope.message {
            Message::Acknowledge(ack) => {
                let there = has(if ack.in_copy { &store.copy.log } else { &store.log }, &ack.durable);
                let durable = ack.durable == Position::ZERO || there;
                if !durable {
                    let last = store.last();
                    broken!("I4", "s{} acknowledges {}, but only {last} is durable", ctx.node, ack.durable);
                }
            }
            Message::Register(register) if register.seen < store.seen => {
                let (told, seen) = (register.seen.0, store.seen.0);
                broken!("I4", "s{} registers as having seen epoch {told}, but has seen {seen}", ctx.node);
            }
            Message::Report(report) => {
                if store.seen < report.epoch {
                    broken!("I4", "s{} reports for epoch {} before it is durable", ctx.node, report.epoch.0);
                }
                // Entries of the new epoch may have followed since: then the round is over.
                let there = report.last == Position::ZERO || has(&store.log, &report.last);
                let after = store.log.range(report.last.tick.0 + 1..);
                if !there || after.clone().any(|(_, (epoch, _))| *epoch < report.epoch) {
                    broken!("I4", "s{} reports {}, but is at {}", ctx.node, report.last, store.last());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A report arrives at an agent.
    pub fn reported(&mut self, ctx: &Ctx, server: usize, report: &Report) {
        self.reports.push(Arrived { event: ctx.event, agent: ctx.node, server, report: *report });
    }

    /// A beat arrives at an agent.
    pub fn heard(&mut self, ctx: &Ctx, server: usize, beat: &Beat) {
        let told = self.told.entry((ctx.node, server, beat.boot)).or_default();
        if told.last().is_none_or(|(_, staying)| *staying != beat.staying) {
            told.push((ctx.event, beat.staying));
        }
    }

    /// Whether a process had told an agent by then that it is leaving, or stands back.
    fn stood_back(&self, agent: usize, server: usize, boot: Boot, by: u64) -> bool {
        let told = self.told.get(&(agent, server, boot)).into_iter().flatten();
        told.take_while(|(event, _)| *event <= by).last().is_some_and(|(_, staying)| !staying)
    }

    /// I12, first half: of those whose report the deciding agent had, nobody had more than the chosen one, but for who
    /// had told it that he stands back. `boots` are those of the running processes. `written`: there are acknowledged
    /// writes, so that an empty store lacks something.
    pub fn elected(
        &self,
        epoch: Epoch,
        chosen: (usize, Boot),
        by: &[(usize, u64)],
        boots: &[Option<Boot>],
        written: bool,
    ) -> Verdict {
        // Of two that chose it, one only believed that it led; either's choice may be the one applied.
        let verdicts = by.iter().map(|by| self.chosen(epoch, chosen, *by, boots, written));
        verdicts.reduce(|one, other| if one.is_ok() { one } else { other }).unwrap_or(Ok(()))
    }

    fn chosen(
        &self,
        epoch: Epoch,
        chosen: (usize, Boot),
        by: (usize, u64),
        boots: &[Option<Boot>],
        written: bool,
    ) -> Verdict {
        let ((chosen, boot), (decider, decided)) = (chosen, by);
        let in_time =
            self.reports.iter().filter(|a| a.report.epoch == epoch && a.agent == decider && a.event <= decided);
        let own = in_time.clone().rfind(|a| a.server == chosen && a.report.boot == boot).map(|a| a.report);
        match own {
            None => broken!("I12", "s{chosen} was elected for epoch {}, but this process has not reported", epoch.0),
            Some(own) if !own.complete => {
                broken!("I12", "s{chosen} was elected for epoch {} with an incomplete store", epoch.0)
            }
            Some(own) if own.last == Position::ZERO && written => {
                broken!("I12", "s{chosen} was elected for epoch {} with an empty store", epoch.0)
            }
            Some(_) => {}
        }
        let in_time = in_time.filter(|a| a.report.complete);
        let Some(term) = in_time.clone().map(|a| a.report.term).max() else { return Ok(()) };
        let round: Vec<&Arrived> = in_time.filter(|a| a.report.term == term).collect();
        // A process that came back may report again: its latest report counts.
        let mut latest: BTreeMap<usize, Position> = BTreeMap::new();
        for arrived in round {
            let Arrived { server, report, .. } = arrived;
            let runs = boots[*server] == Some(report.boot);
            if *server == chosen || (runs && !self.stood_back(decider, *server, report.boot, decided)) {
                latest.insert(arrived.server, arrived.report.last);
            }
        }
        let mine = latest.get(&chosen).copied();
        let best = latest.iter().max_by_key(|(_, last)| **last);
        match (mine, best) {
            (_, None) => Ok(()),
            (None, Some(_)) => broken!("I12", "s{chosen} was elected for epoch {} without a report", epoch.0),
            (Some(mine), Some((server, last))) if *last > mine => {
                broken!("I12", "s{chosen} at {mine} was elected for epoch {}, but s{server} reported {last}", epoch.0)
            }
            _ => Ok(()),
        }
    }

    /// The agency takes the cost of an epoch's end for known.
    pub fn accounted(&mut self, ended: Epoch, server: usize, ticks: u64) -> Verdict {
        // A rollback makes its epoch known to the store, too.
        let store = &self.stores[server];
        let seen = store.undone.iter().map(|(epoch, _)| *epoch).max().unwrap_or_default().max(store.seen);
        let account = Account { ended, server, ticks, seen };
        // An agent that starts again goes through old entries once more: they tell of what the store had seen then.
        let known = |known: &&Account| (known.ended, known.server, known.ticks) == (ended, server, ticks);
        if let Some(known) = self.accounts.iter().find(known) {
            return self.judge_account(&known.clone());
        }
        self.accounts.push(account);
        self.judge_account(&account)
    }

    fn judge_account(&self, account: &Account) -> Verdict {
        let Account { ended, server, ticks, seen } = *account;
        if self.lost.contains(&server) {
            return Ok(());
        }
        let mut rollbacks: BTreeMap<Epoch, Vec<Position>> = BTreeMap::new();
        for (epoch, position) in self.stores[server].undone.iter().filter(|(epoch, _)| *epoch <= seen) {
            rollbacks.entry(*epoch).or_default().push(*position);
        }
        // What one rollback took away belongs to the epoch in which the log had ended.
        let of_this = |gone: &&Vec<Position>| gone.iter().max().is_some_and(|end| end.epoch == ended);
        let truth: Vec<u64> = rollbacks.values().filter(of_this).map(|gone| gone.len() as u64).collect();
        if !truth.contains(&ticks) && (ticks > 0 || !truth.is_empty()) {
            let told = format!("the end of epoch {} cost s{server} {ticks} entries, as the agency has it", ended.0);
            broken!("I10", "{told}; its rollbacks took {truth:?}");
        }
        Ok(())
    }

    /// After convergence, nothing has come to what was called exact.
    pub fn accounts_hold(&self) -> Verdict {
        self.accounts.iter().try_for_each(|account| self.judge_account(account))
    }

    /// I9 for logs: after convergence all are the same.
    pub fn converged(&self) -> Verdict {
        let first = &self.stores[0];
        for (who, store) in self.stores.iter().enumerate() {
            if store.log != first.log {
                let tick = (1..).find(|t| store.log.get(t) != first.log.get(t)).unwrap_or(0);
                broken!("I9", "the logs of s0 and s{who} differ at tick {tick}");
            }
            if store.shadow.docs != first.shadow.docs {
                broken!("I9", "the model's documents of s0 and s{who} differ");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Slot;
    use crate::clock::At;
    use crate::model::Doc;
    use bytes::Bytes;
    use tanist_engine::message::{Register, RollbackSummary, SnapshotPiece};
    use tanist_engine::types::*;

    fn ctx(node: usize, event: u64) -> Ctx {
        Ctx { at: At(event), event, node, incarnation: 1, local: Time(event) }
    }

    fn entry(epoch: u64, tick: u64) -> Entry {
        Entry::new(Epoch(epoch), Tick(tick), Bytes::from(format!("{epoch}/{tick}")))
    }

    fn at(epoch: u64, tick: u64) -> Position {
        Position { epoch: Epoch(epoch), tick: Tick(tick) }
    }

    fn begin(r: &mut Replication, node: usize, epoch: u64, tick: u64) -> Verdict {
        let op = Op::BeginEpoch { epoch: Epoch(epoch), lineage: Lineage(epoch) };
        r.performed(&ctx(node, 1), &op, &OpResult::Began { entry: entry(epoch, tick) }, None)
    }

    fn append(r: &mut Replication, node: usize, epoch: u64, entries: Vec<Entry>, last: Position) -> Verdict {
        let prev = Position::ZERO;
        let op = Op::Append { epoch: Epoch(epoch), into: Target::Data, prev, entries };
        r.performed(&ctx(node, 2), &op, &OpResult::Appended { last, builds: false }, None)
    }

    fn undo(r: &mut Replication, node: usize, epoch: u64, to: Position, undone: u64) -> Verdict {
        let op = Op::Undo { epoch: Epoch(epoch), common: to, limit: 10 };
        let summary = RollbackSummary { epoch: Epoch(epoch), common: to, end: to, operations: 0, whole: false };
        r.performed(&ctx(node, 3), &op, &OpResult::Undone { last: to, undone, summary }, None)
    }

    #[test]
    fn an_append_of_an_older_epoch_is_found() {
        let mut r = Replication::new(2);
        begin(&mut r, 0, 1, 1).unwrap();
        append(&mut r, 1, 1, vec![entry(1, 1)], at(1, 1)).unwrap();
        let see = Op::See { epoch: Epoch(2) };
        r.performed(&ctx(1, 2), &see, &OpResult::Seen { before: Epoch(1), last: at(1, 1), complete: true }, None)
            .unwrap();
        assert_eq!(append(&mut r, 1, 1, vec![], at(1, 1)).unwrap_err().0, "I7");
    }

    #[test]
    fn entries_that_nobody_wrote_gaps_and_second_births_are_found() {
        let mut r = Replication::new(2);
        begin(&mut r, 0, 1, 1).unwrap();
        assert_eq!(append(&mut r, 1, 1, vec![entry(1, 2)], at(1, 2)).unwrap_err().0, "I8");
        assert_eq!(begin(&mut r, 1, 1, 1).unwrap_err().0, "I6");
        assert_eq!(begin(&mut r, 0, 2, 7).unwrap_err().0, "I8");
        let id = SnapshotId { epoch: Epoch(1), boot: Boot(1), number: 7 };
        let (cursor, rows, exact_at) = (Bytes::new(), Bytes::new(), at(1, 1));
        let piece = Op::CopyRows(SnapshotPiece { id, cursor, rows, next: None, exact_at });
        assert_eq!(r.performed(&ctx(1, 2), &piece, &OpResult::Copied { next: None }, None).unwrap_err().0, "I8");
        let corrupt = OpResult::Failed(StoreError::Corrupt("what".into()));
        let op = Op::Locate { target: Target::Data };
        assert_eq!(r.performed(&ctx(1, 2), &op, &corrupt, None).unwrap_err().0, "I9");
    }

    #[test]
    fn a_follower_that_leaves_its_leader_is_found() {
        let mut r = Replication::new(3);
        begin(&mut r, 0, 1, 1).unwrap();
        begin(&mut r, 1, 2, 1).unwrap();
        begin(&mut r, 1, 3, 2).unwrap();
        append(&mut r, 2, 1, vec![entry(1, 1)], at(1, 1)).unwrap();
        assert_eq!(append(&mut r, 2, 3, vec![entry(3, 2)], at(3, 2)).unwrap_err().0, "I8");
    }

    #[test]
    fn a_rollback_must_take_the_tail_and_nothing_else() {
        let diverged = || {
            let mut r = Replication::new(2);
            begin(&mut r, 0, 1, 1).unwrap();
            append(&mut r, 1, 1, vec![entry(1, 1)], at(1, 1)).unwrap();
            begin(&mut r, 0, 2, 2).unwrap();
            begin(&mut r, 1, 3, 2).unwrap();
            r
        };
        undo(&mut diverged(), 0, 3, at(1, 1), 1).unwrap();
        assert_eq!(undo(&mut diverged(), 0, 3, Position::ZERO, 2).unwrap_err().0, "I10", "one too many");
        assert_eq!(undo(&mut diverged(), 0, 3, at(2, 2), 0).unwrap_err().0, "I10", "one too few");
        assert_eq!(undo(&mut diverged(), 0, 3, at(1, 1), 2).unwrap_err().0, "I10", "miscounted");
        assert_eq!(undo(&mut diverged(), 0, 1, at(1, 1), 1).unwrap_err().0, "I7");
        let mut r = diverged();
        undo(&mut r, 0, 3, at(1, 1), 1).unwrap();
        assert!(r.stores[0].kept.contains(&at(2, 2)));
        assert_eq!(r.converged().unwrap_err().0, "I9");
        append(&mut r, 0, 3, vec![entry(3, 2)], at(3, 2)).unwrap();
        r.converged().unwrap();
    }

    /// It has seen the later epoch then: what it sent before may still be taken by who has not.
    #[test]
    fn a_deposed_leader_that_has_rolled_back_is_no_measure_any_more() {
        let mut r = Replication::new(3);
        begin(&mut r, 0, 1, 1).unwrap();
        r.birth(&ctx(0, 2), &entry(1, 2), None).unwrap();
        append(&mut r, 1, 1, vec![entry(1, 1)], at(1, 1)).unwrap();
        begin(&mut r, 1, 2, 2).unwrap();
        append(&mut r, 2, 1, vec![entry(1, 1)], at(1, 1)).unwrap();
        undo(&mut r, 0, 2, at(1, 1), 1).unwrap();
        append(&mut r, 2, 1, vec![entry(1, 2)], at(1, 2)).unwrap();
    }

    #[test]
    fn an_early_acknowledgement_is_found() {
        let mut r = Replication::new(2);
        begin(&mut r, 0, 1, 1).unwrap();
        let ack = |tick| {
            Message::Acknowledge(tanist_engine::message::Acknowledge {
                epoch: Epoch(1),
                boot: Boot(1),
                store: StoreId(1),
                durable: at(1, tick),
                in_copy: false,
                seq: 0,
                asks: false,
            })
        };
        let id = NodeId { kind: NodeKind::Server, uuid: 1 };
        let from = tanist_engine::message::Peer { id, endpoint: Endpoint::parse("tcp://a:1").unwrap() };
        let envelope = |message| Envelope { from: from.clone(), to: None, message };
        r.sent(&ctx(0, 1), &envelope(ack(1))).unwrap();
        assert_eq!(r.sent(&ctx(0, 1), &envelope(ack(2))).unwrap_err().0, "I4");
        let register = |seen| {
            let (nonce, store, deployment) = (Nonce(1), StoreId(1), None);
            let (advertised, host) = (None, String::new());
            let register = Register { nonce, ended: None, store, deployment, seen: Epoch(seen), advertised, host };
            envelope(Message::Register(register))
        };
        r.sent(&ctx(0, 1), &register(1)).unwrap();
        assert_eq!(r.sent(&ctx(0, 1), &register(0)).unwrap_err().0, "I4", "it has seen epoch 1");
        let report = Report {
            term: Term(1),
            epoch: Epoch(2),
            boot: Boot(1),
            store: StoreId(1),
            complete: true,
            last: at(1, 1),
            seen: Epoch(1),
        };
        assert_eq!(r.sent(&ctx(0, 1), &envelope(Message::Report(report))).unwrap_err().0, "I4");
    }

    #[test]
    fn what_a_lost_disk_alone_held_is_gone_and_nothing_else() {
        let mut r = Replication::new(2);
        begin(&mut r, 0, 1, 1).unwrap();
        append(&mut r, 1, 1, vec![entry(1, 1)], at(1, 1)).unwrap();
        let old = r.stores[0].clone();
        begin(&mut r, 0, 2, 2).unwrap();
        assert_eq!(r.loses(At(9), 0, old), 1);
        assert_eq!(r.gone.iter().collect::<Vec<_>>(), [&at(2, 2)]);
        assert_eq!(r.stores[0].last(), at(1, 1));
        assert!(r.leader(Epoch(2)).is_none(), "nobody knows epoch 2 any more");
        assert_eq!(r.loses(At(10), 1, Store::default()), 0, "s0 still has it");
        assert_eq!(r.loses(At(11), 0, Store::default()), 1);
    }

    fn beat(boot: u64, staying: bool) -> Beat {
        let (last, seen) = (Position::ZERO, Epoch(1));
        Beat {
            boot: Boot(boot),
            seq: 1,
            renew: None,
            serves: false,
            last,
            seen,
            leader: None,
            complete: true,
            full: false,
            staying,
            matched: None,
            rollbacks: Vec::new(),
        }
    }

    #[test]
    fn the_wrong_choice_is_found() {
        let mut r = Replication::new(2);
        let report = |tick| Report {
            term: Term(1),
            epoch: Epoch(2),
            boot: Boot(1),
            store: StoreId(1),
            complete: true,
            last: at(1, tick),
            seen: Epoch(1),
        };
        r.reported(&ctx(0, 1), 0, &report(9));
        r.reported(&ctx(0, 2), 1, &report(10));
        let here = [Some(Boot(1)); 2];
        r.elected(Epoch(2), (1, Boot(1)), &[(0, 3)], &here, true).unwrap();
        assert_eq!(r.elected(Epoch(2), (0, Boot(1)), &[(0, 3)], &here, true).unwrap_err().0, "I12");
        r.elected(Epoch(2), (0, Boot(1)), &[(0, 1)], &here, true).unwrap(); // the better report came after the decision
        r.elected(Epoch(2), (0, Boot(1)), &[(0, 3)], &[Some(Boot(1)), None], true).unwrap(); // the better one is gone
        r.elected(Epoch(2), (1, Boot(1)), &[(1, 9), (0, 3)], &here, true).unwrap(); // another chose it, too
        // The better one stands back, as far as the deciding agent had heard when it decided.
        let told = |beats: &[(usize, u64, u64, bool)]| {
            let mut r = r.clone();
            beats
                .iter()
                .for_each(|(agent, event, boot, staying)| r.heard(&ctx(*agent, *event), 1, &beat(*boot, *staying)));
            r.elected(Epoch(2), (0, Boot(1)), &[(0, 3)], &here, true)
        };
        told(&[(0, 2, 1, false), (0, 4, 1, true)]).unwrap();
        told(&[(0, 2, 1, false)]).unwrap();
        assert!(told(&[(0, 4, 1, false)]).is_err(), "it said so after the decision");
        assert!(told(&[(0, 2, 1, false), (0, 3, 1, true)]).is_err(), "it is back");
        assert!(told(&[(1, 2, 1, false)]).is_err(), "it told another agent");
        assert!(told(&[(0, 2, 2, false)]).is_err(), "it was another process");
        let elected = |r: &Replication, server, boot, written| {
            r.elected(Epoch(2), (server, Boot(boot)), &[(0, 9)], &here, written).map_err(|(_, what)| what)
        };
        assert!(elected(&r, 1, 2, true).unwrap_err().contains("this process has not reported"));
        r.reported(&ctx(0, 4), 1, &Report { complete: false, ..report(11) });
        assert!(elected(&r, 1, 1, true).unwrap_err().contains("incomplete store"));
        let mut r = Replication::new(2);
        r.reported(&ctx(0, 1), 0, &Report { last: Position::ZERO, ..report(0) });
        assert!(elected(&r, 0, 1, true).unwrap_err().contains("empty store"));
        elected(&r, 0, 1, false).unwrap();
    }

    #[test]
    fn a_loss_that_is_told_wrong_is_found() {
        let mut r = Replication::new(1);
        r.stores[0].seen = Epoch(5);
        r.stores[0].undone = [(Epoch(3), at(1, 8)), (Epoch(3), at(2, 9)), (Epoch(5), at(4, 12))].into();
        assert_eq!(r.accounted(Epoch(2), 0, 2), Ok(()));
        assert_eq!(r.accounted(Epoch(2), 0, 1).unwrap_err().0, "I10", "its last piece alone");
        assert_eq!(r.accounted(Epoch(2), 0, 0).unwrap_err().0, "I10");
        assert_eq!(r.accounted(Epoch(1), 0, 0), Ok(()), "the tail counts for the epoch that had ended");
    }

    #[test]
    fn documents_follow_the_log() {
        let mut r = Replication::new(1);
        begin(&mut r, 0, 1, 1).unwrap();
        let slot = Slot { collection: 0, key: 0 };
        let put = Effect::Put(slot, Doc { v: 1, a: None, b: None, moment_ms: None, rev: "x".into() });
        r.birth(&ctx(0, 5), &entry(1, 2), Some(put)).unwrap();
        assert_eq!(r.stores[0].shadow.docs.documents.len(), 1);
        let again = Effect::Put(slot, Doc { v: 2, a: None, b: None, moment_ms: None, rev: "x".into() });
        assert_eq!(r.birth(&ctx(0, 6), &entry(1, 3), Some(again)).unwrap_err().0, "R16");
        undo(&mut r, 0, 2, at(1, 2), 1).unwrap();
        undo(&mut r, 0, 2, at(1, 1), 1).unwrap();
        assert!(r.stores[0].shadow.docs.documents.is_empty());
    }
}
