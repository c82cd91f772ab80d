//! A single server of Tanist, asked over HTTP.

use crate::side::{Connection, Document, Link, Side};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::path::Path;
use tanist_tests::http::{Answer, Client};
use tanist_tests::process::{Process, build_release, free_ports};
use tanist_tests::wait::wait_until;

pub struct Tanist {
    _server: Process,
    address: String,
}

struct Connected(Client);

/// What a query found; the rows are told apart and not taken apart, as on the other side.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    has_more: bool,
    result: Vec<IgnoredAny>,
}

pub fn start(directory: &Path) -> Tanist {
    let address = format!("127.0.0.1:{}", free_ports(1));
    let arguments = vec![
        "server".to_owned(),
        format!("--server.endpoint=tcp://{address}"),
        format!("--database.directory={}", directory.join("tanist").display()),
        "--server.authentication=false".to_owned(),
    ];
    let mut server = Process::new("tanist", &build_release(), arguments, directory.join("tanist.log"));
    server.start();
    let mut client = Client::new(&address);
    wait_until("the server serves", || {
        client.get("/_admin/server/availability").is_ok_and(|answer| answer.status == 200)
    });
    let mut make = |target: &str, body: Value| {
        let answer = client.post(target, &body).expect("an answer");
        assert!(answer.ok(), "{answer}");
    };
    make("/_api/collection", json!({"name": "documents"}));
    make("/_api/collection", json!({"name": "links", "type": 3}));
    make("/_api/index?collection=documents", json!({"type": "persistent", "fields": ["group"]}));
    Tanist { _server: server, address }
}

impl Side for Tanist {
    fn name(&self) -> &'static str {
        "Tanist"
    }

    fn connect(&self) -> Box<dyn Connection> {
        Box::new(Connected(Client::new(&self.address)))
    }
}

impl Connected {
    fn post(&mut self, target: &str, body: &Value) -> Answer {
        let answer = self.0.post(target, body).expect("an answer");
        assert!(answer.ok(), "{answer}");
        answer
    }

    fn query(&mut self, text: &str, binds: Value) -> usize {
        let answer = self.post("/_api/cursor", &json!({"query": text, "bindVars": binds}));
        let found: Found = serde_json::from_slice(&answer.body).expect("an answer of a query");
        assert!(!found.has_more);
        found.result.len()
    }
}

fn body(document: &Document) -> Value {
    let mut body = document.body.clone();
    body["_key"] = document.key.as_str().into();
    body
}

impl Connection for Connected {
    fn insert(&mut self, documents: &[Document]) {
        let answer = self.post("/_api/document/documents?silent=true", &documents.iter().map(body).collect());
        assert_eq!(answer.header("x-arango-error-codes"), None);
    }

    fn insert_one(&mut self, document: &Document) {
        self.post("/_api/document/documents?silent=true", &body(document));
    }

    fn link(&mut self, links: &[Link]) {
        let edge =
            |link: &Link| json!({"_from": format!("documents/{}", link.from), "_to": format!("documents/{}", link.to)});
        let answer = self.post("/_api/document/links?silent=true", &links.iter().map(edge).collect());
        assert_eq!(answer.header("x-arango-error-codes"), None);
    }

    fn read(&mut self, key: &str) -> usize {
        let answer = self.0.get(&format!("/_api/document/documents/{key}")).expect("an answer");
        assert_eq!(answer.status, 200, "{answer}");
        1
    }

    fn filter(&mut self, group: u64) -> usize {
        self.query("FOR d IN documents FILTER d.group == @group RETURN d", json!({"group": group}))
    }

    fn aggregate(&mut self) -> usize {
        let text = "FOR d IN documents COLLECT kind = d.kind AGGREGATE sum = SUM(d.value) RETURN {kind, sum}";
        self.query(text, json!({}))
    }

    fn traverse(&mut self, key: &str) -> usize {
        let start = format!("documents/{key}");
        self.query("FOR v IN 2..2 OUTBOUND @start links RETURN v", json!({"start": start}))
    }
}
