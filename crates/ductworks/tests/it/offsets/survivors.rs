//! Those who are left when the other end dies.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use ductworks::wire::{Admission, Token};
use ductworks::{Address, Duct, ListenOptions, Listener, Ticket};

use super::peer::Spoken;
use crate::common::{Transport, v2_path};

/// What happens to a survivor that listens.
pub(crate) enum Event {
    Accepted(Duct),
    Refused(String),
}

/// The listening side as the survivor.
pub(crate) struct Parent {
    pub(crate) listener: Arc<Listener>,
    pub(crate) told: Receiver<Event>,
    accepting: Option<JoinHandle<()>>,
}

impl Drop for Parent {
    fn drop(&mut self) {
        self.listener.close();
        self.accepting.take().map(JoinHandle::join);
    }
}

impl Parent {
    pub(crate) fn new(spoken: Spoken, transport: Transport) -> Self {
        // Without a token there is only the name at which a parent of version 1 speaks version 2.
        let options = ListenOptions::new().v1(spoken != Spoken::Token);
        let listener = match transport {
            Transport::Unix => options.bind_private().unwrap(),
            Transport::Tcp => options.bind("tcp:127.0.0.1:0").unwrap(),
        };
        let (tell, told) = mpsc::channel();
        let listener = Arc::new(listener.with_log({
            let tell = tell.clone();
            // Nobody is left to hear of it when the test is over.
            move |refusal| drop(tell.send(Event::Refused(refusal.to_string())))
        }));
        let door = Arc::clone(&listener);
        let accepting = thread::spawn(move || {
            while let Ok(duct) = door.accept() {
                let _ = tell.send(Event::Accepted(duct));
            }
        });
        Self {
            listener,
            told,
            accepting: Some(accepting),
        }
    }

    pub(crate) fn dial(&self, spoken: Spoken) -> OwnedFd {
        dial(self.listener.address(), spoken)
    }

    /// Nobody was let in: the log says why, the ticket is not used up, and the very call
    /// to accept lets an honest child in.
    #[track_caller]
    pub(crate) fn assert_unharmed(&self, reason: &str, ticket: &Ticket, shown: &str) {
        assert!(reason.contains("went away"), "{reason}, {shown}");
        assert_eq!(self.listener.ticket(), *ticket, "{shown}");
        let child = ductworks::connect(ticket).unwrap();
        match self.told.recv().unwrap() {
            Event::Accepted(duct) => {
                child.send(&1).unwrap();
                assert_eq!(duct.recv::<u8>().unwrap(), 1, "{shown}");
            }
            Event::Refused(other) => panic!("{other}, {shown}"),
        }
    }
}

/// A plain connection to a parent.
pub(crate) fn dial(address: &Address, spoken: Spoken) -> OwnedFd {
    match (address.port(), spoken) {
        (Some(port), _) => {
            let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.into()
        }
        (None, Spoken::V1) => UnixStream::connect(address.path().unwrap()).unwrap().into(),
        (None, _) => UnixStream::connect(v2_path(address)).unwrap().into(),
    }
}

/// What listens in the place of a parent, for a child as the survivor.
pub(crate) struct Trap {
    pub(crate) address: Address,
    pub(crate) accept: Box<dyn Fn() -> OwnedFd + Sync>,
    pub(crate) admission: Option<Arc<Admission>>,
    _place: tempfile::TempDir,
}

impl Trap {
    pub(crate) fn new(spoken: Spoken, transport: Transport) -> Self {
        let place = tempfile::tempdir().unwrap();
        let (address, accept): (_, Box<dyn Fn() -> OwnedFd + Sync>) = match transport {
            Transport::Unix => {
                let address = Address::unix(place.path().join("duct")).unwrap();
                let listener = UnixListener::bind(match spoken {
                    Spoken::V1 => address.path().unwrap().to_owned(),
                    _ => v2_path(&address),
                });
                let listener = listener.unwrap();
                (
                    address,
                    Box::new(move || listener.accept().unwrap().0.into()),
                )
            }
            Transport::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let port = listener.local_addr().unwrap().port();
                let accept = move || {
                    let (stream, _) = listener.accept().unwrap();
                    stream.set_nodelay(true).unwrap();
                    stream.into()
                };
                (Address::tcp("127.0.0.1", port).unwrap(), Box::new(accept))
            }
        };
        let token = (spoken == Spoken::Token).then(|| Token::from([7; 32]));
        Self {
            address,
            accept,
            admission: token.map(|token| Arc::new(Admission::new(token, true))),
            _place: place,
        }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        let token = self.admission.as_ref().map(|admission| admission.token());
        Ticket::new(self.address.clone(), token)
    }
}
