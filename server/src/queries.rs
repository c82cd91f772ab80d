//! The queries that run in this process, for the threads that run them and those that ask about them.
//!
//! A query that sleeps holds its thread and its snapshot, never the loop: it waits here, and whoever kills it wakes it.
//! One that is handed to the threads and has not begun is waited for by who lists what runs: a client who was told that
//! his job is under way finds it there.

use crate::clock::Clock;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tanist_engine::io::Op;
use tanist_engine::queries::{Attendant, Queries};
use tanist_engine::types::Now;

/// See the module's documentation.
pub struct Attending {
    queries: Mutex<Queries>,
    /// Something about them has changed.
    changed: Condvar,
    clock: Clock,
}

impl Attending {
    pub fn new(clock: Clock) -> Attending {
        Attending { queries: Mutex::default(), changed: Condvar::new(), clock }
    }

    fn lock(&self) -> MutexGuard<'_, Queries> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An op goes to the threads that read.
    pub fn hand(&self, op: &Op) {
        if let Some(run) = run(op) {
            self.lock().hand(run);
        }
    }

    /// An op has come to its end, and if it was a query it has begun before.
    pub fn carried_out(&self, run: Option<u64>) {
        if let Some(run) = run {
            self.with(&mut |queries| queries.carried_out(run));
        }
    }

    /// A query is to end; it may be over by now.
    pub fn interrupt(&self, query: u64) {
        self.with(&mut |queries| {
            queries.kill(query, None);
        });
    }
}

/// The number that an op has as a query, if it may be one.
pub fn run(op: &Op) -> Option<u64> {
    if let Op::Run(run) = op { Some(run.query()) } else { None }
}

impl Attendant for Attending {
    fn now(&self) -> Now {
        (self.clock)()
    }

    fn with(&self, act: &mut dyn FnMut(&mut Queries)) {
        act(&mut self.lock());
        self.changed.notify_all();
    }

    fn sleep(&self, query: u64, time: Duration) {
        /// Other clocks than the condition's own are looked at so often.
        const LOOK: Duration = Duration::from_millis(500);
        let until = self.now().time.plus(time);
        let mut queries = self.lock();
        loop {
            let now = self.now().time;
            if now >= until || queries.interrupted(query, now).is_some() {
                return;
            }
            let patience = until.since(now).min(LOOK);
            queries = self.changed.wait_timeout(queries, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn catch_up(&self) {
        /// Where threads are that short of time, what waits for one does not run.
        const PATIENCE: Duration = Duration::from_millis(200);
        let queries = self.lock();
        let before = queries.handed().clone();
        let waits = |queries: &mut Queries| !queries.handed().is_disjoint(&before);
        drop(self.changed.wait_timeout_while(queries, PATIENCE, waits));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::sync::Arc;
    use std::time::Instant;
    use tanist_engine::queries::Description;

    fn description(id: u64) -> Description {
        let text = String::new();
        Description { id, database_id: 1, database: text.clone(), user: None, binds: text.clone(), text, stream: false }
    }

    #[test]
    fn who_lists_what_runs_waits_for_what_is_about_to_begin() {
        let attending = Arc::new(Attending::new(clock::now));
        let lister = |attending: &Arc<Attending>| {
            let attending = attending.clone();
            std::thread::spawn(move || {
                attending.catch_up();
                let mut running = 0;
                attending.with(&mut |queries| running = queries.current(None, clock::time()).len());
                running
            })
        };
        (1..=2).for_each(|id| attending.lock().hand(id));
        let listing = lister(&attending);
        attending.with(&mut |queries| queries.begin(description(1), clock::now(), None));
        attending.carried_out(Some(2));
        assert_eq!(listing.join().expect("it lists"), 1, "one runs, one was over before it began");
        attending.lock().hand(3);
        assert_eq!(lister(&attending).join().expect("it lists"), 1, "what does not begin is not waited for in vain");
    }

    #[test]
    fn whoever_is_killed_sleeps_no_longer() {
        let attending = Arc::new(Attending::new(clock::now));
        attending.with(&mut |queries| queries.begin(description(1), clock::now(), None));
        let sleeper = {
            let attending = attending.clone();
            std::thread::spawn(move || attending.sleep(1, Duration::from_secs(3600)))
        };
        attending.interrupt(1);
        sleeper.join().expect("it sleeps and wakes");
        let begun = Instant::now();
        attending.with(&mut |queries| queries.end(1, clock::time(), 0));
        attending.sleep(1, Duration::from_millis(20));
        assert!(begun.elapsed() >= Duration::from_millis(20));
    }
}
