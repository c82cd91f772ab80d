//! Requests whose clients do not wait: the answer is kept until it is fetched.
//!
//! A request with `x-arango-async: store` is answered at once with the number of a job; with `true` nothing is kept.
//! Who asks is looked at before that ([`crate::db::api`]); then the request goes its way through the loop like any
//! other, under a number of the engine's own, and what would be its reply is kept here. A job belongs to a user and to
//! the leadership that it was begun under (R13): when that is over the job is forgotten, and whether it took effect is
//! unknown (R14), as it would be for a client that has waited. Jobs are bounded in number, bytes and age. An answer for
//! which there is no room is replaced by one that says so; it is never dropped in silence.

use crate::errors::{self, Error};
use crate::http::{Request, Response, header};
use crate::io::{Output, RequestId, Ticket};
use crate::types::{Duration, Epoch, Limits, Now, Time};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An answer that nobody fetches is forgotten after so long.
const KEPT: Duration = Duration::from_secs(3600);
/// About what a job takes beyond its answer's body.
const JOB_BYTES: usize = 256;
/// Of a list, if nothing else is asked for.
pub const LIST_MAX: usize = 100;

/// What becomes of a request that nobody waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobOrder {
    /// Who asks; `None` where nobody is told apart.
    pub user: Option<String>,
    /// The answer is to be fetched later.
    pub store: bool,
}

/// Whether nobody waits for the answer, and if so, whether it is to be kept.
pub fn deferred(request: &Request) -> Option<bool> {
    match request.header(header::ASYNC)? {
        "store" => Some(true),
        "true" => Some(false),
        _ => None,
    }
}

/// What is asked of the jobs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobCall {
    /// Whose jobs; `None` for those of everybody.
    pub user: Option<String>,
    pub what: JobWish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobWish {
    List {
        done: bool,
        max: usize,
    },
    Status(u64),
    /// The answer, which is forgotten then.
    Fetch(u64),
    Cancel(u64),
    Remove(u64),
    RemoveAll,
    /// Those that began, or ended, before a time of day.
    RemoveOlder {
        wall_ms: u64,
    },
}

/// The jobs that a server knows of.
#[derive(Clone, Debug, Default, Hash)]
pub struct Jobs {
    jobs: BTreeMap<u64, Job>,
    bytes: usize,
}

#[derive(Clone, Debug, Hash)]
struct Job {
    user: Option<String>,
    epoch: Epoch,
    dirty: bool,
    /// `None` while it is pending.
    answer: Option<Response>,
    /// Somebody wants it to end early.
    cancelled: bool,
    /// When it began, or ended.
    since: Now,
}

impl Job {
    fn bytes(&self) -> usize {
        JOB_BYTES + self.answer.as_ref().map_or(0, |answer| answer.body.len())
    }

    fn until(&self) -> Option<Time> {
        self.answer.as_ref().map(|_| self.since.time.plus(KEPT))
    }
}

impl Jobs {
    /// A pending job; `id` is drawn by chance.
    pub fn begin(
        &mut self,
        id: u64,
        user: Option<String>,
        ticket: Ticket,
        limits: &Limits,
        now: Now,
    ) -> Result<Response, Error> {
        if self.jobs.len() >= limits.jobs || self.jobs.contains_key(&id) {
            return Err(errors::QUEUE_FULL.because("too many jobs are pending or wait to be fetched"));
        }
        let job = Job { user, epoch: ticket.epoch, dirty: ticket.dirty, answer: None, cancelled: false, since: now };
        self.bytes += job.bytes();
        self.jobs.insert(id, job);
        Ok(Response::empty(202).with_header(header::ASYNC_ID, id.to_string()))
    }

    /// Keeps the replies to jobs that are among the outputs of a step, and takes them out.
    pub fn collect(&mut self, out: &mut Vec<Output>, limits: &Limits, now: Now) {
        let is_job = |output: &Output| matches!(output, Output::Reply { id, .. } if id.job().is_some());
        if !out.iter().any(is_job) {
            return;
        }
        for output in std::mem::take(out) {
            match output {
                Output::Reply { id, response } if id.job().is_some() => self.end(id, response, limits, now),
                other => out.push(other),
            }
        }
    }

