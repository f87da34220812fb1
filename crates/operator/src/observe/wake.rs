//! Who is looked at again: whom a change concerns, as objects.

use super::{
    services::namespace_group,
    stores::Stores,
    table::{Concerns, Key},
};

impl Stores {
    /// Has the servers looked at whose verdict a change may change.
    pub fn wake_concerned(&self, concerns: Concerns) {
        match concerns {
            Concerns::Nobody => {}
            Concerns::Object(object) => self.wake([object]),
            Concerns::Target(deployment) => self.wake_target(&deployment),
            Concerns::Pod { pod, owner } => {
                if self.pods.get(&pod).is_none() {
                    self.hearing.forget(&pod);
                }
                if let Some(owner) = self.replica_sets.get(&owner) {
                    self.wake_target(&owner.deployment);
                }
            }
            Concerns::Node(name) => self.wake_on_node(&name),
            Concerns::Service(service) => self.wake_behind(&service),
            Concerns::ConfigMaps(all) => all.iter().for_each(|config_map| self.wake_readers(config_map)),
            Concerns::Namespace(namespace) => self.wake_namespace(&namespace),
        }
    }

    /// Wakes the servers with pods on a node.
    fn wake_on_node(&self, name: &str) {
        for (target, pods) in self.pods_of_targets() {
            if pods.iter().any(|(_, row)| row.node.as_deref() == Some(name)) {
                self.wake_target(&target);
            }
        }
    }

    /// Has these objects looked at.
    pub fn wake(&self, objects: impl IntoIterator<Item = Key>) {
        for object in objects {
            // Fails only when the operator is ending.
            let _ = self.wake.unbounded_send(object);
        }
    }

    pub fn wake_target(&self, deployment: &Key) {
        self.wake(self.targets.of(deployment));
    }

    pub fn wake_namespace(&self, namespace: &str) {
        self.wake(self.targets.in_namespace(namespace));
    }

    pub fn wake_all(&self) {
        self.wake(self.targets.all());
    }

    /// Wakes the servers that read a ConfigMap.
    pub fn wake_readers(&self, config_map: &Key) {
        for (deployment, row) in self.deployments.of_group(&namespace_group(&config_map.namespace)) {
            if row.reads(&config_map.name) {
                self.wake_target(&deployment);
            }
        }
    }

    /// Wakes the servers behind a Service.
    pub fn wake_behind(&self, service: &Key) {
        let Some(row) = self.services.get(service) else { return };
        for (deployment, object) in self.targets.pairs_in_namespace(&service.namespace) {
            let behind = deployment.name == service.name
                || self.deployments.get(&deployment).is_some_and(|one| row.selects(&one.pod_labels));
            if behind {
                self.wake([object]);
            }
        }
    }
}
