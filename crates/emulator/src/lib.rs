//! Emulates the cloud: its certificate API, its front gateway, IAM, STS and the metadata service, on
//! one plaintext port.
//!
//! The emulator is a second implementation of the cloud's documents and shares no code with the
//! client, because shared code would share its mistakes. Documented behaviour is implemented as
//! documented. Where the documents are silent, a comment marks the choice as ours: the emulator and
//! the gateway agreeing there proves nothing about the real cloud.
//!
//! ```text
//! lib               port, routes, request id and log line of every request
//!   certificates    list, show, create, update and delete certificates
//!     upload        the request body of an upload
//!   attachments     attach, detach and list the domains of a certificate, also from the domain's side
//!     body          the request bodies of both sides
//!   change          a change of a certificate: one at a time, with its fault and its duration
//!   state           certificates and bindings at one moment; the file that keeps them
//!     certificate   a certificate and its JSON
//!       chain       the PEM chain: checks and description
//!       key         the private key: its public part
//!     binding       the bindings of certificates to domains on instances
//!   iam             IAM tokens and the project search
//!   metadata        temporary keys for virtual machines and containers
//!   workload        temporary keys by OIDC token, federation or IAM token
//!   outage          failures of one service on demand
//!   caller          authentication and authorization of a request
//!   token           issued tokens and their grants
//!   keys            access keys, permanent and temporary
//!     signature     verification of a request's signature
//!   lock            lockout after failures in a row
//!   world           the configured projects, users and resources; consistency; summary
//!   domain_name     the documented patterns of domain names
//!   answer          the error formats of the cloud's services
//! ```

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::DATE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post, put};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use uuid::Uuid;

use self::answer::Refusal;
use self::change::Changes;
use self::iam::Logins;
use self::keys::Keys;
use self::metadata::MetadataTokens;
use self::outage::{Outages, Part};
use self::state::Store;
use self::token::{Tokens, VALIDITY};

pub use self::binding::SecondCertificate;
pub use self::world::{World, WorldError};

mod answer;
mod attachments;
mod binding;
mod body;
mod caller;
mod certificate;
mod certificates;
mod change;
mod domain_name;
mod iam;
mod keys;
mod lock;
mod metadata;
mod outage;
mod signature;
mod state;
#[cfg(test)]
mod tests;
mod token;
mod upload;
mod workload;
mod world;

/// The front gateway takes bodies up to "12 MB"; that the unit is binary is our reading.
const MAX_BODY: usize = 12 * 1024 * 1024;

/// The duration of a change of a certificate: long enough for concurrent changes to collide. The real cloud takes
/// seconds.
const CHANGE_TIME: Duration = Duration::from_millis(5);

/// The path segment of each product: ROMA Connect and the dedicated gateway differ in nothing else.
const FAMILIES: [&str; 2] = ["apic", "apigw"];

/// An emulated cloud, bound to its port and not yet [running](Emulator::run).
///
/// Serves HTTP/1.1, and HTTP/2 with prior knowledge.
pub struct Emulator {
    listener: TcpListener,
    local_addr: SocketAddr,
    cloud: Cloud,
}

type Shared = Arc<Cloud>;

/// The state shared by all handlers.
struct Cloud {
    world: World,
    tokens: Tokens,
    keys: Keys,
    logins: Logins,
    metadata_tokens: MetadataTokens,
    outages: Outages,
    /// The lifetime of issued tokens and temporary keys.
    life: Duration,
    store: Store,
    changes: Changes,
    /// The duration of a change of a certificate.
    change_time: Duration,
    second_certificate: SecondCertificate,
    clock: Clock,
}

/// The source of the time of day, injectable so that tests can expire tokens without waiting.
type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;

impl Emulator {
    /// Opens the port; port 0 takes any free one. Connections wait until [`Emulator::run`].
    ///
    /// # Errors
    ///
    /// The address can't be bound: in use, not permitted, or not an address of this host.
    pub async fn bind(listen: SocketAddr, world: World) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let local_addr = listener.local_addr()?;
        let cloud = Cloud {
            tokens: Tokens::of(&world),
            keys: Keys::of(&world),
            store: Store::of(&world),
            world,
            logins: Logins::default(),
            metadata_tokens: MetadataTokens::default(),
            outages: Outages::default(),
            life: VALIDITY,
            changes: Changes::default(),
            change_time: CHANGE_TIME,
            second_certificate: SecondCertificate::default(),
            clock: Box::new(SystemTime::now),
        };
        Ok(Self { listener, local_addr, cloud })
    }

    /// Sets the lifetime of tokens and temporary keys; by default the documented 24 hours.
    #[must_use]
    pub fn with_life(mut self, life: Duration) -> Self {
        self.cloud.life = life;
        self
    }

    /// Sets the duration of a change of a certificate. Concurrent changes of the same certificate are refused.
    #[must_use]
    pub fn with_change_time(mut self, time: Duration) -> Self {
        self.cloud.change_time = time;
        self
    }

    /// Sets the effect of attaching to a domain that has another certificate; by default it is refused.
    #[must_use]
    pub fn with_second_certificate(mut self, second: SecondCertificate) -> Self {
        self.cloud.second_certificate = second;
        self
    }

    /// Keeps certificates and bindings in a file: reads it now, if it exists, and replaces it after each change, before
    /// the response. Private keys are never kept. One emulator at a time may have the file.
    ///
    /// # Errors
    ///
    /// The file can't be read, is malformed, or does not fit the world. The error names the file.
    pub fn with_state(mut self, path: impl AsRef<Path>) -> io::Result<Self> {
        self.cloud.store = Store::in_file(&self.cloud.world, path.as_ref())?;
        Ok(self)
    }

    /// Replaces the system clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.cloud.clock = Box::new(clock);
        self
    }

    /// The bound address, with the actual port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown` resolves, then returns at once.
    ///
    /// Idle connections are closed. A connection with a request in progress is left to its task,
    /// which ends with the request or with the runtime.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let (stop, stopped) = oneshot::channel::<()>();
        // Responses are small and written whole: Nagle's algorithm would only delay them.
        let listener = self.listener.tap_io(|stream| {
            if let Err(fault) = stream.set_nodelay(true) {
                tracing::debug!(error = %fault, "can't set TCP_NODELAY");
            }
        });
        let serving = axum::serve(listener, router(Arc::new(self.cloud))).with_graceful_shutdown(async {
            // An error means that the sender was dropped, which stops the server too.
            let _ = stopped.await;
        });
        tokio::select! {
            _ = serving.into_future() => {}
            () = shutdown => {}
        }
        // Signals the connections to close, without waiting for them.
        drop(stop);
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

