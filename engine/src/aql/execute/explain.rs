//! A query's plan as `/_api/explain` tells it: the operations in the order in which they are carried out.
//!
//! Nodes, their members and the names of rules are those of ArangoDB as far as there is something to tell. What an
//! operation evaluates is a node of its own before it, as there; a subquery stands between a `SubqueryStartNode` and a
//! `SubqueryEndNode`. Costs and numbers of items are the planner's estimates ([`super::super::plan::access`]).

use super::super::ast::*;
use super::super::plan::Plan;
use super::super::plan::access::{Access, By, ByIndex, Keys, Lookup};
use super::super::plan::projection::Projection;
use super::super::plan::rules::Rule;
use super::super::tree;
use super::profile::Profile;
use crate::db::{CollectionRow, Index};
use serde_json::{Map, Value as Json, json};

/// What is taken to be left of rows by `COLLECT`, and how many elements an array has.
const GROUPED: f64 = 0.8;
const ELEMENTS: f64 = 100.0;

/// The `plan` of the answer.
pub fn explain(plan: &Plan) -> Json {
    let (query, nodes) = (&plan.query, Nodes::of(plan));
    let collections: Vec<Json> = query
        .collections
        .iter()
        .map(|used| json!({"name": &*used.name.text, "type": if used.written { "write" } else { "read" }}))
        .collect();
    let named = query.variables.iter().enumerate().map(|(id, variable)| json!({"id": id, "name": &*variable.name}));
    let variables: Vec<Json> = named.chain(nodes.variables).collect();
    json!({
        "nodes": nodes.nodes,
        "rules": plan.applied.iter().map(Rule::name).collect::<Vec<_>>(),
        "collections": collections,
        "variables": variables,
        "estimatedCost": nodes.cost,
        "estimatedNrItems": whole(nodes.items),
        "isModificationQuery": query.writes()
    })
}

/// As a whole number: what reads plans takes it for one.
fn whole(items: f64) -> u64 {
    items.round() as u64
}

/// What came of the nodes that stand for an operation, by their numbers in the plan. What an operation evaluates is
/// counted with it.
pub fn profiled(plan: &Plan, profile: &Profile) -> Json {
    let tally = |(kind, id): &(&OperationKind, usize)| {
        profile.of(kind).map(|tally| {
            json!({
                "id": id, "calls": tally.calls, "items": tally.items, "filtered": tally.filtered,
                "runtime": tally.took.as_secs_f64()
            })
        })
    };
    Nodes::of(plan).operations.iter().filter_map(tally).collect()
}

struct Nodes<'q> {
    plan: &'q Plan,
    nodes: Vec<Json>,
    /// With the number of the last node that stands for it.
    operations: Vec<(&'q OperationKind, usize)>,
    /// Those that only the plan has.
    variables: Vec<Json>,
    /// The number of the next one.
    next: usize,
    /// Up to the last node, and the rows that come out of it.
    cost: f64,
    items: f64,
}

