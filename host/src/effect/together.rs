//! Words of many runs at one time: what they are about to do is written down with one
//! commit, done with one transaction of the kernel, and noted with one more commit. Each
//! is answered as if it had been alone.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::broker::{Broker, Heard, kernel, trouble};
use super::context::Context;
use super::desk::{Reply, Word};
use super::hold::{Aim, Intended};
use super::release::is_ours_to_give_up;
use super::{Answer, Done, Effect, Refusal, check};
use crate::address;
use crate::backend::Element;
use crate::conf::grants::BackendName;
use crate::journal::{Door, Hold};

/// A word, half done.
enum Half {
    /// It is answered.
    Answered(Reply),
    /// It is done alone, after the others.
    Alone(Word),
    /// A call for a block, written down.
    Called(u64, Arc<Context>, Result<Door, Refusal>),
    /// A block, written down or not.
    Block(Box<Block>),
    /// A release, written down.
    Release(Box<Release>),
}

struct Block {
    id: u64,
    effect: Effect,
    aim: Aim,
    intended: Result<Intended, Refusal>,
}

struct Release {
    id: u64,
    effect: Effect,
    name: BackendName,
    hold: Hold,
}

impl Broker {
    /// As [`Broker::listen`] for each of the words, in their order.
    pub fn listen_to_all(&mut self, words: Vec<Word>) -> Vec<Heard> {
        let Ok(_lock) = self.lock(self.world.budget) else {
            return words.into_iter().map(|word| self.listen(word)).collect();
        };
        self.together = true;
        let heard = self.all(words);
        self.together = false;
        heard
    }

    fn all(&mut self, words: Vec<Word>) -> Vec<Heard> {
        let durable = words.iter().any(|word| {
            matches!(
                word,
                Word::Perform {
                    effect: Effect::Block { .. } | Effect::Unblock { .. },
                    ..
                }
            )
        });
        // Where no group can be begun each word stands for itself, and says why.
        let begun = self
            .journal()
            .and_then(|journal| journal.begin_group(durable).map_err(trouble));
        if begun.is_err() {
            return words.into_iter().map(|word| self.listen(word)).collect();
        }
        let mut halves: Vec<Half> = words
            .into_iter()
            .map(|word| self.first_half(word))
            .collect();
        let ended = self
            .journal()
            .and_then(|journal| journal.end_group().map_err(trouble));
        if let Err(why) = ended {
            for half in &mut halves {
                self.forget_run(half);
                forget(half, &why);
            }
        }
        let set = self.change(&halves);
        // Notes need not be waited for, releases are what a journal must not forget.
        let releases = halves.iter().any(|half| matches!(half, Half::Release(_)));
        let noting = self
            .journal()
            .and_then(|journal| journal.begin_group(releases).map_err(trouble))
            .is_ok();
        let halves: Vec<Half> = halves
            .into_iter()
            .map(|half| self.second_half(half, &set))
            .collect();
        if noting {
            // What could not be noted is an intent that the sweep finds.
            let ended = self.journal().map(|journal| journal.end_group());
            drop(ended);
        }
        halves.into_iter().map(|half| self.rest(half)).collect()
    }

    /// Up to where everything that is to be done is written down.
    fn first_half(&mut self, word: Word) -> Half {
        match word {
            Word::Perform {
                id,
                effect: Effect::Block { network },
            } => self.first_half_of_block(id, network),
            Word::Perform {
                id,
                effect: Effect::Unblock { network },
            } => self.first_half_of_release(id, network),
            Word::Enter { id, key } => match self.context(id) {
                Some(context) => {
                    let door = self.knock(&context, key);
                    Half::Called(id, context, door)
                }
                None => Half::Alone(Word::Enter { id, key }),
            },
            Word::Begin { .. } | Word::Finish { .. } => match self.listen(word) {
                Heard::Reply(reply) => Half::Answered(reply),
                Heard::Helper(_) => Half::Answered(Reply::Records(Vec::new())),
            },
            alone => Half::Alone(alone),
        }
    }

