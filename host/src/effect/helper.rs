//! Starts a helper: a fixed program of the grants, with the fixed arguments that
//! stand there. A guest names it and can do nothing else: no shell, no argument,
//! no environment, no descriptor of ours.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{Done, Refusal};
use crate::conf::grants::{Argument, Helper};
use crate::conf::trust;
use crate::event::{Event, Field};

/// How often a running helper is looked at. Helpers are programs that people
/// wait for in seconds; a pidfd would save nothing that anyone could measure.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The longest value that a placeholder may become: Linux takes user names of 32
/// and paths of 4096 bytes.
const LONGEST_VALUE: usize = 4096;

/// What a supervisor says when its program runs; anything else is why it does not.
const STARTED: &str = "started";

/// The longest reason that is listened to.
const LONGEST_WORD: u64 = 4096;

/// The hidden verb with which a detached helper's supervisor is started.
pub const SUPERVISE: &str = "__supervise";

/// The argument list with its placeholders filled.
///
/// # Errors
/// `invalid` when a field that a placeholder names is absent or not of its grammar.
pub fn arguments(helper: &Helper, event: &Event) -> Result<Vec<String>, Refusal> {
    helper
        .argv
        .iter()
        .map(|argument| match argument {
            Argument::Fixed(text) => Ok(text.clone()),
            Argument::Field(field) => value(*field, event),
        })
        .collect()
}

fn value(field: Field, event: &Event) -> Result<String, Refusal> {
    let absent = || Refusal::invalid(format!("this event has no {field} for `{{{field}}}`"));
    let text = match field {
        Field::Srcip => return event.srcip.map(|a| a.to_string()).ok_or_else(absent),
        Field::User => event.user.clone(),
        Field::Hostname => event.hostname.clone(),
        Field::Filename => event.filename.clone(),
    }
    .ok_or_else(absent)?;
    let refuse = |why: &str| Err(Refusal::invalid(format!("`{{{field}}}`: the value {why}")));
    if text.is_empty() || text.len() > LONGEST_VALUE {
        return refuse("is empty or too long");
    }
    if text.starts_with('-') {
        return refuse("begins with `-` and would be read as an option");
    }
    if text.chars().any(char::is_control) {
        return refuse("holds a control character");
    }
    match field {
        Field::User if !matches!(nix::unistd::User::from_name(&text), Ok(Some(_))) => {
            refuse("is no account of this host")
        }
        Field::Hostname if !is_host_name(&text) => refuse("is no host name"),
        Field::Filename if !is_plain_path(&text) => refuse("is no absolute path without `..`"),
        _ => Ok(text),
    }
}

fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !label.ends_with('-')
        })
}

fn is_plain_path(text: &str) -> bool {
    text.starts_with('/') && !text.split('/').any(|part| part == "..")
}

/// Runs the helper to its end, but not beyond `left`.
///
/// # Errors
/// `failed` when it can't be started, is not trusted, or runs over its time; then
/// its whole process group is gone.
pub fn run(helper: &Helper, argv: &[String], left: Duration) -> Result<Done, Refusal> {
    let mut child = start(argv)?;
    let limit = helper.wall.min(left);
    match wait(&mut child, limit) {
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Ok(Done::Exited { code }),
            (None, signal) => Err(Refusal::failed(format!(
                "the helper was ended by signal {}",
                signal.unwrap_or_default()
            ))),
        },
        None => Err(Refusal::failed(format!(
            "the helper ran longer than {} and was ended",
            humantime::format_duration(limit)
        ))),
    }
}

/// Starts a helper that outlives the invocation, under a supervisor of its own
/// which ends it at its wall limit. `retort` is the program that has the verb.
///
/// # Errors
/// `failed` when it can't be started or is not trusted.
pub fn detach(
    helper: &Helper,
    argv: &[String],
    retort: &Path,
    left: Duration,
) -> Result<Done, Refusal> {
    trusted(argv)?;
    let mut command = Command::new(retort);
    command
        .arg(SUPERVISE)
        .arg(helper.wall.as_millis().to_string())
        .arg("--")
        .args(argv);
    let supervisor = sealed(&mut command).stdout(Stdio::piped()).spawn();
    let supervisor = supervisor.map_err(|e| {
        Refusal::failed(format!(
            "can't start the helper's supervisor {}: {e}",
            retort.display()
        ))
    })?;
    match first_word(supervisor, left).as_deref() {
        Some(STARTED) => Ok(Done::Started),
        Some(why) if !why.is_empty() => Err(Refusal::failed(why)),
        _ => Err(Refusal::failed("the helper's supervisor did not answer")),
    }
}

/// What the supervisor says of the start; it goes on without us.
fn first_word(supervisor: Child, left: Duration) -> Option<String> {
    let (to, said) = mpsc::channel();
    let mut stdout = BufReader::new(supervisor.stdout?.take(LONGEST_WORD));
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = stdout.read_line(&mut line);
        let _ = to.send(line.trim_end().to_owned());
    });
    said.recv_timeout(left).ok()
}

