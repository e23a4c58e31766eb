//! What a process may have loaded, from what this run wrote and restarted. Pure, and without any clock.
//!
//! A pod with restart marker *m* was made after *m* was written, so it mounted what lay there then or something written
//! later. So was a pod whose namesake this run had deleted before. Any other pod may hold whatever lay there since before
//! the run. A container that restarts in place reads what its pod has mounted, which lags behind the Secret but never goes
//! back.

use serde_json::Value;

use crate::gate::{Past, Place};

/// What may be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MayHold {
    /// Distinct texts, oldest first, never empty unless nothing is known at all.
    pub texts: Vec<String>,
    /// The pod was made by a restart of this run, so what it holds follows from the record.
    pub restarted: bool,
    /// This run wrote the key at all.
    pub written: bool,
}

/// What a process may hold of one key of its Secret.
///
/// `restart` is the place of the marker that its pod carries as `marker`; `current` is what lies in the Secret now.
pub fn may_hold(
    history: &[Past],
    secret: &Place,
    key: &str,
    restart: &Place,
    marker: &str,
    current: &str,
) -> MayHold {
    let made = |place: &Place, known: &str| !marker.is_empty() && known == marker && place == restart;
    may_hold_made_by(history, secret, key, &made, current)
}

/// The same where `made` tells which restart made the process.
pub fn may_hold_made_by(
    history: &[Past],
    secret: &Place,
    key: &str,
    made: &dyn Fn(&Place, &str) -> bool,
    current: &str,
) -> MayHold {
    let restarted_at = history
        .iter()
        .rposition(|past| matches!(past, Past::Restarted { marker, place } if made(place, marker)));
    let mut texts = Vec::new();
    let mut at_restart: Option<String> = None;
    let mut written = false;
    for (index, past) in history.iter().enumerate() {
        let Past::Wrote { place, summary } = past else { continue };
        if place != secret {
            continue;
        }
        let Some(after) = text(summary, "after", key) else { continue };
        if !written {
            written = true;
            let before = text(summary, "before", key);
            at_restart.clone_from(&before);
            texts.extend(before);
        }
        if restarted_at.is_some_and(|restarted| index < restarted) {
            // Superseded before the pod was made.
            texts.clear();
            at_restart = Some(after.clone());
        }
        texts.push(after);
    }
    if let (Some(_), Some(start)) = (restarted_at, at_restart) {
        texts.insert(0, start);
    }
    if !current.is_empty() {
        texts.push(current.to_owned());
    }
    MayHold { texts: distinct(texts), restarted: restarted_at.is_some(), written }
}

/// What a process that re-reads its leaf may present soon, given what it presented just now: that, or anything that was
/// put into its Secret after it. `is_served` tells whether a text is what was served.
pub fn may_present(
    history: &[Past],
    secret: &Place,
    key: &str,
    is_served: &dyn Fn(&str) -> bool,
    current: &str,
) -> Vec<String> {
    let mut timeline: Vec<String> = Vec::new();
    for past in history {
        let Past::Wrote { place, summary } = past else { continue };
        if place != secret {
            continue;
        }
        let Some(after) = text(summary, "after", key) else { continue };
        if timeline.is_empty() {
            timeline.extend(text(summary, "before", key));
        }
        timeline.push(after);
    }
    if !current.is_empty() {
        timeline.push(current.to_owned());
    }
    // What lies there now may be what was served long before: going back.
    let later = timeline.iter().position(|text| is_served(text)).map_or(0, |found| found + 1);
    distinct(
        timeline.split_off(later.min(timeline.len())).into_iter().filter(|text| !is_served(text)).collect(),
    )
}

fn text(summary: &Value, side: &str, key: &str) -> Option<String> {
    summary.get(side)?.get(key)?.as_str().map(str::to_owned)
}

