//! Ranges against what a list of values has; what documents have in indexes.

use super::cursor::IndexCursor;
use super::encoding::{encode, tests::any_value};
use super::entries::{TooMany, VALUES_BYTES_MAX, every_of_document, of_document};
use super::scan::IndexRange;
use super::*;
use crate::aql::value::{Value, compare};
use crate::db::mem::MemStore;
use crate::db::store::{Direction, Store, Table};
use crate::db::{KeyOptions, NewCollection, NewIndex, PutError, Revision, Writer};
use crate::types::{Epoch, Lineage};
use bytes::Bytes;
use proptest::prelude::*;
use std::ops::Bound;

pub mod lookup;

fn over(fields: &[&str]) -> NewIndex {
    NewIndex {
        name: None,
        kind: IndexKind::Persistent,
        fields: fields.iter().map(|&field| field.to_owned()).collect(),
        unique: false,
        sparse: false,
        deduplicate: true,
        building: false,
        properties: serde_json::Value::Null,
    }
}

fn defined(new: NewIndex) -> Index {
    let NewIndex { kind, fields, unique, sparse, deduplicate, properties, .. } = new;
    Index { id: 300, name: "i".into(), kind, fields, unique, sparse, deduplicate, building: false, properties }
}

fn collection(kind: CollectionKind) -> NewCollection {
    NewCollection {
        name: "c".into(),
        kind,
        system: false,
        key: KeyOptions::default(),
        wait_for_sync: false,
        properties: serde_json::json!({}),
    }
}

