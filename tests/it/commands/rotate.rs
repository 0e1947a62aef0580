//! `rotate`: on a cloud that replaces a domain's certificate, and on one that refuses a second one.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use emulator::{SecondCertificate, World};

use super::{Desk, File, INSTANCES, PROJECT, TOKEN, bulk::finished, family::pair_of};
use crate::support::Program;

/// A cloud with domains on two instances, and no certificate yet.
fn world(domains: usize) -> World {
    let mut text = format!(
        "projects = [{{ id = '{PROJECT}', name = 'north' }}]\n\
         users = [{{ name = 'u', password = 'p', account = 'a', projects = ['{PROJECT}'], may_attach = true }}]\n\
         tokens = [{{ value = '{TOKEN}', user = 'u', project = '{PROJECT}' }}]\n\
         instances = [{{ id = '{}', project = '{PROJECT}' }}, {{ id = '{}', project = '{PROJECT}' }}]\n",
        INSTANCES[0], INSTANCES[1]
    );
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

/// A cloud with an old certificate, bound to every domain with its own flags, and a new one of these names.
struct Scene {
    desk: Desk,
    old: String,
    new: String,
    bound: BTreeMap<(String, String), bool>,
    /// The folder of the journal.
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new(domains: usize, second: SecondCertificate, change: Duration, names: &[&str]) -> Self {
        let emulated = |emulator: emulator::Emulator| emulator.with_second_certificate(second).with_change_time(change);
        let desk = Desk::of(world(domains), emulated, |plan| plan.with("read-back", "true")).await;
        let old = upload(&desk, "old_one", &["*.example.com"], true).await;
        let new = upload(&desk, "new_one", names, true).await;
        let mut text = "certificate_id,domain,instance_ids,verified_client_certificate_enabled\n".to_owned();
        let mut bound = BTreeMap::new();
        for number in 0..domains {
            // Some domains have another flag on each instance.
            for (instance, verifies) in [(INSTANCES[0], number % 2 == 0), (INSTANCES[1], number % 3 == 0)] {
                let _ = writeln!(text, "{old},d{number}.example.com,{instance},{verifies}");
                bound.insert((format!("d{number}.example.com"), instance.to_owned()), verifies);
            }
        }
        let file = File::new("domains.csv", &text);
        desk.patient(&["attach", "--from-file", &file.path, "--batch-size", "500"]).await.succeeded();
        assert_eq!(desk.bindings(&old).await, bound);
        Self { desk, old, new, bound, folder: tempfile::tempdir().unwrap() }
    }

    /// The command line of a rotation.
    fn arguments<'a>(&'a self, journal: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let rotate = ["rotate", "--from", &self.old, "--to", &self.new, "--journal", journal];
        [&rotate[..], more].concat()
    }

    fn journal(&self) -> String {
        self.folder.path().join("journal").to_str().unwrap().to_owned()
    }

    /// Nothing has been changed.
    async fn is_untouched(&self) {
        assert_eq!(self.desk.bindings(&self.old).await, self.bound);
        assert!(self.desk.bindings(&self.new).await.is_empty());
    }

    /// Every binding is on the new certificate, with its flag.
    async fn is_moved(&self) {
        assert_eq!(self.desk.bindings(&self.new).await, self.bound);
        assert!(self.desk.bindings(&self.old).await.is_empty());
    }
}

async fn upload(desk: &Desk, name: &str, names: &[&str], has_ca: bool) -> String {
    let (chain, key) = pair_of(names);
    let upload = ["--name", name, "--cert-content-file", &chain.path, "--private-key-file", &key.path];
    let ca = if has_ca { &["--trusted-root-ca-file", &chain.path][..] } else { &[] };
    let created = desk.json(&[&["certificates", "create"][..], &upload, ca].concat()).await;
    created["id"].as_str().unwrap().to_owned()
}

/// Every eleventh request is handled, but answered with an error.
const LOSES_ANSWERS: &str = r#"{"status": 500, "every": 11, "processed": true}"#;

/// Rotates under faults, killed in the middle, and continued.
async fn killed(domains: usize, second: SecondCertificate, change: Duration, batch: &str) {
    let scene = Scene::new(domains, second, change, &["*.example.com"]).await;
    scene.desk.outage(LOSES_ANSWERS).await;
    let path = scene.journal();
    let gap = if second == SecondCertificate::Refused { &["--allow-gap"][..] } else { &[] };
    let arguments = scene.arguments(&path, &[&["--batch-size", batch][..], gap].concat());
    let program = Program::start(&arguments, &scene.desk.variables());
    finished(&path, 3).await;
    program.signal("KILL").await;
    drop(program);
    let half = scene.desk.bindings(&scene.new).await.len();
    assert!(half < scene.bound.len(), "it is killed in the middle of something");
    let arguments = [&arguments[..], &["--continue"]].concat();
    let mut last = scene.desk.patient(&arguments).await;
    for _ in 0..5 {
        if last.code == Some(0) {
            break;
        }
        last = scene.desk.patient(&arguments).await;
    }
    assert_eq!(last.code, Some(0), "{last:?}");
    assert!(last.out.contains("bindings are on the new certificate"), "{last:?}");
    scene.desk.mended().await;
    scene.is_moved().await;
}

