//! Credentials that come from files, which change, break and come back while calls go on.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use emulator::{Emulator, World};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request};

use crate::support::{Caller, Cloud, Failed, Gateway, Program, Reply, documented, failed, soon};

/// A file of credentials in a folder of its own.
struct Secrets {
    folder: tempfile::TempDir,
}

impl Secrets {
    fn holding(text: &str) -> Self {
        let secrets = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(secrets.path(), text).unwrap();
        secrets
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    fn text(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    /// Puts another file in its place.
    fn replace(&self, text: &str) {
        let next = self.folder.path().join("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.path()).unwrap();
    }

    /// Rewrites it in place, with its size and the time of its last change.
    fn rewrite_unnoticed(&self, text: &str) {
        let before = fs::metadata(self.path()).unwrap();
        assert_eq!(before.len(), text.len() as u64);
        let changed = |path: &Path| fs::metadata(path).map(|data| (data.ctime(), data.ctime_nsec())).unwrap();
        // The clocks of file systems are coarse: write until the change has a time of its own.
        while changed(&self.path()) == (before.ctime(), before.ctime_nsec()) {
            fs::write(self.path(), text).unwrap();
            let file = fs::File::options().append(true).open(self.path()).unwrap();
            file.set_modified(before.modified().unwrap()).unwrap();
        }
    }
}

async fn attach(caller: &Caller) -> Result<(), Failed> {
    let result = caller.send(Request::new(documented())).await;
    result.map(drop).map_err(|status| failed::<()>(Err(status)))
}

/// The credential of the last request: its token, or its access key.
fn last(cloud: &Cloud) -> String {
    let seen = cloud.last_request();
    let key = |text: &str| text.split_once("Access=")?.1.split(',').next().map(str::to_owned);
    let signed = seen.header("authorization").and_then(key);
    signed.or_else(|| seen.header("x-auth-token").map(str::to_owned)).unwrap()
}

/// Calls until the cloud sees this credential. No call may fail on the way.
async fn until_used(caller: &Caller, cloud: &Cloud, credential: &str) {
    soon(async {
        loop {
            attach(caller).await.unwrap();
            if last(cloud) == credential {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Rotates a file under calls, through the credentials `aa`, `bb` and so on; `content` is the text of the file for each.
async fn rotates(gateway: &Gateway, cloud: &Cloud, setting: &str, secrets: &Secrets, content: impl Fn(&str) -> String) {
    let caller = gateway.caller().await;
    until_used(&caller, cloud, "aa").await;
    secrets.replace(&content("bb"));
    until_used(&caller, cloud, "bb").await;
    secrets.rewrite_unnoticed(&content("cc"));
    until_used(&caller, cloud, "cc").await;

    let failures =
        |number| format!("apig_gateway_file_reloads_total{{setting=\"{setting}\",result=\"failed\"}} {number}\n");
    let failing = |number| format!("apig_gateway_file_reload_failing{{setting=\"{setting}\"}} {number}\n");
    let away = secrets.folder.path().join("away");
    let good = content("cc");
    for (index, broken) in [Some(""), Some("\u{1} \u{1}"), None].into_iter().enumerate() {
        if let Some(text) = broken {
            secrets.replace(text);
        } else {
            secrets.replace(&good);
            gateway.shows(&failing(0)).await;
            fs::rename(secrets.path(), &away).unwrap();
        }
        gateway.shows(&failures(index + 1)).await;
        attach(&caller).await.unwrap();
        assert_eq!(last(cloud), "cc", "{setting}: the previous credential stays");
    }
    gateway.shows(&failing(1)).await;
    fs::rename(&away, secrets.path()).unwrap();
    gateway.shows(&failing(0)).await;
    attach(&caller).await.unwrap();
    assert_eq!(last(cloud), "cc");
    secrets.replace(&content("dd"));
    until_used(&caller, cloud, "dd").await;
    assert!(gateway.admin("/metrics").await.1.contains(&failures(3)));
}

#[tokio::test]
async fn a_token_file() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let secrets = Secrets::holding("aa\n");
    let plan = Gateway::facing(cloud.address).with("credentials", "token").with("token-file", secrets.text());
    rotates(&plan.start().await, &cloud, "token-file", &secrets, |name| format!("{name}\n")).await;
}

#[tokio::test]
async fn the_profile_of_the_sdk() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let content = |name: &str| format!("[basic]\nak = {name}\nsk = secret-of-{name}\n");
    let secrets = Secrets::holding(&content("aa"));
    let plan = Gateway::facing(cloud.address).with("credentials", "auto").with("project-id", "p");
    let gateway = plan.variable("HUAWEICLOUD_SDK_CREDENTIALS_FILE", secrets.text()).start().await;
    rotates(&gateway, &cloud, "credentials", &secrets, content).await;
}

#[tokio::test]
async fn the_files_of_identities() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let secrets = Secrets::holding("aa");
    let project = documented().project_id;
    let file = format!(
        "[[identities]]\nproject_id = '{project}'\ncredentials = 'token'\ntoken_file = '{}'\n\
         [[identities]]\nproject_id = 'other'\ncredentials = 'token'\ntoken = 'never'\n",
        secrets.text()
    );
    let gateway = Gateway::facing(cloud.address).file(file).start().await;
    rotates(&gateway, &cloud, "token-file", &secrets, str::to_owned).await;
}

/// An answer of IAM with a token of a day.
fn token(value: &str) -> Reply {
    let date = |seconds: u64| {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        humantime::format_rfc3339_micros(moment).to_string()
    };
    let body = format!(r#"{{"token":{{"issued_at":"{}","expires_at":"{}"}}}}"#, date(0), date(86_400));
    Reply::with(201, &[("X-Subject-Token", value)], body.as_bytes())
}

#[tokio::test]
async fn a_changed_password_is_tried_at_once_although_the_old_one_was_refused() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let wrong = r#"{"error":{"code":401,"message":"The username or password is wrong.","title":"Unauthorized"}}"#;
    let iam = Cloud::answering([Reply::json(401, wrong), token("aa"), token("bb")]).await;
    let secrets = Secrets::holding("wrong\n");
    let gateway = Gateway::facing(cloud.address)
        .with("credentials", "password")
        .with("iam-endpoint", format!("http://{}", iam.address))
        .with("user-name", "operator")
        .with("account-name", "acme")
        .with("password-file", secrets.text())
        .with("project-name", "cn-north-4")
        .start()
        .await;
    let caller = gateway.caller().await;
    assert_eq!(attach(&caller).await.unwrap_err().verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
    assert_eq!(cloud.seen().len(), 0);

    secrets.replace("first\r\n");
    gateway.shows("{setting=\"password-file\",result=\"loaded\"} 1\n").await;
    attach(&caller).await.unwrap();
    assert_eq!(last(&cloud), "aa");
    // One that can't be used leaves the token and asks nobody.
    secrets.replace("\n");
    gateway.shows("apig_gateway_file_reload_failing{setting=\"password-file\"} 1").await;
    attach(&caller).await.unwrap();
    assert_eq!((last(&cloud).as_str(), iam.seen().len()), ("aa", 2));
    secrets.replace("second");
    until_used(&caller, &cloud, "bb").await;
    let passwords: Vec<_> = iam.seen().iter().map(|seen| password_in(&seen.body)).collect();
    assert_eq!(passwords, ["wrong", "first", "second"]);
}

fn password_in(body: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body.pointer("/auth/identity/password/user/password").unwrap().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_changed_secret_key_signs_from_then_on() {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let emulator = Emulator::bind(any_port, World::documented()).await.unwrap();
    let address = emulator.local_addr();
    let _running = AbortOnDropHandle::new(tokio::spawn(emulator.run(std::future::pending())));
    let secrets = Secrets::holding("a-wrong-secret-of-the-key");
    let gateway = Gateway::facing(address)
        .with("credentials", "aksk")
        .with("access-key-id", "DEMOOPERATORKEY00001")
        .with("secret-access-key-file", secrets.text())
        .start()
        .await;
    let caller = gateway.caller().await;
    // Three in a row: two may be sent. More than five would lock the key.
    for _ in 0..3 {
        assert_eq!(attach(&caller).await.unwrap_err().verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
    }
    secrets.replace("demo-operator-secret-key\n");
    gateway.shows("{setting=\"secret-access-key-file\",result=\"loaded\"} 1\n").await;
    attach(&caller).await.unwrap();
}

#[tokio::test]
async fn a_hangup_loads_every_file_at_once_and_ends_nothing() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let upstream = format!("http://{}", cloud.address);
    let content = |name: &str| format!("[basic]\nak = {name}\nsk = secret\n");
    let secrets = Secrets::holding(&content("aa"));
    let variables = [("HUAWEICLOUD_SDK_CREDENTIALS_FILE", secrets.text())];
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let arguments = ["--upstream", &upstream, "--credentials", "auto", "--project-id", "p"];
    let (mut program, address) = Program::serve(&arguments, &variables).await;
    let caller = Caller::of(&address).await;
    attach(&caller).await.unwrap();
    secrets.replace(&content("bb"));
    program.signal("HUP").await;
    program.log_line("file reloaded").await;
    attach(&caller).await.unwrap();
    assert_eq!(last(&cloud), "bb");
    // No line tells the content of a file that can't be used.
    secrets.replace("[basic]\nak = canary key\nsk = canary\n");
    program.signal("HUP").await;
    let line = program.log_line("can't be loaded").await;
    assert!(line.contains("\"setting\":\"credentials\"") && !line.contains("canary"), "{line}");
    attach(&caller).await.unwrap();
    assert_eq!(last(&cloud), "bb");
}
