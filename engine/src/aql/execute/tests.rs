//! Queries over a store in memory, as the API runs them. Each script in `scripts/` begins with an empty database:
//!
//! - `collection NAME`, `edges NAME`, `insert COLLECTION {…}`, `index COLLECTION {…}`: what is there.
//! - `query …`, going on in indented lines, perhaps `with {…}` on the next line (other members of the request's
//!   body).
//! - `= […]`: the rows that it gives; `! NUMBER`: the error that it ends in; `stats {…}` and `warnings […]` of
//!   the last one.
//! - `plan […]`: the types of the nodes that explain tells of the last one, or pairs of a type and an object of what
//!   else the node has; `rules […]`: the rules that were applied.

use crate::db::mem::MemStore;
use crate::exec::fixture::{self, Busy};
use crate::http::{Method, Request, Response};
use crate::io::*;
use crate::queries::{Alone, Attendant, Hurried};
use crate::types::*;
use serde_json::{Map, Value, json};

mod hostile;
mod places;
mod properties;

struct Stage {
    store: MemStore,
    steps: u64,
}

impl Stage {
    fn new() -> Stage {
        Stage { store: fixture::store(), steps: 0 }
    }

    fn ask(&mut self, method: Method, path: &str, body: &Value) -> Ran {
        self.ask_attended(method, path, body, &Alone::default())
    }

    fn ask_attended(&mut self, method: Method, path: &str, body: &Value, attendant: &dyn Attendant) -> Ran {
        self.steps += 1;
        let request = Request::new(method, path).with_body(body.to_string());
        fixture::carry_out(&mut self.store, request, self.steps, attendant)
    }

    fn explain(&mut self, text: &str, with: &Map<String, Value>) -> Value {
        let mut body = json!({"query": text});
        body.as_object_mut().unwrap().extend(with.clone());
        answer(&self.ask(Method::Post, "/_api/explain", &body).response)["plan"].clone()
    }

    fn query(&mut self, text: &str, with: &Map<String, Value>) -> Value {
        let mut body = json!({"query": text, "batchSize": 1_000_000});
        body.as_object_mut().unwrap().extend(with.clone());
        let ran = self.ask(Method::Post, "/_api/cursor", &body);
        assert!(ran.response.status < 400 || ran.entry.is_none(), "an error leaves nothing behind");
        answer(&ran.response)
    }
}

fn answer(response: &Response) -> Value {
    serde_json::from_slice(&response.body).expect("an answer is JSON")
}

