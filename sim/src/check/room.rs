//! A leader whose storage is full gives way only to a server that has told of room, and leadership does not go round.
//!
//! A server's beats are held against what its disk did: it has no room from a refusal on until it has written again. A
//! hand-over that is asked for because a leader has none is held against the latest beats that have reached the agent
//! that asks, and against the last such hand-over that it has seen done.

use super::{Ctx, Processes, Verdict, broken};
use crate::faults::Kind;
use crate::scenario::Scenario;
use std::collections::BTreeMap;
use tanist_engine::db::store::StoreError;
use tanist_engine::io::{Event, OpResult, Ran};
use tanist_engine::message::Beat;
use tanist_engine::types::{Boot, Duration, NodeId, Time};

/// One server's process.
#[derive(Clone, Copy, Default, Hash)]
struct Disk {
    ever_refused: bool,
    /// Since it has written last.
    refused: bool,
}

/// One agent's process.
#[derive(Clone, Default, Hash)]
struct Desk {
    /// The latest beat of each server to arrive: its process, and whether it has no room.
    heard: BTreeMap<NodeId, (Boot, bool)>,
    leader: Option<NodeId>,
    /// Whom it has asked the leader to hand over to, while it leads.
    wanted: Option<NodeId>,
    /// When a leader was deposed last.
    deposed: Option<Time>,
    /// When one was deposed whose hand-over was done: from then on none was under way.
    done: Option<Time>,
}

#[derive(Clone, Hash)]
pub struct Room {
    disks: Processes<Disk>,
    desks: Processes<Desk>,
    /// Between two such hand-overs at least, by the shortest lease that the scenario sets.
    rest: Duration,
}

impl Room {
    pub fn new(s: &Scenario) -> Room {
        let set = s.faults.iter().filter_map(|fault| match fault.kind {
            Kind::Timing { lease_ms } => Some(lease_ms),
            _ => None,
        });
        let lease_ms = set.chain([s.lease_ms]).min().unwrap_or_default();
        Room {
            disks: Processes::new(s.servers as usize),
            desks: Processes::new(s.agents as usize),
            rest: Duration::from_millis(lease_ms) * 30,
        }
    }

    /// A server is told what its disk did.
    pub fn done(&mut self, ctx: &Ctx, result: &OpResult) {
        let disk = self.disks.of(ctx);
        match result {
            OpResult::Failed(StoreError::Full) => (disk.refused, disk.ever_refused) = (true, true),
            OpResult::Ran(Ran { entry: Some(_), .. })
            | OpResult::Expired { entry: Some(_), .. }
            | OpResult::Began { .. }
            | OpResult::Appended { .. }
            | OpResult::CopyFinished { .. } => disk.refused = false,
            _ => {}
        }
    }

    /// A server sends a beat.
    pub fn told(&mut self, ctx: &Ctx, beat: &Beat) -> Verdict {
        let disk = self.disks.of(ctx);
        if disk.refused && !beat.full {
            broken!("room", "s{} says that it has room, but has written nothing since it had none", ctx.node);
        }
        if beat.full && !disk.ever_refused {
            broken!("room", "s{} says that it has no room, but refused nothing", ctx.node);
        }
        Ok(())
    }

    /// A beat reaches an agent.
    pub fn heard(&mut self, ctx: &Ctx, from: NodeId, beat: &Beat) {
        let known = self.desks.of(ctx).heard.entry(from).or_insert((beat.boot, beat.full));
        if beat.boot >= known.0 {
            *known = (beat.boot, beat.full);
        }
    }

