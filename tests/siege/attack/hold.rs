//! Attacks that do little and stay: peers that do not greet, that say nothing, that never finish, that never read.

use std::{
    io::Error,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, sleep_until, timeout},
};

use super::{Attack, Findings, Target};
use crate::{
    caller::{Fate, Line},
    wire::{Frames, INITIAL_WINDOW_SIZE, PING, RST_STREAM, Received},
};

/// Under the gateway's limits on calls in progress (1,024) and on streams of a connection (256).
const STREAMS: u32 = 240;

pub(super) fn all() -> Vec<Attack> {
    let mut all = vec![
        Attack::plain("peers that greet slowly or never", &[], greet_slowly),
        Attack::plain("idle connections up to the cap", &["--max-connections", "200"], idle_to_the_cap),
        Attack::plain("calls whose message never comes", &[], |target| unsent(target, 3)),
        Attack::plain("calls whose message never comes, more than permits", &[], |target| unsent(target, 10)),
        Attack::plain("calls whose message never comes, with a deadline", &[], unsent_with_a_deadline),
        Attack::plain("responses that find no window", &[], no_window),
    ];
    // 16 fill the memory for requests if all are kept, and 60 are far more.
    for messages in [16, 60] {
        let name = format!("{messages} large messages that lack a byte");
        all.push(Attack::plain(name, &[], move |target| almost(target, messages)));
    }
    all
}

async fn open(target: Target, greeting: &[u8]) -> Result<TcpStream, Error> {
    let mut stream = TcpStream::connect(target.address).await?;
    stream.write_all(greeting).await?;
    Ok(stream)
}

/// Half of them send a byte of the greeting now and then, half send nothing. All must be gone in time.
async fn greet_slowly(target: Target) -> Findings {
    const PEERS: usize = 200;
    // The gateway gives a handshake five seconds.
    const PATIENCE: Duration = Duration::from_secs(8);
    // The preface of 24 bytes takes longer.
    const PAUSE: Duration = Duration::from_millis(250);
    let peer = |slow: bool| async move {
        let mut stream = open(target, b"").await.ok()?;
        let started = Instant::now();
        let greeting = Frames::greeting(&[]).0;
        let mut bytes = greeting.iter();
        let gone = async {
            let mut block = [0; 256];
            loop {
                let tick = sleep(PAUSE);
                tokio::select! {
                    read = stream.read(&mut block) => if !matches!(read, Ok(1..)) { break },
                    () = tick, if slow => if let Some(byte) = bytes.next() {
                        let _ = stream.write_all(&[*byte]).await;
                    },
                }
            }
        };
        timeout(PATIENCE, gone).await.ok()?;
        Some(started.elapsed())
    };
    let mut findings = Findings::default();
    let (mut dropped, mut longest) = (0, Duration::ZERO);
    loop {
        let peers: Vec<_> = (0..PEERS).map(|number| tokio::spawn(peer(number % 2 == 0))).collect();
        for peer in peers {
            match peer.await.expect("a peer does not panic") {
                Some(time) => {
                    dropped += 1;
                    longest = longest.max(time);
                }
                None => findings.faults.push(format!("a peer that does not greet is still there after {PATIENCE:?}")),
            }
        }
        if Instant::now() > target.end {
            break;
        }
    }
    findings.figures.push(format!("{dropped} peers dropped, each within {} ms", longest.as_millis()));
    findings
}

/// Takes every connection under the cap; one more is refused, and ended ones make room again.
async fn idle_to_the_cap(target: Target) -> Findings {
    const CAP: usize = 200;
    let mut findings = Findings::default();
    let mut kept = Vec::new();
    // One connection is that of the honest client, which was there before.
    for _ in 1..CAP {
        match open(target, &Frames::greeting(&[]).0).await {
            Ok(stream) => kept.push(stream),
            Err(fault) => findings.faults.push(format!("can't connect under the cap: {fault}")),
        }
    }
    sleep_until((Instant::now() + (target.end - Instant::now()) / 2).into()).await;
    let over = async { open(target, &Frames::greeting(&[]).0).await?.read(&mut [0; 64]).await };
    match timeout(Duration::from_secs(2), over).await {
        Ok(Ok(1..)) => findings.faults.push("one over the cap is served".into()),
        Ok(_) => {}
        Err(_) => findings.faults.push("one over the cap is left waiting".into()),
    }
    for stream in &mut kept {
        let mut block = [0; 1024];
        // The settings and other first frames of a server; an end would be a lost connection.
        if matches!(timeout(Duration::from_millis(200), stream.read(&mut block)).await, Ok(Ok(0) | Err(_))) {
            findings.faults.push("an idle connection under the cap was ended".into());
        }
    }
    sleep_until(target.end.into()).await;
    let number = kept.len();
    kept.truncate(number / 2);
    sleep(Duration::from_millis(100)).await;
    let newcomer = async {
        match Line::to(target.address).await?.attach("newcomer", "siege-newcomer").await {
            Fate::Succeeded => Ok(()),
            fate => Err(format!("{fate:?}")),
        }
    };
    if let Err(fault) = newcomer.await {
        findings.faults.push(format!("a newcomer is refused after others have left: {fault}"));
    }
    findings.figures.push(format!("{number} idle connections"));
    findings.open.push(Box::new(kept));
    findings
}

