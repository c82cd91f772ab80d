//! One child process: started, watched, restarted; its death told to the agency, and an agent's to the other agents.

use super::Deployment;
use super::setup::{Mode, Plan, Role};
use crate::exit::{Code, Exit};
use crate::options;
use rustix::process::{Pid, Signal};
use serde_json::json;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

/// A child that lived for less than this was not worth its start. One that had begun to serve is missed: it is started
/// again at once, however often it is killed.
const SHORT_LIFE: Duration = Duration::from_secs(2);
const SHORT_LIVES_MAX: u32 = 100;
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How long a graceful stop may take; longer than the node's own patience.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);

/// A restart waits so long for the death notice to be delivered; delivery goes on after that.
const NOTICE_FIRST: Duration = Duration::from_millis(500);
const NOTICE_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Child {
    pub plan: Plan,
    pid: Mutex<Option<u32>>,
    stop: watch::Sender<bool>,
    restart: Notify,
    gone: watch::Sender<bool>,
}

impl Child {
    pub fn new(plan: Plan) -> Child {
        let (stop, gone) = (watch::channel(false).0, watch::channel(false).0);
        Child { plan, pid: Mutex::new(None), stop, restart: Notify::new(), gone }
    }

    pub fn pid(&self) -> Option<u32> {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node's id, once it has run.
    pub fn id(&self) -> Option<String> {
        let id = std::fs::read_to_string(self.plan.data().join(crate::process::ID_FILE)).ok()?;
        Some(id.trim().to_owned())
    }

    fn set_pid(&self, pid: Option<u32>) {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = pid;
    }

    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Stops the process in good order, and starts it again with the program that is on the disk by then.
    pub fn restart(&self) {
        self.restart.notify_one();
    }

    pub async fn stopped(&self) {
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }
}

/// Keeps a child running until it is told to stop. What no restart can mend leaves a child out; the others go on
/// without it, but when the last of its kind is gone, that is a failure of the whole.
pub async fn keep(deployment: Arc<Deployment>, child: Arc<Child>, failed: mpsc::UnboundedSender<Exit>) {
    let mut stop = child.stop.subscribe();
    let mut short_lives = 0;
    let mut given_up = None;
    let name = child.plan.name();
    while !*stop.borrow() {
        let started = Instant::now();
        let nonce = options::hexadecimal(&options::entropy::<16>());
        let topology = deployment.setup().topology(child.plan.role, &child.plan.endpoint);
        let mut process = match spawn(&child.plan, &topology, &nonce) {
            Ok(process) => process,
            Err(exit) => {
                given_up = Some(exit.message);
                break;
            }
        };
        child.set_pid(process.id());
        tracing::info!("{name} runs as process {}", process.id().unwrap_or_default());
        let mut asked = false;
        let status = tokio::select! {
            status = process.wait() => Some(status),
            () = child.restart.notified() => {
                asked = true;
                end(&mut process, &name).await;
                Some(process.wait().await)
            }
            _ = async { stop.wait_for(|stop| *stop).await.map(drop) } => None,
        };
        let Some(status) = status else {
            end(&mut process, &name).await;
            break;
        };
        child.set_pid(None);
        let died = Instant::now();
        // Without a status nothing was reaped, and what was not reaped may live on.
        let reaped = status.is_ok();
        let status = match status {
            Ok(status) => describe(status),
            Err(e) => (None, e.to_string()),
        };
        // Who was killed had no time to say why; who was asked to end needs not.
        let last = if status.0.is_some() && !asked { last_line(&child.plan) } else { String::new() };
        if asked {
            tracing::info!("{name} ended as it was asked to: {}", status.1);
        } else {
            tracing::warn!("{name} ended: {}{last}", status.1);
            crate::log::say!("{name} ended: {}", status.1);
        }
        if reaped && deployment.setup().mode == Mode::ActiveFailover {
            let (deployment, child) = (deployment.clone(), child.clone());
            let telling = match child.plan.role {
                Role::Server => tokio::spawn(tell(deployment, child, nonce, died)),
                Role::Agent => tokio::spawn(tell_agents(deployment, child)),
            };
            let _ = tokio::time::timeout(NOTICE_FIRST, telling).await;
        }
        if asked {
            short_lives = 0;
            continue;
        }
        if status.0.is_some_and(Code::is_final) {
            given_up = Some(format!("{name} can't run{last} (see {})", child.plan.log_file().display()));
            break;
        }
        if started.elapsed() >= SHORT_LIFE {
            short_lives = 0;
            continue;
        }
        short_lives += 1;
        if short_lives >= SHORT_LIVES_MAX {
            given_up = Some(format!("{name} has ended {short_lives} times right after its start{last}"));
            break;
        }
        let backoff = (BACKOFF_MIN * 2_u32.pow((short_lives - 1).min(10))).min(BACKOFF_MAX);
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            _ = async { stop.wait_for(|stop| *stop).await.map(drop) } => {}
        }
    }
    child.set_pid(None);
    child.gone.send_replace(true);
    if let Some(why) = given_up {
        tracing::error!("{why}; it is not started again");
        crate::log::say!("{why}; it is not started again");
        let children = deployment.children();
        let mut same = children.iter().filter(|other| other.plan.role == child.plan.role);
        if same.all(|other| *other.gone.borrow()) {
            let _ = failed.send(Exit::failed(why));
        }
    }
}

