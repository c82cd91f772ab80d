//! `tanist start`: a deployment, or one machine's part of it, as child processes that are watched and restarted.
//!
//! On several machines the starters find one another the first time (`join`), and remember who belongs to the
//! deployment (`setup`); who comes or goes later is recorded in the agency (`members`).
//!
//! The starter holds no data and takes no part in any election. Its one contribution to failover is the death notice:
//! it alone knows for certain that a child is dead, because it has reaped it (R4). It never says so of a process that
//! it did not start itself.

pub mod agents;
mod api;
mod child;
mod join;
mod machines;
mod members;
mod setup;

use crate::client::Client;
use crate::exit::{Code, Exit};
use crate::options::{self, parse_any};
use crate::storage::{DirectoryLock, OpenFailure};
use crate::{http, log};
use child::Child;
use clap::Parser;
use setup::{Mode, Passed, Role, Setup};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tanist_engine::types::{Auth, Endpoint};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tracing::level_filters::LevelFilter;

/// What the starter's tasks share.
struct Deployment {
    setup: Mutex<Setup>,
    directory: PathBuf,
    passed: Passed,
    client: Client,
    auth: Auth,
    children: Mutex<Vec<Arc<Child>>>,
    /// The server that served when it was last looked at.
    leader: Mutex<Option<Endpoint>>,
    /// Somebody asked for the end through the API.
    shutdown: Notify,
    /// What ends the starter with a failure.
    failed: mpsc::UnboundedSender<Exit>,
}

