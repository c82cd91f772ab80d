//! The HTTP surface of an agent: ArangoDB's agency API, the few admin calls that tools use on agents, and Tanist's own.
//!
//! Requests of servers (`Message::Call`) take the same way. Writes are answered when they are applied; reads when it is
//! known that this agent still led after they arrived. Whoever stops leading answers everything that waits (I17).

use super::consensus::Consensus;
use super::state::{Command, Outcome, ServerRecord, State};
use super::{Agency, Change};
use super::{supervision, tree};
use crate::auth;
use crate::errors;
use crate::http::{Method, Request, Response, header};
use crate::io::{Cx, RequestId};
use crate::message::raft::Seat;
use crate::message::{Message, Peer};
use crate::types::*;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};

const BODY_BYTES_MAX: usize = 16 << 20;
/// What an entry of the log may have besides its transaction.
const ENTRY_BYTES_BESIDE: usize = 1024;
/// Requests that wait at one time.
const JOBS_MAX: usize = 4096;
/// Agents that may have a seat at one time; while one takes another's place there is one more than usual.
pub const AGENTS_MAX: usize = 7;
/// How much of the log `state` shows.
const STATE_LOG_COUNT_MAX: usize = 1000;
const STATE_LOG_BYTES_MAX: usize = 1 << 20;
const POLL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
const POLL_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Who gets the answer.
#[derive(Clone, Debug, Hash)]
pub enum Target {
    Client(RequestId),
    Server { peer: Peer, call: u64 },
}

fn answer(cx: &mut Cx, target: Target, response: Response) {
    match target {
        Target::Client(id) => cx.reply(id, response),
        Target::Server { peer, call } => cx.send(&peer, Message::Answer { call, response }),
    }
}

pub fn no_leader() -> Response {
    message(503, "No leader")
}

/// Of an agency on an etcd.
fn no_seats() -> Response {
    Response::error(409, 409, "the agency is on an etcd: its agents have no seats, they may come and go")
}

fn message(status: u16, text: &str) -> Response {
    Response::json(status, &json!({"message": text}))
}

fn ok(mut fields: Value) -> Response {
    fields["error"] = json!(false);
    fields["code"] = json!(200);
    Response::json(200, &fields)
}

/// What is done once it is known that this agent led after the request arrived.
#[derive(Clone, Hash)]
enum Ask {
    Read(Vec<Value>),
    Inquire { clients: Vec<String>, wait: bool },
    DeathNotice { server: NodeId, nonce: Nonce },
    Handover { to: Option<NodeId> },
    SetTiming(Timing),
    Agents,
    AddAgent(Seat),
    RemoveAgent(NodeId),
    Status,
    Failovers,
}

/// The supervision's rules, for whoever reads its log lines.
fn rules() -> Response {
    let rules = supervision::RULES.iter().map(|r| json!({"rule": r.number, "when": r.when, "then": r.then}));
    let health = supervision::HEALTH_RULES.iter().map(|r| json!({"rule": r.number, "when": r.when, "then": r.then}));
    ok(json!({"rules": rules.chain(health).collect::<Vec<_>>()}))
}

#[derive(Clone, Hash)]
struct WaitingAsk {
    target: Target,
    round: u64,
    ask: Ask,
}

#[derive(Clone, Hash)]
enum Step {
    Read(Vec<Value>),
    Write(u64),
}

/// A request that contains writes; its log entries follow one another.
#[derive(Clone, Hash)]
struct WriteJob {
    target: Target,
    /// `write` answers with indexes only, `transact` with what was read besides.
    transact: bool,
    first: u64,
    steps: VecDeque<Step>,
    results: Vec<Value>,
    failed: bool,
}

#[derive(Clone, Hash)]
struct Poll {
    target: Target,
    index: u64,
    until: Time,
}

/// Requests that wait for their answer.
#[derive(Clone, Default, Hash)]
pub struct Jobs {
    asks: Vec<WaitingAsk>,
    /// By the index of their last entry.
    writes: BTreeMap<u64, WriteJob>,
    /// Clients' transactions that are appended and not applied, and how often.
    clients: BTreeMap<u64, String>,
    polls: Vec<Poll>,
    /// Changes of the timing, by the index of their entry.
    timings: BTreeMap<u64, (Target, Timing)>,
}

impl Jobs {
    fn full(&self) -> bool {
        self.asks.len() + self.writes.len() + self.polls.len() + self.timings.len() >= JOBS_MAX
    }

    pub fn deadline(&self) -> Time {
        self.polls.iter().map(|poll| poll.until).min().unwrap_or(Time::NEVER)
    }

    fn job_at(&mut self, index: u64) -> Option<&mut WriteJob> {
        self.writes.range_mut(index..).next().map(|(_, job)| job).filter(|job| job.first <= index)
    }