    fn end(&mut self, id: RequestId, response: Response, limits: &Limits, now: Now) {
        // Nothing was to be kept, or it was removed meanwhile.
        let Some(job) = id.job().and_then(|id| self.jobs.get_mut(&id)) else { return };
        self.bytes -= job.bytes();
        // What its cancelling has ended is told as such; what ended by itself is as it was.
        let ended = job.cancelled && response.error_num() == Some(errors::QUERY_KILLED.number.into());
        let response = if ended { errors::REQUEST_CANCELED.response() } else { response };
        let fits = self.bytes.saturating_add(response.body.len()) <= limits.job_bytes;
        job.answer = Some(match fits {
            true => response,
            false => {
                let status = response.status;
                let text = format!("the job has ended with status {status}, but there is no room to keep its answer");
                errors::RESOURCE_LIMIT.says(text).response()
            }
        });
        job.since = now;
        self.bytes += job.bytes();
    }

    pub fn call(&mut self, call: &JobCall, ticket: Ticket, now: Now) -> Response {
        self.expire(now.time);
        self.answer(call, ticket).unwrap_or_else(|error| error.response())
    }

    fn answer(&mut self, call: &JobCall, ticket: Ticket) -> Result<Response, Error> {
        let fits = |job: &Job| {
            (job.epoch, job.dirty) == (ticket.epoch, ticket.dirty)
                && call.user.as_ref().is_none_or(|user| job.user.as_ref() == Some(user))
        };
        let found = |id: u64| self.jobs.get(&id).filter(|job| fits(job)).ok_or(errors::HTTP_NOT_FOUND);
        let all = |filter: &dyn Fn(&Job) -> bool| -> Vec<u64> {
            self.jobs.iter().filter(|(_, job)| fits(job) && filter(job)).map(|(id, _)| *id).collect()
        };
        let gone = match call.what {
            JobWish::List { done, max } => {
                let mut ids = all(&|job| job.answer.is_some() == done);
                ids.truncate(max);
                let ids: Vec<Value> = ids.into_iter().map(|id| id.to_string().into()).collect();
                return Ok(Response::json(200, &ids.into()));
            }
            JobWish::Status(id) => {
                let done = found(id)?.answer.is_some();
                return Ok(Response::empty(if done { 200 } else { 204 }));
            }
            JobWish::Cancel(id) => {
                found(id)?;
                self.jobs.get_mut(&id).expect("it was found").cancelled = true;
                Vec::new()
            }
            JobWish::Fetch(id) => {
                let Some(answer) = found(id)?.answer.clone() else { return Ok(Response::empty(204)) };
                self.remove(id);
                return Ok(fetched(id, answer));
            }
            JobWish::Remove(id) => {
                found(id)?;
                vec![id]
            }
            JobWish::RemoveAll => all(&|_| true),
            JobWish::RemoveOlder { wall_ms } => all(&|job| job.since.wall_ms < wall_ms),
        };
        gone.into_iter().for_each(|id| self.remove(id));
        Ok(Response::json(200, &json!({"error": false, "code": 200, "result": true})))
    }

    fn remove(&mut self, id: u64) {
        if let Some(job) = self.jobs.remove(&id) {
            self.bytes -= job.bytes();
        }
    }

