//! Waits on a clock for ever: neither fuel nor the epoch moves meanwhile.

use std::time::Duration;

use retort_guest::{Error, Event};

fn handle(event: Event) -> Result<(), Error> {
    match event.extra_args.first().map(String::as_str) {
        Some("wait") => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        Some("print") => {
            eprintln!("printed\nin two lines");
            assert_eq!(std::env::vars().count() + std::env::args().count(), 0);
            Ok(())
        }
        Some("handles") => loop {
            std::mem::forget(wasip2::cli::stdout::get_stdout());
        },
        Some("exit") => std::process::exit(3),
        other => panic!("{other:?} is no manner"),
    }
}

retort_guest::response!(handle);