    /// Reads that stand before the write at `index`.
    pub fn before(&mut self, index: u64, state: &State) {
        if let Some(job) = self.job_at(index) {
            job.read(state);
        }
    }

    pub fn after(&mut self, cx: &mut Cx, index: u64, outcome: &Outcome, state: &State) {
        self.clients.remove(&index);
        if let Some((target, timing)) = self.timings.remove(&index) {
            answer(cx, target, ok(json!({"timing": timing_json(timing)})));
        }
        let Some(job) = self.job_at(index) else { return };
        match (job.steps.pop_front(), outcome) {
            (Some(Step::Write(mine)), Outcome::Written(result)) if mine == index => match result {
                Ok(applied) => job.results.push(json!(applied)),
                Err(values) => {
                    job.failed = true;
                    job.results.push(if job.transact { values.clone() } else { json!(0) });
                }
            },
            _ => panic!("entry {index} is not the write that was appended there"),
        }
        job.read(state);
        if job.steps.is_empty() {
            let job = self.writes.remove(&index).expect("a job is kept under its last entry");
            let status = if job.failed { 412 } else { 200 };
            let results = Value::Array(job.results);
            let body = if job.transact { results } else { json!({"results": results}) };
            answer(cx, job.target, Response::json(status, &body));
        }
    }

    pub fn refuse_all(&mut self, cx: &mut Cx, response: &Response) {
        let jobs = std::mem::take(self);
        let asks = jobs.asks.into_iter().map(|ask| ask.target);
        let writes = jobs.writes.into_values().map(|job| job.target);
        let timings = jobs.timings.into_values().map(|(target, _)| target);
        for target in asks.chain(writes).chain(timings).chain(jobs.polls.into_iter().map(|poll| poll.target)) {
            answer(cx, target, response.clone());
        }
    }

    pub fn answer_polls(&mut self, cx: &mut Cx, state: &State, history: &VecDeque<Change>) {
        let (ready, waiting) = std::mem::take(&mut self.polls).into_iter().partition(|p| p.index <= state.applied);
        self.polls = waiting;
        for poll in ready {
            answer(cx, poll.target, poll_response(poll.index, state, history));
        }
    }

    pub fn expire_polls(&mut self, cx: &mut Cx, state: &State) {
        let now = cx.now.time;
        let (over, waiting) = std::mem::take(&mut self.polls).into_iter().partition(|p| p.until <= now);
        self.polls = waiting;
        for poll in over {
            let index = state.applied;
            let result = json!({"firstIndex": index, "commitIndex": index, "log": []});
            answer(cx, poll.target, ok(json!({"result": result})));
        }
    }
}

impl WriteJob {
    fn read(&mut self, state: &State) {
        while let Some(Step::Read(paths)) = self.steps.front() {
            self.results.push(read(paths, state));
            self.steps.pop_front();
        }
    }
}

fn read(paths: &[Value], state: &State) -> Value {
    let paths: Vec<String> = paths.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    state.tree.read(&paths, state.wall_ms)
}

fn poll_response(index: u64, state: &State, history: &VecDeque<Change>) -> Response {
    let commit = state.applied;
    let kept = history.front().map_or(u64::MAX, |oldest| oldest.index);
    let result = if index == 0 || index < kept {
        json!({"firstIndex": 0, "commitIndex": commit, "readDB": [state.tree.dump(state.wall_ms)]})
    } else {
        let log: Vec<Value> = history
            .iter()
            .filter(|change| change.index >= index)
            .map(|change| json!({"index": change.index, "query": change.query}))
            .collect();
        json!({"firstIndex": index, "commitIndex": commit, "log": log})
    };
    ok(json!({"result": result}))
}

fn is_paths(value: &Value) -> bool {
    value.as_array().is_some_and(|paths| !paths.is_empty() && paths.iter().all(Value::is_string))
}

/// Checks the form of a write transaction: `[operations, preconditions?, clientId?]`.
fn check_transaction(value: &Value) -> Result<(), Response> {
    let bad = |text: &str| Err(message(400, text));
    let Some(parts) = value.as_array() else { return bad("Expecting array of arrays as body for writes") };
    let [operations, rest @ ..] = parts.as_slice() else { return bad("Empty request") };
    let Some(operations) = operations.as_object() else { return bad("Expecting an object of operations") };
    if rest.len() > 2 || rest.first().is_some_and(|p| !p.is_object()) || rest.get(1).is_some_and(|c| !c.is_string()) {
        return bad("Expecting [operations, preconditions, clientId]");
    }
    if operations.keys().any(|key| tree::is_same_or_above("/.agency", &tree::normalize(key))) {
        return Err(message(403, "the key .agency is reserved"));
    }
    Ok(())
}

fn body_array(request: &Request) -> Result<Vec<Value>, Response> {
    match serde_json::from_slice(&request.body) {
        Ok(Value::Array(items)) if items.is_empty() => Err(message(400, "Empty request")),
        Ok(Value::Array(items)) => Ok(items),
        _ => Err(message(400, "Expecting array of arrays as body for writes")),
    }
}

