//! Grants of the leader's lease, as the agency's leader keeps account of them.
//!
//! Keeps I5: no lease is granted while a depose may be on its way, and no depose is appended before every lease that
//! anybody can have granted is over (R1, R2, R9). Everything here is lost when the agent stops leading, and that is
//! sound: the next leader waits as if the last grant had been given at the moment of its own election.

use crate::mark;
use crate::message::{Leadership, Peer};
use crate::types::*;

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
    led_since: Time,
    /// The epoch that was granted last, and when the last lease granted in it is over.
    granted: Option<(Epoch, Time)>,
    /// The epoch whose leader this very agent elected, in this term, and when.
    elected: Option<(Epoch, Time)>,
    /// A depose was appended and is not decided yet (R1).
    pub depose_appended: bool,
    waiting: Vec<Renewal>,
}

/// Renewals that wait at one time; a server that repeats itself replaces its own.
const WAITING_MAX: usize = 1024;

impl Leases {
    pub fn new(now: Time) -> Leases {
        Leases { led_since: now, granted: None, elected: None, depose_appended: false, waiting: Vec::new() }
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
        // An earlier agency leader's last grant was confirmed before this one was elected.
        own.max(self.led_since.plus(timing.lease.max(older_lease.unwrap_or_default())))
    }

    /// How much is left of what this agent granted.
    pub fn left(&self, epoch: Epoch, now: Time) -> Option<Duration> {
        self.granted.filter(|(granted, _)| *granted == epoch).map(|(_, end)| end.since(now))
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
        let end = self.granted.filter(|(epoch, _)| *epoch == lead.epoch).map_or(end, |(_, earlier)| earlier.max(end));
        self.granted = Some((lead.epoch, end));
        true
    }
}
