//! The build of this program: its version, its commit and its compiler.

use std::fmt;

/// The version of the package.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, if the variable `APIG_BUILD_COMMIT` named it to the compiler.
pub(crate) const COMMIT: Option<&str> = option_env!("APIG_BUILD_COMMIT");

/// The version of the compiler.
pub(crate) const RUSTC: &str = env!("APIG_BUILD_RUSTC");

/// The build as one line for people.
pub(crate) struct Line;

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "apig-grpc-gateway {VERSION} (commit {}, rustc {RUSTC})", COMMIT.unwrap_or("unknown"))
    }
}
