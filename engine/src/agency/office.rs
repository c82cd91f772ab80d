//! What the leading agent knows and does besides Raft: it hears the servers, grants leases, asks for reports, and
//! carries out what the supervision decides.
//!
//! All of it is volatile. An agent that takes office starts with nothing but the applied state, and waits out what it
//! can't know. No decision is taken before an entry of its own term is applied (R2).

use super::account::{Failover, Kind, Loss};
use super::lease::{Leases, Renewal};
use super::state::*;
use super::supervision::{self, Action, Candidate, Pulse, Situation, Suspension, Why};
use super::transient::Transient;
use super::{Agency, consensus::Consensus, pool::Pool};
use crate::io::{Cx, Event};
use crate::mark;
use crate::message::*;
use crate::types::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The latest sign of life of a server's present process.
#[derive(Clone, Hash)]
struct Heard {
    at: Time,
    wall_ms: u64,
    boot: Boot,
    beat: Option<Beat>,
    /// It had been taken out of the plan before.
    unlisted: bool,
}

/// R5: one freeze and the reports to it, named by (term, epoch).
#[derive(Clone, Hash)]
struct Round {
    epoch: Epoch,
    patience_until: Time,
    freeze_at: Time,
    reports: BTreeMap<NodeId, Report>,
}

#[derive(Clone, Hash)]
pub struct Office {
    pub term: Term,
    since: Time,
    pub leases: Leases,
    heard: BTreeMap<NodeId, Heard>,
    dead: BTreeSet<(NodeId, Boot)>,
    /// The last process that said that it served, and when that came, by the agency's time.
    served: Option<(NodeId, Boot, u64)>,
    release: Option<(NodeId, Release)>,
    round: Option<Round>,
    pub transient: Transient,
    registering: BTreeMap<Nonce, Peer>,
    /// What was asked last of somebody who registers in the place of a known process.
    questions: BTreeMap<NodeId, (Nonce, u64)>,
    /// The entry that will change the leadership record, and the one that keeps house.
    undecided: Option<u64>,
    housekeeping: Option<u64>,
    handover: Option<(NodeId, Time)>,
    /// When the latest hand-over was over, done or given up.
    handed_over: Option<Time>,
    /// The first grant that this agent gave in an epoch, and when.
    first_grant: Option<(Epoch, u64)>,
    /// What servers were told last.
    read_only: bool,
    /// R9: since when this agent knows the present timing.
    timing: (Timing, Option<Duration>),
    timing_since: Time,
    supervise_at: Time,
    /// The servers know that this agent leads.
    introduced: bool,
    /// Something has happened that may call for a chore.
    look: bool,
    said: (u32, Why),
    /// Servers that beat without being registered.
    strangers: BTreeSet<NodeId>,
}

/// Registrations that wait at one time.
const REGISTERING_MAX: usize = 1024;
/// After a hand-over, for so many leases no other one is asked for because a leader has no room.
const ROOM_HOLD_OFF_LEASES: u32 = 30;
/// Servers in one in-sync set.
const IN_SYNC_MAX: usize = 64;
/// Unknown servers that are told of in the log.
const STRANGERS_MAX: usize = 1024;

impl Office {
    /// `earlier_grants_until`: up to when another agent may have granted leases.
    pub fn new(term: Term, now: Time, earlier_grants_until: Time, state: &State) -> Office {
        Office {
            term,
            since: now,
            leases: Leases::new(earlier_grants_until),
            heard: BTreeMap::new(),
            dead: BTreeSet::new(),
            served: None,
            release: None,
            round: None,
            transient: Transient::default(),
            registering: BTreeMap::new(),
            questions: BTreeMap::new(),
            undecided: None,
            housekeeping: None,
            handover: None,
            handed_over: None,
            first_grant: None,
            read_only: state.read_only,
            timing: (state.timing, state.older_lease),
            timing_since: now,
            supervise_at: now,
            introduced: false,
            look: true,
            said: (0, Why::Undecided),
            strangers: BTreeSet::new(),
        }
    }

    /// Those who wait are sent elsewhere.
    pub fn leave(mut self, cx: &mut Cx, leader: Option<Peer>) {
        let waiting = self.leases.drain().into_iter().map(|renewal| renewal.server);
        for server in waiting.chain(std::mem::take(&mut self.registering).into_values()) {
            mark!(WaitedInOffice);
            cx.send(&server, Message::NotLeader { leader: leader.clone() });
        }
    }

    fn is_dead(&self, server: NodeId, boot: Boot) -> bool {
        self.dead.contains(&(server, boot))
    }

    /// How long the present process of a server has been silent, as far as this agent can tell.
    fn silence(&self, server: &ServerRecord, now: Time) -> Duration {
        let heard = self.heard.get(&server.peer.id).filter(|heard| heard.boot == server.boot);
        now.since(heard.map_or(self.since, |heard| heard.at))
    }

    fn beat(&self, server: &ServerRecord) -> Option<&Beat> {
        self.heard.get(&server.peer.id).filter(|heard| heard.boot == server.boot)?.beat.as_ref()
    }

    /// What the supervision said last.
    pub fn says(&self) -> String {
        self.said.1.to_string()
    }

    pub fn last_position(&self, server: &ServerRecord) -> Option<Position> {
        self.beat(server).map(|beat| beat.last)
    }

    fn lease_over_at(&self, state: &State) -> Time {
        self.leases.over_at(state.lead.epoch, state.timing, state.older_lease)
    }

