//! Shrinking: a scenario that fails is made as small as it can be while it fails in the same way.
//!
//! Delta debugging: cut something out (faults, nodes, clients, time, everything that is not calm), run, keep the cut if
//! the same check fails. A cut changes the history, and with it often the luck that the failure needs: what does not
//! fail any more is tried again with a few other sub-seeds. It never trades one failure for another: who decides is
//! [`Failure`], or whatever the caller gives.
//!
//! The same start gives the same result, unless the caller's patience ends it.

use crate::check::Violation;
use crate::faults::{Fault, Target};
use crate::scenario::Scenario;
use std::collections::BTreeSet;

/// In which way a run failed: the check and its sentence without what differs from run to run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    pub check: &'static str,
    pub shape: String,
}

impl Failure {
    /// Words with a number in them (ticks, names, durations) are left out, but for the place of a panic.
    pub fn of(violation: &Violation) -> Failure {
        let mut words: Vec<&str> = Vec::new();
        for word in violation.what.split_whitespace() {
            let counts = word.contains(|c: char| c.is_ascii_digit()) && !word.contains(".rs:");
            match (counts, words.last()) {
                (true, Some(&"#")) => {}
                (true, _) => words.push("#"),
                (false, _) => words.push(word),
            }
        }
        Failure { check: violation.invariant, shape: words.join(" ") }
    }
}

/// What a run says to the shrinker: when it failed in the way that is looked for.
pub type FailedAtMs = Option<u64>;

/// Something could be cut.
pub struct Step<'a> {
    pub what: &'a str,
    /// The smallest so far, and when it fails.
    pub best: &'a Scenario,
    pub at_ms: u64,
    pub runs: u64,
}

/// Shrinks `start`, which fails at `at_ms`. The result, and how many runs it took.
pub fn shrink(
    start: Scenario,
    at_ms: u64,
    fails: impl FnMut(&Scenario) -> FailedAtMs,
    progress: impl FnMut(Step),
) -> (Scenario, u64) {
    let mut shrinker = Shrinker { best: start, at_ms, runs: 0, fails, progress, tried: BTreeSet::new(), luck: 0 };
    for luck in LUCK {
        shrinker.luck = luck;
        while shrinker.round() {}
    }
    shrinker.luck = 0;
    while shrinker.polish() {}
    (shrinker.best, shrinker.runs)
}

struct Shrinker<Fails, Progress> {
    best: Scenario,
    at_ms: u64,
    runs: u64,
    fails: Fails,
    progress: Progress,
    tried: BTreeSet<String>,
    /// How many other sub-seeds a cut is tried with.
    luck: u64,
}

/// How often each round of big cuts tries its luck: first what is free, then what needs more and more runs.
const LUCK: [u64; 3] = [0, 2, 10];

const SUB_SEEDS: [&str; 6] = ["seed_nodes", "seed_net", "seed_disk", "seed_clock", "seed_work", "seed_chance"];

/// What each concern's numbers are in the calmest run, where that is not the default.
const CALMEST: [(&str, u64); 8] = [
    ("stagger_ms", 0),
    ("read_pause_permille", 0),
    ("mix_dirty", 0),
    ("mix_collection", 0),
    ("mix_agency", 0),
    ("mix_read", 0),
    ("mix_write", 0),
    ("keys", 1),
];

/// Numbers that a pass of their own makes smaller.
const SIZES: [&str; 5] = ["seed", "agents", "servers", "clients", "faults_ms"];

impl<Fails: FnMut(&Scenario) -> FailedAtMs, Progress: FnMut(Step)> Shrinker<Fails, Progress> {
    /// One pass over everything that can be cut, the biggest first. Whether anything was.
    fn round(&mut self) -> bool {
        let passes = [Self::after_the_end, Self::faults, Self::sizes, Self::calm, Self::each_fault, Self::time];
        passes.into_iter().fold(false, |cut, pass| pass(self) | cut)
    }

