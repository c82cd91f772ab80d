//! What graphs are made of: which vertex collections, and which edge collections between them.
//!
//! Collections that do not exist are created with the definition that names them. They are dropped with it only when
//! the client says so, and no other graph uses them.

use super::*;
use crate::db::rows::KeyOptions;
use crate::db::writer::NewCollection;
use serde_json::json;

// ---- reading --------------------------------------------------------------------------------------------------------

pub(in super::super) fn list(call: &mut Call<'_, '_>) -> Answer {
    let shown: Value = all(call)?.iter().map(Graph::json).collect();
    ok(200, json!({"graphs": shown}))
}

pub(in super::super) fn get(call: &mut Call<'_, '_>) -> Answer {
    ok(200, json!({"graph": find(call)?.json()}))
}

pub(in super::super) fn vertex_collections(call: &mut Call<'_, '_>) -> Answer {
    ok(200, json!({"collections": find(call)?.vertex_collections()}))
}

pub(in super::super) fn edge_collections(call: &mut Call<'_, '_>) -> Answer {
    let graph = find(call)?;
    let collections: BTreeSet<&String> = graph.definitions.iter().map(|definition| &definition.collection).collect();
    ok(200, json!({"collections": collections}))
}

// ---- whole graphs ---------------------------------------------------------------------------------------------------

pub(in super::super) fn create(call: &mut Call<'_, '_>) -> Answer {
    let body = call.object()?;
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err(errors::GRAPH_CREATE_MISSING_NAME.into());
    }
    if !users::is_key(name) {
        return Err(errors::DOCUMENT_KEY_BAD.into());
    }
    let graphs = all(call)?;
    if graphs.iter().any(|graph| graph.name == name) {
        return Err(errors::GRAPH_DUPLICATE.into());
    }
    let mut graph = Graph {
        name: name.to_owned(),
        definitions: Vec::new(),
        orphans: BTreeSet::new(),
        rest: Map::new(),
        document: None,
    };
    for given in list_of(&body, "edgeDefinitions").ok_or(errors::GRAPH_CREATE_MALFORMED_EDGE_DEFINITION)? {
        let definition = Definition::read(given).ok_or(errors::GRAPH_CREATE_MALFORMED_EDGE_DEFINITION)?;
        define(call, &mut graph, &graphs, definition)?;
    }
    for given in list_of(&body, "orphanCollections").ok_or(errors::GRAPH_CREATE_MALFORMED_ORPHAN_LIST)? {
        let orphan = given.as_str().ok_or(errors::GRAPH_CREATE_MALFORMED_ORPHAN_LIST)?;
        if !graph.has_vertex_collection(orphan) {
            ensure_orphan(call, orphan)?;
            graph.orphans.insert(orphan.to_owned());
        }
    }
    saved(call, graph)
}

/// An array, which may be left out.
fn list_of<'b>(body: &'b Map<String, Value>, name: &str) -> Option<&'b [Value]> {
    match body.get(name) {
        None | Some(Value::Null) => Some(&[]),
        Some(given) => given.as_array().map(Vec::as_slice),
    }
}

pub(in super::super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    let graph = find(call)?;
    if call.flag("dropCollections", false) {
        let edges = graph.definitions.iter().map(|definition| &definition.collection);
        let mut names: BTreeSet<&String> = graph.vertex_collections();
        names.extend(edges);
        drop_unused(call, &graph, &names)?;
    }
    let collection = graphs(call)?;
    let stored = graph.document.as_ref().expect("what was found is stored");
    call.writer()?.remove(&collection, stored)?;
    ok(status(call, &collection), json!({"removed": true}))
}

// ---- vertex collections ---------------------------------------------------------------------------------------------

pub(in super::super) fn add_vertex_collection(call: &mut Call<'_, '_>) -> Answer {
    let mut graph = find(call)?;
    let body = call.object()?;
    let Some(name) = body.get("collection").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
        return Err(errors::HTTP_BAD_PARAMETER.because("'collection' must be the name of a collection").into());
    };
    if graph.orphans.contains(name) {
        return Err(errors::GRAPH_COLLECTION_USED_IN_ORPHANS.into());
    }
    if graph.connects(name) {
        let kind = errors::GRAPH_COLLECTION_USED_IN_EDGE_DEF;
        return Err(kind.says(format!("{name} {}", kind.message)).into());
    }
    ensure_orphan(call, name)?;
    graph.orphans.insert(name.to_owned());
    saved(call, graph)
}

pub(in super::super) fn remove_vertex_collection(call: &mut Call<'_, '_>) -> Answer {
    let mut graph = find(call)?;
    let name = call.open[1].clone();
    if !graph.orphans.remove(&name) {
        return Err(errors::GRAPH_NOT_IN_ORPHAN_COLLECTION.into());
    }
    if call.flag("dropCollection", false) {
        drop_unused(call, &graph, &BTreeSet::from([&name]))?;
    }
    saved(call, graph)
}

// ---- edge definitions -----------------------------------------------------------------------------------------------

/// The definition that the body is.
fn given_definition(call: &Call<'_, '_>) -> Result<Definition, Failure> {
    Definition::read(&call.json()?).ok_or(errors::GRAPH_CREATE_MALFORMED_EDGE_DEFINITION.into())
}

pub(in super::super) fn add_definition(call: &mut Call<'_, '_>) -> Answer {
    let mut graph = find(call)?;
    let definition = given_definition(call)?;
    let graphs = all(call)?;
    define(call, &mut graph, &graphs, definition)?;
    saved(call, graph)
}

