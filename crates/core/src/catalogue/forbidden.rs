//! What rules forbid alike: actions that bring nothing back which the server depends on.

use mcp_health_api::ActionType;

/// What starts containers again.
pub(super) const RESTARTS: &[ActionType] =
    &[ActionType::RolloutRestart, ActionType::RecyclePod, ActionType::DrainAndRestart];

/// The same, and another template.
pub(super) const RESTARTS_AND_ROLLBACK: &[ActionType] =
    &[ActionType::RolloutRestart, ActionType::RecyclePod, ActionType::DrainAndRestart, ActionType::Rollback];

/// What starts containers: again, or more of them.
pub(super) const STARTS: &[ActionType] =
    &[ActionType::RolloutRestart, ActionType::RecyclePod, ActionType::DrainAndRestart, ActionType::Scale];

/// The same, and another template.
pub(super) const STARTS_AND_ROLLBACK: &[ActionType] = &[
    ActionType::RolloutRestart,
    ActionType::RecyclePod,
    ActionType::DrainAndRestart,
    ActionType::Scale,
    ActionType::Rollback,
];
