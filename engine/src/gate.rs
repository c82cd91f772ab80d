//! The gate: who may be served, by which server, at this moment.
//!
//! Two pure functions of a [`View`], a request and a clock reading: [`admit`] on arrival, [`confirm`] when the answer
//! is there. The shell may call them outside the node's loop (R13). Order of checks and bodies are ArangoDB's
//! (`CommTask::prepareExecution`); the gate comes before the look-up of the database and before authentication.
//!
//! Invariants: I11 (a success comes from a lease holder or carries the dirty-read mark), I13 (a refusal names an
//! endpoint that was leader in that epoch, or none). R14: 1495 and 1496 are said only if nothing was started.
//!
//! Differences from ArangoDB, on purpose: without a known leader there is no empty `X-Arango-Endpoint` header (some
//! drivers crash on it); this server's own address is never given; a leader whose lease has run out refuses; while
//! leadership changes hands, requests wait for who leads; maintenance can be switched at every server, because while it
//! suspends failover there may be no leader to switch it off at.

use crate::db::api;
use crate::demand::{Demands, Freshness};
use crate::errors;
use crate::http::{Request, Response, header, truthy};
use crate::io::{Mode, Run, Ticket, View};
use crate::mark;
use crate::transaction::Part;
use crate::types::{Duration, Now, Position};
use std::sync::Arc;

/// What becomes of a request at the door.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Run it, then ask [`confirm`] before the answer leaves.
    Run(Run),
    Refuse(Response),
    /// Its demand of freshness is not met at this moment; the node's loop knows how to wait.
    Wait(Request),
}

/// By how much a leader's clock may be slow, where it measures how long its answer takes.
const DRIFT_PERMILLE: u32 = 300;

/// Paths that a server answers whoever leads: prefixes of the path behind `/_db/<name>`.
const OPEN: &[&str] = &[
    "/_admin/shutdown",
    "/_admin/cluster/health",
    "/_admin/cluster/maintenance",
    "/_admin/log",
    "/_admin/server/",
    "/_admin/status",
    "/_admin/statistics",
    "/_api/agency/agency-callbacks",
    "/_api/cluster/",
    "/_api/engine/stats",
    "/_api/replication",
    "/_api/ttl/statistics",
    "/_api/wal",
    "/_api/tanist/",
];

/// Of followers that a request may ask for.
const SYNC_FOLLOWERS_MAX: u8 = 64;

fn is_open(path: &str, mode: Mode) -> bool {
    path == "/_admin/compact"
        || OPEN.iter().any(|prefix| path.starts_with(prefix))
        || (mode == Mode::Redirect && path.starts_with("/_api/version"))
}

/// The mode at this moment: a leader whose lease has run out does not lead.
fn mode_at(view: &View, now: Now) -> Mode {
    match view.mode {
        Mode::Default if !view.holds_lease(now) => Mode::TryAgain,
        mode => mode,
    }
}

