//! The invariants of every configuration: no panic, and no secret in its faults or its description. Shared by the fuzz target
//! and the tests.
//!
//! An input is a byte that chooses a secret and its source, a line that is the secret's value as it would be written, the
//! file up to a line `---`, and a line for each variable.

use std::collections::BTreeMap;

use apig_grpc_gateway::config::{Config, SETTINGS, Sources};

/// Stands in a secret's value wherever the input has `@`.
const CANARY: &str = "Zq7kCanary4Wm9";

/// Ends of keys for files that are read with the configuration. Inputs may name only files that do not exist.
const FILES: [&str; 4] = ["_file", "_ca", "_certificate", "_key"];

struct Input {
    file: String,
    variables: BTreeMap<String, String>,
}

fn read(input: &[u8]) -> Option<Input> {
    let (choice, text) = input.split_first()?;
    let text = std::str::from_utf8(text).ok()?;
    let (value, rest) = text.split_once('\n')?;
    // A secret is where the value says so, and nowhere else.
    if rest.contains(CANARY) {
        return None;
    }
    let value = value.replace(['\r', '\0'], "").replace('@', CANARY);
    let (file, variables) = rest.split_once("\n---\n").unwrap_or((rest, ""));
    let mut variables: BTreeMap<String, String> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let secrets: Vec<_> = SETTINGS.iter().filter(|setting| setting.secret).collect();
    let secret = secrets.get(usize::from(choice >> 1) % secrets.len())?;
    let mut file = file.to_owned();
    if choice & 1 == 0 {
        // Before all else: after an open string or table it would be part of that.
        file = format!("{} = {value}\n{file}", secret.file_key());
    } else {
        variables.insert(secret.variable(), value);
    }
    names_no_file(&file, &variables).then_some(Input { file, variables })
}

/// A path could be a device that never ends, or a FIFO that nobody writes to.
fn names_no_file(file: &str, variables: &BTreeMap<String, String>) -> bool {
    let is_file = |key: &str| FILES.iter().any(|end| key.to_ascii_lowercase().ends_with(end));
    let is_harmless = |value: &str| !value.contains('/');
    let of_variables = variables.iter().all(|(name, value)| (!is_file(name) && name != "HOME") || is_harmless(value));
    let table: toml::Table = file.parse().unwrap_or_default();
    let of_table =
        |table: &toml::Table| table.iter().all(|(key, value)| !is_file(key) || value.as_str().is_none_or(is_harmless));
    let lists = table.values().filter_map(|value| value.as_array()).flatten();
    of_variables && of_table(&table) && lists.filter_map(|value| value.as_table()).all(of_table)
}

/// Checks the configuration, or the faults, that these bytes become; says whether it was loaded, `None` when the bytes are
/// no input.
pub(crate) fn check(input: &[u8]) -> Option<bool> {
    let Input { file, variables } = read(input)?;
    let environment = |name: &str| variables.get(name).cloned();
    let sources = Sources { environment: Some(&environment), file: Some(file), ..Default::default() };
    let loaded = Config::load(sources);
    let is_loaded = loaded.is_ok();
    let shown = match loaded {
        Ok(config) => format!("{}\n{config:?}", config.describe()),
        Err(faults) => {
            assert!(!faults.0.is_empty());
            format!("{faults}\n{faults:?}")
        }
    };
    assert!(!shown.contains(CANARY), "a secret is shown: {shown}");
    Some(is_loaded)
}
