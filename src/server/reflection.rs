//! `grpc.reflection.v1` and `v1alpha`: tonic-reflection, built at the first call. Its decoded descriptors take half a megabyte
//! each, and most gateways are never asked.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http::Request;
use tonic::{body::Body, server::NamedService};
use tonic_reflection::{
    pb,
    server::{Builder, v1::ServerReflection, v1alpha},
};
use tower::Service;

use super::stream;

/// A service that is built at its first call.
pub(super) struct Lazy<S> {
    build: fn() -> S,
    built: Arc<OnceLock<S>>,
}

/// The current version.
pub(super) fn v1() -> Lazy<pb::v1::server_reflection_server::ServerReflectionServer<impl ServerReflection>> {
    Lazy::new(|| {
        let service = builder(pb::v1alpha::FILE_DESCRIPTOR_SET).build_v1();
        service.expect("descriptors are generated at build time").max_decoding_message_size(stream::MAX_MESSAGE)
    })
}

/// The version of older clients.
pub(super) fn v1alpha()
-> Lazy<pb::v1alpha::server_reflection_server::ServerReflectionServer<impl v1alpha::ServerReflection>> {
    Lazy::new(|| {
        let service = builder(pb::v1::FILE_DESCRIPTOR_SET).build_v1alpha();
        service.expect("descriptors are generated at build time").max_decoding_message_size(stream::MAX_MESSAGE)
    })
}

/// The services in both versions. Each version lists the other one too, so that all clients see the same services.
fn builder(other: &'static [u8]) -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(crate::pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(other)
}

impl<S> Lazy<S> {
    fn new(build: fn() -> S) -> Self {
        Self { build, built: Arc::default() }
    }
}

// A derived implementation would ask it of the service.
impl<S> Clone for Lazy<S> {
    fn clone(&self) -> Self {
        Self { build: self.build, built: Arc::clone(&self.built) }
    }
}

impl<S> fmt::Debug for Lazy<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lazy").field("is_built", &self.built.get().is_some()).finish_non_exhaustive()
    }
}

impl<S: NamedService> NamedService for Lazy<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<Body>, Error = Infallible> + Clone> Service<Request<Body>> for Lazy<S> {
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The services of tonic-reflection always are.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.built.get_or_init(self.build).clone().call(request)
    }
}