/// Where this program lies. Asked once: when the file has been replaced, the kernel calls this process's own by another
/// name, and a restart is to run the new one.
fn program() -> std::io::Result<&'static Path> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if PROGRAM.get().is_none() {
        let _ = PROGRAM.set(std::env::current_exe()?);
    }
    Ok(PROGRAM.get().expect("just set"))
}

fn spawn(plan: &Plan, topology: &[String], nonce: &str) -> Result<tokio::process::Child, Exit> {
    let cannot = |e: std::io::Error| Exit::failed(format!("{} can't be started: {e}", plan.name()));
    std::fs::create_dir_all(&plan.directory).map_err(cannot)?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(plan.log_file()).map_err(cannot)?;
    let program = program().map_err(cannot)?;
    Command::new(program)
        .args(&plan.arguments)
        .args(topology)
        .env("TANIST_BOOT_NONCE", nonce)
        .env("TANIST_PARENT", std::process::id().to_string())
        .env_remove("TANIST_CONFIGURATION")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(cannot)?)
        .stderr(log)
        // A terminal's Ctrl-C is for the starter, which stops its children in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot)
}

/// Ends a child: gracefully first.
async fn end(process: &mut tokio::process::Child, name: &str) {
    let pid = process.id().and_then(|pid| Pid::from_raw(pid as i32));
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(STOP_TIMEOUT, process.wait()).await.is_err() {
        tracing::warn!("{name} does not stop, so it is killed");
        let _ = process.kill().await;
    }
}

fn describe(status: ExitStatus) -> (Option<i32>, String) {
    let text = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "for an unknown reason".to_owned(),
    };
    (status.code(), text)
}

/// The end of the child's log, which mostly says why.
fn last_line(plan: &Plan) -> String {
    let text = super::api::tail(&plan.log_file(), 4096);
    text.lines().rev().find(|line| !line.trim().is_empty()).map(|line| format!(": {}", line.trim())).unwrap_or_default()
}

/// Where agents are told of a death.
const NOTICE_PATH: &str = "/_api/tanist/death-notice";

/// Tells each agent, once, that this one's process is dead: a hint, so that they need not wait until its silence tells
/// them.
async fn tell_agents(deployment: Arc<Deployment>, child: Arc<Child>) {
    let Some(agent) = child.id() else { return };
    let notice = json!({"agent": agent});
    let others = deployment.agents().into_iter().filter(|other| *other != child.plan.endpoint);
    let tell = |other| {
        let (client, notice) = (deployment.client.clone(), notice.clone());
        async move { client.post(&other, NOTICE_PATH, &notice, NOTICE_FIRST).await.map(drop) }
    };
    others.map(tell).collect::<JoinSet<_>>().join_all().await;
}

/// R4: tells the agency that the process with this nonce is dead, until an agent has taken it.
async fn tell(deployment: Arc<Deployment>, child: Arc<Child>, nonce: String, died: Instant) {
    let Some(server) = child.id() else { return };
    let notice = json!({"server": server, "nonce": nonce});
    while died.elapsed() < NOTICE_TIMEOUT {
        let (agents, patience) = (deployment.agents(), Duration::from_secs(1));
        let asked = deployment.client.ask_all_agents(&agents, "POST", NOTICE_PATH, &notice, patience).await;
        match asked {
            Ok(answer) if answer.status < 300 => {
                let after_ms = died.elapsed().as_millis();
                return tracing::info!("the agency knows of {}'s death after {after_ms} ms", child.plan.name());
            }
            Ok(answer) => return tracing::warn!("the agency refuses the death notice: {}", answer.problem()),
            Err(problem) => {
                tracing::debug!("the death notice can't be delivered yet: {problem}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
