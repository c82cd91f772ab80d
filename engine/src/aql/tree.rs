//! A query's tree as JSON, with ArangoDB's names of nodes. Operations that have parts beyond their expressions show the
//! expressions only.

use super::ast::{
    Arithmetic, BinaryOperator, Block, Comparison, Expression, ExpressionKind, MemberName, Operation, OperationKind,
    Query, Slot, UnaryOperator,
};
use serde_json::{Value, json};

/// A node and what is below it.
pub fn node(kind: &str, below: Vec<Value>) -> Value {
    if below.is_empty() { json!({"type": kind}) } else { json!({"type": kind, "subNodes": below}) }
}

fn variable(query: &Query, kind: &str, slot: Slot) -> Value {
    json!({"type": kind, "name": query.variables[slot.index()].name.as_ref(), "id": slot.0})
}

/// The operations of a block.
pub fn block(query: &Query, block: &Block) -> Vec<Value> {
    block.operations.iter().map(|one| operation(query, one)).collect()
}

fn operation(query: &Query, operation: &Operation) -> Value {
    let mut below = Vec::new();
    let kind = match &operation.kind {
        OperationKind::For { variable: slot, .. } => {
            below.push(variable(query, "variable", *slot));
            "for"
        }
        OperationKind::Let { variable: slot, .. } => {
            below.push(variable(query, "variable", *slot));
            "let"
        }
        OperationKind::Sort(keys) => {
            let element = |value| node("sort element", vec![value]);
            return node("sort", keys.iter().map(|key| element(expression(query, &key.value))).collect());
        }
        OperationKind::Return { distinct: true, value } => {
            return node("return", vec![node("distinct", vec![expression(query, value)])]);
        }
        OperationKind::Return { .. } => "return",
        OperationKind::Filter(_) => "filter",
        OperationKind::Limit { .. } => "limit",
        OperationKind::Collect(_) => "collect",
        OperationKind::Window(_) => "window",
        OperationKind::Traversal(_) => "traversal",
        OperationKind::Paths(_) => "shortest path",
        OperationKind::Insert(_) => "insert",
        OperationKind::Update(update) if update.replace => "replace",
        OperationKind::Update(_) => "update",
        OperationKind::Remove(_) => "remove",
        OperationKind::Upsert(_) => "upsert",
    };
    operation.kind.for_each_expression(&mut |one| below.push(expression(query, one)));
    node(kind, below)
}

/// An expression; a subquery in it with its operations.
pub fn expression(query: &Query, one: &Expression) -> Value {
    let mut below = Vec::new();
    one.kind.for_each_child(&mut |child| below.push(expression(query, child)));
    match &one.kind {
        ExpressionKind::Literal(value) => {
            let value: Value = serde_json::from_str(&value.to_json()).unwrap_or_default();
            json!({"type": "value", "value": value})
        }
        ExpressionKind::Parameter(name) => json!({"type": "parameter", "name": name.as_ref()}),
        ExpressionKind::Variable(slot) => variable(query, "reference", *slot),
        ExpressionKind::Collection(name) => match name.text.strip_prefix('@') {
            Some(parameter) => json!({"type": "datasource parameter", "name": parameter}),
            None => json!({"type": "collection", "name": name.text.as_ref()}),
        },
        ExpressionKind::Attribute(_, name) => {
            json!({"type": "attribute access", "name": name.as_ref(), "subNodes": below})
        }
        ExpressionKind::Call(name, _) => {
            json!({"type": "function call", "name": name.as_ref(), "subNodes": [node("array", below)]})
        }
        ExpressionKind::Object(members) => {
            let element = |name: &MemberName, value: Value| match name {
                MemberName::Fixed(name) => {
                    json!({"type": "object element", "name": name.as_ref(), "subNodes": [value]})
                }
                MemberName::Computed(name) => node("calculated object element", vec![expression(query, name), value]),
            };
            let members = members.iter().map(|member| element(&member.name, expression(query, &member.value)));
            node("object", members.collect())
        }
        ExpressionKind::Subquery(inner) => node("subquery", block(query, inner)),
        ExpressionKind::Array(_) => node("array", below),
        ExpressionKind::Index(..) => node("indexed access", below),
        ExpressionKind::Expansion(_) => node("expansion", below),
        ExpressionKind::Question(_) => node("boolean expansion", below),
        ExpressionKind::Ternary { .. } => node("ternary", below),
        ExpressionKind::Quantified { operator, .. } => node(&format!("compare array {}", comparison(*operator)), below),
        ExpressionKind::Binary(operator, ..) => node(&binary(*operator), below),
        ExpressionKind::Unary(operator, _) => {
            let kind = match operator {
                UnaryOperator::Plus => "unary plus",
                UnaryOperator::Minus => "unary minus",
                UnaryOperator::Not => "unary not",
            };
            node(kind, below)
        }
    }
}

fn binary(operator: BinaryOperator) -> String {
    let name = match operator {
        BinaryOperator::Or => "logical or",
        BinaryOperator::And => "logical and",
        BinaryOperator::Compare(how) => return format!("compare {}", comparison(how)),
        BinaryOperator::Like => "like",
        BinaryOperator::NotLike => "not like",
        BinaryOperator::Matches => "regex match",
        BinaryOperator::NotMatches => "regex non match",
        BinaryOperator::Range => "range",
        BinaryOperator::Arithmetic(Arithmetic::Add) => "plus",
        BinaryOperator::Arithmetic(Arithmetic::Subtract) => "minus",
        BinaryOperator::Arithmetic(Arithmetic::Multiply) => "times",
        BinaryOperator::Arithmetic(Arithmetic::Divide) => "division",
        BinaryOperator::Arithmetic(Arithmetic::Modulus) => "modulus",
    };
    name.to_owned()
}

fn comparison(how: Comparison) -> &'static str {
    match how {
        Comparison::Equal => "==",
        Comparison::NotEqual => "!=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
        Comparison::In => "in",
        Comparison::NotIn => "not in",
    }
}

#[cfg(test)]
mod tests {
    use super::super::parser;
    use super::*;

    #[test]
    fn a_query_is_shown_as_a_tree() {
        let query = parser::parse("FOR d IN @@c FILTER d.a == @b RETURN d", None).expect("a query");
        let tree = Value::from(block(&query, &query.body));
        assert_eq!(tree[0]["subNodes"][1], json!({"type": "datasource parameter", "name": "@c"}));
        let compared = json!([
            {"type": "attribute access", "name": "a", "subNodes": [{"type": "reference", "name": "d", "id": 0}]},
            {"type": "parameter", "name": "b"},
        ]);
        assert_eq!(tree[1]["subNodes"][0], json!({"type": "compare ==", "subNodes": compared}));
        assert_eq!(tree[2], json!({"type": "return", "subNodes": [{"type": "reference", "name": "d", "id": 0}]}));
    }
}