/// Decides on arrival; the order of checks is ArangoDB's.
pub fn admit(view: &Arc<View>, request: Request, now: Now, seed: u64) -> Admission {
    let mode = mode_at(view, now);
    let dirty = request.header(header::ALLOW_DIRTY_READ).and_then(truthy) == Some(true);
    // Who leads will be known in a moment, and then the request is looked at again.
    let moving =
        matches!(mode, Mode::TryAgain | Mode::Stopping) && view.leader.is_none() && now.time < view.moves_until;
    if moving && !is_open(request.split_database().1, mode) {
        mark!(WaitsForLeader);
        return Admission::Wait(request);
    }
    let (open, dirty) = match mode {
        Mode::Stopping | Mode::Maintenance => return Admission::Refuse(refusal(view, mode)),
        Mode::Default => (is_open(request.split_database().1, mode), false),
        Mode::Redirect | Mode::TryAgain => {
            let open = is_open(request.split_database().1, mode);
            // A transaction is where its leader is.
            let dirty = dirty && !open && mode == Mode::Redirect && !api::is_transactional(&request);
            if dirty {
                mark!(DirtyRead);
            }
            if !open && !dirty {
                return Admission::Refuse(refusal(view, mode));
            }
            (open, dirty)
        }
    };
    let demands = match Demands::of(&request) {
        Ok(demands) => demands,
        Err(error) => return Admission::Refuse(error.response()),
    };
    // A leader's data are all that there is; only the way of the answer takes time.
    let slack = if view.standalone { Duration::MAX } else { view.lease_slack };
    let of_leader = Freshness { as_of: now, slack, drift_permille: DRIFT_PERMILLE };
    let bound = demands.max_staleness.filter(|_| mode == Mode::Default);
    let mut fresh = bound.and_then(|staleness| of_leader.within(staleness, now));
    if let Some(staleness) = demands.max_staleness.filter(|_| dirty) {
        fresh = view.replication.freshness.and_then(|freshness| freshness.within(staleness, now));
        if fresh.is_none() && !planted!(staleness_ignored) {
            mark!(TooStale);
            return Admission::Wait(request);
        }
    }
    let at_least = demands.at_least;
    let leads = mode == Mode::Default;
    let effect = api::effect(&request);
    let writes = (leads || (dirty && planted!(dirty_write_let_through))) && effect.writes;
    let sync_followers = match sync_followers(&request) {
        _ if !writes => 0,
        Some(number) if number > 0 && view.standalone => {
            return Admission::Refuse(errors::WRITE_CONCERN.says("a single server has no followers").response());
        }
        Some(number) => number,
        None => {
            let text = format!("{} must be a number from 0 to {SYNC_FOLLOWERS_MAX}", header::SYNC_FOLLOWERS);
            return Admission::Refuse(errors::HTTP_BAD_PARAMETER.says(text).response());
        }
    };
    if writes && view.short_of_followers {
        mark!(WriteShort);
        return Admission::Refuse(errors::WRITE_CONCERN.response());
    }
    let transaction = Part { concern: effect.concern, ..Part::default() };
    Admission::Run(Run {
        request,
        epoch: view.epoch,
        writes,
        kept: effect.kept,
        dirty,
        open: open && !writes,
        at_least,
        fresh,
        sync_followers,
        now,
        seed,
        view: Arc::clone(view),
        transaction,
    })
}

/// How many followers a request asks for; `None` if that can't be read.
fn sync_followers(request: &Request) -> Option<u8> {
    match request.header(header::SYNC_FOLLOWERS) {
        None => Some(0),
        Some(text) => text.trim().parse().ok().filter(|number| *number <= SYNC_FOLLOWERS_MAX),
    }
}

/// R17: whether all that a read saw may be shown. What may not is for the node's loop, which waits for it.
pub fn is_acknowledged(ticket: Ticket, last: Position, view: &View) -> bool {
    let shown = view.acknowledged.is_none_or(|acknowledged| last.tick <= acknowledged);
    shown || ticket.open || ticket.dirty || planted!(unacknowledged_read)
}

/// Decides once more when the answer of a run is there (R13): `view` is loaded and `now` read, in this order, after
/// the run. Adds the headers that a server's answers carry.
pub fn confirm(ticket: Ticket, response: Response, view: &View, now: Now) -> Response {
    let mode = mode_at(view, now);
    // The data were read before: what counts is how fresh they were known to be then, and what time it is now.
    if ticket.fresh.is_some_and(|fresh| !fresh.holds(now)) {
        mark!(StaleMeanwhile);
        return marked(
            errors::TOO_OLD.because("the answer took longer than it may be stale").response(),
            view,
            mode,
            true,
        );
    }
    if ticket.open || ticket.dirty {
        return marked(response, view, mode, ticket.dirty);
    }
    if planted!(confirm_skipped) {
        return response;
    }
    // Leadership lost and regained in a later epoch is another leadership; in the same epoch nobody else led between.
    // A leader whose gate is closed (it hands over, or stops) still finishes, under its lease, what it has admitted.
    let same_epoch = view.epoch == ticket.epoch || planted!(confirm_ignores_epoch);
    if same_epoch && view.holds_lease(now) {
        return response;
    }
    // A write was started, and whether it counts will be known only when the next leader is: nothing may be repeated
    // blindly (R14). Within a transaction, it counts if the lease comes back in the same epoch. A read had no effect.
    if (ticket.writes || ticket.within) && !planted!(refused_after_start) {
        mark!(OutcomeUnknown);
        return errors::OUTCOME_UNKNOWN.response();
    }
    mark!(ReadNotConfirmed);
    refusal(view, mode)
}

/// The answer to a demand of freshness that was not met in time, where nothing was started. Not a 503: a driver must
/// not loop on it.
pub fn too_old(view: &View, now: Now, what: &str) -> Response {
    marked(errors::TOO_OLD.because(what).response(), view, mode_at(view, now), false)
}

