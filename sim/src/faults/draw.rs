//! Drawing a schedule: which kinds of fault exist in a run at all, then when each of them strikes.
//!
//! Each kind draws from a generator of its own. Rows are added at the end of the table, so that those above keep what
//! they draw for a seed.

use super::{Fault, Kind, Rotten, Target, Way, Whom};
use crate::atlas;
use crate::scenario::Scenario;
use tanist_engine::types::Rng;

/// More than so many in one run are noise.
const FAULTS_MAX: usize = 80;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Anyone,
    Servers,
    /// Who should lead next: a server that does not lead, mostly.
    Successor,
    Agency,
    /// One agent.
    Agent,
    /// Many at once: what is done to one alone would not show.
    Groups,
}

struct Row {
    whose: Whose,
    /// It exists in one of so many runs.
    rarity: u64,
    /// From the generator, the scenario, and how long it will last.
    kind: fn(&mut Rng, &Scenario, u64) -> Kind,
}

const fn row(whose: Whose, rarity: u64, kind: fn(&mut Rng, &Scenario, u64) -> Kind) -> Row {
    Row { whose, rarity, kind }
}

fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.below(choices.len() as u64) as usize]
}

fn way(rng: &mut Rng) -> Way {
    pick(rng, &[Way::Both, Way::Both, Way::In, Way::Out])
}

fn whom(rng: &mut Rng) -> Whom {
    pick(rng, &[Whom::Everyone, Whom::Peers, Whom::Agents, Whom::Servers])
}

fn drift(rng: &mut Rng, most: u64) -> Kind {
    Kind::Drift { ppm: rng.below(2 * most + 1) as i64 - most as i64 }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row(Whose::Anyone, 2, |rng, _, for_ms| {
        let notices = pick(rng, &[0, 1, 1, 2]);
        let notice_ms = pick(rng, &[1, 20, 500, for_ms + 300]);
        Kind::Kill { notice_ms: if notices > 0 { notice_ms } else { 0 }, notices }
    }),
    row(Whose::Anyone, 3, |_, _, _| Kind::Stop),
    row(Whose::Anyone, 2, |_, _, _| Kind::Pause),
    row(Whose::Anyone, 2, |rng, _, _| Kind::Cut { way: way(rng), whom: whom(rng) }),
    row(Whose::Anyone, 3, |rng, _, _| Kind::Storm {
        loss_permille: rng.below(300),
        duplicate_permille: rng.below(300),
        delay_us: 1000 + rng.below(100_000),
        way: Way::Both,
        whom: Whom::Everyone,
    }),
    row(Whose::Anyone, 3, |rng, _, _| Kind::Slow { disk_ms: 5 + rng.below(400) }),
    row(Whose::Anyone, 4, |rng, s, _| drift(rng, s.drift_most_ppm())),
    row(Whose::Servers, 4, |rng, s, _| Kind::Jump { ms: 1 + rng.below(3 * s.lease_ms) }),
    row(Whose::Anyone, 4, |rng, _, _| Kind::Wall { ms: rng.below(60_000) as i64 - 30_000 }),
    row(Whose::Successor, 3, |_, _, _| Kind::Handover),
    row(Whose::Anyone, 4, |rng, _, for_ms| Kind::CrashLoop {
        up_ms: 1 + rng.below(for_ms / 2 + 2),
        down_ms: pick(rng, &[1, 50, 400]),
    }),
    row(Whose::Groups, 5, |rng, s, _| Kind::Rolling { every_ms: 1 + rng.below(2 * s.lease_ms) }),
    row(Whose::Anyone, 5, |_, _, _| Kind::Suspend),
    row(Whose::Anyone, 4, |rng, s, _| Kind::Flap {
        way: way(rng),
        whom: whom(rng),
        period_ms: 1 + rng.below(s.lease_ms),
    }),
    row(Whose::Groups, 6, |_, _, _| Kind::Ring),
    row(Whose::Anyone, 5, |rng, _, _| Kind::Bandwidth {
        bytes_per_s: pick(rng, &[2_000, 20_000, 200_000]),
        way: Way::Both,
        whom: Whom::Everyone,
    }),
    row(Whose::Anyone, 4, |rng, _, _| Kind::Busy { step_us: pick(rng, &[100, 1000, 10_000, 60_000]) }),
    // Beyond ε: the lease may fail, the epochs must not.
    row(Whose::Anyone, 24, |rng, _, _| drift(rng, 600_000)),
    row(Whose::Anyone, 40, |rng, s, _| Kind::Jump { ms: 1 + rng.below(3 * s.lease_ms) }),
    row(Whose::Anyone, 5, |rng, _, _| Kind::SyncFails { permille: pick(rng, &[20, 200, 1000]) }),
    row(Whose::Anyone, 5, |rng, _, _| Kind::Full { room_bytes: pick(rng, &[0, 1000, 20_000]) }),
    // A longer lease would take more time to heal than the run is given.
    row(Whose::Agency, 5, |rng, s, _| Kind::Timing { lease_ms: pick(rng, &[s.lease_ms / 3, s.lease_ms / 2, s.lease_ms]) }),
    row(Whose::Agent, 6, |_, _, _| Kind::Reseat),
    row(Whose::Servers, 6, |rng, _, _| Kind::Rot {
        table: pick(rng, &[Rotten::Documents, Rotten::Log]),
        rows: pick(rng, &[1, 1, 10]),
    }),
    row(Whose::Servers, 6, |_, _, _| Kind::Wipe),
    row(Whose::Servers, 6, |_, _, _| Kind::Restore),
    // Some links only, one way only.
    row(Whose::Anyone, 6, |rng, _, _| Kind::Storm {
        loss_permille: rng.below(600),
        duplicate_permille: rng.below(300),
        delay_us: 1000 + rng.below(300_000),
        way: way(rng),
        whom: whom(rng),
    }),
    row(Whose::Anyone, 8, |rng, _, _| Kind::Bandwidth {
        bytes_per_s: pick(rng, &[2_000, 20_000, 200_000]),
        way: way(rng),
        whom: whom(rng),
    }),
];