impl Agency {
    pub(super) fn on_request(&mut self, cx: &mut Cx, target: Target, request: Request, trusted: bool) {
        let (_, path) = request.split_database();
        let path = path.to_owned();
        let open = matches!(path.as_str(), "/_api/version" | "/_admin/server/availability");
        let genuine =
            || auth::verify_superuser(&self.config.auth, request.header(header::AUTHORIZATION), cx.now.wall_ms);
        if self.stopping {
            return answer(cx, target, Response::error(503, 30, "shutdown in progress"));
        }
        if !trusted && !open && !genuine() {
            let refusal = Response::error(401, 11, "not authorized to execute this request");
            return answer(cx, target, refusal.with_header(header::WWW_AUTHENTICATE, "Bearer token_type=\"JWT\""));
        }
        if request.body.len() > BODY_BYTES_MAX {
            return answer(cx, target, Response::error(413, 413, "the body is too large"));
        }
        let response = match (path.as_str(), request.method) {
            ("/_api/version", Method::Get) => {
                Some(Response::json(200, &json!({"server": "arango", "license": "community", "version": "3.11.14"})))
            }
            ("/_admin/server/role", Method::Get) => Some(ok(json!({"role": "AGENT", "mode": "default"}))),
            ("/_admin/server/availability", Method::Get) => Some(ok(json!({"mode": "default"}))),
            ("/_admin/status", Method::Get) => Some(self.admin_status(cx)),
            ("/_admin/shutdown", Method::Delete) => {
                answer(cx, target, Response::json(200, &json!("OK")));
                return self.stop(cx);
            }
            ("/_api/tanist/rules", Method::Get) => Some(rules()),
            (path, _) if path.starts_with("/_api/tanist/") => {
                return self.on_tanist_request(cx, target, &request, &path["/_api/tanist/".len()..]);
            }
            (path, _) if path == "/_api/agency" || path.starts_with("/_api/agency/") => {
                return self.on_agency_request(cx, target, &request, path);
            }
            ("/_api/version" | "/_admin/server/role" | "/_admin/status" | "/_admin/shutdown", _) => {
                Some(Response::error(405, 405, "method not supported"))
            }
            _ => None,
        };
        let response = response.unwrap_or_else(|| Response::error(404, 404, &format!("unknown path '{path}'")));
        answer(cx, target, response);
    }

    /// Where to go instead; `None` if this agent leads.
    fn elsewhere(&self, path: &str) -> Option<Response> {
        if self.office.is_some() {
            return None;
        }
        Some(match self.leader_peer() {
            Some(leader) => {
                Response::empty(307).with_header(header::LOCATION, format!("{}{path}", leader.endpoint.url()))
            }
            None => no_leader(),
        })
    }

    fn on_agency_request(&mut self, cx: &mut Cx, target: Target, request: &Request, path: &str) {
        let verb = path.strip_prefix("/_api/agency").unwrap_or_default().trim_matches('/');
        if verb.is_empty() || verb.contains('/') {
            return answer(cx, target, Response::error(404, 404, "unknown path"));
        }
        let leader_only = matches!(verb, "read" | "write" | "transact" | "transient" | "inquire" | "poll");
        let method = match verb {
            "read" | "write" | "transact" | "transient" | "inquire" | "store" => Method::Post,
            "poll" | "config" | "state" | "stores" => Method::Get,
            _ => return answer(cx, target, Response::error(404, 405, &format!("unknown method '{verb}'"))),
        };
        if verb == "config" && matches!(request.method, Method::Post | Method::Put) {
            let why = "an agent is configured by its options; where the others are, agents tell one another";
            return answer(cx, target, errors::NOT_IMPLEMENTED.because(why).response());
        }
        if request.method != method {
            return answer(cx, target, Response::error(405, 405, "method not supported"));
        }
        if leader_only && let Some(response) = self.elsewhere(path) {
            let plain = verb == "poll" && response.status == 503;
            let response = if plain { Response::error(503, 503, "No leader") } else { response };
            return answer(cx, target, response);
        }
        if self.jobs.full() {
            return answer(cx, target, errors::QUEUE_FULL.response());
        }
        let outcome = match verb {
            "read" => self.on_read(cx, &target, request),
            "write" => self.on_write(cx, &target, request, false),
            "transact" => self.on_write(cx, &target, request, true),
            "transient" => self.on_transient(cx, request),
            "inquire" => self.on_inquire(cx, &target, request),
            "poll" => self.on_poll(cx, &target, request),
            "store" => Ok(Some(self.store_at(cx, request))),
            "config" => Ok(Some(self.agency_config(cx))),
            "state" => Ok(Some(self.agency_state(cx))),
            _ => Ok(Some(self.agency_stores(cx))),
        };
        match outcome {
            Ok(Some(response)) | Err(response) => answer(cx, target, response),
            // Answered later.
            Ok(None) => {}
        }
    }

