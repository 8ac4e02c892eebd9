//! `install`, `check`, `uninstall`: what is replaced is kept, and comes back.

mod support;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use support::guests;
use support::root::{RETORT, Root};

const ORIGINAL: &[u8] = b"#!/bin/sh\n# the original\necho \xff\n";

fn root_with_an_original() -> Root {
    let root = Root::bare();
    let path = root.bin("firewall-drop.sh");
    std::fs::write(&path, ORIGINAL).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::chown(&path, Some(0), Some(33)).unwrap();
    let from = root.path().join("from");
    std::fs::create_dir(&from).unwrap();
    std::fs::write(
        from.join("firewall-drop.wasm"),
        guests::response("firewall-drop"),
    )
    .unwrap();
    root
}

fn install(root: &Root, more: &[&str]) -> String {
    let from = root.path().join("from");
    let mut arguments = vec![
        "install",
        "--from",
        from.to_str().unwrap(),
        "--dialect",
        "ossec",
        "--backend",
        "record",
    ];
    arguments.extend(more);
    let output = root.retort(&arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn listing(root: &Root) -> Vec<(String, Vec<u8>, u32, u32)> {
    let mut all: Vec<_> = std::fs::read_dir(root.bin(""))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (
                name,
                std::fs::read(&path).unwrap_or_default(),
                meta.mode(),
                meta.gid(),
            )
        })
        .collect();
    all.sort();
    all
}

#[test]
fn uninstall_restores_exactly_what_was_there() {
    let root = root_with_an_original();
    let before = listing(&root);
    install(&root, &[]);
    assert!(root.bin("firewall-drop.sh").is_symlink());
    install(&root, &[]);
    let output = root.retort(&["uninstall"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(listing(&root), before);
}

#[test]
fn a_dry_run_changes_nothing() {
    let root = root_with_an_original();
    let before = listing(&root);
    let said = install(&root, &["--dry-run"]);
    assert!(said.contains("would link"), "{said}");
    assert_eq!(listing(&root), before);
    assert!(!root.path().join("retort").exists());
    install(&root, &[]);
    let between = listing(&root);
    assert!(root.retort(&["uninstall", "--dry-run"]).status.success());
    assert_eq!(listing(&root), between);
}

#[test]
fn check_finds_a_link_that_an_upgrade_overwrote_and_install_mends_it() {
    let root = root_with_an_original();
    install(&root, &[]);
    assert!(
        root.retort(&["check"]).status.success(),
        "{:?}",
        root.retort(&["check"])
    );
    let path = root.bin("firewall-drop.sh");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"#!/bin/sh\n# the upgrade\n").unwrap();
    let check = root.retort(&["check"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(!check.status.success());
    assert!(
        said.contains("UNSEALED") && said.contains("retort --root"),
        "{said}"
    );
    install(&root, &[]);
    assert!(root.retort(&["check"]).status.success());
    // What comes back is what the upgrade brought.
    assert!(root.retort(&["uninstall"]).status.success());
    assert_eq!(std::fs::read(&path).unwrap(), b"#!/bin/sh\n# the upgrade\n");
}

#[test]
fn grants_that_exist_are_kept() {
    let root = root_with_an_original();
    install(&root, &[]);
    let mine = "# mine\n[firewall]\nbackend = \"record\"\n";
    root.grant(mine);
    install(&root, &[]);
    let grants = std::fs::read_to_string(root.path().join("retort/retort.toml")).unwrap();
    assert_eq!(grants, mine);
}

#[test]
fn the_folder_is_roots_alone_and_the_components_are_compiled() {
    let root = root_with_an_original();
    install(&root, &[]);
    let own = root.path().join("retort");
    for path in [own.clone(), own.join("cache"), own.join("replaced")] {
        assert_eq!(
            std::fs::metadata(&path).unwrap().mode() & 0o777,
            0o700,
            "{}",
            path.display()
        );
    }
    let compiled = std::fs::read_dir(own.join("cache")).unwrap().count();
    assert_eq!(compiled, 1);
}

#[test]
fn usage_is_exit_two_and_failure_is_exit_one() {
    let code = |arguments: &[&str]| {
        std::process::Command::new(RETORT)
            .args(arguments)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(code(&["nonsense"]), Some(2));
    assert_eq!(code(&["--root", "/nowhere", "check"]), Some(1));
    assert_eq!(code(&["--help"]), Some(0));
}
