//! A scenario: everything that one run depends on, as `key value` lines that can be printed, edited and parsed.
//!
//! A seed draws a whole scenario (a swarm: sizes, options, which faults exist, how often). Each concern has a sub-seed
//! of its own, so that taking one fault out of the text leaves everything else as it was.

use crate::atlas;
use crate::check;
use crate::faults::{self, Fault, Kind};
use std::fmt;
use tanist_engine::types::Rng;

/// Of the text form. It changes when a key or a fault comes to mean something else; a text without it is current.
pub const VERSION: u64 = 1;

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident = $default:expr, $low:expr, $high:expr;)*) => {
        /// The numbers of a scenario. Durations have their unit at the end of the name.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Scenario {
            $($(#[$doc])* pub $name: u64,)*
            /// Which check it broke when it was kept; for the record.
            pub check: Option<&'static str>,
            /// In order of their time.
            pub faults: Vec<Fault>,
        }

        impl Default for Scenario {
            /// A calm run with three agents, three servers and two clients.
            fn default() -> Scenario {
                Scenario { $($name: $default,)* check: None, faults: Vec::new() }
            }
        }

        impl Scenario {
            /// The names of all numbers.
            pub const KEYS: &[&str] = &[$(stringify!($name)),*];

            /// The number with this name.
            pub fn get(&self, key: &str) -> u64 {
                match key {
                    $(stringify!($name) => self.$name,)*
                    _ => unreachable!("{key} is none of KEYS"),
                }
            }

            pub fn set(&mut self, key: &str, value: u64) -> Result<(), String> {
                match key {
                    $(stringify!($name) => {
                        if !($low..=$high).contains(&value) {
                            return Err(format!("{key} is {value}, but must lie in {}..={}", $low as u64, $high as u64));
                        }
                        self.$name = value;
                    })*
                    _ => return Err(format!("unknown key '{key}'")),
                }
                Ok(())
            }

        }
    };
}

keys! {
    /// What the scenario was drawn from; kept for the record.
    seed = 0, 0, u64::MAX;
    agents = 3, 1, 5;
    servers = 3, 1, 8;
    clients = 2, 0, 16;
    /// How long faults may happen; afterwards everything is healed.
    faults_ms = 15_000, 0, 600_000;
    /// Servers after the first start this much later, one after the other.
    stagger_ms = 100, 0, 60_000;
    /// The last server starts only now (0: with the others).
    late_server_ms = 0, 0, 600_000;
    lease_ms = 1000, 50, 60_000;
    drift_permille = 200, 0, 900;
    election_min_ms = 200, 10, 60_000;
    election_max_ms = 500, 20, 60_000;
    supervision_ms = 100, 10, 60_000;
    ok_threshold_ms = 800, 10, 60_000;
    compaction_step = 60, 1, 1_000_000;
    compaction_keep = 20, 0, 1_000_000;
    log_keep = 1000, 1, 1_000_000;
    log_keep_cap = 5000, 1, 10_000_000;
    log_slack = 64, 0, 1_000_000;
    chunk_bytes = 4096, 64, 1_000_000;
    /// 1: a server that starts knows that the process before it in its directory is dead.
    locks_tell = 0, 0, 1;
    /// Documents of a piece, of an index that is built while writes go on.
    build_documents = 1000, 1, 1_000_000;
    /// Each machine's steady clock runs fast or slow by at most this.
    clock_ppm_max = 0, 0, 899_999;
    net_delay_us = 500, 0, 1_000_000;
    net_loss_permille = 0, 0, 1000;
    net_duplicate_permille = 0, 0, 1000;
    net_straggler_permille = 0, 0, 1000;
    net_straggler_ms = 0, 0, 60_000;
    /// 1: nothing overtakes on a link, as on a TCP connection.
    net_ordered = 1, 0, 1;
    /// 1: each link has a weather of its own around this one, and another one on the way back.
    net_uneven = 0, 0, 1;
    disk_sync_us = 1500, 1, 10_000_000;
    disk_read_us = 100, 1, 10_000_000;
    /// Followers that must have what is acknowledged, and operations that a failover may lose (0: no limit).
    sync_followers = 0, 0, 7;
    failover_lag = 0, 0, 1_000_000;
    sync_timeout_ms = 1000, 10, 60_000;
    /// How often a client asks for followers of its own.
    sync_header_permille = 0, 0, 1000;
    /// How often, and for how long at most, a reader sleeps between its read and its answer (R13).
    read_pause_permille = 20, 0, 1000;
    read_pause_ms = 1500, 0, 60_000;
    /// How often an event that opens a short window (an election, the begin of a copy) is followed by a fault at once.
    aim_permille = 0, 0, 1000;
    /// A client's mean pause between two operations.
    think_ms = 60, 1, 60_000;
    /// Keys in each collection: the fewer, the more conflicts.
    keys = 6, 1, 200;
    /// Weights of the workload's actions.
    mix_write = 50, 0, 1000;
    mix_read = 25, 0, 1000;
    mix_dirty = 10, 0, 1000;
    mix_collection = 3, 0, 1000;
    mix_agency = 8, 0, 1000;
    /// Arrays of documents, imports, users, databases, and transactions on the agency's registers.
    mix_array = 0, 0, 1000;
    mix_import = 0, 0, 1000;
    mix_user = 0, 0, 1000;
    mix_database = 0, 0, 1000;
    mix_transact = 0, 0, 1000;
    /// Documents that expire, and how long after one sweep the next begins (0: none does).
    mix_expiring = 0, 0, 1000;
    ttl_frequency_ms = 0, 0, 3_600_000;
    /// Stream transactions, and how long one may be idle.
    mix_stream = 0, 0, 1000;
    transaction_idle_ms = 60_000, 10, 3_600_000;
    /// Collections with a unique index; AQL queries that write several documents, and within stream transactions, too.
    mix_unique = 0, 0, 1000;
    mix_aql = 0, 0, 1000;
    /// A named graph, its vertices and its edges.
    mix_graph = 0, 0, 1000;
    /// 1: an etcd orders the agency's entries, in the place of Raft among the agents.
    etcd = 0, 0, 1;
    /// 1: nothing is excused: what a clock beyond ε may break counts as broken.
    strict = 0, 0, 1;
    /// 1: after the faults a core is healed while the rest stays broken; it must live alone before the rest is healed.
    core = 0, 0, 1;
    seed_nodes = 1, 0, u64::MAX;
    seed_net = 2, 0, u64::MAX;
    seed_disk = 3, 0, u64::MAX;
    seed_clock = 4, 0, u64::MAX;
    seed_work = 5, 0, u64::MAX;
    seed_chance = 6, 0, u64::MAX;
    seed_aim = 7, 0, u64::MAX;
}

