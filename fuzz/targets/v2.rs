//! Runs `v2` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ductworks_fuzz::v2::run(data));
