//! Responses that are loaded: kept until their file or what is granted to them changes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use wasmtime::Engine;

use super::settings::{Settings, version};
use crate::registry::{self, Loaded};

/// What a loaded response depends on: its file's version, and the settings by address.
type Stamp = (Option<(u64, u64, i64, i64, u64)>, *const Settings);

/// One response; who finds it loading waits for it.
type Berth = Rc<Mutex<Option<(Stamp, Arc<Loaded>)>>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Vessels {
    berths: RefCell<HashMap<String, Berth>>,
}

impl Vessels {
    /// The response of `executable`, whose component is at `path`.
    pub(super) async fn get(
        &self,
        executable: &str,
        path: &Path,
        settings: &Arc<Settings>,
        engine: &Engine,
    ) -> Result<Arc<Loaded>, registry::Error> {
        let berth = Rc::clone(
            self.berths
                .borrow_mut()
                .entry(executable.to_owned())
                .or_default(),
        );
        let mut berth = berth.lock().await;
        let stamp = (version(path), Arc::as_ptr(settings));
        if let Some((of, loaded)) = berth.as_ref()
            && *of == stamp
        {
            return Ok(Arc::clone(loaded));
        }
        let (name, from, engine) = (executable.to_owned(), Arc::clone(settings), engine.clone());
        // Reading and compiling block; nobody else has to wait for it.
        let loading = tokio::task::spawn_blocking(move || load(&name, &from, &engine));
        let loaded = loading.await.map_err(|e| registry::Error::File {
            path: path.to_owned(),
            what: e.to_string(),
        })??;
        let loaded = Arc::new(loaded);
        *berth = Some((stamp, Arc::clone(&loaded)));
        Ok(loaded)
    }

    /// What was loaded with other settings goes.
    pub(super) fn clear(&self) {
        self.berths.borrow_mut().clear();
    }
}

fn load(executable: &str, settings: &Settings, engine: &Engine) -> Result<Loaded, registry::Error> {
    let found = settings.registry.find(executable)?;
    let grants = &settings.premises.grants;
    let patience: Duration = grants.response(&found.name).limits.wall;
    settings.registry.load(&found, grants, engine, patience)
}
