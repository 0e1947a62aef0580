//! Writes whole lines to a descriptor, with handling of errors, short writes and non-blocking descriptors.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    time::Duration,
};

/// The longest atomic write to a pipe (`PIPE_BUF` on Linux). Standard output and standard error may share a pipe.
const ATOMIC: usize = 4096;

/// The retry interval for a non-blocking descriptor that is full.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// A destination of lines.
#[derive(Debug)]
pub(super) struct Output<W> {
    writer: W,
    /// The maximum length of a write.
    longest: usize,
    /// Whether the last line was written in part.
    is_broken: bool,
}

impl Output<File> {
    pub(super) fn to(file: File) -> Self {
        // Appends to a regular file are atomic at any length.
        let is_regular = file.metadata().is_ok_and(|data| data.is_file());
        Self::new(file, if is_regular { usize::MAX } else { ATOMIC })
    }
}

impl<W: Write> Output<W> {
    fn new(writer: W, longest: usize) -> Self {
        Self { writer, longest, is_broken: false }
    }

    /// Writes lines, each of which ends with a line feed.
    ///
    /// # Errors
    ///
    /// How many bytes of whole lines have been written, and the error that stopped the rest.
    pub(super) fn write_lines(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut done = 0;
        while let Some(rest) = lines.get(done..).filter(|rest| !rest.is_empty()) {
            if self.is_broken {
                // Ends the truncated line, so that the next one is separate.
                self.write(b"\n").map_err(|(_, fault)| (done, fault))?;
                self.is_broken = false;
            }
            let chunk = chunk(rest, self.longest);
            if let Err((written, fault)) = self.write(chunk) {
                let part = chunk.get(..written).unwrap_or_default();
                let whole = part.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                self.is_broken = written > whole;
                return Err((done + whole, fault));
            }
            done += chunk.len();
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.writer.write(rest) {
                Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
                // Another process that shares the descriptor made it non-blocking; poll until it is writable.
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => std::thread::park_timeout(RETRY_DELAY),
                Err(fault) => return Err((written, fault)),
            }
        }
        Ok(())
    }
}

/// As many whole lines as fit, and at least one.
fn chunk(lines: &[u8], longest: usize) -> &[u8] {
    if lines.len() <= longest {
        return lines;
    }
    let is_end = |byte: &u8| *byte == b'\n';
    let fitting = lines.get(..longest).and_then(|part| part.iter().rposition(is_end));
    let end = fitting.or_else(|| lines.iter().position(is_end)).map_or(lines.len(), |at| at + 1);
    lines.get(..end).unwrap_or(lines)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// Accepts a scripted number of bytes for each write; 0 is a full disk.
    struct Scripted {
        script: VecDeque<usize>,
        taken: Vec<u8>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.script.pop_front() {
                Some(0) => Err(ErrorKind::StorageFull.into()),
                room => {
                    let taken = room.unwrap_or(usize::MAX).min(bytes.len());
                    self.taken.extend_from_slice(&bytes[..taken]);
                    Ok(taken)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output(script: &[usize], longest: usize) -> Output<Scripted> {
        Output::new(Scripted { script: script.iter().copied().collect(), taken: Vec::new() }, longest)
    }

    #[test]
    fn after_a_line_that_was_cut_the_next_one_begins_anew() {
        let mut output = output(&[6, 0, 0], usize::MAX);
        let (written, fault) = output.write_lines(b"one\ntwo\nthree\n").unwrap_err();
        assert_eq!((written, fault.kind()), (4, ErrorKind::StorageFull));
        // The disk is still full, then there is room.
        assert_eq!(output.write_lines(b"four\n").unwrap_err().0, 0);
        output.write_lines(b"five\n").unwrap();
        assert_eq!(output.writer.taken, b"one\ntw\nfive\n");
    }

    #[test]
    fn writes_to_pipes_end_with_a_line_and_stay_atomic() {
        assert_eq!(chunk(b"aa\nbb\ncc\n", 7), b"aa\nbb\n");
        assert_eq!(chunk(b"aa\nbb\ncc\n", 9), b"aa\nbb\ncc\n");
        assert_eq!(chunk(b"a line that is too long\nb\n", 5), b"a line that is too long\n");
    }

    proptest! {
        #[test]
        fn no_line_is_ever_mixed_with_another(
            script in prop::collection::vec(0_usize..20, 0..40),
            lines in prop::collection::vec("[a-z]{0,12}", 1..40),
            longest in 1_usize..30,
        ) {
            let mut output = output(&script, longest);
            let (mut written, mut failed) = (Vec::new(), Vec::new());
            for pair in lines.chunks(2) {
                let batch = pair.iter().fold(String::new(), |batch, line| batch + "<" + line + ">\n");
                let done = output.write_lines(batch.as_bytes()).map_or_else(|(done, _)| done, |()| batch.len());
                written.extend(batch[..done].lines().map(str::to_owned));
                failed.extend(batch[done..].lines().map(str::to_owned));
            }
            prop_assert_eq!(written.len() + failed.len(), lines.len());
            let taken = String::from_utf8(output.writer.taken).unwrap();
            // Each line that counts as written is there, in order; the others are the beginnings of lines that failed.
            let (whole, parts): (Vec<_>, Vec<_>) = taken.lines().partition(|line| line.ends_with('>'));
            prop_assert_eq!(parts.iter().filter(|part| !failed.iter().any(|line| line.starts_with(*part))).count(), 0);
            let mut left = whole.into_iter();
            for line in &written {
                prop_assert!(left.any(|found| found == line), "{line} is missing");
            }
        }
    }
}
