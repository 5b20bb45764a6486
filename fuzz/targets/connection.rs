//! Runs `connection` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ductworks_fuzz::connection::run(data));
