//! The replicated state machine: what every agent makes of the same log.
//!
//! The leadership record, the servers' boots, the timing of leases and the deployment's identity lie outside the tree
//! that clients can write; what the tree shows of them is a projection (R10). Applying an entry depends on the state
//! and the entry alone: time is what the Raft leader stamped into it. Keeps I3 and I6.

use super::account::{Failover, Kind, Loss};
use super::tree::{self, Refusal, Tree};
use crate::io::{Event, Severity};
use crate::mark;
use crate::message::raft::{configuration, encode, parse};
use crate::message::{Health, InSync, Leader, Leadership, Peer, Register, Replica, SetInSync};
use crate::types::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};

pub const LEADER_KEY: &str = "/arango/Plan/AsyncReplication/Leader";
pub const READONLY_KEY: &str = "/arango/Readonly";
pub const MAINTENANCE_KEY: &str = "/arango/Supervision/Maintenance";
/// Written by an operator who confirms that an agency without a past takes over data that has one (R11): the value is
/// the deployment id of the data, or the agency's own to begin without it.
pub const ADOPT_KEY: &str = "/arango/Supervision/AdoptDeployment";

/// Written by an operator who gives up what only replicas have that are gone for ever (R6): the value is the epoch that
/// has no leader.
pub const ABANDON_KEY: &str = "/arango/Supervision/AbandonInSync";

/// What is kept of past failovers and of clients' transactions.
const FAILOVERS_MAX: usize = 100;
const CLIENTS_MAX: usize = 10_000;
const SERVERS_MAX: usize = 1000;
const EARLIER_MAX: usize = 16;

/// A log entry. The entry that begins a term is empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// The first entry of the deployment: chance and the proposed timing.
    Found {
        deployment: DeploymentId,
        timing: Timing,
        wall_ms: u64,
    },
    /// A write transaction as JSON text: `[operations, preconditions?, clientId?]`. The agency's own are privileged.
    Write {
        transaction: String,
        privileged: bool,
        wall_ms: u64,
    },
    Register {
        peer: Peer,
        register: Register,
        wall_ms: u64,
    },
    /// A server that was taken out of the tree is still there.
    List {
        server: NodeId,
    },
    Depose(Depose),
    Elect(Elect),
    /// The leader is asked to hand over; `None` takes the request back.
    RequestHandover {
        to: Option<NodeId>,
    },
    /// R6: the leader changes its in-sync set. Applies only to the record that it names.
    SetInSync {
        server: NodeId,
        set: SetInSync,
    },
    /// The leader has written in this epoch: from now on an empty store is not a candidate. In the first epoch nothing
    /// is granted before.
    Began {
        epoch: Epoch,
    },
    /// The leader of this epoch holds its first lease.
    Serves {
        epoch: Epoch,
        wall_ms: u64,
    },
    /// A server has told what the end of an epoch has cost it.
    Account {
        ended: Epoch,
        loss: Loss,
    },
    SetTiming {
        timing: Timing,
    },
    /// Every lease that was granted under a timing before this one is over (R9). Means nothing if it was changed again.
    TimingSettled {
        timing: Timing,
        older_lease: Duration,
    },
    Expire {
        wall_ms: u64,
    },
}

/// R1, first half. Applies only to the record that it names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Depose {
    pub epoch: Epoch,
    pub leader: Option<(NodeId, Boot)>,
    pub next: Epoch,
    pub preferred: Option<NodeId>,
    pub reason: String,
    /// The last position that the deposed leader told of.
    pub last: Option<Position>,
    /// The leader gave its lease back: `last` is all that it ever wrote.
    pub released: bool,
    /// Until when it served for all that is known: if it is dead or gave its lease back, until now.
    pub served_ms: u64,
    pub wall_ms: u64,
}

/// R1, second half. Applies only while nobody leads and `epoch` is the record's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Elect {
    pub epoch: Epoch,
    pub server: NodeId,
    pub boot: Boot,
    pub last: Position,
    pub wall_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct ServerRecord {
    pub peer: Peer,
    pub boot: Boot,
    pub nonce: Nonce,
    pub store: StoreId,
    pub advertised: Option<Endpoint>,
    pub host: String,
    /// Servers are numbered in the order of their first registration.
    pub number: u32,
    pub seen: Epoch,
    /// Of its latest processes before this one: a registration that was under way for long must not bring one back.
    pub earlier: VecDeque<Nonce>,
}

