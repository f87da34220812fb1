//! What the answers of one Prometheus tell of each object that asked. Every answer is read once, and let go.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{Label, Measure};
use mcp_health_core::{
    metrics::{
        Kind, definition, label_names_of,
        promql::{Fold, Seen},
        replica_labels,
    },
    signals::{RuleReading, Series, Span},
    words::shorten,
};

use super::{
    answer::{Row, Trouble, key, moment},
    join::{Index, Names, Owner},
    plan::{Poll, Question, Use},
    replicas::freshest,
};

/// More values of one measure are not kept of a server.
const MOST_SERIES: usize = 5000;
/// More values of a rule are not kept: the worst come first.
const MOST_VALUES: usize = 100;
/// The longest value of a label.
const LONGEST: usize = 200;
/// Two clocks may differ by as much.
const CLOCKS: SignedDuration = SignedDuration::from_mins(1);

/// A readable answer, or why there is none.
pub type Answer<'a> = Result<Vec<Row<'a>>, Trouble>;

/// What one object is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// Values.
    pub series: Vec<Series>,
    /// What has none, and why.
    pub missing: Vec<(Measure, Span, String)>,
    /// Its own rules.
    pub rules: Vec<RuleReading>,
}

/// See the module.
pub struct Hearing<'a> {
    poll: &'a Poll,
    index: &'a Index,
    now: Timestamp,
    /// By target's number: who asks about it.
    askers_of: HashMap<usize, Vec<usize>>,
    names: Vec<Names<'a>>,
    told: Vec<Told>,
    /// Whose servers were seen at the beginning of the baseline.
    seen_before: HashSet<usize>,
}

/// When the values of an answer were sampled.
enum Moments<'a> {
    /// By the labels that values share with what tells it; without those of these names.
    By(HashMap<Vec<(&'a str, &'a str)>, Timestamp>, Vec<&'a str>),
    /// So long before they were asked for.
    Ago(SignedDuration),
}

impl Moments<'_> {
    fn of(&self, row: &Row) -> Option<Timestamp> {
        match self {
            Self::By(moments, without) => moments.get(&key(row, without)).copied(),
            Self::Ago(ago) => row.at.checked_sub(*ago).ok(),
        }
    }
}

/// What an answer is asked for.
#[derive(Clone, Copy)]
struct Asked {
    mapping: usize,
    measure: Measure,
    span: Span,
    fold: Fold,
    own: bool,
}

impl<'a> Hearing<'a> {
    /// Nothing was heard yet. `numbers` are those that the targets of the askers have in the index.
    pub fn new(poll: &'a Poll, index: &'a Index, numbers: &[Option<usize>], now: Timestamp) -> Self {
        let mut askers_of: HashMap<usize, Vec<usize>> = HashMap::new();
        for (asker, number) in numbers.iter().enumerate() {
            if let Some(number) = number {
                askers_of.entry(*number).or_default().push(asker);
            }
        }
        let names = poll.mappings.iter().map(|mapping| Names::of(&mapping.signal)).collect();
        let told = vec![Told::default(); poll.askers.len()];
        Self { poll, index, now, askers_of, names, told, seen_before: HashSet::new() }
    }

    /// Hears the answer to a question, and its companion's.
    pub fn hear(&mut self, question: &Question, values: &Answer, seen: Option<&Answer>) {
        let rows = match (values, seen) {
            (Err(trouble), _) | (_, Some(Err(trouble))) => Err(trouble.why()),
            (Ok(rows), _) => self.clocks_agree(rows).map(|()| rows.as_slice()),
        };
        let seen = seen.and_then(|seen| seen.as_ref().ok()).map(Vec::as_slice).unwrap_or_default();
        for used in &question.uses {
            match *used {
                Use::Measure { mapping, measure, span, fold, own } => {
                    let asked = Asked { mapping, measure, span, fold, own };
                    match rows {
                        Ok(rows) => self.measured(question, rows, seen, asked),
                        Err(why) => self.missed(asked, why),
                    }
                }
                Use::Rules { mapping, ref rules } => self.ruled(question, rows, seen, mapping, rules),
            }
        }
    }

    /// What each object is told in the end.
    pub fn end(mut self) -> Vec<Told> {
        for (asker, told) in self.told.iter_mut().enumerate() {
            let was_seen = self.seen_before.contains(&asker);
            told.series.retain(|one| one.span != Span::Before || was_seen);
            // Answers come in any order.
            told.series.sort_by(|a, b| of_series(a).cmp(&of_series(b)));
            told.series.shrink_to_fit();
            told.missing.sort();
            told.rules.sort_by(|a, b| a.name.cmp(&b.name));
        }
        self.told
    }

