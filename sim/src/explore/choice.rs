//! What may happen next: the default, and everything that may interfere, within bounds.
//!
//! The default is a deployment in which nothing takes time but waiting: messages arrive at once and in the order sent,
//! disks are done at once, timers fire when they are due, and time passes only when nothing else is to be done. Every
//! [`Kind`] of interference has its bound, and so has their sum. What is explored is each history that takes any of
//! them at any place.
//!
//! Left out, because another choice leads to the same futures:
//! - A process is killed or paused only right after its own step (or at the very start): between two of its steps
//!   nothing depends on when. To be killed later than that, yet before its next step, is the same.
//! - It is started again, and goes on after a pause, only before something arrives for it, or when all is quiet.
//!
//! Bounds that are no such reductions: a client's request comes right after a step of its server, starters and
//! operators speak when all is quiet (their words may be held up), and what a paused node receives waits for it in
//! order.

use super::cluster::Cluster;
use super::machine::{Item, Memo};
use crate::action::{Action, Slot};
use crate::clock::At;
use std::time::Duration;

/// Kinds of interference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Of all that are faults.
    Faults,
    Losses,
    Repeats,
    /// A message, or a disk, that takes its time: everything else may overtake it.
    Delays,
    Crashes,
    Pauses,
    Notices,
    Writes,
    Handovers,
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::Faults,
        Kind::Losses,
        Kind::Repeats,
        Kind::Delays,
        Kind::Crashes,
        Kind::Pauses,
        Kind::Notices,
        Kind::Writes,
        Kind::Handovers,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Faults => "faults",
            Kind::Losses => "losses",
            Kind::Repeats => "repeats",
            Kind::Delays => "delays",
            Kind::Crashes => "crashes",
            Kind::Pauses => "pauses",
            Kind::Notices => "notices",
            Kind::Writes => "writes",
            Kind::Handovers => "handovers",
        }
    }

    fn is_fault(self) -> bool {
        matches!(self, Kind::Losses | Kind::Repeats | Kind::Delays | Kind::Crashes | Kind::Pauses)
    }
}

/// How often each kind may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left([u8; Kind::ALL.len()]);

impl Left {
    pub fn of(&self, kind: Kind) -> u8 {
        let total = if kind.is_fault() { self.0[Kind::Faults as usize] } else { u8::MAX };
        self.0[kind as usize].min(total)
    }

    pub fn set(&mut self, kind: Kind, count: u8) {
        self.0[kind as usize] = count;
    }

    fn spend(&mut self, kind: Kind) {
        self.0[kind as usize] -= 1;
        if kind.is_fault() {
            self.0[Kind::Faults as usize] -= 1;
        }
    }

    /// Whatever can happen with `other` left can happen with this left.
    pub fn covers(&self, other: &Left) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine >= theirs)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// What would happen anyway: the first thing that is ready, or the first timer, or time passes.
    Next,
    /// Another timer that is due at the same instant.
    Timer(u8),
    Lose,
    Repeat,
    Delay,
    /// Something that was set aside comes now.
    Release(u8),
    Crash {
        node: u8,
        keep: u8,
    },
    Pause(u8),
    Restart(u8),
    GoOn(u8),
    Notice(u8),
    Write(u8),
    Handover,
}

impl Choice {
    fn kind(self) -> Option<Kind> {
        match self {
            Choice::Lose => Some(Kind::Losses),
            Choice::Repeat => Some(Kind::Repeats),
            Choice::Delay => Some(Kind::Delays),
            Choice::Crash { .. } => Some(Kind::Crashes),
            Choice::Pause(_) => Some(Kind::Pauses),
            Choice::Notice(_) => Some(Kind::Notices),
            Choice::Write(_) => Some(Kind::Writes),
            Choice::Handover => Some(Kind::Handovers),
            Choice::Next | Choice::Timer(_) | Choice::Release(_) | Choice::Restart(_) | Choice::GoOn(_) => None,
        }
    }
}

/// Until when time passes, and how finely while something may come at any moment.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub until: At,
    pub quantum: Duration,
}

/// What happens when all is quiet.
enum Quiet {
    /// These nodes' timers are due, at this instant.
    Timers(At, Vec<usize>),
    Passes(At),
    /// Time is up.
    Over,
}

fn head(cluster: &Cluster) -> Option<usize> {
    cluster.ready.iter().position(|item| !cluster.machines[item.target()].paused)
}

fn quiet(cluster: &Cluster, limits: &Limits) -> Quiet {
    let wakes: Vec<Option<At>> = (0..cluster.machines.len()).map(|node| cluster.wake(node)).collect();
    let first = wakes.iter().flatten().copied().min();
    let idle = |node: usize| !cluster.runs(node) || cluster.machines[node].paused;
    let outside = !cluster.held.is_empty() || (0..cluster.machines.len()).any(idle);
    let quantum = limits.quantum.as_nanos() as u64;
    let step = (outside && quantum > 0).then(|| At((cluster.at.0 / quantum + 1) * quantum));
    match (first, step) {
        (first, Some(step)) if first.is_none_or(|first| step < first) && step <= limits.until => Quiet::Passes(step),
        (Some(first), _) if first <= limits.until => {
            let due = (0..wakes.len()).filter(|node| wakes[*node] == Some(first)).collect();
            Quiet::Timers(first, due)
        }
        _ => Quiet::Over,
    }
}

