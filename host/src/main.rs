//! One program, two ways in: its own name is the command line, every other name is a
//! response that an execd starts.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let called = retort::dropin::is_called(&argv);
    retort::dropin::seal::close_inherited(!called);
    if called {
        retort::dropin::main(&argv)
    } else {
        retort::cli::main(&argv)
    }
}
