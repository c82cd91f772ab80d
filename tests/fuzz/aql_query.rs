//! Any text as a whole query over documents, indexes and a graph. After a NUL may come other members of the request's
//! body, as a JSON object.
#![no_main]

use std::cell::RefCell;
use tanist_engine::aql::anything::Stage;

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::default();
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (query, with) = text.split_once('\0').unwrap_or((text, ""));
    STAGE.with_borrow_mut(|stage| stage.query(query, with));
});
