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
fn every_original_is_kept_also_when_an_upgrade_brings_another() {
    let root = root_with_an_original();
    install(&root, &[]);
    let path = root.bin("firewall-drop.sh");
    for upgrade in ["one", "two"] {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, upgrade).unwrap();
        install(&root, &[]);
    }
    let kept = |name: &str| std::fs::read(root.path().join("retort/replaced").join(name)).unwrap();
    assert_eq!(kept("firewall-drop.sh"), b"two");
    assert_eq!(kept("firewall-drop.sh.1"), ORIGINAL);
    assert_eq!(kept("firewall-drop.sh.2"), b"one");
    assert!(root.retort(&["uninstall"]).status.success());
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(kept("firewall-drop.sh.1"), ORIGINAL);
}

#[test]
fn links_and_folders_are_originals_too() {
    let root = root_with_an_original();
    let link = root.bin("firewall-drop.sh");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/opt/pkg/firewall-drop.sh", &link).unwrap();
    std::fs::create_dir(root.bin("firewall-drop")).unwrap();
    std::fs::write(root.bin("firewall-drop/inside"), "x").unwrap();
    install(&root, &[]);
    assert_eq!(std::fs::read_link(&link).unwrap().to_str(), Some(RETORT));
    assert!(root.retort(&["check"]).status.success());
    // The upgrade puts its link back.
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/opt/pkg/firewall-drop.sh", &link).unwrap();
    assert!(!root.retort(&["check"]).status.success());
    install(&root, &[]);
    assert!(root.retort(&["uninstall"]).status.success());
    let target = std::fs::read_link(&link).unwrap();
    assert_eq!(target.to_str(), Some("/opt/pkg/firewall-drop.sh"));
    assert_eq!(
        std::fs::read(root.bin("firewall-drop/inside")).unwrap(),
        b"x"
    );
}

#[test]
fn a_component_of_ones_own_is_kept() {
    let root = root_with_an_original();
    install(&root, &[]);
    let path = root.bin("firewall-drop.wasm");
    let own = guests::response("makelists");
    std::fs::write(&path, &own).unwrap();
    assert!(root.retort(&["uninstall"]).status.success());
    assert_eq!(std::fs::read(&path).unwrap(), own, "uninstall leaves it");
    install(&root, &[]);
    let kept = std::fs::read(root.path().join("retort/replaced/firewall-drop.wasm")).unwrap();
    assert_eq!(kept, own, "install keeps it");
}

#[test]
fn an_original_that_is_gone_is_said_and_nothing_is_forgotten() {
    let root = root_with_an_original();
    install(&root, &[]);
    std::fs::remove_file(root.path().join("retort/replaced/firewall-drop.sh")).unwrap();
    let output = root.retort(&["uninstall"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        !output.status.success() && said.contains("put it back by hand"),
        "{said}"
    );
    assert!(root.bin("firewall-drop.sh").is_symlink());
    assert!(
        !root.bin("firewall-drop").exists(),
        "the rest is taken back"
    );
}

#[test]
fn nothing_is_moved_before_everything_was_read() {
    let root = root_with_an_original();
    let before = listing(&root);
    let from = root.path().join("from");
    let arguments = [
        "install",
        "--from",
        from.to_str().unwrap(),
        "--dialect",
        "ossec",
    ];
    for conf in [
        "<ossec_config><foo>",
        "<ossec_config><command><name>x</name></command></ossec_config>",
    ] {
        std::fs::write(root.path().join("etc/ossec.conf"), conf).unwrap();
        assert!(!root.retort(&arguments).status.success());
        assert_eq!(listing(&root), before, "{conf}");
    }
    std::fs::remove_file(root.path().join("etc/ossec.conf")).unwrap();
    std::fs::write(from.join("bad.wasm"), "no component").unwrap();
    assert!(!root.retort(&arguments).status.success());
    assert_eq!(listing(&root), before);
    std::fs::remove_file(from.join("bad.wasm")).unwrap();
    // One that its grants do not open is left out, and the exit status says so.
    std::fs::write(from.join("ungranted.wasm"), guests::response("makelists")).unwrap();
    let output = root.retort(&arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        !output.status.success() && said.contains("ungranted: not installed"),
        "{said}"
    );
    assert!(!root.bin("ungranted").exists() && !root.bin("ungranted.wasm").exists());
    assert!(root.bin("firewall-drop.sh").is_symlink());
}

#[test]
fn check_finds_what_would_fail_at_night() {
    let root = root_with_an_original();
    std::fs::write(
        root.path().join("from/makelists.wasm"),
        guests::response("makelists"),
    )
    .unwrap();
    install(&root, &[]);
    let said = || {
        let output = root.retort(&["check"]);
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), said)
    };
    // A helper that is not there, an executable that nobody has.
    root.ossec_conf(
        "<command><name>hd</name><executable>host-deny.sh</executable><expect>srcip</expect></command>\
         <command><name>fd</name><executable>firewall-drop</executable><expect>srcip</expect></command>\
         <command><name>fs</name><executable>firewall-drop.sh</executable><expect>username</expect></command>",
    );
    let (fine, text) = said();
    assert!(fine, "{text}");
    for words in [
        "makelists: helper makelists: it can't be started",
        "host-deny.sh: it is called, and there is neither",
        "sees srcip as firewall-drop\n",
        "sees nothing as firewall-drop.sh",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // A helper that others can write.
    let helper = root.path().join("bin/ossec-makelists");
    std::fs::write(&helper, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (fine, text) = said();
    assert!(!fine && text.contains("chmod go-w"), "{text}");
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(said().0);
    // The program that all links lead to is gone.
    std::fs::create_dir(root.path().join("elsewhere")).unwrap();
    let copy = root.path().join("elsewhere/retort");
    // By another process: a thread of ours that forks just now would keep it open.
    let status = std::process::Command::new("cp")
        .arg(RETORT)
        .arg(&copy)
        .status();
    assert!(status.unwrap().success());
    for name in [
        "firewall-drop",
        "firewall-drop.sh",
        "makelists",
        "makelists.sh",
    ] {
        std::fs::remove_file(root.bin(name)).unwrap();
    }
    let output = std::process::Command::new(&copy)
        .arg("--root")
        .arg(root.path())
        .arg("install")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(said().0, "links to another copy are fine: {}", said().1);
    std::fs::remove_file(&copy).unwrap();
    let (fine, text) = said();
    assert!(!fine && text.contains("leads nowhere"), "{text}");
}

#[test]
fn a_manifest_that_is_lost_makes_no_original_of_what_is_ours() {
    let root = root_with_an_original();
    let before = listing(&root);
    install(&root, &[]);
    std::fs::remove_file(root.path().join("retort/installed.json")).unwrap();
    let refused = root.retort(&["uninstall"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("and then uninstall"),
        "{said}"
    );
    install(&root, &[]);
    assert!(root.retort(&["uninstall"]).status.success());
    assert_eq!(listing(&root), before);
}

#[test]
fn what_the_configuration_calls_gets_its_link() {
    let root = root_with_an_original();
    root.ar_conf("firewall-drop600 - firewall-drop.cmd - 600\n");
    install(&root, &[]);
    assert!(root.bin("firewall-drop.cmd").is_symlink());
}

#[test]
fn grants_that_exist_are_kept() {
    let root = root_with_an_original();
    install(&root, &[]);
    let mine =
        "# mine\n[firewall]\nbackend = \"record\"\n[response.firewall-drop]\nfirewall = {}\n";
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
    assert_eq!(root.compiled().len(), 1);
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
