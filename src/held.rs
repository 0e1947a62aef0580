//! Counts the memory that the messages of calls in progress hold, in the whole process. It looks at no byte of them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What all calls hold together, and what they may.
#[derive(Debug)]
pub(crate) struct Buffers {
    held: AtomicUsize,
    pub(crate) most: usize,
}

/// What one call holds; given back when the call ends.
#[derive(Debug)]
pub(crate) struct Held {
    buffers: Arc<Buffers>,
    bytes: AtomicUsize,
}

/// There is no room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    /// As much as there is in all.
    pub(crate) most: usize,
}

impl Buffers {
    pub(crate) fn new(most: usize) -> Self {
        Self { held: AtomicUsize::new(0), most }
    }
}

impl Held {
    pub(crate) fn new(buffers: Arc<Buffers>) -> Self {
        Self { buffers, bytes: AtomicUsize::new(0) }
    }

    /// Counts more.
    ///
    /// # Errors
    ///
    /// [`Full`]: it is counted, and its call must end.
    pub(crate) fn add(&self, bytes: usize) -> Result<(), Full> {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let all = self.buffers.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.fits(all)
    }

    /// Counts this much in place of what was counted before, now that the message itself is known.
    ///
    /// # Errors
    ///
    /// [`Full`], as for [`add`](Self::add).
    pub(crate) fn settle(&self, bytes: usize) -> Result<(), Full> {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        self.buffers.held.fetch_add(bytes, Ordering::Relaxed);
        let all = self.buffers.held.fetch_sub(before, Ordering::Relaxed) - before;
        self.fits(all)
    }

    fn fits(&self, all: usize) -> Result<(), Full> {
        let most = self.buffers.most;
        if all <= most { Ok(()) } else { Err(Full { most }) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.buffers.held.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_calls_hold_is_bounded_together_and_given_back() {
        let buffers = Arc::new(Buffers::new(100));
        let one = Held::new(Arc::clone(&buffers));
        let two = Held::new(Arc::clone(&buffers));
        assert_eq!(one.add(60), Ok(()));
        assert_eq!(two.add(60), Err(Full { most: 100 }));
        drop(two);
        assert_eq!(one.settle(100), Ok(()));
        assert_eq!(one.settle(101), Err(Full { most: 100 }));
        drop(one);
        assert_eq!(buffers.held.load(Ordering::Relaxed), 0);
    }
}
