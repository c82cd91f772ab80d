//! Documents expire where a server leads, piece by piece, within its limits.

use super::*;
use crate::db::index::ttl::REMOVALS_MAX;
use serde_json::{Value, json};

/// A plain single server with a collection `c` whose documents are due a second after their moment.
fn alone() -> Rig {
    let mut rig = Rig::new(&[]);
    assert_eq!(rig.server.role(), Role::Leading);
    rig.done(Method::Post, "/_api/collection", json!({"name": "c"}));
    rig.done(Method::Post, "/_api/index?collection=c", json!({"type": "ttl", "fields": ["at"], "expireAfter": 1}));
    rig
}

impl Rig {
    /// What an answer says.
    fn done(&mut self, method: Method, path: &str, body: Value) -> Value {
        self.told(method, path, body).1
    }

    fn count(&mut self) -> u64 {
        self.done(Method::Get, "/_api/collection/c/count", json!({}))["count"].as_u64().unwrap()
    }

    fn statistics(&mut self) -> Value {
        self.done(Method::Get, "/_api/ttl/statistics", json!({}))["result"].clone()
    }

    /// Documents that name the moment now.
    fn insert(&mut self, documents: u64) {
        let at_s = self.now.wall_ms as f64 / 1000.0;
        let all: Vec<Value> = (0..documents).map(|_| json!({"at": at_s})).collect();
        self.done(Method::Post, "/_api/document/c?silent=true", all.into());
    }

    fn expiry_at(&self) -> Option<Time> {
        self.server.expiry_deadline().map(|wake| wake.at)
    }
}

#[test]
fn a_sweep_removes_what_is_due_and_nothing_else() {
    let mut rig = alone();
    rig.insert(2);
    rig.done(Method::Post, "/_api/document/c?silent=true", json!([{"at": "tomorrow"}, {"at": -1}, {"at": 4e9}, {}]));
    rig.pass(29_500);
    rig.insert(1);
    assert_eq!(rig.count(), 7);
    rig.pass(500);
    rig.perform();
    assert_eq!(rig.count(), 5, "only what has been due for a second is gone, though it is the time of the sweep");
    assert_eq!(rig.statistics(), json!({"runs": 1, "documentsRemoved": 2, "limitReached": 0}));
    let next = rig.expiry_at();
    assert_eq!(next, Some(rig.now.time.plus(Duration::from_secs(30))));
    rig.pass(30_000);
    rig.perform();
    assert_eq!(rig.count(), 4);
}

#[test]
fn a_sweep_goes_on_in_pieces_up_to_its_limits() {
    let mut rig = alone();
    let many = REMOVALS_MAX + 10;
    rig.insert(many);
    rig.pass(40_000);
    let pieces = rig.perform().iter().filter(|o| matches!(o, Output::Start { what: Op::Expire(_), .. })).count();
    assert_eq!((pieces, rig.count()), (1, 0), "a second piece follows the first");
    let limits = json!({"maxTotalRemoves": 5, "maxCollectionRemoves": 3, "frequency": 2000});
    let set = rig.done(Method::Put, "/_api/ttl/properties", limits);
    assert_eq!(set["result"]["maxTotalRemoves"], 5);
    assert_eq!(rig.done(Method::Get, "/_api/ttl/properties", json!({}))["result"]["frequency"], 2000);
    rig.insert(12);
    for left in [9, 6, 3] {
        rig.pass(2_000);
        rig.perform();
        assert_eq!(rig.count(), left, "of one collection no more than three each time");
    }
    rig.done(Method::Put, "/_api/ttl/properties", json!({"maxCollectionRemoves": 100, "maxTotalRemoves": 2}));
    rig.pass(2_000);
    rig.perform();
    assert_eq!((rig.count(), rig.statistics()["limitReached"].clone()), (1, json!(1)));
    rig.done(Method::Put, "/_api/ttl/properties", json!({"active": false}));
    assert_eq!(rig.expiry_at(), None);
    rig.pass(4_000);
    assert!(rig.started.is_empty());
}

#[test]
fn nobody_but_a_leader_with_an_open_gate_removes_anything() {
    for mut rig in [Rig::following(), Rig::joined()] {
        assert_eq!(rig.expiry_at(), None);
        let out = rig.pass(60_000);
        assert!(!out.iter().any(|output| matches!(output, Output::Start { what: Op::Expire(_), .. })));
    }
    // A piece that was started under a leadership that is over is refused by the store.
    let mut rig = alone();
    rig.insert(1);
    rig.pass(40_000);
    assert!(matches!(rig.started[..], [(_, Op::Expire(_))]));
    let seen = exec::perform(vec![(OpId(999), Op::See { epoch: Epoch(9) })], &mut rig.store);
    assert!(matches!(seen[0].1, OpResult::Seen { .. }));
    let (op, what) = rig.started.remove(0);
    let result = exec::perform(vec![(op, what)], &mut rig.store).pop().unwrap().1;
    assert!(matches!(result, OpResult::Stale { seen: Epoch(9) }), "{result:?}");
    rig.step(Input::Done { op, result });
    assert!(!rig.server.expires());
}
