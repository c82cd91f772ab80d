//! The queries that run on a server, and those that took long.
//!
//! This is bookkeeping only. Whoever runs queries keeps one [`Queries`] where all that run them can reach it, and is an
//! [`Attendant`] to them: he says what time it is, whether a query is to go on, and waits where it wants to wait. The
//! engine itself has no clock and waits for nothing; alone ([`Alone`]), time stands still. What is kept of a query is
//! bounded, whatever its text is. All of it ends with the process, and none of it is replicated. What else is known
//! just as long is lent with it: results that are kept ([`crate::results`]) and batches ([`crate::dumps`]).

use crate::dumps::Batches;
use crate::results::Results;
use crate::types::{Duration, Now, Time};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Of the parameters of a query so much is kept; longer ones are not shown.
const BINDS_BYTES_MAX: usize = 64 << 10;
const TEXT_BYTES_MIN: usize = 64;
const TEXT_BYTES_MAX: usize = 64 << 10;
const SLOW_MAX: usize = 1024;
const RECENT_MAX: usize = 64;

/// Whoever runs queries, as they see him.
pub trait Attendant {
    fn now(&self) -> Now;
    /// Lends the queries that run; `act` is called once, and must not come back here.
    fn with(&self, act: &mut dyn FnMut(&mut Queries));
    /// Waits for so long, or until the query is to end.
    fn sleep(&self, query: u64, time: Duration);
    /// Whoever asks has no time: a query that takes longer than a moment, or fails, is to be left
    /// ([`crate::io::Then::AtLeisure`]), and is asked for again where there is time.
    fn hurries(&self) -> bool {
        false
    }
    /// Waits, though not for long, until what is to be carried out already has begun, so that it can be listed.
    fn catch_up(&self) {}
}

/// Somebody without time, who knows the queries of another.
pub struct Hurried<'a>(pub &'a dyn Attendant);

impl Attendant for Hurried<'_> {
    fn now(&self) -> Now {
        self.0.now()
    }

    fn with(&self, act: &mut dyn FnMut(&mut Queries)) {
        self.0.with(act);
    }

    fn sleep(&self, _: u64, _: Duration) {}

    fn hurries(&self) -> bool {
        true
    }
}

/// Runs one query after the other. Time passes only where a query sleeps.
#[derive(Default)]
pub struct Alone {
    now: Cell<Now>,
    queries: RefCell<Queries>,
}

impl Attendant for Alone {
    fn now(&self) -> Now {
        self.now.get()
    }

    fn with(&self, act: &mut dyn FnMut(&mut Queries)) {
        act(&mut self.queries.borrow_mut());
    }

    fn sleep(&self, query: u64, time: Duration) {
        let Now { time: now, wall_ms } = self.now.get();
        if self.queries.borrow().interrupted(query, now).is_none() {
            self.now.set(Now { time: now.plus(time), wall_ms: wall_ms + time.as_millis() as u64 });
        }
    }
}

/// What a query is.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub id: u64,
    pub database_id: u64,
    pub database: String,
    pub user: Option<String>,
    pub text: String,
    /// Its parameters, as JSON.
    pub binds: String,
    pub stream: bool,
}

/// A query as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    pub query: Description,
    pub began: Now,
    pub took: Duration,
    pub peak_memory_bytes: usize,
    pub finished: bool,
}

#[derive(Clone, Debug)]
struct Running {
    query: Description,
    began: Now,
    until: Time,
    killed: bool,
}

/// Why a query is not to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    Killed,
    TooLong,
}

/// What is kept of the queries of a database.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tracking {
    pub enabled: bool,
    pub slow: bool,
    pub binds: bool,
    pub slow_max: usize,
    pub slow_after_s: f64,
    pub slow_streaming_after_s: f64,
    pub text_bytes_max: usize,
}

impl Default for Tracking {
    fn default() -> Tracking {
        Tracking {
            enabled: true,
            slow: true,
            binds: true,
            slow_max: 64,
            slow_after_s: 10.0,
            slow_streaming_after_s: 10.0,
            text_bytes_max: 4096,
        }
    }
}

impl Tracking {
    fn bounded(self) -> Tracking {
        Tracking {
            slow_max: self.slow_max.min(SLOW_MAX),
            text_bytes_max: self.text_bytes_max.clamp(TEXT_BYTES_MIN, TEXT_BYTES_MAX),
            ..self
        }
    }

