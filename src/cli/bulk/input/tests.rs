//! Files as people write them, right and wrong.

use super::*;

fn read(text: &str, name: &str) -> Result<Vec<Group>, String> {
    super::read(text.as_bytes(), Path::new(name), Action::Attach)
}

fn entry(domain: &str, instance_ids: &[&str], flag: Option<bool>) -> Entry {
    Entry {
        domain: domain.into(),
        instance_ids: instance_ids.iter().map(|id| (*id).into()).collect(),
        verified_client_certificate_enabled: flag,
    }
}

#[test]
fn every_spelling_of_the_same_file_is_the_same() {
    let expected = [
        Group {
            certificate_id: "c1".into(),
            entries: vec![entry("a.example.com", &["i", "j"], Some(true)), entry("b.example.com", &[], None)],
        },
        Group { certificate_id: "c2".into(), entries: vec![entry("c.example.com", &["i"], Some(false))] },
    ];
    let header = "certificate_id,domain,instance_ids,verified_client_certificate_enabled";
    let rows = "c1,a.example.com,i j,true\nc2,c.example.com,i,false\nc1,b.example.com,,";
    for text in [
        format!("{header}\n{rows}\n"),
        format!("{header}\n{rows}"),
        format!("\u{feff}{header}\n\n{rows}\n\n"),
        format!("{header}\n{rows}\n").replace('\n', "\r\n"),
        format!("{header}\n{}\n", rows.replace(",,", "")),
        format!("{header}\n{}\n", rows.replace(',', " , ")),
        format!("{header}\n{}\n", rows.replace("true", "\"TRUE\"")),
        format!("{header}\n{rows}\n{rows}\n"),
    ] {
        assert_eq!(read(&text, "domains.csv").as_deref(), Ok(&expected[..]), "{text:?}");
    }
    let moved = "domain,certificate_id,verified_client_certificate_enabled,instance_ids\n\
                 a.example.com,c1,true,i j\nc.example.com,c2,false,i\nb.example.com,c1\n";
    assert_eq!(read(moved, "domains.csv").as_deref(), Ok(&expected[..]));
    let lines = r#"{"certificate_id": "c1", "domain": "a.example.com", "instance_ids": ["i", "j"], "verified_client_certificate_enabled": true}
        {"certificate_id": "c2", "domain": "c.example.com", "instance_ids": "i", "verified_client_certificate_enabled": false}

        {"certificate_id": "c1", "domain": "b.example.com", "instance_ids": null}"#;
    for name in ["domains.jsonl", "-", "domains.txt"] {
        assert_eq!(read(lines, name).as_deref(), Ok(&expected[..]));
    }
}

#[test]
fn two_columns_are_enough() {
    let expected = Group { certificate_id: "c".into(), entries: vec![entry("a.example.com", &[], None)] };
    assert_eq!(read("certificate_id,domain\nc,a.example.com\n", "-"), Ok(vec![expected]));
}

#[test]
fn a_fault_is_told_with_its_line() {
    let long = format!("certificate_id,domain\nc,{}\n", "a".repeat(254));
    for (text, says) in [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("certificate_id,domain\n", "has no domains"),
        (
            "certificate_id,domian\nc,a.example.com\n",
            "line 1: unknown column \"domian\"; the columns are certificate_id,",
        ),
        ("domain\na.example.com\n", "line 1: the columns certificate_id and domain are required"),
        ("domain,domain\n", "line 1: column domain is there twice"),
        ("c,a.example.com\n", "line 1: unknown column \"c\""),
        ("certificate_id,domain\nc,a.example.com\nc\n", "line 3: certificate_id and domain must not be empty"),
        ("certificate_id,domain\nc,a.example.com,i\n", "line 2: has 3 fields, but the header 2"),
        (
            "certificate_id,domain\nc,\"a.example.com\nc,b.example.com\n",
            "line 2: \"a.example.com\\nc,b.example.com\" is not",
        ),
        ("certificate_id,domain\n../c,a.example.com\n", "line 2: \"../c\" is not a certificate's id"),
        ("certificate_id,domain,instance_ids\nc,a.example.com,i/j\n", "line 2: \"i/j\" is not an instance's id"),
        (&long, "line 2: \"aaaa"),
        (
            "certificate_id,domain,verified_client_certificate_enabled\nc,a.example.com,yes\n",
            "line 2: \"yes\" is neither",
        ),
        ("certificate_id,domain\nc,\nc,\nc,\n", "(and 2 more faults)"),
        (
            "{\"certificate_id\": \"c\", \"domain\": \"a.example.com\"}\n{\"certificate_id\": \"c\", \"dom",
            "line 2: EOF while",
        ),
        ("{\"certificate_id\": \"c\", \"domian\": \"a.example.com\"}", "line 1: unknown field `domian`"),
        ("{\"certificate_id\": \"c\"}", "line 1: missing field `domain`"),
        (
            "certificate_id,domain\nc,a.example.com\nd,A.example.com\n",
            "line 3: A.example.com has another certificate in line 2",
        ),
        (
            "certificate_id,domain,instance_ids,verified_client_certificate_enabled\n\
             c,a.example.com,i j,true\nc,a.example.com,j,false\n",
            "line 3: a.example.com has another verification of clients in line 2",
        ),
    ] {
        let fault = read(text, "domains.csv").expect_err(text);
        assert!(fault.contains(says), "{text:?}: {fault}");
        assert_eq!(fault.lines().count(), 1, "{fault}");
    }
    let fault = super::read(b"certificate_id,domain\nc,\xff\n", Path::new("-"), Action::Attach).unwrap_err();
    assert_eq!(fault, "line 2: is not UTF-8");
}

#[test]
fn instances_apart_do_not_contradict_and_detaching_may_name_two_certificates() {
    let apart = "certificate_id,domain,instance_ids\nc,a.example.com,i\nd,a.example.com,j\n";
    assert_eq!(read(apart, "-").map(|groups| groups.len()), Ok(2));
    let both = b"certificate_id,domain\nc,a.example.com\nd,a.example.com\n";
    assert_eq!(super::read(both, Path::new("-"), Action::Detach).map(|groups| groups.len()), Ok(2));
}
