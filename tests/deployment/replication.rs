//! Followers that are new, far behind, full, wiped or cloned.

use crate::setup;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tanist_tests::deployment::{Deployment, number};
use tanist_tests::wait::{stays, wait, wait_until};

const C: &str = "replicated";

fn all(count: u64) -> Vec<u64> {
    (0..count).collect()
}

/// The log is pruned below what the follower has: it must copy everything, and its copy survives being killed.
#[test]
fn a_follower_far_behind_copies_everything_even_if_killed_meanwhile() {
    let setup = setup().agents(1).servers(2).server_argument("--replication.log-keep=5");
    let mut deployment = setup.server_argument("--replication.log-keep-cap=50").start();
    deployment.create_collection(C);
    let leader = deployment.wait_leader();
    let follower = deployment.followers()[0];
    deployment.servers[follower].kill();
    deployment.insert(leader, C, 0..20_000);
    for number in 20_000..20_100 {
        assert!(deployment.write(leader, C, number).unwrap().ok());
    }
    wait_until("the log has been pruned", || {
        let answer = deployment.client(leader).get("/_api/replication/logger-first-tick").unwrap().json();
        number(&answer["firstTick"]) > Some(50)
    });
    deployment.servers[follower].start();
    wait_until("the copy has begun", || deployment.servers[follower].log_text().contains("copies everything"));
    deployment.servers[follower].kill();
    deployment.servers[follower].start();
    assert_eq!(deployment.wait_in_sync(), leader);
    assert_eq!(deployment.numbers(follower, C), all(20_100));

    // What was copied is as good as what was shipped: this server can lead.
    deployment.servers[leader].kill();
    assert_eq!(deployment.wait_leader_other_than(leader), follower);
    deployment.insert(follower, C, 20_100..20_200);
    assert_eq!(deployment.numbers(follower, C), all(20_200));
}

/// An index over many documents is built in pieces: writes are answered meanwhile, and it is there on whoever leads
/// next.
#[test]
fn an_index_is_built_while_writes_go_on() {
    let mut deployment = setup().agents(1).servers(2).start();
    deployment.create_collection(C);
    let leader = deployment.wait_leader();
    deployment.insert(leader, C, 0..30_000);
    let index = json!({"type": "persistent", "fields": ["value"], "unique": true});
    let mut written = 30_000;
    std::thread::scope(|scope| {
        let built = scope.spawn(|| {
            let answer = deployment.client(leader).post(&format!("/_api/index?collection={C}"), &index).unwrap();
            answer.expect(201).json()["isNewlyCreated"].clone()
        });
        while !built.is_finished() {
            assert!(deployment.write(leader, C, written).unwrap().ok());
            written += 1;
        }
        assert_eq!(built.join().unwrap(), json!(true));
    });
    assert!(written > 30_002, "only {} writes were answered meanwhile", written - 30_000);
    assert_eq!(deployment.wait_in_sync(), leader);
    deployment.servers[leader].kill();
    let follower = deployment.wait_leader_other_than(leader);
    let mut client = deployment.client(follower);
    let query = json!({"query": format!("FOR d IN {C} FILTER d.value == {} RETURN d._key", written - 1)});
    let plan = client.post("/_api/explain", &query).unwrap().expect(200).json()["plan"].to_string();
    assert!(plan.contains("IndexNode"), "{plan}");
    let found = client.post("/_api/cursor", &query).unwrap().expect(201).json()["result"].clone();
    assert_eq!(found, json!([(written - 1).to_string()]));
    let again = client.post(&format!("/_api/document/{C}"), &json!({"value": 7})).unwrap();
    assert_eq!(again.refusal(), (409, 1210));
    assert_eq!(deployment.numbers(follower, C), all(written));
}

