//! I15 to I17: once everything is healed, there must soon be a leader, equal followers, and an answer to everybody.
//!
//! A core that is healed while the rest stays broken must do the same, but for the reasons of [`WhyNot`].
//!
//! [`pending`] says what is still missing, in words. When the bound has passed, that is the violation.

use std::fmt;
use std::time::Duration;

/// What has been reached at some moment of the healed phase.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The server whose gate is open.
    pub leader: Option<usize>,
    /// Per server: running, and its log's end.
    pub servers: Vec<(bool, String)>,
    /// Every client has had a success from the leader since the healing.
    pub served: bool,
    /// No operation is open.
    pub idle: bool,
}

/// Why a core may not come to life: the whole list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// The first pool needs all its agents (R11).
    NoPool,
    /// An unfinished copy is never served (R5).
    NoCopy,
    /// What was confirmed may be with servers outside of it only.
    NoneInSync,
    /// A server outside has more than anybody within, and its answers come later than the lease that they ask for: it
    /// is elected again and again, in vain, until somebody stops it. To pass over it would lose what only it has.
    LateIsFurthest,
    /// Somebody outside is slow, or what he sends and gets is often lost, but he serves every now and then: he may lead
    /// the servers, or the agency. The core has its time from when he does not any more.
    LeaderOutside,
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WhyNot::NoPool => "its agents had not formed a pool with the others before",
            WhyNot::NoCopy => "none of its servers had ever completed a copy of the data",
            WhyNot::NoneInSync => "none of its servers is known to have what was confirmed",
            WhyNot::LateIsFurthest => "a server outside of it has the longest log, and answers too late to lead",
            WhyNot::LeaderOutside => "somebody outside of it led, who is slow or hardly heard",
        })
    }
}

/// How long a healed deployment may take, given its slowest parts.
pub fn bound(lease: Duration, election_max: Duration, ok_threshold: Duration, supervision: Duration) -> Duration {
    // Ten seconds: so long a server that could not begin its epoch is no candidate. The rest: failed elections, a lease
    // to wait out, detection, the round of reports, catching up.
    Duration::from_secs(10) + (lease + election_max + ok_threshold + supervision) * 4
}

pub fn pending(progress: &Progress) -> Option<(&'static str, String)> {
    let Some(leader) = progress.leader else {
        return Some(("I15", "no server leads".into()));
    };
    let end = &progress.servers[leader].1;
    for (server, (up, last)) in progress.servers.iter().enumerate() {
        if !up {
            return Some(("I16", format!("s{server} is not running")));
        }
        if last != end {
            return Some(("I16", format!("s{server} is at {last}, its leader s{leader} at {end}")));
        }
    }
    if !progress.served {
        return Some(("I17", "a client has had no answer from the leader since the healing".into()));
    }
    if !progress.idle {
        return Some(("I17", "an operation is still open".into()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_thing_is_named() {
        let good = Progress {
            leader: Some(1),
            servers: vec![(true, "2/7".into()), (true, "2/7".into())],
            served: true,
            idle: true,
        };
        assert_eq!(pending(&good), None);
        let named = |progress: Progress| pending(&progress).unwrap().0;
        assert_eq!(named(Progress { leader: None, ..good.clone() }), "I15");
        let behind = vec![(true, "2/6".into()), (true, "2/7".into())];
        assert_eq!(named(Progress { servers: behind, ..good.clone() }), "I16");
        let dead = vec![(false, "2/7".into()), (true, "2/7".into())];
        assert_eq!(named(Progress { servers: dead, ..good.clone() }), "I16");
        assert_eq!(named(Progress { served: false, ..good.clone() }), "I17");
        assert_eq!(named(Progress { idle: false, ..good }), "I17");
    }
}
