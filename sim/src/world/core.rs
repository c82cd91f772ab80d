//! The core: a majority of agents (beside an etcd, one) and at least one server with a complete store are healed, and
//! the rest is broken for good; where followers must have what is acknowledged, enough of them are healed. The core
//! must elect, catch up and answer within a bound, or there is a reason from a closed list ([`WhyNot`]). Afterwards the
//! rest is healed, too, and everything must converge as ever.

use super::strikes::links;
use super::*;
use crate::check::liveness::WhyNot;

/// The number of what is done to the rest, among the faults.
pub(super) const REST: usize = usize::MAX;

/// How a node outside of the core is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Down,
    Paused,
    CutOff(Way),
    /// It loses more than half of what it sends and gets.
    Lossy,
    Slow,
    /// A server that is heard and hears, but everything takes so long that an answer comes after the lease that it
    /// grants is over.
    Late,
}

impl Broken {
    /// It is heard and hears, every now and then: a leader that is broken like that may go on leading. One whose leases
    /// are over when they come may not.
    fn may_lead(self) -> bool {
        matches!(self, Broken::Lossy | Broken::Slow)
    }
}

pub(super) struct Core {
    nodes: Vec<usize>,
    rest: Vec<(usize, Broken)>,
    since: At,
    /// When somebody outside led last.
    led_outside: Option<At>,
    /// What its leader had when everybody had been served; whoever follows must get there.
    goal: Option<Position>,
}

fn take(from: &mut Vec<usize>, rng: &mut Rng) -> Option<usize> {
    if from.is_empty() { None } else { Some(from.swap_remove(rng.below(from.len() as u64) as usize)) }
}

impl World {
    pub(super) fn heal_core(&mut self) {
        let mut rng = Rng::new(self.scenario.seed_chance ^ 0xc03e);
        self.heal_all();
        let mut agents: Vec<usize> = (0..self.agents).filter(|a| !self.former.values().any(|n| n == a)).collect();
        let (sound, mut servers): (Vec<usize>, Vec<usize>) =
            (self.agents..self.machines.len()).partition(|node| self.is_sound(*node));
        // Where seats were taken away, a majority of those who have one may be all of them.
        let reseated = self.scenario.faults.iter().any(|fault| fault.kind == Kind::Reseat);
        let needed = match &self.etcd {
            Some(_) => 1,
            None if reseated => self.agents,
            None => self.agents / 2 + 1,
        };
        let mut nodes: Vec<usize> = (0..needed).filter_map(|_| take(&mut agents, &mut rng)).collect();
        let unformed = self.etcd.is_none() && nodes.iter().any(|agent| self.agency.applied(*agent) == 0);
        let (mut able, mut others): (Vec<usize>, Vec<usize>) =
            sound.iter().partition(|node| self.synchrony.may_lead(self.server_of(**node)));
        let why_not = match take(&mut able, &mut rng) {
            _ if unformed => Some(WhyNot::NoPool),
            None if sound.is_empty() => Some(WhyNot::NoCopy),
            None => Some(WhyNot::NoneInSync),
            Some(server) => {
                nodes.push(server);
                None
            }
        };
        if let Some(why) = why_not {
            self.figures.core = Some(why.to_string());
            return self.tell("fault", format_args!("no core: {why}"));
        }
        others.append(&mut able);
        others.append(&mut servers);
        nodes.extend((0..self.synchrony.followers_needed()).filter_map(|_| take(&mut others, &mut rng)));
        nodes.extend(others.into_iter().filter(|_| rng.chance(1, 3)));
        nodes.sort_unstable();
        let rest: Vec<(usize, Broken)> = (0..self.machines.len())
            .filter(|node| !nodes.contains(node))
            .map(|node| (node, broken(&mut rng, self.machines[node].kind)))
            .collect();
        let names: Vec<&str> = nodes.iter().map(|node| self.machines[*node].name.as_str()).collect();
        let names = names.join(" ");
        self.tell("fault", format_args!("the core is {names}; the rest is broken from here on"));
        self.healed = None;
        for (node, how) in &rest {
            self.break_for_good(*node, *how);
        }
        self.core = Some(Core { nodes, rest, since: self.at, led_outside: None, goal: None });
    }

    fn break_for_good(&mut self, node: usize, how: Broken) {
        self.say(node, format_args!("{how:?}"));
        match how {
            Broken::Down => self.kill(node, REST, 20, 1),
            Broken::Paused => self.pause(node, REST, false),
            Broken::CutOff(way) => self.cut(REST, &[node], way, Whom::Everyone, 0),
            Broken::Lossy => {
                self.bad_weather(node, Weather { loss_permille: 600, delay_us: 50_000, ..Weather::CALM });
            }
            // Half a lease one way, and half the other.
            Broken::Late => {
                self.bad_weather(node, Weather { sure_us: self.scenario.lease_ms * 500, ..Weather::CALM });
            }
            Broken::Slow => {
                self.machines[node].step_extra = Duration::from_millis(20);
                self.machines[node].disk_extra = Duration::from_millis(300);
            }
        }
    }

