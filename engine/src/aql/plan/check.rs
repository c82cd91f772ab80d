//! Whether a query may run at all: a collection must not be read after the query has written it.

use super::super::ast::*;
use crate::errors::{self, Error};

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
        let graph = match &operation.kind {
            OperationKind::Traversal(traversal) => Some(&traversal.graph),
            OperationKind::Paths(paths) => Some(&paths.graph),
            _ => None,
        };
        match graph {
            Some(Graph::Edges(edges)) => edges.iter().try_for_each(|edge| refuse(&edge.name.text, written))?,
            Some(Graph::Named(_)) if !written.is_empty() => return Err(after_modification("traversal")),
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
            let mut result = Ok(());
            kind.for_each_child(&mut |child| {
                if result.is_ok() {
                    result = reads(child, written);
                }
            });
            result
        }
    }
}

fn refuse(name: &str, written: &[&str]) -> Result<(), Error> {
    if written.contains(&name) { Err(after_modification(name)) } else { Ok(()) }
}

fn after_modification(name: &str) -> Error {
    let kind = errors::QUERY_ACCESS_AFTER_MODIFICATION;
    kind.says(format!("{} by {name}", kind.message))
}
