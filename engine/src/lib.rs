//! The engine of Tanist: election, replication, gating and the document engine as pure state transitions.
//!
//! No I/O, no clock, no threads, no async, no entropy of its own. Two shells run it: `tanist-sim` and `tanist-server`.
//!
//! # Parts, in import order
//! `types <- {http, etcd} <- message <- io <- {agency, failover, replication, gate} <- node` and
//! `types <- http <- {errors, auth, process} <- {batch, demand} <- data <- db/api <- exec`, where `data` is
//! `{db/store, cursor, job, results, dumps, queries} <- db, transaction`. The control plane treats log entries as
//! bytes.
//!
//! # Invariants
//! Cited by number in comments; each has a checker in `sim/src/check`.
//!
//! Agency: **I1** one leader a term. **I2** log matching. **I3** applied sequences are prefixes of one another.
//! **I4** no vote or acknowledgement before it is durable.
//!
//! Failover: **I5** at any instant at most one server has a valid lease and an open gate, clock rates within ε.
//! **I6** epochs only grow, one owner each. **I7** even beyond ε, no store that has seen an epoch takes an append from
//! a sender of an older one.
//!
//! Replication: **I8** once the match is established in an epoch, a follower's log is a prefix of its leader's.
//! **I9** after convergence all stores hold the same documents, `_rev` included, the same epoch history, and in every
//! index what the documents have.
//! **I10** what rollback takes away is exactly the tail after the common point, and it is kept.
//!
//! Clients: **I11** a success comes from a lease holder or carries the dirty-read mark. **I12** an acknowledged write
//! disappears only if no complete, eligible follower that reported had it, and then it is in a rollback record as soon
//! as the old store returns. **I13** a refusal names an endpoint that was leader in that epoch, or none. **I14** a
//! client that stays with one leader reads monotonically; an answer reflects the tick that it names, what was demanded
//! of it (a tick at least, a staleness at most) included.
//!
//! Liveness, once a core is healed: **I15** a leader within a bounded time. **I16** all followers caught up.
//! **I17** every request answered.

#[macro_use]
pub mod planted;

pub mod agency;
pub mod aql;
pub mod auth;
pub mod batch;
pub mod cursor;
pub mod db;
pub mod demand;
pub mod dumps;
pub mod errors;
pub mod etcd;
pub mod exec;
pub mod failover;
pub mod gate;
pub mod http;
pub mod io;
pub mod job;
pub mod mark;
pub mod message;
pub mod node;
pub mod process;
pub mod queries;
pub mod replication;
pub mod results;
pub mod transaction;
pub mod types;
