//! The clients: each does one operation after the other, follows `X-Arango-Endpoint`, repeats what may be repeated, and
//! records when it called, when it was answered, and when it will never know.
//!
//! A client knows nothing but the endpoints it was given. What it may conclude from an answer is what a driver may:
//! 1495 and 1496 mean that nothing was started (R14), so it repeats; no answer, or another 5xx, means "unknown".

use crate::action::{
    Action, EXPIRING, GRAPH, INNER, OnDuplicate, PASSING, STREAMED, Slot, UNIQUE, USERS, VERTICES, Verb,
};
use crate::clock::{At, WALL_MS};
use crate::model::Doc;
use crate::scenario::Scenario;
use std::collections::BTreeMap;
use std::time::Duration;
use tanist_engine::demand::Token;
use tanist_engine::http::{Request, Response, header};
use tanist_engine::types::Rng;

const COLLECTIONS: u8 = 3;
pub const COUNTERS: u8 = 2;
const USER_COUNT: u64 = 3;
/// The most documents in one request.
const MANY_MAX: u64 = 4;
/// The most keys in a collection of transactions, or with a unique index: they are to meet.
const STREAM_KEYS: u64 = 6;
/// After so many calls on one of the agency's registers, clients turn to the next: each history stays short.
const REGISTER_CALLS: u64 = 40;

/// How long a client waits for one answer, and for one operation in all.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(2500);
pub const OPERATION_TIMEOUT: Duration = Duration::from_millis(12_000);

/// How one attempt ended, as the client's socket sees it.
#[derive(Clone, Debug)]
pub enum Ending {
    Answer(Response),
    /// Nobody listens there: surely nothing was done.
    Refused,
    /// The connection broke, or no answer came in time.
    Silence,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Open,
    /// A 2xx.
    Done,
    /// An answer that says that nothing was done: 404, 409, 412, or refusals until the client gave up.
    Not,
    Unknown,
}

/// One operation in the history.
#[derive(Clone, Debug)]
pub struct Record {
    pub client: usize,
    pub action: Action,
    pub called: At,
    pub returned: Option<At>,
    pub outcome: Outcome,
    pub status: u16,
    /// An earlier attempt may have had an effect.
    pub doubtful: bool,
    /// So many followers must have it when it is answered.
    pub sync_followers: u8,
    /// Of a counter or register: what was read.
    pub count: Option<u64>,
    /// Of a dirty read: how fresh the answer must be.
    pub demand: Option<Demand>,
}

/// What a dirty read asks for besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    AtLeast(Token),
    Staleness(Duration),
}

#[cfg(test)]
impl Record {
    /// A call of one client that was answered with 200, for the tests of checkers.
    pub fn of(action: Action, called: u64, returned: u64, outcome: Outcome, count: Option<u64>) -> Record {
        let (called, returned) = (At(called), Some(At(returned)));
        Record {
            client: 0,
            action,
            called,
            returned,
            outcome,
            status: 200,
            doubtful: false,
            sync_followers: 0,
            count,
            demand: None,
        }
    }
}

struct Current {
    op: u64,
    attempt: u64,
    sent: Option<At>,
    /// The next attempt only asks what became of it.
    inquires: bool,
}

struct Client {
    rng: Rng,
    /// Which server it believes in, as an index among the servers.
    server: usize,
    agent: usize,
    current: Option<Current>,
    /// Revisions it has been told of, for conditional writes.
    revisions: BTreeMap<Slot, String>,
    /// What the latest answer of a leader reflected.
    token: Option<Token>,
    /// What it has last read in a register.
    register: (u16, u64),
    done_after_heal: u64,
    /// The stream transaction that it is at.
    stream: Option<Stream>,
}

/// A stream transaction, as a client goes through it.
#[derive(Clone, Copy, Debug)]
struct Stream {
    id: u64,
    /// It is over a collection with a unique index, too.
    unique: bool,
    /// What it still wants to do before it ends it.
    steps: u64,
    /// It has begun to ask how the transaction is, after a request without an answer: so often it asks at most.
    asks: u64,
    /// Nobody knows what has been written within it.
    spoiled: bool,
}

