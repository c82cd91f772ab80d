//! What filters ask of where documents are, in the terms of geo indexes.
//!
//! An index is asked for a box around the place that is wanted. It finds all that are there and more, so the filter
//! stays. A document without a valid place is in no geo index: where one is used it is not found, as in ArangoDB,
//! although its distance, null, is below any number.

use super::super::ast::*;
use super::super::value::Value;
use super::conditions::field_of;
use super::expressions::{is_steady, reads};
use crate::db::{Index, IndexKind, index::geo};

/// A condition on a place.
#[derive(Clone, Debug)]
pub struct Place {
    /// As the fields of indexes are written: one that holds a shape, or latitude and longitude.
    fields: Vec<String>,
    pub within: Within,
    /// As the filter has it.
    pub condition: Expression,
}

#[derive(Clone, Debug)]
pub enum Within {
    /// At most so many meters from the centroid of a shape.
    Meters { from: Expression, most: Expression },
    /// Where a shape is.
    Shape(Expression),
}

impl Place {
    /// Whether what the condition asks of documents in a variable is something that geo indexes know.
    pub fn of(variable: Slot, condition: &Expression) -> Option<Place> {
        let known = |value: &Expression| !reads(value, variable) && is_steady(value);
        let either = |a: &Expression, b: &Expression| {
            let on = |document: &Expression, shape: &Expression| {
                Some((fields_of(document, variable)?, shape.clone())).filter(|_| known(shape))
            };
            on(a, b).or_else(|| on(b, a))
        };
        // Coordinates come latitude first.
        let pair = |latitude: &Expression, longitude: &Expression| {
            let coordinates = ExpressionKind::Array(vec![longitude.clone(), latitude.clone()]);
            Expression::new(condition.position, coordinates)
        };
        let near = |(fields, from): (Vec<String>, Expression), most: &Expression| {
            known(most).then(|| (fields, Within::Meters { from, most: most.clone() }))
        };
        let (fields, within) = match &condition.kind {
            ExpressionKind::Binary(BinaryOperator::Compare(how), left, right) => {
                let (distance, most) = match how {
                    Comparison::Less | Comparison::LessOrEqual => (left, right),
                    Comparison::Greater | Comparison::GreaterOrEqual => (right, left),
                    _ => return None,
                };
                let ExpressionKind::Call(name, args) = &distance.kind else { return None };
                let place = match (&**name, &args[..]) {
                    ("GEO_DISTANCE", [a, b] | [a, b, _]) => either(a, b)?,
                    ("DISTANCE", [latitude, longitude, other_latitude, other_longitude]) => {
                        either(&pair(latitude, longitude), &pair(other_latitude, other_longitude))?
                    }
                    _ => return None,
                };
                near(place, most)?
            }
            ExpressionKind::Call(name, args) => match (&**name, &args[..]) {
                ("GEO_IN_RANGE", [a, b, _, most, ..]) => near(either(a, b)?, most)?,
                ("GEO_CONTAINS" | "GEO_INTERSECTS" | "GEO_EQUALS", [a, b]) => {
                    let (fields, shape) = either(a, b)?;
                    (fields, Within::Shape(shape))
                }
                _ => return None,
            },
            _ => return None,
        };
        Some(Place { fields, within, condition: condition.clone() })
    }

    pub fn is_answered_by(&self, index: &Index) -> bool {
        index.kind == IndexKind::Geo && index.fields == self.fields
    }

    /// Makes a filter ask what the index answers. One over one attribute that is not GeoJSON's has latitude first
    /// there, where functions have longitude first: with it they take the pair the other way round. (In ArangoDB, too,
    /// what such a filter finds depends on whether there is such an index.)
    pub fn fit(&self, filter: &mut Expression, variable: Slot, index: &Index) {
        if self.fields.len() == 1 && !geo::has_shapes(index) {
            turn(filter, variable, &self.fields[0]);
        }
    }
}

/// Puts `[d.place[1], d.place[0]]` in the place of `d.place` where a function of places is given it.
fn turn(expression: &mut Expression, variable: Slot, field: &str) {
    if let ExpressionKind::Call(name, arguments) = &mut expression.kind
        && name.starts_with("GEO_")
    {
        for pair in arguments.iter_mut().filter(|given| field_of(given, variable).as_deref() == Some(field)) {
            let position = pair.position;
            let new = |kind| Expression::new(position, kind);
            let element = |at: i64| {
                let place = new(ExpressionKind::Literal(Value::Int(at)));
                new(ExpressionKind::Index(Box::new(pair.clone()), Box::new(place)))
            };
            *pair = new(ExpressionKind::Array(vec![element(1), element(0)]));
        }
    }
    expression.kind.for_each_child_mut(&mut |child| turn(child, variable, field));
}

/// The attributes of a document that a shape is read from: `d.place`, or `[d.longitude, d.latitude]`.
fn fields_of(shape: &Expression, variable: Slot) -> Option<Vec<String>> {
    match &shape.kind {
        ExpressionKind::Array(coordinates) => {
            let [longitude, latitude] = &coordinates[..] else { return None };
            Some(vec![field_of(latitude, variable)?, field_of(longitude, variable)?])
        }
        _ => Some(vec![field_of(shape, variable)?]),
    }
}
