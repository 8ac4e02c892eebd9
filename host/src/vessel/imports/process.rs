//! `retort:response/process`: a guest names a helper, the broker starts it.

use wasmtime::component::{HasData, Linker};

use super::bindings::retort::response::process;
use super::bindings::retort::response::types::Error;
use super::{Calls, State};
use crate::effect::{Done, Effect};

struct Process<'a>(&'a mut Calls);
struct HasProcess;

impl HasData for HasProcess {
    type Data<'a> = Process<'a>;
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    process::add_to_linker::<State, HasProcess>(linker, |state| Process(&mut state.calls))
}

impl process::Host for Process<'_> {
    async fn run(&mut self, helper: String) -> wasmtime::Result<Result<i32, Error>> {
        let answer = self.0.perform(Effect::Run { helper }).await?;
        Ok(answer
            .map(|done| match done {
                Done::Exited { code } => code,
                _ => 0,
            })
            .map_err(Into::into))
    }
}
