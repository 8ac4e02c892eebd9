//! A daemon of Retort, ended with the test.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::root::{RETORT, Root};

/// See the module.
pub struct Daemon {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    queue: PathBuf,
}

impl Daemon {
    /// Starts `retort execd` for that installation; it serves when this returns.
    pub fn execd(root: &Root) -> Self {
        Self::start(root, Command::new(RETORT), "queue/alerts/execq")
    }

    /// As [`Daemon::execd`], with the program started in another way.
    pub fn start(root: &Root, mut program: Command, queue: &str) -> Self {
        std::fs::create_dir_all(root.path().join("queue/alerts")).unwrap();
        program.arg("--root").arg(root.path()).args(["execd", "-f"]);
        let daemon = Self::spawn(program, root.path().join(queue));
        assert!(daemon.says("Started"), "{:?}", daemon.said());
        daemon
    }

    /// Starts a program, and listens to what it says.
    pub fn spawn(mut program: Command, queue: PathBuf) -> Self {
        let mut child = program
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (stderr, into) = (child.stderr.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        Self { child, said, queue }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Whether it says that within some seconds.
    pub fn says(&self, words: &str) -> bool {
        until(Duration::from_secs(20), || {
            self.said().iter().any(|line| line.contains(words))
        })
    }

    /// One datagram into its queue.
    pub fn send(&self, datagram: &str) {
        self.try_send(datagram).unwrap();
    }

    /// As [`Daemon::send`], to one that may be dead.
    pub fn try_send(&self, datagram: &str) -> std::io::Result<usize> {
        let socket = UnixDatagram::unbound().unwrap();
        socket.send_to(datagram.as_bytes(), &self.queue)
    }

    /// Whether it lives still.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGTERM; its exit status.
    pub fn stop(mut self) -> Option<i32> {
        kill(self.process(), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; its exit status.
    pub fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    fn process(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until that is so, but not for ever.
pub fn until(patience: Duration, so: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < patience {
        if so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
