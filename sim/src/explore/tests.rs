//! A small space is exhausted with nothing broken; and what must be found is found, by a shortest history.

use super::choice::{Choice, Kind, Left, Limits, choices, take};
use super::cluster::Cluster;
use super::machine::Memo;
use super::*;
use crate::clock::At;
use std::collections::BTreeSet;
use std::sync::Arc;

fn settings(bounds: &[(Kind, u8)]) -> Settings {
    let mut left = Left::default();
    bounds.iter().for_each(|(kind, count)| left.set(*kind, *count));
    Settings { bounds: left, time_max: Duration::from_secs(600), ..Settings::default() }
}

fn look(settings: &Settings) -> Report {
    explore(settings, |_| ()).unwrap()
}

#[test]
fn a_small_space_is_exhausted_and_nothing_is_broken() {
    let crash = [(Kind::Faults, 1), (Kind::Crashes, 1), (Kind::Notices, 1), (Kind::Writes, 1)];
    let small = Settings { span: Duration::from_millis(30), ..settings(&crash) };
    let report = look(&small);
    assert_eq!(report.ended, Ended::Exhausted, "{report}\n{:?}", report.found);
    assert!(report.complete > 100 && report.distinct > 5_000, "{report}");
    let again = look(&small);
    let figures = |r: &Report| (r.visited, r.distinct, r.transitions, r.depth, r.complete);
    assert_eq!(figures(&report), figures(&again), "the same space, the same states");
}

#[test]
fn from_empty_disks_too() {
    for agents in [1, 3] {
        let delay = [(Kind::Faults, 1), (Kind::Losses, 1)];
        let report =
            look(&Settings { agents, start: Start::Boot, span: Duration::from_millis(40), ..settings(&delay) });
        assert_eq!(report.ended, Ended::Exhausted, "{report}\n{:?}", report.found);
        assert!(report.complete > 10, "{report}");
    }
}

/// Whether a history leads to a state, and how many steps it takes.
fn steps_to(settings: Settings, forbidden: fn(&Cluster) -> Option<Violation>) -> Option<usize> {
    let report = look(&Settings { forbidden, ..settings });
    let Some(found) = report.found else {
        assert_eq!(report.ended, Ended::Exhausted, "{report}");
        return None;
    };
    assert_eq!((report.ended, found.violation.invariant), (Ended::Violation, "test"), "{}", found.violation);
    assert!(!found.trace.is_empty());
    Some(found.steps)
}

fn forbid(what: &str) -> Option<Violation> {
    Some(Violation { invariant: "test", what: what.into(), at: At(0) })
}

#[test]
fn a_failover_is_reached_only_by_a_fault() {
    let failover: fn(&Cluster) -> Option<Violation> =
        |cluster| cluster.serving().filter(|node| *node == 2).and_then(|_| forbid("the other server serves"));
    assert_eq!(steps_to(settings(&[(Kind::Writes, 1)]), failover), None);
    let crash = settings(&[(Kind::Faults, 1), (Kind::Crashes, 1)]);
    let slow = steps_to(crash.clone(), failover).expect("the lease runs out");
    let mut told = crash;
    told.bounds.set(Kind::Notices, 1);
    let fast = steps_to(told, failover).expect("the starter tells");
    assert!(fast < slow, "a notice shortens it: {fast} and {slow}");
}

#[test]
fn a_rollback_is_reached_by_a_write_that_only_the_old_leader_has() {
    let rolled: fn(&Cluster) -> Option<Violation> =
        |cluster| cluster.has_rolled_back().then(|| forbid("rolled back"))?;
    let bounds = [(Kind::Faults, 2), (Kind::Crashes, 1), (Kind::Losses, 1), (Kind::Notices, 1), (Kind::Writes, 1)];
    let soon = |bounds| Settings { span: Duration::from_millis(20), ..settings(bounds) };
    assert!(steps_to(soon(&bounds), rolled).is_some());
    let nobody_dies = [(Kind::Faults, 1), (Kind::Losses, 1), (Kind::Writes, 1)];
    assert_eq!(steps_to(soon(&nobody_dies), rolled), None);
}

/// Whatever is left out of the fingerprint would make two different states look the same.
#[test]
fn each_choice_makes_another_state() {
    let bounds = Kind::ALL.map(|kind| (kind, 5));
    let settings = settings(&bounds);
    let mut memo = Memo::default();
    let limits = Limits { until: At::from_ms(10_000), quantum: Duration::ZERO };
    let mut cluster = Cluster::new(Arc::new(settings.setup()), &mut memo);
    let (mut prints, mut states) = (BTreeSet::new(), 0);
    for _ in 0..300 {
        let left = settings.bounds;
        let mut here = BTreeSet::new();
        for choice in choices(&cluster, &left, &limits) {
            let (mut next, mut left) = (cluster.clone(), left);
            take(&mut next, &mut memo, &mut left, &limits, choice);
            here.insert(next.print());
            states += 1;
        }
        assert!(!here.contains(&cluster.print()), "a step changes something");
        prints.extend(here);
        take(&mut cluster, &mut memo, &mut Left::default(), &limits, Choice::Next);
    }
    assert!(states > 1500 && prints.len() * 10 > states * 9, "{} different of {states}", prints.len());
}

#[test]
fn a_panic_is_a_finding() {
    let panics: fn(&Cluster) -> Option<Violation> = |cluster| {
        assert!(cluster.machines.iter().all(|machine| machine.process.is_some()), "somebody is down");
        None
    };
    let report = look(&Settings { forbidden: panics, ..settings(&[(Kind::Faults, 1), (Kind::Crashes, 1)]) });
    let found = report.found.expect("a crash is found");
    assert_eq!((found.violation.invariant, found.steps), ("panic", 1));
    assert!(found.violation.what.contains("somebody is down"), "{}", found.violation);
}

#[test]
fn a_deployment_that_does_not_form_is_a_finding() {
    let report = look(&Settings { servers: 0, ..settings(&[]) });
    let found = report.found.expect("nobody can lead");
    assert_eq!((found.violation.invariant, found.steps), ("I15", 0));
    assert!(!found.trace.is_empty());
}
