//! `<executable>`: the name of a file in `active-response/bin`, and the components
//! that may stand for it.

use std::fmt;

/// File systems take 255 bytes; `.wasm` has to fit behind the name.
const LONGEST: usize = 250;

/// A name that can't lead out of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// Why a text is no such name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    name: String,
    why: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the executable {:?} {}; write the plain name of a file in active-response/bin, like `firewall-drop`",
            self.name, self.why
        )
    }
}

impl std::error::Error for Refused {}

impl Name {
    /// The name, if it is one.
    ///
    /// # Errors
    /// With a separator, `..`, a control character, a drive, or nothing before its
    /// suffix.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let why = if text.is_empty() {
            Some("is empty")
        } else if text.len() > LONGEST {
            Some("is too long")
        } else if text.contains(['/', '\\']) {
            Some("holds a path separator")
        } else if text.contains("..") {
            Some("holds `..`")
        } else if text.contains(':') {
            Some("holds a `:`")
        } else if text.chars().any(char::is_control) {
            Some("holds a control character")
        } else if stem(text).is_empty() {
            Some("has nothing before its suffix")
        } else {
            None
        };
        match why {
            None => Ok(Self(text.to_owned())),
            Some(why) => Err(Refused {
                name: text.chars().take(64).collect(),
                why,
            }),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The files that may be its component, best first: the whole name, then the
    /// name without its suffix.
    #[must_use]
    pub fn components(&self) -> Vec<String> {
        let mut files = vec![format!("{}.wasm", self.0)];
        let stem = format!("{}.wasm", stem(&self.0));
        if !files.contains(&stem) {
            files.push(stem);
        }
        files
    }
}

fn stem(text: &str) -> &str {
    text.rsplit_once('.').map_or(text, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_name_comes_before_its_stem() {
        let components = |text: &str| Name::parse(text).unwrap().components();
        assert_eq!(
            components("firewall-drop.sh"),
            ["firewall-drop.sh.wasm", "firewall-drop.wasm"]
        );
        assert_eq!(components("firewall-drop"), ["firewall-drop.wasm"]);
        assert_eq!(
            components("restart-ossec.cmd"),
            ["restart-ossec.cmd.wasm", "restart-ossec.wasm"]
        );
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for bad in [
            "", "..", "../x", "a/b", "/bin/sh", "a\\b", "C:x", ".sh", "a\0b", "a\nb", "a..b",
        ] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Name::parse(&"x".repeat(300)).is_err());
    }
}
