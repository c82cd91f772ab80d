//! Which way each loop of a query takes, for indexes that a collection has.

use super::access::By;
use super::rules::Rules;
use super::*;
use crate::aql::parser;
use crate::db::{CollectionKind, Index, IndexKind, KeyOptions};

fn index(name: &str, fields: &[&str], unique: bool, sparse: bool) -> Index {
    Index {
        id: 300,
        name: name.into(),
        kind: IndexKind::Persistent,
        fields: fields.iter().map(|&field| field.to_owned()).collect(),
        unique,
        sparse,
        deduplicate: true,
        building: false,
        properties: serde_json::Value::Null,
    }
}

/// `c` with a thousand documents and some indexes, and `e` with as many edges.
fn catalog() -> Catalog {
    let collection = |name: &str, kind, indexes| CollectionRow {
        id: 1,
        database: 1,
        name: name.into(),
        kind,
        object: 1,
        system: false,
        globally_unique_id: String::new(),
        key: KeyOptions::default(),
        wait_for_sync: false,
        indexes,
        properties: serde_json::Value::Null,
    };
    let indexes = vec![
        index("a", &["a"], false, false),
        index("ab", &["a", "b"], false, false),
        index("u", &["u"], true, false),
        index("s", &["s"], false, true),
        index("st", &["s", "t"], false, true),
        index("tags", &["tags[*]"], false, false),
        index("names", &["tags[*].name"], false, false),
        index("dated", &["kind", "at"], false, false),
        Index { kind: IndexKind::Ttl, ..index("ttl", &["expires"], false, false) },
        Index {
            kind: IndexKind::Geo,
            properties: serde_json::json!({"geoJson": true}),
            ..index("place", &["place"], false, true)
        },
        Index { kind: IndexKind::Geo, ..index("spot", &["spot"], false, true) },
        Index { kind: IndexKind::Geo, ..index("latlng", &["lat", "lng"], false, true) },
    ];
    let row = |row| (Arc::new(row), 1000);
    Catalog::from([
        ("c".into(), row(collection("c", CollectionKind::Document, indexes))),
        ("e".into(), row(collection("e", CollectionKind::Edge, Vec::new()))),
    ])
}

/// For each loop and what follows it: the index that is used, how many attributes it determines, `range` if there is a
/// bound on the next one, `sorted` if the sort is not needed, `backward`; then what is left of the operations.
fn plan(text: &str) -> String {
    let query = parser::parse(text, None).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let plan = Plan::new(query, catalog(), Rules::ALL).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let mut told: Vec<String> = Vec::new();
    for operation in &plan.query.body.operations {
        let OperationKind::For { variable, .. } = &operation.kind else {
            match &operation.kind {
                OperationKind::Filter(_) => told.push("filter".into()),
                OperationKind::Sort(_) => told.push("sort".into()),
                _ => {}
            }
            continue;
        };
        let Some(access) = plan.access(*variable) else {
            told.push("all".into());
            continue;
        };
        let mut words = Vec::new();
        match &access.by {
            By::Keys(_) => words.push("keys".to_owned()),
            By::Several(all) => words.extend(all.iter().map(|by| by.index.name.clone())),
            By::Place(by) => words.push(by.index.name.clone()),
            By::Index(by) => {
                words.push(by.index.name.clone());
                words.extend((by.lookups.len() > 1).then(|| format!("x{}", by.lookups.len())));
                words.push(by.lookups[0].equal.len().to_string());
                words.extend(by.lookups[0].from.as_ref().or(by.lookups[0].to.as_ref()).map(|_| "range".to_owned()));
                words.extend(access.sorted.then(|| "sorted".to_owned()));
                words.extend(by.backward.then(|| "backward".to_owned()));
            }
        }
        told.push(words.join(" "));
    }
    told.join(", ")
}