    /// Keeps a candidate if it fails.
    fn offer(&mut self, what: &str, candidate: Scenario) -> bool {
        if self.run(what, &candidate) {
            return true;
        }
        (1..=self.luck).any(|luck| {
            let mut candidate = candidate.clone();
            for key in SUB_SEEDS {
                candidate.set(key, luck).expect("any number is a seed");
            }
            self.run(what, &candidate)
        })
    }

    fn run(&mut self, what: &str, candidate: &Scenario) -> bool {
        if *candidate == self.best || candidate.possible().is_err() || !self.tried.insert(format!("{candidate:#}")) {
            return false;
        }
        self.runs += 1;
        let Some(at_ms) = (self.fails)(candidate) else { return false };
        (self.best, self.at_ms) = (candidate.clone(), at_ms);
        (self.progress)(Step { what, best: &self.best, at_ms, runs: self.runs });
        true
    }

    fn with(&self, change: impl FnOnce(&mut Scenario)) -> Scenario {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        candidate
    }

    fn set(&self, key: &str, value: u64) -> Scenario {
        // A value out of range leaves it as it is, which is not tried again.
        self.with(|s| s.set(key, value).unwrap_or_default())
    }

    /// What would happen after the failure.
    fn after_the_end(&mut self) -> bool {
        let end = self.at_ms + 1;
        let candidate = self.with(|s| {
            s.faults.retain(|f| f.at_ms <= end);
            s.faults_ms = s.faults_ms.min(end);
        });
        self.offer("nothing after the failure", candidate)
    }

    /// Halves, quarters, …, single faults.
    fn faults(&mut self) -> bool {
        let (mut cut, mut size) = (false, self.best.faults.len());
        while size > 0 {
            let mut from = 0;
            while from < self.best.faults.len() {
                let until = (from + size).min(self.best.faults.len());
                let candidate = self.with(|s| drop(s.faults.drain(from..until)));
                if self.offer("fewer faults", candidate) {
                    cut = true;
                } else {
                    from = until;
                }
            }
            size /= 2;
        }
        cut
    }

    fn sizes(&mut self) -> bool {
        let mut cut = false;
        let servers = |s: &Shrinker<_, _>| {
            (0..s.best.servers as usize).rev().map(|gone| without_server(&s.best, gone)).collect::<Vec<_>>()
        };
        while servers(self).into_iter().any(|candidate| self.offer("fewer servers", candidate)) {
            cut = true;
        }
        let agents = |s: &Shrinker<_, _>| {
            let all = s.best.agents as usize;
            let pairs = (0..all).rev().flat_map(|high| (0..high).rev().map(move |low| (low, high)));
            pairs.map(|(low, high)| without_agents(&s.best, low, high)).collect::<Vec<_>>()
        };
        while agents(self).into_iter().any(|candidate| self.offer("fewer agents", candidate)) {
            cut = true;
        }
        self.lower("clients", 0) | cut
    }

    /// Lowers a number as far as it goes: to `least`, or half the way, or by one.
    fn lower(&mut self, key: &'static str, least: u64) -> bool {
        let mut cut = false;
        loop {
            let now = self.best.get(key);
            let values = [least, now / 2, now.saturating_sub(1)];
            let lower = values.into_iter().filter(|value| *value >= least && *value < now);
            if !lower.map(|value| self.set(key, value)).collect::<Vec<_>>().into_iter().any(|c| self.offer(key, c)) {
                return cut;
            }
            cut = true;
        }
    }

    /// Everything as calm as can be: at once, by concern, by number.
    fn calm(&mut self) -> bool {
        let calm = Scenario::default();
        let keys: Vec<&'static str> =
            Scenario::KEYS.iter().copied().filter(|key| !SIZES.contains(key) && !SUB_SEEDS.contains(key)).collect();
        let concern = |key: &'static str| key.split('_').next().unwrap_or(key);
        let mut groups = vec![keys.clone()];
        groups.extend(keys.chunk_by(|a, b| concern(a) == concern(b)).map(<[_]>::to_vec));
        groups.extend(keys.iter().map(|key| vec![*key]));
        let mut cut = false;
        for group in groups {
            let candidate = self.with(|s| {
                for key in &group {
                    s.set(key, calm.get(key)).expect("a default is in its range");
                }
            });
            cut |= match group[..] {
                [key] => self.run(key, &candidate),
                _ => self.offer("calmer options", candidate),
            };
        }
        for (key, value) in CALMEST {
            if self.best.get(key) > value {
                let candidate = self.set(key, value);
                cut |= self.run(key, &candidate);
            }
        }
        cut
    }