impl ServerRecord {
    pub fn short_name(&self) -> String {
        format!("Single{:04}", self.number)
    }
}

/// A client's transaction that was applied.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
struct ClientWrite {
    index: u64,
    checksum: u64,
}

/// What an entry came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Nothing,
    /// The index under which it was applied, or the present values of the keys whose preconditions do not hold.
    Written(Result<u64, Value>),
    Registered {
        server: NodeId,
        nonce: Nonce,
        result: Result<Boot, String>,
    },
    Deposed,
    Elected,
    /// A depose or an elect that came too late, or any other change of the leadership record.
    LeadershipSettled,
}

pub struct Applied {
    pub outcome: Outcome,
    /// What it did to the tree, as operations by key; for `poll`.
    pub query: Map<String, Value>,
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
pub struct State {
    pub applied: u64,
    pub applied_term: Term,
    pub digest: u64,
    /// The latest time that was stamped into an entry.
    pub wall_ms: u64,
    pub tree: Tree,
    pub deployment: Option<DeploymentId>,
    pub timing: Timing,
    /// The longest lease that may still be in use from before the timing was changed (R9).
    pub older_lease: Option<Duration>,
    pub servers: BTreeMap<NodeId, ServerRecord>,
    pub lead: Leadership,
    /// The nonce of the process that `lead` names, and the data that it leads with.
    pub lead_nonce: Option<Nonce>,
    pub lead_store: StoreId,
    /// Who should follow, if it has reported as much as anybody.
    pub preferred: Option<NodeId>,
    /// The latest epoch in which something is known to be written.
    pub begun: Epoch,
    /// Before this agency had a leader, a store that had one asked in vain to be registered (R11).
    pub older_data_refused: bool,
    /// An operator has confirmed which deployment this is.
    pub confirmed: bool,
    /// ... and that its data is to be taken over: an empty store is not that data.
    pub adopted: bool,
    pub under_way: Option<Failover>,
    pub finished: VecDeque<Failover>,
    clients: BTreeMap<String, ClientWrite>,
    /// By the index of their latest write.
    clients_in_order: BTreeMap<u64, String>,
    /// Of each known server, as of the last entry.
    #[serde(skip)]
    standings: BTreeMap<NodeId, Standing>,
    /// Those that are listed, in the order of their first registration.
    #[serde(skip)]
    members: Vec<NodeId>,
    /// Something is at [`MAINTENANCE_KEY`], be it expired.
    #[serde(skip)]
    pub maintenance: bool,
    /// Writes are refused everywhere.
    #[serde(skip)]
    pub read_only: bool,
    #[serde(skip)]
    query: Map<String, Value>,
    #[serde(skip)]
    events: Vec<Event>,
}

/// What the tree says of a server, read once an entry: the leading agent goes by it in every step.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
struct Standing {
    listed: bool,
    health: Option<Health>,
}

impl State {
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// `Err` if it is of another format.
    pub fn parse(bytes: &[u8]) -> Result<State, String> {
        let mut state: State = parse(bytes, "the state of the agency")?;
        state.read_standings();
        Ok(state)
    }

    /// What this version has encoded, or has parsed when it started.
    pub fn decode(bytes: &[u8]) -> State {
        State::parse(bytes).expect("a snapshot holds a readable state")
    }

    fn read_standings(&mut self) {
        let standing =
            |server: &NodeId| Standing { listed: self.is_planned(*server), health: self.health_in_tree(*server) };
        self.standings = self.servers.keys().map(|server| (*server, standing(server))).collect();
        let mut listed: Vec<_> = self.servers.values().filter(|server| self.is_listed(server.peer.id)).collect();
        listed.sort_by_key(|server| server.number);
        self.members = listed.into_iter().map(|server| server.peer.id).collect();
        self.maintenance = self.tree.has(MAINTENANCE_KEY, 0);
        self.read_only = self.tree.leaf(READONLY_KEY, self.wall_ms) == Some(&Value::Bool(true));
    }

