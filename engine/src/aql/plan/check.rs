//! Whether a query may run at all: a collection must not be read after the query has written it, nor anything that
//! might be in it, by traversals and by functions that read documents. What a `LIMIT` says must be known before.

use super::super::ast::*;
use super::expressions::is_constant;
use crate::errors::{self, Error};

/// Functions that read documents.
const READERS: [&str; 5] = ["DOCUMENT", "FULLTEXT", "NEAR", "WITHIN", "WITHIN_RECTANGLE"];

pub fn check(query: &Query) -> Result<(), Error> {
    let mut written = Vec::new();
    block(&query.body, &mut written)
}

fn block<'q>(of: &'q Block, written: &mut Vec<&'q str>) -> Result<(), Error> {
    for operation in &of.operations {
        let mut result = Ok(());
        operation.kind.for_each_expression(&mut |expression| {
            if result.is_ok() {
                result = reads(expression, written);
            }
        });
        result?;
        match &operation.kind {
            OperationKind::Traversal(_) | OperationKind::Paths(_) if !written.is_empty() => {
                return Err(after_modification("traversal"));
            }
            OperationKind::Limit { offset, count } => {
                offset.iter().chain([count]).try_for_each(known_before)?;
            }
            _ => {}
        }
        let writes = match &operation.kind {
            OperationKind::Insert(insert) => &insert.collection,
            OperationKind::Update(update) => &update.collection,
            OperationKind::Remove(remove) => &remove.collection,
            OperationKind::Upsert(upsert) => {
                refuse(&upsert.collection.text, written)?;
                &upsert.collection
            }
            _ => continue,
        };
        refuse(&writes.text, written)?;
        written.push(&writes.text);
    }
    Ok(())
}

fn reads<'q>(expression: &'q Expression, written: &mut Vec<&'q str>) -> Result<(), Error> {
    match &expression.kind {
        ExpressionKind::Collection(name) => refuse(&name.text, written),
        ExpressionKind::Subquery(of) => block(of, written),
        kind => {
            let mut result = match kind {
                ExpressionKind::Call(name, _) if !written.is_empty() && READERS.contains(&&**name) => {
                    Err(after_modification(name))
                }
                _ => Ok(()),
            };
            kind.for_each_child(&mut |child| {
                if result.is_ok() {
                    result = reads(child, written);
                }
            });
            result
        }
    }
}

/// Most of it is a literal by now; what was too much for that is constant all the same.
fn known_before(limit: &Expression) -> Result<(), Error> {
    match is_constant(limit) {
        true => Ok(()),
        false => Err(errors::QUERY_NUMBER_OUT_OF_RANGE.because("LIMIT value is not a number or out of range")),
    }
}

fn refuse(name: &str, written: &[&str]) -> Result<(), Error> {
    if written.contains(&name) { Err(after_modification(name)) } else { Ok(()) }
}

fn after_modification(name: &str) -> Error {
    let kind = errors::QUERY_ACCESS_AFTER_MODIFICATION;
    kind.says(format!("{} by {name}", kind.message))
}
