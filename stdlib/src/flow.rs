//! Steps that pace a run and change nothing: the namespace `flow`.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;

use crate::error::PrimError;
use crate::gate::{Gate, Progress};
use crate::registry::{Kind, Param, Primitive, Touch, Type};
use crate::world::World;

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "flow::nothing",
        kind: Kind::Change,
        params: &[],
        returns: "nothing",
        doc: "Does nothing, durably: for drills and benchmarks.\n\nHas no effect and nothing to undo.",
        example: r#"drill.change("one", flow::nothing());"#,
        run: nothing,
        restore: None,
        forecast: None,
        touches: no_touches,
    },
    Primitive {
        name: "flow::wait",
        kind: Kind::Settle,
        params: &[Param {
            name: "duration",
            ty: Type::Duration,
            optional: false,
            doc: "how long, e.g. `90s` or `2m`",
        }],
        returns: "nothing",
        doc: "Waits, for what has no condition that could be awaited.\n\nPrefer a proof: it waits until something is true.",
        example: r#"p.settle("dns caches", flow::wait("90s"));"#,
        run: wait,
        restore: None,
        forecast: None,
        touches: no_touches,
    },
];

fn no_touches(_: &[Value]) -> Vec<Touch> {
    Vec::new()
}

fn nothing<'a>(_: &'a World, _: &'a [Value], _: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async { Ok(Value::Null) })
}

fn wait<'a>(
    world: &'a World,
    args: &'a [Value],
    gate: &'a dyn Gate,
) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move {
        let text = args.first().and_then(Value::as_str).unwrap_or_default();
        let total = crate::duration::parse(text).map_err(PrimError::argument)?;
        let mut left = total;
        while !left.is_zero() {
            gate.progress(Progress {
                text: format!("waiting, {}s left", left.as_secs()),
                done: Some(((total - left).as_secs(), total.as_secs())),
            });
            let pause = left.min(Duration::from_secs(1));
            world.clock.sleep(pause).await;
            left -= pause;
        }
        Ok(Value::Null)
    })
}
