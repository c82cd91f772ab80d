//! From a query's text to its tree: recursive descent, with a precedence table for the operators.
//!
//! Names are resolved on the way, so that every declaration has a slot when something refers to it, and bind parameters
//! are replaced by their values. The first error ends the parsing; it has ArangoDB's number and, as ArangoDB's, the
//! place: `syntax error, unexpected …, expecting … near '…' at position line:column`.
//!
//! Recursion is bounded by [`ast::HEIGHT_MAX`], which the finished tree keeps, too.

mod expressions;
mod operations;
mod scopes;

use super::ast::{self, CollectionUse, Name, Position, Query, Slot};
use super::lexer::{self, Bad, Kind, Token};
use super::value::{Object, Value};
use crate::errors::{self, Error};
use scopes::Scopes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// So much of the text is shown in an error.
const NEAR_CHARACTERS: usize = 32;
/// As ArangoDB's limits of registers and of collections.
const VARIABLES_MAX: usize = 1000;
const COLLECTIONS_MAX: usize = 2048;
/// The plan compares them with one another.
const OPERATIONS_MAX: usize = 4000;

/// Parses a query. Without values (`None`), its bind parameters stay in the tree.
pub fn parse(text: &str, values: Option<&Object>) -> Result<Query, Error> {
    let mut parser = Parser {
        text,
        tokens: lexer::tokens(text),
        at: 0,
        depth: 0,
        values,
        parameters: Vec::new(),
        declared: BTreeSet::new(),
        operations: 0,
        missing: None,
        collections: Vec::new(),
        scopes: Scopes::default(),
    };
    if matches!(parser.peek(), Kind::End) {
        return Err(errors::QUERY_EMPTY.into());
    }
    let with = parser.with()?;
    let body = parser.block()?;
    if !matches!(parser.peek(), Kind::End) {
        return Err(parser.unexpected(""));
    }
    if let Some(name) = parser.missing {
        return Err(bind_error(errors::QUERY_BIND_PARAMETER_MISSING, &name));
    }
    for (name, _) in values.into_iter().flat_map(Object::iter) {
        if !parser.declared.contains(name) {
            return Err(bind_error(errors::QUERY_BIND_PARAMETER_UNDECLARED, name));
        }
    }
    Ok(Query {
        with,
        body,
        variables: parser.scopes.variables,
        collections: parser.collections,
        parameters: parser.parameters,
    })
}

/// The kind's message with the parameter's name in the place that it leaves open.
fn bind_error(kind: errors::Kind, name: &str) -> Error {
    kind.says(kind.message.replace("%s", name))
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    /// How many constructs are open around this place.
    depth: u16,
    values: Option<&'a Object>,
    parameters: Vec<Arc<str>>,
    /// The same names.
    declared: BTreeSet<Arc<str>>,
    /// How many there are so far, in all blocks.
    operations: usize,
    /// The first parameter that has no value; an error in the text comes first.
    missing: Option<Arc<str>>,
    collections: Vec<CollectionUse>,
    scopes: Scopes,
}

type Parsed<T> = Result<T, Error>;

