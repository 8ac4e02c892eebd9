//! The recorded datagrams of ossec-execd and wazuh-execd, under a clock that is set by
//! hand: which programs run, what they are told, and when their deletes do.

mod wazuh;

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::journal::Now;

const DEVIATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compatibility.md");

/// The cases that Retort answers differently, as `docs/compatibility.md` lists them.
fn listed(prefixes: &[&str]) -> BTreeSet<String> {
    let text = std::fs::read_to_string(DEVIATIONS).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|id| prefixes.iter().any(|prefix| id.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

/// Programs that record how they were called; copies of one, as with the original.
const RECORDERS: [&str; 7] = [
    "dump.sh",
    "dump2.sh",
    "sp ace.sh",
    "restart-ossec.sh",
    "link.sh",
    "a.sh",
    "noexec.sh",
];

struct Host {
    _dir: TempDir,
    root: Root,
    clock: Arc<Mutex<Now>>,
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

impl Host {
    /// With programs that record their arguments.
    fn ossec(ossec_conf: &str, ar_conf: Option<&str>) -> Self {
        let host = Self::new("ossec", &RECORDERS, ossec_conf, ar_conf);
        let script = format!(
            "#!/bin/sh\nt={0}/.$$; {{ printf '%s\\0' \"$0\" \"$@\"; }} > $t; mv $t {0}/$$\n",
            host.root.path().join("ran").display()
        );
        for name in RECORDERS {
            let mode = if name == "noexec.sh" { 0o644 } else { 0o755 };
            recorder(&host.root.bin().join(name), &script, mode);
        }
        host
    }

    /// An installation that allows these programs outside the vessel.
    fn new(dialect: &str, allowed: &[&str], ossec_conf: &str, ar_conf: Option<&str>) -> Self {
        let dir = TempDir::new().unwrap();
        let root = Root::new(dir.path().canonicalize().unwrap());
        for folder in [
            "active-response/bin",
            "logs",
            "etc/shared",
            "queue/alerts",
            "retort",
            "ran",
        ] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(root.own(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let names: Vec<String> = allowed.iter().map(|name| format!("\"{name}\"")).collect();
        let names = names.join(", ");
        write(
            &root.grants(),
            &format!(
                "dialect = \"{dialect}\"\n[firewall]\nbackend = \"record\"\n[legacy]\nallow = [{names}]\nwall = \"2 s\"\n"
            ),
        );
        write(&root.ossec_conf(), ossec_conf);
        if let Some(text) = ar_conf {
            write(&root.ar_conf(), text);
        }
        let clock = Arc::new(Mutex::new(Now::read().unwrap()));
        Self {
            _dir: dir,
            root,
            clock,
        }
    }

    fn move_boot(&self, seconds: f64) {
        let mut now = self.clock.lock().unwrap();
        now.boot = Duration::from_secs_f64(now.boot.as_secs_f64() + seconds);
    }

    fn advance(&self, seconds: f64) {
        let mut now = self.clock.lock().unwrap();
        if seconds >= 0.0 {
            now.boot += Duration::from_secs_f64(seconds);
            now.wall += Duration::from_secs_f64(seconds);
        } else {
            // Somebody set the clock back: time since boot knows nothing of it.
            now.wall -= Duration::from_secs_f64(-seconds);
        }
    }

    /// What ran since it was asked last, in whatever order.
    fn ran(&self) -> BTreeSet<Vec<String>> {
        let mut all = BTreeSet::new();
        for entry in std::fs::read_dir(self.root.path().join("ran")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().as_bytes().starts_with(b".") {
                continue;
            }
            let text = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            let text = text.strip_suffix(b"\0").unwrap();
            let latin1 = |word: &[u8]| word.iter().map(|b| char::from(*b)).collect::<String>();
            all.insert(text.split(|b| *b == 0).map(latin1).collect());
        }
        all
    }
}

/// Written by another process: an executable that we have open for writing can't be run.
fn recorder(path: &Path, script: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let plain = path.with_extension("plain");
    write(&plain, script);
    let copied = std::process::Command::new("cp")
        .arg(&plain)
        .arg(path)
        .status();
    assert!(copied.unwrap().success());
    std::fs::remove_file(plain).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Undoes what is due, and waits for it.
async fn undo_due(daemon: &Rc<Daemon>) {
    while let Some(Ok(begun)) = daemon.begin_undos().await
        && !begun.is_empty()
    {
        for undo in begun {
            undo.await.unwrap();
        }
    }
}

/// Runs the vector; the first step whose runs are other than recorded.
async fn differs(vector: &Value) -> Option<String> {
    let config = &vector["config"];
    let host = Host::ossec(
        config["ossec_conf"].as_str().unwrap(),
        config["ar_conf"].as_str(),
    );
    let clock = Clock::ByHand(Arc::clone(&host.clock));
    let serving = vector["startup_log"]
        .as_array()
        .unwrap()
        .iter()
        .any(|line| line.as_str().unwrap().contains("Started"));
    let daemon = match Daemon::new(&host.root, Path::new("/nonexistent"), clock) {
        Ok(daemon) => daemon,
        Err(why) => return serving.then(|| format!("it does not start: {why:#}")),
    };
    let disabled = daemon.settings().await.premises.conf.disabled;
    if disabled || !serving {
        return (disabled == serving).then(|| format!("disabled: {disabled}"));
    }
    let execd = Execd::new(Rc::clone(&daemon), false);
    for (at, step) in vector["steps"].as_array().unwrap().iter().enumerate() {
        let mut data: Vec<u8> = step["data"]
            .as_str()
            .unwrap_or_default()
            .chars()
            .map(|c| u8::try_from(u32::from(c)).unwrap())
            .collect();
        if step["nul_terminated"] == true {
            data.push(0);
        }
        match step["op"].as_str().unwrap() {
            // The original waits until more than the timeout has passed in whole seconds;
            // half a second between orders and looks makes both agree on which look.
            "send" => {
                host.move_boot(0.5);
                execd.hear(&data).await;
                daemon.rest(Duration::from_secs(20)).await;
                host.move_boot(-0.5);
            }
            "tick" => {
                // What the recorder waited before it looked, where it did not write it.
                if vector["clock"] == "real" {
                    host.advance(3.0);
                }
                execd.hear(&data).await;
            }
            // The original notices with the next datagram.
            "advance_clock" | "sleep" => {
                host.advance(step["seconds"].as_f64().unwrap());
                continue;
            }
            "signal" if step["signal"] == "SIGHUP" => {}
            "signal" => daemon.release_all(Duration::from_secs(60)).await,
            "write_ar_conf" => write(
                &host.root.ar_conf(),
                step["text"]
                    .as_str()
                    .or(step["data"].as_str())
                    .or(step["content"].as_str())
                    .unwrap(),
            ),
            "delete_ar_conf" => std::fs::remove_file(host.root.ar_conf()).unwrap(),
            other => panic!("{other}"),
        }
        daemon.rest(Duration::from_secs(20)).await;
        undo_due(&daemon).await;
        let expected: BTreeSet<Vec<String>> = step["observed"]["runs"]
            .as_array()
            .map(|runs| runs.iter().map(|run| argv(run, &host.root)).collect())
            .unwrap_or_default();
        let ran = host.ran();
        if ran != expected {
            return Some(format!("step {at}: ran {ran:?}, recorded {expected:?}"));
        }
    }
    None
}

fn argv(run: &Value, root: &Root) -> Vec<String> {
    let words = run["argv"].as_array().unwrap().iter();
    words
        .map(|word| {
            let word = word.as_str().unwrap();
            word.replace("/var/ossec", root.path().to_str().unwrap())
        })
        .collect()
}

/// Every recorded case, against the table of `docs/compatibility.md`.
fn vectors(file: &str) -> Vec<Value> {
    let path = format!(
        "{}/../tests/data/ossec/{file}.jsonl",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_recorded_datagram_of_ossec_is_answered_as_recorded_or_listed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut wrong = Vec::new();
    let listed = listed(&[
        "execd-",
        "arconf-",
        "timeout-",
        "repeat-",
        "execdconf-",
        "granularity-",
    ]);
    let mut seen = 0;
    for file in [
        "execd_message",
        "execd_arconf",
        "execd_state",
        "execd_config",
        "execd_realtime",
    ] {
        for vector in vectors(file) {
            seen += 1;
            let local = tokio::task::LocalSet::new();
            let differs = local.block_on(&runtime, differs(&vector));
            let id = vector["id"].as_str().unwrap();
            match (differs, listed.contains(id)) {
                (Some(_), true) | (None, false) => {}
                (Some(how), false) => wrong.push(format!("{id} ({}): {how}", vector["title"])),
                (None, true) => wrong.push(format!("{id} is listed and does not differ")),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {seen}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