/// Collections and databases dropped, renamed and truncated while a follower is away.
#[test]
fn definitions_are_replicated_like_documents() {
    let mut deployment = setup().agents(1).servers(2).start();
    let leader = deployment.wait_leader();
    let follower = deployment.followers()[0];
    let mut client = deployment.client(leader);
    for name in ["kept", "dropped", "renamed", "emptied"] {
        client.post("/_api/collection", &json!({"name": name})).unwrap().expect(200);
        deployment.insert(leader, name, 0..10);
    }
    client.post("/_api/database", &json!({"name": "shop"})).unwrap().expect(201);
    client.post("/_db/shop/_api/collection", &json!({"name": "edges", "type": 3})).unwrap().expect(200);
    client.post("/_api/database", &json!({"name": "gone"})).unwrap().expect(201);
    deployment.wait_in_sync();
    deployment.servers[follower].kill();
    client.delete("/_api/collection/dropped").unwrap().expect(200);
    client.put("/_api/collection/renamed/rename", &json!({"name": "other"})).unwrap().expect(200);
    client.put("/_api/collection/emptied/truncate", &json!({})).unwrap().expect(200);
    client.delete("/_api/database/gone").unwrap().expect(200);
    client.post("/_api/user", &json!({"user": "ann", "passwd": "x"})).unwrap().expect(201);
    deployment.servers[follower].start();
    deployment.wait_in_sync();
    // The same on both, seen from the follower once it leads.
    let look = |deployment: &Deployment, server: usize| {
        let mut client = deployment.client(server);
        let mut seen = Vec::new();
        for target in
            ["/_api/collection?excludeSystem=true", "/_api/database", "/_db/shop/_api/collection", "/_api/user"]
        {
            let mut result = client.get(target).unwrap().expect(200).json()["result"].as_array().unwrap().clone();
            result.sort_by_key(ToString::to_string);
            seen.push(json!(result));
        }
        seen.push(client.get("/_api/document/kept/3").unwrap().expect(200).json());
        seen.push(client.get("/_api/collection/emptied/count").unwrap().expect(200).json()["count"].clone());
        seen.push(client.get("/_api/collection/other/count").unwrap().expect(200).json()["count"].clone());
        json!(seen)
    };
    let before = look(&deployment, leader);
    deployment.servers[leader].kill();
    deployment.wait_leader_other_than(leader);
    assert_eq!(look(&deployment, follower), before);
    assert_eq!(before[5], json!(0));
}

/// A follower whose disk is full falls behind and says so; with room it goes on where it was.
#[test]
fn a_follower_with_a_full_disk_goes_on_when_it_has_room() {
    let mut deployment = setup().agents(1).servers(1).start();
    deployment.create_collection(C);
    let leader = deployment.wait_leader();
    let small = deployment.add_server();
    deployment.servers[small].arguments.push("--storage.map-size=1m".to_owned());
    deployment.servers[small].start();
    deployment.wait_in_sync();
    deployment.insert(leader, C, 0..20_000);
    wait_until("it says that it is full", || deployment.servers[small].log_text().contains("full"));
    stays(Duration::from_millis(1500), "the leader goes on", || {
        deployment.leader() == Some(leader) && deployment.servers[small].active()
    });
    assert!(deployment.servers[small].has_ended().is_none(), "it is no reason to crash");
    deployment.servers[small].terminate();
    deployment.servers[small].arguments.retain(|argument| !argument.starts_with("--storage.map-size"));
    deployment.servers[small].start();
    assert_eq!(deployment.wait_in_sync(), leader);
    assert_eq!(deployment.numbers(small, C), all(20_000));
}

/// A server that comes back with an empty directory is new: it copies, and the empty one is never elected meanwhile.
#[test]
fn a_wiped_leader_does_not_empty_the_others() {
    let mut deployment = setup().agents(1).servers(3).start();
    deployment.create_collection(C);
    let leader = deployment.wait_leader();
    deployment.insert(leader, C, 0..1000);
    deployment.wait_in_sync();
    deployment.servers[leader].kill();
    std::fs::remove_dir_all(deployment.data_directory(leader)).unwrap();
    deployment.servers[leader].start();
    let new = deployment.wait_leader_other_than(leader);
    assert_eq!(deployment.numbers(new, C), all(1000));
    deployment.wait_in_sync();
    assert_eq!(deployment.numbers(leader, C), all(1000), "it has copied");
}

