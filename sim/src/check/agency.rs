//! I1 to I4: the agency's Raft, seen from outside.
//!
//! What is durable on each agent's disk is kept here as the disk performed it. Whatever an agent says or does that
//! rests on durable votes and entries (a vote, an acknowledgement, an office, a decision) is held against that.
//!
//! Whose votes and entries count says the configuration, an entry itself that holds from the moment at which it is
//! appended, before it is on any disk. Who stands for election has all of its log on its disk, so the latest there says
//! whose votes it needs. What a leader says of itself later is held against [`Agency::is_confirmed`].

use super::{Ctx, Processes, Verdict, broken};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use tanist_engine::io::Event;
use tanist_engine::message::raft::{
    Body, HardState, LogEntry, META_HARD, META_SNAPSHOT, Persist, Raft, Seat, configuration,
};
use tanist_engine::message::{Envelope, Message};
use tanist_engine::types::{Epoch, NodeId, StoreId, Term};

/// What is durable on an agent's disk.
#[derive(Clone, Default, Hash)]
struct Disk {
    hard: HardState,
    /// Index and term of the last entry that the snapshot stands for.
    snapshot: (u64, Term),
    log: BTreeMap<u64, (Term, Bytes)>,
    /// The configurations in the log and in the snapshot, by index.
    configurations: BTreeMap<u64, Vec<NodeId>>,
}

impl Disk {
    /// Who has a seat by the latest configuration up to `index`; `None` for the founders.
    fn seats(&self, index: u64) -> Option<(u64, &Vec<NodeId>)> {
        self.configurations.range(..=index).next_back().map(|(at, seats)| (*at, seats))
    }

    fn end(&self) -> u64 {
        self.log.last_key_value().map_or(0, |(index, _)| *index).max(self.snapshot.0)
    }

    fn last_term(&self) -> Term {
        self.log.last_key_value().map_or(self.snapshot.1, |(_, (term, _))| *term).max(self.snapshot.1)
    }

    fn holds(&self, index: u64, term: Term) -> bool {
        index <= self.snapshot.0 || self.log.get(&index).is_some_and(|(mine, _)| *mine == term)
    }
}

/// An entry as it was first applied.
#[derive(Clone, Hash)]
struct Applied {
    digest: u64,
    by: usize,
    term: Term,
}

#[derive(Clone, Default, Hash)]
struct Process {
    applied: u64,
    /// The term that it leads.
    leads: Option<Term>,
    /// The latest configurations since it leads, at most two: what it was elected by, what it has appended.
    configurations: Vec<Option<Vec<NodeId>>>,
    /// Where in its log the latest of them stands; 0 for what the founders agreed on.
    configured_at: u64,
}

#[derive(Clone, Hash)]
pub struct Agency {
    /// Agents vote and keep the log themselves; with an etcd, [`super::witness`] knows who may lead and what is
    /// written.
    raft: bool,
    ids: Vec<Option<NodeId>>,
    disk_ids: Vec<Option<StoreId>>,
    disks: Vec<Disk>,
    /// Every configuration that was ever appended, and where.
    appended: BTreeSet<(u64, Vec<NodeId>)>,
    processes: Processes<Process>,
    /// I1: who led each term.
    leaders: BTreeMap<Term, usize>,
    /// I3: what was applied at each index.
    applied: BTreeMap<u64, Applied>,
    /// I3: what the entries up to an index made, and on which agent first.
    snapshots: BTreeMap<u64, (Bytes, usize)>,
    /// I4: for whom each agent has durably voted, by term.
    votes: BTreeMap<(usize, Term), NodeId>,
    /// The voters whose answers have reached a candidate.
    told: BTreeMap<(usize, Term), BTreeSet<NodeId>>,
    /// The terms of the entries that a leader has sent, by its own term and their index.
    sent: BTreeMap<(Term, u64), Term>,
    /// Who chose a server for an epoch, and in which event.
    chosen: BTreeMap<(Epoch, NodeId), Vec<(usize, u64)>>,
}

