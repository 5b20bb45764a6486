//! What the feature `tracing` tells.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::*;
use ductworks::{ErrorKind, Listener};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Collects events as text.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<String>>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl Subscriber for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        assert_eq!(*event.metadata().level(), Level::WARN);
        let mut text = event.metadata().target().to_owned();
        event.record(&mut Fields(&mut text));
        self.0.lock().unwrap().push(text);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn everybody_who_is_refused_is_an_event_with_a_name_and_a_reason() {
    let _watchdog = watchdog();
    let collector = Collector::default();
    let listener = Listener::bind_private().unwrap();
    let peer = UnixStream::connect(v2_path(listener.address())).unwrap();
    drop(peer);
    let outcome = tracing::subscriber::with_default(collector.clone(), || {
        listener.accept_timeout(Duration::from_millis(50))
    });
    assert_eq!(kind(outcome), ErrorKind::TimedOut);
    let events = collector.0.lock().unwrap();
    let [event] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(event.starts_with("ductworks"), "{event}");
    let peer = format!("peer=process {}", std::process::id());
    assert!(
        event.contains(&peer) && event.contains("reason="),
        "{event}"
    );
    let token = listener.ticket().token().unwrap().to_string();
    assert!(!event.contains(&token));
}