/// What a client does next.
#[derive(Debug)]
pub enum Next {
    Send {
        to: Destination,
        attempt: u64,
        request: Request,
    },
    /// Come again after this long.
    Wait(Duration),
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    Server(usize),
    Agent(usize),
}

pub struct Workload {
    servers: usize,
    agents: usize,
    mix: [u64; 15],
    register_calls: u64,
    sync_header_permille: u64,
    keys: u64,
    think: Duration,
    clients: Vec<Client>,
    attempts: u64,
    pub history: BTreeMap<u64, Record>,
    /// Set when everything is healed.
    pub healed: Option<At>,
    /// No new operations from here on.
    pub closing: bool,
}

impl Workload {
    pub fn new(s: &Scenario) -> Workload {
        let mut rng = Rng::new(s.seed_work);
        let clients = (0..s.clients).map(|i| {
            let mut rng = rng.fork(i);
            let (server, agent) = (rng.below(s.servers) as usize, rng.below(s.agents) as usize);
            Client {
                rng,
                server,
                agent,
                current: None,
                revisions: BTreeMap::new(),
                token: None,
                register: (0, 0),
                done_after_heal: 0,
                stream: None,
            }
        });
        Workload {
            servers: s.servers as usize,
            agents: s.agents as usize,
            mix: [
                s.mix_write,
                s.mix_read,
                s.mix_dirty,
                s.mix_collection,
                s.mix_agency,
                s.mix_array,
                s.mix_import,
                s.mix_user,
                s.mix_database,
                s.mix_transact,
                s.mix_expiring,
                s.mix_stream,
                s.mix_unique,
                s.mix_aql,
                s.mix_graph,
            ],
            register_calls: 0,
            sync_header_permille: s.sync_header_permille,
            keys: s.keys,
            think: Duration::from_millis(s.think_ms),
            clients: clients.collect(),
            attempts: 0,
            history: BTreeMap::new(),
            healed: None,
            closing: false,
        }
    }

    /// The attempt that a client waits for.
    pub fn attempt_of(&self, client: usize) -> Option<u64> {
        self.clients[client].current.as_ref().filter(|c| c.sent.is_some()).map(|c| c.attempt)
    }

    /// The operation that a client is at.
    pub fn op_of(&self, client: usize) -> Option<u64> {
        self.clients[client].current.as_ref().map(|c| c.op)
    }

    /// Everything is healed from here on: everybody must be served again.
    pub fn heal(&mut self, at: At) {
        self.healed = Some(at);
        self.clients.iter_mut().for_each(|client| client.done_after_heal = 0);
    }

    /// Every client has succeeded with something since the healing (or there is nothing that it could do).
    pub fn served_since_heal(&self) -> bool {
        self.mix[0] + self.mix[1] == 0 || self.clients.iter().all(|c| c.done_after_heal > 0)
    }

    pub fn idle(&self) -> bool {
        self.clients.iter().all(|c| c.current.is_none())
    }

