//! A duct carried over a fork: both processes can use it, and neither disturbs the other.

use std::ffi::c_uint;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::{Address, Duct, ErrorKind, Listener, Parent};

pub(crate) const ROLES: &[Role<'_>] = &[("nothing", |_| ())];

unsafe extern "C" {
    // alarm(2)
    safe fn alarm(seconds: c_uint) -> c_uint;
}

/// Runs `work` in a forked child, which must return true, and waits until that has become a program
/// that does nothing and ended.
#[track_caller]
fn in_a_fork(mut work: impl FnMut() -> bool + Send + Sync + 'static) {
    let mut command = process("nothing", "");
    let work = move || {
        // The watchdog's thread stays behind.
        alarm(60);
        match work() {
            true => Ok(()),
            false => Err(io::ErrorKind::Other.into()),
        }
    };
    // SAFETY: only functions that are safe after a fork may run before the exec. What the work does
    // beyond system calls is to allocate, which the C library allows, and to use locks of objects
    // that no other thread uses at that moment.
    unsafe { command.pre_exec(work) };
    assert_success(
        command
            .spawn()
            .expect("the work in the forked child succeeds"),
    );
}

type Shared<T> = Arc<Mutex<Option<T>>>;

/// Something that a forked child drops or uses while this process goes on with its own copy.
fn shared<T>(value: T) -> (Shared<T>, Shared<T>) {
    let shared = Arc::new(Mutex::new(Some(value)));
    (Arc::clone(&shared), shared)
}

#[test]
fn a_parent_that_a_forked_child_drops_or_closes_goes_on_here() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        for finish in [drop, |parent: Parent| parent.close()] {
            let (theirs, ours) = shared(transport.parent());
            in_a_fork(move || theirs.lock().unwrap().take().map(finish).is_some());

            let parent = ours.lock().unwrap().take().unwrap();
            if parent.address().path().is_some() {
                assert!(v2_path(parent.address()).exists());
            }
            let (child, duct) = join(&parent);
            duct.send(&1).unwrap();
            assert_eq!(child.recv::<u8>().unwrap(), 1);
        }
    }
}

#[test]
fn a_listener_at_a_given_name_that_a_forked_child_drops_goes_on_here() {
    let _watchdog = watchdog();
    let directory = tempfile::tempdir().unwrap();
    let address = Address::unix(directory.path().join("duct")).unwrap();
    for finish in [drop, |listener: Listener| listener.close()] {
        let (theirs, ours) = shared(Listener::bind(&address).unwrap());
        in_a_fork(move || theirs.lock().unwrap().take().map(finish).is_some());

        let listener = ours.lock().unwrap().take().unwrap();
        let (child, duct) = enter(&listener);
        duct.send(&1).unwrap();
        assert_eq!(child.recv::<u8>().unwrap(), 1);
    }
    assert!(!v2_path(&address).exists());
}

#[test]
fn a_duct_that_a_forked_child_drops_or_closes_goes_on_here() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        for finish in [drop, |duct: Duct| duct.close()] {
            let (a, b) = transport.ducts();
            let (theirs, ours) = shared(a);
            in_a_fork(move || theirs.lock().unwrap().take().map(finish).is_some());

            let a = ours.lock().unwrap().take().unwrap();
            assert!(!b.poll(Duration::ZERO).unwrap(), "no end was sent");
            a.send(&1).unwrap();
            assert_eq!(b.recv::<u8>().unwrap(), 1);
            b.send(&2).unwrap();
            assert_eq!(a.recv::<u8>().unwrap(), 2);
        }
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_duct_over_tls_belongs_to_the_process_that_made_it() {
    let _watchdog = watchdog();
    let (a, b) = enter(&Listener::bind("tls:127.0.0.1:0").unwrap());
    let (here, there) = shared(a);
    in_a_fork(move || {
        let duct = there.lock().unwrap().take().unwrap();
        let is_refused = |kind| kind == ErrorKind::Forked;
        is_refused(kind(duct.send(&1))) && is_refused(kind(duct.try_recv::<u8>()))
    });
    let a = here.lock().unwrap().take().unwrap();
    a.send("from here").unwrap();
    assert_eq!(b.recv::<String>().unwrap(), "from here");
    b.send("and back").unwrap();
    assert_eq!(a.recv::<String>().unwrap(), "and back");
}

#[test]
fn both_processes_send_and_receive_in_turn() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        let a = Arc::new(a);
        for round in 0..3u8 {
            b.send(&round).unwrap();
            let theirs = Arc::clone(&a);
            in_a_fork(move || {
                let got = theirs.recv_timeout::<u8>(PATIENCE);
                got.is_ok_and(|got| got == round) && theirs.send(&(round, "forked")).is_ok()
            });
            a.send(&(round, "here")).unwrap();
            for expected in ["forked", "here"] {
                let (number, from): (u8, String) = b.recv().unwrap();
                assert_eq!((number, from.as_str()), (round, expected));
            }
        }
    }
}