    fn shorten(&self, query: &mut Description) {
        if query.text.len() > self.text_bytes_max {
            query.text.truncate(query.text.floor_char_boundary(self.text_bytes_max));
            query.text.push_str("...");
        }
        if !self.binds || query.binds.len() > BINDS_BYTES_MAX {
            query.binds = "{}".to_owned();
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Queries {
    /// Those that may be queries, and are handed to whoever carries them out.
    handed: BTreeSet<u64>,
    running: BTreeMap<u64, Running>,
    pub results: Results,
    pub batches: Batches,
    /// The latest last.
    slow: VecDeque<Listed>,
    /// Those that ended last, the latest last.
    recent: VecDeque<Listed>,
    /// By database, where it is not the usual.
    tracking: BTreeMap<u64, Tracking>,
}

impl Queries {
    /// Somebody is to carry that out, and says when he has ([`Queries::carried_out`]).
    pub fn hand(&mut self, id: u64) {
        self.handed.insert(id);
    }

    pub fn carried_out(&mut self, id: u64) {
        self.handed.remove(&id);
    }

    /// What was handed out and has not begun.
    pub fn handed(&self) -> &BTreeSet<u64> {
        &self.handed
    }

    /// A query begins that may run for so long.
    pub fn begin(&mut self, mut query: Description, now: Now, at_most: Option<Duration>) {
        self.handed.remove(&query.id);
        self.tracking(query.database_id).shorten(&mut query);
        let until = at_most.map_or(Time::NEVER, |at_most| now.time.plus(at_most));
        self.running.insert(query.id, Running { query, began: now, until, killed: false });
    }

    /// It was left, and begins anew under another number.
    pub fn forget(&mut self, id: u64) {
        self.running.remove(&id);
    }

    pub fn interrupted(&self, id: u64, now: Time) -> Option<Interrupt> {
        let running = self.running.get(&id)?;
        match running.killed {
            true => Some(Interrupt::Killed),
            false => (now >= running.until).then_some(Interrupt::TooLong),
        }
    }

    /// It is over.
    pub fn end(&mut self, id: u64, now: Time, peak_memory_bytes: usize) {
        let Some(Running { query, began, .. }) = self.running.remove(&id) else { return };
        let tracking = self.tracking(query.database_id);
        let took = now.since(began.time);
        if !tracking.enabled {
            return;
        }
        let after_s = if query.stream { tracking.slow_streaming_after_s } else { tracking.slow_after_s };
        let database = query.database_id;
        let ended = Listed { query, began, took, peak_memory_bytes, finished: true };
        let slow = (tracking.slow && took.as_secs_f64() >= after_s).then(|| ended.clone());
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(ended);
        let Some(slow) = slow else { return };
        self.slow.push_back(slow);
        let of_database = |slow: &&Listed| slow.query.database_id == database;
        let mut surplus = self.slow.iter().filter(of_database).count().saturating_sub(tracking.slow_max);
        self.slow.retain(|slow| {
            let goes = surplus > 0 && slow.query.database_id == database;
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// Those of a database, or all, the oldest first.
    pub fn current(&self, database: Option<u64>, now: Time) -> Vec<Listed> {
        let shown = |running: &&Running| {
            let of = running.query.database_id;
            database.is_none_or(|database| database == of) && self.tracking(of).enabled
        };
        let mut list: Vec<&Running> = self.running.values().filter(shown).collect();
        list.sort_by_key(|running| running.began.time);
        let listed = |running: &Running| Listed {
            query: running.query.clone(),
            began: running.began,
            took: now.since(running.began.time),
            peak_memory_bytes: 0,
            finished: false,
        };
        list.into_iter().map(listed).collect()
    }

    /// The last ones of all databases that have ended.
    pub fn recent(&self) -> impl Iterator<Item = &Listed> {
        self.recent.iter()
    }

    pub fn slow(&self, database: Option<u64>) -> Vec<Listed> {
        let shown = |slow: &&Listed| database.is_none_or(|database| database == slow.query.database_id);
        self.slow.iter().filter(shown).cloned().collect()
    }

    pub fn forget_slow(&mut self, database: Option<u64>) {
        self.slow.retain(|slow| database.is_some_and(|database| database != slow.query.database_id));
    }

    /// Whether there is such a query; it ends as soon as it looks.
    pub fn kill(&mut self, id: u64, database: Option<u64>) -> bool {
        let found = self.running.get_mut(&id);
        let Some(running) = found.filter(|one| database.is_none_or(|database| database == one.query.database_id))
        else {
            return false;
        };
        running.killed = true;
        true
    }

    pub fn tracking(&self, database: u64) -> Tracking {
        self.tracking.get(&database).copied().unwrap_or_default()
    }

    /// From now on; returns what is in force then.
    pub fn track(&mut self, database: u64, tracking: Tracking) -> Tracking {
        let tracking = tracking.bounded();
        match tracking == Tracking::default() {
            true => self.tracking.remove(&database),
            false => self.tracking.insert(database, tracking),
        };
        tracking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(id: u64, database_id: u64, text: &str) -> Description {
        let (database, text, binds) = (format!("d{database_id}"), text.to_owned(), r#"{"a":1}"#.to_owned());
        Description { id, database_id, database, user: None, text, binds, stream: false }
    }

    fn at(seconds: u64) -> Now {
        Now { time: Time::ZERO.plus(Duration::from_secs(seconds)), wall_ms: seconds * 1000 }
    }

    fn ids(list: &[Listed]) -> Vec<u64> {
        list.iter().map(|listed| listed.query.id).collect()
    }

    #[test]
    fn what_runs_is_listed_and_can_be_killed_in_its_database() {
        let mut queries = Queries::default();
        queries.begin(query(9, 1, "a"), at(1), None);
        queries.begin(query(4, 1, "b"), at(2), Some(Duration::from_secs(5)));
        queries.begin(query(5, 2, "c"), at(2), None);
        assert_eq!(ids(&queries.current(Some(1), at(3).time)), [9, 4], "the oldest first");
        assert_eq!(ids(&queries.current(None, at(3).time)).len(), 3);
        assert_eq!(queries.current(Some(2), at(4).time)[0].took, Duration::from_secs(2));
        assert!(!queries.kill(5, Some(1)) && !queries.kill(6, None), "of another database, unknown");
        assert!(queries.kill(9, Some(1)) && queries.kill(5, None));
        assert_eq!(queries.interrupted(9, at(3).time), Some(Interrupt::Killed));
        assert_eq!(queries.interrupted(4, at(6).time), None);
        assert_eq!(queries.interrupted(4, at(7).time), Some(Interrupt::TooLong));
        queries.end(9, at(4).time, 0);
        assert_eq!((queries.interrupted(9, at(4).time), queries.kill(9, None)), (None, false));
    }

    #[test]
    fn what_took_long_is_kept_as_its_database_wants_it() {
        let mut queries = Queries::default();
        let run = |queries: &mut Queries, id, database, seconds: u64| {
            queries.begin(query(id, database, "q"), at(100), None);
            queries.end(id, at(100 + seconds).time, 17);
        };
        run(&mut queries, 1, 1, 9);
        run(&mut queries, 2, 1, 10);
        assert_eq!(ids(&queries.slow(Some(1))), [2]);
        assert_eq!(queries.recent().map(|listed| listed.query.id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(queries.slow(None)[0].peak_memory_bytes, 17);
        queries.track(1, Tracking { slow_after_s: 0.5, slow_max: 2, ..Tracking::default() });
        (3..=5).for_each(|id| run(&mut queries, id, 1, 1));
        run(&mut queries, 6, 2, 1);
        run(&mut queries, 7, 2, 11);
        assert_eq!((ids(&queries.slow(Some(1))), ids(&queries.slow(Some(2)))), (vec![4, 5], vec![7]));
        queries.forget_slow(Some(1));
        assert_eq!(ids(&queries.slow(None)), [7]);
        queries.forget_slow(None);
        queries.track(1, Tracking { enabled: false, ..queries.tracking(1) });
        run(&mut queries, 8, 1, 20);
        queries.begin(query(9, 1, "q"), at(1), None);
        assert_eq!((queries.slow(None), queries.current(None, at(1).time)), (Vec::new(), Vec::new()));
        (100..200).for_each(|id| run(&mut queries, id, 2, 0));
        assert_eq!((queries.recent().count(), queries.recent().next().map(|listed| listed.query.id)), (64, Some(136)));
    }

    #[test]
    fn of_long_texts_the_beginning_is_kept() {
        let mut queries = Queries::default();
        let tracking = queries.track(1, Tracking { text_bytes_max: 12, binds: false, ..Tracking::default() });
        assert_eq!(tracking.text_bytes_max, 64);
        queries.begin(query(1, 1, &format!("{}ööö", "x".repeat(63))), at(1), None);
        let listed = &queries.current(Some(1), at(1).time)[0].query;
        assert_eq!((listed.text.as_str(), listed.binds.as_str()), (format!("{}...", "x".repeat(63)).as_str(), "{}"));
    }

    #[test]
    fn alone_time_passes_where_a_query_sleeps() {
        let alone = Alone::default();
        alone.with(&mut |queries| queries.begin(query(1, 1, "q"), Now::default(), None));
        alone.sleep(1, Duration::from_secs(2));
        assert_eq!(alone.now(), at(2));
        alone.with(&mut |queries| assert!(queries.kill(1, None)));
        alone.sleep(1, Duration::from_secs(2));
        assert_eq!(alone.now(), at(2));
    }
}
