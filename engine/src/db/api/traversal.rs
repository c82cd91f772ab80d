//! `/_api/traversal`: the vertices that are reached from one, as ArangoDB's object-based traverser visits them.
//!
//! All of it that needs no JavaScript: direction, depths, strategy, order and uniqueness. Whoever sends code (a filter,
//! a visitor, an expander, a sorting) is refused; AQL does all of that.

use super::simple::ANSWER_BYTES_MAX;
use super::*;
use crate::db::index::End;
use serde_json::json;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// Vertices and edges that are looked at for one answer.
const STEPS_MAX: u64 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unique {
    None,
    Path,
    Global,
}

struct Options {
    ends: &'static [End],
    min_depth: usize,
    max_depth: usize,
    breadth_first: bool,
    postorder: bool,
    backward: bool,
    vertices: Unique,
    edges: Unique,
    steps_max: u64,
}

/// A vertex on its way from the start, and the edge that led to it.
struct Place {
    id: String,
    vertex: Value,
    edge: Option<(String, Value)>,
    before: Option<Rc<Place>>,
    depth: usize,
}

impl Place {
    fn path(self: &Rc<Place>) -> impl Iterator<Item = &Rc<Place>> {
        std::iter::successors(Some(self), |place| place.before.as_ref())
    }

    /// As clients see a path.
    fn json(self: &Rc<Place>) -> Value {
        let (mut vertices, mut edges) = (Vec::new(), Vec::new());
        for place in self.path() {
            vertices.push(place.vertex.clone());
            edges.extend(place.edge.as_ref().map(|(_, edge)| edge.clone()));
        }
        vertices.reverse();
        edges.reverse();
        json!({"edges": edges, "vertices": vertices})
    }
}

fn bad(what: impl std::fmt::Display) -> Failure {
    errors::HTTP_BAD_PARAMETER.because(what).into()
}

fn options(body: &Map<String, Value>) -> Result<Options, Failure> {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let choice = |name: &str, default: &'static str, known: &[&'static str]| {
        let given = text(name).map(str::to_ascii_lowercase);
        let found = known.iter().position(|word| *word == given.as_deref().unwrap_or(default));
        found.ok_or_else(|| bad(format!("illegal value of '{name}'")))
    };
    for code in ["filter", "visitor", "init", "expander", "sort"] {
        if body.get(code).is_some_and(|given| !given.is_null()) {
            let message = format!("'{code}' is JavaScript, which this server does not run; use AQL");
            return Err(errors::NOT_IMPLEMENTED.says(message).into());
        }
    }
    let ends: &[End] = match text("direction") {
        Some("outbound") => &[End::From],
        Some("inbound") => &[End::To],
        Some("any") => &[End::From, End::To],
        _ => return Err(bad("'direction' must be outbound, inbound or any")),
    };
    let number = |name: &str, default: u64| match body.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(given) => given.as_u64().ok_or_else(|| bad(format!("'{name}' must be a number from 0"))),
    };
    let unique = |name: &str, default: Unique| {
        let given = body.get("uniqueness").and_then(|uniqueness| uniqueness.get(name)).and_then(Value::as_str);
        match given {
            None => Ok(default),
            Some("none") => Ok(Unique::None),
            Some("path") => Ok(Unique::Path),
            Some("global") => Ok(Unique::Global),
            Some(_) => Err(bad("'uniqueness' is none, path or global, for vertices and for edges")),
        }
    };
    let depth = |depth: u64| usize::try_from(depth).unwrap_or(usize::MAX);
    Ok(Options {
        ends,
        min_depth: depth(number("minDepth", 0)?),
        max_depth: depth(number("maxDepth", u64::MAX)?),
        breadth_first: choice("strategy", "depthfirst", &["depthfirst", "breadthfirst"])? == 1,
        postorder: choice("order", "preorder", &["preorder", "postorder"])? == 1,
        backward: choice("itemOrder", "forward", &["forward", "backward"])? == 1,
        vertices: unique("vertices", Unique::None)?,
        edges: unique("edges", Unique::Path)?,
        steps_max: number("maxIterations", STEPS_MAX)?.min(STEPS_MAX),
    })
}

pub(super) fn traverse(call: &mut Call<'_, '_>) -> Answer {
    let body = call.object()?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let start = text("startVertex").ok_or_else(|| bad("missing or invalid startVertex"))?;
    let options = options(&body)?;
    let names = match (text("graphName"), text("edgeCollection")) {
        (Some(graph), _) => graph::edge_collections_of(call, graph)?,
        (None, Some(collection)) => vec![collection.to_owned()],
        (None, None) => return Err(bad("missing graph or edgeCollection")),
    };
    let mut collections = Vec::new();
    for name in names {
        let collection = call.collection(&name, Level::Ro)?;
        if collection.kind != CollectionKind::Edge {
            return Err(errors::COLLECTION_TYPE_INVALID.into());
        }
        collections.push(collection);
    }
    let start = document(call, start)?.ok_or(errors::DOCUMENT_NOT_FOUND)?;
    let mut traversal =
        Traversal { call, options, collections, seen: Seen::default(), visited: Vec::new(), bytes: 0, steps: 0 };
    traversal.from(start)?;
    let (mut vertices, mut paths) = (Vec::new(), Vec::new());
    for place in &traversal.visited {
        vertices.push(place.vertex.clone());
        paths.push(place.json());
    }
    ok(200, json!({"result": {"visited": {"vertices": vertices, "paths": paths}}}))
}

