//! AQL, ArangoDB's query language, as of version 3.11.
//!
//! `value <- operators <- functions`: what a query computes with. `value <- ast <- {lexer, parser}`: what a query says.
//!
//! `tree` shows a query, or what is left of it in a plan, as JSON.
//!
//! All of it is pure: the clock, the random numbers and
//! the store are arguments ([`functions::Context`]), so that a query gives the same result wherever it runs again.
//!
//! `plan` makes a query faster before it runs, `execute` runs it: from its tree to rows, over the document engine.
//!
//! Nothing in here may panic on a query or a document. What ArangoDB answers with a warning and null is answered so.

#![allow(clippy::mutable_key_type, reason = "taking a document's text apart changes nothing of its order")]

pub mod aggregate;
#[cfg(any(test, feature = "fixture"))]
pub mod anything;
pub mod ast;
pub mod collation;
pub mod execute;
pub mod functions;
pub mod lexer;
pub mod operators;
pub mod parser;
pub mod plan;
pub mod select;
pub mod tree;
pub mod value;

#[cfg(test)]
pub mod testing;
