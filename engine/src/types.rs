//! The words that every part shares: identities, clocks, positions in the log, randomness, configuration.
//!
//! Plain data and arithmetic. This module must never read a clock or gather entropy: time and seeds come in as
//! arguments, so that one seed gives one history.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
pub use std::time::Duration;

/// A reading of a machine's steady clock (`CLOCK_BOOTTIME`) in nanoseconds. Only differences on one machine mean
/// anything; it keeps counting while the machine is suspended and never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    pub const ZERO: Time = Time(0);
    /// Later than any reading.
    pub const NEVER: Time = Time(u64::MAX);

    pub fn plus(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// So long before this; zero at the earliest.
    pub fn minus(self, duration: Duration) -> Time {
        Time(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// What the shell reads from its clocks before each step. `wall_ms` (Unix milliseconds) is for what people and other
/// machines read: time stamps, `_rev`, TTLs. No lease and no timeout is ever computed from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Now {
    pub time: Time,
    pub wall_ms: u64,
}

impl Now {
    /// How far the two clocks have moved apart since an earlier reading on the same machine.
    pub fn apart(self, earlier: Now) -> Duration {
        let steady = self.time.since(earlier.time).as_millis() as i128;
        let wall = i128::from(self.wall_ms) - i128::from(earlier.wall_ms);
        Duration::from_millis((wall - steady).unsigned_abs() as u64)
    }
}

/// A Raft term of the agency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term(pub u64);

/// A reign: grows by at least one with each depose; owned by one *process* (server and boot). Epoch 0 means "none yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// The number of an entry in the replication log: 1, 2, 3, … without gaps. 0 means "no entry".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tick(pub u64);

/// Which start of a server this is: a counter that the agency hands out by a committed transaction. 0 means "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Boot(pub u64);

/// A place in the replication log. Ordered by epoch first: the longer log of an older epoch loses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    pub epoch: Epoch,
    pub tick: Tick,
}

impl Position {
    pub const ZERO: Position = Position { epoch: Epoch(0), tick: Tick(0) };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch.0, self.tick.0)
    }
}

/// Chance-made identity of one epoch: two logs share an epoch only if its lineage agrees (R3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lineage(pub u64);

/// One row of the epoch history: `epoch` begins with the log entry `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EpochRow {
    pub epoch: Epoch,
    pub first: Tick,
    pub lineage: Lineage,
}

/// Minted with a data directory; a wiped or copied-and-reset directory has another one (R11: also an agent's disk id).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreId(pub u128);

/// Minted by the agency when its pool forms: which deployment a server and its data belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeploymentId(pub u128);

/// Chance-made mark of one process start, chosen by whoever started it (R4). The agency maps it to a [`Boot`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nonce(pub u128);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NodeKind {
    Agent,
    Server,
}

/// Who a node is, for ever (kept in its data directory). Printed as ArangoDB does: `AGNT-<uuid>` or `SNGL-<uuid>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId {
    pub kind: NodeKind,
    pub uuid: u128,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.kind {
            NodeKind::Agent => "AGNT",
            NodeKind::Server => "SNGL",
        };
        write!(f, "{prefix}-{}", Uuid(self.uuid))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl NodeId {
    /// The inverse of `Display`; `None` for anything else.
    pub fn parse(text: &str) -> Option<NodeId> {
        let (prefix, uuid) = text.split_once('-')?;
        let kind = match prefix {
            "AGNT" => NodeKind::Agent,
            "SNGL" => NodeKind::Server,
            _ => return None,
        };
        Some(NodeId { kind, uuid: Uuid::parse(uuid)?.0 })
    }
}

/// 128 bits in the usual 8-4-4-4-12 form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uuid(pub u128);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand, because identities are in many keys and messages.
        let mut text = [b'-'; 36];
        let places = (0..36).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
        for (place, digit) in places.zip((0..32).rev()) {
            text[place] = b"0123456789abcdef"[(self.0 >> (4 * digit)) as usize & 0xf];
        }
        f.write_str(std::str::from_utf8(&text).expect("digits and dashes"))
    }
}

impl Uuid {
    pub fn parse(text: &str) -> Option<Uuid> {
        let groups: Vec<&str> = text.split('-').collect();
        let lengths: Vec<usize> = groups.iter().map(|g| g.len()).collect();
        let plain = text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
        if lengths != [8, 4, 4, 4, 12] || !plain {
            return None;
        }
        u128::from_str_radix(&groups.concat(), 16).ok().map(Uuid)
    }
}