    /// The server has not been taken out of the plan; while an entry is applied, what it has made of it so far.
    fn is_planned(&self, server: NodeId) -> bool {
        self.servers.contains_key(&server) && self.tree.has(&format!("/arango/Plan/Singles/{server}"), self.wall_ms)
    }

    fn health_in_tree(&self, server: NodeId) -> Option<Health> {
        let status = self.tree.leaf(&format!("/arango/Supervision/Health/{server}/Status"), self.wall_ms)?.as_str()?;
        [Health::Good, Health::Bad, Health::Failed].into_iter().find(|health| status == health.as_str())
    }

    /// The server still counts as a member of the deployment.
    pub fn is_listed(&self, server: NodeId) -> bool {
        self.standings.get(&server).is_some_and(|standing| standing.listed)
    }

    pub fn recorded_health(&self, server: NodeId) -> Option<Health> {
        self.standings.get(&server)?.health
    }

    /// Members in the order of their first registration.
    pub fn listed(&self) -> impl Iterator<Item = &ServerRecord> {
        self.members.iter().map(|server| &self.servers[server])
    }

    /// R11: this agency never had a leader, but there is data that has, and no operator has said what to do.
    pub fn meets_older_data(&self) -> bool {
        self.lead.epoch == Epoch(0) && !self.confirmed && (self.older_data_refused || self.has_older_member())
    }

    fn has_older_member(&self) -> bool {
        self.servers.values().any(|server| server.seen > Epoch(0) && self.is_planned(server.peer.id))
    }

    /// Something has been written in this deployment.
    pub fn has_data(&self) -> bool {
        self.begun > Epoch(0) || self.adopted
    }

    pub fn client_index(&self, client: &str) -> Option<u64> {
        self.clients.get(client).map(|write| write.index)
    }

    /// Applies the next entry.
    pub fn apply(&mut self, index: u64, term: Term, data: &[u8]) -> Applied {
        assert_eq!(index, self.applied + 1, "I3: entries are applied in order, each once");
        assert!(term >= self.applied_term);
        self.applied = index;
        self.applied_term = term;
        for part in [&index.to_le_bytes()[..], &term.0.to_le_bytes(), data] {
            self.digest = fnv(self.digest, part);
        }
        let outcome = if data.is_empty() || configuration(data).is_some() {
            Outcome::Nothing
        } else {
            match postcard::from_bytes(data) {
                Ok(command) => self.carry_out(index, command),
                Err(error) => panic!("entry {index} of the agency's log can't be read: {error}"),
            }
        };
        self.read_standings();
        let query = std::mem::take(&mut self.query);
        let events = std::mem::take(&mut self.events);
        Applied { outcome, query, events }
    }

    fn carry_out(&mut self, index: u64, command: Command) -> Outcome {
        match command {
            Command::Found { deployment, timing, wall_ms } => self.found(deployment, timing, wall_ms),
            Command::Write { transaction, privileged, wall_ms } => {
                self.see_time(wall_ms);
                Outcome::Written(self.write(index, &transaction, privileged))
            }
            Command::Register { peer, register, wall_ms } => {
                self.see_time(wall_ms);
                let (server, nonce) = (peer.id, register.nonce);
                Outcome::Registered { server, nonce, result: self.register(peer, register) }
            }
            Command::List { server } => {
                if let Some(record) = self.servers.get(&server).cloned() {
                    self.list(&record);
                }
                Outcome::Nothing
            }
            Command::Depose(depose) => self.depose(index, depose),
            Command::Elect(elect) => self.elect(index, elect),
            Command::RequestHandover { to } => {
                self.request_handover(index, to);
                Outcome::LeadershipSettled
            }
            Command::SetInSync { server, set } => {
                self.set_in_sync(index, server, set);
                Outcome::LeadershipSettled
            }
            Command::Began { epoch } => {
                self.begun = self.begun.max(epoch);
                Outcome::Nothing
            }
            Command::Serves { epoch, wall_ms } => {
                self.see_time(wall_ms);
                self.revise_failover(
                    |failover| failover.epoch == epoch && failover.serving_ms.is_none(),
                    |failover| failover.serving_ms = Some(wall_ms),
                );
                Outcome::Nothing
            }
            Command::Account { ended, loss } => {
                self.revise_failover(
                    |failover| failover.ended == ended && failover.improves(loss),
                    |failover| failover.loss = Some(loss),
                );
                let Loss { server, ticks, operations, exact, .. } = loss;
                self.events.push(Event::Accounted { ended, server, ticks, operations, exact });
                Outcome::Nothing
            }
            Command::SetTiming { timing } => {
                if timing.lease < self.timing.lease {
                    self.older_lease = Some(self.older_lease.unwrap_or_default().max(self.timing.lease));
                }
                self.timing = timing;
                Outcome::Nothing
            }
            Command::TimingSettled { timing, older_lease } => {
                if (self.timing, self.older_lease) == (timing, Some(older_lease)) {
                    self.older_lease = None;
                }
                Outcome::Nothing
            }
            Command::Expire { wall_ms } => {
                self.see_time(wall_ms);
                for path in self.tree.expire(self.wall_ms) {
                    self.query.insert(path, json!({"op": "delete"}));
                }
                self.project();
                Outcome::Nothing
            }
        }
    }