    /// How long the leader on record may take until its first renewal.
    fn takeover(&self, state: &State, now: Time) -> Duration {
        let Some((leader, _)) = state.leader_process() else { return Duration::ZERO };
        let silence = state.servers.get(&leader).map_or(Duration::MAX, |server| self.silence(server, now));
        self.leases.takeover(leader, silence, state.timing)
    }

    fn handover_patience(state: &State) -> Duration {
        state.timing.lease * 10
    }

    /// When something may become due, after `now`.
    pub fn deadlines(&self, state: &State, now: Time, _config: &AgentConfig, wakes: &mut Vec<(Time, &'static str)>) {
        wakes.push((self.supervise_at, "supervision"));
        if state.lead.leader.is_some() {
            let epoch = state.lead.epoch;
            let elected_at = self.leases.elected_at(epoch).filter(|_| !self.leases.has_granted(epoch));
            match elected_at {
                Some(at) => wakes.push((at.plus(self.takeover(state, now)), "take-over")),
                None => wakes.push((self.lease_over_at(state), "lease")),
            }
            if let Some((_, since)) = self.handover {
                wakes.push((since.plus(Office::handover_patience(state)), "hand-over"));
            }
        } else if let Some(round) = &self.round {
            wakes.push((round.freeze_at, "freeze"));
            wakes.push((round.patience_until, "patience"));
        }
        if let Some(older) = state.older_lease {
            wakes.push((self.timing_since.plus(older), "timing"));
        }
        // What is due already was looked at in this step, and waits for something else.
        wakes.retain(|(at, _)| *at > now || *at == Time::NEVER);
    }
}

/// What `/arango/Supervision/Maintenance` says: a time until when it holds; anything else holds until the key expires.
fn suspension(state: &State, wall_ms: u64) -> Option<Suspension> {
    if !state.maintenance {
        return None;
    }
    let node = state.tree.node(MAINTENANCE_KEY, wall_ms)?;
    let named = match node.leaf() {
        Some(Value::String(until)) if until.len() >= 18 => parse_iso_time(until),
        _ => None,
    };
    let until_ms = named.into_iter().chain(node.expires_ms()).min();
    until_ms.is_none_or(|until_ms| wall_ms < until_ms).then_some(Suspension { until_ms })
}

/// What `/.agency` holds: who the agents are and who of them leads.
fn agency_record(pool: &Pool, me: NodeId, term: Term) -> Value {
    let ids: Vec<String> = pool.seats().iter().map(|seat| seat.peer.id.to_string()).collect();
    let endpoints: BTreeMap<String, String> =
        pool.seats().iter().map(|s| (s.peer.id.to_string(), s.peer.endpoint.to_string())).collect();
    json!({
        "active": ids, "id": me.to_string(), "pool": endpoints, "size": pool.seats().len(), "term": term.0,
        "timeoutMult": 1,
    })
}

impl Agency {
    // ---- what servers say -------------------------------------------------------------------------------------------

    pub(super) fn on_server_message(&mut self, cx: &mut Cx, from: Peer, message: Message) {
        if self.office.is_none() {
            mark!(SentElsewhere);
            let leader = self.leader_peer();
            cx.send(&from, Message::NotLeader { leader });
            return;
        }
        match message {
            Message::Register(register) => self.on_register(cx, from, register, None),
            Message::IAmThere { question, register } => self.on_register(cx, from, register, Some(question)),
            Message::Beat(beat) => self.on_beat(cx, from, beat),
            Message::Report(report) => self.on_report(from, report),
            Message::Release(release) => self.on_release(from, release),
            Message::SetInSync(set) => self.on_set_in_sync(from, set),
            _ => {}
        }
    }

    fn on_register(&mut self, cx: &mut Cx, from: Peer, register: Register, answers: Option<u64>) {
        // Until the deployment is founded the server has to ask again.
        let Some(deployment) = self.state.deployment.filter(|_| self.is_settled()) else { return };
        // However late this comes: who is dead stays dead.
        if let Some(ended) = register.ended.filter(|ended| *ended != register.nonce)
            && self.on_death_notice(from.id, ended).is_ok()
        {
            mark!(RegisterTellsDeath);
        }
        if let Some(known) = self.state.servers.get(&from.id)
            && known.nonce == register.nonce
        {
            mark!(RegisteredAgain);
            let (nonce, boot, timing) = (known.nonce, known.boot, self.state.timing);
            cx.send(&from, Message::Registered(Registered { nonce, boot, deployment, timing }));
            return;
        }
        let nonce = register.nonce;
        if self.office.iter().any(|o| o.registering.contains_key(&nonce)) {
            // The answer comes when it is decided.
            return mark!(RegistrationUnderWay);
        }
        // A registration that is not decided yet makes it known, too.
        let under_way = self.office.iter().flat_map(|o| o.registering.values()).any(|peer| peer.id == from.id);
        if (under_way || self.state.servers.contains_key(&from.id)) && !self.lives(cx, &from, nonce, answers) {
            return;
        }
        // What a beat says is durable.
        let told =
            self.office.as_ref().and_then(|office| office.heard.get(&from.id)?.beat.as_ref()).map(|beat| beat.seen);
        if let Err(reason) = self.state.refuse_old_copy(from.id, &register, told.unwrap_or_default()) {
            return self.refuse_registration(cx, &from, nonce, reason);
        }
        let wall_ms = self.stamp(cx.now);
        let office = self.office.as_mut().expect("checked by the caller");
        if office.registering.len() >= REGISTERING_MAX {
            return;
        }
        office.registering.insert(nonce, from.clone());
        self.propose(&Command::Register { peer: from, register, wall_ms });
    }

