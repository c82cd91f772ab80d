//! I5 at the agency: whoever grants a lease must have known what it did.
//!
//! A grant is sound only if the agent still led *after* the renewal had arrived (a majority has answered it in its term
//! since), had applied an entry of its own term (R2), and if the renewal came from the process that owns the epoch by
//! what it had applied (R1, R3). All of this is counted here from the messages, without the engine's rounds.

use super::{Ctx, Processes, Verdict, broken};
use std::collections::{BTreeMap, BTreeSet};
use tanist_engine::io::Event;
use tanist_engine::message::raft::{Body, Raft};
use tanist_engine::message::{Envelope, Message};
use tanist_engine::types::{Boot, Epoch, NodeId, NodeKind, Term};

/// Who leads by what a process has applied.
#[derive(Clone, Copy, Default, PartialEq, Hash)]
enum Lead {
    #[default]
    Nobody,
    Owner(Epoch, NodeId, Boot),
    /// It has taken in a snapshot since.
    Unknown,
}

/// One agent's process.
#[derive(Clone, Default, Hash)]
struct Desk {
    leads: Option<Term>,
    /// It has applied an entry of the term that it leads.
    settled: bool,
    applied: u64,
    /// The end of the snapshot that was last offered to it.
    offered: u64,
    lead: Lead,
    /// In which event each renewal first arrived, by process and number.
    renewals: BTreeMap<(NodeId, Boot), BTreeMap<u64, u64>>,
    /// Per agent: in which event the latest answer that has arrived was sent.
    answered: BTreeMap<NodeId, u64>,
}

/// An answer between agents, as far as two that differ can be told apart: sender, receiver, term, contents.
type Answer = (NodeId, NodeId, Term, [u64; 3]);

#[derive(Clone, Hash)]
pub struct Grants {
    desks: Processes<Desk>,
    /// In which event each answer was sent (last).
    answers: BTreeMap<Answer, u64>,
}

/// The answer to a leader, if it is one.
fn answer(envelope: &Envelope, to: NodeId) -> Option<Answer> {
    let Message::Raft(Raft::Consensus(consensus)) = &envelope.message else { return None };
    let contents = match consensus.body {
        Body::AppendReply { matched, conflict, round } => [matched, conflict.map_or(0, |hint| 2 * hint + 1), round],
        Body::SnapshotReply { index, offset, round } => [index, 2 * offset + 2, round],
        _ => return None,
    };
    Some((envelope.from.id, to, consensus.term, contents))
}

impl Desk {
    /// Who has answered in messages that were sent after an event.
    fn answered_since(&self, event: u64) -> BTreeSet<NodeId> {
        self.answered.iter().filter(|(_, sent)| **sent > event).map(|(id, _)| *id).collect()
    }
}

impl Grants {
    pub fn new(agents: usize) -> Grants {
        Grants { desks: Processes::new(agents), answers: BTreeMap::new() }
    }

    pub fn noted(&mut self, ctx: &Ctx, event: &Event) {
        let desk = self.desks.of(ctx);
        match event {
            Event::LeadsAgency { term } => {
                desk.leads = Some(*term);
                desk.settled = false;
                desk.answered.clear();
            }
            Event::FollowsAgent { .. } | Event::Campaigns { .. } => desk.leads = None,
            Event::Applied { index, term, .. } => {
                // A snapshot that is a single entry further may hold an election, too.
                if *index != desk.applied + 1 || *index == desk.offered {
                    desk.lead = Lead::Unknown;
                }
                desk.applied = *index;
                desk.settled |= desk.leads == Some(*term);
            }
            Event::Elected { epoch, server, boot } => desk.lead = Lead::Owner(*epoch, *server, *boot),
            Event::Deposed { .. } => desk.lead = Lead::Nobody,
            _ => {}
        }
    }

