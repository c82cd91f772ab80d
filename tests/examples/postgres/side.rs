//! What is stored, what is asked, and what a database must offer to be asked.

use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many documents have the same `group`, and how many kinds there are.
const GROUP: u64 = 10;
pub const KINDS: u64 = 100;

/// Documents that are written while measuring get numbers from here on.
static NEXT: AtomicU64 = AtomicU64::new(1 << 40);

pub struct Document {
    pub key: String,
    pub body: Value,
}

impl Document {
    pub fn numbered(number: u64, documents: u64) -> Document {
        let body = json!({
            "group": number % (documents / GROUP).max(1),
            "kind": format!("kind{}", number % KINDS),
            "value": number % 1000,
            "text": "x".repeat(100),
        });
        Document { key: number.to_string(), body }
    }

    /// One that nobody has seen yet, in no group that is looked for.
    fn new() -> Document {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let body = json!({"group": number, "kind": "new", "value": 1, "text": "x".repeat(100)});
        Document { key: number.to_string(), body }
    }
}

/// From one document to another, by their keys.
pub struct Link {
    pub from: String,
    pub to: String,
}

impl Link {
    pub fn numbered(number: u64, vertices: u64) -> Link {
        let from = number % vertices;
        Link { from: from.to_string(), to: ((from * 31 + number / vertices * 7919 + 1) % vertices).to_string() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    PointRead,
    Insert,
    InsertBatch,
    Filter,
    Aggregate,
    Traverse,
}

impl Work {
    /// What only reads comes first: what the others write is more to read.
    pub const ALL: [Work; 6] =
        [Work::PointRead, Work::Filter, Work::Traverse, Work::Aggregate, Work::Insert, Work::InsertBatch];

    pub fn name(self) -> &'static str {
        match self {
            Work::PointRead => "point read",
            Work::Insert => "insert of one, durable",
            Work::InsertBatch => "insert of 1000, durable",
            Work::Filter => "filter by index, 10 rows",
            Work::Aggregate => "sum by kind over all documents",
            Work::Traverse => "traversal of 2 steps",
        }
    }

    pub fn reads(self) -> bool {
        !matches!(self, Work::Insert | Work::InsertBatch)
    }

    /// One aggregation keeps a core busy by itself.
    pub fn clients_max(self) -> usize {
        if self == Work::Aggregate { 1 } else { usize::MAX }
    }
}

pub trait Side: Sync {
    fn name(&self) -> &'static str;
    fn connect(&self) -> Box<dyn Connection>;
    /// Everything is loaded.
    fn settle(&self) {}
}

pub trait Connection: Send {
    fn insert(&mut self, documents: &[Document]);
    fn insert_one(&mut self, document: &Document);
    fn link(&mut self, links: &[Link]);
    /// These tell how many rows they found.
    fn read(&mut self, key: &str) -> usize;
    fn filter(&mut self, group: u64) -> usize;
    fn aggregate(&mut self) -> usize;
    fn traverse(&mut self, key: &str) -> usize;

    /// One piece of work. `chance` chooses what is looked for.
    fn perform(&mut self, work: Work, chance: u64, documents: u64) -> usize {
        match work {
            Work::PointRead => self.read(&(chance % documents).to_string()),
            Work::Insert => {
                self.insert_one(&Document::new());
                1
            }
            Work::InsertBatch => {
                let batch: Vec<Document> = (0..crate::BATCH).map(|_| Document::new()).collect();
                self.insert(&batch);
                batch.len()
            }
            Work::Filter => self.filter(chance % (documents / GROUP).max(1)),
            Work::Aggregate => self.aggregate(),
            Work::Traverse => self.traverse(&(chance % crate::VERTICES.min(documents)).to_string()),
        }
    }
}
