//! Two gateways, replaced one after the other again and again: callers that know both notice nothing.

use std::time::Duration;

use testkit::report::{Check, spread};
use tokio::sync::watch;

use crate::{gateway::Gateway, load::Load, upstream::Upstream};

const CALLERS: usize = 16;

pub(crate) const NAME: &str = "rolling swap of two gateways";

pub(crate) async fn check(upstream: &Upstream, rounds: u32) -> Check {
    let mut check = Check::of(NAME);
    upstream.takes(5, 50);
    let mut gateways = Vec::new();
    for _ in 0..2 {
        gateways.push(Gateway::start(upstream.address, &[]).await);
    }
    let (list, known) = watch::channel(gateways.iter().map(|gateway| gateway.address).collect());
    let mut load = Load::of(CALLERS, &known, upstream);
    let mut swaps = 0;
    let mut goal = 0;
    for at in (0..2).cycle().take(rounds as usize * 2) {
        goal += CALLERS * 4;
        load.calls(goal).await;
        let old = &mut gateways[at];
        // It stays in the list while it drains and when it is gone, as it would with slow service discovery.
        old.terminate().await;
        let end = old.ended(Duration::from_secs(5)).await;
        check.require(matches!(end, Some((0, _))), || format!("a gateway ends with {end:?}"));
        check.none("panics", &old.panics());
        gateways[at] = Gateway::start(upstream.address, &[]).await;
        list.send_modify(|known: &mut Vec<_>| known[at] = gateways[at].address);
        swaps += 1;
    }
    let tally = load.end();
    check.none("calls failed", &tally.failed);
    check.figure(format!("{swaps} swaps, {}, {}", tally.figure(), spread(&tally.times)));
    check
}
