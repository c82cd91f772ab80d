//! What goes wrong, when, and for how long: the vocabulary of faults, their text form, and drawing a schedule.
//!
//! `fault <at_ms> <kind> <target> <for_ms> [name=value ...]`. A target may be a role ("leader"), which is looked up
//! when the fault strikes. Everything that a fault began ends after `for_ms`, and at the latest when the run is healed.
//!
//! What each may break: nothing of I1..I14. All of them are within the assumptions (fail-stop processes, honest disks,
//! clock rates within ε); a steady clock that jumps is drawn for servers only, because for an agent it would mean that
//! time passed which did not.

use crate::scenario::Scenario;
use std::fmt;
use tanist_engine::types::Rng;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at_ms: u64,
    pub kind: Kind,
    pub target: Target,
    pub for_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The server whose gate is open, or the first.
    Leader,
    /// Some server that is not the leader.
    Follower,
    AgencyLeader,
    /// The leader's server and the agency's leader.
    Leaders,
    Agents,
    Servers,
    /// Every node.
    All,
    Agent(usize),
    Server(usize),
}

/// Which way a cut works, seen from the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Both,
    In,
    Out,
}

/// From whom the target is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    Everyone,
    /// All nodes, but not the clients.
    Peers,
    Agents,
    Servers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The process dies at once; what its disk had not synced is lost but for a prefix. Its starter may tell the agency
    /// after `notice_ms`, `notices` times.
    Kill {
        notice_ms: u64,
        notices: u64,
    },
    /// The process is asked to leave, and killed if it does not within `for_ms`.
    Stop,
    /// SIGSTOP and SIGCONT.
    Pause,
    Cut {
        way: Way,
        whom: Whom,
    },
    /// Bad weather on all links of the target.
    Storm {
        loss_permille: u64,
        duplicate_permille: u64,
        delay_us: u64,
    },
    /// Each sync and each read takes this much longer.
    Slow {
        disk_ms: u64,
    },
    /// The steady clock's rate changes.
    Drift {
        ppm: i64,
    },
    /// The steady clock jumps forward by `ms` (servers only).
    Jump {
        ms: u64,
    },
    /// The wall clock is stepped.
    Wall {
        ms: i64,
    },
    /// An operator writes the leader key: a request to hand over to the target.
    Handover,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Leader => f.write_str("leader"),
            Target::Follower => f.write_str("follower"),
            Target::AgencyLeader => f.write_str("agency-leader"),
            Target::Leaders => f.write_str("leaders"),
            Target::Agents => f.write_str("agents"),
            Target::Servers => f.write_str("servers"),
            Target::All => f.write_str("all"),
            Target::Agent(n) => write!(f, "a{n}"),
            Target::Server(n) => write!(f, "s{n}"),
        }
    }
}