impl Scenario {
    /// The scenario that a seed stands for.
    pub fn draw(seed: u64) -> Scenario {
        let mut root = Rng::new(seed);
        let mut s = Scenario { seed, ..Scenario::default() };
        let subs = [&mut s.seed_nodes, &mut s.seed_net, &mut s.seed_disk, &mut s.seed_clock, &mut s.seed_work];
        subs.into_iter().for_each(|sub| *sub = root.next_u64() >> 16);
        s.seed_chance = root.next_u64() >> 16;

        let mut rng = root.fork(1);
        let mut pick = |choices: &[u64]| choices[rng.below(choices.len() as u64) as usize];
        s.agents = pick(&[1, 3, 3, 3, 3, 3, 5]);
        s.servers = pick(&[2, 2, 3, 3, 3, 3, 4, 5]);
        s.clients = pick(&[1, 2, 3, 5]);
        s.faults_ms = pick(&[2_000, 3_000, 4_000, 4_000, 6_000, 6_000, 8_000, 8_000, 12_000, 30_000]);
        s.stagger_ms = pick(&[0, 50, 400]);
        s.late_server_ms = pick(&[0, 0, 0, 1_000, 3_000]);
        s.lease_ms = pick(&[300, 600, 1000, 1500]);
        s.drift_permille = pick(&[100, 200, 200, 300]);
        (s.election_min_ms, s.election_max_ms) = [(150, 300), (200, 500), (400, 900)][pick(&[0, 1, 1, 2]) as usize];
        s.supervision_ms = pick(&[50, 100, 250]);
        s.ok_threshold_ms = pick(&[500, 800, 1500]);
        s.compaction_step = pick(&[10, 60, 300]);
        s.compaction_keep = pick(&[0, 5, 20, 100]);
        s.log_keep = pick(&[1, 10, 50, 1000]);
        s.log_keep_cap = s.log_keep * pick(&[1, 4, 50]);
        s.chunk_bytes = pick(&[64, 300, 1500, 8000, 60_000]);
        // Rates of ±ε/2 differ by less than a factor of 1/(1-ε): the assumption that the lease rests on.
        s.clock_ppm_max = pick(&[0, 100, s.drift_most_ppm(), s.drift_most_ppm()]);
        s.net_delay_us = pick(&[300, 1000, 1000, 5000, 20_000]);
        s.net_loss_permille = pick(&[0, 0, 2, 20, 100]);
        s.net_duplicate_permille = pick(&[0, 0, 10, 100]);
        s.net_straggler_permille = pick(&[0, 5, 5, 50]);
        s.net_straggler_ms = pick(&[50, 500, 3000]);
        s.net_ordered = pick(&[0, 1]);
        s.disk_sync_us = pick(&[200, 1500, 1500, 8000, 30_000]);
        s.read_pause_permille = pick(&[0, 30, 150]);
        s.think_ms = pick(&[15, 40, 40, 150]);
        s.keys = pick(&[2, 6, 6, 30]);
        s.mix_write = pick(&[20, 50, 80]);
        s.mix_read = pick(&[5, 25, 50]);
        s.mix_dirty = pick(&[0, 10, 30]);
        s.mix_collection = pick(&[0, 0, 2, 6]);
        s.mix_agency = pick(&[0, 5, 15]);
        s.faults = faults::draw(&mut root.fork(2), &s);
        let mut rng = Rng::new(s.seed_work).fork(1);
        let mut pick = |choices: &[u64]| choices[rng.below(choices.len() as u64) as usize];
        s.mix_array = pick(&[0, 8, 20]);
        s.mix_import = pick(&[0, 0, 5, 15]);
        s.mix_user = pick(&[0, 0, 6, 15]);
        s.mix_database = pick(&[0, 0, 3, 8]);
        s.mix_transact = pick(&[0, 10, 25]);
        s.log_slack = pick(&[0, 0, 8, 64]);
        s.read_pause_ms = pick(&[1500, 6000]);
        s.build_documents = pick(&[1, 1, 2, 1000]);
        s.locks_tell = pick(&[0, 1]);
        let mut rng = Rng::new(s.seed_work).fork(2);
        let mut pick = |choices: &[u64]| choices[rng.below(choices.len() as u64) as usize];
        s.sync_followers = pick(&[0, 0, 0, 1, 1, 2]).min(s.servers - 1);
        // Whoever has what was confirmed must keep its disk: otherwise it takes an operator to go on without it.
        let keeps_disks = !s.faults.iter().any(|f| matches!(f.kind, Kind::Rot { .. } | Kind::Wipe | Kind::Restore));
        s.sync_followers = if keeps_disks { s.sync_followers } else { 0 };
        s.failover_lag = if s.sync_followers == 0 && keeps_disks { pick(&[0, 0, 2, 20]) } else { 0 };
        s.sync_timeout_ms = pick(&[300, 1000, 2000]);
        s.sync_header_permille = if keeps_disks { pick(&[0, 0, 200]) } else { 0 };
        s.core = pick(&[0, 0, 0, 1]);
        let mut rng = Rng::new(s.seed_work).fork(3);
        let mut pick = |choices: &[u64]| choices[rng.below(choices.len() as u64) as usize];
        s.mix_expiring = pick(&[0, 0, 15]);
        s.ttl_frequency_ms = pick(&[100, 400, 1500]);
        let mut rng = Rng::new(s.seed_work).fork(4);
        let mut pick = |choices: &[u64]| choices[rng.below(choices.len() as u64) as usize];
        s.mix_stream = pick(&[0, 0, 25, 80]);
        s.transaction_idle_ms = pick(&[300, 2000, 60_000]);
        let mut rng = Rng::new(s.seed_work).fork(5);
        let mut pick = |choices: &[u64]| choices[rng.below(choices.len() as u64) as usize];
        s.mix_unique = pick(&[0, 0, 25, 80]);
        s.mix_aql = pick(&[0, 0, 20, 60]);
        s.mix_graph = [0, 0, 40, 100][Rng::new(s.seed_work).fork(6).below(4) as usize];
        s.net_uneven = Rng::new(s.seed_net).fork(1).below(2);
        let mut aim = root.fork(3);
        s.seed_aim = aim.next_u64() >> 16;
        // A run without faults stays one.
        s.aim_permille = if s.faults.is_empty() { 0 } else { [0, 0, 30, 150][aim.below(4) as usize] };
        let mut etcd = root.fork(4);
        s.etcd = u64::from(etcd.chance(1, 5));
        if s.etcd == 1 && !s.faults.is_empty() {
            faults::draw_etcd(&mut etcd, &mut s);
        }
        s
    }

