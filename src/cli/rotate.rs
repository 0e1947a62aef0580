//! `rotate`: binds a new certificate wherever an old one is bound, and reads back.

mod outcome;
mod plan;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::Args;
use tonic::Status;

use self::outcome::{Moved, show_faults, show_plan};
use super::{
    Failure,
    bulk::{
        Action, Bindings, Delivery, Entry, Group, Journal, Outcome, Report, Run, RunOptions, Sender, State, Stop, peek,
    },
    client::{self, Gateway},
    output::{Format, failure},
    pages::{self, patiently},
};
use crate::{
    config::Environment,
    pb::{Certificate, GetCertificateRequest},
    validate::is_safe_segment,
};

/// The reason with which the cloud refuses a second certificate on a domain.
const SECOND_CERTIFICATE: &str = "APIG_2051";

/// How long a change may take to be in the list: the cloud documents 5 to 10 seconds until it takes effect.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    gateway: client::GatewayOptions,
    /// Id of the certificate that is bound now
    #[arg(long, value_name = "ID")]
    from: String,
    /// Id of the certificate to bind in its place
    #[arg(long, value_name = "ID")]
    to: String,
    /// Where the cloud refuses a second certificate on a domain (APIG.2051): detach the old one first. Until the new one is
    /// attached, the domains of a batch have no certificate
    #[arg(long)]
    allow_gap: bool,
    #[command(flatten)]
    run: RunOptions,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

pub(super) async fn run(options: Options, environment: Environment<'_>) -> Result<(), Failure> {
    let Options { gateway, from, to, allow_gap, run: settings, output } = options;
    for (flag, id) in [("from", &from), ("to", &to)] {
        if !is_safe_segment(id) {
            return Err(Failure::Usage(format!("--{flag}: {id:?} is not a certificate's id")));
        }
    }
    if from == to {
        return Err(Failure::Usage("--from and --to are the same certificate".into()));
    }
    let mut run = Run::of("rotate", gateway.project_id());
    run.certificates = Some((from.clone(), to.clone()));
    let path = settings.journal.clone().unwrap_or_else(|| PathBuf::from(format!("rotate-{from}-{to}.journal")));
    let gateway = gateway.connect(environment).await?;

    let planned = peek(Some(&path), &run, settings.go_on)?.plan;
    let ends = match read_ends(&gateway, &from, &to).await {
        Ok(ends) => ends,
        Err(status) => return failure(status, output),
    };
    // A rotation that continues has moved a part of its plan, which the old certificate's list no longer has.
    let mut entries = planned.clone().unwrap_or_default();
    let known: HashSet<&Entry> = planned.iter().flatten().collect();
    entries.extend(ends.bound.iter().filter(|entry| !known.contains(entry)).cloned());
    let faults = plan::faults(&ends.new, &entries, SystemTime::now());
    if !faults.is_empty() {
        return show_faults(&to, &faults, output);
    }
    if settings.dry_run {
        return Ok(show_plan(&entries, &ends.on_new, output)?);
    }
    if entries.is_empty() {
        return Moved::default().print(output);
    }
    // Not before: nothing is left behind by a rotation that does not begin.
    let (mut journal, past) = Journal::open(Some(&path), &run, settings.go_on)?;
    if past.plan.as_ref() != Some(&entries) {
        journal.plan(&entries)?;
    }
    let report = Report::new(Action::Attach, 1, entries.len());
    let sender = Sender::new(gateway, journal, report, settings.batch_size());
    let mut rotation = Rotation {
        sender: &sender,
        from,
        to,
        allow_gap,
        ends,
        is_refused: false,
        reasons: HashMap::new(),
        accepted: HashSet::new(),
    };
    let work = async {
        let (mut open, mut found) = (Vec::new(), Vec::new());
        for entry in entries.clone() {
            match past.state(Action::Attach, &rotation.to, &entry) {
                _ if rotation.ends.on_new.confirm(Action::Attach, &entry) => found.push(entry),
                // The list may not have it yet: the reading back has the last word.
                State::Done => {
                    sender.done(1);
                    rotation.accepted.insert(entry.domain);
                }
                _ => open.push(entry),
            }
        }
        let already = found.len();
        sender.found(Action::Attach, rotation.on_new(found));
        for batch in plan::batches(open, settings.batch_size()) {
            rotation.move_batch(batch).await;
        }
        rotation.read_back(&entries, already).await
    };
    let moved = sender.until_interrupted(work).await?;
    let is_complete = moved.is_success();
    let report = sender.finish(|_| is_complete);
    moved.stopped_by(report.stopped).print(output)
}

/// The two certificates, as they are at the start.
struct Ends {
    new: Certificate,
    bound: Vec<Entry>,
    on_old: Bindings,
    on_new: Bindings,
}

async fn read_ends(gateway: &Gateway, from: &str, to: &str) -> Result<Ends, Status> {
    // The list of an unknown certificate may be empty, its description is an error.
    let get = async |id: &str| {
        let message = GetCertificateRequest { project_id: gateway.project_id.clone(), certificate_id: id.to_owned() };
        patiently(async || gateway.client().get_certificate(gateway.request(message.clone())).await).await
    };
    get(from).await?;
    let new = get(to).await?.into_inner();
    let old_rows = pages::attached(gateway, from).await?;
    let new_rows = pages::attached(gateway, to).await?;
    Ok(Ends { new, bound: plan::bindings(&old_rows), on_old: Bindings::of(&old_rows), on_new: Bindings::of(&new_rows) })
}

