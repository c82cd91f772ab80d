//! What goes wrong, when, and for how long: the vocabulary of faults and their text form. [`draw`] draws a schedule,
//! [`crate::atlas`] says what each may break and refuses what no design could survive.
//!
//! `fault <at_ms> <kind> <target> <for_ms> [name=value ...]`. A target may be a role ("leader"), which is looked up
//! when the fault strikes. Everything that a fault began ends after `for_ms`, and at the latest when the run is healed.

mod draw;

pub use draw::{draw, draw_etcd};

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
    /// The etcd that orders the agency's entries.
    Etcd,
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
    Etcd,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The process dies at once; what its disk had not synced is lost but for a prefix. Its starter may tell the agency
    /// after `notice_ms`, `notices` times.
    Kill {
        notice_ms: u64,
        notices: u64,
    },
    /// The process is started again after `down_ms`, and dies again `up_ms` after each start. Each death is reported.
    CrashLoop {
        up_ms: u64,
        down_ms: u64,
    },
    /// The process is asked to leave, and killed if it does not within `for_ms`.
    Stop,
    /// One after the other is asked to leave, and started again `every_ms` later, when the next one's turn comes.
    Rolling {
        every_ms: u64,
    },
    /// SIGSTOP and SIGCONT.
    Pause,
    /// The machine stands still, and its steady clock with it, as under a hypervisor; its wall clock is right
    /// afterwards.
    Suspend,
    Cut {
        way: Way,
        whom: Whom,
    },
    /// A cut that comes and goes: `period_ms` each.
    Flap {
        way: Way,
        whom: Whom,
        period_ms: u64,
    },
    /// Each of the targets reaches only its two neighbours among them.
    Ring,
    /// Links of the target carry so much and no more; what waits for longer than some seconds is dropped.
    Bandwidth {
        bytes_per_s: u64,
        way: Way,
        whom: Whom,
    },
    /// Bad weather on links of the target.
    Storm {
        loss_permille: u64,
        duplicate_permille: u64,
        delay_us: u64,
        way: Way,
        whom: Whom,
    },
    /// A slow node: whatever it does takes this much longer, and the rest waits for its turn.
    Busy {
        step_us: u64,
    },
    /// Each sync and each read takes this much longer.
    Slow {
        disk_ms: u64,
    },
    /// The steady clock's rate changes.
    Drift {
        ppm: i64,
    },
    /// The steady clock jumps forward by `ms`.
    Jump {
        ms: u64,
    },
    /// The wall clock is stepped.
    Wall {
        ms: i64,
    },
    /// An operator writes the leader key: a request to hand over to the target.
    Handover,
    /// An operator takes the target's seat in the agency away, and gives it back at the end.
    Reseat,
    /// An operator has the agency grant leases of another length from now on.
    Timing {
        lease_ms: u64,
    },
    /// All leases that etcd has given end before their time.
    Expire,
    /// So many of a thousand syncs fail: the process ends, as the server does, and is started again.
    SyncFails {
        permille: u64,
    },
    /// The disk takes so many bytes more, and then refuses.
    Full {
        room_bytes: u64,
    },
    /// Some rows are damaged; at the end the disk is replaced by an empty one.
    Rot {
        table: Rotten,
        rows: u64,
    },
    /// The process dies, and its disk is replaced by an empty one.
    Wipe,
    /// The directory is copied; at the end it is put back as it was.
    Restore,
}

/// The tables whose rows have checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotten {
    Documents,
    Log,
}