    fn ask(&mut self, cx: &mut Cx, target: &Target, ask: Ask) {
        let consensus = self.consensus.as_mut().expect("in office");
        let round = if planted!(read_without_round) { 0 } else { consensus.request_round(cx.now.time) };
        self.jobs.asks.push(WaitingAsk { target: target.clone(), round, ask });
    }

    fn on_read(&mut self, cx: &mut Cx, target: &Target, request: &Request) -> Result<Option<Response>, Response> {
        let queries = body_array(request)?;
        if !queries.iter().all(is_paths) {
            return Err(message(418, "Expecting an array of path strings for each read"));
        }
        self.ask(cx, target, Ask::Read(queries));
        Ok(None)
    }

    fn on_inquire(&mut self, cx: &mut Cx, target: &Target, request: &Request) -> Result<Option<Response>, Response> {
        let items = body_array(request)?;
        let clients: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        let clients = clients.ok_or_else(|| message(400, "Expecting an array of client ids"))?;
        let wait = request.header(header::AGENCY_MODE) != Some("noWait");
        self.ask(cx, target, Ask::Inquire { clients, wait });
        Ok(None)
    }

    fn on_write(
        &mut self,
        cx: &mut Cx,
        target: &Target,
        request: &Request,
        transact: bool,
    ) -> Result<Option<Response>, Response> {
        let items = body_array(request)?;
        for item in &items {
            if !(transact && is_paths(item)) {
                check_transaction(item)?;
            }
        }
        if transact && items.iter().all(is_paths) {
            self.ask(cx, target, Ask::Read(items));
            return Ok(None);
        }
        let entry_bytes_max = self.consensus.as_ref().map_or(0, Consensus::entry_bytes_max);
        let too_large = |item: &Value| item.to_string().len() + ENTRY_BYTES_BESIDE > entry_bytes_max;
        if entry_bytes_max < BODY_BYTES_MAX && items.iter().any(too_large) {
            return Err(message(413, "a transaction is too large for the etcd that keeps it"));
        }
        let wall_ms = self.stamp(cx.now);
        let mut steps = VecDeque::new();
        let mut indexes = Vec::new();
        for item in items {
            if let Value::Array(paths) = &item
                && transact
                && is_paths(&item)
            {
                steps.push_back(Step::Read(paths.clone()));
                continue;
            }
            let client = item.get(2).and_then(Value::as_str).map(str::to_owned);
            let command = Command::Write { transaction: item.to_string(), privileged: false, wall_ms };
            let index = self.propose(&command).ok_or_else(no_leader)?;
            if let Some(client) = client {
                self.jobs.clients.insert(index, client);
            }
            indexes.push(index);
            steps.push_back(Step::Write(index));
        }
        let (first, last) = (indexes[0], indexes[indexes.len() - 1]);
        match request.header(header::AGENCY_MODE) {
            Some("noWait") if !transact => return Ok(Some(Response::json(200, &json!({})))),
            Some("waitForSequenced") if !transact => {
                return Ok(Some(Response::json(200, &json!({"results": indexes}))));
            }
            _ => {}
        }
        let job = WriteJob { target: target.clone(), transact, first, steps, results: Vec::new(), failed: false };
        self.jobs.writes.insert(last, job);
        Ok(None)
    }

    fn on_transient(&mut self, cx: &mut Cx, request: &Request) -> Result<Option<Response>, Response> {
        let items = body_array(request)?;
        let wall_ms = self.stamp(cx.now);
        let office = self.office.as_mut().expect("checked by the caller");
        let none = Map::new();
        let (mut results, mut failed) = (Vec::new(), false);
        for item in &items {
            if is_paths(item) {
                let paths: Vec<String> =
                    item.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
                results.push(office.transient.tree().read(&paths, wall_ms));
                continue;
            }
            check_transaction(item)?;
            let operations = item.get(0).and_then(Value::as_object).unwrap_or(&none);
            let preconditions = item.get(1).and_then(Value::as_object).unwrap_or(&none);
            let applied = office.transient.tree().transact(operations, preconditions, wall_ms).is_ok();
            failed |= !applied;
            results.push(json!(applied));
        }
        Ok(Some(Response::json(if failed { 412 } else { 200 }, &Value::Array(results))))
    }

    fn on_poll(&mut self, cx: &mut Cx, target: &Target, request: &Request) -> Result<Option<Response>, Response> {
        let number = |name: &str| request.query(name).map(|text| text.parse::<f64>().ok().filter(|n| *n >= 0.0));
        let bad = |name: &str| Response::error(400, 400, &format!("'{name}' is not a number"));
        let index = match number("index") {
            None => 0.0,
            Some(index) => index.ok_or_else(|| bad("index"))?,
        } as u64;
        let timeout = match number("timeout") {
            None => POLL_TIMEOUT_DEFAULT,
            Some(seconds) => Duration::from_secs_f64(seconds.ok_or_else(|| bad("timeout"))?.min(1e6)),
        };
        if index <= self.state.applied {
            return Ok(Some(poll_response(index, &self.state, &self.history)));
        }
        let until = cx.now.time.plus(timeout.min(POLL_TIMEOUT_MAX));
        self.jobs.polls.push(Poll { target: target.clone(), index, until });
        Ok(None)
    }

