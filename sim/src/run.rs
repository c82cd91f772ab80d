//! A run from scenario to outcome. A panic of the engine (an assertion) is caught and becomes the run's violation.

use crate::check::Violation;
use crate::clock::At;
use crate::scenario::Scenario;
use crate::timeline::Timeline;
use crate::trace::Trace;
use crate::world::{Figures, World};
use crate::{driver_loop, driver_madsim};
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use tanist_engine::mark;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Loop,
    Madsim,
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub violation: Option<Violation>,
    /// Over everything that happened: equal for two runs of the same scenario under the same driver.
    pub hash: u64,
    pub figures: Figures,
    /// How often each path was taken that has a mark.
    pub marks: mark::Counts,
}

thread_local! {
    /// Set while a run is under way on this thread: what the panic said, and where.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// A panic inside a run is a finding, to be told with the run's other facts rather than on its own.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if RUNNING.get() {
                PANIC.with_borrow_mut(|last| *last = Some(info.to_string().replace('\n', " ")));
            } else {
                default(info);
            }
        }));
    });
}

/// Does something that may panic; what the panic said, if it did.
pub(crate) fn caught<R>(act: impl FnOnce() -> R) -> Result<R, String> {
    listen();
    RUNNING.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(act));
    RUNNING.set(false);
    result.map_err(|_| PANIC.take().unwrap_or_else(|| "a panic without words".into()))
}

/// Runs a scenario; the trace goes to `sink`, if there is one.
pub fn run(scenario: &Scenario, driver: Driver, sink: Option<Box<dyn Write + Send>>) -> Outcome {
    mark::take();
    let mut world = World::new(scenario.clone(), Trace::new(sink));
    match driver {
        Driver::Loop => {
            world.drive();
            world.outcome()
        }
        // The world is lost with a panic inside madsim's runtime; the panic itself is the finding.
        Driver::Madsim => match caught(|| driver_madsim::drive(world, scenario.seed_chance)) {
            Ok(world) => world.outcome(),
            Err(what) => {
                let violation = Some(Violation { invariant: "panic", what, at: At(0) });
                Outcome { violation, hash: 0, figures: Figures::default(), marks: mark::take() }
            }
        },
    }
}

/// Runs a scenario under the plain driver, and notes everything for a page that draws it.
pub fn drawn(scenario: &Scenario) -> (Outcome, Timeline) {
    mark::take();
    let mut world = World::new(scenario.clone(), Trace::new(None));
    world.watch_closely();
    world.drive();
    let timeline = world.take_timeline();
    (world.outcome(), timeline)
}

impl World {
    fn drive(&mut self) {
        if let Err(what) = caught(|| driver_loop::drive(self)) {
            self.fail("panic", what);
        }
    }

    fn outcome(mut self) -> Outcome {
        self.trace.flush();
        Outcome {
            violation: self.violation.take(),
            hash: self.trace.hash.0,
            figures: self.figures.clone(),
            marks: mark::take(),
        }
    }
}
