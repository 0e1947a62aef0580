//! What tests stand on: a scripted cloud on raw sockets, a gateway in this process or its own, and a caller.

mod authority;
mod caller;
mod cloud;
mod gateway;
mod program;
mod raw;

pub(crate) use self::{
    authority::{Authority, Mount, Pair},
    caller::{Caller, Failed, documented, domain, failed, on_certificate},
    cloud::{Cloud, Reply, Seen, head},
    gateway::{Gateway, Plan},
    program::{Program, command},
    raw::{ATTACH, OpenCall, RawConnection, SilentCall, frame, greet, in_progress, send_bytes},
};

use std::time::Duration;

/// A bound on waiting for what must happen: a test that meets it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must happen.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Checks each file of a fuzz target's corpus; says how many there are.
pub(crate) fn corpus(target: &str, check: impl Fn(&[u8])) -> usize {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for file in &files {
        check(&std::fs::read(file).unwrap());
    }
    files.len()
}
