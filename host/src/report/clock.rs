//! The local time of log lines.

use std::sync::OnceLock;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

/// The zone of this host. The environment is empty, so no `TZ` says otherwise.
const LOCALTIME: &str = "/etc/localtime";

/// Now, where this host is. The zone's name is not looked for among all that there
/// are: its abbreviations are in the file, and a log line needs no more.
#[must_use]
pub fn now() -> ZonedDateTime {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    let zone = ZONE.get_or_init(|| {
        std::fs::read(LOCALTIME)
            .ok()
            .and_then(|bytes| TimeZone::tzif("", &bytes).ok())
            .unwrap_or(TimeZone::UTC)
    });
    ZonedDateTime::new(Timestamp::now(), zone.clone())
}
