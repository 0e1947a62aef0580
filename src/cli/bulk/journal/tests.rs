//! Journals of runs that ended in every way.

use super::*;

fn entry(domain: &str) -> Entry {
    Entry { domain: domain.into(), instance_ids: vec!["i".into()], verified_client_certificate_enabled: None }
}

fn batch(domains: &[&str]) -> Group {
    Group { certificate_id: "c".into(), entries: domains.iter().map(|domain| entry(domain)).collect() }
}

fn run() -> Run {
    Run::of("attach", "p")
}

fn said(failure: Failure) -> String {
    match failure {
        Failure::Usage(text) => text,
        other => panic!("{other:?}"),
    }
}

/// A journal with a batch of each kind.
fn written(path: &Path) {
    let (mut journal, _) = Journal::open(Some(path), &run(), false).unwrap();
    for (domain, end) in [
        ("done", Some(Outcome::Done)),
        ("failed", Some(Outcome::Failed)),
        ("unknown", Some(Outcome::Unknown)),
        ("begun", None),
    ] {
        let number = journal.begin(Action::Attach, &batch(&[domain])).unwrap();
        if let Some(outcome) = end {
            journal.end(number, outcome, Some("a reason")).unwrap();
        }
    }
    journal.begin(Action::Attach, &batch(&["found", "missing"])).unwrap();
    journal.found(Action::Attach, batch(&["found"])).unwrap();
}

#[test]
fn a_run_that_continues_knows_the_state_of_every_domain() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    written(&path);
    let (mut journal, past) = Journal::open(Some(&path), &run(), true).unwrap();
    for (domain, state) in [
        ("done", State::Done),
        ("failed", State::Open),
        ("unknown", State::Unfinished),
        ("begun", State::Unfinished),
        ("found", State::Done),
        ("missing", State::Unfinished),
        ("never", State::Open),
    ] {
        assert_eq!(past.state(Action::Attach, "c", &entry(domain)), state, "{domain}");
        assert_eq!(past.state(Action::Detach, "c", &entry(domain)), State::Open, "{domain}");
    }
    assert_eq!(journal.begin(Action::Attach, &batch(&["next"])).unwrap(), 6, "numbers are used once");
}

#[test]
fn a_journal_torn_at_any_byte_is_read_up_to_its_last_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    written(&path);
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (mut journal, _) = Journal::open(Some(&path), &run(), true).unwrap();
        journal.begin(Action::Attach, &batch(&["next"])).unwrap();
        drop(journal);
        let text = std::fs::read_to_string(&path).unwrap();
        let (past, _) = Past::read(&text, &run()).unwrap_or_else(|fault| panic!("cut to {length}: {fault}"));
        assert_eq!(past.state(Action::Attach, "c", &entry("next")), State::Unfinished);
        // A cut before the line feed of the batch that was done: it may have been sent.
        if text.contains(r#""done""#) {
            assert_ne!(past.state(Action::Attach, "c", &entry("done")), State::Open);
        }
    }
}

#[test]
fn a_journal_is_not_replaced_while_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    written(&path);
    let before = std::fs::read(&path).unwrap();
    let fault = said(Journal::open(Some(&path), &run(), false).unwrap_err());
    assert!(fault.contains("has not ended: --continue"), "{fault}");
    let other = said(Journal::open(Some(&path), &Run::of("detach", "p"), true).unwrap_err());
    assert!(other.contains("is of another run: attach"), "{other}");
    let (journal, _) = Journal::open(Some(&path), &run(), true).unwrap();
    let locked = said(Journal::open(Some(&path), &run(), true).unwrap_err());
    assert!(locked.contains("another run uses it"), "{locked}");
    drop(journal);
    assert_eq!(std::fs::read(&path).unwrap(), before, "nothing was changed");

    for other in ["no journal\n", "no journal", "{\"line\":\"complete\"}\n"] {
        std::fs::write(&path, other).unwrap();
        for go_on in [true, false] {
            assert!(Journal::open(Some(&path), &run(), go_on).is_err(), "another file is not a journal: {other}");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), other);
    }
}

#[test]
fn a_journal_of_failures_alone_gives_way_to_a_new_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    for (outcome, gives_way) in [(Outcome::Failed, true), (Outcome::Unknown, false), (Outcome::Done, false)] {
        let (mut journal, _) = Journal::open(Some(&path), &run(), true).unwrap();
        let number = journal.begin(Action::Attach, &batch(&["a"])).unwrap();
        journal.end(number, outcome, None).unwrap();
        drop(journal);
        assert_eq!(Journal::open(Some(&path), &run(), false).is_ok(), gives_way, "{outcome:?}");
    }
}

#[test]
fn a_complete_journal_gives_way_to_a_new_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (mut journal, _) = Journal::open(Some(&path), &run(), true).unwrap();
    let number = journal.begin(Action::Attach, &batch(&["a"])).unwrap();
    journal.end(number, Outcome::Done, None).unwrap();
    journal.complete().unwrap();
    drop(journal);
    let (_, past) = Journal::open(Some(&path), &run(), true).unwrap();
    assert_eq!(past.state(Action::Attach, "c", &entry("a")), State::Done);
    let (journal, _) = Journal::open(Some(&path), &run(), false).unwrap();
    drop(journal);
    let (_, past) = Journal::open(Some(&path), &run(), true).unwrap();
    assert_eq!(past.state(Action::Attach, "c", &entry("a")), State::Open);
}

#[test]
fn a_complete_journal_gives_way_to_another_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (mut journal, _) = Journal::open(Some(&path), &run(), false).unwrap();
    let number = journal.begin(Action::Attach, &batch(&["a"])).unwrap();
    journal.end(number, Outcome::Done, None).unwrap();
    let other = Run::of("detach", "p");
    drop(journal);
    Journal::open(Some(&path), &other, false).unwrap_err();
    let (mut journal, _) = Journal::open(Some(&path), &run(), true).unwrap();
    journal.complete().unwrap();
    drop(journal);
    Journal::open(Some(&path), &other, true).unwrap_err();
    Journal::open(Some(&path), &other, false).unwrap();
}
