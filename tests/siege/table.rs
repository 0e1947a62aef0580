//! The table: every method × every attack × every transport, each cell against a gateway of its own with default settings.

mod attacker;
mod http1;
mod script;

use std::{fmt::Write as _, time::Duration};

use self::script::{Kind, METHODS, Method};
use testkit::report::Report;

use crate::{
    Plan,
    attack::{self, Attack, Attackers},
    transport::{Certificates, Transport},
    upstream::Upstream,
};

const ADMIN: &str = "admin port";

/// A row of the table.
#[derive(Debug, Clone, Copy)]
enum Row {
    Grpc(&'static Method),
    /// HTTP/1.1, which is served without TLS.
    Admin,
}

impl Row {
    fn all() -> impl Iterator<Item = Self> {
        METHODS.iter().map(Self::Grpc).chain([Self::Admin])
    }

    fn name(self) -> &'static str {
        match self {
            Self::Grpc(method) => method.name,
            Self::Admin => ADMIN,
        }
    }

    /// Why there is no such cell; `None` when there is one.
    fn without(self, transport: Transport) -> Option<&'static str> {
        match self {
            Self::Admin if transport != Transport::Plain => Some("the admin port has no TLS"),
            _ => None,
        }
    }

    fn attack(self, kind: Kind, transport: Transport) -> Attack {
        Attack {
            name: format!("{} × {} × {}", self.name(), kind.name(), transport.name()),
            flags: Vec::new(),
            transport,
            reconnects: Some(8),
            admin: matches!(self, Self::Admin),
            run: Box::new(move |ground| -> Attackers {
                match self {
                    Self::Grpc(method) => Box::pin(attacker::run(ground, kind, method)),
                    Self::Admin => Box::pin(http1::run(ground, kind)),
                }
            }),
        }
    }
}

/// Runs all cells that the plan wants, and prints a line for each and the table at the end.
pub(crate) async fn run(plan: &Plan, upstream: &Upstream, certificates: &Certificates, report: &Report) {
    let mut lines = Vec::new();
    for transport in Transport::ALL {
        let mut rows = Vec::new();
        for row in Row::all() {
            if let Some(reason) = row.without(transport) {
                rows.push(format!("  {:<16}- {reason}", row.name()));
                continue;
            }
            let mut cells = Vec::new();
            for kind in Kind::ALL {
                cells.push(cell(plan, row.attack(kind, transport), upstream, certificates, report).await);
            }
            if cells.iter().any(Option::is_some) {
                rows.push(line(row.name(), cells.iter().map(|cell| cell.as_deref().unwrap_or("not asked for"))));
            }
        }
        if rows.len() > 1 {
            lines.push(line(transport.name(), Kind::ALL.iter().map(|kind| kind.name())));
            lines.extend(rows);
        }
    }
    if !lines.is_empty() {
        println!("the table, with the most memory in each cell:\n{}", lines.join("\n"));
    }
}

/// One cell in a few words; `None` when the plan does not want it.
async fn cell(
    plan: &Plan,
    attack: Attack,
    upstream: &Upstream,
    certificates: &Certificates,
    report: &Report,
) -> Option<String> {
    if !plan.wants(&attack::name(&attack)) {
        return None;
    }
    let check = attack::check(attack, upstream, certificates, plan.cell, Duration::ZERO).await;
    let memory = check.memory().map_or_else(|| "?".to_owned(), |memory| memory.to_string());
    report.add(&check);
    Some(format!("{} {memory} MiB", if check.is_ok() { "ok" } else { "FAILED" }))
}

fn line<'a>(first: &str, cells: impl Iterator<Item = &'a str>) -> String {
    let mut line = format!("  {first:<16}");
    for cell in cells {
        let _ = write!(line, "{cell:<15}");
    }
    line.trim_end().to_owned()
}
