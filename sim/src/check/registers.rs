//! What clients saw of the agency (I3 as they see it): its registers are linearizable, its counters stay within what
//! was surely and what was perhaps counted, and no well-formed request is refused.

use super::linearizability::{self, Call, Model};
use super::{Verdict, broken};
use crate::action::Action;
use crate::clock::At;
use crate::workload::{Outcome, Record};
use std::collections::BTreeMap;

/// A call on one register, whose value is 0 while it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// Adds one; the value that was read after it.
    Add(Option<u64>),
    /// `swapped`: whether the value was as expected, if that is known. `seen`: the value that was in the way.
    Swap {
        old: u64,
        new: u64,
        swapped: Option<bool>,
        seen: Option<u64>,
    },
    Look(u64),
}

struct Register;

impl Model for Register {
    type State = u64;
    type What = What;

    fn step(state: &u64, what: &What) -> Option<u64> {
        match what {
            What::Add(seen) => Some(state + 1).filter(|now| seen.is_none_or(|seen| seen == *now)),
            What::Swap { old, new, swapped, seen } => {
                let swaps = state == old;
                let told = swapped.is_none_or(|swapped| swapped == swaps) && seen.is_none_or(|seen| seen == *state);
                told.then_some(if swaps { *new } else { *state })
            }
            What::Look(seen) => (seen == state).then_some(*state),
        }
    }
}

/// The calls on each register, with their operations' numbers. What surely did nothing and saw nothing is left out.
fn calls(records: &BTreeMap<u64, Record>) -> BTreeMap<u16, Vec<(u64, Call<What>)>> {
    let mut calls: BTreeMap<u16, Vec<(u64, Call<What>)>> = BTreeMap::new();
    for (op, record) in records {
        let Some(register) = record.action.register() else { continue };
        let known = matches!(record.outcome, Outcome::Done | Outcome::Not);
        let what = match (&record.action, record.outcome) {
            (Action::Add { .. }, Outcome::Not) => continue,
            // Sent twice, it read what there was the second time.
            (Action::Add { .. }, _) => What::Add(record.count.filter(|_| known && !record.doubtful)),
            (Action::Swap { old, .. }, outcome) => {
                let swapped = match outcome {
                    Outcome::Done => Some(true),
                    Outcome::Not if record.status == 412 => Some(false),
                    Outcome::Not => continue,
                    Outcome::Unknown | Outcome::Open => None,
                };
                let seen = record.count.filter(|_| swapped == Some(false));
                What::Swap { old: *old, new: Action::new_value(*op), swapped, seen }
            }
            (_, Outcome::Done) => match record.count {
                Some(seen) => What::Look(seen),
                None => continue,
            },
            _ => continue,
        };
        let returned = record.returned.filter(|_| known);
        calls.entry(register).or_default().push((*op, Call { called: record.called, returned, what }));
    }
    calls
}

pub fn check(records: &BTreeMap<u64, Record>) -> Verdict {
    for (op, record) in records.iter().filter(|(_, record)| record.action.is_agency()) {
        let (action, status) = (&record.action, record.status);
        let conflict = status == 412 && matches!(action, Action::Swap { .. });
        if (400..500).contains(&status) && !conflict {
            broken!("contract", "the agency answered operation {op} '{action}' with {status}");
        }
    }
    for (register, calls) in calls(records) {
        let (ops, calls): (Vec<u64>, Vec<Call<What>>) = calls.into_iter().unzip();
        if let Err(at) = linearizability::check::<Register>(&calls) {
            let (op, count, what) = (ops[at], calls.len(), &calls[at].what);
            broken!("I3", "register r{register}: {count} calls fit no order; operation {op} ({what:?}) has no place");
        }
    }
    counters(records)
}

