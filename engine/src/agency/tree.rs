//! The agency's JSON tree: paths, operators, preconditions, TTLs and reading, as ArangoDB's agency has them.
//!
//! Objects are branches, everything else is a leaf (arrays too). Time enters only as an argument: for the replicated
//! tree it is the time that the Raft leader stamped into the log entry, so that all agents agree on what has expired.
//! A transaction is applied as a whole or not at all.

use crate::types::Duration;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What would go deeper is refused: whoever walks the tree recurses.
const DEPTH_MAX: usize = 200;

#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
pub struct Tree {
    root: Node,
    /// When which path may expire; an entry may be out of date.
    expiring: BTreeSet<(u64, String)>,
}

#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct Node {
    content: Content,
    /// Unix milliseconds.
    expires_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
enum Content {
    #[serde(serialize_with = "leaf_to_text", deserialize_with = "leaf_from_text")]
    Leaf(Value),
    Branch(BTreeMap<String, Node>),
}

/// JSON values do not describe themselves in a binary format: they travel as text.
fn leaf_to_text<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

fn leaf_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let text = String::deserialize(deserializer)?;
    serde_json::from_str(&text).map_err(serde::de::Error::custom)
}

/// Why a transaction was not applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The keys whose preconditions do not hold.
    Preconditions(Vec<String>),
    /// An operator that can't be carried out: key and reason.
    Operator(String, String),
}

impl Default for Node {
    fn default() -> Node {
        Node { content: Content::Branch(BTreeMap::new()), expires_ms: None }
    }
}

impl Node {
    fn of(value: &Value) -> Node {
        let content = match value {
            Value::Object(fields) => {
                let mut children = BTreeMap::new();
                for (key, value) in fields {
                    // A key may itself be a path.
                    insert(&mut children, &segments(key), Node::of(value));
                }
                Content::Branch(children)
            }
            leaf => Content::Leaf(leaf.clone()),
        };
        Node { content, expires_ms: None }
    }

    fn alive(&self, wall_ms: u64) -> bool {
        self.expires_ms.is_none_or(|at| at > wall_ms)
    }

    /// When it ceases to be there.
    pub fn expires_ms(&self) -> Option<u64> {
        self.expires_ms
    }

    /// Its value, if it is no object.
    pub fn leaf(&self) -> Option<&Value> {
        match &self.content {
            Content::Leaf(value) => Some(value),
            Content::Branch(_) => None,
        }
    }

    /// The child `name` that is no object.
    pub fn leaf_at(&self, name: &str, wall_ms: u64) -> Option<&Value> {
        match &self.content {
            Content::Leaf(_) => None,
            Content::Branch(children) => children.get(name).filter(|node| node.alive(wall_ms))?.leaf(),
        }
    }

    /// Whether [`Node::to_json`] would be `value`, hidden keys included.
    fn is(&self, value: &Value, wall_ms: u64) -> bool {
        match (&self.content, value) {
            (Content::Leaf(leaf), value) => leaf == value,
            (Content::Branch(children), Value::Object(fields)) => {
                let mut alive = children.iter().filter(|(_, node)| node.alive(wall_ms));
                alive.clone().count() == fields.len()
                    && alive.all(|(key, node)| fields.get(key).is_some_and(|value| node.is(value, wall_ms)))
            }
            (Content::Branch(_), _) => false,
        }
    }

    fn to_json(&self, wall_ms: u64, hidden: bool) -> Value {
        match &self.content {
            Content::Leaf(value) => value.clone(),
            Content::Branch(children) => {
                let shown =
                    children.iter().filter(|(key, node)| node.alive(wall_ms) && (hidden || !key.starts_with('.')));
                Value::Object(shown.map(|(key, node)| (key.clone(), node.to_json(wall_ms, hidden))).collect())
            }
        }
    }
}

