//! `/_api/job`: what has become of requests whose clients did not wait. The node's loop has them ([`crate::job`]); here
//! is read what is asked.

use super::*;
use crate::job::{JobCall, JobWish, LIST_MAX};

pub(super) fn no_id(_: &mut Call<'_, '_>) -> Answer {
    Err(errors::HTTP_BAD_PARAMETER.into())
}

fn ask(call: &Call<'_, '_>, what: JobWish) -> Answer {
    let then = Some(Then::Job(JobCall { user: call.who.name().map(str::to_owned), what }));
    Ok(Handled { response: Response::empty(200), then })
}

/// Nothing that is no number names a job.
fn id(call: &Call<'_, '_>) -> Result<u64, Failure> {
    call.open[0].parse().map_err(|_| errors::HTTP_NOT_FOUND.into())
}

pub(super) fn get(call: &mut Call<'_, '_>) -> Answer {
    let max = call.request().query("count").and_then(|count| count.parse().ok()).unwrap_or(LIST_MAX);
    match call.open[0].as_str() {
        "done" => ask(call, JobWish::List { done: true, max }),
        "pending" => ask(call, JobWish::List { done: false, max }),
        number if number.starts_with(|first: char| first.is_ascii_digit()) => ask(call, JobWish::Status(id(call)?)),
        _ => Err(errors::HTTP_BAD_PARAMETER.into()),
    }
}

pub(super) fn fetch(call: &mut Call<'_, '_>) -> Answer {
    ask(call, JobWish::Fetch(id(call)?))
}

pub(super) fn act(call: &mut Call<'_, '_>) -> Answer {
    match call.open[1].as_str() {
        "cancel" => ask(call, JobWish::Cancel(id(call)?)),
        _ => Err(errors::HTTP_BAD_PARAMETER.into()),
    }
}

pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    match call.open[0].as_str() {
        "all" => ask(call, JobWish::RemoveAll),
        "expired" => {
            let seconds = call.request().query("stamp").and_then(|stamp| stamp.parse::<f64>().ok());
            let seconds = seconds.ok_or(errors::HTTP_BAD_PARAMETER)?;
            ask(call, JobWish::RemoveOlder { wall_ms: (seconds * 1000.0) as u64 })
        }
        _ => ask(call, JobWish::Remove(id(call)?)),
    }
}