impl Target {
    fn parse(text: &str) -> Result<Target, String> {
        let number = |rest: &str| rest.parse::<usize>().map_err(|_| format!("unknown target '{text}'"));
        Ok(match text {
            "leader" => Target::Leader,
            "follower" => Target::Follower,
            "agency-leader" => Target::AgencyLeader,
            "leaders" => Target::Leaders,
            "agents" => Target::Agents,
            "servers" => Target::Servers,
            "all" => Target::All,
            _ if text.starts_with('a') => Target::Agent(number(&text[1..])?),
            _ if text.starts_with('s') => Target::Server(number(&text[1..])?),
            _ => return Err(format!("unknown target '{text}'")),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::Kill { .. } => "kill",
            Kind::Stop => "stop",
            Kind::Pause => "pause",
            Kind::Cut { .. } => "cut",
            Kind::Storm { .. } => "storm",
            Kind::Slow { .. } => "slow",
            Kind::Drift { .. } => "drift",
            Kind::Jump { .. } => "jump",
            Kind::Wall { .. } => "wall",
            Kind::Handover => "handover",
        };
        write!(f, "{} {name} {} {}", self.at_ms, self.target, self.for_ms)?;
        match &self.kind {
            Kind::Kill { notices: 0, .. } | Kind::Stop | Kind::Pause | Kind::Handover => Ok(()),
            Kind::Kill { notice_ms, notices } => write!(f, " notice_ms={notice_ms} notices={notices}"),
            Kind::Cut { way, whom } => {
                let way = match way {
                    Way::Both => "both",
                    Way::In => "in",
                    Way::Out => "out",
                };
                let whom = match whom {
                    Whom::Everyone => "everyone",
                    Whom::Peers => "peers",
                    Whom::Agents => "agents",
                    Whom::Servers => "servers",
                };
                write!(f, " way={way} from={whom}")
            }
            Kind::Storm { loss_permille, duplicate_permille, delay_us } => {
                write!(f, " loss_permille={loss_permille} duplicate_permille={duplicate_permille} delay_us={delay_us}")
            }
            Kind::Slow { disk_ms } => write!(f, " disk_ms={disk_ms}"),
            Kind::Drift { ppm } => write!(f, " ppm={ppm}"),
            Kind::Jump { ms } => write!(f, " ms={ms}"),
            Kind::Wall { ms } => write!(f, " ms={ms}"),
        }
    }
}

/// The `name=value` words of a fault; each must be asked for.
struct Words<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Words<'a> {
    fn take(&mut self, name: &str) -> Option<&'a str> {
        let index = self.0.iter().position(|(n, _)| *n == name)?;
        Some(self.0.remove(index).1)
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str, default: Option<T>) -> Result<T, String> {
        match (self.take(name), default) {
            (Some(text), _) => text.parse().map_err(|_| format!("{name}={text} is not a number")),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(format!("{name}=... is missing")),
        }
    }
}

impl Fault {
    /// The text after `fault`.
    pub fn parse(text: &str) -> Result<Fault, String> {
        let mut words = text.split_whitespace();
        let mut next = |what: &str| words.next().ok_or(format!("{what} is missing"));
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("'{text}' is not a number of milliseconds"));
        let at_ms = number(next("the time")?)?;
        let name = next("the kind of fault")?;
        let target = Target::parse(next("the target")?)?;
        let for_ms = number(next("the duration")?)?;
        let pairs = words.map(|w| w.split_once('=').ok_or(format!("'{w}' is not of the form name=value")));
        let mut words = Words(pairs.collect::<Result<_, _>>()?);
        let kind = match name {
            "kill" => Kind::Kill {
                notice_ms: words.number("notice_ms", Some(0))?,
                notices: words.number("notices", Some(0))?,
            },
            "stop" => Kind::Stop,
            "pause" => Kind::Pause,
            "cut" => Kind::Cut {
                way: match words.take("way") {
                    None | Some("both") => Way::Both,
                    Some("in") => Way::In,
                    Some("out") => Way::Out,
                    Some(other) => return Err(format!("way={other} is none of both, in, out")),
                },
                whom: match words.take("from") {
                    None | Some("everyone") => Whom::Everyone,
                    Some("peers") => Whom::Peers,
                    Some("agents") => Whom::Agents,
                    Some("servers") => Whom::Servers,
                    Some(other) => return Err(format!("from={other} is none of everyone, peers, agents, servers")),
                },
            },
            "storm" => Kind::Storm {
                loss_permille: words.number("loss_permille", Some(0))?,
                duplicate_permille: words.number("duplicate_permille", Some(0))?,
                delay_us: words.number("delay_us", Some(1000))?,
            },
            "slow" => Kind::Slow { disk_ms: words.number("disk_ms", None)? },
            "drift" => Kind::Drift { ppm: words.number("ppm", None)? },
            "jump" => Kind::Jump { ms: words.number("ms", None)? },
            "wall" => Kind::Wall { ms: words.number("ms", None)? },
            "handover" => Kind::Handover,
            _ => return Err(format!("unknown fault '{name}'")),
        };
        match words.0.first() {
            Some((name, _)) => Err(format!("unknown word '{name}' in this fault")),
            None => Ok(Fault { at_ms, kind, target, for_ms }),
        }
    }

    /// Refuses what does not exist, and what no design could survive.
    pub fn check(&self, s: &Scenario) -> Result<(), String> {
        let fail = |what: String| Err(format!("fault at {} ms: {what}", self.at_ms));
        match self.target {
            Target::Agent(n) if n as u64 >= s.agents => return fail(format!("there is no a{n}")),
            Target::Server(n) if n as u64 >= s.servers => return fail(format!("there is no s{n}")),
            _ => {}
        }
        let may_be_agent =
            !matches!(self.target, Target::Leader | Target::Follower | Target::Servers | Target::Server(_));
        match self.kind {
            Kind::Jump { .. } if may_be_agent => {
                fail("an agent's steady clock may not jump: the lease rests on it".into())
            }
            Kind::Handover if may_be_agent => fail("only a server can be handed the leadership".into()),
            Kind::Drift { ppm } if ppm.unsigned_abs() > s.drift_permille * 490 => {
                fail(format!("{ppm} ppm is beyond half of drift_permille {}", s.drift_permille))
            }
            _ if self.at_ms > s.faults_ms => fail(format!("later than faults_ms {}", s.faults_ms)),
            _ => Ok(()),
        }
    }
}

