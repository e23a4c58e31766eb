//! Restarts ask PodDisruptionBudgets: the story of `tests::budgets` in the sandbox.

use crate::lab::{Lab, virtual_time};

#[test]
fn a_restart_takes_no_more_pods_away_than_the_budget_lets_it() {
    virtual_time(async {
        let lab = Lab::new(3).await;
        tests::budgets::story(lab.world.client(), &lab.eyes()).await;
    });
}