    /// R3: a registration that was on its way when its process died must not take the place of the successor's. Whoever
    /// registers in the place of a known process is asked back, and is let in only by the answer to the latest
    /// question. An answer to another question gets none: where messages are repeated, each answer would lead to more
    /// than one further question. Who still waits registers again.
    fn lives(&mut self, cx: &mut Cx, from: &Peer, nonce: Nonce, answers: Option<u64>) -> bool {
        let office = self.office.as_mut().expect("checked by the caller");
        let question = match office.questions.get(&from.id) {
            Some((asked, question)) if *asked == nonce => *question,
            _ => cx.rng.next_u64(),
        };
        if answers == Some(question) {
            office.questions.remove(&from.id);
            return true;
        }
        if answers.is_some() {
            mark!(AnswerToOlderQuestion);
            return false;
        }
        office.questions.insert(from.id, (nonce, question));
        cx.send(from, Message::AreYouThere { nonce, question });
        false
    }

    fn on_beat(&mut self, cx: &mut Cx, from: Peer, beat: Beat) {
        let Some(server) = self.state.servers.get(&from.id) else { return self.on_stranger(cx, &from) };
        let now = cx.now.time;
        let stamp = self.stamp(cx.now);
        let process = (from.id, beat.boot);
        let present = server.boot == beat.boot;
        // An earlier process counts only as the owner of the epoch: it may have been replaced without being dead.
        let owner = self.state.leader_process() == Some(process);
        let office = self.office.as_mut().expect("checked by the caller");
        if office.is_dead(from.id, beat.boot) {
            return mark!(BeatOfDead);
        }
        if !(present || owner) {
            mark!(BeatSuperseded);
            cx.send(&from, Message::Superseded { boot: beat.boot, by: server.peer.clone() });
            return;
        }
        if !present {
            mark!(BeatOfOldOwner);
        }
        if present {
            let (id, wall_ms) = (from.id, cx.now.wall_ms);
            office.transient.beaten(id, &beat, wall_ms, stamp);
            office.look |= beat.last.epoch > self.state.begun;
            let unlisted = !self.state.is_listed(id);
            office.heard.insert(id, Heard { at: now, wall_ms, boot: beat.boot, beat: Some(beat.clone()), unlisted });
            self.freeze_one(cx, &from, beat.boot);
        }
        match beat.renew {
            Some(epoch) if owner => {
                let consensus = self.consensus.as_mut().expect("in office");
                let round = if planted!(grant_without_round) { 0 } else { consensus.request_round(now) };
                let office = self.office.as_mut().expect("in office");
                if beat.serves && epoch == self.state.lead.epoch {
                    office.leases.used();
                    office.served = Some((from.id, beat.boot, stamp));
                }
                office.leases.wait(Renewal { server: from, boot: beat.boot, epoch, seq: beat.seq, round });
            }
            _ => self.reply_to_beat(cx, &from, beat.seq, None),
        }
    }

    /// A running server that this agency never registered: the agency's directories were lost, or it is another one. It
    /// is told so, and does not come back by itself: what its data has seen is looked at when it registers (R11).
    fn on_stranger(&mut self, cx: &mut Cx, from: &Peer) {
        mark!(Stranger);
        let reason = "this agency does not know the server: it has lost its data, or is another deployment's; the server \
                      must be restarted to register again";
        cx.send(from, Message::RegisterRefused { nonce: Nonce(0), reason: reason.into() });
        let office = self.office.as_mut().expect("checked by the caller");
        if office.strangers.len() < STRANGERS_MAX && office.strangers.insert(from.id) {
            let text = format!("{} at {} beats, but has never registered with this agency", from.id, from.endpoint);
            cx.note(Event::Says(crate::io::Severity::Warn, text.into()));
        }
    }

    fn reply_to_beat(&self, cx: &mut Cx, to: &Peer, seq: u64, grant: Option<Grant>) {
        let mut agents = vec![cx.me.clone()];
        agents.extend(self.pool.seats().iter().map(|seat| seat.peer.clone()).filter(|peer| peer.id != cx.me.id));
        let lead = self.state.lead.clone();
        let members = self.members();
        cx.send(
            to,
            Message::BeatReply(BeatReply { seq, lead, grant, read_only: self.state.read_only, agents, members }),
        );
    }

    pub(super) fn members(&self) -> Vec<Member> {
        let member = |server: &ServerRecord| Member {
            peer: server.peer.clone(),
            advertised: server.advertised.clone(),
            short_name: server.short_name(),
            health: self.state.recorded_health(server.peer.id).unwrap_or(Health::Bad),
            last: self.office.as_ref().and_then(|o| o.last_position(server)).unwrap_or_default(),
        };
        self.state.listed().map(member).collect()
    }

    fn on_report(&mut self, from: Peer, report: Report) {
        let office = self.office.as_mut().expect("checked by the caller");
        let Some(round) = &mut office.round else { return };
        let Some(server) = self.state.servers.get(&from.id) else { return };
        let of_this_round = (report.term, report.epoch) == (office.term, round.epoch);
        if !of_this_round && !planted!(report_of_older_round) {
            return mark!(ReportOfOtherRound);
        }
        let of_this_process = (report.boot, report.store) == (server.boot, server.store);
        if !of_this_process && !planted!(report_of_older_process) {
            return mark!(ReportOfOtherProcess);
        }
        round.reports.insert(from.id, report);
    }

    fn on_release(&mut self, from: Peer, release: Release) {
        // R12: it names the process and the epoch; anything else is late.
        let of_this_epoch = release.epoch == self.state.lead.epoch || planted!(release_of_any_epoch);
        if self.state.leader_process() == Some((from.id, release.boot)) && of_this_epoch {
            mark!(ReleaseAccepted);
            self.office.as_mut().expect("checked by the caller").release = Some((from.id, release));
        } else {
            mark!(ReleaseLate);
        }
    }

