//! Under a service manager such as systemd: sockets that it passes, and the notifications that it gets.

use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram, UnixListener},
    },
    process::Stdio,
    time::Duration,
};

use testkit::program::Binary as _;
use tokio::process::Command;
use tonic::transport::Endpoint;

use crate::support::{Binary, Caller, Cloud, Program, Reply, documented, soon};

/// A bound on the end of a program that nothing holds up.
const END: Duration = Duration::from_secs(15);

const SERVE: [&str; 7] = ["serve", "--log-format", "json", "--admin-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"];

/// The gateway with these sockets as descriptors 3 and 4, and these variables besides `LISTEN_PID`.
fn with_sockets<const N: usize>(sockets: [OwnedFd; N], variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    // Only a shell gives descriptors their numbers without unsafe code.
    const PASS: &str = r#"LISTEN_PID=${LISTEN_PID-$$} exec "$@" </dev/null >/dev/null"#;
    let pass = ["", "exec 3<&0; ", "exec 3<&0 4>&1; "][N].to_owned() + PASS;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &pass, "sh", Binary::PATH]).args(SERVE).args(arguments);
    command.env_clear().envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut sockets = sockets.into_iter();
    if let Some(socket) = sockets.next() {
        command.stdin(socket);
    }
    if let Some(socket) = sockets.next() {
        command.stdout(socket);
    }
    command.stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn port() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn upstream(cloud: &Cloud) -> String {
    format!("--upstream=http://{}", cloud.address)
}

async fn stop(mut program: Program) {
    program.signal("TERM").await;
    assert_eq!(program.ended(END).await.code(), Some(0));
}

/// The message of a gateway that refuses its sockets.
async fn refusal<const N: usize>(sockets: [OwnedFd; N], variables: &[(&str, &str)]) -> String {
    let program = with_sockets(sockets, variables, &["--region", "cn-north-4"]).spawn().unwrap();
    let output = soon(program.wait_with_output()).await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_call_between_two_processes_waits_for_the_second() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let (listener, address) = port();
    let start = || {
        let socket = listener.try_clone().unwrap().into();
        Program::of(&mut with_sockets([socket], &[("LISTEN_FDS", "1")], &[&upstream(&cloud)]))
    };
    let mut first = start();
    assert_eq!(first.serving().await.address, address);
    Caller::of(&address).await.attach(documented()).await.unwrap();
    stop(first).await;

    let call = {
        let address = address.clone();
        tokio::spawn(async move { Caller::of(&address).await.attach(documented()).await })
    };
    let mut second = start();
    assert_eq!(second.serving().await.address, address);
    soon(call).await.unwrap().unwrap();
    cloud.requests(2).await;
    stop(second).await;
}

#[tokio::test]
async fn a_unix_socket_stays_when_the_gateway_ends() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let command = &mut with_sockets([listener.into()], &[("LISTEN_FDS", "1")], &[&upstream(&cloud)]);
    let mut program = Program::of(command);
    let address = format!("unix:{}", path.display());
    assert_eq!(program.serving().await.address, address);
    let channel = soon(Endpoint::from_shared(address).unwrap().connect()).await.unwrap();
    Caller::on(channel).attach(documented()).await.unwrap();
    stop(program).await;
    assert!(path.exists());
}

#[tokio::test]
async fn the_admin_port_is_the_socket_with_its_name() {
    let ((grpc, address), (admin, admin_address)) = (port(), port());
    for (sockets, names) in [
        ([admin.try_clone().unwrap(), grpc.try_clone().unwrap()], "admin:grpc"),
        ([grpc, admin], "apig-grpc-gateway.socket:admin"),
    ] {
        let variables = [("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", names)];
        let mut program = Program::of(&mut with_sockets(sockets.map(Into::into), &variables, &["--region=cn-north-4"]));
        let serving = program.serving().await;
        assert_eq!((serving.address.as_str(), serving.admin.as_deref()), (address.as_str(), Some(&*admin_address)));
        let answer = soon(reqwest::get(format!("http://{admin_address}/readyz"))).await.unwrap();
        assert_eq!(answer.status(), 200);
        stop(program).await;
    }
}

#[tokio::test]
async fn sockets_for_another_process_are_ignored() {
    let (listener, address) = port();
    for process in ["1", ""] {
        let socket = listener.try_clone().unwrap().into();
        let variables = [("LISTEN_FDS", "1"), ("LISTEN_PID", process)];
        let mut program = Program::of(&mut with_sockets([socket], &variables, &["--region=cn-north-4"]));
        assert_ne!(program.serving().await.address, address);
        stop(program).await;
    }
    let mut program = Program::of(&mut with_sockets([], &[("LISTEN_FDS", "0")], &["--region=cn-north-4"]));
    program.serving().await;
    stop(program).await;
}