/// Streams with a head and nothing more, all of them open to the end.
async fn unsent(target: Target, connections: usize) -> Findings {
    let mut findings = Findings::default();
    let mut streams = Vec::new();
    let greeting = Frames::greeting(&[]);
    let heads = (0..STREAMS).fold(greeting, |frames, at| frames.head(at * 2 + 1, &[]));
    // Its response comes when all before it has been read.
    let heads = heads.add(PING, 0, 0, b"all read");
    let all_read = Duration::from_secs(20);
    for _ in 0..connections {
        let opened = async {
            let mut stream = open(target, &heads.0).await?;
            Received::default().wait(&mut stream, PING, 1).await?;
            Ok::<_, Error>(stream)
        };
        match timeout(all_read, opened).await {
            Ok(Ok(stream)) => streams.push(stream),
            Ok(Err(fault)) => findings.faults.push(format!("a connection has failed: {fault}")),
            Err(_) => findings.faults.push(format!("{STREAMS} heads are not read in {all_read:?}")),
        }
        // A permit of the honest client is free a moment later.
        sleep(Duration::from_millis(5)).await;
    }
    // However long that took, the honest client shall meet it.
    sleep_until(target.end.max(Instant::now() + Duration::from_millis(200)).into()).await;
    findings.figures.push(format!("{} calls started", streams.len() * STREAMS as usize));
    findings.open.push(Box::new(streams));
    findings
}

/// Streams with a head that gives them a tenth of a second, and new ones when that has passed.
async fn unsent_with_a_deadline(target: Target) -> Findings {
    const CONNECTIONS: usize = 3;
    let attacker = || async move {
        let mut stream = open(target, &Frames::greeting(&[]).0).await?;
        let mut seen = Received::default();
        let mut answered = 0;
        for round in 0.. {
            let first = round * STREAMS * 2 + 1;
            let head = |frames: Frames, at| frames.head(first + at * 2, &[("grpc-timeout", "100m")]);
            stream.write_all(&(0..STREAMS).fold(Frames::default(), head).0).await?;
            // The gateway has its response and then resets the stream: nothing of it is left.
            answered += STREAMS as usize;
            let all_answered = timeout(Duration::from_secs(10), seen.wait(&mut stream, RST_STREAM, answered)).await;
            all_answered.map_err(|_| Error::other("calls past their deadline are not answered"))??;
            if Instant::now() > target.end {
                break;
            }
        }
        Ok::<_, Error>((stream, answered))
    };
    let mut findings = Findings::default();
    let mut started = 0;
    let attackers: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(attacker())).collect();
    for attacker in attackers {
        match attacker.await.expect("an attacker does not panic") {
            Ok((stream, answered)) => {
                started += answered;
                findings.open.push(Box::new(stream));
            }
            Err(fault) => findings.faults.push(fault.to_string()),
        }
    }
    findings.figures.push(format!("{started} calls started"));
    findings
}

/// Large messages but for their last byte. The gateway may give them up, and has to when it needs their memory.
async fn almost(target: Target, messages: usize) -> Findings {
    const A_CONNECTION: usize = 4;
    const LENGTH: usize = 4 * 1024 * 1024 - 64;
    let mut findings = Findings::default();
    let mut sent = 0;
    for _ in 0..messages / A_CONNECTION {
        let line = match Line::to(target.address).await {
            Ok(line) => line,
            Err(fault) => {
                findings.faults.push(fault);
                continue;
            }
        };
        for _ in 0..A_CONNECTION {
            match line.attach_almost(LENGTH).await {
                Ok(kept) => {
                    sent += 1;
                    findings.open.push(Box::new(kept));
                }
                Err(fault) => findings.faults.push(format!("a call was not processed: {fault}")),
            }
        }
        findings.open.push(Box::new(line));
    }
    sleep_until(target.end.into()).await;
    findings.figures.push(format!("{sent} messages of 4 MiB"));
    findings
}

/// Whole calls from peers that give their responses no window, nor read.
async fn no_window(target: Target) -> Findings {
    const CONNECTIONS: usize = 4;
    let mut findings = Findings::default();
    let greeting = Frames::greeting(&[(INITIAL_WINDOW_SIZE, 0)]);
    let calls = (0..STREAMS).fold(greeting, |frames, at| frames.call(at * 2 + 1));
    let mut kept = Vec::new();
    for _ in 0..CONNECTIONS {
        match open(target, &calls.0).await {
            Ok(stream) => kept.push(stream),
            Err(fault) => findings.faults.push(format!("a connection has failed: {fault}")),
        }
    }
    sleep_until(target.end.into()).await;
    findings.figures.push(format!("{} calls on {CONNECTIONS} connections", kept.len() * STREAMS as usize));
    findings.open.push(Box::new(kept));
    findings
}
