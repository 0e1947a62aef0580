//! Behaviour as callers, operators and the cloud see it. A module for each subject says where a new test goes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that meets them has failed")]

mod admission;
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
mod credential_files;
mod credentials;
mod crowds;
mod deadline;
mod default_project;
mod discovery;
mod docs;
mod drain;
mod emulated;
mod framing;
mod held_credentials;
mod hostile;
mod identity_service;
mod key_pair_fuse;
mod limit;
mod list_attached_domains;
mod log_lines;
mod metadata;
mod outage;
mod policy;
mod request_bounds;
mod retry;
mod revocation;
mod shares;
mod sinks;
mod streams;
mod support;
mod tls;
mod turns;
mod upstream_files;
mod upstream_proxy;
mod upstream_tls;
mod workers;
