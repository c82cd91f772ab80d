//! Who leads after what, and that no document is missing there.

use crate::setup;
use serde_json::json;
use std::time::{Duration, Instant};
use tanist_tests::deployment::{Deployment, last_tick};
use tanist_tests::wait::{stays, wait, wait_until};

pub const C: &str = "UnitTestActiveFailover";
const DOCUMENTS: u64 = 10_000;

pub fn all(count: u64) -> Vec<u64> {
    (0..count).collect()
}

/// A deployment with the collection filled on every server.
#[track_caller]
pub fn filled(deployment: Deployment, documents: u64) -> Deployment {
    deployment.create_collection(C);
    deployment.insert(deployment.wait_leader(), C, 0..documents);
    deployment.wait_in_sync();
    deployment
}

/// What `GET /_api/cluster/endpoints` of a server lists, as server numbers.
fn endpoints(deployment: &Deployment, server: usize) -> Vec<usize> {
    let Ok(answer) = deployment.client(server).get("/_api/cluster/endpoints") else { return Vec::new() };
    let body = answer.json();
    let listed = body["endpoints"].as_array().cloned().unwrap_or_default();
    let number = |endpoint: &str| {
        let port: u16 = endpoint.rsplit_once(':')?.1.parse().ok()?;
        deployment.server_ports.iter().position(|p| *p == port)
    };
    listed.iter().filter_map(|entry| number(entry["endpoint"].as_str()?)).collect()
}

/// Every running server lists all running servers, the leader first.
fn wait_endpoints(deployment: &Deployment, expected: usize) {
    let leader = deployment.wait_leader();
    for server in deployment.followers().into_iter().chain([leader]) {
        wait_until(&format!("server{server} lists {expected} servers, the leader first"), || {
            let listed = endpoints(deployment, server);
            listed.len() == expected && listed[0] == leader
        });
    }
}

#[test]
fn followers_are_in_sync_and_every_server_names_the_leader_first() {
    let deployment = filled(setup().start(), DOCUMENTS);
    let leader = deployment.wait_leader();
    wait_endpoints(&deployment, 3);
    for server in 0..3 {
        let role = deployment.client(server).get("/_admin/server/role").unwrap().expect(200).json();
        assert_eq!((role["role"].as_str(), role["mode"].as_str()), (Some("SINGLE"), Some("resilient")));
        assert_eq!(deployment.numbers(server, C), all(DOCUMENTS), "server{server}");
    }
    let health = deployment.client(leader).get("/_admin/cluster/health").unwrap().expect(200).json();
    assert_eq!((&health["error"], &health["code"]), (&json!(false), &json!(200)));
    let entries = health["Health"].as_object().expect("an object");
    let named = |prefix: &str| entries.keys().filter(|id| id.starts_with(prefix)).count();
    assert_eq!((named("SNGL-"), named("AGNT-")), (3, 3), "{health}");
}

#[test]
fn a_paused_leader_is_replaced_and_comes_back_as_a_follower() {
    let mut deployment = filled(setup().start(), DOCUMENTS);
    let old = deployment.wait_leader();
    deployment.servers[old].pause();
    let new = deployment.wait_leader_other_than(old);
    assert_eq!(deployment.numbers(new, C), all(DOCUMENTS));
    deployment.wait_in_sync();
    deployment.servers[old].resume();
    deployment.wait_follower(old, new);
    assert_eq!(deployment.wait_in_sync(), new);
    assert_eq!(deployment.numbers(old, C), all(DOCUMENTS));
    wait_endpoints(&deployment, 3);
}

