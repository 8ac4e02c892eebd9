//! Somebody who keeps what every response needs.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::root::Root;

/// Keeps the lock between journal and kernel.
pub const LOCK: &str = "import sys, fcntl; f = open(sys.argv[1] + '/retort/lock', 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()";
/// Keeps SQLite's own.
pub const JOURNAL: &str = "import sys, sqlite3; c = sqlite3.connect(sys.argv[1] + '/retort/journal.db', isolation_level=None); c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()";

/// Lets go when it is dropped.
pub struct Keeper(Child);

impl Keeper {
    pub fn of(root: &Root, script: &str) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(root.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "held\n");
        Self(child)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
