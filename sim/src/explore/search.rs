//! Breadth first through all states, each once: so what is found first is found by a shortest history.

use super::choice::{self, Choice, Left, Limits};
use super::cluster::{Cluster, Pools};
use super::machine::Memo;
use super::part::ByPrint;
use super::{Settings, Start};
use crate::action::Action;
use crate::check::Violation;
use crate::clock::At;
use crate::run::caught;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a search came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every history within the bounds was followed to its end.
    Exhausted,
    Depth,
    States,
    Seconds,
    Memory,
    Violation,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ended::Exhausted => "exhausted: every history within these bounds",
            Ended::Depth => "not exhausted: cut off by --depth",
            Ended::States => "not exhausted: cut off by --states",
            Ended::Seconds => "not exhausted: cut off by --seconds",
            Ended::Memory => "not exhausted: cut off by --memory-mb",
            Ended::Violation => "a promise was broken",
        })
    }
}

#[derive(Clone, Debug)]
pub struct Report {
    /// Different states of the cluster, and how many of them were looked at (again, if more may still happen there).
    pub distinct: usize,
    pub visited: usize,
    pub transitions: u64,
    /// How many of them called the engine; the others met what a machine had met in the same state at the same time.
    pub steps: u64,
    pub depth: usize,
    pub frontier: usize,
    /// Histories that came to the end of their time.
    pub complete: u64,
    pub took: Duration,
    pub ended: Ended,
    pub found: Option<Found>,
}

#[derive(Clone, Debug)]
pub struct Found {
    pub violation: Violation,
    pub steps: usize,
    pub trace: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64().max(0.001);
        write!(
            f,
            "{} states visited, {} distinct, {} transitions, {} steps of the engine, depth {}, frontier {}, {} ends, \
             {:.1} s, {:.0} states/s",
            self.visited,
            self.distinct,
            self.transitions,
            self.steps,
            self.depth,
            self.frontier,
            self.complete,
            seconds,
            self.visited as f64 / seconds
        )
    }
}

struct Point {
    cluster: Cluster,
    left: Left,
    /// Where its way here is kept.
    place: u32,
    depth: u32,
}

/// What was left when a state was visited: with no more than that left, it need not be visited again.
#[derive(Default)]
struct Seen {
    first: ByPrint<Left>,
    more: ByPrint<Vec<Left>>,
}

impl Seen {
    /// True if the state is to be visited.
    fn visit(&mut self, print: u128, left: Left) -> bool {
        match self.first.entry(print) {
            Entry::Vacant(entry) => {
                entry.insert(left);
                return true;
            }
            Entry::Occupied(mut entry) => {
                if entry.get().covers(&left) {
                    return false;
                }
                if left.covers(entry.get()) {
                    entry.insert(left);
                    return true;
                }
            }
        }
        let more = self.more.entry(print).or_default();
        if more.iter().any(|seen| seen.covers(&left)) {
            return false;
        }
        more.retain(|seen| !left.covers(seen));
        more.push(left);
        true
    }
}

