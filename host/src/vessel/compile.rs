//! Compiles a component in a child with limits of its own: what takes for ever or
//! eats the memory takes the child down, and nothing else.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use wasmtime::Engine;

use super::bare::Compiled;
use super::engine;

/// The hidden verb with which the compiler child is started.
pub const COMPILE: &str = "__compile";

/// CPU seconds. A Python guest of 18 MB takes about six.
const CPU_SECONDS: u64 = 60;

/// Address space. Cranelift needs about forty times the size of a component; a
/// Python guest stays under 2 GiB.
const ADDRESS_SPACE: u64 = 4 << 30;

/// Larger machine code than this is not taken back from the child.
const LARGEST_ANSWER: u64 = 512 << 20;

/// How long `install` and `check` wait. The CPU limit ends the child earlier
/// unless the machine is overloaded.
pub const PATIENT: Duration = Duration::from_secs(120);

/// Why there is no machine code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The child reached its limits.
    #[error("compiling it needs more than {0}; simplify the component")]
    Limit(String),
    /// The caller could not wait longer.
    #[error(
        "it is not compiled yet and compiling took longer than {0}; run `retort check`, which waits longer"
    )]
    Late(String),
    /// The component is not valid.
    #[error("it does not compile: {0}")]
    Invalid(String),
    /// The child could not be run.
    #[error("the compiler could not be run: {0}")]
    Child(String),
}

impl Error {
    pub(super) fn late(wall: Duration) -> Self {
        let whole = Duration::from_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        Self::Late(humantime::format_duration(whole).to_string())
    }
}

/// Machine code for `component`, made by a child of the program `retort`.
///
/// # Errors
/// See [`Error`].
pub(super) fn compile(component: &[u8], retort: &Path, wall: Duration) -> Result<Vec<u8>, Error> {
    let child_error = |e: std::io::Error| Error::Child(e.to_string());
    let mut child = Command::new(retort)
        .arg(COMPILE)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Error::Child(format!("{}: {e}", retort.display())))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let input = component.to_vec();
    let feed = std::thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(&input)));
    let answer = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.map(|pipe| pipe.take(LARGEST_ANSWER).read_to_end(&mut bytes));
        bytes
    });
    let words = std::thread::spawn(move || {
        let mut text = Vec::new();
        stderr.map(|pipe| pipe.take(4096).read_to_end(&mut text));
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(child_error)? {
            break status;
        }
        if started.elapsed() >= wall {
            // The child has no children: killing it closes all three pipes. Its memory
            // may take long to free; nobody waits for that here.
            let _ = child.kill();
            std::thread::spawn(move || child.wait());
            return Err(Error::late(wall));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let bytes = answer.join().unwrap_or_default();
    let said = words.join().unwrap_or_default();
    let _ = feed.join();
    match status.code() {
        Some(0) if !bytes.is_empty() => Ok(bytes),
        Some(2) => Err(Error::Invalid(said)),
        _ => Err(Error::Limit(format!(
            "{CPU_SECONDS} s of CPU or {} GiB of memory ({status})",
            ADDRESS_SPACE >> 30
        ))),
    }
}

/// What the child does: limits itself, reads a component, writes machine code.
/// Gives its exit code: 0 done, 2 not valid, 1 anything else.
#[must_use]
pub fn child() -> u8 {
    // Whoever waits for the answer may be ended by its own limit.
    let limited = set_pdeathsig(Signal::SIGKILL)
        .and_then(|()| setrlimit(Resource::RLIMIT_CPU, CPU_SECONDS, CPU_SECONDS))
        .and_then(|()| setrlimit(Resource::RLIMIT_AS, ADDRESS_SPACE, ADDRESS_SPACE))
        .and_then(|()| setrlimit(Resource::RLIMIT_CORE, 0, 0));
    if let Err(error) = limited {
        eprintln!("can't limit the compiler: {error}");
        return 1;
    }
    let mut component = Vec::new();
    if let Err(error) = std::io::stdin().lock().read_to_end(&mut component) {
        eprintln!("can't read the component: {error}");
        return 1;
    }
    let answer = engine::engine(engine::Allocation::OnDemand)
        .and_then(|engine| engine.precompile_component(&component));
    match answer {
        Ok(code) => match std::io::stdout().lock().write_all(&code) {
            Ok(()) => 0,
            Err(_) => 1,
        },
        Err(error) => {
            eprintln!("{error:#}");
            2
        }
    }
}

/// Vouches for what the compiler child wrote. The child is this program, and the
/// pipe has no other writer.
pub(super) fn vouch(code: Vec<u8>) -> Compiled {
    Compiled::vouched(code)
}

/// Whether this engine takes what the child makes. The allocation strategy is no
/// part of that, so both kinds of engine share one cache.
pub(super) fn compatibility(engine: &Engine) -> String {
    engine::compatibility(engine)
}
