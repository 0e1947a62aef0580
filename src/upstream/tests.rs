//! Exchanges with servers on threads of their own: the runtime of a test stands still while a server closes a connection,
//! so that tokio can't have heard of it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        atomic::{AtomicI32, Ordering},
        mpsc,
    },
    thread,
};

use tokio::time::Instant as Moment;

use super::{body::BodyError, *};

mod http2;

/// Counts a request that has left and was not taken back.
#[derive(Debug, Default)]
struct Sent(AtomicI32);

impl SendHook for Sent {
    fn sent(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    fn unsent(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Sent {
    fn is_sent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 1
    }
}

fn settings(base: &str) -> Settings {
    Settings {
        base: base.parse().unwrap(),
        proxy: None,
        tls: None,
        shows_identity: false,
        connect_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        max_age: MAX_AGE,
    }
}

fn upstream(settings: &Settings) -> Upstream {
    Upstream::new(settings, Arc::default()).unwrap()
}

/// One exchange: the answer, and whether the request counts as sent.
async fn exchange(upstream: &Upstream, body: Option<&'static [u8]>) -> (Result<Head, Failure>, bool) {
    let hook = Arc::<Sent>::default();
    let (verb, body) = (if body.is_some() { Method::POST } else { Method::GET }, body.map(Bytes::from_static));
    let masker = Masker::default();
    let exchange = upstream.exchange(verb, "/a", "b=c", HeaderMap::new(), body, &hook, &masker);
    let result = tokio::time::timeout(Duration::from_secs(20), exchange).await.expect("it ends in time");
    (result, hook.is_sent())
}

/// The step of a server after a request.
#[derive(Clone, Copy)]
enum Step {
    Answer(&'static str),
    AnswerAndClose(&'static str),
    Close,
}

const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// A server's events.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Opened,
    /// Verb, path and query.
    Request(String),
    /// The peer's system has the end of the connection.
    Closed,
}

/// Serves by a script, which goes on over connections, one connection after the other.
fn serve(script: impl IntoIterator<Item = Step> + Send + 'static) -> (SocketAddr, mpsc::Receiver<Event>)
where
    <Vec<Step> as IntoIterator>::IntoIter: Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (events, seen) = mpsc::channel();
    let mut script: Vec<Step> = script.into_iter().collect();
    script.reverse();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            events.send(Event::Opened).ok();
            while let Some(line) = read_request(&mut stream) {
                events.send(Event::Request(line)).ok();
                let (answer, closes) = match script.pop().expect("the script has a step") {
                    Step::Answer(answer) => (answer, false),
                    Step::AnswerAndClose(answer) => (answer, true),
                    Step::Close => ("", true),
                };
                stream.write_all(answer.as_bytes()).unwrap();
                if closes {
                    // Closing waits until the peer's system has the end of the connection.
                    let linger = Some(Duration::from_secs(10));
                    rustix::net::sockopt::set_socket_linger(&stream, linger).unwrap();
                    drop(stream);
                    events.send(Event::Closed).ok();
                    break;
                }
            }
        }
    });
    (address, seen)
}

/// Reads one request; `None` when the peer has left.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let (mut bytes, mut block) = (Vec::new(), [0; 4_096]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                assert_eq!(bytes.len(), end + 4 + length, "more than one request");
                return Some(head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned());
            }
        }
        match stream.read(&mut block) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&block[..read]),
        }
    }
}

fn requests(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Request(_))).count()
}