    fn first_half_of_block(&mut self, id: u64, asked: IpNet) -> Half {
        let effect = Effect::Block { network: asked };
        let Some(context) = self.context(id) else {
            return Half::Alone(Word::Perform { id, effect });
        };
        let aim = match self.may_block(&context, asked) {
            Ok(Some(aim)) => aim,
            Ok(None) => return self.answered(id, effect, Ok(Done::Observed)),
            Err(refusal) => return self.answered(id, effect, Err(refusal)),
        };
        let intended = self.intend(&context, &aim);
        Half::Block(Box::new(Block {
            id,
            effect,
            aim,
            intended,
        }))
    }

    fn first_half_of_release(&mut self, id: u64, asked: IpNet) -> Half {
        let effect = Effect::Unblock { network: asked };
        let alone = Word::Perform {
            id,
            effect: effect.clone(),
        };
        let Some(context) = self.context(id).filter(|context| !context.run.dry_run) else {
            return Half::Alone(alone);
        };
        let name = self.backend_of(&context.grants);
        let (response, key) = (&context.run.response, &context.run.key);
        let hold = check::release(asked, context.grants.firewall.as_ref()).and_then(|network| {
            self.journal()?
                .hold_of(response, key, network, &name.to_string())
                .map_err(trouble)
        });
        let hold = match hold {
            Ok(Some(hold)) if is_ours_to_give_up(&hold) => hold,
            Ok(_) => return self.answered(id, effect, Ok(Done::Unblocked { holds: 0 })),
            Err(refusal) => return self.answered(id, effect, Err(refusal)),
        };
        let noted = self
            .journal()
            .and_then(|journal| journal.releasing(hold.id).map_err(trouble));
        if noted.is_err() {
            return Half::Alone(alone);
        }
        Half::Release(Box::new(Release {
            id,
            effect,
            name,
            hold,
        }))
    }

    fn answered(&mut self, id: u64, effect: Effect, answer: Answer) -> Half {
        Half::Answered(self.record(id, effect, answer))
    }

    /// Makes the kernel what the journal says of all that is about to be changed.
    fn change(&mut self, halves: &[Half]) -> Set {
        let mut hosts: BTreeMap<BackendName, Vec<IpNet>> = BTreeMap::new();
        let mut set = Set::new();
        for half in halves {
            let (network, name) = match half {
                Half::Block(block) if block.intended.is_ok() => (block.aim.network, block.aim.name),
                Half::Release(release) => (release.hold.network, release.name),
                _ => continue,
            };
            if address::only(network).is_some() {
                hosts.entry(name).or_default().push(network);
            } else {
                let done = self.set(network, name);
                set.insert((network, name), done);
            }
        }
        for (name, networks) in hosts {
            match self.set_hosts(&networks, name) {
                Ok(all) => set.extend(all.into_iter().map(|(n, left)| ((n, name), Ok(left)))),
                // One of them may be what the kernel does not take: each for itself.
                Err(_) => {
                    for network in networks {
                        let done = self.set(network, name);
                        set.insert((network, name), done);
                    }
                }
            }
        }
        set
    }

