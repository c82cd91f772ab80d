//! A line to an etcd: carries out the engine's questions over etcd's JSON gateway (`/v3/…`, etcd 3.4 and later).
//!
//! Holds no rules. Each question goes to one endpoint, once; who does not answer soon is not asked next. Whatever is
//! not a clear answer is told to the engine as unknown, and what to do then is the engine's business.

use crate::client::{Answer as Reply, Client};
use crate::driver::Event;
use crate::net::{Network, Tcp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tanist_engine::etcd::{Answer, Ask, Change, Compare, Row, Span, Transaction};
use tanist_engine::io::AskId;
use tanist_engine::types::Endpoint;
use tokio::runtime::Handle;

/// How long an answer may still be of use.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The name of the keys where the address gives none.
const NAME: &str = "default";
const NAME_MAX: usize = 64;

/// `etcd://HOST:PORT,HOST:PORT…/NAME`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub endpoints: Vec<Endpoint>,
    /// What all keys begin with.
    pub prefix: String,
}

impl Address {
    /// `None` if that is no etcd's address; an error says what is wrong with one.
    pub fn parse(text: &str) -> Option<Result<Address, String>> {
        let (scheme, rest) = text.split_once("://")?;
        match scheme {
            "etcd" => Some(Address::parse_rest(rest).map_err(|what| format!("{text}: {what}"))),
            _ if scheme.starts_with("etcd") => {
                Some(Err(format!("{text}: TLS to an etcd is not supported; use etcd://")))
            }
            _ => None,
        }
    }

    fn parse_rest(rest: &str) -> Result<Address, String> {
        let rest = rest.replace(",etcd://", ",");
        let (hosts, name) = rest.split_once('/').unwrap_or((&rest, NAME));
        if hosts.contains('@') {
            return Err("authentication to an etcd is not supported".into());
        }
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fine) {
            return Err(format!("the name after '/' must be 1 to {NAME_MAX} letters, digits, '-', '_' or '.'"));
        }
        let endpoint = |host: &str| Endpoint::parse(&format!("tcp://{}", host.trim()));
        let endpoints = hosts.split(',').map(endpoint).collect::<Result<Vec<_>, _>>()?;
        Ok(Address { endpoints, prefix: format!("/tanist/{name}/") })
    }
}

#[derive(Clone)]
pub struct Etcd<N = Tcp> {
    shared: Arc<Shared<N>>,
}

struct Shared<N> {
    client: Client<N>,
    endpoints: Vec<Endpoint>,
    /// Who is asked next.
    preferred: AtomicUsize,
    /// After this another one is asked next.
    patience: Duration,
    /// The latest question was answered: what goes wrong next is told again.
    answers: AtomicBool,
    inbox: mpsc::Sender<Event>,
    runtime: Handle,
}

impl<N: Network> Etcd<N> {
    pub fn new(
        client: Client<N>,
        endpoints: Vec<Endpoint>,
        patience: Duration,
        inbox: mpsc::Sender<Event>,
        runtime: Handle,
    ) -> Etcd<N> {
        let (preferred, answers) = (AtomicUsize::new(0), AtomicBool::new(true));
        Etcd { shared: Arc::new(Shared { client, endpoints, preferred, patience, answers, inbox, runtime }) }
    }

    /// The answer comes to the loop as an event.
    pub fn ask(&self, id: AskId, ask: Ask) {
        let shared = self.shared.clone();
        self.shared.runtime.spawn(async move {
            let answer = shared.carry_out(&ask).await;
            let _ = shared.inbox.send(Event::Answered(id, answer));
        });
    }
}

impl<N: Network> Shared<N> {
    async fn carry_out(&self, ask: &Ask) -> Option<Answer> {
        let place = self.preferred.load(Ordering::Relaxed);
        let endpoint = &self.endpoints[place % self.endpoints.len()];
        let (path, body) = question(ask);
        let mut call = std::pin::pin!(self.client.post(endpoint, path, &body, ANSWER_TIMEOUT));
        let reply = match tokio::time::timeout(self.patience, &mut call).await {
            Ok(reply) => reply,
            Err(_) => {
                self.ask_another(place);
                call.await
            }
        };
        let answer = reply.and_then(|reply| understand(ask, &reply));
        match &answer {
            Ok(_) => self.answers.store(true, Ordering::Relaxed),
            Err(what) => {
                self.ask_another(place);
                if self.answers.swap(false, Ordering::Relaxed) {
                    tracing::warn!("etcd at {endpoint} does not do what is asked: {what}");
                }
            }
        }
        answer.ok()
    }

