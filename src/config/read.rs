//! Reads values from the sources and collects their faults.

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use zeroize::{Zeroize as _, Zeroizing};

use super::{Given, SETTINGS, Setting, Source, Sources};

/// The given values, and the faults so far.
pub(super) struct Reader<'a> {
    sources: Sources<'a>,
    file: BTreeMap<String, Zeroizing<String>>,
    tables: BTreeMap<String, Vec<toml::Table>>,
    faults: Vec<String>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(mut sources: Sources<'a>) -> Self {
        let mut faults = Vec::new();
        let text = sources.file.take().map(Zeroizing::new);
        let (file, tables) = text.map(|text| file_values(&text, &mut faults)).unwrap_or_default();
        Self { sources, file, tables, faults, notes: Vec::new(), warnings: Vec::new() }
    }

    /// The value of a setting, from the source that takes precedence.
    fn given(&self, setting: &Setting) -> Option<Given> {
        let socket = self.sources.sockets.get(setting.key).cloned().map(Zeroizing::new);
        let socket = socket.map(|text| Given { text, source: Source::Socket });
        let flag = self.sources.flags.get(setting.key).cloned().map(Zeroizing::new);
        let flag = flag.map(|text| Given { text, source: Source::Flag });
        let variable = || {
            let text = Zeroizing::new(self.sources.environment?(&setting.variable())?);
            Some(Given { text, source: Source::Environment })
        };
        let file = || {
            let text = self.file.get(&setting.file_key())?.clone();
            Some(Given { text, source: Source::File })
        };
        socket.or(flag).or_else(variable).or_else(file)
    }

    /// The value as text, or its default.
    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        let setting = find(key);
        self.given(setting)
            .map(|mut given| std::mem::take(&mut *given.text))
            .or_else(|| setting.default.map(str::to_owned))
    }

    /// Whether the value came as a flag.
    pub(super) fn is_flag(&self, key: &'static str) -> bool {
        self.given(find(key)).is_some_and(|given| matches!(given.source, Source::Flag))
    }

    /// Notes a fault, with the source of the value.
    pub(super) fn fault(&mut self, key: &'static str, what: impl Display) {
        let setting = find(key);
        let source = match self.given(setting).map(|given| given.source) {
            Some(Source::Socket) => " (socket activation)".to_owned(),
            Some(Source::Flag) => format!(" (--{key})"),
            Some(Source::Environment) => format!(" ({})", setting.variable()),
            Some(Source::File) => " (file)".to_owned(),
            None => String::new(),
        };
        self.faults.push(format!("{key}{source} {what}"));
    }

    /// Returns a valid value, and notes the fault of any other.
    pub(super) fn check<T, E: Display>(&mut self, key: &'static str, result: Result<T, E>) -> Option<T> {
        result.map_err(|what| self.fault(key, what)).ok()
    }

    pub(super) fn one_of(&mut self, key: &'static str, choices: &[&'static str]) -> Option<&'static str> {
        let text = self.text(key)?;
        let found = choices.iter().find(|choice| **choice == text).copied();
        if found.is_none() {
            self.fault(key, format_args!("must be one of {}", choices.join(", ")));
        }
        found
    }

    /// A duration other than zero.
    pub(super) fn duration(&mut self, key: &'static str) -> Duration {
        let duration = self.duration_or_zero(key);
        if duration.is_zero() && !self.faults.iter().any(|fault| fault.starts_with(&format!("{key} "))) {
            self.fault(key, "must be longer than 0s");
        }
        duration
    }

    pub(super) fn duration_or_zero(&mut self, key: &'static str) -> Duration {
        let text = self.text(key).unwrap_or_default();
        let duration = parse_duration(&text).ok_or("must be a duration such as 250ms, 30s or 5m, at most 24h");
        self.check(key, duration).unwrap_or_default()
    }

    pub(super) fn is_on(&mut self, key: &'static str) -> bool {
        self.one_of(key, &["true", "false"]) == Some("true")
    }

    pub(super) fn number<N>(&mut self, key: &'static str, range: RangeInclusive<N>) -> N
    where
        N: FromStr + PartialOrd + Display + Copy,
    {
        let number = self.text(key).and_then(|text| text.parse().ok());
        self.in_range(key, number, range, "a whole number")
    }

    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<usize>) -> usize {
        let size = self.text(key).and_then(|text| parse_size(&text));
        self.in_range(key, size, range, "a size such as 64KiB or 4MiB")
    }

    fn in_range<N>(&mut self, key: &'static str, number: Option<N>, range: RangeInclusive<N>, what: &str) -> N
    where
        N: PartialOrd + Display + Copy,
    {
        match number {
            Some(number) if range.contains(&number) => number,
            _ => {
                self.fault(key, format_args!("must be {what} from {} to {}", range.start(), range.end()));
                *range.start()
            }
        }
    }

    /// A variable of another program, such as the cloud's SDK.
    pub(super) fn foreign(&self, variable: &str) -> Option<String> {
        self.sources.environment?(variable).filter(|text| !text.is_empty())
    }

    /// Tables of the file under one key, in their order.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<toml::Table> {
        self.tables.remove(key).unwrap_or_default()
    }

    /// Notes a fault of the file's tables, at this place.
    pub(super) fn fault_at(&mut self, place: &str, what: impl Display) {
        self.faults.push(format!("{place} {what}"));
    }

    /// Notes a decision that the configuration left open.
    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Notes something that is ignored.
    pub(super) fn warn(&mut self, text: String) {
        self.notes.push(text.clone());
        self.warnings.push(text);
    }

    /// Everything that is ignored.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// Every setting with its value, all notes, and all faults.
    pub(super) fn finish(self) -> Read {
        let given = |setting: &Setting| {
            let mut given = self.given(setting)?;
            if setting.secret {
                given.text.zeroize();
            }
            Some(given)
        };
        let given = SETTINGS.iter().map(|setting| (setting, given(setting))).collect();
        Read { given, notes: self.notes, faults: self.faults }
    }
}

