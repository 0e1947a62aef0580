//! Whether a gateway whose callers have left holds anything of theirs: calls, connections, files, memory.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{gateway::Gateway, report::Report, scene::Scene};

/// Much longer than anything of a call may stay.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the memory may grow by between a quarter of the calls and all of them, in KiB: the allocator's pages, and no
/// hundred bytes for each of many thousand calls.
const GROWTH: u64 = 8 * 1024;

/// Waits until this holds; says how long that took.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> Result<(), String>) -> Result<Duration, String> {
    let began = Instant::now();
    loop {
        match holds().await {
            Ok(()) => return Ok(began.elapsed()),
            Err(why) if began.elapsed() > PATIENCE => return Err(format!("{why}, {PATIENCE:?} later")),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// No call is in progress.
pub(crate) async fn no_calls(gateway: &Gateway) -> Result<(), String> {
    match gateway.gauge("apig_gateway_calls_in_progress").await {
        Some(0) => Ok(()),
        other => Err(format!("{other:?} calls in progress")),
    }
}

/// Waits until nothing is left of calls and connections, on both sides.
pub(crate) async fn quiet(gateway: &Gateway, scene: &Scene) -> Result<String, String> {
    let calls = until(async || no_calls(gateway).await).await?;
    let connections = until(async || match gateway.gauge("apig_gateway_connections").await {
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
    match gateway.gauge("apig_gateway_panics_total").await {
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
    if end <= quarter + GROWTH { Ok(found) } else { Err(found) }
}
