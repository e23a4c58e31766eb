//! When waiting for pods is given up: the one judgement of every rollout and recreation, whoever controls the pods.
//!
//! A pod that was started again and again is hopeless at once. Whatever else keeps pods from being ready may pass, so the
//! same ailment is suffered for a while: a volume appears, an image is pulled, a node has room again.

use std::collections::BTreeMap;

use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::object::{at, number, text};
use super::pod::{Hindrance, hindrance, pod, restarts_in_trouble};
use super::rollout::Waiting;

/// A container that failed to start this often will not heal by waiting.
const HOPELESS_RESTARTS: i64 = 5;
/// How long the same ailment may last. A pod is ready within a minute or two, and what looks after it looks every few
/// seconds; a store that moves its leaders away, or a pod that waits for its turn, does not ail.
const PATIENCE: Duration = Duration::minutes(10);

/// Something that should pass within moments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ailment {
    /// What has it: another of these is another ailment, other words for the same are not.
    pub of: String,
    /// What it is.
    pub what: String,
    /// How long more than others it may take.
    pub extra: Duration,
}

impl Ailment {
    /// One that is known by its words.
    pub fn new(what: impl Into<String>) -> Self {
        let what = what.into();
        Self { of: what.clone(), what, extra: Duration::ZERO }
    }
}

/// A pod that will not start, and why: then the others are left alone.
pub fn hopeless(pods: &[Value]) -> Option<String> {
    let broken = pods.iter().find(|value| restarts_in_trouble(value) >= HOPELESS_RESTARTS)?;
    let state = pod(broken);
    let why = state.trouble.unwrap_or("it restarts again and again");
    Some(format!("{} does not start ({why}); the others are left alone", state.name))
}

/// What ails among pods. An old one that runs is somebody else's business until its turn has come; one that does not even
/// begin may hold the others up.
pub fn ailing<'a>(
    pods: impl IntoIterator<Item = &'a Value>,
    is_new: impl Fn(&Value) -> bool,
) -> Vec<Ailment> {
    let ailment = |value: &Value| {
        let found = hindrance(value)?;
        let name = pod(value).name;
        let what = match &found {
            Hindrance::NotReady(_) if !is_new(value) => return None,
            Hindrance::NotReady(_) => format!("{name} was restarted, runs and does not become ready"),
            hindrance => format!("{name} does not start: {hindrance}"),
        };
        let of = format!("{name}/{}", text(value, &["metadata", "uid"]));
        Some(Ailment { of, what, extra: allowance(value) })
    };
    pods.into_iter().filter_map(ailment).collect()
}

/// How long a pod's own probes let it take to start.
fn allowance(value: &Value) -> Duration {
    let containers = at(value, &["spec", "containers"]).and_then(Value::as_array).into_iter().flatten();
    let seconds = |container: &Value| {
        let probe = |kind: &str, field: &str| number(container, &[kind, field]).clamp(0, 86_400);
        let tries = probe("startupProbe", "failureThreshold") * probe("startupProbe", "periodSeconds").max(1);
        tries + probe("startupProbe", "initialDelaySeconds") + probe("readinessProbe", "initialDelaySeconds")
    };
    Duration::seconds(containers.map(seconds).max().unwrap_or_default())
}

/// What ails, and since when each has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patience(BTreeMap<String, OffsetDateTime>);

impl Patience {
    /// What a look comes to, with what ails now: it is given up once something has ailed for too long.
    pub fn judge(&mut self, waiting: Waiting, ailments: &[Ailment], now: OffsetDateTime) -> Waiting {
        match (waiting, self.seen(ailments, now)) {
            (Waiting::For(..), Some(why)) => Waiting::Stuck(why),
            (waiting, _) => waiting,
        }
    }

