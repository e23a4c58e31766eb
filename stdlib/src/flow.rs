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
        example: r#"trust.settle("dns caches", flow::wait("90s"));"#,
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
        let total = parse_duration(text)?;
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

/// A duration as workflows write it: numbers with `ms`, `s`, `m`, `h` or `d`, added up (`1h30m`).
///
/// # Errors
/// [`crate::error::Code::Argument`] with the forms that are understood.
pub fn parse_duration(text: &str) -> Result<Duration, PrimError> {
    let bad = || {
        PrimError::argument(format!("`{text}` is not a duration"))
            .hint("write a number with a unit, such as `500ms`, `90s`, `45m`, `12h`, `30d` or `1h30m`")
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest.get(..digits).unwrap_or_default().parse().map_err(|_| bad())?;
        rest = rest.get(digits..).unwrap_or_default();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let millis = match rest.get(..letters).unwrap_or_default() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        let part = number.checked_mul(millis).map(Duration::from_millis).ok_or_else(bad)?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = rest.get(letters..).unwrap_or_default();
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up_and_nonsense_is_refused() {
        assert_eq!(parse_duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        for bad in ["", "10", "s", "-1h", "1y", "99999999999999999999d", "1.5h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
