//! The gateway's side of a connection as far as a client has to know it: windows, ended streams, responses that it expects.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::Notify,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    ACK, END_STREAM, Frame, Frames, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    take_frames,
};

/// RFC 9113, section 6.9.2: windows before any settings.
const WINDOW: i64 = 65_535;

#[derive(Debug)]
struct State {
    connection: i64,
    initial: i64,
    /// The difference of each stream's window from the initial one.
    streams: HashMap<u32, i64>,
    ended: HashSet<u32>,
    /// Frames to send: acknowledgements.
    replies: Frames,
    pings_answered: u64,
    /// No new stream will be taken.
    over: bool,
}

/// The state of a connection as its peer has announced it. A task, which ends with the value, reads its frames.
#[derive(Debug)]
pub(crate) struct Peer {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    _reader: AbortOnDropHandle<()>,
}

impl Peer {
    pub(crate) fn reading(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let state = State {
            connection: WINDOW,
            initial: WINDOW,
            streams: HashMap::new(),
            ended: HashSet::new(),
            replies: Frames::default(),
            pings_answered: 0,
            over: false,
        };
        let state = Arc::new(Mutex::new(state));
        let changed = Arc::new(Notify::new());
        let reader = tokio::spawn(read(stream, Arc::clone(&state), Arc::clone(&changed)));
        Self { state, changed, _reader: AbortOnDropHandle::new(reader) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something has come.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(crate) fn has_ended(&self, stream: u32) -> bool {
        self.state().ended.contains(&stream)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state().over
    }

    pub(crate) fn pings_answered(&self) -> u64 {
        self.state().pings_answered
    }

    /// Acknowledgements that have to be sent.
    pub(crate) fn replies(&self) -> Frames {
        std::mem::take(&mut self.state().replies)
    }

    /// Takes as much of both windows as there is, up to `wanted`.
    pub(crate) fn take_window(&self, stream: u32, wanted: usize) -> usize {
        let mut state = self.state();
        let own = state.initial + state.streams.get(&stream).copied().unwrap_or_default();
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        let taken = wanted.min(own).min(state.connection).max(0);
        state.connection -= taken;
        *state.streams.entry(stream).or_default() -= taken;
        usize::try_from(taken).expect("it is not negative")
    }
}

async fn read(mut stream: impl AsyncRead + Unpin, state: Arc<Mutex<State>>, changed: Arc<Notify>) {
    let mut bytes = Vec::new();
    let mut block = vec![0; 16_384];
    loop {
        let read = stream.read(&mut block).await.unwrap_or_default();
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.over |= read == 0;
        bytes.extend_from_slice(&block[..read]);
        take_frames(&mut bytes, |frame| state.hear(&frame));
        drop(state);
        changed.notify_one();
        if read == 0 {
            return;
        }
    }
}

impl State {
    fn hear(&mut self, frame: &Frame<'_>) {
        let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| i64::from(u32::from_be_bytes(*bytes)));
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => {
                for setting in frame.payload.chunks_exact(6) {
                    if setting[..2] == INITIAL_WINDOW_SIZE.to_be_bytes() {
                        self.initial = number(&setting[2..]);
                    }
                }
                self.reply(SETTINGS, &[]);
            }
            PING if frame.flags & ACK == 0 => self.reply(PING, frame.payload),
            PING => self.pings_answered += 1,
            WINDOW_UPDATE if frame.stream == 0 => self.connection += number(frame.payload),
            WINDOW_UPDATE => *self.streams.entry(frame.stream).or_default() += number(frame.payload),
            RST_STREAM => drop(self.ended.insert(frame.stream)),
            HEADERS if frame.flags & END_STREAM != 0 => drop(self.ended.insert(frame.stream)),
            GOAWAY => self.over = true,
            _ => {}
        }
    }

    fn reply(&mut self, kind: u8, payload: &[u8]) {
        self.replies = std::mem::take(&mut self.replies).add(kind, ACK, 0, payload);
    }
}
