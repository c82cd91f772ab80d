//! Traversals: vertices and edges along the paths from a start.
//!
//! The edges of a collection are read once a query and kept by their ends, as memory of the query. Paths grow in an
//! arena, each step knowing the one before, and the order in which steps are taken up is all that tells depth-first,
//! breadth-first and weighted apart; nothing recurses.

use super::super::ast::{Depth, Direction, Graph, Slot, Traversal};
use super::super::value::{Object, Value};
use super::rows::Flow;
use super::*;
use std::collections::{BTreeSet, VecDeque};

/// All edges of a collection.
#[derive(Default)]
pub(super) struct EdgeMap {
    edges: Vec<Value>,
    from: BTreeMap<Arc<str>, Vec<u32>>,
    to: BTreeMap<Arc<str>, Vec<u32>>,
}

/// The edges of a traversal, by collection, each with its direction.
pub(super) struct Edges {
    maps: Vec<(Arc<EdgeMap>, Direction)>,
    pub weight: Option<Arc<str>>,
    pub default_weight: f64,
}

/// An edge: the place of its collection and its own.
pub(super) type EdgeId = (usize, u32);

impl Edges {
    /// The edges at a vertex, with the vertex at the other end.
    pub fn at(&self, vertex: &str, backwards: bool) -> Vec<(EdgeId, Arc<str>)> {
        let mut found = Vec::new();
        for (collection, (map, direction)) in self.maps.iter().enumerate() {
            let (out, into) = match (direction, backwards) {
                (Direction::Any, _) => (true, true),
                (Direction::Outbound, false) | (Direction::Inbound, true) => (true, false),
                (Direction::Inbound, false) | (Direction::Outbound, true) => (false, true),
            };
            for (wanted, by, end) in [(out, &map.from, "_to"), (into, &map.to, "_from")] {
                for &place in by.get(vertex).filter(|_| wanted).into_iter().flatten() {
                    if let Value::String(other) = map.edges[place as usize].attribute(end) {
                        // A loop is one edge, not two.
                        if !(out && into && end == "_from" && *other == *vertex) {
                            found.push(((collection, place), other));
                        }
                    }
                }
            }
        }
        found
    }

    pub fn value(&self, (collection, place): EdgeId) -> Value {
        self.maps[collection].0.edges[place as usize].clone()
    }

