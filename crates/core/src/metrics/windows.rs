//! What the pods of one server told lately, kept in bounded memory where no Prometheus does: of each pod what counters
//! grew by in the window, of the server what they grew by in the hour before. Rates come out as PromQL's do, resets
//! accounted for; where not enough was seen, there are none, as with a Prometheus that knows the server since then only.
//!
//! A counter that shows up at a pod which told before has grown from zero: it was not there. One that was there before
//! the first look has not grown yet, as far as anybody knows.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{Label, LabelName, Measure, MetricName, PrometheusSignal};

use super::{
    STALE, exposition,
    measures::{Definition, Kind, MEASURES, definition, label_names_of, metric_name},
    reach_of,
};
use crate::{
    signals::{Metrics, Series, Span},
    words,
};

/// Series of a pod that are kept; and of a server, for the hour before.
const SERIES: usize = 2000;
/// A window is kept in so many parts.
const PARTS: i32 = 20;
/// The hour before the window, in minutes.
const BEFORE: usize = 60;
/// A label's value is kept up to so many characters.
const LABEL: usize = 128;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    mapping: Mapping,
    /// When the first pod answered.
    since: Option<Timestamp>,
    /// When a pod answered last.
    last: Option<Timestamp>,
    pods: BTreeMap<String, PodWindow>,
    past: Past,
}

/// What of a policy decides on what is kept: where it changes, all begins anew.
#[derive(Clone, Debug, Default, PartialEq)]
struct Mapping {
    metrics: Vec<MetricName>,
    labels: Vec<LabelName>,
    window: SignedDuration,
}

impl Mapping {
    fn of(signal: &PrometheusSignal) -> Self {
        let signal = signal.clone();
        Self { metrics: signal.metrics, labels: signal.labels, window: signal.window.span() }
    }
}

/// What tells a series of a server from its others.
type Id = (Measure, Vec<(Label, String)>);

#[derive(Clone, Debug)]
struct PodWindow {
    /// When it answered last.
    answered: Timestamp,
    /// How often its container had been started anew by then.
    restarts: i32,
    /// A counter fell at the last look, and the kubelet has not told of a restart yet.
    fell: bool,
    /// The parts of the window, from and to, oldest first.
    parts: VecDeque<(Timestamp, Timestamp)>,
    /// What each counter told last, by its name and all its labels.
    told: HashMap<u64, f64>,
    /// What they come to, by the labels that rules look at.
    slots: BTreeMap<Id, Slot>,
    /// There was no room for all of these.
    cut: Vec<Measure>,
}

#[derive(Clone, Debug)]
struct Slot {
    /// When it was told last.
    at: Timestamp,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Gauge(f64),
    /// What it grew by, for each part of the window.
    Counter(VecDeque<f32>),
}

/// The hour before the window, minute by minute.
#[derive(Clone, Debug, Default)]
struct Past {
    /// The minute that the last of each belongs to, since 1970.
    minute: i64,
    /// Whether any pod answered.
    seen: VecDeque<bool>,
    /// What each counter grew by.
    sums: BTreeMap<Id, VecDeque<f32>>,
    /// There was no room for all of these.
    cut: Vec<Measure>,
}

