//! What the API server, the scheduler, the kubelet and the container runtime say in their own words, where Kubernetes has
//! no field for it. The only place that reads those messages; everything else uses what is concluded here.

use mcp_health_api::Cause;

/// Why the API server creates no pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A ResourceQuota is used up.
    Quota,
    /// PodSecurity, an admission webhook or policy, a LimitRange, an invalid template, a missing ServiceAccount.
    Denied,
    /// A webhook that must be asked does not answer: nothing was decided.
    WebhookUnreachable,
}

impl Refusal {
    /// The cause of an incident.
    pub const fn cause(self) -> Cause {
        match self {
            Self::Quota => Cause::QuotaExceeded,
            Self::Denied | Self::WebhookUnreachable => Cause::AdmissionRefused,
        }
    }
}

/// What a `FailedCreate` message of a ReplicaSet means.
pub fn of_create(message: &str) -> Refusal {
    if message.contains("exceeded quota") {
        Refusal::Quota
    } else if message.contains("failed calling webhook") || message.contains("failed to call webhook") {
        Refusal::WebhookUnreachable
    } else {
        Refusal::Denied
    }
}

/// What it means that the API server did not carry out a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nothing was decided, or it is not known: no answer, not now (429), or a fault of its own (5xx).
    Undecided,
    /// The operator lacks the right.
    NoRight,
    /// An admission policy or webhook denies it.
    Denied,
    /// There is no such object.
    Gone,
    /// It contradicts what is there, or is not valid.
    Invalid,
}

/// What an answer means to a request with this verb (`patch`, `create`), by its code and its message.
pub fn of_request(code: u16, message: &str, verb: &str) -> Refused {
    match code {
        // Authorization names the verb: `User "x" cannot patch resource "deployments"`. Admission does not.
        403 if message.contains(&format!("cannot {verb}")) => Refused::NoRight,
        403 => Refused::Denied,
        404 => Refused::Gone,
        429 => Refused::Undecided,
        400..500 => Refused::Invalid,
        _ => Refused::Undecided,
    }
}

/// Whether the scheduler's message names what no further node and no waiting can bring: an object that is missing.
pub fn is_definitive_for_scheduling(message: &str) -> bool {
    let message = message.to_lowercase();
    let missing = ["not found", "being deleted", "does not exist"];
    message.contains("persistentvolumeclaim") && missing.iter().any(|words| message.contains(words))
}

/// Whether a failed image pull may succeed when it is repeated: the registry or the way to it failed, and not the image.
pub fn is_transient_pull(message: &str) -> bool {
    const DEFINITIVE: &[&str] = &[
        "not found",
        "manifest unknown",
        "does not exist",
        "denied",
        "unauthorized",
        "authorization failed",
    ];
    const TRANSIENT: &[&str] = &[
        "timeout",
        "timed out",
        "deadline exceeded",
        "connection refused",
        "connection reset",
        "no such host",
        "temporary failure",
        "server misbehaving",
        "too many requests",
        "toomanyrequests",
        "qps exceeded",
        "unexpected eof",
        "network is unreachable",
        "no route to host",
        "bad gateway",
        "service unavailable",
        "internal server error",
    ];
    let message = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    says(TRANSIENT) && !says(DEFINITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_did_not_carry_out_is_told_apart_by_code_and_verb() {
        let no_right =
            "deployments.apps \"a\" is forbidden: User \"x\" cannot patch resource \"deployments\"";
        for (code, message, refused) in [
            (403, no_right, Refused::NoRight),
            (403, "admission webhook \"policy\" denied the request: not on Fridays", Refused::Denied),
            (403, "exceeded quota: count/jobs.batch=1", Refused::Denied),
            (404, "not found", Refused::Gone),
            (409, "the object has been modified", Refused::Invalid),
            (422, "the server rejected our request", Refused::Invalid),
            (429, "too many requests", Refused::Undecided),
            (500, "etcd is down", Refused::Undecided),
            (503, "", Refused::Undecided),
        ] {
            assert_eq!(of_request(code, message, "patch"), refused, "{code} {message}");
        }
        assert_eq!(of_request(403, no_right, "create"), Refused::Denied, "another verb than was asked for");
    }

    #[test]
    fn messages_of_the_api_server_are_understood() {
        let rows = [
            (
                "pods \"s-1-x\" is forbidden: exceeded quota: mcp, requested: pods=1, used: pods=3, limited: pods=3",
                Refusal::Quota,
            ),
            (
                "pods \"s-1-x\" is forbidden: violates PodSecurity \"restricted:latest\": privileged (container \
                 \"server\" must not set securityContext.privileged=true)",
                Refusal::Denied,
            ),
            (
                "admission webhook \"validate.kyverno.svc-fail\" denied the request: image must be signed",
                Refusal::Denied,
            ),
            (
                "pods \"s-1-x\" is forbidden: error looking up service account mcp/s: serviceaccount \"s\" not found",
                Refusal::Denied,
            ),
            (
                "pods \"s-1-x\" is forbidden: maximum memory usage per Container is 128Mi, but limit is 1Gi",
                Refusal::Denied,
            ),
            (
                "Pod \"s-1-x\" is invalid: spec.containers[0].resources.requests: Invalid value: \"2\"",
                Refusal::Denied,
            ),
            (
                "Internal error occurred: failed calling webhook \"inject.istio.io\": connection refused",
                Refusal::WebhookUnreachable,
            ),
        ];
        for (message, refusal) in rows {
            assert_eq!(of_create(message), refusal, "{message}");
        }
    }

    #[test]
    fn only_a_missing_object_is_definitive_for_the_scheduler() {
        let rows = [
            ("0/3 nodes are available: 3 Insufficient cpu.", false),
            ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", false),
            ("0/3 nodes are available: persistentvolumeclaim \"data\" not found.", true),
            ("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.", false),
            ("0/1 nodes are available: persistentvolumeclaim \"data\" is being deleted.", true),
        ];
        for (message, definitive) in rows {
            assert_eq!(is_definitive_for_scheduling(message), definitive, "{message}");
        }
    }

    #[test]
    fn a_pull_that_may_succeed_later_is_told_from_one_that_cannot() {
        let rows = [
            (
                "failed to pull and unpack image \"r.example/a:1\": failed to resolve reference: r.example/a:1: not found",
                false,
            ),
            (
                "pull access denied, repository does not exist or may require authorization: server message: \
                 insufficient_scope: authorization failed",
                false,
            ),
            ("Back-off pulling image \"registry.example/mcp-server:nope\"", false),
            (
                "failed to do request: Head \"https://r.example/v2/a/manifests/1\": dial tcp 10.0.0.1:443: i/o timeout",
                true,
            ),
            ("unexpected status from HEAD request: 429 Too Many Requests", true),
            ("Back-off pulling image \"r.example/a:1\": ErrImagePull: pull QPS exceeded", true),
            ("dial tcp: lookup r.example: no such host", true),
        ];
        for (message, transient) in rows {
            assert_eq!(is_transient_pull(message), transient, "{message}");
        }
    }
}
