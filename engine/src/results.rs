//! Results of queries that are kept to be given again: ArangoDB's query results cache.
//!
//! A result is kept with the end of the log that it was made of, and given again only to who sees the same end: as long
//! as nothing at all has been written, replicated or undone, running the query again could come to nothing else. So it
//! is never stale, whoever writes what, and nobody who writes has to know of it. All results here are of the same end;
//! the first one of another throws the others away. It belongs to its user too, for a query may read what only some may
//! see. All of it is bounded, ends with the process, and is not replicated.

use crate::cursor::Rows;
use crate::db::rows::LogBase;
use crate::types::{Duration, Now};
use std::collections::BTreeMap;

/// Texts that are shorter are not worth it.
pub const TEXT_BYTES_MIN: usize = 8;
/// Bounds on what may be asked for.
const RESULTS_MAX: usize = 1024;
const BYTES_MAX: usize = 256 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    #[default]
    Off,
    /// All queries that do not refuse.
    On,
    /// Those that ask for it.
    Demand,
}

impl CacheMode {
    pub const ALL: [CacheMode; 3] = [CacheMode::Off, CacheMode::On, CacheMode::Demand];

    pub fn name(self) -> &'static str {
        match self {
            CacheMode::Off => "off",
            CacheMode::On => "on",
            CacheMode::Demand => "demand",
        }
    }
}

/// What is kept, in each database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caching {
    pub mode: CacheMode,
    pub results_max: usize,
    pub bytes_max: usize,
    pub entry_bytes_max: usize,
    /// Also of queries that name system collections.
    pub system: bool,
}

impl Default for Caching {
    fn default() -> Caching {
        let (bytes_max, entry_bytes_max) = (256 << 20, 16 << 20);
        Caching { mode: CacheMode::Off, results_max: 128, bytes_max, entry_bytes_max, system: false }
    }
}

/// What makes two queries the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    pub database: u64,
    pub user: Option<String>,
    pub text: String,
    /// Its parameters, as JSON.
    pub binds: String,
}

#[derive(Clone, Debug)]
pub struct Kept {
    pub rows: Rows,
    pub began: Now,
    pub took: Duration,
    /// How often it was given again.
    pub hits: u64,
    pub collections: Vec<String>,
    /// Which came when.
    number: u64,
    bytes: usize,
}

impl Kept {
    pub fn new(rows: Rows, began: Now, took: Duration, collections: Vec<String>) -> Kept {
        Kept { rows, began, took, collections, hits: 0, number: 0, bytes: 0 }
    }

    /// Of its result, text and parameters.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Results {
    caching: Caching,
    kept: BTreeMap<Question, Kept>,
    /// The end of the log that they are of.
    end: LogBase,
    next: u64,
}

impl Results {
    pub fn caching(&self) -> Caching {
        self.caching
    }

    /// From now on; what is kept does not outlast it. Returns what is in force then.
    pub fn cache(&mut self, caching: Caching) -> Caching {
        self.caching = Caching {
            results_max: caching.results_max.min(RESULTS_MAX),
            bytes_max: caching.bytes_max.min(BYTES_MAX),
            entry_bytes_max: caching.entry_bytes_max.min(BYTES_MAX),
            ..caching
        };
        self.kept.clear();
        self.caching
    }

    /// Whether a query takes part that wants to, does not want to, or has said nothing.
    pub fn takes(&self, wish: Option<bool>) -> bool {
        match self.caching.mode {
            CacheMode::Off => false,
            CacheMode::On => wish != Some(false),
            CacheMode::Demand => wish == Some(true),
        }
    }

    /// What was kept for one who sees that end of the log.
    pub fn find(&mut self, question: &Question, end: LogBase) -> Option<Rows> {
        let kept = self.kept.get_mut(question).filter(|_| self.end == end)?;
        kept.hits += 1;
        Some(kept.rows.clone())
    }

    /// Keeps a result, if there is room for it at all; the oldest of its database make way.
    pub fn keep(&mut self, question: Question, end: LogBase, mut kept: Kept) {
        let caching = self.caching;
        kept.bytes = kept.rows.bytes() + question.text.len() + question.binds.len();
        let system = kept.collections.iter().any(|name| name.starts_with('_'));
        let fits = kept.bytes <= caching.entry_bytes_max.min(caching.bytes_max) && caching.results_max > 0;
        if caching.mode == CacheMode::Off || !fits || (system && !caching.system) {
            return;
        }
        if self.end != end {
            self.kept.clear();
            self.end = end;
        }
        let database = question.database;
        kept.number = self.next;
        self.next += 1;
        self.kept.insert(question, kept);
        while self.surplus(database) {
            let oldest = self.of(database).min_by_key(|(_, kept)| kept.number).map(|(question, _)| question.clone());
            oldest.and_then(|oldest| self.kept.remove(&oldest)).expect("it holds more than nothing");
        }
    }

