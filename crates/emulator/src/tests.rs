//! Tests of the emulator over real sockets. Documented behaviour and our own choices are both tested,
//! because the gateway's tests rely on both.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Emulator, SecondCertificate, World};

mod attach;
mod certificates;
mod detach;
mod domain_side;
mod iam;
mod keys;
mod list;
mod outage;
mod server;
mod state;
mod uploads;
mod workload;
mod world;

const PROJECT: &str = "73d69ae0cfcf460190522d06b60f05ad";
const OTHER_PROJECT: &str = "c8e2f7a04d1b4396b5e03c9a7f126d84";
const CERTIFICATE: &str = "a27be832f2e9441c8127fe48e3b5ac67";
const WITH_CA: &str = "1b6f0d83c9a24e57b8d1f4a6e02c7359";
const FOR_ONE_INSTANCE: &str = "e94c2a7f5d8041b6a3f7c0b8d1695e2a";
const FIRST: &str = "f0fa1789-3b76-433b-a787-9892951c620e";
const SECOND: &str = "7d39549681c54d968ec2910da9da95cd";
const OPERATOR: &str = "demo-operator-token";
const AUDITOR: &str = "demo-auditor-token";

/// A running emulator, stopped with the runtime of its test.
struct Running {
    address: SocketAddr,
    client: Client,
    now: Arc<Mutex<SystemTime>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

struct Received {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: String,
}

async fn running() -> Running {
    running_in(World::documented()).await
}

async fn running_in(world: World) -> Running {
    running_as(world, |emulator| emulator).await
}

/// An emulator with further options.
async fn running_as(world: World, set: impl FnOnce(Emulator) -> Emulator) -> Running {
    // The moment of the documented example of a token.
    let now = Arc::new(Mutex::new(UNIX_EPOCH + Duration::from_millis(1_578_042_322_701)));
    let clock = {
        let now = Arc::clone(&now);
        move || *now.lock().unwrap()
    };
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let emulator = set(Emulator::bind(any_port, world).await.unwrap().with_clock(clock));
    let address = emulator.local_addr();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(emulator.run(async {
        stopped.await.unwrap();
    }));
    Running { address, client: Client::new(), now, stop, task }
}

impl Running {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    fn attachment(&self, certificate: &str) -> RequestBuilder {
        self.request(Method::POST, &format!("/v2/{PROJECT}/apic/certificates/{certificate}/domains/attach"))
            .header("X-Auth-Token", OPERATOR)
            .header("Content-Type", "application/json")
    }

    async fn attach(&self, certificate: &str, domains: Value) -> Received {
        send(self.attachment(certificate).body(json!({ "domains": domains }).to_string())).await
    }

    async fn list(&self, certificate: &str, query: &str) -> Received {
        let path = format!("/v2/{PROJECT}/apic/certificates/{certificate}/attached-domains{query}");
        send(self.request(Method::GET, &path).header("X-Auth-Token", OPERATOR)).await
    }

    /// All attached domains of a certificate: name, instance, client verification.
    async fn attached(&self, certificate: &str) -> Vec<(String, String, bool)> {
        let rows = self.list(certificate, "").await.json()["bound_domains"].take();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let verified = row["verified_client_certificate_enabled"].as_bool().unwrap();
                (text(&row["url_domain"]), text(&row["instance_id"]), verified)
            })
            .collect()
    }

    /// A call of the operator under a product's path. A body is sent as JSON.
    async fn call(&self, method: Method, family: &str, path: &str, body: Option<&Value>) -> Received {
        let request = self.request(method, &format!("/v2/{PROJECT}/{family}/{path}")).header("X-Auth-Token", OPERATOR);
        send(match body {
            None => request,
            Some(body) => request.header("Content-Type", "application/json").body(body.to_string()),
        })
        .await
    }

    fn advance(&self, by: Duration) {
        *self.now.lock().unwrap() += by;
    }
}

impl Received {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The service's format: code, then text, and no other member.
    #[track_caller]
    fn is_service(&self, status: u16, code: &str, text: &str) {
        assert_eq!(
            (self.status, self.body.as_str()),
            (status, format!(r#"{{"error_code":"{code}","error_msg":"{text}"}}"#).as_str())
        );
        assert_eq!(self.header("content-type"), "application/json");
    }

    /// The front gateway's format: text, then code, then request id.
    #[track_caller]
    fn is_front(&self, status: u16, code: &str, text: &str) {
        let id = self.header("x-request-id");
        assert_eq!(
            (self.status, self.body.as_str()),
            (status, format!(r#"{{"error_msg":"{text}","error_code":"{code}","request_id":"{id}"}}"#).as_str())
        );
        assert_eq!(self.header("content-type"), "application/json");
    }
}

async fn send(request: RequestBuilder) -> Received {
    let response = request.send().await.unwrap();
    Received {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.text().await.unwrap(),
    }
}

fn parameter(text: &str, name: &str) -> String {
    format!("{text},parameterName:{name}. Please refer to the support documentation")
}

#[track_caller]
fn assert_id(text: &str) {
    assert!(text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
}