impl Deployment {
    fn setup(&self) -> Setup {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The processes on this machine.
    fn children(&self) -> Vec<Arc<Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those of the whole deployment.
    fn agents(&self) -> Vec<Endpoint> {
        self.setup().endpoints(Role::Agent)
    }

    fn servers(&self) -> Vec<Endpoint> {
        self.setup().endpoints(Role::Server)
    }

    fn leader(&self) -> Option<Endpoint> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs a deployment until it is told to stop.
pub fn start(arguments: &[String]) -> Result<(), Exit> {
    let asked = setup::ask(arguments)?;
    let cannot = |e: std::io::Error| Exit::new(Code::Storage, format!("{}: {e}", asked.directory.display()));
    std::fs::create_dir_all(&asked.directory).map_err(cannot)?;
    let _lock = DirectoryLock::take(&asked.directory).map_err(|failure| match failure {
        OpenFailure::InUse(directory) => {
            let message = format!("another starter runs in {}", directory.display());
            Exit::new(Code::DirectoryInUse, message)
        }
        OpenFailure::Corrupt(what) | OpenFailure::Io(what) => Exit::new(Code::Storage, what),
    })?;
    log::start(&log::Target::File(asked.directory.join("starter.log")), LevelFilter::INFO)?;
    let api = http::bind(&format!("{}:{}", asked.setup.address, asked.setup.port))?;
    if asked.meeting.is_none() {
        check_ports(&asked.setup)?;
        setup::remember(&asked.setup, &asked.directory)?;
    }
    for remark in &asked.remarks {
        crate::log::say!("{remark}");
    }

    // One thread does everything, so that the parent of all children is a thread that lives as long as the process:
    // a child is told of its parent's death by the thread that made it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Exit::failed(format!("the runtime can't be started: {e}")))?;
    runtime.block_on(async {
        let api = tokio::net::TcpListener::from_std(api).map_err(|e| Exit::failed(format!("can't listen: {e}")))?;
        let api = Arc::new(api);
        let auth = Auth { enabled: !asked.secrets.is_empty(), secrets: asked.secrets.clone(), ..Auth::default() };
        let client = Client::new(asked.secrets);
        let mut setup = asked.setup;
        if let Some(meeting) = asked.meeting {
            let version = env!("CARGO_PKG_VERSION");
            crate::log::say!("Tanist {version}: machine {} at {}:{}", setup.id, setup.address, setup.port);
            let Some(welcome) = join::meet(&meeting, &setup, &client, &auth, api.clone()).await? else {
                crate::log::say!("Stopped.");
                return Ok(());
            };
            setup.deployment = Some(welcome.deployment);
            setup.agency_size = welcome.agency_size;
            setup.etcd = welcome.etcd;
            setup.machines = welcome.machines;
            check_ports(&setup)?;
            setup::remember(&setup, &asked.directory)?;
        }
        let (failed, failure) = mpsc::unbounded_channel();
        let plans = setup::plan(&setup, &asked.directory, &asked.passed);
        let deployment = Arc::new(Deployment {
            children: Mutex::new(plans.into_iter().map(|plan| Arc::new(Child::new(plan))).collect()),
            setup: Mutex::new(setup),
            directory: asked.directory,
            passed: asked.passed,
            client,
            auth,
            leader: Mutex::new(None),
            shutdown: Notify::new(),
            failed,
        });
        run(deployment, api, failure).await
    })
}

/// A port that is taken is better found now than by a child that comes and goes.
fn check_ports(setup: &Setup) -> Result<(), Exit> {
    for peer in setup.peers().iter().filter(|peer| peer.id == setup.id) {
        for endpoint in [Role::Agent, Role::Server].into_iter().filter_map(|role| peer.endpoint(role)) {
            drop(http::bind(endpoint.authority())?);
        }
    }
    Ok(())
}

async fn run(
    deployment: Arc<Deployment>,
    api: Arc<tokio::net::TcpListener>,
    mut failure: mpsc::UnboundedReceiver<Exit>,
) -> Result<(), Exit> {
    let listen = |kind| signal(kind).map_err(|e| Exit::failed(format!("signals can't be received: {e}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    introduce(&deployment);
    let mut watching = JoinSet::new();
    for child in deployment.children() {
        watching.spawn(child::keep(deployment.clone(), child, deployment.failed.clone()));
    }
    let serving = {
        let deployment = deployment.clone();
        tokio::spawn(api::serve(api, move |call| api::answer(deployment.clone(), call)))
    };
    let announcing = tokio::spawn(announce(deployment.clone()));
    let keeping_up = tokio::spawn(members::keep_up(deployment.clone()));

    let result = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = deployment.shutdown.notified() => Ok(()),
        exit = failure.recv() => Err(exit.expect("a sender is held")),
    };
    announcing.abort();
    keeping_up.abort();
    crate::log::say!("\nStopping (once more Ctrl-C stops everything at once)");
    tokio::select! {
        () = stop(&deployment) => {}
        // The children go with this process.
        _ = terminate.recv() => return Err(Exit::failed("stopped at once by a second signal")),
        _ = interrupt.recv() => return Err(Exit::failed("stopped at once by a second signal")),
    }
    serving.abort();
    while watching.join_next().await.is_some() {}
    crate::log::say!("Stopped.");
    result
}

/// Servers first, the leading one last of them, so that nobody takes over only to stop as well; then the agents.
async fn stop(deployment: &Deployment) {
    let leader = find_leader(deployment).await.or(deployment.leader());
    let leads = |child: &Child| leader.as_ref() == Some(&child.plan.endpoint);
    let stages: [&dyn Fn(&Child) -> bool; 3] = [
        &|child| child.plan.role == Role::Server && !leads(child),
        &|child| child.plan.role == Role::Server && leads(child),
        &|child| child.plan.role == Role::Agent,
    ];
    for stage in stages {
        let mut stage_children = deployment.children();
        stage_children.retain(|child| stage(child));
        let stage = stage_children;
        stage.iter().for_each(|child| child.stop());
        for child in &stage {
            child.stopped().await;
        }
    }
}

fn introduce(deployment: &Deployment) {
    let setup = deployment.setup();
    let count = |role, one: &str| match deployment.children().iter().filter(|child| child.plan.role == role).count() {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    };
    let what = match setup.mode {
        Mode::ActiveFailover => format!("{} and {}", count(Role::Agent, "agent"), count(Role::Server, "server")),
        Mode::Single => "a single server".to_owned(),
    };
    let version = env!("CARGO_PKG_VERSION");
    crate::log::say!("Tanist {version}: {what} on {}, data in {}", setup.address, deployment.directory.display());
    if setup.deployment.is_some() {
        let names: Vec<String> = setup.machines.iter().map(machines::Machine::name).collect();
        crate::log::say!("One of the deployment's {} machines: {}", names.len(), names.join(", "));
    }
    if setup.jwt_secret.is_none() {
        crate::log::say!(
            "No authentication: whoever reaches {} may do everything (--auth.jwt-secret FILE)",
            setup.address
        );
    }
}

async fn answers(deployment: &Deployment, server: &Endpoint, path: &str) -> bool {
    let answer = deployment.client.get(server, path, Duration::from_secs(1)).await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// The server that serves at this moment.
async fn find_leader(deployment: &Deployment) -> Option<Endpoint> {
    for server in deployment.servers() {
        if answers(deployment, &server, "/_admin/server/availability").await {
            return Some(server);
        }
    }
    None
}

/// Until every server knows the leader, within a bound: a follower that is away keeps nobody from the leader. A server
/// that leads or follows answers `/_api/version`, one that does neither refuses.
async fn wait_for_followers(deployment: &Deployment) {
    let until = tokio::time::Instant::now() + Duration::from_secs(3);
    for server in deployment.servers() {
        while tokio::time::Instant::now() < until {
            if answers(deployment, &server, "/_api/version").await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Says who leads, when that is known and whenever it changes.
async fn announce(deployment: Arc<Deployment>) {
    let mode = deployment.setup().mode;
    let mut said: Option<Endpoint> = None;
    let mut patience = Duration::from_millis(50);
    loop {
        let leader = find_leader(&deployment).await;
        if leader.is_some() && leader != said {
            if said.is_none() {
                wait_for_followers(&deployment).await;
                crate::log::say!("\nReady. Connect to");
                for server in &deployment.servers() {
                    let role = match mode {
                        Mode::Single => "",
                        Mode::ActiveFailover if Some(server) == leader.as_ref() => "   leader",
                        Mode::ActiveFailover => "   follower",
                    };
                    crate::log::say!("  {}{role}", server.url());
                }
                crate::log::say!("Ctrl-C stops everything.");
                patience = Duration::from_millis(500);
            } else if let Some(leader) = &leader {
                crate::log::say!("{} leads now", leader.url());
            }
            tracing::info!("{} serves", leader.as_ref().map_or(String::new(), Endpoint::url));
            said.clone_from(&leader);
        }
        *deployment.leader.lock().unwrap_or_else(PoisonError::into_inner) = leader;
        tokio::time::sleep(patience).await;
    }
}

#[derive(Parser, Debug)]
#[command(
    name = "tanist stop",
    about = "Stops what `tanist start` runs",
    no_binary_name = true,
    disable_version_flag = true
)]
struct StopFlags {
    /// The starter's address and port.
    #[arg(long = "endpoint", value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:8528")]
    endpoint: String,
    /// File or folder with the deployment's secret.
    #[arg(long = "auth.jwt-secret", value_name = "FILE")]
    jwt_secret: Option<PathBuf>,
}

/// `tanist stop`: asks the starter to stop, and waits until it is gone.
pub fn stop_running(arguments: &[String]) -> Result<(), Exit> {
    let (flags, _) = parse_any::<StopFlags>(arguments, |_| false)?;
    let starter = Endpoint::parse(&flags.endpoint).map_err(Exit::options)?;
    let client = Client::new(options::read_secret_path(flags.jwt_secret.as_deref())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Exit::failed(format!("the runtime can't be started: {e}")))?;
    runtime.block_on(async {
        let patience = Duration::from_secs(5);
        let answer = client.post(&starter, "/shutdown", &serde_json::Value::Null, patience).await;
        let answer = answer.map_err(|e| Exit::failed(format!("no starter answers at {starter}: {e}")))?;
        if answer.status != 200 {
            return Err(Exit::failed(format!("{starter}: {}", answer.problem())));
        }
        for _ in 0..1200 {
            if tokio::net::TcpStream::connect(starter.authority()).await.is_err() {
                crate::log::say!("Stopped.");
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Exit::failed(format!("{starter} is still there after two minutes")))
    })
}
