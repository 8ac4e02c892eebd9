//! Who is logged in from where: sessions that were authenticated, as this host has
//! them written down. A peer that only has a connection open is in none of these
//! files.
//!
//! systemd-logind's files come first: its folder is root's alone. A `utmp`, which a
//! group may write, counts where there is no logind.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::mem::{offset_of, size_of};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::libc::{USER_PROCESS, utmpx};
use nix::unistd::{SysconfVar, sysconf};

use crate::address;
use crate::journal::{Now, Owner};

/// logind's own limit (`SessionsMax=`) is half of it.
const SESSIONS: usize = 16_384;

/// A session's file has some 400 bytes.
const SESSION: u64 = 16 << 10;

/// Ten thousand logins; a `utmp` is as long as there were logins at one time.
const UTMP: u64 = 4 << 20;

/// The accounts and groups of this host alone, none of a directory service.
const ACCOUNTS: u64 = 4 << 20;

/// The classes of somebody who logged in; none of a greeter, a cron job or a manager.
const CLASSES: [&str; 4] = ["user", "user-early", "user-light", "user-early-light"];

/// How much later than its record a login's process may have begun, by clocks that
/// are rounded: what began later has its number by chance.
const ROUNDED: Duration = Duration::from_secs(2);

/// Where this host writes down who is logged in, and who is who.
#[derive(Debug)]
pub struct Records {
    /// The folder of systemd-logind.
    pub logind: PathBuf,
    /// The login records where there is no logind.
    pub utmp: PathBuf,
    /// The groups, with their members.
    pub groups: PathBuf,
    /// The accounts, each with its first group.
    pub accounts: PathBuf,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            logind: "/run/systemd/sessions".into(),
            utmp: "/var/run/utmp".into(),
            groups: "/etc/group".into(),
            accounts: "/etc/passwd".into(),
        }
    }
}

/// Somebody who logged in over the network, and is here still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The account.
    pub user: String,
    /// From where. A session that has a name here is not taken: names can lie.
    pub from: IpAddr,
    /// When it was authenticated, since the epoch.
    pub since: Duration,
}

impl Records {
    /// The sessions of the members of `group`.
    ///
    /// # Errors
    /// A sentence: why it can't be told who is logged in.
    pub fn of_group(&self, group: &str, now: &Now) -> Result<Vec<Session>, String> {
        let members = self.members(group)?;
        let unreadable = |path: &Path, e: &io::Error| format!("{}: {e}", path.display());
        let sessions = match std::fs::read_dir(&self.logind) {
            Ok(folder) => logind(folder),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let records = read(&self.utmp, UTMP).map_err(|e| match e.kind() {
                    io::ErrorKind::NotFound => format!(
                        "this host does not write down who is logged in: neither {} nor {} is there",
                        self.logind.display(),
                        self.utmp.display()
                    ),
                    _ => unreadable(&self.utmp, &e),
                })?;
                utmp(&records, now)
            }
            Err(e) => return Err(unreadable(&self.logind, &e)),
        };
        let of_group = |session: &Session| members.contains(&session.user);
        Ok(sessions.into_iter().filter(of_group).collect())
    }

    /// Those in the group's line, and those whose first group it is.
    fn members(&self, group: &str) -> Result<BTreeSet<String>, String> {
        let text = |path: &Path| {
            let bytes = read(path, ACCOUNTS).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok::<_, String>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let groups = text(&self.groups)?;
        let fields = groups.lines().map(|line| line.split(':'));
        let line = fields
            .filter_map(|mut fields| (fields.next()? == group).then_some(fields))
            .next();
        let mut line = line.ok_or_else(|| {
            format!(
                "{} has no group `{group}`; `groupadd {group}` makes it",
                self.groups.display()
            )
        })?;
        let number = line.nth(1).unwrap_or_default();
        let named = line.next().unwrap_or_default().split(',');
        let mut members: BTreeSet<String> = named
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        for account in text(&self.accounts)?.lines() {
            let mut fields = account.split(':');
            if let (Some(name), Some(first)) = (fields.next(), fields.nth(2))
                && first == number
            {
                members.insert(name.to_owned());
            }
        }
        Ok(members)
    }
}

