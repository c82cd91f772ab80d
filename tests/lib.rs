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
#[path = "harness/process.rs"]
pub mod process;
#[path = "harness/starter.rs"]
pub mod starter;
#[path = "harness/wait.rs"]
pub mod wait;
