//! What this process knows of itself: traffic at its port, memory, the newest lines of its log. Only counts and shows.

use crate::log;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tanist_engine::http::{Method, Response};
use tanist_engine::process::{Call, Figures, Memory, Process, Settings, Traffic};
use tokio::time::Instant;

/// Linux counts a process's time in these, whatever the machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// One answered request.
pub struct Answered {
    pub method: Method,
    pub of_superuser: bool,
    /// Whether the client waits for the answer.
    pub waits: bool,
    pub took: Duration,
    /// Until it was read.
    pub read: Duration,
    pub queued: Duration,
    pub bytes_received: usize,
    pub bytes_sent: usize,
}

pub struct Observed {
    started: Instant,
    figures: Mutex<Figures>,
    settings: Mutex<Settings>,
}

impl Default for Observed {
    fn default() -> Observed {
        let mut settings = Settings::default();
        settings.levels.insert("general".into(), log::level());
        Observed { started: Instant::now(), figures: Mutex::default(), settings: Mutex::new(settings) }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observed {
    pub fn count(&self, answered: &Answered) {
        let mut figures = locked(&self.figures);
        figures.requests.add(answered.method, answered.of_superuser, answered.waits);
        let add = |traffic: &mut Traffic| {
            traffic.total_time.add(answered.took.as_secs_f64());
            let of_engine = answered.took.saturating_sub(answered.read).saturating_sub(answered.queued);
            traffic.request_time.add(of_engine.as_secs_f64());
            traffic.io_time.add(answered.read.as_secs_f64());
            traffic.queue_time.add(answered.queued.as_secs_f64());
            traffic.bytes_received.add(answered.bytes_received as f64);
            traffic.bytes_sent.add(answered.bytes_sent as f64);
        };
        add(&mut figures.all);
        if !answered.of_superuser {
            add(&mut figures.of_users);
        }
    }

    /// A connection has ended.
    pub fn count_connection(&self, open: Duration) {
        let mut figures = locked(&self.figures);
        let Figures { all, of_users, .. } = &mut *figures;
        for traffic in [all, of_users] {
            traffic.connection_time.add(open.as_secs_f64());
        }
    }

    /// Does what a call says, and answers it. `connections` are open, `pending` requests are not answered yet.
    pub fn answer(&self, call: &Call, connections: usize, pending: usize, wall_ms: u64) -> Response {
        let settings = {
            let mut settings = locked(&self.settings);
            settings.apply(call);
            settings.clone()
        };
        if matches!(call, Call::LogLevels(_) | Call::ResetLogLevels) {
            log::set_level(settings.level());
        }
        let figures = Figures {
            memory: memory(),
            uptime_s: self.started.elapsed().as_secs_f64(),
            connections: connections as u64,
            pending: pending as u64,
            ..locked(&self.figures).clone()
        };
        let entries = if matches!(call, Call::Log(_)) { log::newest() } else { Vec::new() };
        Process { figures: &figures, entries: &entries, settings: &settings, wall_ms }.answer(call)
    }
}

/// What `/proc` says; zero where it says nothing.
fn memory() -> Memory {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (stat, status, machine) = (read("/proc/self/stat"), read("/proc/self/status"), read("/proc/meminfo"));
    // Behind the name, which may hold anything; the first field there is the third of all.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let line = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    Memory {
        minor_page_faults: field(10),
        major_page_faults: field(12),
        user_time_s: field(14) as f64 / TICKS_PER_SECOND,
        system_time_s: field(15) as f64 / TICKS_PER_SECOND,
        threads: field(20),
        virtual_bytes: field(23),
        resident_bytes: line(&status, "VmRSS") << 10,
        physical_bytes: line(&machine, "MemTotal") << 10,
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
        of_cores: of_cores(&read("/proc/stat")),
    }
}

/// See [`Memory::of_cores`]; from the first line of `/proc/stat`: `cpu`, then the times of programs, of nice ones, of
/// the system, of nobody, of waiting for disks, and others.
fn of_cores(stat: &str) -> [f64; 4] {
    let line = stat.lines().next().unwrap_or_default();
    let times: Vec<f64> = line.split_whitespace().skip(1).filter_map(|time| time.parse().ok()).collect();
    match (&times[..], times.iter().sum::<f64>()) {
        ([user, nice, system, idle, waiting, ..], all) if all > 0.0 => {
            [user + nice, *system, *idle, *waiting].map(|time| time / all)
        }
        _ => [0.0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tanist_engine::process::Level;

    fn ask(observed: &Observed, call: &Call) -> serde_json::Value {
        serde_json::from_slice(&observed.answer(call, 2, 0, 1000).body).unwrap()
    }

    #[test]
    fn requests_are_counted_and_settings_kept() {
        let observed = Observed::default();
        let took = Duration::from_millis(20);
        let answered = |method, of_superuser| Answered {
            method,
            of_superuser,
            waits: !of_superuser,
            took,
            read: Duration::ZERO,
            queued: Duration::ZERO,
            bytes_received: 100,
            bytes_sent: 300,
        };
        observed.count(&answered(Method::Get, true));
        observed.count(&answered(Method::Put, false));
        let statistics = ask(&observed, &Call::Statistics);
        assert_eq!(statistics["client"]["bytesSent"]["sum"], 600.0);
        assert_eq!(statistics["client"]["httpConnections"], 2);
        assert_eq!(statistics["clientUser"]["bytesReceived"]["count"], 1);
        assert_eq!(statistics["http"]["requestsGet"], 1);
        assert_eq!(statistics["http"]["requestsSuperuser"], 1);
        assert_eq!(statistics["http"]["requestsAsync"], 1);
        observed.count_connection(took);
        assert_eq!(
            ask(&observed, &Call::Statistics)["client"]["connectionTime"]["counts"],
            serde_json::json!([1, 0, 0, 0])
        );

        let set = Call::LogLevels(BTreeMap::from([("agency".into(), Level::Debug)]));
        assert_eq!(ask(&observed, &set)["agency"], "DEBUG");
        assert_eq!(ask(&observed, &Call::LogLevels(BTreeMap::new()))["agency"], "DEBUG");
        assert_eq!(ask(&observed, &Call::ResetLogLevels)["agency"], "INFO");
    }

    #[test]
    fn the_system_knows_this_process() {
        let memory = memory();
        assert!(memory.threads > 0 && memory.cores > 0);
        assert!(memory.resident_bytes > 0 && memory.resident_bytes < memory.virtual_bytes);
        assert!(memory.resident_bytes < memory.physical_bytes && memory.minor_page_faults > 0);
        assert_eq!(of_cores("cpu  10 10 20 40 20 0 0\ncpu0 1 2"), [0.2, 0.2, 0.4, 0.2]);
        assert_eq!(of_cores(""), [0.0; 4]);
    }
}