    /// Reads the text form. Keys that are not given keep the calm defaults. An error names its line.
    pub fn parse(text: &str) -> Result<Scenario, String> {
        let mut scenario = Scenario::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let read = || -> Result<(), String> {
                let (key, rest) = line.split_once(char::is_whitespace).ok_or("a value is missing")?;
                let rest = rest.trim();
                match key {
                    "version" if rest == VERSION.to_string() => return Ok(()),
                    "version" => {
                        return Err(format!("the file is of version {rest}, but this program reads {VERSION}"));
                    }
                    "check" => scenario.check = Some(check::named(rest)?),
                    "fault" => scenario.faults.push(Fault::parse(rest)?),
                    _ => {
                        let value = rest.parse().map_err(|_| format!("'{rest}' is not a number for {key}"))?;
                        scenario.set(key, value)?;
                    }
                }
                Ok(())
            };
            let mut read = read;
            read().map_err(|e| format!("line {}: {e}", number + 1))?;
        }
        scenario.faults.sort_by_key(|f| f.at_ms);
        scenario.possible()?;
        Ok(scenario)
    }

    /// Half of ε, in millionths: what a clock may be off while no two differ by more than ε.
    pub fn drift_most_ppm(&self) -> u64 {
        self.drift_permille * 490
    }

    /// What a lease allows a clock to lose: the part of it that is ε.
    pub fn slack_ms(&self) -> u64 {
        self.lease_ms * self.drift_permille / 1000
    }

    /// What the ranges of single keys can't say.
    pub fn possible(&self) -> Result<(), String> {
        if ![1, 3, 5].contains(&self.agents) {
            return Err(format!("agents is {}, but must be 1, 3 or 5", self.agents));
        }
        if self.servers == 0 {
            return Err("there must be a server".into());
        }
        if self.election_min_ms >= self.election_max_ms {
            return Err("election_min_ms must be below election_max_ms".into());
        }
        let documents = self.mix_write + self.mix_read + self.mix_dirty + self.mix_array + self.mix_import;
        let others = self.mix_collection + self.mix_agency + self.mix_user + self.mix_database + self.mix_transact;
        let others = others + self.mix_expiring + self.mix_stream + self.mix_unique + self.mix_aql + self.mix_graph;
        if documents + others == 0 {
            return Err("all weights of the workload are 0".into());
        }
        if self.sync_followers >= self.servers {
            return Err(format!("sync_followers is {}, but there are {} servers", self.sync_followers, self.servers));
        }
        // Two clocks at the two ends: (1 + r) / (1 - r) must stay below 1 / (1 - ε).
        let (fast, slow) = (1_000_000 + self.clock_ppm_max, 1_000_000 - self.clock_ppm_max);
        if fast * (1000 - self.drift_permille) > slow * 1000 {
            return Err(format!(
                "clock_ppm_max {} breaks the assumption that clock rates differ by less than drift_permille {}",
                self.clock_ppm_max, self.drift_permille
            ));
        }
        atlas::check(self)
    }
}

