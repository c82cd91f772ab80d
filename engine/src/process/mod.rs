//! What a process knows of itself: its memory and threads, the traffic at its port, its log. The shell keeps it, and
//! answers with it; what is asked, and how it is shown, is here.

mod log;
mod statistics;

pub use log::{Level, LogEntry, LogQuery, Settings, TOPICS, WARNINGS_ONLY};
pub use statistics::{Distribution, Figures, Memory, Traffic};

use crate::http::{ContentType, Response};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a client asks the process; authorised already.
#[derive(Clone, Debug, Hash)]
pub enum Call {
    Statistics,
    /// The lines of what the data and the deployment tell come first.
    Metrics(String),
    Log(LogQuery),
    /// The levels by topic, after these are set.
    LogLevels(BTreeMap<String, Level>),
    ResetLogLevels,
    /// What a line of the log tells beside its text, after these are set.
    LogSettings(BTreeMap<String, bool>),
}

/// What answers a call.
pub struct Process<'p> {
    pub figures: &'p Figures,
    /// The newest last.
    pub entries: &'p [LogEntry],
    /// As they are after the call.
    pub settings: &'p Settings,
    pub wall_ms: u64,
}

impl Process<'_> {
    pub fn answer(&self, call: &Call) -> Response {
        match call {
            Call::Statistics => Response::json(200, &self.figures.json(self.wall_ms)),
            Call::Metrics(head) => {
                let text = format!("{head}{}", self.figures.metrics());
                Response { content_type: ContentType::Text, ..Response::raw(200, text) }
            }
            Call::Log(query) => Response::json(200, &query.json(self.entries)),
            Call::LogLevels(_) | Call::ResetLogLevels => {
                let levels = self.settings.levels.iter().map(|(topic, level)| (topic.clone(), level.name().into()));
                Response::json(200, &Value::Object(levels.collect::<Map<_, _>>()))
            }
            Call::LogSettings(_) => {
                let on = self.settings.told.iter().map(|name| (name.clone(), Value::from(true)));
                Response::json(200, &Value::Object(on.collect::<Map<_, _>>()))
            }
        }
    }
}

impl Call {
    /// What a process that keeps nothing of this answers: the simulator's nodes.
    pub fn answer_of_nobody(&self, wall_ms: u64) -> Response {
        let mut settings = Settings::default();
        settings.apply(self);
        Process { figures: &Figures::default(), entries: &[], settings: &settings, wall_ms }.answer(self)
    }
}

/// The groups and figures of `GET /_admin/statistics`.
pub fn description() -> Value {
    let (groups, figures) = statistics::description();
    json!({"error": false, "code": 200, "groups": groups, "figures": figures})
}
