//! Which process this is, at the price of a load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// A word that the kernel sets to zero in a forked child (`MADV_WIPEONFORK`, Linux 4.14), or
/// nothing where it cannot.
static WIPED_ON_FORK: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();

/// The process id. Every operation asks for it, to notice that it runs in a forked child; a system
/// call each time would cost about a tenth of a small message.
pub(crate) fn id() -> u32 {
    let Some(word) = *WIPED_ON_FORK.get_or_init(map_word) else {
        return std::process::id();
    };
    match word.load(Ordering::Relaxed) {
        0 => {
            let id = std::process::id();
            word.store(id, Ordering::Relaxed);
            id
        }
        id => id,
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
