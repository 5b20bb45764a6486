//! Other users of the machine. These tests need root, which can become somebody else.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, fs, thread};

use crate::common::*;
use ductworks::wire::Token;
use ductworks::{Address, ConnectOptions, Duct, ErrorKind, Listener, Parent, Ticket, connect};

pub(crate) const ROLES: &[Role<'_>] =
    &[("knock", knock), ("serve", serve), ("enter", try_to_enter)];

/// A place that every user can enter, with a copy of this program: the original may lie where they
/// cannot.
///
/// There is one at a time: a process that another test started while the copy was written would for
/// a moment hold it open for writing, and such a program cannot be run.
struct OpenPlace {
    directory: tempfile::TempDir,
    _only: MutexGuard<'static, ()>,
}

impl OpenPlace {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can become another user");
            return None;
        }
        static ONLY: Mutex<()> = Mutex::new(());
        let only = ONLY.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        fs::copy(
            env::current_exe().unwrap(),
            directory.path().join("program"),
        )
        .unwrap();
        let found = Command::new("setpriv").arg("--version").output().is_ok();
        if !found {
            eprintln!("skipped: there is no setpriv on this machine");
        }
        found.then_some(Self {
            directory,
            _only: only,
        })
    }

    fn address(&self) -> Address {
        Address::unix(self.directory.path().join("duct")).unwrap()
    }

    /// Runs a role as the user nobody.
    fn stranger(&self, role: &str, argument: impl ToString) -> Child {
        let own = process(role, argument);
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(self.directory.path().join("program"))
            .args(own.get_args())
            .envs(
                own.get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .stdout(std::process::Stdio::null());
        command.spawn().unwrap()
    }
}

fn open_to_all(address: &Address) {
    let everybody = fs::Permissions::from_mode(0o777);
    fs::set_permissions(v2_path(address), everybody).unwrap();
}

#[test]
fn a_stranger_is_turned_away_and_the_child_still_gets_in() {
    let _watchdog = watchdog();
    let Some(place) = OpenPlace::new() else {
        return;
    };
    let address = place.address();
    let parent = Parent::bind_to(&address).unwrap();
    open_to_all(&address);
    thread::scope(|scope| {
        let listening = asleep(scope, || parent.listen(PATIENCE).unwrap());
        for _ in 0..3 {
            assert_success(place.stranger("knock", &address));
        }
        // All that while the one call to listen went on.
        assert!(!listening.is_finished());
        let child = connect(parent.ticket()).unwrap();
        listening
            .join()
            .unwrap()
            .send("for the child alone")
            .unwrap();
        assert_eq!(child.recv::<String>().unwrap(), "for the child alone");
    });
}

/// Connects as anybody may, and must not get a byte.
fn knock(address: &str) {
    let address: Address = address.parse().unwrap();
    let mut stream = UnixStream::connect(v2_path(&address)).unwrap();
    let mut got = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut got);
    assert_eq!(got, b"");
}

#[test]
fn turning_strangers_away_takes_no_longer_than_the_deadline() {
    let _watchdog = watchdog();
    let Some(place) = OpenPlace::new() else {
        return;
    };
    let address = place.address();
    let log = Arc::new(Mutex::new(Vec::new()));
    let listener = Listener::bind(&address).unwrap().with_log({
        let log = Arc::clone(&log);
        move |refusal| log.lock().unwrap().push(refusal.clone())
    });
    open_to_all(&address);
    let stranger = place.stranger("knock", &address);
    let outcome = loop {
        // Until the stranger is in the queue.
        if is_readable(&listener) {
            break listener.accept_timeout(Duration::from_millis(1));
        }
        thread::yield_now();
    };
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("user"), "{error}");
    let refused = log.lock().unwrap().pop().unwrap();
    assert_eq!(refused.peer, format!("process {}", stranger.id()));
    assert!(refused.reason.contains("but it runs as user"), "{refused}");
    assert_success(stranger);
}

#[test]
fn a_child_refuses_a_listener_of_another_user() {
    let _watchdog = watchdog();
    let Some(place) = OpenPlace::new() else {
        return;
    };
    let address = place.address();
    let here = Listener::bind("tcp:127.0.0.1:0").unwrap();
    let foreign = place.stranger("serve", format!("{address} {}", here.ticket()));
    let control = here.accept_timeout(PATIENCE).unwrap();
    control.recv_bytes().unwrap();

    let error = connect(Ticket::new(address.clone(), Some(Token::from([1; 32])))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    for user in ["user 0", "user 65534"] {
        assert!(error.to_string().contains(user), "{error}");
    }
    // Nor is a connection that somebody else made taken over.
    let stream = UnixStream::connect(v2_path(&address)).unwrap();
    let outcome = Duct::try_from(OwnedFd::from(stream));
    assert_eq!(kind(outcome), ErrorKind::PermissionDenied);
    drop(control);
    assert_success(foreign);
}

fn serve(argument: &str) {
    let (address, control) = argument.split_once(' ').unwrap();
    let listener = Listener::bind(address).unwrap();
    open_to_all(listener.address());
    let control = connect(control).unwrap();
    control.send_bytes(b"ready").unwrap();
    assert_eq!(kind(control.recv_bytes()), ErrorKind::Disconnected);
    // They came, and this process is not theirs to talk to.
    assert!(is_readable(listener.as_fd()));
}

#[test]
fn a_stranger_cannot_even_reach_a_private_address() {
    let _watchdog = watchdog();
    let Some(place) = OpenPlace::new() else {
        return;
    };
    let parent = Parent::bind().unwrap();
    assert_success(place.stranger("enter", parent.address()));
    join(&parent);
}

fn try_to_enter(address: &str) {
    let error = ConnectOptions::new().connect(address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    let address: Address = address.parse().unwrap();
    let directory: &Path = address.path().unwrap().parent().unwrap();
    assert!(fs::read_dir(directory).is_err());
    assert!(fs::remove_dir_all(directory).is_err());
}