    /// Forgets what nobody has fetched in time.
    pub fn expire(&mut self, now: Time) {
        if self.deadline().is_some_and(|until| until <= now) {
            self.jobs.retain(|_, job| job.until().is_none_or(|until| until > now));
            self.bytes = self.jobs.values().map(Job::bytes).sum();
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        self.jobs.values().filter_map(Job::until).min()
    }

    /// A leadership is over, and all that was begun under it.
    pub fn clear(&mut self) {
        *self = Jobs::default();
    }
}

/// The answer as it was; what says from whom it comes is said by whoever hands it out.
fn fetched(id: u64, mut answer: Response) -> Response {
    answer.headers.retain(|(name, _)| name != header::ENDPOINT && name != header::POTENTIAL_DIRTY_READ);
    answer.with_header(header::ASYNC_ID, id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { jobs: 3, job_bytes: 2000, ..Limits::default() }
    }

    fn at(seconds: u64) -> Now {
        Now { time: Time::ZERO.plus(Duration::from_secs(seconds)), wall_ms: seconds * 1000 }
    }

    fn begin(jobs: &mut Jobs, id: u64, user: &str) -> u16 {
        let begun = jobs.begin(id, Some(user.into()), Ticket::reading(3), &limits(), at(id));
        begun.unwrap_or_else(|error| error.response()).status
    }

    fn end(jobs: &mut Jobs, id: u64, body: &str) {
        let reply = |id, body: &str| Output::Reply { id, response: Response::raw(201, body.to_owned()) };
        let mut out = vec![reply(RequestId(id), "a client's"), reply(RequestId::of_job(id), body)];
        jobs.collect(&mut out, &limits(), at(100 + id));
        assert!(matches!(&out[..], [Output::Reply { id: RequestId(left), .. }] if *left == id), "{out:?}");
    }

    fn ask(jobs: &mut Jobs, user: Option<&str>, epoch: u64, what: JobWish) -> String {
        let call = JobCall { user: user.map(str::to_owned), what };
        let response = jobs.call(&call, Ticket::reading(epoch), at(200));
        let id = response.header(header::ASYNC_ID).map(|id| format!("#{id} ")).unwrap_or_default();
        format!("{} {id}{}", response.status, String::from_utf8_lossy(&response.body))
    }

    const LIST_DONE: JobWish = JobWish::List { done: true, max: 9 };
    const LIST_PENDING: JobWish = JobWish::List { done: false, max: 9 };
    const YES: &str = r#"200 {"error":false,"code":200,"result":true}"#;

    #[test]
    fn an_answer_is_kept_until_it_is_fetched_once() {
        let mut jobs = Jobs::default();
        assert_eq!(begin(&mut jobs, 7, "u"), 202);
        let u = Some("u");
        assert_eq!(ask(&mut jobs, u, 3, JobWish::Status(7)), "204 ");
        assert_eq!(ask(&mut jobs, u, 3, JobWish::Fetch(7)), "204 ");
        assert_eq!(ask(&mut jobs, u, 3, LIST_PENDING), r#"200 ["7"]"#);
        end(&mut jobs, 7, "{}");
        assert_eq!(ask(&mut jobs, u, 3, LIST_PENDING), "200 []");
        assert_eq!(ask(&mut jobs, u, 3, LIST_DONE), r#"200 ["7"]"#);
        assert_eq!(ask(&mut jobs, u, 3, JobWish::Status(7)), "200 ");
        assert_eq!(ask(&mut jobs, u, 3, JobWish::Fetch(7)), "201 #7 {}");
        assert!(ask(&mut jobs, u, 3, JobWish::Fetch(7)).starts_with("404 "));
        assert_eq!((jobs.jobs.len(), jobs.bytes), (0, 0));
    }

    #[test]
    fn a_job_that_was_cancelled_says_so_if_that_has_ended_it() {
        let mut jobs = Jobs::default();
        for id in [7, 8, 9] {
            begin(&mut jobs, id, "u");
        }
        assert_eq!(ask(&mut jobs, None, 3, JobWish::Cancel(7)), YES);
        assert_eq!(ask(&mut jobs, None, 3, JobWish::Cancel(8)), YES);
        for id in [7, 9] {
            let response = errors::QUERY_KILLED.response();
            jobs.end(RequestId::of_job(id), response, &limits(), at(100));
        }
        end(&mut jobs, 8, "{}");
        let canceled = r##"410 #7 {"error":true,"errorNum":21,"errorMessage":"canceled request","code":410}"##;
        assert_eq!(ask(&mut jobs, None, 3, JobWish::Fetch(7)), canceled);
        assert_eq!(ask(&mut jobs, None, 3, JobWish::Fetch(8)), "201 #8 {}", "it was done already");
        assert!(ask(&mut jobs, None, 3, JobWish::Fetch(9)).contains("1500"), "it was killed");
        begin(&mut jobs, 7, "u");
        assert_eq!(ask(&mut jobs, None, 3, JobWish::Cancel(7)), YES);
        jobs.end(RequestId::of_job(7), errors::TRANSACTION_ABORTED.response(), &limits(), at(100));
        assert!(ask(&mut jobs, None, 3, JobWish::Fetch(7)).contains("1654"), "it ended for another reason");
    }

    #[test]
    fn a_job_is_its_users_and_its_leaderships() {
        let mut jobs = Jobs::default();
        begin(&mut jobs, 7, "u");
        end(&mut jobs, 7, "{}");
        for (user, epoch) in [(Some("v"), 3), (Some("u"), 4), (None, 4)] {
            assert_eq!(ask(&mut jobs, user, epoch, LIST_DONE), "200 []");
            for what in [JobWish::Status(7), JobWish::Fetch(7), JobWish::Cancel(7), JobWish::Remove(7)] {
                assert!(ask(&mut jobs, user, epoch, what).starts_with("404 "), "{user:?} {epoch} {what:?}");
            }
            assert_eq!(ask(&mut jobs, user, epoch, JobWish::RemoveAll), YES);
        }
        assert_eq!(ask(&mut jobs, None, 3, JobWish::Status(7)), "200 ", "who may do everything sees everybody's");
        jobs.clear();
        assert!(ask(&mut jobs, None, 3, JobWish::Status(7)).starts_with("404 "));
    }

    #[test]
    fn jobs_are_removed_by_number_by_age_or_all() {
        let mut jobs = Jobs::default();
        (1..=3).for_each(|id| assert_eq!(begin(&mut jobs, id, "u"), 202));
        end(&mut jobs, 2, "");
        let u = Some("u");
        assert_eq!(ask(&mut jobs, u, 3, JobWish::RemoveOlder { wall_ms: 3000 }), YES, "1 began before, 2 ended after");
        assert_eq!(ask(&mut jobs, u, 3, LIST_PENDING), r#"200 ["3"]"#);
        assert_eq!(ask(&mut jobs, u, 3, JobWish::Remove(2)), YES);
        assert_eq!(ask(&mut jobs, u, 3, LIST_DONE), "200 []");
        end(&mut jobs, 1, "of a job that was removed");
        assert_eq!(ask(&mut jobs, u, 3, JobWish::RemoveAll), YES);
        assert_eq!((jobs.jobs.len(), jobs.bytes), (0, 0));
    }

    #[test]
    fn number_bytes_and_age_are_bounded() {
        let mut jobs = Jobs::default();
        (1..=3).for_each(|id| assert_eq!(begin(&mut jobs, id, "u"), 202));
        assert_eq!(begin(&mut jobs, 4, "u"), 503);
        end(&mut jobs, 1, &"x".repeat(1500));
        assert_eq!(jobs.deadline(), Some(at(101).time.plus(KEPT)));
        let before = jobs.bytes;
        end(&mut jobs, 2, &"x".repeat(1500));
        assert!(ask(&mut jobs, None, 3, JobWish::Fetch(2)).starts_with("500 #2 "), "there is no room for that one");
        assert!(before <= limits().job_bytes + JOB_BYTES * limits().jobs);
        jobs.expire(at(101).time.plus(KEPT));
        assert_eq!(ask(&mut jobs, None, 3, LIST_DONE), "200 []");
        assert_eq!(ask(&mut jobs, None, 3, LIST_PENDING), r#"200 ["3"]"#, "what is pending does not grow old");
    }
}
