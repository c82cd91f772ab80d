//! The fault atlas: what each kind of fault is, what it may break, and what is refused because no design could survive
//! it.
//!
//! A fault breaks nothing unless its row says so. What a row names is excused only from the moment that the fault has
//! struck, only there, and the verdict tells of it.

use crate::faults::{Fault, Kind, Target, Whom};
use crate::scenario::Scenario;
use std::collections::BTreeSet;
use tanist_engine::types::NodeKind;

pub struct Row {
    /// As in the text form.
    pub kind: &'static str,
    pub what: &'static str,
    pub may_break: &'static str,
    pub refused: &'static str,
}

const fn row(kind: &'static str, what: &'static str, may_break: &'static str, refused: &'static str) -> Row {
    Row { kind, what, may_break, refused }
}

const NOTHING: &str = "nothing";
const NEVER: &str = "never";

#[rustfmt::skip]
pub const ATLAS: &[Row] = &[
    row("kill", "a process dies; its starter may report it, late, twice, or after its successor has begun", NOTHING, NEVER),
    row("crash-loop", "a process dies again and again shortly after its start", NOTHING, NEVER),
    row("stop", "a process is asked to leave", NOTHING, NEVER),
    row("rolling", "one process after the other is asked to leave and started again", NOTHING, NEVER),
    row("pause", "a process stands still while its clocks go on", NOTHING, NEVER),
    row("suspend", "a machine stands still with its steady clock; its wall clock is right afterwards", NOTHING,
        "on servers, if too short to be told from drift, or if a step of the wall clock hides it"),
    row("cut", "links carry nothing, one way or both", NOTHING, NEVER),
    row("flap", "links carry nothing every now and then", NOTHING, NEVER),
    row("ring", "each node reaches only its two neighbours", NOTHING, "among three or fewer: all are neighbours"),
    row("bandwidth", "links carry only so much, one way or both", NOTHING, NEVER),
    row("storm", "links lose, repeat and delay, one way or both", NOTHING, NEVER),
    row("busy", "all that a node does takes longer", NOTHING, NEVER),
    row("slow", "disk operations take longer", NOTHING, NEVER),
    row("drift", "a steady clock runs fast or slow",
        "I5, on a server that runs slow or an agent that runs fast by more than half of ε, and with it what a read demands",
        "if the clock nearly stands"),
    row("jump", "a steady clock jumps forward",
        "I5, on an agent: time that did not pass has passed for the lease; with it what a read demands", NEVER),
    row("wall", "a wall clock is stepped", NOTHING, "if it hides a suspension"),
    row("sync-fails", "syncs fail; the process ends each time, and is started again", NOTHING, NEVER),
    row("full", "a disk takes no more writes for a while", NOTHING, NEVER),
    row("rot", "rows are damaged; in the end the disk is replaced by an empty one",
        "I12, for what only this disk held", "on agents and in tables without checksums; on all servers"),
    row("wipe", "a process starts again on an empty disk: somebody new at the same address",
        "I12, for what only this disk held", "on all servers, or on a majority of the agents over the whole run"),
    row("restore", "a directory is put back as it was some time ago; an operator lets the server in again",
        "I12, for what only this disk held", "where it was empty and nobody else keeps data; on agents: one that forgets its votes and entries breaks Raft"),
    row("expire", "all leases that etcd has given end before their time", NOTHING, "on anything but etcd"),
    row("handover", "an operator asks for another leader", NOTHING, "on an agent"),
    row("reseat", "an operator takes an agent's seat in the agency away, and gives it back", NOTHING,
        "on a server, on all agents at once, on the only agent, and beside an etcd"),
    row("timing", "an operator has leases of another length granted from then on", NOTHING,
        "longer than at first, or shorter than the agency allows"),
];

/// The atlas as `cargo sim atlas` prints it.
pub fn table() -> String {
    let told = |row: &Row| {
        let Row { kind, what, may_break, refused } = row;
        format!("{kind:<11} {what}\n{:<11} may break: {may_break}; refused: {refused}\n", "")
    };
    ATLAS.iter().map(told).collect()
}

/// What a fault excuses once it has struck a node of this kind: the invariant, and why.
pub fn excuse(kind: &Kind, s: &Scenario, node: NodeKind) -> Option<(&'static str, String)> {
    let limit_ppm = s.drift_most_ppm() as i64;
    match (kind, node) {
        (Kind::Drift { ppm }, NodeKind::Server) if *ppm < -limit_ppm => {
            Some(("I5", format!("a server's clock runs slow by {} ppm, more than half of ε", -ppm)))
        }
        (Kind::Drift { ppm }, NodeKind::Agent) if *ppm > limit_ppm => {
            Some(("I5", format!("an agent's clock runs fast by {ppm} ppm, more than half of ε")))
        }
        (Kind::Jump { ms }, NodeKind::Agent) => Some(("I5", format!("an agent's clock jumped by {ms} ms"))),
        _ => None,
    }
}

