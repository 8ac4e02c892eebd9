//! What others change around us: the firewall's table, this host's addresses, routes
//! and names. Each is looked at when the kernel says so, and now and then all the same.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Daemon, line};
use crate::address;
use crate::backend::pace::Pace;
use crate::backend::watch::{Heard, Watch};
use crate::effect::broker::Broker;
use crate::event::Action;
use crate::report::{self, Outcome};
use crate::sweep;

/// Repairs are at least that far apart: somebody who changes the table again and again
/// must not keep us busy.
const GAP: Duration = Duration::from_millis(200);

/// How often everything is looked at although nobody said that it changed.
const AT_LEAST: Duration = Duration::from_secs(60);

/// How often the protected names are looked up.
const NAMES: Duration = Duration::from_secs(300);

/// How long a listener waits before it looks whether its daemon still lives.
const LISTEN: Duration = Duration::from_secs(1);

impl Daemon {
    /// Compares journal and firewall at the start, when others change the table, and once
    /// a minute; repairs what differs.
    pub async fn keep_firewall(self: Rc<Self>) {
        let changed = Arc::new(Notify::new());
        let root = self.root.path().to_owned();
        self.listen("the firewall's table", &changed, move || {
            Watch::table(&root)
        });
        let mut pace = Pace::new(GAP);
        pace.want();
        let mut looked = Instant::now();
        loop {
            let now = Instant::now();
            if pace.begin(now) {
                self.reconcile().await;
                looked = Instant::now();
                pace.end(looked);
            }
            let rest = AT_LEAST.saturating_sub(looked.elapsed());
            let wait = pace.left(Instant::now()).unwrap_or(rest);
            tokio::select! {
                () = changed.notified() => pace.want(),
                () = tokio::time::sleep(wait) => pace.want(),
            }
        }
    }

    async fn reconcile(&self) {
        match self.desk.ask(Broker::reconcile).await {
            Some(Ok(repairs)) => {
                for _ in 0..repairs.count() {
                    self.tally.count(|counts| &mut counts.repaired);
                }
                for said in &repairs.said {
                    self.tell(&Outcome::failed(
                        "reconcile",
                        "",
                        &format!("repaired: {said}"),
                    ));
                }
            }
            Some(Err(refusal)) => {
                self.say(&format!(
                    "the firewall can't be compared: {}",
                    refusal.reason
                ));
            }
            None => {}
        }
    }

    /// Looks at the protect list again when this host's addresses, routes or names
    /// change, and lifts the blocks that it forbids now.
    pub async fn keep_protected(self: Rc<Self>) {
        let changed = Arc::new(Notify::new());
        self.listen("addresses and routes", &changed, Watch::surroundings);
        let mut pace = Pace::new(GAP);
        pace.want();
        let mut named = None;
        loop {
            if named.is_none_or(|at: Instant| at.elapsed() >= NAMES) {
                self.look_up_names().await;
                named = Some(Instant::now());
                pace.want();
            }
            if pace.begin(Instant::now()) {
                self.lift_protected().await;
                pace.end(Instant::now());
            }
            let wait = pace.left(Instant::now()).unwrap_or(AT_LEAST);
            tokio::select! {
                () = changed.notified() => pace.want(),
                () = self.around.notified() => {
                    named = None;
                    pace.want();
                }
                () = tokio::time::sleep(wait) => pace.want(),
            }
        }
    }

    async fn lift_protected(&self) {
        let lifted = self
            .desk
            .ask(|broker| {
                broker.look_around();
                sweep::lift_protected(broker)
            })
            .await;
        match lifted {
            Some(Ok(records)) => {
                for record in &records {
                    self.log(&[line(&Outcome {
                        response: "protect".to_owned(),
                        action: Action::Delete.to_string(),
                        verdict: "lifted: it is protected by now".to_owned(),
                        effects: vec![report::effect(record)],
                        ..Outcome::default()
                    })]);
                }
            }
            Some(Err(refusal)) => {
                self.say(&format!(
                    "the protect list can't be read: {}",
                    refusal.reason
                ));
            }
            None => {}
        }
    }

    /// Looks the protected names up. One that is not found keeps what it stood for.
    async fn look_up_names(&self) {
        let names = self.desk.ask(|broker| broker.names()).await;
        for name in names.unwrap_or_default() {
            let asked = name.clone();
            // DNS takes its time, and nobody waits for it.
            let found = tokio::task::spawn_blocking(move || {
                (asked.as_str(), 0_u16)
                    .to_socket_addrs()
                    .map(|found| found.map(|a| address::canonical(a.ip())).collect())
            })
            .await;
            let found: Vec<IpAddr> = match found {
                Ok(Ok(found)) => found,
                Ok(Err(e)) => {
                    self.say(&format!("the protected name {name} is not found: {e}"));
                    continue;
                }
                Err(_) => continue,
            };
            let kept = self
                .desk
                .ask(move |broker| {
                    if broker.stands_for(&name, &found) {
                        return Ok(());
                    }
                    broker.remember(&name, &found)
                })
                .await;
            if let Some(Err(refusal)) = kept {
                self.say(&refusal.reason);
            }
        }
    }

    /// A thread that waits for the kernel to say that something changed.
    fn listen(
        &self,
        what: &str,
        changed: &Arc<Notify>,
        open: impl FnOnce() -> std::io::Result<Watch>,
    ) {
        match open() {
            Ok(watch) => {
                let changed = Arc::downgrade(changed);
                std::thread::spawn(move || hear(watch, &changed));
            }
            Err(e) => self.say(&format!(
                "changes of {what} are not heard: {e}; they are looked at once a minute"
            )),
        }
    }
}

fn hear(mut watch: Watch, changed: &Weak<Notify>) {
    loop {
        let heard = watch.wait(LISTEN);
        let Some(changed) = changed.upgrade() else {
            return;
        };
        match heard {
            Ok(Heard::Nothing) => {}
            Ok(Heard::Changed | Heard::Overrun) => changed.notify_one(),
            // It will not get better by asking at once.
            Err(_) => std::thread::sleep(LISTEN),
        }
    }
}