/// Reads what may not be there any more, and may be anything.
fn read(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(at_most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn logind(folder: std::fs::ReadDir) -> Vec<Session> {
    folder
        .take(SESSIONS)
        .filter_map(|entry| read(&entry.ok()?.path(), SESSION).ok())
        .filter_map(|bytes| of_logind(&String::from_utf8_lossy(&bytes)))
        .collect()
}

fn of_logind(text: &str) -> Option<Session> {
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|line| line.split_once('='));
        values.find(|(k, _)| *k == key).map(|(_, value)| value)
    };
    let there = CLASSES.contains(&value("CLASS")?) && value("STATE") != Some("closing");
    there.then_some(())?;
    Some(Session {
        user: value("USER")?.to_owned(),
        from: address::parse(value("REMOTE_HOST")?)?,
        since: Duration::from_micros(value("REALTIME")?.parse().ok()?),
    })
}

fn utmp(records: &[u8], now: &Now) -> Vec<Session> {
    records
        .chunks_exact(size_of::<utmpx>())
        .filter_map(|record| of_utmp(record, now))
        .collect()
}

/// One record. Its layout is the C library's; the time is narrow on machines that
/// once had 32 bits.
fn of_utmp(record: &[u8], now: &Now) -> Option<Session> {
    let bytes = |at: usize, length: usize| record.get(at..at.checked_add(length)?);
    let four = |at: usize| -> Option<[u8; 4]> { bytes(at, 4)?.try_into().ok() };
    let kind = bytes(offset_of!(utmpx, ut_type), 2)?.try_into().ok()?;
    (i16::from_ne_bytes(kind) == USER_PROCESS).then_some(())?;
    let time = offset_of!(utmpx, ut_tv);
    let from = offset_of!(utmpx, ut_addr_v6);
    let seconds = if from.checked_sub(time)? >= 16 {
        i64::from_ne_bytes(bytes(time, 8)?.try_into().ok()?)
    } else {
        i64::from(i32::from_ne_bytes(four(time)?))
    };
    let since = Duration::from_secs(u64::try_from(seconds).ok()?);
    let login = Owner::of(i32::from_ne_bytes(four(offset_of!(utmpx, ut_pid))?))?;
    (began(&login, now)? <= since.saturating_add(ROUNDED)).then_some(())?;
    let user = bytes(offset_of!(utmpx, ut_user), 32)?;
    let user = user.split(|byte| *byte == 0).next().unwrap_or_default();
    let whole: [u8; 16] = bytes(from, 16)?.try_into().ok()?;
    let from = match whole {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] => return None,
        // An IPv4 address stands in the first word, and the others are empty.
        [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] => IpAddr::from([a, b, c, d]),
        whole => address::canonical(IpAddr::from(whole)),
    };
    Some(Session {
        user: String::from_utf8(user.to_vec()).ok()?,
        from,
        since,
    })
}

