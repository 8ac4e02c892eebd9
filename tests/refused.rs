//! Files that are no responses: each refused with its own sentence, and the other
//! responses keep working.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use support::root::{RETORT, Root, ossec_words};
use support::{bomb, guests};

/// Puts a file beside the good response; gives what running it says.
fn refusal(root: &Root, name: &str, bytes: &[u8]) -> String {
    std::fs::write(root.bin(&format!("{name}.wasm")), bytes).unwrap();
    let answer = root.run(name, &json!({"action": "add", "srcip": "203.0.113.7"}));
    assert!(root.blocked().is_empty(), "{name}");
    answer["error"]
        .as_str()
        .unwrap_or_else(|| panic!("{name} was not refused: {answer}"))
        .to_owned()
}

#[test]
fn each_wrong_file_has_its_own_sentence() {
    let drop = guests::response("firewall-drop");
    let root = Root::with(&[("firewall-drop", &drop)], "ossec", "record");
    let truncated = drop.get(..drop.len() / 2).unwrap();
    for (name, bytes, words) in [
        ("text", b"hello, I am text\n".to_vec(), "looks like text"),
        (
            "script",
            b"#!/bin/sh\nexit 0\n".to_vec(),
            "looks like a script",
        ),
        ("empty", Vec::new(), "an empty file"),
        ("truncated", truncated.to_vec(), "truncated"),
        (
            "core-module",
            guests::wat("core-module"),
            "core WebAssembly module",
        ),
        ("no-handle", guests::wat("no-handle"), "no export `handle`"),
        (
            "other-handle",
            guests::wat("other-handle"),
            "its `handle` is not that of",
        ),
        (
            "other-version",
            guests::wat("other-version"),
            "this host serves 0.1.0",
        ),
        (
            "unknown-interface",
            guests::wat("unknown-interface"),
            "nothing of that name exists",
        ),
        (
            "wasi-sockets",
            guests::wat("wasi-sockets"),
            "no response gets the network",
        ),
        (
            "wasi-filesystem",
            guests::wat("wasi-filesystem"),
            "no response gets the filesystem",
        ),
        ("sockets", guests::wasip2("sockets"), "no grant opens it"),
        (
            "files",
            guests::wasip2("files"),
            "no response gets the filesystem",
        ),
        ("ungranted", guests::hostile(), "[response.ungranted]"),
    ] {
        let sentence = refusal(&root, name, &bytes);
        assert!(sentence.contains(words), "{name}: {sentence}");
        assert!(
            sentence.contains(&format!("{name}.wasm")),
            "{name}: {sentence}"
        );
    }
    let large = std::fs::File::create(root.bin("large.wasm")).unwrap();
    large.set_len(200 << 20).unwrap();
    let answer = root.run("large", &json!({"action": "add"}));
    let sentence = answer["error"].as_str().unwrap();
    assert!(sentence.contains("it has 200 MiB"), "{sentence}");

    let check = root.json(&["check"]);
    let rows = check["rows"].as_array().unwrap();
    let grade = |subject: &str| {
        rows.iter()
            .find(|row| row["subject"] == subject)
            .map(|row| row["grade"].clone())
            .unwrap()
    };
    assert_eq!(grade("text.wasm"), "error");
    assert_eq!(grade("firewall-drop.wasm"), "ok");
    root.works();
}

