//! What clients ask for, and the HTTP request that asks for it.

use std::fmt;
use tanist_engine::http::{Method, Request, header};

/// Collections 0 and 1 stay, the third comes and goes.
pub const PASSING: u8 = 2;
/// The one in the database that comes and goes, too.
pub const INNER: u8 = 3;
/// The one whose documents may expire.
pub const EXPIRING: u8 = 4;
/// The ones that stream transactions are over, of which one may be had exclusively.
pub const STREAMED: [u8; 2] = [5, 6];
/// The ones that have a unique index over `n`, once it is made. Stream transactions may be over the first, too; the
/// second is emptied and dropped.
pub const UNIQUE: [u8; 2] = [7, 8];
/// The vertices and the edges of the named graph that comes and goes.
pub const GRAPH: [u8; 2] = [9, 10];
/// So few vertices there are that edges find theirs.
pub const VERTICES: u64 = 4;
/// So few values there are that documents meet in them.
const UNIQUE_VALUES: u64 = 7;
/// The name of the index that a collection has beside those that it always has.
const INDEX: &str = "of-the-workload";
/// How long after the moment that a document names it is due.
pub const EXPIRE_AFTER_MS: u64 = 500;
/// The users, seen as a collection.
pub const USERS: u8 = 100;

/// A document's place: collection and key number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub collection: u8,
    pub key: u8,
}

/// The database that a collection is in; `None` for the one that is always there.
pub fn database_of(collection: u8) -> Option<u8> {
    (collection == INNER).then_some(0)
}

/// What a document has in `n` that an operation has written. Two neighbours, written by one operation, have the same.
pub fn unique_value(slot: Slot, op: u64) -> Option<u64> {
    UNIQUE.contains(&slot.collection).then_some((op + u64::from(slot.key) / 2) % UNIQUE_VALUES)
}

/// The vertices that an edge of the graph leads from and to, once an operation has written it.
pub fn ends(op: u64) -> [Slot; 2] {
    [op, op / VERTICES].map(|n| Slot { collection: GRAPH[0], key: (n % VERTICES) as u8 })
}

/// The name of the database that a collection is in.
pub fn home(collection: u8) -> String {
    database_of(collection).map_or("_system".into(), |d| format!("d{d}"))
}

/// What a path to a collection begins with.
fn base(collection: u8) -> String {
    database_of(collection).map_or(String::new(), |d| format!("/_db/d{d}"))
}

impl Slot {
    pub fn is_user(&self) -> bool {
        self.collection == USERS
    }

    pub fn key(&self) -> String {
        if self.is_user() { format!("u{}", self.key) } else { format!("k{}", self.key) }
    }

    fn path(&self) -> String {
        if self.is_user() {
            return format!("/_api/user/{}", self.key());
        }
        format!("{}/_api/document/c{}/{}", base(self.collection), self.collection, self.key())
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_user() { f.write_str(&self.key()) } else { write!(f, "c{}/{}", self.collection, self.key()) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDuplicate {
    Error,
    Ignore,
    Replace,
    Update,
}

impl OnDuplicate {
    fn as_str(self) -> &'static str {
        match self {
            OnDuplicate::Error => "error",
            OnDuplicate::Ignore => "ignore",
            OnDuplicate::Replace => "replace",
            OnDuplicate::Update => "update",
        }
    }
}

/// What a query does with each of its documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Insert,
    Update,
    Replace,
    Remove,
    Upsert,
}

impl Verb {
    pub const ALL: [Verb; 5] = [Verb::Insert, Verb::Update, Verb::Replace, Verb::Remove, Verb::Upsert];

    /// What it does with one document, which is there or is not.
    pub fn on(self, slot: Slot, there: bool) -> Action {
        match self {
            Verb::Insert => Action::Insert(slot),
            Verb::Update => Action::Update(slot, None),
            Verb::Replace => Action::Replace(slot, None),
            Verb::Remove => Action::Remove(slot, None),
            Verb::Upsert if there => Action::Update(slot, None),
            Verb::Upsert => Action::Insert(slot),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Verb::Insert => "insert",
            Verb::Update => "update",
            Verb::Replace => "replace",
            Verb::Remove => "remove",
            Verb::Upsert => "upsert",
        }
    }

