//! Checks that a gateway without callers holds nothing of earlier ones: calls, connections, files, memory.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use testkit::{
    report::Report,
    wait::{PATIENCE, settles},
};

use super::{gateway::Gateway, scene::Scene};

/// The growth of memory that is allowed between a quarter of the calls and all of them, in KiB: the allocator's pages, and no
/// hundred bytes for each of many thousand calls.
const GROWTH: u64 = 8 * 1024;

/// Waits until this holds, and returns the time until then.
pub(crate) async fn until(holds: impl AsyncFnMut() -> Result<(), String>) -> Result<Duration, String> {
    let began = Instant::now();
    let last = settles(PATIENCE, holds, Result::is_ok).await;
    last.map(|()| began.elapsed()).map_err(|wrong| format!("{wrong}, {PATIENCE:?} later"))
}

/// No call is in progress.
pub(crate) async fn no_calls(gateway: &Gateway) -> Result<(), String> {
    match gateway.metric("apig_gateway_calls_in_progress").await {
        Some(0) => Ok(()),
        other => Err(format!("{other:?} calls in progress")),
    }
}

/// Waits until nothing is left of calls and connections, on both sides.
pub(crate) async fn quiet(gateway: &Gateway, scene: &Scene) -> Result<String, String> {
    let calls = until(async || no_calls(gateway).await).await?;
    let connections = until(async || match gateway.metric("apig_gateway_connections").await {
        Some(0) => Ok(()),
        other => Err(format!("{other:?} connections of callers")),
    })
    .await?;
    // The gateway keeps idle connections for longer than this waits: the upstream ends those, and those alone.
    let upstream = until(async || {
        scene.idle.notify_waiters();
        match scene.open.load(Ordering::Relaxed) {
            0 => Ok(()),
            open => Err(format!("{open} connections to the upstream")),
        }
    })
    .await?;
    let rest = gateway.files_at_rest;
    let files = until(async || match gateway.files() {
        files if files <= rest => Ok(()),
        files => Err(format!("{files} open files, {rest} at rest")),
    })
    .await?;
    match gateway.metric("apig_gateway_panics_total").await {
        Some(0) => {}
        other => return Err(format!("{other:?} panics")),
    }
    Ok(format!(
        "no call after {calls:.0?}, no caller after {connections:.0?}, no connection upstream after {upstream:.0?}, \
         {rest} files as before after {files:.0?}"
    ))
}

/// Ends the gateway and checks that it went as it should.
pub(crate) async fn ends_well(name: &str, gateway: Gateway, report: &Report) {
    let (code, took) = gateway.stop().await;
    let found = format!("exit code {code:?} after {took:.0?}");
    report.check(&format!("{name}: drains"), if code == Some(0) { Ok(found) } else { Err(found) });
}

/// Compares the memory at a quarter of the calls with that at their end.
pub(crate) fn memory(quarter: u64, end: u64) -> Result<String, String> {
    let found = format!("{quarter} KiB after a quarter of the calls, {end} KiB after all");
    if end <= quarter.saturating_add(GROWTH) && end < u64::MAX { Ok(found) } else { Err(found) }
}
