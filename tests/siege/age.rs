//! Connections that grow old under steady load: they change, and no call fails.

use std::time::Duration;

use testkit::report::{Check, spread};
use tokio::{sync::watch, time::sleep};

use crate::{gateway::Gateway, load::Load, upstream::Upstream};

pub(crate) const NAME: &str = "--max-connection-age 300ms under steady load";

const CALLERS: usize = 16;

pub(crate) async fn check(upstream: &Upstream, time: Duration) -> Check {
    let mut check = Check::of(NAME);
    upstream.takes(5, 50);
    let time = time.max(Duration::from_secs(2));
    let gateway = Gateway::start(upstream.address, &["--max-connection-age", "300ms"]).await;
    let (_list, known) = watch::channel(vec![gateway.address]);
    let load = Load::of(CALLERS, &known, upstream);
    sleep(time).await;
    let tally = load.end();
    check.none("calls failed", &tally.failed);
    check.require(tally.connections > CALLERS * 2, || "connections do not change".into());
    check.figure(format!("{}, {}", tally.figure(), spread(&tally.times)));
    let left = gateway.settles("apig_gateway_connections", 0, Duration::from_secs(2)).await;
    check.require(left == Some(0), || format!("{left:?} connections left after all have gone"));
    check.none("panics", &gateway.panics());
    check
}
