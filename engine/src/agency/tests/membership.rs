//! Agents that come and go while the agency runs: one at a time, after they have caught up, and no lease is in danger.

use super::*;

impl World {
    /// An agent that is to join, with a disk of its own.
    fn add_agent(&mut self) -> usize {
        let founders: Vec<Endpoint> = self.machines[0].config.peers.clone();
        let i = self.machines.len();
        let machine = World::machine(i, &founders, &mut self.rng);
        self.machines.push(machine);
        self.start_agent(i);
        i
    }

    /// Asks the leading agent to give this one a seat, or to take it away; the answer may never come.
    fn change(&mut self, i: usize, seat: bool) {
        let Some(leader) = self.agency_leader() else { return };
        let machine = &self.machines[i];
        let (id, endpoint) = (machine.id.to_string(), machine.config.endpoint.to_string());
        let body = json!({"id": id, "endpoint": endpoint, "disk": Uuid(machine.disk_id.0).to_string()});
        let method = if seat { Method::Post } else { Method::Delete };
        self.request(leader, Request::new(method, "/_api/tanist/agents").with_body(body.to_string()));
    }

    /// Until this agent has a seat, or has none any more.
    fn wait_for_seat(&mut self, i: usize, seat: bool) {
        let end = self.now.plus(Duration::from_secs(20));
        while self.now < end {
            self.change(i, seat);
            self.run(200);
            let id = self.machines[i].id;
            let Some(leader) = self.agency_leader() else { continue };
            let has = self.seats(leader).contains(&id);
            if has == seat {
                return;
            }
        }
        panic!("agent {i} {} a seat in vain", if seat { "waits for" } else { "keeps" });
    }

    /// Who has a seat as this agent sees it.
    fn seats(&self, i: usize) -> Vec<NodeId> {
        let agency = &self.machines[i].agent.as_ref().expect("it runs").agency;
        agency.pool.seats().iter().map(|seat| seat.peer.id).collect()
    }

    fn applied(&self, i: usize) -> u64 {
        self.machines[i].agent.as_ref().expect("it runs").agency.state.applied
    }
}

#[test]
fn an_agency_grows_from_one_to_three_and_survives_its_first_agent() {
    let mut world = World::new(1, 2, 41);
    world.wait_for_leader(5_000);
    for i in 1..3 {
        assert_eq!(world.add_agent(), i);
        world.run(300);
        assert!(world.seats(0).len() == i, "nobody has a seat before somebody asks for it");
        world.wait_for_seat(i, true);
    }
    world.run(1_000);
    assert_eq!((world.seats(1), world.value("/.agency")["size"].clone()), (world.seats(0), json!(3)));
    world.crash_agent(0);
    world.run(3_000);
    world.wait_for_leader(10_000);
    assert!(world.agency_leader().is_some_and(|leader| leader != 0));
    // The first one is gone for ever; another takes its seat, and the agency bears the loss of one more.
    let new = world.add_agent();
    world.wait_for_seat(new, true);
    world.wait_for_seat(0, false);
    let leader = world.agency_leader().unwrap();
    assert_eq!(world.seats(leader).len(), 3);
    world.crash_agent(leader);
    world.run(3_000);
    world.wait_for_leader(10_000);
}

#[test]
fn a_leader_whose_seat_is_taken_away_steps_down_and_campaigns_no_more() {
    let mut world = World::new(3, 2, 42);
    world.wait_for_leader(5_000);
    let old = world.agency_leader().unwrap();
    world.change(old, false);
    let end = world.now.plus(Duration::from_secs(5));
    assert!(world.run_until(end, |w| w.agency_leader().is_some_and(|leader| leader != old)));
    world.run(2_000);
    let leader = world.agency_leader().unwrap();
    assert_eq!(world.seats(leader).len(), 2);
    let campaigns = |w: &World| {
        w.events.iter().filter(|(i, e)| *i == old && matches!(e, Event::Campaigns { pre: false, .. })).count()
    };
    let before = campaigns(&world);
    let terms = world.leaders.len();
    world.run(10_000);
    assert_eq!((campaigns(&world), world.leaders.len()), (before, terms), "it disturbs nobody");
    world.wait_for_leader(5_000);
}

/// An agent that could not see yet that the pool is formed forms it from whom it settled on, wherever the seats are by
/// then: with its vote alone the agency has a majority.
#[test]
fn an_agent_that_forms_the_pool_late_may_find_seats_moved() {
    let mut world = World::new(3, 1, 46);
    let formed = |w: &World, i: usize| w.machines[i].agent.as_ref().is_some_and(|agent| agent.agency.pool.is_formed());
    let end = world.now.plus(Duration::from_secs(10));
    assert!(world.run_until(end, |w| (0..3).filter(|i| formed(w, *i)).count() == 2));
    let late = (0..3).find(|i| !formed(&world, *i)).unwrap();
    world.crash_agent(late);
    world.wait_for_leader(10_000);
    let gone = world.agency_leader().unwrap();
    world.change(gone, false);
    world.run(3_000);
    assert_eq!(world.agency_leader(), None, "two have a seat, and one of them is down");
    world.start_agent(late);
    world.run(5_000);
    assert!(formed(&world, late) && world.agency_leader().is_some_and(|leader| leader != gone));
}