/// All that was read.
pub(super) struct Read {
    pub(super) given: Vec<(&'static Setting, Option<Given>)>,
    pub(super) notes: Vec<String>,
    pub(super) faults: Vec<String>,
}

fn find(key: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.key == key).expect("config asks only for what the table has")
}

/// Keys of the file for lists of tables.
const TABLES: [&str; 2] = ["identities", "policy"];

type Values = (BTreeMap<String, Zeroizing<String>>, BTreeMap<String, Vec<toml::Table>>);

fn file_values(text: &str, faults: &mut Vec<String>) -> Values {
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(fault) => {
            // The parser's own message quotes the line, which may contain a secret.
            let line =
                fault.span().map_or(1, |span| 1 + text.get(..span.start).unwrap_or_default().matches('\n').count());
            faults.push(format!("the file is not valid TOML: line {line}: {}", fault.message()));
            return Values::default();
        }
    };
    let (mut values, mut tables) = Values::default();
    for (key, value) in table {
        if TABLES.contains(&key.as_str()) {
            match as_tables(value) {
                Some(list) if list.is_empty() => faults.push(format!("{key} (file) {}", empty_list(&key))),
                Some(list) => drop(tables.insert(key, list)),
                None => faults.push(format!("{key} (file) must be a list of tables: [[{key}]]")),
            }
            continue;
        }
        if !SETTINGS.iter().any(|setting| setting.file_key() == key) {
            faults.push(format!("{key} (file) is not a setting"));
            continue;
        }
        match value {
            toml::Value::String(text) => values.insert(key, text.into()),
            toml::Value::Integer(number) => values.insert(key, number.to_string().into()),
            toml::Value::Boolean(truth) => values.insert(key, truth.to_string().into()),
            _ => {
                faults.push(format!("{key} (file) must be a string, a whole number, true or false"));
                None
            }
        };
    }
    (values, tables)
}

/// An empty list is an error: without rules everything is allowed, and an empty list looks like the opposite.
fn empty_list(key: &str) -> &'static str {
    if key == "policy" {
        "must not be empty: remove it, or write a rule with identity = \"anyone\", to allow every call; to allow fewer, write \
         [[policy]] rules"
    } else {
        "must not be empty: remove it, or write [[identities]] tables"
    }
}

/// Wipes the texts of tables, which may be secrets.
pub(super) fn wipe(tables: &mut [toml::Table]) {
    for (_, value) in tables.iter_mut().flat_map(toml::Table::iter_mut) {
        if let toml::Value::String(text) = value {
            text.zeroize();
        }
    }
}

fn as_tables(value: toml::Value) -> Option<Vec<toml::Table>> {
    let toml::Value::Array(list) = value else { return None };
    let table = |value| if let toml::Value::Table(table) = value { Some(table) } else { None };
    list.into_iter().map(table).collect()
}

/// Parses a duration such as `250ms`, `30s` or `5m`, at most a day.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at_checked(unit)?;
    let number: u64 = digits.parse().ok()?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        _ => return None,
    };
    (duration <= Duration::from_secs(24 * 3600)).then_some(duration)
}

fn parse_size(text: &str) -> Option<usize> {
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(unit)?;
    let number: usize = digits.parse().ok()?;
    number.checked_mul(match unit {
        "" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        _ => return None,
    })
}