impl Agency {
    pub fn new(agents: usize, raft: bool) -> Agency {
        Agency {
            raft,
            ids: vec![None; agents],
            disk_ids: vec![None; agents],
            disks: vec![Disk::default(); agents],
            appended: BTreeSet::new(),
            processes: Processes::new(agents),
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            votes: BTreeMap::new(),
            told: BTreeMap::new(),
            sent: BTreeMap::new(),
            chosen: BTreeMap::new(),
        }
    }

    /// The agent that led the latest term.
    pub fn leader(&self) -> Option<usize> {
        self.leaders.last_key_value().map(|(_, agent)| *agent)
    }

    /// Who chose a server for an epoch, and in which event: what it had heard by then is what the choice is judged by.
    pub fn chose(&self, epoch: Epoch, server: NodeId) -> &[(usize, u64)] {
        self.chosen.get(&(epoch, server)).map_or(&[], Vec::as_slice)
    }

    /// The index that an agent's process applied last.
    pub fn applied(&self, agent: usize) -> u64 {
        self.processes[agent].applied
    }

    /// An agent's disk is empty: it is nobody now. What was decided with its help stays so.
    pub fn wiped(&mut self, agent: usize) {
        self.ids[agent] = None;
        self.processes.forget(agent);
    }

    /// The disk that an agent speaks from.
    pub fn disk_id(&self, agent: usize) -> Option<StoreId> {
        self.disk_ids[agent]
    }

    /// Whether an agent has a seat as the agency's leader sees it.
    pub fn is_seated(&self, agent: usize) -> bool {
        self.has_seat(self.seats(self.leader().unwrap_or(agent)), agent)
    }

    /// Who has a seat by the latest configuration on an agent's disk; `None` if all founders have.
    pub fn seats(&self, agent: usize) -> Option<&Vec<NodeId>> {
        self.disks[agent].seats(u64::MAX).map(|(_, seats)| seats)
    }

    fn has_seat(&self, seats: Option<&Vec<NodeId>>, agent: usize) -> bool {
        seats.is_none_or(|seats| self.ids[agent].is_none_or(|id| seats.contains(&id)))
    }

    fn majority(&self, seats: Option<&Vec<NodeId>>) -> usize {
        seats.map_or(self.disks.len(), Vec::len) / 2 + 1
    }

    /// A majority of some configuration that may have held when entry `index` was decided holds what `holds` says.
    fn is_decided(&self, by: usize, index: u64, holds: impl Fn(&Disk) -> bool) -> bool {
        let counts = |seats: Option<&Vec<NodeId>>| {
            let holders =
                (0..self.disks.len()).filter(|agent| self.has_seat(seats, *agent) && holds(&self.disks[*agent]));
            holders.count() >= self.majority(seats)
        };
        let held = self.disks[by].seats(index);
        let since = held.map_or(0, |(at, _)| at + 1);
        let mut later = self.appended.range((since, Vec::new())..).map(|(_, seats)| seats);
        counts(held.map(|(_, seats)| seats)) || later.any(|seats| counts(Some(seats)))
    }

    /// Whether it is known that no other agent led before these others, who have a seat, answered a leader.
    ///
    /// They and the leader must be a majority of the leader's latest configuration (durable or not, for it holds from
    /// when it is appended) or of the one before. The next leader has everything that this one has committed, in this
    /// term, before it appended the latest; so it was elected by one of these two. They differ by one seat: each
    /// majority of the one shares an agent with each of the other, and that agent has answered before it voted.
    ///
    /// Where an etcd decides who leads, its answer is enough.
    pub fn is_confirmed(&self, agent: usize, answered: &BTreeSet<NodeId>) -> bool {
        if !self.raft {
            return !answered.is_empty();
        }
        let counts = |other: usize| other == agent || self.ids[other].is_some_and(|id| answered.contains(&id));
        self.processes[agent].configurations.iter().any(|seats| {
            let seats = seats.as_ref();
            let voices = (0..self.disks.len()).filter(|other| counts(*other) && self.has_seat(seats, *other));
            voices.count() >= self.majority(seats)
        })
    }

