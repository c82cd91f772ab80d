//! Grants of the leader's lease, as the agency's leader keeps account of them.
//!
//! Keeps I5: no lease is granted while a depose may be on its way, and no depose is appended before every lease that
//! anybody can have granted is over (R1, R2, R9). Everything here is lost when the agent stops leading, and that is
//! sound: the next leader waits as if the last grant had been asked for when one of its electors last heard a leader.
//!
//! That is as good as the moment of the grant, for a grant needs a round that began after it was asked for, and a lease
//! counts from there; and it is earlier than the election by all the silence that led to it. Each part of the wait is
//! told by some agent's clock, none of which runs faster than ε allows, so their sum is as safe as one clock.

use crate::mark;
use crate::message::{Leadership, Peer};
use crate::types::*;
use std::collections::BTreeSet;

/// A renewal that waits until it is known that this agent still led after the renewal arrived.
#[derive(Clone, Debug, Hash)]
pub struct Renewal {
    pub server: Peer,
    pub boot: Boot,
    pub epoch: Epoch,
    pub seq: u64,
    /// Confirmed by this round.
    pub round: u64,
}

#[derive(Clone, Hash)]
pub struct Leases {
    /// Earlier agency leaders granted nothing that was asked for later than this.
    earlier_grants_until: Time,
    /// The epoch that was granted last, and when the last lease granted in it is over.
    granted: Option<(Epoch, Time)>,
    /// The epoch whose leader this very agent elected, in this term, and when.
    elected: Option<(Epoch, Time)>,
    /// A depose was appended and is not decided yet (R1).
    pub depose_appended: bool,
    waiting: Vec<Renewal>,
    /// An epoch in which was granted, and since when none of it has been used as far as its owner has told.
    unused: Option<(Epoch, Time)>,
    /// Who was elected and did not serve, since anybody last did.
    in_vain: BTreeSet<NodeId>,
}

/// Renewals that wait at one time; a server that repeats itself replaces its own.
const WAITING_MAX: usize = 1024;

/// A leader that has used none of its grants for so many leases gets no more.
const UNUSED_LEASES: u32 = 4;

impl Leases {
    pub fn new(earlier_grants_until: Time) -> Leases {
        Leases {
            earlier_grants_until,
            granted: None,
            elected: None,
            depose_appended: false,
            waiting: Vec::new(),
            unused: None,
            in_vain: BTreeSet::new(),
        }
    }

    pub fn elected(&mut self, epoch: Epoch, now: Time) {
        self.elected = Some((epoch, now));
    }

    /// When this agent elected the leader of `epoch`, if it did.
    pub fn elected_at(&self, epoch: Epoch) -> Option<Time> {
        self.elected.filter(|(elected, _)| *elected == epoch).map(|(_, at)| at)
    }

    pub fn has_granted(&self, epoch: Epoch) -> bool {
        self.granted.is_some_and(|(granted, _)| granted == epoch)
    }

    /// From when on no process can hold a lease of `epoch`. `Time::ZERO` if none was ever granted.
    pub fn over_at(&self, epoch: Epoch, timing: Timing, older_lease: Option<Duration>) -> Time {
        let own = self.granted.filter(|(granted, _)| *granted == epoch).map_or(Time::ZERO, |(_, end)| end);
        if self.elected_at(epoch).is_some() || planted!(new_agency_leader_waits_not) {
            // Nobody else can have granted anything in an epoch that began under this agent.
            return own;
        }
        let older_lease = older_lease.filter(|_| !planted!(older_lease_forgotten)).unwrap_or_default();
        own.max(self.earlier_grants_until.plus(timing.lease.max(older_lease)))
    }

    /// How much is left of what this agent granted.
    pub fn left(&self, epoch: Epoch, now: Time) -> Option<Duration> {
        self.granted.filter(|(granted, _)| *granted == epoch).map(|(_, end)| end.since(now))
    }

    /// The owner of the epoch serves: what it was granted has reached it.
    pub fn used(&mut self) {
        self.unused = None;
        self.in_vain.clear();
    }

    /// A leader is deposed that has never served.
    pub fn elected_in_vain(&mut self, server: NodeId) {
        self.in_vain.insert(server);
    }

    /// It was elected in vain, and nobody has served since.
    pub fn was_in_vain(&self, server: NodeId) -> bool {
        self.in_vain.contains(&server) && !planted!(elected_in_vain_again)
    }

    /// How long a chosen server may take until its first renewal. Half a lease is plenty, but one whose messages take
    /// longer begins its epoch nevertheless, and has an entry more than anybody else then, so it would be elected again
    /// and again. When it is elected for the second time it has as long as a leader that renews in vain: followers get
    /// all that it has meanwhile, and somebody else can be elected. But only while it is heard.
    pub fn takeover(&self, server: NodeId, silence: Duration, timing: Timing) -> Duration {
        let usual = timing.lease / 2;
        if self.was_in_vain(server) && silence < usual { timing.lease * UNUSED_LEASES } else { usual }
    }

