//! What RateLimited and InvalidMessages have in common: a share of the requests that is more than twice what
//! it was in the hour before. What goes on for longer than that is the baseline, and no rise any more.

use jiff::SignedDuration;

use super::{by_metrics as by, metric_rule::Read};
use crate::{
    Server,
    metrics::{Traffic, View},
    signals::Span,
    words,
};

/// So many times the share before.
const TIMES: f64 = 2.0;
/// Fewer of them in the window may be chance.
const FEWEST: f64 = 10.0;
/// Of fewer requests in the hour before, no share can be told.
const FEWEST_BEFORE: f64 = 50.0;
/// Where next to none were before, this share of the requests counts, in percent.
const FROM_NONE_PERCENT: f64 = 1.0;
/// The window smooths already.
pub const LASTING: SignedDuration = SignedDuration::from_mins(1);
const HOUR: f64 = 3600.0;

/// How many of the requests it is, a second; `None` where that cannot be seen.
pub type Counted<'a> = &'a dyn Fn(&View, Span) -> Option<f64>;

/// A share that has risen.
#[derive(Clone, Copy, Debug)]
pub struct Rise {
    /// A second.
    pub part: f64,
    /// In percent.
    pub share: f64,
    /// In percent, in the hour before.
    pub before: f64,
    /// Above this share, in percent, it is one.
    pub threshold: f64,
}

impl Rise {
    /// The rise of a share, where there is one; else what a rule says then.
    pub fn of(server: &Server, view: &View, counted: Counted) -> Result<Self, Read> {
        let requests = match view.traffic() {
            Traffic::Unknown => return Err(Read::Unknown),
            Traffic::None => return Err(Read::Quiet),
            Traffic::Some { per_second, .. } => per_second,
        };
        let part = counted(view, Span::Window).ok_or(Read::Unknown)?;
        let whole = view.unseen(&server.current_pods()).is_empty();
        let well = || if whole { Read::Clear } else { Read::Unknown };
        if view.in_window(part) < FEWEST {
            return Err(well());
        }
        let Traffic::Some { per_second: requests_before, .. } = view.traffic_of(Span::Before) else {
            return Err(Read::Unknown);
        };
        let part_before = counted(view, Span::Before).ok_or(Read::Unknown)?;
        if requests_before * HOUR < FEWEST_BEFORE {
            return Err(Read::Unknown);
        }
        let (share, before) = (by::share(part, requests), by::share(part_before, requests_before));
        let from_none = if part_before * HOUR < FEWEST { FROM_NONE_PERCENT } else { 0.0 };
        let rise = Self { part, share, before, threshold: (before * TIMES).max(from_none) };
        if by::is_above(share, rise.threshold) { Ok(rise) } else { Err(well()) }
    }

    /// `12 % of requests (120 in the last 5m) are …; in the hour before, 0.5 %`.
    pub fn words(self, view: &View, what: &str) -> String {
        format!(
            "{} % of requests ({} in the last {}) {what}; in the hour before, {} %",
            by::number(self.share),
            by::number(view.in_window(self.part)),
            words::span(view.metrics().window),
            by::number(self.before),
        )
    }

    /// Whether it is so of some pods, or of another time; `None` where there are too few requests to tell.
    pub fn is_so_of(self, view: &View, span: Span, counted: Counted) -> Option<bool> {
        let Traffic::Some { per_second, .. } = view.traffic_of(span) else { return None };
        let seconds = if span == Span::Before { HOUR } else { view.metrics().window.as_secs_f64() };
        let part = counted(view, span)?;
        (per_second * seconds >= FEWEST).then(|| by::is_above(by::share(part, per_second), self.threshold))
    }
}
