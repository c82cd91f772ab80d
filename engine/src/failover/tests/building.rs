//! An index is built while writes go on, and whoever asked for it is told once it is there.

use super::*;
use crate::db::store::Store;
use serde_json::{Value, json};

/// A plain single server with a collection `c` of documents whose `n` are these; pieces are of two documents.
fn alone(numbers: &[u64]) -> Rig {
    let mut rig = Rig::new(&[]);
    rig.server.config.build_documents = 2;
    rig.told(Method::Post, "/_api/collection", json!({"name": "c"}));
    for n in numbers {
        rig.put_in(*n);
    }
    rig
}

impl Rig {
    fn put_in(&mut self, n: u64) -> (u16, Value) {
        self.told(Method::Post, "/_api/document/c", json!({"n": n}))
    }

    /// Begins, and carries out so many operations.
    fn begin_index(&mut self, unique: bool, operations: usize) -> RequestId {
        let index = json!({"type": "persistent", "fields": ["n"], "unique": unique, "inBackground": true});
        let (id, _) = self.ask(Method::Post, "/_api/index?collection=c", &index.to_string());
        for _ in 0..operations {
            assert_eq!(answer(&self.perform_one(), id), None, "it is not there yet");
        }
        id
    }

    fn perform_one(&mut self) -> Vec<Output> {
        let (op, what) = self.started.remove(0);
        let (op, result) = exec::perform(vec![(op, what)], &mut self.store).remove(0);
        self.step(Input::Done { op, result })
    }

    /// What was started waits, and this request is carried out.
    fn meanwhile<T>(&mut self, ask: impl FnOnce(&mut Rig) -> T) -> T {
        let waits = std::mem::take(&mut self.started);
        assert!(matches!(waits[..], [(_, Op::Build(_))]), "{waits:?}");
        let told = ask(self);
        assert!(self.started.is_empty());
        self.started = waits;
        told
    }

    fn indexes(&mut self) -> usize {
        self.told(Method::Get, "/_api/index?collection=c", json!({})).1["indexes"].as_array().unwrap().len()
    }

    fn assert_sound(&self) {
        let snapshot = self.store.snapshot().unwrap();
        let reader = crate::db::Reader::new(&*snapshot).unwrap();
        let collection = reader.collection(1, "c").unwrap().unwrap();
        assert_eq!(crate::db::index::check::wrong(&reader, &collection).unwrap(), None);
    }
}

#[test]
fn writes_go_on_meanwhile() {
    let mut rig = alone(&[1, 2, 3, 4, 5, 6, 7]);
    let id = rig.begin_index(true, 2);
    rig.meanwhile(|rig| {
        assert_eq!(rig.indexes(), 1, "it is not shown before it is there");
        assert_eq!(rig.put_in(8).0, 202);
        let explained =
            rig.told(Method::Post, "/_api/explain", json!({"query": "FOR d IN c FILTER d.n == 7 RETURN d"}));
        assert_eq!(explained.1["plan"]["nodes"][1]["type"], "EnumerateCollectionNode");
        rig.assert_sound();
    });
    let out = rig.perform();
    let (status, body) = answer(&out, id).expect("it is there");
    assert_eq!((status, &body["isNewlyCreated"], &body["unique"]), (201, &json!(true), &json!(true)), "{body}");
    assert_eq!(rig.indexes(), 2);
    assert_eq!(rig.put_in(8).1["errorNum"], 1210);
    assert_eq!(rig.put_in(9).0, 202);
    rig.assert_sound();
}

#[test]
fn what_is_double_ends_it() {
    for (before, operations, meanwhile) in [
        // Two were there.
        (&[1, 2, 3, 4, 1][..], 0, None),
        // One came before all had their entries, and nobody could know.
        (&[1, 2, 3, 4, 5], 2, Some(5)),
        (&[1, 2, 3, 4, 5], 2, Some(1)),
    ] {
        let mut rig = alone(before);
        let id = rig.begin_index(true, operations);
        if let Some(n) = meanwhile {
            rig.meanwhile(|rig| assert_eq!(rig.put_in(n).0, 202));
        }
        let out = rig.perform();
        let (status, body) = answer(&out, id).expect("it can't be");
        assert_eq!((status, &body["errorNum"]), (400, &json!(1210)), "{body}");
        assert_eq!(rig.indexes(), 1);
        rig.assert_sound();
        let plain = rig.begin_index(false, 0);
        let out = rig.perform();
        assert_eq!(answer(&out, plain).expect("it is there").0, 201);
        rig.assert_sound();
    }
}

