//! How a test runs: under a watchdog, with other processes that play a role, and alone in its process
//! where it asks for that.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::io::Write;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs, io, mem, ptr};

use rustix::process::{Pid, Signal, getpid, kill_process};

/// For calls that need a timeout where the test has none; shorter than the watchdog's limit.
pub(crate) const PATIENCE: Duration = Duration::from_secs(50);

/// Far more than any test takes.
fn hangs_after() -> Duration {
    let given = env::var(TIME_LIMIT).ok();
    Duration::from_secs(given.map_or(60, |seconds| seconds.parse().unwrap()))
}

/// In seconds.
const TIME_LIMIT: &str = "DUCTWORKS_TEST_TIME_LIMIT";
const ROLE: &str = "DUCTWORKS_TEST_ROLE";
const ARGUMENT: &str = "DUCTWORKS_TEST_ARGUMENT";
/// Set where a test has its process to itself.
const ALONE: &str = "DUCTWORKS_TEST_ALONE";

// Watched tests.

/// Ends the process unless it is [patted](Watchdog::pat) or dropped in time: writes the stacks
/// of all threads and of all processes that the test has started, and ends these too. Where the test
/// has the process to itself, a descriptor that it leaves open fails it.
#[track_caller]
pub(crate) fn watchdog() -> Watchdog {
    let place = Location::caller();
    let test = thread::current().name().unwrap_or("?").to_owned();
    let role = env::var(ROLE).unwrap_or_default();
    let before = is_alone().then(|| {
        make_what_is_kept();
        descriptors()
    });
    answer_with_stacks();
    let limit = hangs_after();
    let (alive, watch) = mpsc::channel::<()>();
    thread::spawn(move || {
        loop {
            match watch.recv_timeout(limit) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        say(&format!("\n{test} {role} ({place}) hangs\n"));
        dump_stacks();
        std::process::abort();
    });
    Watchdog {
        alive: Some(alive),
        before,
    }
}

pub(crate) struct Watchdog {
    alive: Option<mpsc::Sender<()>>,
    before: Option<BTreeMap<i32, PathBuf>>,
}

impl Watchdog {
    /// The test has come a step further.
    pub(crate) fn pat(&self) {
        let _ = self.alive.as_ref().map(|alive| alive.send(()));
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.alive.take();
        let Some(before) = self.before.take().filter(|_| !thread::panicking()) else {
            return;
        };
        let left = || {
            let mut now = descriptors();
            now.retain(|number, leads_to| before.get(number) != Some(leads_to));
            now
        };
        // A thread that has been joined may still be on its way out, with its eventfd.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !left().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        let left = left();
        assert!(left.is_empty(), "the test leaves descriptors: {left:?}");
    }
}

/// What the library keeps for a thread that has waited, and for a process that has closed a duct.
fn make_what_is_kept() {
    thread_local!(static IS_MADE: Cell<bool> = const { Cell::new(false) });
    if IS_MADE.replace(true) {
        return;
    }
    let (a, _b) = ductworks::pair().unwrap();
    let before = descriptors().len();
    // On a busy machine a deadline may pass before there was time to wait for it.
    while descriptors().len() == before {
        a.recv_bytes_timeout(Duration::from_millis(1)).unwrap_err();
    }
    a.close();
}

/// The descriptors of this process, and where they lead.
pub(crate) fn descriptors() -> BTreeMap<i32, PathBuf> {
    let listed = fs::read_dir("/proc/self/fd").unwrap();
    let link = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        // The one that the listing itself needs is closed by the time that others are asked again.
        Some((number, fs::read_link(entry.path()).ok()?))
    };
    let found: BTreeMap<_, _> = listed.filter_map(link).collect();
    let is_open = |number: &i32| fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok();
    found
        .into_iter()
        .filter(|(number, _)| is_open(number))
        .collect()
}

fn is_alone() -> bool {
    env::var_os(ALONE).is_some()
}

/// Runs a test in a process of its own: one that measures what a process has, or changes it.
#[track_caller]
pub(crate) fn alone(test: impl FnOnce()) {
    if is_alone() {
        let _watchdog = watchdog();
        return test();
    }
    let name = thread::current().name().unwrap().to_owned();
    let mut command = this_program(&name);
    assert_ended_well(command.env(ALONE, "1").status().unwrap());
}

fn this_program(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]);
    command
}

// Stacks.

/// A signal that no test uses.
const STACK_SIGNAL: Signal = Signal::USR2;
static STACKS_WRITTEN: AtomicU32 = AtomicU32::new(0);

/// Lets each thread that gets the signal write where it is.
fn answer_with_stacks() {
    // SAFETY: zeroes are a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = write_stack as *const () as usize;
    // SAFETY: the action lives as long as the call, and its handler for ever.
    unsafe { libc::sigaction(STACK_SIGNAL.as_raw(), &raw const action, ptr::null_mut()) };
}

