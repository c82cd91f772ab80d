//! Plays the scripts of `tests/interaction/api` against the engine over a store in memory, and compares every answer
//! in full. `TANIST_REWRITE=1` writes the answers into the scripts; read the difference before you keep it.
//!
//! A script is a list of steps with a blank line between them. A step is a request (`METHOD target`, then header lines
//! that begin with `> `, then the body), a line `----`, and the answer (status, header lines that begin with `< `,
//! body). Lines that begin with `#` are remarks. Steps that begin with `!` set the stage and have no answer:
//! `!auth on`, `!as user:password` (or `superuser`, `nobody`), `!role leader|follower|undecided|standalone`,
//! `!read-only on|off`, `!ticks on|off`, `!body-limit N`, `!document-limit N`, `!undo TICK`, `!wait SECONDS`,
//! `!prune TICK`. Clocks and chance are fixed, so that revisions, ids and tokens are the same every time; transactions
//! are counted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tanist_engine::auth;
use tanist_engine::db::api;
use tanist_engine::db::mem::MemStore;
use tanist_engine::demand::Demands;
use tanist_engine::exec;
use tanist_engine::http::{Method, Request, Response, header};
use tanist_engine::io::*;
use tanist_engine::message::{Health, Member, Peer};
use tanist_engine::queries::Alone;
use tanist_engine::transaction::{Attached, Part, Transactions, Unbegun};
use tanist_engine::types::*;

const EPOCH: Epoch = Epoch(1);
/// 2026-01-01T00:00:00Z
const START_MS: u64 = 1_767_225_600_000;

struct Stage {
    store: MemStore,
    view: View,
    authorization: Option<String>,
    steps: u64,
    /// Knows the queries.
    attendant: Alone,
    transactions: Transactions,
    begun: u64,
    limits: TransactionLimits,
    /// Transcripts show what each answer reflects.
    ticks: bool,
}

fn peer(uuid: u128) -> Peer {
    let endpoint = Endpoint::parse(&format!("tcp://server{uuid}:8529")).unwrap();
    Peer { id: NodeId { kind: NodeKind::Server, uuid }, endpoint }
}

fn member(uuid: u128, health: Health) -> Member {
    let advertised = (uuid == 3).then(|| Endpoint::parse("tcp://outside:8529").unwrap());
    Member { peer: peer(uuid), advertised, short_name: format!("Single000{uuid}"), health, last: Position::ZERO }
}

impl Stage {
    fn new() -> Stage {
        let mut store = MemStore::new();
        let config = ServerConfig::new(peer(1).endpoint, Nonce(1));
        exec::open(&mut store, &Config::Server(config), Stage::now(0), 1).expect("an empty store opens");
        let begun = exec::perform(vec![(OpId(1), Op::BeginEpoch { epoch: EPOCH, lineage: Lineage(7) })], &mut store);
        assert!(matches!(begun[0].1, OpResult::Began { .. }), "{begun:?}");
        let auth = Auth { secrets: vec![b"secret".to_vec()], ..Auth::default() };
        let view = View {
            mode: Mode::Default,
            read_only: false,
            epoch: EPOCH,
            boot: Boot(1),
            lease_end: Time::NEVER,
            lease_slack: Duration::MAX,
            members: vec![
                member(1, Health::Good),
                member(2, Health::Good),
                member(3, Health::Good),
                member(4, Health::Bad),
                member(5, Health::Failed),
            ],
            auth: Arc::new(auth),
            ..View::new(peer(1))
        };
        Stage {
            store,
            view,
            authorization: None,
            steps: 0,
            attendant: Alone::default(),
            transactions: Transactions::default(),
            begun: 0,
            limits: TransactionLimits::default(),
            ticks: false,
        }
    }

    fn now(steps: u64) -> Now {
        Now { time: Time(steps * 1_000_000_000), wall_ms: START_MS + steps * 1000 }
    }

