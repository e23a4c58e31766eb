//! The primitives of `k8s` and `tidb`, and the lock, against a Kubernetes API: stories that are told on the sandbox's server
//! and on a real one. Nobody but a story controls anything there. Each has a namespace of its own.

mod cut;
mod fields;
mod forgotten;
mod gate;
mod lock;
mod made_again;
mod objects;
mod place;
mod pods;
mod real;
mod restart;
mod rotation;
mod scene;
mod secrets;
mod site;
mod tidb;
mod waits;

use std::sync::Arc;

use futures::future::LocalBoxFuture;

pub use self::forgotten::{forgotten, forgotten_in_memory};
use self::place::InMemory;
pub use self::real::Real;
pub use self::rotation::rotation;

/// Hands every story that is told on both servers to a macro: `module: story …;`.
#[macro_export]
macro_rules! stories_everywhere {
    ($with:ident) => {
        $with! {
            objects:
                an_object_is_deleted_and_made_again
                what_holds_an_object_is_said_and_whoever_does_not_wait_goes_on
                what_a_controller_keeps_is_not_put_back_and_force_spares_members
                a_secret_is_made_once_and_taken_away_where_it_is_as_it_was_made
                a_deleted_secret_whose_making_has_lost_its_answer_is_our_own
                a_list_whose_pages_grow_old_is_begun_anew;
            secrets:
                a_patch_changes_one_key_and_keeps_everything_else
                what_says_the_same_already_is_left_alone_and_announced_to_nobody
                nothing_is_written_that_was_not_announced
                a_pair_is_swapped_as_one_or_not_at_all_and_its_key_is_never_shown
                going_back_restores_the_bytes_and_is_no_change_the_second_time
                going_back_over_somebody_elses_change_stops_and_names_them
                a_write_that_lost_is_decided_anew_and_overwrites_nobody
                a_server_that_stumbles_is_survived_and_nothing_is_written_twice
                a_server_that_stays_away_is_said_to
                a_missing_right_names_the_rule_with_which_it_passes
                an_immutable_secret_is_refused_before_anything_is_announced
                reading_says_what_is_wrong_with_a_secret
                a_config_map_is_made_and_going_back_deletes_it_unless_somebody_changed_it
                annotations_go_back_key_by_key
                any_object_can_be_read_and_a_secrets_keys_stay_where_they_are;
            restart:
                the_wait_ends_with_the_last_of_the_six_conditions_and_not_before
                the_lock_that_is_renewed_meanwhile_does_not_make_ready_look_stale
                a_restart_by_somebody_else_meanwhile_is_told
                outside_a_run_nothing_is_restarted
                pods_are_made_anew_of_their_set_alone;
            fields:
                fields_are_set_and_put_back_from_every_record
                what_others_have_changed_since_is_not_put_back_over_them;
            made_again:
                what_is_made_again_is_so_from_every_record_both_ways
                who_dies_between_deleting_and_making_is_finished_by_whoever_goes_on
                what_somebody_else_has_made_meanwhile_is_not_replaced;
            lock:
                a_second_run_is_told_who_holds_it_since_when_at_which_step
                the_mark_outlives_the_lease_and_only_its_own_run_goes_on
                renewing_keeps_others_out_beyond_the_leases_own_time
                a_target_that_was_made_again_is_another_target;
            tidb:
                the_fact_lists_components_in_restart_order_and_every_other_user_of_the_secrets
                each_thing_that_must_hold_before_a_rotation_has_its_own_error
                the_view_measures_chains_and_infers_anchors
                a_bundle_written_by_hand_without_a_restart_is_not_believed_to_be_loaded
                a_ca_that_begins_after_a_pod_is_not_believed_to_be_loaded_by_it
                what_this_run_wrote_and_restarted_tells_what_a_pod_holds
                proofs_look_at_the_wire
                whoever_still_presents_an_old_certificate_is_named;
            waits:
                a_wait_is_woken_by_what_happens_and_asks_no_more_than_once
                a_watch_that_is_cut_goes_on_from_where_it_was
                a_version_that_is_refused_in_the_answer_is_listed_anew
                a_server_that_is_away_for_a_while_is_waited_for
                what_does_not_come_is_unproved_and_the_right_to_watch_is_named;
        }
    };
}

/// A story: its name, and how it is told.
#[allow(missing_debug_implementations, reason = "a function has nothing to show")]
pub struct Story {
    /// What it says.
    pub name: &'static str,
    run: fn(scene::Scene) -> LocalBoxFuture<'static, ()>,
}

macro_rules! table {
    ($($module:ident: $($story:ident)*;)*) => {
        vec![$($(Story { name: stringify!($story), run: |scene| Box::pin($module::$story(scene)) }),*),*]
    };
}

/// The stories that are told on both servers.
pub fn everywhere() -> Vec<Story> {
    stories_everywhere!(table)
}

/// Tells a story of this name in the sandbox.
pub async fn in_memory(name: &str) {
    let story = everywhere().into_iter().find(|story| story.name == name).unwrap();
    let scene = scene::scene(Arc::new(InMemory::default()), name).await;
    scene.create(scene::definition()).await;
    (story.run)(scene).await;
}

impl Story {
    /// Tells it on a real server.
    pub async fn on(&self, server: Arc<Real>) {
        (self.run)(scene::scene(server, self.name).await).await;
    }
}
