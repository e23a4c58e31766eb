#![allow(clippy::unwrap_used)]

use super::super::quorum::may_stop;
use super::super::restart::order;
use super::*;

const WELL: Status =
    Status { leader: 2, term: 7, index: 100, applied: 100, db_size: 4096, version: String::new() };

fn seen(id: u64, status: Result<Status, String>) -> Seen {
    Seen {
        host: format!("m{id}"),
        endpoint: format!("10.0.0.{id}:2379"),
        name: format!("etcd-{id}"),
        id,
        learner: false,
        status,
    }
}

/// Three that are well; the second leads.
fn well() -> Look {
    Look {
        members: (1..=3).map(|id| seen(id, Ok(WELL))).collect(),
        strangers: Vec::new(),
        alarms: Vec::new(),
    }
}

fn stranger(name: &str, learner: bool) -> Stranger {
    Stranger { name: name.into(), learner }
}

#[test]
fn what_keeps_a_cluster_from_being_well_is_said_in_words() {
    assert_eq!(well().trouble(), None);
    let with = |change: &dyn Fn(&mut Look)| {
        let mut look = well();
        change(&mut look);
        look.trouble().unwrap()
    };
    let status = |look: &mut Look, at: usize, status: Status| look.members[at].status = Ok(status);
    for (told, change) in [
        (
            "m3 (10.0.0.3:2379): it does not answer",
            &(|look: &mut Look| look.members[2].status = Err("it does not answer".into()))
                as &dyn Fn(&mut Look),
        ),
        ("it has members that are not named here: late", &|look| {
            look.strangers = vec![stranger("late", false)]
        }),
        ("m1 is a learner that has not joined yet", &|look| {
            look.members[0].learner = true;
            look.members[0].status = Err("it is not healthy".into());
        }),
        ("alarms are raised: NOSPACE at etcd-1", &|look| {
            // As real members are then.
            look.alarms = vec!["NOSPACE at etcd-1".into()];
            look.members.iter_mut().for_each(|seen| seen.status = Err("it is not healthy".into()));
        }),
        ("the members do not agree on a leader", &|look| status(look, 0, Status { leader: 3, ..WELL })),
        ("the members do not agree on a leader", &|look| {
            (0..3).for_each(|at| status(look, at, Status { leader: 0, ..WELL }));
        }),
        ("m3 lags far behind index 9000", &|look| {
            (0..2).for_each(|at| status(look, at, Status { index: 9000, applied: 9000, ..WELL }));
        }),
    ] {
        assert_eq!(with(change), told);
    }
    // What lags by what is being written just now does not lag.
    let mut look = well();
    (0..2).for_each(|at| status(&mut look, at, Status { index: 100 + LAG, applied: 100 + LAG, ..WELL }));
    assert_eq!(look.trouble(), None);
}

#[test]
fn what_only_a_person_can_end_is_not_waited_for() {
    let mut look = well();
    look.members[0].status = Err("it is not healthy".into());
    assert!(!look.needs_a_person(), "it may just be starting");
    look.alarms.push("NOSPACE of m2".into());
    assert!(look.needs_a_person());
    let mut look = well();
    look.members[2].learner = true;
    assert!(look.needs_a_person());
}

#[test]
fn followers_are_restarted_first_in_their_order_and_the_leader_last() {
    let mut look = well();
    assert_eq!(order(&look), ["m1", "m3", "m2"]);
    look.members.iter_mut().for_each(|seen| seen.status = Ok(Status { leader: 1, ..WELL }));
    assert_eq!(order(&look), ["m2", "m3", "m1"]);
    // Nobody is the last where nobody is known to lead.
    look.members[0].status = Ok(Status { leader: 3, ..WELL });
    assert_eq!(order(&look), ["m1", "m2", "m3"]);
}

#[test]
fn a_member_that_is_not_named_has_its_vote_and_nobody_counts_on_it() {
    let mut look = well();
    assert!(may_stop(&look.voters(), "m1").is_ok());
    look.strangers = vec![stranger("late", false)];
    assert_eq!(look.voters().len(), 4);
    assert_eq!(may_stop(&look.voters(), "m1").unwrap_err(), "late (not named here) is down already");
    assert_eq!(super::super::quorum::needed(look.voters().iter().filter(|voter| !voter.learner).count()), 3);
    look.strangers = vec![stranger("late", true)];
    assert_eq!(look.voters().iter().filter(|voter| !voter.learner).count(), 3);
    assert!(may_stop(&look.voters(), "m1").is_err(), "one that is joining is not disturbed");
}

#[test]
fn strangers_and_alarms_are_told_by_the_names_of_members() {
    let known =
        |id: u64, name: &str, learner: bool| Known { id, name: name.into(), learner, urls: Vec::new() };
    let known = [known(17, "a", false), known(18, "", true), known(19, "c", false)];
    let named = [Seen { id: 17, ..seen(1, Ok(WELL)) }];
    assert_eq!(strangers(&named, &known), [stranger("12", true), stranger("c", false)]);

    let alarm = |member_id: u64, alarm: i32| PbAlarmMember { member_id, alarm };
    // The last one is of a kind that is not known yet.
    let raised = [alarm(17, 1), alarm(99, 2), alarm(19, 7)];
    assert_eq!(alarms_of(&raised, &known), ["NOSPACE at a", "CORRUPT at a member", "alarm 7 at c"]);
    assert!(alarms_of(&[], &known).is_empty());
}

#[test]
fn a_version_that_does_not_say_enough_is_named() {
    let endpoint = Endpoint::of("10.0.0.1:2379").unwrap();
    let error = too_old(&endpoint, "3.3.27").unwrap();
    assert!(error.message.contains("it is etcd 3.3.27"), "{error}");
    assert!(error.hint.unwrap().contains("3.4 first"));
    for other in ["3.4.0", "3.5.17", "4.0.1", "", "x"] {
        assert!(too_old(&endpoint, other).is_none(), "{other}");
    }
    assert!(too_old(&endpoint, "2.3.8").is_some());
}
