//! Signals in the middle of everything: nothing ends by them, and nothing is lost.

use std::error::Error;
use std::ffi::c_int;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use crate::common::*;
use ductworks::engine::{Channel, Deadline, Hook, Socket, Wait};
use ductworks::wire::V1;
use ductworks::{ConnectOptions, Duct, ErrorKind, ListenOptions, connect};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const ROLES: &[Role<'_>] = &[("send to the dead", send_to_the_dead)];

unsafe extern "C" {
    // signal(2) and pthread_kill(3); a `pthread_t` is as wide as a pointer on Linux.
    fn signal(number: c_int, handler: usize) -> usize;
    safe fn pthread_self() -> usize;
    fn pthread_kill(thread: usize, number: c_int) -> c_int;
}

const SIG_DFL: usize = 0;

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: c_int) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

/// A thread to send signals to.
struct Target {
    thread: usize,
    watched: Watched,
}

impl Target {
    fn this_thread() -> Self {
        Self {
            thread: pthread_self(),
            watched: Watched::this_thread(),
        }
    }

    fn signal(&self) {
        // SAFETY: the thread has not been joined yet, so its handle means it and no other.
        unsafe { pthread_kill(self.thread, Signal::USR1.as_raw()) };
    }

    /// Sends a signal to the thread in its sleep, and returns when it has been handled.
    fn disturb<T>(&self, thread: &ScopedJoinHandle<'_, T>) {
        self.watched.wait_until_asleep();
        let before = HANDLED.load(Ordering::SeqCst);
        self.signal();
        while HANDLED.load(Ordering::SeqCst) == before && !thread.is_finished() {
            thread::yield_now();
        }
    }
}

/// Runs `work` and lets so many signals interrupt its sleep; then does what it waits for.
fn disturbed<T: Send>(times: usize, work: impl FnOnce() -> T + Send, then: impl FnOnce()) -> T {
    // They share a counter.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the handler does nothing but count.
    unsafe { signal(Signal::USR1.as_raw(), count as *const () as usize) };
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            tell.send(Target::this_thread()).unwrap();
            work()
        });
        let target = told.recv().unwrap();
        for _ in (0..times).take_while(|_| !worker.is_finished()) {
            target.disturb(&worker);
        }
        then();
        worker.join().unwrap()
    })
}

/// As often as to hit every place where the work might sleep.
const OFTEN: usize = 20;

#[test]
fn a_receive_goes_on_after_a_signal_at_any_byte() {
    let _watchdog = watchdog();
    let receives: [fn(&Duct) -> Vec<u8>; 4] = [
        |duct| duct.recv_bytes().unwrap(),
        |duct| duct.recv_bytes_timeout(PATIENCE).unwrap(),
        |duct| {
            let mut place = [0; 10];
            let len = duct.recv_into(&mut place).unwrap();
            place[..len].to_vec()
        },
        |duct| {
            assert!(duct.poll(PATIENCE).unwrap());
            duct.try_recv_bytes().unwrap()
        },
    ];
    let stream = frame(b"message");
    for transport in TRANSPORTS {
        for receive in receives {
            for cut in [0, 2, 5, 8] {
                let (duct, mut peer) = transport.bare_peer();
                peer.write_all(&stream[..cut]).unwrap();
                let rest = || peer.write_all(&stream[cut..]).unwrap();
                assert_eq!(disturbed(OFTEN, || receive(&duct), rest), b"message");
                assert!(!duct.poll(Duration::ZERO).unwrap());
            }
        }
    }
}

#[test]
fn a_send_goes_on_after_a_signal() {
    let _watchdog = watchdog();
    let sends: [fn(&Duct); 3] = [
        |duct| duct.send_bytes(&LARGE).unwrap(),
        |duct| duct.send_bytes_timeout(&LARGE, PATIENCE).unwrap(),
        |duct| {
            duct.try_send_bytes(&LARGE).unwrap();
            duct.flush(PATIENCE).unwrap();
        },
    ];
    for transport in TRANSPORTS {
        for send in sends {
            let (a, b) = transport.ducts();
            let read = || assert!(b.recv_bytes().unwrap() == *LARGE);
            disturbed(OFTEN, || send(&a), read);
            a.send(&1).unwrap();
            assert_eq!(b.recv::<u8>().unwrap(), 1);
        }
    }
}

#[test]
fn one_who_waits_for_a_turn_goes_on_after_a_signal() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    thread::scope(|scope| {
        let first = asleep(scope, || a.recv::<u8>().unwrap());
        let second = || a.recv::<u8>().unwrap();
        let got = disturbed(OFTEN, second, || {
            [1, 2].iter().for_each(|n| b.send(n).unwrap())
        });
        assert_eq!(got + first.join().unwrap(), 3);
    });
}

