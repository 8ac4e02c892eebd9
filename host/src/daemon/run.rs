//! One order's run in the vessel.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::settings::Settings;
use super::{Daemon, line, program};
use crate::event::Expect;
use crate::journal::Term;
use crate::message::Echo;
use crate::order::Order;
use crate::registry::Loaded;
use crate::report::{self, Outcome};
use crate::respond::{self, Asked, Consent, NotRun};

impl Daemon {
    pub(super) async fn run(&self, order: &Order, settings: &Arc<Settings>, component: &Path) {
        let started = Instant::now();
        let request = &order.request;
        let program = program(settings, &order.executable, request.dialect);
        self.log(&report::started(request, &program, &report::now()));
        let vessels = &self.vessels;
        let loaded = vessels
            .get(&order.executable, component, settings, &self.engine)
            .await;
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(why) => return self.not_run(order, &NotRun::Load(why)),
        };
        let context = self.context(settings, started);
        let expect = expects(order, settings, &loaded);
        let masked = crate::decide::mask(request, &expect, &loaded.grants.srcip, &self.hostname);
        let masked = match masked {
            Ok(masked) => masked,
            Err(declined) => return self.not_run(order, &NotRun::Declined(declined)),
        };
        let origin = order.once.clone();
        let asked = Asked {
            executable: &order.executable,
            dialect: request.dialect,
            origin: origin.unwrap_or_else(|| request.origin(&order.executable)),
            consent: Consent::Continue,
            term: Some(self.term(order, settings)),
        };
        let _berth = self.berths.acquire().await;
        let outcome = respond::conduct(&context, asked, &loaded, masked.event).await;
        self.came(&outcome);
        let mut lines = vec![line(&Outcome::of(&outcome))];
        if matches!(request.echo, Echo::Message(_)) {
            lines.push(report::wazuh_line(&program, "Ended", &report::now()));
        }
        self.log(&lines);
    }

    /// How long the order's block stands.
    pub(super) fn term(&self, order: &Order, settings: &Settings) -> Term {
        Term {
            lasts: order.timeout.filter(|timeout| !timeout.is_zero()),
            ladder: settings.premises.conf.repeated_offenders.clone(),
            decay: settings.premises.grants.decay,
        }
    }

    pub(super) fn context<'a>(
        &'a self,
        settings: &'a Settings,
        started: Instant,
    ) -> respond::Context<'a> {
        respond::Context {
            grants: &settings.premises.grants,
            conf: &settings.premises.conf,
            desk: &self.desk,
            engine: &self.engine,
            hostname: &self.hostname,
            owner: None,
            dry_run: false,
            started,
        }
    }
}

/// What an order's response sees: what its command expects, narrowed by its grants.
fn expects(order: &Order, settings: &Settings, loaded: &Loaded) -> Expect {
    let granted = loaded.grants.expect.as_ref();
    match (&order.expect, granted) {
        (Some(expect), Some(granted)) => expect.intersection(granted).copied().collect(),
        (Some(expect), None) => expect.clone(),
        (None, _) => respond::expects(&settings.premises.conf, &order.executable, granted),
    }
}
