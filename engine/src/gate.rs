//! The gate: who may be served, by which server, at this moment.

use crate::http::{Request, Response};
use crate::io::{Run, Ticket, View};
use crate::types::{Now, Time};
use std::sync::Arc;

/// What becomes of a request at the door.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Run it, then ask [`confirm`] before the answer leaves.
    Run(Run),
    Refuse(Response),
}

/// Decides on arrival; the order of checks is ArangoDB's.
pub fn admit(_view: &Arc<View>, _request: Request, _now: Now, _seed: u64) -> Admission {
    todo!()
}

/// Decides once more when the answer of a run is there (R13): `view` is loaded and `now` read, in this order, after
/// the run. Adds the headers that a server's answers carry.
pub fn confirm(_ticket: Ticket, _response: Response, _view: &View, _now: Time) -> Response {
    todo!()
}
