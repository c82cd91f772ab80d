//! The vertices and edges of a graph.
//!
//! They are documents, written as `document.rs` writes them, under two rules: an edge leads from and to vertices that
//! exist, in collections that its definition names; and with a vertex go the edges that lead to it or from it, in
//! every graph that has its collection. The other interfaces for documents know neither rule.

use super::document::{Done, Expected, Options, REMOVED, SAVED, Success, insert_one, modify_one, remove_one};
use super::*;
use crate::db::Overwrite;
use crate::db::index::End;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    Vertex,
    Edge,
}

use Element::{Edge, Vertex};

impl Element {
    fn name(self) -> &'static str {
        match self {
            Vertex => "vertex",
            Edge => "edge",
        }
    }
}

pub(in super::super) fn get_vertex(call: &mut Call<'_, '_>) -> Answer {
    read(call, Vertex)
}

pub(in super::super) fn get_edge(call: &mut Call<'_, '_>) -> Answer {
    read(call, Edge)
}

pub(in super::super) fn insert_vertex(call: &mut Call<'_, '_>) -> Answer {
    insert(call, Vertex)
}

pub(in super::super) fn insert_edge(call: &mut Call<'_, '_>) -> Answer {
    insert(call, Edge)
}

pub(in super::super) fn replace_vertex(call: &mut Call<'_, '_>) -> Answer {
    modify(call, Vertex, false)
}

pub(in super::super) fn replace_edge(call: &mut Call<'_, '_>) -> Answer {
    modify(call, Edge, false)
}

pub(in super::super) fn update_vertex(call: &mut Call<'_, '_>) -> Answer {
    modify(call, Vertex, true)
}

pub(in super::super) fn update_edge(call: &mut Call<'_, '_>) -> Answer {
    modify(call, Edge, true)
}

pub(in super::super) fn remove_vertex(call: &mut Call<'_, '_>) -> Answer {
    remove(call, Vertex)
}

pub(in super::super) fn remove_edge(call: &mut Call<'_, '_>) -> Answer {
    remove(call, Edge)
}

// ---- what vertices and edges have in common -------------------------------------------------------------------------

/// The graph and the collection in the path, which must be part of it.
fn place(call: &Call<'_, '_>, element: Element, level: Level) -> Result<(Graph, CollectionRow), Failure> {
    let graph = find(call)?;
    let name = &call.open[1];
    match element {
        Vertex if !graph.has_vertex_collection(name) => Err(errors::GRAPH_REFERENCED_VERTEX_COLLECTION_NOT_USED.into()),
        Edge if graph.definition(name).is_none() => Err(errors::GRAPH_EDGE_COLLECTION_NOT_USED.into()),
        _ => Ok((graph, call.collection(name, level)?)),
    }
}

/// The revision that a client insists on.
fn expected(call: &Call<'_, '_>) -> Option<Expected> {
    let in_query = || call.request().query("rev").map(|text| Expected::text(&text));
    Expected::header(call.request(), header::IF_MATCH).or_else(in_query)
}

fn options(call: &Call<'_, '_>) -> Options {
    Options { overwrite: Overwrite::Conflict, ignore_revisions: true, ..Options::of(call) }
}

