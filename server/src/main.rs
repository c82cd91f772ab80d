//! The `tanist` program; everything is in the library, where tests reach it.

fn main() -> std::process::ExitCode {
    tanist_server::cli::main()
}
