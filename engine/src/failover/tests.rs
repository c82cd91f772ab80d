//! One server alone with what others tell it: over a store in memory, without a network. What a cluster does together,
//! the scripts in `tests/interaction/failover` and the simulator show.

use super::*;
use crate::db::mem::MemStore;
use crate::db::store::StoreError;
use crate::exec;
use crate::http::{Method, Response, header};
use std::hash::{DefaultHasher, Hash, Hasher};

mod building;
mod expiry;

const TIMING: Timing = Timing { lease: Duration::from_millis(1000), drift_permille: 200 };
const DEPLOYMENT: DeploymentId = DeploymentId(77);
const NONCE: Nonce = Nonce(5);
const BOOT: Boot = Boot(4);

struct Rig {
    store: MemStore,
    server: Server,
    now: Now,
    /// Started and not done yet.
    started: Vec<(OpId, Op)>,
    requests: u64,
}

fn agent(uuid: u128) -> Peer {
    peer(NodeKind::Agent, uuid)
}

fn other(uuid: u128) -> Peer {
    peer(NodeKind::Server, uuid)
}

fn peer(kind: NodeKind, uuid: u128) -> Peer {
    let name = if kind == NodeKind::Agent { "agent" } else { "server" };
    Peer { id: NodeId { kind, uuid }, endpoint: Endpoint::parse(&format!("tcp://{name}{uuid}:8529")).unwrap() }
}

fn registered() -> Message {
    Message::Registered(Registered { nonce: NONCE, boot: BOOT, deployment: DEPLOYMENT, timing: TIMING })
}

fn refusal(nonce: Nonce) -> Message {
    Message::RegisterRefused { nonce, reason: "no".into() }
}

fn leads(index: u64, epoch: u64, peer: &Peer, boot: Boot) -> Leadership {
    let leader = Some(Leader { peer: peer.clone(), boot });
    Leadership { index, epoch: Epoch(epoch), leader, ..Leadership::default() }
}

impl Rig {
    fn new(agency: &[Peer]) -> Rig {
        let endpoint = Endpoint::parse("tcp://server1:8529").unwrap();
        let mut config = ServerConfig::new(endpoint, NONCE);
        config.agency = agency.iter().map(|agent| agent.endpoint.clone()).collect();
        let mut store = MemStore::new();
        let now = Now { time: Time(1_000_000_000), wall_ms: 1_767_225_600_000 };
        let saved = exec::open(&mut store, &Config::Server(config.clone()), now, 1).expect("an empty store opens");
        let Saved::Server(saved) = saved else { panic!("a server's store") };
        store.sync();
        let mut rig = Rig { store, server: Server::boot(config, saved, 1, now), now, started: Vec::new(), requests: 0 };
        rig.step(Input::Timer);
        rig.perform();
        rig
    }

    /// Knows its agency and belongs to its deployment.
    fn joined() -> Rig {
        let mut rig = Rig::new(&[agent(1)]);
        rig.hear(&agent(1), registered());
        rig.perform();
        assert_eq!((rig.server.role(), rig.server.deployment), (Role::Waiting, Some(DEPLOYMENT)));
        rig
    }

    /// Leads in epoch 3 under a lease.
    fn leading() -> Rig {
        let mut rig = Rig::joined();
        rig.lead(3);
        assert_eq!((rig.server.role(), rig.server.view().mode), (Role::Leading, Mode::Default));
        rig
    }

    /// Follows server 2, whose boot is 9, in epoch 3.
    fn following() -> Rig {
        let mut rig = Rig::joined();
        rig.hear(&agent(1), Message::Lead(leads(1, 3, &other(2), Boot(9))));
        rig.perform();
        assert_eq!((rig.server.role(), rig.server.view().mode), (Role::Following, Mode::Redirect));
        rig
    }

    fn me(&self) -> Peer {
        self.server.me.clone()
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let (mut out, woken) = (Vec::new(), matches!(input, Input::Timer));
        self.server.step(self.now, input, &mut out);
        let next = self.server.deadline().filter(|_| woken);
        assert!(next.is_none_or(|wake| wake.at > self.now.time), "woken, and wants that again: {next:?}");
        for output in &out {
            if let Output::Start { op, what } = output {
                self.started.push((*op, what.clone()));
            }
        }
        out
    }

    fn hear(&mut self, from: &Peer, message: Message) -> Vec<Output> {
        let to = Some(self.me().id);
        self.step(Input::Message(Envelope { from: from.clone(), to, message }))
    }

    fn pass(&mut self, ms: u64) -> Vec<Output> {
        self.now = Now { time: self.now.time.plus(Duration::from_millis(ms)), wall_ms: self.now.wall_ms + ms };
        self.step(Input::Timer)
    }

    fn ask(&mut self, method: Method, path: &str, body: &str) -> (RequestId, Vec<Output>) {
        self.requests += 1;
        let id = RequestId(self.requests);
        (id, self.step(Input::Request { id, request: Request::new(method, path).with_body(body.to_owned()) }))
    }

    /// Status and body of an answer, with all that follows from the request.
    fn told(&mut self, method: Method, path: &str, body: serde_json::Value) -> (u16, serde_json::Value) {
        let (id, mut out) = self.ask(method, path, &body.to_string());
        out.extend(self.perform());
        answer(&out, id).expect("an answer")
    }

    /// Carries out what was started, until nothing is under way.
    fn perform(&mut self) -> Vec<Output> {
        let mut out = Vec::new();
        while !self.started.is_empty() {
            let (op, what) = self.started.remove(0);
            let results = if what.writes() {
                exec::perform(vec![(op, what)], &mut self.store)
            } else {
                vec![(op, exec::read(what, &self.store))]
            };
            for (op, result) in results {
                out.extend(self.step(Input::Done { op, result }));
            }
        }
        out
    }

    /// The op that is under way ends like this.
    fn end(&mut self, result: OpResult) -> Vec<Output> {
        let (op, _) = self.started.remove(0);
        self.step(Input::Done { op, result })
    }

    fn lead(&mut self, epoch: u64) {
        let lead = leads(1, epoch, &self.me(), BOOT);
        self.hear(&agent(1), Message::Lead(lead.clone()));
        self.perform();
        self.renew(lead);
    }

    /// The agency's answer to a beat that is sent now.
    fn renew(&mut self, lead: Leadership) -> Vec<Output> {
        let sent = beat(&self.pass(300)).expect("a beat is due");
        let grant = Some(Grant { boot: BOOT, epoch: lead.epoch, timing: TIMING });
        self.hear(&agent(1), Message::BeatReply(BeatReply { seq: sent.seq, grant, ..reply(lead) }))
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.server.hash(&mut hasher);
        hasher.finish()
    }
}

