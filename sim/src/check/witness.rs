//! I1 and I3 where an etcd orders the agency's entries: what agents write, and as what they lead, is held against the
//! order in which etcd did it.
//!
//! Keeps its own account of the seat and the log, from the questions that etcd carried out.

use super::{Ctx, Verdict, broken};
use bytes::Bytes;
use std::collections::BTreeMap;
use tanist_engine::etcd::{Answer, Ask, Change};
use tanist_engine::io::Event;
use tanist_engine::types::Term;

#[derive(Clone, Debug)]
struct Seat {
    agent: usize,
    incarnation: u64,
    lease: Option<u64>,
}

/// The account; it stays empty where agents have Raft.
#[derive(Clone, Default)]
pub struct Witness {
    /// Who took the seat, by the revision in which he did.
    seats: BTreeMap<u64, Seat>,
    /// The revision in which the present seat was taken.
    present: Option<u64>,
    /// Each entry as it was first written, and in which term.
    log: BTreeMap<String, (Term, Bytes)>,
    /// The entry that `snapshot` stands for.
    snapshot: u64,
}

fn is_seat(key: &str) -> bool {
    key.ends_with("/leader")
}

fn index_of(key: &str) -> Option<u64> {
    key.rsplit_once("/log/")?.1.parse().ok()
}

