//! Machines that come and go while the deployment runs: growing the agency, replacing the dead, removing.

use crate::machine::{JOIN_ALL, Machines};
use serde_json::{Value, json};
use tanist_tests::wait::{wait, wait_until};

/// Who has a seat in the agency: the machines' numbers, sorted.
fn seats(machines: &Machines, entry: usize) -> Vec<usize> {
    let (code, text) = machines.tanist(&["agents", "--endpoint", &format!("tcp://10.77.0.{entry}:8528")]);
    if code != 0 {
        return Vec::new();
    }
    let seated = text.lines().skip(1).filter(|line| !line.contains("catching up"));
    let number = |line: &str| line.split("10.77.0.").nth(1)?.split(':').next()?.parse().ok();
    let mut seats: Vec<usize> = seated.filter_map(number).collect();
    seats.sort_unstable();
    seats
}

#[test]
fn an_agency_grows_from_one_to_three() {
    let Some(mut machines) = Machines::new(3) else { return };
    machines.start(1, &["--starter.local=false", "--starter.address=10.77.0.1", "--cluster.agency-size=1"]);
    assert_eq!(machines.wait_leader(&[1]), 1);
    machines.client(1).post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    assert!(machines.writes(1, "alone"));
    // The second brings its agent with it, the third gets one later.
    machines.start(2, &["--starter.join=10.77.0.1", "--cluster.start-agent"]);
    machines.start(3, &["--starter.join=10.77.0.1"]);
    machines.wait_followers(&[1, 2, 3]);
    wait_until("the second agent has a seat", || seats(&machines, 1) == [1, 2]);
    let (code, text) = machines.tanist(&["agents", "add", "10.77.0.3", "--endpoint=tcp://10.77.0.1:8528"]);
    assert!(code == 0 && text.matches("AGNT-").count() == 3, "{code} {text}");
    assert!(machines.writes(1, "grown"));
    machines.wait_followers(&[1, 2, 3]);
    // Now the first machine may die, its agent and its leader with it.
    machines.process(1).kill();
    let new = machines.wait_leader(&[2, 3]);
    wait_until("everything is there, and it writes", || {
        machines.has(new, "alone") && machines.has(new, "grown") && machines.writes(new, "after")
    });
    // It comes back and follows; taken out, its agent is no longer there.
    machines.start(1, &[]);
    machines.wait_followers(&[1, 2, 3]);
    let (code, text) = machines.tanist(&["agents", "remove", "10.77.0.1:8528", "--endpoint=tcp://10.77.0.2:8528"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(seats(&machines, 2), [2, 3]);
    wait_until("its agent stops", || {
        machines.ask(1, "/process")["servers"].as_array().is_some_and(|processes| processes.len() == 1)
    });
    let (code, text) = machines.tanist(&["agents", "add", "nowhere", "--endpoint=tcp://10.77.0.2:8528"]);
    assert!(code == 1 && text.contains("no machine nowhere"), "{code} {text}");
}

#[test]
fn a_dead_machine_is_replaced() {
    let Some(mut machines) = Machines::new(4) else { return };
    for number in 1..=3 {
        machines.start(number, &[JOIN_ALL]);
    }
    let leader = machines.wait_followers(&[1, 2, 3]);
    machines.client(leader).post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    assert!(machines.writes(leader, "x"));
    machines.wait_followers(&[1, 2, 3]);

    // Dead for ever, leader or not; another machine takes its place.
    machines.process(3).kill();
    std::fs::remove_dir_all(machines.data(3)).unwrap();
    machines.start(4, &["--starter.join=10.77.0.1", "--starter.replace=10.77.0.3"]);
    machines.wait_says(4, "has taken the place of 10.77.0.3:8528");
    let leader = machines.wait_followers(&[1, 2, 4]);
    assert!(machines.has(leader, "x") && machines.writes(leader, "y"));
    assert_eq!(seats(&machines, 1), [1, 2, 4]);

    // The same machine comes back empty, at its old address: its place is taken by its new self.
    let victim = if leader == 1 { 2 } else { 1 };
    machines.process(victim).kill();
    std::fs::remove_dir_all(machines.data(victim)).unwrap();
    let replace = format!("--starter.replace=10.77.0.{victim}");
    machines.start(victim, &["--starter.join=10.77.0.4", &replace]);
    machines.wait_says(victim, "has taken the place of");
    let leader = machines.wait_followers(&[1, 2, 4]);
    assert_eq!(seats(&machines, 4), [1, 2, 4]);
    // The agency bears the loss of any of the three.
    machines.process(4).kill();
    let rest = machines.wait_leader(&[1, 2]);
    wait_until("everything is there", || machines.has(rest, "x") && machines.has(rest, "y"));
    let _ = leader;
}

#[test]
fn a_follower_is_removed_and_a_leader_is_not() {
    let Some(mut machines) = Machines::new(4) else { return };
    for number in 1..=3 {
        machines.start(number, &[JOIN_ALL]);
    }
    machines.wait_followers(&[1, 2, 3]);
    machines.start(4, &["--starter.join=10.77.0.2"]);
    let leader = machines.wait_followers(&[1, 2, 3, 4]);
    let other = if leader == 1 { 2 } else { 1 };
    let endpoint = format!("--endpoint=tcp://10.77.0.{other}:8528");
    let (code, text) = machines.tanist(&["remove", &format!("10.77.0.{leader}"), &endpoint]);
    assert!(code == 1 && text.contains("hand over first"), "{code} {text}");
    let (code, text) = machines.tanist(&["remove", &format!("10.77.0.{other}"), &endpoint]);
    assert!(code == 1 && text.contains("does not remove itself"), "{code} {text}");
    let (code, text) = machines.tanist(&["remove", "10.77.0.4", &endpoint]);
    assert!(code == 0 && text.contains("is removed"), "{code} {text}");
    machines.process(4).ended();
    let status = wait("the others know", || {
        let (code, text) = machines.tanist(&["status", "--json", &endpoint]);
        let status: Value = serde_json::from_str(&text).ok()?;
        (code == 0 && status["servers"].as_array()?.len() == 3).then_some(status)
    });
    // (The leader may still count it among those whose log it keeps for a while.)
    let known: Vec<&Value> = status["agency"]["servers"].as_array().into_iter().flatten().collect();
    assert!(
        known.len() == 3 && known.iter().all(|server| server["endpoint"] != json!("tcp://10.77.0.4:8529")),
        "{status}"
    );
    // Started again it finds that it has no place any more.
    machines.start(4, &[]);
    machines.wait_says(4, "was removed from the deployment");
    assert!(!machines.process(4).ended().success());
}
