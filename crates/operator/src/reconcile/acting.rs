//! record and act: the intent goes to the status before anything is touched; what it rests on is confirmed in
//! the same round trip; then its steps, fenced by it.

use std::sync::Arc;

use mcp_health_api::{Attempt, McpServerHealth, StepState};
use mcp_health_core::{
    Case, Decision, Diagnosis, Server, StatusDraft,
    actions::Plan,
    attempt::{self, Acted},
    escalation, report,
};

use super::{
    bundle::{collect, collecting, keep},
    context::Context,
};
use crate::{
    act::{Confirmed, Executor},
    error::Error,
    evidence,
    observe::table::Key,
};

/// record: the intent goes to the status before anything is touched. act: its steps, fenced by it. What
/// either step comes to is noted in the story. Returns the object as it was last written.
pub async fn record_and_act(
    context: &Context,
    object: &Arc<McpServerHealth>,
    case: &Case<'_>,
    diagnosis: &Diagnosis,
    draft: &mut StatusDraft,
    decision: &Decision,
) -> Result<Arc<McpServerHealth>, Error> {
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let server = Server::of(case);
    let target = target(context, case, object, &namespace, server.as_ref());
    let acting = Acting { context, case, diagnosis, decision, object, server: server.as_ref(), target };
    let (object, acted) = match (decision, &server) {
        (Decision::Act(plan), Some(server)) => acting.begin(plan, server, draft).await?,
        (Decision::Resume { against }, _) => acting.resume(against.as_deref(), draft).await?,
        (Decision::Escalate { reason, message }, _) => {
            if let Some(incident) = draft.primary_mut() {
                escalation::escalate(case, incident, reason, message);
            }
            return Ok(Arc::clone(object));
        }
        _ => return Ok(Arc::clone(object)),
    };
    if matches!(acted, Some(Acted::Superseded(_))) {
        // What was looked up may be what has changed.
        context.stores.references.forget(&Key::of(&*object));
    }
    if let Some(acted) = acted {
        draft.acted(case, server.as_ref(), &acted);
    }
    Ok(object)
}

/// What one decision is carried out with.
pub struct Acting<'a> {
    /// The operator's stores and clients.
    pub context: &'a Context,
    /// The server and the moment.
    pub case: &'a Case<'a>,
    /// What is found wrong with it.
    pub diagnosis: &'a Diagnosis,
    /// What was decided.
    pub decision: &'a Decision,
    /// The object that it was decided on.
    pub object: &'a Arc<McpServerHealth>,
    /// The server; `None` where it cannot be seen.
    pub server: Option<&'a Server<'a>>,
    /// Its target.
    pub target: Executor<'a>,
}

/// The object as it was last written, and what acting came to; nothing where the object is gone.
type Carried = Result<(Arc<McpServerHealth>, Option<Acted>), Error>;

