//! What an autoscaler sets, the operator does not: replicas, or requests and limits. The rest of the template
//! stays ours to change.

use super::question::{GuardAnswer, GuardQuestion};
use crate::{
    actions::{Touches, touches},
    signals::{Autoscaler, Scaled},
};

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    // Nobody scales what cannot be listed: a reading that is not fresh is the evidence guard's.
    let signals = question.case.signals;
    let autoscalers = [&signals.autoscalers, &signals.vertical_autoscalers];
    let autoscalers = autoscalers.into_iter().filter_map(|reading| reading.fresh()).flatten();
    verdict(touches(question.plan.action), autoscalers)
}

fn verdict<'a>(touches: Touches, mut autoscalers: impl Iterator<Item = &'a Autoscaler>) -> GuardAnswer {
    let conflicting = autoscalers.find(|one| match one.sets {
        Scaled::Replicas => touches.replicas,
        Scaled::Resources => touches.resources,
    });
    match conflicting {
        Some(Autoscaler { words, sets: Scaled::Replicas }) => {
            GuardAnswer::hold("AutoscalerOwned", format!("{words} sets the number of replicas"))
        }
        Some(Autoscaler { words, sets: Scaled::Resources }) => {
            GuardAnswer::hold("AutoscalerOwned", format!("{words} sets requests and limits"))
        }
        None => GuardAnswer::Permit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_holds_what_it_sets_and_nothing_else() {
        let replicas = Touches { template: false, replicas: true, ..Touches::default() };
        let resources = Touches { template: true, resources: true, ..Touches::default() };
        let template = Touches { template: true, ..Touches::default() };
        let owner = |sets| [Autoscaler { words: "HorizontalPodAutoscaler/mcp-server".to_owned(), sets }];
        for (touches, sets, held) in [
            (replicas, Scaled::Replicas, true),
            (resources, Scaled::Resources, true),
            (template, Scaled::Replicas, false),
            (template, Scaled::Resources, false),
            (replicas, Scaled::Resources, false),
            (resources, Scaled::Replicas, false),
        ] {
            let verdict = verdict(touches, owner(sets).iter());
            assert_eq!(
                matches!(verdict, GuardAnswer::Hold { reason: "AutoscalerOwned", .. }),
                held,
                "{touches:?} {sets:?}"
            );
        }
        assert_eq!(verdict(replicas, [].iter()), GuardAnswer::Permit);
    }
}
