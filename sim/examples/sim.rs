//! `cargo sim`: see `tanist_sim::cli`.

use std::process::ExitCode;

/// A run allocates much and briefly; the system's allocator takes a third of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    tanist_sim::cli::main(&words)
}
