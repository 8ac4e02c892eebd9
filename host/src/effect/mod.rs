//! What may change the world, as plain values: a guest's call becomes an
//! [`Effect`], the broker's word on it comes back as an [`Answer`].
//!
//! Both serialise: this is the seam on which a process boundary between the
//! vessel and the broker can stand. Nothing here trusts the side that sends an
//! effect; the broker holds the grants itself.

pub mod broker;
pub mod by_hand;
pub mod check;
mod clothes;
mod context;
mod crowd;
pub mod desk;
mod due;
pub mod enter;
pub mod helper;
mod hold;
pub mod job;
pub mod protect;
mod protected;
pub mod reconcile;
mod release;
mod sessions;
pub mod surroundings;
#[cfg(test)]
mod tests;
mod together;
mod unjournaled;
mod world;

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What a response asks of the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "kebab-case")]
pub enum Effect {
    /// Drop everything from this network.
    Block {
        /// As the guest gave it: host bits and width are not checked yet.
        network: IpNet,
    },
    /// Give up this response's own hold on the network.
    Unblock {
        /// As for `Block`.
        network: IpNet,
    },
    /// Ask whether the network is blocked.
    IsBlocked {
        /// As for `Block`.
        network: IpNet,
    },
    /// Give up every hold of the run's block: the host's own, no guest asks for it.
    Release,
    /// Start a helper of the grants.
    Run {
        /// Its name there.
        helper: String,
    },
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "done", rename_all = "kebab-case")]
pub enum Done {
    /// The network is blocked, read back from the kernel.
    Blocked {
        /// When the kernel lets it go by itself.
        #[serde(with = "seconds")]
        expires_in: Option<Duration>,
        /// This response held it already; its deadline starts anew.
        renewed: bool,
        /// Anything that makes this block other than asked for: a spent budget, a
        /// journal that does not answer.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        warning: Option<String>,
    },
    /// This response holds the network no longer.
    Unblocked {
        /// How many holds were released; 0 where there was none.
        holds: usize,
    },
    /// Whether the network is blocked.
    IsBlocked {
        /// By whichever hold.
        blocked: bool,
    },
    /// The helper ended by itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// The detached helper was started.
    Started,
    /// Nothing was changed, because the mode is `observe` or the run is dry.
    Observed,
}

/// Why nothing was done, in the cases of the WIT `error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Grants, protect list or action forbid it.
    Denied,
    /// The argument makes no sense.
    Invalid,
    /// Not now.
    Unavailable,
    /// Tried, and went wrong.
    Failed,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
        })
    }
}

/// A refused effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The case.
    pub kind: Kind,
    /// A sentence for people.
    pub reason: String,
}

impl Refusal {
    /// Forbidden.
    pub fn denied(reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Denied,
            reason: reason.into(),
        }
    }

    /// Senseless.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Invalid,
            reason: reason.into(),
        }
    }

    /// Not now.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Unavailable,
            reason: reason.into(),
        }
    }

    /// Tried in vain.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Failed,
            reason: reason.into(),
        }
    }
}

/// The broker's word on an effect.
pub type Answer = Result<Done, Refusal>;

/// An effect with the answer that it got: what journal and outcome line keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was asked.
    #[serde(flatten)]
    pub effect: Effect,
    /// What came of it.
    pub answer: Answer,
}

mod seconds {
    //! Durations as seconds with a fraction, so that people can read a record.
    use super::Duration;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => to.serialize_some(&duration.as_secs_f64()),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(from)?;
        seconds
            .map(|s| Duration::try_from_secs_f64(s).map_err(serde::de::Error::custom))
            .transpose()
    }
}
