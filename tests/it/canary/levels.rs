//! A level that is raised while the program runs shows no secret either.

use super::{TOKEN_LENGTH, leak::Parts, opaque};
use crate::support::{Caller, Cloud, Program, Reply, documented, failed};

#[tokio::test]
async fn a_level_that_is_raised_by_signals_shows_no_secret() {
    let token = opaque("token", TOKEN_LENGTH);
    let cloud = Cloud::answering([Reply::refused(401, "APIG.0307", "m"), Reply::close(), Reply::attached()]).await;
    let upstream = format!("http://{}", cloud.address);
    let arguments = ["--upstream", &upstream, "--credentials", "token"];
    let (mut program, address) = Program::serve(&arguments, &[("APIG_GATEWAY_TOKEN", &token)]).await;
    for level in ["debug", "trace"] {
        program.signal("USR1").await;
        program.log_line(&format!(r#""log_level":"{level}""#)).await;
    }
    let calls = async {
        let caller = Caller::of(&address).await;
        failed(caller.attach(documented()).await);
        failed(caller.attach(documented()).await);
        caller.attach(documented()).await.unwrap();
    };
    let log = Box::pin(program.log_of(calls)).await;
    assert!(log.contains(r#""level":"TRACE""#), "{log}");
    Parts::of(&[("token", token)]).assert_absent(&log, "a raised level");
}