fn distinct(texts: Vec<String>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for text in texts {
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret() -> Place {
        Place("k8s:v1/Secret/tidb/basic-pd-cluster-secret".into())
    }

    fn restart() -> Place {
        Place("k8s:pingcap.com/v1alpha1/TidbCluster/tidb/basic#spec.pd.annotations".into())
    }

    fn wrote(before: &str, after: &str) -> Past {
        Past::Wrote {
            place: secret(),
            summary: json!({"before": {"ca.crt": before}, "after": {"ca.crt": after}}),
        }
    }

    fn restarted(marker: &str) -> Past {
        Past::Restarted { marker: marker.into(), place: restart() }
    }

    fn holds(history: &[Past], marker: &str, current: &str) -> Vec<String> {
        may_hold(history, &secret(), "ca.crt", &restart(), marker, current).texts
    }

    #[test]
    fn before_any_write_a_process_holds_what_lies_there() {
        assert_eq!(holds(&[], "", "old"), ["old"]);
        assert_eq!(holds(&[restarted("m1")], "m1", "old"), ["old"]);
    }

    #[test]
    fn between_write_and_restart_it_may_hold_either() {
        assert_eq!(holds(&[wrote("old", "both")], "", "both"), ["old", "both"]);
        assert_eq!(holds(&[wrote("old", "both")], "a-marker-of-another-run", "both"), ["old", "both"]);
    }

    #[test]
    fn a_pod_that_carries_our_marker_holds_what_lay_there_when_it_was_written() {
        let history = [wrote("old", "both"), restarted("m1")];
        assert_eq!(holds(&history, "m1", "both"), ["both"]);
        // Not yet rolled: the marker of the phase is written, this pod has none of ours.
        assert_eq!(holds(&history, "", "both"), ["old", "both"]);
    }

    #[test]
    fn a_later_write_may_have_been_loaded_by_a_restart_of_its_own() {
        let history = [wrote("old", "both"), restarted("m1"), wrote("both", "new")];
        assert_eq!(holds(&history, "m1", "new"), ["both", "new"]);
        let history = [wrote("old", "both"), restarted("m1"), wrote("both", "new"), restarted("m2")];
        assert_eq!(holds(&history, "m2", "new"), ["new"]);
        assert_eq!(holds(&history, "m1", "new"), ["both", "new"]);
        assert_eq!(holds(&history, "", "new"), ["old", "both", "new"]);
    }

    #[test]
    fn going_back_is_one_more_write_and_one_more_restart() {
        let history = [wrote("old", "both"), restarted("m1"), wrote("both", "old"), restarted("m1-back")];
        assert_eq!(holds(&history, "m1-back", "old"), ["old"]);
        assert_eq!(holds(&history, "m1", "old"), ["both", "old"]);
    }

    #[test]
    fn a_restart_before_the_first_write_says_what_lay_there_before_it() {
        let history = [restarted("m0"), wrote("old", "both")];
        assert_eq!(holds(&history, "m0", "both"), ["old", "both"]);
        let found = may_hold(&history, &secret(), "ca.crt", &restart(), "m0", "both");
        assert!(found.restarted && found.written);
    }

    #[test]
    fn somebody_elses_write_after_ours_counts_too() {
        let history = [wrote("old", "both"), restarted("m1")];
        assert_eq!(holds(&history, "m1", "foreign"), ["both", "foreign"]);
    }

    #[test]
    fn writes_and_restarts_of_others_do_not_count() {
        let other = Past::Wrote {
            place: Place("k8s:v1/Secret/tidb/basic-tikv-cluster-secret".into()),
            summary: json!({"before": {"ca.crt": "x"}, "after": {"ca.crt": "y"}}),
        };
        let leaf_only = Past::Wrote {
            place: secret(),
            summary: json!({"before": {"tls.crt": "a"}, "after": {"tls.crt": "b"}}),
        };
        let elsewhere = Past::Restarted { marker: "m1".into(), place: Place("k8s:elsewhere".into()) };
        let found = may_hold(&[other, leaf_only, elsewhere], &secret(), "ca.crt", &restart(), "m1", "old");
        assert_eq!(found, MayHold { texts: vec!["old".into()], restarted: false, written: false });
    }

    #[test]
    fn a_leaf_only_moves_on() {
        let leaf = |before: &str, after: &str| Past::Wrote {
            place: secret(),
            summary: json!({"before": {"tls.crt": before}, "after": {"tls.crt": after}}),
        };
        let history = [leaf("l0", "l1"), leaf("l1", "l2")];
        let present =
            |served: &str| may_present(&history, &secret(), "tls.crt", &|text| text == served, "l2");
        assert_eq!(present("l0"), ["l1", "l2"]);
        assert_eq!(present("l1"), ["l2"]);
        assert!(present("l2").is_empty());
        // Something that this run knows nothing of is served: all of its leaves may follow.
        assert_eq!(present("foreign"), ["l0", "l1", "l2"]);
        assert!(may_present(&[], &secret(), "tls.crt", &|text| text == "l0", "l0").is_empty());
        // Going back: what was served before the rotation may be superseded by what the rotation put there.
        let history = [leaf("l0", "l1"), leaf("l1", "l0")];
        assert_eq!(may_present(&history, &secret(), "tls.crt", &|text| text == "l0", "l0"), ["l1"]);
    }
}
