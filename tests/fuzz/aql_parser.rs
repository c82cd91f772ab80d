//! Any text for the parser of AQL.
#![no_main]

use tanist_engine::aql::anything;

libfuzzer_sys::fuzz_target!(|text: &str| anything::parse(text));