fn insert(children: &mut BTreeMap<String, Node>, path: &[&str], node: Node) {
    match path {
        [] => {}
        [last] => {
            children.insert((*last).to_owned(), node);
        }
        [first, rest @ ..] => {
            let child = children.entry((*first).to_owned()).or_default();
            if child.leaf().is_some() {
                *child = Node::default();
            }
            let Content::Branch(below) = &mut child.content else { unreachable!("made a branch above") };
            insert(below, rest, node);
        }
    }
}

fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|s| !s.is_empty())
}

fn segments(path: &str) -> Vec<&str> {
    steps(path).collect()
}

/// How many levels a value has; the keys of its objects may be paths.
fn depth(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields.iter().map(|(key, v)| steps(key).count() + depth(v)).max().unwrap_or(0),
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// One leading slash, none repeated, none at the end (except the root itself).
pub fn normalize(path: &str) -> String {
    let mut normal = String::with_capacity(path.len() + 1);
    steps(path).for_each(|step| normal.extend(["/", step]));
    if normal.is_empty() { "/".to_owned() } else { normal }
}

/// Whether `path` is `other` or lies above it; both normalized.
pub fn is_same_or_above(path: &str, other: &str) -> bool {
    path == "/" || other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Equality as the agency means it: numbers by value, objects regardless of order.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| same(x, y)))
        }
        _ => a == b,
    }
}

/// What an operator makes of a node.
enum Change {
    Keep,
    Put(Node),
    Remove,
}

impl Tree {
    pub fn node(&self, path: &str, wall_ms: u64) -> Option<&Node> {
        let mut node = &self.root;
        for segment in steps(path) {
            let Content::Branch(children) = &node.content else { return None };
            node = children.get(segment).filter(|node| node.alive(wall_ms))?;
        }
        Some(node)
    }

    pub fn get(&self, path: &str, wall_ms: u64) -> Option<Value> {
        self.node(path, wall_ms).map(|node| node.to_json(wall_ms, true))
    }

    /// Whether `path` holds exactly `value`.
    pub fn holds_value(&self, path: &str, value: &Value, wall_ms: u64) -> bool {
        self.node(path, wall_ms).is_some_and(|node| node.is(value, wall_ms))
    }

    /// What is not an object, without a copy of it.
    pub fn leaf(&self, path: &str, wall_ms: u64) -> Option<&Value> {
        self.node(path, wall_ms)?.leaf()
    }

    pub fn has(&self, path: &str, wall_ms: u64) -> bool {
        self.node(path, wall_ms).is_some()
    }

    /// All of it, hidden keys included.
    pub fn dump(&self, wall_ms: u64) -> Value {
        self.root.to_json(wall_ms, true)
    }

    /// One object that holds everything that the paths name, from the root. What is missing ends in an empty object
    /// where the tree ends.
    pub fn read(&self, paths: &[String], wall_ms: u64) -> Value {
        let mut paths: Vec<String> = paths.iter().map(|p| normalize(p)).collect();
        paths.sort();
        let mut out = json!({});
        let mut kept: Vec<&String> = Vec::new();
        for path in &paths {
            if kept.iter().any(|above| is_same_or_above(above, path)) {
                continue;
            }
            kept.push(path);
            self.read_into(&mut out, path, wall_ms);
        }
        out
    }

    fn read_into(&self, out: &mut Value, path: &str, wall_ms: u64) {
        let hidden = path.contains("/.");
        let mut node = &self.root;
        let mut at = out;
        for segment in steps(path) {
            let child = match &node.content {
                Content::Branch(children) => children.get(segment).filter(|node| node.alive(wall_ms)),
                Content::Leaf(_) => None,
            };
            let Some(child) = child else { return };
            node = child;
            if !at.is_object() {
                *at = json!({});
            }
            let Value::Object(fields) = at else { unreachable!("made an object above") };
            at = fields.entry(segment).or_insert_with(|| json!({}));
        }
        *at = node.to_json(wall_ms, hidden);
    }

