//! What each operation of a query has done, for who asks for a profile.
//!
//! An operation is known by where it lies in the plan, which does not move while the query runs. Time goes to the
//! operation that a row has come to last, until the row goes on or the operation is done with what comes after it.

use super::super::ast::{Operation, OperationKind};
use crate::types::{Duration, Time};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that came in.
    pub calls: u64,
    /// Rows that went out.
    pub items: u64,
    pub filtered: u64,
    pub took: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(*const OperationKind);

impl Place {
    pub fn of(operation: &Operation) -> Place {
        Place(&raw const operation.kind)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Profile {
    tallies: BTreeMap<Place, Tally>,
    at: Option<Place>,
    since: Time,
}

impl Profile {
    pub(super) fn begin(now: Time) -> Profile {
        Profile { tallies: BTreeMap::new(), at: None, since: now }
    }

    pub(super) fn tally(&mut self, place: Place) -> &mut Tally {
        self.tallies.entry(place).or_default()
    }

    /// From now on time goes to that operation; returns to which it went.
    pub(super) fn turn_to(&mut self, place: Option<Place>, now: Time) -> Option<Place> {
        let took = now.since(self.since);
        self.since = now;
        if let Some(before) = self.at {
            self.tally(before).took += took;
        }
        std::mem::replace(&mut self.at, place)
    }

    /// What came of the operation of that kind, if any row has come to it.
    pub fn of(&self, kind: &OperationKind) -> Option<&Tally> {
        self.tallies.get(&Place(kind))
    }
}
