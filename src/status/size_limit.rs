//! Assembles a status within the header space of a client: by default 8 KiB, past which a C-core client reports
//! `RESOURCE_EXHAUSTED` in place of the error.

use tonic::{Code, Status};
use tonic_types::{ErrorDetail, StatusExt as _};

/// The space of message and details as they travel. The rest of 8 KiB is for ids and the usual headers.
const BUDGET: usize = 7_300;

/// The longest opaque text that fits beside the longest message.
pub(super) const MOST_OPAQUE: usize = 1_024;

/// Builds a status. When the details do not fit, the last ones are left out first; the first always stays.
pub(super) fn status(code: Code, message: &str, details: Vec<ErrorDetail>) -> Status {
    // At most: `grpc-message` is percent-encoded, but not every mark is.
    let encoded_message: usize = message.bytes().map(|byte| if byte.is_ascii_alphanumeric() { 1 } else { 3 }).sum();
    let mut status = Status::with_error_details_vec(code, message, details);
    while encoded_message + status.details().len().div_ceil(3) * 4 > BUDGET {
        // Rarely: read back, so that the usual case pays for no copies.
        let mut details = status.get_error_details_vec();
        if details.len() <= 1 {
            break;
        }
        details.pop();
        status = Status::with_error_details_vec(code, message, details);
    }
    status
}
