//! The `tanist` program under a name of its own, so that the tests of this package always find it built and fresh.

fn main() -> std::process::ExitCode {
    tanist_server::cli::main()
}