impl Witness {
    /// etcd carries out a question of an agent's process.
    pub fn done(&mut self, ctx: &Ctx, ask: &Ask, answer: &Answer) -> Verdict {
        match (ask, answer) {
            (Ask::Revoke { lease }, _) => self.lease_ended(*lease),
            (Ask::Transaction(transaction), Answer::Decided { succeeded: true, revision, .. }) => {
                for change in &transaction.then {
                    self.changed(ctx, change, *revision)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn changed(&mut self, ctx: &Ctx, change: &Change, revision: u64) -> Verdict {
        match change {
            Change::Put { key, lease, .. } if is_seat(key) => {
                let seat = Seat { agent: ctx.node, incarnation: ctx.incarnation, lease: *lease };
                self.seats.insert(revision, seat);
                self.present = Some(revision);
            }
            Change::Delete(span) if is_seat(&span.from) => self.present = None,
            Change::Put { key, value, .. } => {
                let owner = self.present.and_then(|present| self.seats.get(&present));
                let owns = owner.is_some_and(|o| (o.agent, o.incarnation) == (ctx.node, ctx.incarnation));
                if !owns {
                    let name = key.rsplit('/').next().unwrap_or_default();
                    broken!("I3", "a{} writes {name} to etcd without the seat (fencing)", ctx.node);
                }
                if let Some(index) = index_of(key) {
                    return self.appended(ctx, index, key, value);
                }
                if key.ends_with("/snapshot") {
                    let pointer: serde_json::Value = serde_json::from_slice(value).expect("JSON");
                    let index = pointer["index"].as_u64().expect("an index");
                    if index <= self.snapshot {
                        broken!("I3", "a{} brings the snapshot of {index} back, after {}", ctx.node, self.snapshot);
                    }
                    self.snapshot = index;
                }
            }
            Change::Delete(_) => {}
        }
        Ok(())
    }

    fn appended(&mut self, ctx: &Ctx, index: u64, key: &str, value: &Bytes) -> Verdict {
        let (term, _) = postcard::take_from_bytes::<Term>(value).expect("a log entry");
        if Some(term.0) != self.present {
            broken!("I3", "a{} writes entry {index} of term {} in another term", ctx.node, term.0);
        }
        let first = self.log.entry(key.to_owned()).or_insert_with(|| (term, value.clone()));
        if first.1 != *value {
            broken!("I3", "a{} writes another entry {index} than stood there first", ctx.node);
        }
        Ok(())
    }

    pub fn lease_ended(&mut self, lease: u64) {
        let seat = self.present.and_then(|present| self.seats.get(&present));
        if seat.is_some_and(|seat| seat.lease == Some(lease)) {
            self.present = None;
        }
    }

    /// An agent tells of itself.
    pub fn noted(&self, ctx: &Ctx, event: &Event) -> Verdict {
        match event {
            Event::LeadsAgency { term } => {
                let seat = self.seats.get(&term.0);
                if seat.is_none_or(|seat| (seat.agent, seat.incarnation) != (ctx.node, ctx.incarnation)) {
                    broken!("I1", "a{} leads term {}, in which it did not take the seat", ctx.node, term.0);
                }
            }
            Event::Applied { index, term, .. } => {
                let written = self.log.iter().find(|(key, _)| index_of(key) == Some(*index));
                if written.is_none_or(|(_, (written, _))| written != term) {
                    broken!("I3", "a{} applied {index} of term {}, which etcd never had", ctx.node, term.0);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The revision in which the seat was taken, if an answer shows that.
    pub fn shows_seat(&self, answer: &Answer) -> Option<u64> {
        match answer {
            Answer::Rows { rows, .. } => rows.iter().find(|row| is_seat(&row.key)).map(|row| row.created),
            _ => None,
        }
    }

    /// The end of the snapshot of which an answer brings a piece.
    pub fn shows_snapshot(&self, answer: &Answer) -> Option<u64> {
        let Answer::Rows { rows, .. } = answer else { return None };
        rows.iter().find_map(|row| row.key.split_once("/chunk/")?.1.split('/').next()?.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::At;
    use tanist_engine::etcd::{Compare, Span, Transaction};
    use tanist_engine::types::Time;

    fn ctx(node: usize) -> Ctx {
        Ctx { at: At(0), event: 1, node, incarnation: 1, local: Time(0) }
    }

    fn put(witness: &mut Witness, agent: usize, revision: u64, key: &str, value: &'static [u8]) -> Verdict {
        let key = format!("/tanist/x/{key}");
        let lease = is_seat(&key).then_some(revision);
        let then = vec![Change::Put { key, value: Bytes::from_static(value), lease }];
        let transaction = Transaction { compare: Vec::<Compare>::new(), then, otherwise: Vec::<Span>::new() };
        let answer = Answer::Decided { succeeded: true, revision, ranges: Vec::new() };
        witness.done(&ctx(agent), &Ask::Transaction(transaction), &answer)
    }

    #[test]
    fn only_who_has_the_seat_writes_and_only_in_its_term_and_each_place_once() {
        let mut witness = Witness::default();
        put(&mut witness, 0, 5, "leader", b"").unwrap();
        put(&mut witness, 0, 6, "log/01", &[5, 0]).unwrap();
        assert!(put(&mut witness, 0, 7, "log/02", &[4, 0]).unwrap_err().1.contains("in another term"));
        assert!(put(&mut witness, 0, 7, "log/01", &[5, 1]).unwrap_err().1.contains("another entry"));
        assert!(put(&mut witness, 1, 7, "log/02", &[5, 0]).unwrap_err().1.contains("without the seat"));
        put(&mut witness, 0, 8, "snapshot", br#"{"index":4}"#).unwrap();
        assert!(put(&mut witness, 0, 9, "snapshot", br#"{"index":4}"#).unwrap_err().1.contains("brings the snapshot"));
        witness.lease_ended(5);
        assert!(put(&mut witness, 0, 9, "log/02", &[5, 0]).unwrap_err().1.contains("without the seat"));
        let leads = |agent, term| witness.noted(&ctx(agent), &Event::LeadsAgency { term: Term(term) });
        leads(0, 5).unwrap();
        assert_eq!(leads(1, 5).unwrap_err().0, "I1");
        assert_eq!(leads(0, 6).unwrap_err().0, "I1");
        let applied = |index, term| {
            witness.noted(&ctx(0), &Event::Applied { index, term: Term(term), digest: 0 }).map_err(|broken| broken.0)
        };
        assert_eq!((applied(1, 5), applied(1, 4), applied(2, 5)), (Ok(()), Err("I3"), Err("I3")));
    }
}
