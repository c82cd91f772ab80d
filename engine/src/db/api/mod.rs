//! What clients can ask of the document engine: ArangoDB's HTTP API.
//!
//! `ROUTES` has a row for each endpoint; each area has a file. The checks come in ArangoDB's order: the gate (before
//! any of this), the database, who it is, the path, the endpoint's needs, and then the endpoint itself. Nothing here
//! decides who leads: a run on a server that does not lead comes with a reader, and whatever it tries to write is
//! refused.

mod absent;
mod admin;
mod analyzer;
mod analyzer_properties;
mod aql_function;
mod change_feed;
mod collection;
mod cursor;
mod database;
mod document;
mod edges;
mod graph;
mod import;
pub mod index;
mod inverted;
mod javascript;
mod job;
mod names;
mod observe;
mod queries;
mod query;
mod replication;
mod rollback;
mod simple;
mod transaction;
mod traversal;
mod ttl;
mod user;
mod view;

pub use admin::{agency_answer, wanted_mode};
pub use transaction::{answer as transaction_answer, is_transactional, told as transactions_told};

use super::json;
use super::rows::{CollectionRow, DatabaseRow, Document, Revision};
use super::store::{StoreError, StoreResult};
use super::users::{self, Level, SYSTEM, User};
use super::{CollectionKind, Index, PutError, Reader, Writer};
use crate::auth::{self, Credentials, Token};
use crate::errors::{self, Error, Kind};
use crate::http::{Method, Request, Response, UNRESERVED, header, percent_decode, percent_encode, truthy};
use crate::io::{Mode, Run, Then};
use crate::job::JobOrder;
use crate::queries::{Attendant, Queries};
use crate::transaction::{Concern, Open};
use crate::types::{Duration, Rng, iso8601};
use serde_json::{Map, Value};
use std::cell::Cell;

/// The version of ArangoDB whose API this is.
pub const VERSION: &str = "3.11.14";
/// Longer names name nothing.
const NAME_BYTES_MAX: usize = 256;

/// What a request came to.
#[derive(Clone, Debug)]
pub struct Handled {
    pub response: Response,
    pub then: Option<Then>,
}

impl From<Response> for Handled {
    fn from(response: Response) -> Handled {
        Handled { response, then: None }
    }
}

/// Answers a request that only reads.
pub fn read(run: &Run, db: &Reader<'_>, attendant: &dyn Attendant) -> StoreResult<Handled> {
    handle(run, Access::Read(*db), None, attendant)
}

/// Answers a request that may write. What it wrote is kept if this returns `Ok` with a status below 400; otherwise
/// nothing of it is.
pub fn write(run: &Run, db: &mut Writer<'_>, attendant: &dyn Attendant) -> StoreResult<Handled> {
    handle(run, Access::Write(db), None, attendant)
}

/// Answers a request within a stream transaction, in the transaction's view. `now` are the data as they are: who asks,
/// and whether he still may, does not depend on when the transaction began.
pub fn within(run: &Run, db: &mut Writer<'_>, now: Reader<'_>, attendant: &dyn Attendant) -> StoreResult<Handled> {
    handle(run, Access::Write(db), Some(now), attendant)
}

/// What a request will do, as far as that has to be known before it is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// It needs a writer.
    pub writes: bool,
    /// The node's loop keeps what comes of it, or has what it needs.
    pub kept: bool,
    /// The stream transaction that it is about.
    pub concern: Concern,
}

/// Those that no row knows have no effect.
pub fn effect(request: &Request) -> Effect {
    if crate::job::deferred(request).is_some() {
        return Effect { kept: true, ..Effect::default() };
    }
    let (_, path) = request.split_database();
    match find(request, path) {
        Found::Route(route, open) => {
            let concern = transaction::concern(request, route, &open);
            let kept = concern != Concern::Nothing;
            match route.effect {
                // What it writes is kept by the loop until the transaction is committed.
                _ if matches!(concern, Concern::Within(_)) => Effect { writes: false, kept, concern },
                Does::Read => Effect { writes: false, kept, concern },
                Does::Kept => Effect { writes: false, kept: true, concern },
                Does::Write => Effect { writes: true, kept, concern },
                // Of one that reads the loop is told only if there is something to keep.
                Does::Query => {
                    let writes = cursor::writes(request);
                    Effect { writes, kept: kept || writes, concern }
                }
            }
        }
        _ => Effect::default(),
    }
}

// ---- the table ------------------------------------------------------------------------------------------------------

type Answer = Result<Handled, Failure>;
type Handler = fn(&mut Call<'_, '_>) -> Answer;

/// What an endpoint asks of a user, beyond some access to the database that the path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// Nothing more; collections are looked at where they are opened.
    Access,
    /// To write in this database.
    Database,
    /// To write in `_system`.
    Administrator,
}

/// What an endpoint does to the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Read,
    Write,
    /// It reads, and the node's loop has what else it needs.
    Kept,
    /// What the text of a query says.
    Query,
}

struct Route {
    method: Method,
    /// Segments; `{…}` stands for any one of them.
    path: &'static str,
    /// A query parameter that must be there and not be "false".
    flag: Option<&'static str>,
    needs: Needs,
    effect: Does,
    handler: Handler,
}

const fn reads(method: Method, path: &'static str, needs: Needs, handler: Handler) -> Route {
    Route { method, path, flag: None, needs, effect: Does::Read, handler }
}

const fn kept(method: Method, path: &'static str, needs: Needs, handler: Handler) -> Route {
    Route { method, path, flag: None, needs, effect: Does::Kept, handler }
}