/// The answer where nothing was started.
pub fn refuse(view: &View, now: Now) -> Response {
    refusal(view, mode_at(view, now))
}

fn refusal(view: &View, mode: Mode) -> Response {
    let response = match mode {
        Mode::Stopping if view.leader.is_some() => {
            mark!(RedirectedStopping);
            errors::NOT_LEADER.response().with_header("connection", "close")
        }
        Mode::Stopping => {
            mark!(RefusedStopping);
            errors::SHUTTING_DOWN.response()
        }
        Mode::Maintenance => {
            let message = "service unavailable due to startup or maintenance mode";
            errors::HTTP_SERVICE_UNAVAILABLE.says(message).response()
        }
        Mode::Redirect => {
            mark!(Refused1496);
            errors::NOT_LEADER.response()
        }
        Mode::TryAgain | Mode::Default => {
            mark!(Refused1495);
            errors::LEADERSHIP_CHALLENGE.says("leadership challenge is ongoing").response()
        }
    };
    marked(response, view, mode, false)
}

/// Every answer of a server that does not lead says who does, and a follower's answers say that they may be stale.
fn marked(mut response: Response, view: &View, mode: Mode, dirty: bool) -> Response {
    if matches!(mode, Mode::Redirect | Mode::Stopping)
        && let Some(leader) = &view.leader
    {
        assert!(leader.id != view.me.id, "a server never names itself");
        let named = if planted!(redirect_names_itself) { &view.me } else { leader };
        response.headers.push((header::ENDPOINT.into(), named.endpoint.url()));
    }
    if (mode == Mode::Redirect || dirty) && !planted!(dirty_read_unmarked) {
        response.headers.push((header::POTENTIAL_DIRTY_READ.into(), "true".into()));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Method;
    use crate::io::ReplicationView;
    use crate::message::Peer;
    use crate::types::*;

    fn peer(uuid: u128) -> Peer {
        let endpoint = Endpoint::parse(&format!("tcp://host{uuid}:8529")).unwrap();
        Peer { id: NodeId { kind: NodeKind::Server, uuid }, endpoint }
    }

    fn view(mode: Mode) -> View {
        View {
            mode,
            read_only: mode != Mode::Default,
            epoch: Epoch(3),
            boot: Boot(1),
            lease_end: Time(1000),
            lease_sent: at(0),
            lease_slack: Duration::from_millis(200),
            leader: (mode == Mode::Redirect).then(|| peer(2)),
            ..View::new(peer(1))
        }
    }

    fn at(time: u64) -> Now {
        Now { time: Time(time), wall_ms: 0 }
    }

    /// "run", "run dirty", "run open", or the refusal's status, errorNum and endpoint.
    fn verdict(mode: Mode, time: u64, target: &str, dirty: bool) -> String {
        let mut request = Request::new(Method::Get, target);
        if dirty {
            request = request.with_header(header::ALLOW_DIRTY_READ, "Yes");
        }
        match admit(&Arc::new(view(mode)), request, at(time), 0) {
            Admission::Run(run) if run.dirty => "run dirty".into(),
            Admission::Run(run) if run.open => "run open".into(),
            Admission::Run(_) => "run".into(),
            Admission::Wait(_) => "wait".into(),
            Admission::Refuse(r) => {
                let endpoint = r.header(header::ENDPOINT).unwrap_or("-");
                format!("{} {} {endpoint}", r.status, r.error_num().unwrap())
            }
        }
    }

    #[test]
    fn each_mode_answers_as_arangodb_does() {
        let table = [
            (Mode::Default, "/_api/document/c/k", false, "run"),
            (Mode::Default, "/_api/document/c/k", true, "run"),
            (Mode::Default, "/_admin/status", false, "run open"),
            (Mode::Redirect, "/_api/document/c/k", false, "503 1496 http://host2:8529"),
            (Mode::Redirect, "/_api/document/c/k", true, "run dirty"),
            (Mode::Redirect, "/_api/version", false, "run open"),
            (Mode::Redirect, "/_db/any/_api/version", false, "run open"),
            (Mode::Redirect, "/_db/any/_api/database", false, "503 1496 http://host2:8529"),
            (Mode::Redirect, "/_open/auth", false, "503 1496 http://host2:8529"),
            (Mode::Redirect, "/_admin/echo", false, "503 1496 http://host2:8529"),
            (Mode::Redirect, "/_admin/server/availability", false, "run open"),
            (Mode::Redirect, "/_admin/log/level", false, "run open"),
            (Mode::Redirect, "/_api/cluster/endpoints", false, "run open"),
            (Mode::Redirect, "/_admin/compact", false, "run open"),
            (Mode::Redirect, "/_admin/compactor", false, "503 1496 http://host2:8529"),
            (Mode::TryAgain, "/_api/version", false, "503 1495 -"),
            (Mode::TryAgain, "/_api/document/c/k", true, "503 1495 -"),
            (Mode::TryAgain, "/_admin/server/role", false, "run open"),
            (Mode::Maintenance, "/_admin/status", false, "503 503 -"),
            (Mode::Stopping, "/_admin/status", false, "503 30 -"),
        ];
        for (mode, target, dirty, expected) in table {
            assert_eq!(verdict(mode, 0, target, dirty), expected, "{mode:?} {target} dirty={dirty}");
        }
    }

    #[test]
    fn a_leader_without_a_lease_refuses() {
        assert_eq!(verdict(Mode::Default, 999, "/_api/document/c/k", false), "run");
        assert_eq!(verdict(Mode::Default, 1000, "/_api/document/c/k", false), "503 1495 -");
        assert_eq!(verdict(Mode::Default, 1000, "/_api/document/c/k", true), "503 1495 -");
    }

    #[test]
    fn while_the_leadership_moves_a_request_waits_but_for_what_is_always_open() {
        let told = |view: View, target: &str, time| match admit(
            &Arc::new(view),
            Request::new(Method::Get, target),
            at(time),
            0,
        ) {
            Admission::Wait(_) => "wait",
            Admission::Run(_) => "run",
            Admission::Refuse(_) => "refuse",
        };
        let moving = |mode| View { moves_until: Time(500), ..view(mode) };
        for mode in [Mode::TryAgain, Mode::Stopping] {
            assert_eq!(told(moving(mode), "/_api/document/c/k", 499), "wait", "{mode:?}");
            assert_eq!(told(moving(mode), "/_api/document/c/k", 500), "refuse", "{mode:?}");
            let refused = refuse(&moving(mode), at(500));
            assert_eq!(refused.header(header::POTENTIAL_DIRTY_READ), None, "{mode:?}: nothing was read");
            let decided = View { leader: Some(peer(2)), ..moving(mode) };
            assert_eq!(told(decided, "/_api/document/c/k", 499), "refuse", "{mode:?}: it is known who leads");
        }
        assert_eq!(told(moving(Mode::TryAgain), "/_admin/server/role", 499), "run");
        assert_eq!(told(moving(Mode::Maintenance), "/_api/document/c/k", 499), "refuse");
    }

    #[test]
    fn only_a_write_asks_for_followers_and_only_a_leader_writes() {
        let verdict = |view: &View, method, followers: Option<&str>, dirty: bool| {
            let mut request = Request::new(method, "/_api/document/c").with_body("{}");
            request = followers.map_or(request.clone(), |text| request.with_header(header::SYNC_FOLLOWERS, text));
            if dirty {
                request = request.with_header(header::ALLOW_DIRTY_READ, "true");
            }
            match admit(&Arc::new(view.clone()), request, at(0), 0) {
                Admission::Run(run) => Ok((run.writes, run.sync_followers)),
                Admission::Refuse(response) => Err(response.error_num().expect("an error")),
                Admission::Wait(_) => panic!("nothing moves"),
            }
        };
        let leads = view(Mode::Default);
        assert_eq!(verdict(&leads, Method::Post, None, false), Ok((true, 0)));
        assert_eq!(verdict(&leads, Method::Post, Some("2"), false), Ok((true, 2)));
        assert_eq!(verdict(&leads, Method::Post, Some("many"), false), Err(400));
        assert_eq!(verdict(&leads, Method::Get, Some("many"), false), Ok((false, 0)), "a read asks for none");
        let alone = View { standalone: true, ..leads.clone() };
        assert_eq!(verdict(&alone, Method::Post, Some("1"), false), Err(1429));
        assert_eq!(verdict(&alone, Method::Post, Some("0"), false), Ok((true, 0)));
        let short = View { short_of_followers: true, ..leads };
        assert_eq!(verdict(&short, Method::Post, None, false), Err(1429));
        assert_eq!(verdict(&short, Method::Get, None, false), Ok((false, 0)));
        assert_eq!(verdict(&view(Mode::Redirect), Method::Post, None, true), Ok((false, 0)), "it may read");
    }

    /// A dirty read that says how stale its answer may be runs at once where the data are fresh enough.
    #[test]
    fn what_is_too_stale_waits() {
        let follows = |as_of| {
            let freshness = Freshness { as_of: at(as_of), slack: Duration::MAX, drift_permille: 0 };
            let replication = ReplicationView { freshness: Some(freshness), ..ReplicationView::default() };
            Arc::new(View { replication, ..view(Mode::Redirect) })
        };
        let request = Request::new(Method::Get, "/_api/document/c/k").with_header(header::ALLOW_DIRTY_READ, "true");
        let request = request.with_header(header::MAX_STALENESS, "10");
        let (ms, now) = (1_000_000, at(100_000_000));
        assert!(matches!(admit(&follows(95 * ms), request.clone(), now, 0), Admission::Run(_)));
        assert!(matches!(admit(&follows(85 * ms), request.clone(), now, 0), Admission::Wait(_)));
        assert!(matches!(admit(&Arc::new(view(Mode::Redirect)), request, now, 0), Admission::Wait(_)), "nobody knows");
    }

    /// R17.
    #[test]
    fn what_followers_may_not_have_is_shown_to_who_takes_stale_data_only() {
        let last = Position { epoch: Epoch(3), tick: Tick(8) };
        let shown = |ticket, tick: u64| {
            is_acknowledged(ticket, last, &View { acknowledged: Some(Tick(tick)), ..view(Mode::Default) })
        };
        let read = Ticket::reading(3);
        assert_eq!((shown(read, 7), shown(read, 8)), (false, true));
        assert!(shown(Ticket { open: true, ..read }, 7) && shown(Ticket { dirty: true, ..read }, 7));
        assert!(is_acknowledged(read, last, &view(Mode::Default)), "no follower has to have anything");
    }

    #[test]
    fn an_answer_is_confirmed_only_under_the_same_leadership() {
        let read = Ticket::reading(3);
        let ticket = Ticket { writes: true, ..read };
        let within = Ticket { within: true, ..read };
        let status = |ticket, view: &View, time| {
            let r = confirm(ticket, Response::empty(200), view, at(time));
            (r.status, r.error_num())
        };
        let leads = view(Mode::Default);
        assert_eq!(status(ticket, &leads, 999), (200, None));
        assert_eq!(status(ticket, &leads, 1000), (504, Some(1457)), "the lease is over: a write's outcome is unknown");
        assert_eq!(status(read, &leads, 1000), (503, Some(1495)), "a read may be repeated");
        assert_eq!(status(within, &leads, 1000), (504, Some(1457)), "its transaction may live on");
        let later = View { epoch: Epoch(4), ..view(Mode::Default) };
        assert_eq!(status(ticket, &later, 0), (504, Some(1457)));
        let follows = View { lease_end: Time::ZERO, ..view(Mode::Redirect) };
        assert_eq!(status(read, &follows, 0), (503, Some(1496)));
        assert_eq!(
            refuse(&follows, at(0)).header(header::POTENTIAL_DIRTY_READ),
            Some("true"),
            "as ArangoDB's followers"
        );
        let stopping = view(Mode::Stopping);
        assert_eq!(status(ticket, &stopping, 999), (200, None), "what was admitted is finished");
        let gone = View { leader: Some(peer(2)), ..view(Mode::Stopping) };
        let answer = refuse(&gone, at(5000));
        assert_eq!(
            (answer.error_num(), answer.header("connection")),
            (Some(1496), Some("close")),
            "who leads is known"
        );
        let open = Ticket { open: true, ..read };
        assert_eq!(status(open, &leads, 1000), (200, None), "nobody has to lead for that");
        let paused = Now { wall_ms: 201, ..at(500) };
        let answer = confirm(ticket, Response::empty(200), &leads, paused);
        assert_eq!(answer.status, 504, "the steady clock stood still while the wall clock went on");
        let dirty = Ticket { dirty: true, writes: false, ..ticket };
        let answer = confirm(dirty, Response::empty(200), &view(Mode::Redirect), at(5000));
        assert_eq!(answer.header(header::POTENTIAL_DIRTY_READ), Some("true"));
        assert_eq!(answer.header(header::ENDPOINT), Some("http://host2:8529"));
    }
}
