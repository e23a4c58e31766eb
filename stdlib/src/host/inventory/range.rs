//! Ranges in the names of hosts: `m[1:3]`, `m[01:10:2]`, `rack-[a:c]`.

/// More hosts than anybody means by one line.
const MOST: usize = 10_000;

/// The names that a pattern stands for, the last range counting fastest.
pub(super) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let Some((head, rest)) = pattern.split_once('[') else {
        return if pattern.is_empty() || pattern.contains(']') || pattern.contains(char::is_whitespace) {
            Err(format!("`{pattern}` is no name of a host"))
        } else {
            Ok(vec![pattern.to_owned()])
        };
    };
    let (range, tail) =
        rest.split_once(']').ok_or_else(|| format!("`{pattern}` has a range without its end `]`"))?;
    let steps = steps(range).ok_or_else(|| {
        format!("`[{range}]` is no range: write `[1:9]`, `[01:09:2]` or `[a:f]`, the lower end first")
    })?;
    let tails = if tail.is_empty() { vec![String::new()] } else { expand(tail)? };
    if steps.len().saturating_mul(tails.len()) > MOST {
        return Err(format!("`{pattern}` stands for more than {MOST} hosts"));
    }
    Ok(steps.iter().flat_map(|step| tails.iter().map(move |tail| format!("{head}{step}{tail}"))).collect())
}

fn steps(range: &str) -> Option<Vec<String>> {
    let mut parts = range.split(':');
    let (from, to, step) = (parts.next()?, parts.next()?, parts.next());
    let step: usize = step.map_or(Some(1), |step| step.parse().ok().filter(|step| *step > 0))?;
    if parts.next().is_some() {
        return None;
    }
    if let (Ok(first), Ok(last)) = (from.parse::<u64>(), to.parse::<u64>()) {
        // `[01:10]` keeps its zeros.
        let width = if from.starts_with('0') && from.len() > 1 { from.len() } else { 0 };
        let count = usize::try_from(last.checked_sub(first)?).ok()?;
        if count / step >= MOST {
            return None;
        }
        return Some((first..=last).step_by(step).map(|number| format!("{number:0width$}")).collect());
    }
    let letter = |text: &str| {
        let mut chars = text.chars();
        chars.next().filter(|char| char.is_ascii_alphabetic() && chars.next().is_none())
    };
    let (first, last) = (letter(from)?, letter(to)?);
    let alike = first.is_ascii_lowercase() == last.is_ascii_lowercase();
    (alike && first <= last).then(|| (first..=last).step_by(step).map(String::from).collect())
}