/// It allocates, which a signal handler should not; but the process is about to end, and `dump_stacks`
/// waits only for a while.
extern "C" fn write_stack(_: c_int) {
    let (process, thread) = (getpid(), thread::current());
    let name = thread.name().unwrap_or("?");
    say(&format!(
        "\nprocess {process}, thread {name}:\n{}",
        Backtrace::force_capture()
    ));
    STACKS_WRITTEN.fetch_add(1, Ordering::SeqCst);
}

fn dump_stacks() {
    let own = getpid();
    for thread in numbers_in("/proc/self/task") {
        let before = STACKS_WRITTEN.load(Ordering::SeqCst);
        // SAFETY: the call touches no memory of this process.
        unsafe { libc::syscall(libc::SYS_tgkill, own, thread, STACK_SIGNAL.as_raw()) };
        wait_a_while(|| STACKS_WRITTEN.load(Ordering::SeqCst) > before);
    }
    let ours = fs::read_link("/proc/self/exe").ok();
    for process in descendants(own) {
        let about = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}"));
        let command = about("cmdline").unwrap_or_default().replace('\0', " ");
        let waits = about("wchan").unwrap_or_default();
        say(&format!("\nprocess {process}, in {waits}: {command}\n"));
        if fs::read_link(format!("/proc/{process}/exe")).ok() == ours {
            let _ = kill_process(process, STACK_SIGNAL);
            wait_a_while(|| false);
        }
        let _ = kill_process(process, Signal::KILL);
    }
}

fn wait_a_while(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(1);
    while !condition() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

fn numbers_in(folder: impl AsRef<Path>) -> Vec<i32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// All processes that come from this one, their parents first.
fn descendants(process: Pid) -> Vec<Pid> {
    let parent_of = |process: i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The state and the parent stand after the name, which is in parentheses (proc_pid_stat(5)).
        let (_, facts) = stat.rsplit_once(')')?;
        facts.split_whitespace().nth(1)?.parse().ok()
    };
    let all = numbers_in("/proc");
    let mut found = vec![process.as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            all.iter()
                .filter(|child| parent_of(**child) == Some(parent)),
        );
        next += 1;
    }
    found
        .into_iter()
        .skip(1)
        .filter_map(Pid::from_raw)
        .collect()
}

/// Written past the test harness, which would keep it to itself.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

// Processes.

/// A command that runs this test program again, in one of the roles that it [plays](play).
pub(crate) fn process(role: &str, argument: impl ToString) -> Command {
    let mut command = this_program("roles");
    command
        .arg("--test-threads=1")
        .env(ROLE, role)
        .env(ARGUMENT, argument.to_string())
        .env_remove(ALONE)
        .stdout(Stdio::null());
    command
}

/// A role's name, and what plays it.
pub(crate) type Role<'a> = (&'a str, fn(&str));

/// Plays the role that this process was started for, if it was started for one.
pub(crate) fn play(roles: &[&[Role<'_>]]) {
    let Ok(role) = env::var(ROLE) else { return };
    let _watchdog = watchdog();
    let argument = env::var(ARGUMENT).unwrap();
    let mut all = roles.iter().copied().flatten();
    let (_, play) = all.find(|(name, _)| *name == role).unwrap();
    play(&argument);
}

#[track_caller]
pub(crate) fn assert_success(mut process: Child) {
    assert_ended_well(process.wait().unwrap());
}

#[track_caller]
pub(crate) fn assert_ended_well(status: ExitStatus) {
    assert!(status.success(), "the other process failed: {status}");
}

// The harness itself.

pub(crate) const ROLES: &[Role<'_>] = &[
    ("hang", |_| {
        let mut child = process("hang below", "").spawn().unwrap();
        hang_here();
        let _ = child.wait();
    }),
    ("hang below", |_| hang_here()),
    ("leave a descriptor", |_| {
        let _watchdog = watchdog();
        mem::forget(fs::File::open("/dev/null").unwrap());
    }),
];

#[inline(never)]
fn hang_here() {
    loop {
        thread::park();
    }
}

#[test]
fn a_hang_is_ended_with_the_stacks_of_all_threads_and_processes() {
    let _watchdog = watchdog();
    let mut command = process("hang", "");
    let output = command.env(TIME_LIMIT, "1").output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("hangs"), "{told}");
    // Below, the watchdog may come first.
    assert!(told.matches("hang_here").count() >= 2, "{told}");
}

#[test]
fn a_descriptor_that_is_left_fails_its_test() {
    let _watchdog = watchdog();
    let mut command = process("leave a descriptor", "");
    let output = command.env(ALONE, "1").output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("/dev/null"), "{told}");
}
