//! Looks up the unknown outcome of a change in the list of the certificate's attached domains.
//!
//! A change takes effect after seconds, so that a reading is repeated until the whole change shows or the time is over.
//! Nothing that calls could need is taken: a look-up ends rather than evict a request, wait for a slot of the rate limit,
//! spend the retry budget, or count as a failure of the upstream.

mod goal;
mod page;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub(crate) use self::goal::{Found, Goal, Observed, attached, detached};
use self::page::{Page, PageRequest};
use super::{Client, Error, rest_request};
use crate::{
    call::{Account, Call, Trace},
    resources::Resources,
};

/// The longest look-up.
const LONGEST: Duration = Duration::from_secs(15);

/// The time before the deadline at which a look-up ends, so that the error still reaches the caller.
const MARGIN: Duration = Duration::from_millis(100);

/// The pause after the first reading; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The time that is left for the last reading.
const LAST_READING: Duration = Duration::from_secs(1);

/// The memory of a binding in a [`Goal`].
const BINDING_COST: usize = 160;

/// Look-ups of the whole process.
#[derive(Debug)]
pub(crate) struct ReadBack {
    permits: Semaphore,
    draining: CancellationToken,
}

/// A reading that says nothing.
#[derive(Debug)]
#[allow(dead_code, reason = "for `Debug`, in the log")]
enum Failure {
    /// A page could not be read.
    Page(Error),
    /// The pages do not make one list.
    NotWhole(&'static str),
}

impl ReadBack {
    /// At most `limit` look-ups at the same time, none while the gateway drains.
    pub(super) fn new(limit: usize, draining: CancellationToken) -> Self {
        Self { permits: Semaphore::new(limit), draining }
    }

