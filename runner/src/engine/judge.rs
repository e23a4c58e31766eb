//! The rule of the gate as a pure decision: law 2 of the design.
//!
//! A primitive says what is there now and what it would write. The record says what this step announced before, and
//! what the run as a whole left there last. From these follows one of four answers, and no other input is asked.

use stdlib::gate::EffectClass;

/// An effect on record at the place in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Digest before.
    pub before: String,
    /// Digest after.
    pub after: String,
    /// Its class.
    pub class: EffectClass,
}

/// What the gate does with an announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not on record yet: seal the copy, record it, apply.
    Announce,
    /// On record, not yet in the world: apply.
    Apply,
    /// On record and in the world.
    AlreadyDone,
    /// The world has a digest that the record does not know: one of these was expected.
    Conflict(Vec<String>),
}

/// `own`: effects of this step in this direction at this place, oldest first. `last`: the latest effect of any other
/// step of the run there, if it still stands (not restored).
pub(crate) fn judge(
    now: &str,
    after: &str,
    class: EffectClass,
    own: &[Seen],
    last: Option<&Seen>,
) -> Verdict {
    if let Some(same) = own.iter().rev().find(|seen| seen.after == after) {
        return if now == same.after {
            Verdict::AlreadyDone
        } else if now == same.before {
            Verdict::Apply
        } else if class == EffectClass::Compensable {
            // A restart marker of somebody else came in between: nothing is lost by writing ours over it.
            Verdict::Announce
        } else {
            Verdict::Conflict(vec![same.before.clone(), same.after.clone()])
        };
    }
    // Another change of the same place by the same step: it continues from the earlier one, or from what was there if
    // the earlier one never reached the world.
    let previous = own.last().or(last);
    match previous {
        // A compensable place (a restart marker) is written by others too, and nothing is ever put back there.
        Some(previous) if class == EffectClass::Restorable && previous.class == EffectClass::Restorable => {
            if now == previous.after || (!own.is_empty() && now == previous.before) {
                Verdict::Announce
            } else if now == after {
                // Somebody has done by hand what this step is for; nothing is left to do or to undo.
                Verdict::AlreadyDone
            } else {
                Verdict::Conflict(vec![previous.after.clone(), after.to_owned()])
            }
        }
        _ if now == after => Verdict::AlreadyDone,
        _ => Verdict::Announce,
    }
}

/// The rule for putting an effect back: only where the world has what the step left there, or what the way back itself has
/// announced there since. `from` and `to` are the recorded effect's after and before; `after` is what will be there, most
/// often `to`; `own` are the effects of this step on the way back at this place.
pub(crate) fn judge_restore(now: &str, after: &str, (from, to): (&str, &str), own: &[Seen]) -> Verdict {
    if now == to {
        Verdict::AlreadyDone
    } else if now == from || own.iter().any(|seen| seen.after == now) {
        let announced = own.iter().any(|seen| seen.before == now && seen.after == after);
        if announced { Verdict::Apply } else { Verdict::Announce }
    } else {
        Verdict::Conflict(vec![from.to_owned(), to.to_owned()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(before: &str, after: &str) -> Seen {
        Seen { before: before.into(), after: after.into(), class: EffectClass::Restorable }
    }

    const R: EffectClass = EffectClass::Restorable;

    #[test]
    fn a_new_change_is_announced() {
        assert_eq!(judge("a", "b", R, &[], None), Verdict::Announce);
        assert_eq!(judge("a", "b", R, &[], Some(&seen("0", "a"))), Verdict::Announce);
    }

    #[test]
    fn after_a_kill_the_world_decides_between_applying_and_done() {
        assert_eq!(judge("a", "b", R, &[seen("a", "b")], None), Verdict::Apply);
        assert_eq!(judge("b", "b", R, &[seen("a", "b")], None), Verdict::AlreadyDone);
    }

    #[test]
    fn a_third_digest_is_a_conflict_that_names_both() {
        let expected = Verdict::Conflict(vec!["a".into(), "b".into()]);
        assert_eq!(judge("x", "b", R, &[seen("a", "b")], None), expected);
    }

    #[test]
    fn what_an_earlier_step_left_must_still_be_there() {
        let expected = Verdict::Conflict(vec!["b".into(), "c".into()]);
        assert_eq!(judge("x", "c", R, &[], Some(&seen("a", "b"))), expected);
    }

    #[test]
    fn restart_markers_are_written_by_others_too() {
        let earlier = Seen { class: EffectClass::Compensable, ..seen("a", "b") };
        let class = EffectClass::Compensable;
        assert_eq!(judge("x", "c", class, &[], Some(&earlier)), Verdict::Announce);
        assert_eq!(judge("x", "b", class, std::slice::from_ref(&earlier), None), Verdict::Announce);
    }

    #[test]
    fn a_second_change_of_one_place_by_one_step_continues_from_the_first() {
        assert_eq!(judge("b", "c", R, &[seen("a", "b")], None), Verdict::Announce);
        assert_eq!(judge("a", "c", R, &[seen("a", "b")], None), Verdict::Announce);
        assert!(matches!(judge("x", "c", R, &[seen("a", "b")], None), Verdict::Conflict(_)));
    }

    #[test]
    fn going_back_needs_the_digest_that_was_left() {
        let back = [seen("b", "a")];
        assert_eq!(judge_restore("b", "a", ("b", "a"), &[]), Verdict::Announce);
        assert_eq!(judge_restore("b", "a", ("b", "a"), &back), Verdict::Apply);
        assert_eq!(judge_restore("a", "a", ("b", "a"), &back), Verdict::AlreadyDone);
        assert!(matches!(judge_restore("x", "a", ("b", "a"), &[]), Verdict::Conflict(_)));
    }

    #[test]
    fn going_back_goes_on_from_what_it_has_put_on_record_on_the_way() {
        // `b` was left, `x` is there now, and the way back knows whose it is.
        assert_eq!(judge_restore("b", "x", ("b", "a"), &[]), Verdict::Announce);
        let mut own = vec![seen("b", "x")];
        assert_eq!(judge_restore("x", "a", ("b", "a"), &own), Verdict::Announce);
        own.push(seen("x", "a"));
        assert_eq!(judge_restore("x", "a", ("b", "a"), &own), Verdict::Apply);
        assert_eq!(judge_restore("a", "a", ("b", "a"), &own), Verdict::AlreadyDone);
        assert!(matches!(judge_restore("y", "a", ("b", "a"), &own), Verdict::Conflict(_)));
    }
}
