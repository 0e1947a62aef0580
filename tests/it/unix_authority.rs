//! Callers of a Unix socket, with every `:authority` that client libraries send there.

use std::pin::pin;

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    net::{TcpStream, UnixStream},
};
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1;

use crate::support::{Caller, Cloud, Gateway, Reply, documented, soon};

/// What an authority is on the wire.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// Inserted into the dynamic table.
    Inserted(&'static [u8]),
    /// The entry of the static table, which is empty.
    Empty,
    Missing,
}

const SOCKETS: [Form; 7] = [
    Form::Inserted(b"tmp%2Fgw.sock"),
    Form::Inserted(b"/tmp/gw.sock"),
    Form::Inserted(b"localhost"),
    Form::Inserted(b"unix:/x"),
    Form::Inserted("/tmp/r\u{e9}seau".as_bytes()),
    Form::Inserted(b"/tmp/\xff"),
    Form::Inserted(b"x:y:z@[#"),
];

const END_HEADERS: u8 = 4;

/// A gateway on a Unix socket, with its folder.
async fn on_socket(cloud: &Cloud) -> (Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", folder.path().join("gateway.sock").display());
    (Gateway::facing(cloud.address).with("listen", listen).start().await, folder)
}

async fn connect(gateway: &Gateway) -> Box<dyn Wire> {
    match gateway.address.to_string().strip_prefix("unix:") {
        Some(path) => Box::new(UnixStream::connect(path).await.unwrap()),
        None => Box::new(TcpStream::connect(gateway.address.to_string()).await.unwrap()),
    }
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Wire for S {}

/// tonic's client, with another authority put into its bytes on their way.
async fn channel(gateway: &Gateway, form: Form) -> Channel {
    // As long as the other one: the client's dynamic table must agree with the gateway's.
    let placeholder = "a".repeat(if let Form::Inserted(authority) = form { authority.len() } else { 9 });
    let wire = connect(gateway).await;
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    tokio::spawn(relay(theirs, wire, literal(&placeholder), form));
    let mut ours = Some(ours);
    let connector = tower::service_fn(move |_| {
        let ours = ours.take().ok_or_else(|| std::io::Error::other("a second connection"));
        async { ours.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_shared(format!("http://{placeholder}")).unwrap();
    soon(endpoint.connect_with_connector(connector)).await.unwrap()
}

/// The placeholder as the client's HPACK writes it: inserted, and Huffman-coded with five bits a letter.
fn literal(placeholder: &str) -> Vec<u8> {
    let mut bits = "00011".repeat(placeholder.len());
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let code = bits.as_bytes().chunks(8).map(|byte| u8::from_str_radix(str::from_utf8(byte).unwrap(), 2).unwrap());
    let code: Vec<u8> = code.collect();
    [&[0x41, 0x80 | u8::try_from(code.len()).unwrap()], &code[..]].concat()
}

async fn relay(client: DuplexStream, gateway: Box<dyn Wire>, placeholder: Vec<u8>, form: Form) {
    let (from_client, mut to_client) = tokio::io::split(client);
    let (mut from_gateway, to_gateway) = tokio::io::split(gateway);
    let upward = forward(from_client, to_gateway, placeholder, form);
    let downward = tokio::io::copy(&mut from_gateway, &mut to_client);
    let (upward, downward) = (pin!(upward), pin!(downward));
    // The first of the two ends the connection.
    futures_util::future::select(upward, downward).await;
}

async fn forward(
    mut client: impl AsyncRead + Unpin,
    mut gateway: impl AsyncWrite + Unpin,
    placeholder: Vec<u8>,
    form: Form,
) -> std::io::Result<()> {
    let mut preface = [0; 24];
    client.read_exact(&mut preface).await?;
    gateway.write_all(&preface).await?;
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head).await?;
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        let mut payload = vec![0; length];
        client.read_exact(&mut payload).await?;
        let at = payload.windows(placeholder.len()).position(|window| window == placeholder);
        if let Some(at) = at.filter(|_| head[3] == 1) {
            let new = match form {
                Form::Inserted(authority) => [&[0x41, u8::try_from(authority.len()).unwrap()], authority].concat(),
                Form::Empty => vec![0x81],
                Form::Missing => Vec::new(),
            };
            payload.splice(at..at + placeholder.len(), new);
        }
        // It may have grown over the limit of a frame.
        let rest = payload.split_off(payload.len().min(16_384));
        if rest.is_empty() {
            gateway.write_all(&frame(head[3], head[4], &head[5..], &payload)).await?;
        } else {
            gateway.write_all(&frame(1, head[4] & !END_HEADERS, &head[5..], &payload)).await?;
            gateway.write_all(&frame(9, head[4] & END_HEADERS, &head[5..], &rest)).await?;
        }
    }
}

fn frame(kind: u8, flags: u8, stream: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], stream, payload].concat()
}

