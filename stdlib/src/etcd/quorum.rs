//! What may be stopped now. Pure.

/// A member, as far as a quorum cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Its name.
    pub name: String,
    /// Whether it answers and follows the leader.
    pub up: bool,
    /// A learner has no vote.
    pub learner: bool,
}

/// How many of so many voters must be up.
pub fn needed(voters: usize) -> usize {
    voters / 2 + 1
}

/// How many of so many voters may be down at once.
pub fn spare(voters: usize) -> usize {
    voters.saturating_sub(needed(voters))
}

/// Whether a member may be stopped now: the others keep the quorum without it, and nobody else is down, whatever the
/// quorum could bear. One that is down already may always be stopped.
///
/// # Errors
/// Why not, in words.
pub fn may_stop(members: &[Voter], name: &str) -> Result<(), String> {
    let Some(member) = members.iter().find(|member| member.name == name) else {
        return Err(format!("`{name}` is no member"));
    };
    if !member.up {
        return Ok(());
    }
    let voters: Vec<&Voter> = members.iter().filter(|member| !member.learner).collect();
    let others_down: Vec<&str> = members
        .iter()
        .filter(|other| other.name != name && !other.up)
        .map(|other| other.name.as_str())
        .collect();
    if !others_down.is_empty() {
        return Err(format!("{} is down already", others_down.join(", ")));
    }
    let left = voters.iter().filter(|voter| voter.up && voter.name != name).count();
    let needed = needed(voters.len());
    if left < needed {
        return Err(format!("{left} of {} would be left, and {needed} are needed", voters.len()));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(up: &[bool], learners: usize) -> Vec<Voter> {
        let voters = up.len().saturating_sub(learners);
        let voter = |(n, up): (usize, &bool)| Voter { name: format!("m{n}"), up: *up, learner: n >= voters };
        up.iter().enumerate().map(voter).collect()
    }

    #[test]
    fn three_and_five_bear_one_at_a_time_and_one_and_two_bear_none() {
        for (count, may) in [(1, false), (2, false), (3, true), (4, true), (5, true)] {
            assert_eq!(may_stop(&members(&vec![true; count], 0), "m0").is_ok(), may, "{count}");
        }
        assert_eq!([1, 2, 3, 4, 5, 7].map(spare), [0, 0, 1, 1, 2, 3]);
        assert_eq!(
            may_stop(&members(&[true, true], 0), "m0").unwrap_err(),
            "1 of 2 would be left, and 2 are needed"
        );
        assert_eq!(may_stop(&members(&[true, true, false], 0), "m0").unwrap_err(), "m2 is down already");
        assert!(may_stop(&members(&[true, true, false], 0), "m2").is_ok());
    }

    proptest! {
        /// Whoever may be stopped leaves a majority of all voters up, and is the only one that is down.
        #[test]
        fn a_stop_that_is_allowed_leaves_a_majority(
            up in proptest::collection::vec(any::<bool>(), 1..8), which in 0_usize..8, learners in 0_usize..2
        ) {
            let mut members = members(&up, learners.min(up.len() - 1));
            let name = format!("m{}", which % up.len());
            let was_up = members.iter().any(|member| member.name == name && member.up);
            if may_stop(&members, &name).is_ok() && was_up {
                members.iter_mut().filter(|member| member.name == name).for_each(|member| member.up = false);
                let voters = members.iter().filter(|member| !member.learner).count();
                let left = members.iter().filter(|member| !member.learner && member.up).count();
                prop_assert!(left * 2 > voters, "{members:?}");
                prop_assert_eq!(members.iter().filter(|member| !member.up).count(), 1);
            }
        }

        /// Nobody's being up makes a stop forbidden that was allowed before.
        #[test]
        fn more_that_are_up_never_forbid(up in proptest::collection::vec(any::<bool>(), 1..8), which in 0_usize..8, more in 0_usize..8) {
            let name = format!("m{}", which % up.len());
            let before = may_stop(&members(&up, 0), &name).is_ok();
            let mut better = up.clone();
            let more = more % up.len();
            if more != which % up.len() {
                better[more] = true;
            }
            prop_assert!(!before || may_stop(&members(&better, 0), &name).is_ok());
        }
    }
}
