//! The trust matrix and the forecast, for people.

use serde_json::Value;
use stdlib::trust::{Evidence, Forecast, Holds, Matrix};

use super::{style, table};

/// The word of a cell: `holds`, `part`, `FAILS`, with a mark for what it rests on.
fn cell(matrix: &Matrix, client: &str, server: &str) -> String {
    let Some(cell) = matrix.cell(client, server) else { return "·".into() };
    let word = match cell.holds {
        Holds::All => "holds".to_owned(),
        Holds::Some => format!("{}/{}", cell.holding, cell.links),
        Holds::None => "FAILS".to_owned(),
    };
    let mark = match cell.evidence {
        Evidence::Measured => "m",
        Evidence::Inferred => "i",
        Evidence::Unknown => "?",
    };
    format!("{word} {mark}")
}

/// Clients down, servers across.
pub fn text(value: &Value) -> String {
    let Ok(matrix) = serde_json::from_value::<Matrix>(value.clone()) else {
        return "    the trust matrix cannot be shown".into();
    };
    if matrix.cells.is_empty() {
        return "    nobody dials anybody".into();
    }
    let mut heading = vec!["dials"];
    heading.extend(matrix.servers.iter().map(String::as_str));
    let mut rows = table::plain(&heading);
    for client in &matrix.clients {
        let mut row = vec![client.clone()];
        row.extend(matrix.servers.iter().map(|server| cell(&matrix, client, server)));
        rows.add_row(row);
    }
    let links: usize = matrix.cells.iter().map(|cell| cell.links).sum();
    let holding: usize = matrix.cells.iter().map(|cell| cell.holding).sum();
    let sum = format!("{holding} of {} hold", style::plural(links as u64, "link"));
    let sum = if matrix.holds() { style::good().apply_to(sum) } else { style::bad().apply_to(sum) };
    let mut lines: Vec<String> = table::text(&rows).lines().map(|line| format!("    {line}")).collect();
    lines.push(format!("    {sum}   {}", style::faint().apply_to("m measured, i inferred, ? unknown")));
    for reason in matrix.cells.iter().filter_map(|cell| cell.reason.as_ref()) {
        lines.push(style::wrap(reason, 6, style::width()));
    }
    lines.join("\n")
}

/// What the forecast of a phase says.
pub fn forecast(gap_free: bool, value: &Value) -> String {
    let Ok(forecast) = serde_json::from_value::<Forecast>(value.clone()) else {
        return format!("    forecast: {}", if gap_free { "no link breaks" } else { "links would break" });
    };
    let counted = format!(
        "{}, {} of old and new",
        style::plural(forecast.links as u64, "link"),
        style::plural(forecast.combinations as u64, "combination"),
    );
    let mut lines = Vec::new();
    if gap_free {
        lines.push(format!("    {} forecast: no link breaks ({counted})", style::good().apply_to("ok  ")));
    } else {
        lines.push(format!("    {} forecast: links would break ({counted})", style::bad().apply_to("FAIL")));
        for broken in forecast.counterexamples() {
            lines.push(style::wrap(&broken.to_string(), 9, style::width()));
        }
    }
    if !forecast.already_broken.is_empty() {
        let broken = forecast.already_broken.len() as u64;
        let fail = if broken == 1 { "fails" } else { "fail" };
        let text = format!("{} {fail} already, before this phase", style::plural(broken, "combination"));
        lines.push(format!("    {} {text}", style::warn().apply_to("note:")));
    }
    lines.join("\n")
}