fn openings(events: &[Event]) -> usize {
    events.iter().filter(|event| **event == Event::Opened).count()
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_found_before_the_first_byte() {
    for body in [None, Some(&b"{}"[..])] {
        const ROUNDS: usize = 100;
        let (address, events) = serve([Step::AnswerAndClose(EMPTY); ROUNDS]);
        let upstream = upstream(&settings(&format!("http://{address}")));
        let mut seen = Vec::new();
        for round in 1..=ROUNDS {
            let (result, is_sent) = exchange(&upstream, body).await;
            assert_eq!(result.unwrap().status(), StatusCode::NO_CONTENT);
            assert!(is_sent);
            // Without a turn of the runtime between the end of the connection and the next request.
            while requests(&seen) < round || seen.last() != Some(&Event::Closed) {
                seen.push(events.recv_timeout(Duration::from_secs(20)).unwrap());
            }
        }
        assert_eq!((requests(&seen), openings(&seen)), (ROUNDS, ROUNDS));
    }
}

#[tokio::test]
async fn a_request_without_a_body_tells_when_it_leaves() {
    let nobody = upstream(&settings("http://127.0.0.1:9"));
    for body in [None, Some(&b"{}"[..])] {
        let (result, is_sent) = exchange(&nobody, body).await;
        assert!(matches!(result, Err(Failure::NotSent(_))), "{result:?}");
        assert!(!is_sent);

        let (address, events) = serve([Step::Close]);
        let (result, is_sent) = exchange(&upstream(&settings(&format!("http://{address}"))), body).await;
        assert!(matches!(result, Err(Failure::Interrupted(_))), "{result:?}");
        assert!(is_sent);
        let verb = if body.is_some() { "POST" } else { "GET" };
        assert_eq!(events.iter().nth(1), Some(Event::Request(format!("{verb} /a?b=c"))));

        let (address, _events) = serve([Step::Answer("no HTTP\r\n\r\n")]);
        let (result, is_sent) = exchange(&upstream(&settings(&format!("http://{address}"))), body).await;
        assert!(matches!(result, Err(Failure::Decode(_))), "{result:?}");
        assert!(is_sent);
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_tells_whether_it_had_left() {
    let (address, events) = serve([Step::Answer("")]);
    let upstream = upstream(&settings(&format!("http://{address}")));
    let hook = Arc::<Sent>::default();
    let masker = Masker::default();
    let mut call = Box::pin(upstream.exchange(Method::GET, "/a", "", HeaderMap::new(), None, &hook, &masker));
    assert!(futures_util::poll!(call.as_mut()).is_pending());
    assert!(!hook.is_sent(), "it has no connection yet");
    let mut seen = Vec::new();
    while requests(&seen) == 0 {
        assert!(futures_util::poll!(call.as_mut()).is_pending());
        tokio::task::yield_now().await;
        seen.extend(events.try_iter());
    }
    assert!(hook.is_sent());
}

#[tokio::test]
async fn a_connection_of_age_is_used_no_more_and_its_request_ends() {
    for (max_age, connections) in [(MAX_AGE, 1), (Duration::ZERO, 5)] {
        let (address, events) = serve([Step::Answer(EMPTY); 5]);
        let upstream = upstream(&Settings { max_age, ..settings(&format!("http://{address}")) });
        for _ in 0..5 {
            exchange(&upstream, None).await.0.unwrap();
        }
        let seen: Vec<_> = events.try_iter().collect();
        assert_eq!((requests(&seen), openings(&seen)), (5, connections));
    }
}

#[tokio::test]
async fn the_body_of_a_success_is_whole_or_an_error() {
    const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n4\r\n6789\r\n0\r\n\r\n";
    const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n0123456789";
    const CUT_CHUNK: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n";
    let later = Moment::now() + Duration::from_secs(20);
    let broken = Err("Incomplete");
    for (answer, limit, charged, until, expected) in [
        (WHOLE, 10, 10, later, Ok(())),
        (CHUNKED, 10, 10, later, Ok(())),
        (WHOLE, 9, 10, later, Err("TooLarge")),
        (CHUNKED, 9, 10, later, Err("TooLarge")),
        (WHOLE, 10, 9, later, Err("NotCharged")),
        (CHUNKED, 10, 9, later, Err("NotCharged")),
        (CUT, 20, 20, later, broken),
        (CUT_CHUNK, 20, 20, later, broken),
    ] {
        // An answer that is to break off ends with its connection, a whole one leaves it for the next.
        let step = if expected == broken { Step::AnswerAndClose(answer) } else { Step::Answer(answer) };
        let (address, events) = serve([step, Step::Answer(EMPTY)]);
        let upstream = upstream(&settings(&format!("http://{address}")));
        let head = exchange(&upstream, None).await.0.unwrap();
        let mut left = charged;
        let charge = |bytes| {
            let is_granted = bytes <= left;
            left -= if is_granted { bytes } else { 0 };
            is_granted
        };
        let result = head.read_success(until, limit, charge, &Masker::default()).await;
        match (result, expected) {
            (Ok(answer), Ok(())) => {
                assert_eq!(answer.body, "0123456789");
                exchange(&upstream, None).await.0.unwrap();
                assert_eq!(openings(&events.try_iter().collect::<Vec<_>>()), 1, "the connection is used again");
            }
            (Err(error), Err(expected)) => assert!(format!("{error:?}").starts_with(expected), "{error:?}: {answer}"),
            (result, _) => panic!("{result:?}: {answer}, limit {limit}, charged {charged}"),
        }
    }
    let (address, _events) = serve([Step::Answer(CUT)]);
    let head = exchange(&upstream(&settings(&format!("http://{address}"))), None).await.0.unwrap();
    let result = head.read_success(Moment::now(), 20, |_| true, &Masker::default()).await;
    assert_eq!(result.unwrap_err(), BodyError::TimedOut);
}

#[test]
fn a_path_that_would_change_on_its_way_is_none() {
    for (path, query) in [("/a/b%2Fc", ""), ("/a..b/...", "x=1&y=%20"), ("/", "")] {
        let both = path_and_query(path, query).unwrap();
        assert_eq!((both.path(), both.query().unwrap_or_default()), (path, query));
    }
    for path in ["", "a", "/a/../b", "/a/.", "/%2e%2E/b", "/.%2e", "/a?b", "/a#b", "/a b", "/a\\b", "//..", "/a\r\n"] {
        assert!(path_and_query(path, "").is_none(), "{path:?}");
    }
    assert!(path_and_query("/a", "b#c").is_none());
}
