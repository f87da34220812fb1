//! Where the story is played: a healthy server, a first operator that reaches the API server by a proxy only, and
//! a witness.

use std::{cell::RefCell, sync::Arc};

use kube::api::{Patch, PatchParams};
use mcp_health_e2e::{
    Fault, Outcome, Policy, Server, Story,
    local_operator::LocalOperator,
    proxy::{Disturbance, Fate, Proxy, Write, deed},
    until,
};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::witness::Witness;

/// The change of the target, as the proxy names it.
pub const TEMPLATE: &str = "PATCH deployment (template)";

/// So many stages stand at once, whichever tests they are of.
pub static PLACES: Semaphore = Semaphore::const_new(4);

/// See the module.
pub struct Stage {
    /// The operators.
    pub operators: Operators,
    /// The server.
    pub server: Server,
    witness: Witness,
    // After the operators: nobody works in a namespace that is on its way out.
    _story: Story,
    _place: SemaphorePermit<'static>,
}

impl Stage {
    /// Sets it: the server is healthy, and its template is recorded as the one to go back to.
    pub async fn set(name: &str) -> Self {
        Self::set_with(name, &["first"], &[]).await
    }

    /// The same, with these operators at once, each with these flags.
    pub async fn set_with(name: &str, identities: &[&str], flags: &[&'static str]) -> Self {
        let place = PLACES.acquire().await.expect("nobody closes it");
        // The chart's rights and the chart's switch, without the chart's operator.
        let story =
            Story::begin_with_values("writes", &["replicaCount=0", "metrics.service.enabled=false"]).await;
        // Nobody needs to look for its pods then.
        story.kubectl(&["delete", "deployment", &story.namespace]).await;
        let operators = Operators::at(&story, name, &[]).await;
        for identity in identities {
            operators.begin(identity, flags);
        }
        let server = story.server().deployment(requires("MCP_ADMIN")).healthy().await;
        let stage = Self { operators, witness: Witness::of(&server), server, _story: story, _place: place };
        stage.witness_saw(1).await;
        stage.operators.proxy.begin();
        stage
    }

    /// Has the team roll out what does not start.
    pub async fn roll_out_what_crashes(&self) {
        self.server.roll_out(Fault::RefusesToStart("DATABASE_URL")).await;
    }

    /// Awaits the end of the story, and checks that it is the same as ever: the incident is resolved, by one
    /// rollback; the server serves; its team can go on.
    pub async fn ends_well(&self) {
        let (server, policy) = (&self.server, &self.server.policy);
        policy
            .until("one incident resolved", |status| {
                (status.incidents.is_empty() && !status.history.is_empty()).then_some(())
            })
            .await;
        // Whoever lives has looked once more since, and left it at that.
        policy.considered_again().await;
        self.operators.end();
        let status = policy.status().await;
        assert!(status.incidents.is_empty(), "{:#?}", status.incidents);
        assert_eq!(status.history.len(), 1, "{:#?}", status.history);
        let past = &status.history[0];
        let (last, before) = past.actions.split_last().expect("something was done");
        assert_eq!(last.to_string(), "Rollback: Improved", "{past:#?}");
        // What came too late touched nothing, and is told.
        assert!(before.iter().all(|action| action.to_string() == "Rollback: Superseded"), "{past:#?}");
        assert_eq!(past.resolution, "Rollback helped", "{past:#?}");
        let last = status.last_action.expect("the last action is told");
        assert_eq!(last.outcome, Some(Outcome::Improved), "{last:#?}");
        let target = status.target.expect("the target is told");
        assert_eq!(Some(&target.template), target.last_healthy.as_ref().map(|healthy| &healthy.template));

        server.rolled_out().await;
        server.has_healthy_template().await;
        server.was_changed_by_operator(1).await;
        let testimony = self.witness_saw(3).await;
        let [(first, good), (second, bad), (third, back)] = testimony.as_slice() else {
            panic!("{} templates, one after the other: {testimony:#?}", testimony.len());
        };
        assert_eq!([*second, *third], [first + 1, first + 2], "the generations that changed the template");
        assert!(good == back && good != bad, "{testimony:#?}");
        let most_spent = self.witness.testimony().most_spent;
        assert!(most_spent <= 1, "a status told of {most_spent} spent attempts");
        self.recorded_before_it_was_done();

        // The fields are the team's again: what changes the same field goes through, without force.
        server.change_manifest(requires("MCP_WORKERS"));
        server.apply().await;
    }

    /// What the witness saw, once it has seen so many templates.
    async fn witness_saw(&self, templates: usize) -> Vec<(i64, Value)> {
        until(&format!("the witness has seen {templates} templates"), async || {
            let seen = self.witness.testimony().templates;
            if seen.len() >= templates { Ok(seen) } else { Err(format!("{seen:#?}")) }
        })
        .await
    }

    /// The template was changed once, and the intent was recorded before.
    fn recorded_before_it_was_done(&self) {
        let writes = self.operators.proxy.writes();
        let changes: Vec<usize> = (0..writes.len())
            .filter(|&at| writes[at].label == TEMPLATE && writes[at].fate.is_done())
            .collect();
        assert_eq!(changes.len(), 1, "changes of the template that were accepted");
        for (at, write) in writes.iter().enumerate().filter(|(_, write)| write.label == TEMPLATE) {
            let operations = write.body.as_array().map(Vec::as_slice).unwrap_or_default();
            let marks =
                |operation: &&Value| operation["path"] == "/metadata/annotations/mcphealth.dev~1attempt";
            let attempt = &operations.iter().find(marks).expect("it marks the target")["value"];
            let tells = |status: &Value| {
                let incidents = status["incidents"].as_array().into_iter().flatten();
                incidents
                    .flat_map(|one| one["attempts"].as_array().into_iter().flatten())
                    .any(|one| one["id"] == *attempt)
            };
            let recorded =
                writes[..at].iter().any(|write| write.fate.is_done() && tells(&write.body["status"]));
            assert!(recorded, "the intent {attempt} was not recorded before it was carried out");
        }
    }
}

/// The operators of a story, and their way to the API server.
pub struct Operators {
    /// The name of the story.
    name: String,
    namespace: String,
    /// The way.
    pub proxy: Proxy,
    /// What every life is started with.
    flags: Vec<&'static str>,
    lives: RefCell<Vec<Arc<LocalOperator>>>,
}

impl Operators {
    /// None yet; they will have the rights of the story's ServiceAccount.
    pub async fn at(story: &Story, name: &str, flags: &[&'static str]) -> Self {
        let token = story.kubectl(&["create", "token", &story.namespace, "--duration=1h"]).await;
        Self {
            name: name.to_owned(),
            namespace: story.namespace.clone(),
            proxy: Proxy::open(token.trim()).await,
            flags: flags.to_vec(),
            lives: RefCell::default(),
        }
    }

    /// Starts one.
    pub fn begin(&self, identity: &str, flags: &[&str]) {
        let flags = [self.flags.as_slice(), flags].concat();
        let operator = LocalOperator::start(&self.proxy.url, &self.namespace, identity, &flags);
        self.lives.borrow_mut().push(Arc::new(operator));
    }

    /// The first operator's first life.
    pub fn first(&self) -> Arc<LocalOperator> {
        Arc::clone(&self.lives.borrow()[0])
    }

    /// Gives the first operator another life, under the same name: the lease is its own.
    pub fn begin_another_life(&self) {
        let identity = self.first().identity.clone();
        self.begin(&identity, &[]);
    }

    /// Has the first operator be killed at a write.
    pub fn kill_first(&self, at: Disturbance) {
        let first = self.first();
        let kill = move || {
            first.kill();
            std::future::ready(())
        };
        self.proxy.disturb(at.deed(deed(kill)).lost());
    }

    /// Awaits that a disturbance has happened.
    pub async fn disturbed(&self, label: &str) {
        let disturbed =
            |write: &Write| write.disturbed && write.label == label && write.fate != Fate::Underway;
        self.proxy.until(&format!("something went wrong at {label}"), |all| all.iter().any(disturbed)).await;
    }

    /// Ends all of them.
    pub fn end(&self) {
        for operator in self.lives.borrow().iter() {
            operator.kill();
        }
    }
}

impl Drop for Operators {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("\n================ {}\n=== what operators wrote\n{}", self.name, self.proxy.report());
        for (life, operator) in self.lives.borrow().iter().enumerate() {
            eprintln!("=== log of operator {} ({})\n{}", life + 1, operator.identity, operator.log());
        }
    }
}

/// A value that the bad rollout changes, so that the rollback changes it back. This one is set; it starts.
fn requires(variable: &'static str) -> impl FnOnce(&mut Value) + 'static {
    move |deployment| {
        let environment = &mut deployment["spec"]["template"]["spec"]["containers"][0]["env"];
        let environment = environment.as_array_mut().expect("the manifest has an env");
        environment.retain(|one| one["name"] != "MCP_REQUIRE");
        environment.push(json!({"name": "MCP_REQUIRE", "value": variable}));
    }
}

/// Another writer changes the policy's metadata.
pub async fn annotate(policy: &Policy) {
    let patch = json!({"metadata": {"annotations": {"example.com/note": "seen"}}});
    let patched = policy.api.patch(&policy.name, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.expect("the policy can be annotated");
}