    /// Looks up whether the change of a call has been made. `None` if no whole reading says so.
    pub(super) async fn look_up(
        &self,
        client: &Client,
        mut goal: Goal<'_>,
        resources: &Resources<'_>,
        call: &Call,
    ) -> Option<Found> {
        let until = (Instant::now() + LONGEST).min(call.deadline.checked_sub(MARGIN)?);
        let account = Arc::new(SpareAccount::new(Arc::clone(&call.account)));
        let permit = self.permits.try_acquire().ok();
        if permit.is_none() || self.draining.is_cancelled() || !account.charge(BINDING_COST * goal.len()) {
            note(client, call, "skipped");
            return None;
        }
        let mut found = None;
        let result = tokio::select! {
            biased;
            () = self.draining.cancelled() => Ok(()),
            () = tokio::time::sleep_until(until) => Ok(()),
            result = repeat(client, &mut goal, resources, call, until, &account, &mut found) => result,
        };
        if let Err(failure) = result {
            debug!(?failure, "the outcome could not be looked up");
            found = None;
        }
        let result = match found {
            Some(Found::Confirmed) => "confirmed",
            Some(Found::Observed(observed)) => observed.as_str(),
            None => "failed",
        };
        note(client, call, result);
        found
    }
}

/// Notes the result of a look-up in the metrics and in the trace.
fn note(client: &Client, call: &Call, result: &'static str) {
    client.metrics.read_back(result);
    if let Some(span) = &call.trace.span {
        span.read_back(result);
    }
}

/// Reads the list until it shows the whole change, or no time is left for a further reading.
async fn repeat(
    client: &Client,
    goal: &mut Goal<'_>,
    resources: &Resources<'_>,
    call: &Call,
    until: Instant,
    account: &Arc<SpareAccount>,
    found: &mut Option<Found>,
) -> Result<(), Failure> {
    let mut pause = FIRST_PAUSE;
    loop {
        match read(client, goal, resources, call, until, account).await {
            // Callers need every slot of the rate limit; there may be one later.
            Err(Failure::Page(Error::RateLimited(_))) | Ok(None) => {}
            result => *found = result?,
        }
        if matches!(found, Some(Found::Confirmed | Found::Observed(Observed::All))) {
            return Ok(());
        }
        let left = until.saturating_duration_since(Instant::now()).saturating_sub(LAST_READING);
        if left < FIRST_PAUSE / 2 {
            return Ok(());
        }
        tokio::time::sleep(pause.min(left)).await;
        pause *= 2;
    }
}

/// Reads the whole list; `None` if it changed meanwhile. Rows may move from one page to another that has been read already,
/// so that several pages are read twice.
async fn read(
    client: &Client,
    goal: &mut Goal<'_>,
    resources: &Resources<'_>,
    call: &Call,
    until: Instant,
    account: &Arc<SpareAccount>,
) -> Result<Option<Found>, Failure> {
    goal.reset();
    let Some((pages, digest)) = pass(client, Some(&mut *goal), resources, call, until, account).await? else {
        return Ok(None);
    };
    let is_stable = pages == 1 || pass(client, None, resources, call, until, account).await? == Some((pages, digest));
    Ok(is_stable.then(|| goal.found()))
}

/// Reads every page once; returns their number and a digest of all rows, or `None` if the total changed between two.
async fn pass(
    client: &Client,
    mut goal: Option<&mut Goal<'_>>,
    resources: &Resources<'_>,
    call: &Call,
    until: Instant,
    account: &Arc<SpareAccount>,
) -> Result<Option<(usize, u64)>, Failure> {
    let mut digest = DefaultHasher::new();
    let (mut rows, mut pages, mut total, mut first) = (0, 0, None, None);
    loop {
        let charges = Arc::new(SpareAccount::new(Arc::<SpareAccount>::clone(account)));
        let page = read_page(client, resources, call, until, rows, charges).await.map_err(Failure::Page)?;
        let count = i64::try_from(page.bound_domains.len()).unwrap_or(i64::MAX);
        let total = *total.get_or_insert(page.total);
        if page.total != total {
            return Ok(None);
        }
        rows += count;
        if rows > total {
            return Err(Failure::NotWhole("more rows than the total"));
        }
        if count == 0 && rows < total {
            return Err(Failure::NotWhole("an empty page before the total"));
        }
        let mut page_digest = DefaultHasher::new();
        page.bound_domains.hash(&mut page_digest);
        let page_digest = page_digest.finish();
        if pages > 0 && first == Some(page_digest) {
            return Err(Failure::NotWhole("the first page again"));
        }
        first.get_or_insert(page_digest);
        page_digest.hash(&mut digest);
        pages += 1;
        if let Some(goal) = &mut goal {
            page.bound_domains.iter().for_each(|row| goal.see(row));
        }
        if rows == total {
            return Ok(Some((pages, digest.finish())));
        }
    }
}

async fn read_page(
    client: &Client,
    resources: &Resources<'_>,
    call: &Call,
    until: Instant,
    offset: i64,
    account: Arc<SpareAccount>,
) -> Result<Page, Error> {
    let certificate = resources.certificate().unwrap_or_default();
    let request = PageRequest::new(resources, certificate, offset);
    let project = Some(resources.project).filter(|project| !project.is_empty());
    let rest_request =
        rest_request(&request, resources, client.family).map_err(|unsafe_| Error::UnsafeRequest(unsafe_.0))?;
    let reading = Call {
        deadline: until,
        token: call.token.clone(),
        previous_attempts: 0,
        request_id: call.request_id.clone(),
        trace: Trace::clone(&call.trace),
        // The outcome of the change stays as it was.
        progress: Arc::default(),
        account,
        is_read_back: true,
    };
    client.attempt::<PageRequest>(&rest_request, project, &reading).await.map(|done| done.response)
}

/// Charges memory that calls have plenty of, and returns it when it is dropped.
#[derive(Debug)]
struct SpareAccount {
    account: Arc<dyn Account>,
    charged: AtomicUsize,
}

impl SpareAccount {
    fn new(account: Arc<dyn Account>) -> Self {
        Self { account, charged: AtomicUsize::new(0) }
    }
}

impl Account for SpareAccount {
    fn charge(&self, bytes: usize) -> bool {
        self.charge_spare(bytes)
    }

    fn charge_spare(&self, bytes: usize) -> bool {
        let is_charged = self.account.charge_spare(bytes);
        if is_charged {
            self.charged.fetch_add(bytes, Ordering::Relaxed);
        }
        is_charged
    }

    fn release(&self, bytes: usize) {
        self.charged.fetch_sub(bytes, Ordering::Relaxed);
        self.account.release(bytes);
    }

    fn share_of(&self, limit: usize) -> usize {
        self.account.share_of(limit)
    }

    fn caller(&self) -> u64 {
        self.account.caller()
    }
}

impl Drop for SpareAccount {
    fn drop(&mut self) {
        self.account.release(*self.charged.get_mut());
    }
}