#[test]
fn a_copy_can_answer_an_end_that_has_finished() {
    alone(|| {
        let (a, b) = ductworks::pair().unwrap();
        let a = Arc::new(a);
        ductworks::engine::forked();
        b.finish().unwrap();
        assert_eq!(kind(a.recv::<u8>()), ErrorKind::Disconnected);
        // Only this process has heard that it was no close.
        let theirs = Arc::clone(&a);
        in_a_fork(move || theirs.recv::<u8>().is_err() && theirs.send(&1).is_ok());
        a.send(&2).unwrap();
        assert_eq!([b.recv::<u8>().unwrap(), b.recv().unwrap()], [1, 2]);
    });
}

#[test]
fn a_message_that_is_partly_sent_is_finished_by_the_process_that_began_it() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        let a = Arc::new(a);
        a.try_send_bytes(&LARGE).unwrap();
        b.send(&1).unwrap();

        let theirs = Arc::clone(&a);
        in_a_fork(move || {
            let refused = theirs
                .send(&2)
                .is_err_and(|e| e.kind() == ErrorKind::Forked);
            // The other direction is free, and closing sends nothing of the rest.
            let received = theirs
                .recv_timeout::<u8>(PATIENCE)
                .is_ok_and(|got| got == 1);
            theirs.close();
            refused && received
        });

        thread::scope(|scope| {
            let reading = scope.spawn(|| b.recv_bytes().unwrap());
            a.flush(PATIENCE).unwrap();
            assert!(reading.join().unwrap() == *LARGE);
        });
        a.send(&3).unwrap();
        assert_eq!(b.recv::<u8>().unwrap(), 3);
    }
}

#[test]
fn a_message_that_is_partly_received_is_finished_by_the_process_that_began_it() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        for cut in [3, 8] {
            let (a, mut peer) = transport.bare_peer();
            let a = Arc::new(a);
            let frame = frame(b"[1,2,3]");
            peer.write_all(&frame[..cut]).unwrap();
            wait_until_readable(&a);
            assert_eq!(kind(a.try_recv::<u8>()), ErrorKind::WouldBlock);

            let theirs = Arc::clone(&a);
            in_a_fork(move || {
                let forked = |e: ductworks::Error| e.kind() == ErrorKind::Forked;
                theirs.try_recv::<u8>().is_err_and(forked)
                    && theirs.poll(Duration::ZERO).is_err_and(forked)
                    && theirs.send(&4).is_ok()
            });

            peer.write_all(&frame[cut..]).unwrap();
            assert_eq!(a.recv::<Vec<u8>>().unwrap(), [1, 2, 3]);
            let mut sent = [0; 6];
            peer.read_exact(&mut sent).unwrap();
            assert_eq!(sent, *b"\x54\0\0\0\x014");
        }
    }
}

#[test]
fn threads_that_wait_here_are_no_obstacle_there() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    let a = Arc::new(a);
    thread::scope(|scope| {
        let waiting = asleep(scope, || a.recv::<u8>().unwrap());
        let next = asleep(scope, || a.recv::<u8>().unwrap());
        let theirs = Arc::clone(&a);
        in_a_fork(move || {
            let nothing = theirs.try_recv::<u8>().is_err_and(|e| is_late(&e));
            let sent = theirs.send(&1).is_ok();
            theirs.close();
            let closed = theirs
                .recv::<u8>()
                .is_err_and(|e| e.kind() == ErrorKind::Closed);
            nothing && sent && closed
        });
        assert_eq!(b.recv::<u8>().unwrap(), 1);
        b.send(&2).unwrap();
        b.send(&3).unwrap();
        assert_eq!(waiting.join().unwrap() + next.join().unwrap(), 5);
    });
}

/// Forks, and says whether the child's work returned true.
fn holds_in_a_fork(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child ends without returning; what it does before is as safe as in `in_a_fork`.
    match unsafe { libc::fork() } {
        0 => {
            let code = i32::from(!work());
            // SAFETY: it ends the process, and nothing else.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the system writes one number.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            waited == child && status == 0
        }
    }
}

/// The next child is the first process of a namespace of its own, if the system allows it.
fn unshare_pids() -> bool {
    // SAFETY: the call touches no memory.
    unsafe { libc::unshare(libc::CLONE_NEWPID) == 0 }
}

#[test]
fn a_child_with_the_process_id_of_its_parent_is_told_from_it() {
    let _watchdog = watchdog();
    let (a, _b) = ductworks::pair().unwrap();
    let work = move || {
        // Half of a message is out, and only this process can complete it.
        a.try_send_bytes(&LARGE).unwrap();
        let parent = std::process::id();
        unshare_pids()
            && holds_in_a_fork(|| {
                std::process::id() == parent && kind(a.try_send(&1)) == ErrorKind::Forked
            })
    };
    in_a_fork(move || {
        // Who has left the namespace begins no program any more.
        holds_in_a_fork(|| match unshare_pids() {
            true => holds_in_a_fork(&work),
            false => true, // No permission: left out.
        })
    });
}
