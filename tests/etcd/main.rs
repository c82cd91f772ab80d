//! A deployment whose agency is kept by an etcd: real etcds on loopback, killed, paused and without a quorum. Where no
//! etcd is installed, each test says that it is skipped.

mod cluster;
mod contract;

use cluster::{Cluster, is_there};
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};
use tanist_tests::deployment::{Deployment, Setup};
use tanist_tests::process::Process;
use tanist_tests::starter::Starter;
use tanist_tests::wait::{wait, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tanist-for-tests");
const C: &str = "things";
const LEASE: Duration = Duration::from_secs(2);

/// Two agents and two servers on three etcds, with some documents.
#[track_caller]
fn start(etcds: &Cluster) -> Deployment {
    let setup = Setup::new(PROGRAM).agents(2).servers(2).lease_s(LEASE.as_secs_f64()).etcd(&etcds.address());
    let deployment = setup.start();
    deployment.create_collection(C);
    deployment.insert(deployment.wait_leader(), C, 0..100);
    deployment.wait_in_sync();
    deployment
}

/// No server serves, and the one that did stopped within its lease since `since`.
#[track_caller]
fn stops_in_time(deployment: &Deployment, leader: usize, since: Instant) {
    wait_until("the leader stops", || {
        deployment.write(leader, C, 1_000_000 + since.elapsed().as_micros() as u64).is_ok_and(|a| a.refusal().0 == 503)
    });
    let took = since.elapsed();
    // The lease counts from the last renewal, which was before; a refusal takes a moment to be seen.
    assert!(took <= LEASE + Duration::from_millis(200), "it took {took:?}");
    assert_eq!(deployment.leader(), None);
}

#[track_caller]
fn serves_again(deployment: &Deployment, number: u64) {
    let leader = deployment.wait_leader();
    wait_until("a write succeeds", || {
        deployment.leader().is_some_and(|leader| deployment.write(leader, C, number).is_ok_and(|answer| answer.ok()))
    });
    deployment.wait_in_sync();
    let all = deployment.numbers(leader, C);
    assert!((0..100).chain([number]).all(|number| all.contains(&number)), "nothing that was acknowledged is missing");
}

#[test]
fn losing_etcds_leader_costs_at_most_its_own_election() {
    if !is_there() {
        return;
    }
    let mut etcds = Cluster::start(3);
    let deployment = start(&etcds);
    let etcd = etcds.leader();
    etcds.members[etcd].kill();
    let since = Instant::now();
    serves_again(&deployment, 5000);
    eprintln!("etcd's leader killed: a write succeeded and was replicated after {:?}", since.elapsed());
    etcds.members[etcd].start();
    // Another one hangs: whoever asked it asks the others.
    let hung = etcds.leader();
    etcds.members[hung].pause();
    serves_again(&deployment, 5001);
    etcds.members[hung].resume();
    serves_again(&deployment, 5002);
}

#[test]
fn without_etcd_the_leader_stops_within_its_lease_and_comes_back() {
    if !is_there() {
        return;
    }
    let mut etcds = Cluster::start(3);
    let deployment = start(&etcds);
    let leader = deployment.wait_leader();
    let since = Instant::now();
    etcds.members.iter_mut().for_each(Process::pause);
    stops_in_time(&deployment, leader, since);
    etcds.members.iter_mut().for_each(Process::resume);
    let since = Instant::now();
    serves_again(&deployment, 5000);
    eprintln!("etcd went on: a write succeeded and was replicated after {:?}", since.elapsed());
}

#[test]
fn without_etcds_quorum_the_leader_stops_within_its_lease_and_comes_back() {
    if !is_there() {
        return;
    }
    let mut etcds = Cluster::start(3);
    let deployment = start(&etcds);
    let leader = deployment.wait_leader();
    let since = Instant::now();
    etcds.members[0].kill();
    etcds.members[1].kill();
    stops_in_time(&deployment, leader, since);
    etcds.members[0].start();
    etcds.members[1].start();
    etcds.wait_healthy();
    serves_again(&deployment, 5000);
}

#[test]
fn an_agent_that_dies_is_replaced_and_one_that_returns_takes_its_seat_at_once() {
    if !is_there() {
        return;
    }
    let etcds = Cluster::start(3);
    let mut deployment = start(&etcds);
    let agent = deployment.agency_leader();
    deployment.agents[agent].kill();
    let other = wait("the other agent leads", || {
        let leads = deployment.agency_leader();
        (leads != agent).then_some(leads)
    });
    serves_again(&deployment, 5000);
    // The only agent dies and comes back: nobody has to wait for etcd's lease to end.
    deployment.agents[other].kill();
    deployment.agents[other].start();
    assert_eq!(deployment.agency_leader(), other);
    serves_again(&deployment, 5001);
    // One that stops in good order leaves the seat at once.
    deployment.agents[agent].start();
    assert!(deployment.agents[other].terminate().success());
    let since = Instant::now();
    assert_eq!(deployment.agency_leader(), agent);
    assert!(since.elapsed() < LEASE, "{:?}", since.elapsed());
    serves_again(&deployment, 5002);
}

#[test]
fn under_the_starter_a_killed_leader_is_replaced_at_once_by_its_death_notice() {
    if !is_there() {
        return;
    }
    let etcds = Cluster::start(3);
    let endpoint = format!("--agency.endpoint={}", etcds.address());
    // So long a lease that only the notice can be the reason.
    let starter = Starter::new(PROGRAM.as_ref(), &[&endpoint, "--args.agents.agency.supervision-grace-period=30"]);
    starter.wait_followers();
    let old = wait("a server leads", || starter.leader());
    starter.client(old).post("/_api/collection", &json!({"name": C})).unwrap().expect(200);
    starter.wait_followers();
    let since = Instant::now();
    starter.signal(old, Signal::KILL);
    let new = starter.wait_leader_other_than(old);
    let took = since.elapsed();
    eprintln!("killed under the starter: another served after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    starter.client(new).post(&format!("/_api/document/{C}"), &json!({"_key": "1"})).unwrap().expect(202);
    starter.wait_followers();
}

/// Its agents have no seats: a machine that joins brings one that waits for the leading one's, and it may go again.
#[test]
fn a_machine_joins_a_deployment_on_an_etcd_and_the_upgrade_rolls_over_both() {
    if !is_there() {
        return;
    }
    let etcds = Cluster::start(1);
    let endpoint = format!("--agency.endpoint={}", etcds.address());
    let first = Starter::new(PROGRAM.as_ref(), &["--starter.local=false", "--cluster.agency-size=1", &endpoint]);
    let join = format!("--starter.join=127.0.0.1:{}", first.port);
    let second = Starter::new(PROGRAM.as_ref(), &[&join, "--cluster.start-agent"]);
    let agents = |count: usize| {
        wait_until("the starter knows the agents", || {
            first.ask("/endpoints")["agents"].as_array().is_some_and(|agents| agents.len() == count)
        });
    };
    agents(2);
    let is_well = || {
        let (code, text) = first.command(&["status"]);
        code == 0 && text.contains(" leader ") && text.contains(" follower ") && !text.contains("unreachable")
    };
    wait_until("both servers are well", is_well);
    let (code, text) = wait("the deployment is well enough for an upgrade", || {
        Some(first.command(&["upgrade"])).filter(|(code, _)| *code == 0)
    });
    assert_eq!(text.matches("agent http").count(), 2, "{code}: {text}");
    assert_eq!(text.matches("server http").count(), 2, "{text}");

    let name = format!("127.0.0.1:{}", second.port);
    let (code, text) = first.command(&["agents", "remove", &name]);
    assert_eq!(code, 0, "{text}");
    agents(1);
    let (code, text) = first.command(&["agents", "add", &name]);
    assert_eq!(code, 0, "{text}");
    agents(2);
    wait_until("both servers are well", is_well);
}
