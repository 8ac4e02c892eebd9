//! `retort build`: a crate into a component, the same bytes on every machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use wit_component::ComponentEncoder;

/// Without WASI: the component imports what it uses of the contract, and nothing
/// else.
const TARGET: &str = "wasm32-unknown-unknown";

/// What `[profile.guest]` of this project says, for workspaces that have none.
const PROFILE: [&str; 6] = [
    "profile.guest.inherits=\"release\"",
    "profile.guest.opt-level=\"s\"",
    "profile.guest.lto=true",
    "profile.guest.panic=\"abort\"",
    "profile.guest.strip=true",
    "profile.guest.codegen-units=1",
];

/// A core module of `wit-bindgen` as a component.
///
/// # Errors
/// When the module does not fit the world that it names.
pub fn encode(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .context("read the core module")?
        .encode()
        .context("encode the component")
}

/// Builds the library `package` of the workspace at `workspace` as a component.
///
/// # Errors
/// When cargo fails; its own words go to stderr.
pub fn build(
    workspace: &Path,
    package: &str,
    target_dir: Option<&Path>,
) -> anyhow::Result<Vec<u8>> {
    let workspace = workspace.canonicalize().context("find the workspace")?;
    let target_dir = target_dir.map_or_else(|| workspace.join("target"), Path::to_owned);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(&workspace)
        .args(["build", "--locked", "--quiet", "--package", package])
        .args(["--target", TARGET, "--profile", "guest"])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", remaps(&workspace, &target_dir)?)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    let status = cargo.status().context("start cargo")?;
    if !status.success() {
        bail!(
            "cargo could not build `{package}` ({status}); is the target there? `rustup target add {TARGET}`"
        );
    }
    let file = format!("{}.wasm", package.replace('-', "_"));
    let module = target_dir.join(TARGET).join("guest").join(file);
    let module = std::fs::read(&module).with_context(|| format!("read {}", module.display()))?;
    encode(&module)
}

/// Panic messages name source files; the machine's own folders are taken out of
/// them, so that the digest does not depend on where it was built.
fn remaps(workspace: &Path, target_dir: &Path) -> anyhow::Result<String> {
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .unwrap_or_default();
    let cargo_home =
        std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let sysroot = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .context("ask rustc for its sysroot")?;
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    let remap = |from: &str, to: &str| format!("--remap-path-prefix={from}={to}");
    let flags = [
        remap(&sysroot, "/rust"),
        remap(&cargo_home.to_string_lossy(), "/cargo"),
        remap(&target_dir.to_string_lossy(), "/target"),
        remap(&workspace.to_string_lossy(), "/src"),
    ];
    Ok(flags.join("\x1f"))
}