    /// The client is awake: begin an operation, or try the current one again.
    pub fn wake(&mut self, at: At, client: usize) -> Next {
        let op = match &self.clients[client].current {
            Some(current) => current.op,
            None if self.closing => return Next::Rest,
            None => {
                let action = self.choose(at, client);
                let sync_followers = self.followers_asked_for(client);
                let op = self.history.len() as u64 + 1;
                let demand = self.demand(client, op, &action);
                let record = Record {
                    client,
                    action,
                    called: at,
                    returned: None,
                    outcome: Outcome::Open,
                    status: 0,
                    doubtful: false,
                    sync_followers,
                    count: None,
                    demand,
                };
                self.history.insert(op, record);
                op
            }
        };
        let record = &self.history[&op];
        if at > record.called.plus(OPERATION_TIMEOUT) {
            let outcome = if record.doubtful && !record.action.is_read() { Outcome::Unknown } else { Outcome::Not };
            self.finish(at, client, op, outcome, 0);
            return Next::Wait(self.pause(client));
        }
        self.attempts += 1;
        let state = &mut self.clients[client];
        let dirty = matches!(record.action, Action::Read { dirty: true, .. });
        let to = match &record.action {
            action if action.is_agency() => Destination::Agent(state.agent),
            // A dirty read may be asked of anybody.
            _ if dirty => Destination::Server(state.rng.below(self.servers as u64) as usize),
            _ => Destination::Server(state.server),
        };
        let inquires = state.current.as_ref().is_some_and(|current| current.inquires);
        let request = if inquires { Action::inquiry(op) } else { record.action.request(op) };
        let mut request = match record.demand {
            Some(Demand::AtLeast(token)) => request.with_header(header::AT_LEAST, token.to_string()),
            Some(Demand::Staleness(most)) => request.with_header(header::MAX_STALENESS, most.as_millis().to_string()),
            None => request,
        };
        if record.sync_followers > 0 {
            request = request.with_header(header::SYNC_FOLLOWERS, record.sync_followers.to_string());
        }
        state.current = Some(Current { op, attempt: self.attempts, sent: Some(at), inquires });
        Next::Send { to, attempt: self.attempts, request }
    }

    /// Half of the dirty reads want to see what the client itself has seen of a leader, or not to be too stale.
    fn demand(&self, client: usize, op: u64, action: &Action) -> Option<Demand> {
        match (action, op % 4) {
            (Action::Read { dirty: true, .. }, 1) => self.clients[client].token.map(Demand::AtLeast),
            (Action::Read { dirty: true, .. }, 3) => Some(Demand::Staleness(Duration::from_millis(10 + op * 7 % 300))),
            _ => None,
        }
    }

    /// Drawn only where clients do so: elsewhere nothing is shifted.
    fn followers_asked_for(&mut self, client: usize) -> u8 {
        let (rng, others) = (&mut self.clients[client].rng, self.servers as u64 - 1);
        let asks = self.sync_header_permille > 0 && others > 0 && rng.chance(self.sync_header_permille, 1000);
        if asks { 1 + rng.below(others) as u8 } else { 0 }
    }

