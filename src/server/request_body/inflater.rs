//! Decompresses gzip as it arrives, up to the message limit, and charges each piece of output.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

use super::{ReadError, segments::Segments};
use crate::admission::Ledger;

/// The memory of an inflater: a window of 32 KiB, its tables, and a buffer of 32 KiB.
pub(super) const COST: usize = 80 * 1024;

#[derive(Debug)]
pub(super) struct Inflater {
    decoder: MultiGzDecoder<Sink>,
    limit: usize,
}

#[derive(Debug)]
struct Sink {
    segments: Segments,
    limit: usize,
    is_full: bool,
}

impl Inflater {
    pub(super) fn new(limit: usize) -> Self {
        let sink = Sink { segments: Segments::default(), limit, is_full: false };
        Self { decoder: MultiGzDecoder::new(sink), limit }
    }

    /// Decompresses more data. The decoder produces at most 32 KiB at a time, which bounds the uncharged memory.
    pub(super) fn write(&mut self, mut packed: &[u8], ledger: &mut impl Ledger) -> Result<(), ReadError> {
        while !packed.is_empty() {
            // The decoder stores the name and the comment of a header.
            let is_header = self.decoder.header().is_none();
            let taken = self.decoder.write(packed).map_err(|error| self.error(&error))?;
            if taken == 0 {
                return Err(ReadError::malformed("gzip: data after the trailer"));
            }
            let header = if is_header { taken } else { 0 };
            ledger.charge(header + self.decoder.get_mut().segments.take_uncharged())?;
            packed = packed.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Checks that the data is complete, and returns the message.
    pub(super) fn finish(mut self, ledger: &mut impl Ledger) -> Result<Segments, ReadError> {
        self.decoder.try_finish().map_err(|error| self.error(&error))?;
        let mut segments = std::mem::take(&mut self.decoder.get_mut().segments);
        ledger.charge(segments.take_uncharged())?;
        Ok(segments)
    }

    fn error(&self, error: &io::Error) -> ReadError {
        if self.decoder.get_ref().is_full {
            return ReadError::TooLarge(self.limit);
        }
        ReadError::Malformed(format!("gzip: {error}"))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.segments.len() {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.segments.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
