use super::*;
use crate::message::json::{self, Json};

/// A program as the recorder's: it writes down what it is told, and behaves as its
/// arguments say.
const PROBE: &str = r#"#!/usr/bin/python3
import json, os, sys, time
ran = sys.argv[0] and os.path.join("RAN", "%020d-%d" % (time.monotonic_ns(), os.getpid()))
told = []
def note(*what):
    told.append(list(what))
    with open(ran + ".new", "w", encoding="utf-8", errors="surrogateescape") as f:
        json.dump(told, f)
    os.rename(ran + ".new", ran)
def line(tag):
    text = sys.stdin.buffer.readline().decode("utf-8", "surrogateescape")
    note(tag, text)
    return text
def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
def keys(these):
    say(json.dumps({"version": 1, "origin": {"name": "probe", "module": "active-response"},
        "command": "check_keys", "parameters": {"keys": these}}, separators=(",", ":")))
first = json.loads(line("in1") or "{}")
if first.get("command") in ("delete", "disable"):
    sys.exit(0)
how = first.get("parameters", {}).get("extra_args") or first.get("x") or [""]
if how[0] == "keys":
    keys(how[1:]); line("in2"); line("eof") and None
elif how[0] == "raw":
    say(how[1]); line("in2")
elif how[0] == "exit1":
    sys.exit(1)
elif how[0] == "noread":
    say(how[1])
elif how[0] == "two":
    keys(["two"]); say("another line"); line("in2"); line("in3")
elif how[0] == "long":
    try:
        say("x" * int(how[1])); line("in2")
    except OSError:
        os._exit(1)
elif how[0] == "slow":
    keys([how[2]]); line("in2"); time.sleep(float(how[1])); note("slept")
elif how[0] == "eof":
    note("before-eof"); note("got-eof", sys.stdin.read())
"#;

/// Whether what came is what was recorded; long texts were cut, with their length.
fn same(came: &Value, recorded: &Value) -> bool {
    let (came, recorded) = (came.as_array().unwrap(), recorded.as_array().unwrap());
    came.len() == recorded.len()
        && came.iter().zip(recorded).all(|(came, recorded)| {
            let (came, recorded) = (came.as_str().unwrap(), recorded.as_str().unwrap());
            match recorded.rsplit_once("...<") {
                Some((start, length)) => {
                    let length: usize = length.trim_end_matches('>').parse().unwrap();
                    came.starts_with(start) && came.len() == length
                }
                None => came == recorded,
            }
        })
}

impl Host {
    /// What the programs were told since they were asked last, in the order of their
    /// starts.
    fn told(&self) -> Vec<Value> {
        let folder = self.root.path().join("ran");
        let names = std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().path());
        // One that was ended while it wrote left a part of it.
        let whole = |path: &PathBuf| path.extension().is_none();
        let mut names: Vec<PathBuf> = names.filter(whole).collect();
        names.sort();
        let mut told = Vec::new();
        for path in names {
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            let one: Vec<Value> = serde_json::from_str(&text).unwrap();
            told.extend(one);
        }
        told
    }
}

fn sorted(mut told: Vec<Value>) -> Vec<Value> {
    told.sort_by_key(ToString::to_string);
    told
}

