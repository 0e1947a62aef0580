//! Locks and counters that a model checker can take over: those of `std`, or of shuttle in the tests of the feature `model`.

#[cfg(not(all(test, feature = "model")))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize},
};

#[cfg(all(test, feature = "model"))]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize},
};

/// A place where a model checker may let other threads go first. It is for types whose own locks it can't take over, such as
/// tokio's `watch`: between two accesses, never inside one.
#[cfg(not(all(test, feature = "model")))]
#[inline]
pub(crate) fn preemption_point() {}

#[cfg(all(test, feature = "model"))]
pub(crate) fn preemption_point() {
    shuttle::thread::yield_now();
}