    fn set_hosts(
        &mut self,
        networks: &[IpNet],
        name: BackendName,
    ) -> Result<Vec<(IpNet, Option<Duration>)>, Refusal> {
        let now = self.now()?;
        let mut timeouts: BTreeMap<IpAddr, Duration> = BTreeMap::new();
        for network in networks {
            let journal = self.journal()?;
            let left = journal.longest_left(*network, &name.to_string(), &now);
            let left = left.map_err(trouble)?;
            timeouts.extend(address::only(*network).map(|address| (address, left)));
        }
        let stays = |timeout: &Duration| !timeout.is_zero();
        let put: Vec<Element> = timeouts
            .iter()
            .filter(|(_, timeout)| stays(timeout))
            .map(|(address, timeout)| Element {
                address: *address,
                timeout: *timeout,
                unjournaled: false,
            })
            .collect();
        let gone: Vec<IpAddr> = timeouts
            .iter()
            .filter(|(_, timeout)| !stays(timeout))
            .map(|(address, _)| *address)
            .collect();
        let backend = self.backend(name)?;
        backend.set(&put).map_err(kernel)?;
        backend.remove(&gone).map_err(kernel)?;
        if backend.has_timeouts() {
            for element in put {
                let seen = backend.look(element.address).map_err(kernel)?;
                let seen = seen.ok_or_else(|| {
                    Refusal::failed(format!(
                        "the kernel took {} and has it not",
                        element.address
                    ))
                })?;
                let left = seen.expires_in.unwrap_or(element.timeout);
                timeouts.insert(element.address, left);
            }
        }
        let read = |network: &IpNet| {
            let left = address::only(*network).and_then(|a| timeouts.get(&a).copied());
            (*network, left.filter(stays))
        };
        Ok(networks.iter().map(read).collect())
    }

    /// A run that was to begin with a block that is not written down has not begun.
    fn forget_run(&self, half: &Half) {
        if let Half::Block(block) = half
            && let Some(context) = self.context(block.id)
        {
            context.journaled.reset();
        }
    }

    /// What came of it is noted.
    fn second_half(&mut self, half: Half, set: &Set) -> Half {
        match half {
            Half::Block(block) => {
                let answer = match &block.intended {
                    Ok(intended) => {
                        let done = set.get(&(block.aim.network, block.aim.name)).cloned();
                        let done = done.unwrap_or_else(|| Err(undone()));
                        self.carried_out(intended, done)
                    }
                    Err(why) => match self.context(block.id) {
                        Some(context) => {
                            let (asked, name) = (block.aim.asked, block.aim.name);
                            self.block_unjournaled(&context, asked, name, why)
                        }
                        None => Err(undone()),
                    },
                };
                self.answered(block.id, block.effect, answer)
            }
            Half::Release(release) => {
                let hold = &release.hold;
                let done = set.get(&(hold.network, release.name)).cloned();
                let answer = done.unwrap_or_else(|| Err(undone())).and_then(|_| {
                    let now = self.now()?;
                    self.journal()?
                        .released(&now, hold.id, "the response")
                        .map_err(trouble)?;
                    Ok(Done::Unblocked { holds: 1 })
                });
                self.answered(release.id, release.effect, answer)
            }
            other => other,
        }
    }

    /// What could not be done with the others.
    fn rest(&mut self, half: Half) -> Heard {
        match half {
            Half::Answered(reply) => Heard::Reply(reply),
            Half::Alone(word) => self.listen(word),
            Half::Called(id, context, door) => {
                let entrance = door.map(|door| self.let_in(&context, door));
                self.entered(id, entrance.as_ref());
                Heard::Reply(Reply::Entered(entrance))
            }
            // Both are answered by now.
            Half::Block(_) | Half::Release(_) => Heard::Reply(Reply::Answer(Err(undone()))),
        }
    }
}

/// What became of each network in the kernel.
type Set = BTreeMap<(IpNet, BackendName), Result<Option<Duration>, Refusal>>;

fn undone() -> Refusal {
    Refusal::unavailable("nothing was done")
}

/// The commit failed: nothing of it is written down.
fn forget(half: &mut Half, why: &Refusal) {
    match half {
        Half::Block(block) => block.intended = Err(why.clone()),
        Half::Called(_, context, door) => {
            context.journaled.reset();
            *door = Err(why.clone());
        }
        Half::Release(release) => {
            *half = Half::Alone(Word::Perform {
                id: release.id,
                effect: release.effect.clone(),
            });
        }
        Half::Answered(_) | Half::Alone(_) => {}
    }
}
