//! `retort inspect x.wasm`: what it is, its digest, and what it would need.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Output;
use crate::conf;
use crate::conf::grants::Response;
use crate::vessel::shape::{self, Misshapen, Shape};

#[derive(Serialize)]
struct Inspected {
    file: String,
    bytes: usize,
    sha256: String,
    imports: Vec<String>,
    exports: Vec<String>,
    refused: Option<String>,
}

pub(super) fn inspect(file: &Path) -> anyhow::Result<Output> {
    let bytes = conf::read(file, shape::LARGEST).with_context(|| file.display().to_string())?;
    let shape = Shape::of(&bytes);
    let name = file
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let refused = match &shape {
        Err(misshapen) => Some(misshapen.clone()),
        Ok(shape) => shape.check(&name, &Response::default()).err(),
    };
    let shape = shape.unwrap_or_default();
    let inspected = Inspected {
        file: file.display().to_string(),
        bytes: bytes.len(),
        sha256: hex::encode(Sha256::digest(&bytes)),
        imports: shape.imports,
        exports: shape.exports,
        refused: refused.as_ref().map(ToString::to_string),
    };
    let mut human = format!(
        "{}\n  size    {} bytes\n  sha256  {}\n",
        inspected.file, inspected.bytes, inspected.sha256
    );
    for import in &inspected.imports {
        let _ = writeln!(human, "  import  {import}");
    }
    for export in &inspected.exports {
        let _ = writeln!(human, "  export  {export}");
    }
    // Without grants an import of the contract is always refused; that is no fault of
    // the component's.
    let fault = match refused {
        None | Some(Misshapen::Ungranted { .. }) => None,
        Some(other) => Some(other),
    };
    match (&fault, &inspected.refused) {
        (Some(fault), _) => {
            let _ = writeln!(human, "  no response: {fault}");
        }
        (None, Some(needs)) => {
            let _ = writeln!(human, "  without grants it is refused: {needs}");
        }
        (None, None) => human.push_str("  it needs no grant\n"),
    }
    Ok(Output::new(human, &inspected)?.failed_if(fault.is_some()))
}