impl Target {
    fn may_be(self, kind: NodeKind) -> bool {
        match self {
            Target::Leaders | Target::All => true,
            Target::Leader | Target::Follower | Target::Servers | Target::Server(_) => kind == NodeKind::Server,
            Target::Etcd => false,
            Target::AgencyLeader | Target::Agents | Target::Agent(_) => kind == NodeKind::Agent,
        }
    }
}

/// Refuses what does not exist, and what no design could survive, with the reason.
pub fn check(s: &Scenario) -> Result<(), String> {
    for fault in &s.faults {
        alone(fault, s).map_err(|what| format!("fault at {} ms: {what}", fault.at_ms))?;
    }
    wiped_agents(s)
}

/// An agent with an empty disk is nobody whom the others know (R11), so it is lost for good.
fn wiped_agents(s: &Scenario) -> Result<(), String> {
    let (mut named, mut some) = (BTreeSet::new(), 0);
    for fault in s.faults.iter().filter(|f| f.kind == Kind::Wipe) {
        match fault.target {
            Target::Agent(agent) => drop(named.insert(agent)),
            Target::Agents => named.extend(0..s.agents as usize),
            Target::AgencyLeader | Target::Leaders => some += 1,
            _ => {}
        }
        let wiped = named.len() as u64 + some;
        if wiped > (s.agents - 1) / 2 {
            let at_ms = fault.at_ms;
            return Err(format!("fault at {at_ms} ms: {wiped} of {} agents would have lost their disks", s.agents));
        }
    }
    Ok(())
}

fn alone(fault: &Fault, s: &Scenario) -> Result<(), String> {
    match fault.target {
        Target::Agent(n) if n as u64 >= s.agents => return Err(format!("there is no a{n}")),
        Target::Server(n) if n as u64 >= s.servers => return Err(format!("there is no s{n}")),
        Target::Etcd if s.etcd == 0 => return Err("there is no etcd".into()),
        _ if fault.at_ms > s.faults_ms => return Err(format!("later than faults_ms {}", s.faults_ms)),
        _ => {}
    }
    let of_etcd =
        matches!(fault.kind, Kind::Cut { .. } | Kind::Flap { .. } | Kind::Storm { .. } | Kind::Pause | Kind::Expire);
    match fault.kind {
        _ if fault.target == Target::Etcd && !of_etcd => Err("nothing that happens to etcd as a whole".into()),
        Kind::Expire if fault.target != Target::Etcd => Err("only etcd gives leases of that kind".into()),
        Kind::Cut { whom: Whom::Etcd, .. } | Kind::Flap { whom: Whom::Etcd, .. } if s.etcd == 0 => {
            Err("there is no etcd".into())
        }
        Kind::Handover if fault.target.may_be(NodeKind::Agent) => {
            Err("only a server can be handed the leadership".into())
        }
        Kind::Reseat if fault.target.may_be(NodeKind::Server) || fault.target == Target::Agents || s.agents == 1 => {
            Err("a seat is taken from one agent of several".into())
        }
        Kind::Reseat if s.etcd > 0 => Err("with an etcd no agent has a seat".into()),
        Kind::Timing { lease_ms } if !(100..=s.lease_ms).contains(&lease_ms) => {
            Err(format!("a lease of {lease_ms} ms is shorter than 100 or longer than at first"))
        }
        Kind::Ring if around(fault.target, s) < 4 => Err("among three nodes or fewer all are neighbours".into()),
        Kind::Drift { ppm } if ppm.unsigned_abs() >= 900_000 => Err(format!("{ppm} ppm: a clock that nearly stands")),
        Kind::Rot { .. } | Kind::Wipe if matches!(fault.target, Target::Servers | Target::All) => {
            Err("no server would keep a copy of the data".into())
        }
        Kind::Rot { .. } if fault.target.may_be(NodeKind::Agent) => {
            Err("an agent's rows carry no checksum: nobody could tell that they rot".into())
        }
        Kind::Restore if fault.target.may_be(NodeKind::Agent) => {
            Err("an agent that forgets its votes and entries breaks Raft".into())
        }
        Kind::Suspend if fault.target.may_be(NodeKind::Server) => suspended(fault, s),
        _ => Ok(()),
    }
}

/// How many nodes a fault meets at once.
fn around(target: Target, s: &Scenario) -> u64 {
    match target {
        Target::Agents => s.agents,
        Target::Servers => s.servers,
        Target::All => s.agents + s.servers,
        Target::Leaders => 2,
        _ => 1,
    }
}

