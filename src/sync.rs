//! Locks and atomics: those of `std`, or of shuttle in tests with the feature `model`.

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

/// A point at which a model checker may switch threads. Types with locks that shuttle can't replace, such as tokio's `watch`,
/// call it between two accesses, never inside one.
#[cfg(not(all(test, feature = "model")))]
#[inline]
pub(crate) fn preemption_point() {}

#[cfg(all(test, feature = "model"))]
pub(crate) fn preemption_point() {
    shuttle::thread::yield_now();
}