impl Windows {
    /// Notes what a pod told; `restarts` are those of its server's container. False where that is no metrics at all.
    pub fn note(
        &mut self,
        signal: &PrometheusSignal,
        pod: &str,
        restarts: i32,
        text: &str,
        at: Timestamp,
    ) -> bool {
        let mapping = Mapping::of(signal);
        if mapping != self.mapping {
            *self = Self { mapping, ..Self::default() };
        }
        let wanted: Vec<(&str, &Definition)> =
            MEASURES.iter().map(|one| (metric_name(one, Some(signal)), one)).collect();
        let any = std::cell::Cell::new(false);
        let is_wanted = |name: &str| !any.get() || wanted.iter().any(|(one, _)| *one == name);
        let mut samples = exposition::samples(text, is_wanted).inspect(|_| any.set(true)).peekable();
        if samples.peek().is_none() {
            return false;
        }
        let is_new = !self.pods.contains_key(pod);
        let seen = self.pods.entry(pod.to_owned()).or_insert_with(|| PodWindow::new(at, restarts));
        if !is_new && !seen.begin(at, self.mapping.window) {
            return true;
        }
        self.since.get_or_insert(at);
        self.last = Some(at);
        self.past.begin(at, self.mapping.window);
        let is_restarted = restarts != seen.restarts && !std::mem::take(&mut seen.fell);
        let mut fell = false;
        for sample in samples {
            let is_old = |taken: f64| (at.as_duration().as_secs_f64() - taken).abs() > STALE.as_secs_f64();
            if !sample.value.is_finite() || sample.taken.is_some_and(is_old) {
                continue;
            }
            for (_, definition) in wanted.iter().filter(|(name, _)| *name == sample.name) {
                let id = id_of(definition, &sample, signal);
                if definition.kind == Kind::Gauge {
                    seen.set(id, definition.measure, sample.value, at);
                    continue;
                }
                let key = key_of(&sample);
                let grown = match seen.told.get(&key) {
                    _ if sample.value < 0.0 => continue,
                    Some(last) if sample.value < *last => {
                        fell = true;
                        sample.value
                    }
                    Some(_) if is_restarted => sample.value,
                    Some(last) => sample.value - last,
                    None if seen.told.len() >= SERIES => {
                        seen.cut(definition.measure);
                        continue;
                    }
                    None if is_new => 0.0,
                    None => sample.value,
                };
                seen.told.insert(key, sample.value);
                if definition.spans.contains(&Span::Before) {
                    self.past.grow(&id, grown);
                }
                seen.grow(id, grown, at);
            }
        }
        seen.fell = fell && restarts == seen.restarts;
        seen.restarts = restarts;
        seen.answered = at;
        true
    }

    /// Forgets the pods that are gone; what the past tells of them stays.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.pods.retain(|pod, _| is_there(pod));
    }

    /// When a pod answered last.
    pub fn answered(&self, pod: &str) -> Option<Timestamp> {
        self.pods.get(pod).map(|seen| seen.answered)
    }

    /// When any of them did, those that are gone included.
    pub fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// Nothing was ever told.
    pub fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// What it comes to. Rates are over what was seen of the window, and over half of it at least: a pod that was seen
    /// for a moment does not weigh more than it may. Until the server was seen for half a window, there are none.
    pub fn metrics(&self, signal: &PrometheusSignal, interval: SignedDuration, now: Timestamp) -> Metrics {
        let window = signal.window.span();
        let mut metrics = Metrics {
            source: "GET /metrics of its pods".to_owned(),
            window,
            interval,
            series: Vec::new(),
            missing: Vec::new(),
            queries: Vec::new(),
        };
        let Some(since) = self.since.filter(|_| Mapping::of(signal) == self.mapping) else { return metrics };
        let is_young = now.duration_since(since) < window / 2;
        let mut lacking: BTreeMap<(Measure, Span), String> = BTreeMap::new();
        for (pod, seen) in &self.pods {
            for span in [Span::Window, Span::Recent] {
                for measure in &seen.cut {
                    lacking.insert((*measure, span), cut_words());
                }
                let reach = reach_of(span, window);
                let (shares, covered) = seen.shares(now, reach);
                for ((measure, labels), slot) in &seen.slots {
                    if !definition(*measure).is_some_and(|one| one.spans.contains(&span)) {
                        continue;
                    }
                    let value = match &slot.content {
                        Content::Gauge(value) => *value,
                        Content::Counter(_) if is_young || covered <= 0.0 => continue,
                        Content::Counter(parts) => {
                            let grown =
                                parts.iter().zip(&shares).map(|(grown, share)| f64::from(*grown) * share);
                            grown.sum::<f64>() / covered.max(reach.as_secs_f64() / 2.0)
                        }
                    };
                    metrics.series.push(Series {
                        measure: *measure,
                        span,
                        pod: Some(pod.clone()),
                        labels: labels.clone(),
                        value,
                        at: slot.at,
                    });
                }
            }
        }
        let minutes = self.past.hour(now, window);
        for measure in &self.past.cut {
            lacking.insert((*measure, Span::Before), cut_words());
        }
        for (id, sums) in &self.past.sums {
            let Some((from, to, seconds)) = minutes else { break };
            let grown: f64 = sums.range(from..to).map(|grown| f64::from(*grown)).sum();
            metrics.series.push(Series {
                measure: id.0,
                span: Span::Before,
                pod: None,
                labels: id.1.clone(),
                value: grown / seconds,
                at: now.checked_sub(window).unwrap_or(now),
            });
        }
        metrics.series.retain(|one| one.value.is_finite() && !lacking.contains_key(&(one.measure, one.span)));
        metrics.missing = lacking.into_iter().map(|((measure, span), why)| (measure, span, why)).collect();
        metrics
    }
}