/// A rotation in progress.
struct Rotation<'a> {
    sender: &'a Sender,
    from: String,
    to: String,
    allow_gap: bool,
    ends: Ends,
    /// The cloud has refused a second certificate on a domain.
    is_refused: bool,
    /// The failure of each domain.
    reasons: HashMap<String, String>,
    /// The domains that the cloud has accepted in this run.
    accepted: HashSet<String>,
}

impl Rotation<'_> {
    fn on_new(&self, entries: Vec<Entry>) -> Group {
        Group { certificate_id: self.to.clone(), entries }
    }

    /// Moves a batch, in halves if a domain of it is refused.
    async fn move_batch(&mut self, entries: Vec<Entry>) {
        let mut pending = vec![entries];
        while let Some(entries) = pending.pop() {
            let batch = self.on_new(entries);
            let refusal = match self.deliver(&batch).await {
                Delivery::Done => {
                    self.sender.done(batch.entries.len());
                    self.accepted.extend(batch.entries.into_iter().map(|entry| entry.domain));
                    continue;
                }
                Delivery::NotSent => continue,
                Delivery::Failed(refusal) => refusal,
            };
            let is_second = refusal.reason == SECOND_CERTIFICATE;
            if is_second && !self.allow_gap {
                self.sender.halt(
                    "the cloud refuses a second certificate on a domain (APIG.2051): --allow-gap detaches the old one \
                     first; `certificates update` needs no rebinding"
                        .into(),
                );
            } else if refusal.is_about_a_domain() {
                match plan::halves(batch.entries) {
                    Ok((first, second)) => {
                        pending.extend([second, first]);
                        continue;
                    }
                    Err(entries) => self.fail(entries, refusal.outcome, &refusal.line),
                }
                continue;
            }
            self.fail(batch.entries, refusal.outcome, &refusal.line);
        }
    }

    /// Attaches a batch; where the cloud refuses a second certificate and a gap is allowed, after it is detached.
    async fn deliver(&mut self, batch: &Group) -> Delivery {
        if !self.is_refused {
            let delivery = self.sender.deliver(Action::Attach, batch).await;
            match &delivery {
                Delivery::Failed(refusal) if refusal.reason == SECOND_CERTIFICATE && self.allow_gap => {
                    self.is_refused = true;
                }
                _ => return delivery,
            }
        }
        // Only where the old one is still bound: the cloud does not document a mixture.
        let bound = batch.entries.iter().filter(|entry| !self.ends.on_old.confirm(Action::Detach, entry));
        let bound = bound.map(|entry| Entry { verified_client_certificate_enabled: None, ..entry.clone() });
        let old = Group { certificate_id: self.from.clone(), entries: bound.collect() };
        if !old.entries.is_empty() {
            match self.sender.deliver(Action::Detach, &old).await {
                Delivery::Done => {}
                failed => return failed,
            }
        }
        // Even after an interruption: these domains have no certificate now.
        let delivery = self.sender.deliver_at_once(Action::Attach, batch, Stop::Ignored).await;
        if !matches!(delivery, Delivery::Done) {
            let names: Vec<&str> = batch.entries.iter().map(|entry| entry.domain.as_str()).collect();
            let gap = format!("without a certificate now: {}", names.join(", "));
            self.sender.say(&gap);
            self.sender.halt(gap);
        }
        delivery
    }

    fn fail(&mut self, entries: Vec<Entry>, outcome: Outcome, line: &str) {
        for entry in &entries {
            self.reasons.insert(entry.domain.clone(), line.to_owned());
        }
        let batch = self.on_new(entries);
        self.sender.fail(&batch, outcome, line);
    }

    /// Compares the whole plan with the cloud's lists, for as long as a change may take to be listed.
    async fn read_back(&self, entries: &[Entry], already: usize) -> Moved {
        let gateway = &self.sender.gateway;
        let began = tokio::time::Instant::now();
        let mut delay = Duration::from_millis(500);
        loop {
            let rows = pages::attached(gateway, &self.to).await;
            let list = match &rows {
                Ok(rows) => Bindings::of(rows),
                Err(_) => Bindings::default(),
            };
            let missing: Vec<&Entry> = entries.iter().filter(|entry| !list.confirm(Action::Attach, entry)).collect();
            // Those that failed or were not sent won't come.
            let may_come = missing.iter().any(|entry| !self.reasons.contains_key(&entry.domain));
            if may_come && !self.sender.is_stopped() && began.elapsed() + delay <= PATIENCE {
                tokio::time::sleep(delay).await;
                delay *= 2;
                continue;
            }
            let unread = rows.err().map(|status| format!("can't be read back: {}", status.message()));
            let reason = |entry: &Entry| {
                let known = self.reasons.get(&entry.domain).cloned().or_else(|| unread.clone());
                let is_accepted = self.accepted.contains(&entry.domain);
                let unknown = || if is_accepted { "accepted, but not in the list yet" } else { "not sent" };
                known.unwrap_or_else(|| unknown().to_owned())
            };
            let failed = missing.into_iter().map(|entry| (entry.clone(), reason(entry))).collect();
            let left = pages::attached(gateway, &self.from).await.map_or(None, |rows| Some(rows.len()));
            return Moved { bindings: entries.len(), already, failed, left_on_old: left, stopped: None };
        }
    }
}
