//! Threads with a runtime of their own.

use std::thread::JoinHandle;

/// A runtime for one thread.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs a task on a thread of its own, so that neither side of a measurement waits for the other.
pub fn on_a_thread<T: Send + 'static>(name: &str, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn(move || runtime().block_on(task)).unwrap()
}
