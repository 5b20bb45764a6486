//! One connection's encryption.

use std::fmt;
use std::io::{self, BufRead, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::{
    AlertDescription, CertificateError, ClientConnection, Connection, OtherError, PeerIncompatible,
    ServerConnection,
};

use super::inbound::{Fetched, Inbound};
use super::{Acceptor, BINDING_LABEL, Connector, PROTOCOL, verify};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::Interest;
use crate::process;
use crate::stream::{Socket, Stream};
use crate::wire::Secured;

/// What a client may say until it is known who it is, in bytes.
const CLIENT_SAYS_MAX: usize = 4 * 1024;

/// The same with certificates.
const CLIENT_SHOWS_MAX: usize = 32 * 1024;

/// What a client may say in the handshake that follows, in bytes, encrypted.
const PROVES_MAX: usize = 1024;

/// What a listener may say until it is known who it is, in bytes.
const SERVER_SAYS_MAX: usize = 64 * 1024;

const WENT_AWAY: &str = "the other end went away while TLS was set up";

/// How many records without content are taken in one go: they are not to keep a call beyond its time.
const EMPTY_MAX: usize = 64;

/// The TLS of one connection, which belongs to the process that has made it: two processes that
/// encrypt with the same keys would give everything away.
pub struct Session {
    process: u32,
    state: Mutex<State>,
}

struct State {
    /// Nothing until a client has said its first words: those who say nothing are to cost nothing.
    tls: Option<Box<Connection>>,
    acceptor: Option<Acceptor>,
    inbound: Inbound,
    secured: Option<Box<Secured>>,
    /// How many bytes had come when both ends had the keys.
    spoken: Option<usize>,
    /// The other end has proved itself, and may say what it wants.
    is_admitted: bool,
    /// How it failed. Nothing that follows means anything.
    failure: Option<Box<(ErrorKind, String)>>,
    has_ended: bool,
}

/// How far a session is.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Both ends have the keys.
    Done(Secured),
    /// It goes on when the socket is ready.
    Needs(Interest),
}

impl Session {
    pub(crate) fn accepting(acceptor: Acceptor) -> Self {
        Self::new(None, Some(acceptor))
    }

    pub(crate) fn connecting(connector: Connector) -> Result<Self> {
        let tls = ClientConnection::new(connector.config, connector.name)
            .map_err(|error| explain(&error, false))?;
        Ok(Self::new(Some(Box::new(tls.into())), None))
    }

    fn new(tls: Option<Box<Connection>>, acceptor: Option<Acceptor>) -> Self {
        Self {
            process: process::id(),
            state: Mutex::new(State {
                tls,
                acceptor,
                inbound: Inbound::default(),
                secured: None,
                spoken: None,
                is_admitted: false,
                failure: None,
                has_ended: false,
            }),
        }
    }

    /// Whether this process has the keys.
    pub(crate) fn is_here(&self) -> bool {
        self.process == process::id()
    }

    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        if !self.is_here() {
            let text = format!(
                "the process was forked, and the keys of this TLS connection are those of process {}: \
                 connect again here",
                process::pid_of(self.process)
            );
            return Err(Error::new(ErrorKind::Forked, text).into());
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.failure.as_deref() {
            None => Ok(state),
            Some((kind, text)) => Err(Error::new(*kind, text.clone()).into()),
        }
    }

