//! Many domains from a file: batches, failures, interruptions and what is left to do after them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    process::Stdio,
    time::Duration,
};

use emulator::World;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use super::{Desk, File, INSTANCES, PROJECT, TOKEN};
use crate::support::{Program, command, soon};

/// The time that a test waits for a run.
pub(super) const LONG: Duration = Duration::from_secs(900);

/// A cloud with many certificates and domains; every other certificate has a CA.
fn world(certificates: usize, domains: usize) -> World {
    let mut text = format!(
        "projects = [{{ id = '{PROJECT}', name = 'north' }}]\n\
         users = [{{ name = 'u', password = 'p', account = 'a', projects = ['{PROJECT}'], may_attach = true }}]\n\
         tokens = [{{ value = '{TOKEN}', user = 'u', project = '{PROJECT}' }}]\n\
         instances = [{{ id = '{}', project = '{PROJECT}' }}, {{ id = '{}', project = '{PROJECT}' }}]\n",
        INSTANCES[0], INSTANCES[1]
    );
    for number in 0..certificates {
        let _ = writeln!(
            text,
            "[[certificates]]\nid = 'c{number}'\nname = 'cert{number}'\nproject = '{PROJECT}'\nhas_trusted_root_ca = {}",
            number % 2 == 0
        );
    }
    for number in 0..domains {
        let _ = writeln!(
            text,
            "[[domains]]\nid = 'id{number}'\nname = 'd{number}.example.com'\nproject = '{PROJECT}'\n\
             group_id = 'g'\ngroup_name = 'group'\ninstances = ['{}', '{}']",
            INSTANCES[0], INSTANCES[1]
        );
    }
    World::from_toml(&text).unwrap()
}

/// The client verification by domain and instance.
type Bindings = BTreeMap<(String, String), bool>;

/// A file that binds each domain on one instance or both, and the bindings that it asks for, by certificate.
fn file(certificates: usize, domains: usize) -> (String, BTreeMap<String, Bindings>) {
    let mut text = "certificate_id,domain,instance_ids,verified_client_certificate_enabled\n".to_owned();
    let mut expected: BTreeMap<String, Bindings> = BTreeMap::new();
    for number in 0..domains {
        let certificate = number % certificates;
        let instances = if number % 3 == 0 { &INSTANCES[..] } else { &INSTANCES[1..] };
        // On half of the certificates with a CA the flag is not the default.
        let flag = if certificate.is_multiple_of(4) { "false" } else { "" };
        let _ = writeln!(text, "c{certificate},d{number}.example.com,{},{flag}", instances.join(" "));
        let verifies = certificate % 4 == 2;
        let of_certificate = expected.entry(format!("c{certificate}")).or_default();
        for instance in instances {
            of_certificate.insert((format!("d{number}.example.com"), (*instance).to_owned()), verifies);
        }
    }
    (text, expected)
}

