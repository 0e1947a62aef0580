//! Plays the cloud: its certificate API, its front gateway and its token API, on one plaintext
//! port. It does not know the gateway: it is a second reading of the cloud's documents and shares
//! no code with the client, because shared code would agree with its own mistakes.
//!
//! What the documents say is done as they say it. What they leave open, something has to be done
//! about all the same: the comment beside each such place says that the choice is ours. An
//! emulator that agrees with the gateway proves only that they read the documents alike.
//!
//! ```text
//! lib               the port, the paths, the number and the log line of every request
//!   certificates    attach domains, list attached domains
//!     body          the body of an attachment, held to its form
//!     binding       what is bound where
//!     change        one change of a certificate at a time
//!   iam             tokens of IAM, and the look for a project
//!   metadata        temporary keys for machines and containers
//!   workload        temporary keys for whom the cloud trusts otherwise
//!   outage          a part of all that, failing when it is told to
//!   caller          who asks, and what they may do
//!   token           which tokens there are, and what each allows
//!   keys            which access keys there are
//!     signature     whether a request was signed with a key
//!   lock            what fails too often in a row
//!   world           what exists; its consistency; its summary
//!   domain_name     the documented patterns
//!   answer          how each part of the cloud spells a refusal
//! ```

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
use self::binding::Bindings;
use self::change::Changes;
use self::iam::Logins;
use self::keys::Keys;
use self::metadata::MetadataTokens;
use self::outage::{Outages, Part};
use self::token::{Tokens, VALIDITY};

pub use self::world::{World, WorldError};

mod answer;
mod binding;
mod body;
mod caller;
mod certificates;
mod change;
mod domain_name;
mod iam;
mod keys;
mod lock;
mod metadata;
mod outage;
mod signature;
#[cfg(test)]
mod tests;
mod token;
mod workload;
mod world;

/// The front gateway takes bodies up to "12 MB"; that the unit is binary is our reading.
const MAX_BODY: usize = 12 * 1024 * 1024;

/// How long a change of a certificate takes: long enough that two at once meet. The real cloud takes seconds.
const CHANGE_TIME: Duration = Duration::from_millis(5);

/// The family of the API: ROMA Connect and the dedicated gateway differ in this segment alone.
const FAMILIES: [&str; 2] = ["apic", "apigw"];

/// An emulated cloud that listens on its port and waits to be [run](Emulator::run).
///
/// It speaks HTTP/1.1, and HTTP/2 to those who know it in advance.
pub struct Emulator {
    listener: TcpListener,
    local_addr: SocketAddr,
    cloud: Cloud,
}

type Shared = Arc<Cloud>;

/// What the handlers share.
struct Cloud {
    world: World,
    tokens: Tokens,
    keys: Keys,
    logins: Logins,
    metadata_tokens: MetadataTokens,
    outages: Outages,
    /// How long what is issued lives.
    life: Duration,
    bindings: Mutex<Bindings>,
    changes: Changes,
    /// How long a change of a certificate takes.
    change_time: Duration,
    clock: Clock,
}

/// The time of day, as an argument: tokens can end in a test that does not wait for it.
type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;

impl Cloud {
    fn bindings(&self) -> MutexGuard<'_, Bindings> {
        // A panic elsewhere leaves the bindings whole: they change in one step.
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Emulator {
    /// Opens the port; port 0 takes any free one. Connections wait until [`Emulator::run`].
    ///
    /// # Errors
    ///
    /// The address cannot be listened on: taken, not allowed, not of this host.
    pub async fn bind(listen: SocketAddr, world: World) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let local_addr = listener.local_addr()?;
        let cloud = Cloud {
            tokens: Tokens::of(&world),
            keys: Keys::of(&world),
            world,
            logins: Logins::default(),
            metadata_tokens: MetadataTokens::default(),
            outages: Outages::default(),
            life: VALIDITY,
            bindings: Mutex::default(),
            changes: Changes::default(),
            change_time: CHANGE_TIME,
            clock: Box::new(SystemTime::now),
        };
        Ok(Self { listener, local_addr, cloud })
    }