    /// A line that begins with `!`.
    fn set(&mut self, line: &str) {
        let (what, value) = line.split_once(' ').unwrap_or((line, ""));
        let on = value == "on";
        match what {
            "!auth" => self.view.auth = Arc::new(Auth { enabled: on, ..(*self.view.auth).clone() }),
            "!as" => {
                self.authorization = match value {
                    "nobody" => None,
                    "superuser" => Some(format!("bearer {}", auth::superuser_token(&self.view.auth).unwrap())),
                    _ => Some(format!("Basic {}", base64(value))),
                }
            }
            "!read-only" => self.view.read_only = on,
            "!ticks" => self.ticks = on,
            "!body-limit" => self.view.limits.body_bytes = value.parse().unwrap(),
            "!document-limit" => self.view.limits.document_bytes = value.parse().unwrap(),
            "!role" => {
                let (mode, leader, standalone) = match value {
                    "leader" => (Mode::Default, None, false),
                    "standalone" => (Mode::Default, None, true),
                    "follower" => (Mode::Redirect, Some(peer(2)), false),
                    "undecided" => (Mode::TryAgain, None, false),
                    _ => panic!("unknown role {value}"),
                };
                self.view = View { mode, leader, standalone, read_only: mode != Mode::Default, ..self.view.clone() };
            }
            "!wait" => self.steps += value.parse::<u64>().unwrap(),
            "!memory-limit" => self.limits.memory_of_one = value.parse().unwrap(),
            "!prune" => {
                let prune = Op::Prune { keep_from: Tick(value.parse().unwrap()) };
                exec::perform(vec![(OpId(1), prune)], &mut self.store);
            }
            "!undo" => {
                let common = Position { epoch: EPOCH, tick: Tick(value.parse().unwrap()) };
                let undo = Op::Undo { epoch: Epoch(2), common, limit: 1000 };
                let done = exec::perform(vec![(OpId(1), undo)], &mut self.store);
                assert!(matches!(done[0].1, OpResult::Undone { .. }), "{done:?}");
            }
            _ => panic!("unknown line {line}"),
        }
    }

    fn call(&mut self, mut request: Request) -> String {
        self.steps += 1;
        if let Some(authorization) = &self.authorization
            && request.header(header::AUTHORIZATION).is_none()
        {
            request.headers.push((header::AUTHORIZATION.into(), authorization.clone()));
        }
        let leads = self.view.mode == Mode::Default;
        let effect = api::effect(&request);
        let mut run = Run {
            writes: leads && effect.writes,
            kept: false,
            dirty: request.header(header::ALLOW_DIRTY_READ).is_some() && !leads,
            open: false,
            at_least: Demands::of(&request).expect("well-formed demands").at_least,
            fresh: None,
            sync_followers: 0,
            epoch: EPOCH,
            now: Stage::now(self.steps),
            seed: self.steps,
            view: Arc::new(self.view.clone()),
            transaction: Part { concern: effect.concern, ..Part::default() },
            request,
        };
        let (time, limits) = (Stage::now(self.steps).time, self.limits);
        let attached = self.transactions.attach(&mut run.transaction, run.writes, &limits, time);
        let mut result = if run.writes {
            exec::perform_attended(vec![(OpId(1), Op::Run(run))], &mut self.store, &self.attendant).pop().unwrap().1
        } else {
            exec::read_attended(Op::Run(run), &self.store, &self.attendant)
        };
        if let Attached::Holding(id) = attached {
            let (last, ran) = match &mut result {
                OpResult::Ran(ran) => (ran.last, Some(ran)),
                _ => (Position::ZERO, None),
            };
            self.transactions.settle(id, ran, last, &limits, time);
        }
        match result {
            OpResult::Ran(ran) => {
                let ran = self.as_the_loop_does(ran, &limits, time);
                assert!(ran.response.status < 400 || ran.entry.is_none(), "a refusal writes nothing");
                show(&ran.response, ran.then, self.ticks)
            }
            other => format!("{other:?}\n"),
        }
    }
}

