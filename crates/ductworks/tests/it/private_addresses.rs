//! Where a Unix address lies, who can reach it, and that nothing stays behind.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::{env, fs};

use crate::common::*;
use ductworks::{Address, Duct, ErrorKind, ListenOptions, Listener, Parent, connect};
use rustix::fs::Mode;
use rustix::io::Errno;

pub(crate) const ROLES: &[Role<'_>] = &[
    ("lies in", lies_in),
    ("bind", bind),
    ("bind and wait", bind_and_wait),
    ("bind, move and drop", bind_move_and_drop),
    ("bind without a umask", bind_without_a_umask),
];

fn directory_of(parent: &Parent) -> PathBuf {
    parent.address().path().unwrap().parent().unwrap().into()
}

// The name goes.

#[test]
fn the_name_goes_when_the_child_is_in() {
    let _watchdog = watchdog();
    let parent = Parent::bind().unwrap();
    let directory = directory_of(&parent);
    assert!(directory.exists());
    let (child, duct) = join(&parent);
    assert!(!directory.exists());
    duct.send(&1).unwrap();
    assert_eq!(child.recv::<u8>().unwrap(), 1);
}

#[test]
fn the_name_goes_with_close_and_with_drop() {
    let _watchdog = watchdog();
    let parent = Parent::bind().unwrap();
    let directory = directory_of(&parent);
    parent.close();
    assert!(!directory.exists());
    parent.close();

    let parent = Parent::bind().unwrap();
    let directory = directory_of(&parent);
    drop(parent);
    assert!(!directory.exists());

    let given = tempfile::tempdir().unwrap();
    let address = Address::unix(given.path().join("duct")).unwrap();
    for close in [Listener::close, |_: &Listener| ()] {
        let listener = Listener::bind(&address).unwrap();
        assert!(v2_path(&address).exists());
        close(&listener);
        drop(listener);
        assert!(!v2_path(&address).exists());
    }
    assert!(given.path().exists(), "a directory that was given stays");
}

#[test]
fn a_name_that_now_belongs_to_somebody_else_stays() {
    let _watchdog = watchdog();
    let directory = tempfile::tempdir().unwrap();
    let address = Address::unix(directory.path().join("duct")).unwrap();
    let first = Listener::bind(&address).unwrap();
    fs::remove_file(v2_path(&address)).unwrap();
    let second = Listener::bind(&address).unwrap();
    drop(first);
    enter(&second);
}

#[test]
fn a_relative_name_goes_although_the_process_has_moved() {
    let _watchdog = watchdog();
    let directory = tempfile::tempdir().unwrap();
    let mut process = process("bind, move and drop", "");
    assert_success(process.current_dir(&directory).spawn().unwrap());
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

fn bind_move_and_drop(_: &str) {
    let listener = Listener::bind("unix:here").unwrap();
    assert!(Path::new("here.v2").exists());
    env::set_current_dir("/").unwrap();
    drop(listener);
}

// Nobody else comes near.

#[test]
fn the_directory_is_closed_to_others_whatever_the_umask() {
    let _watchdog = watchdog();
    assert_success(process("bind without a umask", "").spawn().unwrap());
}

fn bind_without_a_umask(_: &str) {
    rustix::process::umask(Mode::empty());
    let parent = Parent::bind().unwrap();
    let facts = fs::symlink_metadata(directory_of(&parent)).unwrap();
    assert!(facts.is_dir());
    assert_eq!(facts.mode() & 0o7777, 0o700);
    assert_eq!(facts.uid(), rustix::process::geteuid().as_raw());
}

#[test]
fn no_two_names_are_alike() {
    let _watchdog = watchdog();
    let parents = [(); 20].map(|()| Parent::bind().unwrap());
    for (at, parent) in parents.iter().enumerate() {
        let others = &parents[..at];
        assert!(
            others
                .iter()
                .all(|other| other.address() != parent.address())
        );
    }
}

// Where it lies.

/// Binds in a process with these directories in its environment, and checks where that ended.
#[track_caller]
fn assert_lies_in(expected: &Path, runtime: impl AsRef<Path>, temporary: &Path) {
    let status = process("lies in", expected.display())
        .env("XDG_RUNTIME_DIR", runtime.as_ref())
        .env("TMPDIR", temporary)
        .status();
    assert_ended_well(status.unwrap());
}

fn lies_in(expected: &str) {
    let parent = Parent::bind().unwrap();
    assert_eq!(directory_of(&parent).parent(), Some(Path::new(expected)));
    join(&parent);
}

fn directory_with_mode(mode: u32) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    directory
}

#[test]
fn a_runtime_directory_that_is_ours_alone_is_preferred() {
    let _watchdog = watchdog();
    let (runtime, temporary) = (directory_with_mode(0o700), directory_with_mode(0o700));
    assert_lies_in(runtime.path(), &runtime, temporary.path());
}

#[test]
fn a_runtime_directory_that_others_could_meddle_with_is_not_used() {
    let _watchdog = watchdog();
    let temporary = directory_with_mode(0o700);
    let expected = temporary.path();
    for mode in [0o755, 0o701, 0o770] {
        assert_lies_in(expected, directory_with_mode(mode), expected);
    }
    let runtime = directory_with_mode(0o700);
    let link = expected.join("link");
    symlink(&runtime, &link).unwrap();
    assert_lies_in(expected, &link, expected);
    let file = expected.join("file");
    fs::write(&file, "").unwrap();
    assert_lies_in(expected, file, expected);
    assert_lies_in(expected, expected.join("missing"), expected);
    assert_lies_in(expected, "", expected);
    // Relative, but right from where the process stands.
    assert_lies_in(
        expected,
        format!("../../..{0}/../../..{0}", runtime.path().display()),
        expected,
    );
    if rustix::process::geteuid().is_root() {
        chown(&runtime, Some(65534), None).unwrap();
        assert_lies_in(expected, &runtime, expected);
    } else {
        eprintln!("not tried, for this is not root: a runtime directory of somebody else");
    }
}