fn read(call: &Call<'_, '_>, element: Element) -> Answer {
    let (_, collection) = place(call, element, Level::Ro)?;
    let document = find_document(&call.reader(), &collection, &call.open[2])?.ok_or(errors::DOCUMENT_NOT_FOUND)?;
    if let Some(expected) = expected(call) {
        expected.check(&collection, &document)?;
    }
    let tag = document.revision.encode();
    if Expected::header(call.request(), header::IF_NONE_MATCH).is_some_and(|expected| expected.fits(&document)) {
        return Ok(Response::empty(304).with_header(header::ETAG, tag).into());
    }
    let mut body = beginning(200);
    body.extend_from_slice(format!(r#","{}":"#, element.name()).as_bytes());
    document.write_json(&collection.name, &mut body);
    body.push(b'}');
    Ok(Response::raw(200, body).with_header(header::ETAG, tag).into())
}

fn insert(call: &mut Call<'_, '_>, element: Element) -> Answer {
    let (graph, collection) = place(call, element, Level::Rw)?;
    let text = call.text()?;
    let options = Options { return_old: false, ..options(call) };
    if element == Edge {
        check_ends(call, &graph, &text, false)?;
    }
    let done = insert_one(call.writer()?, &collection, &text, &options)?;
    written(element, &collection, &options, SAVED, &done)
}

fn modify(call: &mut Call<'_, '_>, element: Element, patch: bool) -> Answer {
    let (graph, collection) = place(call, element, Level::Rw)?;
    let text = call.text()?;
    let options = options(call);
    if element == Edge {
        check_ends(call, &graph, &text, patch)?;
    }
    let (key, expected) = (call.open[2].clone(), expected(call));
    let done = modify_one(call.writer()?, &collection, Some(&key), &text, patch, expected, &options)?;
    // With the numbers of a removal.
    written(element, &collection, &options, REMOVED, &done)
}

fn remove(call: &mut Call<'_, '_>, element: Element) -> Answer {
    let (_, collection) = place(call, element, Level::Rw)?;
    let options = options(call);
    let (key, expected) = (call.open[2].clone(), expected(call));
    let done = remove_one(call.writer()?, &collection, &key, expected)?;
    // Edges may lead to edges.
    remove_edges_at(call, &collection, &key)?;
    let status = REMOVED.status(&collection, &options, true);
    let mut body = beginning(status);
    body.extend_from_slice(br#","removed":true"#);
    done.write_images(&collection, &options, &mut body);
    body.push(b'}');
    Ok(Response::raw(status, body).into())
}

fn beginning(status: u16) -> Vec<u8> {
    format!(r#"{{"error":false,"code":{status}"#).into_bytes()
}

fn written(element: Element, collection: &CollectionRow, options: &Options, success: Success, done: &Done) -> Answer {
    let status = success.status(collection, options, done.wrote());
    let mut body = beginning(status);
    body.extend_from_slice(format!(r#","{}":"#, element.name()).as_bytes());
    done.write_identity(collection, &mut body);
    body.push(b'}');
    done.write_images(collection, options, &mut body);
    body.push(b'}');
    Ok(Response::raw(status, body).with_header(header::ETAG, done.revision.encode()).into())
}

// ---- edges and what they lead to ------------------------------------------------------------------------------------

/// An edge's ends must be there, in collections of the graph: as in ArangoDB, also in those to which the definition
/// does not lead. A patch may leave them out.
fn check_ends(call: &Call<'_, '_>, graph: &Graph, text: &str, patch: bool) -> Result<(), Failure> {
    if !json::is_object(text) {
        return Err(errors::DOCUMENT_TYPE_INVALID.into());
    }
    graph.definition(&call.open[1]).ok_or(errors::GRAPH_EDGE_COLLECTION_NOT_USED)?;
    let members = json::members(text);
    for end in ["_from", "_to"] {
        let Some((_, value)) = members.iter().find(|(name, _)| name == end) else {
            if patch {
                continue;
            }
            return Err(errors::INVALID_EDGE_ATTRIBUTE.into());
        };
        let id = json::string(value).ok_or(errors::INVALID_EDGE_ATTRIBUTE)?;
        let (name, key) = id.split_once('/').ok_or(errors::INVALID_EDGE_ATTRIBUTE)?;
        if !graph.has_vertex_collection(name) {
            let message = format!("referenced {end} collection '{name}' is not part of the graph");
            return Err(errors::GRAPH_REFERENCED_VERTEX_COLLECTION_NOT_USED.says(message).into());
        }
        let vertices = call.collection(name, Level::Ro)?;
        if find_document(&call.reader(), &vertices, key)?.is_none() {
            return Err(errors::DOCUMENT_NOT_FOUND.into());
        }
    }
    Ok(())
}

/// Removes the edges that lead to a document or from it, in all graphs that have its collection. What leads to these
/// edges stays, as in ArangoDB.
fn remove_edges_at(call: &mut Call<'_, '_>, collection: &CollectionRow, key: &str) -> Result<(), Failure> {
    let graphs = all(call)?.into_iter().filter(|graph| graph.uses(&collection.name));
    let names: BTreeSet<String> =
        graphs.flat_map(|graph| graph.definitions).map(|definition| definition.collection).collect();
    let id = format!("{}/{key}", collection.name);
    for name in names {
        // It may have been dropped, or be another one by now.
        let there = call.reader().collection(call.database.id, &name)?;
        if there.is_none_or(|row| row.kind != CollectionKind::Edge) {
            continue;
        }
        let edges = call.collection(&name, Level::Rw)?;
        let found: StoreResult<Vec<Document>> = call.reader().edges(&edges, &[End::From, End::To], &id).collect();
        for edge in found? {
            call.writer()?.remove(&edges, &edge)?;
        }
    }
    Ok(())
}
