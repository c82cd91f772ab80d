//! The storage threads that only read.
//!
//! They work for the loop; what is over in a moment, connections read for themselves. Each op has a snapshot of its
//! own. A few threads are enough for what is short, because reading is work. A query that sleeps does none, and one
//! that runs for long must not keep all others waiting: meanwhile another thread takes its place, and the machine
//! divides its time. Beyond a bound of threads they keep their places, and others wait.

use crate::driver::Event;
use crate::queries::{self, Attending};
use crate::storage::DiskStore;
use crossbeam_channel::Receiver;
use std::cell::Cell;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tanist_engine::exec;
use tanist_engine::io::{Op, OpId};
use tanist_engine::queries::{Attendant, Queries};
use tanist_engine::types::Now;

/// Threads that work at the same time.
pub const READER_THREADS: usize = 2;
/// Threads beside them for queries that sleep, and for those that run for long: these share the machine with all else.
const SLEEPERS_MAX: usize = 64;
const LONG_MAX: usize = 6;
/// A query that runs for longer steps aside.
const LONG: Duration = Duration::from_millis(100);

/// See the module's documentation.
pub struct Readers {
    work: Receiver<(OpId, Op)>,
    store: DiskStore,
    inbox: Mutex<Sender<Event>>,
    attending: Arc<Attending>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    threads: usize,
    /// Of these, those whose places others have taken.
    asleep: usize,
    long: usize,
}

impl Counts {
    fn working(&self) -> usize {
        self.threads - self.asleep - self.long
    }
}

/// Why a thread steps aside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Sleeps,
    RunsForLong,
}

impl Readers {
    pub fn new(
        work: Receiver<(OpId, Op)>,
        store: DiskStore,
        inbox: Sender<Event>,
        attending: Arc<Attending>,
    ) -> Arc<Readers> {
        let inbox = Mutex::new(inbox);
        Arc::new(Readers { work, store, inbox, attending, counts: Mutex::default() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more thread.
    pub fn add(self: &Arc<Readers>) -> std::io::Result<()> {
        self.counts().threads += 1;
        let readers = self.clone();
        let spawned = std::thread::Builder::new().name("reader".to_owned()).spawn(move || readers.work());
        if spawned.is_err() {
            self.counts().threads -= 1;
        }
        spawned.map(drop)
    }

    fn work(self: Arc<Readers>) {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).clone();
        while let Ok((op, what)) = self.work.recv() {
            let run = queries::run(&what);
            let result = exec::read_attended(what, &self.store, &Reader::of(&self));
            self.attending.carried_out(run);
            if inbox.send(Event::Done(op, result)).is_err() {
                return;
            }
            if self.is_surplus() {
                return;
            }
        }
    }

    /// Whether this thread has become one too many; then it is not counted any more.
    fn is_surplus(&self) -> bool {
        let mut counts = self.counts();
        let surplus = counts.working() > READER_THREADS;
        counts.threads -= usize::from(surplus);
        surplus
    }
}

/// A thread, to the query that it runs.
struct Reader<'a> {
    readers: &'a Arc<Readers>,
    since: Instant,
    aside: Cell<Option<Why>>,
}

impl<'a> Reader<'a> {
    fn of(readers: &'a Arc<Readers>) -> Reader<'a> {
        Reader { readers, since: Instant::now(), aside: Cell::new(None) }
    }

    /// Lets another thread take its place, if there is room for one more.
    fn step_aside(&self, why: Why) {
        let mut counts = self.readers.counts();
        let (aside, most) = match why {
            Why::Sleeps => (&mut counts.asleep, SLEEPERS_MAX),
            Why::RunsForLong => (&mut counts.long, LONG_MAX),
        };
        if *aside >= most {
            return;
        }
        *aside += 1;
        self.aside.set(Some(why));
        let short_of_one = counts.working() < READER_THREADS;
        drop(counts);
        if short_of_one && let Err(e) = self.readers.add() {
            tracing::warn!("no thread takes the place of a query that sleeps or runs for long: {e}");
        }
    }

    fn come_back(&self) {
        match self.aside.take() {
            Some(Why::Sleeps) => self.readers.counts().asleep -= 1,
            Some(Why::RunsForLong) => self.readers.counts().long -= 1,
            None => {}
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.come_back();
    }
}

impl Attendant for Reader<'_> {
    fn now(&self) -> Now {
        self.readers.attending.now()
    }

    fn with(&self, act: &mut dyn FnMut(&mut Queries)) {
        // Whoever runs for long is here again and again, to see whether he is to go on.
        if self.aside.get().is_none() && self.since.elapsed() > LONG {
            self.step_aside(Why::RunsForLong);
        }
        self.readers.attending.with(act);
    }

    fn sleep(&self, query: u64, time: Duration) {
        let ran_for_long = self.aside.get() == Some(Why::RunsForLong);
        self.come_back();
        self.step_aside(Why::Sleeps);
        self.readers.attending.sleep(query, time);
        self.come_back();
        if ran_for_long {
            self.step_aside(Why::RunsForLong);
        }
    }
}