    fn see_time(&mut self, wall_ms: u64) {
        self.wall_ms = self.wall_ms.max(wall_ms);
    }

    fn set(&mut self, path: String, value: Value) {
        self.tree.set(&path, &value);
        self.query.insert(path, json!({"op": "set", "new": value}));
    }

    fn remove(&mut self, path: String) {
        if self.tree.has(&path, 0) {
            self.tree.remove(&path);
            self.query.insert(path, json!({"op": "delete"}));
        }
    }

    fn increment(&mut self, path: &str) -> u64 {
        let value = self.tree.leaf(path, self.wall_ms).and_then(Value::as_u64).unwrap_or(0) + 1;
        self.set(path.to_owned(), json!(value));
        value
    }

    fn says(&mut self, severity: Severity, text: String) {
        self.events.push(Event::Says(severity, text.into()));
    }

    fn found(&mut self, deployment: DeploymentId, timing: Timing, wall_ms: u64) -> Outcome {
        self.see_time(wall_ms);
        if self.deployment.is_none() {
            self.deployment = Some(deployment);
            self.timing = timing;
            if !self.tree.has("/arango/Plan", self.wall_ms) {
                self.set("/arango".into(), initial_tree(deployment));
            }
        }
        Outcome::Nothing
    }

    // ---- clients ----------------------------------------------------------------------------------------------------

    fn write(&mut self, index: u64, transaction: &str, privileged: bool) -> Result<u64, Value> {
        let parsed: Value = serde_json::from_str(transaction).expect("checked before it was proposed");
        let none = Map::new();
        let operations = parsed.get(0).and_then(Value::as_object).unwrap_or(&none);
        let preconditions = parsed.get(1).and_then(Value::as_object).unwrap_or(&none);
        let client = parsed.get(2).and_then(Value::as_str).filter(|client| !client.is_empty());
        let checksum = fnv(0, transaction.as_bytes());
        if let Some(earlier) = client.and_then(|client| self.clients.get(client))
            && earlier.checksum == checksum
            && !planted!(client_id_ignored)
        {
            // The same transaction again, from a client that did not hear the answer. (ArangoDB would apply it again
            // and leaves it to the client to inquire first; an id is made for one transaction there, too.)
            return Ok(earlier.index);
        }
        match self.tree.transact(operations, preconditions, self.wall_ms) {
            Ok(()) => {}
            Err(Refusal::Preconditions(keys)) => return Err(self.tree.read(&keys, self.wall_ms)),
            Err(Refusal::Operator(key, _)) => return Err(self.tree.read(&[key], self.wall_ms)),
        }
        for (key, operation) in operations {
            self.query.insert(tree::normalize(key), operation.clone());
        }
        if let Some(client) = client {
            self.remember(client.to_owned(), ClientWrite { index, checksum });
        }
        if !privileged {
            self.after_foreign_write(index, operations);
        }
        Ok(index)
    }

    fn remember(&mut self, client: String, write: ClientWrite) {
        self.clients_in_order.insert(write.index, client.clone());
        if let Some(earlier) = self.clients.insert(client, write) {
            self.clients_in_order.remove(&earlier.index);
        }
        if self.clients_in_order.len() > CLIENTS_MAX
            && let Some((_, oldest)) = self.clients_in_order.pop_first()
        {
            self.clients.remove(&oldest);
        }
    }

