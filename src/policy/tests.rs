use super::*;
use crate::{
    peer::Names,
    resources::{Kind, Method},
};

/// A method that can name resources of each kind.
static ANY: Method = Method {
    name: "t.S/Any",
    is_change: true,
    names: &[Kind::Project, Kind::Certificate, Kind::Domain, Kind::Instance],
    parameters: &[],
};

fn described<'a>(
    method: &'static Method,
    project: &'a str,
    certificate: &'a str,
    domains: &[&'a str],
) -> Resources<'a> {
    let mut described = Resources::new(method);
    described.project = project;
    described.certificates.push(certificate);
    described.domains.extend(domains.iter().map(|name| Domain { name, instances: &[] }));
    described
}

fn policy(text: &str) -> Result<Policy, Vec<String>> {
    let file: toml::Table = text.parse().unwrap();
    let tables: Vec<_> =
        file["policy"].as_array().unwrap().iter().map(|rule| rule.as_table().unwrap().clone()).collect();
    Policy::read(&tables)
}

fn spiffe(id: &str) -> Identity {
    Identity::Certificate(Names { spiffe: Some(id.into()), dns: vec![] })
}

fn dns(name: &str) -> Identity {
    Identity::Certificate(Names { spiffe: None, dns: vec!["other.example".into(), name.into()] })
}

fn check(
    policy: &Policy,
    identity: &Identity,
    project: &str,
    certificate: &str,
    domains: &[&str],
) -> Option<&'static str> {
    let request = described(METHODS[0], project, certificate, domains);
    policy.check(identity, &request).err().map(|Denied(part)| part)
}

#[test]
fn without_rules_everything_is_allowed_and_with_one_nothing_else() {
    assert_eq!(check(&Policy::default(), &Identity::Nobody, "p", "c", &["a.example"]), None);
    let one = policy("[[policy]]\nidentity = 'uid:7'").unwrap();
    assert_eq!(check(&one, &Identity::Uid(7), "p", "c", &["a.example"]), None);
    assert_eq!(check(&one, &Identity::Uid(8), "p", "c", &["a.example"]), Some("call"));
}

#[test]
fn an_identity_is_what_was_verified_and_no_more() {
    let table = [
        ("anyone", vec![Identity::Nobody, Identity::Uid(0), spiffe("spiffe://t/a"), dns("a.example")], vec![]),
        ("uid:7", vec![Identity::Uid(7)], vec![Identity::Uid(70), Identity::Nobody, dns("7")]),
        ("dns:A.example", vec![dns("a.example")], vec![dns("b.a.example"), spiffe("a.example"), Identity::Nobody]),
        (
            "spiffe://t/ns/a",
            vec![spiffe("spiffe://t/ns/a")],
            vec![spiffe("spiffe://t/ns/a/b"), spiffe("spiffe://t/ns/A"), dns("spiffe://t/ns/a"), Identity::Nobody],
        ),
        (
            "spiffe://t/ns/*",
            vec![spiffe("spiffe://t/ns/a"), spiffe("spiffe://t/ns/a/b")],
            vec![
                spiffe("spiffe://t/ns"),
                spiffe("spiffe://t/ns/"),
                spiffe("spiffe://t/nsx"),
                spiffe("spiffe://u/ns/a"),
            ],
        ),
    ];
    for (rule, right, wrong) in table {
        let policy = policy(&format!("[[policy]]\nidentity = '{rule}'")).unwrap();
        for identity in right {
            assert_eq!(check(&policy, &identity, "p", "c", &["a.example"]), None, "{rule} {identity:?}");
        }
        for identity in wrong {
            assert_eq!(check(&policy, &identity, "p", "c", &["a.example"]), Some("call"), "{rule} {identity:?}");
        }
    }
}

/// Identity, project, certificate and domains of a call, and the part of it that is denied.
type Case<'a> = (&'a Identity, &'a str, &'a str, &'a [&'a str], Option<&'static str>);

#[test]
fn each_part_of_a_rule_narrows_it() {
    let two = policy(
        "[[policy]]\nidentity = 'uid:1'\nmethods = ['AttachDomains']\nprojects = ['p1', 'p2']\ncertificates = ['c1']\ndomains = ['one.example']\n\
         [[policy]]\nidentity = 'uid:1'\nprojects = ['p1']\ndomains = ['two.example']\n\
         [[policy]]\nidentity = 'uid:2'",
    )
    .unwrap();
    let one = Identity::Uid(1);
    let table: [Case<'_>; 11] = [
        (&one, "p1", "c1", &["one.example"], None),
        (&one, "p1", "c1", &["a.one.example", "b.two.example"], None),
        (&one, "p2", "c1", &["one.example"], None),
        (&one, "p2", "c1", &["one.example", "two.example"], Some("domain")),
        (&one, "p3", "c1", &["one.example"], Some("project")),
        (&one, "p1", "c2", &["two.example"], None),
        (&one, "p1", "c2", &["one.example"], Some("domain")),
        (&one, "p2", "c2", &["one.example"], Some("certificate")),
        (&one, "p1", "c1", &["three.example"], Some("domain")),
        (&Identity::Uid(2), "p9", "c9", &["three.example"], None),
        (&Identity::Nobody, "p1", "c1", &["one.example"], Some("call")),
    ];
    for (identity, project, certificate, domains, denied) in table {
        assert_eq!(
            check(&two, identity, project, certificate, domains),
            denied,
            "{identity} {project} {certificate} {domains:?}"
        );
    }
    let first = Policy(two.0[..1].to_vec());
    assert_eq!(first.check(&one, &described(&ANY, "p2", "c1", &["one.example"])), Err(Denied("method")));
}

