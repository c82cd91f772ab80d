//! The log of a process as clients see it.

use super::Call;
use crate::types::iso8601;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// ArangoDB's topics. There is one log here: of the levels, that of `general` is the process's.
pub const TOPICS: [&str; 30] = [
    "agency",
    "agencycomm",
    "agencystore",
    "aql",
    "arangosearch",
    "authentication",
    "authorization",
    "backup",
    "cache",
    "cluster",
    "communication",
    "config",
    "crash",
    "development",
    "engines",
    "flush",
    "general",
    "graphs",
    "heartbeat",
    "httpclient",
    "maintenance",
    "queries",
    "replication",
    "requests",
    "rocksdb",
    "security",
    "startup",
    "statistics",
    "threads",
    "trx",
];

/// Topics that only warn, as long as nobody says otherwise.
pub const WARNINGS_ONLY: [&str; 2] = ["crash", "statistics"];

/// What a line can tell beside its text.
const TOLD: [&str; 3] = ["database", "url", "username"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Fatal,
    Error,
    Warning,
    Info,
    Debug,
    Trace,
}

impl Level {
    const ALL: [Level; 6] = [Level::Fatal, Level::Error, Level::Warning, Level::Info, Level::Debug, Level::Trace];

    pub fn name(self) -> &'static str {
        ["FATAL", "ERROR", "WARNING", "INFO", "DEBUG", "TRACE"][self as usize]
    }

    /// By name in any case, or by number.
    pub fn parse(text: &str) -> Option<Level> {
        let upper = text.to_ascii_uppercase();
        match upper.as_str() {
            "WARN" => Some(Level::Warning),
            "ERR" => Some(Level::Error),
            "DEFAULT" => Some(Level::Info),
            name => Level::ALL.into_iter().find(|level| level.name() == name || (*level as usize).to_string() == name),
        }
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Counts from the start of the process.
    pub id: u64,
    pub level: Level,
    pub wall_ms: u64,
    pub text: String,
}

/// Which entries a client wants, and in which form.
#[derive(Clone, Debug, Hash)]
pub struct LogQuery {
    pub upto: Level,
    pub only: Option<Level>,
    pub start: u64,
    pub offset: usize,
    pub size: usize,
    pub search: String,
    pub newest_first: bool,
    /// The form of `/_admin/log`: an array for each column.
    pub columns: bool,
}

impl LogQuery {
    pub(super) fn json(&self, entries: &[LogEntry]) -> Value {
        let search = self.search.to_lowercase();
        let wanted = |entry: &&LogEntry| {
            entry.id >= self.start
                && self.only.map_or(entry.level <= self.upto, |only| entry.level == only)
                && (search.is_empty() || entry.text.to_lowercase().contains(&search))
        };
        let mut found: Vec<&LogEntry> = entries.iter().filter(wanted).collect();
        let total = found.len();
        if self.newest_first {
            found.reverse();
        }
        let shown = || found.iter().skip(self.offset).take(self.size);
        if self.columns {
            return json!({
                "totalAmount": total,
                "lid": shown().map(|entry| entry.id).collect::<Vec<_>>(),
                "topic": shown().map(|_| "general").collect::<Vec<_>>(),
                "level": shown().map(|entry| entry.level as usize).collect::<Vec<_>>(),
                "timestamp": shown().map(|entry| entry.wall_ms / 1000).collect::<Vec<_>>(),
                "text": shown().map(|entry| entry.text.as_str()).collect::<Vec<_>>(),
            });
        }
        let message = |entry: &&LogEntry| {
            json!({
                "id": entry.id,
                "topic": "general",
                "level": entry.level.name(),
                "date": iso8601(entry.wall_ms),
                "message": entry.text,
            })
        };
        json!({"total": total, "messages": shown().map(message).collect::<Vec<_>>()})
    }
}

/// What clients can change of the log, for as long as the process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub levels: BTreeMap<String, Level>,
    pub told: BTreeSet<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        let level = |topic: &&str| if WARNINGS_ONLY.contains(topic) { Level::Warning } else { Level::Info };
        Settings {
            levels: TOPICS.iter().map(|topic| ((*topic).to_owned(), level(topic))).collect(),
            told: BTreeSet::new(),
        }
    }
}

impl Settings {
    /// The level of the one log that there is.
    pub fn level(&self) -> Level {
        self.levels.get("general").copied().unwrap_or(Level::Info)
    }

    /// Topics that are none are left out, as ArangoDB does.
    pub fn apply(&mut self, call: &Call) {
        match call {
            Call::LogLevels(wanted) => {
                for (topic, level) in wanted {
                    for (known, present) in &mut self.levels {
                        if topic == "all" || topic == known {
                            *present = *level;
                        }
                    }
                }
            }
            Call::ResetLogLevels => self.levels = Settings::default().levels,
            Call::LogSettings(wanted) => {
                for (name, on) in wanted.iter().filter(|(name, _)| TOLD.contains(&name.as_str())) {
                    if *on {
                        self.told.insert(name.clone());
                    } else {
                        self.told.remove(name);
                    }
                }
            }
            Call::Statistics | Call::Metrics(_) | Call::Log(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_chosen_and_shown() {
        let entry = |id, level, text: &str| LogEntry { id, level, wall_ms: 1000 * id, text: text.into() };
        let entries = [entry(1, Level::Info, "ready"), entry(2, Level::Error, "Bad disk"), entry(3, Level::Info, "x")];
        let all = LogQuery {
            upto: Level::Info,
            only: None,
            start: 0,
            offset: 0,
            size: 100,
            search: String::new(),
            newest_first: false,
            columns: true,
        };
        let ids = |query: LogQuery| query.json(&entries)["lid"].clone();
        assert_eq!(ids(all.clone()), json!([1, 2, 3]));
        assert_eq!(ids(LogQuery { upto: Level::Error, ..all.clone() }), json!([2]));
        assert_eq!(ids(LogQuery { only: Some(Level::Info), newest_first: true, ..all.clone() }), json!([3, 1]));
        assert_eq!(ids(LogQuery { search: "bad".into(), ..all.clone() }), json!([2]));
        assert_eq!(ids(LogQuery { start: 2, offset: 1, ..all.clone() }), json!([3]));
        let messages = LogQuery { columns: false, size: 1, ..all }.json(&entries);
        assert_eq!(messages["total"], 3);
        assert_eq!(messages["messages"][0]["date"], "1970-01-01T00:00:01Z");
    }

    #[test]
    fn settings_stay_until_they_are_reset() {
        let mut settings = Settings::default();
        settings.apply(&Call::LogLevels(BTreeMap::from([("agency".into(), Level::Debug), ("?".into(), Level::Trace)])));
        assert_eq!((settings.levels["agency"], settings.level()), (Level::Debug, Level::Info));
        assert_eq!(settings.levels.len(), TOPICS.len());
        settings.apply(&Call::LogLevels(BTreeMap::from([("all".into(), Level::Warning)])));
        assert_eq!((settings.levels["agency"], settings.level()), (Level::Warning, Level::Warning));
        settings.apply(&Call::LogSettings(BTreeMap::from([("url".into(), true), ("x".into(), true)])));
        settings.apply(&Call::ResetLogLevels);
        assert_eq!((settings.level(), settings.told.len()), (Level::Info, 1));
    }
}