    fn clocks_agree(&self, rows: &[Row]) -> Result<(), &'static str> {
        let apart = |row: &Row| row.at.duration_since(self.now).abs() > CLOCKS;
        if rows.first().is_some_and(apart) {
            return Err("its clock and the operator's are more than a minute apart");
        }
        Ok(())
    }

    /// The objects with a mapping that a row tells of, and the pod.
    fn whose<'b>(&'b self, row: &'b Row<'_>, mapping: usize, own: bool) -> (Vec<usize>, Option<&'b str>) {
        let has_mapping = |asker: &usize| self.poll.askers[*asker].mapping == mapping;
        match self.index.owner(row, &self.names[mapping]) {
            Owner::Target(number, pod) => {
                let askers = self.askers_of.get(&number).into_iter().flatten().copied();
                (askers.filter(has_mapping).collect(), pod)
            }
            Owner::Unsaid(namespace) if own => {
                let is_in = |asker: &usize| {
                    namespace.is_none_or(|one| one == &*self.poll.askers[*asker].target.namespace)
                };
                ((0..self.poll.askers.len()).filter(has_mapping).filter(is_in).collect(), None)
            }
            Owner::Unsaid(_) | Owner::Nobody => (Vec::new(), None),
        }
    }

    /// When the values of an answer were sampled. Companions of counters leave the labels of the measure's
    /// own out.
    fn moments<'b>(
        &'b self,
        question: &Question,
        seen: &'b [Row<'_>],
        mapping: usize,
        left_out: &[Label],
    ) -> Moments<'b> {
        let signal = &self.poll.mappings[mapping].signal;
        match question.seen {
            Seen::By(_) => {
                let names = left_out.iter().flat_map(|label| label_names_of(*label, signal));
                let mut without: Vec<&str> = names.filter(|name| !self.names[mapping].has(name)).collect();
                without.push("__name__");
                let at = |row: &Row| moment(row.value);
                let moments = seen.iter().filter_map(|row| Some((key(row, &without), at(row)?)));
                Moments::By(moments.collect(), without)
            }
            Seen::Since(_) => Moments::Ago(signal.window.span()),
            Seen::Evaluation => Moments::Ago(SignedDuration::ZERO),
        }
    }

    fn missed(&mut self, asked: Asked, why: &str) {
        for (asker, told) in self.told.iter_mut().enumerate() {
            if self.poll.askers[asker].mapping == asked.mapping {
                told.missing.push((asked.measure, asked.span, why.to_owned()));
            }
        }
    }

    fn measured(&mut self, question: &Question, rows: &[Row], seen: &[Row], asked: Asked) {
        if matches!(question.seen, Seen::Since(_)) {
            let seen = seen.iter().flat_map(|row| self.whose(row, asked.mapping, asked.own).0);
            self.seen_before.extend(seen.collect::<Vec<_>>());
        }
        let mut kept: HashMap<usize, usize> = HashMap::new();
        for (asker, series) in self.series(question, rows, seen, asked) {
            let kept = kept.entry(asker).or_default();
            *kept += 1;
            if *kept <= MOST_SERIES {
                self.told[asker].series.push(series);
            }
        }
        for asker in kept.into_iter().filter(|(_, kept)| *kept > MOST_SERIES).map(|(asker, _)| asker) {
            let told = &mut self.told[asker];
            told.series.retain(|one| (one.measure, one.span) != (asked.measure, asked.span));
            told.missing.push((
                asked.measure,
                asked.span,
                format!("more than {MOST_SERIES} series: sum them up by a query in spec.signals.prometheus.queries"),
            ));
        }
    }

    /// The values of a measure, of each object that they tell of.
    fn series(&self, question: &Question, rows: &[Row], seen: &[Row], asked: Asked) -> Vec<(usize, Series)> {
        let Asked { mapping, measure, span, fold, own } = asked;
        let Some(definition) = definition(measure) else { return Vec::new() };
        let signal = &self.poll.mappings[mapping].signal;
        let labels: Vec<(Label, Vec<&str>)> =
            definition.labels.iter().map(|label| (*label, label_names_of(*label, signal))).collect();
        let left_out = if own || definition.kind == Kind::Gauge { &[] } else { definition.labels };
        let moments = self.moments(question, seen, mapping, left_out);
        // Of one address, seen by several jobs, the same is told several times: it counts once.
        let mut cells: HashMap<CellKey, Cell> = HashMap::new();
        let replicas = replica_labels(signal);
        for (number, (row, at)) in freshest(rows, &replicas, |row| moments.of(row)).into_iter().enumerate() {
            let (askers, pod) = self.whose(row, mapping, own);
            let found = labels.iter().filter_map(|(label, names)| Some((*label, row.first(names)?)));
            let found: Vec<_> = found.collect();
            let source = if own { (None, number) } else { (self.names[mapping].instance(row), 0) };
            for asker in askers {
                cells.entry((asker, pod, found.clone())).or_default().add(source, row.value, at);
            }
        }
        let series = cells.into_iter().map(|((asker, pod, labels), cell)| {
            let labels = labels.into_iter().map(|(label, value)| (label, shorten(value, LONGEST)));
            let series = Series {
                measure,
                span,
                pod: pod.map(|pod| shorten(pod, LONGEST)),
                labels: labels.collect(),
                value: cell.value(fold),
                at: cell.at,
            };
            (asker, series)
        });
        series.collect()
    }

    fn ruled(
        &mut self,
        question: &Question,
        rows: Result<&[Row], &str>,
        seen: &[Row],
        mapping: usize,
        rules: &HashMap<usize, Vec<usize>>,
    ) {
        let values = rows.map(|rows| self.values(question, rows, seen, mapping));
        for (asker, numbers) in rules {
            let of_asker =
                values.as_ref().map(|values| values.get(asker).map(Vec::as_slice).unwrap_or_default());
            for number in numbers {
                let Some(rule) = self.poll.askers[*asker].spec.spec.rules.get(*number) else { continue };
                let at = of_asker.iter().copied().flatten().map(|(_, _, at)| *at).min();
                let values = match of_asker {
                    Ok(values) => {
                        let mut values: Vec<_> =
                            values.iter().map(|(words, value, _)| (words.clone(), *value)).collect();
                        values.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
                        if rule.above.is_some() {
                            values.reverse();
                        }
                        values.truncate(MOST_VALUES);
                        Ok(values)
                    }
                    Err(why) => Err((*why).to_owned()),
                };
                let reading = RuleReading { name: rule.name.clone(), values, at: at.unwrap_or(self.now) };
                self.told[*asker].rules.push(reading);
            }
        }
    }

    /// The values of a rule, by the object that they tell of: each with what tells it from the others.
    fn values(
        &self,
        question: &Question,
        rows: &[Row],
        seen: &[Row],
        mapping: usize,
    ) -> HashMap<usize, Vec<(String, f64, Timestamp)>> {
        let moments = self.moments(question, seen, mapping, &[]);
        let mut values: HashMap<usize, Vec<(String, f64, Timestamp)>> = HashMap::new();
        let replicas = replica_labels(&self.poll.mappings[mapping].signal);
        for (row, at) in freshest(rows, &replicas, |row| moments.of(row)) {
            for asker in self.whose(row, mapping, true).0 {
                values.entry(asker).or_default().push((words(row, &replicas), row.value, at));
            }
        }
        values
    }
}

