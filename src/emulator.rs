//! Plays the cloud: its certificate API, its front gateway and its token API, on one plaintext
//! port. It does not know the gateway: it is a second reading of the cloud's documents and shares
//! no code with the client, because shared code would agree with its own mistakes.
//!
//! What the documents say is done as they say it. What they leave open, something has to be done
//! about all the same: the comment beside each such place says that the choice is ours. An
//! emulator that agrees with the gateway proves only that they read the documents alike.
//!
//! ```text
//! emulator          the port, the paths, the number and the log line of every request
//!   certificates    attach domains, list attached domains
//!     body          the body of an attachment, held to its form
//!     binding       what is bound where
//!   iam             tokens of IAM, and the look for a project
//!   workload        temporary keys for machines, containers and federated identities
//!   caller          who asks, and what they may do
//!   token           which tokens there are, and what each allows
//!   keys            which access keys there are
//!     signature     whether a request was signed with a key
//!   lock            what fails too often in a row
//!   world           what exists; its consistency; its summary
//!   domain_name     the documented patterns
//!   answer          how each part of the cloud spells a refusal
//! ```

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post, put};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use uuid::Uuid;

use self::answer::Refusal;
use self::binding::Bindings;
use self::keys::Keys;
use self::token::{Tokens, VALIDITY};

pub use self::world::{World, WorldError};

mod answer;
mod binding;
mod body;
mod caller;
mod certificates;
mod domain_name;
mod iam;
mod keys;
mod lock;
mod signature;
#[cfg(test)]
mod tests;
mod token;
mod workload;
mod world;

/// The front gateway takes bodies up to "12 MB"; that the unit is binary is our reading.
const MAX_BODY: usize = 12 * 1024 * 1024;

/// The family of the API: ROMA Connect and the dedicated gateway differ in this segment alone.
const FAMILIES: [&str; 2] = ["apic", "apigw"];

/// An emulated cloud that listens on its port and waits to be [run](Emulator::run).
///
/// It speaks HTTP/1.1, and HTTP/2 to those who know it in advance.
pub struct Emulator {
    listener: TcpListener,
    local_addr: SocketAddr,
    cloud: Shared,
}

type Shared = Arc<Cloud>;

/// What the handlers share.
struct Cloud {
    world: World,
    tokens: Tokens,
    keys: Keys,
    /// Tokens of the metadata service. They open nothing but it, so that they do not end is ours.
    metadata_tokens: Mutex<HashSet<String>>,
    /// How long what is issued lives.
    life: Duration,
    bindings: Mutex<Bindings>,
    clock: Clock,
}

/// The time of day, as an argument: tokens can end in a test that does not wait for it.
type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;

impl Cloud {
    fn bindings(&self) -> MutexGuard<'_, Bindings> {
        // A panic elsewhere leaves the bindings whole: they change in one step.
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_metadata_token(&self, token: String) {
        self.metadata_tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(token);
    }

    fn knows_metadata_token(&self, token: &str) -> bool {
        self.metadata_tokens.lock().unwrap_or_else(PoisonError::into_inner).contains(token)
    }
}

impl Emulator {
    /// Opens the port; port 0 takes any free one. Connections wait until [`Emulator::run`].
    ///
    /// # Errors
    ///
    /// The address cannot be listened on: taken, not allowed, not of this host.
    pub async fn bind(listen: SocketAddr, world: World) -> io::Result<Self> {
        Self::bind_with_clock(listen, world, Box::new(SystemTime::now)).await
    }

