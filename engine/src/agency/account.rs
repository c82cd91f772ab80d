//! The account of each change of leaders: who, when, why, for how long nobody served, and what it has cost.
//!
//! Kept in the replicated state, the latest hundred, and shown in the tree as ArangoDB's job records. What an
//! asynchronous failover has cost is known in two steps: at once, that at least what the old leader last told of beyond
//! the new one's log is at risk; exactly, when the old leader is back and its log has been matched with the new one's.
//! This part must never call a loss exact before the deposed leader itself has told of it.

use super::state::iso_time;
use crate::message::Beat;
use crate::types::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Nobody had led.
    First,
    Failover,
    /// A hand-over that somebody asked for.
    Switchover,
    /// The leader was told to stop.
    Stop,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::First => "first",
            Kind::Failover => "failover",
            Kind::Switchover => "switchover",
            Kind::Stop => "stop",
        }
    }
}

/// What the end of an epoch has cost, as one server has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Loss {
    pub server: NodeId,
    pub ticks: u64,
    pub operations: u64,
    /// The deposed leader told it: this is all. Anybody else had at most as much as the deposed leader.
    pub exact: bool,
    /// That server's data were replaced by a copy, and are kept whole there: `ticks` is the least.
    pub whole: bool,
}

/// One change of leaders.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct Failover {
    /// The agency's entry that began it.
    pub job: u64,
    pub kind: Kind,
    pub ended: Epoch,
    pub epoch: Epoch,
    pub from: Option<NodeId>,
    pub to: Option<NodeId>,
    /// The sentence of the supervision's rule.
    pub reason: String,
    /// As last heard of from the deposed leader: unless it gave its lease back, it may have written more.
    pub old_last: Option<Position>,
    pub new_last: Option<Position>,
    /// R15: of what was acknowledged no more can be lost, for an in-sync set has the rest.
    pub loss_max: Option<u64>,
    /// Until when the old leader was known to serve.
    pub served_ms: u64,
    pub begun_ms: u64,
    pub finished_ms: u64,
    /// When the new leader got its first lease.
    pub serving_ms: Option<u64>,
    pub loss: Option<Loss>,
}

impl Failover {
    /// From when the old leader was last known to serve until the successor had a lease, by the agency's time: nobody
    /// served for at most as long. (A leader that hangs may have served until shortly after its last beat.)
    pub fn outage_ms(&self) -> Option<u64> {
        self.serving_ms.map(|serving_ms| serving_ms.saturating_sub(self.served_ms))
    }

    /// How many entries of the old leader the new one is known to lack: at least so many, as of the last renewal.
    pub fn ticks_at_risk(&self) -> Option<u64> {
        let (old, new) = (self.old_last?, self.new_last?);
        Some(if old > new { old.tick.0.saturating_sub(new.tick.0) } else { 0 })
    }

    /// A leader that gave its lease back has told all: if its successor has it, nothing is lost.
    pub fn settle_planned(&mut self) {
        if let (Some(_), Some(server), Some(0)) = (self.released_at(), self.from, self.ticks_at_risk()) {
            self.loss = Some(Loss { server, ticks: 0, operations: 0, exact: true, whole: false });
        }
    }

    /// Where the log of a leader ended that gave its lease back.
    pub fn released_at(&self) -> Option<Position> {
        self.old_last.filter(|_| matches!(self.kind, Kind::Switchover | Kind::Stop))
    }

    pub fn is_exact(&self) -> bool {
        self.loss.is_some_and(|loss| loss.exact)
    }

    /// What a server's beat adds to this record, if it adds anything.
    pub fn told_by(&self, server: NodeId, beat: &Beat) -> Option<Loss> {
        if self.is_exact() || beat.matched.is_none_or(|epoch| epoch < self.epoch) {
            return None;
        }
        let deposed = self.from == Some(server);
        let rollback = beat.rollbacks.iter().find(|r| r.end.epoch == self.ended && r.epoch >= self.epoch);
        let loss = match rollback {
            Some(r) => {
                let (ticks, operations, whole) = (r.ticks(), r.operations, r.whole);
                Loss { server, ticks, operations, exact: deposed && !whole, whole }
            }
            // Its log was matched as it was: it had nothing that the new leader lacked.
            None if deposed => Loss { server, ticks: 0, operations: 0, exact: true, whole: false },
            None => return None,
        };
        self.improves(loss).then_some(loss)
    }

    /// Whether that is news.
    pub fn improves(&self, loss: Loss) -> bool {
        self.loss.is_none_or(|known| (loss.exact, loss.ticks) > (known.exact, known.ticks))
    }

