//! Options of sockets that rustix has no function for, or none that fits.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use libc::{c_int, socklen_t};

/// A type that is made of numbers only, so that any bytes are a value of it.
///
/// # Safety
///
/// It is.
unsafe trait Plain: Copy {}

// SAFETY: it is a number.
unsafe impl Plain for c_int {}
// SAFETY: its fields are numbers.
unsafe impl Plain for libc::tcp_info {}
// SAFETY: its fields are numbers.
unsafe impl Plain for libc::ucred {}

/// How a TCP connection is doing (`TCP_INFO`, `tcp(7)`).
pub(super) fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<libc::tcp_info> {
    get(socket, libc::IPPROTO_TCP, libc::TCP_INFO)
}

/// How often the first segment of a TCP connection is sent (`TCP_SYNCNT`, `tcp(7)`).
pub(super) fn syn_count(socket: BorrowedFd<'_>) -> io::Result<c_int> {
    get(socket, libc::IPPROTO_TCP, libc::TCP_SYNCNT)
}

pub(super) fn set_syn_count(socket: BorrowedFd<'_>, count: c_int) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_SYNCNT, count)
}

/// From `linux/tcp.h`; since Linux 6.15.
const TCP_RTO_MAX_MS: c_int = 44;

/// The longest time between two attempts of a TCP connection to get something across, or to ask whether
/// there is room again: from a second, which is also the least, to two minutes.
pub(super) fn set_longest_pause(socket: BorrowedFd<'_>, pause: Duration) -> io::Result<()> {
    let pause = pause.clamp(Duration::from_secs(1), Duration::from_secs(120));
    let milliseconds = c_int::try_from(pause.as_millis()).unwrap_or(c_int::MAX);
    set(socket, libc::IPPROTO_TCP, TCP_RTO_MAX_MS, milliseconds)
}

/// Who is at the other end of a Unix socket (`SO_PEERCRED`, `unix(7)`). The process is zero where it is
/// one that this process cannot see, in a container say, which rustix's type has no room for.
pub(super) fn peer_of(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    get(socket, libc::SOL_SOCKET, libc::SO_PEERCRED)
}

/// What the system does not fill in, an older one say, is zero.
fn get<T: Plain>(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<T> {
    // SAFETY: zeros are a value of a type that is made of numbers only.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as socklen_t;
    let place = (&raw mut value).cast();
    // SAFETY: the system writes at most `len` bytes of `value`, and any bytes are a value of it.
    let outcome = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, place, &raw mut len) };
    checked(outcome).map(|()| value)
}

fn set(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let len = size_of::<c_int>() as socklen_t;
    let place = (&raw const value).cast();
    // SAFETY: the system reads `len` bytes of `value`, which has so many.
    let outcome = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, place, len) };
    checked(outcome)
}

fn checked(outcome: c_int) -> io::Result<()> {
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