#[tokio::test]
async fn a_killed_rotation_ends_right_on_a_cloud_that_replaces() {
    killed(20, SecondCertificate::Replaces, Duration::from_millis(50), "4").await;
}

#[tokio::test]
async fn a_killed_rotation_ends_right_on_a_cloud_that_refuses() {
    killed(20, SecondCertificate::Refused, Duration::from_millis(50), "4").await;
}

#[tokio::test]
#[ignore = "it takes minutes: just bulk"]
async fn three_hundred_bindings_on_both_kinds_of_cloud() {
    for second in [SecondCertificate::Replaces, SecondCertificate::Refused] {
        killed(150, second, Duration::from_millis(500), "10").await;
    }
}

#[tokio::test]
async fn a_refused_second_certificate_stops_a_rotation_that_may_leave_no_gap() {
    let scene = Scene::new(6, SecondCertificate::Refused, Duration::ZERO, &["*.example.com"]).await;
    let path = scene.journal();
    let ended = scene.desk.run(&scene.arguments(&path, &["--batch-size", "2"])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for says in ["APIG.2051", "--allow-gap", "`certificates update`", "0 of 9 bindings", "to continue: "] {
        assert!(ended.out.contains(says), "{says}: {ended:?}");
    }
    scene.is_untouched().await;
    let moved = scene.desk.json(&scene.arguments(&path, &["--continue", "--allow-gap"])).await;
    assert_eq!((&moved["bindings"], &moved["notMoved"]), (&9.into(), &serde_json::json!([])));
    scene.is_moved().await;
}

#[tokio::test]
async fn a_name_that_the_new_certificate_lacks_stops_it_before_the_first_change() {
    let scene = Scene::new(3, SecondCertificate::Replaces, Duration::ZERO, &["d0.example.com", "d2.example.com"]).await;
    let path = scene.journal();
    let before = scene.desk.calls("AttachDomains").await;
    let ended = scene.desk.run(&scene.arguments(&path, &[])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("d1.example.com: the new certificate does not cover it\n"), "{ended:?}");
    assert!(!ended.err.contains("d0.example.com"), "{ended:?}");
    assert!(ended.err.ends_with("nothing was changed\n"), "{ended:?}");
    let faults = scene.desk.run(&scene.arguments(&path, &["--output", "json"])).await.json();
    assert_eq!(faults["faults"][0]["domain"], "d1.example.com");
    assert_eq!(scene.desk.calls("AttachDomains").await, before);
    assert!(!std::path::Path::new(&path).exists());
    scene.is_untouched().await;
}

#[tokio::test]
async fn a_new_certificate_without_a_ca_would_lose_the_verification_of_clients() {
    let mut scene = Scene::new(2, SecondCertificate::Replaces, Duration::ZERO, &["*.example.com"]).await;
    scene.new = upload(&scene.desk, "no_ca_one", &["*.example.com"], false).await;
    let path = scene.journal();
    let ended = scene.desk.run(&scene.arguments(&path, &[])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("d0.example.com: verifies clients, but the new"), "{ended:?}");
    scene.is_untouched().await;
}

#[tokio::test]
async fn a_dry_run_shows_every_binding_and_changes_nothing() {
    let scene = Scene::new(3, SecondCertificate::Replaces, Duration::ZERO, &["*.example.com"]).await;
    let path = scene.journal();
    let ended = scene.desk.run(&scene.arguments(&path, &["--dry-run"])).await.succeeded();
    assert!(ended.out.ends_with("would move 4 of 4 bindings; nothing was changed\n"), "{ended:?}");
    let d1: Vec<&str> = ended.out.lines().filter(|line| line.starts_with("d1.example.com ")).collect();
    assert_eq!(d1.len(), 1, "{ended:?}");
    assert!(d1[0].contains(&INSTANCES.join(" ")) && d1[0].contains(" no "), "{d1:?}");
    assert!(!std::path::Path::new(&path).exists());
    scene.is_untouched().await;

    scene.desk.run(&scene.arguments(&path, &[])).await.succeeded();
    scene.is_moved().await;
    let again = scene.desk.run(&scene.arguments(&path, &[])).await.succeeded();
    assert_eq!(again.out, "nothing to move: the old certificate is bound nowhere\n");
}

#[tokio::test]
async fn mistakes_end_with_one_line() {
    let desk = Desk::new().await;
    let journal = tempfile::tempdir().unwrap();
    let path = journal.path().join("journal");
    let path = path.to_str().unwrap();
    for (from, to, code, says) in [
        ("c", "c", 2, "are the same certificate"),
        ("../c", "d", 2, "is not a certificate's id"),
        ("nobodys", "d", 1, "NOT_FOUND"),
        (super::CERTIFICATE, "nobodys", 1, "NOT_FOUND"),
        // The world gives it no content.
        (super::CERTIFICATE, super::WITH_CA, 1, "no alternative names"),
    ] {
        let ended = desk.run(&["rotate", "--from", from, "--to", to, "--journal", path]).await;
        assert_eq!(ended.code, Some(code), "{from} {to}: {ended:?}");
        assert!(format!("{}{}", ended.out, ended.err).contains(says), "{says}: {ended:?}");
    }
}
