//! How a run stands when the engine returns: what differs from before, and what to type next.

use std::collections::BTreeMap;

use serde_json::Value;
use stdlib::gate::EffectClass;

use super::ledger::Made;
use crate::events::{ChangedPlace, EndState, Next};

/// Places that differ from what they were before the run, in order of their first change. `standing` are the effects
/// that were not put back, oldest first.
pub(crate) fn changed(standing: &[Made]) -> Vec<ChangedPlace> {
    let mut order: Vec<ChangedPlace> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for effect in standing.iter().filter(|effect| effect.class != EffectClass::Compensable) {
        let half = |which: &str| effect.summary.get(which).cloned().unwrap_or_default();
        if let Some(place) = known.get(&effect.place.0).and_then(|index| order.get_mut(*index)) {
            place.after.clone_from(&effect.after);
            overlay(&mut place.was, half("before"), false);
            overlay(&mut place.is, half("after"), true);
            continue;
        }
        known.insert(effect.place.0.clone(), order.len());
        order.push(ChangedPlace {
            place: effect.place.0.clone(),
            before: effect.before.clone(),
            after: effect.after.clone(),
            was: half("before"),
            is: half("after"),
        });
    }
    order.retain(|place| place.before != place.after);
    order
}

/// Adds the fields of a later effect on the same place, which tells only what it changed.
fn overlay(known: &mut Value, later: Value, replace: bool) {
    match (known, later) {
        (Value::Object(known), Value::Object(later)) => {
            for (field, value) in later {
                if replace || !known.contains_key(&field) {
                    known.insert(field, value);
                }
            }
        }
        (known, later) if replace => *known = later,
        _ => {}
    }
}

/// How a run leaves its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing was ever changed there.
    Untouched,
    /// Whatever was changed is as it was before.
    Touched,
    /// Places differ from before.
    Mixed,
}

/// What to type next.
pub(crate) fn next(program: &str, run: &str, state: EndState, way_back: bool, left: Left) -> Vec<Next> {
    let mixed = left == Left::Mixed;
    let mut list: Vec<(String, &str)> = Vec::new();
    let resume = (format!("{program} resume {run}"), "go on from where it stands");
    let rollback = (format!("{program} rollback {run}"), "go back to how it was");
    match state {
        EndState::Done => {
            list.push((format!("{program} audit verify {run}"), "check the record"));
            if way_back && mixed {
                list.push(rollback);
            }
        }
        EndState::RolledBack => list.push((format!("{program} audit show {run}"), "read what happened")),
        EndState::Stuck => {
            list.push((format!("{program} rollback {run}"), "go on going back, once the repair is made"));
            list.push((format!("{program} abort {run} --leave-mixed"), "give it up as it stands"));
        }
        EndState::Stopped | EndState::Interrupted | EndState::Halted | EndState::Refused => {
            list.push(resume);
            if left == Left::Untouched {
                list.push((format!("{program} abort {run}"), "give it up: nothing was changed"));
            } else if way_back {
                list.push(rollback);
            }
            list.push((format!("{program} status {run}"), "see where it stands"));
        }
        EndState::Aborted => {
            list.push(resume);
            if way_back {
                list.push(rollback);
            }
            if mixed {
                list.push((
                    format!("{program} abort {run} --leave-mixed"),
                    "clear the mark on the target too",
                ));
            }
        }
        EndState::Killed => {}
    }
    list.into_iter().map(|(command, does)| Next { command, does: does.into() }).collect()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use serde_json::json;
    use stdlib::gate::Place;

    use super::*;

    fn made(place: &str, before: &str, after: &str) -> Made {
        Made {
            seq: 0,
            phase: "p".into(),
            key: "p/change/x".into(),
            primitive: "t::set".into(),
            place: Place(place.into()),
            before: before.into(),
            after: after.into(),
            class: EffectClass::Restorable,
            backup: None,
            summary: json!({"before": {"v": before}, "after": {"v": after}}),
        }
    }

    #[test]
    fn a_place_changed_twice_is_told_once_from_first_to_last() {
        let places = changed(&[made("a", "1", "2"), made("b", "1", "2"), made("a", "2", "3")]);
        assert_eq!(places.len(), 2);
        assert_eq!((places[0].before.as_str(), places[0].after.as_str()), ("1", "3"));
        assert_eq!((&places[0].was, &places[0].is), (&json!({"v": "1"}), &json!({"v": "3"})));
    }

    #[test]
    fn two_changes_of_different_fields_of_one_place_are_told_together() {
        let mut first = made("a", "1", "2");
        first.summary = json!({"before": {"ca.crt": "old"}, "after": {"ca.crt": "both"}});
        let mut second = made("a", "2", "3");
        second.summary = json!({"before": {"tls.crt": "x"}, "after": {"tls.crt": "y"}});
        let places = changed(&[first, second]);
        assert_eq!(places[0].was, json!({"ca.crt": "old", "tls.crt": "x"}));
        assert_eq!(places[0].is, json!({"ca.crt": "both", "tls.crt": "y"}));
    }

    #[test]
    fn a_run_that_changed_nothing_is_given_up_and_not_taken_back() {
        let typed = |left| -> String {
            let next = next("rollover", "r1", EndState::Stopped, true, left);
            next.iter().map(|next| next.command.as_str()).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(typed(Left::Untouched), "rollover resume r1; rollover abort r1; rollover status r1");
        for left in [Left::Touched, Left::Mixed] {
            assert_eq!(typed(left), "rollover resume r1; rollover rollback r1; rollover status r1");
        }
    }

    #[test]
    fn a_place_that_came_round_again_is_not_told() {
        assert!(changed(&[made("a", "1", "2"), made("a", "2", "1")]).is_empty());
    }
}