impl<'q> Nodes<'q> {
    fn of(plan: &'q Plan) -> Nodes<'q> {
        let next = plan.query.variables.len();
        let (nodes, operations, variables) = Default::default();
        let mut nodes = Nodes { plan, nodes, operations, variables, next, cost: 1.0, items: 1.0 };
        nodes.add("SingletonNode", json!({}));
        nodes.block(&plan.query.body);
        nodes
    }

    fn add(&mut self, kind: &str, members: Json) {
        let id = self.nodes.len() + 1;
        let mut node = Map::new();
        node.insert("type".into(), kind.into());
        node.insert("dependencies".into(), if id > 1 { json!([id - 1]) } else { json!([]) });
        node.insert("id".into(), id.into());
        node.insert("estimatedCost".into(), self.cost.into());
        node.insert("estimatedNrItems".into(), whole(self.items).into());
        if let Json::Object(members) = members {
            node.extend(members);
        }
        self.nodes.push(Json::Object(node));
    }

    fn variable(&self, slot: Slot) -> Json {
        json!({"id": slot.0, "name": &*self.plan.query.variables[slot.index()].name})
    }

    fn new_variable(&mut self) -> Json {
        let variable = json!({"id": self.next, "name": self.next.to_string()});
        self.next += 1;
        self.variables.push(variable.clone());
        variable
    }

    fn expression(&self, expression: &Expression) -> Json {
        tree::expression(&self.plan.query, expression)
    }

    /// The variable that has an expression's value, after the node that evaluates it.
    fn calculated(&mut self, expression: &'q Expression) -> Json {
        if let ExpressionKind::Variable(slot) = expression.kind {
            return self.variable(slot);
        }
        let out = self.new_variable();
        self.calculation(expression, &out);
        out
    }

    fn calculation(&mut self, expression: &'q Expression, out: &Json) {
        self.subqueries(expression);
        self.cost += self.items;
        let members = json!({
            "outVariable": out, "expression": self.expression(expression), "expressionType": "simple", "canThrow": false
        });
        self.add("CalculationNode", members);
    }

    fn subqueries(&mut self, expression: &'q Expression) {
        match &expression.kind {
            ExpressionKind::Subquery(block) => {
                let (items, out) = (self.items, self.new_variable());
                self.add("SubqueryStartNode", json!({"subqueryOutVariable": out}));
                self.block(block);
                self.items = items;
                self.add("SubqueryEndNode", json!({"outVariable": out}));
            }
            kind => {
                let mut children = Vec::new();
                kind.for_each_child(&mut |child| children.push(child));
                children.into_iter().for_each(|child| self.subqueries(child));
            }
        }
    }

    fn block(&mut self, block: &'q Block) {
        for (at, operation) in block.operations.iter().enumerate() {
            self.operation(&operation.kind, block.operations.get(at + 1).map(|next| &next.kind));
            self.operations.push((&operation.kind, self.nodes.len()));
        }
    }

    fn operation(&mut self, kind: &'q OperationKind, next: Option<&OperationKind>) {
        match kind {
            OperationKind::For { variable, source, .. } => match &source.kind {
                ExpressionKind::Collection(name) => self.collection(*variable, name),
                _ => {
                    let (input, out) = (self.calculated(source), self.variable(*variable));
                    self.items *= match source.constant() {
                        Some(super::super::value::Value::Array(elements)) => elements.len() as f64,
                        _ => ELEMENTS,
                    };
                    self.cost += self.items;
                    self.add("EnumerateListNode", json!({"inVariable": input, "outVariable": out}));
                }
            },
            OperationKind::Let { variable, value } => {
                let out = self.variable(*variable);
                self.calculation(value, &out);
            }
            OperationKind::Filter(condition) => {
                let input = self.calculated(condition);
                self.cost += self.items;
                self.add("FilterNode", json!({"inVariable": input}));
            }
            OperationKind::Traversal(traversal) => self.traversal(traversal),
            OperationKind::Paths(paths) => {
                let (start, target) = (self.calculated(&paths.start), self.calculated(&paths.target));
                let out = self.variable(paths.variable);
                let kind = if paths.kind == PathsKind::Shortest { "ShortestPathNode" } else { "EnumeratePathsNode" };
                self.items *= ELEMENTS;
                self.cost += self.items;
                let members = json!({
                    "startInVariable": start, "targetInVariable": target, "outVariable": out,
                    "graph": graph(&paths.graph)
                });
                self.add(kind, members);
            }
            OperationKind::Sort(keys) => self.sort(keys, next),
            OperationKind::Limit { offset, count } => {
                let number = |bound: &Expression| bound.constant().map_or(0, |value| value.to_int());
                let (offset, limit) = (offset.as_ref().map_or(0, number), number(count));
                self.items = self.items.min(limit as f64);
                self.cost += self.items;
                self.add("LimitNode", json!({"offset": offset, "limit": limit, "fullCount": false}));
            }
            OperationKind::Collect(collect) => self.collect(collect),
            OperationKind::Window(window) => {
                let aggregates: Vec<Json> =
                    window.aggregates.iter().map(|aggregate| self.aggregate(aggregate)).collect();
                self.cost += self.items;
                self.add("WindowNode", json!({"aggregates": aggregates}));
            }
            OperationKind::Return { distinct, value } => {
                let input = self.calculated(value);
                if *distinct {
                    self.items *= GROUPED;
                    self.cost += self.items;
                    let groups = json!([{"outVariable": input, "inVariable": input}]);
                    let members = json!({
                        "groups": groups, "aggregates": [], "collectOptions": {"method": "distinct"}
                    });
                    self.add("CollectNode", members);
                }
                self.cost += self.items;
                self.add("ReturnNode", json!({"inVariable": input, "count": true}));
            }
            OperationKind::Insert(insert) => {
                let input = self.calculated(&insert.document);
                self.writes("InsertNode", &insert.collection, json!({"inVariable": input}));
            }
            OperationKind::Update(update) => {
                let key = update.key.as_ref().map(|key| self.calculated(key));
                let input = self.calculated(&update.document);
                let kind = if update.replace { "ReplaceNode" } else { "UpdateNode" };
                self.writes(kind, &update.collection, json!({"inKeyVariable": key, "inDocVariable": input}));
            }
            OperationKind::Remove(remove) => {
                let input = self.calculated(&remove.key);
                self.writes("RemoveNode", &remove.collection, json!({"inVariable": input}));
            }
            OperationKind::Upsert(upsert) => {
                let slot = match &upsert.search {
                    UpsertSearch::Example(_) => upsert.old,
                    UpsertSearch::Filter { current, .. } => *current,
                };
                self.collection(slot, &upsert.collection);
                let (insert, update) = (self.calculated(&upsert.insert), self.calculated(&upsert.update));
                let found = self.variable(slot);
                let members = json!({
                    "inDocVariable": found, "insertVariable": insert, "updateVariable": update,
                    "isReplace": upsert.replace
                });
                self.writes("UpsertNode", &upsert.collection, members);
            }
        }
    }

    fn writes(&mut self, kind: &str, collection: &Name, mut members: Json) {
        members["collection"] = (*collection.text).into();
        self.cost += self.items;
        self.add(kind, members);
    }

    /// A loop over a collection.
    fn collection(&mut self, variable: Slot, name: &Name) {
        let Some((collection, count)) = self.plan.catalog.get(&name.text) else { return };
        let mut members = json!({"collection": &*name.text, "outVariable": self.variable(variable)});
        members["projections"] = match self.plan.projection(variable) {
            Projection::Whole => json!([]),
            Projection::Attributes(names) => names.iter().map(|name| json!({"path": [&**name]})).collect(),
        };
        members["producesResult"] = self.plan.projection(variable).is_read().into();
        let Some(access) = self.plan.access(variable) else {
            self.items *= *count as f64;
            self.cost += self.items;
            members["random"] = false.into();
            self.add("EnumerateCollectionNode", members);
            return;
        };
        self.cost += self.items * access.cost;
        self.items *= access.items;
        members["indexes"] = shown(access, collection);
        members["condition"] = self.condition(access, variable);
        let backward = matches!(&access.by, By::Index(ByIndex { backward: true, .. }));
        members["sorted"] = access.sorted.into();
        members["ascending"] = (!backward).into();
        members["reverse"] = backward.into();
        self.add("IndexNode", members);
    }

    /// What an index answers, as the alternatives of conditions.
    fn condition(&self, access: &Access, variable: Slot) -> Json {
        let attribute = |field: &str| {
            let document = json!({"type": "reference", "name": self.variable(variable)["name"], "id": variable.0});
            field.split('.').fold(document, |of, name| {
                let (name, elements) = name.strip_suffix("[*]").map_or((name, false), |name| (name, true));
                let of = json!({"type": "attribute access", "name": name, "subNodes": [of]});
                if elements { json!({"type": "expansion", "subNodes": [of]}) } else { of }
            })
        };
        let compare = |kind: &str, field: &str, value: &Expression| json!({"type": format!("compare {kind}"), "subNodes": [attribute(field), self.expression(value)]});
        let equal = |field: &str, value: &Expression, any_of: bool| {
            if field.contains("[*]") {
                return json!({"type": "compare in", "subNodes": [self.expression(value), attribute(field)]});
            }
            compare(if any_of { "in" } else { "==" }, field, value)
        };
        let and = |parts: Vec<Json>| json!({"type": "n-ary and", "subNodes": parts});
        let keys = |keys: &Keys| and(vec![equal(if keys.by_id { "_id" } else { "_key" }, &keys.value, keys.many)]);
        let lookup = |fields: &[String], lookup: &Lookup| {
            let mut parts: Vec<Json> = fields
                .iter()
                .zip(&lookup.equal)
                .map(|(field, wanted)| equal(field, &wanted.value, wanted.any_of))
                .collect();
            let bounds = [(&lookup.from, [">", ">="]), (&lookup.to, ["<", "<="])];
            for (limit, signs) in bounds {
                if let (Some(limit), Some(field)) = (limit, fields.get(lookup.equal.len())) {
                    parts.push(compare(signs[usize::from(limit.inclusive)], field, &limit.value));
                }
            }
            and(parts)
        };
        let alternatives: Vec<Json> = match &access.by {
            By::Keys(all) => all.iter().map(keys).collect(),
            By::Index(_) if access.answers() == 0 => return json!({}),
            By::Index(by) => by.lookups.iter().map(|one| lookup(&by.index.fields, one)).collect(),
            By::Several(all) => {
                all.iter().flat_map(|by| by.lookups.iter().map(|one| lookup(&by.index.fields, one))).collect()
            }
            By::Place(by) => vec![and(vec![self.expression(&by.place.condition)])],
        };
        json!({"type": "n-ary or", "subNodes": alternatives})
    }

    fn traversal(&mut self, traversal: &'q Traversal) {
        let mut members = json!({"graph": graph(&traversal.graph), "direction": direction(traversal.direction)});
        match &traversal.start.kind {
            ExpressionKind::Literal(value) => members["vertexId"] = value.as_str().into(),
            _ => members["inVariable"] = self.calculated(&traversal.start),
        }
        members["vertexOutVariable"] = self.variable(traversal.vertex);
        for (name, slot) in [("edgeOutVariable", traversal.edge), ("pathOutVariable", traversal.path)] {
            if let Some(slot) = slot {
                members[name] = self.variable(slot);
            }
        }
        let edges: Vec<Json> = match &traversal.graph {
            Graph::Edges(edges) => edges.iter().map(|edges| edge_index(&edges.name.text)).collect(),
            Graph::Named(_) => Vec::new(),
        };
        members["indexes"] = json!({"base": edges, "levels": {}});
        self.items *= ELEMENTS;
        self.cost += self.items;
        self.add("TraversalNode", members);
    }

    fn sort(&mut self, keys: &'q [SortKey], next: Option<&OperationKind>) {
        let mut elements = Vec::new();
        for key in keys {
            elements.push(json!({"inVariable": self.calculated(&key.value), "ascending": !key.descending}));
        }
        self.cost += self.items * self.items.max(2.0).log2();
        let mut members = json!({"elements": elements, "stable": true, "limit": 0, "strategy": "standard"});
        if let Some(OperationKind::Limit { offset, count }) = next.filter(|_| self.plan.rules.has(Rule::SortLimit))
            && count.constant() != Some(crate::aql::value::Value::Null)
        {
            let number = |bound: &Expression| bound.constant().map_or(0, |value| value.to_int());
            members["limit"] = offset.as_ref().map_or(0, number).saturating_add(number(count)).into();
            members["strategy"] = "constrained-heap".into();
        }
        self.add("SortNode", members);
    }

    fn aggregate(&mut self, aggregate: &'q Aggregate) -> Json {
        let input = self.calculated(&aggregate.argument);
        json!({"outVariable": self.variable(aggregate.variable), "inVariable": input, "type": &*aggregate.function})
    }

    fn collect(&mut self, collect: &'q Collect) {
        let mut groups = Vec::new();
        for group in &collect.groups {
            let input = self.calculated(&group.value);
            groups.push(json!({"outVariable": self.variable(group.variable), "inVariable": input}));
        }
        let mut aggregates: Vec<Json> = collect.aggregates.iter().map(|aggregate| self.aggregate(aggregate)).collect();
        let method = if collect.count.is_some() && groups.is_empty() { "count" } else { "hash" };
        if let Some(count) = collect.count {
            aggregates.push(json!({"outVariable": self.variable(count), "type": "LENGTH"}));
        }
        self.items = if groups.is_empty() { 1.0 } else { self.items * GROUPED };
        self.cost += self.items;
        let mut members = json!({"groups": groups, "aggregates": aggregates, "collectOptions": {"method": method}});
        if let Some(into) = &collect.into {
            members["outVariable"] = self.variable(into.variable);
        }
        self.add("CollectNode", members);
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Outbound => "outbound",
        Direction::Inbound => "inbound",
        Direction::Any => "any",
    }
}

fn graph(graph: &Graph) -> Json {
    match graph {
        Graph::Named(name) => (*name.text).into(),
        Graph::Edges(edges) => edges.iter().map(|edges| Json::from(&*edges.name.text)).collect(),
    }
}

fn edge_index(collection: &str) -> Json {
    json!({
        "id": "1", "type": "edge", "name": "edge", "fields": ["_from", "_to"], "unique": false, "sparse": false,
        "collection": collection
    })
}

/// The indexes that are used.
fn shown(access: &Access, collection: &CollectionRow) -> Json {
    match &access.by {
        By::Keys(_) => json!([{
            "id": "0", "type": "primary", "name": "primary", "fields": ["_key"], "selectivityEstimate": 1,
            "unique": true, "sparse": false
        }]),
        By::Index(by) => json!([shown_index(&by.index, collection)]),
        By::Several(all) => all.iter().map(|by| shown_index(&by.index, collection)).collect(),
        By::Place(by) => json!([shown_index(&by.index, collection)]),
    }
}

fn shown_index(index: &Index, collection: &CollectionRow) -> Json {
    let Index { id, name, kind, fields, unique, sparse, deduplicate, .. } = index;
    if *kind == crate::db::IndexKind::Edge {
        let mut edge = edge_index(&collection.name);
        edge["fields"] = fields.clone().into();
        return edge;
    }
    json!({
        "id": id.to_string(), "type": kind.name(), "name": name, "fields": fields, "unique": unique, "sparse": sparse,
        "deduplicate": deduplicate
    })
}
