//! Plays the scripts of an attack on the gRPC port: several connections, on each the same number of streams at once, a new
//! stream for each that ends, and a new connection when the gateway ends one.

use std::{
    any::Any,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncWriteExt as _, WriteHalf},
    time::{sleep, timeout, timeout_at},
};

use super::script::{End, Kind, Method, Rhythm, Script};
use crate::{
    attack::{Findings, Ground},
    transport::{Channel, Dialer},
    wire::{DATA, END_STREAM, Frames, PING, peer::Peer},
};

const CONNECTIONS: u32 = if cfg!(debug_assertions) { 3 } else { 6 };

/// Of so many connections one comes without a certificate, which only mutual TLS minds.
const STRANGERS: u32 = 3;

/// The payload of one frame.
const FRAME: usize = 16_384;

/// As much as is written in one go, so that no stream waits long for the others.
const ROUND: usize = 1024 * 1024;

/// Between two looks at a connection on which nothing happens; a slow peer sends a byte each time.
const TICK: Duration = Duration::from_millis(20);

/// Between two batches of new streams, and before a new connection: a debug build reads ten times slower.
const DELAY: Duration = Duration::from_millis(if cfg!(debug_assertions) { 20 } else { 2 });

/// An attack is at its height when nothing more could be sent for so many ticks.
const QUIET_TICKS: u32 = 3;

/// An attack that never pauses is at its height after this time.
const HEIGHT: Duration = Duration::from_secs(1);

/// By when an attack must be at its height.
const PATIENCE: Duration = Duration::from_secs(20);

/// Totals of all attackers of a cell.
#[derive(Debug, Default)]
struct Count {
    streams: AtomicU64,
    connections: AtomicU64,
}

/// Attacks until the time is over, and at least until every connection has had its batch read.
pub(super) async fn run(ground: Ground, kind: Kind, method: &'static Method) -> Findings {
    let count = Arc::new(Count::default());
    let attackers: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let stranger = number % STRANGERS == STRANGERS - 1;
            let dialer = if stranger { ground.stranger.clone() } else { ground.attacker.clone() };
            let count = Arc::clone(&count);
            let attacker = Attacker { dialer, kind, method, number, end: ground.target.end, count };
            tokio::spawn(attacker.run())
        })
        .collect();
    let mut findings = Findings::default();
    for attacker in attackers {
        match attacker.await.expect("an attacker does not panic") {
            Ok(kept) => findings.open.extend(kept),
            Err(fault) => findings.faults.push(fault),
        }
    }
    let (streams, connections) = (count.streams.load(Ordering::Relaxed), count.connections.load(Ordering::Relaxed));
    findings.figures.push(format!("{streams} streams on {connections} connections"));
    findings
}

struct Attacker {
    dialer: Dialer,
    kind: Kind,
    method: &'static Method,
    number: u32,
    end: Instant,
    count: Arc<Count>,
}

/// Why a connection is left.
enum Left {
    /// The time is over, and the connection stays open.
    Holding(Box<dyn Any + Send>),
    /// The gateway ended it.
    Ended,
    /// The attack did not get going.
    Stuck,
}

impl Attacker {
    async fn run(self) -> Result<Option<Box<dyn Any + Send>>, String> {
        loop {
            match timeout(PATIENCE, self.dialer.dial()).await {
                Ok(Ok(channel)) => {
                    self.count.connections.fetch_add(1, Ordering::Relaxed);
                    match self.besiege(channel).await {
                        Left::Holding(kept) => return Ok(Some(kept)),
                        Left::Ended => {}
                        Left::Stuck => return Err(format!("a connection is not read for {PATIENCE:?}")),
                    }
                }
                // Refused, as peers without a certificate may be.
                Ok(Err(_)) => {}
                Err(_) => return Err(format!("no connection in {PATIENCE:?}")),
            }
            sleep(DELAY).await;
            if Instant::now() > self.end {
                return Ok(None);
            }
        }
    }

    /// Keeps its number of streams open on one connection.
    async fn besiege(&self, channel: Channel) -> Left {
        let (read, write) = tokio::io::split(channel);
        let mut line = Connection { write, peer: Peer::reading(read), end: self.end, began: false };
        let left = self.play(&mut line).await;
        match left {
            Ok(()) => Left::Holding(Box::new(line)),
            Err(left) => left,
        }
    }

