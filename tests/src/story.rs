//! A story: a namespace of its own, an operator of its own that watches nothing else, and at the end nothing left.

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::sync::OnceCell;
use xtask::local_operator::LocalOperator;

use crate::{
    command::{kubectl, kubectl_blocking},
    environment,
    operator::Release,
    report,
    server::Planned,
    until::until,
};

/// Whether the CRD is applied.
static DEFINED: OnceCell<()> = OnceCell::const_new();

/// Who heals in a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The chart, installed by Helm, with these values (`key=value`) beside the harness's own.
    InCluster(Vec<String>),
    /// Nobody: the test brings its own.
    None,
}

/// See the module.
pub struct Story {
    /// A client of the cluster, with all rights.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    release: Option<Release>,
    /// The operator, where pods run nothing.
    local: Option<LocalOperator>,
}

impl Story {
    /// Begins with an operator in the cluster.
    pub async fn begin(name: &str) -> Self {
        Self::begin_with(name, Operator::InCluster(Vec::new())).await
    }

    /// Begins with an operator in the cluster that has these values of the chart set (`key=value`).
    pub async fn begin_with_values(name: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        Self::begin_with(name, Operator::InCluster(values)).await
    }

    /// Begins. Does not wait for the operator: a server that becomes healthy shows that there is one.
    pub async fn begin_with(name: &str, operator: Operator) -> Self {
        // Asked for first, so that what is missing is said before anything is made.
        environment::kubeconfig();
        let client = Client::try_default().await.expect("KUBECONFIG leads to a cluster");
        DEFINED.get_or_init(define).await;

        let suffix = RandomState::new().hash_one(name) & 0xff_ffff;
        let namespace = format!("e2e-{name}-{suffix:06x}");
        let labels = [("app.kubernetes.io/part-of".to_owned(), "mcp-health-e2e".to_owned())];
        let metadata = ObjectMeta {
            name: Some(namespace.clone()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        };
        let api: Api<Namespace> = Api::all(client.clone());
        let object = Namespace { metadata, ..Namespace::default() };
        api.create(&PostParams::default(), &object).await.expect("the namespace can be created");

        let mut story = Self { client, namespace, release: None, local: None };
        if let Operator::InCluster(values) = operator {
            story.release = Some(Release::of(&story.namespace));
            story.operator().install(&values).await;
            story.local = story.operator().run_here().await;
        }
        story
    }

    /// The operator that Helm installed.
    pub fn operator(&self) -> &Release {
        self.release.as_ref().expect("this story began with an operator in the cluster")
    }

    /// A server, to be described further.
    pub fn server(&self) -> Planned {
        Planned::new(&self.client, &self.namespace)
    }

    /// Fails where the operator shows one of these words anywhere: its log, its metrics, Events, objects with their
    /// status, and what it keeps as evidence.
    pub async fn is_silent_about(&self, words: &[&str]) {
        let objects = ["get", "events,mcph,configmaps,deployments,leases", "--output=yaml"];
        let told = [
            ("its log", self.operator().log().await),
            ("its metrics", self.operator().metrics().await),
            ("the cluster", self.kubectl(&objects).await),
        ];
        for (place, told) in told {
            for line in told.lines() {
                assert!(!words.iter().any(|word| line.contains(word)), "{place} shows a credential: {line}");
            }
        }
    }

    /// kubectl in this namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with(arguments, "").await.ok()
    }

    /// kubectl in this namespace, with something on its standard input; it may fail.
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> crate::command::Said {
        kubectl(&[&["--namespace", &self.namespace], arguments].concat(), input).await
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", report::of(&self.namespace, self.release.is_some()));
        }
        if environment::keep() {
            eprintln!("MCP_HEALTH_KEEP is set: the namespace {} stays", self.namespace);
            return;
        }
        self.local = None;
        if let Some(release) = &self.release {
            release.uninstall_blocking();
        }
        let said = kubectl_blocking(&["delete", "namespace", &self.namespace, "--wait=false"], "");
        if !said.well {
            eprintln!("`{}` failed: {}", said.line, said.err);
        }
    }
}

/// Applies the CRD as the chart has it, once a run; other runs wait.
async fn define() {
    let folder = environment::cache();
    std::fs::create_dir_all(&folder).expect("the cache folder can be made");
    let lock = File::create(folder.join("e2e.lock")).expect("a lock file can be made");
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
    let _lock = lock.expect("the lock is waited for").expect("the lock can be taken");
    let file = environment::chart().join("files/crds/mcpserverhealths.mcphealth.dev.yaml");
    let file = file.display().to_string();
    let apply = ["apply", "--server-side", "--force-conflicts", "--filename", &file];
    kubectl(&apply, "").await.ok();
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "--filename", &file];
    // Of a definition that has no conditions yet at all, kubectl says that it cannot read them.
    until("the definition is established", async || {
        let said = kubectl(&wait, "").await;
        if said.well { Ok(()) } else { Err(said.err) }
    })
    .await;
}
