//! How long it takes two to meet: from the binding of an address to the first message received.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::peers::Over;
use crate::{Options, Result};

const WAYS: [(&str, Over); 3] = [
    ("ductworks", Over::Unix),
    ("ductworks v1", Over::UnixV1),
    ("ductworks TLS", Over::Tls),
];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The median seconds of a meeting, for each way to meet.
pub(crate) fn measure(options: &Options) -> Result<Value> {
    let (tickets, wanted) = mpsc::channel::<(Over, String)>();
    let child = thread::spawn(move || -> std::result::Result<(), String> {
        for (over, ticket) in wanted {
            let duct = over.connect(&ticket).map_err(|error| error.to_string())?;
            duct.send_bytes(b"here")
                .map_err(|error| error.to_string())?;
            // It is the parent who ends it.
            let _ = duct.recv_bytes();
        }
        Ok(())
    });
    let mut seconds = WAYS.map(|_| Vec::new());
    // The ways take turns, so that whatever else the machine does falls on all of them.
    let until = Instant::now() + Duration::from_secs_f64(options.round_seconds) * 4;
    while Instant::now() < until || seconds[0].len() < options.rounds {
        for ((_, over), seconds) in WAYS.iter().zip(&mut seconds) {
            let begin = Instant::now();
            let parent = over.bind()?;
            tickets.send((*over, parent.ticket().to_string()))?;
            let duct = parent.listen(CONNECT_TIMEOUT)?;
            duct.recv_bytes()?;
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    drop(tickets);
    child.join().map_err(|_| "the child panicked")??;
    let mut medians = Map::new();
    for ((name, _), seconds) in WAYS.iter().zip(&mut seconds) {
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        eprintln!(
            "Rust: from bind to the first message, {name}: {:.0} us",
            median * 1e6
        );
        medians.insert((*name).into(), json!(median));
    }
    Ok(Value::Object(medians))
}
