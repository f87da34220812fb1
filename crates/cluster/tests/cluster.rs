//! A cluster of its own, beside whatever runs: it behaves like a real one, survives what is killed, leaves
//! nothing.
//!
//! Needs root and, the first time, minutes to build the parts:
//! `cargo test -p cluster --test cluster -- --ignored`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cluster::Cluster;
use cluster::Plan;
use cluster::down::down;
use cluster::images::Image;
use cluster::kind::Wanted;
use cluster::link::link_name;
use cluster::process::{PidRecord, wait_until};
use cluster::state::Layout;
use cluster::status::Status;

const NAME: &str = "xtask-test";

/// Deployments on the tiny image with this machine's own programs: one serves, one crashes, one needs too
/// much memory.
const WORKLOADS: &str = r#"
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: default}
  spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: default}
  spec:
    replicas: 2
    selector: {matchLabels: {app: web}}
    template:
      metadata: {labels: {app: web}}
      spec:
        containers:
        - name: main
          image: mcp-health.local/tiny:1
          command: [/usr/bin/perl, -e, 'use IO::Socket::INET; $SIG{TERM} = sub { exit };
            my $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, ReuseAddr => 1) or die;
            while (my $c = $s->accept) { print $c "HTTP/1.0 200 OK\r\n\r\n$ENV{REVISION}"; close $c }']
          env: [{name: REVISION, value: one}]
          readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
          volumeMounts: [{name: usr, mountPath: /usr}, {name: lib, mountPath: /lib}, {name: lib64, mountPath: /lib64}]
        volumes: &host
        - {name: usr, hostPath: {path: /usr}}
        - {name: lib, hostPath: {path: /lib}}
        - {name: lib64, hostPath: {path: /lib64}}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: crash, namespace: default}
  spec:
    selector: {matchLabels: {app: crash}}
    template:
      metadata: {labels: {app: crash}}
      spec:
        containers:
        - name: main
          image: mcp-health.local/tiny:1
          command: [/usr/bin/perl, -e, 'print STDERR "KeyError: DATABASE_URL\n"; exit 1']
          volumeMounts: [{name: usr, mountPath: /usr}, {name: lib, mountPath: /lib}, {name: lib64, mountPath: /lib64}]
        volumes: *host
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: oom, namespace: default}
  spec:
    selector: {matchLabels: {app: oom}}
    template:
      metadata: {labels: {app: oom}}
      spec:
        containers:
        - name: main
          image: mcp-health.local/tiny:1
          command: [/usr/bin/perl, -e, 'my @a; push @a, "x" x 1000000 while 1']
          resources: {limits: {memory: 32Mi}}
          volumeMounts: [{name: usr, mountPath: /usr}, {name: lib, mountPath: /lib}, {name: lib64, mountPath: /lib64}]
        volumes: *host
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: nonroot, namespace: default}
  spec:
    selector: {matchLabels: {app: nonroot}}
    template:
      metadata: {labels: {app: nonroot}}
      spec:
        securityContext: {runAsNonRoot: true}
        containers:
        - {name: main, image: "mcp-health.local/sleep:test", args: ["3600"], resources: {limits: {cpu: 200m}}}
"#;

