//! The whole drop-in process, cache warm, against the shell script.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::measure::{compare, cost};
use crate::response;

const RETORT: &str = env!("CARGO_BIN_EXE_retort");

pub fn measure() {
    let dir = installation();
    let link = dir.path().join("active-response/bin/firewall-drop.sh");
    let ours = cost(200, |n| start(&mut Command::new(&link), n));
    let theirs = response::script(dir.path());
    compare(
        "the drop-in process, wall",
        ours.wall,
        "the shell script",
        theirs.wall,
    );
    compare(
        "the drop-in process, CPU",
        ours.cpu,
        "the shell script",
        theirs.cpu,
    );
}

/// An installation with the record backend and one response.
pub fn installation() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for folder in ["active-response/bin", "logs", "etc/shared", "from"] {
        std::fs::create_dir_all(dir.path().join(folder)).expect("a folder in it");
    }
    let from = dir.path().join("from");
    std::fs::write(from.join("firewall-drop.wasm"), response::component()).expect("a component");
    let installed = Command::new(RETORT)
        .arg("--root")
        .arg(dir.path())
        .args([
            "install",
            "--dialect",
            "ossec",
            "--backend",
            "record",
            "--from",
        ])
        .arg(&from)
        .output()
        .expect("retort");
    assert!(installed.status.success(), "{installed:?}");
    dir
}

/// Starts a response as ossec-execd does, and waits for it.
pub fn start(command: &mut Command, n: usize) {
    let status = command
        .args([
            "add",
            "-",
            &address(n),
            "1795489577.1",
            "5712",
            "/var/log/auth.log",
            "-",
        ])
        .current_dir(Path::new("/"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("it starts");
    assert!(status.success(), "{status}");
}

/// A different address for each run.
pub fn address(n: usize) -> String {
    format!("203.0.{}.{}", 113 + n / 250, 1 + n % 250)
}
