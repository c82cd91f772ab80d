//! Deployments of real processes, with the faults that an operator meets: the cases of ArangoDB's own tests for Active
//! Failover among them, each on real ports, real files and real signals.

mod account;
mod admission;
mod bad_input;
mod chaos;
mod failover;
mod full_disk;
mod replication;
mod starter;
mod synchrony;

use tanist_tests::deployment::Setup;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tanist-for-tests");

/// 3 agents, 3 servers, no authentication.
fn setup() -> Setup {
    Setup::new(PROGRAM)
}
