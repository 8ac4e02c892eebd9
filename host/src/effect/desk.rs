//! The seam between vessel and broker. Words go one way, answers the other; both
//! are plain values, and nothing else crosses.
//!
//! The broker works on a thread of its own: locks, netlink and helpers block, and
//! the wall clock of a run must be able to leave them behind without cutting an
//! effect in two.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::broker::Broker;
use super::{Answer, Effect, Record, Refusal};
use crate::event::{Dialect, Event};
use crate::journal::Owner;

/// One run, as the broker has to know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// The response's name in the grants.
    pub response: String,
    /// The component's SHA-256, as hex.
    pub digest: String,
    /// The executable's name in `ar.conf`.
    pub executable: String,
    /// Who speaks.
    pub dialect: Dialect,
    /// The masked event.
    pub event: Event,
    /// With the response's name: what `add` and `delete` of one block share.
    pub key: String,
    /// What they share whatever is expected; empty where no execd asks.
    pub origin: String,
    /// The execd that will send the delete, where one does.
    pub owner: Option<Owner>,
    /// Change nothing, say what would have been.
    pub dry_run: bool,
    /// What is left of the wall clock; helpers end with it.
    pub left: Duration,
}

/// What the broker is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "kebab-case")]
pub enum Word {
    /// A run begins; its id is given by the host, never by the guest.
    Begin {
        /// The id.
        id: u64,
        /// The run.
        run: Box<Run>,
    },
    /// An effect of that run.
    Perform {
        /// The run.
        id: u64,
        /// What is asked.
        effect: Effect,
    },
    /// Every hold of the run's response and key goes, whoever took it.
    Release {
        /// The run.
        id: u64,
    },
    /// The run's block was asked for again: its deadline starts anew.
    Renew {
        /// The run.
        id: u64,
    },
    /// The run is over.
    Finish {
        /// The run.
        id: u64,
        /// The verdict's name.
        verdict: String,
        /// What was used.
        used: serde_json::Value,
    },
}

/// What the broker says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", content = "of", rename_all = "kebab-case")]
pub enum Reply {
    /// To an effect.
    Answer(Answer),
    /// To everything else: what was done on the way, and what went wrong.
    Records(Vec<Record>),
}

type Slip = (Word, oneshot::Sender<Reply>);

/// Where effects are handed in: the broker at work.
#[derive(Debug)]
pub struct Desk {
    to: mpsc::Sender<Slip>,
    next: AtomicU64,
    broker: JoinHandle<Broker>,
}

impl Desk {
    /// Starts the broker's thread.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn open(mut broker: Broker) -> std::io::Result<Self> {
        let (to, slips) = mpsc::channel::<Slip>();
        let broker = std::thread::Builder::new()
            .name("broker".into())
            .spawn(move || {
                for (word, reply) in slips {
                    let answer = broker.hear(word);
                    // Nobody waits where the run's time was up; the journal knows.
                    let _ = reply.send(answer);
                }
                broker
            })?;
        let next = AtomicU64::new(1);
        Ok(Self { to, next, broker })
    }

    /// Begins a run: what comes back speaks for that run and no other.
    pub async fn begin(&self, run: Run) -> Session {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let session = Session {
            to: self.to.clone(),
            id,
        };
        session
            .records(Word::Begin {
                id,
                run: Box::new(run),
            })
            .await;
        session
    }

    /// The broker, when everything that was handed in is done and every session
    /// is gone.
    #[must_use]
    pub fn close(self) -> Option<Broker> {
        drop(self.to);
        self.broker.join().ok()
    }
}

/// One run's access: it speaks for this run and no other.
#[derive(Debug, Clone)]
pub struct Session {
    to: mpsc::Sender<Slip>,
    id: u64,
}

impl Session {
    /// Hands in an effect.
    pub async fn perform(&self, effect: Effect) -> Answer {
        match self
            .tell(Word::Perform {
                id: self.id,
                effect,
            })
            .await
        {
            Some(Reply::Answer(answer)) => answer,
            _ => Err(Refusal::unavailable("the broker has stopped")),
        }
    }

    /// Releases every hold of this run's response and key.
    pub async fn release(&self) -> Vec<Record> {
        self.records(Word::Release { id: self.id }).await
    }

    /// Starts the deadlines of this run's block anew.
    pub async fn renew(&self) -> Vec<Record> {
        self.records(Word::Renew { id: self.id }).await
    }

    /// Ends the run; gives all that it did.
    pub async fn finish(&self, verdict: &str, used: serde_json::Value) -> Vec<Record> {
        self.records(Word::Finish {
            id: self.id,
            verdict: verdict.to_owned(),
            used,
        })
        .await
    }

    async fn tell(&self, word: Word) -> Option<Reply> {
        let (reply, answer) = oneshot::channel();
        self.to.send((word, reply)).ok()?;
        answer.await.ok()
    }

    async fn records(&self, word: Word) -> Vec<Record> {
        match self.tell(word).await {
            Some(Reply::Records(records)) => records,
            _ => Vec::new(),
        }
    }
}