    /// Each fault for itself: shorter, with a narrower target, without its words.
    fn each_fault(&mut self) -> bool {
        let mut cut = false;
        for index in 0..self.best.faults.len() {
            while simpler(&self.best.faults[index]).into_iter().any(|fault| {
                let candidate = self.with(|s| s.faults[index] = fault);
                self.run("a simpler fault", &candidate)
            }) {
                cut = true;
            }
        }
        cut
    }

    /// Nothing happens for no reason between two faults, before the first, or after the last.
    fn time(&mut self) -> bool {
        let mut cut = false;
        for index in 0..self.best.faults.len() {
            loop {
                let before = if index == 0 { 0 } else { self.best.faults[index - 1].at_ms };
                let gap = self.best.faults[index].at_ms - before;
                let earlier = [gap * 3 / 4, gap / 2, gap / 4].into_iter().filter(|ms| *ms >= 100);
                let shifted = earlier.map(|ms| {
                    self.with(|s| {
                        s.faults[index..].iter_mut().for_each(|fault| fault.at_ms -= ms);
                        let last = s.faults.last().map_or(0, |f| f.at_ms);
                        s.faults_ms = s.faults_ms.saturating_sub(ms).max(last);
                    })
                });
                if !shifted.collect::<Vec<_>>().into_iter().any(|candidate| self.offer("less waiting", candidate)) {
                    break;
                }
                cut = true;
            }
        }
        let least = self.best.faults.last().map_or(0, |f| f.at_ms);
        loop {
            let now = self.best.faults_ms;
            let lower = [least, least + (now - least) / 2].into_iter().filter(|ms| ms + 100 <= now);
            let candidates: Vec<_> = lower.map(|ms| self.set("faults_ms", ms)).collect();
            if !candidates.into_iter().any(|candidate| self.offer("a shorter run", candidate)) {
                return cut;
            }
            cut = true;
        }
    }

    /// Round numbers, and sub-seeds that are easy to tell apart.
    fn polish(&mut self) -> bool {
        let mut cut = false;
        for key in SUB_SEEDS {
            let (now, calm) = (self.best.get(key), Scenario::default().get(key));
            let small = if now >= 10 { 0..10 } else { 0..0 };
            cut |= now != calm && std::iter::once(calm).chain(small).any(|value| self.offer_quietly(key, value));
        }
        let parts: [fn(&mut Fault) -> &mut u64; 2] = [|f| &mut f.at_ms, |f| &mut f.for_ms];
        for index in 0..self.best.faults.len() {
            for part in parts {
                let now = *part(&mut self.best.faults[index].clone());
                cut |= rounder(now).into_iter().any(|ms| {
                    let candidate = self.with(|s| *part(&mut s.faults[index]) = ms);
                    candidate.faults.is_sorted_by_key(|f| f.at_ms) && self.run("round numbers", &candidate)
                });
            }
        }
        let last = self.best.faults.last().map_or(0, |f| f.at_ms);
        let values: Vec<u64> = rounder(self.best.faults_ms).into_iter().filter(|ms| *ms >= last).collect();
        cut | values.into_iter().any(|ms| self.offer_quietly("faults_ms", ms))
    }

    fn offer_quietly(&mut self, key: &str, value: u64) -> bool {
        let candidate = self.set(key, value);
        self.run("round numbers", &candidate)
    }
}

/// Numbers close to `ms` with more zeros at their end, the roundest first.
fn rounder(ms: u64) -> Vec<u64> {
    let steps = [1000, 500, 100, 50, 10].into_iter().take_while(|step| !ms.is_multiple_of(*step));
    steps
        .flat_map(|step| [ms / step * step, ms.div_ceil(step) * step])
        .filter(|near| near.abs_diff(ms) * 4 <= ms)
        .collect()
}

