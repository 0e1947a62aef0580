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
