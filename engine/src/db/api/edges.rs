//! `/_api/edges`: the edges of a vertex, by the edge index.

use super::simple::ANSWER_BYTES_MAX;
use super::*;
use crate::db::index::End;
use std::collections::BTreeSet;

/// The edges that have a vertex at one of these ends; each once.
pub(super) fn of_vertex(call: &mut Call<'_, '_>) -> Answer {
    let collection = call.collection(&call.open[0], Level::Ro)?;
    if collection.kind != CollectionKind::Edge {
        return Err(errors::COLLECTION_TYPE_INVALID.into());
    }
    let ends: &[End] = match call.request().query("direction").as_deref() {
        None | Some("" | "any") => &[End::From, End::To],
        Some("out" | "outbound") => &[End::From],
        Some("in" | "inbound") => &[End::To],
        Some(other) => {
            let what = format!("<direction> must be any, in, or out, not: {other}");
            return Err(errors::HTTP_BAD_PARAMETER.says(what).into());
        }
    };
    let vertex = call.request().query("vertex").filter(|vertex| vertex.contains('/'));
    let vertex = vertex.ok_or(errors::DOCUMENT_HANDLE_BAD)?;
    let db = call.reader();
    let mut body = br#"{"edges":["#.to_vec();
    let mut seen = BTreeSet::new();
    for document in ends.iter().flat_map(|&end| db.edges(&collection, end, &vertex)) {
        let document = document?;
        // A loop is found at both ends.
        if !seen.insert(document.revision) {
            continue;
        }
        if seen.len() > 1 {
            body.push(b',');
        }
        document.write_json(&collection.name, &mut body);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(errors::RESOURCE_LIMIT.because("the vertex has too many edges for one answer").into());
        }
    }
    let stats = format!(r#"],"error":false,"code":200,"stats":{{"scannedIndex":{},"filtered":0}}}}"#, seen.len());
    body.extend_from_slice(stats.as_bytes());
    Ok(Response::raw(200, body).into())
}