/// A document by its id, if the user may read it.
fn document(call: &Call<'_, '_>, id: &str) -> Result<Option<(String, Value)>, Failure> {
    let (name, key) = id.split_once('/').ok_or(errors::DOCUMENT_HANDLE_BAD)?;
    let collection = call.collection(name, Level::Ro)?;
    let found = find_document(&call.reader(), &collection, key)?;
    found.map(|document| Ok((format!("{}/{key}", collection.name), value(&collection, &document)?))).transpose()
}

fn value(collection: &CollectionRow, document: &Document) -> Result<Value, Failure> {
    let corrupt = |e| StoreError::Corrupt(format!("a document: {e}"));
    Ok(serde_json::from_slice(&document.json(&collection.name)).map_err(corrupt)?)
}

#[derive(Default)]
struct Seen {
    vertices: BTreeSet<String>,
    edges: BTreeSet<String>,
}

struct Traversal<'c, 'a, 'w> {
    call: &'c Call<'a, 'w>,
    options: Options,
    collections: Vec<CollectionRow>,
    seen: Seen,
    visited: Vec<Rc<Place>>,
    /// About how much the answer will be.
    bytes: usize,
    steps: u64,
}

enum Turn {
    Enter(Rc<Place>),
    Leave(Rc<Place>),
}

impl Traversal<'_, '_, '_> {
    fn from(&mut self, (id, vertex): (String, Value)) -> Result<(), Failure> {
        let start = Rc::new(Place { id, vertex, edge: None, before: None, depth: 0 });
        if self.options.breadth_first { self.breadth(start) } else { self.depth(start) }
    }

    fn depth(&mut self, start: Rc<Place>) -> Result<(), Failure> {
        let mut stack = vec![Turn::Enter(start)];
        while let Some(turn) = stack.pop() {
            let place = match turn {
                Turn::Leave(place) => {
                    self.visit(place)?;
                    continue;
                }
                Turn::Enter(place) if self.is_new(&place) => place,
                Turn::Enter(_) => continue,
            };
            if self.options.postorder {
                stack.push(Turn::Leave(place.clone()));
            } else {
                self.visit(place.clone())?;
            }
            let next = self.next(&place)?;
            stack.extend(next.into_iter().rev().map(Turn::Enter));
        }
        Ok(())
    }

    fn breadth(&mut self, start: Rc<Place>) -> Result<(), Failure> {
        let mut queue = VecDeque::from([start]);
        let mut order = Vec::new();
        while let Some(place) = queue.pop_front() {
            if self.is_new(&place) {
                queue.extend(self.next(&place)?);
                order.push(place);
            }
        }
        if self.options.postorder {
            order.reverse();
        }
        order.into_iter().try_for_each(|place| self.visit(place))
    }

    /// Whether uniqueness lets this one be entered.
    fn is_new(&mut self, place: &Rc<Place>) -> bool {
        if let Some((edge, _)) = &place.edge {
            let again = || place.path().skip(1).any(|other| other.edge.as_ref().is_some_and(|(id, _)| id == edge));
            let new = match self.options.edges {
                Unique::None => true,
                Unique::Path => !again(),
                Unique::Global => self.seen.edges.insert(edge.clone()),
            };
            if !new {
                return false;
            }
        }
        match self.options.vertices {
            Unique::None => true,
            Unique::Path => !place.path().skip(1).any(|other| other.id == place.id),
            Unique::Global => self.seen.vertices.insert(place.id.clone()),
        }
    }

    fn visit(&mut self, place: Rc<Place>) -> Result<(), Failure> {
        if place.depth < self.options.min_depth {
            return Ok(());
        }
        // Each vertex is in the answer by itself and in its path.
        let texts = place.path().map(|place| place.vertex.to_string().len() + 64);
        self.bytes += texts.sum::<usize>();
        self.visited.push(place);
        if self.bytes > ANSWER_BYTES_MAX {
            return Err(errors::RESOURCE_LIMIT.because("the traversal is too big for one answer: use AQL").into());
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Failure> {
        self.steps += 1;
        if self.steps > self.options.steps_max {
            return Err(errors::GRAPH_TOO_MANY_ITERATIONS.into());
        }
        Ok(())
    }

    /// What a vertex is connected with; edges that lead nowhere are left out.
    fn next(&mut self, place: &Rc<Place>) -> Result<Vec<Rc<Place>>, Failure> {
        let mut found = Vec::new();
        if place.depth >= self.options.max_depth {
            return Ok(found);
        }
        self.step()?;
        for collection in self.collections.clone() {
            for &end in self.options.ends {
                for edge in self.call.reader().edges(&collection, &[end], &place.id) {
                    let edge = edge?;
                    self.step()?;
                    let shown = value(&collection, &edge)?;
                    let other = if end == End::From { "_to" } else { "_from" };
                    let Some(other) = shown[other].as_str().map(str::to_owned) else { continue };
                    let vertex = match document(self.call, &other) {
                        Ok(vertex) => vertex,
                        Err(Failure::Error(error)) if error.kind == errors::DATA_SOURCE_NOT_FOUND => None,
                        Err(failure) => return Err(failure),
                    };
                    let Some((id, vertex)) = vertex else { continue };
                    found.push(Rc::new(Place {
                        id,
                        vertex,
                        edge: Some((format!("{}/{}", collection.name, edge.key), shown)),
                        before: Some(place.clone()),
                        depth: place.depth + 1,
                    }));
                }
            }
        }
        if self.options.backward {
            found.reverse();
        }
        Ok(found)
    }
}