/// Everything that may happen now; the default comes first, if there is one.
pub fn choices(cluster: &Cluster, left: &Left, limits: &Limits) -> Vec<Choice> {
    let mut choices = Vec::new();
    let mut may = |choice: Choice| {
        if choice.kind().is_none_or(|kind| left.of(kind) > 0) {
            choices.push(choice);
        }
    };
    let head = head(cluster).map(|place| &cluster.ready[place]);
    match head {
        Some(item) => {
            may(Choice::Next);
            let network = matches!(**item, Item::Message { .. } | Item::Http { .. });
            if network && cluster.runs(item.target()) {
                may(Choice::Lose);
                may(Choice::Repeat);
            }
            may(Choice::Delay);
        }
        None => match quiet(cluster, limits) {
            Quiet::Timers(_, due) => {
                may(Choice::Next);
                due[1..].iter().for_each(|node| may(Choice::Timer(*node as u8)));
            }
            Quiet::Passes(_) => may(Choice::Next),
            Quiet::Over => {}
        },
    }
    for (place, item) in cluster.held.iter().enumerate() {
        let again = place > 0 && cluster.held[place - 1].print() == item.print();
        let target = item.target();
        if !again && cluster.runs(target) && !cluster.machines[target].paused {
            may(Choice::Release(place as u8));
        }
    }
    let agents = cluster.setup().agents;
    for (node, machine) in cluster.machines.iter().enumerate() {
        let number = node as u8;
        if let Some(process) = &machine.process
            && !machine.paused
            && cluster.actor.is_none_or(|actor| actor == node)
        {
            for keep in 0..=process.queue.len() {
                may(Choice::Crash { node: number, keep: keep as u8 });
            }
            may(Choice::Pause(number));
            if node >= agents {
                may(Choice::Write(number));
            }
        }
        let now_or_never = head.is_none_or(|item| item.target() == node);
        if !cluster.runs(node) && now_or_never {
            may(Choice::Restart(number));
        }
        if machine.paused && head.is_none() {
            may(Choice::GoOn(number));
        }
        if machine.unreported.is_some() && head.is_none() {
            may(Choice::Notice(number));
        }
    }
    if head.is_none() {
        may(Choice::Handover);
    }
    choices
}

/// Carries it out.
pub fn take(cluster: &mut Cluster, memo: &mut Memo, left: &mut Left, limits: &Limits, choice: Choice) {
    if let Some(kind) = choice.kind() {
        left.spend(kind);
    }
    match choice {
        Choice::Next => match head(cluster).and_then(|place| cluster.ready.remove(place)) {
            Some(item) => cluster.arrive(memo, item),
            None => match quiet(cluster, limits) {
                Quiet::Timers(at, due) => {
                    cluster.at = at;
                    cluster.timer(memo, due[0]);
                }
                Quiet::Passes(at) => cluster.at = at,
                Quiet::Over => {}
            },
        },
        Choice::Timer(node) => {
            if let Quiet::Timers(at, _) = quiet(cluster, limits) {
                cluster.at = at;
                cluster.timer(memo, usize::from(node));
            }
        }
        Choice::Lose | Choice::Repeat | Choice::Delay => {
            let Some(item) = head(cluster).and_then(|place| cluster.ready.remove(place)) else { return };
            cluster.tell(item.target(), format_args!("-- {}: {}", word(choice), *item));
            if choice != Choice::Lose {
                let place = cluster.held.partition_point(|held| held.print() < item.print());
                cluster.held.insert(place, item.clone());
            }
            if choice == Choice::Repeat {
                cluster.arrive(memo, item);
            }
        }
        Choice::Release(place) => {
            let item = cluster.held.remove(usize::from(place));
            cluster.tell(item.target(), format_args!("-- what was held up comes now: {}", *item));
            cluster.arrive(memo, item);
        }
        Choice::Crash { node, keep } => cluster.crash(memo, usize::from(node), usize::from(keep)),
        Choice::Pause(node) => cluster.pause(usize::from(node), true),
        Choice::Restart(node) => cluster.boot(memo, usize::from(node)),
        Choice::GoOn(node) => cluster.pause(usize::from(node), false),
        Choice::Notice(node) => cluster.report_death(usize::from(node)),
        // A document that nobody else writes.
        Choice::Write(node) => cluster
            .ask(memo, usize::from(node), |operation| Action::Insert(Slot { collection: 0, key: operation as u8 })),
        Choice::Handover => {
            cluster.say("", "-- an operator asks for a hand-over");
            cluster.ask_handover();
        }
    }
}

fn word(choice: Choice) -> &'static str {
    match choice {
        Choice::Lose => "is lost",
        Choice::Repeat => "comes now and once more",
        _ => "is held up",
    }
}