    /// R6: the record decides when it is applied; one that names another is not worth an entry.
    fn on_set_in_sync(&mut self, from: Peer, set: SetInSync) {
        if !self.state.takes_in_sync(from.id, &set) {
            return mark!(InSyncTooLate);
        }
        let office = self.office.as_mut().expect("checked by the caller");
        if office.undecided.is_none() && set.in_sync.members.len() <= IN_SYNC_MAX {
            let index = self.propose(&Command::SetInSync { server: from.id, set });
            self.office.as_mut().expect("in office").undecided = index;
        }
    }

    /// R4: whoever has reaped the process says so. Answers why a notice means nothing.
    pub(super) fn on_death_notice(&mut self, server: NodeId, nonce: Nonce) -> Result<(), &'static str> {
        let Some(record) = self.state.servers.get(&server) else {
            mark!(NoticeUnknown);
            return Err("no such server is registered");
        };
        let boot = if record.nonce == nonce {
            mark!(NoticeAccepted);
            record.boot
        } else {
            // The process that owns the epoch may have a successor already.
            match self.state.leader_process() {
                Some((leader, boot)) if leader == server && self.state.lead_nonce == Some(nonce) => {
                    mark!(NoticeOfOwner);
                    boot
                }
                _ if planted!(death_notice_of_any_boot) => record.boot,
                _ => {
                    mark!(NoticeOfOther);
                    return Err("the nonce is not that of the registered process");
                }
            }
        };
        let office = self.office.as_mut().expect("checked by the caller");
        office.dead.insert((server, boot));
        office.look = true;
        Ok(())
    }

    // ---- what was decided -------------------------------------------------------------------------------------------

    pub(super) fn on_outcome(&mut self, cx: &mut Cx, index: u64, term: Term, outcome: Outcome) {
        let now = cx.now.time;
        let Some(office) = &mut self.office else { return };
        office.look = true;
        if office.undecided == Some(index) {
            office.undecided = None;
            office.leases.depose_appended = false;
        }
        if office.housekeeping == Some(index) {
            office.housekeeping = None;
        }
        if office.timing != (self.state.timing, self.state.older_lease) {
            office.timing = (self.state.timing, self.state.older_lease);
            office.timing_since = now;
        }
        match outcome {
            Outcome::Registered { server, nonce, result } => self.on_registered(cx, server, nonce, result),
            Outcome::Deposed => {
                office.release = None;
                office.round = None;
            }
            Outcome::Elected => {
                office.round = None;
                office.release = None;
                // R2: only an entry of this very term shows that nobody else can have granted anything yet.
                if term == office.term || planted!(elected_in_any_term) {
                    office.leases.elected(self.state.lead.epoch, now);
                }
                self.push_lead(cx);
            }
            Outcome::LeadershipSettled => self.push_lead(cx),
            Outcome::Nothing | Outcome::Written(_) => {}
        }
        let office = self.office.as_mut().expect("still in office");
        if office.read_only != self.state.read_only {
            office.read_only = self.state.read_only;
            self.push_mode(cx);
        }
        let office = self.office.as_mut().expect("still in office");
        match self.state.lead.successor {
            Some(to) if office.handover.is_none_or(|(known, _)| known != to) => {
                office.handover = Some((to, now));
                self.push_lead(cx);
            }
            Some(_) => {}
            None if office.handover.take().is_some() => office.handed_over = Some(now),
            None => {}
        }
    }

    fn refuse_registration(&self, cx: &mut Cx, peer: &Peer, nonce: Nonce, reason: String) {
        let sentence = format!("{} may not register: {reason}", peer.id);
        cx.note(Event::Says(crate::io::Severity::Warn, sentence.into()));
        cx.send(peer, Message::RegisterRefused { nonce, reason });
    }

    fn on_registered(&mut self, cx: &mut Cx, server: NodeId, nonce: Nonce, result: Result<Boot, String>) {
        let office = self.office.as_mut().expect("checked by the caller");
        let peer = office.registering.remove(&nonce);
        let boot = match result {
            Ok(boot) => boot,
            Err(reason) => {
                if let Some(peer) = peer {
                    self.refuse_registration(cx, &peer, nonce, reason);
                }
                return;
            }
        };
        let heard = Heard { at: cx.now.time, wall_ms: cx.now.wall_ms, boot, beat: None, unlisted: false };
        office.heard.insert(server, heard);
        if let Some(round) = &mut office.round {
            mark!(FreezeLate);
            if !planted!(report_of_older_process) {
                round.reports.remove(&server);
            }
        }
        if let (Some(peer), Some(deployment)) = (peer, self.state.deployment) {
            let timing = self.state.timing;
            cx.send(&peer, Message::Registered(Registered { nonce, boot, deployment, timing }));
            self.freeze_one(cx, &peer, boot);
        }
    }

    /// The record goes to everybody who may be alive, at once.
    fn push_lead(&self, cx: &mut Cx) {
        let office = self.office.as_ref().expect("in office");
        for server in self.state.listed() {
            if !office.is_dead(server.peer.id, server.boot) {
                cx.send(&server.peer, Message::Lead(self.state.lead.clone()));
            }
        }
    }

    /// Whether writes are allowed is told to everybody at once, as an answer to no beat.
    fn push_mode(&self, cx: &mut Cx) {
        let office = self.office.as_ref().expect("in office");
        for server in self.state.listed() {
            if !office.is_dead(server.peer.id, server.boot) {
                self.reply_to_beat(cx, &server.peer, 0, None);
            }
        }
    }

