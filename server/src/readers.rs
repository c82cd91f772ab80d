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
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tanist_engine::exec;
use tanist_engine::io::{Op, OpId};
use tanist_engine::queries::{Attendant, Queries};
use tanist_engine::types::Now;

/// Threads that work at the same time.
pub const READER_THREADS: usize = 2;
/// Threads, with those that have stepped aside.
const THREADS_MAX: usize = 66;
/// A query that runs for longer steps aside.
const LONG: Duration = Duration::from_millis(100);

/// See the module's documentation.
pub struct Readers {
    work: Receiver<(OpId, Op)>,
    store: DiskStore,
    inbox: Mutex<Sender<Event>>,
    attending: Arc<Attending>,
    threads: AtomicUsize,
    /// Those whose place another has taken, or would if there were room.
    aside: AtomicUsize,
}

impl Readers {
    pub fn new(
        work: Receiver<(OpId, Op)>,
        store: DiskStore,
        inbox: Sender<Event>,
        attending: Arc<Attending>,
    ) -> Arc<Readers> {
        let inbox = Mutex::new(inbox);
        Arc::new(Readers { work, store, inbox, attending, threads: AtomicUsize::new(0), aside: AtomicUsize::new(0) })
    }

    /// One more thread.
    pub fn add(self: &Arc<Readers>) -> std::io::Result<()> {
        self.threads.fetch_add(1, SeqCst);
        let readers = self.clone();
        let spawned = std::thread::Builder::new().name("reader".to_owned()).spawn(move || readers.work());
        if spawned.is_err() {
            self.threads.fetch_sub(1, SeqCst);
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
        let surplus = |threads: usize| (threads > READER_THREADS + self.aside.load(SeqCst)).then(|| threads - 1);
        self.threads.fetch_update(SeqCst, SeqCst, surplus).is_ok()
    }
}

/// A thread, to the query that it runs.
struct Reader<'a> {
    readers: &'a Arc<Readers>,
    since: Instant,
    aside: Cell<bool>,
}

impl<'a> Reader<'a> {
    fn of(readers: &'a Arc<Readers>) -> Reader<'a> {
        Reader { readers, since: Instant::now(), aside: Cell::new(false) }
    }

    fn step_aside(&self) {
        if self.aside.replace(true) {
            return;
        }
        let readers = self.readers;
        let aside = readers.aside.fetch_add(1, SeqCst) + 1;
        let threads = readers.threads.load(SeqCst);
        if threads < THREADS_MAX
            && threads - aside < READER_THREADS
            && let Err(e) = readers.add()
        {
            tracing::warn!("no thread takes the place of a query that sleeps or runs for long: {e}");
        }
    }

    fn come_back(&self) {
        if self.aside.replace(false) {
            self.readers.aside.fetch_sub(1, SeqCst);
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
        if !self.aside.get() && self.since.elapsed() > LONG {
            self.step_aside();
        }
        self.readers.attending.with(act);
    }

    fn sleep(&self, query: u64, time: Duration) {
        let aside = self.aside.get();
        self.step_aside();
        self.readers.attending.sleep(query, time);
        if !aside {
            self.come_back();
        }
    }
}