    /// Answers what waited for the confirmation of its round.
    pub(super) fn answer_asks(&mut self, cx: &mut Cx, confirmed: u64) {
        let (ready, waiting) = std::mem::take(&mut self.jobs.asks).into_iter().partition(|a| a.round <= confirmed);
        self.jobs.asks = waiting;
        for asked in ready {
            let response = match &asked.ask {
                Ask::Read(queries) => {
                    let wall_ms = self.stamp(cx.now);
                    let read = |paths: &Value| {
                        let paths = paths.as_array().into_iter().flatten();
                        let paths: Vec<String> = paths.filter_map(Value::as_str).map(str::to_owned).collect();
                        self.state.tree.read(&paths, wall_ms)
                    };
                    Response::json(200, &queries.iter().map(read).collect())
                }
                Ask::Inquire { clients, wait } => {
                    let ongoing = clients.iter().any(|client| self.jobs.clients.values().any(|c| c == client));
                    if ongoing && *wait {
                        self.jobs.asks.push(asked);
                        continue;
                    }
                    let indexes: Vec<u64> =
                        clients.iter().map(|client| self.state.client_index(client).unwrap_or(0)).collect();
                    let status = if indexes.contains(&0) { 404 } else { 200 };
                    let mut body = json!({"results": indexes, "inquired": true});
                    if ongoing {
                        body["ongoing"] = json!(true);
                    }
                    Response::json(status, &body)
                }
                Ask::DeathNotice { server, nonce } => match self.on_death_notice(*server, *nonce) {
                    Ok(()) => ok(json!({"accepted": true, "reason": "the process is taken for dead"})),
                    Err(reason) => ok(json!({"accepted": false, "reason": reason})),
                },
                Ask::Handover { to } => match self.request_handover(cx, *to) {
                    Ok(to) => ok(json!({"accepted": true, "to": to.to_string()})),
                    Err(reason) => Response::error(409, 409, reason),
                },
                Ask::SetTiming(timing) => match self.propose(&Command::SetTiming { timing: *timing }) {
                    Some(index) => {
                        self.jobs.timings.insert(index, (asked.target, *timing));
                        continue;
                    }
                    None => no_leader(),
                },
                Ask::Agents => self.agents_response(),
                Ask::AddAgent(seat) => self.add_agent(cx, seat),
                Ask::RemoveAgent(id) => self.remove_agent(*id),
                Ask::Status => self.tanist_status(cx),
                Ask::Failovers => ok(json!({"result": self.failovers()})),
            };
            answer(cx, asked.target, response);
        }
    }

    // ---- Tanist's own -----------------------------------------------------------------------------------------------

    fn on_tanist_request(&mut self, cx: &mut Cx, target: Target, request: &Request, what: &str) {
        if let ("death-notice", Method::Post, Some(agent)) = (what, request.method, named_agent(request)) {
            let response = self.on_agent_death(cx, agent);
            return answer(cx, target, response);
        }
        let ask = match (what, request.method) {
            ("status", Method::Get) => Ok(Ask::Status),
            ("failovers", Method::Get) => Ok(Ask::Failovers),
            ("death-notice", Method::Post) => parse_death_notice(request),
            ("handover", Method::Post) => parse_handover(request),
            ("timing", Method::Put) => parse_timing(request),
            ("agents", Method::Get) => Ok(Ask::Agents),
            ("agents", Method::Post) => parse_agent(request),
            ("agents", Method::Delete) => parse_agent_id(&body_object_or_query(request)).map(Ask::RemoveAgent),
            ("status" | "failovers" | "death-notice" | "handover" | "timing" | "agents", _) => {
                Err(Response::error(405, 405, "method not supported"))
            }
            _ => Err(Response::error(404, 404, "unknown path")),
        };
        let ask = match (ask, self.elsewhere(request.raw_path())) {
            (Err(response), _) | (Ok(_), Some(response)) => return answer(cx, target, response),
            (Ok(ask), None) => ask,
        };
        if self.jobs.full() {
            return answer(cx, target, errors::QUEUE_FULL.response());
        }
        if let Ask::RemoveAgent(id) = ask
            && planted!(change_before_own_entry)
        {
            let response = self.remove_agent(id);
            return answer(cx, target, response);
        }
        self.ask(cx, &target, ask);
    }

