//! Assembles a status within the header space of a client: by default 8 KiB, past which a C-core client reports
//! `RESOURCE_EXHAUSTED` in place of the error.

use tonic::{Code, Status};

use super::detail::{self, Detail};

/// The space of message and details as they travel. The rest of 8 KiB is for ids and the usual headers.
const BUDGET: usize = 7_300;

/// The longest opaque text that fits beside the longest message.
pub(super) const MOST_OPAQUE: usize = 1_024;

/// Builds a status. When the details do not fit, the last ones are left out first; the first always stays.
pub(super) fn status(code: Code, message: &str, mut details: Vec<Detail>) -> Status {
    // At most: `grpc-message` is percent-encoded, but not every mark is.
    let encoded_message: usize = message.bytes().map(|byte| if byte.is_ascii_alphanumeric() { 1 } else { 3 }).sum();
    let mut encoded = detail::encode(code, message, &details);
    while encoded_message + encoded.len().div_ceil(3) * 4 > BUDGET && details.len() > 1 {
        details.pop();
        encoded = detail::encode(code, message, &details);
    }
    Status::with_details(code, message, encoded)
}
