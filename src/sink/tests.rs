use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::PathBuf,
    sync::mpsc,
};

use super::*;

/// A timeout for waiting for a thread.
const PATIENCE: Duration = Duration::from_secs(20);

/// A destination that records its failures. Lines are collected for so many seconds.
struct Told<const LINGER: u64> {
    path: PathBuf,
    failed: mpsc::Sender<String>,
    reported: mpsc::Sender<u64>,
}

impl<const LINGER: u64> Outlet for Told<LINGER> {
    const NAME: &'static str = "test";
    const LIMIT: usize = 1000;
    const LINGER: Duration = Duration::from_secs(LINGER);

    fn open(&self) -> io::Result<File> {
        File::options().append(true).read(true).open(&self.path)
    }

    fn failed(&self, line: &[u8], _: &io::Error) {
        self.failed.send(String::from_utf8(line.to_vec()).unwrap()).unwrap();
    }

    fn report(&self, lines: u64) {
        self.reported.send(lines).unwrap();
    }
}

struct Tested {
    sink: Sink,
    lost: Counter,
    failed: mpsc::Receiver<String>,
    reported: mpsc::Receiver<u64>,
}

fn start(path: PathBuf) -> Tested {
    start_with::<0>(path)
}

fn start_with<const LINGER: u64>(path: PathBuf) -> Tested {
    let (failed, reported) = (mpsc::channel(), mpsc::channel());
    let lost = Counter::default();
    let outlet = Told::<LINGER> { path, failed: failed.0, reported: reported.0 };
    Tested { sink: Sink::start(outlet, lost.clone()).unwrap(), lost, failed: failed.1, reported: reported.1 }
}

fn fifo(folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn a_reader_that_stops_holds_up_no_line_and_its_losses_are_counted_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(&folder);
    // Opened for reading and writing, so that opening does not block, and filled.
    let mut pipe = File::options().read(true).write(true).open(&path).unwrap();
    pipe.write_all(&vec![b'x'; 65_536]).unwrap();
    let tested = start(path);
    let line = |number: usize| format!("{number:0>99}\n");
    let fitted = (0..100).filter(|number| tested.sink.append(line(*number).as_bytes())).count();
    assert_eq!(fitted, 10, "as many as the buffer takes");
    assert_eq!(tested.lost.get(), 90);
    assert!(!tested.sink.flush(Duration::from_millis(50)), "nothing can be written");

    let mut reader = BufReader::new(pipe);
    reader.read_exact(&mut vec![0; 65_536]).unwrap();
    let mut text = String::new();
    for number in 0..10 {
        text.clear();
        reader.read_line(&mut text).unwrap();
        assert_eq!(text, line(number));
    }
    assert!(tested.sink.flush(PATIENCE));
    assert_eq!(tested.reported.recv_timeout(PATIENCE).unwrap(), 90);
    assert!(tested.failed.try_recv().is_err());
}

#[test]
fn a_line_that_is_longer_than_the_limit_is_taken_when_it_is_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "").unwrap();
    let tested = start(path.clone());
    let long = "x".repeat(5_000) + "\n";
    assert!(tested.sink.append(long.as_bytes()));
    assert!(tested.sink.flush(PATIENCE));
    assert_eq!(fs::read_to_string(&path).unwrap(), long);
}

#[test]
fn lines_before_and_after_opening_again_are_in_their_own_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let moved = folder.path().join("moved");
    fs::write(&path, "").unwrap();
    let tested = start(path.clone());
    assert!(tested.sink.append(b"before\n"));
    fs::rename(&path, &moved).unwrap();
    fs::write(&path, "").unwrap();
    // For the old file: no reopen was requested.
    assert!(tested.sink.append(b"between\n"));
    tested.sink.reopen();
    assert!(tested.sink.append(b"after\n"));
    assert!(tested.sink.flush(PATIENCE));
    assert_eq!(fs::read_to_string(&moved).unwrap(), "before\nbetween\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "after\n");
    // A file that can't be opened leaves the old one in use.
    fs::remove_file(&path).unwrap();
    tested.sink.reopen();
    assert!(tested.sink.append(b"late\n"));
    assert!(tested.sink.flush(PATIENCE));
    assert_eq!(tested.lost.get(), 0);
}

/// Nothing here waits for the end of the hour.
#[test]
fn collected_lines_are_written_when_they_are_many_at_a_flush_at_a_reopen_and_at_the_end() {
    const HOUR: u64 = 3_600;
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(&folder);
    let mut pipe = BufReader::new(File::options().read(true).write(true).open(&path).unwrap());
    let mut read = |lines: &[String]| {
        for line in lines {
            let mut text = String::new();
            pipe.read_line(&mut text).unwrap();
            assert_eq!(text, *line);
        }
    };
    let lines =
        |numbers: std::ops::Range<usize>| -> Vec<_> { numbers.map(|number| format!("{number:0>99}\n")).collect() };
    let tested = start_with::<HOUR>(path);
    let append = |lines: &[String]| assert!(lines.iter().all(|line| tested.sink.append(line.as_bytes())));

    let many = lines(0..5);
    append(&many);
    read(&many);
    let few = lines(5..7);
    append(&few);
    assert!(tested.sink.flush(PATIENCE));
    read(&few);
    append(&few);
    tested.sink.reopen();
    read(&few);
    append(&few);
    drop(tested.sink);
    read(&few);
    assert_eq!(tested.lost.get(), 0);
}

#[test]
fn a_line_that_can_not_be_written_is_handed_back_whole_and_counted() {
    let path = PathBuf::from("/dev/full");
    if !path.exists() {
        return;
    }
    let tested = start(path);
    assert!(tested.sink.append(b"one\n"));
    assert!(tested.sink.append(b"two\n"));
    assert!(tested.sink.flush(PATIENCE));
    let failed: Vec<String> = tested.failed.try_iter().collect();
    assert_eq!(failed, ["one\n", "two\n"]);
    assert_eq!(tested.lost.get(), 2);
}

#[test]
fn a_sink_that_is_dropped_writes_its_lines_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(&folder);
    let tested = start(path.clone());
    // Opened for reading and writing, so that opening does not block and dropping the sink does not close the pipe.
    let mut pipe = File::options().read(true).write(true).open(&path).unwrap();
    assert!(tested.sink.append(b"last\n"));
    drop(tested.sink);
    let mut text = [0; 5];
    pipe.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"last\n");
    // The thread drops the outlet when it ends.
    assert!(matches!(tested.failed.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected)));
    pipe.write_all(b"\n").unwrap();
}