const fn changes(method: Method, path: &'static str, needs: Needs, handler: Handler) -> Route {
    Route { method, path, flag: None, needs, effect: Does::Write, handler }
}

use Method::{Delete, Get, Head, Patch, Post, Put};
use Needs::{Access as Any, Administrator, Database};

/// The first row that fits is taken; the busiest come first.
static ROUTES: &[Route] = &[
    // document.rs
    reads(Get, "/_api/document/{collection}/{key}", Any, document::get),
    reads(Head, "/_api/document/{collection}/{key}", Any, document::get),
    changes(Post, "/_api/document/{collection}", Any, document::insert),
    changes(Put, "/_api/document/{collection}/{key}", Any, document::replace),
    changes(Patch, "/_api/document/{collection}/{key}", Any, document::update),
    changes(Delete, "/_api/document/{collection}/{key}", Any, document::remove),
    Route { flag: Some("onlyget"), ..reads(Put, "/_api/document/{collection}", Any, document::get_many) },
    changes(Put, "/_api/document/{collection}", Any, document::replace_many),
    changes(Patch, "/_api/document/{collection}", Any, document::update_many),
    changes(Delete, "/_api/document/{collection}", Any, document::remove_many),
    changes(Post, "/_api/document", Any, document::insert),
    changes(Put, "/_api/document", Any, document::replace_many),
    changes(Patch, "/_api/document", Any, document::update_many),
    reads(Get, "/_api/document/{collection}", Any, document::get_nothing),
    reads(Get, "/_api/document", Any, document::get_nothing),
    // cursor.rs
    Route { effect: Does::Query, ..reads(Post, "/_api/cursor", Any, cursor::open) },
    reads(Post, "/_api/cursor/{id}", Any, cursor::next),
    reads(Put, "/_api/cursor/{id}", Any, cursor::next),
    reads(Post, "/_api/cursor/{id}/{batch}", Any, cursor::batch),
    reads(Delete, "/_api/cursor/{id}", Any, cursor::end),
    reads(Post, "/_api/explain", Any, cursor::explain),
    reads(Post, "/_api/query", Any, query::parse),
    // transaction.rs
    kept(Post, "/_api/transaction/begin", Any, transaction::begin),
    kept(Get, "/_api/transaction", Any, transaction::list),
    kept(Delete, "/_api/transaction/write", Any, transaction::abort_writing),
    kept(Get, "/_api/transaction/{id}", Any, transaction::status),
    changes(Put, "/_api/transaction/{id}", Any, transaction::commit),
    kept(Delete, "/_api/transaction/{id}", Any, transaction::abort),
    reads(Post, "/_api/transaction", Any, transaction::javascript),
    // queries.rs
    reads(Get, "/_api/query/current", Any, queries::current),
    reads(Get, "/_api/query/slow", Any, queries::slow),
    reads(Delete, "/_api/query/slow", Any, queries::forget_slow),
    reads(Delete, "/_api/query/{id}", Any, queries::kill),
    reads(Get, "/_api/query/properties", Any, queries::properties),
    reads(Put, "/_api/query/properties", Any, queries::set_properties),
    reads(Get, "/_api/query/rules", Any, queries::rules),
    reads(Get, "/_admin/server/aql-queries", Administrator, queries::recent),
    reads(Get, "/_api/query-cache/properties", Any, queries::cache_properties),
    reads(Put, "/_api/query-cache/properties", Any, queries::set_cache_properties),
    reads(Get, "/_api/query-cache/entries", Any, queries::cache_entries),
    reads(Delete, "/_api/query-cache", Any, queries::clear_cache),
    // import.rs
    changes(Post, "/_api/import", Any, import::import),
    // simple.rs
    kept(Put, "/_api/simple/all", Any, simple::all),
    kept(Put, "/_api/simple/all-keys", Any, simple::all_keys),
    kept(Put, "/_api/simple/by-example", Any, simple::by_example),
    reads(Put, "/_api/simple/first-example", Any, simple::first_example),
    reads(Put, "/_api/simple/any", Any, simple::any),
    kept(Put, "/_api/simple/range", Any, simple::range),
    kept(Put, "/_api/simple/near", Any, simple::near),
    kept(Put, "/_api/simple/within", Any, simple::within),
    kept(Put, "/_api/simple/within-rectangle", Any, simple::within_rectangle),
    kept(Put, "/_api/simple/fulltext", Any, simple::fulltext),
    reads(Put, "/_api/simple/lookup-by-keys", Any, simple::lookup_by_keys),
    changes(Put, "/_api/simple/remove-by-keys", Any, simple::remove_by_keys),
    changes(Put, "/_api/simple/remove-by-example", Any, simple::remove_by_example),
    changes(Put, "/_api/simple/replace-by-example", Any, simple::replace_by_example),
    changes(Put, "/_api/simple/update-by-example", Any, simple::update_by_example),
    // collection.rs
    reads(Get, "/_api/collection", Any, collection::list),
    changes(Post, "/_api/collection", Database, collection::create),
    reads(Get, "/_api/collection/{collection}", Any, collection::get),
    changes(Delete, "/_api/collection/{collection}", Any, collection::remove),
    reads(Get, "/_api/collection/{collection}/properties", Any, collection::properties),
    reads(Get, "/_api/collection/{collection}/count", Any, collection::count),
    reads(Get, "/_api/collection/{collection}/figures", Any, collection::figures),
    reads(Get, "/_api/collection/{collection}/revision", Any, collection::revision),
    reads(Get, "/_api/collection/{collection}/checksum", Any, collection::checksum),
    reads(Get, "/_api/collection/{collection}/shards", Any, collection::shards),
    reads(Get, "/_api/collection/{collection}/{resource}", Any, collection::no_resource),
    changes(Put, "/_api/collection/{collection}/properties", Any, collection::change),
    changes(Put, "/_api/collection/{collection}/truncate", Any, collection::truncate),
    changes(Put, "/_api/collection/{collection}/rename", Any, collection::rename),
    reads(Put, "/_api/collection/{collection}/load", Any, collection::load),
    reads(Put, "/_api/collection/{collection}/unload", Any, collection::unload),
    reads(Put, "/_api/collection/{collection}/compact", Any, collection::unload),
    reads(Put, "/_api/collection/{collection}/loadIndexesIntoMemory", Any, collection::load_indexes),
    reads(Put, "/_api/collection/{collection}/recalculateCount", Any, collection::recalculate_count),
    reads(Put, "/_api/collection/{collection}/responsibleShard", Any, collection::responsible_shard),
    reads(Put, "/_api/collection/{collection}/{action}", Any, collection::no_action),
    // traversal.rs
    reads(Post, "/_api/traversal", Any, traversal::traverse),
    // edges.rs
    reads(Get, "/_api/edges/{collection}", Any, edges::of_vertex),
    // index.rs
    reads(Get, "/_api/index", Any, index::all),
    changes(Post, "/_api/index", Any, index::create),
    reads(Get, "/_api/index/{collection}/{index}", Any, index::get),
    changes(Delete, "/_api/index/{collection}/{index}", Any, index::remove),
    // view.rs
    reads(Get, "/_api/view", Any, view::list),
    changes(Post, "/_api/view", Database, view::create),
    reads(Get, "/_api/view/{view}", Any, view::get),
    reads(Get, "/_api/view/{view}/properties", Any, view::properties),
    changes(Put, "/_api/view/{view}/properties", Database, view::replace),
    changes(Patch, "/_api/view/{view}/properties", Database, view::update),
    changes(Put, "/_api/view/{view}/rename", Database, view::rename),
    changes(Delete, "/_api/view/{view}", Database, view::remove),
    // analyzer.rs
    reads(Get, "/_api/analyzer", Any, analyzer::list),
    changes(Post, "/_api/analyzer", Database, analyzer::create),
    reads(Get, "/_api/analyzer/{analyzer}", Any, analyzer::get),
    changes(Delete, "/_api/analyzer/{analyzer}", Database, analyzer::remove),
    // aql_function.rs
    reads(Get, "/_api/aqlfunction", Any, aql_function::list),
    reads(Get, "/_api/aqlfunction/{namespace}", Any, aql_function::list),
    changes(Post, "/_api/aqlfunction", Database, aql_function::create),
    changes(Delete, "/_api/aqlfunction/{name}", Database, aql_function::remove),
    // graph
    reads(Get, "/_api/gharial", Any, graph::list),
    changes(Post, "/_api/gharial", Database, graph::create),
    reads(Get, "/_api/gharial/{graph}", Any, graph::get),
    changes(Delete, "/_api/gharial/{graph}", Database, graph::remove),
    reads(Get, "/_api/gharial/{graph}/vertex", Any, graph::vertex_collections),
    changes(Post, "/_api/gharial/{graph}/vertex", Database, graph::add_vertex_collection),
    changes(Delete, "/_api/gharial/{graph}/vertex/{collection}", Database, graph::remove_vertex_collection),
    reads(Get, "/_api/gharial/{graph}/edge", Any, graph::edge_collections),
    changes(Post, "/_api/gharial/{graph}/edge", Database, graph::add_definition),
    changes(Put, "/_api/gharial/{graph}/edge/{collection}", Database, graph::replace_definition),
    changes(Delete, "/_api/gharial/{graph}/edge/{collection}", Database, graph::remove_definition),
    changes(Post, "/_api/gharial/{graph}/vertex/{collection}", Any, graph::insert_vertex),
    reads(Get, "/_api/gharial/{graph}/vertex/{collection}/{key}", Any, graph::get_vertex),
    changes(Patch, "/_api/gharial/{graph}/vertex/{collection}/{key}", Any, graph::update_vertex),
    changes(Put, "/_api/gharial/{graph}/vertex/{collection}/{key}", Any, graph::replace_vertex),
    changes(Delete, "/_api/gharial/{graph}/vertex/{collection}/{key}", Any, graph::remove_vertex),
    changes(Post, "/_api/gharial/{graph}/edge/{collection}", Any, graph::insert_edge),
    reads(Get, "/_api/gharial/{graph}/edge/{collection}/{key}", Any, graph::get_edge),
    changes(Patch, "/_api/gharial/{graph}/edge/{collection}/{key}", Any, graph::update_edge),
    changes(Put, "/_api/gharial/{graph}/edge/{collection}/{key}", Any, graph::replace_edge),
    changes(Delete, "/_api/gharial/{graph}/edge/{collection}/{key}", Any, graph::remove_edge),
    // database.rs
    reads(Get, "/_api/database", Any, database::list),
    reads(Get, "/_api/database/user", Any, database::list_accessible),
    reads(Get, "/_api/database/current", Any, database::current),
    changes(Post, "/_api/database", Any, database::create),
    changes(Delete, "/_api/database/{name}", Any, database::remove),
    // user.rs
    reads(Post, "/_open/auth", Any, user::log_in),
    reads(Post, "/_open/auth/renew", Any, user::renew),
    reads(Get, "/_api/user", Any, user::list),
    changes(Post, "/_api/user", Any, user::create),
    reads(Get, "/_api/user/{user}", Any, user::get),
    reads(Post, "/_api/user/{user}", Any, user::check_password),
    changes(Put, "/_api/user/{user}", Any, user::replace),
    changes(Patch, "/_api/user/{user}", Any, user::update),
    changes(Delete, "/_api/user/{user}", Any, user::remove),
    reads(Get, "/_api/user/{user}/database", Any, user::databases),
    reads(Get, "/_api/user/{user}/database/{database}", Any, user::database_level),
    changes(Put, "/_api/user/{user}/database/{database}", Any, user::grant_database),
    changes(Delete, "/_api/user/{user}/database/{database}", Any, user::revoke_database),
    reads(Get, "/_api/user/{user}/database/{database}/{collection}", Any, user::collection_level),
    changes(Put, "/_api/user/{user}/database/{database}/{collection}", Any, user::grant_collection),
    changes(Delete, "/_api/user/{user}/database/{database}/{collection}", Any, user::revoke_collection),
    reads(Get, "/_api/user/{user}/config", Any, user::config),
    changes(Delete, "/_api/user/{user}/config", Any, user::clear_config),
    reads(Get, "/_api/user/{user}/config/{key}", Any, user::config_value),
    changes(Put, "/_api/user/{user}/config/{key}", Any, user::set_config),
    changes(Delete, "/_api/user/{user}/config/{key}", Any, user::remove_config),
    // admin.rs
    reads(Get, "/", Any, admin::root),
    reads(Get, "/_api/version", Any, admin::version),
    reads(Put, "/_api/version", Any, admin::version),
    reads(Get, "/_admin/version", Any, admin::version),
    reads(Get, "/_api/engine", Any, admin::engine),
    reads(Get, "/_api/engine/stats", Any, admin::engine_stats),
    reads(Get, "/_api/endpoint", Any, admin::own_endpoints),
    reads(Get, "/_admin/database/target-version", Any, admin::target_version),
    reads(Get, "/_admin/server/role", Any, admin::role),
    reads(Get, "/_admin/server/availability", Any, admin::availability),
    reads(Get, "/_admin/server/mode", Any, admin::mode),
    reads(Put, "/_admin/server/mode", Administrator, admin::set_mode),
    reads(Get, "/_admin/server/id", Any, admin::server_id),
    reads(Get, "/_admin/status", Any, admin::status),
    reads(Get, "/_admin/time", Any, admin::time),
    reads(Get, "/_admin/echo", Any, admin::echo),
    reads(Post, "/_admin/echo", Any, admin::echo),
    reads(Put, "/_admin/echo", Any, admin::echo),
    reads(Get, "/_admin/shutdown", Administrator, admin::shutdown_state),
    reads(Delete, "/_admin/shutdown", Administrator, admin::shutdown),
    reads(Get, "/_admin/cluster/health", Any, admin::cluster_health),
    reads(Get, "/_admin/cluster/maintenance", Any, admin::maintenance),
    reads(Put, "/_admin/cluster/maintenance", Administrator, admin::set_maintenance),
    reads(Get, "/_api/cluster/endpoints", Any, admin::endpoints),
    // The shell carries out the parts.
    reads(Post, "/_api/batch", Any, admin::admit_batch),
    // job.rs
    reads(Get, "/_api/job", Any, job::no_id),
    reads(Put, "/_api/job", Any, job::no_id),
    reads(Delete, "/_api/job", Any, job::no_id),
    reads(Get, "/_api/job/{id}", Any, job::get),
    reads(Put, "/_api/job/{id}", Any, job::fetch),
    reads(Put, "/_api/job/{id}/{action}", Any, job::act),
    reads(Delete, "/_api/job/{id}", Any, job::remove),
    // ttl.rs
    reads(Get, "/_api/ttl/properties", Any, ttl::properties),
    reads(Put, "/_api/ttl/properties", Any, ttl::set_properties),
    reads(Get, "/_api/ttl/statistics", Any, ttl::statistics),
    // observe.rs
    reads(Get, "/_admin/statistics", Any, observe::statistics),
    reads(Get, "/_admin/statistics-description", Any, observe::statistics_description),
    reads(Get, "/_admin/metrics", Any, observe::metrics),
    reads(Get, "/_admin/metrics/v2", Any, observe::metrics),
    reads(Get, "/_admin/support-info", Administrator, observe::support_info),
    reads(Get, "/_admin/log", Administrator, observe::log),
    reads(Get, "/_admin/log/entries", Administrator, observe::log_entries),
    reads(Get, "/_admin/log/level", Administrator, observe::log_levels),
    reads(Put, "/_admin/log/level", Administrator, observe::set_log_levels),
    reads(Delete, "/_admin/log/level", Administrator, observe::reset_log_levels),
    reads(Get, "/_admin/log/structured", Administrator, observe::log_settings),
    reads(Put, "/_admin/log/structured", Administrator, observe::set_log_settings),
    // absent.rs
    reads(Get, "/_api/foxx", Any, absent::empty_list),
    reads(Post, "/_api/foxx", Any, absent::javascript),
    reads(Delete, "/_api/foxx/service", Any, absent::javascript),
    reads(Get, "/_api/foxx/{part}", Any, absent::javascript),
    reads(Post, "/_api/foxx/{part}", Any, absent::javascript),
    reads(Put, "/_api/foxx/{part}", Any, absent::javascript),
    reads(Patch, "/_api/foxx/{part}", Any, absent::javascript),
    reads(Get, "/_api/tasks", Any, absent::empty_list),
    reads(Post, "/_api/tasks", Any, absent::javascript),
    reads(Get, "/_api/tasks/{id}", Any, absent::no_task),
    reads(Put, "/_api/tasks/{id}", Any, absent::javascript),
    reads(Delete, "/_api/tasks/{id}", Any, absent::no_task),
    reads(Get, "/_api/control_pregel", Any, absent::empty_list),
    reads(Post, "/_api/control_pregel", Any, absent::pregel),
    reads(Get, "/_api/control_pregel/{id}", Any, absent::pregel),
    reads(Delete, "/_api/control_pregel/{id}", Any, absent::pregel),
    reads(Post, "/_admin/routing/reload", Any, absent::reload_routing),
    reads(Get, "/_admin/license", Any, absent::license),
    reads(Put, "/_admin/license", Administrator, absent::only_enterprise),
    reads(Post, "/_admin/backup/{action}", Administrator, absent::only_enterprise),
    reads(Get, "/_admin/server/jwt", Any, absent::secrets),
    reads(Post, "/_admin/server/jwt", Any, absent::secrets),
    reads(Get, "/_admin/server/encryption", Any, absent::secrets),
    reads(Post, "/_admin/server/encryption", Any, absent::secrets),
    reads(Get, "/_admin/server/tls", Any, absent::tls),
    reads(Post, "/_admin/server/tls", Any, absent::reload_tls),
    reads(Put, "/_admin/compact", Any, absent::compact),
    reads(Put, "/_admin/wal/flush", Administrator, absent::flush_wal),
    reads(Get, "/_admin/wal/properties", Administrator, absent::wal_properties),
    reads(Put, "/_admin/wal/properties", Administrator, absent::wal_properties),
    reads(Get, "/_admin/wal/transactions", Administrator, absent::wal_transactions),
    // replication.rs
    reads(Get, "/_api/replication/server-id", Any, replication::server_id),
    reads(Get, "/_api/replication/logger-state", Any, replication::logger_state),
    reads(Get, "/_api/replication/logger-first-tick", Any, replication::logger_first_tick),
    reads(Get, "/_api/replication/logger-tick-ranges", Any, replication::logger_tick_ranges),
    reads(Get, "/_api/replication/applier-state", Any, replication::applier_state),
    reads(Get, "/_api/replication/applier-state-all", Any, replication::applier_state_all),
    reads(Get, "/_api/replication/logger-follow", Administrator, change_feed::logger_follow),
    reads(Get, "/_api/replication/dump", Any, replication::dump),
    reads(Get, "/_api/replication/inventory", Any, replication::inventory),
    reads(Post, "/_api/replication/batch", Any, replication::begin_batch),
    reads(Put, "/_api/replication/batch/{id}", Any, replication::keep_batch),
    reads(Delete, "/_api/replication/batch/{id}", Any, replication::end_batch),
    reads(Get, "/_api/replication/applier-config", Administrator, replication::applier_config),
    reads(Put, "/_api/replication/applier-config", Administrator, replication::no_applier),
    reads(Put, "/_api/replication/applier-start", Administrator, replication::no_applier),
    reads(Put, "/_api/replication/applier-stop", Administrator, replication::applier_state),
    reads(Put, "/_api/replication/make-follower", Administrator, replication::no_applier),
    reads(Put, "/_api/replication/make-slave", Administrator, replication::no_applier),
    reads(Put, "/_api/replication/sync", Administrator, replication::no_applier),
    reads(Get, "/_api/replication/determine-open-transactions", Administrator, replication::open_transactions),
    reads(Get, "/_api/replication/revisions/{what}", Administrator, replication::no_applier),
    reads(Post, "/_api/replication/revisions/{what}", Administrator, replication::no_applier),
    reads(Put, "/_api/replication/revisions/{what}", Administrator, replication::no_applier),
    reads(Get, "/_api/replication/{command}", Any, replication::no_command),
    reads(Get, "/_api/wal/range", Administrator, replication::wal_range),
    reads(Get, "/_api/wal/open-transactions", Administrator, replication::open_transactions),
    reads(Get, "/_api/wal/lastTick", Administrator, replication::wal_last_tick),
    reads(Get, "/_api/wal/tail", Administrator, change_feed::tail),
    reads(Put, "/_api/wal/tail", Administrator, change_feed::tail),
    reads(Get, "/_api/tanist/status", Any, replication::status),
    reads(Get, "/_api/tanist/failovers", Any, admin::failovers),
    // rollback.rs
    reads(Get, "/_api/tanist/rollbacks", Administrator, rollback::list),
    reads(Get, "/_api/tanist/rollbacks/{id}", Administrator, rollback::show),
    reads(Delete, "/_api/tanist/rollbacks/{id}", Administrator, rollback::remove),
];

