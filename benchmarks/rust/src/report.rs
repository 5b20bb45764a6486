//! The figures, as JSON for a program and as a table for a person.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::rounds::Measurement;

pub(crate) fn json(measurements: &[Measurement], meetings: &Value) -> Value {
    json!({
        "meetings": meetings,
        "versions": { "ductworks": env!("CARGO_PKG_VERSION"), "ipc-channel": "0.23" },
        "measurements": measurements.iter().map(measurement).collect::<Vec<_>>(),
    })
}

fn measurement(measurement: &Measurement) -> Value {
    let mut peers = Map::new();
    for rounds in &measurement.peers {
        let rate = measurement.rate(rounds);
        let value = json!({
            "median_seconds": rounds.median(),
            "messages_per_second": rate,
            "megabytes_per_second": rate * measurement.payload_size as f64 / 1e6,
            "round_seconds": rounds.seconds,
        });
        peers.insert(rounds.peer.name().to_owned(), value);
    }
    json!({
        "message": measurement.case.name(),
        "payload_bytes": measurement.payload_size,
        "workload": measurement.workload.name(),
        "messages_per_round": measurement.count,
        "peers": peers,
    })
}

pub(crate) fn table(measurements: &[Measurement]) -> String {
    let mut text = String::new();
    for measurement in measurements {
        let _ = write!(
            text,
            "{:<10}{:>8}",
            measurement.workload.name(),
            measurement.case.name()
        );
        for rounds in &measurement.peers {
            let rate = measurement.rate(rounds);
            let _ = write!(text, "  {} {rate:.0}/s", rounds.peer.name());
        }
        text.push('\n');
    }
    text
}
