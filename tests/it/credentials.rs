//! A token that the gateway holds.

use std::fs;

use tonic::{Code, Request};

use crate::support::{Caller, Cloud, Gateway, Program, Reply, documented, failed};

/// A gateway that holds the token of this file.
async fn holding(cloud: &Cloud, path: &std::path::Path) -> Gateway {
    Gateway::facing(cloud.address).with("credentials", "token").with("token-file", path.to_str().unwrap()).start().await
}

fn token_file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[tokio::test]
async fn the_gateways_token_goes_upstream_and_the_callers_does_not() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let (_folder, path) = token_file("held\n");
    let gateway = holding(&cloud, &path).await;
    let caller = gateway.caller().await;
    caller.send(Request::new(documented())).await.unwrap();
    caller.attach(documented()).await.unwrap();
    let tokens: Vec<_> = cloud.seen().iter().map(|seen| seen.header("x-auth-token").unwrap().to_owned()).collect();
    assert_eq!(tokens, ["held", "held"]);
}

#[tokio::test]
async fn a_refused_token_that_has_changed_is_replaced_once() {
    let refused = Reply::refused(401, "APIG.1002", "Incorrect token or token resolution failed.");
    let cloud = Cloud::answering([refused, Reply::attached()]).await;
    let (_folder, path) = token_file("old");
    let gateway = holding(&cloud, &path).await;
    fs::write(&path, "new").unwrap();
    gateway.caller().await.send(Request::new(documented())).await.unwrap();
    let tokens: Vec<_> = cloud.seen().iter().map(|seen| seen.header("x-auth-token").unwrap().to_owned()).collect();
    assert!(tokens == ["old", "new"] || tokens == ["new", "new"], "{tokens:?}");
}

#[tokio::test]
async fn a_refused_token_that_has_not_changed_is_the_operators_to_mend() {
    let cloud = Cloud::answering([Reply::refused(401, "APIG.0307", "The token must be updated.")]).await;
    let (_folder, path) = token_file("old");
    let gateway = holding(&cloud, &path).await;
    let failure = failed(gateway.caller().await.send(Request::new(documented())).await);
    assert_eq!(failure.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
    assert_eq!(failure.fact("error_code"), Some("APIG.0307"));
    assert_eq!(failure.details.error_info().unwrap().domain, "apig-grpc-gateway");
    assert_eq!(cloud.seen().len(), 1);
}

#[tokio::test]
async fn a_missing_right_is_not_a_refused_credential() {
    let cloud = Cloud::answering([Reply::refused(401, "APIG.1005", "No permissions to request this method")]).await;
    let (_folder, path) = token_file("held");
    let gateway = holding(&cloud, &path).await;
    let failure = failed(gateway.caller().await.send(Request::new(documented())).await);
    assert_eq!(failure.verdict(), (Code::PermissionDenied, "APIG_1005"));
}

#[tokio::test]
async fn a_hangup_reads_the_token_again_and_ends_nothing() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let upstream = format!("http://{}", cloud.address);
    let (_folder, path) = token_file("old");
    let arguments = ["--upstream", &upstream, "--credentials", "token", "--token-file", path.to_str().unwrap()];
    let (mut program, address) = Program::serve(&arguments, &[]).await;
    let caller = Caller::of(&address).await;
    caller.send(Request::new(documented())).await.unwrap();
    fs::write(&path, "new").unwrap();
    program.signal("HUP").await;
    program.log_line("file reloaded").await;
    caller.send(Request::new(documented())).await.unwrap();
    let tokens: Vec<_> = cloud.seen().iter().map(|seen| seen.header("x-auth-token").unwrap().to_owned()).collect();
    assert_eq!(tokens, ["old", "new"]);

    let (program, address) = Program::serve(&["--upstream", &upstream], &[]).await;
    program.signal("HUP").await;
    Caller::of(&address).await.attach(documented()).await.unwrap();
}
