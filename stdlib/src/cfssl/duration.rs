//! Go's durations: `8760h`, `1h30m`, `1.5h`.

use time::Duration;

use crate::error::PrimError;

fn bad(text: &str, why: &str) -> PrimError {
    PrimError::invalid(format!("`{}` is no duration: {why}", text.escape_debug()))
        .expected("more than nothing, as `8760h`", format!("`{}`", text.escape_debug()))
        .hint(
            "write hours, minutes and seconds as in `8760h` (a year) or `1h30m`; there is no `d` and no `y`",
        )
}

/// Reads a positive Go duration.
///
/// cfssl takes `-1h` and makes a certificate that is born expired; we refuse it.
pub(crate) fn parse(text: &str) -> Result<Duration, PrimError> {
    if text.starts_with('-') {
        return Err(bad(text, "it is negative, and the certificate would be born expired"));
    }
    let span = parse_go(text)?;
    if span.is_zero() { Err(bad(text, "it is zero")) } else { Ok(span) }
}

/// Reads any Go duration, negative ones and zero among them.
pub(crate) fn parse_go(text: &str) -> Result<Duration, PrimError> {
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let bad = |why: &str| bad(text, why);
    if rest.is_empty() {
        return Err(bad("it is empty"));
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| bad("a number has no unit"))?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale: i128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" | "μs" => 1_000,
            "ns" => 1,
            "d" => return Err(bad("a day is written `24h`")),
            "w" => return Err(bad("a week is written `168h`")),
            "y" => return Err(bad("a year is written `8760h`")),
            other => return Err(bad(&format!("unknown unit `{}`", other.escape_debug()))),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 30 {
            return Err(bad("malformed number"));
        }
        let whole: i128 =
            if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad("malformed number"))? };
        nanos = whole
            .checked_mul(scale)
            .and_then(|n| nanos.checked_add(n))
            .ok_or_else(|| bad("it is too long"))?;
        // Further digits are less than a nanosecond of the longest unit.
        let fraction = fraction.get(..18).unwrap_or(fraction);
        if !fraction.is_empty() {
            let digits: i128 = fraction.parse().map_err(|_| bad("malformed number"))?;
            nanos += digits * scale / 10i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        }
        rest = tail;
    }
    // Go counts nanoseconds in 63 bits: about 292 years.
    match i64::try_from(if negative { -nanos } else { nanos }) {
        Ok(nanos) => Ok(Duration::nanoseconds(nanos)),
        Err(_) => Err(bad("it is too long; the most is 2562047h")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        assert_eq!(parse("8760h").unwrap(), Duration::days(365));
        assert_eq!(parse("1h30m").unwrap(), Duration::minutes(90));
        assert_eq!(parse("1.5h").unwrap(), Duration::minutes(90));
        assert_eq!(parse("976.47526665067306h").unwrap(), Duration::nanoseconds(3_515_310_959_942_423));
        assert_eq!(parse("438000h").unwrap(), Duration::days(365 * 50));
        assert_eq!(parse("100ms5us3ns").unwrap(), Duration::nanoseconds(100_005_003));
    }

    #[test]
    fn what_go_refuses_and_what_bites_is_refused() {
        for bad in
            ["", "-1h", "0", "0h", "365d", "1y", "12", "h", "1h-1m", ".h", "1..2h", "99999999h", "１h", "1 h"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_only_go_takes_is_read_where_that_is_asked_for() {
        assert_eq!(parse_go("-10h").unwrap(), Duration::hours(-10));
        assert_eq!(parse_go("0").unwrap(), Duration::ZERO);
        assert_eq!(parse_go("-0h").unwrap(), Duration::ZERO);
        for bad in ["", "-", "--1h", "1h-1m", "365d"] {
            assert!(parse_go(bad).is_err(), "{bad:?}");
        }
    }
}
