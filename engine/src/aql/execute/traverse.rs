//! Traversals: vertices and edges along the paths from a start.
//!
//! Edges are found by the edge index, vertices by their keys, and of both no more is read than the query asks for.
//! Paths grow in an arena, each step knowing the one before, and the order in which steps are taken up is all that
//! tells depth-first, breadth-first and weighted apart; nothing recurses.

use super::super::ast::{Depth, Slot, Traversal};
use super::super::plan::projection::Projection;
use super::super::value::{Object, Value};
use super::edges::{EdgeId, Edges, Neighbor, names};
use super::rows::Flow;
use super::*;
use std::collections::{BTreeSet, VecDeque};

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
        let mut edges = self.edges_of(&traversal.graph, traversal.direction, options)?;
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
        edges.weighted = matches!(frontier, Frontier::Weighted(_));
        if !edges.weighted {
            edges.weight = None;
        }
        let allowed = names(&options.attribute("vertexCollections"));
        for name in allowed.iter().flatten() {
            self.collection_named(name)?;
        }
        let mut bytes = 0;
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
            if depth >= min || traversal.prune.is_some() {
                self.put_step(traversal, &steps, at, &edges, row)?;
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
            let vertex = Arc::clone(&steps[at].vertex);
            for Neighbor { edge, vertex, weight } in self.neighbors(&edges, &vertex, false)? {
                let again = (of_edges == Unique::Path && backwards(&steps, at).any(|step| step.edge == Some(edge)))
                    || (vertices == Unique::Path && backwards(&steps, at).any(|step| step.vertex == vertex))
                    || (vertices == Unique::Global && seen.contains(&vertex))
                    || !allowed
                        .as_ref()
                        .is_none_or(|allowed| vertex.split_once('/').is_some_and(|(name, _)| allowed.contains(name)));
                if !again {
                    let weight = steps[at].weight + weight;
                    steps.push(Step { vertex, edge: Some(edge), before: Some(at), depth: depth + 1, weight });
                }
            }
            let grown = (steps.len() - first) * (size_of::<Step>() + 16);
            bytes += grown;
            self.hold(grown)?;
            frontier.add((first..steps.len()).map(|step| (step, steps[step].weight)));
        }
        self.release(bytes);
        Ok(flow)
    }

    /// Puts vertex, edge and path of a step into their variables.
    fn put_step(
        &mut self,
        traversal: &'q Traversal,
        steps: &[Step],
        at: usize,
        edges: &Edges,
        row: &mut Row,
    ) -> Result<()> {
        let slot = traversal.vertex;
        row[slot.index()] = self.vertex(&steps[at].vertex, self.plan.projection(slot))?;
        if let Some(slot) = traversal.edge {
            row[slot.index()] = self.edge_in(&steps[at], edges, slot)?;
        }
        if let Some(slot) = traversal.path {
            row[slot.index()] = self.path(steps, at, edges, slot)?;
        }
        Ok(())
    }

    /// The edge that a step was reached by, as far as it is read in a variable.
    pub(super) fn edge_in(&mut self, step: &Step, edges: &Edges, slot: Slot) -> Result<Value> {
        match step.edge {
            Some(edge) if self.plan.projection(slot).is_read() => self.edge(edges, edge),
            _ => Ok(Value::Null),
        }
    }

    fn path(&mut self, steps: &[Step], at: usize, edges: &Edges, slot: Slot) -> Result<Value> {
        let projection = self.plan.projection(slot);
        let (mut vertices, mut along, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for step in backwards(steps, at).take_while(|_| projection.is_read()) {
            self.step()?;
            if projection.has("vertices") {
                vertices.push(self.vertex(&step.vertex, &Projection::Whole)?);
            }
            if projection.has("edges")
                && let Some(edge) = step.edge
            {
                along.push(self.edge(edges, edge)?);
            }
            if edges.weighted {
                weights.push(Value::whole_number(step.weight));
            }
        }
        vertices.reverse();
        along.reverse();
        weights.reverse();
        let (vertices, along) = (("vertices", vertices.into()), ("edges", along.into()));
        Ok(match edges.weighted {
            true => Value::object([vertices, along, ("weights", weights.into())]),
            false => Value::object([vertices, along]),
        })
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

    /// A vertex's document; null if there is none, or if nobody reads it.
    pub(super) fn vertex(&mut self, id: &str, projection: &Projection) -> Result<Value> {
        let Some((name, key)) = id.split_once('/').filter(|_| projection.is_read()) else { return Ok(Value::Null) };
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
        self.has_read(found.as_ref().map_or(0, |found| found.body.len()));
        let value = |found: Document| document::document_value(&found.stored(), &collection.name, projection);
        Ok(found.map(value).unwrap_or_default())
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
}

/// A path as a value, with its weight if that was asked for.
pub(super) fn path_value(vertices: Vec<Value>, edges: Vec<Value>, weight: Option<f64>) -> Value {
    let mut members: Vec<(Arc<str>, Value)> =
        vec![("edges".into(), edges.into()), ("vertices".into(), vertices.into())];
    members.extend(weight.map(|weight| ("weight".into(), Value::whole_number(weight))));
    members.into_iter().collect::<Object>().into()
}
