//! Runs `ticket` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ductworks_fuzz::ticket::run(data));
