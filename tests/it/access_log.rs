//! The lines of the log: those of a start, those of calls (`access-log`), and the level, which signals change.

use serde_json::Value;

use crate::support::{Caller, Cloud, Program, Reply, documented, failed};

fn lines(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_start_is_three_lines() {
    let mut program = Program::start(
        &[
            &["serve", "--upstream", "http://127.0.0.1:9/base", "--upstream-proxy", "http://127.0.0.1:8"][..],
            &["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--max-requests-per-second", "7"],
            &["--log-format", "json"],
        ]
        .concat(),
        &[],
    );
    let log: String = {
        let mut log = program.log_line("starting").await + "\n";
        log += &(program.log_line("serving").await + "\n");
        log + &program.log_line("sending").await
    };
    let rest = Box::pin(program.log_of(async {})).await;
    let [start, listen, send] = &lines(&log)[..] else { panic!("{log}") };
    for line in [start, listen, send] {
        assert_eq!(line["level"], "INFO");
    }
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&start["credentials"], start["max_requests_per_second"].as_u64()), (&"passthrough".into(), Some(7)));
    assert!(listen["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{listen}");
    assert!(listen["admin"].as_str().unwrap().starts_with("127.0.0.1:"), "{listen}");
    assert_eq!((&send["upstream"], &send["proxy"]), (&"http://127.0.0.1:9/base".into(), &"http://127.0.0.1:8/".into()));
    // The first of the next lines is that of the end.
    assert_eq!(lines(&rest)[0]["message"], "stopping", "{rest}");
}

/// The codes of the calls in the log of a program before a cloud that refuses the first of two calls.
async fn logged(access_log: &str) -> Vec<String> {
    let cloud = Cloud::answering([Reply::refused(404, "APIG.3020", "m"), Reply::attached()]).await;
    let upstream = format!("http://{}", cloud.address);
    let (mut program, address) = Program::serve(&["--upstream", &upstream, "--access-log", access_log], &[]).await;
    let calls = async {
        let caller = Caller::of(&address).await;
        assert_eq!(failed(caller.attach(documented()).await).verdict().1, "APIG_3020");
        caller.attach(documented()).await.unwrap();
    };
    let log = Box::pin(program.log_of(calls)).await;
    let calls = lines(&log).into_iter().filter(|line| line["message"] == "call ended");
    calls.map(|line| line["code"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn calls_have_lines_as_the_setting_says() {
    assert_eq!(logged("all").await, ["NOT_FOUND", "OK"]);
    assert_eq!(logged("errors").await, ["NOT_FOUND"]);
    assert!(logged("off").await.is_empty());
}

#[tokio::test]
async fn signals_raise_the_level_and_set_it_back() {
    let again = Reply::with(503, &[("Retry-After", "0")], b"");
    let cloud = Cloud::answering([again.clone(), Reply::attached(), again.clone(), Reply::attached(), again]).await;
    let upstream = format!("http://{}", cloud.address);
    let (mut program, address) = Program::serve(&["--upstream", &upstream, "--log-level", "info"], &[]).await;
    let caller = Caller::of(&address).await;
    caller.attach(documented()).await.unwrap();
    // "trying again" has level debug.
    assert!(!program.log_line("call ended").await.contains("trying again"));
    program.signal("USR1").await;
    program.log_line(r#""log_level":"debug""#).await;
    caller.attach(documented()).await.unwrap();
    program.log_line("trying again").await;
    program.log_line("call ended").await;
    program.signal("USR2").await;
    program.log_line("log level set back").await;
    let call = async {
        failed(caller.attach(documented()).await);
    };
    let log = Box::pin(program.log_of(call)).await;
    assert!(log.contains("call ended") && !log.contains("DEBUG"), "{log}");
}
