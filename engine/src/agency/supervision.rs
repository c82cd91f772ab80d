//! What the agency's leader decides about the servers' leader: a table of numbered rules.
//!
//! The rules are looked at after every step, so that a death notice, a report or a committed entry leads on at once;
//! the first that matches wins. Each is a pure function of the [`Situation`]. Keeps R1 (a depose only when no lease is
//! left), R4, R5, R11 and R12; what the decision leads to is carried out, and checked once more, elsewhere.

use super::state::ABANDON_KEY;
use super::state::iso_time;
use crate::message::{Health, Leadership, Release, Replica, Report};
use crate::types::*;
use std::collections::BTreeMap;
use std::fmt;

/// All that the rules go by.
pub struct Situation<'a> {
    pub now: Time,
    pub lead: &'a Leadership,
    /// Whom a release or a hand-over named.
    pub preferred: Option<NodeId>,
    /// A change of the leadership record is appended and not yet applied.
    pub undecided: bool,
    /// Where the log of a leader ended that gave its lease back: nobody has more.
    pub released_at: Option<Position>,
    /// R11: servers hold data with a past, this agency has none, and no operator has confirmed.
    pub meets_older_data: bool,
    pub maintenance: Option<Suspension>,
    /// From when on nobody can hold a lease of the record's epoch.
    pub lease_over_at: Time,
    pub granted: bool,
    /// The leader has used nothing of what it was granted for long; it gets no more.
    pub in_vain: bool,
    /// When this agent elected the present leader, if it did.
    pub elected_at: Option<Time>,
    /// How long a chosen server may take until its first renewal.
    pub takeover: Duration,
    /// The leader's process is known to be dead.
    pub leader_dead: bool,
    /// The leader's server has registered a later process.
    pub leader_returned: bool,
    pub leader_last: Option<Position>,
    /// The leader had to refuse writes for lack of room.
    pub leader_full: bool,
    /// For how long no hand-over was under way, if there has been one; for how long none is wanted for lack of room.
    pub settled_for: Option<Duration>,
    pub room_hold_off: Duration,
    pub release: Option<&'a Release>,
    /// Since when the hand-over is asked for, and how long it may take.
    pub handover_since: Option<Time>,
    pub handover_patience: Duration,
    /// In the order of their first registration.
    pub servers: &'a [Candidate],
    /// Of this round only.
    pub reports: &'a BTreeMap<NodeId, Report>,
    pub patience_until: Time,
    /// Something has been written in this deployment: an empty store is not a candidate.
    pub begun: bool,
    /// The highest epoch that any store is known to have seen.
    pub seen: Epoch,
}

/// An operator has suspended failover; without a time, until he ends that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Suspension {
    pub until_ms: Option<u64>,
}

/// A registered server that might lead.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub id: NodeId,
    pub boot: Boot,
    pub health: Health,
    /// Its process is known to be dead.
    pub dead: bool,
    /// False while it is stopping.
    pub staying: bool,
    /// Believed to be alive: the choice waits for its report.
    pub awaited: bool,
    /// It follows the leader with a complete store, and is in the in-sync set if there is one.
    pub follows: bool,
    /// It has told that it has room for what is written.
    pub has_room: bool,
    /// It was elected and did not serve, and nobody has served since.
    pub in_vain: bool,
    pub last: Position,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Wait,
    Depose { next: Epoch, preferred: Option<NodeId>, last: Option<Position>, released: bool },
    Elect { server: NodeId, boot: Boot, last: Position },
    HandOver { to: NodeId },
    EndHandover,
}

pub struct Verdict {
    pub action: Action,
    pub why: Why,
}