fn router(cloud: Shared) -> Router {
    let outage = |part| middleware::from_fn_with_state((Arc::clone(&cloud), part), outage::apply);
    let mut api = Router::new();
    for family in FAMILIES {
        let prefix = format!("/v2/{{project_id}}/{family}");
        let certificate = format!("{prefix}/certificates/{{certificate_id}}");
        let domain = format!("{prefix}/instances/{{instance_id}}/api-groups/{{group_id}}/domains/{{domain_id}}");
        let of_one = get(certificates::show).put(certificates::update).delete(certificates::delete);
        api = api
            .route(&format!("{prefix}/certificates"), get(certificates::list).post(certificates::create))
            .route(&certificate, of_one)
            .route(&format!("{certificate}/domains/attach"), post(attachments::attach_domains))
            .route(&format!("{certificate}/domains/detach"), post(attachments::detach_domains))
            .route(&format!("{certificate}/attached-domains"), get(attachments::list_attached_domains))
            .route(&format!("{domain}/certificates/attach"), post(attachments::attach_certificates))
            .route(&format!("{domain}/certificates/detach"), post(attachments::detach_certificates));
    }
    let iam = Router::new()
        .route("/v3/auth/tokens", post(iam::issue_token))
        .route("/v3/projects", get(iam::list_projects))
        .route("/v3.0/OS-CREDENTIAL/securitytokens", post(workload::security_tokens))
        .route("/v3.0/OS-AUTH/id-token/tokens", post(workload::federate))
        .layer(outage(Part::Iam))
        .layer(middleware::map_response(trace_id));
    let sts = Router::new().route("/v5/agencies/assume-with-oidc", post(workload::assume_with_oidc));
    let metadata = Router::new()
        .route("/meta-data/latest/api/token", put(metadata::token))
        .route("/openstack/latest/securitykey", get(metadata::security_key));
    let container = Router::new().route("/emulator/container/credentials", post(metadata::container));
    // Test controls that the real cloud does not have.
    let control = Router::new()
        .route("/emulator/revoke", post(revoke))
        .route("/emulator/outages/{part}", put(outage::begin).delete(outage::end));
    api.layer(outage(Part::Api))
        .merge(iam)
        .merge(sts.layer(outage(Part::Sts)))
        .merge(metadata.layer(outage(Part::Metadata)))
        .merge(container.layer(outage(Part::Container)))
        .merge(control)
        .fallback(async || Refusal::unknown_path())
        .method_not_allowed_fallback(async || Refusal::unknown_path())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        // Outermost, so that every response has a request id and a log line.
        .layer(middleware::from_fn_with_state(Arc::clone(&cloud), finish_response))
        .with_state(cloud)
}

/// Revokes all issued tokens and temporary keys, as a change of their users' permissions does.
async fn revoke(State(cloud): State<Shared>) -> StatusCode {
    cloud.tokens.revoke(&cloud.world);
    cloud.keys.revoke();
    StatusCode::NO_CONTENT
}

/// Adds request id and date, writes the body of a refusal, and logs the request.
///
/// A request id sent by the caller is ignored; the real cloud's treatment of one is not documented.
async fn finish_response(State(cloud): State<Shared>, request: Request, next: Next) -> Response {
    let request_id = new_id();
    let method = request.method().clone();
    let uri = request.uri().clone();

    let mut answer = next.run(request).await;
    let refusal = answer.extensions_mut().remove::<Refusal>();
    if let Some(refusal) = &refusal {
        answer = refusal.write(&request_id, std::mem::take(answer.headers_mut()));
    }
    answer.headers_mut().insert("x-request-id", header_value(&request_id));
    answer.headers_mut().insert(DATE, header_value(&httpdate::fmt_http_date((cloud.clock)())));

    tracing::info!(
        %method,
        path = uri.path(),
        status = answer.status().as_u16(),
        request_id,
        error_code = refusal.as_ref().and_then(Refusal::code),
        "answered"
    );
    answer
}

/// Adds the trace id that IAM's responses have besides the request id.
async fn trace_id(mut answer: Response) -> Response {
    answer.headers_mut().insert("x-iam-trace-id", header_value(&new_id()));
    answer
}

/// 32 hexadecimal digits, the format of every id in the documents.
fn new_id() -> String {
    Uuid::now_v7().simple().to_string()
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("ids and dates fit into a header")
}
