//! `limits.maxUnhealthyPercent` and `limits.unhealthyFloor` of the operator: where so many servers are broken
//! at once, they have one cause (a node, a network, a registry, a base image), and acting on each makes it
//! worse. The floor lets a small fleet heal. Taking back what made things worse is no part of the storm.

use super::question::{GuardAnswer, GuardQuestion};
use crate::{Settings, incident::breaks_the_server};

/// The reason of a server that waits until fewer servers are broken.
pub const FLEET_UNHEALTHY: &str = "FleetUnhealthy";

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let (fleet, settings) = (question.fleet, question.case.settings);
    let this = usize::from(question.incidents.iter().any(breaks_the_server));
    if question.plan.undoes.is_some() || !is_storm(settings, fleet.servers + 1, fleet.unhealthy + this) {
        return GuardAnswer::Permit;
    }
    // No numbers that change with every server: the metrics have those.
    GuardAnswer::hold(
        FLEET_UNHEALTHY,
        format!(
            "more than {} % of all servers (limits.maxUnhealthyPercent), and at least {} (limits.unhealthyFloor), are broken at once: that has one cause",
            settings.max_unhealthy_percent, settings.unhealthy_floor
        ),
    )
}

/// Whether so many broken servers of so many have one cause.
pub fn is_storm(settings: &Settings, servers: usize, unhealthy: usize) -> bool {
    unhealthy >= settings.unhealthy_floor.max(1)
        && unhealthy.saturating_mul(100) > servers.saturating_mul(settings.max_unhealthy_percent)
}
