//! What the clients were told, held against what is there in the end.

use crate::clients::{Acknowledged, COLLECTION, Change, Done, History};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tanist_tests::http::Client;
use tanist_tests::rollbacks;

/// What became of the acknowledged writes.
#[derive(Default)]
pub struct Verdict {
    pub acknowledged: usize,
    /// Acknowledged, and undone by a failover: when each was, since the soak began.
    pub lost_at: Vec<Duration>,
    /// Acknowledged by an earlier epoch to a request that was sent after a later epoch had acknowledged one: when.
    pub overlapped_at: Vec<Instant>,
    /// What must not be.
    pub broken: Vec<String>,
}

/// What rollback records hold: numbers whose storing was undone, and numbers whose removal was.
#[derive(Default)]
pub struct Undone {
    pub stored: BTreeSet<u64>,
    pub removed: BTreeSet<u64>,
}

/// Gathers the rollback records of all servers.
pub fn undone(servers: &mut [Client]) -> Undone {
    let mut undone = Undone::default();
    for operation in servers.iter_mut().flat_map(rollbacks::operations) {
        match (operation["before"]["value"].as_u64(), operation["after"]["value"].as_u64()) {
            (_, Some(after)) => drop(undone.stored.insert(after)),
            (Some(before), None) => drop(undone.removed.insert(before)),
            (None, None) => {}
        }
    }
    undone
}

/// All documents of a server, by key.
pub fn documents(client: &mut Client) -> BTreeMap<String, u64> {
    let body = json!({"collection": COLLECTION, "batchSize": 100_000_000}).to_string();
    let dirty = [("X-Arango-Allow-Dirty-Read", "true")];
    let answer = client.send("PUT", "/_api/simple/all", &dirty, body.as_bytes()).expect("an answer").expect(201);
    let body = answer.json();
    assert_eq!(body["hasMore"], json!(false), "all in one batch");
    let documents = body["result"].as_array().expect("a result");
    let pair = |document: &Value| Some((document["_key"].as_str()?.to_owned(), document["value"].as_u64()?));
    documents.iter().filter_map(pair).collect()
}

pub fn judge(history: &History, there: &BTreeMap<String, u64>, undone: &Undone) -> Verdict {
    let mut verdict = Verdict { broken: history.wrong.clone(), ..Verdict::default() };
    for (key, operations) in &history.operations {
        judge_key(key, operations, there.get(key).copied(), undone, &mut verdict);
    }
    for key in there.keys().filter(|key| !history.operations.contains_key(*key)) {
        verdict.broken.push(format!("{key} is there, and nobody wrote it"));
    }
    verdict.overlapped_at = overlapped(&history.acknowledged);
    verdict
}

/// The key must hold what the last operation left, or an earlier one if all acknowledged ones after it are in a
/// rollback record.
fn judge_key(key: &str, operations: &[Done], there: Option<u64>, undone: &Undone, verdict: &mut Verdict) {
    let leaves = |done: &Done| match done.change {
        Change::Store(number) => Some(number),
        Change::Remove(_) => None,
    };
    let is_undone = |done: &Done| match done.change {
        Change::Store(number) => undone.stored.contains(&number),
        Change::Remove(number) => undone.removed.contains(&number),
    };
    verdict.acknowledged += operations.iter().filter(|done| done.acknowledged).count();
    // How many operations are in the data, at most.
    let mut kept = operations.len();
    while kept > 0 && leaves(&operations[kept - 1]) != there {
        kept -= 1;
    }
    if kept == 0 && there.is_some() {
        return verdict.broken.push(format!("{key} holds {there:?}, which nobody stored there"));
    }
    for done in operations[kept..].iter().filter(|done| done.acknowledged) {
        verdict.lost_at.push(Duration::from_millis(u64::from(done.at_ms)));
        if !is_undone(done) {
            verdict
                .broken
                .push(format!("{key}: {:?} was acknowledged, is gone, and in no rollback record", done.change));
        }
    }
}

/// Of one history of leaders: once a later epoch has acknowledged, nothing that is sent afterwards is acknowledged by
/// an earlier one (I5).
fn overlapped(acknowledged: &[Acknowledged]) -> Vec<Instant> {
    let mut by_reception: Vec<&Acknowledged> = acknowledged.iter().collect();
    by_reception.sort_by_key(|ack| ack.received);
    let mut by_sending = by_reception.clone();
    by_sending.sort_by_key(|ack| ack.sent);
    let (mut latest, mut next, mut found) = (0, 0, Vec::new());
    let at = |index: usize| -> Option<Instant> { by_reception.get(index).map(|ack: &&Acknowledged| ack.received) };
    for ack in by_sending {
        while at(next).is_some_and(|received| received < ack.sent) {
            latest = latest.max(by_reception[next].epoch);
            next += 1;
        }
        if ack.epoch < latest {
            found.push(ack.received);
        }
    }
    found
}