/// Two processes with one identity: a directory was copied to set up "another" server.
#[test]
fn a_cloned_directory_does_not_corrupt_the_deployment() {
    let (mut deployment, _, follower) = follower_stopped(1000);
    let clone = deployment.add_server();
    copy_files(&deployment.data_directory(follower), &deployment.data_directory(clone));
    deployment.servers[follower].start();
    deployment.servers[clone].start();
    // The one that registered last is the member; the other one says that it is none.
    wait_until("one of the two knows that it is one too many", || {
        [follower, clone]
            .iter()
            .any(|server| deployment.servers[*server].log_text().contains("is its directory a copy?"))
    });
    for number in 1000..1100 {
        let leader = deployment.wait_leader();
        let answer = deployment.write(leader, C, number);
        assert!(answer.is_ok_and(|answer| answer.ok()), "document {number}");
    }
    deployment.servers[clone].kill();
    deployment.servers[follower].terminate();
    deployment.servers[follower].start();
    let leader = deployment.wait_in_sync();
    assert_eq!(deployment.numbers(leader, C), all(1100));
    assert_eq!(deployment.numbers(follower, C), all(1100));
}

/// A directory is put back as it was before the last epoch: it is recognised by its epoch history, and refused. Nothing
/// is lost, and the operator lets it in again as an empty one.
#[test]
fn an_old_copy_of_a_directory_is_refused_until_it_is_emptied() {
    let (mut deployment, first, second) = follower_stopped(100);
    let (directory, copy) = (deployment.data_directory(second), deployment.directory().join("copy"));
    copy_files(&directory, &copy);
    deployment.servers[second].start();
    deployment.wait_in_sync();
    // It leads an epoch that the copy has never seen.
    deployment.servers[first].kill();
    assert_eq!(deployment.wait_leader_other_than(first), second);
    deployment.insert(second, C, 100..200);
    deployment.servers[first].start();
    deployment.wait_in_sync();
    deployment.servers[second].terminate();
    assert_eq!(deployment.wait_leader_other_than(second), first);
    std::fs::remove_dir_all(&directory).unwrap();
    copy_files(&copy, &directory);
    deployment.servers[second].start();
    wait_until("the server says why it may not join", || {
        deployment.servers[second].log_text().contains("an old copy of its directory was restored")
    });
    assert_eq!(deployment.numbers(first, C), all(200));
    assert_eq!(deployment.leader(), Some(first));
    // With nothing in its directory it is a new member, and copies all.
    deployment.servers[second].kill();
    std::fs::remove_dir_all(&directory).unwrap();
    deployment.servers[second].start();
    assert_eq!(deployment.wait_in_sync(), first);
    assert_eq!(deployment.numbers(second, C), all(200));
}

/// Two servers with so many documents: the leader, and the follower, which is stopped.
fn follower_stopped(documents: u64) -> (Deployment, usize, usize) {
    let mut deployment = setup().agents(1).servers(2).start();
    deployment.create_collection(C);
    let leader = deployment.wait_leader();
    let follower = deployment.followers()[0];
    deployment.insert(leader, C, 0..documents);
    deployment.wait_in_sync();
    deployment.servers[follower].terminate();
    (deployment, leader, follower)
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// With one agent of three gone everything goes on; with two gone nobody can lead; and back again.
#[test]
fn leadership_needs_a_majority_of_agents() {
    let mut deployment = setup().agents(3).servers(2).start();
    deployment.create_collection(C);
    let leader = deployment.wait_leader();
    deployment.insert(leader, C, 0..10);
    let spare = (0..3).find(|agent| *agent != deployment.agency_leader()).unwrap();
    deployment.agents[spare].kill();
    stays(Duration::from_millis(2500), "the leader leads", || deployment.leader() == Some(leader));
    let second = (0..3).find(|agent| *agent != spare).unwrap();
    deployment.agents[second].kill();
    wait_until("nobody leads", || deployment.leader().is_none());
    stays(Duration::from_millis(1500), "nobody leads", || deployment.leader().is_none());
    deployment.agents[second].start();
    wait("somebody leads again", || deployment.leader());
    deployment.agents[spare].start();
    let leader = deployment.wait_in_sync();
    assert_eq!(deployment.numbers(leader, C), all(10));
}
