//! Which process this is, at the price of a load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// A word that the kernel sets to zero in a forked child (`MADV_WIPEONFORK`, Linux 4.14), or
/// nothing where it cannot.
static WIPED_ON_FORK: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();

/// How many bits of a process id the kernel uses at most (`pid_max`, `proc(5)`).
const PID_BITS: u32 = 22;

/// How often the word has been found wiped, here and in the processes that this one comes from.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// A number that this process has, and none that it was forked from: its process id, and in front of it how
/// many forks it is away from the first one. (In a new PID namespace a child can have its parent's id.) Every
/// operation asks for it, to notice that it runs in a forked child; a system call each time would cost about a
/// tenth of a small message.
pub(crate) fn id() -> u32 {
    let Some(word) = *WIPED_ON_FORK.get_or_init(map_word) else {
        return std::process::id();
    };
    match word.load(Ordering::Relaxed) {
        0 => {
            let generation = GENERATION.fetch_add(1, Ordering::Relaxed) + 1;
            let id = generation << PID_BITS | std::process::id();
            let first = word.compare_exchange(0, id, Ordering::Relaxed, Ordering::Relaxed);
            first.err().unwrap_or(id)
        }
        id => id,
    }
}

/// The process id in such a number.
pub(crate) fn pid_of(id: u32) -> u32 {
    id & ((1 << PID_BITS) - 1)
}

/// How often this process has been forked, as far as it has been [told](forked).
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Notes that this process, or one that it was forked from, has been forked. An end that was made
/// before may have copies from then on, and is closed [accordingly](crate::wire::Control::End). In the
/// child that is noticed without it; the parent cannot notice.
///
/// ```
/// # fn fork() -> i32 { 1 }
/// let child = fork();
/// ductworks::engine::forked();
/// ```
pub fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// When something was made: by which process, and after how many forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    process: u32,
    forks: u32,
}

impl Origin {
    pub(crate) fn here() -> Self {
        Self {
            process: id(),
            forks: FORKS.load(Ordering::Relaxed),
        }
    }

    /// Whether another process may have a copy of what was made then.
    pub(crate) fn may_be_shared(self) -> bool {
        self != Self::here()
    }

    /// Whether it was made by the process that asks.
    pub(crate) fn is_here(self) -> bool {
        self.process == id()
    }
}

/// A number that no other process has, wherever it runs: random, and told apart from those that it
/// was forked from.
pub(crate) fn identity() -> u64 {
    static FAMILY: OnceLock<u64> = OnceLock::new();
    FAMILY.get_or_init(random).wrapping_add(id().into())
}

/// A random number to tell things apart by. Where there is no randomness it is zero, and the process
/// id, which goes with it, has to do.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => 0,
    }
}

fn map_word() -> Option<&'static AtomicU32> {
    let len = rustix::param::page_size();
    // SAFETY: a fresh private anonymous mapping at an address of the kernel's choice touches no
    // memory that anything else uses.
    let page = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }
    .ok()?;
    // SAFETY: the range is exactly the mapping that was just made, and nobody else knows it yet.
    let wiped = unsafe { rustix::mm::madvise(page, len, Advice::LinuxWipeOnFork) };
    if wiped.is_err() {
        // SAFETY: as above; no reference into the mapping exists.
        let _ = unsafe { rustix::mm::munmap(page, len) };
        return None;
    }
    // SAFETY: the mapping is page-aligned, zeroed, at least four bytes long and never unmapped, and
    // it is only ever used as this atomic; all-zero is a valid value, also after a fork.
    Some(unsafe { &*page.cast::<AtomicU32>() })
}
