//! A small file system of one's own, gone with the test.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// See the module.
pub struct Tiny {
    pub path: PathBuf,
    _dir: TempDir,
}

impl Tiny {
    pub fn new(kib: u32) -> Self {
        let dir = TempDir::new().unwrap();
        let tiny = Self {
            path: dir.path().to_owned(),
            _dir: dir,
        };
        let options = format!("size={kib}k,mode=755");
        tiny.run(&["-t", "tmpfs", "-o", &options, "tmpfs"]);
        tiny
    }

    /// Mounts it again, with other options.
    pub fn again(&self, options: &str) {
        self.run(&["-o", &format!("remount,{options}")]);
    }

    fn run(&self, arguments: &[&str]) {
        let status = Command::new("mount")
            .args(arguments)
            .arg(&self.path)
            .status();
        assert!(
            status.unwrap().success(),
            "{arguments:?}: these tests run as root"
        );
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
