//! The sink for log lines and panics on standard error. Logging never blocks on its reader.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Write as _},
    os::fd::AsFd as _,
    panic::PanicHookInfo,
    sync::{LazyLock, OnceLock},
    time::{Duration, SystemTime},
};

use prometheus_client::metrics::counter::Counter;
use tracing::warn;

use super::LogFormat;
use crate::sink::{self, Outlet, Sink};

/// The sink, set once opened.
static SINK: OnceLock<Sink> = OnceLock::new();

/// The lines lost in the whole process.
static LOST: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Opens the sink. Later log lines do not block.
///
/// # Errors
///
/// The descriptor can't be duplicated, or no thread can be started.
pub(crate) fn open() -> io::Result<()> {
    if SINK.get().is_none() {
        // If two callers race, the second sink is dropped and ends at once.
        let _ = SINK.set(Sink::start(Stderr, LOST.clone())?);
    }
    Ok(())
}

/// The counter of lost log lines.
pub(crate) fn lines_lost() -> Counter {
    LOST.clone()
}

/// Writes a message of the program to standard error, through the sink if it is open.
pub(crate) fn say(text: &str) {
    let line = format!("apig-grpc-gateway: {text}\n");
    let _ = Lines.write_all(line.as_bytes());
}

/// Logs panics instead of printing the standard library's message.
pub(super) fn log_panics(format: LogFormat) {
    std::panic::set_hook(Box::new(move |panic| {
        let _ = Lines.write_all(panic_line(format, panic).as_bytes());
    }));
}

/// The log line of a panic. Its message is printed only if it is a literal: a formatted one may contain a secret.
///
/// Formatted without `tracing`, because the panicking thread may hold its locks.
fn panic_line(format: LogFormat, panic: &PanicHookInfo<'_>) -> String {
    let text = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(withheld: not a literal)");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or_default();
    let time = humantime::format_rfc3339_micros(SystemTime::now());
    match format {
        LogFormat::Text => {
            format!("{time} ERROR a thread panicked thread={thread:?} location={location} text={text:?}\n")
        }
        LogFormat::Json => {
            let mut line = format!(r#"{{"timestamp":"{time}","level":"ERROR","message":"a thread panicked""#);
            for (name, value) in [("thread", thread), ("location", &location), ("text", text)] {
                let value = serde_json::Value::from(value);
                let _ = write!(line, r#","{name}":{value}"#);
            }
            line.push_str("}\n");
            line
        }
    }
}

/// Standard error as the destination of a sink.
struct Stderr;

impl Outlet for Stderr {
    const NAME: &'static str = "log";
    const LIMIT: usize = 1024 * 1024;
    const LINGER: Duration = Duration::from_millis(5);

    fn open(&self) -> io::Result<File> {
        sink::duplicate(io::stderr().as_fd())
    }

    // There is no other place to report it; the lines are counted.
    fn failed(&self, _line: &[u8], _fault: &io::Error) {}

    fn report(&self, lines: u64) {
        warn!(lines, "log lines were lost");
    }
}

/// Writes one or more whole lines in a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines;

impl io::Write for Lines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match SINK.get() {
            Some(sink) => {
                // A line that does not fit is counted. `tracing` would print a returned error to standard error.
                sink.append(lines);
                Ok(lines.len())
            }
            None => io::stderr().write(lines),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "../../tests/it/canary/leak.rs"]
mod leak;
#[cfg(test)]
mod tests {
    use std::{
        panic::{catch_unwind, panic_any, set_hook, take_hook},
        sync::{Arc, Mutex},
    };

    use super::{leak, *};

    /// The lines of some panics.
    fn lines(format: LogFormat, panics: &[fn()]) -> Vec<String> {
        // The hook is global; concurrent panics of other tests are on other threads.
        let (lines, thread) = (Arc::new(Mutex::new(Vec::new())), std::thread::current().id());
        let sink = Arc::clone(&lines);
        let before = Arc::new(take_hook());
        let others = Arc::clone(&before);
        set_hook(Box::new(move |panic| {
            if std::thread::current().id() == thread {
                sink.lock().unwrap().push(panic_line(format, panic));
            } else {
                others(panic);
            }
        }));
        for panic in panics {
            catch_unwind(panic).unwrap_err();
        }
        set_hook(Box::new(move |panic| before(panic)));
        lines.lock().unwrap().clone()
    }

    #[test]
    fn a_panic_shows_its_text_only_if_that_is_a_literal() {
        static SECRET: &str = r#"hun"ter\2/<&>%é-canary-hunter"#;
        let panics: [fn(); 4] = [
            || panic!("a \"literal\""),
            || panic!("the token {SECRET} is wrong"),
            || panic_any(SECRET.to_owned()),
            || assert_eq!(SECRET.parse(), Ok(2), "{SECRET} is no number"),
        ];
        let json = lines(LogFormat::Json, &panics);
        let texts: Vec<String> = json
            .iter()
            .map(|line| {
                assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(line["location"].as_str().unwrap().starts_with("src/log/stderr.rs:"), "{line}");
                assert_eq!((&line["level"], &line["message"]), (&"ERROR".into(), &"a thread panicked".into()));
                line["text"].as_str().unwrap().to_owned()
            })
            .collect();
        let withheld = "(withheld: not a literal)";
        assert_eq!(texts, ["a \"literal\"", withheld, withheld, withheld]);
        let text = lines(LogFormat::Text, &panics).concat();
        assert!(text.contains("ERROR a thread panicked") && text.lines().count() == 4, "{text}");
        // Nor any run of it, so that no escaped form hides the rest.
        let letters: Vec<char> = SECRET.chars().collect();
        for run in letters.windows(6).map(|run| run.iter().collect::<String>()) {
            assert!(!text.contains(&run) && !json.concat().contains(&run), "{run}");
        }
    }

    /// The canary of `tests/it` for panics. Nothing that a peer sends makes a handler panic, so this is the one place where
    /// its search can see one.
    #[test]
    fn a_panic_shows_no_piece_of_a_long_secret() {
        static SECRET: LazyLock<String> =
            LazyLock::new(|| (0..60).map(|number| leak::password(&number.to_string())).collect());
        assert!(SECRET.len() >= leak::TOKEN_LENGTH);
        let panics: [fn(); 4] = [
            || panic!("the token {} is wrong", *SECRET),
            || panic!("the token {:?} is wrong", *SECRET),
            || panic_any(SECRET.clone()),
            || assert_eq!(SECRET.parse(), Ok(2)),
        ];
        let log = [LogFormat::Text, LogFormat::Json].map(|format| lines(format, &panics).concat()).concat();
        assert_eq!(log.matches("a thread panicked").count(), 2 * panics.len());
        leak::Parts::of(&[("secret", SECRET.clone())]).assert_absent(&log, "panics");
    }
}
