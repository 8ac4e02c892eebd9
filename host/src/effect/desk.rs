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

use super::broker::{Broker, Heard};
use super::enter::Entrance;
use super::job::Ran;
use super::{Answer, Effect, Record, Refusal};
use crate::event::{Dialect, Event};
use crate::journal::{Owner, Term};

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
    /// How long its block stands, where this host's own daemon ends it.
    pub term: Option<Term>,
    /// The message, where the executable itself has to get it again for its undo.
    pub message: Option<String>,
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
    /// The run's block is called for.
    Enter {
        /// The run.
        id: u64,
        /// The block's name, where the run did not know it when it began.
        key: Option<String>,
    },
    /// A program outside the vessel is about to be started for the run.
    Legacy {
        /// The run.
        id: u64,
        /// With what.
        argv: Vec<String>,
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

impl Word {
    /// Whose it is.
    fn run(&self) -> u64 {
        match self {
            Self::Begin { id, .. }
            | Self::Perform { id, .. }
            | Self::Enter { id, .. }
            | Self::Legacy { id, .. }
            | Self::Release { id }
            | Self::Renew { id }
            | Self::Finish { id, .. } => *id,
        }
    }
}

/// What the broker says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", content = "of", rename_all = "kebab-case")]
pub enum Reply {
    /// To an effect.
    Answer(Answer),
    /// To a call for a block.
    Entered(Result<Entrance, Refusal>),
    /// To a program outside the vessel: where its end is noted.
    Written(Result<i64, Refusal>),
    /// To everything else: what was done on the way, and what went wrong.
    Records(Vec<Record>),
}

/// What is handed in at the desk.
enum Slip {
    /// A word, and where its answer goes.
    Word(Word, oneshot::Sender<Reply>),
    /// A helper has ended.
    Ran(Ran, oneshot::Sender<Reply>),
    /// The host's own work: no guest gets here.
    Chore(Box<dyn FnOnce(&mut Broker) + Send>),
    /// Nothing more comes.
    Close,
}

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
    pub fn open(broker: Broker) -> std::io::Result<Self> {
        let (to, slips) = mpsc::channel::<Slip>();
        let back = to.clone();
        let broker = std::thread::Builder::new()
            .name("broker".into())
            .spawn(move || serve(broker, &slips, &back))?;
        let next = AtomicU64::new(1);
        Ok(Self { to, next, broker })
    }

    /// Begins a run: what comes back speaks for that run and no other. Whatever it says
    /// is heard after this.
    #[must_use]
    pub fn begin(&self, run: Run) -> Session {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let run = Box::new(run);
        // Nothing is to be heard, so nobody waits.
        let (reply, _) = oneshot::channel();
        let _ = self.to.send(Slip::Word(Word::Begin { id, run }, reply));
        Session {
            to: self.to.clone(),
            id,
        }
    }

    /// The host's own work on the broker, between the words of the runs; none when the
    /// broker has stopped.
    pub async fn ask<T: Send + 'static>(
        &self,
        chore: impl FnOnce(&mut Broker) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let chore = Box::new(move |broker: &mut Broker| {
            let _ = reply.send(chore(broker));
        });
        self.to.send(Slip::Chore(chore)).ok()?;
        answer.await.ok()
    }

    /// The broker, when everything that was handed in is done.
    #[must_use]
    pub fn close(self) -> Option<Broker> {
        let _ = self.to.send(Slip::Close);
        self.broker.join().ok()
    }
}

/// Words that are done together: more would keep the first of them waiting.
const TOGETHER: usize = 256;

/// The broker's thread: until everything is handed in, and every helper has ended.
fn serve(mut broker: Broker, slips: &mpsc::Receiver<Slip>, back: &mpsc::Sender<Slip>) -> Broker {
    let (mut running, mut closing) = (0_usize, false);
    while !closing || running > 0 {
        let Ok(first) = slips.recv() else {
            return broker;
        };
        // What arrived meanwhile waits for the disk with it.
        let (mut words, mut replies) = (Vec::new(), Vec::new());
        let waiting = std::iter::once(first)
            .chain(slips.try_iter())
            .take(TOGETHER);
        for slip in waiting {
            match slip {
                Slip::Word(word, reply) => {
                    words.push(word);
                    replies.push(reply);
                }
                Slip::Ran(ran, reply) => {
                    running = running.saturating_sub(1);
                    let _ = reply.send(broker.ran(ran));
                }
                Slip::Chore(chore) => chore(&mut broker),
                Slip::Close => closing = true,
            }
        }
        // One run's words are no crowd: it has all of its own time for the lock.
        let heard: Vec<Heard> = if words
            .windows(2)
            .all(|two| matches!(two, [a, b] if a.run() == b.run()))
        {
            words.into_iter().map(|word| broker.listen(word)).collect()
        } else {
            broker.listen_to_all(words)
        };
        for (heard, reply) in heard.into_iter().zip(replies) {
            match heard {
                // Nobody waits where the run's time was up; the journal knows.
                Heard::Reply(answer) => drop(reply.send(answer)),
                Heard::Helper(job) => {
                    running = running.saturating_add(1);
                    let back = back.clone();
                    // A helper may take its time: no other run waits for it.
                    std::thread::spawn(move || back.send(Slip::Ran(job.run(), reply)));
                }
            }
        }
    }
    broker
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
            _ => Err(stopped()),
        }
    }

    /// The run's block is called for: whether it stands already.
    ///
    /// # Errors
    /// `unavailable` when the journal does not say.
    pub async fn enter(&self, key: Option<String>) -> Result<Entrance, Refusal> {
        match self.tell(Word::Enter { id: self.id, key }).await {
            Some(Reply::Entered(entrance)) => entrance,
            _ => Err(stopped()),
        }
    }

    /// Writes down that a program outside the vessel is about to be started.
    ///
    /// # Errors
    /// `denied` where the grants do not name it, `unavailable` without the journal.
    pub async fn legacy(&self, argv: Vec<String>) -> Result<i64, Refusal> {
        match self.tell(Word::Legacy { id: self.id, argv }).await {
            Some(Reply::Written(row)) => row,
            _ => Err(stopped()),
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
        self.to.send(Slip::Word(word, reply)).ok()?;
        answer.await.ok()
    }

    async fn records(&self, word: Word) -> Vec<Record> {
        match self.tell(word).await {
            Some(Reply::Records(records)) => records,
            _ => Vec::new(),
        }
    }
}

fn stopped() -> Refusal {
    Refusal::unavailable("the broker has stopped")
}
