//! A database server's life: joining, following, leading under a lease, handing over, leaving.
//!
//! This part routes what happens to a server to the pieces that know: [`role`] says which state follows which,
//! [`lease`] does the arithmetic, [`link`] speaks to the agency, [`crate::replication`] ships and follows,
//! [`crate::gate`] admits. It holds every answer until what it depends on is durable, and until the lease is confirmed.
//!
//! It must never serve because it *can't* see the agency, never go on with an epoch that an earlier process began (R3),
//! and never serve again in an epoch that it has released (R12). Invariants: I5, I6, I11, I14, I17.

pub mod lease;
pub mod link;
pub mod role;

use crate::db::api;
use crate::db::store::StoreError;
use crate::errors;
use crate::gate::{self, Admission};
use crate::http::{Request, Response};
use crate::io::*;
use crate::message::*;
use crate::replication::follower::{Follower, News, Terms};
use crate::replication::leader;
use crate::types::*;
use lease::{ClockWatch, Lease};
use link::Link;
use role::{Cause, Role};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A server that could not begin an epoch stands back for this long.
const UNFIT: Duration = Duration::from_secs(10);

/// A leader whose storage has not finished a write for this long asks for no renewal: its disk hangs.
const STUCK: Duration = Duration::from_secs(20);

/// A successor this close behind is worth closing the gate for.
const HANDOVER_LAG_TICKS: u64 = 256;

pub struct Server {
    me: Peer,
    config: ServerConfig,
    auth: Arc<Auth>,
    rng: Rng,
    ops: u64,

    // Who we are to the agency.
    store: StoreId,
    deployment: Option<DeploymentId>,
    boot: Boot,
    timing: Timing,
    /// `None` for a plain single server.
    link: Option<Link>,
    refused: Option<String>,

    // What the data are.
    seen: Epoch,
    last: Position,
    log_first: Tick,
    complete: bool,
    copy: Option<SavedCopy>,

    // What we do.
    role: Role,
    lead: Leadership,
    reign: Option<Reign>,
    following: Option<Follower>,
    release: Option<Release>,
    /// An epoch could not be begun (a full disk, say): not a candidate until then.
    unfit_until: Time,
    leaving: Option<Leaving>,
    stopped: bool,

    lease: Lease,
    /// No lease to serve under, and that was said.
    gate_shut: bool,
    clock: ClockWatch,
    read_only: bool,
    agents: Vec<Peer>,
    members: Vec<Member>,
    runs: BTreeMap<OpId, PendingRun>,
    pending: BTreeMap<OpId, Pending>,
    pruning: bool,
    /// Replaced or abandoned copies may be lying about.
    garbage: bool,
    /// Nothing is pruned before this.
    prune_after: Time,

    view: Arc<View>,
    view_old: bool,
}

/// Leadership of one epoch by this process.
struct Reign {
    epoch: Epoch,
    /// Set once the epoch's first entry is durable.
    shipping: Option<leader::Leader>,
    /// The gate is closed for a hand-over until then at most; afterwards it opens again.
    closing: Option<Time>,
    /// No hand-over is tried before this.
    handover_after: Time,
}

struct PendingRun {
    id: RequestId,
    since: Time,
    ticket: Ticket,
    /// Kept for what may need the agency; a write never does.
    request: Option<Request>,
}

enum Pending {
    Adopt { deployment: DeploymentId },
    See { freeze: Freeze, from: Peer },
    Begin { epoch: Epoch },
    Prune { keep_from: Tick },
}

/// A graceful stop under way.
struct Leaving {
    /// Followers have until then to get what we have, and the agency to hear of the release.
    until: Time,
}

impl Server {
    pub fn boot(config: ServerConfig, saved: SavedServer, seed: u64, now: Now) -> Server {
        let me = Peer { id: saved.id, endpoint: config.endpoint.clone() };
        let timing = Timing::default();
        let standalone = config.agency.is_empty();
        let auth = Arc::new(config.auth.clone());
        let link = (!standalone).then(|| Link::new(config.agency.clone(), &timing, now.time));
        let view = View {
            me: me.clone(),
            advertised: config.advertised.clone(),
            standalone,
            mode: Mode::Maintenance,
            read_only: true,
            epoch: Epoch(0),
            boot: Boot(0),
            lease_end: Time::ZERO,
            lease_sent: Now::default(),
            lease_slack: Duration::ZERO,
            leader: None,
            agents: Vec::new(),
            members: Vec::new(),
            deployment: saved.deployment,
            replication: ReplicationView::default(),
            auth: Arc::clone(&auth),
            limits: config.limits,
        };
        Server {
            me,
            auth,
            rng: Rng::new(seed),
            ops: 0,
            store: saved.store,
            deployment: saved.deployment,
            boot: Boot(0),
            timing,
            link,
            refused: None,
            seen: saved.seen,
            last: saved.last,
            log_first: saved.log_first,
            complete: saved.complete,
            copy: saved.copy,
            role: Role::Joining,
            lead: Leadership::default(),
            reign: None,
            following: None,
            release: None,
            unfit_until: now.time,
            leaving: None,
            stopped: false,
            lease: Lease::default(),
            gate_shut: true,
            clock: ClockWatch::new(now),
            read_only: false,
            agents: Vec::new(),
            members: Vec::new(),
            runs: BTreeMap::new(),
            pending: BTreeMap::new(),
            pruning: false,
            garbage: true,
            prune_after: now.time,
            view: Arc::new(view),
            view_old: true,
            config,
        }
    }