#[test]
fn a_value_is_refused_as_soon_as_all_documents_are_in_it() {
    let mut rig = alone(&[1, 2, 3]);
    // It is defined, then two pieces, then a look at what is there.
    let id = rig.begin_index(true, 4);
    rig.meanwhile(|rig| assert_eq!(rig.put_in(2).1["errorNum"], 1210));
    let out = rig.perform();
    assert_eq!(answer(&out, id).expect("it is there").0, 201);
}

#[test]
fn who_asks_for_the_same_waits_for_it() {
    let mut rig = alone(&[1, 2, 3]);
    let first = rig.begin_index(false, 2);
    let second = rig.meanwhile(|rig| {
        let second = rig.begin_index(false, 1);
        assert!(rig.started.is_empty());
        second
    });
    let out = rig.perform();
    for id in [first, second] {
        assert_eq!(answer(&out, id).expect("it is there").0, 201);
    }
    assert_eq!(rig.indexes(), 2);
}

/// Who waits for it is told that it is gone, whatever has taken it away.
#[test]
fn an_index_that_is_dropped_meanwhile_is_answered_for() {
    let index = "/_api/index?collection=c";
    for (method, path) in [
        (Method::Delete, "/_api/collection/c".to_owned()),
        (Method::Delete, "/_api/index/c/name".to_owned()),
        (Method::Delete, "/_db/shop/_api/collection/c".to_owned()),
    ] {
        let mut rig = alone(&[1, 2, 3, 4, 5]);
        let definition = json!({"type": "persistent", "name": "name", "fields": ["n"], "inBackground": true});
        let (id, _) = rig.ask(Method::Post, index, &definition.to_string());
        assert_eq!(answer(&rig.perform_one(), id), None);
        assert_eq!(answer(&rig.perform_one(), id), None);
        let there = !path.starts_with("/_db");
        let mut out = Vec::new();
        rig.meanwhile(|rig| {
            let (asked, told) = rig.ask(method, &path, "");
            out.extend(told);
            out.extend(rig.perform());
            assert_eq!(answer(&out, asked).expect("an answer").0, if there { 200 } else { 404 });
        });
        out.extend(rig.perform());
        let (status, body) = answer(&out, id).expect("it is told");
        match there {
            true => assert_eq!((status, &body["errorNum"]), (404, &json!(1212)), "{body}"),
            false => assert_eq!(status, 201),
        }
        assert!(rig.started.is_empty());
    }
}

#[test]
fn a_process_that_leaves_has_the_next_one_go_on() {
    let mut rig = alone(&[1, 2, 3, 4, 5]);
    let id = rig.begin_index(true, 2);
    let mut out = rig.step(Input::Stop);
    out.extend(rig.perform());
    for _ in 0..100 {
        out.extend(rig.pass(100));
        out.extend(rig.perform());
    }
    let (status, body) = answer(&out, id).expect("everybody is answered");
    assert!(status == 201 || body["errorNum"] == 1457, "{status} {body}");
    let config = rig.server.config.clone();
    let Saved::Server(saved) = exec::open(&mut rig.store, &Config::Server(config.clone()), rig.now, 2).unwrap() else {
        panic!("a server's store")
    };
    rig.server = Server::boot(config, saved, 2, rig.now);
    rig.started.clear();
    rig.step(Input::Timer);
    rig.perform();
    assert_eq!(rig.indexes(), 2, "nobody had to ask");
    assert_eq!(rig.put_in(3).1["errorNum"], 1210);
    rig.assert_sound();
}

/// A leader that is deposed does not say what becomes of the index.
#[test]
fn the_outcome_is_unknown_once_somebody_else_leads() {
    let mut rig = Rig::leading();
    rig.server.config.build_documents = 1;
    rig.told(Method::Post, "/_api/collection", json!({"name": "c"}));
    for n in 0..4 {
        rig.put_in(n);
    }
    let id = rig.begin_index(true, 2);
    let mut out = rig.hear(&agent(1), Message::Lead(leads(1, 4, &other(2), Boot(9))));
    out.extend(rig.perform());
    let (status, body) = answer(&out, id).expect("it is told");
    assert_eq!((status, &body["errorNum"]), (504, &json!(1457)), "{body}");
}
