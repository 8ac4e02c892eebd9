//! `ossec-init.conf`: what an installer put where.

/// One installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Init {
    /// Its folder.
    pub directory: Option<String>,
    /// `server`, `local`, `agent` or `hybrid`, in small letters.
    pub kind: Option<String>,
}

/// Reads lines like `TYPE="server"`; what is none is skipped.
#[must_use]
pub fn parse(bytes: &[u8]) -> Init {
    let text = String::from_utf8_lossy(bytes);
    let value = |name: &str| {
        let (_, value) = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .rfind(|(key, _)| key.trim() == name)?;
        let value = value.trim().trim_matches('"');
        (!value.is_empty()).then(|| value.to_owned())
    };
    Init {
        directory: value("DIRECTORY"),
        kind: value("TYPE").map(|kind| kind.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installers_lines_are_read() {
        let init =
            parse(b"DIRECTORY=\"/var/ossec\"\nVERSION=\"v4.2.0\"\nDATE=\"Mon\"\nTYPE=\"server\"\n");
        assert_eq!(init.directory.as_deref(), Some("/var/ossec"));
        assert_eq!(init.kind.as_deref(), Some("server"));
        assert_eq!(parse(b"TYPE=\n# TYPE=local\n\xff\n"), Init::default());
    }
}
