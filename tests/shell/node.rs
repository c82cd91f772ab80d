//! A node of the real server on a simulated machine: its port, links, loop, writer and LMDB.
//!
//! Three things stand in for what `server/src/process.rs` uses: tasks for its threads, the simulated network for TCP,
//! the simulation's clock for the system's. What each thread does in a turn is the server's own code.

use crate::net::{PORT, SimNet, now};
use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tanist_engine::io::{Op, OpId, View};
use tanist_engine::node::Node;
use tanist_engine::types::*;
use tanist_engine::{auth, exec};
use tanist_server::driver::{Driver, Event, State, Views};
use tanist_server::http::{Patience, Port, serve};
use tanist_server::peer::{Peers, Receiving};
use tanist_server::queries::Attending;
use tanist_server::storage::DiskStore;
use tanist_server::storage::check::Extent;
use tanist_server::writer;
use tokio::runtime::Handle;
use tokio::sync::watch;

const MAP_BYTES: u64 = 1 << 30;
/// How often a task looks for work: the standard library's channels wake no task.
const TURN: Duration = Duration::from_millis(2);

/// A machine: what stays when its process dies.
#[derive(Clone)]
pub struct Machine {
    pub name: &'static str,
    pub config: Config,
    pub directory: PathBuf,
    pub net: SimNet,
    pub seed: u64,
    pub lives: Rc<Cell<u64>>,
    /// What the process publishes, for the one who watches.
    pub view: Arc<Mutex<Option<Arc<View>>>>,
}

impl Machine {
    /// A process, until it is killed.
    pub async fn run(self) -> turmoil::Result {
        self.lives.set(self.lives.get() + 1);
        let mut rng = Rng::new(self.seed).fork(self.lives.get());
        let mut config = self.config.clone();
        if let Config::Server(server) = &mut config {
            server.nonce = Nonce(rng.next_u128());
        }
        let opened = DiskStore::open(&self.directory, MAP_BYTES, Extent::Nothing);
        let mut store = opened.map_err(|e| format!("{}: {e:?}", self.name))?;
        let saved = exec::open(&mut store, &config, now(), rng.next_u64())?;
        let node = Node::boot(config.clone(), saved, rng.next_u64(), now());

        let (inbox, events) = mpsc::channel();
        let (writes, queued_writes) = mpsc::channel::<(OpId, _)>();
        let (reads, queued_reads) = crossbeam_channel::unbounded();
        let views = Arc::new(Views::default());
        let attending = Arc::new(Attending::new(now));
        let queue_time_us = Arc::new(AtomicU64::new(0));
        let auth = Arc::new(config.auth().clone());
        let token = auth::superuser_token(&auth);
        let port = Arc::new(Port {
            inbox: inbox.clone(),
            receiving: Receiving::new(inbox.clone()),
            views: views.clone(),
            attending: attending.clone(),
            store: store.clone(),
            auth,
            limits: Limits { body_bytes: 1 << 20, ..Limits::default() },
            patience: patience(),
            connections: AtomicUsize::new(0),
            connections_max: 200,
            trusted_origins: Default::default(),
            pending: AtomicUsize::new(0),
            queue_time_us: queue_time_us.clone(),
            seed: AtomicU64::new(rng.next_u64()),
            clock: now,
            observed: Default::default(),
        });
        let listener = (self.net.clone(), turmoil::net::TcpListener::bind(("0.0.0.0", PORT)).await?);
        // The sender outlives the loop: the port stops when the process does.
        let (_stop, stopping) = watch::channel(false);
        tokio::spawn(serve::<SimNet>(port, vec![listener], stopping));
        tokio::spawn(disk(queued_writes, queued_reads, store, inbox, attending.clone(), rng.fork(1)));
        let mut driver = Driver {
            node,
            inbox: events,
            writer: writes,
            readers: reads,
            peers: Peers::new(self.net.clone(), token, Handle::current()),
            etcd: None,
            views,
            attending,
            queue_time_us,
            clock: now,
            state: State::default(),
        };
        driver.publish();
        let host = turmoil::lookup(self.name);
        while !self.net.dies(host) {
            let stopped = driver.timer()
                || match driver.inbox.try_recv() {
                    Ok(event) => driver.take(event),
                    Err(TryRecvError::Empty) => {
                        tokio::time::sleep(driver.patience().min(TURN)).await;
                        false
                    }
                    Err(TryRecvError::Disconnected) => true,
                };
            assert!(!stopped, "{}: nobody asked it to stop", self.name);
            *self.view.lock().expect("nobody panics with it") = driver.node.view().cloned();
        }
        std::future::pending().await
    }
}

/// What the port waits for is short enough to be met.
pub fn patience() -> Patience {
    let ms = Duration::from_millis;
    Patience { idle: ms(8000), head: ms(2000), piece: ms(2000), leave: ms(500) }
}

/// The writer's and the readers' turns, with a disk that takes its time.
async fn disk(
    writes: mpsc::Receiver<(OpId, Op)>,
    reads: crossbeam_channel::Receiver<(OpId, Op)>,
    mut store: DiskStore,
    inbox: mpsc::Sender<Event>,
    attending: Arc<Attending>,
    mut rng: Rng,
) {
    loop {
        while let Ok((op, what)) = reads.try_recv() {
            let _ = inbox.send(Event::Done(op, exec::read(what, &store)));
        }
        match writes.try_recv() {
            Ok(first) => {
                tokio::time::sleep(rng.between(Duration::ZERO, Duration::from_millis(8))).await;
                for (op, result) in writer::commit(first, &writes, &mut store, &attending) {
                    let _ = inbox.send(Event::Done(op, result));
                }
            }
            Err(TryRecvError::Empty) => tokio::time::sleep(TURN).await,
            Err(TryRecvError::Disconnected) => return,
        }
    }
}
