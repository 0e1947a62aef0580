//! Tables: they fit a terminal by wrapping, and have one line a row and no frame in a pipe.

use std::io::{self, IsTerminal as _, Write};

use comfy_table::{ColumnConstraint, ContentArrangement, LineStyle, Table, presets};

/// The width of a terminal that does not tell it.
const USUAL_WIDTH: u16 = 80;

/// The headings of ids, which are whole in every terminal: a wrapped one can't be copied.
const IDS: [&str; 3] = ["CERTIFICATE", "ID", "INSTANCE"];

/// The longest id that is kept whole: those of the cloud's documents have 36 characters at most.
const LONGEST_ID: usize = 40;

/// Prints rows below their headings.
pub(super) fn print(headings: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
    let mut out = io::stdout();
    let width = out.is_terminal().then(|| match terminal_size::terminal_size_of(&out) {
        Some((terminal_size::Width(width), _)) if width > 0 => width,
        _ => USUAL_WIDTH,
    });
    out.write_all(text(headings, rows, width).as_bytes())
}

/// The table, wrapped to a width if one is given.
fn text(headings: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.iter().copied());
    for row in rows {
        table.add_row(row.into_iter().map(|cell| clean(&cell)));
    }
    match width {
        Some(width) => {
            table.style_mut().header_separator = LineStyle::none().fill('─').junction('─');
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        }
        None => _ = table.set_content_arrangement(ContentArrangement::Disabled),
    }
    let (widths, last) = (table.column_max_content_widths(), headings.last());
    for ((column, heading), widest) in table.column_iter_mut().zip(headings).zip(widths) {
        column.set_padding((0, if Some(heading) == last { 0 } else { 2 }));
        if IDS.contains(heading) && usize::from(widest) <= LONGEST_ID {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// A text of the cloud without control characters: none may move the cursor or end a row.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        vec![row(["www.example.com", "f0fa1789-3b76-433b-a787-9892951c620e"]), row(["\x1b[2Jevil\n", ""])]
    }

    #[test]
    fn a_pipe_gets_a_line_for_each_row() {
        let text = text(&["DOMAIN", "INSTANCE"], rows(), None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["DOMAIN", "INSTANCE"]);
        assert!(lines[1].starts_with("www.example.com"), "{text}");
        assert_eq!(lines[2], "\u{fffd}[2Jevil\u{fffd}");
    }

    #[test]
    fn a_terminal_gets_no_line_that_is_wider() {
        for width in [60, 80, 200] {
            let text = text(&["DOMAIN", "INSTANCE"], rows(), Some(width));
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(width.into()), "{width}:\n{text}");
            assert!(text.contains("f0fa1789-3b76-433b-a787-9892951c620e"), "an id is whole:\n{text}");
        }
    }
}