    pub fn noted(&mut self, ctx: &Ctx, event: &Event) -> Verdict {
        match event {
            Event::LeadsAgency { term } => self.leads(ctx, *term),
            Event::FollowsAgent { .. } | Event::Campaigns { .. } => {
                self.processes.of(ctx).leads = None;
                Ok(())
            }
            Event::AgencyConfigured { index, agents } => self.configures(ctx, *index, agents),
            Event::Applied { index, digest, term } => self.applies(ctx, *index, *term, *digest),
            Event::Chose { epoch, server } => {
                self.chosen.entry((*epoch, *server)).or_default().push((ctx.node, ctx.event));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A leader changes one seat at a time: the former configuration is decided, and so is an entry of its own term.
    /// Else there may be two majorities without an agent in common.
    fn configures(&mut self, ctx: &Ctx, index: u64, agents: &[NodeId]) -> Verdict {
        self.appended.insert((index, agents.to_vec()));
        let process = self.processes.of(ctx);
        let Some(term) = process.leads else { return Ok(()) };
        let (at, former) = (process.configured_at, process.configurations.last().cloned().flatten());
        process.configured_at = index;
        process.configurations.push(Some(agents.to_vec()));
        let older = process.configurations.len().saturating_sub(2);
        process.configurations.drain(..older);
        // A log whose last entry is of the leader's term agrees with the leader's up to there (I2).
        let ready = |agent: &usize| {
            let disk = &self.disks[*agent];
            self.has_seat(former.as_ref(), *agent) && disk.last_term() >= term && disk.end() >= at
        };
        if (0..self.disks.len()).filter(ready).count() < self.majority(former.as_ref()) {
            let term = term.0;
            broken!("I3", "a{} changes seats at {index} before {at} and its term {term} are decided", ctx.node);
        }
        Ok(())
    }

    fn leads(&mut self, ctx: &Ctx, term: Term) -> Verdict {
        let newest = self.leaders.last_key_value().is_none_or(|(last, _)| *last < term);
        let first = *self.leaders.entry(term).or_insert(ctx.node);
        if first != ctx.node {
            broken!("I1", "a{first} and a{} both lead term {}", ctx.node, term.0);
        }
        let (at, elected_by) =
            self.disks[ctx.node].seats(u64::MAX).map_or((0, None), |(at, seats)| (at, Some(seats.clone())));
        let process = self.processes.of(ctx);
        process.leads = Some(term);
        (process.configured_at, process.configurations) = (at, vec![elected_by]);
        if !self.raft {
            return Ok(());
        }
        let seats = self.seats(ctx.node);
        let seated = |id: &&NodeId| seats.is_none_or(|seats| seats.contains(id));
        let told = self.told.get(&(ctx.node, term)).map_or(0, |told| told.iter().filter(seated).count());
        if usize::from(self.has_seat(seats, ctx.node)) + told < self.majority(seats) {
            broken!("I1", "a{} leads term {} with {told} votes of others in that term", ctx.node, term.0);
        }
        let me = self.ids[ctx.node];
        let voted = |agent: usize| self.votes.get(&(agent, term)).is_some_and(|vote| me.is_none_or(|me| *vote == me));
        let votes = (0..self.disks.len()).filter(|agent| voted(*agent) && self.has_seat(seats, *agent)).count();
        if votes < self.majority(seats) {
            broken!("I4", "a{} leads term {} with {votes} durable votes", ctx.node, term.0);
        }
        // What an older leader has committed is in the log of every later one. (A leader of an older term may be the
        // last to learn that it was elected.)
        if let Some((index, applied)) = self.applied.last_key_value().filter(|_| newest)
            && !self.disks[ctx.node].holds(*index, applied.term)
        {
            broken!("I3", "a{} leads term {} without entry {index}, which a{} applied", ctx.node, term.0, applied.by);
        }
        Ok(())
    }

    fn applies(&mut self, ctx: &Ctx, index: u64, term: Term, digest: u64) -> Verdict {
        let process = self.processes.of(ctx);
        if index <= process.applied {
            broken!("I3", "a{} applied {index} after {}", ctx.node, process.applied);
        }
        process.applied = index;
        let leads = process.leads;
        if let Some(first) = self.applied.get(&index) {
            if first.digest != digest {
                broken!("I3", "a{} and a{} differ in what they applied up to {index}", first.by, ctx.node);
            }
            return Ok(());
        }
        self.applied.insert(index, Applied { digest, by: ctx.node, term });
        if !self.raft {
            return Ok(());
        }
        if !self.is_decided(ctx.node, index, |disk| disk.holds(index, term)) {
            let holders = self.disks.iter().filter(|disk| disk.holds(index, term)).count();
            broken!("I4", "a{} applied {index}, which is durable on {holders} agents", ctx.node);
        }
        // An entry of an older term is decided by one of the leader's own.
        if let Some(own) = leads.filter(|own| *own > term)
            && !self.is_decided(ctx.node, index, |disk| disk.last_term() >= own)
        {
            broken!("I3", "a{} applied {index} of term {} before an entry of its term {}", ctx.node, term.0, own.0);
        }
        Ok(())
    }

    /// An agent sends a message: what it says of its disk must be so by now, and a vote must outlive the process.
    pub fn sent(&mut self, ctx: &Ctx, envelope: &Envelope) -> Verdict {
        self.ids[ctx.node] = Some(envelope.from.id);
        let Message::Raft(Raft::Consensus(consensus)) = &envelope.message else { return Ok(()) };
        self.disk_ids[ctx.node] = Some(consensus.disk);
        let (term, disk) = (consensus.term, &self.disks[ctx.node]);
        match &consensus.body {
            Body::Append { prev_index, prev_term, entries, .. } => {
                if self.leaders.get(&term) != Some(&ctx.node) {
                    broken!("I1", "a{} sends entries in term {}, which it does not lead", ctx.node, term.0);
                }
                self.sent.insert((term, *prev_index), *prev_term);
                for (index, entry) in (prev_index + 1..).zip(entries) {
                    self.sent.insert((term, index), entry.term);
                }
            }
            Body::Snapshot { index, index_term, .. } => {
                self.sent.insert((term, *index), *index_term);
            }
            // "Your term is over": it promises nothing.
            Body::AppendReply { matched: 0, conflict: None, round: 0 } => {}
            Body::AppendReply { matched, .. } => {
                let (matched, durable) = (*matched, disk.end());
                if disk.hard.term < term {
                    broken!("I4", "a{} answers in term {} before it is durable", ctx.node, term.0);
                }
                if matched > durable {
                    broken!("I4", "a{} acknowledges {matched}, but only {durable} is durable", ctx.node);
                }
                if let Some(theirs) = self.sent.get(&(term, matched)).filter(|theirs| !disk.holds(matched, **theirs)) {
                    let theirs = theirs.0;
                    broken!("I4", "a{} acknowledges {matched} of term {theirs}, but another is durable", ctx.node);
                }
            }
            Body::SnapshotReply { .. } if disk.hard.term < term => {
                broken!("I4", "a{} answers in term {} before it is durable", ctx.node, term.0)
            }
            Body::VoteReply { pre: false, granted: true, .. } => {
                let Some(candidate) = envelope.to else { return Ok(()) };
                if self.votes.get(&(ctx.node, term)) != Some(&candidate) {
                    broken!("I4", "a{} tells of a vote in term {} that is not durable", ctx.node, term.0);
                }
            }
            Body::RequestVote { pre: false, last_index, last_term, .. } => {
                if self.votes.get(&(ctx.node, term)) != Some(&envelope.from.id) {
                    broken!("I4", "a{} asks for votes in term {} before its own is durable", ctx.node, term.0);
                }
                if !disk.holds(*last_index, *last_term) {
                    broken!("I4", "a{} asks for votes with entry {last_index}, which is not durable", ctx.node);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A message reaches an agent.
    pub fn received(&mut self, ctx: &Ctx, envelope: &Envelope) {
        if let Message::Raft(Raft::Consensus(consensus)) = &envelope.message
            && let Body::VoteReply { pre: false, granted: true, .. } = consensus.body
        {
            self.told.entry((ctx.node, consensus.term)).or_default().insert(envelope.from.id);
        }
    }

    /// Something is durable on an agent's disk. Equal entries (their bytes include the term) must follow equal ones.
    pub fn persisted(&mut self, ctx: &Ctx, persist: &Persist) -> Verdict {
        let row = |name: &str| persist.meta.iter().find(|(n, _)| *n == name).and_then(|(_, value)| value.as_ref());
        let disk = &mut self.disks[ctx.node];
        if let Some(value) = row(META_HARD) {
            let hard: HardState = postcard::from_bytes(value).expect("a hard state");
            if hard.term < disk.hard.term {
                broken!("I4", "a{} goes back from term {} to {}", ctx.node, disk.hard.term.0, hard.term.0);
            }
            disk.hard = hard;
            if let Some(vote) = hard.vote {
                let first = *self.votes.entry((ctx.node, hard.term)).or_insert(vote);
                if first != vote {
                    broken!("I4", "a{} votes for {vote} in term {}, after {first}", ctx.node, hard.term.0);
                }
            }
        }
        if let Some(value) = row(META_SNAPSHOT) {
            let ((index, term, seats), _) =
                postcard::take_from_bytes::<(u64, Term, Vec<Seat>)>(value).expect("a snapshot");
            let snapshot = (index, term);
            disk.snapshot = snapshot;
            disk.configurations = disk.configurations.split_off(&(index + 1));
            disk.configurations.insert(index, seats.iter().map(|seat| seat.peer.id).collect());
            let (first, by) = self.snapshots.entry(snapshot.0).or_insert_with(|| (value.clone(), ctx.node));
            if first != value {
                broken!("I3", "a{by} and a{} made different states of the entries up to {}", ctx.node, snapshot.0);
            }
        }
        if let Some(from) = persist.truncate_from {
            disk.log.split_off(&from);
            disk.configurations.split_off(&from.max(disk.snapshot.0 + 1));
        }
        if let Some(to) = persist.compact_to {
            disk.log = disk.log.split_off(&(to + 1));
            if to > disk.snapshot.0 {
                broken!("I4", "a{} forgets entries up to {to}, but its snapshot is of {}", ctx.node, disk.snapshot.0);
            }
        }
        for (index, bytes) in &persist.entries {
            let entry: LogEntry = postcard::from_bytes(bytes).expect("a log entry");
            let term = entry.term;
            if let Some(seats) = configuration(&entry.data) {
                disk.configurations.insert(*index, seats.into_iter().map(|seat| seat.peer.id).collect());
            }
            disk.log.insert(*index, (term, bytes.clone()));
        }
        let mine = &self.disks[ctx.node].log;
        for (index, _) in &persist.entries {
            let (term, next) = (mine[index].0, mine.get(&(index + 1)).map(|(term, _)| *term));
            if next.is_some_and(|next| next < term) {
                broken!("I2", "a{} keeps an entry of an older term after {index} of term {}", ctx.node, term.0);
            }
        }
        for (other, theirs) in self.disks.iter().enumerate().filter(|(other, _)| *other != ctx.node) {
            for (index, _) in &persist.entries {
                let before = index - 1;
                let (Some(a), Some(b)) = (mine.get(&before), theirs.log.get(&before)) else { continue };
                if theirs.log.get(index) == mine.get(index) && a != b {
                    broken!("I2", "a{} and a{other} agree at {index} but not at {before}", ctx.node);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::At;
    use tanist_engine::message::Peer;
    use tanist_engine::message::raft::{Consensus, Snapshot};
    use tanist_engine::types::{Duration, Endpoint, NodeKind, Time};

    fn ctx(node: usize) -> Ctx {
        Ctx { at: At(0), event: 1, node, incarnation: 1, local: Time(0) }
    }

    fn id(node: usize) -> NodeId {
        NodeId { kind: NodeKind::Agent, uuid: node as u128 }
    }

    fn row<T: serde::Serialize>(name: &'static str, value: &T) -> Persist {
        let bytes = Bytes::from(postcard::to_allocvec(value).unwrap());
        Persist { meta: vec![(name, Some(bytes))], ..Persist::default() }
    }

    fn vote(term: u64, vote: Option<usize>) -> Persist {
        row(META_HARD, &HardState { term: Term(term), vote: vote.map(id) })
    }

    fn append(entries: &[(u64, u64, &'static str)]) -> Persist {
        let entry = |(index, term, data): &(u64, u64, &'static str)| {
            let entry = LogEntry { term: Term(*term), data: Bytes::from_static(data.as_bytes()) };
            (*index, Bytes::from(postcard::to_allocvec(&entry).unwrap()))
        };
        Persist { entries: entries.iter().map(entry).collect(), ..Persist::default() }
    }

    fn says(from: usize, to: usize, term: u64, body: Body) -> Envelope {
        let peer = Peer { id: id(from), endpoint: Endpoint::parse("tcp://a:1").unwrap() };
        let message = Message::Raft(Raft::Consensus(Box::new(Consensus {
            agency: StoreId(1),
            disk: StoreId(1),
            term: Term(term),
            body,
        })));
        Envelope { from: peer, to: Some(id(to)), message }
    }

    fn leads(term: u64) -> Event {
        Event::LeadsAgency { term: Term(term) }
    }

    fn applied(index: u64, term: u64, digest: u64) -> Event {
        Event::Applied { index, term: Term(term), digest }
    }

    const YES: Body = Body::VoteReply { pre: false, granted: true, silence: Duration::ZERO };

    /// Three agents; 0 leads term 1 with the votes of 0 and 1.
    fn led() -> Agency {
        let mut agency = Agency::new(3, true);
        for voter in [0, 1] {
            agency.persisted(&ctx(voter), &vote(1, Some(0))).unwrap();
        }
        agency.sent(&ctx(0), &says(0, 1, 1, ask(0, 0))).unwrap();
        agency.sent(&ctx(1), &says(1, 0, 1, YES)).unwrap();
        agency.received(&ctx(0), &says(1, 0, 1, YES));
        agency.noted(&ctx(0), &leads(1)).unwrap();
        agency
    }

    fn ask(last_index: u64, last_term: u64) -> Body {
        Body::RequestVote { pre: false, transfer: false, last_index, last_term: Term(last_term) }
    }

    /// A grant and a read count by what the leader has appended, not by what is on its disk. Who answered before the
    /// latest change still counts, for the former configuration is committed; who answered before two changes does not.
    #[test]
    fn a_leader_is_confirmed_by_its_latest_configuration_or_the_one_before() {
        let of = |others: &[usize]| others.iter().map(|agent| id(*agent)).collect::<BTreeSet<_>>();
        let mut agency = led();
        (0..3).for_each(|agent| agency.ids[agent] = Some(id(agent)));
        assert!(agency.is_confirmed(0, &of(&[2])) && !agency.is_confirmed(0, &of(&[])));
        let mut appends = |index, agents: &[usize]| {
            let agents = agents.iter().map(|agent| id(*agent)).collect();
            let _ = agency.noted(&ctx(0), &Event::AgencyConfigured { index, agents });
            let confirms = |others: &[usize]| agency.is_confirmed(0, &of(others));
            [confirms(&[]), confirms(&[1]), confirms(&[2])]
        };
        assert_eq!(appends(2, &[0, 1]), [false, true, true], "2 has answered as one of three");
        assert_eq!(appends(3, &[0]), [true, true, true], "it alone, though nothing of this is on its disk");
        assert_eq!(appends(4, &[0, 2]), [true, true, true]);
        assert_eq!(appends(5, &[0, 1, 2]), [false, true, true]);
        assert_eq!(appends(6, &[1, 2]), [false, true, true], "without a seat its own voice counts no more");
        assert_eq!(appends(7, &[1, 2]), [false, false, false]);
    }

    #[test]
    fn a_change_of_seats_before_the_former_or_an_entry_of_the_term_is_decided_is_found() {
        let change = |index, agents: &[usize]| {
            let agents = agents.iter().map(|agent| id(*agent)).collect();
            Event::AgencyConfigured { index, agents }
        };
        let mut agency = led();
        assert_eq!(agency.noted(&ctx(0), &change(1, &[0, 1])).unwrap_err().0, "I3", "no entry of term 1");
        let mut agency = led();
        for agent in [0, 1] {
            agency.persisted(&ctx(agent), &append(&[(1, 1, "x")])).unwrap();
        }
        agency.noted(&ctx(2), &change(1, &[2])).unwrap();
        agency.noted(&ctx(0), &change(2, &[0, 1])).unwrap();
        assert_eq!(agency.noted(&ctx(0), &change(3, &[0])).unwrap_err().0, "I3", "2 is not decided");
    }

    #[test]
    fn two_leaders_of_a_term_and_a_leader_without_votes_are_found() {
        let mut agency = led();
        assert_eq!(agency.noted(&ctx(1), &leads(1)).unwrap_err().0, "I1");
        assert_eq!(led().noted(&ctx(2), &leads(2)).unwrap_err().0, "I1", "nobody told it of a vote");
        let mut agency = led();
        agency.received(&ctx(2), &says(0, 2, 1, YES));
        assert_eq!(agency.noted(&ctx(2), &leads(2)).unwrap_err().0, "I1", "the vote was for another term");
        let mut agency = led();
        agency.persisted(&ctx(2), &vote(2, Some(2))).unwrap();
        agency.received(&ctx(2), &says(0, 2, 2, YES));
        assert_eq!(agency.noted(&ctx(2), &leads(2)).unwrap_err().0, "I4", "the vote is not durable");
        let heartbeat =
            |term| Body::Append { prev_index: 0, prev_term: Term(0), entries: vec![], commit: 0, round: term };
        led().sent(&ctx(0), &says(0, 1, 1, heartbeat(1))).unwrap();
        assert_eq!(led().sent(&ctx(2), &says(2, 1, 2, heartbeat(1))).unwrap_err().0, "I1", "not its term");
    }

    #[test]
    fn votes_before_they_are_durable_second_votes_and_older_terms_are_found() {
        let mut agency = led();
        assert_eq!(agency.sent(&ctx(2), &says(2, 0, 1, YES)).unwrap_err().0, "I4", "not durable");
        assert_eq!(agency.sent(&ctx(1), &says(1, 2, 1, YES)).unwrap_err().0, "I4", "for another");
        assert_eq!(agency.sent(&ctx(2), &says(2, 0, 2, ask(0, 0))).unwrap_err().0, "I4", "its own is not durable");
        assert_eq!(agency.persisted(&ctx(1), &vote(1, Some(2))).unwrap_err().0, "I4", "a second vote");
        agency.persisted(&ctx(1), &vote(4, None)).unwrap();
        assert_eq!(agency.persisted(&ctx(1), &vote(3, None)).unwrap_err().0, "I4", "back in terms");
        agency.persisted(&ctx(2), &vote(5, Some(2))).unwrap();
        assert_eq!(agency.sent(&ctx(2), &says(2, 0, 5, ask(7, 4))).unwrap_err().0, "I4", "entry 7 is not durable");
    }

    #[test]
    fn early_acknowledgements_are_found() {
        let mut agency = led();
        let entry = |term| LogEntry { term: Term(term), data: Bytes::from_static(b"x") };
        let entries = vec![entry(1), entry(1)];
        let body = Body::Append { prev_index: 0, prev_term: Term(0), entries, commit: 0, round: 1 };
        agency.sent(&ctx(0), &says(0, 1, 1, body)).unwrap();
        agency.persisted(&ctx(1), &append(&[(1, 1, "x"), (2, 1, "x")])).unwrap();
        let ack = |matched| Body::AppendReply { matched, conflict: None, round: 1 };
        agency.sent(&ctx(1), &says(1, 0, 1, ack(2))).unwrap();
        assert_eq!(agency.sent(&ctx(1), &says(1, 0, 1, ack(3))).unwrap_err().0, "I4", "not durable");
        assert_eq!(agency.sent(&ctx(2), &says(2, 0, 1, ack(0))).unwrap_err().0, "I4", "its term is not durable");
        agency.persisted(&ctx(2), &vote(1, None)).unwrap();
        agency.persisted(&ctx(2), &append(&[(1, 0, "old"), (2, 0, "old")])).unwrap();
        assert_eq!(agency.sent(&ctx(2), &says(2, 0, 1, ack(2))).unwrap_err().0, "I4", "another entry is durable");
        let snapshot = Snapshot { index: 9, term: Term(1), ..Snapshot::default() };
        agency.persisted(&ctx(2), &row(META_SNAPSHOT, &snapshot)).unwrap();
        agency.sent(&ctx(2), &says(2, 0, 1, ack(9))).unwrap();
        let forget = |compact_to| Persist { compact_to: Some(compact_to), ..Persist::default() };
        agency.persisted(&ctx(2), &forget(9)).unwrap();
        assert_eq!(agency.persisted(&ctx(2), &forget(10)).unwrap_err().0, "I4", "the snapshot does not reach there");
        agency.persisted(&ctx(1), &row(META_SNAPSHOT, &snapshot)).unwrap();
        agency.persisted(&ctx(0), &append(&[(11, 1, "x"), (12, 1, "y")])).unwrap();
        assert_eq!(agency.persisted(&ctx(0), &append(&[(11, 2, "z")])).unwrap_err().0, "I2", "12 should be gone");
        let other = Snapshot { state: Bytes::from_static(b"other"), ..snapshot };
        assert_eq!(agency.persisted(&ctx(0), &row(META_SNAPSHOT, &other)).unwrap_err().0, "I3", "another state");
    }

    #[test]
    fn logs_that_agree_after_differing_are_found_and_a_repaired_log_is_fine() {
        let mut agency = Agency::new(2, true);
        agency.persisted(&ctx(0), &append(&[(1, 1, "x"), (2, 1, "y")])).unwrap();
        agency.persisted(&ctx(1), &append(&[(1, 1, "z")])).unwrap();
        assert_eq!(agency.persisted(&ctx(1), &append(&[(2, 1, "y")])).unwrap_err().0, "I2");
        let repair = Persist { truncate_from: Some(1), ..append(&[(1, 1, "x"), (2, 1, "y")]) };
        agency.persisted(&ctx(1), &repair).unwrap();
    }

    #[test]
    fn different_applied_sequences_and_undecided_entries_are_found() {
        let mut agency = led();
        for agent in [0, 1] {
            agency.persisted(&ctx(agent), &append(&[(1, 1, "x"), (2, 1, "y")])).unwrap();
        }
        agency.persisted(&ctx(0), &append(&[(3, 1, "z")])).unwrap();
        agency.noted(&ctx(0), &applied(1, 1, 7)).unwrap();
        agency.noted(&ctx(1), &applied(1, 1, 7)).unwrap();
        agency.noted(&ctx(0), &applied(2, 1, 8)).unwrap();
        assert_eq!(agency.noted(&ctx(1), &applied(2, 1, 9)).unwrap_err().0, "I3");
        assert_eq!(agency.noted(&ctx(0), &applied(2, 1, 8)).unwrap_err().0, "I3", "applied twice");
        assert_eq!(agency.noted(&ctx(0), &applied(3, 1, 9)).unwrap_err().0, "I4", "only the leader has it");
    }

    #[test]
    fn a_leader_that_lacks_what_was_decided_is_found() {
        let elected = |decided: bool, log: &[(u64, u64, &'static str)]| {
            let mut agency = led();
            for agent in [0, 1] {
                agency.persisted(&ctx(agent), &append(&[(1, 1, "x")])).unwrap();
            }
            if decided {
                agency.noted(&ctx(0), &applied(1, 1, 7)).unwrap();
            }
            agency.persisted(&ctx(2), &append(log)).unwrap();
            for voter in [1, 2] {
                agency.persisted(&ctx(voter), &vote(2, Some(2))).unwrap();
            }
            agency.received(&ctx(2), &says(1, 2, 2, YES));
            let verdict = agency.noted(&ctx(2), &leads(2));
            (agency, verdict)
        };
        elected(false, &[]).1.unwrap();
        assert_eq!(elected(true, &[]).1.unwrap_err().0, "I3");
        let (mut agency, verdict) = elected(true, &[(1, 1, "x"), (2, 1, "y")]);
        verdict.unwrap();
        // An entry of an earlier term is not decided by counting.
        agency.persisted(&ctx(1), &append(&[(2, 1, "y")])).unwrap();
        agency.noted(&ctx(2), &applied(1, 1, 7)).unwrap();
        assert_eq!(agency.noted(&ctx(2), &applied(2, 1, 8)).unwrap_err().0, "I3");
    }
}