    /// ArangoDB's job record, with what Tanist knows besides.
    pub fn to_json(&self) -> Value {
        let position = |p: &Option<Position>| p.map(|p| json!({"epoch": p.epoch.0, "tick": p.tick.0}));
        let finished = self.to.is_some();
        json!({
            "type": "activeFailover",
            "creator": "supervision",
            "jobId": self.job.to_string(),
            "kind": self.kind.as_str(),
            "server": self.from.map(|id| id.to_string()),
            "newLeader": self.to.map(|id| id.to_string()),
            "reason": self.reason,
            "epoch": self.epoch.0,
            "oldPosition": position(&self.old_last),
            "newPosition": position(&self.new_last),
            "timeCreated": iso_time(self.begun_ms),
            "timeFinished": finished.then(|| iso_time(self.finished_ms)),
            "begunMs": self.begun_ms,
            "outageMs": self.outage_ms(),
            "ticksAtRisk": self.ticks_at_risk(),
            "acknowledgedLossMax": self.loss_max,
            "loss": self.loss.map(|loss| json!({
                "server": loss.server.to_string(), "ticks": loss.ticks, "operations": loss.operations,
                "exact": loss.exact, "whole": loss.whole,
            })),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::RollbackSummary;

    fn server(uuid: u128) -> NodeId {
        NodeId { kind: NodeKind::Server, uuid }
    }

    fn at(epoch: u64, tick: u64) -> Position {
        Position { epoch: Epoch(epoch), tick: Tick(tick) }
    }

    /// Server 1 led epoch 2 and told of tick 30; server 2 was elected for epoch 3 with tick 25.
    fn record() -> Failover {
        Failover {
            job: 7,
            kind: Kind::Failover,
            ended: Epoch(2),
            epoch: Epoch(3),
            from: Some(server(1)),
            to: Some(server(2)),
            reason: "the process is dead".into(),
            old_last: Some(at(2, 30)),
            new_last: Some(at(2, 25)),
            loss_max: None,
            served_ms: 1000,
            begun_ms: 1000,
            finished_ms: 1010,
            serving_ms: Some(1025),
            loss: None,
        }
    }

    fn beat(matched: Option<u64>, rollbacks: &[(u64, Position, Position)]) -> Beat {
        let summary = |(epoch, common, end): &(u64, Position, Position)| RollbackSummary {
            epoch: Epoch(*epoch),
            common: *common,
            end: *end,
            operations: 9,
            whole: false,
        };
        Beat {
            boot: Boot(1),
            seq: 1,
            renew: None,
            serves: false,
            last: at(3, 40),
            seen: Epoch(3),
            leader: None,
            complete: true,
            full: false,
            staying: true,
            matched: matched.map(Epoch),
            rollbacks: rollbacks.iter().map(summary).collect(),
        }
    }

    #[test]
    fn a_loss_is_exact_only_when_the_deposed_leader_has_told_it() {
        let mut record = record();
        assert_eq!((record.outage_ms(), record.ticks_at_risk()), (Some(25), Some(5)));
        let tail = (3, at(2, 25), at(2, 33));
        assert_eq!(record.told_by(server(1), &beat(None, &[tail])), None, "not matched yet: there may be more to undo");
        assert_eq!(record.told_by(server(1), &beat(Some(2), &[tail])), None, "matched in the epoch that has ended");
        assert_eq!(
            record.told_by(server(3), &beat(Some(3), &[])),
            None,
            "a follower without a tail says nothing of it"
        );
        let part = record.told_by(server(3), &beat(Some(3), &[(3, at(2, 25), at(2, 28))])).unwrap();
        assert_eq!((part.ticks, part.exact), (3, false));
        record.loss = Some(part);
        let all = record.told_by(server(1), &beat(Some(4), &[(2, at(1, 3), at(1, 9)), tail])).unwrap();
        assert_eq!((all.ticks, all.operations, all.exact), (8, 9, true));
        record.loss = Some(all);
        assert_eq!(
            record.told_by(server(3), &beat(Some(3), &[(3, at(2, 1), at(2, 28))])),
            None,
            "nothing is more exact"
        );
        assert!(!record.improves(part));
    }

    #[test]
    fn a_leader_that_comes_back_with_nothing_of_its_own_lost_nothing() {
        let loss = record().told_by(server(1), &beat(Some(3), &[(2, at(1, 3), at(1, 9))])).unwrap();
        assert_eq!((loss.ticks, loss.exact), (0, true));
        let planned = Failover { old_last: Some(at(2, 25)), ..record() };
        assert_eq!(planned.ticks_at_risk(), Some(0));
        assert_eq!(Failover { old_last: None, ..record() }.ticks_at_risk(), None, "it never told");
    }
}
