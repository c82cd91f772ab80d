//! The plain driver: one heap of happenings in order of time. Runs several times as many seeds as madsim's tasks.

use crate::clock::At;
use crate::world::{Due, Happening, World};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Drives the world until it says that it is over.
pub fn drive(world: &mut World) {
    // The heap holds keys only, so that happenings need no order of their own.
    let mut heap: BinaryHeap<Reverse<(At, u64)>> = BinaryHeap::new();
    let mut waiting: BTreeMap<u64, Happening> = BTreeMap::new();
    let mut number = 0;
    loop {
        for Due { at, what, .. } in world.take_due() {
            number += 1;
            heap.push(Reverse((at, number)));
            waiting.insert(number, what);
        }
        // Who is started or stopped matters only to a driver with tasks.
        world.take_effects();
        if world.over() {
            return;
        }
        let Some(Reverse((at, key))) = heap.pop() else { return };
        let what = waiting.remove(&key).expect("every key has its happening");
        world.handle(at, what);
    }
}
