//! What the engine asks of an etcd, and what it is told: the part of etcd's v3 API that is used, as plain data.
//!
//! A shell carries out an [`Ask`] at any one endpoint and comes with the [`Answer`], with "unknown" (it may have been
//! executed, may be executed yet, or never), late, or not at all. All that `agency::etcd` relies on is that ranges and
//! transactions are linearizable.

pub mod model;

use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// A lease of so many seconds; etcd may give more.
    Grant {
        ttl_s: u64,
    },
    KeepAlive {
        lease: u64,
    },
    /// Ends a lease; the keys that are bound to it go with it.
    Revoke {
        lease: u64,
    },
    /// At most `limit` rows in key order. Always linearizable, never "serializable".
    Range {
        span: Span,
        limit: usize,
    },
    Transaction(Transaction),
}

/// Keys from `from` up to, but without, `end`; without an end, just `from`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    pub from: String,
    pub end: Option<String>,
}

impl Span {
    pub fn key(key: &str) -> Span {
        Span { from: key.to_owned(), end: None }
    }

    pub fn contains(&self, key: &str) -> bool {
        match &self.end {
            Some(end) => self.from.as_str() <= key && key < end.as_str(),
            None => self.from == key,
        }
    }
}

/// If all comparisons hold, all of `then` is done, in one revision; else nothing, and the spans of `otherwise` are
/// read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transaction {
    pub compare: Vec<Compare>,
    pub then: Vec<Change>,
    pub otherwise: Vec<Span>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    /// The key was created in this revision; 0: it does not exist.
    Created { key: String, revision: u64 },
    /// The key was last changed in this revision; 0: it does not exist.
    Modified { key: String, revision: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Bound to a lease, if there is one.
    Put {
        key: String,
        value: Bytes,
        lease: Option<u64>,
    },
    Delete(Span),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    Granted {
        lease: u64,
    },
    /// `ttl_s` is 0 if there is no such lease any more.
    Alive {
        ttl_s: u64,
    },
    Revoked,
    Rows {
        rows: Vec<Row>,
        more: bool,
    },
    /// `revision` is that of the changes, or the present one; `ranges` are what `otherwise` asked for.
    Decided {
        succeeded: bool,
        revision: u64,
        ranges: Vec<Vec<Row>>,
    },
    /// A put named a lease that does not exist: nothing was done.
    NoSuchLease,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub key: String,
    pub value: Bytes,
    pub created: u64,
    pub modified: u64,
}
