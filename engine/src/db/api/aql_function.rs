//! `/_api/aqlfunction`: the code of user-defined functions. It is kept and shown; a query that calls one is refused,
//! because there is no JavaScript here.
//!
//! A function is a document of `_aqlfunctions`, as ArangoDB keeps it.

use super::*;
use serde_json::json;

const FUNCTIONS: &str = "_aqlfunctions";

fn functions(call: &Call<'_, '_>) -> Result<CollectionRow, Failure> {
    Ok(call.reader().collection(call.database.id, FUNCTIONS)?.ok_or(errors::DATA_SOURCE_NOT_FOUND)?)
}

/// A namespace and a name, of letters, digits and underscores, with `::` between them.
fn is_name(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    name.len() < 200 && name.contains("::") && name.split("::").all(part)
}

/// Older clients write a single colon.
fn normal(name: &str) -> String {
    if name.contains("::") { name.to_owned() } else { name.replace(':', "::") }
}

fn key(name: &str) -> String {
    name.to_ascii_uppercase()
}

pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    call.needs_database(Level::Ro)?;
    let namespace = match call.open.first().cloned().or_else(|| call.request().query("namespace")) {
        Some(namespace) if !namespace.is_empty() => {
            let namespace = normal(&namespace).trim_end_matches(':').to_owned();
            if !namespace.split("::").all(|part| is_name(&format!("x::{part}"))) {
                return Err(errors::QUERY_FUNCTION_INVALID_NAME.into());
            }
            Some(key(&namespace) + "::")
        }
        _ => None,
    };
    let mut found = Vec::new();
    for_each_document(&call.reader(), &functions(call)?, |document| {
        let body: Value = serde_json::from_slice(&document.body).unwrap_or_default();
        if namespace.as_ref().is_none_or(|namespace| document.key.starts_with(namespace.as_str())) {
            let deterministic = body["isDeterministic"].as_bool().unwrap_or(false);
            found.push(json!({"name": body["name"], "code": body["code"], "isDeterministic": deterministic}));
        }
        Ok(true)
    })?;
    ok(200, found.into())
}

pub(super) fn create(call: &mut Call<'_, '_>) -> Answer {
    let body = call.object()?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let name = normal(text("name").ok_or_else(|| errors::HTTP_BAD_PARAMETER.says("'name' must be a string"))?);
    if !is_name(&name) {
        return Err(errors::QUERY_FUNCTION_INVALID_NAME.into());
    }
    let code = text("code").filter(|code| javascript::may_be_a_function(code));
    let code = code.ok_or(errors::QUERY_FUNCTION_INVALID_CODE)?;
    let deterministic = body.get("isDeterministic").and_then(Value::as_bool).unwrap_or(false);
    let row = functions(call)?;
    let before = find_document(&call.reader(), &row, &key(&name))?;
    let document = json!({"name": name, "code": code, "isDeterministic": deterministic});
    call.writer()?.put(&row, &key(&name), document.to_string().into(), before.as_ref())?;
    let status = if before.is_some() { 200 } else { 201 };
    ok(status, json!({"isNewlyCreated": before.is_none()}))
}

/// One function, or with `group` all of a namespace.
pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    let name = normal(&call.open[0]);
    let row = functions(call)?;
    let mut found = Vec::new();
    if call.flag("group", false) {
        let prefix = key(name.trim_end_matches(':')) + "::";
        for_each_document(&call.reader(), &row, |document| {
            if document.key.starts_with(&prefix) {
                found.push(document);
            }
            Ok(true)
        })?;
    } else if !is_name(&name) {
        return Err(errors::QUERY_FUNCTION_INVALID_NAME.into());
    } else {
        let missing = || errors::QUERY_FUNCTION_NOT_FOUND.says(format!("user function '{name}()' not found"));
        found.push(find_document(&call.reader(), &row, &key(&name))?.ok_or_else(missing)?);
    }
    let db = call.writer()?;
    for document in &found {
        db.remove(&row, document)?;
    }
    ok(200, json!({"deletedCount": found.len()}))
}