/// A writer in a new database with the id 1.
fn with_writer(test: impl FnOnce(&mut Writer<'_>)) {
    let mut store = MemStore::new();
    let txn = store.begin().unwrap();
    let mut writer = Writer::new(&*txn, Epoch(1), 1_700_000_000_000, 7).unwrap();
    writer.begin_epoch(Lineage(1)).unwrap();
    writer.create_system_database("{}".into()).unwrap();
    test(&mut writer);
}

fn body(members: &[(&str, &Value)]) -> Bytes {
    let members: Vec<String> = members.iter().map(|(name, value)| format!(r#""{name}":{}"#, value.to_json())).collect();
    format!("{{{}}}", members.join(",")).into()
}

#[test]
fn a_document_has_the_values_of_its_attributes() {
    let has = |fields: &[&str], unique: bool, sparse: bool, deduplicate: bool, body: &str| -> Vec<Vec<u8>> {
        let index = defined(NewIndex { unique, sparse, deduplicate, ..over(fields) });
        every_of_document(&index, "k", Revision(1 << 30), &Value::parse(body.as_bytes()).unwrap()).unwrap()
    };
    let bytes = |tuples: &[&str]| -> Vec<Vec<u8>> {
        let tuple = |text: &&str| {
            let Value::Array(values) = Value::parse(text.as_bytes()).unwrap() else { panic!("an array") };
            let mut out = Vec::new();
            values.iter().for_each(|value| encode(value, &mut out));
            out
        };
        tuples.iter().map(tuple).collect()
    };
    for (fields, sparse, body, expected) in [
        (&["a"][..], false, r#"{"a":1}"#, &["[1]"][..]),
        (&["a"], false, r#"{"b":1}"#, &["[null]"]),
        (&["a"], true, r#"{"b":1}"#, &[]),
        (&["a"], true, r#"{"a":null}"#, &[]),
        (&["a", "b"], true, r#"{"a":1}"#, &[]),
        (&["a", "b"], false, r#"{"a":1}"#, &["[1,null]"]),
        (&["a.b.c"], false, r#"{"a":{"b":{"c":true}}}"#, &["[true]"]),
        (&["a.b"], false, r#"{"a":[{"b":1}]}"#, &["[null]"]),
        (&["_key"], false, "{}", &[r#"["k"]"#]),
        (&["_rev"], false, "{}", &[r#"["_-----"]"#]),
        (&["a[*]"], false, r#"{"a":[1,2,1]}"#, &["[1]", "[2]"]),
        (&["a[*]"], false, r#"{"a":[]}"#, &["[null]"]),
        (&["a[*]"], false, r#"{"a":1}"#, &["[null]"]),
        (&["a[*]"], true, r#"{"a":[null,1]}"#, &["[1]"]),
        (&["a[*]"], true, r#"{"a":[]}"#, &[]),
        (&["a[*].b", "c"], false, r#"{"a":[{"b":1},{},3],"c":4}"#, &["[null,4]", "[1,4]"]),
        (&["c", "a[*]"], false, r#"{"a":[2,1],"c":4}"#, &["[4,1]", "[4,2]"]),
        (&["a[*]", "b[*]"], false, r#"{"a":[1,2],"b":[3,4]}"#, &["[1,3]", "[1,4]", "[2,3]", "[2,4]"]),
    ] {
        assert_eq!(has(fields, false, sparse, true, body), bytes(expected), "{fields:?} of {body}");
    }
    assert_eq!(has(&["a[*]"], true, false, false, r#"{"a":[1,1]}"#), bytes(&["[1]", "[1]"]));
    let many: Value = (0..1000).map(Value::Int).collect();
    let many = Value::object([("a", many.clone()), ("b", many)]);
    assert_eq!(of_document(&defined(over(&["a[*]", "b[*]"])), "k", Revision(1), &many), Err(TooMany));
}

#[test]
fn a_unique_index_takes_each_value_once() {
    with_writer(|db| {
        let c = db.create_collection(1, collection(CollectionKind::Document)).unwrap();
        let c = db.create_index(&c, NewIndex { unique: true, ..over(&["a"]) }).unwrap();
        let taken = |result: Result<Revision, PutError>, by: &str| match result {
            Err(PutError::Taken { key, .. }) => assert_eq!(key, by),
            other => panic!("{other:?}"),
        };
        // Longer than a key of the store, and different only at the end.
        let long = |end: &str| Value::String(format!("{}{end}", "x".repeat(3000)).into());
        for (key, value) in [("k1", long("1")), ("k2", long("2")), ("k3", Value::Int(1)), ("k4", Value::Null)] {
            db.put(&c, key, body(&[("a", &value)]), None).unwrap();
            taken(db.put(&c, "other", body(&[("a", &value)]), None), key);
        }
        taken(db.put(&c, "other", "{}".into(), None), "k4");
        let k3 = db.reader().document(&c, "k3").unwrap().unwrap();
        db.put(&c, "k3", body(&[("a", &Value::Double(1.0))]), Some(&k3)).unwrap();
        let k3 = db.reader().document(&c, "k3").unwrap().unwrap();
        taken(db.put(&c, "k3", body(&[("a", &long("2"))]), Some(&k3)), "k2");
        db.remove(&c, &k3).unwrap();
        db.put(&c, "other", body(&[("a", &Value::Int(1))]), None).unwrap();
        let rows = |db: &Writer<'_>| {
            db.reader().rows.scan(Table::Index, Bound::Unbounded, Bound::Unbounded, Direction::Forward).count()
        };
        assert_eq!(rows(db), 4);
        // One that can't be built leaves nothing.
        let error = db.create_index(&c, NewIndex { unique: true, ..over(&["b"]) }).unwrap_err();
        assert!(matches!(error, PutError::Taken { .. }), "{error:?}");
        assert_eq!((rows(db), db.reader().collection(1, "c").unwrap()), (4, Some(c.clone())));
        let c = db.create_index(&c, NewIndex { unique: true, sparse: true, ..over(&["b"]) }).unwrap();
        assert_eq!(check::wrong(&db.reader(), &c).unwrap(), None);
        let c = db.drop_index(&c, c.indexes[0].id).unwrap();
        assert_eq!((db.reader().indexed(c.object).unwrap().len(), c.indexes.len()), (1, 1));
        assert_eq!(check::wrong(&db.reader(), &c).unwrap(), None);
    });
}

#[test]
fn edges_are_found_by_their_ends() {
    with_writer(|db| {
        let c = db.create_collection(1, collection(CollectionKind::Edge)).unwrap();
        for (key, from, to) in [("k1", "v/1", "v/2"), ("k2", "v/1", "v/1"), ("k3", "v/2", "v/1"), ("k4", "v/11", "v/2")]
        {
            db.put(&c, key, format!(r#"{{"_from":"{from}","_to":"{to}"}}"#).into(), None).unwrap();
        }
        let keys =
            |found: &mut dyn Iterator<Item = crate::db::store::StoreResult<crate::db::Document>>| -> Vec<String> {
                found.map(|document| document.unwrap().key).collect()
            };
        assert_eq!(keys(&mut db.reader().edges(&c, &[End::From], "v/1")), ["k1", "k2"]);
        assert_eq!(keys(&mut db.reader().edges(&c, &[End::To], "v/1")), ["k2", "k3"]);
        assert_eq!(keys(&mut db.reader().edges(&c, &[End::To], "v/3")), [""; 0]);
    });
}

fn any_bound() -> impl Strategy<Value = Bound<Value>> {
    prop_oneof![
        Just(Bound::Unbounded),
        indexed_value().prop_map(Bound::Included),
        indexed_value().prop_map(Bound::Excluded),
    ]
}

/// Some are longer than a key of the store; those that are have much in common.
fn indexed_value() -> impl Strategy<Value = Value> {
    let long = (0usize..4, "[ab]{0,2}")
        .prop_map(|(more, end)| Value::String(format!("{}{end}", "a".repeat(VALUES_BYTES_MAX / 8 + 40 * more)).into()));
    prop_oneof![any_value(), long, (0i64..4).prop_map(Value::Int)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A range of an index is what a scan of all documents finds, in order, in both directions; at once and in pages.
    #[test]
    fn a_range_is_what_a_scan_finds(
        values in proptest::collection::vec((indexed_value(), indexed_value()), 0..20),
        first in proptest::option::of(indexed_value()), pick in any::<prop::sample::Index>(),
        from in any_bound(), to in any_bound(), page in 1usize..5,
    ) {
        with_writer(|db| {
            let c = db.create_collection(1, collection(CollectionKind::Document)).unwrap();
            let c = db.create_index(&c, over(&["a", "b"])).unwrap();
            let mut all = Vec::new();
            for (number, (a, b)) in values.iter().enumerate() {
                let revision = db.put(&c, &format!("k{number}"), body(&[("a", a), ("b", b)]), None).unwrap();
                all.push((a, b, revision));
            }
            all.sort_by(|x, y| compare(x.0, y.0).then(compare(x.1, y.1)).then(x.2.cmp(&y.2)));
            // Rather a value that is there.
            let equal = first.map(|first| if values.is_empty() { first } else { pick.get(&values).0.clone() });
            let range = IndexRange { equal: equal.iter().cloned().collect(), from: from.clone(), to: to.clone() };
            let within = |value: &Value| {
                let after = match &from {
                    Bound::Unbounded => true,
                    Bound::Included(from) => compare(value, from).is_ge(),
                    Bound::Excluded(from) => compare(value, from).is_gt(),
                };
                after && match &to {
                    Bound::Unbounded => true,
                    Bound::Included(to) => compare(value, to).is_le(),
                    Bound::Excluded(to) => compare(value, to).is_lt(),
                }
            };
            let fits = |a: &Value, b: &Value| match &equal {
                Some(equal) => compare(a, equal).is_eq() && within(b),
                None => within(a),
            };
            let expected: Vec<Revision> =
                all.iter().filter(|(a, b, _)| fits(a, b)).map(|(_, _, revision)| *revision).collect();
            let found = |direction| -> Vec<Revision> {
                db.reader().index_scan(&c, &c.indexes[0], &range, direction).map(Result::unwrap).collect()
            };
            let in_pages = |direction| -> Vec<Revision> {
                // Twice the same range is one.
                let mut cursor = IndexCursor::new(&c, c.indexes[0].id, [range.clone(), range.clone()], direction);
                let pages = std::iter::from_fn(|| Some(cursor.next(&db.reader(), page).unwrap()));
                pages.take_while(|found| !found.is_empty()).inspect(|found| assert!(found.len() <= page)).flatten().collect()
            };
            assert_eq!(found(Direction::Forward), expected);
            assert_eq!(in_pages(Direction::Forward), expected);
            let expected: Vec<Revision> = expected.into_iter().rev().collect();
            assert_eq!(found(Direction::Backward), expected);
            assert_eq!(in_pages(Direction::Backward), expected);
        });
    }
}
