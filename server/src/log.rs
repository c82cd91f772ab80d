//! The log: one line an event, to standard error or a file.

use crate::exit::Exit;
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};
use tanist_engine::io::{Event, Severity};
use tanist_engine::process::{Level, LogEntry};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

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

/// Changes the level while the process runs.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts the log of this process; only the first call counts.
pub fn start(target: &Target, level: LevelFilter) -> Result<(), Exit> {
    let (filter, handle) = reload::Layer::new(level);
    // A line that can't be written (a full disk) is lost. To tell of that on standard error, which mostly lies on the
    // same disk, would be a panic.
    let lines = fmt::layer().with_target(false).with_timer(SystemTime).log_internal_errors(false);
    let lines = match target {
        Target::StandardError => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(colour).with_writer(std::io::stderr).boxed()
        }
        Target::StandardOutput => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stdout());
            lines.with_ansi(colour).with_writer(std::io::stdout).boxed()
        }
        Target::File(path) => lines.with_ansi(false).with_writer(Mutex::new(open(path)?)).boxed(),
    };
    let started = tracing_subscriber::registry().with(filter).with(lines).with(Keep).try_init();
    if started.is_ok() {
        let _ = LEVEL.set(handle);
    }
    ON_STANDARD_ERROR.store(started.is_ok() && *target == Target::StandardError, Ordering::Relaxed);
    Ok(())
}

/// The level of the process's log.
pub fn level() -> Level {
    let filter = LEVEL.get().and_then(|handle| handle.clone_current()).unwrap_or(LevelFilter::INFO);
    match filter.into_level() {
        Some(level) => of_line(level),
        None => Level::Fatal,
    }
}

pub fn set_level(level: Level) {
    let filter = match level {
        Level::Fatal | Level::Error => LevelFilter::ERROR,
        Level::Warning => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    if let Some(handle) = LEVEL.get() {
        let _ = handle.reload(filter);
    }
}

fn of_line(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

// ---- the newest lines, for whoever asks over HTTP -------------------------------------------------------------------

const KEPT_LINES: usize = 2048;
const KEPT_LINE_BYTES: usize = 4096;

static NEWEST: Mutex<Newest> = Mutex::new(Newest { lines: VecDeque::new(), counted: 0 });

struct Newest {
    lines: VecDeque<LogEntry>,
    counted: u64,
}

/// The newest lines, oldest first.
pub fn newest() -> Vec<LogEntry> {
    NEWEST.lock().unwrap_or_else(PoisonError::into_inner).lines.iter().cloned().collect()
}

/// Keeps the newest lines.
struct Keep;

impl<S: tracing::Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let mut end = text.0.len().min(KEPT_LINE_BYTES);
        while !text.0.is_char_boundary(end) {
            end -= 1;
        }
        text.0.truncate(end);
        let wall_ms = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64);
        let level = of_line(*event.metadata().level());
        let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
        newest.counted += 1;
        let id = newest.counted;
        if newest.lines.len() == KEPT_LINES {
            newest.lines.pop_front();
        }
        newest.lines.push_back(LogEntry { id, level, wall_ms, text: text.0 });
    }
}

/// A line's own text.
struct Text(String);

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
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