    fn seen(&mut self, ailments: &[Ailment], now: OffsetDateTime) -> Option<String> {
        self.0.retain(|of, _| ailments.iter().any(|ailment| ailment.of == *of));
        let mut over = None;
        for ailment in ailments {
            let lasted = now - *self.0.entry(ailment.of.clone()).or_insert(now);
            if over.is_none() && lasted >= PATIENCE + ailment.extra {
                over = Some(format!("{}, for {} minutes now", ailment.what, lasted.whole_minutes()));
            }
        }
        over
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;
    use crate::k8s::pod::tests::never_begun;

    fn at(minutes: i64) -> OffsetDateTime {
        datetime!(2026-11-22 10:00 UTC) + Duration::minutes(minutes)
    }

    #[test]
    fn what_ails_for_long_is_given_up_and_what_comes_and_goes_is_not() {
        let pd = [Ailment::new("the operator cannot reach PD")];
        let other = [Ailment::new("basic-pd-2 is not ready")];
        let mut patience = Patience::default();
        assert_eq!(patience.seen(&pd, at(0)), None);
        assert_eq!(patience.seen(&pd, at(9)), None);
        assert_eq!(patience.seen(&[], at(10)), None, "it has healed");
        assert_eq!(patience.seen(&pd, at(11)), None);
        assert_eq!(patience.seen(&other, at(20)), None, "another ailment");
        let why = patience.seen(&other, at(31)).unwrap();
        assert_eq!(why, "basic-pd-2 is not ready, for 11 minutes now");
    }

    #[test]
    fn one_that_comes_and_goes_does_not_hide_another_that_stays() {
        let (a, b) = (Ailment::new("a"), Ailment::new("b"));
        let mut patience = Patience::default();
        assert_eq!(patience.seen(std::slice::from_ref(&b), at(0)), None);
        assert_eq!(patience.seen(&[a.clone(), b.clone()], at(6)), None);
        assert_eq!(patience.seen(&[a, b], at(10)).unwrap(), "b, for 10 minutes now");
    }

    #[test]
    fn pods_that_never_begin_ail_whoever_made_them() {
        for (value, why) in never_begun() {
            for new in [true, false] {
                let [ailment] = ailing([&value], |_| new).try_into().unwrap();
                assert!(ailment.what.ends_with(&format!(" does not start: {why}")), "{ailment:?}");
                let (mut patience, wait) = (Patience::default(), Waiting::For("web".into(), 0, 1));
                assert_eq!(patience.judge(wait.clone(), std::slice::from_ref(&ailment), at(0)), wait);
                let given_up = patience.judge(wait, &[ailment], at(10));
                assert!(matches!(given_up, Waiting::Stuck(said) if said.contains(why)));
            }
        }
    }

    #[test]
    fn other_words_for_the_same_are_the_same_ailment() {
        let said = |nodes: &str| {
            let [(mut value, _), ..] = never_begun();
            value["status"]["conditions"][0]["message"] = json!(nodes);
            ailing([&value], |_| true)
        };
        let mut patience = Patience::default();
        assert_eq!(patience.seen(&said("0/3 nodes are available"), at(0)), None);
        assert_eq!(patience.seen(&said("0/4 nodes are available"), at(9)), None);
        assert!(patience.seen(&said("0/3 nodes are available"), at(10)).is_some());
    }

    #[test]
    fn one_that_runs_ails_once_it_is_new_and_may_take_as_long_as_its_probes_let_it() {
        let runs = json!({"metadata": {"name": "db-0"}, "status": {"phase": "Running"},
            "spec": {"containers": [{"startupProbe": {"failureThreshold": 60, "periodSeconds": 10}}]}});
        assert_eq!(ailing([&runs], |_| false), []);
        let ailing = ailing([&runs], |_| true);
        assert_eq!(ailing[0].what, "db-0 was restarted, runs and does not become ready");
        let mut patience = Patience::default();
        assert_eq!(patience.seen(&ailing, at(0)), None);
        assert_eq!(patience.seen(&ailing, at(19)), None, "its startup probe has ten minutes of its own");
        assert!(patience.seen(&ailing, at(20)).is_some());
    }

    #[test]
    fn what_was_started_again_and_again_is_hopeless_at_once() {
        let pod = |restarts: i64, reason: &str| {
            json!({"metadata": {"name": "db-0"}, "status": {"containerStatuses":
            [{"restartCount": restarts, "state": {"waiting": {"reason": reason}}}]}})
        };
        assert_eq!(hopeless(&[pod(4, "CrashLoopBackOff")]), None);
        assert_eq!(hopeless(&[pod(9, "ContainerCreating")]), None);
        assert_eq!(
            hopeless(&[pod(0, ""), pod(5, "CrashLoopBackOff")]).unwrap(),
            "db-0 does not start (CrashLoopBackOff); the others are left alone"
        );
    }
}
