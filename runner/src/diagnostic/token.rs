//! Words of a line: the one at a column, and where it begins.

/// The column where the path that the word at a column (from 1) ends begins: that of `k8s` for the `get` of `k8s::get`.
pub(super) fn path_start(line: &str, column: usize) -> usize {
    let head: Vec<char> = line.chars().take(column.saturating_sub(1)).collect();
    let word = |c: &char| c.is_alphanumeric() || *c == '_';
    let mut start = head.len();
    while let Some(before) = head.get(..start).and_then(|head| head.strip_suffix(&[':', ':'])) {
        let length = before.iter().rev().take_while(|c| word(c)).count();
        if length == 0 {
            break;
        }
        start = before.len() - length;
    }
    if start == head.len() { column } else { start + 1 }
}

/// How many characters the token at a column (from 1) covers: a path such as `k8s::get`, a text literal, or one.
pub(super) fn token_length(line: &str, column: usize) -> usize {
    let rest: Vec<char> = line.chars().skip(column.saturating_sub(1)).collect();
    let word = |c: char| c.is_alphanumeric() || c == '_';
    match rest.first() {
        Some(&quote @ ('"' | '`')) => {
            let mut escaped = false;
            let closing = rest.iter().skip(1).position(|&c| {
                let closes = c == quote && !escaped;
                escaped = c == '\\' && !escaped;
                closes
            });
            closing.map_or(rest.len(), |index| index + 2)
        }
        Some(&first) if word(first) => {
            let mut length = 0;
            loop {
                length += rest.iter().skip(length).take_while(|c| word(**c)).count();
                let tail = (rest.get(length), rest.get(length + 1), rest.get(length + 2));
                match tail {
                    (Some(':'), Some(':'), Some(&next)) if word(next) => length += 2,
                    _ => break length,
                }
            }
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_path_a_text_or_one_character() {
        assert_eq!(token_length("let x = k8s::patch_secret(1);", 9), 17);
        assert_eq!(token_length(r#"param("a \" b")"#, 7), 8);
        assert_eq!(token_length("a + b", 3), 1);
        assert_eq!(token_length("äö", 1), 2);
        assert_eq!(token_length("", 7), 1);
        assert_eq!(token_length("a::", 1), 1);
    }

    #[test]
    fn a_path_is_covered_from_its_beginning() {
        assert_eq!(path_start("let x = k8s::patch(1);", 14), 9);
        assert_eq!(path_start("a::b::c", 7), 1);
        assert_eq!(path_start("x.y", 3), 3);
        assert_eq!(path_start("::y", 3), 3);
        assert_eq!(path_start("", 9), 9);
    }
}
