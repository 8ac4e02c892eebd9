//! Programs that are killed at a system call of one's choice: strace delivers the signal
//! before the kernel does the call, so nothing is left to luck and nothing in the program
//! knows of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// What changes a file or the firewall.
const CHANGES: &str =
    "pwrite64,fsync,fdatasync,ftruncate,fallocate,unlink,unlinkat,rename,sendto,sendmsg";

/// A system call: the `nth` of that name, from 1, by the thread that makes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub call: String,
    pub nth: usize,
}

/// Runs a program, which is to be named as the next argument, and writes down what it
/// changes. It is killed before it does `at`; the child is the program itself.
pub fn traced(into: &Path, at: Option<&Point>) -> Command {
    let mut strace = Command::new("strace");
    strace
        .args(["-D", "-f", "-qq", "-y", "-s", "0", "-o"])
        .arg(into);
    strace.args(["-e", &format!("trace={CHANGES}")]);
    if let Some(Point { call, nth }) = at {
        let kill = format!("inject={call}:signal=SIGKILL:when={nth}");
        strace.args(["-e", &kill]);
    }
    strace.arg("--");
    strace
}

/// What the thread that writes the journal has changed so far, in order.
pub fn changes(trace: &Path) -> Vec<Point> {
    let text = std::fs::read_to_string(trace).unwrap();
    let begun = text.lines().filter_map(|line| {
        let (thread, call) = line.split_once(char::is_whitespace)?;
        let (name, arguments) = call.trim_start().split_once('(')?;
        Some((thread, name, arguments))
    });
    let writer = begun
        .clone()
        .find(|(_, _, arguments)| arguments.contains("/retort/journal.db-wal>"))
        .map(|(thread, ..)| thread);
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    begun
        .filter(|(thread, ..)| Some(*thread) == writer)
        .map(|(_, name, _)| {
            let nth = counted.entry(name).or_default();
            *nth += 1;
            Point {
                call: name.to_owned(),
                nth: *nth,
            }
        })
        .collect()
}
