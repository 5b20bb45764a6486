//! The records that have come from the other end.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::net::RecvFlags;

use crate::error::{Error, ErrorKind};

/// The bytes before a record (RFC 8446, section 5.1).
const HEADER: usize = 5;

/// The longest record that the standard allows, header and encryption included.
const RECORD_MAX: usize = HEADER + 16 * 1024 + 256;

/// How much is looked at in one go, in bytes.
const WINDOW: usize = RECORD_MAX;

/// How much of a large message is taken in one go, in bytes.
const BULK: usize = 128 * 1024;

/// Takes records from a socket, whole ones at a time, so that the socket stays readable for as long as
/// there is something to read.
///
/// What has been decrypted can be seen by nobody who waits for the descriptor. So the last part of a
/// record that may complete a message is only looked at, and stays in the socket until its content
/// has been read.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    buffer: Vec<u8>,
    /// Where the first record that has not been taken begins.
    start: usize,
    /// Where the last whole record ends.
    whole: usize,
    /// Where the last byte that is here ends.
    end: usize,
    /// How many of them are in the socket still.
    held: usize,
    /// How many have come in all.
    total: usize,
}

/// What [`Inbound::fetch`] has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    Some,
    End,
}

impl Inbound {
    /// How many bytes have come in all.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// The next whole record, if one is here.
    pub(super) fn take(&mut self) -> Option<&[u8]> {
        let here = &self.buffer[self.start..self.whole];
        let len = record_len(here)?;
        let start = self.start;
        self.start += len;
        Some(&self.buffer[start..self.start])
    }

    /// Whether all whole records have been taken.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.whole
    }

    /// Lets the socket go of what has been read, all of it having been.
    pub(super) fn settle(&mut self, socket: BorrowedFd<'_>) {
        while self.held > 0 {
            // The same bytes once more; where the system can, it does not copy them (tcp(7)).
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            let place = self.end - self.held;
            let place = &mut self.buffer[place..self.end];
            match rustix::net::recv(socket, place, flags) {
                Ok((_, count @ 1..)) => self.held -= count.min(self.held),
                Err(rustix::io::Errno::INTR) => {}
                // The connection is lost, and what comes next will tell.
                Ok(_) | Err(_) => self.held = 0,
            }
        }
    }

    /// Keeps no memory but for what is here.
    pub(super) fn shrink(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.whole, self.end) = (self.whole - self.start, self.end - self.start);
        self.start = 0;
        self.buffer.truncate(self.end);
        self.buffer.shrink_to_fit();
    }

    /// Gets more from the socket, all that is here having been read. `want` is how many bytes of a message
    /// are still missing, and `most` how many may come at the most.
    pub(super) fn fetch(
        &mut self,
        socket: BorrowedFd<'_>,
        want: usize,
        most: usize,
    ) -> io::Result<Fetched> {
        self.settle(socket);
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        (self.start, self.whole) = (0, 0);
        // So few bytes of records cannot hold so many of a message, nor its last one.
        let bulk = want.saturating_sub(1 + self.end).min(BULK);
        let is_bulk = bulk > 2 * RECORD_MAX;
        let room = match is_bulk {
            true => bulk,
            false => WINDOW,
        };
        let target = self.end + room.min(most);
        if self.buffer.len() < target {
            self.buffer.resize(target, 0);
        }
        let place = &mut self.buffer[self.end..target];
        let flags = match is_bulk {
            true => RecvFlags::DONTWAIT,
            false => RecvFlags::DONTWAIT | RecvFlags::PEEK,
        };
        let (count, _) = rustix::net::recv(socket, place, flags)?;
        if count == 0 {
            return Ok(Fetched::End);
        }
        let before = self.end;
        self.end += count;
        self.whole = whole_records(&self.buffer[..self.end])?;
        if !is_bulk {
            if self.whole > before {
                // What lies behind is looked at again.
                self.end = self.whole;
                self.held = self.end - before;
            } else {
                // Nothing can be made of it yet, and it must not keep the socket readable.
                self.held = count;
                self.settle(socket);
            }
        }
        self.total = self.total.saturating_add(self.end - before);
        Ok(Fetched::Some)
    }
}

