//! The log of the run of a container that ended, and of no other. The API server knows two runs, the
//! current one and the one before it; which of them ended depends on whether the kubelet has started
//! the next one yet.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod as KubernetesPod;
use kube::{Api, Client, api::LogParams};

/// How many lines of a log are asked for, and how many bytes: the last lines of the longest stack trace.
const LINES: (i64, i64) = (60, 64 * 1024);
/// A pod's status tells whole seconds, and a log's lines are read a moment after they were written.
const ROUNDED: SignedDuration = SignedDuration::from_secs(2);

/// A run that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// When it had started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub end: Timestamp,
    /// A run before it has left a log, and no run after it was seen: the log of the run before may be what
    /// the API server calls the previous one.
    pub follows_another: bool,
}

/// The log of a run, as the API server has it.
pub async fn log_of(
    client: &Client,
    (namespace, pod): (&str, &str),
    container: &str,
    run: Run,
) -> Result<String, kube::Error> {
    let api = Api::<KubernetesPod>::namespaced(client.clone(), namespace);
    let ask = async |previous: bool| {
        let params = LogParams {
            container: Some(container.to_owned()),
            previous,
            tail_lines: Some(LINES.0),
            limit_bytes: Some(LINES.1),
            timestamps: run.follows_another,
            ..LogParams::default()
        };
        api.logs(pod, &params).await
    };
    let previous = ask(true).await;
    if run.follows_another {
        let before = match previous {
            Err(kube::Error::Api(status)) if status.code == 400 => Stamped::parse(""),
            answer => Stamped::parse(&answer?),
        };
        if run.is_surely(&before) {
            return Ok(before.text);
        }
        let current = ask(false).await.map(|log| Stamped::parse(&log));
        return match current {
            Ok(log) if run.may_be(&log) => Ok(log.text),
            _ if run.may_be(&before) => Ok(before.text),
            current => current.map(|_| String::new()),
        };
    }
    // Between two runs there is no previous one yet; and once the pod is on its way out, the previous one is
    // another, which has been removed. Then the run that ended is the current: unless it was just replaced.
    let mut answer = previous;
    for previous in [false, true] {
        answer = match answer {
            Err(kube::Error::Api(status)) if status.code == 400 => ask(previous).await,
            Ok(log) if is_gone(&log) || log.trim().is_empty() => ask(previous).await,
            answer => return answer,
        };
    }
    answer
}

impl Run {
    /// Whether this is the same run as another, of the same container. Two that end within a second differ in
    /// their start: the kubelet waits before it starts the third.
    pub fn is(self, other: Self) -> bool {
        (self.started, self.end) == (other.started, other.end)
    }

    /// Whether a log that has lines is this run's, or a later one's, and not the one's before.
    fn is_surely(&self, log: &Stamped) -> bool {
        let Some(last) = log.last else { return !log.text.is_empty() };
        self.started.is_some_and(|started| last.duration_since(started) >= ROUNDED)
    }

    /// Whether a log that has lines may be this run's, by the time of the last.
    fn may_be(&self, log: &Stamped) -> bool {
        log.last.is_some_and(|last| {
            self.started.is_none_or(|started| last >= started) && last.duration_since(self.end) <= ROUNDED
        })
    }
}

/// A log without the times before its lines.
struct Stamped {
    text: String,
    /// The time of its last line; `None` where there is no line, or a kubelet that writes no times.
    last: Option<Timestamp>,
}

impl Stamped {
    fn parse(log: &str) -> Self {
        let lines = log.lines().filter_map(|line| line.split_once(' ').or(Some((line, ""))));
        let lines: Vec<(Timestamp, &str)> =
            lines.filter_map(|(at, text)| Some((at.parse().ok()?, text))).collect();
        let last = lines.last().map(|(at, _)| *at);
        let text = match last {
            Some(_) => lines.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("\n"),
            None if is_gone(log) => String::new(),
            None => log.trim().to_owned(),
        };
        Self { text, last }
    }
}