#[test]
fn the_follower_with_the_most_is_chosen() {
    let mut deployment = filled(setup().servers(4).start(), 1000);
    let leader = deployment.wait_leader();
    let followers = deployment.followers();
    let (good, others) = (followers[0], &followers[1..]);
    others.iter().for_each(|server| deployment.servers[*server].kill());
    deployment.insert(leader, C, 1000..3000);
    wait_until("the healthy follower is listed second, the dead ones not at all", || {
        endpoints(&deployment, leader) == [leader, good]
    });
    assert_eq!(deployment.leader(), Some(leader), "losing followers is no reason to fail over");
    wait_until("the healthy follower has all", || deployment.count(good, C) == Some(3000));

    // The leader goes first, so that nobody can catch up from it.
    deployment.servers[leader].pause();
    others.iter().for_each(|server| deployment.servers[*server].start());
    let new = deployment.wait_leader_other_than(leader);
    assert_eq!(new, good, "the others have less");
    assert_eq!(deployment.numbers(new, C), all(3000));
    deployment.wait_in_sync();
    deployment.servers[leader].resume();
    deployment.wait_follower(leader, new);
    deployment.wait_in_sync();
    assert_eq!(deployment.numbers(leader, C), all(3000));
}

#[test]
fn the_first_leader_takes_over_again_when_it_alone_is_left() {
    let mut deployment = filled(setup().start(), DOCUMENTS);
    let first = deployment.wait_leader();
    deployment.servers[first].pause();
    let second = deployment.wait_leader_other_than(first);
    deployment.servers[first].resume();
    deployment.wait_follower(first, second);
    deployment.wait_in_sync();
    for server in (0..3).filter(|server| *server != first) {
        deployment.servers[server].pause();
    }
    wait_until("the first leader leads again", || deployment.leader() == Some(first));
    assert_eq!(deployment.numbers(first, C), all(DOCUMENTS));
    for server in (0..3).filter(|server| *server != first) {
        deployment.servers[server].resume();
    }
    assert_eq!(deployment.wait_in_sync(), first);
    wait_endpoints(&deployment, 3);
}

#[test]
fn every_leader_in_turn_is_killed_and_started_again() {
    let mut deployment = filled(setup().agents(1).servers(2).start(), 1000);
    let mut expected = 1000;
    for _ in 0..3 {
        let old = deployment.wait_leader();
        deployment.servers[old].kill();
        let new = deployment.wait_leader_other_than(old);
        assert_eq!(deployment.numbers(new, C), all(expected));
        deployment.insert(new, C, expected..expected + 100);
        expected += 100;
        deployment.servers[old].start();
        assert_eq!(deployment.wait_in_sync(), new);
        assert_eq!(deployment.numbers(old, C), all(expected));
    }
}

#[test]
fn half_of_the_servers_are_killed_as_leaders_and_stay_away() {
    let mut deployment = filled(setup().agents(1).servers(4).start(), 1000);
    for _ in 0..2 {
        let old = deployment.wait_leader();
        deployment.servers[old].kill();
        let new = deployment.wait_leader_other_than(old);
        deployment.wait_in_sync();
        assert_eq!(deployment.numbers(new, C), all(1000));
    }
}

#[test]
fn the_agency_s_leader_is_killed_together_with_the_server_that_leads() {
    let mut deployment = filled(setup().start(), 1000);
    for _ in 0..2 {
        let (agent, server) = (deployment.agency_leader(), deployment.wait_leader());
        deployment.agents[agent].kill();
        deployment.servers[server].kill();
        let new = deployment.wait_leader_other_than(server);
        assert_eq!(deployment.numbers(new, C), all(1000));
        deployment.agents[agent].start();
        deployment.servers[server].start();
        deployment.wait_in_sync();
        assert_eq!(deployment.numbers(server, C), all(1000));
    }
}

#[test]
fn a_killed_or_paused_follower_changes_nothing_for_the_others() {
    let mut deployment = filled(setup().start(), 1000);
    let leader = deployment.wait_leader();
    let follower = deployment.followers()[0];
    deployment.servers[follower].kill();
    deployment.insert(leader, C, 1000..1500);
    assert_eq!(deployment.wait_in_sync(), leader);
    deployment.servers[follower].start();
    assert_eq!(deployment.wait_in_sync(), leader);
    assert_eq!(deployment.numbers(follower, C), all(1500));

    deployment.servers[follower].pause();
    deployment.insert(leader, C, 1500..2000);
    stays(Duration::from_millis(3000), "the leader leads", || deployment.leader() == Some(leader));
    deployment.servers[follower].resume();
    assert_eq!(deployment.wait_in_sync(), leader);
    assert_eq!(deployment.numbers(follower, C), all(2000));
}

