//! Child processes that can be killed, paused and started again, and that never outlive the test.

use crate::wait::wait;
use rustix::process::{Pid, Signal};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// A program with its arguments, running or not. Its output is appended to one log over all its lives.
pub struct Process {
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub log: PathBuf,
    child: Option<Child>,
    stopped: bool,
}

impl Process {
    pub fn new(name: &str, program: &Path, arguments: Vec<String>, log: PathBuf) -> Process {
        Process {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments,
            environment: BTreeMap::new(),
            log,
            child: None,
            stopped: false,
        }
    }

    /// Starts it. The kernel kills it when the calling *thread* ends, so tests start processes on their own thread.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("the log can be opened");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(&self.environment);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor is free")).stderr(log);
        self.child = Some(spawn(&mut command, &self.name));
        self.stopped = false;
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Runs and is not paused.
    pub fn active(&self) -> bool {
        self.runs() && !self.stopped
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.stopped = false;
    }

    /// SIGSTOP.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.stopped = true;
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
        self.stopped = false;
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name));
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a process number is above 0");
        rustix::process::kill_process(pid, signal).expect("a signal can be sent to a child");
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().unwrap_or_else(|| panic!("{} does not run", self.name));
        let status = wait(&format!("{} ends", self.name), || child.try_wait().expect("a child can be waited for"));
        self.child = None;
        status
    }

    /// The status with which it ended already, if it did.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("a child can be waited for")?;
        self.child = None;
        Some(status)
    }

    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A log that speaks of a panic is a failure, whatever the test was looking at.
        let panicked = self.log_text().lines().any(|line| line.contains("panicked at"));
        self.kill();
        if std::thread::panicking() || panicked {
            show_end(&format!("log of {}", self.name), &self.log);
        }
        assert!(!panicked || std::thread::panicking(), "{} panicked", self.name);
    }
}

/// The end of a log, for whoever looks at a failure; nothing if it can't be read.
pub fn show_end(name: &str, log: &Path) {
    const LINES: usize = 60;
    let Ok(text) = std::fs::read(log) else { return };
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("---- {name} (the end) ----");
    lines[lines.len().saturating_sub(LINES)..].iter().for_each(|line| eprintln!("{line}"));
}

/// Builds the program as its users do, for an example that measures it; where it is. `TANIST_PROGRAM` names one that is
/// built already: a long run must not meet a new one half-way.
pub fn build_release() -> PathBuf {
    if let Some(program) = std::env::var_os("TANIST_PROGRAM") {
        return program.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let built =
        Command::new("cargo").args(["build", "--release", "--package", "tanist-server"]).current_dir(root).status();
    assert!(built.expect("cargo runs").success(), "the program can't be built");
    let examples = std::env::current_exe().expect("this program has a path");
    examples.parent().and_then(Path::parent).expect("a target folder").join("tanist")
}

/// Starts a command whose process the kernel kills when this thread ends.
#[track_caller]
pub fn spawn(command: &mut Command, name: &str) -> Child {
    // SAFETY: prctl is a plain system call; nothing is allocated or locked between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    command.spawn().unwrap_or_else(|e| panic!("{name} can't be started ({e}): {:?}", command.get_program()))
}

/// Runs a command to its end; its exit code (128 + the signal if one ended it) and everything it printed.
#[track_caller]
pub fn run(command: &mut Command) -> (i32, String) {
    let output = tempfile::tempfile().expect("a temporary file can be made");
    let clone = |file: &File| file.try_clone().expect("a descriptor is free");
    command.stdin(Stdio::null()).stdout(clone(&output)).stderr(clone(&output));
    let status = spawn(command, "a command").wait().expect("a child can be waited for");
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    let mut text = Vec::new();
    let mut output = output;
    std::io::Seek::rewind(&mut output).expect("a file can be rewound");
    std::io::Read::read_to_end(&mut output, &mut text).expect("a file can be read");
    (code, String::from_utf8_lossy(&text).into_owned())
}

/// The first of `count` ports in a row that nobody listens on, below the range from which the kernel takes the ports of
/// outgoing connections: a node that is started again must find its port free.
#[track_caller]
pub fn free_ports(count: u16) -> u16 {
    const FIRST: u16 = 10_000;
    const SPAN: u16 = 22_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin at different places.
    let start = (std::process::id() % 200) as u16 * 100;
    for _ in 0..2000 {
        let offset = NEXT.fetch_add(count, Ordering::Relaxed);
        let base = FIRST + (start + offset % SPAN) % (SPAN - count);
        let free = (base..base + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
        if free {
            return base;
        }
    }
    panic!("no {count} free ports in a row")
}
