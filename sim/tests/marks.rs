//! The seeds that `cargo test` runs anyway reach the paths that must not go untested, and every kind of fault meets
//! nodes that it does something to.
//!
//! A short list, and fixed seeds: each of these is reached by many of them, so that a change of the engine that shifts
//! all histories does not fail this test, but one that makes a path unreachable does. `cargo sim sweep` tells of all
//! marks.

use std::collections::BTreeMap;
use std::path::Path;
use tanist_engine::mark::Mark::{self, *};
use tanist_sim::atlas::ATLAS;
use tanist_sim::bug_base;
use tanist_sim::run::{Driver, run};
use tanist_sim::scenario::Scenario;
use tanist_sim::world::Strikes;

const MUST_BE_REACHED: &[Mark] = &[
    PreVoteRefused,
    VoteRefused,
    QuorumLost,
    LeadTransferred,
    AgencyLeaderDead,
    AppendRefused,
    TailTruncated,
    AgencySnapshotSent,
    AgencySnapshotInstalled,
    AgencyLogCompacted,
    GrantReleased,
    NoticeAccepted,
    NoticeOfOther,
    FreezeRepeated,
    FreezeLate,
    ReleaseAccepted,
    HandoverWritten,
    Rule30,
    Rule50,
    Rule60,
    Rule80,
    Rule130,
    Rule140,
    Health210,
    Health240,
    Health250,
    Role200,
    Role210,
    Role230,
    Role310,
    Role400,
    Role900,
    LeaseClocksApart,
    LeaseNotRenewed,
    LeaseReleased,
    LeaseRegained,
    ClockJumped,
    HandoverDone,
    Refused1495,
    Refused1496,
    DirtyRead,
    OutcomeUnknown,
    AppendAhead,
    RollbackBegun,
    RollbackDone,
    CopyBegun,
    CopyDone,
    SentAgain,
    ComparedDiverged,
    LogPruned,
    DocumentsExpired,
];

#[test]
fn what_must_be_reached_is_reached() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let files = bug_base::files(&folder).expect("sim/seeds can be read");
    let base = files.iter().map(|(_, text)| Scenario::parse(text).expect("a scenario"));
    let mut times = [0u64; Mark::ALL.len()];
    let mut strikes: BTreeMap<&str, Strikes> = BTreeMap::new();
    for scenario in base.chain((0..200).map(Scenario::draw)) {
        let outcome = run(&scenario, Driver::Loop, None);
        times.iter_mut().zip(outcome.marks).for_each(|(times, more)| *times += u64::from(more));
        outcome.figures.strikes.into_iter().for_each(|(kind, more)| *strikes.entry(kind).or_default() += more);
    }
    for row in ATLAS {
        let Strikes { struck, spared } = strikes.get(row.kind).copied().unwrap_or_default();
        assert!(struck >= spared + 10, "{}: {spared} of {struck} nodes were spared", row.kind);
    }
    let never: Vec<&Mark> = MUST_BE_REACHED.iter().filter(|mark| times[**mark as usize] == 0).collect();
    assert!(never.is_empty(), "no seed reached {never:?}");
}