    fn surplus(&self, database: u64) -> bool {
        let (mut results, mut bytes) = (0, 0);
        for (_, kept) in self.of(database) {
            results += 1;
            bytes += kept.bytes;
        }
        results > self.caching.results_max || bytes > self.caching.bytes_max
    }

    fn of(&self, database: u64) -> impl Iterator<Item = (&Question, &Kept)> {
        self.kept.iter().filter(move |(question, _)| question.database == database)
    }

    /// What a database has for one who sees that end of the log.
    pub fn list(&self, database: u64, end: LogBase) -> impl Iterator<Item = (&Question, &Kept)> {
        self.of(database).filter(move |_| self.end == end)
    }

    pub fn clear(&mut self, database: u64) {
        self.kept.retain(|question, _| question.database != database);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::RowsWriter;
    use crate::types::{Epoch, Position, Tick};

    fn end(tick: u64) -> LogBase {
        LogBase { position: Position { epoch: Epoch(1), tick: Tick(tick) }, checksum: 7 }
    }

    fn question(database: u64, text: &str) -> Question {
        Question { database, user: None, text: text.to_owned(), binds: String::new() }
    }

    fn result(bytes: usize, collection: &str) -> Kept {
        let mut rows = RowsWriter::default();
        rows.push(|out| out.extend(std::iter::repeat_n(b'1', bytes)));
        Kept::new(rows.finish(), Now::default(), Duration::ZERO, vec![collection.to_owned()])
    }

    fn results(caching: Caching) -> Results {
        let mut results = Results::default();
        results.cache(Caching { mode: CacheMode::On, ..caching });
        results
    }

    fn texts(results: &Results, database: u64, tick: u64) -> Vec<&str> {
        results.list(database, end(tick)).map(|(question, _)| question.text.as_str()).collect()
    }

    #[test]
    fn a_result_is_given_again_to_who_asks_the_same_of_the_same_data() {
        let mut results = results(Caching::default());
        let asked = Question { user: Some("u".into()), binds: "{}".into(), ..question(1, "q") };
        results.keep(asked.clone(), end(5), result(3, "c"));
        assert_eq!(results.find(&asked, end(5)).expect("it is kept").text(), b"111");
        let others = [
            Question { user: Some("v".into()), ..asked.clone() },
            Question { binds: "{\"a\":1}".into(), ..asked.clone() },
            Question { text: "Q".into(), ..asked.clone() },
            Question { database: 2, ..asked.clone() },
        ];
        assert!(others.iter().all(|other| results.find(other, end(5)).is_none()));
        for other in [end(4), end(6), LogBase { checksum: 8, ..end(5) }] {
            assert!(results.find(&asked, other).is_none(), "{other:?}");
        }
        assert_eq!((texts(&results, 1, 5), texts(&results, 1, 6)), (vec!["q"], vec![]));
        assert_eq!(results.list(1, end(5)).map(|(_, kept)| kept.hits).sum::<u64>(), 1);
        results.keep(question(1, "p"), end(6), result(3, "c"));
        assert_eq!((texts(&results, 1, 5), texts(&results, 1, 6)), (vec![], vec!["p"]));
    }

    #[test]
    fn number_bytes_and_kind_are_bounded() {
        let mut results =
            results(Caching { results_max: 2, bytes_max: 200, entry_bytes_max: 150, ..Caching::default() });
        results.keep(question(1, "a"), end(1), result(200, "c"));
        results.keep(question(1, "b"), end(1), result(1, "_users"));
        assert!(texts(&results, 1, 1).is_empty(), "too big; of a system collection");
        ["z", "a", "m"].iter().for_each(|text| results.keep(question(1, text), end(1), result(1, "c")));
        results.keep(question(2, "other"), end(1), result(1, "c"));
        assert_eq!((texts(&results, 1, 1), texts(&results, 2, 1)), (vec!["a", "m"], vec!["other"]));
        results.keep(question(1, "big"), end(1), result(130, "c"));
        results.keep(question(1, "bigger"), end(1), result(131, "c"));
        assert_eq!(texts(&results, 1, 1), ["bigger"]);
        results.clear(1);
        assert_eq!((texts(&results, 1, 1).len(), texts(&results, 2, 1).len()), (0, 1));
        let caching = results.cache(Caching { results_max: usize::MAX, system: true, ..results.caching() });
        assert_eq!(caching.results_max, RESULTS_MAX);
        assert!(texts(&results, 2, 1).is_empty());
        results.keep(question(1, "b"), end(1), result(1, "_users"));
        assert_eq!(texts(&results, 1, 1), ["b"]);
    }

    #[test]
    fn the_mode_and_the_query_say_whether_it_takes_part() {
        let mut results = Results::default();
        let takes = |results: &Results| [None, Some(false), Some(true)].map(|wish| results.takes(wish));
        assert_eq!(takes(&results), [false; 3]);
        results.cache(Caching { mode: CacheMode::On, ..Caching::default() });
        assert_eq!(takes(&results), [true, false, true]);
        results.cache(Caching { mode: CacheMode::Demand, ..Caching::default() });
        assert_eq!(takes(&results), [false, false, true]);
    }
}