fn reply(lead: Leadership) -> BeatReply {
    BeatReply { seq: 0, lead, grant: None, read_only: false, agents: Vec::new(), members: Vec::new() }
}

fn messages(out: &[Output]) -> Vec<Message> {
    out.iter()
        .filter_map(|output| match output {
            Output::Send { envelope, .. } => Some(envelope.message.clone()),
            _ => None,
        })
        .collect()
}

/// The first beat that it sent.
fn beat(out: &[Output]) -> Option<Beat> {
    messages(out).into_iter().find_map(|message| match message {
        Message::Beat(beat) => Some(beat),
        _ => None,
    })
}

/// Server 2 leads, and has nothing new.
fn nothing_new(answers: Option<u64>) -> Message {
    let (prev, leader_last, entries) = (Position::ZERO, Position::ZERO, Vec::new());
    Message::Append(Append { epoch: Epoch(3), boot: Boot(9), prev, entries, leader_last, answers })
}

fn receivers(out: &[Output]) -> Vec<&str> {
    out.iter()
        .filter_map(|output| match output {
            Output::Send { to, .. } => Some(to.authority()),
            _ => None,
        })
        .collect()
}

/// What was said at least as a warning.
fn warnings(out: &[Output]) -> usize {
    out.iter().filter(|output| matches!(output, Output::Note(event) if event.severity() >= Severity::Warn)).count()
}

/// The agency's words count only from an agent, and only those that are for this process: nothing else leaves a trace.
#[test]
fn what_is_not_the_agencys_or_not_for_this_server_changes_nothing() {
    let lead = leads(2, 4, &other(2), Boot(9));
    let cases: Vec<(fn() -> Rig, Message)> = vec![
        (|| Rig::new(&[agent(1)]), registered()),
        (|| Rig::new(&[agent(1)]), refusal(NONCE)),
        (Rig::joined, refusal(Nonce(0))),
        (Rig::joined, Message::Superseded { boot: BOOT, by: other(9) }),
        (Rig::joined, Message::BeatReply(BeatReply { read_only: true, ..reply(lead.clone()) })),
        (Rig::joined, Message::Lead(lead)),
        (Rig::joined, Message::Freeze(Freeze { term: Term(1), epoch: Epoch(5) })),
        (Rig::joined, Message::NotLeader { leader: Some(agent(7)) }),
        (
            || {
                let mut rig = Rig::leading();
                rig.ask(Method::Get, "/_admin/cluster/health", "");
                rig.perform();
                rig
            },
            Message::Answer { call: 1, response: Response::json(400, &serde_json::json!({})) },
        ),
    ];
    for (rig, message) in cases {
        let mut rig = rig();
        let before = rig.fingerprint();
        assert!(rig.hear(&other(3), message.clone()).is_empty(), "{message:?} from a server has an effect");
        assert_eq!(rig.fingerprint(), before, "{message:?} from a server is remembered");
        let to = Some(other(3).id);
        let astray = Input::Message(Envelope { from: agent(1), to, message: message.clone() });
        assert!(rig.step(astray).is_empty(), "{message:?} for another server has an effect");
        assert_eq!(rig.fingerprint(), before, "{message:?} for another server is remembered");
        rig.hear(&agent(1), message.clone());
        assert_ne!(rig.fingerprint(), before, "{message:?} from an agent has no effect");
    }
}

/// What a leader does not hear it does not ask for: the agency, which hears it, would grant one lease after the other.
#[test]
fn a_leader_that_hears_nothing_asks_for_no_renewal() {
    let asked = |out: Vec<Output>| beat(&out).expect("it beats, whatever it hears").renew;
    let mut rig = Rig::leading();
    let lead = leads(1, 3, &rig.me(), BOOT);
    assert_eq!(asked(rig.pass(499)), Some(Epoch(3)));
    assert_eq!(asked(rig.pass(200)), None, "half a lease");
    assert_eq!(asked(rig.pass(2000)), None);
    let out = rig.hear(&agent(1), Message::BeatReply(reply(lead)));
    assert_eq!(asked(out), Some(Epoch(3)), "and at once when it hears again");
}

#[test]
fn a_process_is_registered_once_and_only_under_its_own_nonce() {
    let register =
        |nonce, boot, deployment| Message::Registered(Registered { nonce, boot, deployment, timing: TIMING });
    let mut rig = Rig::new(&[agent(1)]);
    assert!(rig.hear(&agent(1), register(Nonce(6), BOOT, DEPLOYMENT)).is_empty(), "another process's answer");
    assert_eq!(rig.server.boot, Boot(0));
    rig.hear(&agent(1), registered());
    assert_eq!(rig.server.boot, BOOT);
    assert!(rig.hear(&agent(1), register(NONCE, Boot(5), DEPLOYMENT)).is_empty(), "registered already");
    // The deployment's name does not become durable: this process goes on asking.
    let out = rig.end(OpResult::Failed(StoreError::Full));
    assert_eq!((warnings(&out), rig.server.boot, rig.server.role()), (1, Boot(0), Role::Joining));
    assert!(messages(&rig.pass(1000)).iter().any(|message| matches!(message, Message::Register(_))));
    rig.hear(&agent(1), registered());
    rig.perform();
    assert_eq!(rig.server.role(), Role::Waiting);
    // Started again: an agency of another deployment gets no hold on the data.
    let saved = exec::open(&mut rig.store, &Config::Server(rig.server.config.clone()), rig.now, 2).unwrap();
    let Saved::Server(saved) = saved else { panic!("a server's store") };
    rig.server = Server::boot(rig.server.config.clone(), saved, 2, rig.now);
    let out = rig.hear(&agent(1), register(NONCE, Boot(5), DeploymentId(78)));
    assert_eq!((warnings(&out), rig.server.boot), (1, Boot(0)));
    rig.hear(&agent(1), register(NONCE, Boot(5), DEPLOYMENT));
    assert_eq!((rig.server.boot, rig.server.role()), (Boot(5), Role::Waiting), "nothing has to be adopted again");
}

