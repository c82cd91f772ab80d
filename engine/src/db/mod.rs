//! The document engine: databases, collections, documents, the replication log, over a [`store::Store`].
//!
//! - [`rows`]: what the rows of each table look like.
//! - [`reader`] and [`writer`]: what the API and replication read and write through.
//! - [`log`]: log entries; applying and undoing them. [`index`]: secondary indexes, which follow the documents.
//! - [`rules`]: what a collection demands of its documents.
//! - [`compare`]: where a follower's log leaves ours (R7).
//! - [`copy`]: snapshot transfer, on both sides. [`prune`]: forgetting, in pieces.
//! - [`rollback`]: what was undone, and kept.
//! - [`transaction`]: a request within a stream transaction.
//! - [`meta`]: single rows about the store itself.
//! - [`overlay`]: what makes each operation of a batch all or nothing.
//! - [`mem`]: the store of the simulator; [`contract`]: what every store is tested against.

pub mod api;
pub mod compare;
pub mod contract;
pub mod copy;
pub mod index;
pub mod json;
pub mod log;
pub mod mem;
pub mod meta;
pub mod overlay;
pub mod prune;
pub mod reader;
pub mod rollback;
pub mod rows;
pub mod rules;
pub mod store;
pub mod transaction;
pub mod users;
pub mod writer;

pub use index::{Index, IndexKind};
pub use reader::Reader;
pub use rows::{
    CollectionKind, CollectionRow, DatabaseRow, Document, KeyKind, KeyOptions, Revision, ViewKind, ViewRow,
};
pub use writer::{NewCollection, NewIndex, Overwrite, PutError, Savepoint, Writer};