    /// R10: the leadership record is not written through the tree. A wish to have another leader becomes a request to
    /// hand over.
    fn after_foreign_write(&mut self, index: u64, operations: &Map<String, Value>) {
        let touches = operations.keys().any(|key| {
            let key = tree::normalize(key);
            tree::is_same_or_above(&key, LEADER_KEY) || tree::is_same_or_above(LEADER_KEY, &key)
        });
        if touches {
            let wanted = self.tree.leaf(LEADER_KEY, self.wall_ms);
            let wanted = wanted.and_then(Value::as_str).and_then(NodeId::parse);
            self.project();
            match (wanted, &self.lead.leader) {
                (Some(to), Some(leader)) if to != leader.peer.id && self.is_planned(to) => {
                    mark!(HandoverWritten);
                    if planted!(foreign_write_elects) {
                        let server = &self.servers[&to];
                        self.lead.leader = Some(Leader { peer: server.peer.clone(), boot: server.boot });
                    }
                    self.says(Severity::Info, format!("{to} was written to {LEADER_KEY}: a request to hand over"));
                    self.request_handover(index, Some(to));
                }
                _ => {}
            }
        }
        // A server that an operator has taken out of the plan is forgotten in the other places, too.
        let unlisted: Vec<NodeId> = self.servers.keys().copied().filter(|id| !self.is_planned(*id)).collect();
        for server in unlisted {
            self.remove(format!("/arango/Supervision/Health/{server}"));
            self.remove(format!("/arango/Target/FailedServers/{server}"));
            self.remove(format!("/arango/Current/ServersRegistered/{server}"));
            self.remove(format!("/arango/Current/Singles/{server}"));
        }
        self.abandon_in_sync(index);
        if self.lead.epoch == Epoch(0)
            && let Some(text) = self.tree.leaf(ADOPT_KEY, self.wall_ms).and_then(Value::as_str)
            && let Some(uuid) = Uuid::parse(text)
        {
            let deployment = DeploymentId(uuid.0);
            let takes_over = self.deployment != Some(deployment) || self.has_older_member();
            if takes_over && !self.adopted {
                self.says(Severity::Warn, format!("an operator confirmed: this agency takes over deployment {uuid}"));
            }
            self.confirmed = true;
            self.adopted |= takes_over;
            if self.deployment != Some(deployment) {
                self.deployment = Some(deployment);
                self.set("/arango/Cluster".into(), json!(uuid.to_string()));
            }
        }
    }

    /// What the tree shows of the leadership record.
    fn project(&mut self) {
        let shown = self.tree.get(LEADER_KEY, self.wall_ms);
        let leader = self.lead.leader.as_ref().map(|leader| json!(leader.peer.id.to_string()));
        if shown != leader {
            match leader {
                Some(leader) => self.set(LEADER_KEY.to_owned(), leader),
                None => self.remove(LEADER_KEY.to_owned()),
            }
        }
    }

    // ---- servers ----------------------------------------------------------------------------------------------------

    /// Refuses a directory that is older than what is on record of it, or than what its server has told since (`told`),
    /// until an operator lets it in: it has forgotten what it promised and acknowledged.
    pub fn refuse_old_copy(&self, server: NodeId, register: &Register, told: Epoch) -> Result<(), String> {
        let known = self.servers.get(&server).filter(|known| known.store == register.store && self.is_planned(server));
        let seen = known.map_or(Epoch(0), |known| known.seen.max(told));
        if register.seen >= seen {
            return Ok(());
        }
        mark!(RegisterRestored);
        Err(format!(
            "its data has seen epoch {} but had seen {} before: an old copy of its directory was restored; to let it \
             in, delete /arango/Plan/Singles/{server} from the agency",
            register.seen.0, seen.0
        ))
    }