impl Kind {
    /// Its name in the text form, and in the atlas.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Kill { .. } => "kill",
            Kind::CrashLoop { .. } => "crash-loop",
            Kind::Stop => "stop",
            Kind::Rolling { .. } => "rolling",
            Kind::Pause => "pause",
            Kind::Suspend => "suspend",
            Kind::Cut { .. } => "cut",
            Kind::Flap { .. } => "flap",
            Kind::Ring => "ring",
            Kind::Bandwidth { .. } => "bandwidth",
            Kind::Storm { .. } => "storm",
            Kind::Busy { .. } => "busy",
            Kind::Slow { .. } => "slow",
            Kind::Drift { .. } => "drift",
            Kind::Jump { .. } => "jump",
            Kind::Wall { .. } => "wall",
            Kind::Handover => "handover",
            Kind::Reseat => "reseat",
            Kind::Timing { .. } => "timing",
            Kind::Expire => "expire",
            Kind::SyncFails { .. } => "sync-fails",
            Kind::Full { .. } => "full",
            Kind::Rot { .. } => "rot",
            Kind::Wipe => "wipe",
            Kind::Restore => "restore",
        }
    }

    /// The words after the duration.
    fn words(&self) -> Vec<(&'static str, String)> {
        let number = |name, value: u64| (name, value.to_string());
        // All links both ways go without saying.
        let links = |way, whom| match (way, whom) {
            (Way::Both, Whom::Everyone) => vec![],
            _ => vec![("way", way.to_string()), ("from", whom.to_string())],
        };
        match self {
            Kind::Kill { notices: 0, .. } => vec![],
            Kind::Stop | Kind::Pause | Kind::Suspend | Kind::Ring | Kind::Handover | Kind::Expire => vec![],
            Kind::Reseat | Kind::Wipe | Kind::Restore => vec![],
            Kind::Kill { notice_ms, notices } => vec![number("notice_ms", *notice_ms), number("notices", *notices)],
            Kind::CrashLoop { up_ms, down_ms } => vec![number("up_ms", *up_ms), number("down_ms", *down_ms)],
            Kind::Rolling { every_ms } => vec![number("every_ms", *every_ms)],
            Kind::Cut { way, whom } => vec![("way", way.to_string()), ("from", whom.to_string())],
            Kind::Flap { way, whom, period_ms } => {
                vec![("way", way.to_string()), ("from", whom.to_string()), number("period_ms", *period_ms)]
            }
            Kind::Bandwidth { bytes_per_s, way, whom } => {
                [vec![number("bytes_per_s", *bytes_per_s)], links(*way, *whom)].concat()
            }
            Kind::Storm { loss_permille, duplicate_permille, delay_us, way, whom } => {
                let weather = vec![
                    number("loss_permille", *loss_permille),
                    number("duplicate_permille", *duplicate_permille),
                    number("delay_us", *delay_us),
                ];
                [weather, links(*way, *whom)].concat()
            }
            Kind::Busy { step_us } => vec![number("step_us", *step_us)],
            Kind::Slow { disk_ms } => vec![number("disk_ms", *disk_ms)],
            Kind::Drift { ppm } => vec![("ppm", ppm.to_string())],
            Kind::Jump { ms } => vec![number("ms", *ms)],
            Kind::Wall { ms } => vec![("ms", ms.to_string())],
            Kind::Timing { lease_ms } => vec![number("lease_ms", *lease_ms)],
            Kind::SyncFails { permille } => vec![number("permille", *permille)],
            Kind::Full { room_bytes } => vec![number("room_bytes", *room_bytes)],
            Kind::Rot { table, rows } => {
                let table = match table {
                    Rotten::Documents => "documents",
                    Rotten::Log => "log",
                };
                vec![("table", table.to_owned()), number("rows", *rows)]
            }
        }
    }

    fn parse(name: &str, words: &mut Words) -> Result<Kind, String> {
        Ok(match name {
            "kill" => Kind::Kill {
                notice_ms: words.number("notice_ms", Some(0))?,
                notices: words.number("notices", Some(0))?,
            },
            "crash-loop" => {
                Kind::CrashLoop { up_ms: words.at_least_1("up_ms")?, down_ms: words.at_least_1("down_ms")? }
            }
            "stop" => Kind::Stop,
            "rolling" => Kind::Rolling { every_ms: words.at_least_1("every_ms")? },
            "pause" => Kind::Pause,
            "suspend" => Kind::Suspend,
            "cut" => Kind::Cut { way: words.way()?, whom: words.whom()? },
            "flap" => Kind::Flap { way: words.way()?, whom: words.whom()?, period_ms: words.at_least_1("period_ms")? },
            "ring" => Kind::Ring,
            "bandwidth" => Kind::Bandwidth {
                bytes_per_s: words.at_least_1("bytes_per_s")?,
                way: words.way()?,
                whom: words.whom()?,
            },
            "storm" => Kind::Storm {
                loss_permille: words.number("loss_permille", Some(0))?,
                duplicate_permille: words.number("duplicate_permille", Some(0))?,
                delay_us: words.number("delay_us", Some(1000))?,
                way: words.way()?,
                whom: words.whom()?,
            },
            "busy" => Kind::Busy { step_us: words.at_least_1("step_us")? },
            "slow" => Kind::Slow { disk_ms: words.number("disk_ms", None)? },
            "drift" => Kind::Drift { ppm: words.number("ppm", None)? },
            "jump" => Kind::Jump { ms: words.number("ms", None)? },
            "wall" => Kind::Wall { ms: words.number("ms", None)? },
            "handover" => Kind::Handover,
            "reseat" => Kind::Reseat,
            "timing" => Kind::Timing { lease_ms: words.number("lease_ms", None)? },
            "expire" => Kind::Expire,
            "sync-fails" => Kind::SyncFails { permille: words.at_least_1("permille")? },
            "full" => Kind::Full { room_bytes: words.number("room_bytes", Some(0))? },
            "rot" => Kind::Rot { table: words.table()?, rows: words.at_least_1("rows")? },
            "wipe" => Kind::Wipe,
            "restore" => Kind::Restore,
            _ => return Err(format!("unknown fault '{name}'")),
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Both => "both",
            Way::In => "in",
            Way::Out => "out",
        })
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Whom::Everyone => "everyone",
            Whom::Peers => "peers",
            Whom::Agents => "agents",
            Whom::Servers => "servers",
            Whom::Etcd => "etcd",
        })
    }
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
            Target::Etcd => f.write_str("etcd"),
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
            "etcd" => Target::Etcd,
            _ if text.starts_with('a') => Target::Agent(number(&text[1..])?),
            _ if text.starts_with('s') => Target::Server(number(&text[1..])?),
            _ => return Err(format!("unknown target '{text}'")),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.at_ms, self.kind.name(), self.target, self.for_ms)?;
        self.kind.words().into_iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
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

    fn at_least_1(&mut self, name: &str) -> Result<u64, String> {
        match self.number(name, None)? {
            0 => Err(format!("{name} must be 1 or more")),
            number => Ok(number),
        }
    }

    fn table(&mut self) -> Result<Rotten, String> {
        match self.take("table") {
            Some("documents") => Ok(Rotten::Documents),
            Some("log") => Ok(Rotten::Log),
            Some(other) => Err(format!("rows of table={other} carry no checksum: nobody could tell that they rot")),
            None => Err("table=documents or table=log is missing".into()),
        }
    }

    fn way(&mut self) -> Result<Way, String> {
        Ok(match self.take("way") {
            None | Some("both") => Way::Both,
            Some("in") => Way::In,
            Some("out") => Way::Out,
            Some(other) => return Err(format!("way={other} is none of both, in, out")),
        })
    }

    fn whom(&mut self) -> Result<Whom, String> {
        Ok(match self.take("from") {
            None | Some("everyone") => Whom::Everyone,
            Some("peers") => Whom::Peers,
            Some("agents") => Whom::Agents,
            Some("servers") => Whom::Servers,
            Some("etcd") => Whom::Etcd,
            Some(other) => return Err(format!("from={other} is none of everyone, peers, agents, servers, etcd")),
        })
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
        let target = next("the target")?;
        let for_ms = next("the duration")?;
        let pairs = words.map(|w| w.split_once('=').ok_or(format!("'{w}' is not of the form name=value")));
        let mut words = Words(pairs.collect::<Result<_, _>>()?);
        let kind = Kind::parse(name, &mut words)?;
        match words.0.first() {
            Some((name, _)) => Err(format!("unknown word '{name}' in this fault")),
            None => Ok(Fault { at_ms, kind, target: Target::parse(target)?, for_ms: number(for_ms)? }),
        }
    }

    /// What it draws when it strikes, it draws from here: no other fault shifts it, however many are taken out.
    pub fn rng(&self, s: &Scenario) -> Rng {
        Rng::new(s.seed_chance ^ self.at_ms.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}
