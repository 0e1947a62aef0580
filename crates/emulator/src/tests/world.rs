//! Worlds: consistency checks and the summary.

use super::super::domain_name::is_valid;
use super::*;

#[test]
fn every_inconsistency_is_named() {
    let error = World::from_toml(
        r#"
        projects = [
            { id = "p", name = "north" }, { id = "p", name = "again" }, { id = "q", name = "north" },
        ]
        users = [
            { name = "u", password = "x", account = "a", projects = ["p", "nowhere"], may_attach = true },
            { name = "u", password = "y", account = "a", projects = ["p"], may_attach = true },
        ]
        keys = [
            { access = "k", secret = "x", user = "u" }, { access = "k", secret = "y", user = "nobody" },
        ]
        workloads = [
            { kind = "machine", user = "u" }, { kind = "machine", user = "u", has_token_step = false },
            { kind = "container", user = "nobody", token = "x" },
        ]
        tokens = [
            { value = "t", user = "nobody", project = "p" },
            { value = "t", user = "u", project = "q" },
            { value = "two words", user = "u", project = "p" },
        ]
        instances = [{ id = "i", project = "p" }, { id = "i", project = "elsewhere" }]
        certificates = [
            { id = "c", name = "c", project = "p", has_trusted_root_ca = false, instance = "none" },
            { id = "c", name = "c", project = "gone", has_trusted_root_ca = false },
        ]
        domains = [
            { id = "d", name = "a.example.com", project = "p", group_id = "g", group_name = "g", instances = ["i", "i"] },
            { id = "d", name = "a.example.com", project = "p", group_id = "g", group_name = "g", instances = ["j"] },
            { id = "e", name = "localhost", project = "lost", group_id = "g", group_name = "g", instances = [] },
            { id = "f", name = "b.example.com", project = "q", group_id = "g", group_name = "g", instances = ["i"] },
        ]
        faults = [
            { certificate = "c", status = 500, body = "" },
            { certificate = "c", status = 500, body = "" },
            { certificate = "x", status = 500, body = "" },
        ]
        "#,
    )
    .unwrap_err();
    let expected = [
        "project id p is given more than once",
        "project name north is given more than once",
        "user u is given more than once",
        "access key k is given more than once",
        "token t is given more than once",
        "instance id i is given more than once",
        "certificate id c is given more than once",
        "domain id d is given more than once",
        "fault of certificate c is given more than once",
        "in project p, domain a.example.com is given more than once",
        "in domain a.example.com, instance i is given more than once",
        "user u is in project nowhere, which does not exist",
        "instance i is in project elsewhere, which does not exist",
        "certificate c is in project gone, which does not exist",
        "domain localhost is in project lost, which does not exist",
        "token t is of user nobody, who does not exist",
        "token t is for project q, which user u does not have",
        "access key k is of user nobody, who does not exist",
        "a workload has the rights of user nobody, who does not exist",
        "only one workload of kind machine is allowed",
        "certificate c is for instance none, which its project does not have",
        "domain a.example.com is on instance j, which its project does not have",
        "domain b.example.com is on instance i, which its project does not have",
        "a fault is of certificate x, which does not exist",
        "token \"two words\" does not fit into a header",
        "domain \"localhost\" matches neither documented pattern",
        "domain localhost is on no instance",
    ];
    let text = error.to_string();
    for line in expected {
        assert!(text.lines().any(|found| found == line), "{line:?} is missing from\n{text}");
    }
    for found in text.lines() {
        assert!(expected.contains(&found), "{found:?} was not expected");
    }
}

