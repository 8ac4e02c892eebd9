//! The values of `retort.toml`: each reads itself, and says what to write instead.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::WRITE;
use crate::address;
use crate::conf::executable::Name;
use crate::conf::grants::{Argument, BackendName, Protected, Target};
use crate::event::Field;

/// The budget of one response.
pub(super) const PER_MINUTE: u32 = 600;
/// A helper's name.
const LONGEST_HELPER_NAME: usize = 64;

/// Reads a text and makes something of it, or says what is wrong with it.
fn from_text<'de, D: Deserializer<'de>, T>(
    from: D,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    let text = String::deserialize(from)?;
    read(&text).map_err(D::Error::custom)
}

#[derive(Clone, Copy)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| match humantime::parse_duration(text) {
            Ok(span) if span.is_zero() => {
                Err(format!("it has to be longer than nothing{WRITE}\"5 s\""))
            }
            Ok(span) => Ok(Self(span)),
            Err(_) => Err(format!(
                "`{text}` is no duration{WRITE}\"5 s\" (or ms, m, h, d)"
            )),
        })
    }
}

#[derive(Clone, Copy)]
pub(super) struct Size(pub(super) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| {
            text.parse::<bytesize::ByteSize>()
                .map(|size| Self(size.0))
                .map_err(|_| format!("`{text}` is no size{WRITE}\"16 MiB\" (or KiB, B)"))
        })
    }
}

pub(super) struct Rate(pub(super) u32);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match u32::deserialize(from)? {
            0 => Err(D::Error::custom(format!(
                "it is at least 1{WRITE}per_minute = {PER_MINUTE}"
            ))),
            rate => Ok(Self(rate)),
        }
    }
}

/// A file in `active-response/bin`.
pub(super) struct LegacyName(pub(super) String);

impl<'de> Deserialize<'de> for LegacyName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| {
            Name::parse(text)
                .map(|_| Self(text.to_owned()))
                .map_err(|refused| refused.to_string())
        })
    }
}

pub(super) struct Prefix<const LONGEST: u8>(pub(super) u8);

impl<'de, const LONGEST: u8> Deserialize<'de> for Prefix<LONGEST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match u8::deserialize(from)? {
            prefix if prefix > LONGEST => Err(D::Error::custom(format!(
                "a prefix is not longer than {LONGEST}{WRITE}{LONGEST}"
            ))),
            prefix => Ok(Self(prefix)),
        }
    }
}

pub(super) struct Backend(pub(super) BackendName);

impl<'de> Deserialize<'de> for Backend {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| match text {
            "nftables" => Ok(Self(BackendName::Nftables)),
            "record" => Ok(Self(BackendName::Record)),
            other => Err(format!(
                "`{other}` is no backend that this version serves{WRITE}\"nftables\" or \"record\""
            )),
        })
    }
}

/// The longest name of a group that Linux's tools make.
const LONGEST_GROUP: usize = 32;

/// A group, or `off`.
pub(super) struct AdminSessions(pub(super) Option<String>);

impl<'de> Deserialize<'de> for AdminSessions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        from_text(from, |text| match text {
            "off" => Ok(Self(None)),
            "" => Err(format!("a group has a name{WRITE}\"off\"")),
            group if group.len() > LONGEST_GROUP || !group.chars().all(plain) => Err(format!(
                "`{group}` is no name of a group{WRITE}\"wheel\" (or \"off\")"
            )),
            group => Ok(Self(Some(group.to_owned()))),
        })
    }
}

/// The prefix lengths of RFC 6052, 2.2: elsewhere no IPv4 address can be found.
const NAT64: [u8; 6] = [32, 40, 48, 56, 64, 96];

pub(super) struct Nat64(pub(super) Ipv6Net);

impl<'de> Deserialize<'de> for Nat64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| {
            text.parse::<Ipv6Net>()
                .ok()
                .filter(|prefix| NAT64.contains(&prefix.prefix_len()))
                .map(|prefix| Self(prefix.trunc()))
                .ok_or_else(|| {
                    format!("`{text}` is no NAT64 prefix: /32, /40, /48, /56, /64 or /96{WRITE}\"2001:db8:64::/96\"")
                })
        })
    }
}

pub(super) struct RawProtected(pub(super) Protected);

