//! `attached`: the domains that a certificate is bound to.

use std::io;

use clap::{Args, value_parser};

use super::{
    Failure, client,
    output::{self, Format, Shown},
    pages, table,
};
use crate::{
    config::Environment,
    pb::{BoundDomain, ListAttachedDomainsRequest, ListAttachedDomainsResponse},
};

/// The part of a list to print.
#[derive(Debug, Args)]
pub(super) struct Part {
    /// Print every page, as one list
    #[arg(long, conflicts_with = "offset")]
    pub(super) all: bool,
    /// Number of rows to skip [default: 0]
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(i64).range(0..))]
    pub(super) offset: Option<i64>,
    /// Number of rows to print, or of each page read with --all: 1 to 500 [default: 20, with --all 500]
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(i32).range(1..=500))]
    pub(super) limit: Option<i32>,
}

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    gateway: client::GatewayOptions,
    /// Id of the certificate
    #[arg(long, value_name = "ID")]
    certificate_id: String,
    /// Only this domain name; the cloud does not document whether it compares the whole name or a part
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    domain: String,
    #[command(flatten)]
    part: Part,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

pub(super) async fn run(options: Options, environment: Environment<'_>) -> Result<(), Failure> {
    let gateway = options.gateway.connect(environment).await?;
    let mut list = ListAttachedDomainsRequest {
        project_id: gateway.project_id.clone(),
        certificate_id: options.certificate_id,
        offset: options.part.offset,
        limit: options.part.limit,
        url_domain: options.domain,
    };
    let result = if options.part.all {
        pages::every_page(&gateway, &mut list).await
    } else {
        let answer = gateway.client().list_attached_domains(gateway.request(list)).await;
        answer.map(tonic::Response::into_inner)
    };
    output::print(result, options.output)
}

impl Shown for ListAttachedDomainsResponse {
    fn show(&self) -> io::Result<()> {
        let headings = ["DOMAIN", "INSTANCE", "VERIFIES", "GROUP"];
        table::print(&headings, self.bound_domains.iter().map(row).collect())?;
        more(self.bound_domains.len(), self.total);
        Ok(())
    }
}

/// Says on standard error that a list has more rows.
pub(super) fn more(rows: usize, total: i64) {
    if i64::try_from(rows).is_ok_and(|rows| rows < total) {
        crate::log::say(&format!("{rows} of {total} rows; --all prints every one"));
    }
}

fn row(domain: &BoundDomain) -> Vec<String> {
    vec![
        domain.url_domain.clone(),
        domain.instance_id.clone(),
        yes_or_no(domain.verified_client_certificate_enabled),
        domain.api_group_name.clone(),
    ]
}

/// A flag, for people; nothing if the cloud does not tell it.
pub(super) fn yes_or_no(flag: Option<bool>) -> String {
    flag.map_or("", |flag| if flag { "yes" } else { "no" }).to_owned()
}
