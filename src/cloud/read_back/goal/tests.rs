use super::*;

fn entry(domain: &str, instances: &[&str], flag: Option<bool>) -> pb::AttachOrDetachDomainInfo {
    pb::AttachOrDetachDomainInfo {
        domain: domain.into(),
        instance_ids: instances.iter().map(|id| (*id).into()).collect(),
        verified_client_certificate_enabled: flag,
    }
}

type RowOf<'a> = (&'a str, &'a str, Option<bool>);

fn see(mut goal: Goal<'_>, rows: &[RowOf<'_>]) -> Found {
    for (name, instance, flag) in rows {
        goal.see(&Row { name: (*name).into(), instance: (*instance).into(), flag: *flag });
    }
    goal.found()
}

fn attach(domains: &[pb::AttachOrDetachDomainInfo], rows: &[RowOf<'_>]) -> Found {
    see(attached(&pb::AttachDomainsRequest { domains: domains.into(), ..Default::default() }), rows)
}

fn detach(domains: &[pb::AttachOrDetachDomainInfo], rows: &[RowOf<'_>]) -> Found {
    see(detached(&pb::DetachDomainsRequest { domains: domains.into(), ..Default::default() }), rows)
}

const ALL: Found = Found::Observed(Observed::All);
const SOME: Found = Found::Observed(Observed::Some);
const NONE: Found = Found::Observed(Observed::None);

#[test]
fn an_attach_is_confirmed_by_a_row_for_each_domain_and_instance() {
    let asked = [entry("a.com", &["i", "j"], None), entry("b.com", &["i"], None)];
    let (a_i, a_j, b_i) = (("a.com", "i", None), ("a.com", "j", Some(true)), ("b.com", "i", Some(false)));
    assert_eq!(attach(&asked, &[a_i, b_i, a_j]), Found::Confirmed);
    assert_eq!(attach(&asked, &[a_i, b_i]), SOME);
    assert_eq!(attach(&asked, &[]), NONE);
    // Rows of others, and of another instance.
    assert_eq!(attach(&asked, &[("c.com", "i", None), ("a.com", "k", None)]), NONE);
}

#[test]
fn names_compare_without_case_and_final_dot() {
    let asked = [entry("WWW.a.com.", &["i"], None)];
    assert_eq!(attach(&asked, &[("www.A.com", "i", None)]), Found::Confirmed);
    assert_eq!(attach(&asked, &[("www.a.com.", "i", None)]), Found::Confirmed);
    assert_eq!(attach(&asked, &[("www.a.com..", "i", None)]), NONE);
    assert_eq!(detach(&asked, &[("Www.a.Com", "i", None)]), NONE);
}

#[test]
fn a_flag_that_was_asked_for_is_compared_in_every_row() {
    let asked = [entry("a.com", &["i"], Some(true))];
    let (on, off, unsaid) = (("a.com", "i", Some(true)), ("a.com", "i", Some(false)), ("a.com", "i", None));
    assert_eq!(attach(&asked, &[on]), Found::Confirmed);
    assert_eq!(attach(&asked, &[on, on]), Found::Confirmed);
    for rows in [&[off][..], &[on, off], &[off, on], &[off, unsaid], &[unsaid, off, on]] {
        assert_eq!(attach(&asked, rows), NONE, "{rows:?}");
    }
    for rows in [&[unsaid][..], &[on, unsaid], &[unsaid, on]] {
        assert_eq!(attach(&asked, rows), ALL, "{rows:?}");
    }
    // Not asked for: any row will do.
    assert_eq!(attach(&[entry("a.com", &["i"], None)], &[off, on]), Found::Confirmed);
}

#[test]
fn opposite_flags_of_one_binding_are_never_both_as_asked() {
    let asked = [entry("a.com", &["i"], Some(true)), entry("a.com", &["i"], Some(false))];
    assert_eq!(attach(&asked, &[("a.com", "i", Some(true))]), SOME);
}

#[test]
fn an_attach_to_every_instance_is_seen_and_not_confirmed() {
    let asked = [entry("a.com", &[], None), entry("b.com", &["i"], None)];
    assert_eq!(attach(&asked, &[("a.com", "k", None), ("b.com", "i", None)]), ALL);
    assert_eq!(attach(&asked, &[("b.com", "i", None)]), SOME);
    assert_eq!(attach(&[entry("a.com", &[], Some(true))], &[("a.com", "k", Some(false))]), NONE);
}

#[test]
fn a_detach_is_confirmed_when_no_row_is_left() {
    let asked = [entry("a.com", &["i"], Some(true)), entry("b.com", &[], None)];
    let (a_i, a_j, b_j) = (("a.com", "i", Some(false)), ("a.com", "j", None), ("b.com", "j", None));
    assert_eq!(detach(&asked, &[]), Found::Confirmed);
    assert_eq!(detach(&asked, &[a_j, ("c.com", "i", None)]), Found::Confirmed);
    assert_eq!(detach(&asked, &[a_i]), SOME);
    assert_eq!(detach(&asked, &[b_j]), SOME);
    assert_eq!(detach(&asked, &[b_j, a_i]), NONE);
}

#[test]
fn an_instance_in_its_other_spelling_keeps_both_changes_unconfirmed() {
    let (hyphens, plain) = ("F0FA1789-3b76-433b-a787-9892951c620e", "f0fa17893b76433ba7879892951c620e");
    for (asked, listed) in [(hyphens, plain), (plain, hyphens)] {
        assert_eq!(attach(&[entry("a.com", &[asked], None)], &[("a.com", listed, None)]), NONE);
        assert_eq!(detach(&[entry("a.com", &[asked], None)], &[("a.com", listed, None)]), NONE);
    }
}

#[test]
fn a_name_that_is_not_ascii_is_never_confirmed() {
    let asked = [entry("bücher.example", &["i"], None)];
    assert_eq!(attach(&asked, &[("bücher.example", "i", None)]), ALL);
    assert_eq!(attach(&asked, &[]), NONE);
    assert_eq!(detach(&asked, &[]), ALL);
    // The list may spell a name in Punycode as Unicode.
    let asked = [entry("xn--bcher-kva.example", &["i"], None)];
    assert_eq!(detach(&asked, &[("bücher.example", "i", None)]), ALL);
    assert_eq!(detach(&asked, &[("other.example", "i", None)]), Found::Confirmed);
}

#[test]
fn each_reading_starts_anew() {
    let request = pb::AttachDomainsRequest { domains: vec![entry("a.com", &["i"], None)], ..Default::default() };
    let mut goal = attached(&request);
    goal.see(&Row { name: "a.com".into(), instance: "i".into(), flag: None });
    assert_eq!(goal.found(), Found::Confirmed);
    goal.reset();
    assert_eq!(goal.found(), NONE);
}
