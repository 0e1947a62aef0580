use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::telemetry::Metrics;

/// A watched file, with the loaded contents and the number of attempts.
struct Watched {
    folder: tempfile::TempDir,
    metrics: Metrics,
    contents: Arc<Mutex<Vec<String>>>,
    attempts: Arc<AtomicUsize>,
    _watch: AbortOnDropHandle<()>,
}

impl Watched {
    /// Starts with this content. `verdict` is called before each load, with the number of earlier attempts.
    fn start(content: &str, verdict: impl Fn(usize) -> Result<(), String> + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, content).unwrap();
        let metrics = Metrics::default();
        let contents = Arc::new(Mutex::new(vec![content.to_owned()]));
        let attempts = Arc::new(AtomicUsize::new(0));
        let reload = {
            let (path, contents, attempts) = (path.clone(), Arc::clone(&contents), Arc::clone(&attempts));
            move || {
                verdict(attempts.fetch_add(1, Ordering::SeqCst))?;
                let content = fs::read_to_string(&path).map_err(|error| error.to_string())?;
                if content.is_empty() {
                    return Err("empty".to_owned());
                }
                let mut contents = contents.lock().unwrap();
                let is_changed = contents.last() != Some(&content);
                if is_changed {
                    contents.push(content);
                }
                Ok(is_changed)
            }
        };
        let watch = watch(vec![path], metrics.file_reloads("token-file"), reload);
        Self { folder, metrics, contents, attempts, _watch: watch }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("file")
    }

    fn contents(&self) -> Vec<String> {
        self.contents.lock().unwrap().clone()
    }

    fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }

    /// Waits until the condition is true. Paused time advances only while all tasks are idle.
    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let waited = async {
            while !holds(self) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(200 * LOOK_EVERY, waited).await.expect("it happens within some looks");
    }

    async fn looks(&self, number: u32) {
        tokio::time::sleep(number * LOOK_EVERY).await;
    }

    fn metric(&self, name: &str) -> String {
        let text = self.metrics.text();
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    }

    fn failures(&self) -> String {
        self.metric("apig_gateway_file_reloads_total{setting=\"token-file\",result=\"failed\"}")
    }

    fn failing(&self) -> String {
        self.metric("apig_gateway_file_reload_failing{setting=\"token-file\"}")
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_is_tried_again_until_it_succeeds_although_nothing_changes() {
    let file = Watched::start("one", |attempts| if attempts < 5 { Err("not yet".into()) } else { Ok(()) });
    file.until(|file| file.attempts() == 3).await;
    assert_eq!((file.failures().as_str(), file.failing().as_str()), ("1", "1"), "the same failure counts once");
    file.until(|file| file.failing() == "0").await;
    assert_eq!(file.attempts(), 6);
    file.looks(20).await;
    assert_eq!(file.attempts(), 6, "a loaded file is left alone");
}

#[tokio::test(start_paused = true)]
async fn a_file_of_the_same_size_and_time_is_seen() {
    let file = Watched::start("one", |_| Ok(()));
    file.until(|file| file.attempts() == 1).await;
    let before = fs::metadata(file.path()).unwrap();
    let keep_time = |path: &Path| {
        fs::File::options().append(true).open(path).unwrap().set_modified(before.modified().unwrap()).unwrap();
    };
    // Rewritten in place. Clocks of file systems are coarse: write until the change has a time of its own.
    while Fingerprint::of(&file.path()).unwrap().changed == (before.ctime(), before.ctime_nsec()) {
        fs::write(file.path(), "two").unwrap();
        keep_time(&file.path());
    }
    let after = fs::metadata(file.path()).unwrap();
    assert_eq!((after.ino(), after.len(), after.mtime()), (before.ino(), before.len(), before.mtime()));
    file.until(|file| file.contents() == ["one", "two"]).await;
    // Replaced by another file.
    let other = file.folder.path().join("other");
    fs::write(&other, "six").unwrap();
    keep_time(&other);
    fs::rename(&other, file.path()).unwrap();
    file.until(|file| file.contents() == ["one", "two", "six"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_missing_broken_or_empty_for_a_while_is_loaded_when_it_is_back() {
    let file = Watched::start("one", |_| Ok(()));
    file.until(|file| file.attempts() == 1).await;
    let away = file.folder.path().join("away");
    fs::rename(file.path(), &away).unwrap();
    file.until(|file| file.failures() == "1").await;
    fs::rename(&away, file.path()).unwrap();
    file.until(|file| file.failing() == "0").await;
    fs::write(file.path(), "").unwrap();
    file.until(|file| file.failures() == "2").await;
    fs::write(file.path(), "two").unwrap();
    file.until(|file| file.failing() == "0").await;
    fs::remove_file(file.path()).unwrap();
    fs::create_dir(file.path()).unwrap();
    file.until(|file| file.failures() == "3").await;
    fs::remove_dir(file.path()).unwrap();
    fs::write(file.path(), "three").unwrap();
    file.until(|file| file.failing() == "0").await;
    assert_eq!(file.contents(), ["one", "two", "three"]);
}

#[tokio::test(start_paused = true)]
async fn folders_that_are_swapped_behind_a_link_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let swap = |name: &str| {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("file"), name).unwrap();
        std::os::unix::fs::symlink(name, folder.path().join("..next")).unwrap();
        fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
    };
    swap("one");
    std::os::unix::fs::symlink("..data/file", folder.path().join("file")).unwrap();
    let path = folder.path().join("file");
    let loaded = Arc::new(Mutex::new(String::new()));
    let reload = {
        let (path, loaded) = (path.clone(), Arc::clone(&loaded));
        move || {
            *loaded.lock().unwrap() = fs::read_to_string(&path).map_err(|error| error.to_string())?;
            Ok(true)
        }
    };
    let _watch = watch(vec![path], Metrics::default().file_reloads("token-file"), reload);
    for name in ["one", "two", "six"] {
        if name != "one" {
            swap(name);
        }
        let seen = async {
            while *loaded.lock().unwrap() != name {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(20 * LOOK_EVERY, seen).await.expect("the swap is seen");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_load_is_a_failure_and_not_the_end() {
    let file = Watched::start("one", |attempts| {
        assert!(attempts != 0, "the first load panics");
        Ok(())
    });
    file.until(|file| file.failing() == "1").await;
    fs::write(file.path(), "two").unwrap();
    file.until(|file| file.contents() == ["one", "two"]).await;
    assert_eq!(file.failing(), "0");
}

#[tokio::test(start_paused = true)]
async fn a_pipe_is_not_read_again() {
    let file = Watched::start("one", |_| Ok(()));
    fs::remove_file(file.path()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(file.path()).status().unwrap().success());
    file.looks(20).await;
    assert_eq!((file.attempts(), file.failing().as_str()), (0, "0"));
}

fn look(version: u64) -> Look {
    vec![Some(Fingerprint { device: 0, inode: version, length: 0, modified: (0, 0), changed: (0, 0), is_pipe: false })]
}

#[test]
fn files_are_loaded_once_they_rest_and_once_they_have_changed_too_long() {
    let mut schedule = Schedule::default();
    let mut due = |version, is_forced| {
        let is_due = schedule.is_due(&look(version), is_forced);
        if is_due {
            schedule.succeeded(look(version));
        }
        is_due
    };
    assert_eq!([due(1, false), due(1, false), due(1, false)], [false, true, false]);
    assert!(due(1, true), "SIGHUP loads the files whether they have changed or not");
    assert_eq!([due(2, false), due(3, false), due(4, false), due(5, false)], [false, false, false, true]);
    assert_eq!([due(6, false), due(6, false), due(6, false)], [false, true, false]);
}

#[test]
fn a_failing_file_is_warned_about_once_a_minute_and_counted_when_it_changes() {
    let mut schedule = Schedule::default();
    let start = Instant::now();
    let after = |milliseconds| start + Duration::from_millis(milliseconds);
    let report = |is_first, is_counted, is_warned| Report { is_first, is_counted, is_warned };
    assert_eq!(schedule.failed(look(1), after(0)), report(true, true, true));
    assert_eq!(schedule.failed(look(1), after(500)), report(false, false, false));
    assert_eq!(schedule.failed(look(2), after(1_000)), report(false, true, false));
    assert_eq!(schedule.failed(look(2), after(59_999)), report(false, false, false));
    assert_eq!(schedule.failed(look(2), after(60_000)), report(false, true, true));
    assert_eq!(schedule.failed(look(2), after(60_500)), report(false, false, false));
    assert!(schedule.succeeded(look(2)));
    assert!(!schedule.succeeded(look(2)));
    assert_eq!(schedule.failed(look(3), after(61_000)), report(true, true, false), "a file that comes and goes");
    assert_eq!(schedule.failed(look(3), after(120_000)), report(false, true, true));
}
