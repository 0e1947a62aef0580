//! A gRPC sidecar for the certificate operations of Huawei Cloud's API gateway (ROMA Connect APIC): it turns each call
//! into the cloud's REST request, and each answer into a gRPC status with `google.rpc` details.
//!
//! # The life of a call
//!
//! 1. [`server`] accepts the connection, and one of its workers speaks HTTP/2 over TLS (`tls`) or not; the caller is
//!    a `peer`. `server::inbound` gives the call its request id, its deadline and its permit (`admission`), reads its
//!    message, and answers for every failure underneath.
//! 2. `service` validates the message (`validate`), asks `policy` whether the peer may, and hands it to `cloud`.
//! 3. `cloud` makes verb, path and JSON of it (`cloud::rest`, bound from the .proto at build time), asks `credentials`
//!    for the authorization, and has `upstream` exchange it with the upstream.
//! 4. `cloud` reads the answer (`cloud::refusal`, `cloud::catalogue`); `status` turns errors into a gRPC
//!    status with details, and `audit` notes how it ended.
//!
//! The crate `emulator` is the cloud's side of the API, read a second time from its documents: it shares no code with the client.

mod admission;
mod audit;
#[doc(hidden)]
pub mod bench_support;
mod build_info;
mod call;
pub mod cli;
mod cloud;
pub mod config;
mod credentials;
mod file_watcher;
pub mod log;
mod mask;
#[cfg(test)]
#[cfg(feature = "model")]
mod model;
pub mod pb;
mod peer;
mod policy;
mod resources;
mod secret;
pub mod server;
mod service;
mod sink;
mod status;
mod sync;
pub mod telemetry;
mod tls;
mod trace;
mod upstream;
mod validate;
