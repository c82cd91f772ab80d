//! What a query's text says, without running it.

use super::*;
use crate::aql::parser;
use crate::aql::tree;
use serde_json::json;

pub(super) fn parse(call: &mut Call<'_, '_>) -> Answer {
    let body = call.object()?;
    let Some(text) = body.get("query").and_then(Value::as_str) else {
        return Err(errors::QUERY_EMPTY.into());
    };
    let query = parser::parse(text, None).map_err(|error| cursor::during("parsing", error))?;
    let names = |name: &str| !name.starts_with('@');
    let collections: Vec<&str> =
        query.collections.iter().map(|used| used.name.text.as_ref()).filter(|name| names(name)).collect();
    let parameters: Vec<&str> = query.parameters.iter().map(AsRef::as_ref).collect();
    let tree = tree::node("root", tree::block(&query, &query.body));
    ok(200, json!({"parsed": true, "collections": collections, "bindVars": parameters, "ast": [tree]}))
}
