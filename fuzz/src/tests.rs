//! The targets without libFuzzer: over the kept inputs, and over others that are like them.

use std::fs;
use std::path::Path;

use crate::TARGETS;

/// How many inputs are made up for each target.
fn made_up() -> usize {
    match std::env::var_os("DUCTWORKS_TEST_LONG") {
        Some(_) => 20_000,
        None => 2_000,
    }
}

fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut inputs: Vec<_> = fs::read_dir(folder)
        .expect("every target has kept inputs")
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{target}");
    inputs
}

#[test]
fn every_kept_input_holds() {
    for (target, run) in TARGETS {
        for input in kept(target) {
            run(&input);
        }
    }
}

#[test]
fn inputs_like_the_kept_ones_hold() {
    for (target, run) in TARGETS {
        let kept = kept(target);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for _ in 0..made_up() {
            let mut input = kept[dice.below(kept.len())].clone();
            for _ in 0..=dice.below(4) {
                dice.change(&mut input, &kept);
            }
            let outcome = std::panic::catch_unwind(|| run(&input));
            assert!(outcome.is_ok(), "{target}, with {input:02x?}");
        }
    }
}

/// Numbers that look random and are the same every time (xorshift64, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }

    fn change(&mut self, input: &mut Vec<u8>, kept: &[Vec<u8>]) {
        let place = self.below(input.len() + 1);
        match self.below(5) {
            0 => input.truncate(place),
            1 => input.insert(place, self.below(256) as u8),
            2 => input.extend_from_slice(&kept[self.below(kept.len())]),
            _ if place == input.len() => input.push(0),
            3 => drop(input.remove(place)),
            _ => input[place] ^= 1 << self.below(8),
        }
    }
}