    // ---- freezing ---------------------------------------------------------------------------------------------------

    /// A server that shows up during a round is asked at once.
    fn freeze_one(&self, cx: &mut Cx, to: &Peer, boot: Boot) {
        let office = self.office.as_ref().expect("in office");
        if let Some(round) = &office.round
            && round.reports.get(&to.id).is_none_or(|report| report.boot != boot)
        {
            cx.send(to, Message::Freeze(Freeze { term: office.term, epoch: round.epoch }));
        }
    }

    /// Begins the round of the record's epoch, and repeats the question to those who have not answered.
    fn freeze(&mut self, cx: &mut Cx) {
        let now = cx.now.time;
        let office = self.office.as_mut().expect("in office");
        let epoch = self.state.lead.epoch;
        if self.state.lead.leader.is_some() || epoch == Epoch(0) {
            office.round = None;
            return;
        }
        if office.round.as_ref().is_none_or(|round| round.epoch != epoch) {
            let patience_until = now.plus(self.state.timing.lease);
            office.round = Some(Round { epoch, patience_until, freeze_at: now, reports: BTreeMap::new() });
        }
        let round = office.round.as_mut().expect("just begun");
        if now < round.freeze_at {
            return;
        }
        let again = (self.state.timing.lease / 8).clamp(Duration::from_millis(20), Duration::from_millis(500));
        if now > round.freeze_at {
            mark!(FreezeRepeated);
        }
        round.freeze_at = now.plus(again);
        let office = self.office.as_ref().expect("in office");
        for server in self.state.listed() {
            if !office.is_dead(server.peer.id, server.boot) {
                self.freeze_one(cx, &server.peer, server.boot);
            }
        }
    }

    // ---- leases -----------------------------------------------------------------------------------------------------

    /// Renewals and reads whose round is confirmed.
    pub(super) fn answer_confirmed(&mut self, cx: &mut Cx) {
        let settled = self.is_settled();
        let Some(office) = &mut self.office else { return };
        let confirmed = self.consensus.as_ref().map_or(0, Consensus::confirmed);
        if !settled {
            return;
        }
        // Nobody serves before it is on record that an empty store is no longer a candidate: else the very first
        // acknowledged writes could be forgotten by electing one.
        if self.state.has_data() {
            for renewal in office.leases.confirmed(confirmed) {
                self.decide_renewal(cx, renewal, settled);
            }
        } else if office.leases.waits() {
            mark!(GrantBeforeBegun);
        }
        self.answer_asks(cx, confirmed);
    }

    fn decide_renewal(&mut self, cx: &mut Cx, renewal: Renewal, settled: bool) {
        let in_vain = self.grants_in_vain(cx.now);
        let office = self.office.as_mut().expect("in office");
        let timing = self.state.timing;
        let (dead, released) = (office.is_dead(renewal.server.id, renewal.boot), office.release.is_some());
        if dead {
            mark!(GrantToDead);
        } else if released {
            mark!(GrantReleased);
        } else if in_vain {
            mark!(GrantInVain);
        }
        let granted = !(dead || released || in_vain)
            && office.leases.grant(&renewal, &self.state.lead, settled, timing, cx.now.time);
        let grant = granted.then_some(Grant { boot: renewal.boot, epoch: renewal.epoch, timing });
        if granted {
            cx.note(Event::Granted { server: renewal.server.id, boot: renewal.boot, epoch: renewal.epoch });
            let wall_ms = self.stamp(cx.now);
            let office = self.office.as_mut().expect("in office");
            if office.first_grant.is_none_or(|(epoch, _)| epoch != renewal.epoch) {
                office.first_grant = Some((renewal.epoch, wall_ms));
                office.look = true;
            }
        }
        self.reply_to_beat(cx, &renewal.server, renewal.seq, grant);
    }

    /// In maintenance the leader is waited for, whatever ails it.
    fn grants_in_vain(&self, now: Now) -> bool {
        let office = self.office.as_ref().expect("in office");
        let maintenance = suspension(&self.state, self.stamp(now)).is_some();
        office.leases.in_vain(self.state.lead.epoch, self.state.timing, now.time) && !maintenance
    }

    // ---- supervision ------------------------------------------------------------------------------------------------

    fn candidates(&self, now: Time) -> Vec<Candidate> {
        let office = self.office.as_ref().expect("in office");
        let lead = &self.state.lead;
        let deposed = self.state.under_way.as_ref().and_then(|failover| failover.from);
        let candidate = |server: &ServerRecord| {
            let id = server.peer.id;
            let dead = office.is_dead(id, server.boot);
            let silence = office.silence(server, now);
            // A leader that let its lease run out is not waited for.
            let expired = deposed == Some(id) && silence >= self.state.timing.lease;
            let beat = office.beat(server);
            let staying = beat.is_none_or(|beat| beat.staying);
            let replica = Replica { server: id, store: server.store };
            let in_sync = lead.in_sync.members.is_empty() || lead.in_sync.has(&replica);
            let follows = |beat: &Beat| beat.complete && beat.renew.is_none() && beat.matched == Some(lead.epoch);
            Candidate {
                id,
                boot: server.boot,
                health: self.state.recorded_health(id).unwrap_or(Health::Bad),
                dead,
                staying,
                awaited: !dead && staying && !expired && silence <= self.config.ok_threshold,
                follows: in_sync && beat.is_some_and(follows),
                has_room: beat.is_some_and(|beat| !beat.full),
                in_vain: office.leases.was_in_vain(id),
                last: beat.map_or(Position::ZERO, |beat| beat.last),
            }
        };
        // Who was taken out of the plan is listed again as soon as it is heard: whoever has reported is there.
        let reported = office.round.iter().flat_map(|round| round.reports.keys());
        let unlisted = reported.filter(|id| !self.state.is_listed(**id)).filter_map(|id| self.state.servers.get(id));
        self.state.listed().chain(unlisted).map(candidate).collect()
    }

