//! The byte streams that messages travel over.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, sockopt,
};

use crate::transport;
use crate::wire::V2;

/// A connected byte stream of somebody else's.
///
/// Every call makes one attempt and does not wait: where it would have to, it fails with
/// [`io::ErrorKind::WouldBlock`], and the channel waits for the descriptor. A stream without a
/// descriptor may block inside the calls instead.
pub trait Stream {
    /// What to wait for, if there is one.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Reads into `place` and returns the number of bytes, zero at the end of the stream.
    ///
    /// # Errors
    ///
    /// Whatever the stream reports. The message so far is kept, and reading may go on.
    fn read(&self, place: &mut [u8]) -> io::Result<usize>;

    /// Reads into memory that need not be initialised, and returns the part that was filled.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    fn read_uninit<'a>(&self, place: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a mut [u8]> {
        let mut bytes = vec![0; place.len()];
        let count = self.read(&mut bytes)?;
        Ok(place[..count].write_copy_of_slice(&bytes[..count]))
    }

    /// Copies what the next [`read`](Self::read) would give, and leaves it there.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    fn peek(&self, place: &mut [u8]) -> io::Result<usize>;

    /// How many bytes can be read at this moment, or fewer.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    fn available(&self) -> io::Result<usize>;

    /// Writes from the parts, in order, and returns how many bytes it took.
    ///
    /// # Errors
    ///
    /// Whatever the stream reports. An unfinished message is kept, and writing may go on.
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Writes what an earlier [`write`](Self::write) took and could not yet hand to the system.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if some of it remains.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Ends the direction in which this end writes: the other end reads what was written, and then the
    /// end of the stream.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] where one direction cannot end without the other.
    fn finish(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether descriptors can go along with bytes.
    fn carries_descriptors(&self) -> bool {
        false
    }

    /// Writes one zero byte with which these descriptors go.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    fn write_descriptors(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let _ = descriptors;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Reads one byte, and adds the descriptors that come with it.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    fn read_descriptors<'a>(
        &self,
        place: &'a mut [MaybeUninit<u8>],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<&'a mut [u8]> {
        let _ = descriptors;
        self.read_uninit(place)
    }

    /// Makes room for large messages, of which the first is about to be written.
    fn widen(&self) {}

    /// Makes room for a last few bytes, when the stream takes none.
    fn stretch(&self) {}

    /// Ends the stream if something that was written has not been acknowledged for this time, and says
    /// whether it has. An other end that does not read is none that does not answer.
    fn give_up(&self, patience: Duration) -> bool {
        let _ = patience;
        false
    }

    /// Notes, for all processes that have the stream, that one of them is in the middle of a frame.
    fn claim(&self) {}

    /// Notes that none is any more.
    fn release(&self) {}

    /// Whether a process is in the middle of a frame.
    fn is_claimed(&self) -> bool {
        false
    }

    /// Sees to it that what was written arrives, before the stream is closed. It may take a moment. What
    /// the other end says meanwhile is lost, unless another process may have the stream.
    fn linger(&self, may_be_shared: bool) {
        let _ = may_be_shared;
    }
}

/// A descriptor of a connected stream socket, blocking or not.
///
/// ```
/// use ductworks::engine::{Channel, Deadline, Socket, Wait};
/// use ductworks::wire::V1;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// let channel = Channel::<V1>::default();
/// channel.send(&Socket(&ours), &[b"hi"], &mut Wait::until(Deadline::Never))?;
///
/// let mut bytes = [0; 7];
/// std::io::Read::read_exact(&mut theirs, &mut bytes)?;
/// assert_eq!(&bytes, b"\x54\x00\x00\x00\x02hi");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Socket<S>(
    /// The socket.
    pub S,
);

/// How much may lie sent and not yet received in a Unix socket, in bytes, once a large message has been
/// sent. The system's default makes the two ends of one wait for each other many times. From the
/// beginning it would make a stream of small messages slower: so many of them leave the processor's
/// cache before they are received.
const WIDE: usize = 1024 * 1024;

/// A time that a write may take, which means nothing to writes that do not wait, as all of ours. It belongs to
/// the socket, and not to a descriptor of it, so all processes that have the socket see it.
const CLAIM: Duration = Duration::from_secs(73_022);

/// What a socket is stretched by for a farewell, in bytes: more than the system lets the last write
/// go beyond the bound.
const RESERVE: usize = 128 * 1024;

