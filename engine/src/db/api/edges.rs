//! `/_api/edges`: the edges of a vertex, by the edge index.

use super::simple::ANSWER_BYTES_MAX;
use super::*;
use crate::db::index::End;

/// The edges that have a vertex at the ends that are asked for.
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
    let mut count = 0;
    for document in db.edges(&collection, ends, &vertex) {
        if count > 0 {
            body.push(b',');
        }
        count += 1;
        document?.write_json(&collection.name, &mut body);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(errors::RESOURCE_LIMIT.because("the vertex has too many edges for one answer").into());
        }
    }
    let stats = format!(r#"],"error":false,"code":200,"stats":{{"scannedIndex":{count},"filtered":0}}}}"#);
    body.extend_from_slice(stats.as_bytes());
    Ok(Response::raw(200, body).into())
}
