//! The figures of the process, as Linux has them under `/proc`.

use std::{
    fs,
    sync::LazyLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// The start of the program.
static STARTED: LazyLock<(SystemTime, Instant)> = LazyLock::new(|| (SystemTime::now(), Instant::now()));

/// Figures of the process at one moment; 0 for those that the system does not tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) resident_bytes: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) open_files: u64,
    /// The soft limit; `u64::MAX` without one.
    pub(crate) max_files: u64,
    /// Since 1970.
    pub(crate) start_seconds: f64,
}

/// The start of the program, which the first call notes.
pub(crate) fn started() -> Instant {
    STARTED.1
}

impl Figures {
    pub(crate) fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        #[allow(clippy::cast_precision_loss, reason = "exact for longer than any process runs")]
        let cpu_seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        // The listing of the folder is a file of its own.
        let open_files = fs::read_dir("/proc/self/fd").map_or(0, |files| files.count().saturating_sub(1));
        Self {
            resident_bytes: resident().unwrap_or_default(),
            cpu_seconds,
            open_files: open_files as u64,
            max_files: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            start_seconds: STARTED.0.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        }
    }
}

fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_this_process() {
        let _ = started();
        let before = Figures::now();
        let memory = vec![1_u8; 32 << 20];
        let files: Vec<_> = (0..7).map(|_| fs::File::open("/proc/self/status").unwrap()).collect();
        let sum: u64 = memory.iter().map(|byte| u64::from(*byte)).sum();
        let after = Figures::now();
        assert_eq!(sum, 32 << 20);
        // Other tests run beside this one.
        assert!(after.resident_bytes > 32 << 20, "{after:?}");
        assert!(after.open_files >= files.len() as u64 && after.open_files < after.max_files, "{after:?}");
        assert!(after.cpu_seconds > before.cpu_seconds, "{before:?} {after:?}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 3_600.0..=now).contains(&after.start_seconds), "{after:?}");
    }
}
