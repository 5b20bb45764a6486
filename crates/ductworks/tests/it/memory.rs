//! What those cost who come and are not let in.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::*;
use ductworks::wire::{Control, Framing, Hello, Mode, V2};
use ductworks::{ErrorKind, Listener};

/// Counts what is in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// As many as one host may have waiting.
const CROWD: usize = 8;

fn dial(listener: &Listener) -> Box<dyn Write> {
    match listener.address().port() {
        Some(port) => Box::new(TcpStream::connect(("127.0.0.1", port)).unwrap()),
        None => Box::new(UnixStream::connect(v2_path(listener.address())).unwrap()),
    }
}

/// What each of those who say this costs a listener, in bytes, while it waits for more.
fn cost(listener: &Listener, said: &[u8]) -> usize {
    let mut peers: Vec<_> = (0..CROWD).map(|_| dial(listener)).collect();
    for peer in &mut peers {
        peer.write_all(said).unwrap();
    }
    let before = IN_USE.load(Ordering::SeqCst);
    let error = listener
        .accept_timeout(Duration::from_millis(100))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(!error.to_string().contains("refused"), "{error}");
    drop(error);
    let each = IN_USE.load(Ordering::SeqCst).saturating_sub(before) / CROWD;
    assert!(each > 0, "they are there");
    each
}

#[test]
fn a_stranger_costs_less_than_8_kib() {
    alone(strangers_cost_little);
}

fn strangers_cost_little() {
    let hello = Control::Hello(Hello::new(Mode::Token, 1, "", [1; 32]));
    let hello = V2.control(&hello).unwrap();
    for said in [&[][..], &hello[..127], &hello] {
        for listener in [
            Listener::bind_private().unwrap(),
            Listener::bind("tcp:127.0.0.1:0").unwrap(),
        ] {
            let each = cost(&listener, said);
            assert!(each < 8 * 1024, "{each} bytes each after {}", said.len());
        }
    }
    #[cfg(feature = "tls")]
    tls::a_stranger_costs_less_than_8_kib();
}

#[cfg(feature = "tls")]
pub(crate) const ROLES: &[Role<'_>] = &[("strangers", tls::be_strangers)];

#[cfg(feature = "tls")]
mod tls {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::process::Stdio;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use ductworks::{ListenOptions, Listener};
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, version::TLS13};

    use super::{CROWD, IN_USE, cost};
    use crate::authority::Authority;
    use crate::common::*;

    /// In a process of its own: clients that go through TLS, say so much of what follows, and then nothing.
    pub(super) fn be_strangers(argument: &str) {
        let mut arguments = argument.splitn(3, ' ');
        let mut next = || arguments.next().unwrap();
        let (port, said, root) = (next(), next().parse::<usize>().unwrap(), next());
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap())
            .unwrap();
        let mut config = ClientConfig::builder_with_protocol_versions(&[&TLS13])
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"ductworks/2".to_vec()];
        let config = Arc::new(config);
        let mut strangers: Vec<_> = (0..CROWD)
            .map(|_| {
                let socket = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
                let name = "localhost".try_into().unwrap();
                let session = ClientConnection::new(Arc::clone(&config), name).unwrap();
                let mut stranger = StreamOwned::new(session, socket);
                stranger.conn.complete_io(&mut stranger.sock).unwrap();
                stranger
            })
            .collect();
        for stranger in &mut strangers {
            // A part of a record as long as one may be, or of a first word.
            stranger
                .sock
                .write_all(&[b"\x17\x03\x03\x40\x11".as_slice(), &[7; 900]].concat()[..said])
                .unwrap();
        }
        println!("ready");
        let _ = std::io::stdin().read(&mut [0]);
    }

    fn cost_behind_tls(said: usize) -> usize {
        let authority = Authority::new("ours");
        let options = ListenOptions::new().identity(authority.identity("localhost"));
        let listener = options.bind("tls:127.0.0.1:0").unwrap();
        let port = listener.address().port().unwrap();
        let before = IN_USE.load(Ordering::SeqCst);
        let mut child = process("strangers", format!("{port} {said} {}", authority.root()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answer = child.stdout.take().unwrap();
        let heard = std::thread::scope(|scope| {
            let heard = scope.spawn(|| {
                let mut heard = String::new();
                while !heard.contains("ready") {
                    let mut byte = [0];
                    answer.read_exact(&mut byte).unwrap();
                    heard.push(char::from(byte[0]));
                }
            });
            while !heard.is_finished() {
                listener
                    .accept_timeout(Duration::from_millis(20))
                    .unwrap_err();
            }
            heard.join()
        });
        heard.unwrap();
        listener
            .accept_timeout(Duration::from_millis(100))
            .unwrap_err();
        let each = IN_USE.load(Ordering::SeqCst).saturating_sub(before) / CROWD;
        drop(child.stdin.take());
        assert_success(child);
        each
    }

    fn client_hello() -> Vec<u8> {
        let config = ClientConfig::builder_with_protocol_versions(&[&TLS13])
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        hello
    }

    pub(super) fn a_stranger_costs_less_than_8_kib() {
        // As long as it may be, but never at its end.
        let endless = [b"\x16\x03\x01\x10\0".as_slice(), &[1; 4000]].concat();
        for said in [vec![], endless, client_hello()] {
            let listener = Listener::bind("tls:127.0.0.1:0").unwrap();
            let each = cost(&listener, &said);
            assert!(each < 8 * 1024, "{each} bytes each after {}", said.len());
        }
        for said in [0, 100, 905] {
            let each = cost_behind_tls(said);
            println!("behind TLS {each} bytes each after {said}");
            // 7 KiB of it is what rustls needs.
            assert!(each < 10 * 1024, "{each} bytes each after {said}");
        }
    }
}