#[test]
fn late_followers_catch_up_while_the_leader_is_written_to() {
    let mut deployment = filled(setup().agents(1).servers(1).start(), 2000);
    let leader = deployment.wait_leader();
    let late = [deployment.add_server(), deployment.add_server()];
    let mut next = 2000;
    for server in late {
        deployment.servers[server].start();
    }
    wait("the late followers have a first copy", || {
        assert!(deployment.write(leader, C, next).unwrap().ok());
        next += 1;
        late.iter().all(|server| deployment.count(*server, C) >= Some(2000)).then_some(())
    });
    assert_eq!(deployment.wait_in_sync(), leader, "the leader never changed");
    for server in late {
        assert_eq!(deployment.numbers(server, C), all(next), "server{server}");
    }
}

#[test]
fn a_pause_shorter_than_the_lease_is_no_failover() {
    let mut deployment = filled(setup().lease_s(6.0).start(), 100);
    let leader = deployment.wait_leader();
    deployment.servers[leader].pause();
    std::thread::sleep(Duration::from_millis(1000));
    deployment.servers[leader].resume();
    wait_until("it serves again", || deployment.write(leader, C, 100).is_ok_and(|answer| answer.ok()));
    assert_eq!(deployment.wait_in_sync(), leader);
    stays(Duration::from_millis(1000), "it leads", || deployment.leader() == Some(leader));
}

/// A leader that can't reach the agency stops by itself, before anybody else may start.
#[test]
fn a_leader_cut_off_from_the_agency_refuses_within_its_lease() {
    let mut deployment = filled(setup().start(), 100);
    let leader = deployment.wait_leader();
    let started = Instant::now();
    deployment.agents.iter_mut().for_each(|agent| agent.pause());
    let mut number = 100;
    let refusal = wait("the leader refuses", || {
        let answer = deployment.write(leader, C, number).expect("it answers");
        number += 1;
        // One that is under way when the lease ends is told that its outcome is unknown; the next is refused.
        (!answer.ok() && answer.refusal() != (504, 1457)).then_some(answer)
    });
    assert!(started.elapsed() < Duration::from_millis(2500), "the lease is 2 s: {:?}", started.elapsed());
    assert_eq!(refusal.refusal(), (503, 1495), "{refusal}");
    assert_eq!(refusal.header("x-arango-endpoint"), None, "no leader is known, and an empty header harms drivers");
    // Now even the version is refused, as ArangoDB does while leadership is open.
    assert_eq!(deployment.client(leader).get("/_api/version").unwrap().refusal(), (503, 1495));
    assert_eq!(deployment.client(leader).get("/_admin/status").unwrap().status, 200);
    deployment.agents.iter_mut().for_each(|agent| agent.resume());
    let leader = deployment.wait_in_sync();
    let last = deployment.numbers(leader, C);
    assert_eq!(last, all(last.len() as u64), "what was acknowledged is there");
    assert!(last.len() as u64 >= number - 1);
}

/// One after the other, half a minute of luck apart for a protocol that trusts old news: whoever leads must have all
/// that a client was told is replicated.
#[test]
fn leaders_paused_again_and_again_lose_no_replicated_document() {
    let mut deployment = filled(setup().servers(4).start(), 1000);
    let mut expected = 1000;
    let mut paused: Option<usize> = None;
    for _ in 0..3 {
        let old = deployment.wait_leader();
        deployment.insert(old, C, expected..expected + 50);
        expected += 50;
        deployment.wait_in_sync();
        deployment.servers[old].pause();
        let new = deployment.wait_leader_other_than(old);
        assert_eq!(deployment.numbers(new, C), all(expected));
        if let Some(back) = paused.replace(old) {
            deployment.servers[back].resume();
        }
    }
    deployment.servers[paused.expect("one is paused")].resume();
    deployment.wait_in_sync();
    for server in 0..4 {
        assert_eq!(deployment.numbers(server, C), all(expected), "server{server}");
    }
}