#[test]
fn the_best_index_is_chosen() {
    let table = [
        ("FILTER d.a == 1", "a 1"),
        ("FILTER d.a == 1 && d.b == 2", "ab 2"),
        ("FILTER d.a == 1 FILTER d.b < 2", "ab 1 range"),
        ("FILTER d.b == 2", "all, filter"),
        ("FILTER d.b == 2 && 1 == d.a", "ab 2"),
        ("FILTER d.a > 1 && d.a > 2", "a 0 range, filter"),
        ("FILTER d.a > 1 && d.b == 2", "a 0 range, filter"),
        ("FILTER d.a IN [1, 2]", "a 1"),
        ("FILTER d.a NOT IN [1, 2]", "all, filter"),
        ("FILTER d.a != null", "a 0 range"),
        ("FILTER d.a != 1", "all, filter"),
        ("FILTER d['a'] == 1", "a 1"),
        ("FILTER d['0'] == 1", "all, filter"),
        ("FILTER d.a == d.b", "all, filter"),
        ("FILTER d.a == RAND()", "all, filter"),
        ("FILTER d.a == LENGTH(FOR x IN c RETURN 1)", "a 1"),
        ("FILTER d.a == (FOR x IN d.list RETURN 1)", "all, filter"),
        ("FILTER d.a == 1 && RAND() < 0.5", "a 1, filter"),
        ("FILTER d.u == 1 && d.a == 1", "u 1, filter"),
        ("FILTER d.a == 1 && d._key == 'x'", "keys, filter"),
        ("FILTER d.a == 1 || d.a == 2", "a x2 1, filter"),
        ("FILTER d.a == 1 || d.b == 2", "all, filter"),
        ("FILTER d.a == 1 || d.u == 2", "a u, filter"),
        ("FILTER d.a == 1 || d.s > 2 || d.kind == 3", "a s dated, filter"),
        ("FILTER d.a == 1 || d.s == null", "all, filter"),
        ("FILTER d.a == 1 || d.u == 2 SORT d.a", "a u, filter, sort"),
        ("FILTER d.b == 1 && (d.a == 1 || d.a > 5)", "ab x2 2, filter, filter"),
        ("FILTER d.expires == 1", "all, filter"),
        // Places.
        ("FILTER GEO_DISTANCE(d.place, [1, 2]) < 5", "place, filter"),
        ("FILTER 5 >= GEO_DISTANCE([1, 2], d.place, 'wgs84')", "place, filter"),
        ("FILTER GEO_DISTANCE(d.place, [1, 2]) > 5", "all, filter"),
        ("FILTER GEO_DISTANCE(d.place, d.other) < 5", "all, filter"),
        ("FILTER GEO_DISTANCE(d.place, [1, 2]) < d.reach", "all, filter"),
        ("FILTER GEO_DISTANCE(d.spot, [1, 2]) < 5", "spot, filter"),
        ("FILTER GEO_DISTANCE([d.lng, d.lat], [1, 2]) < 5", "latlng, filter"),
        ("FILTER GEO_DISTANCE([d.lat, d.lng], [1, 2]) < 5", "all, filter"),
        ("FILTER DISTANCE(d.lat, d.lng, 2, 1) < 5", "latlng, filter"),
        ("FILTER DISTANCE(2, 1, d.lat, d.lng) <= 5", "latlng, filter"),
        ("FILTER GEO_IN_RANGE(d.place, [1, 2], 0, 5)", "place, filter"),
        ("FILTER GEO_CONTAINS(GEO_POLYGON([[0, 0], [1, 0], [1, 1]]), d.place)", "place, filter"),
        ("FILTER GEO_INTERSECTS(d.place, [1, 2]) && d.b == 1", "place, filter, filter"),
        ("FILTER GEO_INTERSECTS(d.place, [1, 2]) || d.b == 1", "all, filter"),
        ("FILTER GEO_DISTANCE(d.place, [1, 2]) < 5 && d.u == 1", "u 1, filter"),
        ("FILTER GEO_DISTANCE(d.place, [1, 2]) < 5 SORT d.b", "place, filter, sort"),
        // Sparse.
        ("FILTER d.s == 1", "s 1"),
        ("FILTER d.s == null", "all, filter"),
        ("FILTER d.s < 1", "all, filter"),
        ("FILTER d.s > 1", "s 0 range"),
        ("FILTER d.s >= null", "all, filter"),
        ("FILTER d.s < 1 && d.s != null", "s 0 range"),
        ("FILTER d.s IN [1, null]", "all, filter"),
        ("FILTER d.s == 1 && d.t > 1", "st 1 range"),
        // Elements.
        ("FILTER 1 IN d.tags[*]", "tags 1"),
        ("FILTER 1 IN d.tags", "all, filter"),
        ("FILTER 1 IN d.tags[*].name", "names 1"),
        ("FILTER null IN d.tags[*]", "tags 1, filter"),
        ("FILTER 1 IN d.tags[* FILTER CURRENT > 0]", "all, filter"),
        ("FILTER 1 IN d.tags[*] && 2 IN d.tags[*]", "tags 1, filter"),
        // Order.
        ("SORT d.a", "a 0 sorted"),
        ("SORT d.a DESC, d.b DESC", "ab 0 sorted backward"),
        ("SORT d.a, d.b DESC", "all, sort"),
        ("SORT d.b", "all, sort"),
        ("SORT d.a + 1", "all, sort"),
        ("SORT d.s", "all, sort"),
        ("SORT d.tags", "all, sort"),
        ("FILTER d.kind == 1 SORT d.at", "dated 1 sorted"),
        ("FILTER d.kind == 1 SORT d.kind, d.at", "dated 1 sorted"),
        ("FILTER d.kind == 1 SORT d.at DESC, d.kind DESC", "dated 1 sorted backward"),
        ("FILTER d.kind == 1 && d.at > 5 SORT d.at", "dated 1 range sorted"),
        ("FILTER d.kind IN [1, 2] SORT d.at", "dated 1, sort"),
        ("FILTER d.kind IN [1, 2] SORT d.kind, d.at", "dated 1 sorted"),
        ("FILTER d.kind == 1 || d.kind == 2 SORT d.kind", "dated x2 1 sorted, filter"),
        ("FILTER d.u == 1 SORT d.a", "u 1, sort"),
        // A few rows in order, but not if it takes all documents to find them.
        ("FILTER d.u == 1 SORT d.a LIMIT 1", "u 1, sort"),
        ("FILTER d.s == 1 SORT d.a LIMIT 1", "s 1, sort"),
        ("FILTER d.a == 1 SORT d.b LIMIT 1", "ab 1 sorted"),
        ("FILTER d.x == 1 SORT d.a LIMIT 1", "a 0 sorted, filter"),
        ("SORT d.a LIMIT 1", "a 0 sorted"),
        ("SORT d.a LIMIT 0, null", "a 0 sorted"),
        ("LIMIT 10 SORT d.a", "all, sort"),
        ("COLLECT a = d.a SORT a", "all, sort"),
        ("LET x = d.a SORT x", "a 0 sorted"),
        ("FOR i IN 1..2 SORT d.a", "a 0 sorted, all"),
    ];
    for (operations, expected) in table {
        let text = format!("FOR d IN c {operations} RETURN 1");
        assert_eq!(plan(&text), expected, "{text}");
    }
}