    /// A message reaches an agent.
    pub fn received(&mut self, ctx: &Ctx, envelope: &Envelope) {
        let answer = envelope.to.and_then(|to| answer(envelope, to));
        let sent = answer.and_then(|answer| Some((answer.2, *self.answers.get(&answer)?)));
        let (desk, from) = (self.desks.of(ctx), envelope.from.id);
        if let Message::Raft(Raft::Consensus(consensus)) = &envelope.message
            && let Body::Snapshot { index, .. } = consensus.body
        {
            desk.offered = index;
            return;
        }
        match (&envelope.message, sent) {
            (Message::Beat(beat), _) if beat.renew.is_some() => {
                let renewals = desk.renewals.entry((from, beat.boot)).or_default();
                renewals.entry(beat.seq).or_insert(ctx.event);
            }
            (_, Some((term, event))) if desk.leads == Some(term) => {
                let latest = desk.answered.entry(from).or_default();
                *latest = event.max(*latest);
            }
            _ => {}
        }
    }

    /// An etcd's answer shows in which term the seat is taken, as of the event `done_in`: what a majority's answers are
    /// to a leader by Raft.
    pub fn seat_shown(&mut self, ctx: &Ctx, term: Option<u64>, done_in: u64) {
        let desk = self.desks.of(ctx);
        if term.is_some() && desk.leads.map(|leads| leads.0) == term {
            let latest = desk.answered.entry(NodeId { kind: NodeKind::Agent, uuid: 0 }).or_default();
            *latest = done_in.max(*latest);
        }
    }

    /// An etcd's answer brings a piece of the snapshot that ends at this index.
    pub fn snapshot_shown(&mut self, ctx: &Ctx, index: Option<u64>) {
        let desk = self.desks.of(ctx);
        desk.offered = index.unwrap_or(desk.offered);
    }

    /// An agent answers a read that arrived in the event `arrived`: what it read must be the latest, so it must have
    /// led since then (I3). `confirms`: whether these others and it are a majority.
    pub fn read(&mut self, ctx: &Ctx, arrived: u64, confirms: impl Fn(&BTreeSet<NodeId>) -> bool) -> Verdict {
        let desk = self.desks.of(ctx);
        let since = desk.answered_since(arrived);
        if desk.leads.is_none() || !confirms(&since) {
            let since = since.len();
            broken!("I3", "a{} answers a read though only {since} others have answered it since", ctx.node);
        }
        Ok(())
    }