    fn choose(&mut self, at: At, client: usize) -> Action {
        let fresh = self.history.len();
        // Somebody has to make the collections.
        if fresh < 2 {
            return Action::Create(fresh as u8);
        }
        let [first, second] = UNIQUE;
        let unique = [Action::Create(first), Action::Index(first), Action::Create(second), Action::Index(second)];
        if let Some(action) = unique.get(fresh - 2).filter(|_| self.mix[12] > 0) {
            return action.clone();
        }
        // Whoever is in a transaction goes on with it rather than with something else.
        if self.clients[client].stream.is_some() && self.clients[client].rng.chance(1, 2) {
            return self.streams(client);
        }
        let state = &mut self.clients[client];
        let rng = &mut state.rng;
        let mut pick = rng.below(self.mix.iter().sum());
        let area = self.mix.iter().position(|weight| {
            let here = pick < *weight;
            pick = pick.saturating_sub(*weight);
            here
        });
        let mut collections: Vec<u8> = (0..PASSING).collect();
        collections.extend((self.mix[3] > 0).then_some(PASSING));
        collections.extend((self.mix[8] > 0).then_some(INNER));
        let collection = collections[rng.below(collections.len() as u64) as usize];
        let slot = Slot { collection, key: rng.below(self.keys) as u8 };
        let known = state.revisions.get(&slot).cloned();
        let rev = known.filter(|_| rng.chance(1, 4));
        match area {
            Some(0) => match rng.below(8) {
                0..=2 => Action::Insert(slot),
                3..=4 => Action::Update(slot, rev),
                5..=6 => Action::Replace(slot, rev),
                _ => Action::Remove(slot, rev),
            },
            Some(1) => Action::Read { slot, dirty: false },
            Some(2) => Action::Read { slot, dirty: true },
            Some(3) => match rng.below(4) {
                0..=1 => Action::Create(PASSING),
                2 => Action::Truncate(rng.below(u64::from(COLLECTIONS)) as u8),
                _ => Action::Drop(PASSING),
            },
            Some(5) => {
                let slots = some_of(rng, collection, self.keys);
                match rng.below(5) {
                    0..=2 => Action::InsertMany(slots),
                    3 => {
                        let revisions = &state.revisions;
                        let with = |slot: Slot| (slot, revisions.get(&slot).filter(|_| rng.chance(1, 3)).cloned());
                        Action::UpdateMany(slots.into_iter().map(with).collect())
                    }
                    _ => Action::RemoveMany(slots),
                }
            }
            Some(6) => {
                let ways = [OnDuplicate::Error, OnDuplicate::Ignore, OnDuplicate::Replace, OnDuplicate::Update];
                let on_duplicate = ways[rng.below(4) as usize];
                Action::Import { slots: some_of(rng, collection, self.keys), on_duplicate }
            }
            Some(7) => {
                let user = Slot { collection: USERS, key: rng.below(USER_COUNT) as u8 };
                match rng.below(9) {
                    0..=2 => Action::Insert(user),
                    3 => Action::Update(user, None),
                    4 => Action::Replace(user, None),
                    5 => Action::Grant(user, rng.below(3) as u8),
                    6 => Action::Remove(user, None),
                    _ => Action::Read { slot: user, dirty: rng.chance(1, 3) },
                }
            }
            Some(8) => match rng.below(7) {
                0..=1 => Action::CreateDatabase(0),
                2..=3 => Action::Create(INNER),
                4 => Action::Truncate(INNER),
                5 => Action::Drop(INNER),
                _ => Action::DropDatabase(0),
            },
            Some(9) => {
                self.register_calls += 1;
                let register = (self.register_calls / REGISTER_CALLS) as u16;
                if state.register.0 != register {
                    state.register = (register, 0);
                }
                let named = rng.chance(3, 4);
                match rng.below(4) {
                    0 => Action::Add { register, named },
                    1..=2 => Action::Swap { register, old: state.register.1, named },
                    _ => Action::Look(register),
                }
            }
            Some(10) => {
                let slot = Slot { collection: EXPIRING, ..slot };
                match rng.below(20) {
                    0 => Action::Create(EXPIRING),
                    1 if rng.chance(1, 5) => Action::Unindex(EXPIRING),
                    1 => Action::Index(EXPIRING),
                    2 if rng.chance(1, 5) => Action::Drop(EXPIRING),
                    2..=12 => Action::InsertDue(slot, WALL_MS + at.as_ms() + rng.below(3000)),
                    13 => Action::Insert(slot),
                    14 => Action::Update(slot, None),
                    15 => Action::Replace(slot, None),
                    16 => Action::Remove(slot, None),
                    _ => Action::Read { slot, dirty: rng.chance(1, 3) },
                }
            }
            Some(11) => self.streams(client),
            Some(12) => {
                let keys = self.keys.min(STREAM_KEYS);
                let collection = UNIQUE[rng.below(2) as usize];
                let slot = Slot { collection, key: rng.below(keys) as u8 };
                let known = state.revisions.get(&slot).cloned();
                let rev = known.filter(|_| rng.chance(1, 4));
                // What else is asked of one may not be asked of what transactions have.
                let freely = collection == UNIQUE[1];
                match rng.below(24) {
                    0 => Action::Create(collection),
                    1..=2 => Action::Index(collection),
                    3 if rng.chance(1, 3) => Action::Unindex(collection),
                    3 if freely && rng.chance(1, 3) => Action::Drop(collection),
                    3 if freely => Action::Truncate(collection),
                    4..=5 if freely => Action::InsertMany(some_of(rng, collection, keys)),
                    6 if freely => {
                        let slots = some_of(rng, collection, keys);
                        Action::UpdateMany(slots.into_iter().map(|slot| (slot, None)).collect())
                    }
                    7 if freely => {
                        let ways = [OnDuplicate::Error, OnDuplicate::Ignore, OnDuplicate::Replace, OnDuplicate::Update];
                        let on_duplicate = ways[rng.below(4) as usize];
                        Action::Import { slots: some_of(rng, collection, keys), on_duplicate }
                    }
                    3..=10 => Action::Insert(slot),
                    11..=14 => Action::Update(slot, rev),
                    15..=16 => Action::Replace(slot, rev),
                    17..=19 => Action::Remove(slot, rev),
                    _ => Action::Read { slot, dirty: rng.chance(1, 3) },
                }
            }
            Some(13) => {
                collections.extend((self.mix[11] > 0).then_some(STREAMED).into_iter().flatten());
                // Where values clash, a query has more to undo.
                collections.extend((self.mix[12] > 0).then_some(UNIQUE.repeat(2)).into_iter().flatten());
                let collection = collections[rng.below(collections.len() as u64) as usize];
                query(rng, collection, self.keys.min(STREAM_KEYS))
            }
            Some(14) => {
                let collection = GRAPH[rng.below(3).min(1) as usize];
                let slot = Slot { collection, key: rng.below(VERTICES) as u8 };
                let graph = |action| Action::InGraph(Box::new(action));
                match rng.below(30) {
                    0..=1 => Action::MakeGraph,
                    2 if rng.chance(1, 4) => Action::DropGraph,
                    2..=14 => graph(Action::Insert(slot)),
                    15..=17 => graph(Action::Replace(slot, None)),
                    18..=22 => graph(Action::Remove(slot, None)),
                    // The other interfaces know nothing of the graph: a vertex goes, and its edges stay.
                    23 => Action::Remove(slot, None),
                    _ => Action::Read { slot, dirty: rng.chance(1, 3) },
                }
            }
            _ => {
                let counter = rng.below(u64::from(COUNTERS)) as u8;
                if rng.chance(2, 3) { Action::Count(counter) } else { Action::ReadCount(counter) }
            }
        }
    }

