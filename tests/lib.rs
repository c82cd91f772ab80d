//! What the tests with real processes share: starting, killing and pausing nodes, a small HTTP client, and waiting.
//!
//! Nothing here knows how Tanist works inside: it speaks HTTP and sends signals, as an operator or a driver does.
//! Everything that a test starts ends with the test, also when it panics or is killed.

#[path = "harness/deployment.rs"]
pub mod deployment;
#[path = "harness/driver.rs"]
pub mod driver;
#[path = "harness/http.rs"]
pub mod http;
#[path = "harness/net.rs"]
pub mod net;
#[path = "harness/packages.rs"]
pub mod packages;
#[path = "harness/postgresql.rs"]
pub mod postgresql;
#[path = "harness/process.rs"]
pub mod process;
#[path = "harness/programs.rs"]
pub mod programs;
#[path = "harness/rollbacks.rs"]
pub mod rollbacks;
#[path = "harness/starter.rs"]
pub mod starter;
#[path = "harness/wait.rs"]
pub mod wait;

use std::io::Write;

/// Says that a test is skipped, and why, where the test runner does not swallow it.
pub fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