/// The fault with less of everything, the least first.
fn simpler(fault: &Fault) -> Vec<Fault> {
    let mut all = Vec::new();
    let narrower: &[Target] = match fault.target {
        Target::All => &[Target::Leader, Target::AgencyLeader, Target::Servers, Target::Agents],
        Target::Leaders => &[Target::Leader, Target::AgencyLeader],
        Target::Servers => &[Target::Leader, Target::Follower],
        Target::Agents => &[Target::AgencyLeader],
        _ => &[],
    };
    all.extend(narrower.iter().map(|target| Fault { target: *target, ..fault.clone() }));
    let text = fault.to_string();
    let words: Vec<&str> = text.split(' ').collect();
    for (index, word) in words.iter().enumerate().filter(|(_, word)| word.contains('=')) {
        let without = |number: &str| {
            let replaced = words.iter().enumerate().map(|(i, w)| if i == index { number } else { w });
            Fault::parse(&replaced.collect::<Vec<_>>().join(" ")).ok().filter(|f| f != fault)
        };
        all.extend(without(""));
        if let Some((name, Ok(number))) = word.split_once('=').map(|(name, n)| (name, n.parse::<i64>()))
            && number.abs() > 1
        {
            all.extend(without(&format!("{name}={}", number / 2)));
        }
    }
    let shorter = [1, fault.for_ms / 4, fault.for_ms / 2, fault.for_ms * 3 / 4];
    let shorter = shorter.into_iter().filter(|ms| *ms > 0 && *ms + 20 < fault.for_ms);
    all.extend(shorter.map(|for_ms| Fault { for_ms, ..fault.clone() }));
    all
}

/// The others take the numbers of those that are gone; faults of those that are gone go with them.
fn without_server(s: &Scenario, gone: usize) -> Scenario {
    let mut s = s.clone();
    s.servers -= 1;
    s.faults.retain(|f| f.target != Target::Server(gone));
    for fault in &mut s.faults {
        if let Target::Server(n) = &mut fault.target {
            *n -= usize::from(*n > gone);
        }
    }
    s
}

