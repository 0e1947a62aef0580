//! The shared parts of these tests: a gateway in this process or its own, its callers, and raw calls.

mod caller;
mod collector;
mod gateway;
mod program;
mod raw;

pub(crate) use testkit::{
    authority::{Authority, Mount, Pair},
    cloud::{Cloud, Reply, head},
    grpc::{ATTACH, frame},
    http1::Request as Seen,
    wait::soon,
};

pub(crate) use self::{
    caller::{Caller, Failed, PARENT, documented, domain, failed, on_certificate},
    collector::{Collector, Manner, Span},
    gateway::{Gateway, Plan},
    program::{Binary, Program, command},
    raw::{OpenCall, RawConnection, SilentCall, greet, in_progress, send_bytes},
};

/// Checks each file of a fuzz target's corpus, and returns their number.
pub(crate) fn corpus(target: &str, check: impl Fn(&[u8])) -> usize {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for file in &files {
        check(&std::fs::read(file).unwrap());
    }
    files.len()
}