impl Acting<'_> {
    /// What leaves no trace is written to have begun, and that write takes of the lease as well.
    fn lease(&self, begins: bool) -> Result<(), Error> {
        let lease = &self.context.lease;
        let has_left = if begins { lease.has_left_to_record() } else { lease.has_left() };
        if has_left { Ok(()) } else { Err(Error::Lease { object: self.target.words() }) }
    }

    /// Records the plan as an attempt, and carries it out.
    pub async fn begin(&self, plan: &Plan, server: &Server<'_>, draft: &mut StatusDraft) -> Carried {
        let (context, nothing) = (self.context, Ok((Arc::clone(self.object), None)));
        // As the target was when it was decided on: its next patch is fenced by that.
        let facts = context.stores.facts(self.object);
        self.lease(plan.steps.first().is_some_and(|step| step.effect.is_untraceable()))?;
        let Some(incident) = draft.primary_mut() else { return nothing };
        attempt::record(self.case, server, incident, plan);
        draft.begin_step();
        let Some(attempt) = draft.open_attempt().cloned() else { return nothing };
        context.unsent.note(uid_of(self.object), &attempt);
        let intent = report::status(self.case, self.diagnosis, draft, self.decision);
        let evidence = collecting(context, self.object, self.case, Some(server), draft);
        let (written, prepared, confirmed, collected) = tokio::join!(
            context.statuses.write(&context.client, self.object, intent),
            self.target.prepare(&plan.steps[0]),
            self.target.confirm(&plan.steps),
            collect(evidence.as_ref(), &attempt.id),
        );
        // The object is gone: nothing is recorded, so nothing is done.
        let Some(written) = written? else { return nothing };
        let acted = match confirmed? {
            Confirmed::Unchanged => Box::pin(self.target.carry_out(&attempt, prepared?, facts)).await,
            Confirmed::Changed(why) => {
                draft.step_not_begun();
                Ok(Acted::Superseded(format!("it was not carried out: {why}")))
            }
            Confirmed::Forbidden(message) => {
                draft.step_not_begun();
                Ok(Acted::Refused { reason: "Forbidden".to_owned(), message })
            }
        };
        keep(evidence.as_ref(), collected, draft).await;
        Ok((written, Some(acted?)))
    }

    /// Goes on with the open attempt, from what can be looked up of it. Where nothing can be told of its next
    /// step for too long, it fails, and frees its place.
    pub async fn resume(&self, against: Option<&str>, draft: &mut StatusDraft) -> Carried {
        match self.go_on(against, draft).await {
            Err(Error::Unknown { what, why, .. })
                if draft.open_attempt().is_some_and(|open| attempt::is_overdue(open, self.case.now)) =>
            {
                let why = format!("{what} on {} has no answer: {why}", self.target.words());
                Ok((self.context.statuses.latest(self.object), Some(Acted::Failed(why))))
            }
            carried => carried,
        }
    }

    async fn go_on(&self, against: Option<&str>, draft: &mut StatusDraft) -> Carried {
        let (written, against) = match against {
            Some(why) => {
                self.lease(false)?;
                (Arc::clone(self.object), Some(why.to_owned()))
            }
            None => match self.record_step(draft).await? {
                Some(recorded) => recorded,
                None => return Ok((Arc::clone(self.object), None)),
            },
        };
        let Some(attempt) = draft.open_attempt().cloned() else { return Ok((written, None)) };
        // What the operator that recorded it did not live to keep.
        let evidence = collecting(self.context, self.object, self.case, self.server, draft)
            .filter(|evidence| evidence.incident.evidence_kept != Some(evidence::name(&attempt.id)));
        let collected = collect(evidence.as_ref(), &attempt.id).await;
        let acted = Box::pin(self.target.resume(&attempt, against.as_deref())).await;
        keep(evidence.as_ref(), collected, draft).await;
        Ok((written, Some(acted?)))
    }

    /// Writes that the next step begins, if nothing would tell afterwards; confirms what it rests on in any
    /// case. Returns the object as written, and what speaks against going on.
    async fn record_step(
        &self,
        draft: &mut StatusDraft,
    ) -> Result<Option<(Arc<McpServerHealth>, Option<String>)>, Error> {
        let Some(attempt) = draft.open_attempt() else { return Ok(None) };
        let (steps, begins) = (attempt.steps.clone(), wants_record(attempt));
        self.lease(begins)?;
        if draft.begin_step()
            && let Some(attempt) = draft.open_attempt()
        {
            self.context.unsent.note(uid_of(self.object), attempt);
        }
        let intent = begins.then(|| report::status(self.case, self.diagnosis, draft, self.decision));
        let write = async {
            match intent {
                Some(intent) => self.context.statuses.write(&self.context.client, self.object, intent).await,
                None => Ok(Some(Arc::clone(self.object))),
            }
        };
        let (written, confirmed) = tokio::join!(write, self.target.confirm(&steps));
        let Some(written) = written? else { return Ok(None) };
        let against = confirmed?.against();
        if against.is_some() && begins {
            draft.step_not_begun();
        }
        Ok(Some((written, against)))
    }
}

/// Whether the next step leaves no trace, and its beginning is not recorded.
fn wants_record(attempt: &Attempt) -> bool {
    attempt.next_step().is_some_and(|step| step.effect.is_untraceable() && step.state == StepState::Recorded)
}

/// What the steps of an attempt need beside what is recorded.
pub fn target<'a>(
    context: &'a Context,
    case: &'a Case<'a>,
    object: &'a McpServerHealth,
    namespace: &'a str,
    server: Option<&Server>,
) -> Executor<'a> {
    Executor {
        client: &context.client,
        object,
        namespace,
        name: &case.spec.target_ref.name,
        pods: case.signals.pods.fresh().map(Vec::as_slice).unwrap_or_default(),
        port: server.and_then(Server::port),
        databases: context.stores.databases.as_ref(),
        revisions: case.signals.revisions.fresh().map(Vec::as_slice).unwrap_or_default(),
        timeout: context.lease.effect_timeout(),
        lease: &context.lease,
        unsent: &context.unsent,
        switch: context.switch.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str())),
    }
}

/// The uid of an object.
pub fn uid_of(object: &McpServerHealth) -> &str {
    object.metadata.uid.as_deref().unwrap_or_default()
}