fn with_token(id: &str) -> Request<apig_grpc_gateway::pb::AttachDomainsRequest> {
    let mut request = Request::new(documented());
    request.metadata_mut().insert("x-auth-token", "t".parse().unwrap());
    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    request
}

#[tokio::test]
async fn a_call_is_served_whatever_its_authority() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let (gateway, _folder) = on_socket(&cloud).await;
    for form in SOCKETS.into_iter().chain([Form::Empty, Form::Missing]) {
        let answer = Caller::on(channel(&gateway, form).await).send(with_token("mine-7")).await;
        let answer = answer.unwrap_or_else(|status| panic!("{form:?}: {status:?}"));
        assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mine-7");
    }
    assert_eq!(cloud.seen().len(), SOCKETS.len() + 2);
}

/// Their fields are entries of one dynamic table by and by, and evict one another.
#[tokio::test]
async fn many_calls_on_one_connection_stay_in_step() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let (gateway, _folder) = on_socket(&cloud).await;
    for form in SOCKETS {
        let caller = Caller::on(channel(&gateway, form).await);
        for call in 0..60 {
            let id = format!("{:0100}", call % 40);
            let answer = caller.send(with_token(&id)).await.unwrap_or_else(|status| panic!("{form:?}: {status:?}"));
            assert_eq!(answer.metadata().get("x-request-id").unwrap(), &*id);
        }
    }
}

#[tokio::test]
async fn metadata_may_have_48_kib() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let (gateway, _folder) = on_socket(&cloud).await;
    let caller = Caller::on(channel(&gateway, SOCKETS[0]).await);
    for round in 0..3 {
        let mut request = with_token("mine-8");
        for number in 0..12 {
            let name = tonic::metadata::MetadataKey::from_bytes(format!("x-{number}").as_bytes()).unwrap();
            // Characters whose Huffman codes are longer than they are, so that the client's block takes several frames.
            request.metadata_mut().insert(name, "~".repeat(4_000 + round).parse().unwrap());
        }
        let answer = caller.send(request).await.unwrap();
        assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mine-8");
    }
}

#[tokio::test]
async fn health_and_reflection_are_served_as_well() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let (gateway, _folder) = on_socket(&cloud).await;
    for form in SOCKETS {
        let channel = channel(&gateway, form).await;
        let mut health = HealthClient::new(channel.clone());
        let request = HealthCheckRequest { service: String::new() };
        let answer = soon(health.check(request.clone())).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
        let mut watch = soon(health.watch(request)).await.unwrap().into_inner();
        assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);
        let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
        let list = v1::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
        let mut reflection = v1::server_reflection_client::ServerReflectionClient::new(channel);
        let answers = reflection.server_reflection_info(futures_util::stream::iter([list.clone(), list]));
        let mut answers = soon(answers).await.unwrap().into_inner();
        for _ in 0..2 {
            assert!(soon(answers.message()).await.unwrap().unwrap().message_response.is_some());
        }
        assert!(soon(answers.message()).await.unwrap().is_none());
    }
}

/// A call in progress, a drain, and a client that keeps its connection.
#[tokio::test]
async fn a_drain_is_as_on_a_port() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let (mut gateway, _folder) = on_socket(&cloud).await;
    let caller = Caller::on(channel(&gateway, SOCKETS[0]).await);
    caller.send(with_token("mine-9")).await.unwrap();
    gateway.stop();
    gateway.drained().await;
    assert!(caller.send(with_token("mine-9")).await.is_err());
}

/// There an authority is a host, and one that does not parse is the client's error.
#[tokio::test]
async fn a_port_is_not_filtered() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    for form in SOCKETS {
        let answer = Caller::on(channel(&gateway, form).await).send(with_token("mine-7")).await;
        assert_eq!(answer.is_ok(), matches!(form, Form::Inserted(b"localhost")), "{form:?}: {answer:?}");
    }
    assert_eq!(cloud.seen().len(), 1);
}
