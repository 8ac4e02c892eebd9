//! What a file is, before anything compiles it: a component with `handle` that
//! imports no more than was granted, or a sentence that says what else.

use std::fmt;

use serde::Serialize;
use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload};

use crate::conf::grants::Response;

/// The package and version that this host serves.
pub const PACKAGE: &str = "retort:response";
/// See [`PACKAGE`].
pub const VERSION: &str = "0.1.0";

/// The largest component that is read. A Python guest with its interpreter has
/// 18 MB; nothing that anyone needs has four times that.
pub const LARGEST: u64 = 64 << 20;

/// What std's panic and print paths import on `wasm32-wasip2`.
const SERVED_WASI: [&str; 17] = [
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
];

/// Why a file can't be a response. Each case is one sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misshapen {
    /// Not WebAssembly at all.
    NotWasm {
        /// What it looks like.
        looks_like: &'static str,
    },
    /// A module of core WebAssembly.
    CoreModule,
    /// It ends in the middle.
    Truncated,
    /// WebAssembly that breaks the format.
    Broken {
        /// The parser's words.
        what: String,
    },
    /// No export `handle`.
    NoHandle,
    /// `handle` with another type than the contract's.
    OtherHandle {
        /// The type checker's words.
        what: String,
    },
    /// Another version of the contract.
    OtherVersion {
        /// What it imports.
        import: String,
    },
    /// An interface of the contract without a grant.
    Ungranted {
        /// What it imports.
        import: String,
        /// The line that would grant it.
        line: String,
    },
    /// Something that no grant opens.
    NotServed {
        /// What it imports.
        import: String,
    },
}

impl fmt::Display for Misshapen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWasm { looks_like } => write!(f, "it is no WebAssembly component: it looks like {looks_like}"),
            Self::CoreModule => f.write_str(
                "it is a core WebAssembly module, not a component; encode it with `retort build` or `wasm-tools component new`",
            ),
            Self::Truncated => f.write_str("it is truncated: the file ends in the middle of the component; copy it again"),
            Self::Broken { what } => write!(f, "it breaks the component format: {what}"),
            Self::NoHandle => write!(
                f,
                "it has no export `handle`, so it is no response; build it for the world `{PACKAGE}/response@{VERSION}`"
            ),
            Self::OtherHandle { what } => write!(
                f,
                "its `handle` is not that of `{PACKAGE}/response@{VERSION}`: {what}"
            ),
            Self::OtherVersion { import } => write!(
                f,
                "it was built against `{import}`; this host serves {VERSION} and no other version, so build it against that"
            ),
            Self::Ungranted { import, line } => {
                write!(f, "it imports `{import}`, which is not granted; write in retort.toml:\n{line}")
            }
            Self::NotServed { import } => {
                let what = if import.starts_with("wasi:sockets") || import.starts_with("wasi:http") {
                    "no response gets the network"
                } else if import.starts_with("wasi:filesystem") {
                    "no response gets the filesystem"
                } else {
                    "nothing of that name exists in the vessel"
                };
                write!(f, "it imports `{import}`: {what}, and no grant opens it")
            }
        }
    }
}

impl std::error::Error for Misshapen {}

/// The outline of a component: the names at its surface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Imported interfaces and functions, in the order of the file. Types are no
    /// capability and are left out.
    pub imports: Vec<String>,
    /// Exported names.
    pub exports: Vec<String>,
}