impl<'de> Deserialize<'de> for RawProtected {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| {
            if let Some(network) = network(text) {
                return Ok(Self(Protected::Network(network)));
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            if text.chars().all(plain) && text.chars().any(|c| c.is_ascii_alphabetic()) {
                return Ok(Self(Protected::Name(text.to_owned())));
            }
            Err(format!(
                "`{text}` is no address, network or host name{WRITE}\"10.0.0.0/8\""
            ))
        })
    }
}

fn network(text: &str) -> Option<IpNet> {
    address::parse(text)
        .map(address::host)
        .or_else(|| text.parse().ok())
        .map(|n: IpNet| address::canonical_network(n.trunc()))
}

pub(super) struct RawTarget(pub(super) Target);

impl Default for RawTarget {
    fn default() -> Self {
        Self(Target::Srcip)
    }
}

impl<'de> Deserialize<'de> for RawTarget {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a target is \"srcip\", \"any\" or a list of networks"
        )]
        enum Written {
            Word(String),
            List(Vec<String>),
        }
        let wrong = |text: &str| {
            D::Error::custom(format!(
                "`{text}` is no target{WRITE}\"srcip\" (or \"any\", or [\"192.0.2.0/24\"])"
            ))
        };
        match Written::deserialize(from)? {
            Written::Word(word) if word == "srcip" => Ok(Self(Target::Srcip)),
            Written::Word(word) if word == "any" => Ok(Self(Target::Any)),
            Written::Word(word) => Err(wrong(&word)),
            Written::List(list) => list
                .iter()
                .map(|text| network(text).ok_or_else(|| wrong(text)))
                .collect::<Result<_, _>>()
                .map(|networks| Self(Target::Networks(networks))),
        }
    }
}

pub(super) struct Digest(pub(super) [u8; 32]);

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| {
            let mut digest = [0; 32];
            hex::decode_to_slice(text, &mut digest)
                .map(|()| Self(digest))
                .map_err(|_| {
                    "a sha256 has 64 hexadecimal digits; `retort inspect` prints it".to_owned()
                })
        })
    }
}

pub(super) struct Absolute(pub(super) PathBuf);

impl<'de> Deserialize<'de> for Absolute {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| {
            let path = PathBuf::from(text);
            if path.is_absolute() && !text.contains('\0') {
                return Ok(Self(path));
            }
            Err(format!(
                "`{text}` is no absolute path{WRITE}one that begins with `/`"
            ))
        })
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HelperName(pub(super) String);

impl<'de> Deserialize<'de> for HelperName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if text.is_empty() || text.len() > LONGEST_HELPER_NAME || !text.chars().all(plain) {
                return Err(format!(
                    "`{text}` is no helper name: 1 to 64 letters, digits, `-`, `_`, `.`"
                ));
            }
            Ok(Self(text.to_owned()))
        })
    }
}

pub(super) struct Argv(pub(super) Vec<Argument>);

impl<'de> Deserialize<'de> for Argv {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = Vec::<String>::deserialize(from)?;
        if !written
            .first()
            .is_some_and(|program| program.starts_with('/'))
        {
            return Err(D::Error::custom(format!(
                "a helper's program is an absolute path: there is no PATH{WRITE}argv = [\"/usr/bin/program\"]"
            )));
        }
        if written.iter().any(|text| text.contains('\0')) {
            return Err(D::Error::custom("an argument can't hold a NUL byte"));
        }
        written
            .iter()
            .map(|text| argument(text))
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(D::Error::custom)
    }
}

fn argument(text: &str) -> Result<Argument, String> {
    let fields = [Field::Srcip, Field::User, Field::Hostname, Field::Filename];
    if let Some(field) = fields
        .into_iter()
        .find(|field| text == format!("{{{field}}}"))
    {
        return Ok(Argument::Field(field));
    }
    if let Some(field) = fields
        .into_iter()
        .find(|field| text.contains(&format!("{{{field}}}")))
    {
        return Err(format!(
            "a placeholder is a whole argument, not a part of `{text}`{WRITE}\"{{{field}}}\""
        ));
    }
    if text.starts_with('{') && text.ends_with('}') {
        return Err(format!(
            "`{text}` is no placeholder{WRITE}\"{{srcip}}\", \"{{user}}\", \"{{hostname}}\" or \"{{filename}}\""
        ));
    }
    Ok(Argument::Fixed(text.to_owned()))
}