fn target(rng: &mut Rng, s: &Scenario, whose: Whose) -> Target {
    let server = Target::Server(rng.below(s.servers) as usize);
    let agent = Target::Agent(rng.below(s.agents) as usize);
    let one = if rng.below(s.servers + s.agents) < s.servers { server } else { agent };
    match whose {
        Whose::Anyone => match rng.below(16) {
            0..=5 => Target::Leader,
            6 => Target::Follower,
            7 => Target::Leaders,
            8 => Target::AgencyLeader,
            9 => Target::Servers,
            10 => Target::All,
            _ => one,
        },
        Whose::Servers => match rng.below(16) {
            0..=8 => Target::Leader,
            9 => Target::Follower,
            10 => Target::Servers,
            _ => server,
        },
        Whose::Successor => {
            if rng.chance(1, 4) {
                server
            } else {
                Target::Follower
            }
        }
        Whose::Agency => Target::AgencyLeader,
        Whose::Agent => pick(rng, &[Target::AgencyLeader, agent, agent]),
        Whose::Groups => pick(rng, &[Target::Servers, Target::Agents, Target::All]),
    }
}

pub fn draw(rng: &mut Rng, s: &Scenario) -> Vec<Fault> {
    let mean_ms = pick(rng, &[200, 500, 1000, 2000, 3000]);
    let first_ms = pick(rng, &[0, 1000, 1500, 1500]);
    // Some runs are without any fault: what fails there is easiest to read.
    if rng.chance(1, 20) {
        return Vec::new();
    }
    let mut subs: Vec<(&Row, Rng)> = (0..).zip(ROWS).map(|(i, row)| (row, rng.fork(i))).collect();
    subs.retain_mut(|(row, sub)| sub.chance(1, row.rarity));
    let (kinds, mut faults) = (subs.len() as u64, Vec::new());
    for (row, sub) in &mut subs {
        let mut at_ms = first_ms;
        loop {
            at_ms += 1 + sub.below(2 * mean_ms * kinds);
            if at_ms >= s.faults_ms {
                break;
            }
            let target = target(sub, s, row.whose);
            // Longer and shorter than the lease, both.
            let for_ms = pick(sub, &[s.lease_ms / 2, s.lease_ms * 3 / 2, s.lease_ms * 3, s.lease_ms * 6]);
            let for_ms = for_ms / 2 + sub.below(for_ms.max(1));
            faults.push(Fault { at_ms, kind: (row.kind)(sub, s, for_ms), target, for_ms });
        }
    }
    possible(faults, s)
}

/// Faults of an etcd that is there beside them: it can't be reached, from one agent or by anybody, one way or both; it
/// has no quorum; it is slow, and loses answers to what it has done; its leases end before their time.
pub fn draw_etcd(rng: &mut Rng, s: &mut Scenario) {
    let mean_ms = pick(rng, &[500, 1000, 2000, 4000]);
    let mut faults = std::mem::take(&mut s.faults);
    let mut at_ms = 0;
    loop {
        at_ms += 1 + rng.below(2 * mean_ms);
        if at_ms >= s.faults_ms {
            break;
        }
        let whom = Whom::Etcd;
        let (target, kind) = match rng.below(8) {
            0 => (Target::Etcd, Kind::Cut { way: way(rng), whom: Whom::Everyone }),
            1 => (Target::Agent(rng.below(s.agents) as usize), Kind::Cut { way: way(rng), whom }),
            2 => (Target::AgencyLeader, Kind::Cut { way: way(rng), whom }),
            3 => (Target::AgencyLeader, Kind::Flap { way: way(rng), whom, period_ms: 1 + rng.below(s.lease_ms) }),
            4 => (Target::Etcd, Kind::Pause),
            5 => (Target::Etcd, Kind::Expire),
            _ => {
                let (loss_permille, duplicate_permille) = (rng.below(400), rng.below(300));
                let most_us = pick(rng, &[20_000, 400_000]);
                let delay_us = 1000 + rng.below(most_us);
                let (way, whom) = (Way::Both, Whom::Everyone);
                (Target::Etcd, Kind::Storm { loss_permille, duplicate_permille, delay_us, way, whom })
            }
        };
        let for_ms = pick(rng, &[s.lease_ms / 4, s.lease_ms, s.lease_ms * 4]);
        let for_ms = for_ms / 2 + rng.below(for_ms.max(1));
        faults.push(Fault { at_ms, kind, target, for_ms });
    }
    s.faults = possible(faults, s);
}

/// In order of time, without what the atlas refuses, and not too many.
fn possible(mut faults: Vec<Fault>, s: &Scenario) -> Vec<Fault> {
    faults.sort_by_key(|fault| fault.at_ms);
    faults.truncate(FAULTS_MAX);
    // What the atlas refuses beside those that are there already does not happen.
    let mut scenario = Scenario { faults: Vec::new(), ..s.clone() };
    for fault in faults {
        scenario.faults.push(fault);
        if atlas::check(&scenario).is_err() {
            scenario.faults.pop();
        }
    }
    scenario.faults
}
