//! A database server's life: joining, following, leading under a lease, handing over, leaving.
//!
//! This part routes what happens to a server to the pieces that know: [`role`] says which state follows which,
//! [`lease`] does the arithmetic, [`link`] speaks to the agency, [`crate::replication`] ships and follows,
//! [`crate::gate`] admits. It holds every answer until what it depends on is durable, and until the lease is confirmed.
//!
//! It must never serve because it *can't* see the agency, never go on with an epoch that an earlier process began (R3),
//! and never serve again in an epoch that it has released (R12). Invariants: I5, I6, I11, I14, I17.

mod acknowledge;
mod building;
mod expiry;
mod handover;
mod leadership;
pub mod lease;
pub mod link;
mod parking;
mod requests;
pub mod role;
mod room;
mod transacting;
mod upkeep;

use crate::cursor::Cursors;
use crate::demand::Freshness;
use crate::http::{Request, Response};
use crate::io::*;
use crate::job::Jobs;
use crate::mark;
use crate::message::*;
use crate::replication::follower::Follower;
use crate::replication::in_sync::InSyncSet;
use crate::replication::leader;
use crate::transaction::Transactions;
use crate::types::*;
use lease::{ClockWatch, Lease};
use link::Link;
use parking::Parked;
use role::{Cause, Role};
use room::Room;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A server that could not begin an epoch stands back for this long.
const UNFIT: Duration = Duration::from_secs(10);

/// A leader whose storage has not finished a write for this long asks for no renewal: its disk hangs.
const STUCK: Duration = Duration::from_secs(20);

/// A successor this close behind is worth closing the gate for.
const HANDOVER_LAG_TICKS: u64 = 256;

#[derive(Clone, Hash)]
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
    room: Room,
    copy: Option<SavedCopy>,
    /// What rollbacks have cost, the latest last.
    rollbacks: Vec<RollbackSummary>,

    // What we do.
    role: Role,
    lead: Leadership,
    reign: Option<Reign>,
    following: Option<Follower>,
    /// Followers that came before the epoch began that they want to follow this server in.
    early: BTreeMap<NodeId, (Peer, Follow)>,
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
    parked: Vec<Parked>,
    /// Leadership is changing hands: until then at most, requests wait for who leads.
    moves_until: Time,
    /// Answers that wait for followers.
    held: Vec<acknowledge::Held>,
    cursors: Cursors,
    jobs: Jobs,
    expiry: expiry::Expiry,
    building: building::Building,
    transactions: Transactions,
    pending: BTreeMap<OpId, Pending>,
    pruning: bool,
    /// Replaced or abandoned copies may be lying about.
    garbage: bool,
    /// Nothing is pruned before this.
    prune_after: Time,

    view: Arc<View>,
    view_old: bool,
}

/// Followers that are remembered until this server leads.
const EARLY_MAX: usize = 64;

/// Leadership of one epoch by this process.
#[derive(Clone, Hash)]
struct Reign {
    epoch: Epoch,
    /// Set once the epoch's first entry is durable.
    shipping: Option<leader::Leader>,
    /// Only where followers must have what is acknowledged, or had to.
    in_sync: Option<InSyncSet>,
    /// The gate is closed for a hand-over until then at most; afterwards it opens again.
    closing: Option<Time>,
    /// No hand-over is tried before this.
    handover_after: Time,
}

#[derive(Clone, Hash)]
struct PendingRun {
    id: RequestId,
    /// When it was started, and when it came.
    since: Time,
    arrived: Time,
    ticket: Ticket,
    /// The tick that the answer must reflect.
    at_least: Option<Tick>,
    /// Kept for what may need the agency, or have to wait for a tick.
    request: Option<Request>,
    transaction: transacting::Stake,
    /// The number of the query that it may be.
    query: u64,
}

#[derive(Clone, Hash)]
enum Pending {
    Adopt { deployment: DeploymentId },
    See { freeze: Freeze, from: Peer },
    Begin { epoch: Epoch },
    Prune { keep_from: Tick },
    Expire,
    Build,
    Forget { record: RollbackId, id: RequestId, ticket: Ticket, response: Response },
}

/// A graceful stop under way.
#[derive(Clone, Hash)]
struct Leaving {
    /// Followers have until then to get what we have, and the agency to hear of the release.
    until: Time,
    /// All is done, and the successor is known: clients are told of it until then.
    lingers: Option<Time>,
}

impl Leaving {
    /// When there is something to do at the latest. Once it has lingered long enough, and still is at something, it
    /// waits for that, not for a time that is over.
    fn next(&self, now: Time) -> Time {
        self.lingers.filter(|at| *at > now).map_or(self.until, |at| at.min(self.until))
    }
}