impl Shape {
    /// Reads the outline and nothing deeper: this takes microseconds.
    ///
    /// # Errors
    /// When the bytes are no component.
    pub fn of(bytes: &[u8]) -> Result<Self, Misshapen> {
        kind(bytes)?;
        let mut shape = Self::default();
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(misread)? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                    depth = depth.saturating_add(1);
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import.map_err(misread)?;
                        if !matches!(import.ty, wasmparser::ComponentTypeRef::Type(_)) {
                            shape.imports.push(import.name.name.to_owned());
                        }
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export.map_err(misread)?;
                        if export.kind != ComponentExternalKind::Type {
                            shape.exports.push(export.name.name.to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(shape)
    }

    /// Whether the component named `response` may be loaded with these grants.
    ///
    /// # Errors
    /// The first thing that forbids it.
    pub fn check(&self, response: &str, grants: &Response) -> Result<(), Misshapen> {
        if !self.exports.iter().any(|name| name == "handle") {
            return Err(Misshapen::NoHandle);
        }
        for import in &self.imports {
            let (name, version) = import.split_once('@').unwrap_or((import, ""));
            if let Some(interface) = name
                .strip_prefix(PACKAGE)
                .and_then(|rest| rest.strip_prefix('/'))
            {
                if version != VERSION {
                    return Err(Misshapen::OtherVersion {
                        import: import.clone(),
                    });
                }
                check_interface(interface, import, response, grants)?;
            } else if !(SERVED_WASI.contains(&name) && version.starts_with("0.2.")) {
                return Err(Misshapen::NotServed {
                    import: import.clone(),
                });
            }
        }
        Ok(())
    }
}

fn check_interface(
    interface: &str,
    import: &str,
    response: &str,
    grants: &Response,
) -> Result<(), Misshapen> {
    let line = match interface {
        "types" | "log" => return Ok(()),
        "firewall" if grants.firewall.is_some() => return Ok(()),
        "process" if !grants.process.is_empty() => return Ok(()),
        "hostname" if grants.hostname => return Ok(()),
        "firewall" => "firewall = { target = \"srcip\" }",
        "process" => "process.<helper> = { argv = [\"/absolute/program\"] }",
        "hostname" => "hostname = true",
        _ => {
            return Err(Misshapen::NotServed {
                import: import.to_owned(),
            });
        }
    };
    Err(Misshapen::Ungranted {
        import: import.to_owned(),
        line: format!("  [response.{}]\n  {line}", key(response)),
    })
}

/// A TOML key: bare where it may be.
fn key(name: &str) -> String {
    if !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    {
        name.to_owned()
    } else {
        format!("{name:?}")
    }
}

fn kind(bytes: &[u8]) -> Result<(), Misshapen> {
    let Some(magic) = bytes.get(..4) else {
        let looks_like = if bytes.is_empty() {
            "an empty file"
        } else {
            "a scrap of a file"
        };
        return Err(Misshapen::NotWasm { looks_like });
    };
    if magic != b"\0asm" {
        let looks_like = if magic == b"\x7fELF" {
            "a program of this machine"
        } else if bytes.starts_with(b"#!") {
            "a script"
        } else if std::str::from_utf8(bytes.get(..512.min(bytes.len())).unwrap_or(bytes)).is_ok() {
            "text"
        } else {
            "other binary data"
        };
        return Err(Misshapen::NotWasm { looks_like });
    }
    if bytes.len() < 8 {
        return Err(Misshapen::Truncated);
    }
    match Parser::new(0).parse(bytes, true) {
        Ok(wasmparser::Chunk::Parsed {
            payload: Payload::Version { encoding, .. },
            ..
        }) => match encoding {
            Encoding::Component => Ok(()),
            Encoding::Module => Err(Misshapen::CoreModule),
        },
        Ok(_) => Err(Misshapen::Truncated),
        Err(error) => Err(misread(error)),
    }
}

fn misread(error: wasmparser::BinaryReaderError) -> Misshapen {
    // wasmparser has no kind for this, only its text.
    if error.message().contains("unexpected end") {
        Misshapen::Truncated
    } else {
        Misshapen::Broken {
            what: error.message().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_named() {
        let looks = |bytes: &[u8]| Shape::of(bytes).unwrap_err();
        assert_eq!(
            looks(b"#!/bin/sh\n"),
            Misshapen::NotWasm {
                looks_like: "a script"
            }
        );
        assert_eq!(
            looks(b"hello world"),
            Misshapen::NotWasm { looks_like: "text" }
        );
        assert_eq!(
            looks(b""),
            Misshapen::NotWasm {
                looks_like: "an empty file"
            }
        );
        assert_eq!(
            looks(b"\x7fELF\x02\x01"),
            Misshapen::NotWasm {
                looks_like: "a program of this machine"
            }
        );
        assert_eq!(looks(b"\0asm\x01\0\0\0"), Misshapen::CoreModule);
        assert_eq!(looks(b"\0asm\x0d"), Misshapen::Truncated);
        assert_eq!(
            looks(b"\0asm\x0d\0\x01\0\x0a\xff\x01"),
            Misshapen::Truncated
        );
    }

    #[test]
    fn the_line_that_grants_is_in_the_refusal() {
        let shape = Shape {
            imports: vec!["retort:response/firewall@0.1.0".into()],
            exports: vec!["handle".into()],
        };
        let refusal = shape
            .check("firewall-drop", &Response::default())
            .unwrap_err();
        assert!(
            refusal
                .to_string()
                .contains("[response.firewall-drop]\n  firewall = { target"),
            "{refusal}"
        );
    }

    #[test]
    fn sockets_files_and_other_versions_are_refused() {
        let check = |import: &str| {
            let shape = Shape {
                imports: vec![import.into()],
                exports: vec!["handle".into()],
            };
            shape.check("x", &Response::default())
        };
        assert!(
            check("wasi:sockets/tcp@0.2.6")
                .unwrap_err()
                .to_string()
                .contains("network")
        );
        assert!(
            check("wasi:filesystem/types@0.2.6")
                .unwrap_err()
                .to_string()
                .contains("filesystem")
        );
        assert!(
            check("retort:response/log@0.2.0")
                .unwrap_err()
                .to_string()
                .contains("0.2.0")
        );
        assert!(check("retort:response/log@0.1.0").is_ok());
        assert!(check("wasi:io/streams@0.2.6").is_ok());
    }
}
