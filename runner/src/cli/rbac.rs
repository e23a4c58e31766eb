//! `rollover rbac`: the least rights with which a workflow runs.

use stdlib::k8s::forward;

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
    let run::Planned { plan, way, .. } = run::make_plan(context, name, connection, parameters).await?;
    let mut touched = least::touches(&plan, stdlib::registry());
    if way.forward.is_some() {
        touched.extend(forward::touches(&touched));
    }
    let rules = least::rules(&touched);
    let objects = least::manifests(&rules, &plan.workflow, subject);
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
