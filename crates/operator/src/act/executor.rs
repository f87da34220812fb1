//! Who carries out an attempt: the target, and what its steps need beside what is recorded.

use std::time::Duration;

use kube::{Api, Client};
use mcp_health_api::McpServerHealth;
use mcp_health_core::{
    refusals::{self, Refused},
    signals::{Pod, Revision},
};

use super::unsent::Unsent;
use crate::{
    error::{Error, answer},
    lease::Lease,
    observe::{Databases, DeploymentWire},
};

/// The target of an attempt, and what its steps need beside what is recorded.
#[derive(Clone, Copy)]
pub struct Executor<'a> {
    /// The client.
    pub client: &'a Client,
    /// The object whose attempt it is.
    pub object: &'a McpServerHealth,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its pods, as seen.
    pub pods: &'a [Pod],
    /// The port that the server declares first.
    pub port: Option<u16>,
    /// The databases that are looked at; none where the operator asks nobody.
    pub databases: Option<&'a Databases>,
    /// Its ReplicaSets, as seen.
    pub revisions: &'a [Revision],
    /// How long one call may take: less than what the lease leaves.
    pub timeout: Duration,
    /// The right to act: looked at before each step.
    pub lease: &'a Lease,
    /// Steps that were begun and not sent.
    pub unsent: &'a Unsent,
    /// Namespace and name of the `ConfigMap` that stops the operator, if there is one.
    pub switch: Option<(&'a str, &'a str)>,
}

impl Executor<'_> {
    pub fn api(&self) -> Api<DeploymentWire> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// The target, for messages.
    pub fn words(&self) -> String {
        format!("Deployment {}/{}", self.namespace, self.name)
    }

    pub async fn live(&self) -> Result<Option<DeploymentWire>, Error> {
        let found = self.in_time("reading it", self.api().get_opt(self.name)).await?;
        found.map_err(|error| self.unknown("reading it", &error))
    }

    pub fn unknown(&self, what: &'static str, error: &kube::Error) -> Error {
        Error::Unknown { what, object: self.words(), why: error.to_string() }
    }

    pub async fn in_time<T>(&self, what: &'static str, call: impl Future<Output = T>) -> Result<T, Error> {
        tokio::time::timeout(self.timeout, call).await.map_err(|_| Error::Unknown {
            what,
            object: self.words(),
            why: format!("no answer within {} s", self.timeout.as_secs()),
        })
    }

    /// What an answer means by which the API server did not carry out a request with this verb, and its
    /// words. `Err` where it may have, or may later: the attempt stays recorded.
    pub fn refused(
        &self,
        what: &'static str,
        verb: &str,
        error: &kube::Error,
    ) -> Result<(Refused, String), Error> {
        let status = answer(error).ok_or_else(|| self.unknown(what, error))?;
        match refusals::of_request(status.code, &status.message, verb) {
            Refused::Undecided => Err(self.unknown(what, error)),
            refused => Ok((refused, status.message.clone())),
        }
    }
}
