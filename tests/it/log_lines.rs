//! The form of log lines: no object has two members of one name, of which readers would keep either.

use std::{collections::HashSet, fmt, fs, path::Path};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::support::{Caller, Cloud, Program, Reply, documented, failed};

/// Any JSON without an object that has a member twice.
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some((name, Self)) = members.next_entry::<String, Self>()? {
            if names.contains(&name) {
                return Err(A::Error::custom(format!("two members {name}")));
            }
            names.insert(name);
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self, A::Error> {
        while values.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}

#[tokio::test]
async fn no_line_has_a_member_twice() {
    let refused = Reply::refused(401, "APIG.0301", "Incorrect IAM authentication information");
    let script = [refused, Reply::with(503, &[], b""), Reply::with(502, &[], b"{}"), Reply::attached()];
    let cloud = Cloud::answering(script).await;
    let upstream = format!("http://{}", cloud.address);
    let arguments =
        ["--upstream", &upstream, "--credentials", "token", "--breaker-threshold", "1", "--log-level", "debug"];
    let (mut program, address) = Program::serve(&arguments, &[("APIG_GATEWAY_TOKEN", "t")]).await;
    let calls = async {
        let caller = Caller::of(&address).await;
        assert_eq!(failed(caller.attach(documented()).await).verdict().1, "CREDENTIALS_REFUSED");
        for _ in 0..3 {
            failed(caller.attach(documented()).await);
        }
    };
    let log = Box::pin(program.log_of(calls)).await;
    for part in ["refuses the gateway's credentials", "the circuit to the upstream changed", "call ended"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    for line in log.lines() {
        if let Err(fault) = serde_json::from_str::<Strict>(line) {
            panic!("{fault}: {line}");
        }
    }
}

/// The arguments of each use of a macro.
fn uses<'a>(source: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    source.match_indices(name).filter_map(move |(at, _)| {
        let is_whole = !source[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        let arguments = &source[at + name.len()..];
        let mut depth = 1;
        let end = arguments.find(|letter| {
            depth += match letter {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        })?;
        is_whole.then_some(&arguments[..end])
    })
}

/// Fields with names that the form of a line has taken.
fn taken<'a>(arguments: &'a str, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
    arguments
        .split(',')
        .map(|argument| argument.split('=').next().unwrap_or_default().trim().trim_start_matches(['?', '%']))
        .filter(|name| names.contains(name))
}

fn check(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check(&path);
        } else {
            let source = fs::read_to_string(&path).unwrap();
            for name in ["error!(", "warn!(", "info!(", "debug!(", "trace!("] {
                for arguments in uses(&source, name) {
                    let found: Vec<_> = taken(arguments, &["message", "level", "timestamp", "span"]).collect();
                    assert!(found.is_empty(), "{}: {name}{arguments}): {found:?}", path.display());
                }
            }
            for arguments in uses(&source, "_span!(") {
                assert_eq!(taken(arguments, &["name"]).count(), 0, "{}: {arguments}", path.display());
            }
        }
    }
}

#[test]
fn no_field_has_the_name_of_a_member_that_every_line_has() {
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let broken = r#"warn!(code = 1, message = refusal.message, ?level, "text"); other_warn!(span, "text")"#;
    let found: Vec<_> = uses(broken, "warn!(").flat_map(|one| taken(one, &["message", "level", "span"])).collect();
    assert_eq!(found, ["message", "level"]);
}