/// Draws a schedule: first which kinds exist at all, then when they strike.
pub fn draw(rng: &mut Rng, s: &Scenario) -> Vec<Fault> {
    const KINDS: u64 = 10;
    let exists: Vec<bool> = (0..KINDS).map(|_| rng.chance(1, 2)).collect();
    let mean_ms = [600, 1500, 3000, 6000][rng.below(4) as usize];
    // Some runs are without any fault: what fails there is easiest to read.
    if rng.chance(1, 20) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let mut at_ms = 1500;
    loop {
        at_ms += 1 + rng.below(2 * mean_ms);
        if at_ms >= s.faults_ms || faults.len() >= 60 {
            return faults;
        }
        let which = rng.below(KINDS);
        let mut any_target = |servers_only: bool| {
            let node = rng.below(if servers_only { s.servers } else { s.agents + s.servers });
            match rng.below(16) {
                0..=5 => Target::Leader,
                6 => Target::Follower,
                7 => Target::Leaders,
                8 => Target::AgencyLeader,
                9 => Target::Servers,
                10 => Target::All,
                _ if servers_only || node < s.servers => Target::Server(node as usize % s.servers as usize),
                _ => Target::Agent((node - s.servers) as usize),
            }
        };
        let servers_only = which == 7 || which == 9;
        let mut target = any_target(servers_only);
        if servers_only && matches!(target, Target::Leaders | Target::AgencyLeader | Target::All) {
            target = Target::Leader;
        }
        // Longer and shorter than the lease, both.
        let for_ms = [s.lease_ms / 2, s.lease_ms * 3 / 2, s.lease_ms * 3, s.lease_ms * 8][rng.below(4) as usize];
        let for_ms = for_ms / 2 + rng.below(for_ms.max(1));
        let kind = match which {
            0 => {
                let notice_ms = [1, 20, 500, for_ms + 300][rng.below(4) as usize];
                let notices = [0, 1, 1, 2][rng.below(4) as usize];
                Kind::Kill { notice_ms: if notices > 0 { notice_ms } else { 0 }, notices }
            }
            1 => Kind::Stop,
            2 => Kind::Pause,
            3 => Kind::Cut {
                way: [Way::Both, Way::Both, Way::In, Way::Out][rng.below(4) as usize],
                whom: [Whom::Everyone, Whom::Peers, Whom::Agents, Whom::Servers][rng.below(4) as usize],
            },
            4 => Kind::Storm {
                loss_permille: rng.below(300),
                duplicate_permille: rng.below(300),
                delay_us: 1000 + rng.below(100_000),
            },
            5 => Kind::Slow { disk_ms: 5 + rng.below(400) },
            6 => {
                let most = (s.drift_permille * 490) as i64;
                Kind::Drift { ppm: rng.below(2 * most as u64 + 1) as i64 - most }
            }
            7 => Kind::Jump { ms: 1 + rng.below(3 * s.lease_ms) },
            8 => Kind::Wall { ms: rng.below(60_000) as i64 - 30_000 },
            _ => Kind::Handover,
        };
        if exists[which as usize] {
            faults.push(Fault { at_ms, kind, target, for_ms });
        }
    }
}
