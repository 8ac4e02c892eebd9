//! The engine: one a process, with every knob that bounds a guest set by hand.

use std::hash::{Hash as _, Hasher};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

/// How often the epoch moves: the error of a CPU-time limit, and the price of an
/// idle daemon.
pub const TICK: Duration = Duration::from_millis(10);

/// Bounds recursion. Ordinary responses use a few hundred bytes.
const WASM_STACK: usize = 256 << 10;

/// What host calls may use of the fiber besides [`WASM_STACK`]: serde, formatting
/// and a channel, none of which recurse.
const HOST_STACK: usize = 768 << 10;

/// Address space of one linear memory. Interpreters live in tens of megabytes;
/// a small reservation also works under an address-space limit.
const MEMORY_RESERVATION: u64 = 64 << 20;

/// What of a pooled memory is wiped by hand after each guest, and not given back to
/// the kernel: about what an ordinary response touches. More costs more than it saves
/// where the kernel can't say which pages were touched.
const KEPT_MEMORY: usize = 64 << 10;

/// Guests that a daemon runs at one time: three responses that all hang leave room for
/// the others. The pool is address space; what no guest touches costs nothing.
pub const POOLED: usize = 256;

/// How instances get their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Mapped when asked for: best for a process that runs one guest.
    OnDemand,
    /// From a pool that is mapped once: best for a daemon.
    Pooled,
}

/// An engine whose epoch moves for as long as it lives.
///
/// # Errors
/// When the configuration contradicts itself or the address space is too small.
pub fn engine(allocation: Allocation) -> wasmtime::Result<Engine> {
    let engine = Engine::new(&config(allocation))?;
    Ok(engine)
}

/// Starts the clock of `engine`; it ends with the engine. An OS thread, because it
/// must tick while every worker of the runtime is stuck.
pub fn start_clock(engine: &Engine) {
    let weak = engine.weak();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(TICK);
            let Some(engine) = weak.upgrade() else { return };
            engine.increment_epoch();
        }
    });
}

fn config(allocation: Allocation) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(WASM_STACK.saturating_add(HOST_STACK))
        .cranelift_opt_level(OptLevel::Speed)
        .memory_init_cow(true)
        .concurrency_support(false)
        .gc_support(false)
        .shared_memory(false)
        .wasm_relaxed_simd(false)
        .wasm_simd(false)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_extended_const(false)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(32 << 20)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    if allocation == Allocation::Pooled {
        let mut pool = PoolingAllocationConfig::default();
        let guests = u32::try_from(POOLED).unwrap_or(u32::MAX);
        pool.total_component_instances(guests)
            .total_core_instances(guests.saturating_mul(4))
            .total_memories(guests.saturating_mul(2))
            .total_tables(guests.saturating_mul(4))
            .total_stacks(guests)
            .max_memory_size(64 << 20)
            .max_core_instances_per_component(8)
            .max_memories_per_component(2)
            .max_tables_per_component(8)
            .table_elements(10_000)
            .linear_memory_keep_resident(KEPT_MEMORY)
            .pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// What identifies artefacts that this engine can use, as hex: part of a cache
/// file's name, so that an upgrade misses instead of failing.
#[must_use]
pub fn compatibility(engine: &Engine) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hex::encode(hasher.0.finalize().get(..8).unwrap_or_default())
}

/// `DefaultHasher` may change with the Rust release; a digest does not.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