fn run(script: &str) {
    let mut stage = Stage::new();
    let mut lines = script.lines().peekable();
    let mut last = Value::Null;
    let mut asked = (String::new(), Map::new());
    let mut wrong = Vec::new();
    while let Some(line) = lines.next() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        match word {
            "" | "#" => {}
            "collection" | "edges" => {
                let kind = if word == "edges" { 3 } else { 2 };
                stage.ask(Method::Post, "/_api/collection", &json!({"name": rest, "type": kind}));
            }
            "insert" => {
                let (collection, document) = rest.split_once(' ').expect("a collection and a document");
                let path = format!("/_api/document/{collection}");
                let ran = stage.ask(Method::Post, &path, &parse(document));
                assert!(ran.response.status < 300, "{line}: {}", answer(&ran.response));
            }
            "index" => {
                let (collection, definition) = rest.split_once(' ').expect("a collection and an index");
                let path = format!("/_api/index?collection={collection}");
                let ran = stage.ask(Method::Post, &path, &parse(definition));
                assert!(ran.response.status < 300, "{line}: {}", answer(&ran.response));
            }
            "rules" => {
                let plan = stage.explain(&asked.0, &asked.1);
                if plan["rules"] != parse(rest) {
                    wrong.push(format!("{}\nthe rules are not {rest} but {}", asked.0, plan["rules"]));
                }
            }
            "plan" => {
                let plan = stage.explain(&asked.0, &asked.1);
                let mut nodes = plan["nodes"].as_array().into_iter().flatten().peekable();
                for expected in parse(rest).as_array().expect("nodes") {
                    let (kind, members) = match expected {
                        Value::Array(both) => (&both[0], both[1].as_object().cloned().unwrap_or_default()),
                        kind => (kind, Map::new()),
                    };
                    let node = nodes.next().unwrap_or(&Value::Null);
                    if node["type"] != *kind || members.iter().any(|(name, value)| node[name] != *value) {
                        wrong.push(format!("{}\n{expected} is not {node}", asked.0));
                    }
                }
                if nodes.peek().is_some() {
                    wrong.push(format!("{}\nmore nodes than {rest}", asked.0));
                }
            }
            "query" => {
                let mut text = rest.to_owned();
                while let Some(more) = lines.next_if(|line| line.starts_with(' ')) {
                    text += "\n";
                    text += more;
                }
                let with = lines.next_if(|line| line.starts_with("with ")).map(|line| parse(&line[5..]));
                let with = with.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
                last = stage.query(&text, &with);
                asked = (text.clone(), with);
                let expected = lines.next().unwrap_or_default();
                match expected.split_once(' ') {
                    Some(("=", rows)) if last["result"] == parse(rows) => {}
                    Some(("!", number)) if last["errorNum"] == parse(number) => {}
                    _ => wrong.push(format!("{text}\n{last}\ninstead of {expected}")),
                }
            }
            "stats" => {
                for (name, expected) in parse(rest).as_object().expect("an object") {
                    if last["extra"]["stats"][name] != *expected {
                        wrong.push(format!("{name} is not {expected} in {last}"));
                    }
                }
            }
            "warnings" => {
                let told = last["extra"]["warnings"].as_array().cloned().unwrap_or_default();
                let told: Vec<Value> = told.iter().map(|warning| warning["code"].clone()).collect();
                if Value::from(told) != parse(rest) {
                    wrong.push(format!("the warnings are not {rest} in {last}"));
                }
            }
            _ => panic!("{line}"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

macro_rules! scripts {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(include_str!(concat!("scripts/", stringify!($name), ".txt")));
        })*
    };
}

scripts! { constants reading writing grouping graphs limits indexes places explaining }

#[test]
fn all_plans_are_one() {
    let mut stage = Stage::new();
    let body = json!({"query": "RETURN 1", "options": {"allPlans": true, "optimizer": {"rules": ["-use-indexes"]}}});
    let told = answer(&stage.ask(Method::Post, "/_api/explain", &body).response);
    assert_eq!((told["plans"].as_array().map(Vec::len), &told["plan"]), (Some(1), &Value::Null));
    assert_eq!(
        told["stats"],
        json!({"rulesExecuted": 9, "rulesSkipped": 1, "plansCreated": 1, "peakMemoryUsage": 0, "executionTime": 0.0})
    );
}

#[test]
fn explain_warns_and_times_the_rules() {
    let mut stage = Stage::new();
    let mut explain = |options: Value| {
        let body = json!({"query": "FOR i IN 1..10 RETURN 1 / 0", "options": options});
        answer(&stage.ask(Method::Post, "/_api/explain", &body).response)
    };
    let told = explain(json!({"profile": 2, "optimizer": {"rules": ["-all", "+use-indexes"]}}));
    assert_eq!(told["warnings"], json!([{"code": 1562, "message": "division by zero"}]));
    assert_eq!(told["stats"]["rules"], json!({"use-indexes": 0.0}));
    assert_eq!(explain(json!({"failOnWarning": true}))["errorNum"], 1562);
}

#[test]
fn what_does_not_fit_into_a_batch_is_kept() {
    let mut stage = Stage::new();
    let body = json!({"query": "FOR i IN 1..5 RETURN i", "batchSize": 2, "count": true, "ttl": 2});
    let ran = stage.ask(Method::Post, "/_api/cursor", &body);
    let Some(Then::Keep(result)) = ran.then else { panic!("{:?}", ran.then) };
    assert_eq!((result.rows.len(), result.batch_rows, result.ttl), (5, 2, Duration::from_secs(2)));
    assert_eq!(ran.response.status, 201);
    let ran = stage.ask(Method::Put, "/_api/cursor/77", &Value::Null);
    assert!(matches!(ran.then, Some(Then::Cursor(_))), "{:?}", ran.then);
    let whole = stage.query("RETURN 1", &Map::new());
    let expected = json!({
        "result": [1], "hasMore": false, "cached": false, "error": false, "code": 201, "extra": whole["extra"]
    });
    assert_eq!(whole, expected);
}

