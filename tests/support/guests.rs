//! Guests, built from source once for all test programs: never from a blob.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Where guests and their target folders are, shared by all test programs.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// One test program builds, the others wait; cargo itself knows what is fresh.
fn alone<T>(work: impl FnOnce() -> T) -> T {
    let file = File::create(folder().join("lock")).unwrap();
    let _lock = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, e)| e)
        .unwrap();
    work()
}

/// A response of the project.
pub fn response(name: &str) -> Vec<u8> {
    alone(|| retort::cli::build::build(&project(), name, Some(&folder().join("target"))).unwrap())
}

/// The guest with every bad manner.
pub fn hostile() -> Vec<u8> {
    let workspace = project().join("tests/guests/hostile");
    alone(|| {
        retort::cli::build::build(&workspace, "hostile", Some(&folder().join("target"))).unwrap()
    })
}

/// A guest that was built for `wasm32-wasip2`.
pub fn wasip2(name: &str) -> Vec<u8> {
    let workspace = project().join("tests/guests").join(name);
    let target = folder().join("target");
    alone(|| {
        let status = Command::new(env!("CARGO"))
            .current_dir(&workspace)
            .args([
                "build",
                "--locked",
                "--quiet",
                "--release",
                "--target",
                "wasm32-wasip2",
            ])
            .arg("--target-dir")
            .arg(&target)
            .status()
            .unwrap();
        assert!(status.success(), "cargo build of {name}");
        let file = target
            .join("wasm32-wasip2/release")
            .join(format!("{name}.wasm"));
        std::fs::read(file).unwrap()
    })
}

/// A component that is written by hand, for shapes that no compiler makes.
pub fn wat(name: &str) -> Vec<u8> {
    let path = project()
        .join("tests/guests/wat")
        .join(format!("{name}.wat"));
    wat::parse_file(path).unwrap()
}

/// A core module that is written by hand, as a response: its `handle` takes a pointer
/// to the event and gives one to the result.
pub fn core(name: &str) -> Vec<u8> {
    let path = project()
        .join("tests/guests/wat")
        .join(format!("{name}.wat"));
    let mut module = wat::parse_file(path).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(project().join("wit")).unwrap();
    let world = resolve.select_world(&[package], Some("response")).unwrap();
    wit_component::embed_component_metadata(
        &mut module,
        &resolve,
        world,
        wit_component::StringEncoding::UTF8,
    )
    .unwrap();
    retort::cli::build::encode(&module).unwrap()
}