#[test]
#[ignore = "needs root, and minutes the first time"]
fn a_cluster_behaves_survives_and_leaves_nothing() {
    down(NAME).unwrap();
    let cluster = Cluster::up(NAME, &Plan { node: Wanted::Real, ..Plan::default() }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sleep = Image::of_program("mcp-health.local/sleep:test", Path::new("/usr/bin/sleep")).unwrap();
    let archive = sleep.write(&folder.path().join("sleep.tar")).unwrap();
    cluster.load_image(&archive).unwrap();
    cluster.load_image(&archive).unwrap();
    cluster.apply(WORKLOADS).unwrap();
    for name in ["web", "nonroot"] {
        rolled_out(&cluster, name);
    }

    answers(&cluster, "web.default.svc.cluster.local", "one");
    cluster.kubectl_run(["set", "env", "deployment/web", "REVISION=two"]).unwrap();
    rolled_out(&cluster, "web");
    answers(&cluster, "web", "two");
    cluster.kubectl_run(["rollout", "undo", "deployment/web"]).unwrap();
    rolled_out(&cluster, "web");
    answers(&cluster, "web", "one");

    assert!(eventually(&cluster, "crash", "{..state.waiting.reason}", "CrashLoopBackOff"));
    let said = cluster.kubectl_run(["logs", "deployment/crash", "--previous"]).unwrap();
    assert_eq!(said, "KeyError: DATABASE_URL\n");
    assert!(eventually(&cluster, "oom", "{..lastState.terminated.reason}", "OOMKilled"));
    let token = cluster.kubectl_run(["create", "token", "default"]).unwrap();
    assert_eq!(token.matches('.').count(), 2);
    let node = format!("/api/v1/nodes/{NAME}-node/proxy/stats/summary");
    assert!(cluster.kubectl_run(["get", "--raw", &node]).unwrap().contains("capacityBytes"));
    let used = "jsonpath={.items[*].containers[?(@.name=='main')].usage.memory}";
    let figures = ["get", "pods.metrics.k8s.io", "--selector=app=nonroot", "-o", used];
    assert!(wait_until(Duration::from_mins(1), || {
        cluster.kubectl_run(figures).is_ok_and(|said| said.ends_with("Ki"))
    }));

    is_monitored(&cluster);

    // One part, then all of them at once: `up` brings back what is missing, and the workloads with it.
    let parts = Status::of(NAME).unwrap().parts;
    kill(parts.iter().find(|(name, _)| name == "kubelet").unwrap().1.unwrap());
    assert!(!Status::of(NAME).unwrap().is_ready());
    Cluster::up(NAME, &Plan { node: Wanted::Real, ..Plan::default() }).unwrap();
    assert!(Status::of(NAME).unwrap().is_ready());
    kill(Status::of(NAME).unwrap().node.unwrap());
    let cluster = Cluster::up(NAME, &Plan { node: Wanted::Real, ..Plan::default() }).unwrap();
    assert!(wait_until(Duration::from_mins(1), || try_ask(&cluster, "web").is_some_and(|said| said == "one")));
    assert!(wait_until(Duration::from_mins(1), || Status::of(NAME).unwrap().metrics));
    is_monitored(&cluster);

    let layout = Layout::new(NAME).unwrap();
    kill(Status::of(NAME).unwrap().node.unwrap());
    down(NAME).unwrap();
    assert_eq!(left(&layout), Vec::<String>::new());
    down(NAME).unwrap();
}

fn rolled_out(cluster: &Cluster, name: &str) {
    cluster.kubectl_run(["rollout", "status", "--timeout=90s", &format!("deployment/{name}")]).unwrap();
}

/// What the Service answers when one of its own pods asks it by name.
fn try_ask(cluster: &Cluster, host: &str) -> Option<String> {
    let program = "use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => 80, \
                   Timeout => 5) or die \"$@\"; local $/; my $t = <$s>; $t =~ s/.*\\r\\n\\r\\n//s; print $t";
    cluster.kubectl_run(["exec", "deployment/web", "--", "/usr/bin/perl", "-e", program, host]).ok()
}

/// The Service answers so. Its rules follow the pods' readiness a moment later.
fn answers(cluster: &Cluster, host: &str, expected: &str) {
    let mut said = None;
    let answered = wait_until(Duration::from_secs(30), || {
        said = try_ask(cluster, host);
        said.as_deref() == Some(expected)
    });
    assert!(answered, "{host} answers {said:?}, not {expected}");
}

/// Prometheus scrapes what has a port for it, and the kubelet for what containers use; Alertmanager takes an
/// alert and shows it.
fn is_monitored(cluster: &Cluster) {
    let coredns = r#"namespace="kube-system",pod=~"coredns-.+",container="coredns""#;
    let nonroot = r#"namespace="default",pod=~"nonroot-.+",container="main""#;
    for (query, expected) in [
        // Of just now: what was scraped last before a crash is given for five minutes.
        (format!("time() - max(timestamp(up{{{coredns}}} == 1)) < bool 15"), "1"),
        (format!("time() - max(timestamp(coredns_build_info{{{coredns}}})) < bool 15"), "1"),
        ("time() - max(timestamp(up{job=\"cadvisor\"} == 1)) < bool 15".to_owned(), "1"),
        // A limit of 200 milli-cores, in microseconds of each tenth of a second.
        (format!("max(container_spec_cpu_quota{{{nonroot}}})"), "20000"),
        (format!("group(container_cpu_cfs_periods_total{{{nonroot}}})"), "1"),
        (format!("group(container_memory_working_set_bytes{{{nonroot}}} > 0)"), "1"),
    ] {
        let mut said = None;
        let answered = wait_until(Duration::from_mins(1), || {
            said = instant(cluster, &query);
            said.as_deref() == Some(expected)
        });
        assert!(answered, "{query} is {said:?}, not {expected}");
    }

    let alert = r#"[{"labels": {"alertname": "Slow", "namespace": "default"}}]"#;
    let path = "/api/v1/namespaces/monitoring/services/alertmanager:9093/proxy/api/v2/alerts";
    let shown = || cluster.kubectl_run(["get", "--raw", path]).unwrap_or_default();
    assert!(wait_until(Duration::from_mins(1), || shown().starts_with('[')), "{}", shown());
    // From inside the cluster: the way through the API server does not say of what type the words are.
    let program = r#"use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerAddr => "alertmanager.monitoring",
        PeerPort => 9093, Timeout => 5) or die "$@"; my $n = length $ARGV[0];
        print $s "POST /api/v2/alerts HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: $n\r\n\r\n$ARGV[0]";
        local $/; print <$s>"#;
    let said =
        cluster.kubectl_run(["exec", "deployment/web", "--", "/usr/bin/perl", "-e", program, alert]).unwrap();
    assert!(said.contains(" 200 OK"), "{said}");
    assert!(shown().contains(r#""alertname":"Slow","namespace":"default""#), "{}", shown());
}

/// The value of a query that has one.
fn instant(cluster: &Cluster, query: &str) -> Option<String> {
    let query = query.bytes().fold(String::new(), |all, byte| format!("{all}%{byte:02x}"));
    let path = "/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/api/v1/query";
    let said = cluster.kubectl_run(["get", "--raw", &format!("{path}?query={query}")]).ok()?;
    let said: serde_json::Value = serde_json::from_str(&said).ok()?;
    let [one] = said["data"]["result"].as_array()?.as_slice() else { return None };
    Some(one["value"][1].as_str()?.to_owned())
}

fn eventually(cluster: &Cluster, app: &str, path: &str, expected: &str) -> bool {
    let (label, query) = (format!("--selector=app={app}"), format!("jsonpath={path}"));
    wait_until(Duration::from_mins(2), || {
        cluster.kubectl_run(["get", "pods", &label, "-o", &query]).is_ok_and(|said| said == expected)
    })
}

fn kill(pid: i32) {
    let record = PidRecord::of(pid).unwrap();
    record.kill();
    assert!(record.wait_gone(Duration::from_secs(10)));
}

/// Everything on this machine that still belongs to the cluster.
fn left(layout: &Layout) -> Vec<String> {
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let dir = layout.dir.display().to_string();
    let mut lines = output("ps", &["-e", "-o", "pid,args"]);
    lines += &output("ip", &["-o", "link"]);
    lines += &output("ip", &["route"]);
    lines += &output("iptables-save", &[]);
    lines += &fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours =
        |line: &&str| line.contains(&dir) || line.contains(&layout.id) || line.contains(&link_name(layout));
    let mut left: Vec<String> = lines.lines().filter(ours).map(str::to_owned).collect();

    let group = format!("mcp-health-{}", layout.id);
    let mut folders: Vec<PathBuf> = vec![layout.dir.clone(), layout.run.clone()];
    folders.push(Path::new("/sys/fs/cgroup").join(&group));
    for entry in fs::read_dir("/sys/fs/cgroup").unwrap() {
        folders.push(entry.unwrap().path().join(&group));
    }
    left.extend(folders.iter().filter(|folder| folder.exists()).map(|folder| folder.display().to_string()));
    left
}