    /// An agent sends a message. `confirms`: whether these others and it are a majority.
    pub fn sent(&mut self, ctx: &Ctx, envelope: &Envelope, confirms: impl Fn(&BTreeSet<NodeId>) -> bool) -> Verdict {
        let Some(to) = envelope.to else { return Ok(()) };
        if let Some(answer) = answer(envelope, to) {
            self.answers.insert(answer, ctx.event);
        }
        let Message::BeatReply(reply) = &envelope.message else { return Ok(()) };
        let Some(grant) = reply.grant else { return Ok(()) };
        let (desk, epoch) = (self.desks.of(ctx), grant.epoch.0);
        let Some(term) = desk.leads else { broken!("I5", "a{} grants epoch {epoch} without leading", ctx.node) };
        if !desk.settled {
            let term = term.0;
            broken!("I5", "a{} grants epoch {epoch} before an entry of its term {term} is applied (R2)", ctx.node);
        }
        if desk.lead != Lead::Unknown && desk.lead != Lead::Owner(grant.epoch, to, grant.boot) {
            broken!("I5", "a{} grants epoch {epoch} to {to} boot {}, which does not own it", ctx.node, grant.boot.0);
        }
        let Some(arrived) = desk.renewals.get(&(to, grant.boot)).and_then(|seqs| seqs.get(&reply.seq)) else {
            broken!("I5", "a{} grants epoch {epoch} to {to}, which did not ask (beat {})", ctx.node, reply.seq);
        };
        let since = desk.answered_since(*arrived);
        if !confirms(&since) {
            let since = since.len();
            broken!("I5", "a{} grants epoch {epoch} though only {since} others have answered it since", ctx.node);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::At;
    use tanist_engine::message::raft::Consensus;
    use tanist_engine::message::*;
    use tanist_engine::types::*;

    fn ctx(event: u64, node: usize) -> Ctx {
        Ctx { at: At(0), event, node, incarnation: 1, local: Time(0) }
    }

    fn of_three(others: &BTreeSet<NodeId>) -> bool {
        !others.is_empty()
    }

    fn id(kind: NodeKind, uuid: u128) -> NodeId {
        NodeId { kind, uuid }
    }

    fn envelope(from: NodeId, to: NodeId, message: Message) -> Envelope {
        Envelope { from: Peer { id: from, endpoint: Endpoint::parse("tcp://a:1").unwrap() }, to: Some(to), message }
    }

    fn reply(from: u128, term: u64, round: u64) -> Envelope {
        let body = Body::AppendReply { matched: 3, conflict: None, round };
        let message = Message::Raft(Raft::Consensus(Box::new(Consensus {
            agency: StoreId(1),
            disk: StoreId(1),
            term: Term(term),
            body,
        })));
        envelope(id(NodeKind::Agent, from), id(NodeKind::Agent, 0), message)
    }

    const SERVER: NodeId = NodeId { kind: NodeKind::Server, uuid: 9 };

    fn grant(boot: u64, epoch: u64) -> Envelope {
        let timing = Timing { lease: Duration::from_secs(1), drift_permille: 200 };
        let grant = Some(Grant { boot: Boot(boot), epoch: Epoch(epoch), timing });
        let (lead, agents, members) = (Leadership::default(), Vec::new(), Vec::new());
        let reply = BeatReply { seq: 1, lead, grant, read_only: false, agents, members };
        envelope(id(NodeKind::Agent, 0), SERVER, Message::BeatReply(reply))
    }

    /// Agent 0 of three leads term 2; `tell` says what else happens before it grants epoch 5 to boot 1.
    fn granted(tell: impl FnOnce(&mut Grants), boot: u64) -> Verdict {
        let mut grants = Grants::new(3);
        grants.noted(&ctx(1, 0), &Event::LeadsAgency { term: Term(2) });
        tell(&mut grants);
        grants.sent(&ctx(99, 0), &grant(boot, 5), of_three)
    }

    fn applied(grants: &mut Grants, term: u64) {
        grants.noted(&ctx(2, 0), &Event::Applied { index: 1, term: Term(term), digest: 0 });
        grants.noted(&ctx(2, 0), &Event::Elected { epoch: Epoch(5), server: SERVER, boot: Boot(1) });
    }

    fn renewed(grants: &mut Grants, event: u64) {
        let (renew, last, seen) = (Some(Epoch(5)), Position::ZERO, Epoch(5));
        let beat = Beat {
            boot: Boot(1),
            seq: 1,
            renew,
            serves: false,
            last,
            seen,
            leader: None,
            complete: true,
            full: false,
            staying: true,
            matched: None,
            rollbacks: Vec::new(),
        };
        grants.received(&ctx(event, 0), &envelope(SERVER, id(NodeKind::Agent, 0), Message::Beat(beat)));
    }

    fn answered(grants: &mut Grants, sent: u64, arrived: u64, term: u64) {
        grants.sent(&ctx(sent, 1), &reply(1, term, 7), of_three).unwrap();
        grants.received(&ctx(arrived, 0), &reply(1, term, 7));
    }

    /// Agent 0 takes in a snapshot of one entry.
    fn told_snapshot(grants: &mut Grants) {
        applied(grants, 1);
        let (index, index_term, piece) = (2, Term(1), Default::default());
        let body = Body::Snapshot { index, index_term, seats: Vec::new(), total: 0, offset: 0, piece, round: 1 };
        let message = Message::Raft(Raft::Consensus(Box::new(Consensus {
            agency: StoreId(1),
            disk: StoreId(1),
            term: Term(1),
            body,
        })));
        grants.received(&ctx(3, 0), &envelope(id(NodeKind::Agent, 1), id(NodeKind::Agent, 0), message));
        grants.noted(&ctx(3, 0), &Event::Applied { index: 2, term: Term(1), digest: 0 });
    }

    #[test]
    fn a_grant_needs_a_renewal_a_majority_since_and_an_entry_of_its_own_term() {
        let told = |own_term: u64, sent: u64, answer_term: u64| {
            granted(
                |grants| {
                    applied(grants, own_term);
                    renewed(grants, 10);
                    answered(grants, sent, 20, answer_term);
                },
                1,
            )
        };
        told(2, 11, 2).unwrap();
        assert!(told(1, 11, 2).unwrap_err().1.contains("R2"));
        assert!(told(2, 9, 2).unwrap_err().1.contains("only 0 others"), "the answer left before the renewal came");
        assert!(told(2, 11, 3).unwrap_err().1.contains("only 0 others"), "the answer is of another term");
        let unasked = granted(|grants| applied(grants, 2), 1);
        assert!(unasked.unwrap_err().1.contains("did not ask"));
        let deposed = |grants: &mut Grants| {
            applied(grants, 2);
            grants.noted(&ctx(3, 0), &Event::Deposed { epoch: Epoch(6), server: Some(SERVER) });
        };
        assert!(granted(deposed, 1).unwrap_err().1.contains("does not own"));
        assert!(granted(|grants| applied(grants, 2), 2).unwrap_err().1.contains("does not own"), "another process");
        // What a snapshot holds is not known, not even if it is only one entry further.
        let snapshot = |grants: &mut Grants| {
            told_snapshot(grants);
            grants.noted(&ctx(4, 0), &Event::LeadsAgency { term: Term(2) });
            grants.noted(&ctx(5, 0), &Event::Applied { index: 3, term: Term(2), digest: 0 });
        };
        assert!(granted(snapshot, 2).unwrap_err().1.contains("did not ask"));
        let from_etcd = |grants: &mut Grants| {
            applied(grants, 2);
            grants.snapshot_shown(&ctx(3, 0), Some(2));
            grants.noted(&ctx(3, 0), &Event::Applied { index: 2, term: Term(2), digest: 0 });
        };
        assert!(granted(from_etcd, 2).unwrap_err().1.contains("did not ask"));
        let follows = |grants: &mut Grants| grants.noted(&ctx(3, 0), &Event::Campaigns { term: Term(3), pre: false });
        assert!(granted(follows, 1).unwrap_err().1.contains("without leading"));
    }

    /// A message may come again long after: it is a renewal still.
    #[test]
    fn a_late_echo_of_a_renewal_may_be_granted() {
        let echoed = |grants: &mut Grants| {
            applied(grants, 2);
            renewed(grants, 10);
            let envelope = |seq| {
                let (renew, last, seen) = (Some(Epoch(5)), Position::ZERO, Epoch(5));
                let (serves, leader, complete, staying) = (false, None, true, true);
                let (matched, rollbacks) = (None, Vec::new());
                let beat = Beat {
                    boot: Boot(1),
                    seq,
                    renew,
                    serves,
                    last,
                    seen,
                    leader,
                    complete,
                    full: false,
                    staying,
                    matched,
                    rollbacks,
                };
                envelope(SERVER, id(NodeKind::Agent, 0), Message::Beat(beat))
            };
            (2..2000).for_each(|seq| grants.received(&ctx(10 + seq, 0), &envelope(seq)));
            grants.received(&ctx(3000, 0), &envelope(1));
            answered(grants, 3001, 3002, 2);
        };
        granted(echoed, 1).unwrap();
    }

    #[test]
    fn a_read_needs_answers_of_a_majority_since_it_arrived() {
        let read = |sent| {
            let mut grants = Grants::new(3);
            grants.noted(&ctx(1, 0), &Event::LeadsAgency { term: Term(2) });
            answered(&mut grants, sent, 20, 2);
            grants.read(&ctx(21, 0), 10, of_three)
        };
        read(11).unwrap();
        assert_eq!(read(9).unwrap_err().0, "I3");
        assert_eq!(Grants::new(1).read(&ctx(21, 0), 10, |_| true).unwrap_err().0, "I3", "it does not lead");
    }
}
