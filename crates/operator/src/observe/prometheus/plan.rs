//! What is asked of each Prometheus at a tick: every text once, with its companion, whatever the number of
//! objects.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use mcp_health_api::{McpServerHealth, Measure, PrometheusSignal};
use mcp_health_core::{
    metrics::{
        Naming,
        promql::{Fold, Seen, queries, seen_of_own},
    },
    signals::Span,
};

use crate::{endpoints::Endpoint, observe::table::Key};

/// An object that asks.
pub struct Asker {
    /// Its key.
    pub object: Key,
    /// Its target.
    pub target: Key,
    /// What it says.
    pub spec: Arc<McpServerHealth>,
    /// The number of its mapping among those of the poll.
    pub mapping: usize,
}

/// Objects with the same mapping.
pub struct Mapping {
    /// The mapping.
    pub signal: PrometheusSignal,
    /// The texts that are asked for it: evidence shows them.
    pub texts: Arc<Vec<(Measure, Span, String)>>,
}

/// What is asked of one Prometheus.
pub struct Poll {
    /// Where.
    pub endpoint: Endpoint,
    /// For whom.
    pub askers: Vec<Asker>,
    /// How they call things.
    pub mappings: Vec<Mapping>,
    /// What.
    pub questions: Vec<Question>,
}

/// A text, and what its answer is to several.
pub struct Question {
    /// The query.
    pub text: String,
    /// Its companion.
    pub seen: Seen,
    /// What its answer is.
    pub uses: Vec<Use>,
}

/// What an answer is to the objects of one mapping.
pub enum Use {
    /// A measure.
    Measure {
        /// The mapping's number.
        mapping: usize,
        /// What.
        measure: Measure,
        /// When.
        span: Span,
        /// What is made of several values.
        fold: Fold,
        /// It is the policy's own query.
        own: bool,
    },
    /// A rule of these objects, by their numbers: the rule's number in `spec.rules`.
    Rules {
        /// The mapping's number.
        mapping: usize,
        /// Whose.
        rules: HashMap<usize, Vec<usize>>,
    },
}

/// What the objects ask, by Prometheus: of each, where, its key, that of its target, and what it says.
pub fn plan(askers: Vec<(Endpoint, Key, Key, Arc<McpServerHealth>)>, naming: &Naming) -> Vec<Poll> {
    let mut by_endpoint: BTreeMap<Endpoint, Vec<_>> = BTreeMap::new();
    for (endpoint, object, target, spec) in askers {
        by_endpoint.entry(endpoint).or_default().push((object, target, spec));
    }
    by_endpoint.into_iter().map(|(endpoint, askers)| poll(endpoint, askers, naming)).collect()
}

fn poll(endpoint: Endpoint, all: Vec<(Key, Key, Arc<McpServerHealth>)>, naming: &Naming) -> Poll {
    let namespaces: HashSet<Arc<str>> = all.iter().map(|(_, target, _)| target.namespace.clone()).collect();
    let mut namespaces: Vec<&str> = namespaces.iter().map(|one| &**one).collect();
    namespaces.sort_unstable();
    let mut poll = Poll { endpoint, askers: Vec::new(), mappings: Vec::new(), questions: Vec::new() };
    let mut mappings: HashMap<String, usize> = HashMap::new();
    let mut texts: Texts = HashMap::new();
    for (object, target, spec) in all {
        let said = spec.spec.signals.prometheus.as_ref();
        let key = said.map(mapping_key).unwrap_or_default();
        let mapping = *mappings
            .entry(key)
            .or_insert_with(|| poll.add_mapping(naming.below(said), &namespaces, &mut texts));
        let asker = poll.askers.len();
        for (number, rule) in spec.spec.rules.iter().enumerate() {
            let question = poll.question(&rule.promql, seen_of_own(&rule.promql), &mut texts);
            poll.questions[question].add_rule(mapping, asker, number);
        }
        poll.askers.push(Asker { object, target, spec, mapping });
    }
    poll
}

/// What of a mapping shapes its queries, and how their answers are read.
fn mapping_key(signal: &PrometheusSignal) -> String {
    let signal = PrometheusSignal { url: None, enabled: true, ..signal.clone() };
    if signal == PrometheusSignal::default() { String::new() } else { format!("{signal:?}") }
}

/// A text may be asked with another companion.
type SeenBy = Option<String>;
/// The questions, by their texts.
type Texts = HashMap<(String, SeenBy), usize>;

impl Poll {
    fn add_mapping(&mut self, signal: PrometheusSignal, namespaces: &[&str], texts: &mut Texts) -> usize {
        let mapping = self.mappings.len();
        let mut shown = Vec::new();
        for query in queries(&signal, namespaces) {
            let question = self.question(&query.text, query.seen, texts);
            let (measure, span, fold, own) = (query.measure, query.span, query.fold, query.own);
            self.questions[question].uses.push(Use::Measure { mapping, measure, span, fold, own });
            shown.push((measure, span, query.text));
        }
        self.mappings.push(Mapping { signal, texts: Arc::new(shown) });
        mapping
    }

    fn question(&mut self, text: &str, seen: Seen, texts: &mut Texts) -> usize {
        let by = match &seen {
            Seen::By(by) | Seen::Since(by) => Some(by.clone()),
            Seen::Evaluation => None,
        };
        *texts.entry((text.to_owned(), by)).or_insert_with(|| {
            self.questions.push(Question { text: text.to_owned(), seen, uses: Vec::new() });
            self.questions.len() - 1
        })
    }
}

impl Question {
    /// The text of its companion.
    pub fn companion(&self) -> Option<&str> {
        match &self.seen {
            Seen::By(text) | Seen::Since(text) => Some(text),
            Seen::Evaluation => None,
        }
    }

    fn add_rule(&mut self, mapping: usize, asker: usize, rule: usize) {
        for one in &mut self.uses {
            if let Use::Rules { mapping: of, rules } = one
                && *of == mapping
            {
                rules.entry(asker).or_default().push(rule);
                return;
            }
        }
        self.uses.push(Use::Rules { mapping, rules: HashMap::from([(asker, vec![rule])]) });
    }
}
