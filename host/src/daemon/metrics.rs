//! The daemon's numbers in a file for the node exporter.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::OFlag;

use super::{Daemon, Quiet};
use crate::report;

/// How often it is written: exporters are asked about four times a minute.
const EVERY: Duration = Duration::from_secs(15);

impl Daemon {
    /// Writes the file, where the grants name one, for as long as the daemon lives.
    pub async fn keep_metrics(self: Rc<Self>) {
        let mut quiet = Quiet::default();
        loop {
            let settings = self.settings().await;
            if let Some(path) = &settings.premises.grants.textfile {
                let page = report::prometheus(&self.status().await);
                if let Err(e) = write(path, &page) {
                    let complaint = format!("{}: {e}", path.display());
                    if let Some(said) = quiet.hear(&complaint) {
                        self.say(&said);
                    }
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// All of it, or what was there before.
fn write(path: &Path, page: &str) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    let _ = std::fs::remove_file(&beside);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&beside)?;
    let done = file
        .write_all(page.as_bytes())
        .and_then(|()| std::fs::rename(&beside, path));
    if done.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    done
}
