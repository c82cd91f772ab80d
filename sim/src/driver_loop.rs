//! The plain driver: one heap of happenings in order of time. Runs several times as many seeds as madsim's tasks.

use crate::clock::At;
use crate::world::{Due, Happening, World};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What waits: the heap holds when, in which order, and where in `places` it lies.
#[derive(Default)]
struct Waiting {
    heap: BinaryHeap<Reverse<(At, u64, usize)>>,
    places: Vec<Option<Happening>>,
    free: Vec<usize>,
    number: u64,
}

impl Waiting {
    fn push(&mut self, at: At, what: Happening) {
        self.number += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(what);
        self.heap.push(Reverse((at, self.number, place)));
    }

    /// The earliest; of those at one instant, the one that was put in first.
    fn pop(&mut self) -> Option<(At, Happening)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        Some((at, self.places[place].take().expect("whatever is in the heap has its place")))
    }
}

/// Drives the world until it says that it is over.
pub fn drive(world: &mut World) {
    let mut waiting = Waiting::default();
    loop {
        for Due { at, what, .. } in world.take_due() {
            waiting.push(at, what);
        }
        // Who is started or stopped matters only to a driver with tasks.
        world.take_effects();
        if world.over() {
            return;
        }
        let Some((at, what)) = waiting.pop() else { return };
        world.handle(at, what);
    }
}