#[test]
fn what_is_no_plain_file_is_not_opened() {
    let drop = guests::response("firewall-drop");
    let root = Root::with(&[("firewall-drop", &drop)], "ossec", "record");
    let outside = root.path().join("outside.wasm");
    std::fs::write(&outside, &drop).unwrap();
    std::os::unix::fs::symlink(&outside, root.bin("linked.wasm")).unwrap();
    nix::unistd::mkfifo(&root.bin("pipe.wasm"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::create_dir(root.bin("folder.wasm")).unwrap();
    for (name, words) in [
        ("linked", "link"),
        ("pipe", "regular"),
        ("folder", "regular"),
        ("absent", "no component"),
    ] {
        let answer = root.run(name, &json!({"action": "add"}));
        let sentence = answer["error"].as_str().unwrap();
        assert!(sentence.contains(words), "{name}: {sentence}");
    }
    for name in ["../outside", "a/b", "..", ""] {
        let answer = root.run(name, &json!({"action": "add"}));
        assert!(answer["error"].is_string(), "{name}");
    }
    root.works();
}

#[test]
fn another_file_than_the_pinned_one_is_refused() {
    let drop = guests::response("firewall-drop");
    let root = Root::with(&[("firewall-drop", &drop)], "ossec", "record");
    let pin = "a".repeat(64);
    root.grant(&format!("[firewall]\nbackend = \"record\"\n[response.firewall-drop]\nsha256 = \"{pin}\"\nfirewall = {{}}\n"));
    let answer = root.run(
        "firewall-drop",
        &json!({"action": "add", "srcip": "203.0.113.7"}),
    );
    let sentence = answer["error"].as_str().unwrap();
    assert!(
        sentence.contains("pins") && sentence.contains("write sha256 = "),
        "{sentence}"
    );
}

/// The compilers that run for this program and no other.
fn compilers() -> usize {
    let program = std::fs::canonicalize(RETORT).unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        let words = std::fs::read(path.join("cmdline")).ok()?;
        let compiles = words.split(|byte| *byte == 0).nth(1)? == b"__compile";
        (compiles && std::fs::read_link(path.join("exe")).ok()? == program).then_some(())
    });
    processes.count()
}

#[test]
fn a_compile_bomb_costs_its_limits_once_and_nothing_else() {
    let root = Root::firewall_drop("ossec");
    std::fs::write(root.bin("bomb.wasm"), bomb::compile_bomb()).unwrap();
    std::os::unix::fs::symlink(RETORT, root.bin("bomb")).unwrap();
    // With alerts waiting there is no patience: the wall limit is the limit, for all of
    // a burst together, and what was too long is not tried again with the next alert.
    let started = Instant::now();
    let burst: Vec<_> = (0..8)
        .map(|_| {
            let mut call = Command::new(root.bin("bomb"));
            call.args(ossec_words("add", "203.0.113.7"))
                .spawn()
                .unwrap()
        })
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    assert!(compilers() <= 2, "{} compilers at once", compilers());
    for mut call in burst {
        assert_eq!(call.wait().unwrap().code(), Some(1));
    }
    assert!(
        started.elapsed() < Duration::from_secs(7),
        "{:?}",
        started.elapsed()
    );
    let told = root.outcomes();
    let own = told
        .iter()
        .filter(|line| line.contains("bomb add: refused"));
    assert_eq!(own.count(), 8, "{told:#?}");
    let says_why = |line: &String| {
        line.contains("compiling it needs more than") || line.contains("which waits longer")
    };
    assert!(told.iter().all(says_why), "{told:#?}");
    let started = Instant::now();
    assert_eq!(root.call("bomb", "add", "203.0.113.7"), 1);
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    root.works();

    // Who has patience learns that it has no end; from then on every alert does.
    let output = root.retort(&["check"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        !output.status.success() && said.contains("compiling it needs more than"),
        "{said}"
    );
    let started = Instant::now();
    assert_eq!(root.call("bomb", "add", "203.0.113.7"), 1);
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert!(
        root.outcomes()
            .pop()
            .unwrap()
            .contains("compiling it needs more than")
    );
    root.works();
}

#[test]
fn a_compiler_ends_with_whoever_waits_for_it() {
    let root = Root::firewall_drop("ossec");
    std::fs::write(root.bin("bomb.wasm"), bomb::compile_bomb()).unwrap();
    std::os::unix::fs::symlink(RETORT, root.bin("bomb")).unwrap();
    let children = |pid: u32| {
        let path = format!("/proc/{pid}/task/{pid}/children");
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let mut call = Command::new(root.bin("bomb"))
        .args(ossec_words("add", "203.0.113.7"))
        .spawn()
        .unwrap();
    let compiler = (0..200).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        children(call.id())
            .split_whitespace()
            .next()
            .map(str::to_owned)
    });
    let compiler = compiler.expect("it compiles");
    std::thread::sleep(Duration::from_millis(200));
    call.kill().unwrap();
    call.wait().unwrap();
    let gone = (0..300).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        let stat = std::fs::read_to_string(format!("/proc/{compiler}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
    assert!(gone, "the compiler lives on");
}
