//! What the integration tests share: a watchdog, processes that play a role, bare peers, and looks
//! at what the system knows.

// Each test program uses a part of this, and a failed unwrap is how a test fails.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;
use std::{env, io};

use ductworks::{Address, Duct, Error, ErrorKind, Listener, Parent, Result, Ticket};
use proptest::test_runner::Config;
use rustix::event::{PollFd, PollFlags, Timespec};

/// Where a call wants a timeout and the test none: the call fails before the watchdog barks.
pub const PATIENCE: Duration = Duration::from_secs(50);

/// What is left of a hang is the name of the test that hung.
const HANGS_AFTER: Duration = Duration::from_secs(60);

const ROLE: &str = "DUCTWORKS_TEST_ROLE";
const ARGUMENT: &str = "DUCTWORKS_TEST_ARGUMENT";

/// Aborts the process, and says which test it was, unless it is dropped within a minute.
#[track_caller]
pub fn watchdog() -> impl Drop {
    struct Watched(Option<mpsc::Sender<()>>);
    impl Drop for Watched {
        fn drop(&mut self) {
            self.0.take();
        }
    }
    let (alive, watch) = mpsc::channel::<()>();
    let place = std::panic::Location::caller();
    let test = thread::current().name().unwrap_or("?").to_owned();
    let role = env::var(ROLE).unwrap_or_default();
    thread::spawn(move || {
        if watch.recv_timeout(HANGS_AFTER) == Err(RecvTimeoutError::Timeout) {
            // Written past the test harness, which would keep it to itself.
            let _ = writeln!(io::stderr(), "{test} {role} ({place}) hangs");
            std::process::abort();
        }
    });
    Watched(Some(alive))
}

// Processes.

/// A command that runs this test program again, in one of the roles that it [plays](play).
pub fn process(role: &str, argument: impl ToString) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["roles", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(ARGUMENT, argument.to_string())
        .stdout(Stdio::null());
    command
}

/// A role's name, and what plays it.
pub type Role<'a> = (&'a str, fn(&str));

/// What the test named `roles` of each program does: nothing, unless the program was started as a
/// [`process`], which does what its role says.
pub fn play(roles: &[Role<'_>]) {
    let Ok(role) = env::var(ROLE) else { return };
    let _watchdog = watchdog();
    let argument = env::var(ARGUMENT).unwrap();
    let (_, play) = roles.iter().find(|(name, _)| *name == role).unwrap();
    play(&argument);
}

#[track_caller]
pub fn assert_success(mut process: Child) {
    assert_ended_well(process.wait().unwrap());
}

#[track_caller]
pub fn assert_ended_well(status: ExitStatus) {
    assert!(status.success(), "the other process failed: {status}");
}

/// A role: connects with the ticket and sends every message back until the other end closes.
pub fn echo(ticket: &str) {
    let duct = ductworks::connect(ticket).unwrap();
    loop {
        match duct.recv_bytes() {
            Ok(message) => duct.send_bytes(&message).unwrap(),
            Err(end) => return assert_eq!(end.kind(), ErrorKind::Disconnected, "{end}"),
        }
    }
}

// Ends.

#[derive(Clone, Copy, Debug)]
pub enum Transport {
    Unix,
    Tcp,
}

pub const TRANSPORTS: [Transport; 2] = [Transport::Unix, Transport::Tcp];

impl Transport {
    pub fn parent(self) -> Parent {
        match self {
            Self::Unix => Parent::bind().unwrap(),
            Self::Tcp => Parent::bind_to("tcp:127.0.0.1:0").unwrap(),
        }
    }

    /// Two connected sockets.
    pub fn sockets(self) -> (OwnedFd, OwnedFd) {
        match self {
            Self::Unix => {
                let (a, b) = UnixStream::pair().unwrap();
                (a.into(), b.into())
            }
            Self::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (b, _) = listener.accept().unwrap();
                // Otherwise the parts of a message wait for each other.
                b.set_nodelay(true).unwrap();
                (a.into(), b.into())
            }
        }
    }

    pub fn ducts(self) -> (Duct, Duct) {
        let (a, b) = self.sockets();
        (Duct::try_from(a).unwrap(), Duct::try_from(b).unwrap())
    }

    /// A duct, and what a peer that writes and reads bytes of its own has in its hand.
    pub fn bare_peer(self) -> (Duct, File) {
        let (a, b) = self.sockets();
        (Duct::try_from(a).unwrap(), File::from(b))
    }

    /// Connected ducts of which each belongs to a process of its own.
    pub fn start(self, role: &str) -> (Duct, Child) {
        let parent = self.parent();
        let process = process(role, parent.ticket()).spawn().unwrap();
        (parent.listen(PATIENCE).unwrap(), process)
    }
}

