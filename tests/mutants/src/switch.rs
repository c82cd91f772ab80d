//! Whether a mutant is the one switched on in this process. Written into the copy of the engine that is changed.

use std::io::Write;
use std::sync::OnceLock;

static SWITCHED_ON: OnceLock<u32> = OnceLock::new();

/// Asked wherever a mutant stands. The first question reads the environment; a process with a number in it, also with
/// one that is nobody's, ends at its first panic: one failed test is enough.
pub fn on(mutant: u32) -> bool {
    *SWITCHED_ON.get_or_init(|| {
        let number = std::env::var("TANIST_MUTANT").ok().and_then(|number| number.parse().ok());
        if number.is_some() {
            std::panic::set_hook(Box::new(|panic| {
                // Not by a macro, which a test's capture would swallow.
                let _ = writeln!(std::io::stderr(), "{panic}");
                std::process::exit(101);
            }));
        }
        number.unwrap_or(0)
    }) == mutant
}
