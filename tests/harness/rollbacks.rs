//! What a server keeps of operations that a failover has undone.

use crate::http::Client;
use serde_json::Value;

/// The operations of all its rollback records, as `before` and `after` of a document or what else they were about.
#[track_caller]
pub fn operations(client: &mut Client) -> Vec<Value> {
    let list = client.get("/_api/tanist/rollbacks").expect("an answer").expect(200).json();
    let mut operations = Vec::new();
    for record in list["result"].as_array().expect("a list of records") {
        let id = record["id"].as_str().expect("a record has an id");
        let mut after = String::new();
        // In pages, each after the last entry of the one before.
        loop {
            let page = format!("/_api/tanist/rollbacks/{id}{after}");
            let text = client.get(&page).expect("an answer").expect(200).text();
            let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let Some((epoch, tick)) = lines.last().and_then(|last| last["epoch"].as_u64().zip(last["tick"].as_u64()))
            else {
                operations.extend(lines);
                break;
            };
            after = format!("?after={epoch}/{tick}");
            operations.extend(lines);
        }
    }
    operations
}