    async fn bind_with_clock(listen: SocketAddr, world: World, clock: Clock) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let local_addr = listener.local_addr()?;
        let tokens = Tokens::of(&world);
        let keys = Keys::of(&world);
        let cloud = Cloud {
            world,
            tokens,
            keys,
            metadata_tokens: Mutex::default(),
            life: VALIDITY,
            bindings: Mutex::default(),
            clock,
        };
        let cloud = Arc::new(cloud);
        Ok(Self { listener, local_addr, cloud })
    }

    /// Has tokens and temporary keys live for so long, in place of the documented day.
    #[must_use]
    pub fn with_life(mut self, life: Duration) -> Self {
        if let Some(cloud) = Arc::get_mut(&mut self.cloud) {
            cloud.life = life;
        }
        self
    }

    /// The address that it listens on, with the port it was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown` resolves, then returns at once.
    ///
    /// Idle connections are closed in passing. One that is in the middle of a request is left to
    /// its own task, which ends with the request or with the runtime.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let (stop, stopped) = oneshot::channel::<()>();
        // Answers are small and whole: holding them back to fill a packet only adds delay.
        let listener = self.listener.tap_io(|stream| {
            if let Err(fault) = stream.set_nodelay(true) {
                tracing::debug!(%fault, "connection keeps its delay");
            }
        });
        let serving = axum::serve(listener, router(self.cloud)).with_graceful_shutdown(async {
            // An error is the sender going away, which means the same.
            let _ = stopped.await;
        });
        tokio::select! {
            _ = serving.into_future() => {}
            () = shutdown => {}
        }
        // Tells the connections, of which nobody waits for the end.
        drop(stop);
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

fn router(cloud: Shared) -> Router {
    let tokens = post(iam::issue_token).layer(middleware::map_response(trace_id));
    let mut router = Router::new()
        .route("/v3/auth/tokens", tokens)
        .route("/v3/projects", get(iam::list_projects).layer(middleware::map_response(trace_id)))
        .route("/v3.0/OS-CREDENTIAL/securitytokens", post(workload::security_tokens))
        .route("/v3.0/OS-AUTH/id-token/tokens", post(workload::federate))
        .route("/v5/agencies/assume-with-oidc", post(workload::assume_with_oidc))
        .route("/meta-data/latest/api/token", put(workload::metadata_token))
        .route("/openstack/latest/securitykey", get(workload::security_key))
        .route("/emulator/container/credentials", post(workload::container_credentials))
        // Ours alone: what the real cloud does when a user's rights change.
        .route("/emulator/revoke", post(revoke));
    for family in FAMILIES {
        let certificate = format!("/v2/{{project_id}}/{family}/certificates/{{certificate_id}}");
        router = router
            .route(&format!("{certificate}/domains/attach"), post(certificates::attach_domains))
            .route(&format!("{certificate}/attached-domains"), get(certificates::list_attached_domains));
    }
    router
        .fallback(async || Refusal::unknown_path())
        .method_not_allowed_fallback(async || Refusal::unknown_path())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        // Outermost, so that no answer escapes without its number and its line in the log.
        .layer(middleware::from_fn(account_for))
        .with_state(cloud)
}

/// Ends all tokens and temporary keys that were issued.
async fn revoke(State(cloud): State<Shared>) -> StatusCode {
    cloud.tokens.revoke(&cloud.world);
    cloud.keys.revoke();
    StatusCode::NO_CONTENT
}

/// Numbers the answer, writes the refusal that it may stand for, and logs the request.
///
/// The number is the cloud's own even when the request brings one; what the real cloud does with
/// that is not documented.
async fn account_for(request: Request, next: Next) -> Response {
    let request_id = fresh_id();
    let method = request.method().clone();
    let uri = request.uri().clone();

    let mut answer = next.run(request).await;
    let refusal = answer.extensions_mut().remove::<Refusal>();
    if let Some(refusal) = &refusal {
        answer = refusal.write(&request_id, std::mem::take(answer.headers_mut()));
    }
    answer.headers_mut().insert("x-request-id", header_value(&request_id));

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

/// IAM gives its answers a number of its own besides.
async fn trace_id(mut answer: Response) -> Response {
    answer.headers_mut().insert("x-iam-trace-id", header_value(&fresh_id()));
    answer
}

/// 32 hexadecimal digits, the form of every id that the documents show.
fn fresh_id() -> String {
    Uuid::now_v7().simple().to_string()
}

fn header_value(id: &str) -> HeaderValue {
    HeaderValue::from_str(id).expect("hexadecimal digits fit into a header")
}
