//! Lines of a program's log.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
};

use tokio::{process::ChildStderr, sync::mpsc};

/// A log that is read on demand. A reader that stops leaves the pipe to fill up.
#[derive(Debug)]
pub struct Log(Option<mpsc::Receiver<String>>);

impl Log {
    /// Reads on a thread of its own, one line ahead, so that the log may be consumed in any runtime.
    pub(super) fn of(stderr: ChildStderr) -> Self {
        let (send, lines) = mpsc::channel(1);
        let mut stderr = BufReader::new(File::from(stderr.into_owned_fd().unwrap()));
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                if send.blocking_send(text).is_err() {
                    // The log was dropped; with a closed pipe the program would log about it.
                    let _ = std::io::copy(&mut stderr, &mut std::io::sink());
                    return;
                }
                line.clear();
            }
        });
        Self(Some(lines))
    }

    /// The next line; `None` after the last one, and after the log was taken.
    pub async fn next(&mut self) -> Option<String> {
        self.0.as_mut()?.recv().await
    }

    /// All lines up to the end of the program.
    pub async fn rest(&mut self) -> String {
        let mut rest = String::new();
        while let Some(line) = self.next().await {
            rest += &line;
            rest.push('\n');
        }
        rest
    }

    pub(super) fn take(&mut self) -> Self {
        Self(self.0.take())
    }
}