    /// The process of an agent is dead. Each agent is told, for the one that leads may be the one that is meant.
    fn on_agent_death(&mut self, cx: &Cx, agent: NodeId) -> Response {
        let followed = match &mut self.consensus {
            Some(Consensus::Raft(raft)) => raft.suspect(cx.now.time, agent),
            _ => false,
        };
        let reason = if followed { "its lead is over" } else { "this agent does not follow it" };
        ok(json!({"accepted": followed, "reason": reason}))
    }

    /// Who has a seat in the agency, and who catches up to have one.
    fn agents_response(&self) -> Response {
        let leader = self.consensus.as_ref().and_then(Consensus::leader);
        let agent = |seat: &Seat, state: &str| {
            json!({
                "id": seat.peer.id.to_string(), "endpoint": seat.peer.endpoint.to_string(),
                "disk": Uuid(seat.disk.0).to_string(), "leading": leader == Some(seat.peer.id), "state": state,
            })
        };
        let mut agents: Vec<Value> = self.pool.seats().iter().map(|seat| agent(seat, "member")).collect();
        if let Some(Consensus::Raft(raft)) = &self.consensus {
            agents.extend(raft.learner().map(|seat| agent(seat, "learning")));
        }
        ok(json!({"witness": self.witness(), "agents": agents}))
    }

