//! Certificates that are swapped again and again under load, with broken files in between: no handshake fails, and a new
//! certificate is served soon.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use testkit::{
    authority::{Authority, Mount, Pair},
    report::{Check, millis, spread},
    tls::{certificate, connector},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::sleep};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::{gateway::Gateway, upstream::Upstream, wire::Frames};

pub(crate) const NAME: &str = "rotation: certificates swapped under load, broken files in between";

/// From one certificate to the next. The files are broken for the last part of it.
const EVERY: Duration = Duration::from_secs(1);
const BROKEN: Duration = Duration::from_millis(250);

/// By when a certificate that is not followed by broken files must be served.
const SOON: Duration = Duration::from_secs(2);

const CALLERS: usize = 4;

/// Which certificates were seen, and when first.
#[derive(Debug, Default)]
struct Seen {
    first: Mutex<HashMap<Vec<u8>, Instant>>,
    handshakes: Mutex<Vec<Duration>>,
    faults: Mutex<Vec<String>>,
    over: AtomicBool,
}

pub(crate) async fn check(upstream: &Upstream, time: Duration) -> Check {
    let mut check = Check::of(NAME);
    let authority = Authority::new();
    let clients = authority.issue(&["caller.example"]);
    let ca = authority.pem();
    let files = |pair: &Pair| vec![("crt", pair.certificate.clone()), ("key", pair.key.clone()), ("ca", ca.clone())];
    let mut mount = Mount::new(&borrowed(&files(&authority.issue(&["gateway.example"]))));
    let paths = ["crt", "key", "ca"].map(|name| mount.path(name));
    let flags = ["--tls-certificate", &paths[0], "--tls-key", &paths[1], "--tls-client-ca", &paths[2]];
    let gateway = Gateway::start(upstream.address, &flags).await;
    let seen = Arc::new(Seen::default());
    let connector = connector(&ca, Some(&clients));
    let callers: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(shake(gateway.address, connector.clone(), Arc::clone(&seen)))).collect();

    let mut late = Vec::new();
    let mut after = Vec::new();
    let end = Instant::now() + time.max(3 * EVERY);
    let mut rotations = 0_u32;
    while Instant::now() < end {
        let pair = authority.issue(&["gateway.example"]);
        let swapped = Instant::now();
        mount.swap(&borrowed(&files(&pair)));
        rotations += 1;
        // Every third stays until it is served; after the others the files are broken, each time in another way.
        if rotations.is_multiple_of(3) {
            let der = certificate(&pair.certificate).to_vec();
            let served = || seen.first.lock().unwrap_or_else(PoisonError::into_inner).get(&der).copied();
            while served().is_none() && swapped.elapsed() < 10 * SOON {
                sleep(Duration::from_millis(5)).await;
            }
            let took = served().map_or(swapped.elapsed(), |when| when - swapped);
            if took > SOON {
                late.push(format!("a certificate was served after {} ms", millis(took)));
            }
            after.push(took);
            sleep(EVERY.saturating_sub(swapped.elapsed())).await;
        } else {
            sleep(EVERY.saturating_sub(BROKEN)).await;
            let half = pair.key.get(..pair.key.len() / 2).unwrap_or_default().to_owned();
            mount.swap(&match rotations % 4 {
                0 => vec![("crt", pair.certificate.as_str()), ("key", half.as_str()), ("ca", ca.as_str())],
                1 => vec![("crt", pair.certificate.as_str()), ("key", clients.key.as_str()), ("ca", ca.as_str())],
                2 => vec![("crt", ""), ("key", pair.key.as_str()), ("ca", ca.as_str())],
                _ => vec![("crt", pair.certificate.as_str()), ("key", pair.key.as_str()), ("ca", "nothing")],
            });
            sleep(BROKEN).await;
        }
    }
    seen.over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("a caller does not panic");
    }
    let faults = std::mem::take(&mut *seen.faults.lock().unwrap_or_else(PoisonError::into_inner));
    let handshakes = std::mem::take(&mut *seen.handshakes.lock().unwrap_or_else(PoisonError::into_inner));
    let certificates = seen.first.lock().unwrap_or_else(PoisonError::into_inner).len();
    check.none("handshakes failed", &faults);
    check.none("certificates came late", &late);
    check.require(certificates > 1, || "the certificate never changed".into());
    check.figure(format!("{rotations} rotations, {certificates} certificates seen"));
    check.figure(format!("{} handshakes, {}", handshakes.len(), spread(&handshakes)));
    check.figure(format!("a new one is served after {}", spread(&after)));
    let failed = gateway.metric("apig_gateway_tls_handshake_failures_total").await;
    check.require(failed == Some(0), || format!("the gateway counts {failed:?} handshakes that failed"));
    check.none("panics", &gateway.panics());
    check
}

fn borrowed<'a>(files: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    files.iter().map(|(name, text)| (*name, text.as_str())).collect()
}

/// Shakes hands again and again.
async fn shake(gateway: SocketAddr, connector: TlsConnector, seen: Arc<Seen>) {
    let name = ServerName::try_from("gateway.example").expect("it is a name");
    while !seen.over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let shaken = async {
            let mut stream = connector.connect(name.clone(), TcpStream::connect(gateway).await?).await?;
            // In TLS 1.3 the server looks at our certificate last: its first bytes say that it liked it. They come after our
            // greeting.
            stream.write_all(&Frames::greeting(&[]).0).await?;
            tokio::io::AsyncReadExt::read_u8(&mut stream).await?;
            Ok::<_, std::io::Error>(stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec()))
        };
        match tokio::time::timeout(Duration::from_secs(10), shaken).await {
            Ok(Ok(Some(certificate))) => {
                seen.handshakes.lock().unwrap_or_else(PoisonError::into_inner).push(began.elapsed());
                let mut first = seen.first.lock().unwrap_or_else(PoisonError::into_inner);
                first.entry(certificate).or_insert_with(Instant::now);
            }
            other => seen.faults.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{other:?}")),
        }
        sleep(Duration::from_millis(5)).await;
    }
}