    fn register(&mut self, peer: Peer, register: Register) -> Result<Boot, String> {
        let Some(deployment) = self.deployment else { return Err("the agency is not founded yet".into()) };
        if let Some(theirs) = register.deployment
            && theirs != deployment
        {
            mark!(RegisterForeign);
            let (theirs, ours) = (Uuid(theirs.0), Uuid(deployment.0));
            let mut reason = format!("its data belongs to deployment {theirs}, this agency to {ours}");
            if self.lead.epoch == Epoch(0) {
                self.older_data_refused |= register.seen > Epoch(0);
                reason += &format!(
                    "; to take the data over, write \"{theirs}\" to the agency key {ADOPT_KEY}, or \"{ours}\" to begin \
                     without it"
                );
            }
            return Err(reason);
        }
        let known = self.servers.get(&peer.id);
        if let Some(known) = known
            && known.nonce == register.nonce
        {
            return Ok(known.boot);
        }
        if known.is_some_and(|known| known.earlier.contains(&register.nonce)) {
            mark!(RegisterReplaced);
            return Err("a later process has registered for this server".into());
        }
        self.refuse_old_copy(peer.id, &register, Epoch(0))?;
        if known.is_none() && self.servers.len() >= SERVERS_MAX {
            return Err("too many servers are registered".into());
        }
        let mut earlier = known.map_or_else(VecDeque::new, |known| known.earlier.clone());
        earlier.extend(known.map(|known| known.nonce));
        if earlier.len() > EARLIER_MAX {
            earlier.pop_front();
        }
        let id = peer.id;
        let boot = Boot(known.map_or(0, |known| known.boot.0) + 1);
        let number = known.map_or_else(|| self.servers.len() as u32 + 1, |known| known.number);
        let record = ServerRecord {
            peer,
            boot,
            nonce: register.nonce,
            store: register.store,
            advertised: register.advertised,
            host: register.host,
            number,
            seen: register.seen,
            earlier,
        };
        self.servers.insert(id, record.clone());
        self.list(&record);
        self.set(format!("/arango/Current/ServersKnown/{id}/rebootId"), json!(boot.0));
        Ok(boot)
    }

    /// The keys by which ArangoDB's tools find a server.
    fn list(&mut self, record: &ServerRecord) {
        let id = record.peer.id;
        for (part, version) in [("Plan", "/arango/Plan/Version"), ("Current", "/arango/Current/Version")] {
            let path = format!("/arango/{part}/Singles/{id}");
            if !self.tree.has(&path, self.wall_ms) {
                self.set(path, json!("none"));
                self.increment(version);
            }
        }
        let map = format!("/arango/Target/MapUniqueToShortID/{id}");
        if !self.tree.has(&map, self.wall_ms) {
            self.set("/arango/Target/LatestSingleId".into(), json!(self.servers.len()));
            self.set(map, json!({"TransactionID": record.number, "ShortName": record.short_name()}));
        }
        let advertised = record.advertised.as_ref().map_or(String::new(), |endpoint| endpoint.to_string());
        let registered = json!({
            "endpoint": record.peer.endpoint.to_string(),
            "advertisedEndpoint": advertised,
            "host": record.host,
            "version": 31114,
            "versionString": "3.11.14",
            "engine": "rocksdb",
            "timestamp": iso_time(self.wall_ms),
        });
        self.set(format!("/arango/Current/ServersRegistered/{id}"), registered);
        self.increment("/arango/Current/Version");
    }

    // ---- leadership -------------------------------------------------------------------------------------------------

    pub fn leader_process(&self) -> Option<(NodeId, Boot)> {
        self.lead.leader.as_ref().map(|leader| (leader.peer.id, leader.boot))
    }

