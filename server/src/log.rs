//! The log: one line an event, to standard error or a file.

use crate::exit::Exit;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tanist_engine::io::{Event, Severity};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    StandardError,
    StandardOutput,
    File(std::path::PathBuf),
}

impl Target {
    /// As ArangoDB writes it: a path, perhaps behind `file://`, `-` for standard output or `+` for standard error.
    pub fn parse(text: &str) -> Target {
        match text {
            "" | "+" => Target::StandardError,
            "-" => Target::StandardOutput,
            path => Target::File(path.strip_prefix("file://").unwrap_or(path).into()),
        }
    }
}

/// ArangoDB's level names; `topic=level` sets nothing here, because there is one topic.
pub fn parse_level(text: &str) -> Result<Option<LevelFilter>, String> {
    let level = match text.rsplit_once('=') {
        Some(("general" | "all", level)) => level,
        Some(_) => return Ok(None),
        None => text,
    };
    Ok(Some(match level.to_ascii_lowercase().as_str() {
        "fatal" | "error" | "err" => LevelFilter::ERROR,
        "warning" | "warn" => LevelFilter::WARN,
        "info" | "default" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return Err(format!("log level '{level}': must be error, warning, info, debug or trace")),
    }))
}

static ON_STANDARD_ERROR: AtomicBool = AtomicBool::new(false);

/// Whether what is logged as an error is seen by whoever started the process.
pub fn is_on_standard_error() -> bool {
    ON_STANDARD_ERROR.load(Ordering::Relaxed)
}

/// Starts the log of this process; only the first call counts.
pub fn start(target: &Target, level: LevelFilter) -> Result<(), Exit> {
    let builder = tracing_subscriber::fmt().with_max_level(level).with_target(false).with_timer(SystemTime);
    // A line that can't be written (a full disk) is lost. To tell of that on standard error, which mostly lies on the
    // same disk, would be a panic.
    let builder = builder.log_internal_errors(false);
    let started = match target {
        Target::StandardError => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colour).with_writer(std::io::stderr).try_init()
        }
        Target::StandardOutput => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stdout());
            builder.with_ansi(colour).with_writer(std::io::stdout).try_init()
        }
        Target::File(path) => builder.with_ansi(false).with_writer(Mutex::new(open(path)?)).try_init(),
    };
    ON_STANDARD_ERROR.store(started.is_ok() && *target == Target::StandardError, Ordering::Relaxed);
    Ok(())
}

fn open(path: &Path) -> Result<std::fs::File, Exit> {
    let cannot = |e| Exit::options(format!("log file {}: {e}", path.display()));
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(cannot)?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(cannot)
}

/// Lets a message that may come again and again through once a minute.
#[derive(Default)]
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    const INTERVAL: Duration = Duration::from_secs(60);

    pub fn due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= Seldom::INTERVAL);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// Tells whoever looks at a long-running command. If nobody can be told any more, because the terminal is closed or the
/// disk behind it full, the command goes on all the same.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($line)*);
    }};
}
pub(crate) use say;

/// One event of the engine, one line.
pub fn event(event: &Event) {
    match event.severity() {
        Severity::Debug => tracing::debug!("{event}"),
        Severity::Info => tracing::info!("{event}"),
        Severity::Warn => tracing::warn!("{event}"),
        Severity::Error => tracing::error!("{event}"),
    }
}

/// A panic anywhere ends the whole process: a node without one of its threads must not seem to be alive.
pub fn abort_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        tracing::error!("a bug ends this process: {info}");
        std::process::abort();
    }));
}