    /// The query. It tells of each document what the API of documents tells, and what was there before.
    fn query(self, collection: u8) -> String {
        let write = match self {
            Verb::Insert => "INSERT d",
            Verb::Update => "UPDATE d",
            Verb::Replace => "REPLACE d",
            Verb::Remove => "REMOVE d",
            Verb::Upsert => "UPSERT {_key: d.whole._key} INSERT d.whole UPDATE d.part",
        };
        let told = match self {
            Verb::Remove => "{_key: OLD._key, _rev: OLD._rev, old: OLD}",
            Verb::Insert => "{_key: NEW._key, _rev: NEW._rev, new: NEW}",
            _ => "{_key: NEW._key, _rev: NEW._rev, _oldRev: OLD._rev, old: OLD, new: NEW}",
        };
        format!("FOR d IN @all {write} IN c{collection} RETURN {told}")
    }
}

/// What a client asks for. A slot may be a user's, where that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Insert(Slot),
    /// With a moment for the collection's `ttl` index, in milliseconds since 1970.
    InsertDue(Slot, u64),
    /// Merges `b`; of a user: changes what is kept with it.
    Update(Slot, Option<String>),
    /// Leaves nothing but `v`.
    Replace(Slot, Option<String>),
    Remove(Slot, Option<String>),
    Read {
        slot: Slot,
        dirty: bool,
    },
    /// Gives a user a level in `_system`: none, ro, rw.
    Grant(Slot, u8),
    /// Several documents of one collection in one request; each succeeds or fails by itself.
    InsertMany(Vec<Slot>),
    UpdateMany(Vec<(Slot, Option<String>)>),
    RemoveMany(Vec<Slot>),
    Import {
        slots: Vec<Slot>,
        on_duplicate: OnDuplicate,
    },
    /// Several documents of one collection by one AQL query: all of them, or none.
    Query {
        verb: Verb,
        slots: Vec<Slot>,
    },
    /// The named graph, with its collections.
    MakeGraph,
    /// With all that is in it.
    DropGraph,
    /// Inserts, replaces or removes a vertex or an edge by the interface for graphs: with a vertex go its edges.
    InGraph(Box<Action>),
    Create(u8),
    /// Gives a collection its index: one that lets documents expire, or a unique one.
    Index(u8),
    /// Takes the index away, also while it is being built.
    Unindex(u8),
    Truncate(u8),
    Drop(u8),
    CreateDatabase(u8),
    DropDatabase(u8),
    /// Adds one to a counter in the agency, with a client id: applied once however often it is sent.
    Count(u8),
    ReadCount(u8),
    /// Adds one to a register in the agency and reads it, in one transaction. `named`: with a client id.
    Add {
        register: u16,
        named: bool,
    },
    /// Sets a register, if it is as expected (0: not there).
    Swap {
        register: u16,
        old: u64,
        named: bool,
    },
    Look(u16),
    /// Begins a stream transaction, which may have the first of its collections to itself, and be over one with a
    /// unique index, too.
    Begin {
        exclusive: bool,
        unique: bool,
    },
    /// An action on one document, or a query, within the transaction of this id.
    Within(u64, Box<Action>),
    Commit(u64),
    Abort(u64),
    Status(u64),
}

pub const LEVELS: [&str; 3] = ["none", "ro", "rw"];

impl Action {
    pub fn is_agency(&self) -> bool {
        matches!(self, Action::Count(_) | Action::ReadCount(_)) || self.register().is_some()
    }

    /// The agency's register that it is about.
    pub fn register(&self) -> Option<u16> {
        match self {
            Action::Add { register, .. } | Action::Swap { register, .. } | Action::Look(register) => Some(*register),
            _ => None,
        }
    }

    pub fn is_read(&self) -> bool {
        match self {
            Action::Read { .. } | Action::ReadCount(_) | Action::Look(_) => true,
            Action::Within(_, inner) => inner.is_read(),
            _ => false,
        }
    }

    /// Begins a stream transaction, or is about one.
    pub fn is_streamed(&self) -> bool {
        matches!(self, Action::Begin { .. }) || self.transaction().is_some()
    }

