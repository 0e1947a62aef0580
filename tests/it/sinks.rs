//! Readers of logs and audit lines that stop, and disks that are full: nothing else stops.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tokio::process::Child;

use crate::support::{Caller, Cloud, Program, Reply, command, documented, domain, on_certificate, soon};

/// Calls for each of the cases.
const CALLS: usize = 2_000;

/// Domains in a call for which the audit lines of all calls are more than their buffer and a pipe take.
const DOMAINS: usize = 48;

/// A bound on the end of a program that nothing holds up.
const END: Duration = Duration::from_secs(15);

/// The program with its admin port; after its start nobody reads its log.
struct Unread {
    program: Program,
    address: String,
    admin: String,
}

impl Unread {
    async fn start(cloud: &Cloud, arguments: &[&str]) -> Self {
        let upstream = format!("http://{}", cloud.address);
        let serve = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json"];
        let mut program = Program::start(&[&serve[..], &["--upstream", &upstream], arguments].concat(), &[]);
        let line: Value = serde_json::from_str(&program.log_line(r#""serving""#).await).unwrap();
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        Self { program, address: text("address"), admin: text("admin") }
    }

    async fn admin(&self, path: &str) -> (u16, String) {
        let answer = soon(reqwest::get(format!("http://{}{path}", self.admin))).await.unwrap();
        (answer.status().as_u16(), soon(answer.text()).await.unwrap())
    }

    async fn metric(&self, name: &str) -> u64 {
        let (_, metrics) = self.admin("/metrics").await;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
        value.parse().unwrap()
    }

    /// Makes calls, asks for liveness beside them, and has the program drain.
    async fn serves_and_ends(mut self, calls: usize) -> Self {
        call(&self.address, calls, DOMAINS).await;
        assert_eq!(self.admin("/livez").await, (200, "ok\n".into()));
        assert_eq!(self.admin("/readyz").await.0, 200);
        self.program.signal("TERM").await;
        assert_eq!(self.program.ended_unread(END).await.code(), Some(0));
        self
    }
}

/// Makes so many calls for so many domains each; all of them must be answered.
async fn call(address: &str, calls: usize, domains: usize) {
    const CALLERS: usize = 16;
    let callers: Vec<_> = (0..CALLERS)
        .map(|first| {
            let address = address.to_owned();
            tokio::spawn(async move {
                let caller = Caller::of(&address).await;
                for number in (first..calls).step_by(CALLERS) {
                    let mut request = on_certificate(number);
                    request.domains = (0..domains).map(|of| domain(&format!("{of:0>40}.example"))).collect();
                    caller.attach(request).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

fn fifo(folder: &tempfile::TempDir) -> String {
    let path = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    path.to_str().unwrap().to_owned()
}

async fn cloud() -> Cloud {
    Cloud::answering([Reply::attached()]).await
}

#[tokio::test]
async fn an_audit_fifo_that_nobody_reads_stops_nothing() {
    let (cloud, folder) = (cloud().await, tempfile::tempdir().unwrap());
    let program = Unread::start(&cloud, &["--audit", &fifo(&folder)]).await;
    call(&program.address, CALLS, DOMAINS).await;
    assert!(program.metric("apig_gateway_audit_lines_not_written_total").await > 0);
    program.serves_and_ends(1).await;
}

#[tokio::test]
async fn an_audit_reader_that_stops_stops_nothing_and_finds_whole_lines_later() {
    let (cloud, folder) = (cloud().await, tempfile::tempdir().unwrap());
    let path = fifo(&folder);
    let program = Unread::start(&cloud, &["--audit", &path]).await;
    // Both ends, so that opening it waits for nobody; the program is the one that writes.
    let reader = fs::File::options().read(true).write(true).open(&path).unwrap();
    call(&program.address, CALLS, DOMAINS).await;
    let lost = program.metric("apig_gateway_audit_lines_not_written_total").await;
    assert!(lost > 0);
    let lines = tokio::task::spawn_blocking(move || {
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader));
        (0..CALLS - usize::try_from(lost).unwrap()).map(|_| lines.next().unwrap().unwrap()).collect::<Vec<_>>()
    });
    for line in soon(lines).await.unwrap() {
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["outcome"], line["domains"].as_array().unwrap().len()), (&"applied".into(), DOMAINS));
    }
    assert_eq!(cloud.seen().len(), CALLS);
    program.serves_and_ends(1).await;
}

#[tokio::test]
async fn an_unread_standard_output_stops_nothing() {
    let cloud = cloud().await;
    let program = Unread::start(&cloud, &["--audit", "stdout"]).await;
    call(&program.address, CALLS, DOMAINS).await;
    assert!(program.metric("apig_gateway_audit_lines_not_written_total").await > 0);
    program.serves_and_ends(1).await;
}

#[tokio::test]
async fn an_unread_standard_error_stops_nothing() {
    let cloud = cloud().await;
    let program = Unread::start(&cloud, &["--log-level", "debug"]).await;
    call(&program.address, CALLS, 1).await;
    assert!(program.metric("apig_gateway_log_lines_lost_total").await > 0);
    program.serves_and_ends(1).await;
}

#[tokio::test]
async fn a_second_signal_ends_a_program_whose_logs_nobody_reads() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::answering([Reply::hang()]).await);
    let path = fifo(&folder);
    let mut program = Unread::start(&cloud, &["--audit", &path, "--log-level", "trace", "--timeout", "60s"]).await;
    // Refused calls fill the pipes of both.
    for _ in 0..50 {
        let caller = Caller::of(&program.address).await;
        let mut request = documented();
        request.certificate_id = "..".into();
        for _ in 0..20 {
            caller.attach(request.clone()).await.unwrap_err();
        }
    }
    let caller = Caller::of(&program.address).await;
    let held = tokio::spawn(async move { caller.attach(documented()).await });
    cloud.requests(1).await;
    program.program.signal("TERM").await;
    soon(async { while program.admin("/readyz").await.0 != 503 {} }).await;
    program.program.signal("TERM").await;
    assert_eq!(program.program.ended_unread(END).await.code(), Some(1));
    held.abort();
}

#[tokio::test]
async fn an_audit_file_on_a_full_disk_is_counted_and_goes_to_the_log() {
    if !Path::new("/dev/full").exists() {
        eprintln!("SKIPPED: there is no /dev/full");
        return;
    }
    let cloud = cloud().await;
    let mut program = Unread::start(&cloud, &["--audit", "/dev/full"]).await;
    call(&program.address, 1, 1).await;
    let line: Value = serde_json::from_str(&program.program.log_line("an audit line").await).unwrap();
    let line: Value = serde_json::from_str(line["line"].as_str().unwrap()).unwrap();
    assert_eq!(line["outcome"], "applied");
    call(&program.address, CALLS, 1).await;
    soon(async { while program.metric("apig_gateway_audit_lines_not_written_total").await < CALLS as u64 + 1 {} })
        .await;
    program.serves_and_ends(1).await;
}

/// Waits for the end of a program that nobody reads from.
async fn code(child: &mut Child) -> Option<i32> {
    tokio::time::timeout(END, child.wait()).await.expect("it ends in time").unwrap().code()
}

#[tokio::test]
async fn a_standard_error_that_takes_nothing_stops_nothing() {
    let Ok(full) = fs::File::options().write(true).open("/dev/full") else {
        eprintln!("SKIPPED: there is no /dev/full");
        return;
    };
    let (cloud, folder) = (cloud().await, tempfile::tempdir().unwrap());
    let socket = folder.path().join("s");
    let listen = format!("unix:{}", socket.display());
    let upstream = format!("http://{}", cloud.address);
    let arguments = ["serve", "--listen", &listen, "--admin-listen", "off", "--upstream", &upstream];
    let mut child = command(&arguments, &[]).stderr(Stdio::from(full)).spawn().unwrap();
    soon(async {
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let endpoint = tonic::transport::Endpoint::from_shared(listen).unwrap();
    let caller = Caller::on(soon(endpoint.connect()).await.unwrap());
    for number in 0..100 {
        caller.attach(on_certificate(number)).await.unwrap();
    }
    let id = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    assert_eq!(code(&mut child).await, Some(0));
}

#[tokio::test]
async fn a_start_that_fails_ends_though_nobody_reads_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(&folder);
    let mut pipe = fs::File::options().read(true).write(true).open(&path).unwrap();
    // As much as a pipe takes.
    std::io::Write::write_all(&mut pipe, &vec![b'x'; 65_536]).unwrap();
    for (arguments, expected) in [
        (vec!["serve", "--upstream", "nonsense"], 2),
        (vec!["serve", "--upstream", "http://127.0.0.1:9", "--listen", "192.0.2.1:1"], 1),
    ] {
        let mut child = command(&arguments, &[]).stderr(Stdio::from(pipe.try_clone().unwrap())).spawn().unwrap();
        assert_eq!(code(&mut child).await, Some(expected), "{arguments:?}");
    }
}

/// A small file system of its own, if this user may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(folder.path()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn lines_after_a_full_disk_begin_anew() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED: no file system can be mounted here");
        return;
    };
    let filler = disk.path("filler");
    fs::write(&filler, vec![b'x'; 192 * 1024]).unwrap();
    let path = disk.path("audit");
    let cloud = cloud().await;
    let program = Unread::start(&cloud, &["--audit", path.to_str().unwrap()]).await;
    call(&program.address, 200, DOMAINS).await;
    soon(async { while program.metric("apig_gateway_audit_lines_not_written_total").await == 0 {} }).await;
    fs::remove_file(&filler).unwrap();
    call(&program.address, 10, 1).await;
    let program = program.serves_and_ends(1).await;
    drop(program);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<Option<Value>> = text.lines().map(|line| serde_json::from_str(line).ok()).collect();
    let short =
        |line: &&Option<Value>| line.as_ref().is_some_and(|line| line["domains"].as_array().unwrap().len() == 1);
    assert_eq!(lines.iter().filter(short).count(), 10, "those after the disk had room are all there, and whole");
    let cut = lines.iter().filter(|line| line.is_none()).count();
    assert!(cut <= 1, "{cut} lines are cut: only the one that met the end of the disk may be");
    assert!(text.ends_with('\n'));
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_left_for_a_new_one_between_two_lines() {
    let (cloud, folder) = (cloud().await, tempfile::tempdir().unwrap());
    let (path, moved) = (folder.path().join("audit"), folder.path().join("audit.1"));
    let mut program = Unread::start(&cloud, &["--audit", path.to_str().unwrap()]).await;
    call(&program.address, 50, 1).await;
    fs::rename(&path, &moved).unwrap();
    program.program.signal("HUP").await;
    program.program.log_line("audit log reopened").await;
    call(&program.address, 30, 1).await;
    program.serves_and_ends(1).await;
    let count = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
    assert_eq!((count(&moved), count(&path)), (50, 31));
}
