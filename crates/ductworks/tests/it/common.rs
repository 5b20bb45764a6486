//! What the integration tests share: how they run, connected ends, bare peers, and looks at what the
//! system knows.

use std::env;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::LazyLock;
use std::sync::mpsc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::SystemTime;

use ductworks::{Address, Duct, Error, ErrorKind, Listener, Parent, Result, Ticket};
use proptest::test_runner::Config;
use rustix::event::{PollFd, PollFlags, Timespec};

pub(crate) use crate::harness::*;

/// A role: connects with the ticket and sends every message back until the other end closes.
pub(crate) fn echo(ticket: &str) {
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
pub(crate) enum Transport {
    Unix,
    Tcp,
}

pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::Unix, Transport::Tcp];

impl Transport {
    pub(crate) fn parent(self) -> Parent {
        match self {
            Self::Unix => Parent::bind().unwrap(),
            Self::Tcp => Parent::bind_to("tcp:127.0.0.1:0").unwrap(),
        }
    }

    /// Two connected sockets.
    pub(crate) fn sockets(self) -> (OwnedFd, OwnedFd) {
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

    pub(crate) fn ducts(self) -> (Duct, Duct) {
        let (a, b) = self.sockets();
        (Duct::try_from(a).unwrap(), Duct::try_from(b).unwrap())
    }

    /// A duct, and what a peer that writes and reads bytes of its own has in its hand.
    pub(crate) fn bare_peer(self) -> (Duct, File) {
        let (a, b) = self.sockets();
        (Duct::try_from(a).unwrap(), File::from(b))
    }

    /// Connected ducts of which each belongs to a process of its own.
    pub(crate) fn start(self, role: &str) -> (Duct, Child) {
        let parent = self.parent();
        let process = process(role, parent.ticket()).spawn().unwrap();
        (parent.listen(PATIENCE).unwrap(), process)
    }
}

/// Lets somebody in who connects on a thread of their own, since the two have to talk to each other:
/// what connected, and what was accepted.
#[track_caller]
pub(crate) fn meet<T>(ticket: impl Into<Ticket>, accept: impl FnOnce() -> T) -> (Duct, T) {
    let ticket = ticket.into();
    let child = thread::spawn(move || ductworks::connect(ticket));
    let accepted = accept();
    (child.join().unwrap().unwrap(), accepted)
}

#[track_caller]
pub(crate) fn join(parent: &Parent) -> (Duct, Duct) {
    meet(parent.ticket(), || parent.listen(PATIENCE).unwrap())
}

#[track_caller]
pub(crate) fn enter(listener: &Listener) -> (Duct, Duct) {
    meet(listener.ticket(), || {
        listener.accept_timeout(PATIENCE).unwrap()
    })
}

/// The file at which version 2 is spoken.
pub(crate) fn v2_path(address: &Address) -> PathBuf {
    format!("{}.v2", address.path().unwrap().display()).into()
}

/// A frame, as docs/protocol.md describes it and not as the library makes it.
pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    let mut frame = vec![0x54];
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Bytes that differ with their place, so that a shifted or doubled part shows.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    for place in 1..=len.div_ceil(8) as u64 {
        // The golden ratio spreads the places over all bits.
        bytes.extend_from_slice(&place.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// More than any socket here takes at once.
pub(crate) static LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(12_000_000));

/// The message of a stream that has this number, and a length and content of its own.
pub(crate) fn numbered(number: u32) -> Vec<u8> {
    let len = (number as usize).wrapping_mul(7919) % 40_000;
    [&number.to_be_bytes(), &LARGE[len..2 * len]].concat()
}

#[track_caller]
pub(crate) fn kind<T>(outcome: Result<T>) -> ErrorKind {
    match outcome {
        Ok(_) => panic!("this should have failed"),
        Err(error) => error.kind(),
    }
}

/// Nothing at the moment, in either of the words for it.
pub(crate) fn is_late(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What `poll(2)` says of a descriptor at this moment.
pub(crate) fn readiness(descriptor: impl AsFd, interest: PollFlags) -> PollFlags {
    let mut look = [PollFd::new(&descriptor, interest)];
    rustix::event::poll(&mut look, Some(&Timespec::default())).unwrap();
    look[0].revents()
}

pub(crate) fn is_readable(descriptor: impl AsFd) -> bool {
    readiness(descriptor, PollFlags::IN).contains(PollFlags::IN)
}

/// TCP may take a moment to deliver what has been sent.
pub(crate) fn wait_until_readable(descriptor: impl AsFd) {
    let mut look = [PollFd::new(&descriptor, PollFlags::IN)];
    rustix::event::poll(&mut look, None).unwrap();
}

// What the system knows.

/// A thread, as others can watch it.
pub(crate) struct Watched(PathBuf);

impl Watched {
    pub(crate) fn this_thread() -> Self {
        Self(Path::new("/proc").join(fs::read_link("/proc/thread-self").unwrap()))
    }

    /// Returns when the thread sleeps in a system call, or is gone.
    pub(crate) fn wait_until_asleep(&self) {
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
pub(crate) fn asleep<'scope, T: Send + 'scope>(
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

/// A figure of /proc/self/status in bytes, such as `VmPeak`.
pub(crate) fn memory(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

// Generated cases.

/// Whether this is a long run, which leaves nothing out: `make test-all`.
pub(crate) fn is_long() -> bool {
    env::var_os("DUCTWORKS_TEST_LONG").is_some()
}

/// Draws one in `every` of the places of a sweep, and all of them in a long run. The seed is printed, and
/// can be given in `PROPTEST_RNG_SEED`.
pub(crate) fn drawn(every: u64) -> impl FnMut() -> bool {
    let given = env::var("PROPTEST_RNG_SEED").ok();
    let seed = given.map_or_else(rand_seed, |seed| seed.parse().unwrap());
    println!("PROPTEST_RNG_SEED={seed}");
    let mut state = seed;
    move || {
        // Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        is_long() || (mixed ^ mixed >> 31).is_multiple_of(every)
    }
}

fn rand_seed() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    u64::from(since.subsec_nanos())
}

/// A configuration for `proptest!`; a long run has ten times as many cases. A failure is shrunk and
/// printed; a file that records it would be of little use where the timing of threads has its part.
pub(crate) fn cases(cases: u32) -> Config {
    Config {
        cases: if is_long() { 10 * cases } else { cases },
        failure_persistence: None,
        ..Config::default()
    }
}