#[tokio::test]
async fn sockets_that_can_not_be_used_are_named() {
    let one = [("LISTEN_FDS", "1")];
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let text = refusal([datagrams.into()], &one).await;
    assert!(text.contains("descriptor 3 is not a TCP or Unix stream socket"), "{text}");

    let (listener, address) = port();
    let connection = TcpStream::connect(&address).unwrap();
    let text = refusal([connection.into()], &one).await;
    assert!(text.contains("descriptor 3 does not listen; a socket unit needs Accept=no"), "{text}");

    let file = std::fs::File::open("/dev/null").unwrap();
    let text = refusal([file.into()], &one).await;
    assert!(text.contains("descriptor 3 is not a TCP or Unix stream socket"), "{text}");

    let unnamed = SocketAddr::from_abstract_name(format!("apig-{}", std::process::id())).unwrap();
    let text = refusal([UnixListener::bind_addr(&unnamed).unwrap().into()], &one).await;
    assert!(text.contains("descriptor 3 is a Unix socket without a path"), "{text}");

    for number in ["3", "4294967296"] {
        let text = refusal([listener.try_clone().unwrap().into()], &[("LISTEN_FDS", number)]).await;
        assert!(text.contains(&format!("{number} sockets were passed (limit 2)")), "{text}");
    }
    for number in ["", "-1", "one"] {
        let text = refusal([listener.try_clone().unwrap().into()], &[("LISTEN_FDS", number)]).await;
        assert!(text.contains("LISTEN_FDS is not a number"), "{text}");
    }
    // The number 4 belongs to nobody, nor to anything that the gateway opens.
    let text = refusal([listener.try_clone().unwrap().into()], &[("LISTEN_FDS", "2")]).await;
    assert!(text.contains("descriptor 4 is not a TCP or Unix stream socket"), "{text}");
    let text = refusal([listener.try_clone().unwrap().into(), listener.into()], &[("LISTEN_FDS", "2")]).await;
    assert!(text.contains("two sockets for one port"), "{text}");

    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("admin.sock")).unwrap();
    let text = refusal([listener.into()], &[("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "admin")]).await;
    assert!(text.contains("descriptor 3 (admin) must be a TCP socket"), "{text}");
}

#[tokio::test]
async fn the_rules_for_addresses_hold_for_sockets_too() {
    let variables = [("LISTEN_FDS", "1"), ("APIG_GATEWAY_CREDENTIALS", "token"), ("APIG_GATEWAY_TOKEN", "t")];
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let text = refusal([open.into()], &variables).await;
    assert!(text.contains("listen (socket activation) is open to other hosts"), "{text}");
}

/// The messages of the gateway to a manager at this address, from its start to its end.
async fn told(name: &str, manager: UnixDatagram) -> [String; 2] {
    manager.set_nonblocking(true).unwrap();
    let manager = tokio::net::UnixDatagram::from_std(manager).unwrap();
    let next = async || {
        let mut state = [0; 64];
        let length = soon(manager.recv(&mut state)).await.unwrap();
        String::from_utf8(state[..length].to_vec()).unwrap()
    };
    let (program, _) = Program::serve(&["--region", "cn-north-4"], &[("NOTIFY_SOCKET", name)]).await;
    let ready = next().await;
    program.signal("TERM").await;
    [ready, next().await]
}

#[tokio::test]
async fn start_and_stop_are_told_to_the_manager() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    assert_eq!(told(path.to_str().unwrap(), manager).await, ["READY=1", "STOPPING=1"]);

    let name = format!("apig-notify-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    assert_eq!(told(&format!("@{name}"), manager).await, ["READY=1", "STOPPING=1"]);
}

#[tokio::test]
async fn a_manager_that_is_not_there_harms_nothing() {
    for name in ["/nonexistent/notify", "@", "relative", "vsock:2:1234", &format!("/{}", "x".repeat(300))] {
        let mut program =
            Program::start(&[&SERVE[..], &["--region", "cn-north-4"]].concat(), &[("NOTIFY_SOCKET", name)]);
        program.log_line("can't connect to NOTIFY_SOCKET").await;
        program.serving().await;
        stop(program).await;
    }
}

#[tokio::test]
async fn a_manager_that_does_not_read_delays_nothing_and_is_told_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    while other.send_to(b"filler", &path).is_ok() {}

    let cloud = Cloud::answering([Reply::attached()]).await;
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let (mut program, address) = Program::serve(&[&upstream(&cloud)], &variables).await;
    Caller::of(&address).await.attach(documented()).await.unwrap();

    manager.set_nonblocking(true).unwrap();
    let reader = tokio::net::UnixDatagram::from_std(manager.try_clone().unwrap()).unwrap();
    let mut state = [0; 64];
    let mut length = 0;
    while &state[..length] != b"READY=1" {
        length = soon(reader.recv(&mut state)).await.unwrap();
    }

    // Full again, it does not delay the end either.
    while other.send_to(b"filler", &path).is_ok() {}
    program.signal("TERM").await;
    assert_eq!(program.ended(END).await.code(), Some(0));
}
