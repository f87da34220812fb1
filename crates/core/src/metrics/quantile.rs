//! Quantiles of durations from the buckets of a histogram, as PromQL's `histogram_quantile` has them.

/// A quantile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    /// Its value, in the unit of the bounds.
    pub value: f64,
    /// It lies beyond the last bound that is a number: it may be any longer.
    pub or_longer: bool,
}

/// Bounds and how much lies below each, summed up over pods and in order; ends with what is below infinity.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// `None` where they make no histogram: no bound at infinity, nothing in them, or less below a higher bound (as
    /// where pods have different bounds).
    pub fn of(series: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        let mut buckets: Vec<(f64, f64)> = series.into_iter().collect();
        if buckets.iter().any(|(bound, below)| bound.is_nan() || !below.is_finite()) {
            return None;
        }
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let mut merged: Vec<(f64, f64)> = Vec::with_capacity(buckets.len());
        for (bound, below) in buckets {
            match merged.last_mut() {
                #[allow(clippy::float_cmp)] // The bounds of pods are the same words.
                Some(last) if last.0 == bound => last.1 += below,
                _ => merged.push((bound, below)),
            }
        }
        let total = merged.last().filter(|(bound, below)| *bound == f64::INFINITY && *below > 0.0)?.1;
        // Sums of rates are off by what rounding leaves.
        let slack = total * 1e-9;
        let mut highest = 0.0_f64;
        for (_, below) in &mut merged {
            if *below < highest - slack {
                return None;
            }
            *below = below.max(highest);
            highest = *below;
        }
        Some(Self(merged))
    }

    /// All of it.
    pub fn total(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, below)| *below)
    }

    /// The quantile, by linear interpolation within its bucket; `None` where no bound is a number.
    pub fn quantile(&self, q: f64) -> Option<Quantile> {
        let rank = q.clamp(0.0, 1.0) * self.total();
        let at = self.0.iter().position(|(_, below)| *below >= rank)?;
        let (upper, below) = self.0[at];
        let (lower, below_lower) = self.floor(at);
        if upper == f64::INFINITY {
            let (value, _) = self.0[..at].last()?;
            return Some(Quantile { value: *value, or_longer: true });
        }
        if upper <= 0.0 && at == 0 {
            return Some(Quantile { value: upper, or_longer: false });
        }
        let inside = below - below_lower;
        let share = if inside > 0.0 { (rank - below_lower) / inside } else { 1.0 };
        Some(Quantile { value: lower + (upper - lower) * share, or_longer: false })
    }

    /// How much lies above a value; of the last bucket, which has no end, all of it.
    pub fn above(&self, value: f64) -> f64 {
        let Some(at) = self.0.iter().position(|(bound, _)| *bound > value) else { return 0.0 };
        let (upper, below) = self.0[at];
        let (lower, below_lower) = self.floor(at);
        if upper == f64::INFINITY {
            return self.total() - below_lower;
        }
        let share = ((value - lower) / (upper - lower)).clamp(0.0, 1.0);
        self.total() - (below_lower + (below - below_lower) * share)
    }

    /// Where a bucket begins, and what lies below that.
    fn floor(&self, at: usize) -> (f64, f64) {
        match at.checked_sub(1).and_then(|before| self.0.get(before)) {
            Some(before) => *before,
            // Durations begin at nothing.
            None => (self.0.first().map_or(0.0, |(bound, _)| bound.min(0.0)), 0.0),
        }
    }
}