    /// An agent does something.
    pub fn noted(&mut self, ctx: &Ctx, event: &Event) -> Verdict {
        let rest = self.rest;
        let desk = self.desks.of(ctx);
        let has_none = |server: NodeId| desk.heard.get(&server).is_none_or(|(_, full)| *full);
        match event {
            Event::SendsOff { to } => {
                if has_none(*to) {
                    broken!("room", "a{} has {to} take over for its room, which has told of none", ctx.node);
                }
                if desk.leader.is_some_and(|leader| !has_none(leader)) {
                    broken!("room", "a{} sends a leader off for lack of room that has told of some", ctx.node);
                }
                if let Some(done) = desk.done.filter(|done| ctx.local < done.plus(rest)) {
                    let ms = ctx.local.since(done).as_millis();
                    broken!("room", "a{} sends a leader off {ms} ms after the one before", ctx.node);
                }
                desk.wanted = Some(*to);
            }
            Event::Deposed { .. } => desk.deposed = Some(ctx.local),
            Event::Elected { server, .. } => {
                if desk.wanted.take() == Some(*server) {
                    desk.done = desk.deposed;
                }
                desk.leader = Some(*server);
            }
            Event::LeadsAgency { .. } | Event::FollowsAgent { .. } | Event::Campaigns { .. } => {
                (desk.wanted, desk.deposed, desk.done, desk.leader) = (None, None, None, None);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::At;
    use tanist_engine::types::{Epoch, NodeKind, Position, Tick};

    const LEADER: NodeId = NodeId { kind: NodeKind::Server, uuid: 1 };
    const OTHER: NodeId = NodeId { kind: NodeKind::Server, uuid: 2 };

    fn ctx(ms: u64) -> Ctx {
        Ctx { at: At(1), event: 1, node: 0, incarnation: 1, local: Time(ms * 1_000_000) }
    }

    fn beat(boot: u64, full: bool) -> Beat {
        Beat {
            boot: Boot(boot),
            seq: 1,
            renew: None,
            serves: false,
            last: Position::ZERO,
            seen: Epoch(1),
            leader: None,
            complete: true,
            full,
            staying: true,
            matched: None,
            rollbacks: Vec::new(),
        }
    }

    fn elected(server: NodeId) -> Event {
        Event::Elected { epoch: Epoch(1), server, boot: Boot(1) }
    }

    fn room() -> Room {
        Room::new(&Scenario { lease_ms: 100, ..Scenario::default() })
    }

    #[test]
    fn a_beat_says_what_the_disk_did() {
        let full = OpResult::Failed(StoreError::Full);
        let written = OpResult::Appended { last: Position { epoch: Epoch(1), tick: Tick(4) }, builds: false };
        let mut room = room();
        assert!(room.told(&ctx(1), &beat(1, true)).is_err());
        assert!(room.told(&ctx(1), &beat(1, false)).is_ok());
        room.done(&ctx(1), &full);
        assert!(room.told(&ctx(1), &beat(1, false)).is_err());
        assert!(room.told(&ctx(1), &beat(1, true)).is_ok());
        room.done(&ctx(1), &written);
        assert!(room.told(&ctx(1), &beat(1, false)).is_ok());
        room.done(&ctx(1), &full);
        let next = Ctx { incarnation: 2, ..ctx(1) };
        assert!(room.told(&next, &beat(2, false)).is_ok(), "the next process knows of nothing");
    }

    #[test]
    fn a_leader_without_room_gives_way_to_one_that_has_some_and_not_again_at_once() {
        let sends_off = Event::SendsOff { to: OTHER };
        let judge = |leader: Option<bool>, other: Option<bool>| {
            let mut room = room();
            room.noted(&ctx(1), &elected(LEADER)).unwrap();
            for (server, full) in [(LEADER, leader), (OTHER, other)] {
                full.into_iter().for_each(|full| room.heard(&ctx(1), server, &beat(1, full)));
            }
            (room.noted(&ctx(1), &sends_off).is_ok(), room)
        };
        assert!(judge(Some(true), Some(false)).0);
        assert!(!judge(Some(true), Some(true)).0);
        assert!(!judge(Some(true), None).0);
        assert!(!judge(Some(false), Some(false)).0);
        let mut room = judge(Some(true), Some(false)).1;
        room.heard(&ctx(2), OTHER, &beat(0, true));
        room.noted(&ctx(2), &Event::Deposed { epoch: Epoch(2), server: Some(LEADER) }).unwrap();
        room.noted(&ctx(50), &elected(OTHER)).unwrap();
        room.heard(&ctx(3), OTHER, &beat(1, true));
        room.heard(&ctx(3), LEADER, &beat(1, false));
        let back = Event::SendsOff { to: LEADER };
        assert!(room.clone().noted(&ctx(3001), &back).is_err());
        assert!(room.clone().noted(&ctx(3002), &back).is_ok());
        let again = Event::LeadsAgency { term: tanist_engine::types::Term(2) };
        room.noted(&ctx(4), &again).unwrap();
        assert!(room.noted(&ctx(5), &back).is_ok(), "what an agent has seen in office only");
    }
}