    /// Something about stream transactions, or the collections that they are over.
    fn streams(&mut self, client: usize) -> Action {
        let others = self.clients.iter().enumerate().filter(|(other, _)| *other != client);
        let others: Vec<u64> =
            others.filter_map(|(_, other)| other.stream).filter(|stream| !stream.spoiled).map(|s| s.id).collect();
        let keys = self.keys.min(STREAM_KEYS);
        let Client { rng, revisions, stream, .. } = &mut self.clients[client];
        let unique = self.mix[12] > 0 && stream.as_ref().is_none_or(|stream| stream.unique);
        let over = [STREAMED[0], STREAMED[1], UNIQUE[0]];
        let collection = over[rng.below(if unique { 3 } else { 2 }) as usize];
        let slot = Slot { collection, key: rng.below(keys) as u8 };
        let rev = revisions.get(&slot).filter(|_| rng.chance(1, 8)).cloned();
        let one = match rng.below(10) {
            0..=2 => Action::Insert(slot),
            3..=4 => Action::Update(slot, rev),
            5 => Action::Replace(slot, rev),
            6 => Action::Remove(slot, rev),
            _ => Action::Read { slot, dirty: false },
        };
        let queries = self.mix[13] > 0 && rng.chance(1, 4);
        let one = if queries { query(rng, collection, keys) } else { one };
        // Now and then it meddles with what another one is at.
        let meddles = !others.is_empty() && rng.chance(1, 12);
        if meddles {
            let id = others[rng.below(others.len() as u64) as usize];
            return match rng.below(8) {
                0 => Action::Commit(id),
                1 => Action::Abort(id),
                _ => Action::Within(id, Box::new(one)),
            };
        }
        match stream {
            _ if rng.chance(1, 5) => one,
            Some(Stream { id, spoiled: true, .. }) => Action::Abort(*id),
            Some(Stream { id, asks, .. }) if *asks > 0 => {
                let id = *id;
                *asks -= 1;
                if *asks == 0 {
                    *stream = None;
                }
                if rng.chance(1, 2) { Action::Status(id) } else { Action::Commit(id) }
            }
            Some(Stream { id, steps, .. }) if *steps > 0 => {
                *steps -= 1;
                Action::Within(*id, Box::new(one))
            }
            Some(Stream { id, .. }) => {
                let id = *id;
                match rng.below(12) {
                    0 => Action::Status(id),
                    1..=2 => Action::Abort(id),
                    // Forgotten: it is left to expire.
                    3 => {
                        *stream = None;
                        one
                    }
                    _ => Action::Commit(id),
                }
            }
            None if rng.chance(1, 6) => Action::Create(STREAMED[rng.below(2) as usize]),
            None => Action::Begin { exclusive: rng.chance(1, 8), unique: unique && rng.chance(2, 3) },
        }
    }