/// Whether this is what the kubelet answers in a log's place, with status 200, where the run was removed.
pub fn is_gone(log: &str) -> bool {
    let answers = ["unable to retrieve container logs for ", "failed to try resolving symlinks in path "];
    answers.iter().any(|answer| log.starts_with(answer))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::{Request, Response, StatusCode};
    use kube::client::Body;

    use super::*;

    const EARLIER: &str = "2026-01-01T00:00:10.150Z first fault\n";
    const ENDED: &str = "2026-01-01T00:00:10.600Z no database\n";
    const LONG: &str = "2026-01-01T00:00:10.600Z starting\n2026-01-01T00:10:10.6Z no database\n";
    const LATER: &str = "2026-01-01T00:00:21.300Z starting\n";
    const GONE: &str = "unable to retrieve container logs for containerd://1b5877bbe035";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// What is told of a run, where the API server has these logs; `None` is its status 400.
    async fn told(run: Run, previous: Option<&'static str>, current: Option<&'static str>) -> Option<String> {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let log =
                if request.uri().query().unwrap().contains("previous=true") { previous } else { current };
            let stamped = request.uri().query().unwrap().contains("timestamps=true");
            let plain =
                |log: &str| log.lines().map(|line| line.split_once(' ').unwrap().1).collect::<String>();
            let log = log.map(|log| if stamped || log == GONE { log.to_owned() } else { plain(log) });
            let status = if log.is_some() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
            let refused = r#"{"kind": "Status", "status": "Failure", "message": "no such run", "code": 400}"#;
            let body = Body::from(log.unwrap_or_else(|| refused.to_owned()).into_bytes());
            Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(body).unwrap())
        });
        let client = Client::new(service, "default");
        log_of(&client, ("mcp", "a"), "server", run).await.ok().map(|log| log.trim().to_owned())
    }

    /// A run that started and ended in the second in which the one before had ended.
    fn short() -> Run {
        let second = at("2026-01-01T00:00:10Z");
        Run { started: Some(second), end: second, follows_another: true }
    }

    #[tokio::test]
    async fn of_two_runs_that_ended_within_a_second_the_later_is_told_while_the_kubelet_has_not_moved_on() {
        assert_eq!(told(short(), Some(EARLIER), Some(ENDED)).await.unwrap(), "no database");
        assert_eq!(told(short(), Some(GONE), Some(ENDED)).await.unwrap(), "no database");
        assert_eq!(told(short(), None, Some(ENDED)).await.unwrap(), "no database");
    }

    #[tokio::test]
    async fn a_run_that_the_kubelet_has_replaced_meanwhile_is_told_and_not_the_one_after_it() {
        assert_eq!(told(short(), Some(ENDED), Some(LATER)).await.unwrap(), "no database");
        assert_eq!(told(short(), Some(ENDED), Some("")).await.unwrap(), "no database");
        let long = Run { end: at("2026-01-01T00:10:10Z"), ..short() };
        let after = "2026-01-01T00:10:10.800Z starting\n";
        assert_eq!(told(long, Some(LONG), Some(after)).await.unwrap(), "starting\nno database");
    }

    #[tokio::test]
    async fn words_of_another_run_are_not_told_where_the_run_left_none() {
        let later =
            Run { started: Some(at("2026-01-01T00:05:00Z")), end: at("2026-01-01T00:05:01Z"), ..short() };
        assert_eq!(told(later, Some(EARLIER), Some("")).await.unwrap(), "");
        assert_eq!(told(later, Some(EARLIER), None).await, None);
    }

    #[tokio::test]
    async fn a_run_before_which_there_was_none_is_the_previous_one_or_the_current() {
        let first = Run { follows_another: false, ..short() };
        assert_eq!(told(first, Some(ENDED), Some(LATER)).await.unwrap(), "no database");
        assert_eq!(told(first, None, Some(ENDED)).await.unwrap(), "no database");
        assert_eq!(told(first, Some(GONE), Some(ENDED)).await.unwrap(), "no database");
    }

    #[test]
    fn what_the_kubelet_says_of_a_removed_run_is_not_taken_for_its_log() {
        assert!(is_gone(GONE));
        assert!(is_gone("failed to try resolving symlinks in path \"/var/log/pods/x/server/0.log\": lstat"));
        assert!(!is_gone("KeyError: 'DATABASE_URL'"));
    }
}
