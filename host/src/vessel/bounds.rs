//! Memory, tables and instances of one store: bounded, and measured so that the
//! outcome can say what was used.

use wasmtime::ResourceLimiter;

use super::verdict::{Stop, Verdict};

/// Elements of all tables together. An interpreter has a few thousand functions.
const TABLE_ELEMENTS: usize = 10_000;

/// Core instances of one component: its own, adapters, and what a composed one brings.
const INSTANCES: usize = 32;

/// Memories and tables of one component.
const MEMORIES: usize = 4;
const TABLES: usize = 16;

/// The limiter of one store.
#[derive(Debug)]
pub(super) struct Bounds {
    memory_limit: u64,
    memory: u64,
    peak: u64,
    elements: usize,
}

impl Bounds {
    pub(super) fn new(memory_limit: u64) -> Self {
        Self {
            memory_limit,
            memory: 0,
            peak: 0,
            elements: 0,
        }
    }

    /// The most bytes that were in use at one time.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }
}

impl ResourceLimiter for Bounds {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = u64::try_from(desired.saturating_sub(current)).unwrap_or(u64::MAX);
        let total = self.memory.saturating_add(grown);
        if total > self.memory_limit {
            return Err(wasmtime::Error::new(Stop(Verdict::Memory)));
        }
        self.memory = total;
        self.peak = self.peak.max(total);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .elements
            .saturating_add(desired.saturating_sub(current));
        if total > TABLE_ELEMENTS {
            return Err(wasmtime::Error::new(Stop(Verdict::Table)));
        }
        self.elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}
