//! The attacks of the table on the admin port, which speaks HTTP/1.1.

use std::{
    any::Any,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncWriteExt as _, sink},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{sleep, timeout_at},
};

use super::script::{Kind, zeros};
use crate::{
    attack::{Findings, Ground},
    transport::Dialer,
};

/// More than the port serves at once.
const CONNECTIONS: usize = 150;

const TICK: Duration = Duration::from_millis(20);

/// Before a connection is replaced.
const DELAY: Duration = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 20 });

/// The bytes of a peer, and its next step.
struct Script {
    /// Sent as fast as it is read.
    bytes: Vec<u8>,
    then: Then,
}

enum Then {
    /// Nothing more.
    Hold,
    /// The rest after a delay.
    Late(Vec<u8>),
    /// A byte now and then.
    Slow(Vec<u8>),
    /// The same again.
    Again,
    /// A reset of the connection.
    Reset,
}

impl Script {
    fn of(kind: Kind, number: usize) -> Self {
        const LARGE: usize = 4 * 1024 * 1024;
        let head = |fields: &str| format!("POST /livez HTTP/1.1\r\nHost: gateway\r\n{fields}").into_bytes();
        let odd = number % 2 == 1;
        let half = || [head(&format!("Content-Length: {LARGE}\r\n\r\n")), vec![0; LARGE / 2]].concat();
        let fat = || head(&format!("X-Fat: {}\r\n", "f".repeat(15_000)));
        let gzip = format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", zeros().len());
        let (bytes, then) = match kind {
            Kind::HeadOnly if odd => (fat(), Then::Hold),
            Kind::HeadOnly => (b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n".to_vec(), Then::Hold),
            Kind::HalfMessage => (half(), Then::Hold),
            Kind::Gzip if odd => (head(&gzip), Then::Late(zeros().to_vec())),
            Kind::Gzip => (head(&gzip), Then::Hold),
            Kind::Bomb => ([head(&gzip), zeros().to_vec()].concat(), Then::Again),
            Kind::Trailers => {
                let chunked = "Transfer-Encoding: chunked\r\nTrailer: X-Trailer\r\n\r\n";
                ([head(chunked), b"5\r\nsiege\r\n0\r\nX-Trailer: siege\r\n\r\n".to_vec()].concat(), Then::Again)
            }
            Kind::Slow => (Vec::new(), Then::Slow(fat())),
            Kind::Reset if odd => (half(), Then::Reset),
            Kind::Reset => (b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n".to_vec(), Then::Reset),
        };
        Self { bytes, then }
    }
}

/// Attacks until the time is over; connections that the gateway ends are replaced.
pub(super) async fn run(ground: Ground, kind: Kind) -> Findings {
    let admin = ground.admin;
    let peers: Vec<_> =
        (0..CONNECTIONS).map(|number| tokio::spawn(peer(admin.clone(), kind, number, ground.target.end))).collect();
    let mut findings = Findings::default();
    let mut connections = 0;
    for peer in peers {
        let (opened, kept) = peer.await.expect("a peer does not panic");
        connections += opened;
        findings.open.extend(kept);
    }
    findings.figures.push(format!("{connections} connections"));
    findings
}

async fn peer(admin: Dialer, kind: Kind, number: usize, end: Instant) -> (u64, Option<Box<dyn Any + Send>>) {
    let mut opened = 0;
    loop {
        if let Ok(Ok(stream)) = timeout_at((end + TICK).into(), admin.connect()).await {
            opened += 1;
            if let Some(kept) = besiege(stream, Script::of(kind, number), end).await {
                return (opened, Some(kept));
            }
        }
        if Instant::now() > end {
            return (opened, None);
        }
        sleep(DELAY).await;
    }
}

/// Plays the script on one connection; gives it back when the time is over, `None` when it has ended.
async fn besiege(stream: TcpStream, script: Script, end: Instant) -> Option<Box<dyn Any + Send>> {
    let resets = matches!(script.then, Then::Reset);
    let (mut responses, mut write) = stream.into_split();
    {
        let gone = async {
            let _ = tokio::io::copy(&mut responses, &mut sink()).await;
        };
        let playing = play(&mut write, &script, end);
        tokio::select! {
            () = gone => return None,
            played = timeout_at(end.into(), playing) => if let Ok(Err(_)) = played { return None },
        }
    }
    if resets {
        reset(responses, write);
        return None;
    }
    Some(Box::new((responses, write)))
}

async fn play(write: &mut OwnedWriteHalf, script: &Script, end: Instant) -> std::io::Result<()> {
    loop {
        write.write_all(&script.bytes).await?;
        match &script.then {
            Then::Hold => break,
            Then::Late(rest) => {
                sleep(TICK).await;
                write.write_all(rest).await?;
                break;
            }
            Then::Slow(bytes) => {
                for byte in bytes {
                    write.write_all(&[*byte]).await?;
                    sleep(TICK).await;
                }
                break;
            }
            Then::Again => sleep(TICK).await,
            Then::Reset => {
                sleep(TICK).await;
                return Ok(());
            }
        }
    }
    tokio::time::sleep_until(end.into()).await;
    Ok(())
}

/// Ends a connection with RST in place of FIN.
fn reset(responses: OwnedReadHalf, write: OwnedWriteHalf) {
    if let Ok(stream) = responses.reunite(write) {
        let _ = stream.set_zero_linger();
    }
}