#[test]
fn accept_and_connect_go_on_after_a_signal() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let parent = transport.parent();
        let ticket = parent.ticket().clone();
        let mut child = None;
        let connect = || child = Some(thread::spawn(|| connect(ticket)));
        disturbed(OFTEN, || parent.listen(PATIENCE).unwrap(), connect);
        child.unwrap().join().unwrap().unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", directory.path().join("duct").display());
    let mut listening = None;
    let bind = || {
        let listener = ListenOptions::new()
            .v1(true)
            .bind(address.as_str())
            .unwrap();
        listening = Some(thread::spawn(move || listener.accept_timeout(PATIENCE)));
    };
    let patient = ConnectOptions::new().timeout(PATIENCE);
    disturbed(OFTEN, || patient.connect(address.as_str()).unwrap(), bind);
    listening.unwrap().join().unwrap().unwrap();
}

#[test]
fn a_deadline_comes_also_under_a_hail_of_signals() {
    let _watchdog = watchdog();
    let (a, _b) = ductworks::pair().unwrap();
    let waits: [fn(&Duct) -> ErrorKind; 3] = [
        |duct| kind(duct.recv_bytes_timeout(Duration::from_millis(30))),
        |duct| {
            assert!(!duct.poll(Duration::from_millis(30)).unwrap());
            ErrorKind::TimedOut
        },
        |duct| {
            let _ = duct.try_send_bytes(&LARGE);
            kind(duct.flush(Duration::from_millis(30)))
        },
    ];
    for wait in waits {
        assert_eq!(
            disturbed(usize::MAX, || wait(&a), || ()),
            ErrorKind::TimedOut
        );
    }
}

/// Asks to stop at the third signal.
#[derive(Default)]
struct StopAtThird {
    signals: usize,
    waits: usize,
}

impl Hook for StopAtThird {
    fn block(&mut self, wait: &mut (dyn FnMut() + Send)) {
        self.waits += 1;
        wait();
    }

    fn interrupted(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.signals += 1;
        match self.signals {
            3 => Err("the third signal".into()),
            _ => Ok(()),
        }
    }
}

/// Runs `work` under the hook until that stops it, and checks that it was this.
fn stopped(work: impl FnOnce(&mut Wait<'_>) -> ductworks::Result<()> + Send) {
    let mut hook = StopAtThird::default();
    let work = || work(&mut Wait::hooked(Deadline::Never, &mut hook));
    let error = disturbed(usize::MAX, work, || ());
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(error.into_source().unwrap().to_string(), "the third signal");
    assert!(hook.signals == 3 && hook.waits >= 3);
}

#[test]
fn a_hook_ends_the_wait_and_nothing_is_lost() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (socket, peer) = transport.sockets();
        let mut peer = File::from(peer);
        let stream = Socket(&socket);
        let channel = Channel::<V1>::default();
        let message = frame(b"message");

        peer.write_all(&message[..8]).unwrap();
        stopped(|wait| channel.receive(&stream, wait).map(drop));
        stopped(|wait| channel.poll(&stream, wait).map(drop));
        assert!(channel.has_partial());
        peer.write_all(&message[8..]).unwrap();
        let wait = &mut Wait::until(Deadline::Never);
        assert_eq!(channel.receive(&stream, wait).unwrap(), b"message");

        stopped(|wait| channel.send(&stream, &[&LARGE], wait));
        assert!(channel.has_unsent());
        stopped(|wait| channel.flush(&stream, wait));
        thread::scope(|scope| {
            scope.spawn(|| channel.send(&stream, &[b"next"], &mut Wait::until(Deadline::Never)));
            for expected in [&LARGE[..], b"next"] {
                let mut got = vec![0; expected.len() + 5];
                peer.read_exact(&mut got).unwrap();
                assert!(got == frame(expected));
            }
        });
    }
}

#[test]
fn a_process_that_is_stopped_and_continued_goes_on() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (duct, child) = transport.start("echo");
        let pid = Pid::from_child(&child);
        thread::scope(|scope| {
            let sending =
                scope.spawn(|| (0..300).for_each(|n| duct.send_bytes(&numbered(n)).unwrap()));
            for number in 0..300 {
                if number % 10 == 0 {
                    kill_process(pid, Signal::STOP).unwrap();
                    kill_process(pid, Signal::CONT).unwrap();
                }
                assert!(duct.recv_bytes().unwrap() == numbered(number));
            }
            sending.join().unwrap();
        });
        drop(duct);
        assert_success(child);
    }
}

#[test]
fn a_send_to_the_dead_does_not_kill() {
    let _watchdog = watchdog();
    assert_success(process("send to the dead", "").spawn().unwrap());
}

fn send_to_the_dead(_: &str) {
    // Rust programs ignore this signal; the programs that this library is a part of need not.
    // SAFETY: the default action needs no handler.
    unsafe { signal(Signal::PIPE.as_raw(), SIG_DFL) };
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        drop(b);
        while a.send(&1).is_ok() {}
        assert_eq!(kind(a.send(&1)), ErrorKind::Disconnected);
    }
}
