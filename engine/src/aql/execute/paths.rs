//! Paths between two vertices: the shortest, all that are as short, one after the other by length, or all of a length.
//!
//! First the distance of each vertex to the target is found, backwards from there. Paths from the start are then grown
//! best first by their length and that distance, so that nothing is followed that does not lead there, and each comes
//! out complete in its turn.

use super::super::ast::{Paths, PathsKind};
use super::super::plan::projection::Projection;
use super::edges::{Edges, Neighbor};
use super::rows::Flow;
use super::traverse::{Step, backwards, path_value};
use super::*;
use std::cmp::Reverse;
use std::collections::BTreeSet;

impl<'q> Executor<'q, '_> {
    pub(super) fn paths(
        &mut self,
        paths: &'q Paths,
        row: &mut Row,
        then: &mut dyn FnMut(&mut Self, &mut Row) -> Result<Flow>,
    ) -> Result<Flow> {
        let (start, target) = (self.evaluate(&paths.start, row)?, self.evaluate(&paths.target, row)?);
        let (start, target) = (self.vertex_id(&start)?, self.vertex_id(&target)?);
        let (Some(start), Some(target)) = (start, target) else { return Ok(Flow::More) };
        let (min, max) = match paths.kind {
            PathsKind::K => self.depth(paths.depth.as_ref(), row)?,
            _ => (0, u64::MAX),
        };
        let mut edges = self.edges_of(&paths.graph, paths.direction, &paths.options)?;
        if matches!(paths.kind, PathsKind::AllShortest | PathsKind::K) {
            edges.weight = None;
        }
        let only_shortest = matches!(paths.kind, PathsKind::Shortest | PathsKind::AllShortest);
        let mut bytes = 0;
        let farthest = if paths.kind == PathsKind::K { max as f64 } else { f64::INFINITY };
        let until = only_shortest.then_some(&start);
        let distances = self.distances(&target, &edges, until, farthest, &mut bytes)?;
        let flow = match distances.get(&start) {
            None => Flow::More,
            Some(&shortest) => {
                let bounds = (min, max, if paths.kind == PathsKind::AllShortest { shortest } else { f64::INFINITY });
                self.grow(paths, &start, &target, &edges, &distances, bounds, &mut bytes, row, then)?
            }
        };
        self.release(bytes);
        Ok(flow)
    }

    /// How far each vertex is from the target, at least up to the vertex that is asked for, and of those that are not
    /// too far.
    fn distances(
        &mut self,
        target: &Arc<str>,
        edges: &Edges,
        until: Option<&Arc<str>>,
        farthest: f64,
        bytes: &mut usize,
    ) -> Result<BTreeMap<Arc<str>, f64>> {
        let mut settled: BTreeMap<Arc<str>, f64> = BTreeMap::new();
        let mut waiting: BTreeSet<(u64, Arc<str>)> = BTreeSet::from([(0, Arc::clone(target))]);
        let mut limit = farthest;
        while let Some((bits, vertex)) = waiting.pop_first() {
            self.step()?;
            let distance = f64::from_bits(bits);
            if distance > limit {
                break;
            }
            if settled.contains_key(&vertex) {
                continue;
            }
            if until == Some(&vertex) {
                limit = distance;
            }
            self.hold(vertex.len() + 64)?;
            *bytes += vertex.len() + 64;
            settled.insert(Arc::clone(&vertex), distance);
            for Neighbor { vertex: other, weight, .. } in self.neighbors(edges, &vertex, true)? {
                if !settled.contains_key(&other) {
                    waiting.insert(((distance + weight).to_bits(), other));
                }
            }
        }
        Ok(settled)
    }

    #[allow(clippy::too_many_arguments)]
    fn grow(
        &mut self,
        paths: &'q Paths,
        start: &Arc<str>,
        target: &Arc<str>,
        edges: &Edges,
        distances: &BTreeMap<Arc<str>, f64>,
        (min, max, longest): (u64, u64, f64),
        bytes: &mut usize,
        row: &mut Row,
        then: &mut dyn FnMut(&mut Self, &mut Row) -> Result<Flow>,
    ) -> Result<Flow> {
        let mut steps = vec![Step::start(Arc::clone(start))];
        // Of paths that promise to be as short, the one that is furthest comes first: a graph may have any number of
        // them, and the first that is complete must not wait for the beginnings of all.
        let mut waiting = BTreeSet::from([(distances[start].to_bits(), Reverse(0), 0)]);
        let mut reached = BTreeSet::new();
        while let Some((_, _, at)) = waiting.pop_first() {
            self.step()?;
            // The distances are exact, so the first way to a vertex is the best.
            if paths.kind == PathsKind::Shortest && !reached.insert(Arc::clone(&steps[at].vertex)) {
                continue;
            }
            if steps[at].vertex == *target {
                if steps[at].depth < min {
                    continue;
                }
                let flow = self.give_path(paths, &steps, at, edges, row, then)?;
                if flow == Flow::Stop || paths.kind == PathsKind::Shortest {
                    return Ok(flow);
                }
                continue;
            }
            let vertex = Arc::clone(&steps[at].vertex);
            for Neighbor { edge, vertex: other, weight } in self.neighbors(edges, &vertex, false)? {
                let Some(&rest) = distances.get(&other) else { continue };
                let (depth, weight) = (steps[at].depth + 1, steps[at].weight + weight);
                let too_long =
                    weight + rest > longest || (paths.kind == PathsKind::K && depth as f64 + rest > max as f64);
                if too_long || depth > max || backwards(&steps, at).any(|step| step.vertex == other) {
                    continue;
                }
                self.hold(size_of::<Step>() + 32)?;
                *bytes += size_of::<Step>() + 32;
                steps.push(Step { vertex: other, edge: Some(edge), before: Some(at), depth, weight });
                waiting.insert(((weight + rest).to_bits(), Reverse(depth), steps.len() - 1));
            }
        }
        Ok(Flow::More)
    }

    fn give_path(
        &mut self,
        paths: &'q Paths,
        steps: &[Step],
        end: usize,
        edges: &Edges,
        row: &mut Row,
        then: &mut dyn FnMut(&mut Self, &mut Row) -> Result<Flow>,
    ) -> Result<Flow> {
        let way: Vec<&Step> = backwards(steps, end).collect();
        let (mut vertices, mut along) = (Vec::new(), Vec::new());
        for step in way.into_iter().rev() {
            self.step()?;
            if paths.kind == PathsKind::Shortest {
                row[paths.variable.index()] = self.vertex(&step.vertex, self.plan.projection(paths.variable))?;
                if let Some(slot) = paths.edge {
                    row[slot.index()] = self.edge_in(step, edges, slot)?;
                }
                if then(self, row)? == Flow::Stop {
                    return Ok(Flow::Stop);
                }
                continue;
            }
            vertices.push(self.vertex(&step.vertex, &Projection::Whole)?);
            if let Some(edge) = step.edge {
                along.push(self.edge(edges, edge)?);
            }
        }
        if paths.kind == PathsKind::Shortest {
            return Ok(Flow::More);
        }
        let weight = (paths.kind == PathsKind::KShortest).then_some(steps[end].weight);
        row[paths.variable.index()] = path_value(vertices, along, weight);
        then(self, row)
    }
}