/// Where a node listens: `tcp://host:port` or `ssl://host:port`, as ArangoDB writes endpoints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint(pub Arc<str>);

impl Endpoint {
    /// Accepts `tcp`, `http`, `ssl` and `https` schemes, or none (`tcp`), and needs a host and a port from 1 to 65535.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        let text = text.trim().trim_end_matches('/');
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let scheme = match scheme {
            "tcp" | "http" | "http+tcp" => "tcp",
            "ssl" | "https" | "http+ssl" => "ssl",
            _ => {
                return Err(format!("endpoint '{text}': unknown scheme '{scheme}' (tcp, ssl, http or https)"));
            }
        };
        let Some((host, port)) = rest.rsplit_once(':') else {
            return Err(format!("endpoint '{text}': a port is missing (tcp://host:port)"));
        };
        let port_ok = port.parse::<u16>().is_ok_and(|p| p > 0);
        let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
        let host_ok = bracketed || (!host.is_empty() && !host.contains([':', '/', '@', ' ', '?', '#']));
        if !port_ok || !host_ok {
            return Err(format!("endpoint '{text}': not of the form tcp://host:port"));
        }
        Ok(Endpoint(format!("{scheme}://{host}:{port}").into()))
    }

    /// `host:port`.
    pub fn authority(&self) -> &str {
        self.0.split_once("://").map_or(&*self.0, |(_, rest)| rest)
    }

    pub fn is_tls(&self) -> bool {
        self.0.starts_with("ssl://")
    }

    /// `http://host:port` or `https://host:port`: the form that clients get in `X-Arango-Endpoint`.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_tls() { "https" } else { "http" }, self.authority())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// xoshiro256++ (Blackman and Vigna, 2019), seeded through splitmix64. Small, fast, and the same bytes everywhere.
#[derive(Clone, Debug, Hash)]
pub struct Rng([u64; 4]);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        let mut x = seed;
        let mut split = || {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Rng([split(), split(), split(), split()])
    }

    /// A generator of its own for one concern, so that drawing more for one does not shift another.
    pub fn fork(&mut self, concern: u64) -> Rng {
        Rng::new(self.next_u64() ^ concern.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    pub fn next_u128(&mut self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }

    /// Uniform in `0..bound`; `bound` must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no element");
        // Lemire's multiply-shift; the bias is below 2^-32 for every bound used here.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in `low..high`; `low` itself if the range is empty.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low).as_nanos() as u64;
        if span == 0 { low } else { low + Duration::from_nanos(self.below(span)) }
    }

    /// True with probability `numerator / denominator`.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }
}

/// The two values that the safety of the lease rests on. They are replicated (R9): options only propose them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Timing {
    /// D: a leader is deposed only when this long has passed, on the agency leader's clock, since its last grant.
    pub lease: Duration,
    /// ε in thousandths: by how much the *rates* of two machines' clocks may differ.
    pub drift_permille: u32,
}

impl Timing {
    /// How long a server may use a grant, counted from when it *sent* the renewal: D·(1 − ε).
    pub fn usable(&self) -> Duration {
        if planted!(lease_without_margin) {
            return self.lease;
        }
        self.lease * (1000 - self.drift_permille.min(900)) / 1000
    }

    /// How far a machine's steady and wall clocks may move apart while it holds a lease: half of ε·D, the other half is
    /// left to the difference between two machines' clocks.
    pub fn slack(&self) -> Duration {
        self.lease * self.drift_permille.min(900) / 2000
    }
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { lease: Duration::from_millis(2000), drift_permille: 200 }
    }
}

/// How much of what was acknowledged may be lost with this server, when it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Durability {
    /// So many followers must have a write before it is acknowledged; 0: none.
    pub sync_followers: usize,
    /// R15: nothing is acknowledged that is further than so many operations ahead of the best follower.
    pub max_lag: Option<u64>,
    /// An answer waits for followers for at most this long; one that takes half of it is replaced, if another is there.
    pub timeout: Duration,
}

impl Durability {
    /// Members of the in-sync set. A limit to the lag is kept by one follower.
    pub fn wanted(&self) -> usize {
        match self.max_lag {
            Some(_) => self.sync_followers.max(1),
            None => self.sync_followers,
        }
    }

    /// By how much they may be behind what is acknowledged.
    pub fn lag(&self) -> u64 {
        if self.sync_followers > 0 { 0 } else { self.max_lag.unwrap_or(0) }
    }
}