/// When the process began, since the epoch.
fn began(process: &Owner, now: &Now) -> Option<Duration> {
    let ticks = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let millis = process.start_time.checked_mul(1000)?.checked_div(ticks)?;
    let booted = now.wall.checked_sub(now.boot)?;
    booted.checked_add(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    struct Host {
        dir: TempDir,
        records: Records,
    }

    fn host() -> Host {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        let records = Records {
            logind: at("sessions"),
            utmp: at("utmp"),
            groups: at("group"),
            accounts: at("passwd"),
        };
        std::fs::write(
            &records.groups,
            "root:x:0:\nwheel:x:10:alice,bob\nempty:x:11:\nold:x:12\n",
        )
        .unwrap();
        std::fs::write(
            &records.accounts,
            "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\ncarol:x:1001:10::/:/bin/sh\n",
        )
        .unwrap();
        Host { dir, records }
    }

    impl Host {
        /// A session as logind writes it, with these lines in place of its own.
        fn session(&self, id: &str, other: &[(&str, &str)]) {
            let mut lines = vec![
                ("UID", "1000"),
                ("USER", "alice"),
                ("ACTIVE", "1"),
                ("STATE", "active"),
                ("REMOTE", "1"),
                ("TYPE", "tty"),
                ("CLASS", "user"),
                ("REMOTE_HOST", "203.0.113.9"),
                ("SERVICE", "sshd"),
                ("REALTIME", "1795489577123456"),
            ];
            for (key, value) in other {
                lines.retain(|(k, _)| k != key);
                lines.push((key, value));
            }
            let text: String = lines.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
            let _ = std::fs::create_dir(&self.records.logind);
            std::fs::write(self.records.logind.join(id), text).unwrap();
        }

        fn found(&self, group: &str) -> Vec<String> {
            let now = Now::read().unwrap();
            let mut found: Vec<String> = self
                .records
                .of_group(group, &now)
                .unwrap()
                .iter()
                .map(|s| format!("{} {} {}", s.user, s.from, s.since.as_secs()))
                .collect();
            found.sort();
            found
        }
    }

    #[test]
    fn logind_says_who_is_logged_in() {
        let host = host();
        host.session("1", &[]);
        host.session(
            "2",
            &[("USER", "carol"), ("REMOTE_HOST", "::ffff:203.0.113.8")],
        );
        host.session("c3", &[("USER", "bob"), ("REMOTE_HOST", "2001:db8::9")]);
        assert_eq!(
            host.found("wheel"),
            [
                "alice 203.0.113.9 1795489577",
                "bob 2001:db8::9 1795489577",
                "carol 203.0.113.8 1795489577"
            ]
        );
        assert!(host.found("root").is_empty());
        assert!(host.found("empty").is_empty() && host.found("old").is_empty());
    }

    #[test]
    fn what_is_no_session_of_an_admin_is_left_out() {
        for (key, value) in [
            ("USER", "mallory"),
            ("USER", ""),
            ("CLASS", "greeter"),
            ("CLASS", "user-incomplete"),
            ("CLASS", "manager"),
            ("CLASS", "background"),
            ("STATE", "closing"),
            ("REMOTE_HOST", "vpn.example.org"),
            ("REMOTE_HOST", "203.0.113.0/24"),
            ("REMOTE_HOST", ""),
            ("REALTIME", "yesterday"),
            ("REALTIME", "-1"),
        ] {
            let host = host();
            host.session("1", &[(key, value)]);
            assert!(host.found("wheel").is_empty(), "{key}={value}");
        }
    }

    #[test]
    fn what_is_no_file_of_a_session_is_stepped_over() {
        let host = host();
        host.session("1", &[]);
        let at = |name: &str| host.records.logind.join(name);
        nix::unistd::mkfifo(&at("1.ref"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink(at("1"), at("link")).unwrap();
        std::fs::write(at("junk"), [0xff; 100]).unwrap();
        std::fs::write(at("endless"), vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(host.found("wheel").len(), 1);
    }

    /// As login writes it, by the offsets of `utmp(5)`.
    fn record(kind: i16, pid: i32, user: &str, seconds: i64, from: &[u8]) -> Vec<u8> {
        let mut record = vec![0; size_of::<utmpx>()];
        let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &kind.to_ne_bytes());
        put(4, &pid.to_ne_bytes());
        put(44, user.as_bytes());
        put(76, b"a.name.that.lies");
        if cfg!(target_arch = "x86_64") {
            put(340, &i32::try_from(seconds).unwrap().to_ne_bytes());
            put(348, from);
        } else {
            put(offset_of!(utmpx, ut_tv), &seconds.to_ne_bytes());
            put(offset_of!(utmpx, ut_addr_v6), from);
        }
        record
    }

    #[test]
    fn without_logind_utmp_says_it() {
        let host = host();
        let me = i32::try_from(std::process::id()).unwrap();
        let now = Now::read().unwrap();
        let second = i64::try_from(now.wall.as_secs()).unwrap();
        let six = "2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap();
        let records = [
            record(7, me, "alice", second, &[203, 0, 113, 7]),
            record(7, me, "carol", second, &six.octets()),
            // A boot, a login that is over, somebody else, a local one.
            record(2, me, "alice", second, &[203, 0, 113, 1]),
            record(8, me, "alice", second, &[203, 0, 113, 2]),
            record(7, me, "mallory", second, &[203, 0, 113, 3]),
            record(7, me, "alice", second, &[0, 0, 0, 0]),
            // A process that is gone, and one that has the number of another.
            record(7, i32::MAX, "alice", second, &[203, 0, 113, 4]),
            record(7, me, "alice", second - 86_400, &[203, 0, 113, 5]),
            vec![7, 0, 0, 0],
        ];
        std::fs::write(&host.records.utmp, records.concat()).unwrap();
        assert_eq!(
            host.found("wheel"),
            [
                format!("alice 203.0.113.7 {second}"),
                format!("carol 2001:db8::7 {second}")
            ]
        );
        // With logind, a file that a group may write is not believed.
        host.session("1", &[("USER", "mallory")]);
        assert!(host.found("wheel").is_empty());
    }

    #[test]
    fn what_is_missing_is_said() {
        let host = host();
        let now = Now::read().unwrap();
        let of = |group: &str| host.records.of_group(group, &now).unwrap_err();
        assert!(of("wheel").contains("neither"), "{}", of("wheel"));
        assert!(of("sudo").contains("`groupadd sudo`"), "{}", of("sudo"));
        std::fs::remove_file(host.dir.path().join("passwd")).unwrap();
        assert!(of("wheel").contains("passwd"), "{}", of("wheel"));
    }
}