    fn ask_another(&self, place: usize) {
        let _ = self.preferred.compare_exchange(place, place + 1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

// ---- etcd's JSON: bytes in base64, numbers as text, what is zero or empty left out ----------------------------------

fn bytes(bytes: &[u8]) -> Value {
    json!(BASE64.encode(bytes))
}

fn span(span: &Span) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("key".into(), bytes(span.from.as_bytes()));
    if let Some(end) = &span.end {
        fields.insert("range_end".into(), bytes(end.as_bytes()));
    }
    fields
}

/// The path and the body of a request.
pub fn question(ask: &Ask) -> (&'static str, Value) {
    match ask {
        Ask::Grant { ttl_s } => ("/v3/lease/grant", json!({"TTL": ttl_s.to_string()})),
        Ask::KeepAlive { lease } => ("/v3/lease/keepalive", json!({"ID": lease.to_string()})),
        Ask::Revoke { lease } => ("/v3/lease/revoke", json!({"ID": lease.to_string()})),
        Ask::Range { span: keys, limit } => {
            let mut fields = span(keys);
            fields.insert("limit".into(), json!(limit.to_string()));
            ("/v3/kv/range", Value::Object(fields))
        }
        Ask::Transaction(transaction) => ("/v3/kv/txn", transaction_json(transaction)),
    }
}

fn transaction_json(transaction: &Transaction) -> Value {
    let compare = |compare: &Compare| match compare {
        Compare::Created { key, revision } => json!({
            "key": bytes(key.as_bytes()), "target": "CREATE", "result": "EQUAL",
            "create_revision": revision.to_string(),
        }),
        Compare::Modified { key, revision } => json!({
            "key": bytes(key.as_bytes()), "target": "MOD", "result": "EQUAL", "mod_revision": revision.to_string(),
        }),
    };
    let change = |change: &Change| match change {
        Change::Put { key, value, lease } => json!({"request_put": {
            "key": bytes(key.as_bytes()), "value": bytes(value), "lease": lease.unwrap_or(0).to_string(),
        }}),
        Change::Delete(keys) => json!({"request_delete_range": span(keys)}),
    };
    let read = |keys: &Span| json!({"request_range": span(keys)});
    json!({
        "compare": transaction.compare.iter().map(compare).collect::<Vec<_>>(),
        "success": transaction.then.iter().map(change).collect::<Vec<_>>(),
        "failure": transaction.otherwise.iter().map(read).collect::<Vec<_>>(),
    })
}

/// What etcd answered; an error if that says nothing of what it has done.
pub fn understand(ask: &Ask, reply: &Reply) -> Result<Answer, String> {
    let json: Value = serde_json::from_slice(&reply.text).unwrap_or(Value::Null);
    if reply.status != 200 {
        let what = json.get("error").and_then(Value::as_str).unwrap_or("no reason given");
        if matches!(ask, Ask::Transaction(_)) && what.contains("requested lease not found") {
            return Ok(Answer::NoSuchLease);
        }
        return Err(format!("status {}: {what}", reply.status));
    }
    let field = |name: &str| json.get(name).ok_or_else(|| format!("an answer without {name}"));
    match ask {
        Ask::Grant { .. } => Ok(Answer::Granted { lease: number(field("ID")?)? }),
        Ask::KeepAlive { .. } => {
            // A stream of answers, of which one was asked for.
            let ttl = field("result")?.get("TTL");
            Ok(Answer::Alive { ttl_s: ttl.map_or(Ok(0), number)? })
        }
        Ask::Revoke { .. } => Ok(Answer::Revoked),
        Ask::Range { .. } => {
            field("header")?;
            let more = json.get("more").and_then(Value::as_bool).unwrap_or(false);
            Ok(Answer::Rows { rows: rows(&json)?, more })
        }
        Ask::Transaction(_) => {
            let revision = field("header")?.get("revision").map_or(Ok(0), number)?;
            let succeeded = json.get("succeeded").and_then(Value::as_bool).unwrap_or(false);
            let responses = json.get("responses").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let ranges = responses.iter().filter_map(|response| response.get("response_range")).map(rows);
            let ranges = if succeeded { Vec::new() } else { ranges.collect::<Result<_, _>>()? };
            Ok(Answer::Decided { succeeded, revision, ranges })
        }
    }
}

fn rows(range: &Value) -> Result<Vec<Row>, String> {
    let rows = range.get("kvs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let row = |row: &Value| {
        let key = row.get("key").map_or(Ok(Bytes::new()), decode)?;
        let revision = |name: &str| row.get(name).map_or(Ok(0), number);
        Ok(Row {
            key: String::from_utf8(key.into()).map_err(|_| "a key that is no text")?,
            value: row.get("value").map_or(Ok(Bytes::new()), decode)?,
            created: revision("create_revision")?,
            modified: revision("mod_revision")?,
        })
    };
    rows.iter().map(row).collect()
}

fn decode(value: &Value) -> Result<Bytes, String> {
    let text = value.as_str().ok_or("bytes that are no text")?;
    BASE64.decode(text).map(Bytes::from).map_err(|e| format!("bytes that are not base64: {e}"))
}

fn number(value: &Value) -> Result<u64, String> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.filter(|number| *number <= i64::MAX as u64).ok_or_else(|| format!("{value} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parsed = |text: &str| {
            Address::parse(text).unwrap().map(|address| {
                let hosts: Vec<String> = address.endpoints.iter().map(Endpoint::to_string).collect();
                (hosts.join(" "), address.prefix)
            })
        };
        let two = ("tcp://a:2379 tcp://b:2379".to_owned(), "/tanist/default/".to_owned());
        assert_eq!(parsed("etcd://a:2379,b:2379").unwrap(), two);
        assert_eq!(parsed("etcd://a:2379,etcd://b:2379").unwrap(), two);
        assert_eq!(parsed("etcd://a:2379/orders").unwrap().1, "/tanist/orders/");
        assert!(Address::parse("tcp://a:8531").is_none() && Address::parse("a:8531").is_none());
        for (text, problem) in [
            ("etcds://a:2379", "TLS to an etcd is not supported"),
            ("etcd://root:secret@a:2379", "authentication to an etcd is not supported"),
            ("etcd://https://a:2379", "letters"),
            ("etcd://a:2379/", "letters"),
            ("etcd://a:2379/x/y", "letters"),
            ("etcd://a", "a"),
            ("etcd://", "etcd://"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(problem) && error.starts_with(text), "{error}");
        }
    }

    #[test]
    fn what_etcd_says_is_understood_or_said_to_be_unknown() {
        let reply =
            |status, text: &'static str| Reply { status, elsewhere: None, text: Bytes::from_static(text.as_bytes()) };
        let ask = Ask::Range { span: Span::key("k"), limit: 1 };
        let row = r#"{"header":{"revision":"3"},"kvs":[{"key":"aw==","create_revision":"2","mod_revision":"3",
            "version":"1","value":"dg=="}],"count":"1","more":true}"#;
        let rows = vec![Row { key: "k".into(), value: Bytes::from_static(b"v"), created: 2, modified: 3 }];
        assert_eq!(understand(&ask, &reply(200, row)), Ok(Answer::Rows { rows, more: true }));
        for text in ["", "[]", "{}", r#"{"header":{},"kvs":[{"key":"?"}]}"#, r#"{"header":{},"kvs":[{"key":"/w=="}]}"#]
        {
            assert!(understand(&ask, &reply(200, text)).is_err(), "{text}");
        }
        assert!(understand(&ask, &reply(503, r#"{"error":"etcdserver: request timed out"}"#)).is_err());
        let gone = understand(&Ask::KeepAlive { lease: 7 }, &reply(200, r#"{"result":{"header":{},"ID":"7"}}"#));
        assert_eq!(gone, Ok(Answer::Alive { ttl_s: 0 }));
        let put = Ask::Transaction(Transaction { compare: vec![], then: vec![], otherwise: vec![] });
        let lost = reply(404, r#"{"error":"etcdserver: requested lease not found","code":5}"#);
        assert_eq!(understand(&put, &lost), Ok(Answer::NoSuchLease));
    }
}
