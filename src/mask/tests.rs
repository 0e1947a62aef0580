use proptest::prelude::*;

use super::*;

fn mask(secrets: &[&str], text: &str) -> String {
    Masker::new(secrets.iter().map(|secret| secret.as_bytes())).mask(text).into_owned()
}

/// A text as long as an IAM token, without repetitions.
fn token() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-=";
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| char::from(LETTERS[random.usize(..LETTERS.len())])).take(4_096).collect()
}

#[test]
fn a_text_without_secrets_stays_as_it_is() {
    let texts = [
        "",
        "no",
        "Invalid parameter value,parameterName:domain_id.",
        "73d69ae0cfcf460190522d06b60f05ad",
        "é\\\"%41&lt;",
    ];
    for text in texts {
        assert_eq!(mask(&[&token(), "p\"ss wörd", "AKEXAMPLE"], text), text);
        assert!(matches!(Masker::default().mask(text), Cow::Borrowed(_)));
    }
}

#[test]
fn a_secret_is_masked_in_every_spelling() {
    let secret = r#"p"s\s/w<ö>r&d%41 '😀"#;
    for text in [
        r#"p"s\s/w<ö>r&d%41 '😀"#,
        r#"p\"s\\s/w<ö>r&d%41 '😀"#,
        r#"p\"s\\s\/w<ö>r&d%41 '😀"#,
        r"p\u0022s\u005cs\u002Fw\u003c\u00f6\u003er\u0026d\u002541\u0020\u0027\ud83d\ude00",
        r#"p\\\"s\\\\s\\/w<ö>r&d%41 '😀"#,
        r"p\\u0022s\\u005cs\\/w\\u003c\\u00f6>r&d%41 '\\ud83d\\ude00",
        "p%22s%5Cs%2Fw%3C%C3%B6%3Er%26d%2541%20%27%F0%9F%98%80",
        "p%22s%5cs%2fw%3c%c3%b6%3er%26d%2541+%27%f0%9f%98%80",
        "p%2522s%255Cs%252Fw%253C%25C3%25B6%253Er%2526d%252541%2520%2527%25F0%259F%2598%2580",
        r"p&quot;s\s/w&lt;ö&gt;r&amp;d%41 &#39;😀",
        r"p&#34;s&#x5C;s&#x2f;w&lt;&#246;&gt;r&amp;d%41 &apos;&#128512;",
        r"p&amp;quot;s\s/w&amp;lt;ö&amp;gt;r&amp;amp;d%41 &amp;#39;😀",
        r"p\x22s\x5cs/w<\xc3\xb6>r&d%41 \'😀",
        "cCJzXHMvdzzDtj5yJmQlNDEgJ/CfmIA=",
        "cCJzXHMvdzzDtj5yJmQlNDEgJ_CfmIA",
        "cCJzXHMvdzzDtj5yJmQlNDEgJ\\/CfmIA=",
    ] {
        let masked = mask(&[secret], &format!("bad {text} here"));
        assert!(["bad *** here", "bad ***= here", "bad ***"].contains(&masked.as_str()), "{text}: {masked}");
    }
}

#[test]
fn base64_of_more_than_the_secret_is_masked_wherever_its_groups_lie() {
    // "u:" and "us:" before "correct horse battery"
    for text in [
        "Basic dTpjb3JyZWN0IGhvcnNlIGJhdHRlcnk=",
        "Basic dXM6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5",
        "/eHl6/Y29ycmVjdCBob3JzZSBiYXR0ZXJ5",
    ] {
        let masked = mask(&["correct horse battery"], text);
        assert!(masked.contains("***") && masked.len() < 16, "{masked}");
    }
}

#[test]
fn parts_of_a_secret_are_masked() {
    let token = token();
    for (start, length) in
        [(0, 12), (1, 12), (2, 12), (3, 13), (4, 14), (777, 12), (778, 15), (1_000, 3_000), (4_084, 12)]
    {
        let part = &token[start..start + length];
        assert_eq!(mask(&[&token], &format!("got ({part})")), "got (***)", "{start} {length}");
        let written: String = part.bytes().map(|byte| ["%", &hex(u32::from(byte), 2)].concat()).collect();
        assert_eq!(mask(&[&token], &format!("got ({written})")), "got (***)", "{start} {length}");
    }
    assert_eq!(mask(&[&token], &format!("{}\n{}", &token[5..70], &token[70..99])), "***\n***");
    let short = &token[100..111];
    assert_eq!(mask(&[&token], &format!("got ({short})")), format!("got ({short})"), "too short to tell");
}