#[test]
fn a_domain_is_within_a_suffix_label_by_label() {
    let policy = policy("[[policy]]\nidentity = 'anyone'\ndomains = ['Example.com.']").unwrap();
    for right in ["example.com", "a.example.com", "A.B.EXAMPLE.COM", "example.com.", "*.example.com"] {
        assert_eq!(check(&policy, &Identity::Nobody, "p", "c", &[right]), None, "{right}");
    }
    for wrong in ["badexample.com", "example.com.evil", "com", "example.co", "a.example.com..", "example.org"] {
        assert_eq!(check(&policy, &Identity::Nobody, "p", "c", &[wrong]), Some("domain"), "{wrong}");
    }
}

#[test]
fn every_fault_of_every_rule_is_named() {
    let faults = policy(
        "[[policy]]\nidentity = 'cn:me'\nproject = ['p']\n[[policy]]\nmethods = ['Nope']\ndomains = ['*.example']\ncertificates = []\nprojects = 'p'",
    )
    .unwrap_err();
    let parts = [
        "project is no key",
        "identity must be",
        "needs an identity",
        "projects must be",
        "certificates must be",
        "domains must be",
        "methods has",
    ];
    for part in parts {
        assert_eq!(faults.iter().filter(|fault| fault.contains(part)).count(), 1, "{part}: {faults:?}");
    }
    assert_eq!(faults.len(), parts.len());
    for wrong in [
        "spiffe://",
        "spiffe://*",
        "spiffe:///a",
        "spiffe://t/*/a",
        "spiffe://t/a*",
        "uid:me",
        "dns:",
        "dns:*.a",
        "Anyone",
        "",
    ] {
        assert!(Principal::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn before_the_project_is_known_only_calls_that_no_project_could_allow_are_denied() {
    let rules = policy(
        "[[policy]]\nidentity = 'uid:1'\nprojects = ['p1']\ndomains = ['a.example']\n\
         [[policy]]\nidentity = 'uid:1'\nprojects = ['p2']\ncertificates = ['c2']\ndomains = ['b.example']\n\
         [[policy]]\nidentity = 'uid:2'\nprojects = ['p1', 'p3']\ndomains = ['a.example']\n\
         [[policy]]\nidentity = 'uid:2'\nprojects = ['p2', 'p3']\ndomains = ['b.example']\n\
         [[policy]]\nidentity = 'uid:3'\ndomains = ['a.example']\n\
         [[policy]]\nidentity = 'uid:3'\nprojects = ['p1']\ncertificates = ['c1']\ndomains = ['b.example']",
    )
    .unwrap();
    let calls: [(u32, &str, &[&str], Option<&str>); 11] = [
        (1, "c1", &["a.example"], None),
        (1, "c1", &["b.example"], Some("domain")),
        (1, "c2", &["b.example"], None),
        (1, "c2", &["a.example", "b.example"], Some("domain")),
        (1, "c1", &["c.example"], Some("domain")),
        (2, "c1", &["a.example", "b.example"], None),
        (3, "c1", &["a.example"], None),
        (3, "c1", &["a.example", "b.example"], None),
        (3, "c2", &["b.example"], Some("domain")),
        (3, "c2", &[], Some("domain")),
        (9, "c1", &["a.example"], Some("call")),
    ];
    for (uid, certificate, domains, denied) in calls {
        let request = described(METHODS[0], "", certificate, domains);
        let found = rules.check_without_project(&Identity::Uid(uid), &request).err().map(|Denied(part)| part);
        assert_eq!(found, denied, "{uid} {certificate} {domains:?}");
        // It agrees with the judgement once the project is known, whichever that is.
        let allowed = ["p1", "p2", "p3", "p4"]
            .iter()
            .any(|project| check(&rules, &Identity::Uid(uid), project, certificate, domains).is_none());
        assert_eq!(allowed, denied.is_none(), "{uid} {certificate} {domains:?}");
    }
    let request = described(METHODS[0], "", "c", &["a.example"]);
    assert!(Policy::default().check_without_project(&Identity::Nobody, &request).is_ok());
}

/// A request of a method that names one resource of each kind that the method can name, or of none.
fn request<'a>(method: &'static Method, names: bool, instances: &'a [String]) -> Resources<'a> {
    let mut request = Resources::new(method);
    request.project = "p1";
    if !names {
        return request;
    }
    let can_name = |kind| method.names.contains(&kind);
    if can_name(Kind::Certificate) {
        request.add(Kind::Certificate, "c1");
    }
    match (can_name(Kind::Domain), can_name(Kind::Instance)) {
        (true, false) => request.add(Kind::Domain, "a.example"),
        (true, true) => request.domains.push(Domain { name: "a.example", instances }),
        (false, true) => request.add(Kind::Instance, "i1"),
        (false, false) => {}
    }
    request
}

// Methods that name less.
static GROUPS: Method = Method { names: &[Kind::Project, Kind::ApiGroup], name: "t.S/Groups", ..none() };
static NOTHING: Method = Method { name: "t.S/Nothing", ..none() };
static LIST: Method = Method { names: &[Kind::Project, Kind::Instance], name: "t.S/List", ..none() };
static GET: Method = Method { names: &[Kind::Project, Kind::Certificate], name: "t.S/Get", ..none() };
static NAMES: Method = Method { names: &[Kind::Project, Kind::Domain], name: "t.S/Names", ..none() };

#[test]
fn a_rule_allows_only_methods_that_it_can_judge() {
    let restrictions = [
        ("certificates", "c1", "c2", Kind::Certificate, "certificate"),
        ("domains", "a.example", "b.example", Kind::Domain, "domain"),
        ("instances", "i1", "i2", Kind::Instance, "instance"),
    ];
    let instances = ["i1".to_owned()];
    let methods = METHODS.iter().copied().chain([&ANY, &GROUPS, &NOTHING, &LIST, &GET, &NAMES]);
    for method in methods {
        let denied = |rule: &str, request: &Resources<'_>| {
            let policy = policy(&format!("[[policy]]\nidentity = 'anyone'\n{rule}")).unwrap();
            let before = policy.check_without_project(&Identity::Nobody, request);
            let after = policy.check(&Identity::Nobody, request);
            assert!(before.is_ok() || before == after, "{before:?} {after:?}");
            after.err().map(|Denied(part)| part)
        };
        let full = request(method, true, &instances);
        let bare = request(method, false, &instances);
        for open in ["", "projects = ['p1']"] {
            assert_eq!((denied(open, &full), denied(open, &bare)), (None, None), "{} {open}", method.name);
        }
        assert_eq!(denied("projects = ['p2']", &full), Some("project"), "{}", method.name);
        for (key, right, wrong, kind, part) in restrictions {
            let is_judged = method.names.contains(&kind);
            let allows = format!("{key} = ['{right}']");
            let refuses = format!("{key} = ['{wrong}']");
            assert_eq!(denied(&allows, &full), (!is_judged).then_some(part), "{} {allows}", method.name);
            assert_eq!(denied(&refuses, &full), Some(part), "{} {refuses}", method.name);
            assert_eq!(denied(&allows, &bare), Some(part), "{} {allows}: it names nothing", method.name);
        }
    }
}

/// A method that names nothing.
const fn none() -> Method {
    Method { name: "", is_change: false, names: &[], parameters: &[] }
}

#[test]
fn each_of_several_resources_must_be_allowed() {
    let rules = policy(
        "[[policy]]\nidentity = 'uid:1'\ncertificates = ['c1', 'c2']\n\
         [[policy]]\nidentity = 'uid:2'\ninstances = ['i1', 'i2']\n\
         [[policy]]\nidentity = 'uid:3'\ndomains = ['a.example']\ninstances = ['i1']\n\
         [[policy]]\nidentity = 'uid:3'\ndomains = ['b.example']\ninstances = ['i2']",
    )
    .unwrap();
    let denied =
        |uid, request: &Resources<'_>| rules.check(&Identity::Uid(uid), request).err().map(|Denied(part)| part);
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let (one, two, three, none) = (ids(&["i1"]), ids(&["i2"]), ids(&["i1", "i3"]), ids(&[]));
    for (certificates, part) in
        [(&["c1"][..], None), (&["c2", "c1"], None), (&["c1", "c3"], Some("certificate")), (&[], Some("certificate"))]
    {
        let mut request = Resources::new(&ANY);
        for id in certificates {
            request.add(Kind::Certificate, id);
        }
        assert_eq!(denied(1, &request), part, "{certificates:?}");
    }
    for (uid, domains, part) in [
        (2, vec![("x.example", &one)], None),
        (2, vec![("x.example", &one), ("y.example", &two)], None),
        (2, vec![("x.example", &three)], Some("instance")),
        (2, vec![("x.example", &one), ("y.example", &none)], Some("instance")),
        (3, vec![("a.example", &one), ("b.example", &two)], None),
        (3, vec![("a.example", &two)], Some("instance")),
        (3, vec![("c.example", &one)], Some("domain")),
        (3, vec![], Some("instance")),
    ] {
        let mut request = Resources::new(&ANY);
        request.domains.extend(domains.iter().map(|(name, instances)| Domain { name, instances }));
        assert_eq!(denied(uid, &request), part, "{uid} {domains:?}");
    }
    let mut both = Resources::new(&ANY);
    both.add(Kind::Instance, "i3");
    both.domains.push(Domain { name: "x.example", instances: &one });
    assert_eq!(denied(2, &both), Some("instance"), "one beside the domain, too");
}