#[test]
fn the_agencys_refusal_is_said_once_for_each_reason() {
    let mut rig = Rig::new(&[agent(1)]);
    assert_eq!(warnings(&rig.hear(&agent(1), refusal(Nonce(6)))), 0, "another process was meant");
    assert_eq!(warnings(&rig.hear(&agent(1), refusal(NONCE))), 1);
    assert_eq!(warnings(&rig.hear(&agent(1), refusal(NONCE))), 0, "said already");
    let reason = "another".to_owned();
    assert_eq!(warnings(&rig.hear(&agent(1), Message::RegisterRefused { nonce: NONCE, reason })), 1);
    let mut rig = Rig::joined();
    assert_eq!(warnings(&rig.hear(&agent(1), refusal(NONCE))), 0, "the answer to a registration, and late");
    assert_eq!(warnings(&rig.hear(&agent(1), refusal(Nonce(0)))), 1, "the agency does not know this server");
}

#[test]
fn a_process_that_was_replaced_says_so_once() {
    let superseded = |boot, by| Message::Superseded { boot, by };
    let mut rig = Rig::new(&[agent(1)]);
    assert_eq!(warnings(&rig.hear(&agent(1), superseded(Boot(0), other(8)))), 0, "it has not joined yet");
    let mut rig = Rig::joined();
    assert_eq!(warnings(&rig.hear(&agent(1), superseded(Boot(3), other(8)))), 0, "an earlier process");
    assert_eq!(warnings(&rig.hear(&agent(1), superseded(BOOT, other(8)))), 1);
    assert_eq!(warnings(&rig.hear(&agent(1), superseded(BOOT, other(8)))), 0, "said already");
    assert_eq!(warnings(&rig.hear(&agent(1), superseded(BOOT, other(9)))), 1, "by yet another");
}

/// Each part of a beat's reply counts by itself.
#[test]
fn the_view_shows_what_the_last_beat_brought() {
    let member = |uuid| Member {
        peer: other(uuid),
        advertised: None,
        short_name: "Single0002".into(),
        health: Health::Good,
        last: Position::ZERO,
    };
    let mut rig = Rig::leading();
    let lead = leads(1, 3, &rig.me(), BOOT);
    for reply in [
        BeatReply { read_only: true, ..reply(lead.clone()) },
        BeatReply { members: vec![member(2)], ..reply(lead.clone()) },
        BeatReply { members: vec![member(2), member(3)], ..reply(lead.clone()) },
        BeatReply { agents: vec![agent(1), agent(2)], ..reply(lead.clone()) },
        reply(lead.clone()),
    ] {
        rig.hear(&agent(1), Message::BeatReply(reply.clone()));
        let view = rig.server.view();
        assert_eq!(
            (view.read_only, &view.members, &view.agents),
            (reply.read_only, &reply.members, &reply.agents),
            "{reply:?}"
        );
    }
    assert_eq!(receivers(&rig.pass(200)), ["agent1:8529"], "it has answered just now");
    // An agent that was heard of is asked, too, when the one that led is silent.
    rig.pass(600);
    assert!(receivers(&rig.pass(600)).contains(&"agent2:8529"));
}

#[test]
fn the_view_names_a_leader_and_a_lease_only_where_there_is_one() {
    let rig = Rig::joined();
    assert_eq!((rig.server.view().leader.clone(), rig.server.view().lease_end), (None, Time::ZERO));
    assert!(!rig.server.view().read_only);
    let rig = Rig::following();
    let view = rig.server.view();
    assert_eq!((view.leader.clone(), view.lease_end, view.epoch), (Some(other(2)), Time::ZERO, Epoch(3)));
    assert!(view.read_only, "a follower writes nothing for clients");
    let mut rig = Rig::leading();
    let view = rig.server.view();
    assert_eq!((view.leader.clone(), view.epoch, view.read_only), (None, Epoch(3), false), "a leader names nobody");
    assert_eq!(view.lease_end, rig.now.time.plus(TIMING.usable()));
    assert_eq!((view.lease_sent, view.lease_slack), (rig.now, TIMING.slack()));
    rig.pass(800);
    assert_eq!(rig.server.view().mode, Mode::TryAgain);
}

/// Whoever asks while it is decided who leads need not be refused, for half a lease.
#[test]
fn the_view_says_until_when_the_leadership_moves() {
    let moves_until = |rig: &Rig| rig.server.view().moves_until;
    assert_eq!(moves_until(&Rig::joined()), Time::ZERO, "nobody led before");
    let mut rig = Rig::following();
    rig.pass(2_000);
    reports(&mut rig, freeze(6));
    assert_eq!(moves_until(&rig), rig.now.time.plus(Duration::from_millis(500)));
    assert_eq!(moves_until(&Rig::new(&[])), Time::ZERO, "a server alone waits for nobody's decision");
}

/// A follower's data are as of its latest question that was answered. The view is drawn anew for a millisecond and
/// more, and for less only if somebody waits.
#[test]
fn the_view_shows_how_fresh_a_followers_data_are() {
    let micros = |rig: &mut Rig, micros| rig.now.time = rig.now.time.plus(Duration::from_micros(micros));
    // The number under which the leader is asked again.
    let heartbeat = |rig: &mut Rig, answers| {
        let asked = messages(&rig.hear(&other(2), nothing_new(answers))).into_iter().find_map(|sent| match sent {
            Message::Acknowledge(ack) => Some(ack.seq),
            _ => None,
        });
        Some(asked.expect("it acknowledges, and asks with that"))
    };
    let shown = |rig: &Rig| rig.server.view().replication.freshness.map(|freshness| freshness.as_of.time);
    let mut rig = Rig::following();
    let first = rig.now.time;
    let mut asked = heartbeat(&mut rig, None);
    assert_eq!(shown(&rig), None);
    for as_of_us in [0, 0, 0, 1_200] {
        micros(&mut rig, 400);
        asked = heartbeat(&mut rig, asked);
        assert_eq!(shown(&rig), Some(first.plus(Duration::from_micros(as_of_us))));
    }
    let demands = Request::new(Method::Get, "/_api/document/c/k").with_header(header::ALLOW_DIRTY_READ, "true");
    let request = demands.with_header(header::AT_LEAST, "3-0000000000000000-9");
    rig.step(Input::Request { id: RequestId(1), request });
    rig.perform();
    assert_eq!(rig.server.parked.len(), 1, "it waits");
    micros(&mut rig, 10);
    heartbeat(&mut rig, asked);
    assert_eq!(shown(&rig), Some(first.plus(Duration::from_micros(1_600))), "somebody waits for that");
}