/// What is done and why; the same as long as nothing changes. Plain data, because the rules are looked at in every
/// step: it becomes a sentence when it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    Undecided,
    OlderData,
    NobodyHasLed,
    Maintenance { leader: NodeId, until_ms: Option<u64> },
    Released { leader: NodeId },
    ReleasedFull { leader: NodeId },
    Dead { leader: NodeId },
    NeverTookOver { leader: NodeId },
    GrantedInVain { leader: NodeId },
    LeaseOver { leader: NodeId },
    SuccessorGone { successor: NodeId },
    HandoverTooLong { successor: NodeId },
    NoRoom { leader: NodeId, successor: NodeId },
    NoRoomAnywhere { leader: NodeId },
    NoRoomSoonAfter { leader: NodeId },
    Leads { leader: NodeId, epoch: Epoch },
    LaterEpochSeen { seen: Epoch, epoch: Epoch },
    WaitsForReport { epoch: Epoch, of: NodeId },
    WaitsForInSync { epoch: Epoch, members: usize },
    Furthest { server: NodeId, of: usize, last: Position, epoch: Epoch },
    NobodyReported { epoch: Epoch },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Undecided => f.write_str("a change of the leadership is being decided"),
            Why::OlderData => {
                f.write_str("servers hold data that had a leader, but this agency never had one; confirm first")
            }
            Why::NobodyHasLed => f.write_str("nobody has led yet"),
            Why::Maintenance { leader, until_ms } => {
                write!(f, "{leader} does not lead any more, but maintenance suspends failover")?;
                until_ms.map_or(Ok(()), |until_ms| write!(f, " until {}", iso_time(until_ms)))
            }
            Why::Released { leader } => write!(f, "{leader} released its lease"),
            Why::ReleasedFull { leader } => write!(f, "{leader} has no room for writes and released its lease"),
            Why::Dead { leader } => write!(f, "the process of {leader} is dead"),
            Why::NeverTookOver { leader } => write!(f, "{leader} was elected but did not take over"),
            Why::GrantedInVain { leader } => {
                write!(f, "{leader} renews its lease, but has served under none of those granted for long: no more is")
            }
            Why::LeaseOver { leader } => write!(f, "the lease of {leader} is over"),
            Why::SuccessorGone { successor } => {
                write!(f, "the hand-over to {successor} is given up: it is not there")
            }
            Why::HandoverTooLong { successor } => {
                write!(f, "the hand-over to {successor} is given up: it takes too long")
            }
            Why::NoRoom { leader, successor } => {
                write!(f, "{leader} has no room for writes: it is asked to hand over to {successor}, which has")
            }
            Why::NoRoomAnywhere { leader } => {
                write!(f, "{leader} has no room for writes, and no follower that could take over has: it stays")
            }
            Why::NoRoomSoonAfter { leader } => {
                write!(
                    f,
                    "{leader} has no room for writes, but a hand-over was under way less than 30 leases ago: it stays"
                )
            }
            Why::Leads { leader, epoch } => write!(f, "{leader} leads in epoch {}", epoch.0),
            Why::LaterEpochSeen { seen, epoch } => {
                write!(f, "a store has seen epoch {}, not earlier than {}", seen.0, epoch.0)
            }
            Why::WaitsForReport { epoch, of } => write!(f, "epoch {}: waits for the report of {of}", epoch.0),
            Why::WaitsForInSync { epoch, members } => write!(
                f,
                "epoch {0}: waits for one of the {members} servers that have what was acknowledged; if all of them are \
                 gone for ever, write {0} to the agency key {1}",
                epoch.0, ABANDON_KEY
            ),
            Why::Furthest { server, of, last, epoch } => {
                write!(f, "{server} is furthest of {of} that reported, at {last}: elected for epoch {}", epoch.0)
            }
            Why::NobodyReported { epoch } => {
                write!(f, "epoch {}: no server with a complete store has reported", epoch.0)
            }
        }
    }
}

pub struct Rule {
    pub number: u32,
    pub when: &'static str,
    pub then: &'static str,
    judge: fn(&Situation) -> Option<Verdict>,
}

/// The first rule that matches, and what it says.
pub fn judge(situation: &Situation) -> Option<(u32, Verdict)> {
    RULES.iter().find_map(|rule| (rule.judge)(situation).map(|verdict| (rule.number, verdict)))
}

pub const RULES: &[Rule] = &[
    Rule {
        number: 10,
        when: "a change of the leadership is appended",
        then: "wait until it is decided",
        judge: undecided,
    },
    Rule {
        number: 20,
        when: "the agency never had a leader, but data has (R11)",
        then: "wait until an operator confirms",
        judge: older_data,
    },
    Rule { number: 30, when: "nobody has led yet and a server is there", then: "begin the first epoch", judge: first },
    Rule {
        number: 40,
        when: "in maintenance, the leader is gone and no hand-over was asked for",
        then: "wait until it is back",
        judge: maintenance,
    },
    Rule { number: 50, when: "the leader has released its lease (R12)", then: "depose", judge: released },
    Rule { number: 60, when: "the leader's process is dead (R4)", then: "depose", judge: dead },
    Rule { number: 70, when: "the chosen server has never renewed in time", then: "depose", judge: never_took_over },
    Rule {
        number: 75,
        when: "the leader renews, but has served under no lease for long",
        then: "grant no more; depose when the last one is over",
        judge: granted_in_vain,
    },
    Rule { number: 80, when: "the leader's lease is over", then: "depose", judge: lease_over },
    Rule { number: 90, when: "a hand-over can't be finished", then: "take the request back", judge: handover_stuck },
    Rule {
        number: 95,
        when: "the leader had to refuse writes for lack of room, and no hand-over was under way for 30 leases",
        then: "have it hand over to a follower that has room, if there is one",
        judge: no_room,
    },
    Rule { number: 100, when: "there is a leader", then: "leave it alone", judge: led },
    Rule {
        number: 110,
        when: "a store has seen this epoch's future (R11)",
        then: "begin a later epoch",
        judge: later_epoch_seen,
    },
    Rule {
        number: 120,
        when: "a server that seems alive has not reported, there is time, and no successor has all that was released",
        then: "wait",
        judge: wait_for_reports,
    },
    Rule {
        number: 125,
        when: "nobody has reported who has what was acknowledged (R6)",
        then: "wait",
        judge: wait_for_in_sync,
    },
    Rule { number: 130, when: "a complete store has reported (R5)", then: "elect the furthest", judge: choose },
    Rule { number: 140, when: "no complete store has reported", then: "wait", judge: nobody },
];

fn say(action: Action, why: Why) -> Option<Verdict> {
    Some(Verdict { action, why })
}

fn depose(s: &Situation, preferred: Option<NodeId>, last: Option<Position>, why: Why) -> Option<Verdict> {
    let next = Epoch(s.lead.epoch.max(s.seen).0 + 1);
    // In maintenance the leader comes back, if nobody is further.
    let preferred = preferred.or_else(|| leader(s).filter(|_| s.maintenance.is_some()));
    let released = s.release.is_some();
    say(Action::Depose { next, preferred, last: last.or(s.leader_last), released }, why)
}

fn leader(s: &Situation) -> Option<NodeId> {
    s.lead.leader.as_ref().map(|leader| leader.peer.id)
}

