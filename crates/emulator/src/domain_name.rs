//! Matches domain names against the two documented patterns.

/// Whether the name matches the plain or the wildcard pattern:
///
/// ```text
/// ^([a-zA-Z0-9]([a-zA-Z0-9-_]{0,61}[a-zA-Z0-9_])?\.){1,7}[a-zA-Z]{2,64}\.?$
/// ^[*](\.[a-zA-Z0-9_]([a-zA-Z0-9-_]{0,61}[a-zA-Z0-9_])?){1,6}\.[a-zA-Z]{2,64}\.?$
/// ```
///
/// They are documented for the creation of a domain; checking them for an attachment is our choice.
pub(super) fn is_valid(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let Some((labels, top)) = name.rsplit_once('.') else {
        return false;
    };
    let labels: Vec<&str> = labels.split('.').collect();
    let labels_fit = match labels.split_first() {
        Some((&"*", rest)) => (1..=6).contains(&rest.len()) && rest.iter().all(|label| is_label(label, true)),
        _ => labels.len() <= 7 && labels.iter().all(|label| is_label(label, false)),
    };
    labels_fit && (2..=64).contains(&top.len()) && top.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Up to 63 letters, digits, underscores and hyphens. A hyphen is neither first nor last; an
/// underscore is first only in the wildcard pattern.
fn is_label(label: &str, may_start_with_underscore: bool) -> bool {
    let (Some(first), Some(last)) = (label.bytes().next(), label.bytes().last()) else {
        return false;
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    label.len() <= 63
        && label.bytes().all(|byte| word(byte) || byte == b'-')
        && (first.is_ascii_alphanumeric() || (may_start_with_underscore && first == b'_'))
        && word(last)
}