    /// Puts a value, without any condition.
    pub fn set(&mut self, path: &str, value: &Value) {
        self.set_until(path, value, None);
    }

    pub fn set_until(&mut self, path: &str, value: &Value, expires_ms: Option<u64>) {
        self.put(path, Some(Node { expires_ms, ..Node::of(value) }));
    }

    pub fn remove(&mut self, path: &str) {
        self.put(path, None);
    }

    /// Puts or removes the node at `path`, making branches on the way to a new one. Answers what to [`Tree::put`] where
    /// to undo it.
    fn put(&mut self, path: &str, new: Option<Node>) -> (String, Option<Node>) {
        if let Some(at) = new.as_ref().and_then(|node| node.expires_ms) {
            self.expiring.insert((at, normalize(path)));
        }
        let segments = segments(path);
        if segments.is_empty() {
            let old = std::mem::replace(&mut self.root, new.unwrap_or_default());
            return ("/".into(), Some(old));
        }
        let mut node = &mut self.root;
        for (depth, segment) in segments.iter().enumerate() {
            if node.leaf().is_some() {
                // Only the root can be a leaf here: below it, the last step has replaced leaves already.
                *node = Node::default();
            }
            let Content::Branch(children) = &mut node.content else { unreachable!("made a branch above") };
            let last = depth + 1 == segments.len();
            let passable = children.get(*segment).is_some_and(|child| child.leaf().is_none());
            if last || !passable {
                // The whole change lies below this child.
                let here = format!("/{}", segments[..=depth].join("/"));
                let Some(new) = new else {
                    let old = if last { children.remove(*segment) } else { children.get(*segment).cloned() };
                    return (here, old);
                };
                let old = children.remove(*segment);
                insert(children, &segments[depth..], new);
                return (here, old);
            }
            node = children.get_mut(*segment).expect("passable");
        }
        unreachable!("the last segment returns")
    }

    /// Checks all preconditions, then applies all operations in the order of their keys; leaves no trace if anything
    /// is refused.
    pub fn transact(
        &mut self,
        operations: &Map<String, Value>,
        preconditions: &Map<String, Value>,
        wall_ms: u64,
    ) -> Result<(), Refusal> {
        let failed: Vec<String> = preconditions
            .iter()
            .filter(|(key, condition)| !self.holds(key, condition, wall_ms))
            .map(|(key, _)| key.clone())
            .collect();
        if !failed.is_empty() {
            return Err(Refusal::Preconditions(failed));
        }
        let mut sorted: Vec<(String, &Value)> =
            operations.iter().map(|(key, operation)| (normalize(key), operation)).collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let mut undo = Vec::new();
        for (key, operation) in sorted {
            let change = if steps(&key).count() + depth(operation) > DEPTH_MAX {
                Err("the path is too deep".to_owned())
            } else {
                operate(self.node(&key, wall_ms), operation, wall_ms)
            };
            match change {
                Ok(Change::Keep) => {}
                Ok(Change::Put(node)) => undo.push(self.put(&key, Some(node))),
                Ok(Change::Remove) => undo.push(self.put(&key, None)),
                Err(reason) => {
                    for (path, old) in undo.into_iter().rev() {
                        self.put(&path, old);
                    }
                    return Err(Refusal::Operator(key, reason));
                }
            }
        }
        Ok(())
    }