/// What a failover has cost is exact once the old leader's log has been matched with the new one's (R12).
#[test]
fn a_beat_names_the_epoch_whose_log_was_matched() {
    let matched = |out: Vec<Output>| beat(&out).expect("a beat is due").matched;
    let mut rig = Rig::following();
    assert_eq!(matched(rig.pass(300)), None, "its log was presented");
    rig.perform();
    let out = rig.hear(&other(2), nothing_new(None));
    let follows = |output: &&Output| matches!(output, Output::Note(Event::Follows { epoch: Epoch(3), .. }));
    assert_eq!(out.iter().filter(follows).count(), 1, "{out:?}");
    assert_eq!(matched(rig.pass(300)), Some(Epoch(3)));
    assert_eq!(matched(Rig::leading().pass(300)), Some(Epoch(3)), "its own");
}

/// R3, R12: elected, but without the lease; and without the epoch's first entry.
#[test]
fn a_lease_of_a_process_that_serves_not_yet_is_not_shown() {
    let mut rig = Rig::joined();
    let lead = leads(1, 3, &rig.me(), BOOT);
    rig.hear(&agent(1), Message::Lead(lead.clone()));
    rig.renew(lead);
    let view = rig.server.view();
    assert_eq!((rig.server.role(), view.mode, view.lease_end), (Role::Promoting, Mode::TryAgain, Time::ZERO));
    rig.perform();
    assert_eq!((rig.server.role(), rig.server.view().mode), (Role::Leading, Mode::Default));
}

#[test]
fn a_process_that_leaves_before_it_had_the_lease_has_none() {
    let mut rig = Rig::joined();
    let lead = leads(1, 3, &rig.me(), BOOT);
    rig.hear(&agent(1), Message::Lead(lead));
    rig.perform();
    rig.step(Input::Stop);
    assert_eq!((rig.server.view().mode, rig.server.view().lease_end), (Mode::Stopping, Time::ZERO));
}

#[test]
fn a_follower_that_asks_too_early_is_not_answered_and_one_of_another_epoch_is_sent_away() {
    let follow = |epoch| {
        Message::Follow(Follow {
            epoch: Epoch(epoch),
            boot: Boot(2),
            store: StoreId(2),
            last: Position::ZERO,
            last_checksum: 0,
            history: Vec::new(),
            copy: None,
            complete: true,
        })
    };
    let not_serving = |epoch| vec![Message::NotServing { epoch: Epoch(epoch) }];
    let mut rig = Rig::joined();
    assert_eq!(messages(&rig.hear(&other(2), follow(3))), not_serving(3), "nobody leads here");
    rig.hear(&agent(1), Message::Lead(leads(1, 3, &rig.me(), BOOT)));
    assert_eq!(messages(&rig.hear(&other(2), follow(3))), [], "soon");
    assert_eq!(messages(&rig.hear(&other(2), follow(2))), not_serving(2), "an earlier epoch");
    assert_eq!(messages(&rig.hear(&other(3), follow(4))), not_serving(4), "a later epoch");
    let begun = messages(&rig.perform());
    let answered = |message: &Message| matches!(message, Message::Append(append) if append.epoch == Epoch(3));
    assert_eq!(begun.iter().filter(|message| answered(message)).count(), 1, "once the epoch has begun: {begun:?}");
}

/// A follower whose leader leads no longer asks the agency at once.
#[test]
fn not_serving_makes_a_follower_ask_the_agency() {
    let mut rig = Rig::following();
    rig.pass(10);
    assert_eq!(messages(&rig.hear(&other(2), Message::NotServing { epoch: Epoch(2) })), [], "of an earlier epoch");
    assert_eq!(messages(&rig.hear(&other(3), Message::NotServing { epoch: Epoch(3) })), [], "not whom we follow");
    let out = rig.hear(&other(2), Message::NotServing { epoch: Epoch(3) });
    assert!(matches!(messages(&out)[..], [Message::Beat(_)]), "{out:?}");
}

#[test]
fn an_agent_that_does_not_lead_points_to_the_one_that_does() {
    let mut rig = Rig::joined();
    rig.pass(10);
    let out = rig.hear(&agent(1), Message::NotLeader { leader: Some(agent(2)) });
    assert_eq!(receivers(&out), ["agent2:8529"], "a beat at once, to the one that leads");
    assert_eq!(receivers(&rig.hear(&agent(3), Message::NotLeader { leader: Some(agent(2)) })), [""; 0], "no news");
}

// ---- elections, hand-overs, leaving ---------------------------------------------------------------------------------

fn freeze(epoch: u64) -> Message {
    Message::Freeze(Freeze { term: Term(1), epoch: Epoch(epoch) })
}

/// The epochs that were reported for, once everything is durable.
fn reports(rig: &mut Rig, message: Message) -> Vec<u64> {
    rig.hear(&agent(1), message);
    let sent = messages(&rig.perform());
    sent.iter()
        .filter_map(|message| match message {
            Message::Report(report) => Some(report.epoch.0),
            _ => None,
        })
        .collect()
}

/// R5: whoever reports has given up what is older; what is decided or over is not reported for.
#[test]
fn a_freeze_counts_for_an_epoch_that_nobody_leads_yet() {
    assert_eq!(reports(&mut Rig::new(&[agent(1)]), freeze(4)), [0; 0], "not a member yet");
    let mut rig = Rig::following();
    assert_eq!((reports(&mut rig, freeze(2)), reports(&mut rig, freeze(3))), (vec![], vec![]), "it is decided");
    assert_eq!(rig.server.role(), Role::Following);
    assert_eq!(reports(&mut rig, freeze(6)), [6]);
    assert!(rig.server.role() == Role::Waiting && rig.server.following.is_none());
    assert_eq!((reports(&mut rig, freeze(5)), reports(&mut rig, freeze(6))), (vec![], vec![6]), "seen already");
    // A record older than what the data have seen tells of the past.
    rig.hear(&agent(1), Message::Lead(leads(9, 5, &other(2), Boot(9))));
    assert_eq!(rig.server.role(), Role::Waiting);
    let mut rig = Rig::following();
    let nobody = Leadership { index: 2, epoch: Epoch(4), ..Leadership::default() };
    rig.hear(&agent(1), Message::Lead(nobody));
    assert_eq!((reports(&mut rig, freeze(3)), reports(&mut rig, freeze(4))), (vec![], vec![4]), "the record says so");
    let mut rig = Rig::leading();
    assert_eq!(reports(&mut rig, freeze(3)), [0; 0]);
    assert_eq!(rig.server.view().mode, Mode::Default);
    rig.hear(&agent(1), freeze(4));
    assert!(
        rig.server.view().mode == Mode::TryAgain && rig.server.view().lease_end == Time::ZERO,
        "before it is durable"
    );
}