    /// True if an entry was appended.
    pub(super) fn supervise(&mut self, cx: &mut Cx) -> bool {
        if !self.is_settled() || self.state.deployment.is_none() {
            return false;
        }
        // Whoever renews a lease need not find out first whom to ask now.
        if !std::mem::replace(&mut self.office.as_mut().expect("in office").introduced, true) {
            self.push_lead(cx);
        }
        self.freeze(cx);
        let now = cx.now.time;
        let servers = self.candidates(now);
        let office = self.office.as_ref().expect("in office");
        let lead = &self.state.lead;
        let process = self.state.leader_process();
        let leader = process.and_then(|(id, _)| self.state.servers.get(&id));
        let leader_is_present = leader.is_some_and(|server| Some(server.boot) == process.map(|(_, boot)| boot));
        let none = BTreeMap::new();
        let reports = office.round.as_ref().map_or(&none, |round| &round.reports);
        let seen_by_beats = office.heard.values().filter_map(|heard| heard.beat.as_ref()).map(|beat| beat.seen);
        let seen = seen_by_beats
            .chain(self.state.servers.values().map(|server| server.seen))
            .chain(reports.values().map(|report| report.seen.max(report.last.epoch)))
            .max()
            .unwrap_or_default();
        let situation = Situation {
            now,
            lead,
            preferred: self.state.preferred,
            released_at: self.state.under_way.as_ref().and_then(Failover::released_at),
            undecided: office.undecided.is_some(),
            meets_older_data: self.state.meets_older_data(),
            maintenance: suspension(&self.state, self.stamp(cx.now)),
            lease_over_at: office.lease_over_at(&self.state),
            granted: office.leases.has_granted(lead.epoch),
            in_vain: self.grants_in_vain(cx.now),
            elected_at: office.leases.elected_at(lead.epoch),
            takeover: office.takeover(&self.state, now),
            leader_dead: process.is_some_and(|(id, boot)| office.is_dead(id, boot)),
            leader_returned: leader.is_some() && !leader_is_present,
            leader_last: leader.filter(|_| leader_is_present).and_then(|server| office.last_position(server)),
            leader_full: leader
                .filter(|_| leader_is_present)
                .and_then(|s| office.beat(s))
                .is_some_and(|beat| beat.full),
            settled_for: self.settled_for(cx.now),
            room_hold_off: self.state.timing.lease * ROOM_HOLD_OFF_LEASES,
            release: office.release.as_ref().filter(|(id, r)| Some((*id, r.boot)) == process).map(|(_, r)| r),
            handover_since: office.handover.map(|(_, since)| since),
            handover_patience: Office::handover_patience(&self.state),
            servers: &servers,
            reports,
            patience_until: office.round.as_ref().map_or(now, |round| round.patience_until),
            begun: self.state.has_data(),
            seen,
        };
        let Some((rule, verdict)) = supervision::judge(&situation) else { return false };
        let lease_is_over =
            process.is_none() || situation.leader_dead || situation.release.is_some() || now >= situation.lease_over_at;
        self.carry_out(cx, rule, verdict, lease_is_over)
    }

    fn carry_out(&mut self, cx: &mut Cx, rule: u32, verdict: supervision::Verdict, lease_is_over: bool) -> bool {
        let wall_ms = self.stamp(cx.now);
        let epoch = self.state.lead.epoch;
        let leader = self.state.leader_process();
        let command = match verdict.action {
            Action::Wait => None,
            Action::Depose { next, preferred, last, released } => {
                assert!(lease_is_over, "R1: a depose is appended only when the lease is over");
                let reason = verdict.why.to_string();
                let office = self.office.as_ref().expect("in office");
                let hung = leader.filter(|(id, boot)| !(released || office.is_dead(*id, *boot)));
                let served = office.served.filter(|(id, boot, _)| hung == Some((*id, *boot)));
                let served_ms = served.map_or(wall_ms, |(_, _, served_ms)| served_ms);
                let depose = Depose { epoch, leader, next, preferred, reason, last, released, served_ms, wall_ms };
                Some(Command::Depose(depose))
            }
            Action::Elect { server, boot, last } => {
                assert!(leader.is_none(), "R1: elect follows depose");
                Some(Command::Elect(Elect { epoch, server, boot, last, wall_ms }))
            }
            Action::HandOver { to } => Some(Command::RequestHandover { to: Some(to) }),
            Action::EndHandover => Some(Command::RequestHandover { to: None }),
        };
        let office = self.office.as_mut().expect("in office");
        let said = (rule, verdict.why);
        if said != office.said {
            mark::hit_row("Rule", rule);
            if verdict.why != Why::Undecided {
                office.said = said;
                cx.note(Event::Supervision { rule, sentence: verdict.why.to_string() });
            }
        }
        let Some(command) = command else { return false };
        if let (Why::NeverTookOver { leader } | Why::GrantedInVain { leader }, Command::Depose(_)) =
            (verdict.why, &command)
        {
            office.leases.elected_in_vain(leader);
        }
        if let Command::Elect(elect) = &command {
            cx.note(Event::Chose { epoch: elect.epoch, server: elect.server });
        }
        if let Command::RequestHandover { to: Some(to) } = command {
            cx.note(Event::SendsOff { to });
        }
        office.leases.depose_appended = matches!(command, Command::Depose(_));
        let index = self.propose(&command);
        self.office.as_mut().expect("in office").undecided = index;
        assert!(index.is_some(), "an agent in office leads");
        true
    }