    fn holds(&self, key: &str, condition: &Value, wall_ms: u64) -> bool {
        let node = self.node(key, wall_ms);
        let value = || node.map_or_else(|| json!({}), |node| node.to_json(wall_ms, true));
        let array = || node.and_then(Node::leaf).and_then(Value::as_array);
        let held_by = |by: &Value| array().is_some_and(|holders| holders.contains(by));
        let Value::Object(terms) = condition else { return same(&value(), condition) };
        terms.iter().all(|(word, wanted)| match word.as_str() {
            "old" => same(&value(), wanted),
            "oldNot" => !same(&value(), wanted),
            "oldEmpty" => wanted.as_bool().is_some_and(|empty| empty == node.is_none()),
            "isArray" => wanted.as_bool().is_some_and(|is| is == array().is_some()),
            "in" => array().is_some_and(|a| a.iter().any(|v| same(v, wanted))),
            "notin" => match node {
                None => true,
                Some(_) => array().is_some_and(|a| !a.iter().any(|v| same(v, wanted))),
            },
            "intersectionEmpty" => match (wanted.as_array(), node) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(wanted), Some(_)) => {
                    array().is_some_and(|a| !a.iter().any(|v| wanted.iter().any(|w| same(v, w))))
                }
            },
            "is-write-locked" => wanted.is_string() && node.and_then(Node::leaf) == Some(wanted),
            "is-read-locked" => wanted.is_string() && held_by(wanted),
            "can-read-lock" => wanted.is_string() && (node.is_none() || (array().is_some() && !held_by(wanted))),
            "can-write-lock" => wanted.is_string() && node.is_none(),
            _ => false,
        })
    }

    /// When something may expire next (Unix milliseconds).
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.expiring.first().map(|(at, _)| *at)
    }

    /// Removes what has expired by then; answers which paths.
    pub fn expire(&mut self, wall_ms: u64) -> Vec<String> {
        let mut gone = Vec::new();
        while self.expiring.first().is_some_and(|(at, _)| *at <= wall_ms) {
            let (at, path) = self.expiring.pop_first().expect("just looked at");
            if self.node(&path, 0).is_some_and(|node| node.expires_ms == Some(at)) {
                self.remove(&path);
                gone.push(path);
            }
        }
        gone
    }
}

fn operate(old: Option<&Node>, operation: &Value, wall_ms: u64) -> Result<Change, String> {
    let fields = match operation {
        Value::Object(fields) if fields.contains_key("op") || fields.contains_key("new") => fields,
        bare => return Ok(Change::Put(Node::of(bare))),
    };
    let word = match fields.get("op") {
        None => "set",
        Some(Value::String(word)) => word.as_str(),
        Some(_) => return Err("'op' is not a string".into()),
    };
    let argument = |name: &str| fields.get(name).ok_or_else(|| format!("operator '{word}' needs '{name}'"));
    let keeps_ttl = |value: Value| {
        let expires_ms = old.and_then(|node| node.expires_ms);
        Ok(Change::Put(Node { expires_ms, ..Node::of(&value) }))
    };
    let array = || old.and_then(Node::leaf).and_then(Value::as_array).cloned();
    match word {
        "set" => {
            let mut node = Node::of(argument("new")?);
            if let Some(ttl) = fields.get("ttl") {
                let seconds = ttl.as_f64().filter(|s| *s >= 0.0).ok_or("'ttl' is not a number of seconds")?;
                let life_ms = Duration::from_secs(seconds.min(1e12) as u64).as_millis() as u64;
                node.expires_ms = Some(wall_ms.saturating_add(life_ms));
            }
            Ok(Change::Put(node))
        }
        "delete" => Ok(Change::Remove),
        "increment" | "decrement" => {
            let by = fields.get("step").cloned().unwrap_or(json!(1));
            let from = old.and_then(Node::leaf).filter(|v| v.is_number()).cloned().unwrap_or(json!(0));
            keeps_ttl(add(&from, &by, word == "decrement").ok_or("'step' is not a number")?)
        }
        "push" | "prepend" => {
            let mut values = array().unwrap_or_default();
            let at = if word == "push" { values.len() } else { 0 };
            values.insert(at, argument("new")?.clone());
            keeps_ttl(values.into())
        }
        "push-queue" => {
            let len = argument("len")?.as_u64().ok_or("'len' is not a number")?;
            let mut values = array().unwrap_or_default();
            values.push(argument("new")?.clone());
            let surplus = values.len().saturating_sub(usize::try_from(len).unwrap_or(usize::MAX));
            keeps_ttl(values.split_off(surplus).into())
        }
        "pop" | "shift" => {
            let mut values = array().unwrap_or_default();
            if word == "pop" {
                values.pop();
            } else if !values.is_empty() {
                values.remove(0);
            }
            keeps_ttl(values.into())
        }
        "erase" => {
            let (val, pos) = (fields.get("val"), fields.get("pos"));
            if val.is_some() == pos.is_some() {
                return Err("operator 'erase' needs either 'val' or 'pos'".into());
            }
            if old.is_none() {
                return Ok(Change::Keep);
            }
            let mut values = array().unwrap_or_default();
            if let Some(val) = val {
                values.retain(|v| !same(v, val));
            } else {
                let pos = pos.and_then(Value::as_u64).and_then(|p| usize::try_from(p).ok());
                let pos = pos.filter(|p| *p < values.len()).ok_or("'pos' is outside of the array")?;
                values.remove(pos);
            }
            keeps_ttl(values.into())
        }
        "replace" => {
            let (val, new) = (argument("val")?, argument("new")?);
            if old.is_none() {
                return Ok(Change::Keep);
            }
            let values: Vec<Value> =
                array().unwrap_or_default().into_iter().map(|v| if same(&v, val) { new.clone() } else { v }).collect();
            keeps_ttl(values.into())
        }
        "read-lock" | "read-unlock" | "write-lock" | "write-unlock" => {
            let by = argument("by")?;
            if !by.is_string() {
                return Err("'by' is not a string".into());
            }
            lock(old, word, by)
        }
        "observe" | "unobserve" => Ok(Change::Keep),
        unknown => Err(format!("unknown operator '{unknown}'")),
    }
}