/// What the supervisor does: starts the program, waits, ends it at its limit. The
/// exit code is the program's, or 124 when its time was up.
#[must_use]
pub fn supervise(limit: Duration, argv: &[String]) -> u8 {
    let mut child = match start(argv) {
        Ok(child) => child,
        Err(refusal) => {
            println!("{}", refusal.reason.replace('\n', " "));
            return 127;
        }
    };
    println!("{STARTED}");
    match wait(&mut child, limit) {
        Some(status) => status
            .code()
            .and_then(|c| u8::try_from(c).ok())
            .unwrap_or(1),
        None => 124,
    }
}

fn trusted(argv: &[String]) -> Result<PathBuf, Refusal> {
    let program = argv.first().map(PathBuf::from).unwrap_or_default();
    if !program.is_absolute() {
        return Err(Refusal::failed(
            "a helper needs an absolute program in its argv",
        ));
    }
    trust::check(&program).map_err(|e| Refusal::failed(e.to_string()))?;
    Ok(program)
}

fn start(argv: &[String]) -> Result<Child, Refusal> {
    let program = trusted(argv)?;
    let mut command = Command::new(&program);
    command.args(argv.iter().skip(1));
    sealed(&mut command)
        .spawn()
        .map_err(|e| Refusal::failed(format!("can't start {}: {e}", program.display())))
}

fn sealed(command: &mut Command) -> &mut Command {
    command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
}

fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if started.elapsed() >= limit {
            if let Ok(pid) = i32::try_from(child.id()) {
                // The group's id is the child's: whatever it started goes with it.
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Action;

    fn helper(argv: &[&str], wall: Duration) -> Helper {
        Helper {
            argv: argv
                .iter()
                .map(|a| Argument::Fixed((*a).to_owned()))
                .collect(),
            detached: false,
            wall,
            on: vec![Action::Add],
        }
    }

    fn run_it(argv: &[&str], wall: Duration) -> Result<Done, Refusal> {
        let argv_owned: Vec<String> = argv.iter().map(|a| (*a).to_owned()).collect();
        run(&helper(argv, wall), &argv_owned, Duration::from_secs(5))
    }

    fn event() -> Event {
        serde_json::from_str(r#"{"action":"add"}"#).unwrap()
    }

    #[test]
    fn the_exit_code_comes_back() {
        assert_eq!(
            run_it(&["/bin/false"], Duration::from_secs(5)),
            Ok(Done::Exited { code: 1 })
        );
    }

    #[test]
    fn a_helper_sees_neither_environment_nor_our_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        let _open = std::fs::File::create(&secret).unwrap();
        let program = format!(
            "test -z \"$HOME$USER$CARGO\" && test \"$PWD\" = / && ! ls -l /proc/self/fd | grep -q {}",
            secret.display()
        );
        assert_eq!(
            run_it(&["/bin/sh", "-c", &program], Duration::from_secs(5)),
            Ok(Done::Exited { code: 0 })
        );
    }

    #[test]
    fn a_helper_over_its_time_is_ended_with_its_children() {
        let started = Instant::now();
        let refusal = run_it(
            &["/bin/sh", "-c", "sleep 61 & wait"],
            Duration::from_millis(100),
        );
        assert!(refusal.unwrap_err().reason.contains("longer than 100ms"));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_placeholder_takes_only_what_its_grammar_allows() {
        let field = |field, event: &Event| {
            let mut with_field = helper(&["/bin/true"], Duration::from_secs(1));
            with_field.argv.push(Argument::Field(field));
            arguments(&with_field, event).map(|mut argv| argv.remove(1))
        };
        let mut event = event();
        assert!(field(Field::User, &event).is_err());
        for (user, good) in [
            ("root", true),
            ("-root", false),
            ("no-such-account", false),
            ("a\nb", false),
        ] {
            event.user = Some(user.to_owned());
            assert_eq!(field(Field::User, &event).is_ok(), good, "{user}");
        }
        for (name, good) in [
            ("web-1.example.org", true),
            ("a b", false),
            ("$(id)", false),
            ("a..b", false),
        ] {
            event.hostname = Some(name.to_owned());
            assert_eq!(field(Field::Hostname, &event).is_ok(), good, "{name}");
        }
        for (path, good) in [
            ("/var/log/x", true),
            ("var/log", false),
            ("/var/../etc/passwd", false),
        ] {
            event.filename = Some(path.to_owned());
            assert_eq!(field(Field::Filename, &event).is_ok(), good, "{path}");
        }
    }

    #[test]
    fn a_program_that_others_can_write_is_not_started() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("tool");
        std::fs::copy("/bin/true", &program).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o775)).unwrap();
        let refusal = run_it(&[program.to_str().unwrap()], Duration::from_secs(5)).unwrap_err();
        assert!(refusal.reason.contains("tool"), "{}", refusal.reason);
    }
}
