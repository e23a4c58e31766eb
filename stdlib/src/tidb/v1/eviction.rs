//! TiKV's leaders before a pod's restart: how many have still to move away, since when, and how long they are waited for.

use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::cfssl::duration::parse_go;
use crate::duration;
use crate::error::PrimError;
use crate::k8s::object::{at, number, text};

/// How long the operator waits for them where the TidbCluster does not say it.
const USUAL: Duration = Duration::minutes(1500);
/// The pod's annotation with which the operator keeps since when it waits.
const BEGUN: &str = "evictLeaderBeginTime";

/// How long the operator waits for the leaders of a store before it restarts its pod all the same.
pub fn timeout(cluster: &Value) -> Duration {
    let written = text(cluster, &["spec", "tikv", "evictLeaderTimeout"]);
    parse_go(written).ok().and_then(|span| Duration::try_from(span).ok()).unwrap_or(USUAL)
}

/// `tidb::slow_leaders(components, deadline)`: what to say where the restart of a component may take less time than the
/// operator waits for leaders.
pub(in crate::tidb) fn slow(args: &[Value]) -> Result<Value, PrimError> {
    let Some(Value::Array(components)) = args.first() else {
        return Err(PrimError::argument("`components` is no list"));
    };
    let written = args.get(1).and_then(Value::as_str).unwrap_or_default();
    let deadline = duration::parse(written).map_err(PrimError::argument)?;
    let told = components.iter().filter_map(|part| {
        let seconds = part.get("leaders_within")?.as_u64()?;
        (std::time::Duration::from_secs(seconds) > deadline).then(|| {
            let span = words(Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX)));
            format!(
                "{}: the operator lets the leaders of each pod take {span} to move away (`spec.tikv.evictLeaderTimeout`), its restart may take {written} in all: where they are slow the step ends at its deadline, and `rollover resume` waits on; or give `--set restart_deadline=…` more",
                text(part, &["name"])
            )
        })
    });
    Ok(told.map(Value::from).collect())
}

/// How long leaders may take, in seconds, as facts have it; nothing of a component that has none.
pub(in crate::tidb) fn of_part(cluster: &Value, component: &str) -> Option<i64> {
    (component == "tikv").then(|| timeout(cluster).whole_seconds())
}

/// A pod whose leaders move away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction<'a> {
    pod: &'a str,
    leaders: i64,
    since: Option<OffsetDateTime>,
    at_most: Duration,
}

impl<'a> Eviction<'a> {
    /// That of a pod, as long as leaders are on its store.
    pub fn of(cluster: &'a Value, pod: &'a Value) -> Option<Self> {
        let name = text(pod, &["metadata", "name"]);
        let annotated = text(pod, &["metadata", "annotations", BEGUN]);
        let asked = at(cluster, &["status", "tikv", "evictLeader", name]);
        if annotated.is_empty() && asked.is_none() {
            return None;
        }
        let begun = [annotated, asked.map_or("", |asked| text(asked, &["beginTime"]))];
        let stores = at(cluster, &["status", "tikv", "stores"])?.as_object()?;
        let store = stores.values().find(|store| text(store, &["podName"]) == name)?;
        let leaders = Some(number(store, &["leaderCount"])).filter(|count| *count > 0)?;
        let since = begun.iter().find_map(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
        Some(Self { pod: name, leaders, since, at_most: timeout(cluster) })
    }

    /// It, for people.
    pub fn told(&self, now: OffsetDateTime) -> String {
        let Self { pod, leaders, at_most, .. } = self;
        let all = words(*at_most);
        let moving = format!("{pod}: {leaders} leaders have to move away");
        let Some(since) = self.since else {
            return format!("{moving}; the operator waits at most {all} for them");
        };
        let begun = since.format(&Rfc3339).unwrap_or_default();
        let (lasted, left) = (now - since, since + *at_most - now);
        if left.is_positive() {
            format!("{moving}, since {begun} ({} now), at most {all} ({} left)", words(lasted), words(left))
        } else {
            format!("{moving}, since {begun}; the {all} that the operator waits are over")
        }
    }
}

/// A span in hours and minutes; in seconds where it is short.
pub fn words(span: Duration) -> String {
    let seconds = span.whole_seconds().max(0);
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m"),
        (hours, 0) => format!("{hours}h"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    fn cluster(timeout: Value) -> Value {
        json!({"spec": {"tikv": {"evictLeaderTimeout": timeout}},
               "status": {"tikv": {"stores": {"1": {"podName": "basic-tikv-2", "leaderCount": 40}}}}})
    }

    fn pod(annotations: Value) -> Value {
        json!({"metadata": {"name": "basic-tikv-2", "annotations": annotations}})
    }

    fn told(cluster: &Value, pod: &Value) -> String {
        Eviction::of(cluster, pod).unwrap().told(datetime!(2026-11-22 10:12 UTC))
    }

    #[test]
    fn leaders_that_move_are_told_with_since_when_and_at_most_how_long() {
        let begun = pod(json!({BEGUN: "2026-11-22T10:00:00Z"}));
        assert_eq!(
            told(&cluster(json!(null)), &begun),
            "basic-tikv-2: 40 leaders have to move away, since 2026-11-22T10:00:00Z (12m now), at most 25h (24h48m left)"
        );
        assert_eq!(
            told(&cluster(json!("10m")), &begun),
            "basic-tikv-2: 40 leaders have to move away, since 2026-11-22T10:00:00Z; the 10m that the operator waits are over"
        );
    }

    #[test]
    fn the_status_tells_of_an_eviction_too_and_one_that_is_over_is_none() {
        let mut cluster = cluster(json!("20m"));
        assert_eq!(Eviction::of(&cluster, &pod(json!({}))), None);
        cluster["status"]["tikv"]["evictLeader"] =
            json!({"basic-tikv-2": {"beginTime": "2026-11-22T10:11:30Z"}});
        let told = told(&cluster, &pod(json!({})));
        assert!(told.ends_with("(30s now), at most 20m (19m left)"), "{told}");
        cluster["status"]["tikv"]["stores"]["1"]["leaderCount"] = json!(0);
        assert_eq!(Eviction::of(&cluster, &pod(json!({BEGUN: "2026-11-22T10:00:00Z"}))), None);
    }

    #[test]
    fn a_deadline_that_leaders_may_outlast_is_told() {
        let tikv = json!({"name": "basic-tikv", "leaders_within": 90_000});
        let parts = json!([{"name": "basic-pd", "leaders_within": null}, tikv]);
        let told = slow(&[parts.clone(), json!("45m")]).unwrap();
        let [told] = told.as_array().unwrap().as_slice() else { panic!("{told}") };
        assert!(
            told.as_str()
                .unwrap()
                .starts_with("basic-tikv: the operator lets the leaders of each pod take 25h")
        );
        assert_eq!(slow(&[parts, json!("26h")]).unwrap(), json!([]));
        assert_eq!(of_part(&cluster(json!("10m")), "tikv"), Some(600));
        assert_eq!(of_part(&cluster(json!("10m")), "pd"), None);
    }

    #[test]
    fn what_is_no_duration_is_as_if_it_were_not_there() {
        assert_eq!(timeout(&cluster(json!("1h30m"))), Duration::minutes(90));
        assert_eq!(timeout(&cluster(json!("soon"))), USUAL);
        assert_eq!(timeout(&json!({})), USUAL);
    }
}
