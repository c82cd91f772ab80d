//! The storage threads that only read.
//!
//! They work for the loop; what is over in a moment, connections read for themselves. Each op has a snapshot of its own. A few threads are enough, because reading is work; a query that sleeps does none,
//! so meanwhile another thread takes its place. Beyond a bound of threads sleepers keep their places, and others wait.

use crate::driver::Event;
use crate::queries::{self, Attending};
use crate::storage::DiskStore;
use crossbeam_channel::Receiver;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tanist_engine::exec;
use tanist_engine::io::{Op, OpId};
use tanist_engine::queries::{Attendant, Queries};
use tanist_engine::types::Now;

/// Threads that work at the same time.
pub const READER_THREADS: usize = 2;
/// Threads, with those that sleep.
const THREADS_MAX: usize = 66;

/// See the module's documentation.
pub struct Readers {
    work: Receiver<(OpId, Op)>,
    store: DiskStore,
    inbox: Mutex<Sender<Event>>,
    attending: Arc<Attending>,
    threads: AtomicUsize,
    asleep: AtomicUsize,
}

impl Readers {
    pub fn new(
        work: Receiver<(OpId, Op)>,
        store: DiskStore,
        inbox: Sender<Event>,
        attending: Arc<Attending>,
    ) -> Arc<Readers> {
        let inbox = Mutex::new(inbox);
        Arc::new(Readers { work, store, inbox, attending, threads: AtomicUsize::new(0), asleep: AtomicUsize::new(0) })
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
            let result = exec::read_attended(what, &self.store, &Reader(&self));
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
        let surplus = |threads: usize| (threads > READER_THREADS + self.asleep.load(SeqCst)).then(|| threads - 1);
        self.threads.fetch_update(SeqCst, SeqCst, surplus).is_ok()
    }
}

/// A thread, to the query that it runs.
struct Reader<'a>(&'a Arc<Readers>);

impl Attendant for Reader<'_> {
    fn now(&self) -> Now {
        self.0.attending.now()
    }

    fn with(&self, act: &mut dyn FnMut(&mut Queries)) {
        self.0.attending.with(act);
    }

    fn sleep(&self, query: u64, time: Duration) {
        let asleep = self.0.asleep.fetch_add(1, SeqCst) + 1;
        let threads = self.0.threads.load(SeqCst);
        if threads < THREADS_MAX
            && threads - asleep < READER_THREADS
            && let Err(e) = self.0.add()
        {
            tracing::warn!("no thread takes the place of a query that sleeps: {e}");
        }
        self.0.attending.sleep(query, time);
        self.0.asleep.fetch_sub(1, SeqCst);
    }
}
