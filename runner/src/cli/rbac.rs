//! `rollover rbac`: the least rights with which a workflow runs.

use stdlib::World;
use stdlib::k8s::client::Objects;
use stdlib::k8s::{discovery, forward};
use stdlib::registry::Touch;

use super::args::{Connection, Parameters};
use super::{Context, run};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::{output, rbac as least};

pub(crate) async fn rbac(
    context: &Context,
    name: &str,
    connection: &Connection,
    parameters: &Parameters,
    subject: Option<&str>,
) -> Result<ExitCode, Failure> {
    let run::Planned { plan, way, world, .. } = run::make_plan(context, name, connection, parameters).await?;
    let mut touched = least::touches(&plan, stdlib::registry());
    if way.forward.is_some() {
        touched.extend(forward::touches(&touched));
    }
    let (touched, guessed) = named(&world, touched).await;
    let rules = least::rules(&touched);
    let objects = least::manifests(&rules, &plan.workflow, subject);
    for name in &guessed {
        output::say(&format!(
            "warning: `{name}` is what the API conventions make of its kind, which the server was not heard to have; see what it calls it (`kubectl api-resources`) before you apply the rule"
        ));
    }
    if context.json() {
        output::data(&serde_json::Value::from(objects).to_string());
        return Ok(ExitCode::Ok);
    }
    let unwritable = |error: serde_yaml::Error| Failure::new(ExitCode::Unknown, error.to_string());
    let documents: Result<Vec<String>, _> =
        objects.iter().map(|object| serde_yaml::to_string(object).map_err(unwritable)).collect();
    output::data(documents?.join("---\n").trim_end());
    Ok(ExitCode::Ok)
}

/// The same with the plurals that the server has, and those that it could not be asked for.
async fn named(world: &World, touched: Vec<Touch>) -> (Vec<Touch>, Vec<String>) {
    let unheard = |touched: Vec<Touch>| {
        let guessed = discovery::guessed(&touched);
        (touched, guessed)
    };
    let Ok(objects) = Objects::of(world) else { return unheard(touched) };
    match discovery::named(&objects, touched.clone()).await {
        Ok(named) => named,
        Err(_) => unheard(touched),
    }
}
