use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;

use super::*;
use crate::{
    admission::{Admission, Class, Limits, tests::assert_idle},
    peer::{Identity, Peer},
};

const LIMIT: usize = 1024 * 1024;

type Sender = mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>;

struct Setting {
    admission: std::sync::Arc<Admission>,
    permit: Option<Permit>,
}

impl Setting {
    fn new() -> Self {
        let limits = Limits { concurrency: 8, memory: 32 * LIMIT, message: LIMIT };
        let admission = std::sync::Arc::new(Admission::new(limits));
        let connection = admission.connect(&Peer { identity: Identity::Nobody, address: None });
        let permit = Some(connection.admit(Class::Call, 0, std::time::Instant::now()).unwrap());
        Self { admission, permit }
    }

    async fn read(&self, body: impl BodySource, is_gzip: bool) -> Result<RequestBody, ReadError> {
        read(body, is_gzip, LIMIT, self.permit.as_ref().unwrap()).await
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.permit = None;
        if !std::thread::panicking() {
            assert_idle(&self.admission);
        }
    }
}

fn body() -> (Sender, impl BodySource) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    (sender, StreamBody::new(futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx))))
}

fn send(sender: &Sender, bytes: &[u8]) {
    sender.send(Ok(Frame::data(Bytes::copy_from_slice(bytes)))).unwrap();
}

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag], &length[..], message].concat()
}

fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(message).unwrap();
    encoder.finish().unwrap()
}

/// The message as tonic reads it, checked against `RequestBody::message`.
async fn message(body: RequestBody) -> Vec<u8> {
    let mut counted = vec![0; body.message().remaining()];
    body.message().copy_to_slice(&mut counted);
    let framed = body.collect().await.unwrap().to_bytes();
    assert_eq!(framed, frame(0, &counted));
    counted
}

#[tokio::test]
async fn a_message_is_the_same_however_it_is_cut() {
    for length in [0, 1, 5, 511, 512, 700, 5_000, 40_000] {
        let sent: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for (is_gzip, bytes) in [(false, frame(0, &sent)), (true, frame(0, &sent)), (true, frame(1, &gzip(&sent)))] {
            for step in [1, 3, 5, 6, 1000, 100_000] {
                let setting = Setting::new();
                let (sender, body) = body();
                let feed = async {
                    for (at, chunk) in bytes.chunks(step).enumerate() {
                        send(&sender, chunk);
                        // Makes the reader wait for some chunks.
                        if at % 7 == 3 {
                            tokio::task::yield_now().await;
                        }
                    }
                    drop(sender);
                };
                let (read, ()) = tokio::join!(setting.read(body, is_gzip), feed);
                assert_eq!(message(read.unwrap()).await, sent, "{length} bytes by {step}");
            }
        }
    }
}

#[tokio::test]
async fn trailers_end_a_message_as_the_end_of_the_stream_does() {
    for waits in [false, true] {
        let setting = Setting::new();
        let (sender, body) = body();
        let feed = async {
            if waits {
                tokio::task::yield_now().await;
            }
            send(&sender, &frame(0, b"message"));
            sender.send(Ok(Frame::trailers(HeaderMap::new()))).unwrap();
            // Stays open: the reader must not wait for more after trailers.
            std::future::pending::<()>().await;
        };
        let read = tokio::select! { read = setting.read(body, false) => read, () = feed => unreachable!() };
        assert_eq!(message(read.unwrap()).await, b"message");
    }
}

#[tokio::test]
async fn malformed_bodies_are_refused_as_soon_as_it_shows() {
    let large = u32::try_from(LIMIT + 1).unwrap().to_be_bytes();
    let bomb = gzip(&vec![0; LIMIT + 1]);
    let mut broken = gzip(b"some text that is packed");
    let last = broken.len() - 6;
    broken[last] ^= 1;
    let cases: [(&str, bool, Vec<u8>, &str); 9] = [
        ("no compression named", false, frame(1, &gzip(b"x")), "Malformed"),
        ("another flag", true, frame(2, b"x"), "Malformed"),
        ("too long", false, [&[0][..], &large].concat(), "TooLarge"),
        ("too long, packed", true, [&[1][..], &large].concat(), "TooLarge"),
        ("a bomb", true, frame(1, &bomb), "TooLarge"),
        ("no gzip", true, frame(1, b"no gzip at all"), "Malformed"),
        ("a wrong checksum", true, frame(1, &broken), "Malformed"),
        ("cut gzip", true, frame(1, &broken[..12]), "Malformed"),
        ("bytes after the message", false, [frame(0, b"x"), vec![0]].concat(), "Malformed"),
    ];
    for (name, is_gzip, bytes, expected) in cases {
        for step in [1, 100_000] {
            let setting = Setting::new();
            let (sender, body) = body();
            for chunk in bytes.chunks(step) {
                send(&sender, chunk);
            }
            // The body stays open: the error must come before its end.
            let error = setting.read(body, is_gzip).await.unwrap_err();
            assert!(format!("{error:?}").starts_with(expected), "{name}: {error:?}");
        }
    }
    for bytes in [&b""[..], b"\0\0", b"\0\0\0\0\x09x", b"\x01\0\0\0\0"] {
        let setting = Setting::new();
        let (sender, body) = body();
        send(&sender, bytes);
        drop(sender);
        assert!(matches!(setting.read(body, true).await, Err(ReadError::Malformed(_))), "{bytes:?}");
    }
    let setting = Setting::new();
    let (sender, body) = body();
    sender.send(Err(std::io::ErrorKind::ConnectionReset.into())).unwrap();
    assert!(matches!(setting.read(body, true).await, Err(ReadError::Cut)));
}

#[tokio::test(start_paused = true)]
async fn a_body_without_progress_ends_and_one_with_progress_does_not() {
    for (size, is_enough) in [(PROGRESS - PREFIX - 1, false), (PROGRESS, true)] {
        let setting = Setting::new();
        let (sender, body) = body();
        let started = Instant::now();
        let feed = async {
            send(&sender, &frame(0, &vec![0; 100 * PROGRESS])[..PREFIX]);
            for _ in 0..100 {
                tokio::time::sleep(PROGRESS_TIMEOUT * 999 / 1000).await;
                send(&sender, &vec![0; size]);
            }
            drop(sender);
            std::future::pending::<()>().await;
        };
        let read = tokio::select! { read = setting.read(body, false) => read, () = feed => unreachable!() };
        if is_enough {
            assert_eq!(message(read.unwrap()).await.len(), 100 * PROGRESS);
        } else {
            assert!(matches!(read, Err(ReadError::Stalled)));
            assert_eq!(started.elapsed(), PROGRESS_TIMEOUT);
        }
    }
}

#[tokio::test]
async fn nothing_is_charged_before_it_is_there() {
    let setting = Setting::new();
    let (sender, body) = body();
    let before = setting.admission.memory_in_use();
    let mut read = Box::pin(setting.read(body, true));
    send(&sender, &frame(1, &vec![0; LIMIT])[..PREFIX]);
    assert!(futures_util::poll!(&mut read).is_pending());
    assert_eq!(setting.admission.memory_in_use(), before, "a prefix holds nothing");
    send(&sender, &gzip(b"x")[..1]);
    assert!(futures_util::poll!(&mut read).is_pending());
    assert!(setting.admission.memory_in_use() >= before + inflater::COST);
    drop(read);
    let permit = setting.permit.as_ref().unwrap();
    assert_eq!(permit.charge(1), Ok(()), "the permit outlives its reader");
}