/// R3: an epoch belongs to the process that was elected.
#[test]
fn an_epoch_of_an_earlier_process_is_not_gone_on_with() {
    let mut rig = Rig::joined();
    let lead = leads(1, 3, &rig.me(), Boot(3));
    rig.hear(&agent(1), Message::Lead(lead));
    assert!(rig.started.is_empty() && rig.server.role() == Role::Waiting);
}

/// A full disk, say: the lease is given back, and for a while this server stands for nothing.
#[test]
fn an_epoch_that_can_not_begin_is_given_back() {
    let mut rig = Rig::joined();
    let lead = leads(1, 3, &rig.me(), BOOT);
    rig.hear(&agent(1), Message::Lead(lead));
    let out = rig.end(OpResult::Failed(StoreError::Full));
    assert!(messages(&out).iter().any(|m| matches!(m, Message::Release(release) if release.epoch == Epoch(3))));
    assert_eq!((rig.server.role(), rig.server.view().mode), (Role::Waiting, Mode::TryAgain));
    let staying = |out: Vec<Output>| beat(&out).map(|beat| beat.staying);
    assert_eq!((staying(rig.pass(9_999)), staying(rig.pass(1_000))), (Some(false), Some(true)));
}

#[test]
fn a_successor_that_does_not_catch_up_gets_its_time_and_then_another_pause() {
    let mut rig = Rig::leading();
    let lead = Leadership { successor: Some(other(2).id), ..leads(2, 3, &rig.me(), BOOT) };
    rig.hear(&agent(1), Message::Lead(lead.clone()));
    assert_eq!(rig.server.view().mode, Mode::TryAgain, "the gate is closed");
    rig.pass(499);
    assert_eq!(rig.server.view().mode, Mode::TryAgain);
    assert_eq!(warnings(&rig.pass(1)), 1);
    assert_eq!(rig.server.view().mode, Mode::Default);
    let closed = |rig: &Rig| rig.server.reign.as_ref().expect("it leads").closing.is_some();
    rig.pass(499);
    assert!(!closed(&rig));
    rig.pass(1);
    assert!(closed(&rig));
    rig.hear(&agent(1), Message::Lead(Leadership { index: 3, successor: None, ..lead }));
    assert!(!closed(&rig), "taken back");
}