fn cut_words() -> String {
    format!("its pods tell more than {SERIES} series")
}

impl PodWindow {
    fn new(at: Timestamp, restarts: i32) -> Self {
        Self {
            answered: at,
            restarts,
            fell: false,
            parts: VecDeque::new(),
            told: HashMap::new(),
            slots: BTreeMap::new(),
            cut: Vec::new(),
        }
    }

    /// The window goes on to this moment; false where it had come so far already.
    fn begin(&mut self, at: Timestamp, window: SignedDuration) -> bool {
        if at <= self.answered {
            return false;
        }
        let part = window / PARTS;
        match self.parts.back_mut() {
            Some((from, to)) if at.duration_since(*from) <= part => *to = at,
            _ => {
                self.parts.push_back((self.answered, at));
                self.counters().for_each(|parts| parts.push_back(0.0));
            }
        }
        while self.parts.front().is_some_and(|(_, to)| at.duration_since(*to) >= window) {
            self.parts.pop_front();
            self.counters().for_each(|parts| {
                parts.pop_front();
            });
        }
        true
    }

    fn counters(&mut self) -> impl Iterator<Item = &mut VecDeque<f32>> {
        self.slots.values_mut().filter_map(|slot| match &mut slot.content {
            Content::Counter(parts) => Some(parts),
            Content::Gauge(_) => None,
        })
    }

    /// Of a gauge's series that differ in what no rule looks at, the worst or the newest counts, or their sum.
    fn set(&mut self, id: Id, measure: Measure, value: f64, at: Timestamp) {
        if self.slots.len() >= SERIES && !self.slots.contains_key(&id) {
            return self.cut(measure);
        }
        let slot =
            self.slots.entry(id).or_insert(Slot { at: Timestamp::MIN, content: Content::Gauge(value) });
        let first = std::mem::replace(&mut slot.at, at) != at;
        if let Content::Gauge(known) = &mut slot.content {
            *known = match measure {
                _ if first => value,
                Measure::DurationQuantile
                | Measure::HeartbeatTime
                | Measure::HeartbeatInterval
                | Measure::CircuitState => known.max(value),
                _ => *known + value,
            };
        }
    }

    fn grow(&mut self, id: Id, grown: f64, at: Timestamp) {
        let parts = self.parts.len();
        let new = || Slot { at, content: Content::Counter(VecDeque::from(vec![0.0; parts])) };
        let slot = self.slots.entry(id).or_insert_with(new);
        slot.at = at;
        if let Content::Counter(parts) = &mut slot.content
            && let Some(last) = parts.back_mut()
        {
            *last += single(grown);
        }
    }

    fn cut(&mut self, measure: Measure) {
        if !self.cut.contains(&measure) {
            self.cut.push(measure);
        }
    }