fn undecided(s: &Situation) -> Option<Verdict> {
    s.undecided.then(|| say(Action::Wait, Why::Undecided))?
}

fn older_data(s: &Situation) -> Option<Verdict> {
    s.meets_older_data.then(|| say(Action::Wait, Why::OlderData))?
}

fn first(s: &Situation) -> Option<Verdict> {
    if s.lead.epoch != Epoch(0) || !s.servers.iter().any(|server| server.awaited && server.staying) {
        return None;
    }
    depose(s, None, None, Why::NobodyHasLed)
}

fn maintenance(s: &Situation) -> Option<Verdict> {
    let leader = leader(s)?;
    let expired = s.now >= s.lease_over_at && (s.granted || s.elected_at.is_none());
    let gone = s.leader_dead || s.release.is_some() || expired;
    // A server that just stops names a successor, too; only a hand-over that was asked for goes on.
    let planned = s.lead.successor.is_some();
    let until_ms = s.maintenance?.until_ms;
    (gone && !planned && !s.leader_returned).then(|| say(Action::Wait, Why::Maintenance { leader, until_ms }))?
}

fn released(s: &Situation) -> Option<Verdict> {
    let (leader, release) = (leader(s)?, s.release?);
    // In maintenance a leader that stopped is expected back, whomever it named.
    let successor = s.lead.successor.or(release.successor.filter(|_| s.maintenance.is_none()));
    let full = s.leader_full && s.lead.successor.is_some();
    let why = if full { Why::ReleasedFull { leader } } else { Why::Released { leader } };
    depose(s, successor, Some(release.last), why)
}

fn dead(s: &Situation) -> Option<Verdict> {
    let leader = leader(s)?;
    s.leader_dead.then(|| depose(s, None, None, Why::Dead { leader }))?
}

fn never_took_over(s: &Situation) -> Option<Verdict> {
    let (leader, elected_at) = (leader(s)?, s.elected_at?);
    let late = !s.granted && s.now >= elected_at.plus(s.takeover) && !planted!(chosen_never_deposed);
    late.then(|| depose(s, None, None, Why::NeverTookOver { leader }))?
}

/// It does not hear, or is too slow: a candidate like any other afterwards, but only if it hears the freeze in time.
fn granted_in_vain(s: &Situation) -> Option<Verdict> {
    let leader = leader(s).filter(|_| s.in_vain)?;
    let why = Why::GrantedInVain { leader };
    if s.now >= s.lease_over_at { depose(s, None, None, why) } else { say(Action::Wait, why) }
}

fn lease_over(s: &Situation) -> Option<Verdict> {
    let leader = leader(s)?;
    // Without a grant there is no lease, but the chosen server has its time.
    let counts = s.granted || s.elected_at.is_none();
    (counts && s.now >= s.lease_over_at).then(|| depose(s, None, None, Why::LeaseOver { leader }))?
}

fn handover_stuck(s: &Situation) -> Option<Verdict> {
    let (_, successor) = (leader(s)?, s.lead.successor?);
    let fit = s.servers.iter().any(|c| c.id == successor && !c.dead && c.staying && c.health != Health::Failed);
    let late = s.handover_since.is_some_and(|since| s.now >= since.plus(s.handover_patience));
    match (fit, late) {
        (false, _) => say(Action::EndHandover, Why::SuccessorGone { successor }),
        (true, true) => say(Action::EndHandover, Why::HandoverTooLong { successor }),
        (true, false) => None,
    }
}

/// Nobody is asked who has told of no room himself, and not again at once: where all disks are about as full,
/// leadership would go round otherwise.
fn no_room(s: &Situation) -> Option<Verdict> {
    let leader = leader(s).filter(|_| s.leader_full && s.lead.successor.is_none() && s.maintenance.is_none())?;
    if s.settled_for.is_some_and(|settled_for| settled_for < s.room_hold_off) && !planted!(full_disk_without_hold_off) {
        return say(Action::Wait, Why::NoRoomSoonAfter { leader });
    }
    let fit = |c: &&Candidate| {
        let has_room = c.has_room || planted!(full_disk_moves_to_full);
        c.id != leader && !c.dead && c.staying && c.health == Health::Good && c.follows && has_room
    };
    // Of equals the first to register.
    match s.servers.iter().rev().filter(fit).max_by_key(|c| c.last).map(|c| c.id) {
        Some(to) => say(Action::HandOver { to }, Why::NoRoom { leader, successor: to }),
        None => say(Action::Wait, Why::NoRoomAnywhere { leader }),
    }
}

fn led(s: &Situation) -> Option<Verdict> {
    leader(s).and_then(|leader| say(Action::Wait, Why::Leads { leader, epoch: s.lead.epoch }))
}

fn later_epoch_seen(s: &Situation) -> Option<Verdict> {
    let epoch = s.lead.epoch;
    // Whoever has seen a later epoch does not answer a freeze for this one, so reports alone would not show it.
    let written = s.reports.values().map(|report| report.last.epoch).max().unwrap_or_default();
    let futile = epoch > Epoch(0) && (s.seen > epoch || written >= epoch);
    let why = Why::LaterEpochSeen { seen: s.seen.max(written), epoch };
    futile.then(|| depose(s, s.preferred, None, why))?
}

