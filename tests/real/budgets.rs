//! Restarts ask PodDisruptionBudgets: the story of `tests::budgets` on a real server with real controllers.

use crate::bench::{Bench, multi};

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_restart_takes_no_more_pods_away_than_the_budget_lets_it() {
    multi(async {
        let bench = Bench::new(3).await;
        let client = bench.world.client();
        tests::budgets::story(client.clone(), &stdlib::World::system(Some(client), "/".into())).await;
    });
}
