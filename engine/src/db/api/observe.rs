//! What a server tells of its process and its log: `/_admin/statistics`, `/_admin/metrics`, `/_admin/log`,
//! `/_admin/support-info`. The shell keeps what is told (see [`crate::process`]).

use super::*;
use crate::process;
use crate::process::{Level as LogLevel, LogQuery};
use serde_json::json;
use std::collections::BTreeMap;

const LOG_ENTRIES_MAX: usize = 10_000;

/// Answers with what the process says; where there is none that keeps anything, with nothing.
fn ask(call: &Call<'_, '_>, asked: process::Call) -> Answer {
    let response = asked.answer_of_nobody(call.run.now.wall_ms);
    Ok(Handled { response, then: Some(Then::Process(asked)) })
}

pub(super) fn statistics(call: &mut Call<'_, '_>) -> Answer {
    ask(call, process::Call::Statistics)
}

pub(super) fn statistics_description(_: &mut Call<'_, '_>) -> Answer {
    Ok(Response::json(200, &process::description()).into())
}

pub(super) fn metrics(call: &mut Call<'_, '_>) -> Answer {
    let last = call.reader().last()?;
    let view = &call.run.view;
    let mut text = String::new();
    let gauges = [
        ("tanist_leader", "1 on the server that leads", u64::from(call.leads())),
        ("tanist_read_only", "1 while writes are refused", u64::from(view.read_only)),
        ("tanist_epoch", "The epoch that this server knows", view.epoch.0),
        ("tanist_log_epoch", "The epoch of the last log entry", last.epoch.0),
        ("tanist_log_tick", "The number of the last log entry", last.tick.0),
        ("tanist_rollback_records", "Rollback records that are kept here", rollback::count(call)? as u64),
        ("tanist_followers", "Followers that are connected", view.replication.followers.len() as u64),
    ];
    for (name, help, value) in gauges {
        text += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
    }
    ask(call, process::Call::Metrics(text))
}

pub(super) fn support_info(call: &mut Call<'_, '_>) -> Answer {
    let view = &call.run.view;
    let kind = if view.standalone { "single" } else { "active-failover" };
    ok(
        200,
        json!({
            "deployment": {"type": kind},
            "host": {
                "id": view.me.id.to_string(),
                "role": "SINGLE",
                "maintenance": view.mode == Mode::Maintenance,
                "readOnly": view.read_only,
                "version": VERSION,
                "license": "community",
                "engine": "rocksdb",
                "os": std::env::consts::OS,
                "platform": std::env::consts::ARCH,
            },
            "date": iso8601(call.run.now.wall_ms),
        }),
    )
}

// ---- the log --------------------------------------------------------------------------------------------------------

pub(super) fn log(call: &mut Call<'_, '_>) -> Answer {
    let query = log_query(call, true)?;
    ask(call, process::Call::Log(query))
}

pub(super) fn log_entries(call: &mut Call<'_, '_>) -> Answer {
    let query = log_query(call, false)?;
    ask(call, process::Call::Log(query))
}

fn log_query(call: &Call<'_, '_>, columns: bool) -> Result<LogQuery, Failure> {
    let given = |name: &str| call.request().query(name).filter(|value| !value.is_empty());
    let level = |name: &str| {
        given(name).map(|text| LogLevel::parse(&text).ok_or_else(|| illegal(name, "a level of the log"))).transpose()
    };
    let number = |name: &str| {
        given(name).map(|text| text.parse::<u64>().map_err(|_| illegal(name, "a number from 0"))).transpose()
    };
    let count = |number: Option<u64>| number.map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    Ok(LogQuery {
        upto: level("upto")?.unwrap_or(LogLevel::Info),
        only: level("level")?,
        start: number("start")?.unwrap_or(0),
        offset: count(number("offset")?).unwrap_or(0),
        size: count(number("size")?).unwrap_or(LOG_ENTRIES_MAX).min(LOG_ENTRIES_MAX),
        search: given("search").unwrap_or_default(),
        newest_first: given("sort").is_some_and(|sort| sort.eq_ignore_ascii_case("desc")),
        columns,
    })
}

fn illegal(name: &str, expected: &str) -> Failure {
    errors::HTTP_BAD_PARAMETER.because(format!("'{name}' must be {expected}")).into()
}

pub(super) fn log_levels(call: &mut Call<'_, '_>) -> Answer {
    ask(call, process::Call::LogLevels(BTreeMap::new()))
}

/// An object with a level for each topic, or one level for all of them.
pub(super) fn set_log_levels(call: &mut Call<'_, '_>) -> Answer {
    let wanted: Vec<(String, Value)> = match call.json()? {
        Value::Object(map) => map.into_iter().collect(),
        level @ Value::String(_) => vec![("all".into(), level)],
        Value::Null => Vec::new(),
        _ => return Err(errors::HTTP_BAD_PARAMETER.because("the body must be an object of levels").into()),
    };
    let mut levels = BTreeMap::new();
    for (topic, level) in wanted {
        let known = level.as_str().and_then(LogLevel::parse);
        let known = known.ok_or_else(|| illegal(&topic, "a level of the log"))?;
        levels.insert(topic.to_ascii_lowercase(), known);
    }
    ask(call, process::Call::LogLevels(levels))
}

pub(super) fn reset_log_levels(call: &mut Call<'_, '_>) -> Answer {
    ask(call, process::Call::ResetLogLevels)
}

pub(super) fn log_settings(call: &mut Call<'_, '_>) -> Answer {
    ask(call, process::Call::LogSettings(BTreeMap::new()))
}

pub(super) fn set_log_settings(call: &mut Call<'_, '_>) -> Answer {
    let mut wanted = BTreeMap::new();
    for (name, on) in call.object()? {
        let on = on.as_bool().ok_or_else(|| illegal(&name, "a boolean"))?;
        wanted.insert(name, on);
    }
    ask(call, process::Call::LogSettings(wanted))
}
