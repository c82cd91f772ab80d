//! `/_api/cursor`: queries, and the batches of their results.
//!
//! A query is run to its end in one go. What does not fit into the first batch goes to the node's loop, which keeps it
//! ([`crate::cursor`]); all that is done here for the other batches is to see who asks.

use super::*;
use crate::cursor::{CursorCall, CursorWish, Owner};

/// Whether the query that a request sends changes data.
pub(super) fn writes(_: &Request) -> bool {
    false
}

fn owner(call: &Call<'_, '_>) -> Owner {
    let user = match &call.who {
        Who::User(user) => Some(user.name.clone()),
        Who::Superuser | Who::Nobody => None,
    };
    Owner { database: call.database.id, user }
}

pub(super) fn open(_: &mut Call<'_, '_>) -> Answer {
    Err(errors::NOT_IMPLEMENTED.into())
}

pub(super) fn next(call: &mut Call<'_, '_>) -> Answer {
    go_on(call, CursorWish::Next)
}

pub(super) fn batch(call: &mut Call<'_, '_>) -> Answer {
    let number = call.open[1].parse().map_err(|_| errors::HTTP_BAD_PARAMETER.says("expecting a batch id"))?;
    go_on(call, CursorWish::Batch(number))
}

pub(super) fn end(call: &mut Call<'_, '_>) -> Answer {
    go_on(call, CursorWish::End)
}

fn go_on(call: &Call<'_, '_>, what: CursorWish) -> Answer {
    let asked = CursorCall { id: call.open[0].clone(), owner: owner(call), what };
    Ok(Handled { response: Response::empty(200), then: Some(Then::Cursor(asked)) })
}