    /// What a client does about the transaction that it is at, once an attempt has ended.
    fn streamed(&mut self, client: usize, action: &Action, ending: &Ending) {
        let state = &mut self.clients[client];
        let Ending::Answer(response) = ending else {
            if let (Some(stream), Ending::Silence) = (&mut state.stream, ending)
                && action.transaction() == Some(stream.id)
            {
                stream.asks = 1 + state.rng.below(3);
            }
            return;
        };
        let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
        if let (Action::Within(id, _), 504) = (action, response.status) {
            let streams = self.clients.iter_mut().filter_map(|client| client.stream.as_mut());
            streams.filter(|stream| stream.id == *id).for_each(|stream| stream.spoiled = true);
        }
        let state = &mut self.clients[client];
        match action {
            Action::Begin { unique, .. } if response.status == 201 => {
                let id = body.pointer("/result/id").and_then(|id| id.as_str()?.parse().ok());
                let steps = 1 + state.rng.below(6);
                state.stream = id.map(|id| Stream { id, unique: *unique, steps, asks: 0, spoiled: false });
            }
            _ if state.stream.is_some_and(|stream| action.transaction() == Some(stream.id)) => {
                let ended = matches!(action, Action::Commit(_) | Action::Abort(_)) && response.status < 500;
                let over = matches!(response.error_num(), Some(1653..=1655))
                    || body.pointer("/result/status").is_some_and(|status| status != "running");
                if ended || over {
                    state.stream = None;
                }
            }
            _ => {}
        }
    }

    /// An attempt at a transaction has ended without a word: whoever gave it an id can ask, or send it again.
    fn unheard(&mut self, at: At, client: usize, op: u64, pause: Duration) -> Next {
        let record = &self.history[&op];
        let (named, is_read, asks) =
            (record.action.is_named(), record.action.is_read(), record.action.register().is_some());
        if named || is_read {
            if let Some(current) = &mut self.clients[client].current {
                current.inquires = named && asks;
            }
            return Next::Wait(pause);
        }
        self.finish(at, client, op, Outcome::Unknown, 0);
        Next::Wait(self.pause(client))
    }