fn lock(old: Option<&Node>, word: &str, by: &Value) -> Result<Change, String> {
    let held = old.map(|node| node.leaf());
    let put = |value: Value| Ok(Change::Put(Node::of(&value)));
    match (word, held) {
        ("read-lock", None) => put(json!([by])),
        ("read-lock", Some(Some(Value::Array(holders)))) if !holders.contains(by) => {
            put(holders.iter().chain([by]).cloned().collect())
        }
        ("read-unlock", Some(Some(Value::Array(holders)))) if holders.contains(by) => {
            let rest: Vec<Value> = holders.iter().filter(|h| *h != by).cloned().collect();
            if rest.is_empty() { Ok(Change::Remove) } else { put(rest.into()) }
        }
        ("write-lock", None) => put(by.clone()),
        ("write-unlock", Some(Some(holder))) if holder == by => Ok(Change::Remove),
        _ => Err(format!("{word} by {by} is not possible")),
    }
}

fn add(from: &Value, by: &Value, negative: bool) -> Option<Value> {
    if let (Some(a), Some(b)) = (from.as_i64(), by.as_i64()) {
        let sum = if negative { a.checked_sub(b) } else { a.checked_add(b) };
        if let Some(sum) = sum {
            return Some(json!(sum));
        }
    }
    let (a, b) = (from.as_f64()?, by.as_f64()?);
    Some(json!(if negative { a - b } else { a + b }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    fn tree(value: Value) -> Tree {
        let mut tree = Tree::default();
        tree.set("/", &value);
        tree
    }

    #[test]
    fn operators() {
        // before, operation, after; null for "fails" after, and for "not there" before.
        let table = [
            (json!(1), json!({"op": "set", "new": {"x": 1}}), json!({"x": 1})),
            (json!(1), json!({"op": "set"}), json!(null)),
            (json!(1), json!({"new": 2}), json!(2)),
            (json!(1), json!([3]), json!([3])),
            (json!(1), json!({"op": "increment"}), json!(2)),
            (json!("x"), json!({"op": "increment", "step": 5}), json!(5)),
            (json!(null), json!({"op": "decrement"}), json!(-1)),
            (json!(1), json!({"op": "increment", "step": 0.5}), json!(1.5)),
            (json!([1]), json!({"op": "push", "new": 2}), json!([1, 2])),
            (json!("x"), json!({"op": "push", "new": 2}), json!([2])),
            (json!([1]), json!({"op": "prepend", "new": 2}), json!([2, 1])),
            (json!([1, 2]), json!({"op": "push-queue", "new": 3, "len": 2}), json!([2, 3])),
            (json!([1, 2]), json!({"op": "pop"}), json!([1])),
            (json!([1, 2]), json!({"op": "shift"}), json!([2])),
            (json!("x"), json!({"op": "pop"}), json!([])),
            (json!([1, 2, 1]), json!({"op": "erase", "val": 1.0}), json!([2])),
            (json!([1, 2]), json!({"op": "erase", "pos": 0}), json!([2])),
            (json!([1, 2]), json!({"op": "erase", "pos": 2}), json!(null)),
            (json!([1]), json!({"op": "erase", "pos": 0, "val": 1}), json!(null)),
            (json!([1, 2, 1]), json!({"op": "replace", "val": 1, "new": 9}), json!([9, 2, 9])),
            (json!(null), json!({"op": "read-lock", "by": "a"}), json!(["a"])),
            (json!(["a"]), json!({"op": "read-lock", "by": "b"}), json!(["a", "b"])),
            (json!("w"), json!({"op": "read-lock", "by": "b"}), json!(null)),
            (json!(["a"]), json!({"op": "read-lock", "by": "a"}), json!(null)),
            (json!(["a"]), json!({"op": "read-unlock", "by": "b"}), json!(null)),
            (json!([[1, 2], [1], 3]), json!({"op": "erase", "val": [1.0, 2]}), json!([[1], 3])),
            (json!([[1, 2], [2, 1]]), json!({"op": "erase", "val": [2, 1]}), json!([[1, 2]])),
            (json!([{"a": 1, "b": 2}, {"a": 1}]), json!({"op": "erase", "val": {"b": 2, "a": 1.0}}), json!([{"a": 1}])),
            (json!([{"a": 1}, {"b": 1}]), json!({"op": "erase", "val": {"a": 1}}), json!([{"b": 1}])),
            (json!(["a", "b"]), json!({"op": "read-unlock", "by": "a"}), json!(["b"])),
            (json!(null), json!({"op": "write-lock", "by": "w"}), json!("w")),
            (json!(["a"]), json!({"op": "write-lock", "by": "w"}), json!(null)),
            (json!("v"), json!({"op": "write-unlock", "by": "w"}), json!(null)),
            (json!(1), json!({"op": "no such"}), json!(null)),
        ];
        for (before, operation, after) in table {
            let mut tree = if before.is_null() { tree(json!({})) } else { tree(json!({"k": before})) };
            let unchanged = tree.clone();
            let result = tree.transact(&object(json!({"/j": 1, "/k": operation})), &Map::new(), 0);
            if after.is_null() {
                assert!(matches!(result, Err(Refusal::Operator(..))), "{operation}");
                assert_eq!(tree.dump(0), unchanged.dump(0), "{operation}: no trace");
            } else {
                assert_eq!((result, tree.get("/k", 0)), (Ok(()), Some(after)), "{operation}");
            }
        }
        let mut gone = tree(json!({"k": ["a"], "l": "w", "m": 1}));
        let delete = json!({"/k": {"op": "read-unlock", "by": "a"}, "/l": {"op": "write-unlock", "by": "w"},
            "m": {"op": "delete"}, "/none/there": {"op": "delete"}});
        assert_eq!(gone.transact(&object(delete), &Map::new(), 0), Ok(()));
        assert_eq!(gone.dump(0), json!({}));
    }

    #[test]
    fn preconditions() {
        let tree = tree(json!({"n": 1, "a": [1, 2], "o": {"x": null}, "w": "me", "r": ["me"]}));
        let table = [
            ("/n", json!(1.0), true),
            ("/n", json!({"old": 2}), false),
            ("/n", json!({"oldNot": 2, "oldEmpty": false}), true),
            ("/none", json!({"old": {}}), true),
            ("/none", json!({"oldEmpty": true}), true),
            ("/o/x", json!({"oldEmpty": false}), true),
            ("/o", json!({"old": {"x": null}}), true),
            ("/a", json!({"isArray": true, "in": 2, "notin": 3}), true),
            ("/n", json!({"isArray": true}), false),
            ("/none", json!({"in": 1}), false),
            ("/none", json!({"notin": 1}), true),
            ("/a", json!({"intersectionEmpty": [3, 2]}), false),
            ("/none", json!({"intersectionEmpty": [3]}), true),
            ("/w", json!({"is-write-locked": "me"}), true),
            ("/w", json!({"is-write-locked": "you"}), false),
            ("/n", json!({"is-write-locked": 1}), false),
            ("/r", json!({"is-read-locked": "you"}), false),
            ("/r", json!({"is-read-locked": "me"}), true),
            ("/none", json!({"can-write-lock": "you"}), true),
            ("/none", json!({"can-write-lock": 1}), false),
            ("/r", json!({"can-read-lock": "you"}), true),
            ("/w", json!({"can-read-lock": "you"}), false),
            ("/w", json!({"can-write-lock": "you"}), false),
            ("/n", json!({"no such": 1}), false),
        ];
        for (key, condition, holds) in table {
            assert_eq!(tree.holds(key, &condition, 0), holds, "{key} {condition}");
        }
    }

    #[test]
    fn reading() {
        let tree = tree(json!({"a": {"b": 1, "bc": 2, ".h": 3}, ".top": 4}));
        let read = |paths: &[&str]| tree.read(&paths.iter().map(|p| p.to_string()).collect::<Vec<_>>(), 0);
        assert_eq!(read(&["/"]), json!({"a": {"b": 1, "bc": 2}}));
        assert_eq!(read(&["a//b/", "/a/bc"]), json!({"a": {"b": 1, "bc": 2}}));
        assert_eq!(read(&["/a/none/below"]), json!({"a": {}}));
        assert_eq!(read(&["/none"]), json!({}));
        assert_eq!(read(&["/.top"]), json!({".top": 4}));
        assert_eq!(read(&["/a/.h"]), json!({"a": {".h": 3}}));
    }

    #[test]
    fn what_has_expired_is_invisible_and_then_removed() {
        let mut tree = Tree::default();
        let set = json!({"/a/t": {"op": "set", "new": {"x": 1}, "ttl": 2}, "/a/u": 1});
        tree.transact(&object(set), &Map::new(), 1000).unwrap();
        assert!(tree.has("/a/t/x", 2999) && !tree.has("/a/t/x", 3000));
        assert_eq!(tree.read(&["/a".into()], 3000), json!({"a": {"u": 1}}));
        assert_eq!(tree.next_expiry_ms(), Some(3000));
        let copy: Tree = postcard::from_bytes(&postcard::to_allocvec(&tree).unwrap()).unwrap();
        assert_eq!(copy, tree);
        assert_eq!(tree.expire(3000), ["/a/t"]);
        // Set again without a life: the old one no longer counts.
        tree.transact(&object(json!({"/b": {"op": "set", "new": 1, "ttl": 1}})), &Map::new(), 0).unwrap();
        tree.transact(&object(json!({"/b": 2})), &Map::new(), 0).unwrap();
        assert!(tree.expire(5000).is_empty() && tree.has("/b", 5000));
    }

    #[test]
    fn depth_is_bounded() {
        let mut tree = Tree::default();
        let deep = "/x".repeat(100_000);
        assert!(tree.transact(&object(json!({deep.clone(): 1})), &Map::new(), 0).is_err());
        assert!(tree.transact(&object(json!({"/a": {deep: 1}})), &Map::new(), 0).is_err());
    }
}