    /// For how long no hand-over was under way: by what this agent has seen, and by the record of those that were done.
    fn settled_for(&self, now: Now) -> Option<Duration> {
        let office = self.office.as_ref().expect("in office");
        let seen = office.handed_over.map(|at| now.time.since(at));
        let last = self.state.finished.back().filter(|last| last.kind == Kind::Switchover);
        let recorded = last.map(|last| Duration::from_millis(self.stamp(now).saturating_sub(last.finished_ms)));
        seen.into_iter().chain(recorded).min()
    }

    /// Asks for a hand-over; answers why it can't be done.
    pub(super) fn request_handover(&mut self, cx: &Cx, to: Option<NodeId>) -> Result<NodeId, &'static str> {
        let Some((leader, _)) = self.state.leader_process() else { return Err("there is no leader") };
        let fit = |candidate: &Candidate| {
            candidate.id != leader && !candidate.dead && candidate.staying && candidate.health == Health::Good
        };
        let candidates = self.candidates(cx.now.time);
        let office = self.office.as_ref().expect("checked by the caller");
        if office.undecided.is_some() {
            return Err("a change of the leadership is under way");
        }
        let complete =
            |id: NodeId| self.state.servers.get(&id).and_then(|s| office.beat(s)).is_some_and(|b| b.complete);
        let position = |id: NodeId| self.state.servers.get(&id).and_then(|server| office.last_position(server));
        let to = match to {
            Some(to) if to == leader => return Err("that server leads already"),
            Some(to) => candidates.iter().find(|c| c.id == to && fit(c)).map(|c| c.id),
            None => candidates
                .iter()
                .filter(|c| fit(c))
                .map(|c| c.id)
                .filter(|id| complete(*id))
                .max_by_key(|id| position(*id)),
        };
        let to = to.ok_or("no such server is in good health")?;
        let index = self.propose(&Command::RequestHandover { to: Some(to) });
        self.office.as_mut().expect("in office").undecided = index;
        Ok(to)
    }

    // ---- keeping house ----------------------------------------------------------------------------------------------

    /// One entry at a time; true if one was appended.
    pub(super) fn keep_house(&mut self, cx: &mut Cx) -> bool {
        if !self.is_settled() || self.office.as_ref().is_some_and(|office| office.housekeeping.is_some()) {
            return false;
        }
        let now = cx.now.time;
        let wall_ms = self.stamp(cx.now);
        let frequency = self.config.supervision_frequency.max(Duration::from_millis(10));
        let office = self.office.as_mut().expect("in office");
        if now >= office.supervise_at {
            office.supervise_at = now.plus(frequency);
            office.look = true;
            office.transient.expire(wall_ms);
        }
        if !std::mem::take(&mut office.look) {
            return false;
        }
        let Some(command) = self.chore(cx) else { return false };
        let index = self.propose(&command);
        let office = self.office.as_mut().expect("in office");
        office.housekeeping = index;
        if let Command::List { server } = command
            && let Some(heard) = office.heard.get_mut(&server)
        {
            // Once for what was heard: if it is taken out again, it has to live again.
            heard.unlisted = false;
        }
        true
    }

    fn chore(&mut self, cx: &mut Cx) -> Option<Command> {
        let now = cx.now.time;
        let wall_ms = self.stamp(cx.now);
        if self.state.deployment.is_none() {
            let deployment = DeploymentId(cx.rng.next_u128());
            return Some(Command::Found { deployment, timing: self.config.timing, wall_ms });
        }
        let office = self.office.as_ref().expect("in office");
        if let Some(older) = self.state.older_lease
            && now >= office.timing_since.plus(older)
        {
            return Some(Command::TimingSettled { timing: self.state.timing, older_lease: older });
        }
        if let Some((leader, boot)) = self.state.leader_process()
            && let Some(heard) = office.heard.get(&leader).filter(|heard| heard.boot == boot)
            && let Some(beat) = &heard.beat
            && beat.last.epoch == self.state.lead.epoch
            && self.state.begun < beat.last.epoch
        {
            return Some(Command::Began { epoch: beat.last.epoch });
        }
        if let Some((epoch, wall_ms)) = office.first_grant
            && self.state.finished.back().is_some_and(|f| f.epoch == epoch && f.serving_ms.is_none())
        {
            return Some(Command::Serves { epoch, wall_ms });
        }
        if let Some((ended, loss)) = self.told_loss() {
            return Some(Command::Account { ended, loss });
        }
        let back = office.heard.iter().find(|(id, heard)| heard.unlisted && !self.state.is_listed(**id));
        if let Some((server, _)) = back {
            mark!(ServerListedAgain);
            return Some(Command::List { server: *server });
        }
        if self.state.tree.next_expiry_ms().is_some_and(|at| at <= wall_ms) {
            return Some(Command::Expire { wall_ms });
        }
        let write = |operations: Value| {
            Some(Command::Write { transaction: json!([operations]).to_string(), privileged: true, wall_ms })
        };
        let record = agency_record(&self.pool, cx.me.id, office.term);
        if !self.state.tree.holds_value("/.agency", &record, wall_ms) {
            return write(json!({"/.agency": {"op": "set", "new": record}}));
        }
        let mode = if suspension(&self.state, wall_ms).is_some() { "Maintenance" } else { "Normal" };
        let shown = self.state.tree.leaf("/arango/Supervision/State/Mode", wall_ms).and_then(Value::as_str);
        if shown != Some(mode) {
            let state = json!({"Mode": mode, "Timestamp": iso_time(wall_ms)});
            return write(json!({"/arango/Supervision/State": {"op": "set", "new": state}}));
        }
        self.health_changes(cx).and_then(write)
    }

    /// What a beat adds to the account of a failover.
    fn told_loss(&self) -> Option<(Epoch, Loss)> {
        let office = self.office.as_ref()?;
        let beats = || office.heard.iter().filter_map(|(id, heard)| Some((*id, heard.beat.as_ref()?)));
        let open = self.state.finished.iter().filter(|failover| !failover.is_exact());
        open.flat_map(|failover| beats().map(move |(id, beat)| (failover, id, beat)))
            .find_map(|(failover, id, beat)| Some((failover.ended, failover.told_by(id, beat)?)))
    }

    /// Operations that bring the health records up to date; `None` if they are.
    fn health_changes(&mut self, cx: &mut Cx) -> Option<Value> {
        let now = cx.now.time;
        let office = self.office.as_ref().expect("in office");
        let lease = self.state.timing.lease;
        let mut operations = serde_json::Map::new();
        for server in self.state.listed() {
            let id = server.peer.id;
            let recorded = self.state.recorded_health(id);
            let pulse = Pulse {
                silence: office.silence(server, now),
                dead: office.is_dead(id, server.boot),
                unheard: office.heard.get(&id).is_none_or(|heard| heard.boot != server.boot),
                recorded: recorded.unwrap_or(Health::Bad),
            };
            let (rule, health) = supervision::health(&pulse, self.config.ok_threshold, lease);
            let key = format!("/arango/Supervision/Health/{id}");
            let short_name = server.short_name();
            let sync_status = match office.beat(server) {
                None => "STARTUP",
                Some(beat) if beat.staying => "SERVING",
                Some(_) => "SHUTDOWN",
            };
            let advertised = server.advertised.as_ref().map(|endpoint| ("AdvertisedEndpoint", &*endpoint.0));
            let fields = [
                ("ShortName", short_name.as_str()),
                ("Endpoint", &*server.peer.endpoint.0),
                ("Host", &server.host),
                ("SyncStatus", sync_status),
                ("Status", health.as_str()),
                ("Version", "3.11.14"),
                ("Engine", "rocksdb"),
            ];
            let fields = fields.into_iter().chain(advertised);
            let old = self.state.tree.node(&key, self.state.wall_ms);
            let shown = |field| old?.leaf_at(field, self.state.wall_ms)?.as_str();
            let changed = fields.clone().any(|(field, value)| {
                // An agent that has just taken office has not heard the server's own word yet.
                let unknown = field == "SyncStatus" && office.beat(server).is_none() && old.is_some();
                shown(field) != Some(value) && !unknown
            });
            if !changed {
                continue;
            }
            mark::hit_row("Health", rule);
            let mut record = serde_json::Map::new();
            record.extend(fields.map(|(field, value)| (field.to_owned(), json!(value))));
            let wall_ms = cx.now.wall_ms;
            let heard_ms = office.heard.get(&id).map_or(wall_ms, |heard| heard.wall_ms);
            for (field, time) in [("Timestamp", wall_ms), ("SyncTime", heard_ms), ("LastAckedTime", wall_ms)] {
                record.insert(field.to_owned(), json!(iso_time(time)));
            }
            operations.insert(key, json!({"op": "set", "new": record}));
            let failed = format!("/arango/Target/FailedServers/{id}");
            match health {
                Health::Failed => drop(operations.insert(failed, json!({"op": "set", "new": []}))),
                Health::Good => drop(operations.insert(failed, json!({"op": "delete"}))),
                Health::Bad => {}
            }
            if let Some(from) = recorded
                && from != health
            {
                cx.note(Event::HealthChanged { server: id, from, to: health });
            }
        }
        (!operations.is_empty()).then_some(Value::Object(operations))
    }

    /// Since when, and until when, failover is suspended; null if it is not.
    pub(super) fn maintenance_status(&self, now: Now) -> Value {
        let wall_ms = self.stamp(now);
        let Some(suspension) = suspension(&self.state, wall_ms) else { return Value::Null };
        let path = |name| format!("/arango/Supervision/State/{name}");
        let recorded = self.state.tree.leaf(&path("Mode"), wall_ms) == Some(&json!("Maintenance"));
        let since = self.state.tree.leaf(&path("Timestamp"), wall_ms).filter(|_| recorded);
        json!({"since": since, "until": suspension.until_ms.map(iso_time)})
    }

    // ---- for status -------------------------------------------------------------------------------------------------

    pub(super) fn server_status(&self, now: Time) -> Vec<Value> {
        let Some(office) = &self.office else { return Vec::new() };
        let describe = |server: &ServerRecord| {
            let beat = office.beat(server);
            json!({
                "id": server.peer.id.to_string(),
                "shortName": server.short_name(),
                "endpoint": server.peer.endpoint.to_string(),
                "advertised": server.advertised.as_ref().map(|endpoint| endpoint.to_string()),
                "boot": server.boot.0,
                "health": self.state.recorded_health(server.peer.id).unwrap_or(Health::Bad).as_str(),
                "dead": office.is_dead(server.peer.id, server.boot),
                "silentMs": office.silence(server, now).as_millis() as u64,
                "position": beat.map(|beat| json!({"epoch": beat.last.epoch.0, "tick": beat.last.tick.0})),
                "complete": beat.map(|beat| beat.complete),
                "full": beat.map(|beat| beat.full),
            })
        };
        self.state.listed().map(describe).collect()
    }
}
