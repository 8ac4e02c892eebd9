//! `retort:response/hostname`: the host's own name.

use wasmtime::component::{HasData, Linker};

use super::bindings::retort::response::hostname;
use super::{Calls, State};

struct Hostname<'a> {
    calls: &'a mut Calls,
    name: &'a str,
}
struct HasHostname;

impl HasData for HasHostname {
    type Data<'a> = Hostname<'a>;
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    hostname::add_to_linker::<State, HasHostname>(linker, |state| Hostname {
        calls: &mut state.calls,
        name: &state.hostname,
    })
}

impl hostname::Host for Hostname<'_> {
    async fn get(&mut self) -> wasmtime::Result<String> {
        self.calls.count()?;
        Ok(self.name.to_owned())
    }
}