fn of_series(one: &Series) -> (Measure, Span, &Option<String>, &[(Label, String)]) {
    (one.measure, one.span, &one.pod, &one.labels)
}

/// Whose, of which pod, with which labels.
type CellKey<'a> = (usize, Option<&'a str>, Vec<(Label, &'a str)>);

/// What is told of one pod and one set of labels, by where it was seen.
#[derive(Default)]
struct Cell<'a> {
    seen: Vec<((Option<&'a str>, usize), f64)>,
    at: Timestamp,
}

impl<'a> Cell<'a> {
    fn add(&mut self, source: (Option<&'a str>, usize), value: f64, at: Timestamp) {
        self.at = self.at.max(at);
        match self.seen.iter_mut().find(|(one, _)| *one == source) {
            Some((_, known)) => *known = known.max(value),
            None => self.seen.push((source, value)),
        }
    }

    fn value(&self, fold: Fold) -> f64 {
        let values = self.seen.iter().map(|(_, value)| *value);
        match fold {
            Fold::Sum => values.sum(),
            Fold::Max => values.fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// What tells a value from others: `pod=a, tool=search`.
fn words(row: &Row, replicas: &[&str]) -> String {
    let tells = |name: &str| name != "__name__" && !replicas.contains(&name);
    let labels = row.labels.iter().filter(|(name, _)| tells(name));
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
    shorten(&labels.join(", "), LONGEST)
}