/// The room that the system gives to a new Unix socket, in bytes.
fn default_room() -> Option<usize> {
    static ROOM: OnceLock<Option<usize>> = OnceLock::new();
    *ROOM.get_or_init(|| {
        let flags = SocketFlags::CLOEXEC;
        let fresh =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
        sockopt::socket_send_buffer_size(fresh).ok()
    })
}

/// The most parts that one system call takes: `IOV_MAX` of Linux.
const PARTS_MAX: usize = 1024;

impl<S: AsFd> Stream for Socket<S> {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn read(&self, place: &mut [u8]) -> io::Result<usize> {
        let (count, _) = rustix::net::recv(&self.0, place, RecvFlags::DONTWAIT)?;
        Ok(count)
    }

    fn read_uninit<'a>(&self, place: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a mut [u8]> {
        let ((filled, _), _) = rustix::net::recv(&self.0, place, RecvFlags::DONTWAIT)?;
        Ok(filled)
    }

    fn peek(&self, place: &mut [u8]) -> io::Result<usize> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let (count, _) = rustix::net::recv(&self.0, place, flags)?;
        Ok(count)
    }

    fn available(&self) -> io::Result<usize> {
        let count = rustix::io::ioctl_fionread(&self.0)?;
        Ok(count.try_into().unwrap_or(usize::MAX))
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if let [part] = parts {
            return Ok(rustix::net::send(&self.0, part, flags)?);
        }
        let parts = &parts[..parts.len().min(PARTS_MAX)];
        let mut control = SendAncillaryBuffer::default();
        Ok(rustix::net::sendmsg(&self.0, parts, &mut control, flags)?)
    }

    fn finish(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, Shutdown::Write)?)
    }

    fn carries_descriptors(&self) -> bool {
        sockopt::socket_domain(&self.0).is_ok_and(|domain| domain == AddressFamily::UNIX)
    }

    fn write_descriptors(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(V2::DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match rustix::net::sendmsg(&self.0, &[IoSlice::new(&[0])], &mut control, flags)? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            _ => Ok(()),
        }
    }

    fn read_descriptors<'a>(
        &self,
        place: &'a mut [MaybeUninit<u8>],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<&'a mut [u8]> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(V2::DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let parts = &mut [IoSliceMut::new(&mut byte)];
        let received = rustix::net::recvmsg(&self.0, parts, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        Ok(place[..received.bytes].write_copy_of_slice(&byte[..received.bytes]))
    }

    /// Other sockets than Unix ones are widened by the system as they need it, and what somebody has
    /// set is left alone. A socket that gets no more room is slower, and works.
    fn widen(&self) {
        if self.carries_descriptors()
            && sockopt::socket_send_buffer_size(&self.0).ok() == default_room()
        {
            let _ = sockopt::set_socket_send_buffer_size(&self.0, WIDE);
            // Where the system gives no more than this, something is kept back to be stretched by.
            if let Ok(room) = sockopt::socket_send_buffer_size(&self.0)
                && room < WIDE
            {
                let less = room.saturating_sub(RESERVE) / 2;
                let _ = sockopt::set_socket_send_buffer_size(&self.0, less);
            }
        }
    }

    fn give_up(&self, patience: Duration) -> bool {
        let is_lost = transport::is_unanswered(self.0.as_fd(), patience);
        is_lost && rustix::net::shutdown(&self.0, Shutdown::Both).is_ok()
    }

    fn claim(&self) {
        let _ = sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Send, Some(CLAIM));
    }

    fn release(&self) {
        let _ = sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Send, None);
    }

    fn is_claimed(&self) -> bool {
        sockopt::socket_timeout(&self.0, sockopt::Timeout::Send)
            .is_ok_and(|time| time == Some(CLAIM))
    }

    /// Unix sockets lose nothing.
    fn linger(&self, may_be_shared: bool) {
        let socket = self.0.as_fd();
        if transport::peer_host(socket).is_some() {
            transport::linger(socket, may_be_shared);
        }
    }

    /// The system doubles what it is asked for (`socket(7)`).
    fn stretch(&self) {
        if let Ok(room) = sockopt::socket_send_buffer_size(&self.0) {
            let _ = sockopt::set_socket_send_buffer_size(&self.0, room / 2 + RESERVE);
        }
    }
}