const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Explores. `progress` is told about once a second.
pub fn explore(settings: &Settings, mut progress: impl FnMut(&Report)) -> Result<Report, String> {
    let began = Instant::now();
    let mut memo = Memo::default();
    let (first, broken) = start(settings, &mut memo, false);
    let limits = settings.limits(&first);
    let mut pools = Pools::default();
    let mut seen = Seen::default();
    let mut ways: Vec<(u32, Choice)> = vec![(0, Choice::Next)];
    let mut frontier = VecDeque::new();
    let mut report = Report {
        distinct: 0,
        visited: 0,
        transitions: 0,
        steps: 0,
        depth: 0,
        frontier: 0,
        complete: 0,
        took: Duration::ZERO,
        ended: Ended::Exhausted,
        found: None,
    };
    if let Some(violation) = broken {
        let trace = start(settings, &mut Memo::default(), true).0.trace.unwrap_or_default();
        report.ended = Ended::Violation;
        report.found = Some(Found { violation, steps: 0, trace });
        return Ok(report);
    }
    seen.visit(first.print(), settings.bounds);
    frontier.push_back(Point { cluster: first, left: settings.bounds, place: 0, depth: 0 });
    let mut told = began;
    while let Some(point) = frontier.pop_front() {
        report.visited += 1;
        report.steps = memo.worked_out;
        report.depth = report.depth.max(point.depth as usize);
        if report.visited.is_multiple_of(1024) {
            report.took = began.elapsed();
            (report.distinct, report.frontier) = (seen.first.len(), frontier.len());
            let limit = [
                (report.took >= settings.time_max, Ended::Seconds),
                (report.visited >= settings.states_max, Ended::States),
                (resident_mb() >= settings.memory_mb, Ended::Memory),
            ];
            if let Some((_, ended)) = limit.iter().find(|(reached, _)| *reached) {
                report.ended = *ended;
                break;
            }
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                progress(&report);
            }
        }
        let choices = choice::choices(&point.cluster, &point.left, &limits);
        if choices.first() != Some(&Choice::Next) {
            report.complete += 1;
        }
        if point.depth as usize >= settings.depth_max {
            if !choices.is_empty() {
                report.ended = Ended::Depth;
            }
            continue;
        }
        for choice in choices {
            let (mut cluster, mut left) = (point.cluster.clone(), point.left);
            report.transitions += 1;
            let taken = caught(|| {
                choice::take(&mut cluster, &mut memo, &mut left, &limits, choice);
                cluster.violation.take().or_else(|| (settings.forbidden)(&cluster))
            });
            let violation = match taken {
                Ok(violation) => violation,
                Err(what) => Some(Violation { invariant: "panic", what, at: cluster.at }),
            };
            if let Some(violation) = violation {
                let steps = way_to(&ways, point.place, choice);
                report.ended = Ended::Violation;
                report.found = Some(Found { violation, steps: steps.len(), trace: replay(settings, &steps) });
                frontier.clear();
                break;
            }
            // The last of the way is told by the budget, too; only the state itself is compared.
            if seen.visit(cluster.print(), left) {
                pools.share(&mut cluster);
                let place = u32::try_from(ways.len()).map_err(|_| "too many states to number")?;
                ways.push((point.place, choice));
                frontier.push_back(Point { cluster, left, place, depth: point.depth + 1 });
            }
        }
    }
    report.took = began.elapsed();
    (report.distinct, report.frontier) = (seen.first.len(), frontier.len());
    Ok(report)
}

/// Where the exploration begins, and what is broken by then.
fn start(settings: &Settings, memo: &mut Memo, traced: bool) -> (Cluster, Option<Violation>) {
    let mut cluster = Cluster::new(Arc::new(settings.setup()), memo);
    cluster.trace = traced.then(Vec::new);
    let mut broken = None;
    if settings.start == Start::Formed {
        broken = caught(|| form(&mut cluster, memo))
            .unwrap_or_else(|what| Some(Violation { invariant: "panic", what, at: cluster.at }));
    }
    cluster.actor = None;
    (cluster, broken)
}

/// Lets the deployment form without any interference, creates a collection, and waits until all is calm.
fn form(cluster: &mut Cluster, memo: &mut Memo) -> Option<Violation> {
    const STEPS_MAX: usize = 20_000;
    let lease = Duration::from_millis(cluster.setup().scenario.lease_ms);
    let limits = Limits { until: At(u64::MAX), quantum: Duration::ZERO };
    let mut calm_at = None;
    for _ in 0..STEPS_MAX {
        if cluster.violation.is_some() {
            return cluster.violation.take();
        }
        if cluster.ready.is_empty()
            && let Some(leader) = cluster.serving()
            && cluster.is_in_step()
        {
            match calm_at {
                None => {
                    cluster.ask(memo, leader, |_| Action::Create(0));
                    calm_at = Some(cluster.at.plus(lease * 4));
                }
                Some(at) if cluster.at >= at => return None,
                Some(_) => {}
            }
        }
        choice::take(cluster, memo, &mut Left::default(), &limits, Choice::Next);
    }
    let what = format!("the deployment has not formed within {STEPS_MAX} steps");
    Some(Violation { invariant: "I15", what, at: cluster.at })
}

fn way_to(ways: &[(u32, Choice)], mut place: u32, last: Choice) -> Vec<Choice> {
    let mut choices = vec![last];
    while place != 0 {
        let (before, choice) = ways[place as usize];
        choices.push(choice);
        place = before;
    }
    choices.reverse();
    choices
}

/// Goes the way once more and writes down what happens.
fn replay(settings: &Settings, steps: &[Choice]) -> Vec<String> {
    let mut memo = Memo::default();
    let (mut cluster, _) = start(settings, &mut memo, false);
    let limits = settings.limits(&cluster);
    let mut left = settings.bounds;
    cluster.trace = Some(Vec::new());
    (0..cluster.machines.len()).for_each(|node| cluster.describe(node));
    for choice in steps {
        // A panic ends the way, and is told with the violation.
        if caught(|| choice::take(&mut cluster, &mut memo, &mut left, &limits, *choice)).is_err() {
            break;
        }
    }
    (0..cluster.machines.len()).for_each(|node| cluster.describe(node));
    cluster.trace.take().unwrap_or_default()
}

/// Memory in use, where the system tells it.
fn resident_mb() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.as_deref().and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    resident.map_or(0, |pages| pages / 256)
}