    /// How much of each part is in the window that ends now, and how many seconds that is in all.
    fn shares(&self, now: Timestamp, window: SignedDuration) -> (Vec<f64>, f64) {
        let begin = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        let seconds = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64().max(0.0);
        let within = |(from, to): &(Timestamp, Timestamp)| seconds((*from).max(begin), *to);
        let shares = self.parts.iter().map(|part| within(part) / seconds(part.0, part.1)).collect();
        (shares, self.parts.iter().map(within).sum())
    }
}

impl Past {
    /// The minutes go on to this moment.
    fn begin(&mut self, at: Timestamp, window: SignedDuration) {
        let minute = minute(at);
        let kept = BEFORE + usize::try_from(window.as_mins()).unwrap_or_default() + 2;
        if minute.saturating_sub(self.minute) > i64::try_from(kept).unwrap_or(i64::MAX) {
            *self = Self { minute, seen: VecDeque::from([true]), ..Self::default() };
        }
        while self.minute < minute {
            self.minute += 1;
            self.seen.push_back(false);
            self.sums.values_mut().for_each(|sums| sums.push_back(0.0));
            if self.seen.len() > kept {
                self.seen.pop_front();
                for sums in self.sums.values_mut() {
                    sums.pop_front();
                }
            }
            // What did not grow for so long is forgotten, unless it is all that there is of its measure.
            if self.minute % 60 == 0 {
                self.forget_what_stands_still();
            }
        }
        if let Some(last) = self.seen.back_mut() {
            *last = true;
        }
    }

    fn forget_what_stands_still(&mut self) {
        let mut measures = Vec::new();
        self.sums.retain(|(measure, _), sums| {
            let is_first = !measures.contains(measure);
            measures.push(*measure);
            is_first || sums.iter().any(|grown| *grown > 0.0)
        });
        self.cut.clear();
    }

    fn grow(&mut self, id: &Id, grown: f64) {
        if let Some(sums) = self.sums.get_mut(id) {
            if let Some(last) = sums.back_mut() {
                *last += single(grown);
            }
        } else if self.sums.len() < SERIES {
            let mut sums = VecDeque::from(vec![0.0; self.seen.len()]);
            if let Some(last) = sums.back_mut() {
                *last = single(grown);
            }
            self.sums.insert(id.clone(), sums);
        } else if !self.cut.contains(&id.0) {
            self.cut.push(id.0);
        }
    }

    /// The hour before the window, as places of its minutes, and the seconds of it that were seen; `None` where it was
    /// not seen from its beginning, or for less than half of it.
    fn hour(&self, now: Timestamp, window: SignedDuration) -> Option<(usize, usize, f64)> {
        let end = minute(now.checked_sub(window).ok()?);
        let first = self.minute - i64::try_from(self.seen.len()).ok()? + 1;
        let from = usize::try_from(end - i64::try_from(BEFORE).ok()? - first).ok()?;
        let to = (from + BEFORE).min(self.seen.len());
        let seen = self.seen.range(from.min(to)..to).filter(|seen| **seen).count();
        let seconds = f64::from(u32::try_from(seen).ok()?) * 60.0;
        (seen >= BEFORE / 2).then_some((from, to, seconds))
    }
}

fn minute(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

/// What a sample is of: the measure, and those of its labels that the measure is told by.
fn id_of(definition: &Definition, sample: &exposition::ExposedSample, signal: &PrometheusSignal) -> Id {
    let label = |label: &Label| {
        let names = label_names_of(*label, signal);
        let mut found = names.iter().filter_map(|name| {
            let (_, value) = sample.labels.iter().find(|(one, _)| one == name)?;
            Some((*label, words::shorten(value, LABEL)))
        });
        found.next()
    };
    (definition.measure, definition.labels.iter().filter_map(label).collect())
}

fn key_of(sample: &exposition::ExposedSample) -> u64 {
    let mut hasher = DefaultHasher::new();
    (sample.name, &sample.labels).hash(&mut hasher);
    hasher.finish()
}

/// What a counter grew by within seconds needs no more digits.
#[expect(clippy::cast_possible_truncation)]
fn single(grown: f64) -> f32 {
    grown as f32
}
