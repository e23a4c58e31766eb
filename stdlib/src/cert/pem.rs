//! PEM: finding the blocks of a text, with positions, losing none.
//!
//! Go's and Rust's readers skip what they do not understand, so that a file joined without a final newline silently
//! loses certificates. Here every BEGIN either becomes a block or is an error; what other readers would trip over is
//! reported as a note.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::error::PrimError;

/// More than any bundle needs, and little enough to read at once.
pub const MAX_BYTES: usize = 16 << 20;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// One block. Its bytes may be a private key, so they are wiped when dropped.
pub struct Block {
    /// What stands after BEGIN, e.g. `CERTIFICATE`.
    pub label: String,
    /// The decoded bytes.
    pub der: Zeroizing<Vec<u8>>,
    /// The line of its BEGIN, from 1.
    pub line: usize,
    /// Whether it has the headers of OpenSSL's old encrypted format.
    pub encrypted_headers: bool,
}

/// All blocks of a text, in order.
pub struct Scan {
    /// The blocks.
    pub blocks: Vec<Block>,
    /// What was repaired in reading, and other readers would not: lowercase sentences with a line number.
    pub notes: Vec<String>,
}

/// Finds the blocks of `text`; `what` names it in errors (a path, `Secret NS/NAME key ca.crt`).
///
/// # Errors
/// Text over [`MAX_BYTES`], a block that is opened and not closed, closed and not opened, or not base64.
pub fn scan(text: &[u8], what: &str) -> Result<Scan, PrimError> {
    if text.len() > MAX_BYTES {
        return Err(PrimError::invalid("is too large to be certificates or keys")
            .on(what)
            .expected(format!("at most {} MiB", MAX_BYTES >> 20), "more")
            .hint("name the PEM file itself"));
    }
    let mut scan = Scan { blocks: Vec::new(), notes: Vec::new() };
    let mut at = 0;
    let mut lines = Lines { text, at: 0, line: 1 };
    loop {
        let begin = find(text, BEGIN, at);
        let end = find(text, END, at);
        let Some(begin) = begin else {
            if let Some(end) = end {
                return Err(unopened(lines.of(end), what));
            }
            return Ok(scan);
        };
        if let Some(end) = end.filter(|end| *end < begin) {
            return Err(unopened(lines.of(end), what));
        }
        let line = lines.of(begin);
        note_what_precedes(text, at, begin, line, &mut scan);
        let (label, body) = label(text, begin + BEGIN.len()).ok_or_else(|| {
            PrimError::invalid(format!("line {line}: the BEGIN line is malformed"))
                .on(what)
                .expected("`-----BEGIN CERTIFICATE-----`", shorten(rest_of_line(text, begin)))
                .hint("copy the file again from where it came")
        })?;
        let unclosed = || {
            PrimError::invalid(format!("line {line}: the block `{label}` is opened and never closed"))
                .on(what)
                .hint("the file is cut short: copy it again from where it came")
        };
        let closing = format!("`-----END {label}-----`");
        let end =
            find(text, END, body).ok_or_else(|| unclosed().expected(&*closing, "the end of the file"))?;
        if let Some(next) = find(text.get(..end).unwrap_or_default(), BEGIN, body) {
            return Err(unclosed().expected(closing, format!("another BEGIN in line {}", lines.of(next))));
        }
        let end_line = lines.of(end);
        let (closing, after) = self::label(text, end + END.len()).unwrap_or((String::new(), end + END.len()));
        if closing != label {
            return Err(PrimError::invalid(format!(
                "line {end_line}: the block that begins in line {line} ends wrongly"
            ))
            .on(what)
            .expected(format!("`-----END {label}-----`"), shorten(rest_of_line(text, end)))
            .hint("the file is damaged: copy it again from where it came"));
        }
        let content = text.get(body..end).unwrap_or_default();
        let (encrypted_headers, content) = split_headers(content);
        let der = decode(content, line, &label, what)?;
        scan.blocks.push(Block { label, der, line, encrypted_headers });
        at = after;
    }
}

/// Encodes one block: lines of 64 columns, a newline at the end.
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut out = String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40);
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

fn find(text: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let tail = text.get(from..)?;
    tail.windows(needle.len()).position(|window| window == needle).map(|at| from + at)
}

/// The label that starts at `from`, and where the text goes on after its dashes. On one line, capitals and digits.
fn label(text: &[u8], from: usize) -> Option<(String, usize)> {
    let line = rest_of_line(text, from);
    let length = find(line, DASHES, 0)?;
    let label = std::str::from_utf8(line.get(..length)?).ok()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || " .#".contains(c);
    (!label.is_empty() && label.len() <= 64 && label.chars().all(fits))
        .then(|| (label.to_owned(), from + length + DASHES.len()))
}

/// The line from `from` on, at most 256 bytes of it: a text without newlines must not be read once for each block.
fn rest_of_line(text: &[u8], from: usize) -> &[u8] {
    let tail = text.get(from..).unwrap_or_default();
    tail.get(..tail.len().min(256)).unwrap_or_default().split(|b| *b == b'\n').next().unwrap_or_default()
}

/// At most 40 printable characters: what stands in a damaged line may be key material.
fn shorten(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.get(..line.len().min(40)).unwrap_or_default());
    format!("`{}`", text.trim_end().escape_debug())
}

