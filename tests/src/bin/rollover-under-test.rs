//! The program, where tests of this package can find it.

fn main() -> std::process::ExitCode {
    runner::cli::main_impl(std::env::args_os())
}
