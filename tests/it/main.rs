//! Behaviour as callers, operators and the cloud see it. A module for each subject says where a new test goes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that meets them has failed")]

mod answer_bounds;
mod answers;
mod attach;
mod audit;
mod bindings;
mod canary;
mod catalogue;
mod cli;
mod config_bounds;
mod connections;
mod credentials;
mod deadline;
mod discovery;
mod drain;
mod emulated;
mod framing;
mod held_credentials;
mod hostile;
mod limit;
mod metadata;
mod outage;
mod policy;
mod request_bounds;
mod retry;
mod support;
mod tls;
mod turns;
mod upstream_tls;
mod workers;