impl Stage {
    /// What the node's loop adds to an answer about transactions.
    fn as_the_loop_does(&mut self, ran: Ran, limits: &TransactionLimits, time: Time) -> Ran {
        let answer = match &ran.then {
            Some(Then::Begin(terms)) => {
                self.begun += 1;
                match self.transactions.begin(self.begun, (**terms).clone(), ran.last, limits, time) {
                    Ok(()) => api::transaction_answer(201, self.begun, "running"),
                    Err(Unbegun::Error(error)) => error.response(),
                    Err(Unbegun::Locked) => return ran,
                }
            }
            Some(Then::Transactions { question, who }) => {
                api::transactions_told(*question, &self.transactions.ask(*question, who, ran.last, limits, time))
            }
            _ => return ran,
        };
        Ran { response: Response { headers: ran.response.headers, ..answer }, then: None, ..ran }
    }
}

fn show(response: &Response, then: Option<Then>, ticks: bool) -> String {
    let mut text = format!("{}\n", response.status);
    for (name, value) in response.headers.iter().filter(|(name, _)| ticks || name != header::TICK) {
        text += &format!("< {name}: {value}\n");
    }
    if !response.body.is_empty() {
        text += String::from_utf8_lossy(&response.body).trim_end_matches('\n');
        text.push('\n');
    }
    match then {
        Some(Then::Agency { request, make }) => {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            text += &format!("then {} {} {body} for {make:?}\n", request.method, request.target);
        }
        Some(Then::Build(_)) => text += "then once the index is built\n",
        Some(Then::Forget(record)) => text += &format!("then forget {record:?}\n"),
        Some(Then::SetExpiry(properties)) => text += &format!("then {properties:?}\n"),
        Some(Then::Shutdown) => text += "then shut down\n",
        Some(Then::Keep(result)) => text += &format!("then keep {} rows\n", result.rows.len()),
        Some(Then::Begin(_)) => text += "then wait for another transaction\n",
        Some(Then::End(_) | Then::Transactions { .. }) => unreachable!("the stage does what the loop does"),
        Some(Then::Cursor(call)) => text += &format!("then cursor {} {:?}\n", call.id, call.what),
        Some(Then::Defer(order)) => text += &format!("then defer {order:?}\n"),
        Some(Then::Process(_)) => text += "then with what the process knows\n",
        Some(Then::ReadOnly(read_only)) => text += &format!("then read-only: {read_only}\n"),
        Some(Then::Job(call)) => text += &format!("then job {call:?}\n"),
        Some(Then::AtLeisure) => unreachable!("nobody hurries here"),
        None => {}
    }
    text
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, &b| bits << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

fn request(lines: &[&str]) -> Request {
    let (method, target) = lines[0].split_once(' ').unwrap_or_else(|| panic!("no target: {}", lines[0]));
    let mut request = Request::new(Method::parse(method).unwrap_or_else(|| panic!("method {method}")), target);
    let mut body = Vec::new();
    for line in &lines[1..] {
        match line.strip_prefix("> ").and_then(|line| line.split_once(": ")) {
            Some((name, value)) => request = request.with_header(name, value),
            None => body.push(*line),
        }
    }
    request.with_body(body.join("\n"))
}

/// Plays a script; returns it as it would be if every answer were as expected.
fn play(script: &str) -> String {
    let mut stage = Stage::new();
    let mut played = Vec::new();
    for step in script.trim().split("\n\n") {
        let (given, _) = step.split_once("----").unwrap_or((step, ""));
        let lines: Vec<&str> = given.lines().filter(|line| !line.starts_with('#')).collect();
        let remarks = given.lines().filter(|line| line.starts_with('#')).map(|line| format!("{line}\n"));
        let mut text: String = remarks.collect();
        match lines.first() {
            None => {}
            Some(line) if line.starts_with('!') => {
                for line in &lines {
                    stage.set(line);
                    text += &format!("{line}\n");
                }
            }
            Some(_) => {
                text += &lines.join("\n");
                text += "\n----\n";
                text += &stage.call(request(&lines));
            }
        }
        played.push(text);
    }
    played.join("\n")
}

#[test]
fn scripts_play_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/interaction/api");
    let mut scripts: BTreeMap<PathBuf, String> = BTreeMap::new();
    for file in std::fs::read_dir(&folder).expect("the scripts are there") {
        let path = file.unwrap().path();
        scripts.insert(path.clone(), std::fs::read_to_string(&path).unwrap());
    }
    assert!(scripts.len() >= 8, "some scripts are missing");
    let mut wrong = Vec::new();
    for (path, expected) in scripts {
        let played = play(&expected);
        if played == expected {
            continue;
        }
        if std::env::var_os("TANIST_REWRITE").is_some() {
            std::fs::write(&path, played).unwrap();
            continue;
        }
        let differ =
            played.lines().zip(expected.lines()).enumerate().find(|(_, (played, expected))| played != expected);
        wrong.push(match differ {
            Some((at, (played, expected))) => {
                format!("{}:{}\n  expected: {expected}\n  played:   {played}", path.display(), at + 1)
            }
            None => format!("{}: one is longer than the other", path.display()),
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_script_is_played_the_same_twice() {
    let script = "POST /_api/collection\n{\"name\":\"c\"}\n\nPOST /_api/document/c\n{\"a\":1}";
    assert_eq!(play(script), play(script));
    assert_eq!(
        (base64("root:"), base64("a"), base64("ab"), base64("abc")),
        ("cm9vdDo=".into(), "YQ==".into(), "YWI=".into(), "YWJj".into())
    );
}

/// Whatever a client sends is answered: no panic, nothing of a refusal is kept, and JSON is JSON.
#[test]
fn any_request_is_answered() {
    const METHODS: [Method; 7] =
        [Method::Get, Method::Head, Method::Post, Method::Put, Method::Patch, Method::Delete, Method::Options];
    const PREFIXES: [&str; 5] = ["", "/_db/_system", "/_db/d", "/_db/none", "/_db/%zz"];
    const PATHS: [&str; 44] = [
        "/",
        "//",
        "/_api/document",
        "/_api/document/c",
        "/_api/document/c/k",
        "/_api/document/e/k",
        "/_api/document/e",
        "/_api/document/_users/root",
        "/_api/document/c/%2F",
        "/_api/document/c/%00",
        "/_api/collection",
        "/_api/collection/c",
        "/_api/collection/c/properties",
        "/_api/collection/c/count",
        "/_api/collection/c/rename",
        "/_api/collection/c/truncate",
        "/_api/collection/c/checksum",
        "/_api/collection/4865",
        "/_api/collection/99999999999999999999999",
        "/_api/index",
        "/_api/index/c/0",
        "/_api/database",
        "/_api/database/d",
        "/_api/database/_system",
        "/_api/database/current",
        "/_api/import",
        "/_api/simple/all",
        "/_api/simple/by-example",
        "/_api/simple/lookup-by-keys",
        "/_api/simple/remove-by-keys",
        "/_api/simple/update-by-example",
        "/_api/simple/any",
        "/_api/user",
        "/_api/user/ann",
        "/_api/user/ann/database/d",
        "/_api/user/ann/database/d/c",
        "/_api/user/root/config/x",
        "/_open/auth",
        "/_api/tanist/status",
        "/_api/tanist/rollbacks/store-1",
        "/_api/tanist/rollbacks/-1",
        "/_admin/server/mode",
        "/_api/replication/applier-state",
        "/_api/cluster/endpoints",
    ];
    const QUERIES: [&str; 12] = [
        "",
        "?",
        "?collection=c",
        "?collection=e&type=documents",
        "?collection=c&type=auto&complete=true",
        "?collection=c&onDuplicate=update&overwrite=true",
        "?returnNew=true&returnOld=true&overwriteMode=update",
        "?onlyget=true",
        "?silent=true&waitForSync=1",
        "?keepNull=false&mergeObjects=false&ignoreRevs=no",
        "?full=true&global=true&details=yes",
        "?collection=%ff&x=%zz&=&&",
    ];
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(110), "]".repeat(110));
    let deeper = format!("{{\"schema\":{}{}}}", "{\"a\":".repeat(120), "}".repeat(120));
    let long =
        format!("{{\"name\":\"{0}\",\"_key\":\"{0}\",\"collection\":\"{0}\",\"user\":\"{0}\"}}", "x".repeat(600));
    let bodies: Vec<&str> = vec![
        "",
        " ",
        "null",
        "[]",
        "{}",
        "7",
        "\"x\"",
        "[",
        "{\"a\"",
        "\u{0}",
        "[1,\"k\",{},null,[]]",
        "{\"_key\":\"k\",\"a\":{\"b\":null}}",
        "[{\"_key\":\"k\"},{\"_key\":\"k\"},{\"_id\":\"c/k\",\"_rev\":\"x\"}]",
        "{\"_from\":\"c/k\",\"_to\":\"c/k\",\"_key\":\"k\"}",
        "{\"name\":\"c\"}",
        "{\"name\":\"d\",\"users\":[{\"username\":\"ann\"},7]}",
        "{\"name\":\"e\",\"type\":3}",
        "{\"name\":7,\"users\":{}}",
        "{\"name\":\"auto\",\"keyOptions\":{\"type\":\"autoincrement\",\"offset\":9223372036854775807}}",
        "{\"user\":\"ann\",\"passwd\":\"pw\",\"extra\":{\"x\":[]}}",
        "{\"username\":\"root\",\"password\":\"\"}",
        "{\"grant\":\"rw\"}",
        "{\"collection\":\"c\",\"keys\":[\"k\",7],\"example\":{\"a.b\":null},\"newValue\":{\"z\":1,\"_key\":\"q\"},\"limit\":1}",
        "{\"collection\":\"c\",\"skip\":18446744073709551615,\"limit\":0}",
        "[\"_key\",\"a\"]\n[\"k2\",1]\n\n[7]\n",
        "{\"mode\":\"readonly\"}",
        "{\"value\":1e308}",
        "{\"waitForSync\":true,\"cacheEnabled\":null}",
        &deep,
        &deeper,
        &long,
    ];
    let headers =
        [("if-match", "\"_abc\""), ("if-none-match", "*"), ("authorization", "bearer x.y.z"), ("x-arango-trx-id", "1")];
    let mut rng = Rng::new(2);
    let mut stage = Stage::new();
    let pick = |rng: &mut Rng, n: usize| rng.below(n as u64) as usize;
    for round in 0..20_000 {
        if round % 1000 == 0 {
            stage = Stage::new();
            stage.set(if rng.chance(1, 3) { "!auth on" } else { "!auth off" });
            stage.set(if rng.chance(1, 2) { "!as root:" } else { "!as superuser" });
        }
        stage.view.read_only = rng.chance(1, 20);
        let prefix = if rng.chance(1, 3) { PREFIXES[pick(&mut rng, PREFIXES.len())] } else { "" };
        let path = PATHS[pick(&mut rng, PATHS.len())];
        let target = format!("{prefix}{path}{}", QUERIES[pick(&mut rng, QUERIES.len())]);
        let mut request = Request::new(METHODS[pick(&mut rng, METHODS.len())], target.clone());
        let body = bodies[pick(&mut rng, bodies.len())];
        request = request.with_body(body.to_owned());
        if rng.chance(1, 5) {
            let (name, value) = headers[pick(&mut rng, headers.len())];
            request = request.with_header(name, value);
        }
        let shown = stage.call(request.clone());
        let status: u16 = shown.lines().next().unwrap().parse().unwrap_or_else(|_| panic!("{request:?}: {shown}"));
        assert!((200..600).contains(&status), "{request:?}: {shown}");
        assert!(status != 500 || path.contains("shards") || path.contains("server/id"), "{request:?}: {shown}");
        let last = shown.lines().last().unwrap();
        if last.starts_with('{') || last.starts_with('[') {
            let whole: Result<serde_json::Value, _> = serde_json::from_str(last);
            assert!(whole.is_ok(), "{request:?}: {shown}");
        }
    }
}