impl Default for Durability {
    fn default() -> Durability {
        Durability { sync_followers: 0, max_lag: None, timeout: Duration::from_secs(5) }
    }
}

/// Who may speak to a node: the deployment's secrets and how strictly they are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Auth {
    pub enabled: bool,
    /// Secrets of HS256 tokens: the first signs, all verify.
    pub secrets: Vec<Vec<u8>>,
    /// Life of a token that `/_open/auth` hands out.
    pub session_timeout: Duration,
    /// Password of `root` where the data directory is created.
    pub root_password: String,
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            enabled: false,
            secrets: Vec::new(),
            session_timeout: Duration::from_secs(3600),
            root_password: String::new(),
        }
    }
}

/// Options of an agent. Defaults are ArangoDB's where it has the option.
#[derive(Clone, Debug, Hash)]
pub struct AgentConfig {
    pub endpoint: Endpoint,
    /// Other agents to look for while the pool forms.
    pub peers: Vec<Endpoint>,
    /// Agents in the pool that is formed: 1, 3 or 5.
    pub size: usize,
    /// Join an agency that exists, once its leader is told to let this agent in, instead of forming one.
    pub joins: bool,
    pub election_timeout_min: Duration,
    pub election_timeout_max: Duration,
    pub supervision_frequency: Duration,
    /// A server not heard of for this long is BAD, and after the lease FAILED.
    pub ok_threshold: Duration,
    /// Proposed for a new deployment, and by an operator who changes the option.
    pub timing: Timing,
    /// Log entries after which the log is compacted into a snapshot.
    pub compaction_step: u64,
    /// Log entries kept behind a snapshot for agents that lag and for `poll`.
    pub compaction_keep: u64,
    /// Instead of Raft among agents: the beginning of this agency's keys in an etcd.
    pub etcd: Option<String>,
    pub auth: Auth,
}

/// Options of a database server.
#[derive(Clone, Debug, Hash)]
pub struct ServerConfig {
    pub endpoint: Endpoint,
    /// What clients are told in `/_api/cluster/endpoints`, if it differs.
    pub advertised: Option<Endpoint>,
    /// The agency; empty for a plain single server, which leads itself.
    pub agency: Vec<Endpoint>,
    /// Name of the machine, shown in health records.
    pub host: String,
    pub nonce: Nonce,
    /// Of the process that had the data before, if it surely is dead.
    pub ended: Option<Nonce>,
    pub auth: Auth,
    /// Log entries kept for followers that lag; more are kept while one that is connected needs them, up to the cap.
    pub log_keep: u64,
    pub log_keep_cap: u64,
    /// The log is cut when it is an eighth and so many entries longer than what is kept.
    pub log_slack: u64,
    /// Rows of a snapshot piece and entries of one append carry at most about this many bytes.
    pub chunk_bytes: usize,
    /// Documents that are gone through at once when an index is built while writes go on.
    pub build_documents: usize,
    pub durability: Durability,
    pub expiry: ExpiryProperties,
    pub limits: Limits,
    pub transactions: TransactionLimits,
}

/// How documents in `ttl` indexes expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExpiryProperties {
    /// From one sweep to the next; zero: never.
    pub frequency: Duration,
    /// What a sweep removes at most, in all and of one collection.
    pub total_max: u64,
    pub collection_max: u64,
    pub active: bool,
}

impl Default for ExpiryProperties {
    fn default() -> ExpiryProperties {
        ExpiryProperties {
            frequency: Duration::from_secs(30),
            total_max: 1_000_000,
            collection_max: 100_000,
            active: true,
        }
    }
}

/// Bounds on everything that comes from outside.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Limits {
    /// Names of databases, collections and views may be almost any text.
    pub extended_names: bool,
    pub body_bytes: usize,
    pub document_bytes: usize,
    /// Requests admitted and not yet answered; one more is refused as overload.
    pub pending_requests: usize,
    /// Results of queries that wait to be fetched: how many, and their bytes together.
    pub cursors: usize,
    pub cursor_bytes: usize,
    /// Jobs that are pending or wait to be fetched, and their answers' bytes together.
    pub jobs: usize,
    pub job_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            extended_names: false,
            body_bytes: 512 << 20,
            document_bytes: 64 << 20,
            pending_requests: 8192,
            cursors: 10_000,
            cursor_bytes: 1 << 30,
            jobs: 10_000,
            job_bytes: 512 << 20,
        }
    }
}

