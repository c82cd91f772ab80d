//! What a failover has cost, and how an operator brings it back: `tanist failovers` and `tanist rollbacks`.

use crate::failover::{C, all, filled};
use crate::{PROGRAM, setup};
use serde_json::{Value, json};
use std::process::Command;
use tanist_tests::deployment::Deployment;
use tanist_tests::process::run;
use tanist_tests::wait::wait;

/// One of the program's commands about this deployment: its exit code and what it printed.
fn tanist(deployment: &Deployment, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(PROGRAM);
    command.args(words).arg(format!("--endpoint=tcp://{}", deployment.address(0)));
    run(&mut command)
}

#[test]
fn what_a_failover_has_cost_is_known_exactly_and_can_be_written_again() {
    let mut deployment = filled(setup().start(), 100);
    let old = deployment.wait_leader();
    let followers = deployment.followers();
    followers.iter().for_each(|server| deployment.servers[*server].kill());
    deployment.insert(old, C, 100..105);
    deployment.servers[old].kill();
    followers.iter().for_each(|server| deployment.servers[*server].start());
    let new = deployment.wait_leader_other_than(old);
    // Somebody writes in the place of one of them meanwhile.
    deployment.insert(new, C, 103..104);
    let path = format!("/_api/document/{C}/103");
    deployment.client(new).send("PATCH", &path, &[], br#"{"other":true}"#).unwrap().expect(202);
    deployment.servers[old].start();
    deployment.wait_in_sync();

    let lost = wait("the account is complete", || {
        let (_, text) = tanist(&deployment, &["failovers", "--json"]);
        let list: Value = serde_json::from_str(&text).ok()?;
        let record = list.as_array()?.iter().find(|record| record["kind"] == "failover")?.clone();
        (record["loss"]["exact"] == json!(true)).then_some(record["loss"].clone())
    });
    // One request was one transaction.
    assert_eq!((&lost["operations"], &lost["ticks"]), (&json!(5), &json!(1)), "{lost}");

    let (code, text) = tanist(&deployment, &["rollbacks", "list"]);
    let record = text.lines().nth(1).unwrap_or_default().split_whitespace().nth(1).unwrap_or_default().to_owned();
    assert_eq!((code, text.lines().count()), (0, 2), "{text}");
    let file = deployment.directory().join("export.jsonl");
    let output = format!("--output={}", file.display());
    assert_eq!(tanist(&deployment, &["rollbacks", "export", &record, &output]).0, 0);
    let exported = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() == 5 && lines.iter().all(|line| line["kind"] == "insert"), "{exported}");
    assert_eq!(tanist(&deployment, &["rollbacks", "show", &record]), (0, exported));
    let (code, text) = tanist(&deployment, &["rollbacks", "export", &record, &output]);
    assert!(code == 1 && text.contains("exists"), "a file is never written over: {text}");

    let (code, text) = tanist(&deployment, &["rollbacks", "reapply", &record]);
    assert!(code == 1 && text.contains(&format!("Conflict: _system/{C}/103")), "{text}");
    deployment.wait_in_sync();
    assert_eq!(deployment.numbers(new, C), all(105));
    let document = deployment.client(new).get(&path).unwrap().json();
    assert_eq!(document["other"], json!(true), "what was written since stays");
    let again = tanist(&deployment, &["rollbacks", "reapply", &record]).1;
    let counts = |line: &str| line.split_whitespace().take(3).eq(["0", "4", "1"]);
    assert!(again.lines().any(counts), "what is there already is left alone: {again}");
    let (code, text) = tanist(&deployment, &["rollbacks", "reapply", &record, "--force"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(deployment.client(new).get(&path).unwrap().json()["other"], Value::Null);

    assert_eq!(tanist(&deployment, &["rollbacks", "remove", &record]), (0, "Removed.\n".to_owned()));
    assert_eq!(tanist(&deployment, &["rollbacks", "list"]).1.lines().count(), 1);
    assert_eq!(tanist(&deployment, &["rollbacks", "show", &record]).0, 1);
}
