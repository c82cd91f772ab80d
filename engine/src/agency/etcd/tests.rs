//! Agents on the model of an etcd; each test decides what happens to each question and its answer.

use super::*;
use crate::etcd::model::Model;

const HEARTBEAT: Duration = Duration::from_millis(100);

struct World {
    now: Time,
    model: Model,
    agents: Vec<Etcd>,
    /// Questions on their way.
    asked: Vec<(usize, AskId, Ask)>,
}

fn settings(agent: usize) -> Settings {
    let id = NodeId { kind: NodeKind::Agent, uuid: agent as u128 + 1 };
    Settings {
        me: Peer { id, endpoint: Endpoint::parse(&format!("tcp://a{agent}:8531")).unwrap() },
        prefix: "/tanist/test/".into(),
        heartbeat: HEARTBEAT,
        window: HEARTBEAT * 10,
        patience: HEARTBEAT * 2,
        compaction_step: 10,
        compaction_keep: 0,
    }
}

impl World {
    fn new(agents: usize) -> World {
        let boot = |agent: usize| Etcd::boot(settings(agent), Rng::new(agent as u64), Time(0));
        let agents = (0..agents).map(boot).collect();
        World { now: Time(1), model: Model::default(), agents, asked: Vec::new() }
    }

    /// Lets an agent act; its questions wait in `asked`.
    fn act(&mut self, agent: usize) {
        self.agents[agent].tick(self.now);
        self.agents[agent].advance(self.now);
        let questions = self.agents[agent].take_outbox();
        self.asked.extend(questions.into_iter().map(|(id, ask)| (agent, id, ask)));
    }

    fn tell(&mut self, agent: usize, id: AskId, answer: Option<Answer>) {
        self.agents[agent].answered(self.now, id, answer);
        self.act(agent);
    }

    /// Carries out an agent's questions, and those that follow from the answers, until there are none.
    fn carry(&mut self, agent: usize) {
        self.act(agent);
        while let Some(place) = self.asked.iter().position(|(by, ..)| *by == agent) {
            let (_, id, ask) = self.asked.remove(place);
            let answer = self.model.perform(&ask);
            self.tell(agent, id, Some(answer));
        }
    }

    fn wait(&mut self, wait: Duration) {
        self.now = self.now.plus(wait);
    }

    /// An agent's questions, taken off the wire; they may still be carried out.
    fn take(&mut self, agent: usize) -> Vec<(AskId, Ask)> {
        self.act(agent);
        let (taken, rest) = std::mem::take(&mut self.asked).into_iter().partition(|(by, ..)| *by == agent);
        self.asked = rest;
        let taken: Vec<(usize, AskId, Ask)> = taken;
        taken.into_iter().map(|(_, id, ask)| (id, ask)).collect()
    }

    fn propose(&mut self, agent: usize, text: &'static str) -> Option<u64> {
        self.agents[agent].propose(Bytes::from_static(text.as_bytes()))
    }

    /// The log as agent 0 of a fresh pair would read it.
    fn read_by(&mut self, agent: usize) -> Vec<Bytes> {
        self.carry(agent);
        let log = self.agents[agent].log();
        (log.first_index()..=self.agents[agent].commit()).map(|i| log.get(i).unwrap().data.clone()).collect()
    }

    /// etcd ends the leases of an agent.
    fn end_leases(&mut self) {
        let leases: Vec<u64> = self.model.leases().collect();
        leases.into_iter().for_each(|lease| self.model.end_lease(lease));
    }
}

#[test]
fn one_has_the_seat_and_the_others_know_who() {
    let mut world = World::new(3);
    world.carry(0);
    world.carry(1);
    assert!(world.agents[0].is_leader() && !world.agents[1].is_leader());
    assert_eq!(world.agents[1].leader().unwrap().endpoint.to_string(), "tcp://a0:8531");
    assert_eq!(world.agents[1].term(), world.agents[0].term());
    assert_eq!((world.propose(0, "x"), world.propose(1, "y")), (Some(2), None));
    world.carry(0);
    assert_eq!(world.agents[0].commit(), 2);
    // It leaves in good order: the next one has what it had, in a later term.
    let term = world.agents[0].term();
    world.agents[0].resign(world.now);
    for (_, ask) in world.agents[0].take_outbox() {
        world.model.perform(&ask);
    }
    world.wait(HEARTBEAT);
    assert_eq!(world.read_by(2), [&b""[..], b"x", b""]);
    assert!(world.agents[2].term() > term);
}

#[test]
fn once_another_leads_nothing_of_the_former_leader_can_happen() {
    let mut world = World::new(2);
    world.carry(0);
    world.propose(0, "late");
    let late = world.take(0);
    world.end_leases();
    world.carry(1);
    assert!(world.agents[1].is_leader());
    for (id, ask) in late {
        let answer = world.model.perform(&ask);
        world.tell(0, id, Some(answer));
    }
    assert!(!world.agents[0].is_leader());
    assert_eq!((world.agents[0].commit(), world.agents[0].log().last_index()), (1, 1), "what it wrote is forgotten");
    assert_eq!(world.agents[0].leader().unwrap().id, world.agents[1].settings.me.id);
    world.propose(1, "mine");
    assert_eq!(world.read_by(1), [&b""[..], b"", b"mine"]);
}

