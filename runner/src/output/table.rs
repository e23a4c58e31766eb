//! Plain tables that fit a terminal.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table};

use super::style;

/// A table with a heading and no frame.
pub fn plain(heading: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(style::width()).unwrap_or(100));
    table.set_header(heading.iter().map(|text| text.to_uppercase()));
    table
}

/// Keeps these columns from being broken into lines.
pub fn whole(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
}

/// The table as text, without trailing blanks.
pub fn text(table: &Table) -> String {
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Aligns a column of numbers.
pub fn right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// What a step has seen.
pub fn seen(shown: &stdlib::gate::Table) -> String {
    let heading: Vec<&str> = shown.heading.iter().map(String::as_str).collect();
    let mut table = plain(&heading);
    for row in &shown.rows {
        table.add_row(row);
    }
    text(&table)
}