    fn bad_weather(&mut self, node: usize, weather: Weather) {
        for links in links(net::only(node), Places::MAX, Way::Both) {
            self.net.add_storm(REST, links, weather);
        }
    }

    /// It was healed while others stay broken.
    pub(super) fn is_of_core(&self, node: usize) -> bool {
        self.core.as_ref().is_some_and(|core| core.nodes.contains(&node))
    }

    /// What the core still lacks.
    pub(super) fn watch_core(&mut self) {
        let Some(core) = &self.core else { return };
        let serving = self.lease.serving(&self.server_times()).map(|(server, _)| self.agents + server);
        let leader = serving.filter(|node| core.nodes.contains(node));
        let last = |node: &usize| self.replication.stores[node - self.agents].last();
        let served = self.workload.served_since_heal();
        let goal = core.goal.or_else(|| leader.filter(|_| served).as_ref().map(last));
        let behind = core.nodes.iter().find(|node| **node >= self.agents && goal.is_some_and(|goal| last(node) < goal));
        let missing = match (leader, behind) {
            (None, _) => Some(("I15", "none of its servers leads".to_owned())),
            (_, Some(node)) => Some(("I16", format!("{} is at {}", self.machines[*node].name, last(node)))),
            _ if !served => Some(("I17", "a client has had no answer".to_owned())),
            _ => None,
        };
        let (at, since) = (self.at, core.since);
        let outside = self.leads_outside();
        let core = self.core.as_mut().expect("looked at above");
        core.goal = goal;
        core.led_outside = outside.then_some(at).or(core.led_outside);
        let led_outside = core.led_outside;
        let bound = self.core_bound();
        match missing {
            None => {
                let took = Duration::from_nanos(at.0 - since.0);
                self.core_ends(format!("it elected, caught up and answered within {took:?}"));
            }
            // From when it is alone it has its time.
            Some((invariant, what)) if at > led_outside.unwrap_or(since).plus(bound) => match self.why_not() {
                Some(why) => self.core_ends(why.to_string()),
                None => self.hold(Err((invariant, format!("{what}, {bound:?} after the core was healed")))),
            },
            Some(_) if outside && at > since.plus(bound) => self.core_ends(WhyNot::LeaderOutside.to_string()),
            // As in the end: while clients write, followers are always a little behind.
            Some(_) => self.workload.closing = goal.is_some(),
        }
        self.after(WATCH_EVERY, Happening::Watch);
    }

    /// What came up after the core was chosen, and keeps it from electing one of its own.
    fn why_not(&self) -> Option<WhyNot> {
        let core = self.core.as_ref()?;
        let servers = || core.nodes.iter().filter(|node| **node >= self.agents).map(|node| self.server_of(*node));
        // A record that was on its way.
        if !servers().any(|server| self.synchrony.may_lead(server)) {
            return Some(WhyNot::NoneInSync);
        }
        let last = |server: usize| self.replication.stores[server].last();
        let within = servers().map(last).max()?;
        let elected = self.machines.iter().position(|m| m.id.is_some() && m.id == self.lease.latest())?;
        let late = core.rest.iter().any(|(node, how)| *node == elected && *how == Broken::Late);
        (late && last(self.server_of(elected)) > within).then_some(WhyNot::LateIsFurthest)
    }

    /// Whether somebody outside of the core leads the servers or the agency, and may.
    fn leads_outside(&self) -> bool {
        let Some(core) = &self.core else { return false };
        let elected = self.lease.latest();
        let server = self.machines.iter().position(|machine| machine.id.is_some() && machine.id == elected);
        let leaders = [server, self.agency.leader()];
        core.rest.iter().any(|(node, how)| how.may_lead() && leaders.contains(&Some(*node)))
    }

    /// While only a core lives, clients know of nobody else.
    pub(super) fn in_core(&self, node: usize) -> usize {
        let Some(core) = self.core.as_ref().filter(|core| !core.nodes.contains(&node)) else { return node };
        let kind = self.machines[node].kind;
        let same: Vec<usize> = core.nodes.iter().copied().filter(|n| self.machines[*n].kind == kind).collect();
        same[node % same.len()]
    }

    /// A client may have to find out, one server after the other, who does not answer.
    fn core_bound(&self) -> Duration {
        self.bound() + ANSWER_TIMEOUT * self.scenario.servers as u32
    }

    fn core_ends(&mut self, how: String) {
        self.tell("fault", format_args!("the core: {how}"));
        self.figures.core = Some(how);
        self.core = None;
        self.workload.closing = false;
        self.heal_all();
    }
}

fn broken(rng: &mut Rng, kind: NodeKind) -> Broken {
    match rng.below(8) {
        0 | 1 => Broken::Down,
        2 => Broken::Paused,
        3 => Broken::CutOff(Way::Both),
        4 => Broken::CutOff(Way::In),
        5 => Broken::CutOff(Way::Out),
        6 => Broken::Lossy,
        _ if kind == NodeKind::Server && rng.chance(1, 2) => Broken::Late,
        _ => Broken::Slow,
    }
}
