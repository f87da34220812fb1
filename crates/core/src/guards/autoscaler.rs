//! Where an autoscaler sets the number of replicas, the operator does not. The template stays ours to
//! change: no autoscaler sets it.

use super::{Question, Verdict};
use crate::actions::{Touches, touches};

pub fn check(question: &Question) -> Verdict {
    // Nobody scales what cannot be listed: a reading that is not fresh is the evidence guard's.
    let autoscalers = question.case.signals.autoscalers.fresh().map(Vec::as_slice).unwrap_or_default();
    verdict(touches(question.plan.action), autoscalers)
}

fn verdict(touches: Touches, autoscalers: &[String]) -> Verdict {
    match autoscalers.first() {
        Some(owner) if touches.replicas => {
            Verdict::hold("AutoscalerOwned", format!("{owner} sets the number of replicas"))
        }
        _ => Verdict::Permit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_holds_what_changes_replicas_and_nothing_else() {
        let owned = ["HorizontalPodAutoscaler/mcp-server".to_owned()];
        let replicas = Touches { replicas: true, ..Touches::default() };
        let template = Touches { template: true, ..Touches::default() };
        assert!(matches!(verdict(replicas, &owned), Verdict::Hold { reason: "AutoscalerOwned", .. }));
        assert_eq!(verdict(template, &owned), Verdict::Permit);
        assert_eq!(verdict(replicas, &[]), Verdict::Permit);
    }
}