#[test]
fn a_value_that_cannot_be_is_an_error_at_its_line() {
    let fault = |rest: &str| format!("[[faults]]\ncertificate = \"c\"\nbody = \"\"\n{rest}");
    for (text, complaint) in [
        ("[[projects]]\nid = \"p\"\nname = \"n\"\ncolour = 1".to_owned(), "unknown field `colour`"),
        ("[[workloads]]\nkind = \"robot\"\nuser = \"u\"".to_owned(), "unknown variant `robot`"),
        ("[[planets]]".to_owned(), "unknown field `planets`"),
        ("[[projects]]\nid = \"p\"".to_owned(), "missing field `name`"),
        (fault("status = 100"), "not a status from 200 to 599"),
        (fault("status = 500\nheaders = { \"a b\" = \"x\" }"), "\"a b\" is not a header name"),
        (fault("status = 500\nheaders = { a = \"\\n\" }"), "a has a value that no header can have"),
        (fault("status = 500\nheaders = { Content-Length = \"9\" }"), "Content-Length can't be configured"),
        (fault("status = 500\nheaders = { X-Request-Id = \"9\" }"), "X-Request-Id can't be configured"),
        (
            "[[certificates]]\nid = \"c\"\nname = \"n\"\nproject = \"p\"\nhas_trusted_root_ca = false\ncontent = \"\""
                .to_owned(),
            "content: Invalid certificate or private key.",
        ),
        (
            "[[tokens]]\nvalue = \"t\"\nuser = \"u\"\nproject = \"p\"\nexpires_at = \"soon\"".to_owned(),
            "not an HTTP date",
        ),
    ] {
        let error = World::from_toml(&text).unwrap_err().to_string();
        assert!(error.contains("line ") && error.contains(complaint), "{error}");
    }
}

#[test]
fn the_summary_names_everything_that_a_person_needs() {
    let summary = World::documented().to_string();
    for line in [
        "project 73d69ae0cfcf460190522d06b60f05ad  cn-north-4",
        "  certificate a27be832f2e9441c8127fe48e3b5ac67  example_com, global, until 2036-12-22T02:12:23Z",
        "  certificate 1b6f0d83c9a24e57b8d1f4a6e02c7359  example_com_with_ca, global, with trusted root CA",
        "  certificate e94c2a7f5d8041b6a3f7c0b8d1695e2a  one_instance, for instance 7d39549681c54d968ec2910da9da95cd",
        "  certificate d3f8470b6a5e4c1d92b7e8035fa1c69e  done_but_times_out, global, answers 504, although it is changed",
        "  instance 7d39549681c54d968ec2910da9da95cd",
        "  domain api.example.com  on f0fa1789-3b76-433b-a787-9892951c620e",
        "  operator  password demo-operator-password, account demo-account, may attach",
        "  auditor  password demo-auditor-password, account demo-account, may not attach",
        "  DEMOAUDITORKEY000001  secret demo-auditor-secret-key, of auditor",
        "  machine  of operator",
        "  container  of operator, token demo-container-token",
        "  federated  of operator, token demo-federated-token, provider demo-provider",
        "  demo-auditor-token  of auditor, for project 73d69ae0cfcf460190522d06b60f05ad",
    ] {
        assert!(summary.lines().any(|found| found == line), "{line:?} is missing from\n{summary}");
    }
}

#[test]
fn the_documented_patterns_decide_what_a_domain_is() {
    let longest_label = "a".repeat(63);
    let valid = [
        "example.com",
        "a.b.c.d.e.f.g.com",
        "www.example.com.",
        "a_b-c.example.COM",
        "a_.example.com",
        &format!("{longest_label}.com"),
        "*.example.com",
        "*._x.example.com",
        "*.b.c.d.e.f.g.com",
        &format!("example.{}", "a".repeat(64)),
    ];
    let invalid = [
        "",
        ".",
        "com",
        ".com",
        "example..com",
        "example.com..",
        "a.b.c.d.e.f.g.h.com",
        "_a.example.com",
        "-a.example.com",
        "a-.example.com",
        &format!("{longest_label}a.com"),
        "example.c",
        "example.c0m",
        &format!("example.{}", "a".repeat(65)),
        "*.com",
        "*.a.b.c.d.e.f.g.com",
        "a.*.example.com",
        "*a.example.com",
        "exämple.com",
        "www.example.com ",
        "www.example.com:443",
        "192.168.0.1",
    ];
    for name in valid {
        assert!(is_valid(name), "{name}");
    }
    for name in invalid {
        assert!(!is_valid(name), "{name}");
    }
}