    /// What it costs to follow an edge.
    pub fn weight_of(&self, edge: EdgeId) -> Result<f64> {
        let Some(attribute) = &self.weight else { return Ok(1.0) };
        let weight = self.value(edge).attribute(attribute).as_double().unwrap_or(self.default_weight);
        if weight < 0.0 { Err(errors::GRAPH_NEGATIVE_EDGE_WEIGHT.into()) } else { Ok(weight) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unique {
    No,
    Path,
    Global,
}

/// A vertex at the end of a path.
pub(super) struct Step {
    pub vertex: Arc<str>,
    /// By which it was reached, and from which step.
    pub edge: Option<EdgeId>,
    pub before: Option<usize>,
    pub depth: u64,
    pub weight: f64,
}

impl Step {
    pub fn start(vertex: Arc<str>) -> Step {
        Step { vertex, edge: None, before: None, depth: 0, weight: 0.0 }
    }
}

/// The steps of a path, from its end back to its start.
pub(super) fn backwards(steps: &[Step], end: usize) -> impl Iterator<Item = &Step> {
    std::iter::successors(Some(&steps[end]), |step| step.before.map(|before| &steps[before]))
}

/// Steps that wait to be taken.
enum Frontier {
    DepthFirst(Vec<usize>),
    BreadthFirst(VecDeque<usize>),
    /// By weight, then in the order in which they came; weights are not negative, so their bits are in order.
    Weighted(BTreeSet<(u64, usize)>),
}

impl Frontier {
    fn next(&mut self) -> Option<usize> {
        match self {
            Frontier::DepthFirst(steps) => steps.pop(),
            Frontier::BreadthFirst(steps) => steps.pop_front(),
            Frontier::Weighted(steps) => steps.pop_first().map(|(_, step)| step),
        }
    }

    /// All that follows one step, in the order of the edges.
    fn add(&mut self, steps: impl DoubleEndedIterator<Item = (usize, f64)>) {
        match self {
            Frontier::DepthFirst(waiting) => waiting.extend(steps.rev().map(|(step, _)| step)),
            Frontier::BreadthFirst(waiting) => waiting.extend(steps.map(|(step, _)| step)),
            Frontier::Weighted(waiting) => waiting.extend(steps.map(|(step, weight)| (weight.to_bits(), step))),
        }
    }
}

impl<'q> Executor<'q, '_> {
    pub(super) fn traverse(
        &mut self,
        traversal: &'q Traversal,
        row: &mut Row,
        then: &mut dyn FnMut(&mut Self, &mut Row) -> Result<Flow>,
    ) -> Result<Flow> {
        let start = self.evaluate(&traversal.start, row)?;
        let Some(start) = self.vertex_id(&start)? else { return Ok(Flow::More) };
        let (min, max) = self.depth(traversal.depth.as_ref(), row)?;
        let options = &traversal.options;
        let edges = self.edges_of(&traversal.graph, traversal.direction, options)?;
        let unique = |name: &str, default| match options.attribute(name).as_str() {
            Some("none") => Unique::No,
            Some("path") => Unique::Path,
            Some("global") => Unique::Global,
            _ => default,
        };
        let (vertices, of_edges) = (unique("uniqueVertices", Unique::No), unique("uniqueEdges", Unique::Path));
        let mut frontier = match options.attribute("order").as_str() {
            Some("bfs") => Frontier::BreadthFirst(VecDeque::new()),
            Some("weighted") => Frontier::Weighted(BTreeSet::new()),
            _ if options.attribute("bfs").truthy() => Frontier::BreadthFirst(VecDeque::new()),
            _ => Frontier::DepthFirst(Vec::new()),
        };
        if vertices == Unique::Global && matches!(frontier, Frontier::DepthFirst(_)) {
            let text = "uniqueVertices: 'global' is only supported, with order: 'bfs' or 'weighted'";
            return Err(errors::BAD_PARAMETER.says(text));
        }
        let allowed = names(&options.attribute("vertexCollections"));
        let held_before = self.held_bytes;
        let mut seen: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut steps = vec![Step::start(start)];
        frontier.add([(0, 0.0)].into_iter());
        let mut flow = Flow::More;
        while let Some(at) = frontier.next() {
            self.step()?;
            let depth = steps[at].depth;
            if vertices == Unique::Global && !seen.insert(steps[at].vertex.clone()) {
                continue;
            }
            row[traversal.vertex.index()] = self.vertex(&steps[at].vertex)?;
            if let Some(slot) = traversal.edge {
                row[slot.index()] = steps[at].edge.map(|edge| edges.value(edge)).unwrap_or_default();
            }
            if let Some(slot) = traversal.path {
                row[slot.index()] = self.path(&steps, at, &edges)?;
            }
            let mut pruned = false;
            if let Some(prune) = &traversal.prune {
                let condition = self.evaluate(&prune.condition, row)?;
                pruned = condition.truthy();
                if let Some(slot) = prune.variable {
                    row[slot.index()] = condition;
                }
            }
            if depth >= min && then(self, row)? == Flow::Stop {
                flow = Flow::Stop;
                break;
            }
            if pruned || depth >= max {
                continue;
            }
            let first = steps.len();
            for (edge, vertex) in edges.at(&steps[at].vertex.clone(), false) {
                self.step()?;
                let again = (of_edges == Unique::Path && backwards(&steps, at).any(|step| step.edge == Some(edge)))
                    || (vertices == Unique::Path && backwards(&steps, at).any(|step| step.vertex == vertex))
                    || (vertices == Unique::Global && seen.contains(&vertex))
                    || !allowed
                        .as_ref()
                        .is_none_or(|allowed| vertex.split_once('/').is_some_and(|(name, _)| allowed.contains(name)));
                if !again {
                    let weight = match frontier {
                        Frontier::Weighted(_) => steps[at].weight + edges.weight_of(edge)?,
                        _ => 0.0,
                    };
                    steps.push(Step { vertex, edge: Some(edge), before: Some(at), depth: depth + 1, weight });
                }
            }
            self.hold((steps.len() - first) * (size_of::<Step>() + 16))?;
            frontier.add((first..steps.len()).map(|step| (step, steps[step].weight)));
        }
        self.release(self.held_bytes.saturating_sub(held_before));
        Ok(flow)
    }

    fn path(&mut self, steps: &[Step], at: usize, edges: &Edges) -> Result<Value> {
        let (mut vertices, mut along) = (Vec::new(), Vec::new());
        for step in backwards(steps, at) {
            self.step()?;
            vertices.push(self.vertex(&step.vertex)?);
            along.extend(step.edge.map(|edge| edges.value(edge)));
        }
        vertices.reverse();
        along.reverse();
        Ok(Value::object([("vertices", vertices.into()), ("edges", along.into())]))
    }

    // ---- what paths need as well ----

    /// The id that a string or a document stands for; `None` with a warning for anything else.
    pub(super) fn vertex_id(&mut self, value: &Value) -> Result<Option<Arc<str>>> {
        let id = match value {
            Value::Object(_) => value.attribute("_id"),
            other => other.clone(),
        };
        match id {
            Value::String(id) if id.contains('/') => Ok(Some(id)),
            _ => {
                let text = "Invalid input for traversal: Only id strings or objects with _id are allowed";
                self.with_context(|context| context.warn(errors::BAD_PARAMETER, text))?;
                Ok(None)
            }
        }
    }

    /// A vertex's document; null if there is none.
    pub(super) fn vertex(&mut self, id: &str) -> Result<Value> {
        let Some((name, key)) = id.split_once('/') else { return Ok(Value::Null) };
        let collection = match self.collections.get(name) {
            Some(found) => Arc::clone(found),
            None => match self.data.collection(name, false) {
                Err(error) if error.kind == errors::DATA_SOURCE_NOT_FOUND => return Ok(Value::Null),
                found => {
                    let found = Arc::new(found?);
                    self.collections.insert(name.into(), Arc::clone(&found));
                    found
                }
            },
        };
        let found = self.data.reader().document(&collection, key)?;
        self.stats.scanned_index += u64::from(found.is_some());
        Ok(optional_value(found.as_ref(), &collection))
    }

    /// The least and the greatest length of a path.
    pub(super) fn depth(&mut self, depth: Option<&'q Depth>, row: &mut Row) -> Result<(u64, u64)> {
        let Some(depth) = depth else { return Ok((1, 1)) };
        let bad = || errors::QUERY_NUMBER_OUT_OF_RANGE.because("invalid traversal depth");
        let min = u64::try_from(self.evaluate(&depth.min, row)?.to_int()).map_err(|_| bad())?;
        let max = match &depth.max {
            Some(max) => u64::try_from(self.evaluate(max, row)?.to_int()).map_err(|_| bad())?,
            None => min,
        };
        if min > max { Err(bad()) } else { Ok((min, max)) }
    }

    pub(super) fn edges_of(&mut self, graph: &'q Graph, direction: Direction, options: &Value) -> Result<Edges> {
        let mut wanted: Vec<(Arc<str>, Direction)> = match graph {
            Graph::Edges(edges) => {
                edges.iter().map(|edges| (edges.name.text.clone(), edges.direction.unwrap_or(direction))).collect()
            }
            Graph::Named(name) => {
                self.edge_collections(&name.text)?.into_iter().map(|name| (name, direction)).collect()
            }
        };
        if let Some(allowed) = names(&options.attribute("edgeCollections")) {
            wanted.retain(|(name, _)| allowed.contains(&**name));
        }
        let mut maps = Vec::new();
        for (name, direction) in wanted {
            maps.push((self.edge_map(&name)?, direction));
        }
        let weight = match options.attribute("weightAttribute") {
            Value::String(name) => Some(name),
            _ => None,
        };
        Ok(Edges { maps, weight, default_weight: options.attribute("defaultWeight").as_double().unwrap_or(1.0) })
    }

    /// What `_graphs` says of a named graph.
    fn edge_collections(&mut self, graph: &str) -> Result<Vec<Arc<str>>> {
        let missing = || errors::GRAPH_NOT_FOUND.says(format!("graph '{graph}' not found"));
        let graphs = self.data.collection("_graphs", false).map_err(|_| missing())?;
        let found = self.data.reader().document(&graphs, graph)?.ok_or_else(missing)?;
        let definitions = document_value(&found, &graphs).attribute("edgeDefinitions");
        let names = definitions.as_array().unwrap_or_default().iter().map(|each| each.attribute("collection"));
        Ok(names
            .filter_map(|name| match name {
                Value::String(name) => Some(name),
                _ => None,
            })
            .collect())
    }

    fn edge_map(&mut self, name: &str) -> Result<Arc<EdgeMap>> {
        let collection = self.collection_named(name)?;
        if collection.kind != crate::db::CollectionKind::Edge {
            return Err(errors::COLLECTION_TYPE_INVALID.because(name));
        }
        if let Some(known) = self.edges.get(&collection.id) {
            return Ok(Arc::clone(known));
        }
        let mut map = EdgeMap::default();
        self.all_documents(&collection, &mut |executor, edge| {
            executor.hold(edge.size_bytes() + 128)?;
            let place = u32::try_from(map.edges.len()).map_err(|_| errors::RESOURCE_LIMIT)?;
            for (end, by) in [("_from", &mut map.from), ("_to", &mut map.to)] {
                if let Value::String(vertex) = edge.attribute(end) {
                    by.entry(vertex).or_default().push(place);
                }
            }
            map.edges.push(edge);
            Ok(Flow::More)
        })?;
        let map = Arc::new(map);
        self.edges.insert(collection.id, Arc::clone(&map));
        Ok(map)
    }

    pub(super) fn put(&self, slot: Option<Slot>, value: Value, row: &mut Row) {
        if let Some(slot) = slot {
            row[slot.index()] = value;
        }
    }
}

/// A name or an array of names.
fn names(value: &Value) -> Option<BTreeSet<String>> {
    match value {
        Value::String(name) => Some(BTreeSet::from([name.to_string()])),
        Value::Array(names) => Some(names.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        _ => None,
    }
}

/// A path as a value, with its weight if that was asked for.
pub(super) fn path_value(vertices: Vec<Value>, edges: Vec<Value>, weight: Option<f64>) -> Value {
    let mut members: Vec<(Arc<str>, Value)> =
        vec![("edges".into(), edges.into()), ("vertices".into(), vertices.into())];
    members.extend(weight.map(|weight| ("weight".into(), Value::whole_number(weight))));
    members.into_iter().collect::<Object>().into()
}