fn unopened(line: usize, what: &str) -> PrimError {
    PrimError::invalid(format!("line {line}: a block is closed that was never opened"))
        .on(what)
        .expected("`-----BEGIN …-----` before it", "only its `-----END …-----`")
        .hint(
            "the file is cut at its start, or two files were joined badly: copy it again from where it came",
        )
}

fn note_what_precedes(text: &[u8], at: usize, begin: usize, line: usize, scan: &mut Scan) {
    let gap = text.get(at..begin).unwrap_or_default();
    let on_line = gap.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    let starts_line = gap.contains(&b'\n') || at == 0;
    if !starts_line && on_line.trim_ascii().is_empty() {
        scan.notes.push(format!(
            "line {line}: a newline is missing between two blocks; Go and Rust programs silently lose certificates there, OpenSSL refuses the file"
        ));
    } else if !on_line.is_empty() {
        scan.notes.push(format!(
            "line {line}: something stands before `-----BEGIN`; most programs overlook this block"
        ));
    }
}

/// Whether the content starts with `Name: value` lines that tell of OpenSSL's old encryption, and what follows such lines.
fn split_headers(content: &[u8]) -> (bool, &[u8]) {
    let trimmed = content.trim_ascii_start();
    if !rest_of_line(trimmed, 0).contains(&b':') {
        return (false, content);
    }
    let mut at = 0;
    for line in trimmed.split(|b| *b == b'\n') {
        at += line.len() + 1;
        if line.trim_ascii().is_empty() {
            break;
        }
    }
    let headers = trimmed.get(..at).unwrap_or(trimmed);
    let encrypted = headers.windows(9).any(|window| window == b"ENCRYPTED");
    (encrypted, trimmed.get(at..).unwrap_or_default())
}

fn decode(content: &[u8], line: usize, label: &str, what: &str) -> Result<Zeroizing<Vec<u8>>, PrimError> {
    let packed =
        Zeroizing::new(content.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<u8>>());
    let fail = |line: usize, why: &str, expected: &str, found: String| {
        PrimError::invalid(format!("line {line}: {why} in the block `{label}`"))
            .on(what)
            .expected(expected, found)
            .hint("the file is damaged: copy it again from where it came")
    };
    if packed.is_empty() {
        return Err(fail(line, "there is nothing", "base64", "no character".into()));
    }
    STANDARD.decode(packed.as_slice()).map(Zeroizing::new).map_err(|_| {
        let stray = content.iter().position(|b| {
            !(b.is_ascii_whitespace() || b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
        });
        match stray {
            Some(at) => {
                let newlines = content.iter().take(at).filter(|b| **b == b'\n').count();
                let found = content.get(at).map(|byte| format!("`{}`", byte.escape_ascii()));
                let expected = "A-Z, a-z, 0-9, `+`, `/` or `=`";
                fail(line + newlines, "a character that is not base64", expected, found.unwrap_or_default())
            }
            None => {
                let found = format!("{} characters", packed.len());
                fail(line, "base64 that is cut short or wrongly padded", "groups of four characters", found)
            }
        }
    })
}

/// Line numbers of ascending positions, in one pass over the text.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Lines<'_> {
    fn of(&mut self, position: usize) -> usize {
        if position > self.at {
            let between = self.text.get(self.at..position).unwrap_or_default();
            self.line += between.split(|b| *b == b'\n').count() - 1;
            self.at = position;
        }
        self.line
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn two() -> (String, String) {
        (encode("CERTIFICATE", &[1; 100]), encode("CERTIFICATE", &[2; 7]))
    }

    #[test]
    fn what_was_encoded_is_found_again() {
        let (first, second) = two();
        let scan = scan(format!("text before\n{first}\ncomment\n{second}").as_bytes(), "ca.pem").unwrap();
        assert_eq!(scan.blocks.iter().map(|b| (b.line, b.der.len())).collect::<Vec<_>>(), [(2, 100), (9, 7)]);
        assert!(scan.notes.is_empty(), "{:?}", scan.notes);
    }

    #[test]
    fn a_missing_final_newline_is_read_right_and_reported() {
        let (first, second) = two();
        let joined = format!("{}{second}", first.trim_end());
        let scan = scan(joined.as_bytes(), "ca.pem").unwrap();
        assert_eq!(scan.blocks.len(), 2);
        assert_eq!(scan.blocks[1].der.as_slice(), [2; 7]);
        assert_eq!(scan.notes.len(), 1);
        assert!(
            scan.notes[0].starts_with("line 5: a newline is missing between two blocks"),
            "{:?}",
            scan.notes
        );
    }

    #[test]
    fn windows_newlines_and_no_newlines_are_fine() {
        let (first, _) = two();
        assert_eq!(scan(first.replace('\n', "\r\n").as_bytes(), "x").unwrap().blocks.len(), 1);
        let flat = first.replace('\n', "");
        assert_eq!(scan(flat.as_bytes(), "x").unwrap().blocks[0].der.len(), 100);
    }

    #[test]
    fn a_block_that_others_would_overlook_is_reported() {
        let (first, _) = two();
        let scan = scan(format!("  {first}").as_bytes(), "x").unwrap();
        assert_eq!(scan.blocks.len(), 1);
        assert!(scan.notes[0].contains("something stands before"), "{:?}", scan.notes);
    }

    #[test]
    fn a_large_file_is_refused_before_it_is_read() {
        let error = scan(&vec![b'a'; MAX_BYTES + 1], "huge.pem").err().unwrap();
        assert_eq!(
            error.to_string(),
            "huge.pem: is too large to be certificates or keys (expected at most 16 MiB, found more)"
        );
    }
}
