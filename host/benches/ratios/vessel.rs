//! The vessel with all its bounds against bare wasmtime: the same component, both
//! from a pool, store to drop. The guest looks at its event and asks for nothing.

use std::path::Path;
use std::time::Duration;

use retort::conf::grants;
use retort::effect::broker::{Broker, World};
use retort::effect::desk::{Desk, Run};
use retort::event::{Dialect, Event};
use retort::journal::Clock;
use retort::root::Root;
use retort::vessel::compile;
use retort::vessel::engine::{self, Allocation};
use retort::vessel::run::{Vessel, Workshop};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

use crate::guests;
use crate::measure::{compare, cost};

/// The contract, bound without anything of ours between.
mod bare {
    wasmtime::component::bindgen!({ path: "../wit", world: "response" });
}

const COUNT: usize = 20_000;
const RETORT: &str = env!("CARGO_BIN_EXE_retort");

pub fn measure() {
    let bytes = guests::response("restart-ossec");
    let (bare, bare_instance) = bare(&bytes);
    let ours = ours(&bytes);
    compare(
        "vessel: store, instantiate, handle, drop",
        ours,
        "bare wasmtime",
        bare,
    );
    println!("  of the bare one, store and instantiate: {bare_instance:.1?}");
}

fn ours(bytes: &[u8]) -> Duration {
    let dir = tempfile::tempdir().expect("a folder");
    let root = Root::new(dir.path());
    std::fs::create_dir(root.own()).expect("a folder in it");
    let text = "[firewall]\nbackend = \"record\"\n[response.restart-ossec]\nprocess.restart = { argv = [\"/bin/true\"] }\n";
    let grants = grants::parse(text, Path::new("retort.toml")).expect("grants");
    let engine = engine::engine(Allocation::Pooled).expect("an engine");
    engine::start_clock(&engine);
    let workshop = Workshop {
        engine: &engine,
        cache: None,
        retort: Path::new(RETORT),
        patience: compile::PATIENT,
    };
    let granted = grants.response("restart-ossec");
    let vessel = Vessel::load(&workshop, "restart-ossec", bytes, "-", &granted).expect("it loads");
    let desk = Desk::open(Broker::new(World {
        root,
        grants,
        white_list: retort::conf::white_list::WhiteList::default(),
        servers: Vec::new(),
        ar: Vec::new(),
        retort: RETORT.into(),
        budget: Duration::from_secs(1),
        clock: Clock::System,
    }))
    .expect("a broker");
    let event: Event = serde_json::from_str(r#"{"action": "delete"}"#).expect("an event");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let run = Run {
        response: "restart-ossec".into(),
        digest: "-".into(),
        executable: "restart-ossec".into(),
        dialect: Dialect::Ossec,
        event: event.clone(),
        key: String::new(),
        origin: String::new(),
        owner: None,
        dry_run: true,
        left: Duration::from_secs(3600),
        term: None,
        message: None,
    };
    let session = desk.begin(run);
    let limits = granted.limits;
    cost(COUNT, |_| {
        let ended =
            runtime.block_on(vessel.run(&event, &limits, limits.wall, "host", session.clone()));
        assert!(ended.verdict.is_ok(), "{:?}", ended.verdict);
    })
    .wall
}

fn bare(bytes: &[u8]) -> (Duration, Duration) {
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(
        PoolingAllocationConfig::default(),
    ));
    let engine = Engine::new(&config).expect("an engine");
    let component = Component::new(&engine, bytes).expect("it compiles");
    let mut linker = Linker::<()>::new(&engine);
    linker
        .define_unknown_imports_as_traps(&component)
        .expect("it links");
    let pre = linker.instantiate_pre(&component).expect("it links");
    let pre = bare::ResponsePre::new(pre).expect("it is a response");
    let event = bare::retort::response::types::Event {
        action: bare::retort::response::types::Action::Delete,
        srcip: None,
        user: None,
        hostname: None,
        filename: None,
        alert_id: None,
        rule_id: None,
        rule_level: None,
        rule_groups: Vec::new(),
        agent_id: None,
        agent_name: None,
        location: None,
        extra_args: Vec::new(),
        timeout: None,
    };
    let all = cost(COUNT, |_| {
        let mut store = Store::new(&engine, ());
        let guest = pre.instantiate(&mut store).expect("an instance");
        guest
            .call_handle(&mut store, &event)
            .expect("no trap")
            .expect("no error");
    });
    let instance = cost(COUNT, |_| {
        let mut store = Store::new(&engine, ());
        pre.instantiate(&mut store).expect("an instance");
    });
    (all.wall, instance.wall)
}
