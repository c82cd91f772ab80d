//! One node, from start to stop: takes the port and the directory, starts the threads, waits for the end.

use crate::client::Client;
use crate::driver::{Driver, Event, State, Views};
use crate::etcd::Etcd;
use crate::exit::{Code, Exit};
use crate::http::{Patience, Port};
use crate::net::Tcp;
use crate::options::{self, Kind};
use crate::peer::{Peers, Receiving};
use crate::queries::Attending;
use crate::readers::{READER_THREADS, Readers};
use crate::storage::{self, DiskStore, OpenFailure};
use crate::{clock, http, log, writer};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use tanist_engine::auth;
use tanist_engine::exec::{self, OpenError};
use tanist_engine::io::Saved;
use tanist_engine::message::raft::SavedRaft;
use tanist_engine::node::Node;
use tanist_engine::types::{Config, Limits, Nonce};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// File in the data directory that tells the node's id, as ArangoDB's does. For people and the starter: the node itself
/// reads its id from the store.
pub const ID_FILE: &str = "UUID";

/// How long a graceful stop may take before the process leaves all the same.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a node until it is told to stop.
pub fn run(kind: Kind, arguments: &[String]) -> Result<(), Exit> {
    let node = options::resolve(kind, arguments)?;
    log::start(&node.log, node.level)?;
    log::abort_on_panic();
    follow_parent()?;
    for remark in &node.remarks {
        tracing::warn!("{remark}");
    }
    let listeners = node.listen.iter().map(|e| http::bind(e.authority())).collect::<Result<Vec<_>, _>>()?;
    let expected = expected_id(&node.directory)?;
    let mut store = DiskStore::open(&node.directory, node.map_bytes, node.check).map_err(open_failure)?;
    let seed = || u64::from_le_bytes(options::entropy());
    let saved = exec::open(&mut store, &node.config, clock::now(), seed()).map_err(|e| open_error(&node, e))?;
    if let Saved::Agent(saved) = &saved
        && matches!(&node.config, Config::Agent(config) if config.etcd.is_some())
        && saved.raft != SavedRaft::default()
    {
        let message = format!(
            "data directory {}: its agent keeps the agency itself, with others; an agent on an etcd begins in a new one",
            node.directory.display()
        );
        return Err(Exit::new(Code::OtherKind, message));
    }
    let mut config = node.config.clone();
    if let Config::Server(server) = &mut config {
        server.ended = store.sign(server.nonce.0).map(Nonce);
    }
    let engine = Node::boot(config, saved, seed(), clock::now());
    let id = engine.id().to_string();
    if expected.as_ref().is_some_and(|expected| *expected != id) {
        let (directory, expected) = (node.directory.display(), expected.unwrap_or_default());
        let message = format!("data directory {directory}: its data is {id}'s, but its file {ID_FILE} says {expected}");
        return Err(Exit::new(Code::OtherKind, message));
    }
    std::fs::write(node.directory.join(ID_FILE), format!("{id}\n"))
        .map_err(|e| Exit::new(Code::Storage, format!("{}: {e}", node.directory.join(ID_FILE).display())))?;
    let what = if kind == Kind::Agent { "agent" } else { "server" };
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!("tanist {version} {what} {} listens on {}", engine.id(), node.listen[0]);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Exit::failed(format!("the runtime can't be started: {e}")))?;
    let (inbox, events) = mpsc::channel();
    let views = Arc::new(Views::default());
    let queue_time_us = Arc::new(AtomicU64::new(0));
    let auth = Arc::new(node.config.auth().clone());
    let token = if auth.enabled { auth::superuser_token(&auth) } else { None };

    let (writes, queued_writes) = mpsc::channel();
    let (reads, queued_reads) = crossbeam_channel::unbounded();
    let attending = Arc::new(Attending::new(clock::now));
    let writing = {
        let (store, inbox, attending) = (store.clone(), inbox.clone(), attending.clone());
        spawn("writer", move || writer::write(queued_writes, store, inbox, &attending))?
    };
    let readers = Readers::new(queued_reads, store.clone(), inbox.clone(), attending.clone());
    (0..READER_THREADS).try_for_each(|_| readers.add()).map_err(thread_failure)?;
    let driver = Driver {
        node: engine,
        inbox: events,
        writer: writes,
        readers: reads,
        peers: Peers::new(Tcp, token, runtime.handle().clone()),
        etcd: match &node.config {
            Config::Agent(config) if config.etcd.is_some() => {
                let (patience, runtime) = (config.election_timeout_min / 2, runtime.handle().clone());
                Some(Etcd::new(Client::default(), node.etcd.clone(), patience, inbox.clone(), runtime))
            }
            _ => None,
        },
        views: views.clone(),
        attending: attending.clone(),
        queue_time_us: queue_time_us.clone(),
        clock: clock::now,
        state: State::default(),
    };
    let (stopped_sender, mut stopped) = watch::channel(false);
    let looping = spawn("loop", move || {
        driver.run();
        let _ = stopped_sender.send(true);
    })?;

    let limits = match &node.config {
        Config::Server(config) => config.limits,
        Config::Agent(_) => Limits { body_bytes: node.body_bytes, ..Limits::default() },
    };
    let port = Arc::new(Port {
        inbox: inbox.clone(),
        receiving: Receiving::new(inbox.clone()),
        views,
        attending,
        store,
        auth,
        limits,
        patience: Patience { idle: node.keep_alive, ..Patience::default() },
        connections: AtomicUsize::new(0),
        connections_max: affordable(node.connections),
        trusted_origins: node.trusted_origins,
        pending: AtomicUsize::new(0),
        queue_time_us,
        seed: AtomicU64::new(seed()),
        clock: clock::now,
        observed: Default::default(),
    });
    runtime.block_on(async {
        let listeners = listeners.into_iter().map(TcpListener::from_std).collect::<Result<Vec<_>, _>>();
        let listeners = listeners.map_err(|e| Exit::failed(format!("can't listen: {e}")))?;
        let serving = tokio::spawn(http::serve::<Tcp>(port, listeners, stopped.clone()));
        // ArangoDB's words: scripts wait for them.
        tracing::info!("{what} {id} is ready for business");
        wait_for_stop(&inbox, &mut stopped).await?;
        let _ = serving.await;
        Ok::<_, Exit>(())
    })?;
    // The loop is gone, and with it the writer's queue: what was queued is written.
    let _ = looping.join();
    drop(inbox);
    let _ = writing.join();
    tracing::info!("stopped");
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(())
}

