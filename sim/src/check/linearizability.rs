//! Whether a history of calls could have happened one after the other: each at an instant between its begin and its
//! end, each with the result that its caller saw (Wing and Gong's search, with Lowe's memory of what was tried).
//!
//! A call whose outcome nobody knows has no end: it may take effect at any later instant, or never. Histories are cut
//! by key before they come here, and kept short by the workload.

use crate::clock::At;
use std::collections::BTreeSet;

/// More calls than this do not fit into one history.
pub const CALLS_MAX: usize = 64;

/// One call with what its caller saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<W> {
    pub called: At,
    /// `None` for an outcome that is unknown.
    pub returned: Option<At>,
    pub what: W,
}

/// What calls do to a state.
pub trait Model {
    type State: Clone + Default + Ord;
    type What;

    /// The state after the call; `None` if the call can't have had its result here.
    fn step(state: &Self::State, what: &Self::What) -> Option<Self::State>;
}

/// `Err`: the call (its place in `calls`) at which the best attempt to order them ended.
pub fn check<M: Model>(calls: &[Call<M::What>]) -> Result<(), usize> {
    assert!(calls.len() <= CALLS_MAX, "histories are kept short");
    let mut stack = vec![(0u64, M::State::default())];
    let mut tried = BTreeSet::from([stack[0].clone()]);
    let mut best = (0, 0);
    while let Some((done, state)) = stack.pop() {
        let open = || calls.iter().enumerate().filter(move |(i, _)| done & (1 << i) == 0);
        let first_end = open().filter_map(|(i, call)| Some((call.returned?, i))).min();
        let Some((end, waiting)) = first_end else { return Ok(()) };
        best = best.max((done.count_ones(), waiting));
        // Whatever begins after another has ended comes after it.
        for (i, call) in open().filter(|(_, call)| call.called <= end) {
            if let Some(next) = M::step(&state, &call.what) {
                let next = (done | 1 << i, next);
                if tried.insert(next.clone()) {
                    stack.push(next);
                }
            }
        }
    }
    Err(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    enum What {
        Write(u64),
        Add,
        Read(u64),
    }
    use What::*;

    struct Register;

    impl Model for Register {
        type State = u64;
        type What = What;

        fn step(state: &u64, what: &What) -> Option<u64> {
            match what {
                Write(new) => Some(*new),
                Add => Some(state + 1),
                Read(seen) => (seen == state).then_some(*state),
            }
        }
    }

    /// Calls as (begin, end, what); an end of 0 is none.
    fn fits(calls: Vec<(u64, u64, What)>) -> bool {
        let call = |(called, returned, what)| {
            let returned = Some(At(returned)).filter(|at| at.0 > 0);
            Call { called: At(called), returned, what }
        };
        check::<Register>(&calls.into_iter().map(call).collect::<Vec<_>>()).is_ok()
    }

    #[test]
    fn one_after_the_other() {
        assert!(fits(vec![]));
        assert!(fits(vec![(1, 2, Write(5)), (3, 4, Read(5)), (5, 6, Add), (7, 8, Read(6))]));
        assert!(!fits(vec![(1, 2, Write(5)), (3, 4, Write(6)), (5, 6, Read(5))]), "stale");
        assert!(!fits(vec![(1, 2, Add), (3, 4, Add), (5, 6, Read(1))]), "an update is lost");
        assert!(!fits(vec![(1, 2, Add), (3, 4, Read(2))]), "applied twice");
        assert!(!fits(vec![(1, 2, Read(1)), (3, 4, Write(1))]), "from the future");
    }

    #[test]
    fn what_overlaps_may_come_in_any_order_but_in_one() {
        assert!(fits(vec![(1, 9, Write(5)), (2, 3, Read(0)), (4, 5, Read(5))]));
        assert!(!fits(vec![(1, 9, Write(5)), (2, 3, Read(5)), (4, 5, Read(0))]), "back again");
        assert!(fits(vec![(1, 9, Write(5)), (1, 9, Write(6)), (10, 11, Read(5))]));
        assert!(!fits(vec![(1, 9, Write(5)), (1, 9, Write(6)), (10, 11, Read(5)), (12, 13, Read(6))]));
        // Two readers must agree on the order of two writers.
        let two = |last| {
            let writes = [(1, 20, Write(5)), (1, 20, Write(6))];
            let reads = [(2, 3, Read(5)), (4, 5, Read(6)), (6, 7, Read(last))];
            fits(writes.into_iter().chain(reads).collect())
        };
        assert!(two(6));
        assert!(!two(5));
    }

    #[test]
    fn an_unknown_outcome_takes_effect_later_or_never() {
        assert!(fits(vec![(1, 0, Add), (2, 3, Read(0)), (50, 60, Read(1))]));
        assert!(fits(vec![(1, 0, Add), (2, 3, Read(0)), (50, 60, Read(0))]));
        assert!(!fits(vec![(1, 0, Add), (2, 3, Read(1)), (50, 60, Read(0))]), "done, then undone");
        assert!(!fits(vec![(1, 0, Add), (2, 3, Read(1)), (50, 60, Read(2))]), "applied twice");
        assert!(!fits(vec![(5, 0, Add), (2, 3, Read(1))]), "not before it was called");
    }

    #[test]
    fn the_culprit_is_named() {
        let call = |called, what| Call { called: At(called), returned: Some(At(called + 1)), what };
        let calls = [call(1, Write(5)), call(3, Read(5)), call(5, Read(4)), call(7, Read(5))];
        assert_eq!(check::<Register>(&calls), Err(2));
    }

    #[test]
    fn many_unknown_outcomes_are_affordable() {
        let unknown = (0..20).map(|i| (i, 0, Add));
        let reads = (0..20).map(|i| (100 + 2 * i, 101 + 2 * i, Read(i)));
        assert!(fits(unknown.chain(reads).collect()));
    }
}
