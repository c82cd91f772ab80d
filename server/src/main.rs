//! The `tanist` program; everything is in the library, where tests reach it.

/// Rows are made by the writer and freed by whoever was last to read them, which costs the system's allocator a third
/// of the writer's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tanist_server::cli::main()
}