/// A learner that never answers gets no seat; without one it counts for nothing.
#[test]
fn an_agent_that_does_not_catch_up_gets_no_seat() {
    let mut world = World::new(3, 1, 43);
    world.wait_for_leader(5_000);
    let new = world.add_agent();
    world.crash_agent(new);
    for _ in 0..20 {
        world.change(new, true);
        world.run(200);
    }
    let leader = world.agency_leader().unwrap();
    assert_eq!(world.seats(leader).len(), 3);
    // And its word does not replace that of those who have one.
    world.start_agent(new);
    for i in (0..3).filter(|i| *i != leader) {
        world.crash_agent(i);
    }
    world.run(5_000);
    assert!(world.agency_leader().is_none() && world.serving().is_none());
}

/// R11: who comes back on a wiped disk is another agent, and must be let in as one.
#[test]
fn a_wiped_agent_comes_back_as_another_one() {
    let mut world = World::new(3, 1, 44);
    world.wait_for_leader(5_000);
    let victim = (world.agency_leader().unwrap() + 1) % 3;
    world.crash_agent(victim);
    // At the same address.
    let new = world.add_agent();
    world.crash_agent(new);
    world.machines[new].config.endpoint = world.machines[victim].config.endpoint.clone();
    world.machines[victim].config.endpoint = endpoint(6000);
    world.start_agent(new);
    world.wait_for_seat(new, true);
    world.wait_for_seat(victim, false);
    world.run(1_000);
    let leader = world.agency_leader().unwrap();
    assert!(world.seats(leader).contains(&world.machines[new].id));
    assert!(world.applied(leader) - world.applied(new) < 20);
}

#[test]
fn what_can_not_be_is_refused() {
    let mut world = World::new(1, 1, 45);
    world.wait_for_leader(5_000);
    let ask = |world: &mut World, method, body: Value| world.ask(method, "/_api/tanist/agents", body);
    let own = world.machines[0].id.to_string();
    let id = NodeId { kind: NodeKind::Agent, uuid: 9 }.to_string();
    let disk = Uuid(5).to_string();
    for (method, body, status) in [
        (Method::Delete, json!({"id": own}), 409),
        (Method::Delete, json!({"id": "SNGL-1"}), 400),
        (Method::Post, json!({"id": id, "disk": disk}), 400),
        (Method::Post, json!({"id": id, "endpoint": "tcp://x:1"}), 400),
        (Method::Post, json!({"id": own, "endpoint": "tcp://x:1", "disk": disk}), 409),
        (Method::Put, json!({}), 405),
        (Method::Delete, json!({"id": id}), 200),
    ] {
        assert_eq!(ask(&mut world, method, body.clone()).status, status, "{method:?} {body}");
    }
    let learns = body(&ask(&mut world, Method::Post, json!({"id": id, "endpoint": "tcp://x:1", "disk": disk})));
    assert_eq!(learns["agents"][1]["state"], "learning", "{learns}");
    let other = NodeId { kind: NodeKind::Agent, uuid: 10 }.to_string();
    let second = ask(&mut world, Method::Post, json!({"id": other, "endpoint": "tcp://y:1", "disk": disk}));
    assert_eq!(second.status, 409, "one at a time");
    let listed = body(&ask(&mut world, Method::Get, Value::Null));
    assert_eq!((listed["agents"][0]["id"].clone(), listed["agents"][0]["leading"].clone()), (json!(own), json!(true)));
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// Agents come and go, crash, are cut off and come back, in any order, while leases are granted: I1, I3, I5 and I6
    /// hold throughout, and once it is quiet, I15.
    #[test]
    fn promises_hold_while_agents_come_and_go(seed in any::<u64>()) {
        let mut faults = Rng::new(seed ^ 0xa6e7);
        let mut world = World::new([1, 3][faults.below(2) as usize], 2, seed);
        world.loss_percent = faults.below(12);
        world.delay_max = Duration::from_millis(1 + faults.below(30));
        world.run(1_500);
        while world.machines.len() < 5 {
            world.add_agent();
        }
        for _ in 0..40 {
            world.run(20 + faults.below(500));
            let i = faults.below(5) as usize;
            match faults.below(12) {
                0..4 => world.change(i, true),
                4..7 => world.change(i, false),
                7 => world.crash_agent(i),
                8 => if world.machines[i].agent.is_none() { world.start_agent(i) },
                9 => {
                    let halves = faults.below(32);
                    world.cut = (0..5).filter(|i| halves & 1 << i != 0 && faults.chance(1, 2)).map(|i| endpoint(5000 + i)).collect();
                }
                10 => world.cut.clear(),
                _ => if let Some(leader) = world.agency_leader() {
                    let write = json!([[{"/n": {"op": "increment"}}]]).to_string();
                    world.request(leader, Request::new(Method::Post, "/_api/agency/write").with_body(write));
                },
            }
        }
        world.cut.clear();
        world.loss_percent = 0;
        world.delay_max = Duration::from_millis(2);
        for i in 0..5 {
            if world.machines[i].agent.is_none() {
                world.start_agent(i);
            }
        }
        world.run(8_000);
        world.wait_for_leader(15_000);
        world.run(1_000);
        let leader = world.agency_leader().unwrap();
        let seats = world.seats(leader);
        prop_assert!(!seats.is_empty());
        for i in (0..5).filter(|i| seats.contains(&world.machines[*i].id)) {
            prop_assert!(world.applied(leader) - world.applied(i) < 20, "agent {i} keeps up");
            prop_assert!(world.seats(i) == seats, "agent {i} knows who has a seat");
        }
    }
}