fn wait_for_reports(s: &Situation) -> Option<Verdict> {
    let missing = s.servers.iter().find(|server| server.awaited && !s.reports.contains_key(&server.id))?;
    (s.lead.epoch > Epoch(0) && s.now < s.patience_until && !successor_has_all(s))
        .then(|| say(Action::Wait, Why::WaitsForReport { epoch: s.lead.epoch, of: missing.id }))?
}

/// Whoever was named by a leader that gave its lease back, and has all of its log, is the furthest, whatever the others
/// report.
fn successor_has_all(s: &Situation) -> bool {
    s.released_at.is_some_and(|end| eligible(s).any(|(c, report)| Some(c.id) == s.preferred && report.last >= end))
}

/// One that has everything is enough: whoever is further than that one has it, too.
fn wait_for_in_sync(s: &Situation) -> Option<Verdict> {
    let in_sync = &s.lead.in_sync;
    let has_all = |candidate: &Candidate, report: &Report| {
        in_sync.has(&Replica { server: candidate.id, store: report.store })
            && (report.last >= in_sync.floor || planted!(in_sync_floor_ignored))
    };
    let waits = !in_sync.members.is_empty() && !eligible(s).any(|(candidate, report)| has_all(candidate, report));
    let why = Why::WaitsForInSync { epoch: s.lead.epoch, members: in_sync.members.len() };
    (waits && !planted!(elected_without_in_sync)).then(|| say(Action::Wait, why))?
}

/// Who may be chosen: a process that has reported in this round, with a complete store that has not missed everything.
pub fn eligible<'a>(s: &'a Situation) -> impl DoubleEndedIterator<Item = (&'a Candidate, &'a Report)> {
    s.servers.iter().filter(|c| !c.dead && c.staying).filter_map(|candidate| {
        let of_this_process = |report: &Report| report.boot == candidate.boot || planted!(report_of_older_process);
        let report = s.reports.get(&candidate.id).filter(|report| of_this_process(report))?;
        let empty = report.last == Position::ZERO && s.begun && !planted!(empty_store_elected);
        let incomplete = !report.complete && planted!(incomplete_elected);
        ((report.complete && !empty) || incomplete).then_some((candidate, report))
    })
}

/// By epoch first, then by tick.
fn furthest(positions: impl Iterator<Item = Position>) -> Option<Position> {
    if planted!(ticks_as_strings) {
        return positions.max_by_key(|position| (position.epoch, position.tick.0.to_string()));
    }
    if planted!(longest_log_wins) {
        return positions.max_by_key(|position| position.tick);
    }
    positions.max()
}

fn choose(s: &Situation) -> Option<Verdict> {
    let last = furthest(eligible(s).map(|(_, report)| report.last))?;
    let equals = eligible(s).filter(|(_, report)| report.last == last).map(|(candidate, _)| candidate);
    // In maintenance the leader comes back. Else whoever has just been elected in vain would be again; one that has
    // just refused writes could not even begin the epoch. Servers come in the order of registration: of several that
    // are as good the first.
    let merit = |c: &&Candidate| {
        let preferred = Some(c.id) == s.preferred;
        (preferred && s.maintenance.is_some(), !c.in_vain, preferred, c.has_room)
    };
    let chosen = equals.rev().max_by_key(merit).expect("the best is among them");
    let why = Why::Furthest { server: chosen.id, of: s.reports.len(), last, epoch: s.lead.epoch };
    say(Action::Elect { server: chosen.id, boot: chosen.boot, last }, why)
}

fn nobody(s: &Situation) -> Option<Verdict> {
    (s.lead.epoch > Epoch(0)).then(|| say(Action::Wait, Why::NobodyReported { epoch: s.lead.epoch }))?
}

// ---- health ---------------------------------------------------------------------------------------------------------

/// What is known of a server's signs of life.
pub struct Pulse {
    /// Since the last beat, or since this agent leads.
    pub silence: Duration,
    pub dead: bool,
    /// Not heard of since this agent leads.
    pub unheard: bool,
    pub recorded: Health,
}

pub struct HealthRule {
    pub number: u32,
    pub when: &'static str,
    pub then: &'static str,
    applies: fn(&Pulse, Duration, Duration) -> bool,
    health: fn(&Pulse) -> Health,
}

pub const HEALTH_RULES: &[HealthRule] = &[
    HealthRule {
        number: 210,
        when: "the process is dead",
        then: "FAILED",
        applies: |p, _, _| p.dead,
        health: |_| Health::Failed,
    },
    HealthRule {
        number: 220,
        when: "not heard of since this agent leads, which is not long",
        then: "as recorded",
        applies: |p, ok, _| p.unheard && p.silence <= ok,
        health: |p| p.recorded,
    },
    HealthRule {
        number: 230,
        when: "heard of within the ok threshold",
        then: "GOOD",
        applies: |p, ok, _| p.silence <= ok,
        health: |_| Health::Good,
    },
    HealthRule {
        number: 240,
        when: "silent, but not for a lease more",
        then: "BAD",
        applies: |p, ok, lease| p.silence <= ok + lease && p.recorded != Health::Failed,
        health: |_| Health::Bad,
    },
    HealthRule {
        number: 250,
        when: "silent for longer",
        then: "FAILED",
        applies: |_, _, _| true,
        health: |_| Health::Failed,
    },
];