/// I17: what was admitted is finished first.
#[test]
fn a_process_leaves_when_all_is_answered() {
    let stopped = |out: &[Output]| out.iter().any(|output| matches!(output, Output::Stopped));
    let mut rig = Rig::leading();
    rig.ask(Method::Get, "/_api/version", "");
    let out = rig.step(Input::Stop);
    assert!(!stopped(&out) && !messages(&out).iter().any(|message| matches!(message, Message::Release(_))));
    let out = rig.perform();
    assert!(messages(&out).iter().any(|message| matches!(message, Message::Release(_))), "{out:?}");
    let nobody = Leadership { index: 2, epoch: Epoch(4), ..Leadership::default() };
    assert!(!stopped(&out) && stopped(&rig.hear(&agent(1), Message::Lead(nobody))), "the agency has heard it");
    // A follower that is not there yet is waited for, for two leases.
    let mut rig = Rig::leading();
    let (store, last, history) = (StoreId(2), Position::ZERO, Vec::new());
    let follow =
        Follow { epoch: Epoch(3), boot: Boot(2), store, last, last_checksum: 0, history, complete: true, copy: None };
    rig.hear(&other(2), Message::Follow(follow));
    assert!(!stopped(&rig.step(Input::Stop)));
    assert!(!stopped(&rig.pass(1_999)));
    assert!(stopped(&rig.pass(1)));
    // A run that never ends has an unknown outcome then.
    let mut rig = Rig::leading();
    rig.ask(Method::Post, "/_api/collection", r#"{"name":"c"}"#);
    assert!(!stopped(&rig.step(Input::Stop)) && !stopped(&rig.pass(1_999)));
    let out = rig.pass(1);
    assert!(stopped(&out));
    assert!(out.iter().any(|output| matches!(output, Output::Reply { response, .. } if response.status >= 500)));
}

/// As for the removal of a rollback's record, which goes on in pieces after the request has run.
#[test]
fn who_has_a_record_removed_is_answered_when_the_process_goes() {
    let mut rig = Rig::leading();
    let (id, _) = rig.ask(Method::Post, "/_api/collection", r#"{"name":"c"}"#);
    let (op, run) = rig.server.runs.pop_first().expect("it is under way");
    let (record, response) = (RollbackId::Entries(Epoch(2)), Response::json(200, &serde_json::json!({})));
    rig.server.pending.insert(op, Pending::Forget { record, id, ticket: run.ticket, response });
    rig.step(Input::Stop);
    let out = rig.pass(2_000);
    assert!(out.iter().any(|output| matches!(output, Output::Stopped)));
    let answers =
        out.iter().filter(|o| matches!(o, Output::Reply { id: of, response } if *of == id && response.status >= 500));
    assert_eq!(answers.count(), 1);
}

/// What a follower has in an unfinished copy makes it no successor: it could not be elected.
#[test]
fn a_leader_that_goes_names_a_successor_that_has_all_in_its_data() {
    let released = |out: &[Output]| {
        messages(out).into_iter().find_map(|message| match message {
            Message::Release(release) => Some(release.successor),
            _ => None,
        })
    };
    let mut rig = leading_with(0, None);
    rig.followed_by(2, Some(SnapshotId { epoch: Epoch(3), boot: BOOT, number: 1 }));
    rig.acknowledged(2, true);
    assert_eq!(released(&rig.step(Input::Stop)), None, "it is waited for");
    assert_eq!(released(&rig.acknowledged_by(2)), Some(Some(other(2).id)));
}

/// However many records are kept, a beat tells of the latest few.
#[test]
fn a_process_that_starts_tells_of_its_latest_rollbacks_only() {
    let mut rig = Rig::joined();
    let saved = exec::open(&mut rig.store, &Config::Server(rig.server.config.clone()), rig.now, 2).unwrap();
    let Saved::Server(mut saved) = saved else { panic!("a server's store") };
    let (common, end) = (Position::ZERO, Position::ZERO);
    let summary = |epoch| RollbackSummary { epoch: Epoch(epoch), common, end, operations: 0, whole: false };
    saved.rollbacks = (1..=9).map(summary).collect();
    let server = Server::boot(rig.server.config.clone(), saved, 2, rig.now);
    assert_eq!(server.rollbacks, [6, 7, 8, 9].map(summary));
}

/// A leader whose storage hangs lets its lease run out, so that another can lead.
#[test]
fn a_leader_whose_disk_hangs_renews_no_more() {
    let renewed = |out: Vec<Output>| beat(&out).map(|beat| beat.renew);
    let mut rig = Rig::leading();
    let lead = leads(1, 3, &rig.me(), BOOT);
    let beat_after = |rig: &mut Rig, ms| {
        rig.pass(ms);
        renewed(rig.hear(&agent(1), Message::BeatReply(reply(lead.clone()))))
    };
    rig.ask(Method::Post, "/_api/collection", r#"{"name":"c"}"#);
    assert_eq!(beat_after(&mut rig, 20_000), Some(Some(Epoch(3))));
    assert_eq!(beat_after(&mut rig, 1_000), Some(None));
    rig.perform();
    assert_eq!(beat_after(&mut rig, 1_000), Some(Some(Epoch(3))));
}

#[test]
fn clocks_that_moved_apart_make_the_next_renewal_come_at_once() {
    let mut rig = Rig::leading();
    assert!(messages(&rig.pass(1)).is_empty());
    rig.now.wall_ms += 5_000;
    assert!(matches!(messages(&rig.step(Input::Timer))[..], [Message::Beat(_)]));
    assert_eq!(rig.server.view().mode, Mode::TryAgain);
}

#[test]
fn a_full_disk_is_the_clients_business_and_a_broken_one_the_operators() {
    for (error, said) in [(StoreError::Full, 0), (StoreError::Io("gone".into()), 1)] {
        let mut rig = Rig::leading();
        rig.ask(Method::Post, "/_api/collection", r#"{"name":"c"}"#);
        let out = rig.end(OpResult::Failed(error));
        assert_eq!(warnings(&out), said);
        assert!(out.iter().any(|output| matches!(output, Output::Reply { response, .. } if response.status >= 500)));
    }
}

/// A leader that had to refuse writes says so at once, until it has written as many; a follower counts a try once.
#[test]
fn a_server_without_room_tells_the_agency() {
    let told = |out: Vec<Output>| beat(&out).map(|beat| beat.full);
    let write = |rig: &mut Rig| drop(rig.ask(Method::Post, "/_api/collection", r#"{"name":"c"}"#));
    let refused = |rig: &mut Rig| {
        write(rig);
        told(rig.end(OpResult::Failed(StoreError::Full)))
    };
    let beat = |rig: &mut Rig| {
        let full = told(rig.pass(150));
        rig.renew(leads(1, 3, &rig.me(), BOOT));
        full
    };
    let mut rig = Rig::leading();
    assert_eq!(beat(&mut rig), Some(false));
    assert_eq!((refused(&mut rig), refused(&mut rig)), (Some(true), None), "the first is news");
    write(&mut rig);
    assert_eq!((told(rig.perform()), beat(&mut rig)), (None, Some(true)), "one of two");
    rig.ask(Method::Post, "/_api/document/c", "{}");
    rig.perform();
    assert_eq!(beat(&mut rig), Some(false));
    assert_eq!(refused(&mut rig), Some(true), "news again");
    // What a follower is sent again and again counts once.
    let mut rig = Rig::following();
    let done = |rig: &mut Rig, result| drop(rig.step(Input::Done { op: OpId(u64::MAX), result }));
    (0..3).for_each(|_| done(&mut rig, OpResult::Failed(StoreError::Full)));
    assert_eq!(told(rig.pass(1_000)), Some(true));
    let last = Position { tick: Tick(rig.server.last.tick.0 + 1), ..rig.server.last };
    done(&mut rig, OpResult::Appended { last, builds: false });
    assert_eq!(told(rig.pass(1_000)), Some(false));
}

/// The log is cut when it is an eighth and 64 entries longer than what is kept.
#[test]
fn the_log_is_cut_back_to_what_is_kept() {
    let prunes = |out: &[Output]| {
        out.iter()
            .filter_map(|output| match output {
                Output::Start { what: Op::Prune { keep_from }, .. } => Some(keep_from.0),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let mut rig = Rig::leading();
    rig.server.config.log_keep = 16;
    rig.server.config.log_keep_cap = 16;
    rig.ask(Method::Post, "/_api/collection", r#"{"name":"c"}"#);
    rig.perform();
    let (mut cut, first) = (Vec::new(), rig.server.log_first.0);
    while cut.is_empty() {
        rig.ask(Method::Post, "/_api/document/c", "{}");
        cut = prunes(&rig.perform());
    }
    let last = rig.server.last.tick.0;
    assert_eq!((last - first, cut), (16 + 2 + 64 + 1, vec![last - 16]));
    assert_eq!(rig.server.log_first.0, last - 16);
    // A prune that fails is not tried again at once.
    rig.server.config.log_keep = 1000;
    (0..64).for_each(|_| {
        rig.ask(Method::Post, "/_api/document/c", "{}");
        rig.perform();
    });
    rig.server.config.log_keep = 0;
    rig.server.config.log_keep_cap = 0;
    assert_eq!(prunes(&rig.pass(1)), [last + 64]);
    rig.end(OpResult::Failed(StoreError::Full));
    assert_eq!((prunes(&rig.pass(999)), prunes(&rig.pass(1))), (vec![], vec![last + 64]));
}

// ---- followers that must have what is acknowledged -----------------------------------------------------------------

const TIMEOUT_MS: u64 = 400;

/// Leads in epoch 3 with collection `c`; its followers must have what it acknowledges from now on.
fn leading_with(sync_followers: usize, max_lag: Option<u64>) -> Rig {
    let mut rig = Rig::joined();
    rig.lead(3);
    rig.ask(Method::Post, "/_api/collection", r#"{"name":"c"}"#);
    rig.perform();
    let timeout = Duration::from_millis(TIMEOUT_MS);
    rig.server.config.durability = Durability { sync_followers, max_lag, timeout };
    let first = rig.server.last.tick;
    let (lead, now) = (rig.server.lead.clone(), rig.now.time);
    let in_sync = InSyncSet::new(rig.server.config.durability, BOOT, &lead, first, now);
    rig.server.reign.as_mut().unwrap().in_sync = Some(in_sync);
    rig.pass(0);
    rig
}

impl Rig {
    /// Server `n` follows from the beginning, with its data or with a copy.
    fn followed_by(&mut self, n: u128, copy: Option<SnapshotId>) -> Vec<Output> {
        let follow = Follow {
            epoch: Epoch(3),
            boot: Boot(9),
            store: StoreId(n),
            last: Position::ZERO,
            last_checksum: 0,
            history: Vec::new(),
            complete: true,
            copy,
        };
        let mut out = self.hear(&other(n), Message::Follow(follow));
        out.extend(self.perform());
        out
    }

    /// When it looks after its in-sync set next.
    fn in_sync_due_ms(&self) -> Option<u64> {
        let in_sync = self.server.reign.as_ref().and_then(|reign| reign.in_sync.as_ref()).expect("it leads");
        in_sync.deadline(self.now.time).map(|wake| wake.at.since(self.now.time).as_millis() as u64)
    }

    /// It has everything.
    fn acknowledged_by(&mut self, n: u128) -> Vec<Output> {
        self.acknowledged(n, false)
    }

    fn acknowledged(&mut self, n: u128, in_copy: bool) -> Vec<Output> {
        let durable = self.server.last;
        let ack =
            Acknowledge { epoch: Epoch(3), boot: Boot(9), store: StoreId(n), durable, in_copy, asks: false, seq: 0 };
        self.hear(&other(n), Message::Acknowledge(ack))
    }

    /// The agency has recorded this set.
    fn record(&mut self, in_sync: InSync) -> Vec<Output> {
        let index = self.server.lead.index + 1;
        let lead = Leadership { index, in_sync, ..self.server.lead.clone() };
        self.hear(&agent(1), Message::Lead(lead))
    }

    fn write(&mut self, followers: u8) -> Vec<Output> {
        self.requests += 1;
        let request = Request::new(Method::Post, "/_api/document/c").with_body("{}");
        let request = request.with_header(crate::http::header::SYNC_FOLLOWERS, followers.to_string());
        let mut out = self.step(Input::Request { id: RequestId(self.requests), request });
        out.extend(self.perform());
        out
    }

    /// The lease goes on.
    fn goes_on(&mut self, ms: u64) -> Vec<Output> {
        self.renew(self.server.lead.clone());
        self.pass(ms)
    }
}

fn asked_for(out: &[Output]) -> Option<InSync> {
    messages(out).into_iter().find_map(|message| match message {
        Message::SetInSync(set) => Some(set.in_sync),
        _ => None,
    })
}

/// Status and body of the answer to a request, if there is one.
fn answer(out: &[Output], request: RequestId) -> Option<(u16, serde_json::Value)> {
    out.iter().find_map(|output| match output {
        Output::Reply { id, response } if *id == request => {
            Some((response.status, serde_json::from_slice(&response.body).unwrap()))
        }
        _ => None,
    })
}

/// Status and errorNum of the replies.
fn replies(out: &[Output]) -> Vec<(u16, Option<u64>)> {
    let reply = |output: &Output| match output {
        Output::Reply { response, .. } => Some((response.status, response.error_num())),
        _ => None,
    };
    out.iter().filter_map(reply).collect()
}

/// A set with synchronous followers of these servers.
fn set_of(members: &[u128]) -> InSync {
    let replica = |n: &u128| Replica { server: other(*n).id, store: StoreId(*n) };
    InSync { members: members.iter().map(replica).collect(), floor: Position::ZERO, lag: 0 }
}

/// A leader with one synchronous follower, which is on record.
fn leading_in_sync() -> Rig {
    let mut rig = leading_with(1, None);
    rig.followed_by(2, None);
    let asked = asked_for(&rig.acknowledged_by(2)).unwrap();
    rig.record(asked);
    rig
}

const DONE: [(u16, Option<u64>); 1] = [(202, None)];

/// R6: nothing is written without a set on record; then every member must have it, whoever else does.
#[test]
fn a_write_is_acknowledged_by_the_in_sync_set_on_record() {
    let mut rig = leading_with(1, None);
    assert_eq!(replies(&rig.write(0)), [(503, Some(1429))], "nobody is in sync");
    assert_eq!(asked_for(&rig.followed_by(2, None)), None, "it has nothing yet");
    let asked = asked_for(&rig.acknowledged_by(2)).expect("it has everything");
    assert_eq!((asked.members.clone(), asked.floor), (set_of(&[2]).members, rig.server.last));
    assert_eq!(replies(&rig.write(0)), [(503, Some(1429))], "asked for is not on record");
    rig.record(asked);
    assert_eq!(replies(&rig.write(0)), []);
    rig.followed_by(3, None);
    assert_eq!(replies(&rig.acknowledged_by(3)), [], "another one has it");
    assert_eq!(replies(&rig.acknowledged_by(2)), DONE);
    assert!(rig.server.held.is_empty());
}

/// R6: a slow member is replaced on record before anything is acknowledged without it; until the outcome is known, both
/// must have it.
#[test]
fn a_slow_member_is_replaced_on_record_first() {
    let mut rig = leading_in_sync();
    rig.followed_by(3, None);
    assert_eq!(asked_for(&rig.acknowledged_by(3)), None, "one is enough");
    rig.goes_on(0);
    rig.write(0);
    rig.acknowledged_by(3);
    assert_eq!(rig.in_sync_due_ms(), Some(TIMEOUT_MS / 2));
    assert_eq!(asked_for(&rig.pass(TIMEOUT_MS / 2 - 1)), None, "not late yet");
    let asked = asked_for(&rig.pass(1)).expect("too late");
    assert_eq!(asked.members, set_of(&[3]).members);
    assert_eq!(replies(&rig.acknowledged_by(3)), [], "not on record yet");
    let late = leads(1, 3, &rig.me(), BOOT);
    rig.hear(&agent(1), Message::Lead(late.clone()));
    assert_eq!(replies(&rig.pass(1)), [], "an older record tells nothing of it");
    assert_eq!(replies(&rig.record(asked)), DONE);
    // Nor does it take the place of the one that counts.
    rig.hear(&agent(1), Message::Lead(late));
    rig.write(0);
    assert_eq!(replies(&rig.acknowledged_by(3)), DONE);
}

/// R14: what followers do not confirm in time is told as what it is, and what would only wait is not begun.
#[test]
fn what_followers_do_not_have_in_time_is_no_success() {
    let mut rig = leading_in_sync();
    rig.goes_on(0);
    rig.write(0);
    rig.ask(Method::Get, "/_api/document/c/1", "");
    assert_eq!(replies(&rig.perform()), [], "R17: nor is a read answered");
    assert_eq!(replies(&rig.pass(TIMEOUT_MS - 1)), []);
    assert_eq!(rig.in_sync_due_ms(), Some(1));
    assert_eq!(replies(&rig.pass(1)), [(504, Some(1457)), (503, Some(1429))]);
    assert_eq!(rig.in_sync_due_ms(), None, "all that could be said was");
    assert_eq!(replies(&rig.write(0)), [(503, Some(1429))], "nothing is begun that would wait in vain");
    rig.acknowledged_by(2);
    rig.write(0);
    assert_eq!(replies(&rig.acknowledged_by(2)), DONE);
    // The reign ends while a write waits: its outcome is unknown.
    rig.write(0);
    let freeze = Freeze { term: Term(1), epoch: Epoch(4) };
    assert_eq!(replies(&rig.hear(&agent(1), Message::Freeze(freeze))), [(504, Some(1457))]);
}

/// R14: a transaction that nobody knows of may have a collection to itself, which is not nothing.
#[test]
fn the_begin_of_a_transaction_that_followers_do_not_confirm_is_of_unknown_outcome() {
    let mut rig = leading_in_sync();
    rig.goes_on(0);
    rig.write(0);
    rig.ask(Method::Post, "/_api/transaction/begin", r#"{"collections": {"exclusive": ["c"]}}"#);
    assert_eq!(replies(&rig.perform()), []);
    assert_eq!(replies(&rig.pass(TIMEOUT_MS)), [(504, Some(1457)), (504, Some(1457))]);
}

#[test]
fn a_request_may_ask_for_followers_of_its_own() {
    let mut rig = leading_with(0, None);
    rig.followed_by(2, None);
    rig.followed_by(3, None);
    assert_eq!(replies(&rig.write(0)), DONE);
    rig.goes_on(0);
    assert_eq!(replies(&rig.write(2)), []);
    assert_eq!(replies(&rig.acknowledged_by(2)), []);
    assert_eq!(replies(&rig.acknowledged_by(3)), DONE);
    rig.write(2);
    assert_eq!(replies(&rig.pass(TIMEOUT_MS)), [(504, Some(1457))]);
    assert_eq!(replies(&rig.write(65)), [(400, Some(400))]);
    let copy = SnapshotId { epoch: Epoch(3), boot: BOOT, number: 1 };
    rig.followed_by(4, Some(copy));
    rig.acknowledged(4, true);
    rig.write(1);
    assert_eq!(replies(&rig.acknowledged(4, true)), [], "what is in its copy is not in its data");
    assert_eq!(replies(&rig.acknowledged_by(2)), DONE);
}

/// R15: what is acknowledged is ahead of the best follower by no more than the limit.
#[test]
fn a_limit_to_the_lag_is_kept_by_one_follower() {
    let mut rig = leading_with(0, Some(2));
    assert_eq!(asked_for(&rig.followed_by(2, None)), None, "whoever has nothing is never elected");
    let asked = asked_for(&rig.acknowledged_by(2)).expect("it is within the limit");
    assert_eq!((asked.members.clone(), asked.lag), (set_of(&[2]).members, 2));
    assert_eq!(rig.server.view().acknowledged, None, "reads wait only for synchronous followers (R17)");
    assert!(leading_in_sync().server.view().acknowledged.is_some());
    rig.record(asked);
    assert_eq!((replies(&rig.write(0)), replies(&rig.write(0))), (DONE.to_vec(), DONE.to_vec()));
    assert_eq!(replies(&rig.write(0)), []);
    assert_eq!(replies(&rig.acknowledged_by(2)), DONE);
}

/// A leader that needs no followers takes back what its predecessor promised to elections.
#[test]
fn a_leader_without_synchronous_followers_empties_the_set() {
    let mut rig = Rig::joined();
    let lead = Leadership { in_sync: set_of(&[2]), ..leads(1, 3, &rig.me(), BOOT) };
    rig.hear(&agent(1), Message::Lead(lead.clone()));
    let asked = asked_for(&rig.perform()).expect("it begins the epoch");
    assert!(asked.members.is_empty());
    rig.record(asked);
    assert_eq!(asked_for(&rig.pass(1000)), None);
}

/// A cursor is fetched where it was opened, as long as that server leads, and is gone with its leadership or its time.
#[test]
fn a_cursor_ends_with_the_leadership_that_it_was_opened_under() {
    let open = |rig: &mut Rig| {
        rig.ask(Method::Post, "/_api/cursor", r#"{"query":"FOR i IN 1..5 RETURN i","batchSize":2,"ttl":60}"#);
        let body = rig.reply();
        assert_eq!((&body["result"], &body["hasMore"]), (&serde_json::json!([1, 2]), &true.into()));
        format!("/_api/cursor/{}", body["id"].as_str().expect("an id"))
    };
    let mut rig = Rig::leading();
    let lead = leads(1, 3, &rig.me(), BOOT);
    let cursor = open(&mut rig);
    rig.ask(Method::Put, &cursor, "");
    assert_eq!(rig.reply()["result"], serde_json::json!([3, 4]));
    rig.ask(Method::Delete, &cursor, "");
    assert_eq!(rig.reply()["code"], 202);
    // Its time runs out, though the server goes on leading.
    let cursor = open(&mut rig);
    (0..210).for_each(|_| drop(rig.renew(lead.clone())));
    assert!(rig.server.deadline().is_none_or(|wake| wake.why != "cursor"));
    rig.ask(Method::Put, &cursor, "");
    assert_eq!(rig.reply()["errorNum"], 1600);
    // Another leads meanwhile, and then this server again.
    let cursor = open(&mut rig);
    rig.hear(&agent(1), Message::Lead(leads(2, 4, &other(2), Boot(9))));
    rig.perform();
    rig.hear(&agent(1), Message::Lead(leads(3, 5, &rig.me(), BOOT)));
    rig.perform();
    rig.renew(leads(3, 5, &rig.me(), BOOT));
    assert_eq!(rig.server.view().mode, Mode::Default);
    rig.ask(Method::Put, &cursor, "");
    assert_eq!(rig.reply()["errorNum"], 1600);
}

impl Rig {
    /// What the one request that is under way is answered with.
    fn reply(&mut self) -> serde_json::Value {
        let replies = self.perform().into_iter().filter_map(|output| match output {
            Output::Reply { response, .. } => Some(response),
            _ => None,
        });
        let response = replies.last().expect("it is answered");
        serde_json::from_slice(&response.body).expect("an answer is JSON")
    }
}