async fn differs(line: &str, standard: &str) -> Option<String> {
    let vector: Value = serde_json::from_str(line).unwrap();
    let in_order = json::parse(line.as_bytes()).unwrap();
    let Some(Json::Array(in_order)) = in_order.get("sent").unwrap() else {
        panic!("{line}");
    };
    let (dialect, ar_conf) = match vector["ar_conf"].as_str() {
        None => ("wazuh5", None),
        Some("STD") => ("wazuh4", Some(standard)),
        Some(own) => ("wazuh4", Some(own)),
    };
    let minutes: Vec<String> = vector["repeated_offenders_minutes"]
        .as_array()
        .map(|all| all.iter().map(ToString::to_string).collect())
        .unwrap_or_default();
    let ladder = match minutes.join(",") {
        none if none.is_empty() => "<disabled>no</disabled>".to_owned(),
        minutes => format!("<repeated_offenders>{minutes}</repeated_offenders>"),
    };
    let conf = format!("<ossec_config><active-response>{ladder}</active-response></ossec_config>");
    let host = Host::new(dialect, &["probe", "probeb"], &conf, ar_conf);
    let probe = PROBE.replace("RAN", host.root.path().join("ran").to_str().unwrap());
    for name in ["probe", "probeb"] {
        recorder(&host.root.bin().join(name), &probe, 0o755);
    }
    let clock = Clock::ByHand(Arc::clone(&host.clock));
    let daemon = Daemon::new(&host.root, Path::new("/nonexistent"), clock).unwrap();
    let execd = Execd::new(Rc::clone(&daemon), false);
    let patience = Duration::from_secs(20);
    for (at, sent) in vector["sent"].as_array().unwrap().iter().enumerate() {
        match sent {
            Value::Number(seconds) => host.advance(seconds.as_f64().unwrap()),
            Value::String(text) => execd.hear(&unabridged(text)).await,
            _ => {
                // As it was written down, its members in their order.
                let message = in_order.get(at).unwrap();
                let text = serde_json::to_string(message).unwrap();
                execd.hear(text.as_bytes()).await;
            }
        }
        daemon.rest(patience).await;
        undo_due(&daemon).await;
    }
    let expected = &vector["expected"];
    let running = host.told();
    daemon.release_all(patience).await;
    let transcript = |name: &str| expected[name].as_array().unwrap().clone();
    for (came, recorded) in [
        (running, transcript("probe_transcript_while_running")),
        // The original waits for each; here they run side by side.
        (
            sorted(host.told()),
            sorted(transcript("probe_transcript_after_SIGTERM")),
        ),
    ] {
        let equal = came.len() == recorded.len()
            && came
                .iter()
                .zip(&recorded)
                .all(|(came, recorded)| same(came, recorded));
        if !equal {
            let at = came
                .iter()
                .zip(&recorded)
                .take_while(|(c, r)| same(c, r))
                .count();
            let cut = |told: Option<&Value>| {
                told.map(|t| t.to_string().chars().take(300).collect::<String>())
            };
            return Some(format!(
                "at {at}: {:?}\n    recorded {:?}",
                cut(came.get(at)),
                cut(recorded.get(at))
            ));
        }
    }
    None
}

/// The datagram that a cut text stands for, filled up with what its last bytes are. The
/// recorder sent it without the blanks that it wrote down.
fn unabridged(text: &str) -> Vec<u8> {
    let Some((start, length)) = text.rsplit_once("...<") else {
        return text.as_bytes().to_vec();
    };
    let length = length.trim_end_matches(" bytes>").trim_end_matches('>');
    let length: usize = length.parse().unwrap();
    let start = start.replace(": ", ":").replace(", ", ",");
    let end = if start.contains("pad") {
        r#""}}}"#
    } else {
        r#""],"alert":{"data":{"srcip":"10.9.8.7"}}}}"#
    };
    let fill = start.as_bytes().last().copied().unwrap();
    let mut datagram = start.into_bytes();
    datagram.resize(length - end.len(), fill);
    datagram.extend(end.as_bytes());
    datagram
}

#[test]
fn every_recorded_datagram_of_wazuh_is_answered_as_recorded_or_listed() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/data/wazuh/vectors.jsonl"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let vectors: Vec<(&str, Value)> = text
        .lines()
        .map(|line| (line, serde_json::from_str(line).unwrap()))
        .collect();
    let of_execd = |v: &&(&str, Value)| matches!(v.1["layer"].as_str(), Some("execd" | "v5-execd"));
    let standard = vectors
        .iter()
        .find_map(|v| v.1["ar_conf_STD"].as_str())
        .unwrap();
    let listed = listed(&["ex-", "v5e-"]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (line, vector) in vectors.iter().filter(of_execd) {
        seen += 1;
        let differs = tokio::task::LocalSet::new().block_on(&runtime, differs(line, standard));
        let id = vector["id"].as_str().unwrap();
        match (differs, listed.contains(id)) {
            (Some(_), true) | (None, false) => {}
            (Some(how), false) => wrong.push(format!("{id} ({}): {how}", vector["note"])),
            (None, true) => wrong.push(format!("{id} is listed and does not differ")),
        }
    }
    assert!(seen >= 51, "{seen}");
    assert!(
        wrong.is_empty(),
        "{} of {seen}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
