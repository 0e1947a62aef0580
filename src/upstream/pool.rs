//! The connections to one upstream: one for each HTTP/1.1 request at a time, one for all HTTP/2 requests. A connection
//! that has been idle too long is closed, and one that is too old is used no more.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::Request;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{body::Outgoing, connect::Connector, line::Gate};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Sends requests on one connection.
#[derive(Debug)]
pub(super) enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2(http2::SendRequest<Outgoing>),
}

/// A connection: to oneself in HTTP/1.1, a share of one in HTTP/2.
#[derive(Debug)]
pub(super) struct Connection {
    sender: Sender,
    pub(super) gate: Arc<Gate>,
    /// From then on it takes no further request.
    retires_at: Instant,
    /// Whether it has been idle, or may have been.
    pub(super) is_reused: bool,
}

/// The pool.
#[derive(Debug)]
pub(super) struct Connections {
    connector: Connector,
    idle_timeout: Duration,
    max_age: Duration,
    state: Mutex<State>,
    /// A connection has come free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// HTTP/1.1, the one used last at the end.
    idle: Vec<(Connection, Instant)>,
    /// HTTP/2, with its last use.
    shared: Option<(Connection, Instant)>,
    is_swept: bool,
}

impl Connection {
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Sends a request. Dropping the future and the connection ends the request at once.
    pub(super) async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<http::Response<Incoming>, TrySendError<Request<Outgoing>>> {
        if self.is_reused {
            self.gate.ask();
        }
        match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        }
    }

    fn is_usable(&self, now: Instant) -> bool {
        now < self.retires_at
            && match &self.sender {
                Sender::Http1(sender) => sender.is_ready(),
                Sender::Http2(sender) => !sender.is_closed(),
            }
    }

    /// The same HTTP/2 connection for one more request.
    fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        let (gate, sender) = (Arc::clone(&self.gate), Sender::Http2(sender.clone()));
        Some(Self { sender, gate, retires_at: self.retires_at, is_reused: true })
    }
}

impl Connections {
    pub(super) fn new(connector: Connector, idle_timeout: Duration, max_age: Duration) -> Self {
        Self { connector, idle_timeout, max_age, state: Mutex::default(), freed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for one request: an idle one, or else the first that comes free or is opened.
    ///
    /// # Errors
    ///
    /// No connection can be opened.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Connection, Error> {
        if let Some(connection) = self.reuse() {
            return Ok(connection);
        }
        let (unwanted, mut opened) = oneshot::channel();
        let pool = Arc::clone(self);
        let opening = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(Ok(connection)) = unwanted.send(pool.open().await) {
                pool.put(connection);
            }
        }));
        loop {
            tokio::select! {
                biased;
                result = &mut opened => {
                    return result.unwrap_or_else(|_| Err("the connection attempt ended early".into()));
                }
                () = self.freed.notified() => {}
            }
            if let Some(connection) = self.reuse() {
                // The connection that is being opened is for the next request.
                opening.detach();
                return Ok(connection);
            }
        }
    }

    /// A connection that no request has been sent on.
    ///
    /// # Errors
    ///
    /// No connection can be opened.
    pub(super) async fn open(self: &Arc<Self>) -> Result<Connection, Error> {
        let (sender, gate) = self.connector.connect().await?;
        let now = Instant::now();
        // Connections that were opened together are not replaced together.
        let age = self.max_age.mul_f64(1.0 - 0.2 * fastrand::f64());
        let connection = Connection { sender, gate, retires_at: now + age, is_reused: false };
        let Some(shared) = connection.share() else { return Ok(connection) };
        let mut state = self.state();
        // One that another request has opened meanwhile is as good, and can carry both.
        if state.shared.as_ref().is_none_or(|(there, _)| !there.is_usable(now)) {
            state.shared = Some((shared, now));
            self.sweep(&mut state);
            drop(state);
            self.freed.notify_waiters();
        }
        Ok(connection)
    }

    fn reuse(&self) -> Option<Connection> {
        let now = Instant::now();
        let mut state = self.state();
        if let Some((connection, used)) = &mut state.shared {
            if connection.is_usable(now) && now.saturating_duration_since(*used) < self.idle_timeout {
                *used = now;
                return connection.share();
            }
            state.shared = None;
        }
        while let Some((connection, since)) = state.idle.pop() {
            if connection.is_usable(now) && now.saturating_duration_since(since) < self.idle_timeout {
                return Some(connection);
            }
        }
        None
    }

    /// Takes a connection back after the end of its answer.
    pub(super) fn put(self: &Arc<Self>, mut connection: Connection) {
        let Sender::Http1(sender) = &mut connection.sender else { return };
        if !sender.is_ready() {
            if sender.is_closed() {
                return;
            }
            // hyper has yet to see the end of the answer.
            let pool = Arc::clone(self);
            tokio::spawn(async move {
                let mut connection = connection;
                if let Sender::Http1(sender) = &mut connection.sender
                    && sender.ready().await.is_ok()
                {
                    pool.keep(connection);
                }
            });
            return;
        }
        self.keep(connection);
    }

    fn keep(self: &Arc<Self>, mut connection: Connection) {
        let now = Instant::now();
        if !connection.is_usable(now) {
            return;
        }
        connection.is_reused = true;
        let mut state = self.state();
        state.idle.push((connection, now));
        self.sweep(&mut state);
        drop(state);
        self.freed.notify_one();
    }

    /// Uses an HTTP/2 connection no more.
    pub(super) fn forget(&self, gate: &Arc<Gate>) {
        let mut state = self.state();
        if state.shared.as_ref().is_some_and(|(shared, _)| Arc::ptr_eq(&shared.gate, gate)) {
            state.shared = None;
        }
    }

    /// Starts the task that closes idle connections, unless it runs.
    fn sweep(self: &Arc<Self>, state: &mut State) {
        if std::mem::replace(&mut state.is_swept, true) {
            return;
        }
        let (pool, idle_timeout) = (Arc::downgrade(self), self.idle_timeout);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(idle_timeout).await;
                let Some(pool) = pool.upgrade() else { return };
                let now = Instant::now();
                let stays = |(connection, since): &(Connection, Instant)| {
                    connection.is_usable(now) && now.saturating_duration_since(*since) < idle_timeout
                };
                let mut state = pool.state();
                state.idle.retain(stays);
                state.shared = state.shared.take().filter(stays);
                if state.idle.is_empty() && state.shared.is_none() {
                    state.is_swept = false;
                    return;
                }
            }
        });
    }
}
