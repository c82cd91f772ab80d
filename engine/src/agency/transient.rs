//! What the leading agent shows besides the replicated tree: the servers' signs of life, and what clients put there.
//!
//! Volatile, like all that an office knows. A sign of life comes with every beat and is seldom looked at, so it enters
//! the tree only when somebody looks.

use super::state::iso_time;
use super::tree::Tree;
use crate::message::Beat;
use crate::types::*;
use serde_json::json;
use std::collections::BTreeMap;

/// `AsyncReplication/<id>` lives this long without a beat.
const BEAT_LIFE_MS: u64 = 5000;

#[derive(Clone, Default, Hash)]
pub struct Transient {
    tree: Tree,
    /// The latest of each server that is not in the tree yet.
    signs: BTreeMap<NodeId, Sign>,
}

#[derive(Clone, Hash)]
struct Sign {
    staying: bool,
    wall_ms: u64,
    leader: Option<NodeId>,
    last: Tick,
    expires_ms: u64,
}

impl Transient {
    /// A server has beaten: `wall_ms` by this agent's clock, `stamp` by the agency's.
    pub fn beaten(&mut self, server: NodeId, beat: &Beat, wall_ms: u64, stamp: u64) {
        let expires_ms = stamp.saturating_add(BEAT_LIFE_MS);
        let sign = Sign { staying: beat.staying, wall_ms, leader: beat.leader, last: beat.last.tick, expires_ms };
        self.signs.insert(server, sign);
    }

    /// All of it, to be read or changed.
    pub fn tree(&mut self) -> &mut Tree {
        for (server, sign) in std::mem::take(&mut self.signs) {
            let status = if sign.staying { "SERVING" } else { "SHUTDOWN" };
            let state = json!({"status": status, "time": iso_time(sign.wall_ms)});
            self.tree.set(&format!("/arango/Sync/ServerStates/{server}"), &state);
            let leader = sign.leader.map_or(String::new(), |leader| leader.to_string());
            let follows = json!({"leader": leader, "lastTick": sign.last.0});
            self.tree.set_until(&format!("/arango/AsyncReplication/{server}"), &follows, Some(sign.expires_ms));
        }
        &mut self.tree
    }

    pub fn expire(&mut self, wall_ms: u64) {
        self.tree.expire(wall_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_are_there_when_somebody_looks_and_go_with_their_time() {
        let server = NodeId { kind: NodeKind::Server, uuid: 7 };
        let last = Position { epoch: Epoch(1), tick: Tick(9) };
        let beat = Beat {
            boot: Boot(1),
            seq: 1,
            renew: None,
            serves: false,
            last,
            seen: Epoch(1),
            leader: Some(server),
            complete: true,
            full: false,
            staying: true,
            matched: None,
            rollbacks: Vec::new(),
        };
        let mut transient = Transient::default();
        transient.beaten(server, &beat, 1_700_000_000_000, 1000);
        transient.expire(1000);
        transient.beaten(server, &Beat { staying: false, ..beat }, 1_700_000_000_000, 2000);
        let follows = format!("/arango/AsyncReplication/{server}");
        let state = format!("/arango/Sync/ServerStates/{server}");
        let expected = json!({"leader": server.to_string(), "lastTick": 9});
        assert_eq!(transient.tree().get(&follows, 2000), Some(expected));
        let expected = json!({"status": "SHUTDOWN", "time": "2023-11-14T22:13:20Z"});
        assert_eq!(transient.tree().get(&state, 2000), Some(expected.clone()));
        transient.expire(7000);
        assert_eq!(transient.tree().get(&follows, 7000), None);
        assert_eq!(transient.tree().get(&state, 7000), Some(expected));
    }
}