    /// The stream transaction that it is about.
    pub fn transaction(&self) -> Option<u64> {
        match self {
            Action::Within(id, _) | Action::Commit(id) | Action::Abort(id) | Action::Status(id) => Some(*id),
            _ => None,
        }
    }

    /// The one document that it is about.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Action::Insert(slot)
            | Action::InsertDue(slot, _)
            | Action::Update(slot, _)
            | Action::Replace(slot, _)
            | Action::Remove(slot, _)
            | Action::Grant(slot, _)
            | Action::Read { slot, .. } => Some(*slot),
            Action::Within(_, inner) | Action::InGraph(inner) => inner.slot(),
            _ => None,
        }
    }

    /// The documents that it is about, as far as stream transactions may have them.
    pub fn slots(&self) -> Vec<Slot> {
        match self {
            Action::Query { slots, .. } => slots.clone(),
            Action::Within(_, inner) => inner.slots(),
            _ => self.slot().into_iter().collect(),
        }
    }

    /// Has an id by which it can be sent again, or asked about, without being done twice.
    pub fn is_named(&self) -> bool {
        matches!(self, Action::Count(_) | Action::Add { named: true, .. } | Action::Swap { named: true, .. })
    }

    /// What a register is set to: nothing else is.
    pub fn new_value(op: u64) -> u64 {
        op * 1000
    }

    /// Asks the agency whether the transaction of that id was done.
    pub fn inquiry(op: u64) -> Request {
        let request = Request::new(Method::Post, "/_api/agency/inquire").with_body(format!(r#"["sim-{op}"]"#));
        request.with_header(OP_HEADER, op.to_string())
    }

    /// The request, marked with the operation's number in a header that nobody but the checkers looks at.
    pub fn request(&self, op: u64) -> Request {
        let matching = |request: Request, rev: &Option<String>| match rev {
            Some(rev) => request.with_header(header::IF_MATCH, format!("\"{rev}\"")),
            None => request,
        };
        let documents = |method: Method, slot: &Slot, query: &str| {
            let c = slot.collection;
            Request::new(method, format!("{}/_api/document/c{c}{query}", base(c)))
        };
        // The collections are of edges, so that each document has entries in an index; some share a vertex.
        let ends = match self.slot() {
            Some(Slot { collection, .. }) if collection == GRAPH[1] => {
                let [from, to] = ends(op);
                format!(r#""_from":"{from}","_to":"{to}""#)
            }
            _ => format!(r#""_from":"f/{}","_to":"t/{op}""#, op % 3),
        };
        let n = |slot: &Slot| unique_value(*slot, op).map_or(String::new(), |n| format!(r#","n":{n}"#));
        let whole = |slot: &Slot| format!(r#"{{"_key":"{}",{ends},"v":{op},"a":{op}{}}}"#, slot.key(), n(slot));
        let id = |named: bool| if named { format!(r#","sim-{op}""#) } else { String::new() };
        let agency =
            |verb: &str, body: String| Request::new(Method::Post, format!("/_api/agency/{verb}")).with_body(body);
        let request = match self {
            Action::Insert(slot) if slot.is_user() => Request::new(Method::Post, "/_api/user")
                .with_body(format!(r#"{{"user":"{}","passwd":"p{op}","extra":{{"v":{op}}}}}"#, slot.key())),
            Action::Update(slot, _) if slot.is_user() => {
                Request::new(Method::Patch, slot.path()).with_body(format!(r#"{{"extra":{{"v":{op}}}}}"#))
            }
            Action::Replace(slot, _) if slot.is_user() => Request::new(Method::Put, slot.path())
                .with_body(format!(r#"{{"passwd":"p{op}","extra":{{"v":{op}}}}}"#)),
            Action::Grant(slot, level) => Request::new(Method::Put, format!("{}/database/_system", slot.path()))
                .with_body(format!(r#"{{"grant":"{}"}}"#, LEVELS[usize::from(*level)])),
            Action::Insert(slot) => documents(Method::Post, slot, "?returnNew=true").with_body(whole(slot)),
            Action::InsertDue(slot, moment_ms) => {
                let moment_s = format!("{}.{:03}", moment_ms / 1000, moment_ms % 1000);
                documents(Method::Post, slot, "?returnNew=true")
                    .with_body(format!(r#"{{"_key":"{}",{ends},"v":{op},"a":{op},"moment":{moment_s}}}"#, slot.key()))
            }
            Action::Update(slot, rev) => {
                matching(Request::new(Method::Patch, format!("{}?returnNew=true", slot.path())), rev)
                    .with_body(format!(r#"{{"_to":"t/{op}","v":{op},"b":{op}{}}}"#, n(slot)))
            }
            Action::Replace(slot, rev) => {
                matching(Request::new(Method::Put, format!("{}?returnNew=true", slot.path())), rev)
                    .with_body(format!(r#"{{{ends},"v":{op}{}}}"#, n(slot)))
            }
            Action::Remove(slot, rev) => matching(Request::new(Method::Delete, slot.path()), rev),
            Action::Read { slot, dirty: false } => Request::new(Method::Get, slot.path()),
            Action::Read { slot, dirty: true } => {
                Request::new(Method::Get, slot.path()).with_header(header::ALLOW_DIRTY_READ, "true")
            }
            Action::InsertMany(slots) => {
                documents(Method::Post, &slots[0], "?returnNew=true").with_body(array(slots.iter().map(whole)))
            }
            Action::UpdateMany(slots) => {
                let part = |(slot, rev): &(Slot, Option<String>)| {
                    let rev = rev.as_ref().map_or(String::new(), |rev| format!(r#""_rev":"{rev}","#));
                    format!(r#"{{"_key":"{}",{rev}"_to":"t/{op}","v":{op},"b":{op}{}}}"#, slot.key(), n(slot))
                };
                documents(Method::Patch, &slots[0].0, "?returnNew=true&ignoreRevs=false")
                    .with_body(array(slots.iter().map(part)))
            }
            Action::RemoveMany(slots) => {
                let parts = slots.iter().map(|slot| format!(r#""{}""#, slot.key()));
                documents(Method::Delete, &slots[0], "").with_body(array(parts))
            }
            Action::Import { slots, on_duplicate } => {
                let (c, on_duplicate) = (slots[0].collection, on_duplicate.as_str());
                let query = format!("collection=c{c}&type=documents&onDuplicate={on_duplicate}");
                Request::new(Method::Post, format!("{}/_api/import?{query}", base(c)))
                    .with_body(slots.iter().map(whole).collect::<Vec<_>>().join("\n"))
            }
            Action::Query { verb, slots } => {
                let c = slots[0].collection;
                let update = |slot: &Slot| format!(r#""_to":"t/{op}","v":{op},"b":{op}{}"#, n(slot));
                let part = |slot: &Slot| match verb {
                    Verb::Insert => whole(slot),
                    Verb::Update => format!(r#"{{"_key":"{}",{}}}"#, slot.key(), update(slot)),
                    Verb::Replace => format!(r#"{{"_key":"{}",{ends},"v":{op}{}}}"#, slot.key(), n(slot)),
                    Verb::Remove => format!(r#"{{"_key":"{}"}}"#, slot.key()),
                    Verb::Upsert => format!(r#"{{"whole":{},"part":{{{}}}}}"#, whole(slot), update(slot)),
                };
                let (query, all) = (verb.query(c), array(slots.iter().map(part)));
                Request::new(Method::Post, format!("{}/_api/cursor", base(c)))
                    .with_body(format!(r#"{{"query":"{query}","bindVars":{{"all":{all}}}}}"#))
            }
            Action::MakeGraph => {
                let [vertices, edges] = GRAPH.map(|c| format!(r#""c{c}""#));
                let edges = format!(r#"{{"collection":{edges},"from":[{vertices}],"to":[{vertices}]}}"#);
                Request::new(Method::Post, "/_api/gharial")
                    .with_body(format!(r#"{{"name":"g","edgeDefinitions":[{edges}]}}"#))
            }
            Action::DropGraph => Request::new(Method::Delete, "/_api/gharial/g?dropCollections=true"),
            Action::InGraph(inner) => {
                let plain = inner.request(op);
                let slot = inner.slot().expect("it is about one document");
                let kind = if slot.collection == GRAPH[0] { "vertex" } else { "edge" };
                let key = if plain.method == Method::Post { String::new() } else { format!("/{}", slot.key()) };
                let target = format!("/_api/gharial/g/{kind}/c{}{key}?returnNew=true&returnOld=true", slot.collection);
                return Request { target, ..plain };
            }
            Action::Create(c) => Request::new(Method::Post, format!("{}/_api/collection", base(*c)))
                .with_body(format!(r#"{{"name":"c{c}","type":3}}"#)),
            Action::Index(c) => {
                let after_s = EXPIRE_AFTER_MS as f64 / 1000.0;
                let background = in_background(op);
                let what = match UNIQUE.contains(c) {
                    true => r#""type":"persistent","fields":["n"],"unique":true"#.to_owned(),
                    false => format!(r#""type":"ttl","fields":["moment"],"expireAfter":{after_s}"#),
                };
                let index = format!(r#"{{{what},"name":"{INDEX}","inBackground":{background}}}"#);
                Request::new(Method::Post, format!("{}/_api/index?collection=c{c}", base(*c))).with_body(index)
            }
            Action::Unindex(c) => Request::new(Method::Delete, format!("{}/_api/index/c{c}/{INDEX}", base(*c))),
            Action::Truncate(c) => Request::new(Method::Put, format!("{}/_api/collection/c{c}/truncate", base(*c))),
            Action::Drop(c) => Request::new(Method::Delete, format!("{}/_api/collection/c{c}", base(*c))),
            Action::CreateDatabase(d) => {
                Request::new(Method::Post, "/_api/database").with_body(format!(r#"{{"name":"d{d}"}}"#))
            }
            Action::DropDatabase(d) => Request::new(Method::Delete, format!("/_api/database/d{d}")),
            Action::Count(n) => agency("write", format!(r#"[[{{"/sim/n{n}":{{"op":"increment"}}}},{{}},"sim-{op}"]]"#)),
            Action::ReadCount(n) => agency("read", format!(r#"[["/sim/n{n}"]]"#)),
            Action::Add { register: r, named } => {
                let id = id(*named);
                agency("transact", format!(r#"[[{{"/sim/r{r}":{{"op":"increment"}}}},{{}}{id}],["/sim/r{r}"]]"#))
            }
            Action::Swap { register: r, old, named } => {
                let (id, new) = (id(*named), Action::new_value(op));
                let old = if *old == 0 { r#"{"oldEmpty":true}"#.into() } else { format!(r#"{{"old":{old}}}"#) };
                let write = format!(r#"[[{{"/sim/r{r}":{{"op":"set","new":{new}}}}},{{"/sim/r{r}":{old}}}{id}]]"#);
                agency(if *named { "write" } else { "transact" }, write)
            }
            Action::Look(r) => agency("read", format!(r#"[["/sim/r{r}"]]"#)),
            Action::Begin { exclusive, unique } => {
                let [first, second] = STREAMED;
                let third = if *unique { format!(r#","c{}""#, UNIQUE[0]) } else { String::new() };
                let body = match exclusive {
                    false => format!(r#"{{"write":["c{first}","c{second}"{third}]}}"#),
                    true if *unique => format!(r#"{{"exclusive":"c{first}","write":["c{second}"{third}]}}"#),
                    true => format!(r#"{{"exclusive":"c{first}","write":"c{second}"}}"#),
                };
                Request::new(Method::Post, "/_api/transaction/begin")
                    .with_body(format!(r#"{{"collections":{body},"lockTimeout":1}}"#))
            }
            Action::Within(id, inner) => return inner.request(op).with_header(header::TRANSACTION, id.to_string()),
            Action::Commit(id) => Request::new(Method::Put, format!("/_api/transaction/{id}")),
            Action::Abort(id) => Request::new(Method::Delete, format!("/_api/transaction/{id}")),
            Action::Status(id) => Request::new(Method::Get, format!("/_api/transaction/{id}")),
        };
        // Some drivers allow dirty reads with everything that they send.
        let request = match self {
            Action::Insert(_)
            | Action::InsertDue(..)
            | Action::Update(..)
            | Action::Replace(..)
            | Action::Remove(..)
                if op.is_multiple_of(6) =>
            {
                request.with_header(header::ALLOW_DIRTY_READ, "true")
            }
            _ => request,
        };
        request.with_header(OP_HEADER, op.to_string())
    }
}

fn array(parts: impl Iterator<Item = String>) -> String {
    format!("[{}]", parts.collect::<Vec<_>>().join(","))
}

/// Carries the operation's number through the engine, which ignores it.
pub const OP_HEADER: &str = "x-sim-op";

/// Whether an operation that makes an index has it built while writes go on.
pub fn in_background(op: u64) -> bool {
    op.is_multiple_of(2)
}

pub fn op_of(request: &Request) -> Option<u64> {
    request.header(OP_HEADER)?.parse().ok()
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cond = |rev: &Option<String>| rev.as_ref().map_or(String::new(), |r| format!(" if {r}"));
        let all = |slots: &[Slot]| slots.iter().map(Slot::to_string).collect::<Vec<_>>().join(" ");
        let name = |named: &bool| if *named { "" } else { " without an id" };
        match self {
            Action::Insert(slot) => write!(f, "insert {slot}"),
            Action::InsertDue(slot, moment_ms) => write!(f, "insert {slot} of {moment_ms}"),
            Action::Update(slot, rev) => write!(f, "update {slot}{}", cond(rev)),
            Action::Replace(slot, rev) => write!(f, "replace {slot}{}", cond(rev)),
            Action::Remove(slot, rev) => write!(f, "remove {slot}{}", cond(rev)),
            Action::Read { slot, dirty } => write!(f, "{}read {slot}", if *dirty { "dirty " } else { "" }),
            Action::Grant(slot, level) => write!(f, "grant {slot} {}", LEVELS[usize::from(*level)]),
            Action::InsertMany(slots) => write!(f, "insert [{}]", all(slots)),
            Action::UpdateMany(slots) => {
                let parts: Vec<String> = slots.iter().map(|(slot, rev)| format!("{slot}{}", cond(rev))).collect();
                write!(f, "update [{}]", parts.join(" "))
            }
            Action::RemoveMany(slots) => write!(f, "remove [{}]", all(slots)),
            Action::Import { slots, on_duplicate } => {
                write!(f, "import [{}] on duplicate {}", all(slots), on_duplicate.as_str())
            }
            Action::Query { verb, slots } => write!(f, "{} [{}] by a query", verb.as_str(), all(slots)),
            Action::MakeGraph => f.write_str("make the graph"),
            Action::DropGraph => f.write_str("drop the graph"),
            Action::InGraph(inner) => write!(f, "{inner} in the graph"),
            Action::Create(c) => write!(f, "create c{c}"),
            Action::Index(c) => write!(f, "make the index of c{c}"),
            Action::Unindex(c) => write!(f, "drop the index of c{c}"),
            Action::Truncate(c) => write!(f, "truncate c{c}"),
            Action::Drop(c) => write!(f, "drop c{c}"),
            Action::CreateDatabase(d) => write!(f, "create database d{d}"),
            Action::DropDatabase(d) => write!(f, "drop database d{d}"),
            Action::Count(n) => write!(f, "count n{n}"),
            Action::ReadCount(n) => write!(f, "read n{n}"),
            Action::Add { register, named } => write!(f, "add to r{register}{}", name(named)),
            Action::Swap { register, old, named } => write!(f, "swap r{register} if {old}{}", name(named)),
            Action::Look(register) => write!(f, "read r{register}"),
            Action::Begin { exclusive, unique } => {
                let with = if *unique { format!(" with c{}", UNIQUE[0]) } else { String::new() };
                write!(f, "begin{}{with}", if *exclusive { " exclusively" } else { "" })
            }
            Action::Within(id, inner) => write!(f, "{inner} within {id}"),
            Action::Commit(id) => write!(f, "commit {id}"),
            Action::Abort(id) => write!(f, "abort {id}"),
            Action::Status(id) => write!(f, "status of {id}"),
        }
    }
}