/// The id that the directory's last owner had; `None` in a new one. Data that is missing where it must be is no reason
/// to begin afresh in silence.
fn expected_id(directory: &Path) -> Result<Option<String>, Exit> {
    let Ok(id) = std::fs::read_to_string(directory.join(ID_FILE)) else { return Ok(None) };
    let data = directory.join(storage::DATA_FILE);
    if std::fs::metadata(&data).is_ok_and(|data| data.len() > 0) {
        return Ok(Some(id.trim().to_owned()));
    }
    let message = format!(
        "{} is missing or empty, but its directory was {}'s: bring it back, or empty the directory to begin afresh",
        data.display(),
        id.trim()
    );
    Err(Exit::new(Code::Corrupt, message))
}

/// How many connections can be kept: each takes a file descriptor.
fn affordable(connections: usize) -> usize {
    /// Files, other nodes' connections, refusals.
    const DESCRIPTORS_ELSE: u64 = 256;
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(descriptors.saturating_sub(DESCRIPTORS_ELSE)).unwrap_or(usize::MAX).max(1);
    if most < connections {
        tracing::warn!("{most} connections at most: the system allows {descriptors} open files (ulimit -n)");
    }
    connections.min(most)
}

/// Returns when the node has stopped: by a signal, or because a client asked it to.
async fn wait_for_stop(inbox: &mpsc::Sender<Event>, stopped: &mut watch::Receiver<bool>) -> Result<(), Exit> {
    let listen = |kind| signal(kind).map_err(|e| Exit::failed(format!("signals can't be received: {e}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    let _ = inbox.send(Event::Stop);
    tokio::select! {
        _ = stopped.wait_for(|stopped| *stopped) => Ok(()),
        _ = terminate.recv() => Err(Exit::failed("stopped at once by a second signal")),
        _ = interrupt.recv() => Err(Exit::failed("stopped at once by a second signal")),
        () = tokio::time::sleep(STOP_TIMEOUT) => Err(Exit::failed("the graceful stop took too long")),
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, Exit> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(thread_failure)
}

fn thread_failure(error: std::io::Error) -> Exit {
    Exit::failed(format!("a thread can't be started: {error}"))
}

/// A child of the starter does not outlive it.
fn follow_parent() -> Result<(), Exit> {
    let Ok(parent) = std::env::var("TANIST_PARENT") else { return Ok(()) };
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let alive = rustix::process::getppid().is_some_and(|pid| pid.as_raw_nonzero().to_string() == parent);
    if alive { Ok(()) } else { Err(Exit::failed("the starter is gone")) }
}

fn open_failure(failure: OpenFailure) -> Exit {
    match failure {
        OpenFailure::InUse(directory) => Exit::new(
            Code::DirectoryInUse,
            format!("data directory {} is in use by another process", directory.display()),
        ),
        OpenFailure::Corrupt(what) => Exit::new(Code::Corrupt, format!("the data can't be used: {what}")),
        OpenFailure::Io(what) => Exit::new(Code::Storage, what),
    }
}

fn open_error(node: &options::Node, error: OpenError) -> Exit {
    let directory = node.directory.display();
    match error {
        OpenError::Format { found, known } => Exit::new(
            Code::OtherFormat,
            format!("data directory {directory} has format {found}, this version knows {known}"),
        ),
        OpenError::Kind(what) => Exit::new(Code::OtherKind, format!("data directory {directory}: {what}")),
        OpenError::Store(e) => {
            let code = match e {
                tanist_engine::db::store::StoreError::Corrupt(_) => Code::Corrupt,
                _ => Code::Storage,
            };
            Exit::new(code, format!("data directory {directory}: {e}"))
        }
    }
}
