//! `/_api/gharial`: named graphs.
//!
//! A graph is a document of `_graphs`, as ArangoDB keeps it: its key is the graph's name, it lists edge definitions
//! (an edge collection, and between which vertex collections its edges lead) and orphans (vertex collections that no
//! definition names). Clients can write such documents themselves, so what is read is read leniently: what is no
//! edge definition is left out. An edge collection has one definition, the same in every graph that uses it.
//!
//! `definition.rs` has what changes graphs, `element.rs` their vertices and edges.

mod definition;
mod element;

pub(super) use definition::*;
pub(super) use element::*;

use super::*;
use bytes::Bytes;
use std::collections::BTreeSet;

/// Where graphs are kept.
const GRAPHS: &str = "_graphs";

/// The edges of a collection lead from some vertex collections to some.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Definition {
    collection: String,
    from: BTreeSet<String>,
    to: BTreeSet<String>,
}

impl Definition {
    fn read(given: &Value) -> Option<Definition> {
        let collection = given.get("collection")?.as_str().filter(|name| !name.is_empty())?;
        let (from, to) = (names(given.get("from")?)?, names(given.get("to")?)?);
        Some(Definition { collection: collection.to_owned(), from, to })
    }

    fn vertex_collections(&self) -> impl Iterator<Item = &String> {
        self.from.iter().chain(&self.to)
    }

    fn json(&self) -> Value {
        serde_json::json!({"collection": self.collection, "from": self.from, "to": self.to})
    }
}

/// The names in an array of nothing else.
fn names(given: &Value) -> Option<BTreeSet<String>> {
    given.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

#[derive(Clone, Debug)]
struct Graph {
    name: String,
    definitions: Vec<Definition>,
    orphans: BTreeSet<String>,
    /// What else the document says, which may be from elsewhere.
    rest: Map<String, Value>,
    /// As it is stored.
    document: Option<Document>,
}

impl Graph {
    fn of(document: Document) -> Graph {
        let mut rest: Map<String, Value> = serde_json::from_slice(&document.body).unwrap_or_default();
        let definitions = rest.remove("edgeDefinitions").unwrap_or_default();
        let definitions = definitions.as_array().into_iter().flatten().filter_map(Definition::read).collect();
        let orphans = rest.remove("orphanCollections").and_then(|orphans| names(&orphans)).unwrap_or_default();
        Graph { name: document.key.clone(), definitions, orphans, rest, document: Some(document) }
    }

    fn definition(&self, collection: &str) -> Option<&Definition> {
        self.definitions.iter().find(|definition| definition.collection == collection)
    }

    /// Those that definitions name.
    fn connected(&self) -> BTreeSet<&String> {
        self.definitions.iter().flat_map(Definition::vertex_collections).collect()
    }

    fn vertex_collections(&self) -> BTreeSet<&String> {
        let mut all = self.connected();
        all.extend(&self.orphans);
        all
    }

    fn has_vertex_collection(&self, name: &str) -> bool {
        self.orphans.contains(name) || self.connects(name)
    }

    fn connects(&self, name: &str) -> bool {
        self.definitions.iter().any(|definition| definition.from.contains(name) || definition.to.contains(name))
    }

    fn uses(&self, name: &str) -> bool {
        self.definition(name).is_some() || self.has_vertex_collection(name)
    }

    fn rename(&mut self, before: &str, after: &str) {
        let renamed = |names: &mut BTreeSet<String>| {
            if names.remove(before) {
                names.insert(after.to_owned());
            }
        };
        for definition in &mut self.definitions {
            if definition.collection == before {
                definition.collection = after.to_owned();
            }
            renamed(&mut definition.from);
            renamed(&mut definition.to);
        }
        renamed(&mut self.orphans);
    }

    fn parts(&self) -> [(String, Value); 2] {
        let definitions = self.definitions.iter().map(Definition::json).collect();
        let orphans = self.orphans.iter().map(String::as_str).collect();
        [("edgeDefinitions".into(), definitions), ("orphanCollections".into(), orphans)]
    }

    /// As clients see it.
    fn json(&self) -> Value {
        let mut shown = Map::new();
        shown.insert("_key".into(), self.name.as_str().into());
        shown.extend(self.rest.clone());
        shown.extend(self.parts());
        let revision = self.document.as_ref().map_or_else(String::new, |document| document.revision.encode());
        shown.insert("_rev".into(), revision.into());
        shown.insert("_id".into(), format!("{GRAPHS}/{}", self.name).into());
        shown.insert("name".into(), self.name.as_str().into());
        Value::Object(shown)
    }

    fn save(&mut self, call: &mut Call<'_, '_>) -> Result<(), Failure> {
        let collection = graphs(call)?;
        self.save_to(call, &collection)
    }

    fn save_to(&mut self, call: &mut Call<'_, '_>, collection: &CollectionRow) -> Result<(), Failure> {
        let mut members = self.rest.clone();
        members.extend(self.parts());
        let body = Bytes::from(Value::Object(members).to_string());
        if body.len() > call.run.view.limits.document_bytes {
            return Err(errors::DOCUMENT_TOO_LARGE.into());
        }
        let revision = call.writer()?.put(collection, &self.name, body.clone(), self.document.as_ref())?;
        self.document = Some(Document { key: self.name.clone(), revision, body });
        Ok(())
    }
}

fn graphs(call: &Call<'_, '_>) -> Result<CollectionRow, Failure> {
    let found = call.reader().collection(call.database.id, GRAPHS)?;
    if found.is_none() {
        return Err(errors::GRAPH_NO_GRAPH_COLLECTION.into());
    }
    // Looks at the user's rights, too.
    call.collection(GRAPHS, Level::Ro)
}

/// All graphs of the database.
fn all(call: &Call<'_, '_>) -> Result<Vec<Graph>, Failure> {
    of_collection(call, &graphs(call)?)
}

fn of_collection(call: &Call<'_, '_>, collection: &CollectionRow) -> Result<Vec<Graph>, Failure> {
    let mut found = Vec::new();
    for_each_document(&call.reader(), collection, |document| {
        found.push(Graph::of(document));
        Ok(true)
    })?;
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The edge collections of a graph.
pub(super) fn edge_collections_of(call: &Call<'_, '_>, name: &str) -> Result<Vec<String>, Failure> {
    Ok(named(call, name)?.definitions.into_iter().map(|definition| definition.collection).collect())
}

/// The graph in the path.
fn find(call: &Call<'_, '_>) -> Result<Graph, Failure> {
    named(call, &call.open[0])
}

fn named(call: &Call<'_, '_>, name: &str) -> Result<Graph, Failure> {
    match find_document(&call.reader(), &graphs(call)?, name)? {
        Some(document) => Ok(Graph::of(document)),
        None => Err(errors::GRAPH_NOT_FOUND.says(format!("graph '{name}' not found")).into()),
    }
}
