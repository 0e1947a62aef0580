//! What a call holds of what there is in the whole process: memory for its message, and a place among the calls in
//! progress. It looks at no byte.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
    places: Arc<Semaphore>,
    place: OnceLock<OwnedSemaphorePermit>,
}

/// All places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoPlace;

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
    pub(crate) fn new(buffers: Arc<Buffers>, places: Arc<Semaphore>) -> Self {
        Self { buffers, bytes: AtomicUsize::new(0), places, place: OnceLock::new() }
    }

    /// Takes a place, if the call has none yet.
    ///
    /// # Errors
    ///
    /// [`NoPlace`], at once: nobody waits for one.
    pub(crate) fn take_place(&self) -> Result<(), NoPlace> {
        if self.place.get().is_none() {
            let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| NoPlace)?;
            // Only the call itself takes it, so nobody can have come first.
            let _ = self.place.set(place);
        }
        Ok(())
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
        let places = Arc::new(Semaphore::new(1));
        let one = Held::new(Arc::clone(&buffers), Arc::clone(&places));
        let two = Held::new(Arc::clone(&buffers), Arc::clone(&places));
        assert_eq!(one.add(60), Ok(()));
        assert_eq!(two.add(60), Err(Full { most: 100 }));
        drop(two);
        assert_eq!(one.settle(100), Ok(()));
        assert_eq!(one.settle(101), Err(Full { most: 100 }));
        drop(one);
        assert_eq!(buffers.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_place_is_taken_once_and_given_back() {
        let places = Arc::new(Semaphore::new(1));
        let new = || Held::new(Arc::new(Buffers::new(0)), Arc::clone(&places));
        let (one, two) = (new(), new());
        assert_eq!((one.take_place(), one.take_place()), (Ok(()), Ok(())));
        assert_eq!(two.take_place(), Err(NoPlace));
        drop(one);
        assert_eq!(two.take_place(), Ok(()));
    }
}