    /// An attempt has ended. `server_of` and `agent_of` turn an endpoint's URL into an index.
    pub fn ended(
        &mut self,
        at: At,
        client: usize,
        attempt: u64,
        ending: &Ending,
        index_of: impl Fn(&str) -> Option<Destination>,
    ) -> Next {
        let state = &mut self.clients[client];
        let Some(current) = state.current.as_mut().filter(|c| c.attempt == attempt && c.sent.is_some()) else {
            return Next::Rest; // of an attempt that was given up
        };
        current.sent = None;
        let (op, inquired) = (current.op, current.inquires);
        let record = self.history.get_mut(&op).expect("the current operation is in the history");
        let action = record.action.clone();
        let rotate = |state: &mut Client, servers: usize, agents: usize| {
            if action.is_agency() {
                state.agent = (state.agent + 1) % agents;
            } else {
                state.server = (state.server + 1) % servers;
            }
        };
        let (servers, agents) = (self.servers, self.agents);
        if action.is_streamed() {
            self.streamed(client, &action, ending);
        }
        let state = &mut self.clients[client];
        let current = state.current.as_mut().expect("it was looked at");
        let record = self.history.get_mut(&op).expect("the current operation is in the history");
        let response = match ending {
            Ending::Answer(response) => response,
            Ending::Refused => {
                rotate(state, servers, agents);
                return Next::Wait(Duration::from_millis(20 + state.rng.below(80)));
            }
            Ending::Silence => {
                rotate(state, servers, agents);
                record.doubtful |= !action.is_read();
                // What has a client id can be sent again; a document write can't without being done twice.
                if action.is_read() || action.is_agency() {
                    let pause = Duration::from_millis(20 + state.rng.below(80));
                    return self.unheard(at, client, op, pause);
                }
                self.finish(at, client, op, Outcome::Unknown, 0);
                return Next::Wait(self.pause(client));
            }
        };
        let reflected = response.header(header::TICK).and_then(Token::parse);
        if response.header(header::POTENTIAL_DIRTY_READ).is_none() && reflected.is_some() {
            state.token = reflected;
        }
        if response.error_num() == Some(1414) {
            state.token = None;
        }
        match response.status {
            // It is not there, or not yet: the first sending may still be on its way.
            404 if inquired => {
                current.inquires = false;
                Next::Wait(Duration::from_millis(20 + state.rng.below(80)))
            }
            200..=299 if inquired => {
                self.finish(at, client, op, Outcome::Done, response.status);
                Next::Wait(self.pause(client))
            }
            200..=299 => {
                let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
                match &action {
                    Action::ReadCount(n) => {
                        let count = body.pointer(&format!("/0/sim/n{n}")).and_then(|v| v.as_u64()).unwrap_or(0);
                        record.count = Some(count);
                    }
                    Action::Add { .. } | Action::Look(_) => {
                        record.count = seen(&action, &body);
                        state.register.1 = record.count.unwrap_or(0);
                    }
                    Action::Swap { .. } => state.register.1 = Action::new_value(op),
                    Action::Insert(slot)
                    | Action::InsertDue(slot, _)
                    | Action::Update(slot, _)
                    | Action::Replace(slot, _) => {
                        if let Some(rev) = body.get("_rev").and_then(|r| r.as_str()) {
                            state.revisions.insert(*slot, rev.to_owned());
                        }
                    }
                    Action::Read { slot, .. } => {
                        if let Some(doc) = Doc::from_json(*slot, &body).filter(|doc| !doc.rev.is_empty()) {
                            state.revisions.insert(*slot, doc.rev);
                        }
                    }
                    _ => {}
                }
                self.finish(at, client, op, Outcome::Done, response.status);
                Next::Wait(self.pause(client))
            }
            307 => {
                let location = response.header(header::LOCATION).and_then(&index_of);
                match location {
                    Some(Destination::Agent(agent)) => state.agent = agent,
                    _ => rotate(state, servers, agents),
                }
                Next::Wait(Duration::from_millis(1))
            }
            503 if matches!(response.error_num(), Some(1429 | 1495 | 1496))
                || action.is_agency()
                || action.is_read() =>
            {
                let pause = match response.header(header::ENDPOINT).and_then(&index_of) {
                    Some(Destination::Server(server)) if server != state.server => {
                        state.server = server;
                        1
                    }
                    _ => {
                        rotate(state, servers, agents);
                        30 + state.rng.below(100)
                    }
                };
                // "No leader" of an agent that had begun to write may be about a write that still commits.
                record.doubtful |= action.is_agency() && !action.is_read();
                if action.is_agency() {
                    return self.unheard(at, client, op, Duration::from_millis(pause));
                }
                Next::Wait(Duration::from_millis(pause))
            }
            400..=499 if response.status != 408 => {
                if matches!(action, Action::Swap { .. }) {
                    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
                    record.count = seen(&action, &body);
                    state.register.1 = record.count.unwrap_or(0);
                }
                let not = if record.doubtful { Outcome::Unknown } else { Outcome::Not };
                self.finish(at, client, op, not, response.status);
                Next::Wait(self.pause(client))
            }
            status => {
                rotate(state, servers, agents);
                record.doubtful |= !action.is_read();
                if action.is_agency() {
                    return self.unheard(at, client, op, Duration::from_millis(50));
                }
                let outcome = if action.is_read() { Outcome::Not } else { Outcome::Unknown };
                self.finish(at, client, op, outcome, status);
                Next::Wait(self.pause(client))
            }
        }
    }

