//! An installation in a temporary folder.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::guests;

/// The program under test.
pub const RETORT: &str = env!("CARGO_BIN_EXE_retort");

/// See the module.
pub struct Root {
    path: PathBuf,
    _dir: Option<TempDir>,
}

impl Root {
    /// The folders of OSSEC, with its modes, and these components installed.
    pub fn with(components: &[(&str, &[u8])], dialect: &str, backend: &str) -> Self {
        Self::bare().install(components, dialect, backend)
    }

    /// With `firewall-drop` alone, which the `record` backend serves.
    pub fn firewall_drop(dialect: &str) -> Self {
        let component = guests::response("firewall-drop");
        Self::with(&[("firewall-drop", &component)], dialect, "record")
    }

    /// As [`Root::with`], with these grants in place of the default ones.
    pub fn granted(components: &[(&str, &[u8])], grants: &str) -> Self {
        let root = Self::bare();
        let own = root.path().join("retort");
        std::fs::create_dir(&own).unwrap();
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o700)).unwrap();
        root.grant(grants);
        root.install(components, "ossec", "record")
    }

    /// As [`Root::with`], in a folder that is there.
    pub fn within(path: &Path, components: &[(&str, &[u8])], dialect: &str, backend: &str) -> Self {
        let root = Self {
            path: path.to_owned(),
            _dir: None,
        };
        root.folders().install(components, dialect, backend)
    }

    fn install(self, components: &[(&str, &[u8])], dialect: &str, backend: &str) -> Self {
        let root = self;
        let from = root.path().join("from");
        std::fs::create_dir(&from).unwrap();
        for (name, bytes) in components {
            std::fs::write(from.join(format!("{name}.wasm")), bytes).unwrap();
        }
        let from = from.to_str().unwrap();
        let output = root.retort(&[
            "install",
            "--from",
            from,
            "--dialect",
            dialect,
            "--backend",
            backend,
        ]);
        assert!(output.status.success(), "{output:?}");
        root
    }

    /// The folders alone.
    pub fn bare() -> Self {
        let dir = TempDir::new().unwrap();
        let root = Self {
            path: dir.path().to_owned(),
            _dir: Some(dir),
        };
        root.folders()
    }

    fn folders(self) -> Self {
        let root = self;
        for folder in ["active-response/bin", "logs", "etc/shared", "bin"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        root
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bin(&self, name: &str) -> PathBuf {
        self.path().join("active-response/bin").join(name)
    }

    /// Writes the grants, in place of those that `install` wrote.
    pub fn grant(&self, text: &str) {
        std::fs::write(self.path().join("retort/retort.toml"), text).unwrap();
    }

    /// Sets the wall limit in the grants as they are.
    pub fn wall(&self, wall: &str) {
        let path = self.path().join("retort/retort.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{text}\n[limits]\nwall = \"{wall}\"\n")).unwrap();
    }

    pub fn ossec_conf(&self, inside: &str) {
        let text = format!("<ossec_config>\n{inside}\n</ossec_config>\n");
        std::fs::write(self.path().join("etc/ossec.conf"), text).unwrap();
    }

    pub fn ar_conf(&self, text: &str) {
        std::fs::write(self.path().join("etc/shared/ar.conf"), text).unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("logs/active-responses.log")).unwrap_or_default()
    }

    /// Our own lines of the log.
    pub fn outcomes(&self) -> Vec<String> {
        self.log()
            .lines()
            .filter(|line| line.contains(" retort: "))
            .map(str::to_owned)
            .collect()
    }

    /// Runs the command line.
    pub fn retort(&self, arguments: &[&str]) -> Output {
        Command::new(RETORT)
            .arg("--root")
            .arg(self.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    /// As [`Root::retort`], with `--output json`, read.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = vec!["--output", "json"];
        all.extend(arguments);
        let output = self.retort(&all);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }

    /// One call of a link as OSSEC makes it; its exit status.
    pub fn call(&self, link: &str, action: &str, address: &str) -> i32 {
        let status = Command::new(self.bin(link))
            .args(ossec_words(action, address))
            .status()
            .unwrap();
        status.code().unwrap()
    }

    /// The machine code in the cache.
    pub fn compiled(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.path().join("retort/cache"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "cwasm"))
            .collect()
    }

    /// `firewall-drop` blocks and lets go.
    pub fn works(&self) {
        for action in ["add", "delete"] {
            let event = serde_json::json!({"action": action, "srcip": "203.0.113.7"});
            let outcome = self.run("firewall-drop", &event);
            assert_eq!(outcome["verdict"]["verdict"], "ok", "{outcome}");
        }
    }

    /// The addresses that are blocked, as the journal has them.
    pub fn blocked(&self) -> Vec<String> {
        let listed = self.json(&["blocks", "list"]);
        let address = |hold: &serde_json::Value| hold["address"].as_str().unwrap().to_owned();
        listed.as_array().unwrap().iter().map(address).collect()
    }

    /// Runs a response on an event.
    pub fn run(&self, response: &str, event: &serde_json::Value) -> serde_json::Value {
        let file = self.path().join(format!("event-{}.json", uuid()));
        std::fs::write(&file, event.to_string()).unwrap();
        self.json(&["run", response, "--event", file.to_str().unwrap()])
    }
}

/// The arguments of OSSEC's execd after the program.
pub fn ossec_words(action: &str, address: &str) -> [String; 8] {
    let words = [
        action,
        "-",
        address,
        "1795489577.1",
        "5712",
        "(web01)",
        "10.0.0.5->/var/log/auth.log",
        "-",
    ];
    words.map(str::to_owned)
}

fn uuid() -> u128 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos()
}
