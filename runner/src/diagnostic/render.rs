//! Diagnostics as text, as compilers print them.

use std::fmt::Write as _;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents,
};

use super::{Diagnostic, Severity, Spot};

/// How a text is decorated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// For a terminal, with colour.
    Colour,
    /// The same without colour: `NO_COLOR`, files, tests.
    Plain,
}

/// One diagnostic, with the line it speaks of, ending in a newline.
pub fn render(diagnostic: &Diagnostic, paint: Paint) -> String {
    let theme = match paint {
        Paint::Colour => GraphicalTheme::unicode(),
        Paint::Plain => GraphicalTheme::unicode_nocolor(),
    };
    let handler =
        GraphicalReportHandler::new_themed(theme).with_context_lines(0).with_width(120).with_links(false);
    let mut text = String::new();
    let report = Report::new(diagnostic);
    if handler.render_report(&mut text, &report).is_err() {
        text = format!("{diagnostic}\n");
    }
    for frame in diagnostic.chain.iter().rev() {
        let _ = writeln!(text, "  in {}, called at {}", frame.callee, frame.at);
    }
    text
}

/// Several diagnostics, a blank line between them.
pub fn render_all(diagnostics: &[Diagnostic], paint: Paint) -> String {
    diagnostics.iter().map(|diagnostic| render(diagnostic, paint)).collect::<Vec<_>>().join("\n")
}

/// A diagnostic as miette wants it: one source, the labels in it, other files as related reports.
#[derive(Debug)]
struct Report<'a> {
    diagnostic: &'a Diagnostic,
    source: Option<Lines>,
    labels: Vec<LabeledSpan>,
    related: Vec<Elsewhere>,
}

impl<'a> Report<'a> {
    fn new(diagnostic: &'a Diagnostic) -> Self {
        let Some(first) = diagnostic.spots.first() else {
            return Self { diagnostic, source: None, labels: Vec::new(), related: Vec::new() };
        };
        let (here, there): (Vec<_>, Vec<_>) =
            diagnostic.spots.iter().partition::<Vec<&Spot>, _>(|spot| spot.at.file == first.at.file);
        let (text, labels) = excerpt(&here);
        let related = there.into_iter().map(Elsewhere::new).collect();
        Self { diagnostic, source: Some(Lines { file: first.at.file.clone(), text }), labels, related }
    }
}

/// A source that shows the whole line of a span and no others, for the lines between are not known here.
#[derive(Debug)]
struct Lines {
    file: String,
    text: String,
}

impl SourceCode for Lines {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        _: usize,
        _: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let begin =
            self.text.get(..span.offset()).and_then(|head| head.rfind('\n')).map_or(0, |newline| newline + 1);
        let tail = span.offset() + span.len();
        let end = self
            .text
            .get(tail..)
            .and_then(|rest| rest.find('\n'))
            .map_or(self.text.len(), |newline| tail + newline);
        let contents = self.text.read_span(&SourceSpan::from((begin, end - begin)), 0, 0)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.file.clone(),
            contents.data(),
            *contents.span(),
            contents.line(),
            self.text.get(begin..span.offset()).map_or(0, |lead| lead.chars().count()),
            contents.line_count(),
        )))
    }
}

/// A text that has the lines of the spots at their places and nothing else, so that line numbers are right.
fn excerpt(spots: &[&Spot]) -> (String, Vec<LabeledSpan>) {
    let mut ordered: Vec<(usize, &&Spot)> = spots.iter().enumerate().collect();
    ordered.sort_by_key(|(_, spot)| spot.at.line);
    let mut text = String::new();
    let mut starts: Vec<(usize, usize)> = Vec::new();
    let mut labels = Vec::new();
    let mut line = 1;
    for (order, spot) in ordered {
        let start = match starts.last() {
            Some((known, start)) if *known == spot.at.line => *start,
            _ => {
                while line < spot.at.line {
                    text.push('\n');
                    line += 1;
                }
                let start = text.len();
                text.push_str(&spot.line);
                starts.push((spot.at.line, start));
                start
            }
        };
        let byte =
            |column: usize| spot.line.char_indices().nth(column).map_or(spot.line.len(), |(index, _)| index);
        let from = byte(spot.at.column.saturating_sub(1));
        let to = byte(spot.at.column.saturating_sub(1) + spot.length);
        let label = (!spot.label.is_empty()).then(|| spot.label.clone());
        let span = (start + from, to.saturating_sub(from));
        labels.push(if order == 0 {
            LabeledSpan::new_primary_with_span(label, span)
        } else {
            LabeledSpan::new_with_span(label, span)
        });
    }
    text.push('\n');
    (text, labels)
}

impl std::fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn code<'b>(&'b self) -> Option<Box<dyn std::fmt::Display + 'b>> {
        Some(Box::new(&self.diagnostic.code))
    }
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }
    fn help<'b>(&'b self) -> Option<Box<dyn std::fmt::Display + 'b>> {
        self.diagnostic.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn std::fmt::Display>)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.labels.is_empty())
            .then(|| Box::new(self.labels.iter().cloned()) as Box<dyn Iterator<Item = LabeledSpan>>)
    }
    fn related<'b>(&'b self) -> Option<Box<dyn Iterator<Item = &'b dyn miette::Diagnostic> + 'b>> {
        (!self.related.is_empty()).then(|| {
            Box::new(self.related.iter().map(|other| other as &dyn miette::Diagnostic))
                as Box<dyn Iterator<Item = _>>
        })
    }
}

/// The other place of a contradiction, in another file.
#[derive(Debug)]
struct Elsewhere {
    message: String,
    source: Lines,
    labels: Vec<LabeledSpan>,
}

impl Elsewhere {
    fn new(spot: &Spot) -> Self {
        let (text, labels) = excerpt(&[spot]);
        let message = if spot.label.is_empty() { "the other place".to_owned() } else { spot.label.clone() };
        Self { message, source: Lines { file: spot.at.file.clone(), text }, labels }
    }
}

impl std::fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Elsewhere {}

impl miette::Diagnostic for Elsewhere {
    fn severity(&self) -> Option<miette::Severity> {
        Some(miette::Severity::Advice)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}