/// Bounds on stream transactions.
#[derive(Clone, Copy, Debug, Hash)]
pub struct TransactionLimits {
    /// How many may be open.
    pub open: usize,
    /// What one may write, with the images before and after.
    pub bytes: usize,
    /// What is kept in memory for one, and for all: what they have written, and what others have changed since.
    pub memory_of_one: usize,
    pub memory_of_all: usize,
    /// One that nobody uses for so long is aborted.
    pub idle: Duration,
    /// How long a request waits for another one in the same transaction.
    pub wait: Duration,
    /// How long one waits to be begun, at most, while others have its collections to themselves.
    pub lock_wait: Duration,
    /// How many of those that are over are remembered, and for how long.
    pub over: usize,
    pub remembered: Duration,
}

impl Default for TransactionLimits {
    fn default() -> TransactionLimits {
        TransactionLimits {
            open: 1000,
            bytes: 128 << 20,
            memory_of_one: 256 << 20,
            memory_of_all: 1 << 30,
            idle: Duration::from_secs(60),
            wait: Duration::from_secs(8),
            lock_wait: Duration::from_secs(900),
            over: 10_000,
            remembered: Duration::from_secs(300),
        }
    }
}

#[expect(clippy::large_enum_variant, reason = "a process has one")]
#[derive(Clone, Debug, Hash)]
pub enum Config {
    Agent(AgentConfig),
    Server(ServerConfig),
}

impl Config {
    pub fn endpoint(&self) -> &Endpoint {
        match self {
            Config::Agent(c) => &c.endpoint,
            Config::Server(c) => &c.endpoint,
        }
    }

    pub fn auth(&self) -> &Auth {
        match self {
            Config::Agent(c) => &c.auth,
            Config::Server(c) => &c.auth,
        }
    }
}

impl AgentConfig {
    pub fn new(endpoint: Endpoint) -> AgentConfig {
        AgentConfig {
            endpoint,
            peers: Vec::new(),
            size: 1,
            joins: false,
            election_timeout_min: Duration::from_millis(300),
            election_timeout_max: Duration::from_millis(600),
            supervision_frequency: Duration::from_millis(1000),
            ok_threshold: Duration::from_millis(5000),
            timing: Timing::default(),
            compaction_step: 1000,
            compaction_keep: 50_000,
            etcd: None,
            auth: Auth::default(),
        }
    }
}

impl ServerConfig {
    pub fn new(endpoint: Endpoint, nonce: Nonce) -> ServerConfig {
        ServerConfig {
            endpoint,
            advertised: None,
            agency: Vec::new(),
            host: String::new(),
            nonce,
            ended: None,
            auth: Auth::default(),
            log_keep: 100_000,
            log_keep_cap: 2_000_000,
            log_slack: 64,
            chunk_bytes: 1 << 20,
            build_documents: 2000,
            durability: Durability::default(),
            expiry: ExpiryProperties::default(),
            limits: Limits::default(),
            transactions: TransactionLimits::default(),
        }
    }
}

/// `2026-01-31T23:59:59Z`
pub fn iso8601(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, in_day) = ((seconds / 86_400) as i64, seconds % 86_400);
    // The civil calendar from a count of days, by eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_endpoints_survive_their_text_form() {
        let id = NodeId { kind: NodeKind::Server, uuid: 0x0123_4567_89ab_cdef_0011_2233_4455_6677 };
        assert_eq!(id.to_string(), "SNGL-01234567-89ab-cdef-0011-223344556677");
        assert_eq!(NodeId::parse(&id.to_string()), Some(id));
        assert_eq!(NodeId::parse("SNGL-0"), None);
        assert_eq!(Endpoint::parse("http://localhost:8529/").unwrap().0.as_ref(), "tcp://localhost:8529");
        assert_eq!(Endpoint::parse("ssl://[::1]:1").unwrap().url(), "https://[::1]:1");
        for bad in ["", "tcp://", "tcp://:80", "tcp://a:0", "tcp://a:99999", "ftp://a:1", "tcp://a b:1", "::1:80"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn positions_compare_by_epoch_before_tick() {
        let at = |epoch, tick| Position { epoch: Epoch(epoch), tick: Tick(tick) };
        assert!(at(2, 1) > at(1, 900));
        assert!(at(2, 10) > at(2, 9));
    }

    #[test]
    fn times_are_written_as_iso_8601() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(iso8601(seconds * 1000), text);
        }
    }
}
