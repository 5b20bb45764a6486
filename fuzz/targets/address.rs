//! Runs `address` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ductworks_fuzz::address::run(data));