pub fn health(pulse: &Pulse, ok_threshold: Duration, lease: Duration) -> (u32, Health) {
    let rule = HEALTH_RULES.iter().find(|rule| (rule.applies)(pulse, ok_threshold, lease));
    let rule = rule.expect("the last rule applies always");
    (rule.number, (rule.health)(pulse))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mark;
    use crate::message::InSync;

    /// Operators read these numbers in their logs: a change here is a change of the documentation.
    #[test]
    fn the_table() {
        let rules = RULES.iter().map(|rule| (rule.number, rule.when, rule.then));
        let health = HEALTH_RULES.iter().map(|rule| (rule.number, rule.when, rule.then));
        let table: Vec<String> =
            rules.chain(health).map(|(number, when, then)| format!("{number}: {when} -> {then}")).collect();
        let expected = "\
10: a change of the leadership is appended -> wait until it is decided
20: the agency never had a leader, but data has (R11) -> wait until an operator confirms
30: nobody has led yet and a server is there -> begin the first epoch
40: in maintenance, the leader is gone and no hand-over was asked for -> wait until it is back
50: the leader has released its lease (R12) -> depose
60: the leader's process is dead (R4) -> depose
70: the chosen server has never renewed in time -> depose
75: the leader renews, but has served under no lease for long -> grant no more; depose when the last one is over
80: the leader's lease is over -> depose
90: a hand-over can't be finished -> take the request back
95: the leader had to refuse writes for lack of room, and no hand-over was under way for 30 leases -> have it hand over to \
a follower that has room, if there is one
100: there is a leader -> leave it alone
110: a store has seen this epoch's future (R11) -> begin a later epoch
120: a server that seems alive has not reported, there is time, and no successor has all that was released -> wait
125: nobody has reported who has what was acknowledged (R6) -> wait
130: a complete store has reported (R5) -> elect the furthest
140: no complete store has reported -> wait
210: the process is dead -> FAILED
220: not heard of since this agent leads, which is not long -> as recorded
230: heard of within the ok threshold -> GOOD
240: silent, but not for a lease more -> BAD
250: silent for longer -> FAILED";
        assert_eq!(table.join("\n"), expected);
        assert!(RULES.windows(2).all(|pair| pair[0].number < pair[1].number));
        assert!(RULES.iter().all(|rule| mark::of_row("Rule", rule.number).is_some()));
        assert!(HEALTH_RULES.iter().all(|rule| mark::of_row("Health", rule.number).is_some()));
    }

    fn server(number: u128) -> NodeId {
        NodeId { kind: NodeKind::Server, uuid: number }
    }

    fn candidate(number: u128) -> Candidate {
        Candidate {
            id: server(number),
            boot: Boot(1),
            health: Health::Good,
            dead: false,
            staying: true,
            awaited: true,
            follows: true,
            has_room: true,
            in_vain: false,
            last: Position::ZERO,
        }
    }

    fn report(epoch: u64, tick: u64) -> Report {
        Report {
            term: Term(1),
            epoch: Epoch(3),
            boot: Boot(1),
            store: StoreId(0),
            complete: true,
            last: Position { epoch: Epoch(epoch), tick: Tick(tick) },
            seen: Epoch(2),
        }
    }

    /// Nothing is wrong at 1000 ns, and whoever leads has no lease.
    fn calm<'a>(
        lead: &'a Leadership,
        servers: &'a [Candidate],
        reports: &'a BTreeMap<NodeId, Report>,
    ) -> Situation<'a> {
        Situation {
            now: Time(1000),
            lead,
            preferred: None,
            released_at: None,
            undecided: false,
            meets_older_data: false,
            maintenance: None,
            lease_over_at: Time::ZERO,
            granted: false,
            in_vain: false,
            elected_at: None,
            takeover: Duration::from_nanos(500),
            leader_dead: false,
            leader_returned: false,
            leader_last: None,
            leader_full: false,
            settled_for: None,
            room_hold_off: Duration::from_nanos(500),
            release: None,
            handover_since: None,
            handover_patience: Duration::from_nanos(500),
            servers,
            reports,
            patience_until: Time(2000),
            begun: true,
            seen: Epoch(3),
        }
    }

    fn decide(servers: &[Candidate], reports: &[(u128, Report)], change: impl Fn(&mut Situation)) -> (u32, Action) {
        let lead = Leadership { index: 9, epoch: Epoch(3), ..Leadership::default() };
        let reports = reports.iter().map(|(number, report)| (server(*number), *report)).collect();
        let mut situation = calm(&lead, servers, &reports);
        change(&mut situation);
        let (rule, verdict) = judge(&situation).expect("a rule for every situation without a leader");
        (rule, verdict.action)
    }

    fn chosen(number: u128, epoch: u64, tick: u64) -> (u32, Action) {
        let last = Position { epoch: Epoch(epoch), tick: Tick(tick) };
        (130, Action::Elect { server: server(number), boot: Boot(1), last })
    }

    #[test]
    fn the_furthest_complete_store_is_elected() {
        let three = [candidate(1), candidate(2), candidate(3)];
        let all = [(1, report(2, 5)), (2, report(2, 10)), (3, report(1, 900))];
        assert_eq!(decide(&three, &all, |_| {}), chosen(2, 2, 10));
        let equal = [(1, report(2, 5)), (2, report(2, 5)), (3, report(2, 4))];
        assert_eq!(decide(&three, &equal, |_| {}), chosen(1, 2, 5), "the first to register");
        assert_eq!(decide(&three, &equal, |s| s.preferred = Some(server(2))), chosen(2, 2, 5));
        let full = [Candidate { has_room: false, ..candidate(1) }, candidate(2), candidate(3)];
        assert_eq!(decide(&full, &equal, |_| {}), chosen(2, 2, 5), "one that has room");
        assert_eq!(decide(&full, &all[..1], |s| s.now = Time(2000)), chosen(1, 2, 5), "but rather this one than none");
        assert_eq!(decide(&three, &equal, |s| s.preferred = Some(server(3))), chosen(1, 2, 5), "never one behind");
        let failed = [Candidate { in_vain: true, ..candidate(1) }, candidate(2), candidate(3)];
        assert_eq!(decide(&failed, &equal, |_| {}), chosen(2, 2, 5), "one that was not elected in vain");
        let first = |s: &mut Situation| s.preferred = Some(server(1));
        assert_eq!(decide(&failed, &equal, first), chosen(2, 2, 5), "also where that one was asked for");
        let comes_back =
            |s: &mut Situation| (s.preferred, s.maintenance) = (Some(server(1)), Some(Suspension { until_ms: None }));
        assert_eq!(
            decide(&failed, &equal, comes_back),
            chosen(1, 2, 5),
            "but in maintenance the leader is expected back"
        );
        let ahead = [(1, report(2, 6)), (2, report(2, 5)), (3, report(2, 5))];
        assert_eq!(decide(&failed, &ahead, |_| {}), chosen(1, 2, 6), "but never one behind");
        let incomplete = [(1, report(2, 5)), (2, Report { complete: false, ..report(2, 10) }), (3, report(1, 1))];
        assert_eq!(decide(&three, &incomplete, |_| {}), chosen(1, 2, 5));
        let of_earlier_process = [(1, report(2, 5)), (2, Report { boot: Boot(7), ..report(2, 10) }), (3, report(1, 1))];
        assert_eq!(decide(&three, &of_earlier_process, |_| {}), chosen(1, 2, 5));
    }

    #[test]
    fn the_choice_waits_for_whoever_seems_alive() {
        let mut two = [candidate(1), candidate(2)];
        let one = [(1, report(2, 5))];
        assert_eq!(decide(&two, &one, |_| {}), (120, Action::Wait));
        assert_eq!(decide(&two, &one, |s| s.now = Time(2000)), chosen(1, 2, 5), "but not for ever");
        two[1].awaited = false;
        assert_eq!(decide(&two, &one, |_| {}), chosen(1, 2, 5));
        (two[0].dead, two[0].awaited) = (true, false);
        assert_eq!(decide(&two, &one, |_| {}), (140, Action::Wait), "a dead process is not elected");
        let empty = [(2, Report { last: Position::ZERO, ..report(0, 0) })];
        assert_eq!(decide(&two, &empty, |_| {}), (140, Action::Wait), "an empty store where data was");
        assert_eq!(decide(&two, &empty, |s| s.begun = false), chosen(2, 0, 0));
    }

    #[test]
    fn a_successor_that_has_all_of_a_released_log_is_not_kept_waiting_by_others() {
        let three = [candidate(1), candidate(2), candidate(3)];
        let end = Position { epoch: Epoch(2), tick: Tick(5) };
        let handed_to =
            |number| move |s: &mut Situation| (s.preferred, s.released_at) = (Some(server(number)), Some(end));
        let one = [(2, report(2, 5))];
        assert_eq!(decide(&three, &one, handed_to(2)), chosen(2, 2, 5));
        assert_eq!(decide(&three, &one, handed_to(3)), (120, Action::Wait), "another one was named");
        assert_eq!(
            decide(&three, &one, |s| s.preferred = Some(server(2))),
            (120, Action::Wait),
            "nothing was released"
        );
        assert_eq!(decide(&three, &[(2, report(2, 4))], handed_to(2)), (120, Action::Wait), "it lacks an entry");
        let incomplete = [(2, Report { complete: false, ..report(2, 5) })];
        assert_eq!(decide(&three, &incomplete, handed_to(2)), (120, Action::Wait));
    }

    /// R6: whoever has all that was acknowledged is waited for, beyond all patience; then the furthest is elected.
    #[test]
    fn nobody_is_elected_without_one_that_has_what_was_acknowledged() {
        let three = [candidate(1), candidate(2), candidate(3)];
        let floor = Position { epoch: Epoch(2), tick: Tick(6) };
        let decide = |reports: &[(u128, Report)]| {
            let lead = Leadership {
                index: 9,
                epoch: Epoch(3),
                in_sync: InSync { members: vec![Replica { server: server(2), store: StoreId(0) }], floor, lag: 0 },
                ..Leadership::default()
            };
            let reports = reports.iter().map(|(number, report)| (server(*number), *report)).collect();
            let situation = Situation { now: Time(9000), ..calm(&lead, &three, &reports) };
            let (rule, verdict) = judge(&situation).expect("nobody leads");
            (rule, verdict.action)
        };
        let waits = (125, Action::Wait);
        assert_eq!(decide(&[(1, report(2, 8)), (3, report(2, 9))]), waits);
        assert_eq!(decide(&[(1, report(2, 8)), (2, report(2, 7))]), chosen(1, 2, 8), "further than one of the set");
        assert_eq!(decide(&[(1, report(2, 5)), (2, report(2, 6))]), chosen(2, 2, 6));
        assert_eq!(decide(&[(1, report(2, 8)), (2, report(2, 5))]), waits, "it has lost what it had");
        assert_eq!(decide(&[(2, Report { store: StoreId(7), ..report(2, 9) })]), waits, "on another disk");
        assert_eq!(decide(&[(2, Report { complete: false, ..report(2, 9) })]), waits);
        assert_eq!(decide(&[(2, Report { boot: Boot(7), ..report(2, 9) })]), waits, "another process");
    }

    #[test]
    fn an_epoch_that_a_store_has_seen_already_is_skipped() {
        let one = [candidate(1)];
        let later = [(1, Report { seen: Epoch(8), ..report(2, 5) })];
        let next = Action::Depose { next: Epoch(9), preferred: None, last: None, released: false };
        assert_eq!(decide(&one, &later, |s| s.seen = Epoch(8)), (110, next));
        let written = [(1, report(3, 5))];
        let next = Action::Depose { next: Epoch(4), preferred: None, last: None, released: false };
        assert_eq!(decide(&one, &written, |_| {}), (110, next), "somebody has written in this very epoch");
        let two = [candidate(1), candidate(2)];
        let next = Action::Depose { next: Epoch(9), preferred: None, last: None, released: false };
        let silent = decide(&two, &[(1, report(2, 5))], |s| (s.seen, s.now) = (Epoch(8), Time(2000)));
        assert_eq!(silent, (110, next), "who has seen epoch 8 never reports for epoch 3");
    }

    /// Rules 30 to 100: a leader that is there, or has never been. Times in nanoseconds; the lease is over at 800.
    #[test]
    fn a_leader_is_left_alone_until_there_is_a_reason() {
        let servers = [candidate(1), candidate(2)];
        let leader = || {
            let peer = crate::message::Peer { id: server(1), endpoint: Endpoint("tcp://server1:8529".into()) };
            crate::message::Leader { peer, boot: Boot(1) }
        };
        static RELEASE: Release = Release { boot: Boot(1), epoch: Epoch(3), last: Position::ZERO, successor: None };
        let rule = |now, change: &dyn Fn(&mut Situation<'_>, &mut Leadership, &mut [Candidate; 2])| {
            let mut lead = Leadership { index: 9, epoch: Epoch(3), leader: Some(leader()), ..Leadership::default() };
            let (nobody, none, mut servers) = (lead.clone(), BTreeMap::new(), servers.clone());
            let mut situation = Situation {
                now: Time(now),
                lease_over_at: Time(800),
                granted: true,
                handover_patience: Duration::from_nanos(300),
                ..calm(&nobody, &[], &none)
            };
            change(&mut situation, &mut lead, &mut servers);
            judge(&Situation { lead: &lead, servers: &servers, ..situation }).map(|(rule, _)| rule)
        };
        let lease = |now| rule(now, &|_, _, _| {});
        assert_eq!((lease(799), lease(800)), (Some(100), Some(80)));
        // A server that was chosen has its time, whatever lease there is; then it has none.
        let chosen = |now, granted| rule(now, &|s, _, _| (s.granted, s.elected_at) = (granted, Some(Time(400))));
        assert_eq!((chosen(899, false), chosen(900, false)), (Some(100), Some(70)));
        assert_eq!((chosen(799, true), chosen(900, true)), (Some(100), Some(80)), "it has renewed");
        // This agent elected nobody, and knows of no grant: an earlier one's may last until 800.
        let inherited = |now| rule(now, &|s, _, _| s.granted = false);
        assert_eq!((inherited(799), inherited(800)), (Some(100), Some(80)));
        // One that uses none of its leases is deposed when the last one is over, and not before.
        let in_vain = |now| {
            let lead = Leadership { leader: Some(leader()), epoch: Epoch(3), ..Leadership::default() };
            let none = BTreeMap::new();
            let calm = calm(&lead, &servers, &none);
            judge(&Situation { now: Time(now), lease_over_at: Time(800), granted: true, in_vain: true, ..calm })
        };
        assert!(matches!(in_vain(799), Some((75, Verdict { action: Action::Wait, .. }))));
        assert!(matches!(in_vain(800), Some((75, Verdict { action: Action::Depose { .. }, .. }))));
        assert_eq!(rule(0, &|s, _, _| s.leader_dead = true), Some(60));
        assert_eq!(rule(0, &|s, _, _| s.release = Some(&RELEASE)), Some(50));

        // Maintenance: whatever the reason, the leader is waited for, unless it is back or gives way as was asked.
        let kept = |now, change: &dyn Fn(&mut Situation<'_>, &mut Leadership)| {
            rule(now, &|s, lead, _| {
                s.maintenance = Some(Suspension { until_ms: None });
                change(s, lead);
            })
        };
        assert_eq!((kept(799, &|_, _| {}), kept(800, &|_, _| {})), (Some(100), Some(40)));
        assert_eq!(kept(800, &|s, _| (s.granted, s.elected_at) = (false, Some(Time(700)))), Some(100), "just chosen");
        assert_eq!(kept(0, &|s, _| s.leader_dead = true), Some(40));
        assert_eq!(kept(0, &|s, _| s.release = Some(&RELEASE)), Some(40));
        assert_eq!(kept(800, &|s, _| s.leader_returned = true), Some(80));
        assert_eq!(kept(800, &|_, lead| lead.successor = Some(server(2))), Some(80));

        // A hand-over goes on while its successor can take over, for so long.
        let handover = |now, change: &dyn Fn(&mut Candidate)| {
            rule(now, &|s, lead, servers| {
                lead.successor = Some(server(2));
                s.handover_since = Some(Time(100));
                change(&mut servers[1]);
            })
        };
        assert_eq!((handover(399, &|_| {}), handover(400, &|_| {})), (Some(100), Some(90)));
        assert_eq!(handover(399, &|c| c.health = Health::Bad), Some(100));
        let unfit: [&dyn Fn(&mut Candidate); 4] =
            [&|c| c.health = Health::Failed, &|c| c.dead = true, &|c| c.staying = false, &|c| c.id = server(7)];
        for (number, change) in unfit.into_iter().enumerate() {
            assert_eq!(handover(399, change), Some(90), "{number}");
        }

        // A leader without room: whoever has some takes over, the furthest first, and not at once after another.
        let full = |change: &dyn Fn(&mut Situation<'_>, &mut Leadership, &mut [Candidate; 2])| {
            let mut lead = Leadership { leader: Some(leader()), epoch: Epoch(3), ..Leadership::default() };
            let (mut servers, none) = ([candidate(1), candidate(2)], BTreeMap::new());
            servers[0].has_room = false;
            let nobody = lead.clone();
            let calm = calm(&nobody, &[], &none);
            let mut situation = Situation { lease_over_at: Time(9000), granted: true, leader_full: true, ..calm };
            change(&mut situation, &mut lead, &mut servers);
            let (rule, verdict) = judge(&Situation { lead: &lead, servers: &servers, ..situation }).unwrap();
            (rule, verdict.action == Action::HandOver { to: server(2) }, verdict.action == Action::Wait)
        };
        let (moves, stays) = ((95, true, false), (95, false, true));
        assert_eq!(full(&|_, _, _| {}), moves);
        assert_eq!(full(&|_, _, servers| servers[1].health = Health::Bad), stays);
        let unfit: [&dyn Fn(&mut Candidate); 5] =
            [&|c| c.has_room = false, &|c| c.follows = false, &|c| c.dead = true, &|c| c.staying = false, &|c| {
                c.health = Health::Failed
            }];
        for (number, change) in unfit.into_iter().enumerate() {
            assert_eq!(full(&|_, _, servers| change(&mut servers[1])), stays, "{number}");
        }
        let settled = |nanos| full(&|s, _, _| s.settled_for = Some(Duration::from_nanos(nanos)));
        assert_eq!((settled(499), settled(500)), (stays, moves));
        assert_eq!(full(&|s, _, _| s.leader_full = false), (100, false, true));
        assert_eq!(full(&|s, _, _| s.maintenance = Some(Suspension { until_ms: None })), (100, false, true));
        assert_eq!(full(&|_, lead, _| lead.successor = Some(server(2))), (100, false, true), "it is asked already");
        assert_eq!(full(&|s, _, _| s.leader_dead = true).0, 60, "anything graver first");

        // Nobody has led yet.
        let first = |epoch, change: &dyn Fn(&mut Candidate)| {
            rule(0, &|s, lead, servers| {
                (s.seen, lead.epoch, lead.leader) = (Epoch(epoch), Epoch(epoch), None);
                servers.iter_mut().for_each(change);
            })
        };
        assert_eq!((first(0, &|_| {}), first(1, &|_| {})), (Some(30), Some(120)));
        assert_eq!(first(0, &|c| c.awaited = false), None);
        assert_eq!(first(0, &|c| c.staying = false), None);
    }

    #[test]
    fn a_leader_that_gave_way_for_lack_of_room_is_told_apart() {
        let peer = crate::message::Peer { id: server(1), endpoint: Endpoint("tcp://server1:8529".into()) };
        let release = Release { boot: Boot(1), epoch: Epoch(3), last: Position::ZERO, successor: None };
        let lacks_room = |leader_full, successor| {
            let leader = Some(crate::message::Leader { peer: peer.clone(), boot: Boot(1) });
            let lead = Leadership { index: 9, epoch: Epoch(3), leader, successor, ..Leadership::default() };
            let none = BTreeMap::new();
            let situation = Situation { release: Some(&release), leader_full, ..calm(&lead, &[], &none) };
            let (rule, verdict) = judge(&situation).expect("it has released");
            assert_eq!(rule, 50);
            verdict.why.to_string().contains("no room")
        };
        assert!(lacks_room(true, Some(server(2))));
        assert!(!lacks_room(false, Some(server(2))), "a hand-over for another reason");
        assert!(!lacks_room(true, None), "nobody was to take over: it stopped");
    }

    #[test]
    fn health_goes_by_the_last_sign_of_life() {
        let ms = Duration::from_millis;
        let verdict = |silence, change: &dyn Fn(&mut Pulse)| {
            let mut pulse = Pulse { silence: ms(silence), dead: false, unheard: false, recorded: Health::Good };
            change(&mut pulse);
            health(&pulse, ms(500), ms(1000))
        };
        assert_eq!((verdict(500, &|_| {}), verdict(501, &|_| {})), ((230, Health::Good), (240, Health::Bad)));
        assert_eq!((verdict(1500, &|_| {}), verdict(1501, &|_| {})), ((240, Health::Bad), (250, Health::Failed)));
        assert_eq!(verdict(0, &|p| p.dead = true), (210, Health::Failed));
        assert_eq!(verdict(501, &|p| p.recorded = Health::Failed), (250, Health::Failed), "not better by itself");
        let unheard = |silence| verdict(silence, &|p| (p.unheard, p.recorded) = (true, Health::Bad));
        assert_eq!((unheard(500), unheard(501)), ((220, Health::Bad), (240, Health::Bad)));
    }
}