#[test]
fn what_was_not_answered_happens_once() {
    for done in [false, true] {
        let mut world = World::new(1);
        world.carry(0);
        world.propose(0, "once");
        let first = world.take(0);
        assert_eq!(first.len(), 1);
        if done {
            world.model.perform(&first[0].1);
        }
        world.tell(0, first[0].0, None);
        world.propose(0, "next");
        world.wait(HEARTBEAT);
        world.carry(0);
        // The first attempt arrives once more, much later.
        world.model.perform(&first[0].1);
        assert_eq!(world.agents[0].commit(), 3);
        world.end_leases();
        world.wait(HEARTBEAT);
        world.carry(0);
        assert_eq!(world.read_by(0), [&b""[..], b"once", b"next", b""]);
    }
}

#[test]
fn a_round_is_asked_after_the_call_and_is_worth_nothing_without_the_seat() {
    let mut world = World::new(2);
    world.carry(0);
    let before = world.agents[0].confirmed();
    assert_eq!(world.agents[0].request_round(), before + 1);
    let first = world.take(0);
    assert_eq!(world.agents[0].request_round(), before + 2, "that question has left before this call");
    let answer = world.model.perform(&first[0].1);
    world.tell(0, first[0].0, Some(answer));
    assert_eq!(world.agents[0].confirmed(), before + 1);
    let second = world.take(0);
    world.end_leases();
    let answer = world.model.perform(&second[0].1);
    world.tell(0, second[0].0, Some(answer));
    assert!(!world.agents[0].is_leader());
    assert_eq!(world.agents[0].confirmed(), 0);
}

#[test]
fn who_can_not_make_sure_of_its_seat_leaves_it_and_takes_it_anew_in_a_later_term() {
    let mut world = World::new(1);
    world.carry(0);
    let term = world.agents[0].term();
    for _ in 0..11 {
        world.wait(HEARTBEAT);
        drop(world.take(0));
    }
    assert!(!world.agents[0].is_leader());
    // The key of its former term still stands there, under a lease that has not ended.
    assert_eq!(world.model.range(&Span::key("/tanist/test/leader")).len(), 1);
    for _ in 0..5 {
        world.wait(HEARTBEAT);
        world.carry(0);
    }
    assert!(world.agents[0].is_leader() && world.agents[0].term() > term);
}

#[test]
fn snapshots_go_in_chunks_and_replace_what_they_stand_for() {
    let mut world = World::new(2);
    world.carry(0);
    for _ in 0..40 {
        world.propose(0, "entry");
    }
    world.carry(0);
    assert!(world.agents[0].wants_snapshot(41));
    let state: Bytes = (0..CHUNK_BYTES * 10 + 7).map(|i| (i % 251) as u8).collect::<Vec<u8>>().into();
    world.agents[0].compact(30, state.clone());
    world.carry(0);
    let rows = |world: &World, from: &str| {
        let span = Span { from: format!("/tanist/test/{from}/"), end: Some(format!("/tanist/test/{from}0")) };
        world.model.range(&span).len()
    };
    assert_eq!((rows(&world, "log"), rows(&world, "chunk")), (11, 11));
    world.end_leases();
    world.carry(1);
    let log = world.agents[1].log();
    assert_eq!((log.snapshot.index, log.snapshot.state.len(), log.first_index()), (30, state.len(), 31));
    assert!(log.snapshot.state == state);
    assert_eq!(world.agents[1].commit(), 42, "a page and more of entries, and its own");
}

#[test]
fn a_late_repetition_does_not_bring_an_older_snapshot_back() {
    let mut world = World::new(2);
    world.carry(0);
    let fill = |world: &mut World| {
        for _ in 0..10 {
            world.propose(0, "entry");
        }
        world.carry(0);
    };
    fill(&mut world);
    world.agents[0].compact(8, Bytes::from_static(b"eight"));
    let chunk = world.take(0);
    let answer = world.model.perform(&chunk[0].1);
    world.tell(0, chunk[0].0, Some(answer));
    let switch = world.take(0);
    world.model.perform(&switch[0].1);
    // It was done, but nobody knows: it is asked again, and refused.
    world.wait(HEARTBEAT * 2);
    world.carry(0);
    fill(&mut world);
    world.agents[0].compact(18, Bytes::from_static(b"eighteen"));
    world.carry(0);
    world.model.perform(&switch[0].1);
    world.end_leases();
    world.carry(1);
    assert_eq!(world.agents[1].log().snapshot.index, 18);
    assert_eq!(world.agents[1].commit(), 22);
}

#[test]
fn what_does_not_belong_there_is_told_and_nobody_leads_on_it() {
    let mut world = World::new(1);
    let (key, value) = ("/tanist/test/log/00000000000000000007".to_owned(), Bytes::from_static(b"?"));
    let then = vec![Change::Put { key, value, lease: None }];
    world.model.perform(&Ask::Transaction(Transaction { compare: vec![], then, otherwise: vec![] }));
    world.carry(0);
    assert!(!world.agents[0].is_leader());
    let told = world.agents[0].events.iter().any(|e| e.to_string().contains("entry 1 is missing"));
    assert!(told, "{:?}", world.agents[0].events);
}

#[test]
fn an_etcd_that_has_gone_back_is_not_trusted() {
    for (revisions, told) in [(0, "gone back"), (100, "put back as it once was")] {
        let mut world = World::new(1);
        world.carry(0);
        world.model = Model::default();
        let put = Change::Put { key: "other".into(), value: Bytes::new(), lease: None };
        let ask = Ask::Transaction(Transaction { compare: vec![], then: vec![put], otherwise: vec![] });
        (0..revisions).for_each(|_| drop(world.model.perform(&ask)));
        for _ in 0..5 {
            world.wait(HEARTBEAT);
            world.carry(0);
        }
        assert!(!world.agents[0].is_leader());
        assert!(world.agents[0].events.iter().any(|e| e.to_string().contains(told)), "{told}");
    }
}