/// The agency's counters, as a history: each read lies between what was surely counted before it and what may have been
/// counted by its end, and no read goes behind an earlier one.
fn counters(records: &BTreeMap<u64, Record>) -> Verdict {
    let of = |n: u8| {
        let counts = records.values().filter(move |r| r.action == Action::Count(n));
        let reads = records.values().filter(move |r| r.action == Action::ReadCount(n) && r.count.is_some());
        (counts, reads)
    };
    for n in 0..crate::workload::COUNTERS {
        let (counts, reads) = of(n);
        let mut floor: Vec<(At, u64)> = Vec::new();
        for read in reads {
            let (Some(count), Some(end)) = (read.count, read.returned) else { continue };
            let before = |r: &&Record| r.outcome == Outcome::Done && r.returned.is_some_and(|at| at < read.called);
            let least = counts.clone().filter(before).count() as u64;
            let most = counts.clone().filter(|r| r.called <= end && r.outcome != Outcome::Not).count() as u64;
            if !(least..=most).contains(&count) {
                broken!("I3", "counter n{n} was read as {count} at {end}; it must lie in {least}..={most}");
            }
            if let Some((_, seen)) = floor.iter().find(|(at, seen)| *at < read.called && *seen > count) {
                broken!("I3", "counter n{n} was read as {seen} and later as {count}");
            }
            floor.push((end, count));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(records: impl IntoIterator<Item = Record>) -> Verdict {
        check(&(1..).zip(records).collect())
    }

    #[test]
    fn registers_are_linearizable() {
        let add =
            |at, seen| Record::of(Action::Add { register: 0, named: true }, at, at + 1, Outcome::Done, Some(seen));
        let look = |at, seen| Record::of(Action::Look(0), at, at + 1, Outcome::Done, Some(seen));
        let swap = |at, old, outcome, status| {
            let action = Action::Swap { register: 0, old, named: false };
            Record { status, ..Record::of(action, at, at + 1, outcome, None) }
        };
        verdict([add(1, 1), look(3, 1), swap(5, 1, Outcome::Done, 200), look(7, 3000), add(9, 3001)]).unwrap();
        assert!(verdict([add(1, 1), look(3, 2)]).is_err(), "added twice");
        assert!(verdict([add(1, 1), swap(3, 0, Outcome::Done, 200)]).is_err(), "it was there");
        assert!(verdict([add(1, 1), swap(3, 1, Outcome::Not, 412)]).is_err(), "it was as expected");
        let in_the_way = |seen| Record { count: Some(seen), ..swap(3, 0, Outcome::Not, 412) };
        verdict([add(1, 1), in_the_way(1)]).unwrap();
        assert!(verdict([add(1, 1), in_the_way(2)]).is_err(), "another value was in the way");
        verdict([add(1, 1), swap(3, 1, Outcome::Unknown, 0), look(5, 1), look(9, 2000)]).unwrap();
        assert!(verdict([swap(3, 1, Outcome::Unknown, 0), look(5, 1000)]).is_err(), "it can't have fitted");
        verdict([swap(1, 7, Outcome::Not, 0), look(5, 0)]).unwrap();
        // Sent twice, an addition reads what was there the second time.
        let again = Record { doubtful: true, ..add(1, 5) };
        verdict([again, look(3, 1)]).unwrap();
    }

    #[test]
    fn a_refused_request_is_found() {
        let add = Record::of(Action::Add { register: 0, named: true }, 1, 2, Outcome::Not, None);
        assert!(verdict([Record { status: 412, ..add }]).is_err());
    }

    #[test]
    fn counters_must_be_linear() {
        let history = |count| {
            let read = |at, n| Record::of(Action::ReadCount(0), at, at + 1, Outcome::Done, Some(n));
            let records = [
                Record::of(Action::Count(0), 0, 1, Outcome::Done, None),
                Record::of(Action::Count(0), 0, 9, Outcome::Unknown, None),
                read(2, count),
                read(4, 1),
            ];
            verdict(records)
        };
        history(1).unwrap();
        assert!(history(0).is_err(), "a counted one is missing");
        assert!(history(3).is_err(), "counted twice");
        assert!(history(2).is_err(), "goes back later");
    }
}