    async fn play(&self, line: &mut Connection) -> Result<(), Left> {
        line.send(Frames::greeting(&[])).await?;
        let mut streams: Vec<_> = (0..self.kind.streams()).map(|number| self.stream(number)).collect();
        let heads = streams.iter().fold(Frames::default(), |frames, stream| stream.head(frames));
        line.send(heads).await?;
        if streams.iter().any(|stream| stream.script.rhythm == Rhythm::Late) {
            sleep(TICK).await;
        }
        let started = Instant::now();
        let mut renewed = started;
        let (mut quiet, mut asked) = (0, false);
        loop {
            let mut frames = line.peer.replies();
            let mut progress = false;
            for stream in &mut streams {
                if frames.0.len() < ROUND && stream.may_go_on(&line.peer) {
                    let before = stream.sent;
                    frames = stream.step(&line.peer, frames);
                    progress |= stream.sent > before && stream.script.rhythm != Rhythm::Slow;
                }
            }
            if !asked && (quiet >= QUIET_TICKS || started.elapsed() > HEIGHT) {
                // Its response comes when all before it has been read.
                frames = frames.add(PING, 0, 0, b"all read");
                asked = true;
            }
            let now = Instant::now();
            if now > renewed + DELAY && now < self.end.max(started + PATIENCE) {
                renewed = now;
                for stream in streams.iter_mut().filter(|stream| stream.is_done(&line.peer)) {
                    *stream = self.stream(stream.number + self.kind.streams());
                    frames = stream.head(frames);
                }
            }
            line.send(frames).await?;
            line.began |= line.peer.pings_answered() > 0;
            if line.peer.is_over() {
                return Err(Left::Ended);
            }
            if line.began && now > self.end {
                return Ok(());
            }
            if !line.began && started.elapsed() > PATIENCE {
                return Err(Left::Stuck);
            }
            if progress {
                quiet = 0;
            } else if sleep_or(&line.peer, TICK).await {
                quiet += 1;
            }
        }
    }

    fn stream(&self, number: u32) -> Stream {
        self.count.streams.fetch_add(1, Ordering::Relaxed);
        Stream { number, script: Script::of(self.kind, self.method, self.number, number), sent: 0, over: false }
    }
}

/// A stream on its way through its script.
struct Stream {
    number: u32,
    script: Script,
    sent: usize,
    over: bool,
}

impl Stream {
    fn id(&self) -> u32 {
        self.number * 2 + 1
    }

    fn head(&self, frames: Frames) -> Frames {
        let more: Vec<_> = self.script.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        frames.head_with(self.id(), self.script.path, &more)
    }

    /// The next of its bytes that the windows let through, and its end after them.
    fn step(&mut self, peer: &Peer, frames: Frames) -> Frames {
        let Script { body, rhythm, end, .. } = &self.script;
        let most = if *rhythm == Rhythm::Slow { 1 } else { FRAME };
        let wanted = most.min(body.len() - self.sent);
        let taken = if wanted > 0 { peer.take_window(self.id(), wanted) } else { 0 };
        let data = &body[self.sent..self.sent + taken];
        self.sent += taken;
        let last = self.sent == body.len();
        let flags = if last && *end == End::Stream { END_STREAM } else { 0 };
        let frames = if taken > 0 { frames.add(DATA, flags, self.id(), data) } else { frames };
        if !last || *end == End::Never {
            return frames;
        }
        self.over = true;
        match end {
            End::Trailers => frames.trailers(self.id()),
            End::Reset => frames.reset(self.id()),
            End::Stream | End::Never => frames,
        }
    }

    fn may_go_on(&self, peer: &Peer) -> bool {
        !self.over
            && !peer.has_ended(self.id())
            && (self.sent < self.script.body.len() || self.script.end != End::Never)
    }

    /// Whether nothing of it is open any more.
    fn is_done(&self, peer: &Peer) -> bool {
        peer.has_ended(self.id()) || (self.over && self.script.end == End::Reset)
    }
}

/// Waits for something to come; `true` when nothing has for so long.
async fn sleep_or(peer: &Peer, time: Duration) -> bool {
    timeout(time, peer.changed()).await.is_err()
}

struct Connection {
    write: WriteHalf<Channel>,
    peer: Peer,
    end: Instant,
    /// Whether the gateway has read a whole batch.
    began: bool,
}

impl Connection {
    /// Sends frames: an attack at its height is not delayed past its end by a gateway that does not read.
    async fn send(&mut self, frames: Frames) -> Result<(), Left> {
        if frames.0.is_empty() {
            return Ok(());
        }
        let limit = if self.began { self.end.max(Instant::now() + TICK) } else { Instant::now() + PATIENCE };
        let written = timeout_at(limit.into(), async {
            self.write.write_all(&frames.0).await?;
            self.write.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Left::Ended),
            Err(_) if self.began => Ok(()),
            Err(_) => Err(Left::Stuck),
        }
    }
}