    pub fn id(&self) -> NodeId {
        self.me.id
    }

    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// See [`crate::io`] for the contract.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        // The context borrows what the parts may use, so that they can borrow the rest.
        let (me, mut rng, mut ops) = (self.me.clone(), self.rng.clone(), self.ops);
        let mut cx = Cx { now, me: &me, rng: &mut rng, ops: &mut ops, out };
        self.watch_clock(&mut cx);
        match input {
            Input::Timer => {}
            Input::Message(envelope) => self.message(&mut cx, envelope),
            Input::Request { id, request } => self.request(&mut cx, id, request),
            Input::Done { op, result } => self.done(&mut cx, op, result),
            Input::Stop => self.leave(&mut cx),
        }
        self.timers(&mut cx);
        self.rng = rng;
        self.ops = ops;
        if self.view_old {
            self.view_old = false;
            self.view = Arc::new(self.draw_view());
        }
    }

    pub fn deadline(&self) -> Option<Wake> {
        if self.stopped {
            return None;
        }
        let mut wakes: Vec<Wake> = Vec::with_capacity(5);
        wakes.extend(self.link.as_ref().map(Link::deadline));
        wakes.extend(self.following.as_ref().and_then(Follower::deadline));
        if let Some(reign) = &self.reign {
            wakes.extend(reign.shipping.as_ref().and_then(leader::Leader::deadline));
            if let Some(held) = self.lease.held(reign.epoch).filter(|_| !self.gate_shut) {
                wakes.push(Wake { at: held.end, why: "lease end" });
            }
            wakes.extend(reign.closing.map(|at| Wake { at, why: "hand-over" }));
        }
        wakes.extend(self.leaving.as_ref().map(|leaving| Wake { at: leaving.until, why: "leave" }));
        if self.link.is_none() && matches!(self.role, Role::Joining | Role::Waiting) {
            wakes.push(Wake { at: self.unfit_until, why: "begin" });
        }
        wakes.into_iter().min_by_key(|wake| wake.at)
    }

    // ---- states -----------------------------------------------------------------------------------------------------

    /// Moves along the table, if a row says so.
    fn on(&mut self, cx: &mut Cx, cause: Cause) {
        if let Some(row) = role::next(self.role, cause) {
            let (from, to) = (self.role.name(), row.to.name());
            cx.note(Event::Role { row: row.number, from, to, why: row.sentence.into() });
            self.role = row.to;
            self.view_old = true;
        }
    }

    /// Why this process may not serve in `epoch` at this moment; a plain single server always may.
    fn lease_lost(&self, epoch: Epoch, now: Now) -> Option<&'static str> {
        self.link.as_ref().and_then(|_| self.lease.lost(epoch, now))
    }

    fn mode(&self) -> Mode {
        match self.role {
            Role::Joining => Mode::Maintenance,
            Role::Stopping => Mode::Stopping,
            Role::Following => Mode::Redirect,
            Role::Leading if !self.gate_shut && self.reign.as_ref().is_some_and(|r| r.closing.is_none()) => {
                Mode::Default
            }
            Role::Leading | Role::Waiting | Role::Promoting | Role::Released => Mode::TryAgain,
        }
    }

    fn draw_view(&self) -> View {
        let serving = matches!(self.role, Role::Leading | Role::Stopping);
        let epoch = self.reign.as_ref().map_or(self.lead.epoch, |reign| reign.epoch);
        let held = self.reign.as_ref().filter(|_| serving).and_then(|reign| self.lease.held(reign.epoch));
        let lease_end = match (held, &self.reign) {
            (Some(held), _) => held.end,
            (None, Some(_)) if serving && self.link.is_none() => Time::NEVER,
            _ => Time::ZERO,
        };
        let mode = self.mode();
        let leader = match &self.lead.leader {
            Some(leader) if mode == Mode::Redirect => Some(leader.peer.clone()),
            _ => None,
        };
        let followers = self.reign.as_ref().and_then(|r| r.shipping.as_ref()).map(leader::Leader::durable);
        let replication = ReplicationView {
            running: self.following.as_ref().is_some_and(Follower::tails),
            copying: self.following.as_ref().is_some_and(Follower::copies),
            last: self.last,
            leader_last: self.following.as_ref().map_or(self.last, Follower::leader_last),
            followers: followers.unwrap_or_default(),
        };
        View {
            me: self.me.clone(),
            advertised: self.config.advertised.clone(),
            standalone: self.link.is_none(),
            mode,
            read_only: self.read_only || mode == Mode::Redirect,
            epoch,
            boot: self.boot,
            lease_end,
            lease_sent: held.map_or(Now::default(), |held| held.sent),
            lease_slack: held.map_or(Duration::ZERO, |held| held.slack),
            leader,
            agents: self.agents.clone(),
            members: self.members.clone(),
            deployment: self.deployment,
            replication,
            auth: Arc::clone(&self.auth),
            limits: self.config.limits,
        }
    }

    // ---- messages ---------------------------------------------------------------------------------------------------

    fn message(&mut self, cx: &mut Cx, envelope: Envelope) {
        let Envelope { from, to, message } = envelope;
        if to.is_some_and(|to| to != self.me.id) || self.stopped {
            return;
        }
        let from_agent = from.id.kind == NodeKind::Agent;
        match message {
            Message::Registered(registered) if from_agent => self.registered(cx, &from, registered),
            Message::RegisterRefused { nonce, reason } if from_agent => self.register_refused(cx, nonce, reason),
            Message::BeatReply(reply) if from_agent => self.beat_reply(cx, &from, reply),
            Message::Lead(lead) if from_agent => {
                self.heard_agency(cx, &from);
                self.learn(cx, lead);
            }
            Message::Freeze(freeze) if from_agent => self.freeze(cx, from, freeze),
            Message::NotLeader { leader } if from_agent => {
                let now = cx.now.time;
                if let Some(link) = &mut self.link
                    && link.redirected(&from, leader, now)
                {
                    link.hurry(now);
                }
            }
            Message::Answer { call, response } if from_agent => self.answer(cx, call, response),

            Message::Follow(follow) => match &mut self.reign {
                Some(Reign { shipping: Some(shipping), .. }) => shipping.follow(cx, &from, follow),
                // Not open yet: the follower asks again. Another epoch: it is out of date, or we are.
                Some(reign) if reign.epoch == follow.epoch => {}
                _ => cx.send(&from, Message::NotServing { epoch: follow.epoch }),
            },
            Message::Acknowledge(ack) => {
                if let Some(shipping) = self.shipping() {
                    shipping.acknowledge(cx, &from, &ack);
                }
            }
            Message::SnapshotRequest(request) => match self.shipping() {
                Some(shipping) => shipping.snapshot_request(cx, &from, request),
                None => cx.send(&from, Message::NotServing { epoch: request.id.epoch }),
            },
            Message::Append(append) => {
                if let Some(following) = &mut self.following {
                    let news = following.append(cx, &from, append);
                    self.heed(cx, news);
                }
            }
            Message::Diverged(diverged) => {
                if let Some(following) = &mut self.following {
                    following.diverged(cx, &from, &diverged);
                }
            }
            Message::SnapshotOffer(offer) => {
                if let Some(following) = &mut self.following {
                    following.offer(cx, &from, offer);
                }
            }
            Message::SnapshotPiece(piece) => {
                if let Some(following) = &mut self.following {
                    following.piece(cx, &from, piece);
                }
            }
            Message::NotServing { epoch } => {
                if let Some(following) = &mut self.following {
                    let news = following.not_serving(cx, &from, epoch);
                    self.heed(cx, news);
                }
            }
            // Not for a server.
            _ => {}
        }
    }

    fn shipping(&mut self) -> Option<&mut leader::Leader> {
        self.reign.as_mut()?.shipping.as_mut()
    }

    fn heard_agency(&mut self, cx: &mut Cx, from: &Peer) {
        if let Some(link) = &mut self.link {
            link.heard(from, cx.now.time);
        }
    }

    fn registered(&mut self, cx: &mut Cx, from: &Peer, registered: Registered) {
        if registered.nonce != self.config.nonce || self.boot != Boot(0) {
            return;
        }
        if self.deployment.is_some_and(|ours| ours != registered.deployment) {
            return self.register_refused(cx, registered.nonce, "the data belong to another deployment".into());
        }
        self.heard_agency(cx, from);
        self.boot = registered.boot;
        self.timing = registered.timing;
        if let Some(link) = &mut self.link {
            link.set_timing(&registered.timing);
        }
        cx.note(Event::RegisteredAs { boot: registered.boot });
        if self.deployment.is_none() {
            let deployment = registered.deployment;
            let op = cx.start(Op::Adopt { deployment });
            self.pending.insert(op, Pending::Adopt { deployment });
        } else {
            self.joined(cx);
        }
    }

    fn register_refused(&mut self, cx: &mut Cx, nonce: Nonce, reason: String) {
        if nonce == self.config.nonce && self.boot == Boot(0) && self.refused.as_ref() != Some(&reason) {
            cx.note(Event::Says(Severity::Error, format!("the agency refuses this server: {reason}").into()));
            self.refused = Some(reason);
        }
    }

    fn joined(&mut self, cx: &mut Cx) {
        self.on(cx, Cause::Registered);
        if let Some(link) = &mut self.link {
            link.hurry(cx.now.time);
        }
    }

    fn beat_reply(&mut self, cx: &mut Cx, from: &Peer, reply: BeatReply) {
        self.heard_agency(cx, from);
        if self.read_only != reply.read_only || self.members != reply.members || self.agents != reply.agents {
            self.read_only = reply.read_only;
            self.members = reply.members;
            self.agents = reply.agents;
            if let Some(link) = &mut self.link {
                link.learn_agents(&self.agents);
            }
        }
        self.view_old = true;
        self.learn(cx, reply.lead);
        if let (Some(grant), Some(reign)) = (&reply.grant, &self.reign) {
            let epoch = reign.epoch;
            if let Some(until) = self.lease.granted(reply.seq, grant, self.boot, epoch) {
                self.gate_shut = self.lease_lost(epoch, cx.now).is_some();
                self.timing = grant.timing;
                if let Some(link) = &mut self.link {
                    link.set_timing(&grant.timing);
                }
                cx.note(Event::LeaseRenewed { epoch, until });
                self.try_open(cx);
            }
        }
    }

    // ---- leadership -------------------------------------------------------------------------------------------------

    /// A record of leadership has come: act if it is news.
    fn learn(&mut self, cx: &mut Cx, lead: Leadership) {
        let newer = (lead.epoch, lead.index) > (self.lead.epoch, self.lead.index);
        // A record older than what the data have seen tells of the past.
        if !newer || lead.epoch < self.seen || self.role == Role::Joining {
            return;
        }
        let same_reign = (lead.epoch, &lead.leader) == (self.lead.epoch, &self.lead.leader);
        self.lead = lead;
        self.view_old = true;
        if same_reign {
            return;
        }
        let epoch = self.lead.epoch;
        if self.reign.as_ref().is_some_and(|reign| reign.epoch < epoch) {
            self.end_reign(cx, "a later epoch has begun");
        }
        match self.lead.leader.clone() {
            Some(leader) if leader.peer.id != self.me.id => {
                self.on(cx, Cause::AnotherLeads);
                if self.role == Role::Following {
                    self.follow(cx, leader);
                }
            }
            Some(leader) if leader.boot == self.boot => {
                let released = self.release.as_ref().is_some_and(|release| release.epoch == epoch);
                if !released && self.reign.is_none() {
                    self.following = None;
                    self.on(cx, Cause::Elected);
                    if self.role == Role::Promoting {
                        self.begin_epoch(cx, epoch);
                    }
                }
            }
            // Nobody, or a process of ours that is gone (R3).
            _ => {
                self.following = None;
                self.on(cx, Cause::NobodyLeads);
            }
        }
    }

    fn follow(&mut self, cx: &mut Cx, leader: Leader) {
        // The process that we follow may change its address, not its boot.
        let copy = self.copy.take();
        let terms = Terms {
            leader,
            epoch: self.lead.epoch,
            boot: self.boot,
            store: self.store,
            timing: &self.timing,
            complete: self.complete,
            copy: copy.as_ref(),
        };
        self.following = Some(Follower::new(cx, terms));
    }

    /// The first entry of the epoch and the lease are asked for at the same time.
    fn begin_epoch(&mut self, cx: &mut Cx, epoch: Epoch) {
        assert!(self.reign.is_none(), "one reign at a time");
        self.reign = Some(Reign { epoch, shipping: None, closing: None, handover_after: cx.now.time });
        let lineage = Lineage(cx.rng.next_u64());
        let op = cx.start(Op::BeginEpoch { epoch, lineage });
        self.pending.insert(op, Pending::Begin { epoch });
        if let Some(link) = &mut self.link {
            link.hurry(cx.now.time);
        }
    }

    fn begun(&mut self, cx: &mut Cx, epoch: Epoch, result: OpResult) {
        match result {
            OpResult::Began { entry } => {
                self.seen = self.seen.max(epoch);
                self.last = entry.position();
                let Some(reign) = self.reign.as_mut().filter(|reign| reign.epoch == epoch) else { return };
                cx.note(Event::EpochBegun { epoch, first: entry.tick });
                let chunk_bytes = self.config.chunk_bytes;
                let shipping = leader::Leader::new(epoch, self.boot, entry.position(), &self.timing, chunk_bytes);
                reign.shipping = Some(shipping);
                self.try_open(cx);
            }
            other => {
                let text = format!("epoch {} can't begin: {other:?}", epoch.0);
                cx.note(Event::Says(Severity::Error, text.into()));
                if self.reign.as_ref().is_some_and(|reign| reign.epoch == epoch) {
                    self.unfit_until = cx.now.time.plus(UNFIT);
                    self.end_reign(cx, "the epoch could not be begun");
                    self.on(cx, Cause::CannotLead);
                    // Somebody else may be able to: nobody has to wait for this lease.
                    self.release = Some(Release { boot: self.boot, epoch, last: self.last, successor: None });
                    self.send_release(cx);
                }
            }
        }
    }

    fn try_open(&mut self, cx: &mut Cx) {
        let Some(reign) = &self.reign else { return };
        let durable = reign.shipping.is_some();
        if durable && self.role == Role::Promoting && self.lease_lost(reign.epoch, cx.now).is_none() {
            self.on(cx, Cause::Opened);
        }
        self.view_old = true;
    }

    fn end_reign(&mut self, cx: &mut Cx, why: &'static str) {
        if let Some(reign) = self.reign.take() {
            if !self.gate_shut {
                self.gate_shut = true;
                cx.note(Event::LeaseLost { epoch: reign.epoch, why });
            }
            self.lease.drop_all();
            self.view_old = true;
        }
    }

    fn freeze(&mut self, cx: &mut Cx, from: Peer, freeze: Freeze) {
        let outdated = freeze.epoch < self.seen || freeze.epoch < self.lead.epoch;
        let decided = freeze.epoch == self.lead.epoch && self.lead.leader.is_some();
        if outdated || decided || self.boot == Boot(0) || self.role == Role::Joining {
            return;
        }
        self.heard_agency(cx, &from);
        if self.reign.as_ref().is_some_and(|reign| reign.epoch < freeze.epoch) {
            self.end_reign(cx, "deposed");
        }
        if self.following.as_ref().is_some_and(|following| following.epoch() < freeze.epoch) {
            self.following = None;
        }
        self.on(cx, Cause::Frozen);
        let op = cx.start(Op::See { epoch: freeze.epoch });
        self.pending.insert(op, Pending::See { freeze, from });
    }

    fn seen(&mut self, cx: &mut Cx, freeze: Freeze, from: &Peer, result: OpResult) {
        match result {
            OpResult::Seen { before, last, complete } => {
                self.seen = self.seen.max(freeze.epoch);
                self.last = last;
                self.complete = complete;
                let report = Report {
                    term: freeze.term,
                    epoch: freeze.epoch,
                    boot: self.boot,
                    store: self.store,
                    complete: self.complete,
                    last,
                    seen: before,
                };
                cx.send(from, Message::Report(report));
            }
            OpResult::Stale { seen } => self.seen = self.seen.max(seen),
            other => {
                let text = format!("can't freeze for epoch {}: {other:?}", freeze.epoch.0);
                cx.note(Event::Says(Severity::Error, text.into()));
            }
        }
    }

    // ---- handing over and leaving -----------------------------------------------------------------------------------

    /// R12: a planned hand-over. The gate stays open until the successor is near, then is closed until it has all.
    fn hand_over(&mut self, cx: &mut Cx) {
        let now = cx.now.time;
        let writing = self.runs.values().any(|run| run.ticket.writes);
        let Some(successor) = self.lead.successor.filter(|successor| *successor != self.me.id) else {
            if let Some(reign) = &mut self.reign {
                self.view_old |= reign.closing.take().is_some();
            }
            return;
        };
        let patience = self.timing.lease / 2;
        let Some(reign) = self.reign.as_mut().filter(|_| self.role == Role::Leading) else { return };
        let Some(shipping) = &reign.shipping else { return };
        let durable = shipping.durable_at(successor).unwrap_or(Position::ZERO);
        let last = shipping.last();
        match reign.closing {
            None => {
                if now >= reign.handover_after && durable.tick.0 + HANDOVER_LAG_TICKS >= last.tick.0 {
                    reign.closing = Some(now.plus(patience));
                    self.view_old = true;
                }
            }
            Some(_) if durable == last && !writing => self.release_lease(cx, Some(successor)),
            Some(until) if now >= until => {
                reign.closing = None;
                reign.handover_after = now.plus(patience);
                self.view_old = true;
                let text = format!("{successor} did not catch up in time: goes on leading");
                cx.note(Event::Says(Severity::Warn, text.into()));
            }
            Some(_) => {}
        }
    }

    fn release_lease(&mut self, cx: &mut Cx, successor: Option<NodeId>) {
        let Some(reign) = &self.reign else { return };
        let epoch = reign.epoch;
        assert!(self.runs.values().all(|run| !run.ticket.writes), "a lease is released when all runs are done");
        self.end_reign(cx, "released");
        self.on(cx, Cause::HandsOver);
        self.release = Some(Release { boot: self.boot, epoch, last: self.last, successor });
        self.send_release(cx);
    }

    fn send_release(&mut self, cx: &mut Cx) {
        if let (Some(release), Some(link)) = (&self.release, &self.link) {
            link.send(cx, &Message::Release(release.clone()));
        }
    }

    fn leave(&mut self, cx: &mut Cx) {
        if self.leaving.is_some() {
            return;
        }
        let until = cx.now.time.plus((self.timing.lease * 2).max(Duration::from_millis(500)));
        self.leaving = Some(Leaving { until });
        if let Some(reign) = &mut self.reign {
            reign.closing = None;
        }
        if self.reign.as_ref().is_some_and(|reign| reign.shipping.is_none()) {
            self.end_reign(cx, "stopping");
        }
        self.on(cx, Cause::Leaves);
        if let Some(link) = &mut self.link {
            link.hurry(cx.now.time);
        }
    }

    /// Finish what was admitted, let a follower catch up, give the lease back, go.
    fn go_on_leaving(&mut self, cx: &mut Cx) {
        let Some(leaving) = &self.leaving else { return };
        let late = cx.now.time >= leaving.until;
        let busy = !self.runs.is_empty() || !self.pending.is_empty();
        if (busy && !late) || self.stopped {
            return;
        }
        if self.reign.is_some() && self.link.is_some() {
            let durable = self.shipping().map(|shipping| (shipping.last(), shipping.durable()));
            let (last, followers) = durable.unwrap_or_default();
            let successor = followers.iter().find(|(_, durable)| *durable == last).map(|(peer, _)| peer.id);
            if successor.is_none() && !followers.is_empty() && !late {
                return;
            }
            if busy {
                // Whatever still runs was admitted under this lease: it must not outlive a release.
                self.end_reign(cx, "stopping");
            } else {
                self.release_lease(cx, successor);
            }
            if !late {
                return;
            }
        }
        let heard = self.release.as_ref().is_none_or(|release| self.lead.epoch > release.epoch);
        if heard || late {
            self.answer_the_rest(cx);
            self.stopped = true;
            cx.out.push(Output::Stopped);
        }
    }

    /// Everybody is answered before the process goes (I17); a write that was started has an unknown outcome (R14).
    fn answer_the_rest(&mut self, cx: &mut Cx) {
        for run in std::mem::take(&mut self.runs).into_values() {
            let kind = if run.ticket.writes { errors::OUTCOME_UNKNOWN } else { errors::SHUTTING_DOWN };
            cx.reply(run.id, kind.response());
        }
        let calls = self.link.as_mut().map(Link::give_up).unwrap_or_default();
        for call in calls {
            cx.reply(call.id, errors::AGENCY_UNREACHABLE.response());
        }
    }

    // ---- requests ---------------------------------------------------------------------------------------------------

    fn request(&mut self, cx: &mut Cx, id: RequestId, request: Request) {
        if self.runs.len() >= self.config.limits.pending_requests {
            return cx.reply(id, errors::QUEUE_FULL.response());
        }
        let seed = cx.rng.next_u64();
        match gate::admit(&self.view, request, cx.now, seed) {
            Admission::Refuse(response) => cx.reply(id, response),
            Admission::Run(run) => {
                let ticket = run.ticket();
                let request = (!ticket.writes).then(|| run.request.clone());
                let op = cx.start(Op::Run(run));
                self.runs.insert(op, PendingRun { id, since: cx.now.time, ticket, request });
            }
        }
    }

    fn ran(&mut self, cx: &mut Cx, run: PendingRun, result: OpResult) {
        match result {
            OpResult::Ran(ran) => {
                if let Some(entry) = ran.entry {
                    self.committed(cx, entry);
                }
                match ran.then {
                    None => self.answer_client(cx, run.id, run.ticket, ran.response),
                    Some(Then::Shutdown) => {
                        self.answer_client(cx, run.id, run.ticket, ran.response);
                        self.leave(cx);
                    }
                    Some(Then::Agency { request, make }) => self.ask_agency(cx, run, request, make),
                }
            }
            // Refused before anything was written: the client may try elsewhere (R14).
            OpResult::Stale { .. } => {
                let response = gate::refuse(&self.draw_view(), cx.now);
                cx.reply(run.id, response);
            }
            OpResult::Failed(error) => {
                if error != StoreError::Full {
                    cx.note(Event::Says(Severity::Error, error.to_string().into()));
                }
                self.answer_client(cx, run.id, run.ticket, errors::storage_failure(&error));
            }
            other => panic!("a run can't end in {other:?}"),
        }
    }

    /// The lease is looked at once more before an answer leaves (I11).
    fn answer_client(&mut self, cx: &mut Cx, id: RequestId, ticket: Ticket, response: Response) {
        let response = if self.view_old {
            gate::confirm(ticket, response, &self.draw_view(), cx.now)
        } else {
            gate::confirm(ticket, response, &self.view, cx.now)
        };
        cx.reply(id, response);
    }

    fn committed(&mut self, cx: &mut Cx, entry: Entry) {
        self.last = self.last.max(entry.position());
        if let Some(shipping) = self.shipping()
            && entry.epoch == shipping.last().epoch
        {
            shipping.committed(cx, entry);
        }
    }

    fn ask_agency(&mut self, cx: &mut Cx, run: PendingRun, request: Request, make: AgencyAnswer) {
        let original = run.request.expect("kept for requests that do not write");
        let asked = match &mut self.link {
            Some(link) => link.call(cx, run.id, run.ticket, original, request, make),
            None => false,
        };
        if !asked {
            cx.reply(run.id, errors::AGENCY_UNREACHABLE.response());
        }
    }

    fn answer(&mut self, cx: &mut Cx, call: u64, response: Response) {
        let Some(call) = self.link.as_mut().and_then(|link| link.answered(call, &response)) else { return };
        let response = api::agency_answer(call.make, &call.original, response);
        if call.make == AgencyAnswer::ServerMode
            && response.status == 200
            && let Some(read_only) = api::wanted_mode(&call.original)
        {
            // The agency has it. Whoever asked here finds it in force with the answer; other servers hear it in a beat.
            self.read_only = read_only;
            self.view_old = true;
        }
        self.answer_client(cx, call.id, call.ticket, response);
    }

    // ---- the store --------------------------------------------------------------------------------------------------

    fn done(&mut self, cx: &mut Cx, op: OpId, result: OpResult) {
        self.heed_copies(&result);
        if let Some(run) = self.runs.remove(&op) {
            return self.ran(cx, run, result);
        }
        match self.pending.remove(&op) {
            Some(Pending::Adopt { deployment }) => match result {
                OpResult::Adopted => {
                    self.deployment = Some(deployment);
                    self.joined(cx);
                }
                other => {
                    let text = format!("can't join the deployment: {other:?}");
                    cx.note(Event::Says(Severity::Error, text.into()));
                    // Registering again will try again.
                    self.boot = Boot(0);
                }
            },
            Some(Pending::See { freeze, from }) => self.seen(cx, freeze, &from, result),
            Some(Pending::Begin { epoch }) => self.begun(cx, epoch, result),
            Some(Pending::Prune { keep_from }) => {
                self.pruning = false;
                match result {
                    OpResult::Pruned { first, more } => {
                        self.log_first = first;
                        self.garbage = more;
                        if more {
                            self.start_prune(cx, keep_from);
                        }
                    }
                    // A full disk, most likely: not again at once.
                    _ => self.prune_after = cx.now.time.plus(self.timing.lease),
                }
            }
            None => {
                if self.reign.is_some() {
                    if let Some(shipping) = self.shipping() {
                        shipping.done(cx, op, result);
                    }
                } else if let Some(following) = &mut self.following
                    && let Some(news) = following.done(cx, op, result)
                {
                    self.heed(cx, news);
                }
                // Otherwise it was started for a leadership that is over: what it did is in the store, and whoever
                // comes next asks the store.
            }
        }
    }

    /// What a copy does to the data counts whoever started it, even if its leadership is over.
    fn heed_copies(&mut self, result: &OpResult) {
        match result {
            // Data without an entry are incomplete from the moment that a copy of somebody's is begun.
            OpResult::CopyBegun => self.complete &= self.last != Position::ZERO,
            OpResult::CopyFinished { last, log_first } => {
                self.last = *last;
                self.complete = true;
                self.log_first = *log_first;
            }
            OpResult::CopyDropped => {}
            _ => return,
        }
        self.garbage = true;
        self.view_old = true;
    }

    fn heed(&mut self, cx: &mut Cx, news: News) {
        match news {
            News::None => {}
            News::Durable(last) => self.last = last,
            News::AskAgency => {
                if let Some(link) = &mut self.link {
                    link.hurry(cx.now.time);
                }
            }
        }
    }

    /// Keep the log short, but not shorter than a connected follower needs, up to the cap.
    fn prune(&mut self, cx: &mut Cx) {
        let keep = self.config.log_keep;
        let length = self.last.tick.0.saturating_sub(self.log_first.0);
        if self.pruning || self.boot == Boot(0) || cx.now.time < self.prune_after {
            return;
        }
        if length <= keep + keep / 8 + 64 {
            if self.garbage {
                self.start_prune(cx, self.log_first);
            }
            return;
        }
        let needed = self.shipping().map_or(Tick(u64::MAX), |shipping| shipping.needed_from());
        let wanted = Tick(self.last.tick.0 - keep).min(needed);
        let forced = Tick(self.last.tick.0.saturating_sub(self.config.log_keep_cap.max(keep)));
        let keep_from = wanted.max(forced);
        if keep_from > self.log_first {
            self.start_prune(cx, keep_from);
        }
    }

    fn start_prune(&mut self, cx: &mut Cx, keep_from: Tick) {
        self.pruning = true;
        let op = cx.start(Op::Prune { keep_from });
        self.pending.insert(op, Pending::Prune { keep_from });
    }

    // ---- time -------------------------------------------------------------------------------------------------------

    fn watch_clock(&mut self, cx: &mut Cx) {
        let Some(jump) = self.clock.check(cx.now, self.timing.slack()) else { return };
        cx.note(Event::ClockJumped { steady_ms: jump.steady_ms, wall_ms: jump.wall_ms });
        // The next renewal is counted from after the jump.
        if let Some(link) = &mut self.link {
            link.hurry(cx.now.time);
        }
    }

    fn lose_lease(&mut self, cx: &mut Cx, why: &'static str) {
        if let (Some(reign), false) = (&self.reign, self.gate_shut) {
            let epoch = reign.epoch;
            self.gate_shut = true;
            self.view_old = true;
            cx.note(Event::LeaseLost { epoch, why });
        }
    }

    fn timers(&mut self, cx: &mut Cx) {
        if self.stopped {
            return;
        }
        if self.link.is_none() && self.alone_due(cx.now.time) {
            self.begin_alone(cx);
        }
        if let Some(reign) = &self.reign
            && let Some(why) = self.lease_lost(reign.epoch, cx.now)
        {
            self.lose_lease(cx, why);
        }
        if let Some(shipping) = self.shipping()
            && shipping.deadline().is_some_and(|wake| wake.at <= cx.now.time)
        {
            shipping.timer(cx);
        }
        if let Some(following) = &mut self.following {
            following.timer(cx);
        }
        self.hand_over(cx);
        self.prune(cx);
        self.beat(cx);
        self.go_on_leaving(cx);
    }

    fn alone_due(&self, now: Time) -> bool {
        matches!(self.role, Role::Joining | Role::Waiting) && now >= self.unfit_until
    }

    /// A plain single server leads itself, in a new epoch with each start.
    fn begin_alone(&mut self, cx: &mut Cx) {
        self.boot = Boot(1);
        self.gate_shut = false;
        self.on(cx, Cause::Registered);
        self.on(cx, Cause::Elected);
        let epoch = Epoch(self.seen.max(self.last.epoch).0 + 1);
        self.lead.epoch = epoch;
        self.begin_epoch(cx, epoch);
    }

    fn beat(&mut self, cx: &mut Cx) {
        let now = cx.now.time;
        let Some(link) = &mut self.link else { return };
        if link.calls() > 0 {
            let over = link.timer(cx);
            for call in over {
                cx.reply(call.id, errors::AGENCY_UNREACHABLE.response());
            }
        }
        let link = self.link.as_mut().expect("looked at above");
        if self.stopped || !link.beat_due(now) {
            return;
        }
        let seq = link.next_seq(now);
        let message = if self.boot == Boot(0) {
            Message::Register(Register {
                nonce: self.config.nonce,
                store: self.store,
                deployment: self.deployment,
                seen: self.seen,
                advertised: self.config.advertised.clone(),
                host: self.config.host.clone(),
            })
        } else {
            let stuck =
                self.runs.values().find(|run| run.ticket.writes).is_some_and(|run| now.since(run.since) > STUCK);
            let renew = self.reign.as_ref().filter(|_| !stuck).map(|reign| reign.epoch);
            if renew.is_some() {
                self.lease.sent(seq, cx.now);
            }
            let followed = self.following.as_ref().map(|following| following.leader().peer.id);
            Message::Beat(Beat {
                boot: self.boot,
                seq,
                renew,
                last: self.last,
                seen: self.seen,
                leader: renew.map(|_| self.me.id).or(followed),
                complete: self.complete,
                staying: self.leaving.is_none() && now >= self.unfit_until,
            })
        };
        link.send(cx, &message);
        self.send_release(cx);
        if self.release.as_ref().is_some_and(|release| self.lead.epoch > release.epoch) {
            self.release = None;
        }
    }
}