/// There are always 1, 3 or 5 agents, so two go.
fn without_agents(s: &Scenario, low: usize, high: usize) -> Scenario {
    let mut s = s.clone();
    s.agents = s.agents.saturating_sub(2);
    s.faults.retain(|f| ![Target::Agent(low), Target::Agent(high)].contains(&f.target));
    for fault in &mut s.faults {
        if let Target::Agent(n) = &mut fault.target {
            *n -= usize::from(*n > low) + usize::from(*n > high);
        }
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::At;
    use crate::faults::Kind;

    fn shrunk(start: &Scenario, fails: impl Fn(&Scenario) -> FailedAtMs) -> (Scenario, u64) {
        let at_ms = fails(start).expect("the start fails");
        shrink(start.clone(), at_ms, fails, |_| {})
    }

    /// As a bug would: some fault must meet the leader, with servers enough, and not at once.
    fn leader_killed(s: &Scenario) -> FailedAtMs {
        let kill = |f: &&Fault| {
            f.target == Target::Leader && matches!(f.kind, Kind::Kill { .. }) && f.at_ms >= 2000 && f.for_ms > 300
        };
        let at_ms = s.faults.iter().find(kill).map(|f| f.at_ms + 400)?;
        (s.servers >= 3 && s.clients > 0 && s.net_loss_permille > 1).then_some(at_ms)
    }

    #[test]
    fn only_what_the_failure_needs_is_left() {
        let mut found = 0;
        for seed in 0..400 {
            let start = Scenario::draw(seed);
            if leader_killed(&start).is_none() {
                continue;
            }
            found += 1;
            let (small, _) = shrunk(&start, leader_killed);
            let faults: Vec<String> = small.faults.iter().map(Fault::to_string).collect();
            assert_eq!(faults.len(), 1, "{small:#}");
            let words: Vec<u64> = faults[0].split(' ').filter_map(|word| word.parse().ok()).collect();
            assert!(faults[0].contains(" kill leader ") && !faults[0].contains('='), "{small:#}");
            assert!(words[0] <= 2100 && words[1] <= 500, "{small:#}");
            assert_eq!((small.servers, small.agents, small.clients), (3, 1, 1));
            let left = format!("{small:#}");
            let keys: Vec<&str> = left.lines().filter_map(|line| line.split(' ').next()).collect();
            let needed = ["agents", "clients", "faults_ms", "net_loss_permille", "stagger_ms", "read_pause_permille"];
            for key in keys {
                let harmless = ["version", "seed", "fault", "keys"].contains(&key) || key.starts_with("mix_");
                assert!(needed.contains(&key) || harmless, "{key} is left in\n{small:#}");
            }
            assert!(small.faults_ms <= 2600, "{small:#}");
        }
        assert!(found > 10, "only {found} seeds kill a leader");
    }

    #[test]
    fn the_same_start_shrinks_to_the_same_scenario() {
        let start = (0..).map(Scenario::draw).find(|s| leader_killed(s).is_some()).expect("one of them");
        assert_eq!(shrunk(&start, leader_killed), shrunk(&start, leader_killed));
    }

    /// What fails whatever is left still has to be a world.
    #[test]
    fn a_server_and_an_agent_are_left() {
        let (small, _) = shrunk(&Scenario::draw(1), |_| Some(100));
        assert_eq!((small.servers, small.agents, small.clients, small.faults.len()), (1, 1, 0, 0));
        assert_eq!(small.possible(), Ok(()));
    }

    #[test]
    fn what_is_named_keeps_its_meaning_when_others_go() {
        let text = "servers 4\nagents 5\nfault 2000 kill s3 500\nfault 3000 pause a4 500\nfault 4000 kill s1 500\n";
        let start = Scenario::parse(text).unwrap();
        // s3 and a4 are needed, by whatever number they go then.
        let fails = |s: &Scenario| {
            let kill = s.faults.iter().any(|f| f.kind == Kind::Kill { notice_ms: 0, notices: 0 } && f.at_ms == 2000);
            let pause = s.faults.iter().any(|f| f.kind == Kind::Pause && matches!(f.target, Target::Agent(_)));
            (kill && pause && s.servers >= 2 && s.agents >= 3).then_some(9000)
        };
        let (small, _) = shrunk(&start, fails);
        let targets: Vec<Target> = small.faults.iter().map(|f| f.target).collect();
        assert_eq!((small.servers, small.agents), (2, 3));
        assert_eq!(targets, [Target::Server(1), Target::Agent(2)]);
    }

    #[test]
    fn patience_ends_it_with_the_best_so_far() {
        let start = (0..).map(Scenario::draw).find(|s| leader_killed(s).is_some()).expect("one of them");
        let mut left = 20;
        let fails = |s: &Scenario| {
            left -= 1;
            if left < 0 { None } else { leader_killed(s) }
        };
        let (small, _) = shrink(start.clone(), leader_killed(&start).unwrap(), fails, |_| {});
        assert!(leader_killed(&small).is_some() && small != start);
    }

    #[test]
    fn failures_are_the_same_if_only_numbers_differ() {
        let failure = |invariant, what: &str| Failure::of(&Violation { invariant, what: what.to_owned(), at: At(0) });
        let one = failure("I10", "s1 undid tick 10, which its leader has");
        assert_eq!(one, failure("I10", "s2 undid tick 7, which its leader has"));
        assert_eq!(one.shape, "# undid tick # which its leader has");
        assert_ne!(one, failure("I10", "s2 undid tick 7, and keeps nothing"));
        assert_ne!(one, failure("I9", "s2 undid tick 7, which its leader has"));
        let panic = |line| failure("panic", &format!("panicked at engine/src/exec.rs:{line}: index 3"));
        assert_ne!(panic("10:5"), panic("11:5"));
    }
}