    /// The owner of `epoch` renews its lease again and again, but never has one: it does not hear, or is too slow to
    /// serve. Granting it nothing is always safe; its lease then ends like any other.
    pub fn in_vain(&self, epoch: Epoch, timing: Timing, now: Time) -> bool {
        let since = self.unused.filter(|(granted, _)| *granted == epoch).map(|(_, since)| since);
        since.is_some_and(|since| now >= since.plus(timing.lease * UNUSED_LEASES)) && !planted!(grants_in_vain)
    }

    pub fn wait(&mut self, renewal: Renewal) {
        self.waiting.retain(|other| (other.server.id, other.boot) != (renewal.server.id, renewal.boot));
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push(renewal);
        }
    }

    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes out the renewals whose round is confirmed.
    pub fn confirmed(&mut self, round: u64) -> Vec<Renewal> {
        let (ready, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|r| r.round <= round);
        self.waiting = waiting;
        ready
    }

    /// Those that will not be answered, because this agent no longer leads.
    pub fn drain(&mut self) -> Vec<Renewal> {
        std::mem::take(&mut self.waiting)
    }

    /// Decides a confirmed renewal against the *applied* record. `settled`: an entry of this leader's own term is
    /// applied (R2).
    pub fn grant(&mut self, renewal: &Renewal, lead: &Leadership, settled: bool, timing: Timing, now: Time) -> bool {
        let owner = lead.leader.as_ref().map(|leader| (leader.peer.id, leader.boot));
        let theirs = Some((renewal.server.id, renewal.boot));
        if !settled {
            mark!(GrantUnsettled);
            return false;
        }
        if self.depose_appended && !planted!(renewal_during_depose) {
            mark!(GrantWhileDeposing);
            return false;
        }
        if renewal.epoch != lead.epoch {
            mark!(GrantOtherEpoch);
            return false;
        }
        if owner != theirs {
            mark!(GrantOtherProcess);
            return false;
        }
        let end = now.plus(if planted!(agency_waits_too_short) { timing.usable() } else { timing.lease });
        let earlier = self.granted.filter(|(epoch, _)| *epoch == lead.epoch && !planted!(older_lease_forgotten));
        let end = earlier.map_or(end, |(_, earlier)| earlier.max(end));
        self.granted = Some((lead.epoch, end));
        if self.unused.is_none_or(|(granted, _)| granted != lead.epoch) {
            self.unused = Some((lead.epoch, now));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { lease: Duration::from_millis(1000), drift_permille: 200 };

    fn ms(t: u64) -> Time {
        Time(t * 1_000_000)
    }

    fn peer(uuid: u128) -> Peer {
        let endpoint = Endpoint::parse(&format!("tcp://host{uuid}:8529")).unwrap();
        Peer { id: NodeId { kind: NodeKind::Server, uuid }, endpoint }
    }

    fn renewal(server: u128, boot: u64, epoch: u64, round: u64) -> Renewal {
        Renewal { server: peer(server), boot: Boot(boot), epoch: Epoch(epoch), seq: round, round }
    }

    fn lead(epoch: u64) -> Leadership {
        let leader = crate::message::Leader { peer: peer(1), boot: Boot(1) };
        Leadership { epoch: Epoch(epoch), leader: Some(leader), ..Leadership::default() }
    }

    /// R1, R2: each reason alone is enough to refuse, and a refusal leaves no trace in the account.
    #[test]
    fn only_the_owner_of_the_epoch_gets_a_lease_and_only_while_no_depose_is_on_its_way() {
        let granted = |depose_appended, renewal, lead: &Leadership, settled| {
            let mut leases = Leases { depose_appended, ..Leases::new(ms(0)) };
            let granted = leases.grant(&renewal, lead, settled, TIMING, ms(5));
            assert_eq!(leases.has_granted(lead.epoch), granted);
            granted
        };
        let nobody = Leadership { epoch: Epoch(3), ..Leadership::default() };
        assert!(granted(false, renewal(1, 1, 3, 0), &lead(3), true));
        assert!(!granted(false, renewal(1, 1, 3, 0), &lead(3), false), "nothing of this term is applied");
        assert!(!granted(true, renewal(1, 1, 3, 0), &lead(3), true), "a depose was appended");
        assert!(!granted(false, renewal(1, 1, 2, 0), &lead(3), true), "an earlier epoch");
        assert!(!granted(false, renewal(1, 2, 3, 0), &lead(3), true), "another process of the leader");
        assert!(!granted(false, renewal(2, 1, 3, 0), &lead(3), true), "another server");
        assert!(!granted(false, renewal(1, 1, 3, 0), &nobody, true), "the epoch has no owner yet");
    }

    #[test]
    fn the_account_names_the_latest_end_of_the_epoch() {
        let mut leases = Leases::new(ms(0));
        leases.elected(Epoch(3), ms(0));
        assert_eq!((leases.left(Epoch(3), ms(0)), leases.over_at(Epoch(3), TIMING, None)), (None, Time::ZERO));
        assert!(leases.grant(&renewal(1, 1, 3, 0), &lead(3), true, TIMING, ms(10)));
        // A shorter lease given later ends no sooner than what was given before (R9).
        let short = Timing { lease: Duration::from_millis(100), ..TIMING };
        assert!(leases.grant(&renewal(1, 1, 3, 1), &lead(3), true, short, ms(20)));
        assert_eq!(leases.over_at(Epoch(3), short, None), ms(1010));
        assert_eq!(leases.left(Epoch(3), ms(400)), Some(Duration::from_millis(610)));
        assert_eq!(leases.left(Epoch(4), ms(400)), None);
        // Another epoch's grant has its own end.
        assert!(leases.grant(&renewal(1, 1, 4, 2), &lead(4), true, short, ms(30)));
        assert_eq!(leases.left(Epoch(4), ms(30)), Some(Duration::from_millis(100)));
    }

    /// I15: a leader that does not hear what it is granted is not leader for ever.
    #[test]
    fn who_serves_under_none_of_its_grants_is_found_out() {
        let mut leases = Leases::new(ms(0));
        let grant =
            |leases: &mut Leases, epoch, at| leases.grant(&renewal(1, 1, epoch, 0), &lead(epoch), true, TIMING, ms(at));
        let in_vain = |leases: &Leases, epoch, at| leases.in_vain(Epoch(epoch), TIMING, ms(at));
        assert!(!in_vain(&leases, 3, 9000), "nothing was granted");
        assert!(grant(&mut leases, 3, 100) && grant(&mut leases, 3, 4099));
        assert!(!in_vain(&leases, 3, 4099) && in_vain(&leases, 3, 4100), "since the first grant");
        assert!(!in_vain(&leases, 4, 9000) && grant(&mut leases, 4, 9000), "another epoch");
        assert!(!in_vain(&leases, 3, 9000) && !in_vain(&leases, 4, 12_999) && in_vain(&leases, 4, 13_000));
        leases.used();
        assert!(!in_vain(&leases, 4, 13_000), "it has served since");
        assert!(grant(&mut leases, 4, 13_000) && in_vain(&leases, 4, 17_000), "counted from the next grant");
    }

    /// I15: whose messages take longer than the time to take over is not elected again and again.
    #[test]
    fn who_was_elected_in_vain_gets_more_time_until_somebody_serves() {
        let mut leases = Leases::new(ms(0));
        let takeover_ms =
            |leases: &Leases, server| leases.takeover(peer(server).id, ms(499).since(ms(0)), TIMING).as_millis();
        leases.elected_in_vain(peer(1).id);
        assert_eq!((takeover_ms(&leases, 1), takeover_ms(&leases, 2)), (4000, 500));
        leases.elected_in_vain(peer(2).id);
        assert_eq!((takeover_ms(&leases, 1), takeover_ms(&leases, 2)), (4000, 4000));
        assert_eq!(leases.takeover(peer(2).id, TIMING.lease / 2, TIMING).as_millis(), 500, "it is not heard");
        leases.used();
        assert_eq!((takeover_ms(&leases, 1), takeover_ms(&leases, 2)), (500, 500));
    }

    /// R2, R9: under the older lease.
    #[test]
    fn a_new_agency_leader_waits_for_what_earlier_ones_may_have_granted() {
        let leases = Leases::new(ms(50));
        assert_eq!(leases.over_at(Epoch(3), TIMING, None), ms(1050));
        assert_eq!(leases.over_at(Epoch(3), TIMING, Some(Duration::from_millis(1500))), ms(1550));
        assert_eq!(leases.over_at(Epoch(3), TIMING, Some(Duration::from_millis(500))), ms(1050));
    }

    #[test]
    fn renewals_wait_for_their_round_one_for_each_process() {
        let mut leases = Leases::new(ms(0));
        for (server, boot, round) in [(1, 1, 5), (1, 2, 6), (2, 1, 7), (1, 1, 8)] {
            leases.wait(renewal(server, boot, 3, round));
        }
        let rounds = |renewals: Vec<Renewal>| renewals.into_iter().map(|r| r.round).collect::<Vec<_>>();
        assert_eq!(rounds(leases.confirmed(6)), [6], "the repeated one waits for its own round");
        assert_eq!(rounds(leases.drain()), [7, 8]);
        assert!(leases.drain().is_empty());
        (0..2 * WAITING_MAX as u128).for_each(|server| leases.wait(renewal(server, 1, 3, 1)));
        assert_eq!(leases.drain().len(), WAITING_MAX);
    }
}
