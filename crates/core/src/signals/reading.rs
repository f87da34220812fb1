//! What a source says, or why it says nothing.

use jiff::Timestamp;

/// A value and what it is worth.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Reading<T> {
    /// Seen, and still so as far as anybody can tell.
    Fresh(T),
    /// Seen once; its source has not answered since `at`.
    Stale {
        /// The value then.
        value: T,
        /// When the source answered last.
        at: Timestamp,
    },
    /// Not seen; the reason is a sentence for people.
    Unavailable(String),
    /// Not seen, since the API server does not let the operator see it; in the API server's words.
    Forbidden(String),
    /// Not looked at, because the operator was not asked to or the cluster has no such source. No fault, and
    /// no evidence.
    #[default]
    Off,
}

impl<T> Reading<T> {
    /// The value, if it may be relied on.
    pub fn fresh(&self) -> Option<&T> {
        match self {
            Self::Fresh(value) => Some(value),
            Self::Stale { .. } | Self::Unavailable(_) | Self::Forbidden(_) | Self::Off => None,
        }
    }

    /// What the reading is worth, without the value.
    pub fn worth(&self) -> Reading<()> {
        match self {
            Self::Fresh(_) => Reading::Fresh(()),
            Self::Stale { at, .. } => Reading::Stale { value: (), at: *at },
            Self::Unavailable(why) => Reading::Unavailable(why.clone()),
            Self::Forbidden(why) => Reading::Forbidden(why.clone()),
            Self::Off => Reading::Off,
        }
    }

    /// Why the value may not be relied on.
    pub fn problem(&self, source: &str) -> Option<String> {
        match self {
            Self::Fresh(_) | Self::Off => None,
            Self::Stale { at, .. } => {
                Some(format!("{source}: no answer since {}", crate::words::moment(*at)))
            }
            Self::Unavailable(why) => Some(format!("{source}: {why}")),
            Self::Forbidden(why) => Some(format!("{source}: forbidden: {why}")),
        }
    }
}

impl Reading<()> {
    /// The reading of a value that rests on this source too: where this one is not fresh, it tells what the
    /// value is worth; else `own` does.
    pub fn then<T>(self, value: T, own: impl FnOnce(T) -> Reading<T>) -> Reading<T> {
        match self {
            Self::Fresh(()) => own(value),
            Self::Stale { at, .. } => Reading::Stale { value, at },
            Self::Unavailable(why) => Reading::Unavailable(why),
            Self::Forbidden(why) => Reading::Forbidden(why),
            Self::Off => Reading::Off,
        }
    }
}
