//! A run from scenario to outcome. A panic of the engine (an assertion) is caught and becomes the run's violation.

use crate::check::Violation;
use crate::clock::At;
use crate::scenario::Scenario;
use crate::timeline::Timeline;
use crate::trace::Trace;
use crate::world::{Figures, World};
use crate::{driver_loop, driver_madsim};
use std::cell::RefCell;
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
    static RUNNING: RefCell<bool> = const { RefCell::new(false) };
}

/// A panic inside a run is a finding, to be told with the run's other facts rather than on its own.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if RUNNING.with_borrow(|running| *running) {
                PANIC.with_borrow_mut(|last| *last = Some(info.to_string().replace('\n', " ")));
            } else {
                default(info);
            }
        }));
    });
}

/// Runs a scenario; the trace goes to `sink`, if there is one.
pub fn run(scenario: &Scenario, driver: Driver, sink: Option<Box<dyn Write + Send>>) -> Outcome {
    listen();
    mark::take();
    let world = World::new(scenario.clone(), Trace::new(sink));
    RUNNING.set(true);
    let outcome = match driver {
        Driver::Loop => {
            let mut world = world;
            world.drive();
            world.outcome()
        }
        Driver::Madsim => {
            // The world is lost with a panic inside madsim's runtime; the panic itself is the finding.
            match panic::catch_unwind(AssertUnwindSafe(|| driver_madsim::drive(world, scenario.seed_chance))) {
                Ok(world) => world.outcome(),
                Err(_) => {
                    let violation = Violation { invariant: "panic", what: panic_text(), at: At(0) };
                    Outcome { violation: Some(violation), hash: 0, figures: Figures::default(), marks: mark::take() }
                }
            }
        }
    };
    RUNNING.set(false);
    outcome
}

/// Does something that may panic; what the panic said, if it did.
pub(crate) fn caught<R>(act: impl FnOnce() -> R) -> Result<R, String> {
    listen();
    RUNNING.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(act));
    RUNNING.set(false);
    result.map_err(|_| panic_text())
}

/// Runs a scenario under the plain driver, and notes everything for a page that draws it.
pub fn drawn(scenario: &Scenario) -> (Outcome, Timeline) {
    listen();
    mark::take();
    let mut world = World::new(scenario.clone(), Trace::new(None));
    world.watch_closely();
    RUNNING.set(true);
    world.drive();
    RUNNING.set(false);
    let timeline = world.take_timeline();
    (world.outcome(), timeline)
}

fn panic_text() -> String {
    PANIC.take().unwrap_or_else(|| "a panic without words".into())
}

impl World {
    fn drive(&mut self) {
        let ended = panic::catch_unwind(AssertUnwindSafe(|| driver_loop::drive(self)));
        if ended.is_err() {
            self.fail("panic", panic_text());
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
