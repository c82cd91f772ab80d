//! Which attributes of documents a query reads, so that the others need not be taken out of their text.

use super::super::ast::*;
use super::super::value::Value;
use super::expressions::kept;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is read of the documents in a variable, or of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Projection {
    Whole,
    /// These top-level attributes only.
    Attributes(BTreeSet<Arc<str>>),
}

impl Projection {
    /// Whether anything is read at all.
    pub fn is_read(&self) -> bool {
        match self {
            Projection::Whole => true,
            Projection::Attributes(names) => !names.is_empty(),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        match self {
            Projection::Whole => true,
            Projection::Attributes(names) => names.contains(name),
        }
    }
}

/// What the whole query reads of each variable; what is not there is not read at all.
#[derive(Default)]
pub struct Uses(BTreeMap<Slot, Projection>);

impl Uses {
    pub fn of(&mut self, block: &Block) {
        for operation in &block.operations {
            operation.kind.for_each_expression(&mut |expression| self.expression(expression));
            kept(operation).iter().for_each(|(_, slot)| self.whole(*slot));
        }
    }

    pub fn expression(&mut self, expression: &Expression) {
        match &expression.kind {
            ExpressionKind::Variable(slot) => self.whole(*slot),
            ExpressionKind::Subquery(block) => self.of(block),
            ExpressionKind::Attribute(of, name) => match of.kind {
                ExpressionKind::Variable(slot) => self.attribute(slot, name),
                _ => self.expression(of),
            },
            ExpressionKind::Index(of, place) => match (&of.kind, &place.kind) {
                (ExpressionKind::Variable(slot), ExpressionKind::Literal(Value::String(name))) => {
                    self.attribute(*slot, name)
                }
                _ => {
                    self.expression(of);
                    self.expression(place);
                }
            },
            kind => kind.for_each_child(&mut |child| self.expression(child)),
        }
    }

    fn whole(&mut self, slot: Slot) {
        self.0.insert(slot, Projection::Whole);
    }

    fn attribute(&mut self, slot: Slot, name: &Arc<str>) {
        match self.0.entry(slot).or_insert_with(|| Projection::Attributes(BTreeSet::new())) {
            Projection::Whole => {}
            Projection::Attributes(names) => drop(names.insert(name.clone())),
        }
    }

    pub fn take(&mut self, slot: Slot) -> Projection {
        self.0.remove(&slot).unwrap_or(Projection::Attributes(BTreeSet::new()))
    }
}