#[test]
fn a_short_secret_is_masked_where_it_is_a_word() {
    assert_eq!(mask(&["key"], "key keys monkey \"key\" a=key&b"), "*** keys monkey \"***\" a=***&b");
    assert_eq!(mask(&["p\"w"], r#"is p\"w. or p&quot;w"#), "is ***. or ***");
    assert_eq!(mask(&["sécret"], "unsécrets s\\u00e9cret"), "un***s ***");
    assert_eq!(mask(&["", "x"], "xx"), "xx");
}

#[test]
fn several_secrets_may_touch_and_overlap() {
    assert_eq!(mask(&["abcdefghijkl", "ghijklmnopqrstuv"], "1abcdefghijklmnopqrstuv2abcdefghijkl3"), "1***2***3");
}

#[test]
fn access_key_ids_are_masked_without_knowing_them() {
    for (text, masked) in [
        (
            "Get secretKey failed,ak:HST3W0PLACEHOLDER00X,err:ak not exist",
            "Get secretKey failed,ak:***,err:ak not exist",
        ),
        ("ak HST3W0PLACEHOLDER00X not exist", "ak *** not exist"),
        ("AK: abc", "AK: ***"),
        ("AK access failed to reach the limit,forbidden", "AK access failed to reach the limit,forbidden"),
        ("a break: none", "a break: none"),
        ("é ak:K1 é ak:K2", "é ak:*** é ak:***"),
        ("AK=abc", "AK=***"),
        ("ak ABC Not Exist", "ak *** Not Exist"),
        ("the ak not exist", "the ak not exist"),
        ("ak ABCDEFGHIJ0123456789", "ak ***"),
        ("break: it", "break: it"),
        ("\"ak\":\"abc\"", "\"ak\":\"***\""),
    ] {
        assert_eq!(mask(&[], text), masked);
        assert_eq!(mask(&["unrelated"], text), masked);
    }
}

#[test]
fn endless_repetition_is_masked_whole_instead_of_compared_for_ever() {
    let secret = "a".repeat(4_096);
    assert_eq!(mask(&[&secret], &format!("no {}", "a".repeat(65_536))), "***");
    // A text that takes less work is not masked as a whole.
    let token = token();
    let text = format!("{} {token} {}", "-".repeat(6_000), "x".repeat(6_000));
    let masked = mask(&[&token], &text);
    assert!(masked.contains("- *** x") && masked.len() == text.len() - token.len() + 3);
    assert_eq!(mask(&[&"ab".repeat(6)], &"ab".repeat(100)), "***");
}

fn hex(number: u32, digits: usize) -> String {
    format!("{number:0digits$x}")
}

/// Encodings of a text that servers use.
fn write(how: u8, text: &str) -> String {
    match how {
        0 => text.to_owned(),
        1 => {
            let quoted = serde_json::Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        }
        2 => text.encode_utf16().map(|unit| ["\\u", &hex(u32::from(unit), 4)].concat()).collect(),
        3 => percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string(),
        4 => text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
            .replace('\'', "&#39;"),
        _ => text.chars().map(|letter| ["&#", &u32::from(letter).to_string(), ";"].concat()).collect(),
    }
}

proptest! {
    /// The alphabet consists mostly of characters of escapes.
    #[test]
    fn no_secret_survives_however_it_is_written(
        secret in r#"[a-f0-5un%&;#x\\"/'<>+ é密😀]{12,60}"#,
        steps in proptest::collection::vec(0_u8..6, 0..3),
        before in "[a-z ]{0,20}",
        after in "[a-z ]{0,20}",
    ) {
        let written = steps.iter().fold(secret.clone(), |text, how| write(*how, &text));
        let masked = mask(&[&secret], &format!("{before}({written}){after}"));
        prop_assert_eq!(masked, format!("{before}(***){after}"));
    }

    #[test]
    fn every_access_key_id_is_masked(before in "[a-z ,.é]{0,20}", key in "[A-Z0-9]{16,40}", after in "([ ,.é].{0,20})?") {
        let text = format!("{before},ak:{key}{after}");
        prop_assert!(!mask(&[], &text).contains(&key));
    }

    #[test]
    fn any_text_and_any_secret_are_taken(text in any::<String>(), secrets in proptest::collection::vec(any::<Vec<u8>>(), 0..3)) {
        let masked = Masker::new(secrets.iter().map(Vec::as_slice)).mask(&text).into_owned();
        prop_assert!(masked.len() <= 2 * text.len() + 3 * MASK.len() * (text.len() + 1));
    }

    #[test]
    fn a_part_of_a_token_is_masked_in_a_random_text(start in 0_usize..4_084, length in 12_usize..200, text in ".{0,60}") {
        let token = token();
        let part = &token[start..(start + length).min(token.len())];
        let masked = mask(&[&token], &format!("{text}({part}){text}"));
        prop_assert!(!masked.contains(part));
        prop_assert!(masked.contains("(***)"), "{}", masked);
    }
}

#[test]
fn a_long_text_is_cut_and_the_part_of_a_secret_before_the_cut_is_masked() {
    let secret = "0123456789abcdefghijklmnopqrstuvwxyz";
    let text = "é".repeat((LONGEST - 20) / 2) + secret + &"x".repeat(1 << 20);
    let masked = Masker::new([secret.as_bytes()]).mask(&text).into_owned();
    assert!(masked.len() <= LONGEST && masked.ends_with(MASK), "{}", masked.len());
}

#[test]
fn a_private_key_is_masked_whatever_becomes_of_its_line_ends() {
    let lines =
        ["-----BEGIN PRIVATE KEY-----", &token()[..64], &token()[64..128], "J8P+OO==", "-----END PRIVATE KEY-----"];
    for end in ["\n", "\r\n"] {
        let key = lines.map(|line| format!("{line}{end}")).concat();
        for other in ["\n", "\r\n", "\\n", "\\r\\n", "%0A", "", " ", ", ", "\n> ", "\u{2028}"] {
            let masked = mask(&[&key], &format!("before: {}", lines.join(other)));
            assert!(masked.starts_with("before: ***"), "{masked}");
            for line in lines {
                assert!(!masked.contains(line), "{other:?}: {masked}");
            }
        }
        assert_eq!(mask(&[&key], "the key (J8P+OO==) of 'name'"), "the key (***) of 'name'");
    }
    assert_eq!(mask(&["a\nof\nthe\n"], "the name of a file"), "the name of a file", "lines of less are words");
}