    fn depose(&mut self, index: u64, depose: Depose) -> Outcome {
        self.see_time(depose.wall_ms);
        if depose.epoch != self.lead.epoch || depose.leader != self.leader_process() || depose.next <= depose.epoch {
            mark!(DeposeTooLate);
            return Outcome::LeadershipSettled;
        }
        let from = depose.leader.map(|(server, _)| server);
        let kind = match (from, depose.released, self.lead.successor) {
            (None, _, _) => Kind::First,
            (_, true, Some(_)) => Kind::Switchover,
            (_, true, None) => Kind::Stop,
            (_, false, _) => Kind::Failover,
        };
        // Deposed again before anybody led: still the same failover.
        self.under_way = Some(match self.under_way.take() {
            Some(first) => Failover { job: index, epoch: depose.next, ..first },
            None => Failover {
                job: index,
                kind,
                ended: depose.epoch,
                epoch: depose.next,
                from,
                to: None,
                reason: depose.reason,
                old_last: depose.last,
                new_last: None,
                loss_max: (!self.lead.in_sync.members.is_empty()).then_some(self.lead.in_sync.lag),
                begun_ms: self.wall_ms,
                served_ms: depose.served_ms.min(self.wall_ms),
                finished_ms: 0,
                serving_ms: None,
                loss: None,
            },
        });
        if let Some(preferred) = depose.preferred {
            self.preferred = Some(preferred);
        }
        // Whoever led has all that it acknowledged.
        let mut in_sync = std::mem::take(&mut self.lead.in_sync);
        if let Some(server) = from.filter(|_| !in_sync.members.is_empty() && !planted!(deposed_not_in_sync)) {
            let deposed = Replica { server, store: self.lead_store };
            in_sync.members.retain(|member| member.server != server);
            in_sync.members.push(deposed);
        }
        self.lead = Leadership { index, epoch: depose.next, leader: None, successor: None, in_sync };
        self.lead_nonce = None;
        self.project();
        self.events.push(Event::Deposed { epoch: depose.next, server: from });
        Outcome::Deposed
    }

    fn elect(&mut self, index: u64, elect: Elect) -> Outcome {
        self.see_time(elect.wall_ms);
        let free = self.lead.leader.is_none() && self.lead.epoch == elect.epoch;
        let server = self.servers.get(&elect.server).filter(|server| free && server.boot == elect.boot).cloned();
        let Some(server) = server else {
            mark!(ElectTooLate);
            return Outcome::LeadershipSettled;
        };
        let leader = Leader { peer: server.peer.clone(), boot: server.boot };
        let mut in_sync = std::mem::take(&mut self.lead.in_sync);
        in_sync.members.retain(|member| member.server != elect.server);
        self.lead = Leadership { index, epoch: elect.epoch, leader: Some(leader), successor: None, in_sync };
        self.lead_nonce = Some(server.nonce);
        self.lead_store = server.store;
        // It has reported for this epoch, durably (R5).
        if let Some(record) = self.servers.get_mut(&elect.server) {
            record.seen = record.seen.max(elect.epoch);
        }
        self.preferred = None;
        self.begun = self.begun.max(elect.last.epoch);
        self.project();
        if let Some(mut failover) = self.under_way.take() {
            failover.to = Some(elect.server);
            failover.new_last = Some(elect.last);
            failover.finished_ms = self.wall_ms;
            failover.settle_planned();
            self.show_failover(&failover);
            self.finished.push_back(failover);
            if self.finished.len() > FAILOVERS_MAX
                && let Some(oldest) = self.finished.pop_front()
            {
                self.remove(format!("/arango/Target/Finished/{}", oldest.job));
            }
        }
        self.events.push(Event::Elected { epoch: elect.epoch, server: elect.server, boot: elect.boot });
        Outcome::Elected
    }

    fn show_failover(&mut self, failover: &Failover) {
        self.set(format!("/arango/Target/Finished/{}", failover.job), failover.to_json());
    }

    /// Completes the latest such record.
    fn revise_failover(&mut self, which: impl Fn(&Failover) -> bool, change: impl FnOnce(&mut Failover)) {
        if let Some(failover) = self.finished.iter_mut().rev().find(|failover| which(failover)) {
            change(failover);
            let failover = failover.clone();
            self.show_failover(&failover);
        }
    }

    fn request_handover(&mut self, index: u64, to: Option<NodeId>) {
        let Some((leader, _)) = self.leader_process() else { return };
        let to = to.filter(|to| *to != leader && self.is_planned(*to));
        if self.lead.successor != to {
            self.lead.successor = to;
            self.lead.index = index;
        }
    }

    /// Whether the leader of this record asks, and means this record.
    pub fn takes_in_sync(&self, server: NodeId, set: &SetInSync) -> bool {
        let of_the_leader = self.leader_process() == Some((server, set.boot)) && self.lead.epoch == set.epoch;
        of_the_leader && (self.lead.index == set.index || planted!(in_sync_set_late))
    }

