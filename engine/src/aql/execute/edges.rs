//! The edges that traversals and paths follow, by the edge index.

use super::super::ast::{Direction, Graph};
use super::super::plan::projection::Projection;
use super::super::value::Value;
use super::document::document_value;
use super::*;
use crate::db::index::End;
use crate::db::index::scan::IndexRange;
use crate::db::{CollectionKind, Index, store};
use std::collections::BTreeSet;

/// Edge collections, each with the direction that it is followed in.
pub(super) struct Edges {
    collections: Vec<(Arc<CollectionRow>, Direction)>,
    /// By which attribute edges weigh; without it each weighs as much.
    pub weight: Option<Arc<str>>,
    default_weight: f64,
    /// A traversal goes by weights and tells them, so an edge weighs something without such an attribute, too.
    pub weighted: bool,
}

/// An edge: the place of its collection, and its revision.
pub(super) type EdgeId = (usize, Revision);

/// What lies at the other end of an edge.
pub(super) struct Neighbor {
    pub edge: EdgeId,
    pub vertex: Arc<str>,
    pub weight: f64,
}

impl Edges {
    /// What is read of an edge to follow it.
    fn projection(&self) -> Projection {
        Projection::Attributes(["_from".into(), "_to".into()].into_iter().chain(self.weight.clone()).collect())
    }

    fn weight_of(&self, edge: &Value) -> Result<f64> {
        let Some(attribute) = &self.weight else { return Ok(if self.weighted { self.default_weight } else { 1.0 }) };
        let weight = edge.attribute(attribute).as_double().unwrap_or(self.default_weight);
        if weight < 0.0 { Err(errors::GRAPH_NEGATIVE_EDGE_WEIGHT.into()) } else { Ok(weight) }
    }
}

impl<'q> Executor<'q, '_> {
    pub(super) fn edges_of(&mut self, graph: &'q Graph, direction: Direction, options: &Value) -> Result<Edges> {
        let mut wanted: Vec<(Arc<str>, Direction)> = match graph {
            Graph::Edges(edges) => {
                let mut wanted: Vec<(Arc<str>, Direction)> = Vec::new();
                for (name, direction) in
                    edges.iter().map(|edges| (&edges.name.text, edges.direction.unwrap_or(direction)))
                {
                    match wanted.iter().find(|(known, _)| known == name) {
                        None => wanted.push((name.clone(), direction)),
                        Some((_, same)) if *same == direction => {}
                        Some(_) => {
                            let text = format!("conflicting directions specified for collection '{name}'");
                            return Err(errors::COLLECTION_TYPE_INVALID.says(text));
                        }
                    }
                }
                wanted
            }
            Graph::Named(name) => {
                let names = self.data.edge_collections(&name.text)?;
                names.into_iter().map(|name| (name.into(), direction)).collect()
            }
        };
        if let Some(allowed) = names(&options.attribute("edgeCollections")) {
            for name in &allowed {
                self.edge_collection(name)?;
            }
            wanted.retain(|(name, _)| allowed.contains(&**name));
        }
        let mut collections = Vec::new();
        for (name, direction) in wanted {
            collections.push((self.edge_collection(&name)?, direction));
        }
        let weight = match options.attribute("weightAttribute") {
            Value::String(name) => Some(name),
            _ => None,
        };
        let default_weight = options.attribute("defaultWeight").as_double().unwrap_or(1.0);
        if default_weight < 0.0 {
            return Err(errors::GRAPH_NEGATIVE_EDGE_WEIGHT.into());
        }
        Ok(Edges { collections, weight, default_weight, weighted: false })
    }

    fn edge_collection(&self, name: &str) -> Result<Arc<CollectionRow>> {
        let collection = self.collection_named(name)?;
        match collection.kind {
            CollectionKind::Edge => Ok(collection),
            CollectionKind::Document => Err(errors::COLLECTION_TYPE_INVALID.because(name)),
        }
    }

    /// The edges at a vertex that lead on, or backwards to where one may come from: those that go out first, each in
    /// the order in which they were written.
    pub(super) fn neighbors(&mut self, edges: &Edges, vertex: &str, backwards: bool) -> Result<Vec<Neighbor>> {
        let projection = edges.projection();
        let range = IndexRange::equal([Value::from(vertex)]);
        let mut found = Vec::new();
        let mut bytes = 0;
        for (place, (collection, direction)) in edges.collections.iter().enumerate() {
            let ends: &[(End, &str)] = match (direction, backwards) {
                (Direction::Any, _) => &[(End::From, "_to"), (End::To, "_from")],
                (Direction::Outbound, false) | (Direction::Inbound, true) => &[(End::From, "_to")],
                (Direction::Inbound, false) | (Direction::Outbound, true) => &[(End::To, "_from")],
            };
            for (at, (end, other)) in ends.iter().enumerate() {
                let reader = self.data.reader();
                let entries = reader.index_scan(collection, &Index::edge(*end), &range, store::Direction::Forward);
                self.stats.cursors_created += 1;
                for revision in entries {
                    let revision = revision?;
                    let Some(edge) = reader.stored_document(collection.object, revision)? else { continue };
                    self.steps += 1 + (edge.body.len() / BYTES_A_STEP) as u64;
                    let edge = document_value(&edge, &collection.name, &projection);
                    self.stats.scanned_index += 1;
                    bytes += size_of::<Neighbor>() + 32;
                    // A loop is one edge, not two.
                    if let Value::String(vertex_there) = edge.attribute(other)
                        && !(at > 0 && *vertex_there == *vertex)
                    {
                        let weight = edges.weight_of(&edge)?;
                        found.push(Neighbor { edge: (place, revision), vertex: vertex_there, weight });
                    }
                    if self.steps > self.settings.steps || self.held_bytes + bytes > self.settings.memory_bytes {
                        break;
                    }
                }
                // Whichever of the two it was that there was too much of.
                self.step()?;
                self.hold(bytes)?;
                self.release(bytes);
            }
        }
        Ok(found)
    }

    /// An edge's document.
    pub(super) fn edge(&self, edges: &Edges, (place, revision): EdgeId) -> Result<Value> {
        let (collection, _) = &edges.collections[place];
        let found = self.data.reader().stored_document(collection.object, revision)?;
        Ok(found.map(|edge| document_value(&edge, &collection.name, &Projection::Whole)).unwrap_or_default())
    }
}

/// A name or an array of names; none at all are no restriction.
pub(super) fn names(value: &Value) -> Option<BTreeSet<String>> {
    match value {
        Value::Array(names) if names.is_empty() => None,
        Value::String(name) => Some(BTreeSet::from([name.to_string()])),
        Value::Array(names) => Some(names.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        _ => None,
    }
}