impl Parser<'_> {
    // ---- tokens ----

    fn token(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn peek(&self) -> &Kind {
        &self.token().kind
    }

    fn peek_after(&self, count: usize) -> &Kind {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.at + count).min(last)].kind
    }

    fn position(&self) -> Position {
        self.token().position
    }

    /// The last token stays.
    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn eat_sign(&mut self, sign: &'static str) -> bool {
        let found = *self.peek() == Kind::Sign(sign);
        if found {
            self.advance();
        }
        found
    }

    fn eat_keyword(&mut self, word: &'static str) -> bool {
        let found = *self.peek() == Kind::Keyword(word);
        if found {
            self.advance();
        }
        found
    }

    fn expect_sign(&mut self, sign: &'static str) -> Parsed<()> {
        if self.eat_sign(sign) { Ok(()) } else { Err(self.unexpected(Kind::Sign(sign).describe())) }
    }

    fn expect_keyword(&mut self, word: &'static str) -> Parsed<()> {
        if self.eat_keyword(word) { Ok(()) } else { Err(self.unexpected(Kind::Keyword(word).describe())) }
    }

    fn name(&mut self) -> Parsed<Arc<str>> {
        let Kind::Name(name) = self.peek() else { return Err(self.unexpected("identifier")) };
        let name = name.clone();
        self.advance();
        Ok(name)
    }

    /// A name that means something here only; `PRUNE` and `OPTIONS` are no keywords.
    fn at_word(&self, word: &str) -> bool {
        matches!(self.peek(), Kind::Name(name) if name.eq_ignore_ascii_case(word))
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.at_word(word) {
            self.advance();
            return Ok(());
        }
        Err(match self.peek() {
            Kind::Name(name) => {
                let message = format!("unexpected qualifier '{name}', expecting '{word}'");
                self.refuse(errors::QUERY_PARSE, &message)
            }
            _ => self.unexpected("identifier"),
        })
    }

    // ---- errors ----

    /// An error at this place.
    fn refuse(&self, kind: errors::Kind, message: &str) -> Error {
        self.refuse_at(self.at, kind, message)
    }

    fn refuse_at(&self, token: usize, kind: errors::Kind, message: &str) -> Error {
        let Token { position: Position { line, column }, start, .. } = self.tokens[token];
        let rest = &self.text[start..];
        let end = rest.char_indices().nth(NEAR_CHARACTERS).map(|(end, _)| end);
        let (near, dots) = end.map_or((rest, ""), |end| (&rest[..end], "..."));
        kind.says(format!("{message} near '{near}{dots}' at position {line}:{column}"))
    }

    /// The token here is not what can stand here.
    fn unexpected(&self, expected: &str) -> Error {
        let found = match self.peek() {
            Kind::Bad(Bad::UnterminatedString) => "unterminated string literal",
            Kind::Bad(Bad::UnterminatedName) => "unterminated backtick literal",
            Kind::Bad(Bad::UnterminatedComment) => "unterminated multi-line comment",
            Kind::Bad(Bad::NumberOutOfRange) => {
                let kind = errors::QUERY_NUMBER_OUT_OF_RANGE;
                return self.refuse(kind, kind.message);
            }
            kind => kind.describe(),
        };
        let expecting = if expected.is_empty() { String::new() } else { format!(", expecting {expected}") };
        self.refuse(errors::QUERY_PARSE, &format!("syntax error, unexpected {found}{expecting}"))
    }

    fn too_deep(&self) -> Error {
        let kind = errors::QUERY_TOO_MUCH_NESTING;
        self.refuse(kind, kind.message)
    }

    /// Runs `inner` one level deeper.
    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= ast::HEIGHT_MAX {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    // ---- names ----

    fn declare(&mut self, name: Arc<str>, token: usize) -> Parsed<Slot> {
        if self.scopes.find(&name).is_some() {
            let message = errors::QUERY_VARIABLE_REDECLARED.message.replace("%s", &name);
            return Err(self.refuse_at(token, errors::QUERY_VARIABLE_REDECLARED, &message));
        }
        self.add_variable(name, true)
    }

    /// A variable that may have the name of an earlier one: `OLD` and `NEW`.
    fn add_variable(&mut self, name: Arc<str>, declared: bool) -> Parsed<Slot> {
        let slot = self.new_variable(&name)?;
        self.scopes.bind(name, slot, declared);
        Ok(slot)
    }

    fn new_variable(&mut self, name: &Arc<str>) -> Parsed<Slot> {
        if self.scopes.variables.len() >= VARIABLES_MAX {
            return Err(errors::RESOURCE_LIMIT.because(format!("a query has at most {VARIABLES_MAX} variables")));
        }
        Ok(self.scopes.add(name.clone()))
    }

    fn use_collection(&mut self, name: &Name, written: bool) -> Parsed<()> {
        if let Some(known) = self.collections.iter_mut().find(|known| known.name.text == name.text) {
            known.written |= written;
            return Ok(());
        }
        if self.collections.len() >= COLLECTIONS_MAX {
            return Err(errors::QUERY_TOO_MANY_COLLECTIONS.into());
        }
        self.collections.push(CollectionUse { name: name.clone(), written });
        Ok(())
    }

    // ---- bind parameters ----

    /// The value of a parameter. `None` if the query is parsed without values.
    fn bound(&mut self, name: &Arc<str>) -> Option<Value> {
        if self.declared.insert(name.clone()) {
            self.parameters.push(name.clone());
        }
        let value = self.values?.get(name).cloned();
        if value.is_none() && self.missing.is_none() {
            self.missing = Some(name.clone());
        }
        Some(value.unwrap_or_default())
    }

    /// A parameter in the place of a name; without a value, its own name and an `@` more.
    fn bound_name(&mut self, parameter: &Arc<str>) -> Parsed<Arc<str>> {
        match self.bound(parameter) {
            None => Ok(format!("@{parameter}").into()),
            Some(Value::String(name)) if !name.is_empty() => Ok(name),
            Some(_) if self.missing.is_some() => Ok("".into()),
            Some(_) => Err(bind_error(errors::QUERY_BIND_PARAMETER_TYPE, parameter)),
        }
    }
}

#[cfg(test)]
mod tests;
