//! Shared parts of the tests `it`, `chaos` and `siege`.
//!
//! [`program`] starts the gateway as a process and observes it, [`admin`] queries its admin port; [`cloud`] is a scripted
//! upstream, [`http1`] the request reader of all scripted upstreams; [`authority`] and [`tls`] make certificates and
//! connections with them; [`grpc`] frames messages; [`report`] prints checks; [`rng`], [`tcp`], [`thread`] and [`wait`]
//! are small helpers. Scenarios, models and raw HTTP/2 belong to the test crates.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::missing_panics_doc,
    reason = "a test that meets them has failed, and prints the reason"
)]

pub mod admin;
pub mod authority;
pub mod cloud;
pub mod grpc;
pub mod http1;
pub mod program;
pub mod report;
pub mod rng;
pub mod tcp;
pub mod thread;
pub mod tls;
pub mod wait;
