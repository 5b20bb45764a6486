//! Calibration, and rounds that take turns.

use crate::message::Case;
use crate::peers::Peer;
use crate::worker::{Pair, Workload};
use crate::{Options, Result};

/// The rounds of every peer for one message and one workload; each did the same work.
pub(crate) struct Measurement {
    pub(crate) case: Case,
    pub(crate) workload: Workload,
    pub(crate) payload_size: usize,
    pub(crate) count: u64,
    pub(crate) peers: Vec<PeerRounds>,
}

/// The seconds that a peer's rounds took.
pub(crate) struct PeerRounds {
    pub(crate) peer: Peer,
    pub(crate) seconds: Vec<f64>,
}

impl PeerRounds {
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        }
    }
}

impl Measurement {
    /// Messages a second of the median round.
    pub(crate) fn rate(&self, rounds: &PeerRounds) -> f64 {
        self.count as f64 / rounds.median()
    }
}

pub(crate) fn measure_all(options: &Options) -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    for workload in Workload::ALL {
        for case in &options.messages {
            let measurement = measure(options, *case, workload)?;
            eprint!("Rust: {} of {}:", workload.name(), case.name());
            for rounds in &measurement.peers {
                eprint!(" {} {:.0}/s", rounds.peer.name(), measurement.rate(rounds));
            }
            eprintln!();
            measurements.push(measurement);
        }
    }
    Ok(measurements)
}

fn measure(options: &Options, case: Case, workload: Workload) -> Result<Measurement> {
    let core = options.cores.map(|(_, child)| child);
    let start = |peer: &Peer| Pair::start(*peer, case, workload, core);
    let mut pairs: Vec<Pair> = options.peers.iter().map(start).collect::<Result<_>>()?;
    let count = calibrate(&mut pairs, options.round_seconds)?;
    let unmeasured = |pair: &Pair| PeerRounds {
        peer: pair.peer,
        seconds: Vec::new(),
    };
    let mut peers: Vec<PeerRounds> = pairs.iter().map(unmeasured).collect();
    for round in 0..options.rounds {
        // Each round begins with another pair.
        for turn in 0..pairs.len() {
            let index = (round + turn) % pairs.len();
            peers[index].seconds.push(pairs[index].round(count)?);
        }
    }
    Ok(Measurement {
        case,
        workload,
        payload_size: case.payload_size()?,
        count,
        peers,
    })
}

/// Warms every pair up, and returns the count at which the slowest takes `round_seconds`.
fn calibrate(pairs: &mut [Pair], round_seconds: f64) -> Result<u64> {
    // A tenth of a round is long enough to judge a rate by, and warms caches and allocators.
    let probe_seconds = round_seconds / 10.0;
    let mut slowest = 0.0_f64;
    for pair in pairs {
        slowest = slowest.max(seconds_per_message(pair, probe_seconds)?);
    }
    Ok(((round_seconds / slowest).round() as u64).max(1))
}

fn seconds_per_message(pair: &mut Pair, probe_seconds: f64) -> Result<f64> {
    let mut count = 1;
    loop {
        let seconds = pair.round(count)?;
        if seconds >= probe_seconds {
            return Ok(seconds / count as f64);
        }
        // The first messages are slow: no guess from them is trusted beyond a factor of ten.
        let guess = (count as f64 * 1.2 * probe_seconds / seconds) as u64;
        count = guess.clamp(count + 1, count * 10);
    }
}