    fn finish(&mut self, at: At, client: usize, op: u64, outcome: Outcome, status: u16) {
        let record = self.history.get_mut(&op).expect("the operation is in the history");
        record.returned = Some(at);
        record.outcome = outcome;
        record.status = status;
        // A follower refuses a write that allows dirty reads for good (403).
        let answered = !matches!(status, 0 | 403) && outcome != Outcome::Unknown && !record.action.is_agency();
        let dirty = matches!(record.action, Action::Read { dirty: true, .. });
        if self.healed.is_some_and(|healed| record.called > healed) && answered && !dirty {
            self.clients[client].done_after_heal += 1;
        }
        self.clients[client].current = None;
    }

    fn pause(&mut self, client: usize) -> Duration {
        let mean = self.think.as_micros() as u64;
        Duration::from_micros(self.clients[client].rng.below(2 * mean + 1))
    }
}

/// Documents of one collection, the same one twice now and then.
fn some_of(rng: &mut Rng, collection: u8, keys: u64) -> Vec<Slot> {
    let count = 1 + rng.below(MANY_MAX);
    (0..count).map(|_| Slot { collection, key: rng.below(keys) as u8 }).collect()
}

/// A query that writes documents of one collection.
fn query(rng: &mut Rng, collection: u8, keys: u64) -> Action {
    let verb = Verb::ALL[rng.below(Verb::ALL.len() as u64) as usize];
    Action::Query { verb, slots: some_of(rng, collection, keys) }
}

/// The register's value in an answer of the agency, as far as it says; 0 if it is not there.
fn seen(action: &Action, body: &serde_json::Value) -> Option<u64> {
    let register = action.register()?;
    let read = match action {
        Action::Add { .. } => body.get(1)?,
        _ => body.get(0)?,
    };
    Some(read.pointer(&format!("/sim/r{register}")).and_then(|v| v.as_u64()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        Workload::new(&Scenario { clients: 1, mix_agency: 0, mix_dirty: 0, ..Scenario::default() })
    }

    fn nowhere(_: &str) -> Option<Destination> {
        None
    }

    #[test]
    fn a_refusal_is_followed_and_repeated() {
        let mut w = workload();
        let Next::Send { attempt, .. } = w.wake(At(0), 0) else { panic!() };
        let refusal = Response::error(503, 1496, "not a leader").with_header(header::ENDPOINT, "http://s2:1");
        let next = w.ended(At(1), 0, attempt, &Ending::Answer(refusal), |_| Some(Destination::Server(2)));
        assert!(matches!(next, Next::Wait(_)));
        let Next::Send { to, attempt, .. } = w.wake(At(2), 0) else { panic!() };
        assert_eq!(to, Destination::Server(2));
        w.ended(At(3), 0, attempt, &Ending::Answer(Response::raw(200, "{}")), nowhere);
        assert_eq!(w.history[&1].outcome, Outcome::Done);
    }

    #[test]
    fn silence_after_a_write_is_unknown_and_late_answers_are_nothing() {
        let mut w = workload();
        let Next::Send { attempt, .. } = w.wake(At(0), 0) else { panic!() };
        w.ended(At(1), 0, attempt, &Ending::Silence, nowhere);
        assert_eq!(w.history[&1].outcome, Outcome::Unknown);
        let late = w.ended(At(2), 0, attempt, &Ending::Answer(Response::raw(200, "{}")), nowhere);
        assert!(matches!(late, Next::Rest));
        assert_eq!(w.history[&1].outcome, Outcome::Unknown);
    }
}