    /// Has tokens and temporary keys live for so long, in place of the documented day.
    #[must_use]
    pub fn with_life(mut self, life: Duration) -> Self {
        self.cloud.life = life;
        self
    }

    /// Has a change of a certificate take so long. Another change of it is refused meanwhile.
    #[must_use]
    pub fn with_change_time(mut self, time: Duration) -> Self {
        self.cloud.change_time = time;
        self
    }

    /// Has the cloud take the time from here, in place of the machine's own clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.cloud.clock = Box::new(clock);
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
                tracing::debug!(error = %fault, "connection keeps its delay");
            }
        });
        let serving = axum::serve(listener, router(Arc::new(self.cloud))).with_graceful_shutdown(async {
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
    let hold = |part| middleware::from_fn_with_state((Arc::clone(&cloud), part), outage::hold);
    let mut api = Router::new();
    for family in FAMILIES {
        let certificate = format!("/v2/{{project_id}}/{family}/certificates/{{certificate_id}}");
        api = api
            .route(&format!("{certificate}/domains/attach"), post(certificates::attach_domains))
            .route(&format!("{certificate}/attached-domains"), get(certificates::list_attached_domains));
    }
    let iam = Router::new()
        .route("/v3/auth/tokens", post(iam::issue_token))
        .route("/v3/projects", get(iam::list_projects))
        .route("/v3.0/OS-CREDENTIAL/securitytokens", post(workload::security_tokens))
        .route("/v3.0/OS-AUTH/id-token/tokens", post(workload::federate))
        .layer(hold(Part::Iam))
        .layer(middleware::map_response(trace_id));
    let sts = Router::new().route("/v5/agencies/assume-with-oidc", post(workload::assume_with_oidc));
    let metadata = Router::new()
        .route("/meta-data/latest/api/token", put(metadata::token))
        .route("/openstack/latest/securitykey", get(metadata::security_key));
    let container = Router::new().route("/emulator/container/credentials", post(metadata::container));
    // Ours alone: no real cloud can be told to fail, nor when rights change.
    let control = Router::new()
        .route("/emulator/revoke", post(revoke))
        .route("/emulator/outages/{part}", put(outage::begin).delete(outage::end));
    api.layer(hold(Part::Api))
        .merge(iam)
        .merge(sts.layer(hold(Part::Sts)))
        .merge(metadata.layer(hold(Part::Metadata)))
        .merge(container.layer(hold(Part::Container)))
        .merge(control)
        .fallback(async || Refusal::unknown_path())
        .method_not_allowed_fallback(async || Refusal::unknown_path())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        // Outermost, so that no answer escapes without its number and its line in the log.
        .layer(middleware::from_fn_with_state(Arc::clone(&cloud), account_for))
        .with_state(cloud)
}

/// Ends all tokens and temporary keys that were issued, as when the rights of their users change.
async fn revoke(State(cloud): State<Shared>) -> StatusCode {
    cloud.tokens.revoke(&cloud.world);
    cloud.keys.revoke();
    StatusCode::NO_CONTENT
}

/// Numbers and dates the answer, writes the refusal that it may stand for, and logs the request.
///
/// The number is the cloud's own even when the request brings one; what the real cloud does with
/// that is not documented.
async fn account_for(State(cloud): State<Shared>, request: Request, next: Next) -> Response {
    let request_id = fresh_id();
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

/// IAM gives its answers a number of its own besides.
async fn trace_id(mut answer: Response) -> Response {
    answer.headers_mut().insert("x-iam-trace-id", header_value(&fresh_id()));
    answer
}

/// 32 hexadecimal digits, the form of every id that the documents show.
fn fresh_id() -> String {
    Uuid::now_v7().simple().to_string()
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("ids and dates fit into a header")
}