enum Found {
    /// The row, and the decoded segments that its path leaves open.
    Route(&'static Route, Vec<String>),
    WrongMethod,
    Nothing,
    /// A broken percent escape.
    Undecodable,
}

fn find(request: &Request, path: &str) -> Found {
    let mut wrong_method = false;
    // Most rows are told apart by how they begin; a path with empty segments has to be looked at one by one.
    let plain = path.starts_with('/') && !path.contains("//");
    for route in ROUTES {
        let beginning = route.path.split('{').next().unwrap_or_default();
        if plain && !path.starts_with(beginning) {
            continue;
        }
        let Some(open) = fits(route.path, path) else { continue };
        let method_fits = route.method == request.method || (request.method == Head && route.method == Get);
        if !method_fits {
            wrong_method = true;
            continue;
        }
        if let Some(flag) = route.flag
            && request.query(flag).is_none_or(|value| truthy(&value) == Some(false))
        {
            continue;
        }
        let open: Option<Vec<String>> = open.into_iter().map(percent_decode).collect();
        return open.map_or(Found::Undecodable, |open| Found::Route(route, open));
    }
    if wrong_method { Found::WrongMethod } else { Found::Nothing }
}

/// The segments of `path` that `pattern` leaves open. Empty segments do not count.
fn fits<'p>(pattern: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let mut open = Vec::new();
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    for expected in pattern.split('/').filter(|segment| !segment.is_empty()) {
        let segment = segments.next()?;
        if expected.starts_with('{') {
            open.push(segment);
        } else if expected != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(open)
}

// ---- the checks, in order -------------------------------------------------------------------------------------------

/// Why a request was not carried out.
#[derive(Debug)]
enum Failure {
    /// The store itself: nothing can be said to the client but that.
    Store(StoreError),
    Error(Error),
    /// An answer that is not an error object.
    Response(Response),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

impl From<PutError> for Failure {
    fn from(error: PutError) -> Failure {
        let place = |index: &Index| {
            format!("in index {} of type {} over '{}'", index.name, index.kind.name(), index.fields.join(", "))
        };
        match error {
            PutError::Store(error) => Failure::Store(error),
            PutError::Taken { index, key } => {
                let what = format!("unique constraint violated - {}; conflicting key: {key}", place(&index));
                errors::UNIQUE_CONSTRAINT_VIOLATED.says(what).into()
            }
            PutError::TooMany { index } => {
                errors::RESOURCE_LIMIT.because(format!("too many array elements {}", place(&index))).into()
            }
            PutError::Conflict { key } => {
                let place = "in index primary of type primary over '_key'";
                let what = format!("write-write conflict - {place}; conflicting key: {key}");
                errors::WRITE_CONFLICT.says(what).into()
            }
            PutError::InUse { collection } => {
                let what = format!("write-write conflict - a transaction has written to collection {collection}");
                errors::WRITE_CONFLICT.says(what).into()
            }
            PutError::TooLarge { bytes_max } => {
                let what = format!("maximal transaction size limit of {bytes_max} bytes is reached");
                errors::RESOURCE_LIMIT.says(what).into()
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

impl From<Kind> for Failure {
    fn from(kind: Kind) -> Failure {
        Failure::Error(kind.into())
    }
}

fn handle(run: &Run, db: Access<'_, '_>, now: Option<Reader<'_>>, attendant: &dyn Attendant) -> StoreResult<Handled> {
    settle(answer(run, db, now, attendant))
}

/// A failure is an answer, too, unless it is the store's.
fn settle(answer: Answer) -> StoreResult<Handled> {
    match answer {
        Ok(handled) => Ok(handled),
        Err(Failure::Error(error)) => Ok(error.response().into()),
        Err(Failure::Response(response)) => Ok(response.into()),
        Err(Failure::Store(error)) => Err(error),
    }
}

fn answer(run: &Run, db: Access<'_, '_>, now: Option<Reader<'_>>, attendant: &dyn Attendant) -> Answer {
    let request = &run.request;
    if request.method == Method::Options {
        return Ok(Response::empty(200).with_header(header::ALLOW, Method::ALLOWED).into());
    }
    if request.body.len() > run.view.limits.body_bytes {
        return Err(errors::BODY_TOO_LARGE.because("the request body is too large").into());
    }
    let (database, path) = request.split_database();
    let who = identify(run, &now.unwrap_or(db.reader()), path)?;
    let database = match percent_decode(database.unwrap_or(SYSTEM)) {
        Some(name) if (1..=NAME_BYTES_MAX).contains(&name.len()) => match db.reader().database(&name)? {
            // A server that has no data yet can still say how it is.
            None if name == SYSTEM => Ok(DatabaseRow { id: 0, name, properties: Value::Null }),
            found => found.ok_or(name),
        },
        _ => Err(database.unwrap_or_default().to_owned()),
    };
    let open = path == "/"
        || path.starts_with("/_open/")
        || path == "/_admin/server/availability"
        // What does not begin like this is an application's own: it would authenticate by itself.
        || !path.starts_with("/_");
    let name = database.as_ref().map_or_else(String::as_str, |row| &row.name);
    if !open && !may_enter(&who, name, run, path) {
        return Err(Failure::Response(unauthorized(request)));
    }
    let database = database.map_err(|_| errors::DATABASE_NOT_FOUND)?;
    if let Some(store) = crate::job::deferred(request) {
        let then = Some(Then::Defer(JobOrder { user: who.name().map(str::to_owned), store }));
        return Ok(Handled { response: Response::empty(202), then });
    }
    let (route, open) = match find(request, path) {
        Found::Route(route, open) => (route, open),
        Found::WrongMethod => return Err(errors::HTTP_METHOD_NOT_ALLOWED.into()),
        Found::Nothing => return Err(errors::HTTP_NOT_FOUND.says(format!("unknown path '{path}'")).into()),
        Found::Undecodable => return Err(errors::HTTP_BAD_PARAMETER.because("the path is not decodable").into()),
    };
    let (rng, slept) = (Rng::new(run.seed), Cell::default());
    let mut call = Call { run, db, who, database, open, rng, within: None, attendant, slept };
    call.within = transaction::check(&call, route)?;
    match route.needs {
        Needs::Access => {}
        Needs::Database => call.needs_database(Level::Rw)?,
        Needs::Administrator => call.needs_administrator()?,
    }
    (route.handler)(&mut call)
}

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
enum Who {
    Nobody,
    /// Somebody with the deployment's secret, or anybody where authentication is off.
    Superuser,
    User(User),
}

impl Who {
    /// `None` where nobody is told apart.
    fn name(&self) -> Option<&str> {
        match self {
            Who::User(user) => Some(&user.name),
            Who::Superuser | Who::Nobody => None,
        }
    }
}

fn identify(run: &Run, db: &Reader<'_>, path: &str) -> StoreResult<Who> {
    let auth = &run.view.auth;
    if !auth.enabled {
        return Ok(Who::Superuser);
    }
    let authorization = run.request.header(header::AUTHORIZATION);
    let (name, password) = match auth::credentials(auth, authorization, run.now.wall_ms) {
        Credentials::Missing | Credentials::Invalid => return Ok(Who::Nobody),
        Credentials::Bearer(Token::Superuser { allowed_paths: None }) => return Ok(Who::Superuser),
        Credentials::Bearer(Token::Superuser { allowed_paths: Some(paths) }) => {
            let allowed = paths.iter().any(|allowed| allowed == path);
            return Ok(if allowed { Who::Superuser } else { Who::Nobody });
        }
        Credentials::Bearer(Token::User(name)) => (name, None),
        Credentials::Basic { user, password } => (user, Some(password)),
    };
    Ok(match users::find(db, &name)? {
        Some((user, _))
            if user.active() && password.as_deref().is_none_or(|password| user.password_matches(password)) =>
        {
            Who::User(user)
        }
        _ => Who::Nobody,
    })
}

/// ArangoDB's `canAccessPath`: some access to the database, or one of the paths that need none.
fn may_enter(who: &Who, database: &str, run: &Run, path: &str) -> bool {
    match who {
        Who::Superuser => true,
        Who::User(user) => {
            user.database_level(database) > Level::None
                || path.starts_with("/_api/user/")
                || path == "/_api/cluster/endpoints"
        }
        // A name and a password that do not fit may still be tried out on its owner's page.
        Who::Nobody => {
            let authorization = run.request.header(header::AUTHORIZATION);
            run.request.method == Post
                && matches!(auth::credentials(&run.view.auth, authorization, run.now.wall_ms),
                    Credentials::Basic { user, .. } if path == format!("/_api/user/{user}"))
        }
    }
}

fn unauthorized(request: &Request) -> Response {
    let response = Response::error(401, 11, "not authorized to execute this request");
    if request.header(header::OMIT_WWW_AUTHENTICATE).is_some() {
        return response;
    }
    response
        .with_header(header::WWW_AUTHENTICATE, "Bearer token_type=\"JWT\", realm=\"ArangoDB\"")
        .with_header(header::WWW_AUTHENTICATE, "Basic realm=\"ArangoDB\"")
}

// ---- what an endpoint has in hand -----------------------------------------------------------------------------------

/// The data, to read or to write.
enum Access<'a, 'w> {
    Read(Reader<'a>),
    Write(&'a mut Writer<'w>),
}

impl Access<'_, '_> {
    fn reader(&self) -> Reader<'_> {
        match self {
            Access::Read(reader) => *reader,
            Access::Write(writer) => writer.reader(),
        }
    }
}

/// One request on its way through an endpoint.
struct Call<'a, 'w> {
    run: &'a Run,
    db: Access<'a, 'w>,
    who: Who,
    database: DatabaseRow,
    /// The segments that the route's path leaves open, in order.
    open: Vec<String>,
    rng: Rng,
    /// The stream transaction that it belongs to.
    within: Option<&'a Open>,
    attendant: &'a dyn Attendant,
    /// For how long its query has waited.
    slept: Cell<Duration>,
}

impl<'w> Call<'_, 'w> {
    fn request(&self) -> &Request {
        &self.run.request
    }

    fn reader(&self) -> Reader<'_> {
        self.db.reader()
    }

    fn read_only(&self) -> bool {
        let follows = (self.run.view.read_only || self.run.dirty) && !planted!(dirty_write_let_through);
        follows || matches!(self.db, Access::Read(_))
    }

    fn writer(&mut self) -> Result<&mut Writer<'w>, Failure> {
        if self.read_only() {
            return Err(errors::READ_ONLY.says("server is in read-only mode").into());
        }
        match &mut self.db {
            Access::Write(writer) => Ok(writer),
            Access::Read(_) => unreachable!("a reader is read-only"),
        }
    }

    /// A generator and the data at once.
    fn chance(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Whether this server leads, at the moment that the request was admitted.
    fn leads(&self) -> bool {
        self.run.view.mode == Mode::Default && self.run.view.holds_lease(self.run.now)
    }

    /// Looks at the queries that run, or changes something about them.
    fn queries<T>(&self, act: impl FnOnce(&mut Queries) -> T) -> T {
        let (mut act, mut told) = (Some(act), None);
        self.attendant.with(&mut |queries| told = act.take().map(|act| act(queries)));
        told.expect("it is called once")
    }

    // ---- rights ----

    fn database_level(&self, database: &str) -> Level {
        match &self.who {
            Who::Superuser => Level::Rw,
            Who::User(user) => user.database_level(database),
            Who::Nobody => Level::None,
        }
    }

    fn collection_level(&self, collection: &str) -> Level {
        self.collection_level_in(&self.database.name, collection)
    }

    fn collection_level_in(&self, database: &str, collection: &str) -> Level {
        match &self.who {
            Who::Superuser => Level::Rw,
            Who::User(user) => user.collection_level(database, collection),
            Who::Nobody => Level::None,
        }
    }

    /// ArangoDB lowers everybody to reading while a server is read-only, so this is "forbidden" then.
    fn needs_database(&self, level: Level) -> Result<(), Failure> {
        if self.database_level(&self.database.name) < level || (level == Level::Rw && self.read_only()) {
            return Err(errors::FORBIDDEN.into());
        }
        Ok(())
    }

    fn is_administrator(&self) -> bool {
        self.database_level(SYSTEM) == Level::Rw
    }

    fn needs_superuser(&self) -> Result<(), Failure> {
        if self.who == Who::Superuser { Ok(()) } else { Err(errors::FORBIDDEN.into()) }
    }

    fn needs_administrator(&self) -> Result<(), Failure> {
        if self.is_administrator() { Ok(()) } else { Err(errors::FORBIDDEN.into()) }
    }

    // ---- finding things ----

    /// A collection by name or id, if the user may do that with it.
    fn collection(&self, name: &str, level: Level) -> Result<CollectionRow, Failure> {
        let found = if name.len() <= NAME_BYTES_MAX && !name.is_empty() {
            self.reader().collection(self.database.id, name)?
        } else {
            None
        };
        let Some(row) = found else {
            return Err(errors::DATA_SOURCE_NOT_FOUND.because(name).into());
        };
        let has = self.collection_level(&row.name);
        if has == Level::None {
            return Err(errors::FORBIDDEN.because(format!("{} [{}]", row.name, verb(level))).into());
        }
        if level == Level::Rw {
            if self.read_only() {
                return Err(errors::READ_ONLY.says("server is in read-only mode").into());
            }
            if has < Level::Rw {
                return Err(errors::READ_ONLY.because(format!("{} [write]", row.name)).into());
            }
        }
        if let Some(open) = self.within {
            transaction::check_declared(open, &row, level)?;
        }
        Ok(row)
    }

    /// Whether a collection or a view may be called so.
    fn is_name(&self, name: &str, system: bool) -> bool {
        names::is_of_collection(name, system, self.run.view.limits.extended_names)
    }

    // ---- the request's parts ----

    /// The body; null if there is none.
    fn json(&self) -> Result<Value, Failure> {
        let body = &self.run.request.body;
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(body).map_err(|e| errors::CORRUPTED_JSON.because(e).into())
    }

    /// The body, which must be an object.
    fn object(&self) -> Result<Map<String, Value>, Failure> {
        match self.json()? {
            Value::Object(map) => Ok(map),
            _ => Err(errors::HTTP_BAD_PARAMETER.because("the body must be a JSON object").into()),
        }
    }

    /// The body as checked text; empty if there is none.
    fn text(&self) -> Result<String, Failure> {
        let body = &self.run.request.body;
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(String::new());
        }
        json::compact(body).map_err(|e| errors::CORRUPTED_JSON.because(e).into())
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        self.run.request.query_flag(name, default)
    }
}

fn verb(level: Level) -> &'static str {
    if level == Level::Rw { "write" } else { "read" }
}

/// A document by key, whatever the client sent as one.
fn find_document(db: &Reader<'_>, collection: &CollectionRow, key: &str) -> Result<Option<Document>, Failure> {
    if users::is_key(key) { Ok(db.document(collection, key)?) } else { Ok(None) }
}

/// Calls `each` with the documents of a collection, until it returns false.
fn for_each_document(
    db: &Reader<'_>,
    collection: &CollectionRow,
    mut each: impl FnMut(Document) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    const PAGE: usize = 1000;
    let mut after: Option<Revision> = None;
    loop {
        let page = db.documents(collection, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.revision);
        for document in page {
            if !each(document)? {
                return Ok(());
            }
        }
    }
}

/// An object answer with `error` and `code` in front, as ArangoDB's `generateOk`.
fn ok(status: u16, body: Value) -> Answer {
    let mut map = Map::new();
    map.insert("error".into(), false.into());
    map.insert("code".into(), status.into());
    match body {
        Value::Object(members) => map.extend(members),
        result => {
            map.insert("result".into(), result);
        }
    }
    Ok(Response::json(status, &Value::Object(map)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_rows() {
        let find = |method, target: &str| {
            let request = Request::new(method, target);
            let (_, path) = request.split_database();
            match super::find(&request, path) {
                Found::Route(route, open) => format!("{} {} {open:?}", route.method, route.path),
                Found::WrongMethod => "405".into(),
                Found::Nothing => "404".into(),
                Found::Undecodable => "400".into(),
            }
        };
        assert_eq!(find(Get, "/_api/document/a%2fb/k"), r#"GET /_api/document/{collection}/{key} ["a/b", "k"]"#);
        assert_eq!(find(Get, "/_db/x/_api/version?details=1"), "GET /_api/version []");
        assert_eq!(find(Get, "/_api/collection/"), "GET /_api/collection []");
        assert_eq!(find(Head, "/_api/version"), "GET /_api/version []");
        assert_eq!(find(Get, "/"), "GET / []");
        assert_eq!(find(Patch, "/_api/version"), "405");
        assert_eq!(find(Get, "/_api/document/a/b/c"), "404");
        assert_eq!(find(Get, "/_api/document/%zz/k"), "400");
    }

    #[test]
    fn the_table_says_what_writes() {
        for (method, target, expected) in [
            (Post, "/_api/document/c", true),
            (Put, "/_api/document/c", true),
            (Put, "/_api/document/c?onlyget=true", false),
            (Put, "/_api/document/c?onlyget", false),
            (Put, "/_api/document/c?onlyget=false", true),
            (Get, "/_api/document/c/k", false),
            (Put, "/_db/d/_api/simple/all", false),
            (Put, "/_db/d/_api/simple/remove-by-keys", true),
            (Post, "/_open/auth", false),
            (Put, "/_admin/server/mode", false),
            (Post, "/_api/nothing", false),
            (Method::Options, "/_api/document/c", false),
        ] {
            assert_eq!(effect(&Request::new(method, target)).writes, expected, "{method} {target}");
        }
    }
}
