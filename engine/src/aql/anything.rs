//! Anything as a query: what must hold whatever somebody sends. The fuzz targets in `tests/fuzz` call this with what a
//! fuzzer makes up, and a test below with mixtures of the scripts' queries.
//!
//! It does not judge what a query gives, which scripts and properties do. No text may bring the process down or be
//! called an internal error; what fails has written nothing; what has written leaves indexes that fit the documents.

use super::value::Object;
use super::{lexer, parser, tree};
use crate::db::Reader;
use crate::db::index::check;
use crate::db::mem::MemStore;
use crate::db::store::Store;
use crate::exec::fixture::{self, Busy};
use crate::http::{Method, Request};
use crate::io::Ran;
use crate::queries::{Alone, Attendant};
use serde_json::{Map, Value, json};

/// So often a query may look whether it is to go on, every few thousand steps; then it is killed.
const LOOKS_MAX: u64 = 50;
const MEMORY_BYTES_MAX: u64 = 8 << 20;

/// Any text is a query that can be shown, or an error of ArangoDB's about queries or their parameters.
pub fn parse(text: &str) {
    for values in [None, Some(&Object::default())] {
        match parser::parse(text, values) {
            Ok(query) => drop(tree::block(&query, &query.body)),
            Err(error) => {
                let number = error.kind.number;
                assert!(
                    (number == 10 || (1500..1600).contains(&number)) && !error.message.is_empty(),
                    "{number} {}",
                    error.message
                );
            }
        }
    }
}

const SCRIPTS: [&str; 9] = [
    include_str!("execute/scripts/constants.txt"),
    include_str!("execute/scripts/explaining.txt"),
    include_str!("execute/scripts/graphs.txt"),
    include_str!("execute/scripts/grouping.txt"),
    include_str!("execute/scripts/indexes.txt"),
    include_str!("execute/scripts/limits.txt"),
    include_str!("execute/scripts/places.txt"),
    include_str!("execute/scripts/reading.txt"),
    include_str!("execute/scripts/writing.txt"),
];

/// The queries of the scripts.
pub fn queries() -> impl Iterator<Item = String> {
    SCRIPTS.iter().flat_map(|script| script.split("\nquery ").skip(1)).map(|rest| {
        let more = rest.lines().skip(1).take_while(|line| line.starts_with(' '));
        rest.lines().take(1).chain(more).collect::<Vec<_>>().join(" ")
    })
}

/// The tokens of a query, as they are written.
pub fn words(query: &str) -> Vec<String> {
    let starts: Vec<usize> = lexer::tokens(query).iter().map(|token| token.start).collect();
    starts.windows(2).map(|part| query[part[0]..part[1]].trim().to_owned()).collect()
}

/// A store with documents of many kinds, indexes of all kinds and a graph.
pub struct Stage {
    fresh: MemStore,
    store: MemStore,
    step: u64,
}

impl Default for Stage {
    fn default() -> Stage {
        let mut stage = Stage { fresh: MemStore::default(), store: fixture::store(), step: 0 };
        for (name, kind) in [("c", 2), ("d", 2), ("e", 3)] {
            stage.must("/_api/collection", &json!({"name": name, "type": kind}));
        }
        for fields in [json!(["a"]), json!(["b", "n.m"]), json!(["t[*]"]), json!(["o[*].x"])] {
            stage.must("/_api/index?collection=c", &json!({"type": "persistent", "fields": fields}));
        }
        stage.must("/_api/index?collection=c", &json!({"type": "geo", "fields": ["place"], "geoJson": true}));
        stage.must("/_api/index?collection=c", &json!({"type": "fulltext", "fields": ["text"]}));
        stage.must(
            "/_api/index?collection=d",
            &json!({"type": "persistent", "fields": ["a"], "unique": true, "sparse": true}),
        );
        for n in 0..8 {
            let text = ["one two", "two three", ""][n % 3];
            stage.must(
                "/_api/document/c",
                &json!({"_key": n.to_string(), "a": n % 3, "b": format!("b{n}"), "n": {"m": n},
                "t": [n, "x", null], "o": [{"x": n}, {"x": "y"}], "text": text,
                "place": {"type": "Point", "coordinates": [n, -(n as i64)]}}),
            );
            stage.must("/_api/document/d", &json!({"_key": n.to_string(), "a": n}));
            stage.must(
                "/_api/document/e",
                &json!({"_from": format!("c/{n}"), "_to": format!("c/{}", (n * 3 + 1) % 8), "w": n}),
            );
        }
        let edges = json!([{"collection": "e", "from": ["c"], "to": ["c"]}]);
        stage.must("/_api/gharial", &json!({"name": "g", "edgeDefinitions": edges}));
        stage.fresh = stage.store.clone();
        stage
    }
}