    /// What orders the agency's entries: its own agents, each with a seat, or an etcd.
    fn witness(&self) -> &'static str {
        if matches!(self.consensus, Some(Consensus::Etcd(_))) { "etcd" } else { "agents" }
    }

    /// Asked again until the agent is a member: it gets its seat once it has caught up.
    fn add_agent(&mut self, cx: &Cx, seat: &Seat) -> Response {
        if self.pool.seats().len() >= AGENTS_MAX && !self.pool.seats().iter().any(|s| s.peer.id == seat.peer.id) {
            return Response::error(409, 409, &format!("an agency has at most {AGENTS_MAX} agents"));
        }
        let Some(Consensus::Raft(raft)) = &mut self.consensus else { return no_seats() };
        self.pool.introduce(&seat.peer);
        match raft.add(cx.now.time, seat.clone()) {
            Ok(()) => self.agents_response(),
            Err(why) => Response::error(409, 409, why),
        }
    }

    fn remove_agent(&mut self, id: NodeId) -> Response {
        let Some(Consensus::Raft(raft)) = &mut self.consensus else { return no_seats() };
        match raft.remove(id) {
            Ok(()) => self.agents_response(),
            Err(why) => Response::error(409, 409, why),
        }
    }

    fn tanist_status(&self, cx: &Cx) -> Response {
        let lead = &self.state.lead;
        let office = self.office.as_ref().expect("asked of a leader");
        let left = office.leases.left(lead.epoch, cx.now.time);
        let agents: Vec<Value> = self
            .pool
            .seats()
            .iter()
            .map(|seat| {
                let leading = seat.peer.id == cx.me.id;
                let peer = self.consensus.as_ref().map(Consensus::peers).unwrap_or_default();
                let progress = peer.into_iter().find(|(id, _)| *id == seat.peer.id).map(|(_, progress)| progress);
                let silent = progress.as_ref().map(|p| cx.now.time.since(p.heard_at).as_millis() as u64);
                json!({
                    "id": seat.peer.id.to_string(), "endpoint": seat.peer.endpoint.to_string(), "leading": leading,
                    "silentMs": silent, "matched": progress.map(|p| p.matched),
                })
            })
            .collect();
        ok(json!({
            "deployment": self.state.deployment.map(|d| Uuid(d.0).to_string()),
            "leadership": {
                "epoch": lead.epoch.0,
                "leader": lead.leader.as_ref().map(|leader| leader.peer.id.to_string()),
                "endpoint": lead.leader.as_ref().map(|leader| leader.peer.endpoint.to_string()),
                "boot": lead.leader.as_ref().map(|leader| leader.boot.0),
                "successor": lead.successor.map(|id| id.to_string()),
                "inSync": lead.in_sync.members.iter().map(|member| member.server.to_string()).collect::<Vec<_>>(),
                "inSyncLag": lead.in_sync.lag,
                "index": lead.index,
            },
            "supervision": office.says(),
            "leaseLeftMs": left.map(|left| left.as_millis() as u64),
            "timing": timing_json(self.state.timing),
            "maintenance": self.maintenance_status(cx.now),
            "readOnly": self.state.read_only,
            "servers": self.server_status(cx.now.time),
            "witness": self.witness(),
            "agents": agents,
            "term": office.term.0,
            "applied": self.state.applied,
            "failovers": self.failovers(),
        }))
    }

    /// The account of each change of leaders, the latest first, with the short names of who is in it.
    fn failovers(&self) -> Vec<Value> {
        let name = |id: Option<NodeId>| id.and_then(|id| self.state.servers.get(&id)).map(ServerRecord::short_name);
        let all = self.state.finished.iter().chain(&self.state.under_way).rev();
        all.map(|failover| {
            let mut json = failover.to_json();
            json["fromName"] = json!(name(failover.from));
            json["toName"] = json!(name(failover.to));
            json
        })
        .collect()
    }

    // ---- what any agent tells ---------------------------------------------------------------------------------------

    fn admin_status(&self, cx: &Cx) -> Response {
        let leader = self.consensus.as_ref().and_then(Consensus::leader).map_or(String::new(), |id| id.to_string());
        Response::json(
            200,
            &json!({
                "server": "arango", "version": "3.11.14", "license": "community", "mode": "server",
                "operationMode": "server", "foxxApi": false, "host": "",
                "serverInfo": {"maintenance": false, "role": "AGENT", "writeOpsEnabled": true, "readOnly": false},
                "agent": {
                    "term": self.consensus.as_ref().map_or(0, |consensus| consensus.term().0),
                    "id": cx.me.id.to_string(),
                    "endpoint": cx.me.endpoint.to_string(),
                    "leaderId": leader,
                    "leading": self.office.is_some(),
                },
            }),
        )
    }

    fn agency_config(&self, cx: &Cx) -> Response {
        let seats = self.pool.seats();
        let pool: Map<String, Value> =
            seats.iter().map(|s| (s.peer.id.to_string(), json!(s.peer.endpoint.to_string()))).collect();
        let active: Vec<String> = seats.iter().map(|seat| seat.peer.id.to_string()).collect();
        let consensus = self.consensus.as_ref();
        let mut acked = Map::new();
        if self.office.is_some() {
            acked.insert(cx.me.id.to_string(), json!({"lastAckedTime": 0.0, "lastAckedIndex": self.state.applied}));
            for (id, progress) in consensus.map(Consensus::peers).unwrap_or_default() {
                let ago = cx.now.time.since(progress.heard_at).as_secs_f64();
                acked.insert(id.to_string(), json!({"lastAckedTime": ago, "lastAckedIndex": progress.matched}));
            }
        }
        let seconds = |duration: Duration| duration.as_secs_f64();
        let config = &self.config;
        let size = if self.pool.is_formed() { seats.len() } else { config.size };
        Response::json(
            200,
            &json!({
                "term": consensus.map_or(0, |consensus| consensus.term().0),
                "leaderId": consensus.and_then(Consensus::leader).map_or(String::new(), |id| id.to_string()),
                "commitIndex": consensus.map_or(0, Consensus::commit),
                "lastAcked": acked,
                "configuration": {
                    "pool": pool,
                    "active": active,
                    "id": cx.me.id.to_string(),
                    "agency size": size,
                    "pool size": size,
                    "disk": Uuid(self.disk.0).to_string(),
                    "endpoint": cx.me.endpoint.to_string(),
                    "min ping": seconds(config.election_timeout_min),
                    "max ping": seconds(config.election_timeout_max),
                    "timeoutMult": 1,
                    "supervision": true,
                    "supervision frequency": seconds(config.supervision_frequency),
                    "supervision grace period": seconds(self.state.timing.lease),
                    "supervision ok threshold": seconds(config.ok_threshold),
                    "compaction step size": config.compaction_step,
                    "compaction keep size": config.compaction_keep,
                    "version": self.state.applied,
                    "startup": "origin",
                },
                "engine": "rocksdb",
                "version": "3.11.14",
            }),
        )
    }

    /// The tree, and the end of the log.
    fn agency_state(&self, cx: &Cx) -> Response {
        let log: Vec<Value> = match &self.consensus {
            None => Vec::new(),
            Some(consensus) => consensus
                .log()
                .tail(STATE_LOG_COUNT_MAX, STATE_LOG_BYTES_MAX)
                .map(|(index, entry)| {
                    let command = match postcard::from_bytes::<Command>(&entry.data) {
                        Ok(Command::Write { transaction, .. }) => {
                            serde_json::from_str(&transaction).unwrap_or(json!([]))
                        }
                        Ok(command) => json!(format!("{command:?}")),
                        Err(_) => json!([]),
                    };
                    json!({"index": index, "term": entry.term.0, "query": command})
                })
                .collect(),
        };
        Response::json(
            200,
            &json!({
                "current": self.consensus.as_ref().map_or(0, |consensus| consensus.term().0),
                "log": log,
                "agency": self.state.tree.dump(self.stamp(cx.now)),
            }),
        )
    }

    /// There is no spearhead: transactions are evaluated once, when they are applied.
    fn agency_stores(&mut self, cx: &Cx) -> Response {
        let wall_ms = self.stamp(cx.now);
        let tree = self.state.tree.dump(wall_ms);
        let transient = self.office.as_mut().map_or_else(|| json!({}), |o| o.transient.tree().dump(wall_ms));
        Response::json(200, &json!({"spearhead": [tree], "read_db": [tree], "transient": [transient]}))
    }

    /// The tree as it was after an entry, as far back as the log goes.
    fn store_at(&self, _cx: &Cx, request: &Request) -> Response {
        let Ok(index) = serde_json::from_slice::<u64>(&request.body) else {
            return message(400, "Expecting a log index as body");
        };
        let Some(consensus) = self.consensus.as_ref().filter(|_| index <= self.state.applied) else {
            return message(404, "there is no such entry yet");
        };
        let snapshot = &consensus.log().snapshot;
        if index == self.state.applied {
            return Response::json(200, &self.state.tree.dump(self.state.wall_ms));
        }
        if index < snapshot.index {
            return message(404, "that entry is compacted");
        }
        let mut state = if snapshot.index == 0 { State::default() } else { State::decode(&snapshot.state) };
        while state.applied < index {
            let next = state.applied + 1;
            let entry = consensus.log().get(next).expect("entries after the snapshot are in the log");
            state.apply(next, entry.term, &entry.data);
        }
        Response::json(200, &state.tree.dump(state.wall_ms))
    }
}

