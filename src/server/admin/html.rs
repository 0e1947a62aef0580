//! Pieces of HTML: escaped text, times, durations, and tables.

use std::{
    fmt::{self, Display, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Text as the content of an element or of a quoted attribute.
pub(super) struct Text<T>(pub(super) T);

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                _ => self.0.write_char(letter)?,
            }
        }
        Ok(())
    }
}

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// A time of day in UTC, to the second.
pub(super) struct Time(pub(super) SystemTime);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = humantime::format_rfc3339_seconds(self.0).to_string();
        let shown = time.replace('T', " ").replace('Z', " UTC");
        write!(f, r#"<time datetime="{time}">{shown}</time>"#)
    }
}

/// A time since 1970, with its distance from now.
pub(super) struct Moment {
    pub(super) seconds: i64,
    pub(super) now: SystemTime,
}

impl Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The longest that can be written: a certificate may be valid for ever.
        const LAST: u64 = 253_402_300_799;
        let time = UNIX_EPOCH + Duration::from_secs(self.seconds.max(0).unsigned_abs().min(LAST));
        write!(f, "{}, ", Time(time))?;
        match time.duration_since(self.now) {
            Ok(left) => write!(f, "in {}", Span(left)),
            Err(past) => write!(f, "{} ago", Span(past.duration())),
        }
    }
}

/// A duration in its two largest units.
pub(super) struct Span(pub(super) Duration);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, ..) => write!(f, "{hours} h {minutes} min"),
            _ => write!(f, "{days} d {hours} h"),
        }
    }
}

/// A number of bytes.
pub(super) struct Bytes(pub(super) usize);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
        let bytes = self.0 as f64;
        match self.0 {
            0..1024 => write!(f, "{} B", self.0),
            1024..1_048_576 => write!(f, "{:.1} KiB", bytes / 1024.0),
            _ => write!(f, "{:.1} MiB", bytes / 1_048_576.0),
        }
    }
}

/// A table of names and values. Values are HTML.
pub(super) fn facts(caption: &str, rows: &[(&str, String)]) -> String {
    let mut html = format!("<table class=facts>\n<caption>{}</caption>\n", Text(caption));
    for (name, value) in rows {
        let _ = writeln!(html, "<tr><th scope=row>{}</th><td>{value}</td></tr>", Text(name));
    }
    html + "</table>\n"
}

/// A table with a heading for each column. Values are HTML.
pub(super) fn table(caption: &str, columns: &[&str], rows: &[Vec<String>]) -> String {
    let mut html = format!("<table class=rows>\n<caption>{}</caption>\n<thead><tr>", Text(caption));
    for column in columns {
        let _ = write!(html, "<th scope=col>{}</th>", Text(column));
    }
    html += "</tr></thead>\n<tbody>\n";
    for row in rows {
        html += "<tr>";
        for (column, value) in columns.iter().zip(row) {
            // On a phone each cell is a line of its own, with the name of its column.
            let _ = write!(html, r#"<td data-column="{}">{value}</td>"#, Text(column));
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_can_not_leave_its_element_or_attribute() {
        let hostile = r#"</td><script>alert('x')</script>" onload="&"#;
        assert_eq!(
            Text(hostile).to_string(),
            "&lt;/td&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot; onload=&quot;&amp;"
        );
        assert_eq!(Text(format_args!("{} {}", 1, '<')).to_string(), "1 &lt;");
    }

    #[test]
    fn times_and_sizes_are_those_of_people() {
        let span = |seconds| Span(Duration::from_secs(seconds)).to_string();
        let spans = [span(0), span(59), span(61), span(7_265), span(200_000)];
        assert_eq!(spans, ["0 s", "59 s", "1 min 1 s", "2 h 1 min", "2 d 7 h"]);
        let size = |bytes| Bytes(bytes).to_string();
        assert_eq!([size(0), size(1023), size(1536), size(32 << 20)], ["0 B", "1023 B", "1.5 KiB", "32.0 MiB"]);
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let moment = |seconds, now| Moment { seconds, now }.to_string();
        let shown = r#"<time datetime="2001-09-09T01:47:40Z">2001-09-09 01:47:40 UTC</time>, "#;
        assert_eq!(moment(1_000_000_060, now), format!("{shown}in 1 min 0 s"));
        assert_eq!(moment(1_000_000_060, now + Duration::from_secs(120)), format!("{shown}1 min 0 s ago"));
        assert!(moment(i64::MAX, now).contains("9999-12-31"));
    }
}
