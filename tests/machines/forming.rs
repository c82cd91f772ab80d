//! Machines that come together, come back, and come later.

use crate::machine::{JOIN_ALL, Machines};
use serde_json::json;
use tanist_tests::wait::wait_until;

#[test]
fn three_machines_form_a_deployment_and_remember_it() {
    let Some(mut machines) = Machines::new(3) else { return };
    // Any order, any order in the list; who begins waits for the others.
    machines.start(3, &["--starter.join=10.77.0.3:8528,10.77.0.1,10.77.0.2"]);
    machines.start(1, &[JOIN_ALL]);
    machines.wait_says(1, "Waiting for 1 more of the machines");
    machines.start(2, &[JOIN_ALL]);
    let leader = machines.wait_followers(&[1, 2, 3]);
    let endpoints = machines.ask(2, "/endpoints");
    for (kind, port) in [("starters", 8528), ("agents", 8531), ("coordinators", 8529)] {
        let mut urls: Vec<String> = endpoints[kind]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|url| url.as_str().map(str::to_owned))
            .collect();
        urls.sort();
        assert_eq!(urls, [1, 2, 3].map(|n| format!("http://10.77.0.{n}:{port}")), "{endpoints}");
    }
    machines.client(leader).post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    assert!(machines.writes(leader, "before"));
    let (code, text) = machines.tanist(&["status", "--endpoint=tcp://10.77.0.1:8528"]);
    assert!(code == 0 && text.matches("follower").count() >= 2, "{text}");

    // Everything stops; two come back without any flag, and without the third.
    for number in 1..=3 {
        assert!(machines.process(number).terminate().success());
    }
    machines.start(1, &[]);
    machines.start(3, &[]);
    let leader = machines.wait_leader(&[1, 3]);
    wait_until("the document is there", || machines.has(leader, "before"));
    // The third starts while it reaches nobody, and follows once it does.
    machines.cut(2);
    machines.start(2, &[]);
    wait_until("its processes run", || machines.ask(2, "/process")["servers-started"] == json!(true));
    assert!(!machines.serves(2));
    machines.heal(2);
    machines.wait_followers(&[1, 2, 3]);
}

#[test]
fn what_does_not_fit_together_is_said_in_one_line() {
    let Some(mut machines) = Machines::new(4) else { return };
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "a-secret-of-some-length").unwrap();
    let with_secret = format!("--auth.jwt-secret={}", secret.path().display());
    machines.start(1, &["--starter.local=false", "--starter.address=10.77.0.1"]);
    machines.wait_says(1, "Waiting for 2 more");
    for (more, code, text) in [
        (&["--starter.join=10.77.0.1", "--cluster.agency-size=1"][..], 2, "this deployment has an agency of 3"),
        (&["--starter.join=10.77.0.1", &with_secret], 6, "without a secret"),
        (
            &["--starter.join=10.77.0.1", "--starter.address=10.77.0.1", "--starter.port=8529"],
            7,
            "not an address of this machine",
        ),
        (&["--starter.join=10.77.0.1", "--starter.replace=x", "--starter.local=true"], 2, "exclude each other"),
    ] {
        machines.start(2, more);
        let status = machines.process(2).ended();
        let log = machines.process(2).log_text();
        assert!(status.code() == Some(code) && log.contains(text), "{more:?}: {status:?} {log}");
        assert!(!machines.data(2).join("setup.json").exists(), "nothing is remembered of what never ran");
    }
    for number in [2, 3] {
        machines.start(number, &["--starter.join=10.77.0.1"]);
    }
    machines.wait_followers(&[1, 2, 3]);

    // A fourth gets a server, and the others learn of it.
    machines.start(4, &["--starter.join=10.77.0.3"]);
    machines.wait_followers(&[1, 2, 3, 4]);
    wait_until("the first machine knows the fourth", || {
        machines.ask(1, "/endpoints").to_string().contains("10.77.0.4:8529")
    });
    assert!(!machines.ask(1, "/endpoints").to_string().contains("10.77.0.4:8531"), "no agent");

    // A new machine at the address of one that is known.
    machines.process(4).kill();
    std::fs::remove_dir_all(machines.data(4)).unwrap();
    machines.start(4, &["--starter.join=10.77.0.1"]);
    let status = machines.process(4).ended();
    let log = machines.process(4).log_text();
    assert!(status.code() == Some(2) && log.contains("takes the place of a dead one"), "{status:?} {log}");
}

#[test]
fn the_third_machine_may_be_a_witness_only() {
    let Some(mut machines) = Machines::new(3) else { return };
    machines.start(1, &[JOIN_ALL]);
    machines.start(2, &[JOIN_ALL]);
    machines.start(3, &[JOIN_ALL, "--cluster.start-single=false"]);
    let leader = machines.wait_followers(&[1, 2]);
    let processes = machines.ask(3, "/process");
    assert_eq!(processes["servers"].as_array().map(Vec::len), Some(1), "{processes}");
    assert_eq!(processes["servers"][0]["type"], json!("agent"));
    machines.client(leader).post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    assert!(machines.writes(leader, "x"));
    machines.wait_followers(&[1, 2]);
    // The witness makes the difference when the leader's machine dies.
    machines.process(leader).kill();
    let next = machines.wait_leader(&[3 - leader]);
    wait_until("the document is there", || machines.has(next, "x") && machines.writes(next, "y"));
}