    /// Goes on with the handshake as far as it can without waiting.
    pub(crate) fn establish(&self, socket: BorrowedFd<'_>) -> Result<Progress> {
        let established = self.state().and_then(|mut state| state.establish(socket));
        established.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Error::new(ErrorKind::Disconnected, WENT_AWAY)
            }
            _ => Error::os("set up TLS", error),
        })
    }

    /// Notes that the other end has proved itself.
    pub(crate) fn admit(&self) {
        if let Ok(mut state) = self.state() {
            state.is_admitted = true;
        }
    }

    pub(crate) fn read(&self, socket: BorrowedFd<'_>, place: &mut [u8]) -> io::Result<usize> {
        let len = place.len();
        // SAFETY: bytes that are initialised may be seen as bytes that need not be, as long as nobody
        // puts uninitialised ones there, which `read` does not.
        let place = unsafe {
            std::slice::from_raw_parts_mut(place.as_mut_ptr().cast::<MaybeUninit<u8>>(), len)
        };
        self.state()?.read(socket, place)
    }

    pub(crate) fn read_uninit<'a>(
        &self,
        socket: BorrowedFd<'_>,
        place: &'a mut [MaybeUninit<u8>],
    ) -> io::Result<&'a mut [u8]> {
        let mut state = self.state()?;
        let count = state.read(socket, place)?;
        // SAFETY: so many bytes at the beginning have just been written.
        Ok(unsafe { place[..count].assume_init_mut() })
    }

    pub(crate) fn peek(&self, socket: BorrowedFd<'_>, place: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state()?;
        for _ in 0..EMPTY_MAX {
            let here = state.decrypted();
            if !here.is_empty() {
                let count = here.len().min(place.len());
                place[..count].copy_from_slice(&here[..count]);
                return Ok(count);
            }
            if state.next(socket, place.len())? == Fetched::End {
                return Ok(0);
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    pub(crate) fn available(&self) -> io::Result<usize> {
        Ok(self.state()?.decrypted().len())
    }

    pub(crate) fn write(&self, socket: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state()?;
        state.push(socket)?;
        let tls = state.tls.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let count = tls.writer().write_vectored(parts)?;
        match state.push(socket) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    pub(crate) fn flush(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.state()?.push(socket)
    }

    pub(crate) fn finish(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut state = self.state()?;
        if let Some(tls) = &mut state.tls {
            tls.send_close_notify();
        }
        // Where there is no room for it, the end of the stream has to do.
        let _ = state.push(socket);
        Socket(socket).finish()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl State {
    fn establish(&mut self, socket: BorrowedFd<'_>) -> io::Result<Progress> {
        loop {
            if let Some(secured) = &self.secured {
                return Ok(Progress::Done(Secured::clone(secured)));
            }
            match self.push(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Progress::Needs(Interest::Writable));
                }
                outcome => outcome?,
            }
            if self.tls.as_ref().is_some_and(|tls| !tls.is_handshaking()) {
                self.secured = Some(Box::new(self.secure()?));
                self.spoken = Some(self.inbound.total());
                continue;
            }
            match self.next(socket, 0) {
                Ok(Fetched::Some) => {}
                Ok(Fetched::End) => {
                    return Err(Error::new(ErrorKind::Disconnected, WENT_AWAY).into());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Progress::Needs(Interest::Readable));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What the two have agreed on, the keys being there.
    fn secure(&mut self) -> io::Result<Secured> {
        let tls = self.tls.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        if tls.alpn_protocol() != Some(PROTOCOL) {
            let text = "the other end speaks TLS, but something else than ductworks/2 inside";
            return Err(self.fail(ErrorKind::Protocol, text.into()));
        }
        let authority = self
            .acceptor
            .as_ref()
            .and_then(|acceptor| acceptor.authority.as_ref());
        let objection = authority
            .and_then(|authority| verify::objection(&**authority, tls.peer_certificates()));
        match tls.export_keying_material([0; 32], BINDING_LABEL, None) {
            Ok(binding) => Ok(Secured { binding, objection }),
            Err(error) => Err(self.fail_with(&error)),
        }
    }

    fn read(&mut self, socket: BorrowedFd<'_>, place: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        let mut filled = 0;
        let mut empty = 0;
        while filled < place.len() {
            let here = self.decrypted();
            let count = here.len().min(place.len() - filled);
            if count > 0 {
                place[filled..filled + count].write_copy_of_slice(&here[..count]);
                self.consume(count);
                filled += count;
                empty = 0;
                continue;
            }
            if filled > 0 && self.inbound.is_empty() {
                break;
            }
            match self.next(socket, place.len()) {
                Ok(Fetched::Some) => empty += 1,
                Ok(Fetched::End) => break,
                // What is here already is not to be lost by what follows it.
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
            if empty == EMPTY_MAX {
                match filled {
                    0 => return Err(io::ErrorKind::WouldBlock.into()),
                    _ => break,
                }
            }
        }
        // What has ended the stream stays in the socket: the end can be received again.
        if self.inbound.is_empty() && self.decrypted().is_empty() && !self.has_ended {
            self.inbound.settle(socket);
        }
        Ok(filled)
    }

    /// What has been decrypted and not been read, or the beginning of it.
    fn decrypted(&mut self) -> &[u8] {
        match &mut self.tls {
            Some(tls) => tls.reader().into_first_chunk().unwrap_or_default(),
            None => &[],
        }
    }

    fn consume(&mut self, count: usize) {
        if let Some(tls) = &mut self.tls {
            tls.reader().consume(count);
        }
    }

    /// Decrypts one more record, or gets some more from the socket.
    fn next(&mut self, socket: BorrowedFd<'_>, want: usize) -> io::Result<Fetched> {
        if self.has_ended {
            return Ok(Fetched::End);
        }
        if let Some(record) = self.inbound.take() {
            let tls = match (&mut self.tls, &self.acceptor) {
                (Some(tls), _) => tls,
                (none, Some(acceptor)) => {
                    let tls = ServerConnection::new(acceptor.config.clone())
                        .map_err(|error| explain(&error, true))?;
                    none.insert(Box::new(tls.into()))
                }
                (None, None) => return Err(io::ErrorKind::NotConnected.into()),
            };
            return match decrypt(tls, record) {
                Ok(Fetched::End) => {
                    self.has_ended = true;
                    Ok(Fetched::End)
                }
                Ok(some) => Ok(some),
                Err(error) => {
                    let error = self.fail_with(&error);
                    if self.acceptor.is_none() {
                        // The listener's log is to say why it was left.
                        let _ = self.push(socket);
                    }
                    Err(error)
                }
            };
        }
        let most = match self.allowance() {
            None => usize::MAX,
            Some(0) => {
                let text = "the other end says too much before it is known who it is".into();
                return Err(self.fail(ErrorKind::Protocol, text));
            }
            Some(left) => left,
        };
        match self.inbound.fetch(socket, want, most) {
            Ok(Fetched::End) => {
                self.has_ended = true;
                Ok(Fetched::End)
            }
            Ok(some) => Ok(some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !self.is_admitted {
                    // Who knows for how long.
                    self.inbound.shrink();
                }
                Err(error)
            }
            Err(error) => Err(match error.downcast::<Error>() {
                Ok(error) => self.fail(error.kind(), error.to_string()),
                Err(error) => error,
            }),
        }
    }

    /// How much the other end may still say, in bytes, until it is known who it is.
    fn allowance(&self) -> Option<usize> {
        if self.is_admitted {
            return None;
        }
        match (self.spoken, &self.acceptor) {
            (Some(spoken), Some(_)) => {
                return Some((spoken + PROVES_MAX).saturating_sub(self.inbound.total()));
            }
            // A listener may go on at once.
            (Some(_), None) => return None,
            (None, _) => {}
        }
        let most = match &self.acceptor {
            None => SERVER_SAYS_MAX,
            Some(acceptor) if acceptor.authority.is_some() => CLIENT_SHOWS_MAX,
            Some(_) => CLIENT_SAYS_MAX,
        };
        Some(most.saturating_sub(self.inbound.total()))
    }

    /// Hands to the system what has been encrypted.
    fn push(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        while tls.wants_write() {
            match tls.write_tls(&mut Sink(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn fail_with(&mut self, error: &rustls::Error) -> io::Error {
        let error = match (error, &self.secured) {
            (rustls::Error::AlertReceived(alert), Some(_)) => {
                let text = format!("the other end broke TLS off with the alert {alert:?}");
                Error::new(ErrorKind::Protocol, text)
            }
            (error, _) => explain(error, self.acceptor.is_some()),
        };
        self.fail(error.kind(), error.to_string())
    }

    fn fail(&mut self, kind: ErrorKind, text: String) -> io::Error {
        self.failure = Some(Box::new((kind, text.clone())));
        Error::new(kind, text).into()
    }
}

fn decrypt(tls: &mut Connection, mut record: &[u8]) -> Result<Fetched, rustls::Error> {
    while !record.is_empty() {
        // It takes a few kibibytes at a time.
        match tls.read_tls(&mut record) {
            Ok(1..) => {}
            // What was decrypted before has been read, so there is room.
            Ok(0) | Err(_) => return Ok(Fetched::End),
        }
        let state = tls.process_new_packets()?;
        if state.peer_has_closed() {
            return Ok(Fetched::End);
        }
    }
    Ok(Fetched::Some)
}

/// Where the encrypted bytes go.
struct Sink<'a>(BorrowedFd<'a>);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Socket(self.0).write(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Socket(self.0).write(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whose fault it is, and what it means.
fn explain(error: &rustls::Error, listens: bool) -> Error {
    use rustls::Error as Tls;
    let (kind, text) = match error {
        Tls::InvalidCertificate(CertificateError::Other(OtherError(other)))
            if other.is::<verify::WrongPin>() =>
        {
            (ErrorKind::PermissionDenied, other.to_string())
        }
        Tls::InvalidCertificate(error) => (
            ErrorKind::PermissionDenied,
            format!("the other end's certificate is not accepted: {error}"),
        ),
        Tls::AlertReceived(AlertDescription::ProtocolVersion)
        | Tls::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13,
        ) => (
            ErrorKind::Protocol,
            "the other end does not speak TLS 1.3, and nothing older is spoken here".into(),
        ),
        Tls::AlertReceived(alert) if listens => {
            let meaning = meaning(*alert).map_or(String::new(), |meaning| format!(": {meaning}"));
            (
                ErrorKind::PermissionDenied,
                format!("it broke off with the alert {alert:?}{meaning}"),
            )
        }
        Tls::AlertReceived(alert) => (
            ErrorKind::PermissionDenied,
            format!("the listener broke off with the alert {alert:?}"),
        ),
        error => (ErrorKind::Protocol, format!("TLS failed: {error}")),
    };
    Error::new(kind, text)
}

/// What a client that broke off has against this listener (RFC 8446, section 6.2; which of them clients send
/// is up to them, and the same as here where they are ours).
fn meaning(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateExpired => {
            "by its clock this listener's certificate has expired, or is not valid yet"
        }
        AlertDescription::BadCertificate => {
            "this listener's certificate is not for the name by which it was called, or malformed"
        }
        AlertDescription::UnknownCA => {
            "it trusts nobody who vouches for this listener's certificate"
        }
        AlertDescription::CertificateRevoked => "it takes this listener's certificate for revoked",
        AlertDescription::UnsupportedCertificate => {
            "this listener's certificate is not one for a listener, or of a kind that it does not know"
        }
        AlertDescription::CertificateUnknown => "it may expect a listener with another key",
        _ => return None,
    })
}
