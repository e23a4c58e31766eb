//! `rollover`.

fn main() -> std::process::ExitCode {
    runner::cli::main_impl(std::env::args_os())
}
