//! Deployments over several machines, each a network namespace of its own, with partitions, loss and delay between
//! them. Skipped, with a line that says so, where namespaces can't be made (it takes root, or CAP_SYS_ADMIN).

mod changing;
mod faults;
mod forming;
mod machine;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tanist-for-tests");
