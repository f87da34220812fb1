//! What containers use, as Prometheus tells it: the same bounded series as metrics-server's, and never mixed with them.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{Label, Measure};
use mcp_health_core::{
    signals::{Pod, Sample, Series, Span, Usage},
    usage::{STALE, remember},
};

/// The series of a container that is not told of any more is let go after that.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// What is told of a container at a time.
#[derive(Default)]
struct Halves<'a> {
    cpu: Option<&'a Series>,
    memory: Option<&'a Series>,
}

/// Continues series by what was measured now; those of which nothing was told for long end.
pub fn go_on(known: &mut Vec<Usage>, series: &[Series], now: Timestamp) {
    let mut samples: HashMap<(&str, &str), Halves> = HashMap::new();
    for one in series.iter().filter(|one| one.span == Span::Window) {
        let container = one.labels.iter().find(|(label, _)| *label == Label::Container);
        let Some(of) = one.pod.as_deref().zip(container.map(|(_, name)| name.as_str())) else { continue };
        match one.measure {
            Measure::CpuSeconds => samples.entry(of).or_default().cpu = Some(one),
            Measure::WorkingSet => samples.entry(of).or_default().memory = Some(one),
            _ => {}
        }
    }
    for ((pod, container), both) in samples {
        let Halves { cpu: Some(cpu), memory: Some(memory) } = both else { continue };
        // A sample is as old as the older half of it.
        let sample =
            Sample { at: cpu.at.min(memory.at), cpu: whole(cpu.value * 1000.0), memory: whole(memory.value) };
        note(known, pod, container, sample);
    }
    known.retain(|one| one.samples.last().is_some_and(|last| now.duration_since(last.at) <= KEPT));
}

/// Continues the series of what is no page cache.
pub fn resident_goes_on(known: &mut Vec<Usage>, series: &[Series], now: Timestamp) {
    for one in series.iter().filter(|one| (one.measure, one.span) == (Measure::ResidentSet, Span::Window)) {
        let container = one.labels.iter().find(|(label, _)| *label == Label::Container);
        let Some((pod, (_, container))) = one.pod.as_deref().zip(container) else { continue };
        note(known, pod, container, Sample { at: one.at, cpu: 0, memory: whole(one.value) });
    }
    known.retain(|one| one.samples.last().is_some_and(|last| now.duration_since(last.at) <= KEPT));
}

/// Adds a sample of a container to its series.
pub fn note(known: &mut Vec<Usage>, pod: &str, container: &str, sample: Sample) {
    match known.iter_mut().find(|one| one.pod == pod && one.container == container) {
        Some(one) => remember(&mut one.samples, sample),
        None => {
            known.push(Usage { pod: pod.to_owned(), container: container.to_owned(), samples: vec![sample] });
        }
    }
}

/// Whether there are series enough to do without metrics-server: every pod has one that was not just made.
pub fn covers<'a>(known: &[Usage], pods: impl IntoIterator<Item = &'a Pod>, now: Timestamp) -> bool {
    let mut pods = pods.into_iter().filter(|pod| pod.counts()).peekable();
    let is_told = |pod: &Pod| known.iter().any(|one| one.pod == pod.name && is_seen(one, now));
    let is_any_told = pods.peek().is_none() || known.iter().any(|one| is_seen(one, now));
    is_any_told && pods.all(|pod| now.duration_since(pod.created) <= STALE || is_told(pod))
}

fn is_seen(one: &Usage, now: Timestamp) -> bool {
    one.samples.last().is_some_and(|last| now.duration_since(last.at) <= STALE)
}

/// The next whole number.
#[allow(clippy::cast_possible_truncation)] // Of floats, `as` takes the nearest that fits.
fn whole(value: f64) -> i64 {
    value.round() as i64
}
