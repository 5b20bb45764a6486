//! Runs `handshake` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ductworks_fuzz::handshake::run(data));