/// A server notices that its steady clock stood still only by the wall clock, and only beyond what drift may be.
fn suspended(fault: &Fault, s: &Scenario) -> Result<(), String> {
    let slack_ms = s.slack_ms();
    if fault.for_ms <= slack_ms {
        return Err(format!(
            "a suspension of {} ms can't be told from drift, which may be {slack_ms} ms",
            fault.for_ms
        ));
    }
    let near = fault.at_ms.saturating_sub(2 * s.lease_ms)..=fault.at_ms + fault.for_ms + 2 * s.lease_ms;
    let hides = |f: &&Fault| matches!(f.kind, Kind::Wall { .. }) && near.contains(&f.at_ms);
    match s.faults.iter().find(hides) {
        Some(wall) => Err(format!("the step of a wall clock at {} ms may hide this suspension", wall.at_ms)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Scenario::parse(text).expect_err(text)
    }

    #[test]
    fn every_kind_that_is_drawn_has_a_row_and_every_row_is_drawn() {
        let mut drawn: Vec<&str> = Vec::new();
        for seed in 0..600 {
            drawn.extend(Scenario::draw(seed).faults.iter().map(|f| f.kind.name()));
        }
        drawn.sort_unstable();
        drawn.dedup();
        let mut rows: Vec<&str> = ATLAS.iter().map(|row| row.kind).collect();
        rows.sort_unstable();
        assert_eq!(drawn, rows);
    }

    #[test]
    fn what_nobody_could_survive_is_refused_with_the_reason() {
        assert_eq!(refusal("fault 10 kill s7 100"), "fault at 10 ms: there is no s7");
        assert_eq!(refusal("faults_ms 5\nfault 10 kill s0 100"), "fault at 10 ms: later than faults_ms 5");
        assert!(refusal("fault 10 handover a0 9").ends_with("only a server can be handed the leadership"));
        assert!(refusal("fault 10 drift s0 9 ppm=-950000").ends_with("a clock that nearly stands"));
        assert!(refusal("fault 10 suspend s0 200").ends_with("can't be told from drift, which may be 200 ms"));
        let hidden = refusal("fault 9 wall s1 5 ms=-900\nfault 1000 suspend leader 900");
        assert_eq!(hidden, "fault at 1000 ms: the step of a wall clock at 9 ms may hide this suspension");
        Scenario::parse("fault 9 wall s1 5 ms=-900\nfault 5000 suspend leader 900").unwrap();
        Scenario::parse("fault 10 suspend a0 200").unwrap();
        assert!(refusal("agents 1\nfault 10 reseat a0 9").ends_with("one agent of several"));
        assert!(refusal("fault 10 reseat agents 9").ends_with("one agent of several"));
        assert!(refusal("etcd 1\nfault 10 reseat a0 9").ends_with("no agent has a seat"));
        assert!(refusal("fault 10 wipe servers 9").ends_with("no server would keep a copy of the data"));
        assert!(refusal("fault 10 rot a0 9 table=log rows=1").contains("an agent's rows carry no checksum"));
        assert!(refusal("fault 10 rot s0 9 table=keys rows=1").ends_with("nobody could tell that they rot"));
        assert!(refusal("fault 10 restore all 9").ends_with("breaks Raft"));
        let majority = refusal("agents 3\nfault 10 wipe a0 9\nfault 20 wipe agency-leader 9");
        assert_eq!(majority, "fault at 20 ms: 2 of 3 agents would have lost their disks");
        Scenario::parse("agents 3\nfault 10 wipe a0 9\nfault 20 wipe a0 9\nfault 30 wipe s1 9").unwrap();
    }

    #[test]
    fn only_clocks_that_the_lease_rests_on_are_excused() {
        let s = Scenario { drift_permille: 200, ..Scenario::default() };
        let of = |kind: Kind, node| excuse(&kind, &s, node).map(|(invariant, _)| invariant);
        assert_eq!(of(Kind::Drift { ppm: -98_001 }, NodeKind::Server), Some("I5"));
        assert_eq!(of(Kind::Drift { ppm: -98_000 }, NodeKind::Server), None);
        assert_eq!(of(Kind::Drift { ppm: 300_000 }, NodeKind::Server), None, "its lease is only shorter");
        assert_eq!(of(Kind::Drift { ppm: -300_000 }, NodeKind::Agent), None, "it only waits longer");
        assert_eq!(of(Kind::Drift { ppm: 300_000 }, NodeKind::Agent), Some("I5"));
        assert_eq!(of(Kind::Jump { ms: 5 }, NodeKind::Agent), Some("I5"));
        assert_eq!(of(Kind::Jump { ms: 5 }, NodeKind::Server), None);
    }
}