impl Stage {
    fn send(&mut self, path: &str, body: &Value, attendant: &dyn Attendant) -> Ran {
        self.step += 1;
        let request = Request::new(Method::Post, path).with_body(body.to_string());
        fixture::carry_out(&mut self.store, request, self.step, attendant)
    }

    fn must(&mut self, path: &str, body: &Value) {
        let ran = self.send(path, body, &Alone::default());
        assert!(ran.response.status < 300, "{path}: {}", String::from_utf8_lossy(&ran.response.body));
    }

    /// Parses, explains and runs a query; `with` is a JSON object of other members of the request's body, or nothing.
    pub fn query(&mut self, text: &str, with: &str) {
        let mut body: Map<String, Value> = serde_json::from_str(with).unwrap_or_default();
        body.insert("query".into(), text.into());
        body.insert("memoryLimit".into(), MEMORY_BYTES_MAX.into());
        // What does not fit into a batch is answered by the loop.
        body.insert("batchSize".into(), u32::MAX.into());
        let body = Value::Object(body);
        for path in ["/_api/query", "/_api/explain", "/_api/cursor"] {
            let ran = self.send(path, &body, &Busy::new(LOOKS_MAX + 1));
            let (status, error) = (ran.response.status, ran.response.error_num());
            let answer = String::from_utf8_lossy(&ran.response.body);
            // Queries may nest as deep as ArangoDB's, and serde_json reads less.
            if let Err(error) = serde_json::from_str::<Value>(&answer) {
                assert!(error.to_string().starts_with("recursion limit"), "{text}: {error} in {answer}");
            }
            let known = status < 300 || error.is_some_and(|number| !matches!(number, 0 | 4));
            assert!(known, "{path} {text} {with}: {status} {answer}");
            assert!(status < 400 || ran.entry.is_none(), "{text}: failed and wrote");
            if ran.entry.is_some() {
                self.check();
                self.store = self.fresh.clone();
            }
        }
    }

    fn check(&self) {
        let snapshot = self.store.snapshot().expect("a store in memory");
        let reader = Reader::new(&*snapshot).expect("it is open");
        let database = reader.database("_system").expect("readable").expect("it is there");
        for collection in reader.collections(database.id).expect("readable") {
            assert_eq!(check::wrong(&reader, &collection).expect("readable"), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;

    /// What kind of token it is, roughly: whatever is of the same often fits in the same place.
    fn kind(token: &str) -> u8 {
        match token.as_bytes().first() {
            Some(b'0'..=b'9' | b'"' | b'\'' | b'@') => 0,
            Some(first) if !first.is_ascii_alphabetic() => 1,
            _ if token.chars().any(|c| c.is_ascii_lowercase()) => 2,
            _ => 3,
        }
    }

    /// Whole queries, some tokens of which are others', are missing, or are queries in parentheses.
    fn mixture() -> impl Strategy<Value = String> {
        let queries: Vec<Vec<String>> = queries().map(|query| words(&query)).collect();
        let all: Vec<String> = queries.concat();
        assert!(queries.len() > 150 && all.len() > 3000, "{} queries, {} tokens", queries.len(), all.len());
        let alike = |wanted: u8| all.iter().filter(|token| kind(token) == wanted).cloned().collect::<Vec<_>>();
        let alike = [alike(0), alike(1), alike(2), alike(3)];
        let step = (any::<prop::sample::Index>(), 0..10, any::<prop::sample::Index>());
        (prop::sample::select(queries.clone()), prop::collection::vec(step, 0..4)).prop_map(move |(query, steps)| {
            let mut tokens = query;
            for (at, what, which) in steps.into_iter().take(if tokens.is_empty() { 0 } else { 4 }) {
                let at = at.index(tokens.len());
                tokens[at] = match what {
                    0 => String::new(),
                    1 => all[which.index(all.len())].clone(),
                    2..5 => format!("({})", queries[which.index(queries.len())].join(" ")),
                    _ => which.get(&alike[usize::from(kind(&tokens[at]))]).clone(),
                };
            }
            tokens.join(" ")
        })
    }

    /// Values for what the query asks for.
    fn values(text: &str) -> String {
        let parameters = parser::parse(text, None).map(|query| query.parameters).unwrap_or_default();
        let value = |name: &str| if name.starts_with('@') { json!("c") } else { json!(name.len()) };
        let values: Map<String, Value> = parameters.iter().map(|name| (name.to_string(), value(name))).collect();
        json!({ "bindVars": values }).to_string()
    }

    thread_local! {
        static STAGE: RefCell<Stage> = RefCell::default();
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4000, ..ProptestConfig::default() })]
        #[test]
        fn a_mixture_of_queries_is_answered(text in mixture()) {
            parse(&text);
            STAGE.with_borrow_mut(|stage| stage.query(&text, &values(&text)));
        }

        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            parse(&text);
            STAGE.with_borrow_mut(|stage| stage.query(&text, ""));
        }
    }
}