/// The lines of a journal that are whole.
fn journal(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until a journal has this many finished batches.
pub(super) async fn finished(path: &str, batches: usize) {
    let ends = || journal(path).iter().filter(|line| line["line"] == "end").count();
    let wait = async {
        while ends() < batches {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the run makes progress");
}

/// The certificates with a batch that has begun and not finished.
fn unfinished(journal: &[Value]) -> BTreeSet<String> {
    let ended: Vec<&Value> = journal.iter().filter(|line| line["line"] == "end").map(|line| &line["number"]).collect();
    let open = journal.iter().filter(|line| line["line"] == "begin" && !ended.contains(&&line["number"]));
    open.map(|line| line["certificate_id"].as_str().unwrap().to_owned()).collect()
}

/// Kills a run twice, continues it, and checks that nothing was lost, and nothing done twice.
async fn killed_twice(certificates: usize, domains: usize, batch_size: usize, change: Duration, outage: &'static str) {
    let (text, expected) = file(certificates, domains);
    let file = File::new("domains.csv", &text);
    let audit = File::new("audit.log", "");
    let desk = Desk::of(
        world(certificates, domains),
        |emulator| emulator.with_change_time(change),
        |plan| plan.with("audit", &audit.path).with("read-back", "true"),
    )
    .await;
    desk.outage(outage).await;
    let size = batch_size.to_string();
    let arguments = ["attach", "--from-file", &file.path, "--batch-size", &size, "--continue"];
    let path = format!("{}.journal", file.path);
    let batches = domains.div_ceil(batch_size);
    let mut to_look_up = BTreeSet::new();
    for kill in [batches / 4, batches / 2] {
        let program = Program::start(&arguments, &desk.variables());
        finished(&path, kill).await;
        program.signal("KILL").await;
        drop(program);
        let lines = journal(&path);
        let certificates = unfinished(&lines);
        assert!(!certificates.is_empty(), "it is killed in the middle of something");
        to_look_up.extend(certificates);
    }
    // Failures under the outage are left to further runs.
    let mut last = desk.patient(&arguments).await;
    for _ in 0..5 {
        if last.code == Some(0) {
            break;
        }
        last = desk.patient(&arguments).await;
    }
    assert_eq!(last.code, Some(0), "{last:?}");
    desk.mended().await;
    let reads = desk.calls("ListAttachedDomains").await;
    assert!(reads >= to_look_up.len(), "{reads} look-ups for {to_look_up:?}");

    for (certificate, bindings) in &expected {
        assert_eq!(&desk.bindings(certificate).await, bindings, "{certificate}");
    }
    let mut applied: BTreeMap<String, usize> = BTreeMap::new();
    for line in std::fs::read_to_string(&audit.path).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["outcome"] == "applied" || line["outcome"] == "confirmed" {
            for domain in line["domains"].as_array().unwrap() {
                *applied.entry(domain.as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
    }
    let twice: Vec<_> = applied.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "no finished batch is sent again: {twice:?}");
    let mut done = BTreeSet::new();
    let mut begun: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for line in journal(&path) {
        let names = || line["domains"].as_array().unwrap().iter().map(|one| one["domain"].as_str().unwrap().to_owned());
        match line["line"].as_str().unwrap() {
            "begin" => {
                let names: BTreeSet<String> = names().collect();
                assert!(names.is_disjoint(&done), "a finished domain is in a later batch: {names:?}");
                begun.insert(line["number"].as_u64().unwrap(), names);
            }
            "end" if line["result"] == "done" => done.extend(begun[&line["number"].as_u64().unwrap()].clone()),
            "found" => done.extend(names()),
            _ => {}
        }
    }
    assert_eq!(done.len(), domains);
}

impl Desk {
    /// Runs a command that may take long.
    pub(super) async fn patient(&self, arguments: &[&str]) -> super::Ended {
        let output = tokio::time::timeout(LONG, command(arguments, &self.variables()).output()).await.unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        super::Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    pub(super) async fn outage(&self, outage: &'static str) {
        let url = format!("http://{}/emulator/outages/api", self.cloud);
        assert_eq!(soon(reqwest::Client::new().put(url).body(outage).send()).await.unwrap().status(), 204);
    }

    pub(super) async fn mended(&self) {
        let url = format!("http://{}/emulator/outages/api", self.cloud);
        assert_eq!(soon(reqwest::Client::new().delete(url).send()).await.unwrap().status(), 204);
    }

    /// The calls of a method that the gateway has answered.
    pub(super) async fn calls(&self, method: &str) -> usize {
        let metrics = self.gateway.admin("/metrics").await.1;
        let name = format!(
            "rpc_server_call_duration_seconds_count{{rpc_method=\"huaweicloud.apic.v2.CertificateService/{method}\""
        );
        let lines = metrics.lines().filter(|line| line.starts_with(&name));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap()).sum()
    }
}

/// Every seventh request is handled, but answered with an error.
const LOSES_ANSWERS: &str = r#"{"status": 500, "every": 7, "processed": true}"#;

#[tokio::test]
async fn a_run_that_is_killed_twice_ends_exactly_right() {
    killed_twice(10, 200, 5, Duration::from_millis(60), LOSES_ANSWERS).await;
}

#[tokio::test]
#[ignore = "it takes minutes: just bulk"]
async fn ten_thousand_domains_over_a_hundred_certificates() {
    killed_twice(100, 10_000, 50, Duration::from_millis(200), LOSES_ANSWERS).await;
}

#[tokio::test]
async fn throttled_batches_are_sent_again_when_the_cloud_says_so() {
    let (text, expected) = file(4, 24);
    let file = File::new("domains.csv", &text);
    let desk = Desk::of(world(4, 24), |emulator| emulator, |plan| plan.with("max-attempts", "1")).await;
    desk.outage(r#"{"status": 429, "every": 3, "retry_after": 0}"#).await;
    let report = desk.json(&["attach", "--from-file", &file.path, "--batch-size", "2"]).await;
    assert_eq!((&report["done"], &report["failed"]), (&24.into(), &0.into()), "{report}");
    desk.mended().await;
    for (certificate, bindings) in &expected {
        assert_eq!(&desk.bindings(certificate).await, bindings, "{certificate}");
    }
}

#[tokio::test]
async fn one_bad_domain_fails_alone_and_is_sent_again_when_it_is_mended() {
    let (text, _) = file(2, 20);
    let file = File::new("domains.csv", &text.replace("d7.example.com", "d7.exmaple.com"));
    let desk = Desk::of(world(2, 20), |emulator| emulator, |plan| plan).await;
    let arguments = ["attach", "--from-file", &file.path];
    let ended = desk.run(&arguments).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let failures: Vec<&str> = ended.err.lines().collect();
    assert_eq!(failures.len(), 1, "{ended:?}");
    assert!(
        failures[0].contains("failed: d7.exmaple.com on certificate c1: NOT_FOUND APIG_3020: The URL"),
        "{failures:?}"
    );
    assert!(ended.out.starts_with("20 domains of 2 certificates in "), "{ended:?}");
    assert!(ended.out.contains(": 19 attached, 1 failed\nto continue: "), "{ended:?}");

    std::fs::write(&file.path, &text).unwrap();
    let before = desk.calls("AttachDomains").await;
    let report = desk.json(&[&arguments[..], &["--continue"]].concat()).await;
    assert_eq!((&report["done"], &report["doneEarlier"]), (&1.into(), &19.into()), "{report}");
    assert_eq!(desk.calls("AttachDomains").await, before + 1);
    assert_eq!(desk.bindings("c1").await.len(), 13);
}

#[tokio::test]
async fn an_interrupted_run_ends_its_batches_and_prints_the_line_to_continue() {
    let (text, expected) = file(4, 80);
    let file = File::new("my domains.csv", &text);
    let slow = Duration::from_millis(80);
    let desk = Desk::of(world(4, 80), |emulator| emulator.with_change_time(slow), |plan| plan).await;
    let arguments = ["attach", "--from-file", &file.path, "--batch-size", "2", "--concurrency", "2"];
    let mut program = Program::start(&arguments, &desk.variables());
    finished(&format!("{}.journal", file.path), 4).await;
    program.signal("INT").await;
    let printed = program.printed_until("to continue: ").await;
    assert_eq!(program.ended(LONG).await.code(), Some(1));
    assert!(printed.contains("stopped: interrupted by SIGINT\n") && printed.contains(" not sent\n"), "{printed}");
    let lines = journal(&format!("{}.journal", file.path));
    assert!(unfinished(&lines).is_empty(), "the batches in flight have ended");

    let line = printed.lines().find_map(|line| line.strip_prefix("to continue: ")).unwrap();
    assert!(line.ends_with(" --continue"), "{line}");
    let mut shell = tokio::process::Command::new("sh");
    let output = shell.args(["-c", line]).env_clear().envs(desk.variables()).output();
    let output = tokio::time::timeout(LONG, output).await.unwrap().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    for (certificate, bindings) in &expected {
        assert_eq!(&desk.bindings(certificate).await, bindings, "{certificate}");
    }
}

#[tokio::test]
async fn a_dry_run_shows_the_plan_and_sends_nothing() {
    let (text, _) = file(2, 20);
    let file = File::new("domains.csv", &text);
    let desk = Desk::of(world(2, 20), |emulator| emulator, |plan| plan).await;
    let arguments = ["attach", "--from-file", &file.path, "--batch-size", "3", "--dry-run"];
    // Not even a gateway is needed.
    let ended = Program::run(&arguments, &[("APIG_GATEWAY_TARGET", "127.0.0.1:9")]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.out.ends_with("would attach 20 domains of 2 certificates in 8 calls; nothing was sent\n"),
        "{ended:?}"
    );
    assert!(ended.out.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == ["c1", "10", "4", "0", "0"]));
    assert!(!std::path::Path::new(&format!("{}.journal", file.path)).exists());
    assert_eq!(desk.calls("AttachDomains").await, 0);
}

#[tokio::test]
async fn standard_input_is_a_file_too_and_detaching_undoes_attaching() {
    let desk = Desk::of(world(1, 6), |emulator| emulator, |plan| plan).await;
    let line = |number| {
        format!(
            "{{\"certificate_id\": \"c0\", \"domain\": \"d{number}.example.com\", \"instance_ids\": [\"{}\"]}}\n",
            INSTANCES[0]
        )
    };
    let text: String = (0..6).map(line).collect();
    for (name, word, left) in [("attach", "6 attached", 6), ("detach", "6 detached", 0)] {
        let mut run = command(&[name, "--from-file", "-", "--batch-size", "4"], &desk.variables());
        let mut run = run.stdin(Stdio::piped()).spawn().unwrap();
        run.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
        let output = soon(run.wait_with_output()).await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(word));
        assert!(String::from_utf8(output.stderr).unwrap().contains("no journal"));
        assert_eq!(desk.bindings("c0").await.len(), left);
    }
}

#[tokio::test]
async fn a_stale_token_stops_the_run() {
    let (text, _) = file(4, 20);
    let file = File::new("domains.csv", &text);
    let desk = Desk::of(world(4, 20), |emulator| emulator, |plan| plan).await;
    let variables = [desk.variables()[0], ("APIG_GATEWAY_TOKEN", "stale")];
    let ended = Program::run(&["attach", "--from-file", &file.path, "--batch-size", "2"], &variables).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.out.contains(": 20 not sent\nstopped: UNAUTHENTICATED APIG_"), "{ended:?}");
    assert_eq!(ended.err, "", "the reason is told once");
    // Nothing was changed: a new run may begin.
    desk.run(&["attach", "--from-file", &file.path]).await.succeeded();
}

#[tokio::test]
async fn mistakes_end_with_one_line_and_change_nothing() {
    let desk = Desk::of(world(1, 2), |emulator| emulator, |plan| plan).await;
    let good = File::new("good.csv", "certificate_id,domain\nc0,d0.example.com\n");
    let misspelt = File::new("misspelt.csv", "certificate,domain\nc0,d0.example.com\n");
    let empty = File::new("empty.csv", "");
    let half = File::new("half.jsonl", "{\"certificate_id\": \"c0\", \"domain\": \"d0.example.com\"}\n{\"certific");
    let unended = File::new(
        "other.journal",
        "{\"line\":\"run\",\"version\":1,\"command\":\"detach\",\"project_id\":\"\"}\n\
         {\"line\":\"begin\",\"number\":1,\"action\":\"detach\",\"certificate_id\":\"c0\",\
         \"domains\":[{\"domain\":\"d0.example.com\",\"instance_ids\":[]}]}\n",
    );
    let nobody = [("APIG_GATEWAY_TARGET", "127.0.0.1:9"), ("APIG_GATEWAY_TOKEN", TOKEN)];
    let variables = desk.variables();
    for (arguments, variables, code, says) in [
        (&["--from-file", "/no/such/file"][..], &variables[..], 2, "/no/such/file: can't be read"),
        (&["--from-file", &misspelt.path], &variables, 2, "line 1: unknown column \"certificate\""),
        (&["--from-file", &empty.path], &variables, 2, "empty.csv: is empty"),
        (&["--from-file", &half.path], &variables, 2, "half.jsonl: line 2: EOF while parsing"),
        (&["--from-file", &good.path], &nobody, 1, "127.0.0.1:9: can't connect"),
        (&["--from-file", &good.path, "--journal", &good.path], &variables, 2, "line 1 is not one of a journal"),
        (&["--from-file", &good.path, "--journal", "/no/such/journal"], &variables, 2, "journal /no/such/journal: "),
        (
            &["--from-file", &good.path, "--journal", &unended.path, "--continue"],
            &variables,
            2,
            "is of another run: detach",
        ),
        (&["--from-file", &good.path, "--journal", &unended.path], &variables, 2, "is of a run that has not ended"),
        (&["--certificate-id", "c0", "--domain", "d", "--continue"], &variables, 2, "are for --from-file"),
    ] {
        let ended = Program::run(&[&["attach"], arguments].concat(), variables).await;
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(says), "{arguments:?} does not say {says:?}: {ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    }
    let both = desk.run(&["attach", "--from-file", &good.path, "--domain", "d"]).await;
    assert_eq!(both.code, Some(2), "{both:?}");
    assert_eq!(desk.calls("AttachDomains").await, 0);
    assert!(desk.bindings("c0").await.is_empty());
}
