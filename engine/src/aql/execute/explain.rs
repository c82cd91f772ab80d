//! A query's plan as `/_api/explain` tells it: the operations in the order in which they are carried out.
//!
//! Node types are those of ArangoDB. There are no estimates, so costs and numbers of items are left out; subqueries are
//! part of the expressions that they stand in.

use super::super::ast::*;
use super::super::plan::Plan;
use super::super::plan::rules::Rule;
use serde_json::{Map, Value as Json, json};

/// The `plan` of the answer.
pub fn explain(plan: &Plan) -> Json {
    let query = &plan.query;
    let mut nodes = Nodes { plan, nodes: Vec::new() };
    nodes.add("SingletonNode", json!({}));
    let operations = &query.body.operations;
    operations.iter().for_each(|operation| nodes.operation(&operation.kind));
    let collections: Vec<Json> = query
        .collections
        .iter()
        .map(|used| json!({"name": &*used.name.text, "type": if used.written { "write" } else { "read" }}))
        .collect();
    let variables: Vec<Json> =
        query.variables.iter().enumerate().map(|(id, variable)| json!({"id": id, "name": &*variable.name})).collect();
    json!({
        "nodes": nodes.nodes, "rules": plan.applied.iter().map(Rule::name).collect::<Vec<_>>(), "collections": collections, "variables": variables,
        "isModificationQuery": query.writes()
    })
}

struct Nodes<'q> {
    plan: &'q Plan,
    nodes: Vec<Json>,
}

impl Nodes<'_> {
    fn add(&mut self, kind: &str, rest: Json) {
        let id = self.nodes.len() + 1;
        let mut node = Map::new();
        node.insert("type".into(), kind.into());
        node.insert("id".into(), id.into());
        node.insert("dependencies".into(), if id > 1 { json!([id - 1]) } else { json!([]) });
        if let Json::Object(rest) = rest {
            node.extend(rest);
        }
        self.nodes.push(Json::Object(node));
    }

    fn variable(&self, slot: Slot) -> Json {
        json!({"id": slot.0, "name": &*self.plan.query.variables[slot.index()].name})
    }

    fn operation(&mut self, kind: &OperationKind) {
        match kind {
            OperationKind::For { variable, source, .. } => {
                let out = self.variable(*variable);
                match &source.kind {
                    ExpressionKind::Collection(name) => match self.plan.access(*variable) {
                        Some(_) => self.add(
                            "IndexNode",
                            json!({
                                "collection": &*name.text, "outVariable": out,
                                "indexes": [{"id": "0", "type": "primary", "name": "primary",
                                    "fields": ["_key"], "unique": true, "sparse": false}]
                            }),
                        ),
                        None => {
                            self.add("EnumerateCollectionNode", json!({"collection": &*name.text, "outVariable": out}))
                        }
                    },
                    _ => self.add("EnumerateListNode", json!({"outVariable": out})),
                }
            }
            OperationKind::Let { variable, .. } => {
                let out = self.variable(*variable);
                self.add("CalculationNode", json!({"outVariable": out}));
            }
            OperationKind::Traversal(traversal) => {
                let out = self.variable(traversal.vertex);
                self.add("TraversalNode", json!({"vertexOutVariable": out}));
            }
            OperationKind::Paths(paths) => {
                let out = self.variable(paths.variable);
                let kind = match paths.kind {
                    PathsKind::Shortest => "ShortestPathNode",
                    _ => "EnumeratePathsNode",
                };
                self.add(kind, json!({"outVariable": out}));
            }
            OperationKind::Filter(_) => self.add("FilterNode", json!({})),
            OperationKind::Sort(keys) => {
                let ascending: Vec<Json> = keys.iter().map(|key| json!({"ascending": !key.descending})).collect();
                self.add("SortNode", json!({"elements": ascending}));
            }
            OperationKind::Limit { .. } => self.add("LimitNode", json!({})),
            OperationKind::Collect(_) => self.add("CollectNode", json!({})),
            OperationKind::Window(_) => self.add("WindowNode", json!({})),
            OperationKind::Return { .. } => self.add("ReturnNode", json!({})),
            OperationKind::Insert(insert) => self.write("InsertNode", &insert.collection),
            OperationKind::Update(update) if update.replace => self.write("ReplaceNode", &update.collection),
            OperationKind::Update(update) => self.write("UpdateNode", &update.collection),
            OperationKind::Remove(remove) => self.write("RemoveNode", &remove.collection),
            OperationKind::Upsert(upsert) => self.write("UpsertNode", &upsert.collection),
        }
    }

    fn write(&mut self, kind: &str, collection: &Name) {
        self.add(kind, json!({"collection": &*collection.text}));
    }
}
