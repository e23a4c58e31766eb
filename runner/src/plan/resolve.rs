//! From promises to values, when a step needs them: in the process that made them or after a resume.

use futures::future::BoxFuture;
use serde_json::Value;
use stdlib::error::{Code, PrimError};
use stdlib::gate::Gate;
use stdlib::registry::{Kind, Registry};
use stdlib::secret::handle_id;
use stdlib::world::World;

use super::Expr;

/// What steps have produced so far, by key: from the journal.
pub type Outputs<'a> = &'a (dyn Fn(&str) -> Option<Value> + Send + Sync);

/// The value of an expression. Secret handles pass through as they are; deferred calls run now.
///
/// # Errors
/// A step that has produced nothing, a field that its output does not have, or what a deferred call answers.
pub fn resolve<'a>(
    expr: &'a Expr,
    outputs: Outputs<'a>,
    item: Option<&'a Value>,
    world: &'a World,
    gate: &'a dyn Gate,
    registry: &'a Registry,
) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move {
        match expr {
            Expr::Lit(value) => Ok(value.clone()),
            Expr::Ref { step, path } => {
                let output = outputs(step).ok_or_else(|| {
                    PrimError::invalid("it has produced nothing: it was skipped or has not run")
                        .on(format!("step `{step}`"))
                })?;
                project(output, path).map_err(|error| error.on(format!("output of step `{step}`")))
            }
            Expr::Item { path } => {
                let item = item.ok_or_else(|| PrimError::internal("`item()` outside a step with `.each`"))?;
                project(item.clone(), path).map_err(|error| error.on("item of `.each`"))
            }
            Expr::Call { primitive, args, path } => {
                let known = registry
                    .get(primitive)
                    .ok_or_else(|| PrimError::internal(format!("no primitive is named `{primitive}`")))?;
                if !matches!(known.kind, Kind::Pure | Kind::Read) {
                    let text = "only pure and reading primitives may run inside an argument";
                    return Err(PrimError::new(Code::Refused, text).on(primitive));
                }
                let args = resolve_all(args, outputs, item, world, gate, registry).await?;
                let answer = (known.run)(world, &args, gate).await?;
                project(answer, path).map_err(|error| error.on(format!("answer of `{primitive}`")))
            }
            Expr::List(items) => {
                Ok(Value::Array(resolve_all(items, outputs, item, world, gate, registry).await?))
            }
            Expr::Map(fields) => {
                let mut values = serde_json::Map::new();
                for (name, field) in fields {
                    values.insert(name.clone(), resolve(field, outputs, item, world, gate, registry).await?);
                }
                Ok(Value::Object(values))
            }
        }
    })
}

/// The values of several expressions, in order: the arguments of an action.
///
/// # Errors
/// As [`resolve`].
pub async fn resolve_all(
    exprs: &[Expr],
    outputs: Outputs<'_>,
    item: Option<&Value>,
    world: &World,
    gate: &dyn Gate,
    registry: &Registry,
) -> Result<Vec<Value>, PrimError> {
    let mut values = Vec::with_capacity(exprs.len());
    for expr in exprs {
        values.push(resolve(expr, outputs, item, world, gate, registry).await?);
    }
    Ok(values)
}

fn project(mut value: Value, path: &[String]) -> Result<Value, PrimError> {
    for field in path {
        if handle_id(&value).is_some() {
            return Err(PrimError::invalid(format!("a secret has no field `{field}`")));
        }
        value = match value {
            Value::Object(mut fields) => match fields.remove(field) {
                Some(value) => value,
                None => {
                    let names: Vec<_> = fields.keys().map(|name| format!("`{name}`")).collect();
                    let found = if names.is_empty() { "no fields".to_owned() } else { names.join(", ") };
                    return Err(PrimError::invalid("a field is missing")
                        .expected(format!("a field `{field}`"), found));
                }
            },
            Value::Array(mut items) => {
                let index = field.parse::<usize>().ok().filter(|index| *index < items.len());
                let Some(index) = index else {
                    let found = format!("a list of {}", items.len());
                    return Err(
                        PrimError::invalid("an item is missing").expected(format!("an item {field}"), found)
                    );
                };
                items.swap_remove(index)
            }
            _ => return Err(PrimError::invalid(format!("it is no map and has no field `{field}`"))),
        };
    }
    Ok(value)
}