/// Lets somebody in who connects on a thread of their own, since the two have to talk to each other:
/// what connected, and what was accepted.
#[track_caller]
pub fn meet<T>(ticket: impl Into<Ticket>, accept: impl FnOnce() -> T) -> (Duct, T) {
    let ticket = ticket.into();
    let child = thread::spawn(move || ductworks::connect(ticket));
    let accepted = accept();
    (child.join().unwrap().unwrap(), accepted)
}

#[track_caller]
pub fn join(parent: &Parent) -> (Duct, Duct) {
    meet(parent.ticket(), || parent.listen(PATIENCE).unwrap())
}

#[track_caller]
pub fn enter(listener: &Listener) -> (Duct, Duct) {
    meet(listener.ticket(), || {
        listener.accept_timeout(PATIENCE).unwrap()
    })
}

/// The file at which version 2 is spoken.
pub fn v2_path(address: &Address) -> PathBuf {
    format!("{}.v2", address.path().unwrap().display()).into()
}

/// A frame, as docs/protocol.md describes it and not as the library makes it.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    let mut frame = vec![0x54];
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Bytes that differ with their place, so that a shifted or doubled part shows.
pub fn pattern(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    for place in 1..=len.div_ceil(8) as u64 {
        // The golden ratio spreads the places over all bits.
        bytes.extend_from_slice(&place.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// More than any socket here takes at once.
pub static LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(12_000_000));

/// The message of a stream that has this number, and a length and content of its own.
pub fn numbered(number: u32) -> Vec<u8> {
    let len = (number as usize).wrapping_mul(7919) % 40_000;
    [&number.to_be_bytes(), &LARGE[len..2 * len]].concat()
}

#[track_caller]
pub fn kind<T>(outcome: Result<T>) -> ErrorKind {
    match outcome {
        Ok(_) => panic!("this should have failed"),
        Err(error) => error.kind(),
    }
}

/// Nothing at the moment, in either of the words for it.
pub fn is_late(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What `poll(2)` says of a descriptor at this moment.
pub fn readiness(descriptor: impl AsFd, interest: PollFlags) -> PollFlags {
    let mut look = [PollFd::new(&descriptor, interest)];
    rustix::event::poll(&mut look, Some(&Timespec::default())).unwrap();
    look[0].revents()
}

pub fn is_readable(descriptor: impl AsFd) -> bool {
    readiness(descriptor, PollFlags::IN).contains(PollFlags::IN)
}

/// TCP may take a moment to deliver what has been sent.
pub fn wait_until_readable(descriptor: impl AsFd) {
    let mut look = [PollFd::new(&descriptor, PollFlags::IN)];
    rustix::event::poll(&mut look, None).unwrap();
}

// What the system knows.

/// A thread, as others can watch it.
pub struct Watched(PathBuf);

impl Watched {
    pub fn this_thread() -> Self {
        Self(Path::new("/proc").join(fs::read_link("/proc/thread-self").unwrap()))
    }

    /// Returns when the thread sleeps in a system call, or is gone.
    pub fn wait_until_asleep(&self) {
        while let Ok(stat) = fs::read_to_string(self.0.join("stat")) {
            // The state stands behind the name, which is in parentheses (proc_pid_stat(5)).
            let (_, facts) = stat.rsplit_once(')').unwrap();
            if facts.trim_start().starts_with(['S', 'Z', 'X']) {
                return;
            }
            thread::yield_now();
        }
    }
}

/// Runs `work` on a thread, and returns once that sleeps: it has come to where it waits.
pub fn asleep<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    // Nobody is to sleep because another thread makes this.
    LazyLock::force(&LARGE);
    let (tell, told) = mpsc::channel();
    let handle = scope.spawn(move || {
        tell.send(Watched::this_thread()).unwrap();
        work()
    });
    told.recv().unwrap().wait_until_asleep();
    handle
}

/// The descriptors of this process.
pub fn descriptors() -> BTreeSet<i32> {
    let listed = fs::read_dir("/proc/self/fd").unwrap();
    let numbers: Vec<i32> = listed
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    // The one that the listing itself needed is closed by now.
    let open = |number: &i32| fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok();
    numbers.into_iter().filter(open).collect()
}

/// A figure of /proc/self/status in bytes, such as `VmPeak`.
pub fn memory(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

// Generated cases.

/// A configuration for `proptest!`. A failure is shrunk and printed; a file that records it would
/// be of little use where the timing of threads has its part.
pub fn cases(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}