impl Server {
    pub fn boot(config: ServerConfig, saved: SavedServer, seed: u64, now: Now) -> Server {
        let me = Peer { id: saved.id, endpoint: config.endpoint.clone() };
        let timing = Timing::default();
        let standalone = config.agency.is_empty();
        let link = (!standalone).then(|| Link::new(config.agency.clone(), &timing, now.time));
        let mut server = Server {
            view: Arc::new(View::new(me.clone())),
            me,
            auth: Arc::new(config.auth.clone()),
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
            room: Room::default(),
            copy: saved.copy,
            rollbacks: saved.rollbacks[saved.rollbacks.len().saturating_sub(upkeep::ROLLBACKS_TOLD)..].to_vec(),
            role: Role::Joining,
            lead: Leadership::default(),
            reign: None,
            following: None,
            release: None,
            early: BTreeMap::new(),
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
            parked: Vec::new(),
            moves_until: Time::ZERO,
            held: Vec::new(),
            cursors: Cursors::default(),
            jobs: Jobs::default(),
            expiry: expiry::Expiry::new(config.expiry, now.time),
            building: building::Building::new(),
            transactions: Transactions::default(),
            pending: BTreeMap::new(),
            pruning: false,
            garbage: true,
            prune_after: now.time,
            view_old: false,
            config,
        };
        server.view = Arc::new(server.draw_view());
        server
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
            Input::Answered { .. } => unreachable!("a server asks no etcd"),
        }
        self.timers(&mut cx);
        self.look_at_freshness();
        if self.view_old {
            self.view_old = false;
            self.view = Arc::new(self.draw_view());
        }
        self.unpark(&mut cx);
        self.jobs.collect(cx.out, &self.config.limits, now);
        self.rng = rng;
        self.ops = ops;
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
            wakes.extend(reign.in_sync.as_ref().and_then(|in_sync| in_sync.deadline(self.clock.last())));
            wakes.extend(reign.closing.map(|at| Wake { at, why: "hand-over" }));
        }
        wakes.extend(self.leaving.as_ref().map(|leaving| Wake { at: leaving.next(self.clock.last()), why: "leave" }));
        wakes.extend(self.parked_until().map(|at| Wake { at, why: "waiting request" }));
        wakes.extend(self.held_deadline());
        wakes.extend(self.cursors.deadline().map(|at| Wake { at, why: "cursor" }));
        wakes.extend(self.jobs.deadline().map(|at| Wake { at, why: "job" }));
        wakes.extend(self.expiry_deadline());
        wakes.extend(self.building_deadline());
        wakes.extend(self.transactions.deadline().map(|at| Wake { at, why: "transaction" }));
        if self.link.is_none() && matches!(self.role, Role::Joining | Role::Waiting) {
            wakes.push(Wake { at: self.unfit_until, why: "begin" });
        }
        wakes.into_iter().min_by_key(|wake| wake.at)
    }

    // ---- states -----------------------------------------------------------------------------------------------------

    /// Moves along the table, if a row says so.
    fn on(&mut self, cx: &mut Cx, cause: Cause) {
        if let Some(row) = role::next(self.role, cause) {
            mark::hit_row("Role", row.number);
            let (from, to) = (self.role.name(), row.to.name());
            cx.note(Event::Role { row: row.number, from, to, why: row.sentence.into() });
            if self.role != Role::Joining {
                self.moves(cx.now.time);
            }
            self.role = row.to;
            self.view_old = true;
        }
    }

    /// Requests that come meanwhile need not be refused: who leads will be known in a moment.
    fn moves(&mut self, now: Time) {
        self.view_old = true;
        if self.link.is_some() {
            self.moves_until = now.plus(self.timing.lease / 2);
        }
    }

    /// The view tells how fresh the data are, but is not made anew for less than a millisecond.
    fn look_at_freshness(&mut self) {
        let fresh = self.following.as_ref().and_then(Follower::fresh);
        let shown = self.view.replication.freshness.map(|freshness| freshness.as_of);
        self.view_old |= match (fresh, shown) {
            (Some(fresh), Some(shown)) => {
                let by = fresh.time.since(shown.time);
                by >= Duration::from_millis(1) || (!self.parked.is_empty() && fresh != shown)
            }
            (fresh, shown) => fresh.is_some() != shown.is_some(),
        };
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

    /// Whether fewer followers than are wanted have what is written.
    fn is_short_of_followers(&self) -> bool {
        let in_sync = self.reign.as_ref().and_then(|reign| reign.in_sync.as_ref());
        in_sync.is_some_and(|in_sync| in_sync.is_short(self.clock.last()))
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
            // Whoever led at this very address has lost its disk since: nobody is to be sent back here (I13).
            Some(leader)
                if matches!(mode, Mode::Redirect | Mode::Stopping) && leader.peer.endpoint != self.me.endpoint =>
            {
                Some(leader.peer.clone())
            }
            _ => None,
        };
        let in_sync = self.reign.as_ref().and_then(|reign| reign.in_sync.as_ref());
        let synchronous = in_sync.filter(|in_sync| in_sync.is_synchronous());
        let followers = self.reign.as_ref().and_then(|r| r.shipping.as_ref()).map(leader::Leader::durable);
        let replication = ReplicationView {
            running: self.following.as_ref().is_some_and(Follower::tails),
            copying: self.following.as_ref().is_some_and(Follower::copies),
            last: self.last,
            leader_last: self.following.as_ref().map_or(self.last, Follower::leader_last),
            freshness: self.following.as_ref().and_then(Follower::fresh).map(|as_of| Freshness {
                as_of,
                slack: self.timing.slack(),
                drift_permille: self.timing.drift_permille,
            }),
            followers: followers.unwrap_or_default(),
        };
        View {
            me: self.me.clone(),
            advertised: self.config.advertised.clone(),
            standalone: self.link.is_none(),
            mode,
            read_only: self.read_only || mode == Mode::Redirect,
            moves_until: self.moves_until,
            epoch,
            boot: self.boot,
            lease_end,
            lease_sent: held.map_or(Now::default(), |held| held.sent),
            lease_slack: held.map_or(Duration::ZERO, |held| held.slack),
            leader,
            agents: self.agents.clone(),
            members: self.members.clone(),
            deployment: self.deployment,
            acknowledged: synchronous.map(InSyncSet::acknowledged),
            short_of_followers: self.is_short_of_followers(),
            replication,
            expiry: self.expiry.view(),
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
            Message::AreYouThere { nonce, question }
                if from_agent && nonce == self.config.nonce && self.boot == Boot(0) =>
            {
                cx.send(&from, Message::IAmThere { question, register: self.introduction() });
            }
            Message::Registered(registered) if from_agent => self.registered(cx, &from, registered),
            Message::RegisterRefused { nonce, reason } if from_agent => self.register_refused(cx, nonce, reason),
            Message::Superseded { boot, by } if from_agent => self.superseded(cx, boot, &by),
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
                reign => {
                    // Not open yet: it is answered then. Another epoch: it is out of date, or we are.
                    if reign.as_ref().is_none_or(|reign| reign.epoch != follow.epoch) {
                        cx.send(&from, Message::NotServing { epoch: follow.epoch });
                    }
                    let known = self.early.get(&from.id).map(|(_, known)| (known.boot, known.epoch));
                    if known.is_none_or(|known| known <= (follow.boot, follow.epoch)) && self.early.len() < EARLY_MAX {
                        self.early.insert(from.id, (from, follow));
                    }
                }
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

    /// The agency refuses this process, or (with no nonce) does not know it any more. Said once for each reason.
    fn register_refused(&mut self, cx: &mut Cx, nonce: Nonce, reason: String) {
        let about_us = match self.boot {
            Boot(0) => nonce == self.config.nonce,
            _ => nonce == Nonce(0),
        };
        if about_us && self.refused.as_ref() != Some(&reason) {
            cx.note(Event::Says(Severity::Error, format!("the agency refuses this server: {reason}").into()));
            self.refused = Some(reason);
        }
    }

    /// A directory was copied, and both are in use. This process stays outside: only an operator knows which is meant.
    fn superseded(&mut self, cx: &mut Cx, boot: Boot, by: &Peer) {
        let reason =
            format!("another process at {} has registered as {}: is its directory a copy?", by.endpoint, by.id);
        if boot == self.boot && boot != Boot(0) && self.refused.as_ref() != Some(&reason) {
            let text = format!("the agency does not count on this process any more: {reason}");
            cx.note(Event::Says(Severity::Error, text.into()));
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
            if planted!(lease_from_reply) {
                self.lease.sent(reply.seq, cx.now);
            }
            if let Some(until) = self.lease.granted(reply.seq, grant, self.boot, epoch) {
                if self.gate_shut && self.role == Role::Leading {
                    mark!(LeaseRegained);
                }
                self.gate_shut = self.lease_lost(epoch, cx.now).is_some();
                self.timing = grant.timing;
                if let Some(link) = &mut self.link {
                    link.set_timing(&grant.timing);
                }
                cx.note(Event::LeaseRenewed { epoch, until });
                self.prolong_tenure(epoch);
                self.try_open(cx);
            }
        }
    }
}

#[cfg(test)]
mod tests;