/// What only the old leader had is undone when it returns, and can be read there afterwards.
#[test]
fn the_tail_that_nobody_else_had_ends_in_a_rollback_record() {
    let mut deployment = filled(setup().start(), 100);
    let old = deployment.wait_leader();
    let followers = deployment.followers();
    followers.iter().for_each(|server| deployment.servers[*server].kill());
    deployment.insert(old, C, 100..105);
    deployment.servers[old].kill();
    followers.iter().for_each(|server| deployment.servers[*server].start());
    let new = deployment.wait_leader_other_than(old);
    assert_eq!(deployment.numbers(new, C), all(100), "asynchronous replication lost the tail");
    deployment.insert(new, C, 200..210);
    deployment.servers[old].start();
    assert_eq!(deployment.wait_in_sync(), new);
    assert_eq!(deployment.numbers(old, C), deployment.numbers(new, C));

    let list = deployment.client(old).get("/_api/tanist/rollbacks").unwrap().expect(200).json();
    let records = list["result"].as_array().expect("a list");
    assert_eq!(records.len(), 1, "{list}");
    let id = records[0]["id"].as_str().expect("an id");
    let record = deployment.client(old).get(&format!("/_api/tanist/rollbacks/{id}")).unwrap().expect(200);
    for n in 100..105 {
        assert!(record.text().contains(&format!("\"{n}\"")), "document {n} is kept: {record}");
    }
    assert!(!record.text().contains("\"99\""), "nothing else was taken away: {record}");
    for server in followers {
        let list = deployment.client(server).get("/_api/tanist/rollbacks").unwrap().expect(200).json();
        assert_eq!(list["result"], json!([]), "server{server}");
    }
}

/// A service manager that starts a killed server again tells nobody of the death; the next process on the directory
/// does, for it holds the lock that the dead one held.
#[test]
fn a_server_that_is_killed_and_started_again_costs_no_lease() {
    let mut deployment = filled(setup().lease_s(30.0).start(), 100);
    let leader = deployment.wait_leader();
    let killed = Instant::now();
    deployment.servers[leader].kill();
    deployment.servers[leader].start();
    let next = wait("a server takes writes", || {
        (0..3).find(|server| deployment.write(*server, C, 100).is_ok_and(|answer| answer.ok()))
    });
    assert!(killed.elapsed() < Duration::from_secs(15), "nobody waited for the lease: {:?}", killed.elapsed());
    deployment.wait_in_sync();
    assert_eq!(deployment.numbers(next, C), all(101));
}

/// SIGTERM: what was admitted is finished and leadership handed over, so nobody waits for a lease to end.
#[test]
fn a_leader_told_to_stop_hands_over() {
    let mut deployment = filled(setup().lease_s(30.0).start(), 1000);
    let old = deployment.wait_leader();
    let started = Instant::now();
    assert!(deployment.servers[old].terminate().success());
    let new = deployment.wait_leader_other_than(old);
    assert!(started.elapsed() < Duration::from_secs(15), "nobody waited for the lease: {:?}", started.elapsed());
    assert_eq!(deployment.numbers(new, C), all(1000));
    deployment.servers[old].start();
    assert_eq!(deployment.wait_in_sync(), new);
}

#[test]
fn everything_is_still_there_after_all_processes_were_killed() {
    let mut deployment = filled(setup().start(), 1000);
    let tick = last_tick(&mut deployment.client(deployment.wait_leader()));
    for _ in 0..2 {
        deployment.servers.iter_mut().for_each(|server| server.kill());
        deployment.agents.iter_mut().for_each(|agent| agent.kill());
        deployment.agents.iter_mut().for_each(|agent| agent.start());
        deployment.servers.iter_mut().for_each(|server| server.start());
        let leader = deployment.wait_in_sync();
        for server in 0..3 {
            assert_eq!(deployment.numbers(server, C), all(1000), "server{server}");
        }
        assert!(last_tick(&mut deployment.client(leader)) > tick, "each epoch begins with an entry");
    }
}