#[test]
fn a_query_that_is_killed_or_takes_too_long_ends_and_leaves_nothing() {
    let mut stage = Stage::new();
    stage.ask(Method::Post, "/_api/collection", &json!({"name": "c"}));
    let count = json!({"query": "RETURN LENGTH(c)"});
    for text in ["FOR i IN 1..10000 RETURN i", "FOR i IN 1..10000 INSERT {} INTO c"] {
        let body = json!({"query": text, "options": {"maxRuntime": 0.005}});
        for (attendant, status) in [(Busy::new(u64::MAX), 410), (Busy::new(4), 410), (Busy::new(1), 410)] {
            let ran = stage.ask_attended(Method::Post, "/_api/cursor", &body, &attendant);
            assert_eq!((ran.response.status, ran.response.error_num()), (status, Some(1500)), "{text}");
            attendant.with(&mut |queries| assert_eq!(queries.current(None, Time(0)), []));
            assert_eq!(answer(&stage.ask(Method::Post, "/_api/cursor", &count).response)["result"], json!([0]));
        }
        let ran = stage.ask_attended(Method::Post, "/_api/cursor", &json!({"query": text}), &Busy::new(u64::MAX));
        assert_eq!(ran.response.status, 201, "nothing but what it asks for bounds its time");
        stage.ask(Method::Put, "/_api/collection/c/truncate", &Value::Null);
    }
}

#[test]
fn sleeping_takes_time_and_is_bounded() {
    let mut stage = Stage::new();
    stage.ask(Method::Post, "/_api/collection", &json!({"name": "c"}));
    for (text, seconds, warnings) in [
        ("RETURN SLEEP(5)", 5.0, 0),
        ("FOR i IN 1..4 RETURN SLEEP(200)", 600.0, 1),
        ("FOR i IN 1..4 LET s = SLEEP(0.3) INSERT {} INTO c", 1.0, 1),
    ] {
        let attendant = Alone::default();
        let ran = stage.ask_attended(Method::Post, "/_api/cursor", &json!({"query": text}), &attendant);
        let extra = &answer(&ran.response)["extra"];
        assert_eq!(
            (&extra["stats"]["executionTime"], attendant.now().time),
            (&json!(seconds), Time((seconds * 1e9) as u64))
        );
        assert_eq!(extra["warnings"].as_array().unwrap().len(), warnings, "{text}");
    }
}

#[test]
fn who_hurries_gets_what_is_over_in_a_moment() {
    let mut stage = Stage::new();
    let alone = Alone::default();
    let hurried = Hurried(&alone);
    let mut ask = |text: &str, batch_rows: u64| {
        let body = json!({"query": text, "batchSize": batch_rows});
        stage.ask_attended(Method::Post, "/_api/cursor", &body, &hurried)
    };
    let ran = ask("FOR i IN 1..20 RETURN i * i", 1000);
    assert!(ran.response.status == 201 && ran.then.is_none(), "{ran:?}");
    // The loop has the rest; it is asked for all of it.
    assert!(matches!(ask("FOR i IN 1..20 RETURN i", 10).then, Some(Then::Keep(_))));
    for left in [
        "FOR i IN 1..100000 FILTER i < 0 RETURN i",
        "RETURN SLEEP(0.1)",
        "RETURN ASSERT(false, 'no')",
        "RETURN [1] ALL IN [2]",
        "RETURN 'a' =~ 'b'",
        "RETURN 1..2",
    ] {
        assert!(matches!(ask(left, 1000).then, Some(Then::AtLeisure)), "{left}");
    }
    // What is wrong with the text needs no time.
    assert_eq!(ask("FOR", 1000).response.status, 400);
    let mut known = (0, 0);
    hurried.with(&mut |queries| known = (queries.current(None, Time(0)).len(), queries.recent().count()));
    assert_eq!(known, (0, 2), "what was left is not told of");
}