/// `{}` prints every number, `{:#}` only those that are not the calm default.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calm = Scenario::default();
        writeln!(f, "version {VERSION}")?;
        self.check.map_or(Ok(()), |check| writeln!(f, "check {check}"))?;
        for key in Scenario::KEYS {
            if !f.alternate() || self.get(key) != calm.get(key) {
                writeln!(f, "{key} {}", self.get(key))?;
            }
        }
        self.faults.iter().try_for_each(|fault| writeln!(f, "fault {fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drawn_scenario_survives_its_text_form() {
        for seed in 0..300 {
            let scenario = Scenario::draw(seed);
            let text = scenario.to_string();
            let again = Scenario::parse(&text).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
            assert_eq!(scenario, again, "seed {seed}");
            let short = format!("{scenario:#}");
            assert!(short.len() < text.len());
            assert_eq!(scenario, Scenario::parse(&short).unwrap(), "seed {seed}");
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let error = |text: &str| Scenario::parse(text).unwrap_err();
        assert_eq!(error("seed 1\nfoo 3\n"), "line 2: unknown key 'foo'");
        assert_eq!(error("agents three"), "line 1: 'three' is not a number for agents");
        assert_eq!(error("agents"), "line 1: a value is missing");
        assert_eq!(error("servers 9"), "line 1: servers is 9, but must lie in 1..=8");
        assert_eq!(error("agents 2"), "agents is 2, but must be 1, 3 or 5");
        assert_eq!(error("fault 10 fly s0 100"), "line 1: unknown fault 'fly'");
        assert_eq!(error("fault 10 kill z0 100"), "line 1: unknown target 'z0'");
        assert_eq!(
            error("# a story\nversion 2\nwings 2"),
            "line 2: the file is of version 2, but this program reads 1"
        );
        assert!(error("check I18").starts_with("line 1: unknown check 'I18', must be one of I1, I2, I3"));
        assert!(error("clock_ppm_max 300000").contains("breaks the assumption"));
    }
}