#[test]
fn filters_move_to_where_they_help() {
    let table = [
        ("FOR x IN [1] FOR d IN c FILTER d.a == x RETURN d", "all, a 1"),
        ("FOR d IN c FOR x IN [1] FILTER d.a == 1 RETURN d", "a 1, all"),
        ("FOR d IN c FOR x IN [1] FILTER d.a == x RETURN d", "all, all, filter"),
        ("FOR d IN c LET x = d.a FILTER x == 1 RETURN x", "a 1"),
        ("FOR d IN c LET x = d.b + 1 FILTER x == 1 && d.a == 1 RETURN x", "a 1, filter"),
        ("FOR d IN c LET x = RAND() FILTER d.a == 1 RETURN x", "all, filter"),
        ("FOR d IN c SORT d.b FILTER d.a == 1 RETURN d", "ab 1 sorted"),
        ("FOR d IN c LIMIT 1 FILTER d.a == 1 RETURN d", "all, filter"),
        ("FOR d IN c COLLECT a = d.a FILTER a == 1 RETURN a", "all, filter"),
        ("FOR d IN c LET w = (INSERT {} INTO e) FILTER d.a == 1 RETURN d", "all, filter"),
        ("FOR x IN c FOR d IN c SORT d.a RETURN d", "all, all, sort"),
        ("FOR x IN e FILTER x._from == 'c/1' RETURN x", "edge 1"),
        ("FOR d IN c FOR x IN e FILTER x._to == d._id RETURN x", "all, edge 1"),
        ("FOR x IN c FOR d IN c FILTER x.u == 1 && d.a == x.a RETURN d", "u 1, a 1"),
    ];
    for (text, expected) in table {
        assert_eq!(plan(text), expected, "{text}");
    }
}

#[test]
fn only_what_is_read_is_taken_out_of_documents() {
    let table = [
        ("FOR d IN c RETURN d", None),
        ("FOR d IN c RETURN [d.a, d.b.c]", Some(vec!["a", "b"])),
        ("FOR d IN c FILTER d.x > 1 RETURN (FOR x IN c FILTER x.a == d.y RETURN d.z)", Some(vec!["x", "y", "z"])),
        ("FOR d IN c FILTER d.a == 1 RETURN d.b", Some(vec!["b"])),
        ("FOR d IN c FOR x IN c FILTER x.a == d.v RETURN 1", Some(vec!["v"])),
        ("FOR d IN c RETURN KEEP(d, 'a')", None),
        ("FOR d IN c COLLECT a = d.a INTO g RETURN g", None),
        ("FOR d IN c COLLECT a = d.a INTO g = d.b RETURN g", Some(vec!["a", "b"])),
        ("FOR d IN c LET x = d.a COLLECT a = d.b INTO g KEEP x RETURN g", Some(vec!["a", "b"])),
        ("FOR d IN c RETURN 1", Some(vec![])),
    ];
    for (text, expected) in table {
        let plan = Plan::new(parser::parse(text, None).unwrap(), catalog(), Rules::ALL).unwrap();
        let read = match plan.projection(Slot(0)) {
            Projection::Whole => None,
            Projection::Attributes(names) => Some(names.iter().map(|name| &**name).collect()),
        };
        assert_eq!(read, expected, "{text}");
    }
}