/// In all graphs that have it.
pub(in super::super) fn replace_definition(call: &mut Call<'_, '_>) -> Answer {
    let mut graph = find(call)?;
    let after = given_definition(call)?;
    if graph.definition(&call.open[1]).is_none() || after.collection != call.open[1] {
        return Err(errors::GRAPH_EDGE_COLLECTION_NOT_USED.into());
    }
    for name in after.vertex_collections() {
        ensure(call, name, CollectionKind::Document)?;
    }
    for mut other in all(call)? {
        if other.name != graph.name && redefine(&mut other, Some(&after), &after.collection) {
            other.save(call)?;
        }
    }
    redefine(&mut graph, Some(&after), &after.collection);
    saved(call, graph)
}

pub(in super::super) fn remove_definition(call: &mut Call<'_, '_>) -> Answer {
    let mut graph = find(call)?;
    let name = call.open[1].clone();
    if !redefine(&mut graph, None, &name) {
        return Err(errors::GRAPH_EDGE_COLLECTION_NOT_USED.into());
    }
    if call.flag("dropCollections", false) {
        drop_unused(call, &graph, &BTreeSet::from([&name]))?;
    }
    saved(call, graph)
}

/// Graphs follow their collections, whatever the user may do with graphs.
pub(in super::super) fn collection_renamed(call: &mut Call<'_, '_>, before: &str, after: &str) -> Result<(), Failure> {
    let Some(collection) = call.reader().collection(call.database.id, GRAPHS)? else { return Ok(()) };
    for mut graph in of_collection(call, &collection)? {
        if graph.uses(before) {
            graph.rename(before, after);
            graph.save_to(call, &collection)?;
        }
    }
    Ok(())
}

// ---- parts ----------------------------------------------------------------------------------------------------------

/// Adds a definition, with its collections, which must not contradict those of `graphs`.
fn define(call: &mut Call<'_, '_>, graph: &mut Graph, graphs: &[Graph], new: Definition) -> Result<(), Failure> {
    if graph.definition(&new.collection).is_some() {
        let message = format!("multi use of edge collection in edge def: {}", new.collection);
        return Err(errors::GRAPH_COLLECTION_MULTI_USE.says(message).into());
    }
    let other = graphs.iter().find_map(|other| other.definition(&new.collection));
    if other.is_some_and(|other| *other != new) {
        let message = format!("{} edge collection already used in edge def", new.collection);
        return Err(errors::GRAPH_COLLECTION_USE_IN_MULTI_GRAPHS.says(message).into());
    }
    let edges = ensure(call, &new.collection, CollectionKind::Edge)?;
    if edges.kind != CollectionKind::Edge {
        return Err(errors::GRAPH_EDGE_DEFINITION_IS_DOCUMENT.into());
    }
    for name in new.vertex_collections() {
        ensure(call, name, CollectionKind::Document)?;
        graph.orphans.remove(name);
    }
    graph.definitions.push(new);
    Ok(())
}

/// Puts `after` in the place of the collection's definition. Vertex collections that none names any more are orphans
/// from then on. False if the graph has no such definition.
fn redefine(graph: &mut Graph, after: Option<&Definition>, collection: &str) -> bool {
    let Some(place) = graph.definitions.iter().position(|definition| definition.collection == collection) else {
        return false;
    };
    let before = match after {
        Some(after) => std::mem::replace(&mut graph.definitions[place], after.clone()),
        None => graph.definitions.remove(place),
    };
    let connected: BTreeSet<String> = graph.connected().into_iter().cloned().collect();
    graph.orphans.extend(before.vertex_collections().cloned());
    graph.orphans.retain(|name| !connected.contains(name));
    true
}

/// A collection, which is created if it is not there.
fn ensure(call: &mut Call<'_, '_>, name: &str, kind: CollectionKind) -> Result<CollectionRow, Failure> {
    if !call.is_name(name, name.starts_with('_')) {
        return Err(names::illegal(name));
    }
    if call.reader().collection(call.database.id, name)?.is_some() {
        return call.collection(name, Level::Ro);
    }
    if !call.is_name(name, false) {
        return Err(names::illegal(name));
    }
    collection::check_free(call, name)?;
    let new = NewCollection {
        name: name.to_owned(),
        kind,
        system: false,
        key: KeyOptions::default(),
        wait_for_sync: false,
        properties: json!({}),
    };
    let database = call.database.id;
    let row = call.writer()?.create_collection(database, new)?;
    user::grant_creator(call, &row)?;
    Ok(row)
}

fn ensure_orphan(call: &mut Call<'_, '_>, name: &str) -> Result<(), Failure> {
    match ensure(call, name, CollectionKind::Document)?.kind {
        CollectionKind::Document => Ok(()),
        CollectionKind::Edge => Err(errors::GRAPH_WRONG_COLLECTION_TYPE_VERTEX.into()),
    }
}

/// Drops those collections that exist, are no system collections, and are in no graph but this one.
fn drop_unused(call: &mut Call<'_, '_>, graph: &Graph, names: &BTreeSet<&String>) -> Result<(), Failure> {
    let others: Vec<Graph> = all(call)?.into_iter().filter(|other| other.name != graph.name).collect();
    for name in names {
        let there = call.reader().collection(call.database.id, name)?.is_some();
        if !there || others.iter().any(|other| other.uses(name)) {
            continue;
        }
        let row = call.collection(name, Level::Rw)?;
        if !row.system {
            call.writer()?.drop_collection(&row)?;
        }
    }
    Ok(())
}

fn status(call: &Call<'_, '_>, graphs: &CollectionRow) -> u16 {
    document::SAVED.status(graphs, &document::Options::of(call), true)
}

fn saved(call: &mut Call<'_, '_>, mut graph: Graph) -> Answer {
    graph.save(call)?;
    let status = status(call, &graphs(call)?);
    ok(status, json!({"graph": graph.json()}))
}
