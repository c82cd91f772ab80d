//! Who may register, and for whom: one process of each server, on the data that it had.

use super::*;

/// R3, R11: a server's boots grow; its processes of before are not let in again, nor is an older copy of its directory.
#[test]
fn each_process_of_a_server_is_registered_once() {
    let (mut state, mut apply) = led_state();
    let boot = |state: &State| state.servers[&server_id(2)].boot;
    apply(&mut state, registration(2, 1, 0));
    assert_eq!(boot(&state), Boot(1), "said twice");
    apply(&mut state, registration(2, 2, 5));
    assert_eq!(boot(&state), Boot(2));
    apply(&mut state, registration(2, 1, 6));
    assert_eq!(boot(&state), Boot(2), "an earlier process");
    apply(&mut state, registration(2, 3, 4));
    assert_eq!(boot(&state), Boot(2), "its data have seen less than before");
    apply(&mut state, registration(2, 4, 5));
    assert_eq!((boot(&state), state.servers[&server_id(2)].number), (Boot(3), 2));
    let wiped = match registration(2, 5, 0) {
        Command::Register { peer, register, wall_ms } => {
            Command::Register { peer, register: Register { store: StoreId(77), ..register }, wall_ms }
        }
        other => other,
    };
    apply(&mut state, wiped);
    assert_eq!(boot(&state), Boot(4), "an empty directory is another one");
    let leader = |state: &State| state.servers[&server_id(1)].boot;
    apply(&mut state, registration(1, 2, 2));
    assert_eq!(leader(&state), Boot(1), "it was elected for epoch 3, and so had seen it");
    apply(&mut state, registration(1, 3, 3));
    assert_eq!(leader(&state), Boot(2));
}

/// What a server has told in its beats counts, too: it registered before it had seen that.
#[test]
fn an_old_copy_is_refused_by_what_its_server_has_told_since() {
    let mut world = World::new(1, 2, 26);
    let follower = 1 - world.wait_for_leader(5_000);
    world.run(500);
    assert_eq!(
        world.machines[0].agent.as_ref().unwrap().agency.state.servers[&server_id(follower as u128 + 1)].seen,
        Epoch(0)
    );
    world.crash_server(follower);
    let seen = std::mem::take(&mut world.servers[follower].seen);
    world.start_server(follower);
    world.run(1_000);
    let server = &world.servers[follower];
    assert!(server.refused.as_ref().is_some_and(|reason| reason.contains("an old copy")), "{:?}", server.refused);
    assert_eq!(server.boot, None);
    (world.servers[follower].seen, world.servers[follower].refused) = (seen, None);
    world.run(1_000);
    assert_eq!(world.servers[follower].boot, Some(Boot(2)));
}

#[test]
fn a_registration_that_outlived_its_process_changes_nothing() {
    let mut world = World::new(1, 2, 22);
    world.wait_for_leader(5_000);
    let boots = |w: &World| w.machines[0].agent.as_ref().unwrap().agency.state.servers.clone();
    let before = boots(&world);
    let late = Register { nonce: Nonce(77), ..world.servers[1].introduction() };
    let from = world.servers[1].peer.clone();
    for message in [Message::Register(late.clone()), Message::IAmThere { question: 1, register: late }] {
        world.step_agent(0, Input::Message(Envelope { from: from.clone(), to: None, message }));
        world.run(1_000);
    }
    assert_eq!(boots(&world), before);
}

#[test]
fn a_late_registration_of_a_dead_process_does_not_replace_the_living_one() {
    let mut world = World::new(3, 2, 25);
    world.wait_for_leader(5_000);
    world.run(500);
    let s = 1;
    let old = world.crash_server(s);
    world.start_server(s);
    world.run(1_000);
    let boot = world.servers[s].boot;
    assert_eq!(boot, Some(Boot(2)));
    let living = std::mem::replace(&mut world.servers[s].nonce, old);
    world.servers[s].boot = None;
    world.beat(s);
    (world.servers[s].nonce, world.servers[s].boot) = (living, boot);
    world.run(1_000);
    let leader = world.agency_leader().unwrap();
    let record = &world.machines[leader].agent.as_ref().unwrap().agency.state.servers[&world.servers[s].peer.id];
    assert_eq!((record.boot, record.nonce), (Boot(2), living));
}

#[test]
fn a_running_server_that_the_agency_does_not_know_is_told() {
    let mut world = World::new(1, 1, 24);
    world.run(1_000);
    let s = world.add_server();
    world.servers[s].boot = Some(Boot(3));
    world.servers[s].nonce = Nonce(0); // The answer names no process.
    world.run(500);
    assert!(world.servers[s].refused.as_ref().unwrap().contains("does not know"));
    let said = |e: &Event| matches!(e, Event::Says(_, text) if text.contains("never registered"));
    assert_eq!(world.events.iter().filter(|(_, e)| said(e)).count(), 1, "said once");
}

/// Found by seed 947001184: a server's last beat had brought it back into the plan, and it never left again.
#[test]
fn one_beat_brings_a_server_back_into_the_plan_once() {
    let mut world = World::new(1, 2, 27);
    let server = 1 - world.wait_for_leader(5_000);
    world.run(500);
    let key = format!("/arango/Plan/Singles/{}", world.servers[server].peer.id);
    let listed =
        |w: &World| w.machines[0].agent.as_ref().unwrap().agency.state.is_listed(server_id(server as u128 + 1));
    let remove = json!([[{ key: {"op": "delete"} }]]);
    assert_eq!(world.ask(Method::Post, "/_api/agency/write", remove.clone()).status, 200);
    let end = world.now.plus(Duration::from_secs(2));
    assert!(world.run_until(end, listed), "it lives");
    world.crash_server(server);
    assert_eq!(world.ask(Method::Post, "/_api/agency/write", remove).status, 200);
    world.run(1_000);
    assert!(!listed(&world), "nothing was heard of it since");
}
