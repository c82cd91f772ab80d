//! What clients can ask of the document engine.

use super::store::StoreResult;
use super::{Reader, Writer};
use crate::http::{Request, Response};
use crate::io::{Run, Then};

/// What a request came to.
#[derive(Clone, Debug)]
pub struct Handled {
    pub response: Response,
    pub then: Option<Then>,
}

/// Whether the route table says that a request may write.
pub fn writes(_request: &Request) -> bool {
    todo!()
}

/// Answers a request that only reads.
pub fn read(_run: &Run, _db: &Reader<'_>) -> StoreResult<Handled> {
    todo!()
}

/// Answers a request that may write. What it wrote is kept if this returns `Ok` with a status below 400; otherwise
/// nothing of it is.
pub fn write(_run: &Run, _db: &mut Writer<'_>) -> StoreResult<Handled> {
    todo!()
}

/// Makes the client's answer from the agency's.
pub fn agency_answer(_make: crate::io::AgencyAnswer, _request: &Request, _answer: Response) -> Response {
    todo!()
}
