//! Reads lists page by page, whole or not at all.

use std::time::Duration;

use tonic::{Code, Status};

use super::client::Gateway;
use crate::pb::{
    BoundDomain, ListAttachedDomainsRequest, ListAttachedDomainsResponse, ListCertificatesRequest,
    ListCertificatesResponse,
};

/// As many rows as the cloud returns at once.
pub(super) const LARGEST: i32 = 500;

/// Readings of a list that changes while it is read.
const READINGS: u32 = 5;

/// Attempts at one page: a read may be repeated.
const ATTEMPTS: u32 = 4;

/// The delay before the first repetition; it doubles.
const DELAY: Duration = Duration::from_millis(250);

/// A list that the cloud returns in pages.
pub(super) trait Paged {
    /// The answer with one page.
    type Page;

    /// Asks for the page that begins with a row.
    async fn page(&mut self, gateway: &Gateway, offset: i64) -> Result<Self::Page, Status>;

    /// The number of all rows, as a page has it, and of its own.
    fn size(page: &Self::Page) -> (i64, usize);

    /// Adds the rows of a page to an earlier one.
    fn add(all: &mut Self::Page, page: Self::Page);
}

/// Reads every page, and merges them: rows until the total, which is the same on each page.
///
/// # Errors
///
/// A page can't be read, or the list keeps changing.
pub(super) async fn every_page<L: Paged>(gateway: &Gateway, list: &mut L) -> Result<L::Page, Status> {
    for _ in 0..READINGS {
        if let Some(whole) = reading(gateway, list).await? {
            return Ok(whole);
        }
    }
    Err(Status::aborted("the list changes while it is read; try again"))
}

/// One reading; `None` when the list changed meanwhile.
async fn reading<L: Paged>(gateway: &Gateway, list: &mut L) -> Result<Option<L::Page>, Status> {
    let mut all = patiently(async || list.page(gateway, 0).await).await?;
    let (total, size) = L::size(&all);
    let mut rows = size;
    while i64::try_from(rows).is_ok_and(|rows| rows < total) {
        let offset = i64::try_from(rows).unwrap_or(i64::MAX);
        let page = patiently(async || list.page(gateway, offset).await).await?;
        let (total_now, size) = L::size(&page);
        // A short page is not the end, an empty one before the total is a missing row.
        if total_now != total || size == 0 {
            return Ok(None);
        }
        rows += size;
        L::add(&mut all, page);
    }
    Ok(Some(all))
}

/// Makes a read, again after failures that may pass.
///
/// # Errors
///
/// The last failure.
pub(super) async fn patiently<T>(mut read: impl AsyncFnMut() -> Result<T, Status>) -> Result<T, Status> {
    let mut delay = DELAY;
    for _ in 1..ATTEMPTS {
        match read().await {
            Err(status) if may_pass(status.code()) => {
                tokio::time::sleep(delay).await;
                delay *= 2;
            }
            other => return other,
        }
    }
    read().await
}

fn may_pass(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::Internal)
}

impl Paged for ListAttachedDomainsRequest {
    type Page = ListAttachedDomainsResponse;

    async fn page(&mut self, gateway: &Gateway, offset: i64) -> Result<Self::Page, Status> {
        self.offset = Some(offset);
        self.limit.get_or_insert(LARGEST);
        Ok(gateway.client().list_attached_domains(gateway.request(self.clone())).await?.into_inner())
    }

    fn size(page: &Self::Page) -> (i64, usize) {
        (page.total, page.bound_domains.len())
    }

    fn add(all: &mut Self::Page, page: Self::Page) {
        all.size += page.size;
        all.bound_domains.extend(page.bound_domains);
    }
}

impl Paged for ListCertificatesRequest {
    type Page = ListCertificatesResponse;

    async fn page(&mut self, gateway: &Gateway, offset: i64) -> Result<Self::Page, Status> {
        self.offset = Some(offset);
        self.limit.get_or_insert(LARGEST);
        Ok(gateway.client().list_certificates(gateway.request(self.clone())).await?.into_inner())
    }

    fn size(page: &Self::Page) -> (i64, usize) {
        (page.total, page.certs.len())
    }

    fn add(all: &mut Self::Page, page: Self::Page) {
        all.size += page.size;
        all.certs.extend(page.certs);
    }
}

/// Every row of a certificate's attached domains.
///
/// # Errors
///
/// Those of [`every_page`].
pub(super) async fn attached(gateway: &Gateway, certificate_id: &str) -> Result<Vec<BoundDomain>, Status> {
    let mut list = ListAttachedDomainsRequest {
        project_id: gateway.project_id.clone(),
        certificate_id: certificate_id.to_owned(),
        ..ListAttachedDomainsRequest::default()
    };
    Ok(every_page(gateway, &mut list).await?.bound_domains)
}