/// The length of the first record, header included, if its header is here.
fn record_len(bytes: &[u8]) -> Option<usize> {
    let [_, _, _, high, low] = *bytes.first_chunk::<HEADER>()?;
    Some(HEADER + usize::from(u16::from_be_bytes([high, low])))
}

/// Where the last whole record ends.
fn whole_records(bytes: &[u8]) -> io::Result<usize> {
    let mut whole = 0;
    loop {
        let rest = &bytes[whole..];
        // The kinds of records; all of them are of a version 3.x.
        if !matches!(rest, [] | [20..=23] | [20..=23, 3, ..]) {
            return Err(no_tls("the first byte of a record is none that TLS knows"));
        }
        match record_len(rest) {
            Some(len) if len > RECORD_MAX => return Err(no_tls("a record is too long")),
            Some(len) if len <= rest.len() => whole += len,
            _ => return Ok(whole),
        }
    }
}

fn no_tls(why: &str) -> io::Error {
    let text = format!("the other end does not speak TLS, or is out of step: {why}");
    Error::new(ErrorKind::Protocol, text).into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn record(len: usize) -> Vec<u8> {
        let mut record = vec![23, 3, 3];
        record.extend(u16::try_from(len).unwrap().to_be_bytes());
        record.resize(HEADER + len, 7);
        record
    }

    fn is_readable(stream: &UnixStream) -> bool {
        rustix::io::ioctl_fionread(stream).unwrap() > 0
    }

    fn fetch(inbound: &mut Inbound, stream: &UnixStream, want: usize) -> io::Result<Fetched> {
        inbound.fetch(stream.as_fd(), want, usize::MAX)
    }

    #[test]
    fn a_part_of_a_record_leaves_the_socket_and_a_whole_one_stays_until_it_is_read() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut inbound = Inbound::default();
        let record = record(100);
        theirs.write_all(&record[..50]).unwrap();
        fetch(&mut inbound, &ours, 128).unwrap();
        assert!(!is_readable(&ours) && inbound.is_empty());

        theirs.write_all(&record[50..]).unwrap();
        fetch(&mut inbound, &ours, 128).unwrap();
        assert_eq!(inbound.take(), Some(&record[..]));
        assert!(is_readable(&ours));
        inbound.settle(ours.as_fd());
        assert!(!is_readable(&ours));
        let error = fetch(&mut inbound, &ours, 128).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn every_split_of_a_stream_gives_the_same_records() {
        let records = [record(0), record(300), record(1), record(40)];
        let stream = records.concat();
        for cut in 1..stream.len() {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut inbound = Inbound::default();
            let mut taken = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                theirs.write_all(part).unwrap();
                while fetch(&mut inbound, &ours, 128).is_ok() {
                    while let Some(record) = inbound.take() {
                        taken.push(record.to_vec());
                    }
                }
            }
            assert_eq!(taken, records);
        }
    }

    #[test]
    fn a_large_message_is_taken_in_bulk_but_never_to_its_last_byte() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut inbound = Inbound::default();
        let record = record(16 * 1024);
        theirs.write_all(&record.repeat(6)).unwrap();
        let want = 6 * 16 * 1024;
        fetch(&mut inbound, &ours, want).unwrap();
        let mut count = 0;
        while inbound.take().is_some() {
            count += 1;
        }
        assert_eq!(count, 5);
        inbound.settle(ours.as_fd());
        assert!(is_readable(&ours));
    }

    #[test]
    fn what_is_no_record_is_refused_at_its_first_byte() {
        for bytes in [
            b"G".as_slice(),
            b"\xd2\x01",
            b"\x16\x02",
            b"\x17\x03\x03\xff\xff",
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(bytes).unwrap();
            let error = fetch(&mut Inbound::default(), &ours, 128).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
