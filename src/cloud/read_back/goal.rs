//! The state that a change asks for, compared with the rows that the cloud lists. It does no I/O.

use std::{borrow::Cow, collections::HashMap};

use crate::pb;

/// The bindings that a change asks for, or asks to end.
#[derive(Debug)]
pub(crate) struct Goal<'a> {
    change: Change,
    bindings: Vec<Binding<'a>>,
    /// The positions of the bindings of a domain, by its comparable name.
    by_name: HashMap<Cow<'a, str>, Domain<'a>>,
    /// A row has a name that is not ASCII: it may be the other spelling of a name in Punycode.
    has_unicode_row: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Attach,
    Detach,
}

/// The positions of the bindings of one domain.
#[derive(Debug, Default)]
struct Domain<'a> {
    on_any: Vec<usize>,
    by_instance: HashMap<Cow<'a, str>, Vec<usize>>,
}

/// A domain on one instance, or on any.
#[derive(Debug)]
struct Binding<'a> {
    name: &'a str,
    is_on_any: bool,
    /// The asked client verification.
    flag: Option<bool>,
    seen: Seen,
}

/// The rows of a binding so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// A row, with the flag that was asked for, or none was.
    Row,
    /// A row that does not say whether it has the flag.
    RowWithoutFlag,
    /// A row with another flag.
    OtherFlag,
}

/// One row of the cloud's list.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) instance: String,
    pub(super) flag: Option<bool>,
}

/// The result of a whole reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// All is as asked.
    Confirmed,
    Observed(Observed),
}

/// The part of a change that a whole reading shows, when it does not confirm the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observed {
    /// All of it, but some of that can't be confirmed.
    All,
    Some,
    None,
}

impl Observed {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Some => "some",
            Self::None => "none",
        }
    }
}

/// The bindings that the request asks for.
pub(crate) fn attached(request: &pb::AttachDomainsRequest) -> Goal<'_> {
    Goal::new(Change::Attach, &request.domains)
}

/// The bindings that the request asks to end.
pub(crate) fn detached(request: &pb::DetachDomainsRequest) -> Goal<'_> {
    Goal::new(Change::Detach, &request.domains)
}

impl<'a> Goal<'a> {
    fn new(change: Change, domains: &'a [pb::AttachOrDetachDomainInfo]) -> Self {
        let (bindings, by_name) = (Vec::with_capacity(domains.len()), HashMap::with_capacity(domains.len()));
        let mut goal = Self { change, bindings, by_name, has_unicode_row: false };
        for entry in domains {
            let flag = entry.verified_client_certificate_enabled.filter(|_| change == Change::Attach);
            let binding = |is_on_any| Binding { name: &entry.domain, is_on_any, flag, seen: Seen::Nothing };
            let domain = goal.by_name.entry(comparable_name(&entry.domain)).or_default();
            if entry.instance_ids.is_empty() {
                domain.on_any.push(goal.bindings.len());
                goal.bindings.push(binding(true));
            }
            for instance in &entry.instance_ids {
                let instance = change.comparable_instance(instance);
                domain.by_instance.entry(instance).or_default().push(goal.bindings.len());
                goal.bindings.push(binding(false));
            }
        }
        goal
    }

    /// The number of domains and instances.
    pub(super) fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Forgets the rows of an earlier reading.
    pub(super) fn reset(&mut self) {
        self.has_unicode_row = false;
        for binding in &mut self.bindings {
            binding.seen = Seen::Nothing;
        }
    }

    /// Takes one row of a reading.
    pub(super) fn see(&mut self, row: &Row) {
        self.has_unicode_row |= !row.name.is_ascii();
        let Some(domain) = self.by_name.get(&comparable_name(&row.name)) else { return };
        let instance = self.change.comparable_instance(&row.instance);
        let on_instance = domain.by_instance.get(&instance).into_iter().flatten();
        for &at in domain.on_any.iter().chain(on_instance) {
            if let Some(binding) = self.bindings.get_mut(at) {
                binding.see(row.flag);
            }
        }
    }

    /// The result of a whole reading.
    pub(super) fn found(&self) -> Found {
        let (mut as_asked, mut confirmed) = (0, 0);
        for binding in &self.bindings {
            let (is_as_asked, is_certain) = match self.change {
                Change::Attach => (
                    matches!(binding.seen, Seen::Row | Seen::RowWithoutFlag),
                    // No list of instances says which ones the cloud had to act on.
                    binding.seen == Seen::Row && !binding.is_on_any,
                ),
                Change::Detach => (binding.seen == Seen::Nothing, !(self.has_unicode_row && is_punycode(binding.name))),
            };
            as_asked += usize::from(is_as_asked);
            confirmed += usize::from(is_as_asked && is_certain && binding.name.is_ascii());
        }
        let all = self.bindings.len();
        match as_asked {
            _ if confirmed == all => Found::Confirmed,
            _ if as_asked == all => Found::Observed(Observed::All),
            0 => Found::Observed(Observed::None),
            _ => Found::Observed(Observed::Some),
        }
    }
}

impl Binding<'_> {
    /// Every row of a binding has to have the flag: one with another flag outweighs all that have it.
    fn see(&mut self, flag: Option<bool>) {
        let row = match (self.flag, flag) {
            (None, _) => Seen::Row,
            (Some(_), None) => Seen::RowWithoutFlag,
            (Some(asked), Some(flag)) if asked == flag => Seen::Row,
            (Some(_), Some(_)) => Seen::OtherFlag,
        };
        self.seen = match (self.seen, row) {
            (Seen::OtherFlag, _) | (_, Seen::OtherFlag) => Seen::OtherFlag,
            (Seen::RowWithoutFlag, _) | (_, Seen::RowWithoutFlag) => Seen::RowWithoutFlag,
            _ => Seen::Row,
        };
    }
}

impl Change {
    /// Ids have two spellings in the cloud's documents, with and without hyphens. The end of a binding is confirmed only if
    /// no row has the id in any spelling; a binding, only if a row has it as the request spells it.
    fn comparable_instance(self, id: &str) -> Cow<'_, str> {
        let is_plain = |byte: &u8| *byte != b'-' && !byte.is_ascii_uppercase();
        if self == Self::Attach || id.as_bytes().iter().all(is_plain) {
            return Cow::Borrowed(id);
        }
        Cow::Owned(
            id.chars().filter(|character| *character != '-').map(|character| character.to_ascii_lowercase()).collect(),
        )
    }
}

/// A domain name without case and without a final dot.
fn comparable_name(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Whether a label of the name is Unicode as ASCII.
fn is_punycode(name: &str) -> bool {
    name.split('.').any(|label| label.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--")))
}

#[cfg(test)]
mod tests;