#[test]
fn a_slash_behind_it_does_not_make_a_link_a_directory() {
    let _watchdog = watchdog();
    let (runtime, temporary) = (directory_with_mode(0o700), directory_with_mode(0o700));
    let link = temporary.path().join("link");
    symlink(&runtime, &link).unwrap();
    let with_slash = format!("{}/", link.display());
    assert_lies_in(temporary.path(), with_slash, temporary.path());
}

#[test]
fn a_directory_too_long_for_a_socket_is_passed_over() {
    let _watchdog = watchdog();
    let temporary = directory_with_mode(0o700);
    let long = temporary.path().join("x".repeat(100));
    fs::create_dir(&long).unwrap();
    fs::set_permissions(&long, fs::Permissions::from_mode(0o700)).unwrap();
    assert_lies_in(temporary.path(), &long, temporary.path());
    assert_lies_in(Path::new("/tmp"), &long, &long);
    assert_lies_in(Path::new("/tmp"), "", Path::new("relative"));
}

// What is left of the killed.

/// A process that has bound an address under `base`, and the address.
fn waiting_parent(base: &Path) -> (Child, Address, Duct) {
    let here = Parent::bind().unwrap();
    let process = process("bind and wait", here.ticket())
        .env_remove("XDG_RUNTIME_DIR")
        .env("TMPDIR", base)
        .spawn()
        .unwrap();
    let control = here.listen(PATIENCE).unwrap();
    let address: String = control.recv().unwrap();
    (process, address.parse().unwrap(), control)
}

fn bind_and_wait(control: &str) {
    let control = connect(control).unwrap();
    let parent = Parent::bind().unwrap();
    control.send(&parent.address().to_string()).unwrap();
    assert_eq!(kind(control.recv_bytes()), ErrorKind::Disconnected);
}

fn next_start(base: &Path) {
    let mut process = process("bind", "");
    process.env_remove("XDG_RUNTIME_DIR").env("TMPDIR", base);
    assert_success(process.spawn().unwrap());
}

fn bind(_: &str) {
    Parent::bind().unwrap();
}

#[test]
fn a_name_of_one_s_own_that_a_killed_listener_left_is_to_be_removed_and_the_error_says_so() {
    let _watchdog = watchdog();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("duct");
    let (plain, newer) = (path.clone(), place.path().join("duct.v2"));
    let bind = || ListenOptions::new().v1(true).bind(Address::unix(&path)?);
    let in_use = Errno::ADDRINUSE.raw_os_error();
    let listener = bind().unwrap();
    let error = bind().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(in_use));
    assert!(!error.to_string().contains("remove"), "{error}");
    drop(listener);
    for left in [plain, newer] {
        // The name of a bound socket outlives it.
        drop(UnixListener::bind(&left).unwrap());
        let error = bind().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(in_use));
        let text = error.to_string();
        assert!(text.contains(left.to_str().unwrap()), "{text}");
        assert!(text.contains("remove that file"), "{text}");
        fs::remove_file(left).unwrap();
    }
    bind().unwrap();
}

#[test]
fn the_next_start_clears_what_a_killed_parent_left_and_nothing_else() {
    let _watchdog = watchdog();
    let base = directory_with_mode(0o700);
    let (mut killed, dead, _control) = waiting_parent(base.path());
    let (alive, living, control) = waiting_parent(base.path());
    killed.kill().unwrap();
    killed.wait().unwrap();

    let named = |name: &str| base.path().join(format!("ductworks-{name}"));
    let elsewhere = directory_with_mode(0o700);
    // Not of our making: the name, the mode, the type or the owner is another.
    let mut bystanders = vec![
        named("notes"),
        named(&"g".repeat(24)),
        named(&"a".repeat(24)),
    ];
    for path in &bystanders {
        fs::create_dir(path).unwrap();
    }
    fs::set_permissions(&bystanders[2], fs::Permissions::from_mode(0o755)).unwrap();
    bystanders.push(named(&"b".repeat(24)));
    symlink(&elsewhere, &bystanders[3]).unwrap();
    bystanders.push(named(&"c".repeat(24)));
    fs::write(&bystanders[4], "").unwrap();
    bystanders.push(named(&"d".repeat(24)));
    fs::create_dir(&bystanders[5]).unwrap();
    fs::write(bystanders[5].join("notes"), "").unwrap();
    fs::set_permissions(&bystanders[5], fs::Permissions::from_mode(0o700)).unwrap();
    // Killed between the making of the directory and the binding.
    let empty = named(&"e".repeat(24));
    fs::create_dir(&empty).unwrap();
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o700)).unwrap();

    assert!(v2_path(&dead).exists());
    next_start(base.path());
    assert!(!dead.path().unwrap().parent().unwrap().exists());
    assert!(!empty.exists());
    for path in &bystanders {
        assert!(fs::symlink_metadata(path).is_ok(), "{}", path.display());
    }
    assert!(elsewhere.path().exists());

    // And the living one was not even disturbed: nobody waits in its queue but this.
    let queue = UnixStream::connect(v2_path(&living)).unwrap();
    drop(control);
    assert_success(alive);
    assert!(!v2_path(&living).exists());
    drop(queue);
}