    fn set_in_sync(&mut self, index: u64, server: NodeId, set: SetInSync) {
        if !self.takes_in_sync(server, &set) {
            return mark!(InSyncTooLate);
        }
        mark!(InSyncChanged);
        self.events.push(Event::InSyncChanged { epoch: set.epoch, index, in_sync: set.in_sync.clone() });
        self.lead.in_sync = set.in_sync;
        self.lead.index = index;
    }

    /// An operator knows that nobody of the in-sync set will ever come back.
    fn abandon_in_sync(&mut self, index: u64) {
        let wanted = self.tree.leaf(ABANDON_KEY, self.wall_ms).and_then(Value::as_u64);
        if self.lead.leader.is_none() && wanted == Some(self.lead.epoch.0) && !self.lead.in_sync.members.is_empty() {
            mark!(InSyncAbandoned);
            let text = format!("an operator gave up what only {} had", self.lead.in_sync.names());
            self.says(Severity::Warn, text);
            self.lead.in_sync = InSync::default();
            self.lead.index = index;
        }
    }
}

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    let start = if hash == 0 { 0xcbf2_9ce4_8422_2325 } else { hash };
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// `2023-01-01T00:00:00Z`.
pub fn iso_time(wall_ms: u64) -> String {
    let seconds = wall_ms / 1000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days since 1970, counting years from March (Hinnant's algorithm).
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Unix milliseconds of such a text; the fraction is dropped. `None` for anything else.
pub fn parse_iso_time(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_era =
        year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * month_from_march + 2) / 5 + day - 1;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    Some((days * 86_400 + hour * 3600 + minute * 60 + second) * 1000)
}

/// What ArangoDB's first server writes below `/arango`.
fn initial_tree(deployment: DeploymentId) -> Value {
    let analyzers = json!({"_system": {"revision": 0, "buildingRevision": 0, "coordinator": "", "rebootID": 0}});
    json!({
        "Cluster": Uuid(deployment.0).to_string(),
        "Agency": {"Definition": 1},
        "Current": {
            "AsyncReplication": {}, "Collections": {"_system": {}}, "Version": 1, "ShardsCopied": {}, "NewServers": {},
            "Coordinators": {}, "Lock": "UNLOCKED", "DBServers": {}, "Singles": {}, "ServersRegistered": {"Version": 1},
            "Databases": {},
        },
        "InitDone": true,
        "Plan": {
            "AsyncReplication": {}, "Coordinators": {}, "Databases": {"_system": {"name": "_system", "id": "1"}},
            "Lock": "UNLOCKED", "DBServers": {}, "Singles": {}, "Version": 1, "Collections": {"_system": {}},
            "Views": {"_system": {}}, "Analyzers": analyzers,
        },
        "Sync": {
            "LatestID": 1, "Problems": {}, "UserVersion": 1, "ServerStates": {}, "HeartbeatIntervalMs": 1000,
        },
        "Supervision": {"Health": {}, "Shards": {}, "DBServers": {}},
        "Target": {
            "NumberOfCoordinators": null, "NumberOfDBServers": null, "CleanedServers": [], "ToBeCleanedServers": [],
            "FailedServers": {}, "Lock": "UNLOCKED", "MapLocalToID": {}, "Failed": {}, "Finished": {}, "Pending": {},
            "ToDo": {}, "Version": 1,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::{iso_time, parse_iso_time};

    /// Each day of 700 years by counting, for the calendar repeats itself after 400.
    #[test]
    fn dates_are_those_of_the_calendar() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..700 * 366 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let wall_ms = (days * 86_400 + days % 86_400) * 1000;
            let (hour, minute, second) = (days % 86_400 / 3600, days % 3600 / 60, days % 60);
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
            assert_eq!((iso_time(wall_ms + 999), parse_iso_time(&text)), (text.clone(), Some(wall_ms)));
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "2026-01-01",
            "1969-12-31T23:59:59Z",
            "2026-00-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-32T00:00:00Z",
            "maintenance until later",
        ] {
            assert_eq!(parse_iso_time(text), None, "{text}");
        }
        assert_eq!(parse_iso_time("1970-01-01T00:00:01.5Z"), Some(1000));
    }
}
