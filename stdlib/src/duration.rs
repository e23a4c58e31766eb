//! Durations as people type them: `45m`, `1h30m`, `2s`, `500ms`, `30d`.

use std::time::Duration;

/// Reads a duration: numbers with units `ms`, `s`, `m`, `h` or `d`, largest first, no spaces.
///
/// # Errors
/// A text in words that says what is expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write one such as `45m`, `1h30m` or `500ms`");
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last = u64::MAX;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest.get(..digits).and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
        let tail = rest.get(digits..).ok_or_else(wrong)?;
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let millis: u64 = match tail.get(..unit) {
            Some("ms") => 1,
            Some("s") => 1_000,
            Some("m") => 60_000,
            Some("h") => 3_600_000,
            Some("d") => 86_400_000,
            _ => return Err(wrong()),
        };
        if millis >= last {
            return Err(wrong());
        }
        last = millis;
        let part = number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail.get(unit..).ok_or_else(wrong)?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_type_them() {
        assert_eq!(parse("45m"), Ok(Duration::from_secs(2700)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "5", "m", "5x", "-5m", "5m1h", "1 h", "99999999999999999999s", "5m5m", " 5m", "ü"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