fn timing_json(timing: Timing) -> Value {
    json!({"leaseMs": timing.lease.as_millis() as u64, "driftPermille": timing.drift_permille})
}

fn body_object(request: &Request) -> Result<Map<String, Value>, Response> {
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(Response::error(400, 600, "the body is not a JSON object")),
    }
}

fn parse_server(value: Option<&Value>) -> Result<NodeId, Response> {
    let id = value.and_then(Value::as_str).and_then(NodeId::parse).filter(|id| id.kind == NodeKind::Server);
    id.ok_or_else(|| Response::error(400, 10, "a server id (SNGL-...) is missing"))
}

/// The agent that a death notice is about; `None` if it is about a server.
fn named_agent(request: &Request) -> Option<NodeId> {
    parse_agent_id_at(&body_object(request).ok()?, "agent").ok()
}

fn parse_death_notice(request: &Request) -> Result<Ask, Response> {
    let fields = body_object(request)?;
    let server = parse_server(fields.get("server"))?;
    let nonce = fields.get("nonce").and_then(Value::as_str).filter(|text| text.len() == 32);
    let nonce = nonce.and_then(|text| u128::from_str_radix(text, 16).ok());
    let nonce = nonce.ok_or_else(|| Response::error(400, 10, "'nonce' is not 32 hexadecimal digits"))?;
    Ok(Ask::DeathNotice { server, nonce: Nonce(nonce) })
}

fn parse_handover(request: &Request) -> Result<Ask, Response> {
    let fields = body_object(request)?;
    let to = match fields.get("to") {
        None | Some(Value::Null) => None,
        to => Some(parse_server(to)?),
    };
    Ok(Ask::Handover { to })
}

fn parse_agent_id(fields: &Map<String, Value>) -> Result<NodeId, Response> {
    parse_agent_id_at(fields, "id")
}

fn parse_agent_id_at(fields: &Map<String, Value>, name: &str) -> Result<NodeId, Response> {
    let id = fields.get(name).and_then(Value::as_str).and_then(NodeId::parse);
    let id = id.filter(|id| id.kind == NodeKind::Agent);
    id.ok_or_else(|| Response::error(400, 10, "the id of an agent (AGNT-...) is missing"))
}

fn parse_agent(request: &Request) -> Result<Ask, Response> {
    let fields = body_object(request)?;
    let id = parse_agent_id(&fields)?;
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let disk = Uuid::parse(text("disk")).map(|uuid| StoreId(uuid.0));
    let disk = disk.ok_or_else(|| Response::error(400, 10, "'disk' is not the id of an agent's disk"))?;
    let endpoint = Endpoint::parse(text("endpoint")).map_err(|e| Response::error(400, 10, &e))?;
    Ok(Ask::AddAgent(Seat { peer: Peer { id, endpoint }, disk }))
}

/// `DELETE` mostly comes without a body; `?id=` does as well.
fn body_object_or_query(request: &Request) -> Map<String, Value> {
    let query = request.query("id").map(|id| Map::from_iter([("id".to_owned(), id.into())]));
    query.or_else(|| body_object(request).ok()).unwrap_or_default()
}

fn parse_timing(request: &Request) -> Result<Ask, Response> {
    let fields = body_object(request)?;
    let number = |name: &str| fields.get(name).and_then(Value::as_u64);
    let lease_ms = number("leaseMs").filter(|ms| (100..=600_000).contains(ms));
    let drift = number("driftPermille").filter(|drift| (1..=900).contains(drift));
    match (lease_ms, drift) {
        (Some(lease_ms), Some(drift)) => {
            let lease = Duration::from_millis(lease_ms);
            Ok(Ask::SetTiming(Timing { lease, drift_permille: drift as u32 }))
        }
        _ => Err(Response::error(400, 10, "'leaseMs' (100 to 600000) and 'driftPermille' (1 to 900) are needed")),
    }
}
