//! Secret values: `Debug` does not print them, `Display` is not implemented, and their memory is wiped on drop.

use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, header::InvalidHeaderValue};
use zeroize::{Zeroize, Zeroizing};

/// A password, secret key, security token or private key. Each clone is wiped separately.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret<T: Zeroize = String>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    pub(crate) fn new(value: impl Into<T>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// The secret value.
    pub(crate) fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(_)")
    }
}

/// Bytes shared by all their clones and wiped when the last clone is dropped.
pub(crate) fn bytes(bytes: Zeroizing<Vec<u8>>) -> Bytes {
    Bytes::from_owner(bytes)
}

/// A secret as a header value: marked sensitive, and wiped when its last clone is dropped.
///
/// # Errors
///
/// The text has characters that are invalid in a header.
pub(crate) fn header(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(bytes(Zeroizing::new(text.into())))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Records when it is wiped and when it is freed.
    #[derive(Clone)]
    struct Probe(Vec<u8>, Arc<Mutex<Vec<&'static str>>>);

    impl Zeroize for Probe {
        fn zeroize(&mut self) {
            let room = self.0.len();
            self.0.zeroize();
            // Safe code can't inspect freed memory; this is the last moment before that.
            assert!(self.0.is_empty() && self.0.capacity() >= room);
            self.1.lock().unwrap().push("wiped");
        }
    }

    impl Drop for Probe {
        fn drop(&mut self) {
            assert!(self.0.is_empty(), "freed before it was wiped");
            self.1.lock().unwrap().push("freed");
        }
    }

    #[test]
    fn a_secret_and_each_of_its_copies_are_wiped_before_they_are_freed() {
        let events = Arc::default();
        let secret = Secret::<Probe>::new(Probe(b"canary".to_vec(), Arc::clone(&events)));
        let copy = secret.clone();
        assert_eq!(copy.expose().0, b"canary");
        drop(copy);
        assert_eq!(*events.lock().unwrap(), ["wiped", "freed"]);
        assert_eq!(secret.expose().0, b"canary");
        drop(secret);
        assert_eq!(*events.lock().unwrap(), ["wiped", "freed", "wiped", "freed"]);
    }

    #[test]
    fn a_secret_never_shows_in_debug_output() {
        assert!(!format!("{:?}", Some(Secret::<String>::new("canary"))).contains("canary"));
        assert!(!format!("{:?}", header("canary").unwrap()).contains("canary"));
    }

    #[test]
    fn copies_of_a_header_share_the_memory_that_is_wiped() {
        let value = header("canary").unwrap();
        assert_eq!(value.as_bytes().as_ptr(), value.clone().as_bytes().as_ptr());
        assert!(header("line\nbreak").is_err());
    }
}
