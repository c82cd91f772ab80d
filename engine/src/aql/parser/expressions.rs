//! Expressions: operators by precedence, accesses from the left to the right, and what they begin with.

use super::super::ast::*;
use super::super::functions;
use super::super::lexer::Kind;
use super::super::value::Value;
use super::{Parsed, Parser, bind_error};
use crate::errors;
use std::sync::Arc;

/// How tightly operators bind, from the loosest. All bind their left operand as tightly as the right one or looser,
/// so that rows of them go from the left to the right; only the ternary operator goes from the right to the left.
mod level {
    pub const TERNARY: u8 = 1;
    pub const OR: u8 = 2;
    pub const AND: u8 = 3;
    pub const QUANTIFIER: u8 = 4;
    pub const EQUALITY: u8 = 5;
    pub const IN: u8 = 6;
    pub const ORDER: u8 = 7;
    pub const RANGE: u8 = 8;
    pub const SUM: u8 = 9;
    pub const PRODUCT: u8 = 10;
}

/// An operator between two operands, at the place where the parser is.
#[derive(Clone, Copy)]
struct Infix {
    level: u8,
    /// What the right operand must bind at least.
    right: u8,
    operator: BinaryOperator,
    /// Tokens, as in `NOT IN`.
    tokens: usize,
}

fn comparison(kind: &Kind) -> Option<(u8, Comparison)> {
    use Comparison::*;
    Some(match kind {
        Kind::Sign("==") => (level::EQUALITY, Equal),
        Kind::Sign("!=") => (level::EQUALITY, NotEqual),
        Kind::Sign("<") => (level::ORDER, Less),
        Kind::Sign("<=") => (level::ORDER, LessOrEqual),
        Kind::Sign(">") => (level::ORDER, Greater),
        Kind::Sign(">=") => (level::ORDER, GreaterOrEqual),
        Kind::Keyword("IN") => (level::IN, In),
        _ => return None,
    })
}

fn infix(kind: &Kind) -> Option<(u8, BinaryOperator)> {
    use BinaryOperator::{And, Compare, Like, Matches, NotMatches, Or, Range};
    if let Some((level, how)) = comparison(kind) {
        return Some((level, Compare(how)));
    }
    let arithmetic = |level, how| (level, BinaryOperator::Arithmetic(how));
    Some(match kind {
        Kind::Sign("||") | Kind::Keyword("OR") => (level::OR, Or),
        Kind::Sign("&&") | Kind::Keyword("AND") => (level::AND, And),
        Kind::Keyword("LIKE") => (level::EQUALITY, Like),
        Kind::Sign("=~") => (level::EQUALITY, Matches),
        Kind::Sign("!~") => (level::EQUALITY, NotMatches),
        Kind::Sign("..") => (level::RANGE, Range),
        Kind::Sign("+") => arithmetic(level::SUM, Arithmetic::Add),
        Kind::Sign("-") => arithmetic(level::SUM, Arithmetic::Subtract),
        Kind::Sign("*") => arithmetic(level::PRODUCT, Arithmetic::Multiply),
        Kind::Sign("/") => arithmetic(level::PRODUCT, Arithmetic::Divide),
        Kind::Sign("%") => arithmetic(level::PRODUCT, Arithmetic::Modulus),
        _ => return None,
    })
}

const NOT_IN: BinaryOperator = BinaryOperator::Compare(Comparison::NotIn);

/// After `NOT`.
fn negated(kind: &Kind) -> Option<BinaryOperator> {
    Some(match kind {
        Kind::Keyword("IN") => NOT_IN,
        Kind::Keyword("LIKE") => BinaryOperator::NotLike,
        Kind::Sign("=~") => BinaryOperator::NotMatches,
        Kind::Sign("!~") => BinaryOperator::Matches,
        _ => return None,
    })
}

fn variable(slot: Slot) -> ExpressionKind {
    ExpressionKind::Variable(slot)
}

impl Parser<'_> {
    pub fn expression(&mut self) -> Parsed<Expression> {
        self.climb(level::TERNARY, true)
    }

    /// Where an `IN` that is in no brackets ends the expression: `REMOVE document IN collection`.
    pub fn expression_before_in(&mut self) -> Parsed<Expression> {
        self.climb(level::TERNARY, false)
    }

    fn node(&self, position: Position, kind: ExpressionKind) -> Parsed<Expression> {
        let expression = Expression::new(position, kind);
        if expression.height() > HEIGHT_MAX { Err(self.too_deep()) } else { Ok(expression) }
    }

    // ---- operators ----

    /// Operands and operators that bind at least so tightly.
    fn climb(&mut self, least: u8, with_in: bool) -> Parsed<Expression> {
        self.nested(|parser| {
            let mut left = parser.unary()?;
            loop {
                let position = parser.position();
                if least <= level::TERNARY && parser.eat_sign("?") {
                    left = parser.ternary(position, left, with_in)?;
                } else if let Some(found) = parser.infix(with_in).filter(|found| found.level >= least) {
                    (0..found.tokens).for_each(|_| parser.advance());
                    let right = parser.climb(found.right, with_in)?;
                    let kind = ExpressionKind::Binary(found.operator, Box::new(left), Box::new(right));
                    left = parser.node(position, kind)?;
                } else if least <= level::QUANTIFIER && parser.at_quantifier() {
                    left = parser.quantified(position, left, with_in)?;
                } else {
                    return Ok(left);
                }
            }
        })
    }

    fn infix(&self, with_in: bool) -> Option<Infix> {
        match self.peek() {
            Kind::Keyword("IN") if !with_in => None,
            Kind::Keyword("NOT") => {
                let operator = negated(self.peek_after(1))?;
                let right = if operator == NOT_IN { level::IN + 1 } else { level::EQUALITY + 1 };
                Some(Infix { level: level::IN, right, operator, tokens: 2 })
            }
            kind => {
                let (level, operator) = infix(kind)?;
                Some(Infix { level, right: level + 1, operator, tokens: 1 })
            }
        }
    }

    fn ternary(&mut self, position: Position, condition: Expression, with_in: bool) -> Parsed<Expression> {
        let then =
            if *self.peek() == Kind::Sign(":") { None } else { Some(Box::new(self.climb(level::TERNARY, true)?)) };
        self.expect_sign(":")?;
        let otherwise = Box::new(self.climb(level::TERNARY, with_in)?);
        self.node(position, ExpressionKind::Ternary { condition: Box::new(condition), then, otherwise })
    }

    fn at_least(&self) -> bool {
        self.at_word("AT") && matches!(self.peek_after(1), Kind::Name(name) if name.eq_ignore_ascii_case("LEAST"))
    }

    /// `ANY`, `ALL` or `NONE` before a comparison (`ANY` can be a direction, too), or `AT LEAST (`.
    fn at_quantifier(&self) -> bool {
        match self.peek() {
            Kind::Keyword("ALL" | "ANY" | "NONE") => {
                comparison(self.peek_after(1)).is_some()
                    || (*self.peek_after(1) == Kind::Keyword("NOT") && *self.peek_after(2) == Kind::Keyword("IN"))
            }
            _ => self.at_least() && *self.peek_after(2) == Kind::Sign("("),
        }
    }

    fn quantifier(&mut self) -> Parsed<Quantifier> {
        let quantifier = match self.peek() {
            Kind::Keyword("ALL") => Quantifier::All,
            Kind::Keyword("ANY") => Quantifier::Any,
            Kind::Keyword("NONE") => Quantifier::None,
            _ => {
                self.advance();
                self.advance();
                self.expect_sign("(")?;
                let number = self.expression()?;
                self.expect_sign(")")?;
                return Ok(Quantifier::AtLeast(number));
            }
        };
        self.advance();
        Ok(quantifier)
    }

    fn quantified(&mut self, position: Position, left: Expression, with_in: bool) -> Parsed<Expression> {
        let quantifier = Box::new(self.quantifier()?);
        let (level, operator) = if self.eat_keyword("NOT") {
            if *self.peek() != Kind::Keyword("IN") {
                return Err(self.unexpected(""));
            }
            (level::IN, Comparison::NotIn)
        } else {
            comparison(self.peek()).ok_or_else(|| self.unexpected(""))?
        };
        self.advance();
        let right = Box::new(self.climb(level + 1, with_in)?);
        self.node(position, ExpressionKind::Quantified { quantifier, operator, left: Box::new(left), right })
    }

    fn unary(&mut self) -> Parsed<Expression> {
        let position = self.position();
        let operator = match self.peek() {
            Kind::Sign("+") => UnaryOperator::Plus,
            Kind::Sign("-") => UnaryOperator::Minus,
            Kind::Sign("!") | Kind::Keyword("NOT") => UnaryOperator::Not,
            _ => return self.accessed(),
        };
        self.advance();
        let operand = self.nested(Self::unary)?;
        let kind = match (operator, &operand.kind) {
            (UnaryOperator::Plus, ExpressionKind::Literal(value)) if value.is_number() => {
                ExpressionKind::Literal(value.clone())
            }
            // What has no negative is left to the executor.
            (UnaryOperator::Minus, ExpressionKind::Literal(Value::Int(number))) if *number != i64::MIN => {
                ExpressionKind::Literal(Value::Int(-number))
            }
            (UnaryOperator::Minus, ExpressionKind::Literal(Value::Double(number))) => {
                ExpressionKind::Literal(Value::Double(-number))
            }
            _ => ExpressionKind::Unary(operator, Box::new(operand)),
        };
        self.node(position, kind)
    }

    // ---- accesses ----

    /// Something and the `.name`, `[place]`, `[* …]` and `[? …]` that follow it. Those that follow a `[*]` are part of
    /// its projection, up to a closing parenthesis or a `[**]`.
    fn accessed(&mut self) -> Parsed<Expression> {
        let literal = matches!(
            self.peek(),
            Kind::Text(_) | Kind::Int(_) | Kind::Double(_) | Kind::Keyword("NULL" | "TRUE" | "FALSE")
        );
        let mut inner = self.primary()?;
        if literal {
            return Ok(inner);
        }
        let mut open: Vec<(Position, Expansion)> = Vec::new();
        loop {
            let position = self.position();
            if self.eat_sign(".") {
                inner = self.attribute(position, inner)?;
            } else if self.eat_sign("[") {
                match self.peek() {
                    Kind::Sign("*") => {
                        let mut stars = 0;
                        while self.eat_sign("*") {
                            stars += 1;
                        }
                        if stars > 1 {
                            inner = self.close(&mut open, inner)?;
                        }
                        let (expansion, projection) = self.expansion(inner, stars - 1)?;
                        inner = projection;
                        open.push((position, expansion));
                    }
                    Kind::Sign("?") => inner = self.question(position, inner)?,
                    _ => {
                        let place = self.expression()?;
                        inner = self.node(position, ExpressionKind::Index(Box::new(inner), Box::new(place)))?;
                    }
                }
                self.expect_sign("]")?;
            } else {
                return self.close(&mut open, inner);
            }
        }
    }

    /// Puts the projections into the expansions that are open.
    fn close(&self, open: &mut Vec<(Position, Expansion)>, mut inner: Expression) -> Parsed<Expression> {
        while let Some((position, expansion)) = open.pop() {
            let expansion = Expansion { projection: inner, ..expansion };
            inner = self.node(position, ExpressionKind::Expansion(Box::new(expansion)))?;
        }
        Ok(inner)
    }

    fn attribute(&mut self, position: Position, of: Expression) -> Parsed<Expression> {
        let token = self.token();
        let names = match &token.kind {
            Kind::Name(name) => vec![name.clone()],
            Kind::Keyword(word) => vec![self.text[token.start..token.start + word.len()].into()],
            Kind::Parameter(parameter) => {
                let parameter = parameter.clone();
                let names = match self.bound(&parameter) {
                    None => {
                        let place = self.node(self.position(), ExpressionKind::Parameter(parameter))?;
                        self.advance();
                        return self.node(position, ExpressionKind::Index(Box::new(of), Box::new(place)));
                    }
                    Some(Value::String(name)) => Some(vec![name]),
                    Some(Value::Array(names)) if !names.is_empty() => {
                        names.iter().map(|name| name.as_str().map(Arc::from)).collect()
                    }
                    Some(_) if self.missing.is_some() => Some(Vec::new()),
                    Some(_) => None,
                };
                names.ok_or_else(|| bind_error(errors::QUERY_BIND_PARAMETER_TYPE, &parameter))?
            }
            _ => return Err(self.unexpected("")),
        };
        self.advance();
        names.into_iter().try_fold(of, |of, name| self.node(position, ExpressionKind::Attribute(Box::new(of), name)))
    }

    /// After the stars: an expansion whose projection is still to come, and how the projection begins.
    fn expansion(&mut self, source: Expression, flatten: u32) -> Parsed<(Expansion, Expression)> {
        let position = self.position();
        let element = self.new_variable(&"CURRENT".into())?;
        self.scopes.enter_element(element);
        let filter = if self.eat_keyword("FILTER") { Some(self.expression()?) } else { None };
        let limit = if self.eat_keyword("LIMIT") { Some(self.limit()?) } else { None };
        let projection = if self.eat_keyword("RETURN") { Some(self.expression()?) } else { None };
        self.scopes.leave_element();
        self.scopes.mark_used(element);
        let placeholder = Expression::new(position, variable(element));
        let projection = projection.unwrap_or_else(|| placeholder.clone());
        Ok((Expansion { source, flatten, element, filter, limit, projection: placeholder }, projection))
    }

    /// From the question mark on.
    fn question(&mut self, position: Position, source: Expression) -> Parsed<Expression> {
        while self.eat_sign("?") {}
        let element = self.new_variable(&"CURRENT".into())?;
        let mut quantifier = None;
        let mut filter = None;
        if *self.peek() != Kind::Sign("]") {
            self.scopes.enter_element(element);
            quantifier = match self.peek() {
                Kind::Keyword("FILTER") => None,
                Kind::Keyword("ALL" | "ANY" | "NONE") => Some(self.quantifier()?),
                _ if self.at_least() => Some(self.quantifier()?),
                _ => Some(Quantifier::Exactly(self.expression()?)),
            };
            self.expect_keyword("FILTER")?;
            filter = Some(self.expression()?);
            self.scopes.leave_element();
        }
        let question = Question { source, element, quantifier, filter };
        self.node(position, ExpressionKind::Question(Box::new(question)))
    }

    // ---- what expressions begin with ----

    fn primary(&mut self) -> Parsed<Expression> {
        let position = self.position();
        let literal = |value| Ok(ExpressionKind::Literal(value));
        let kind = match self.peek().clone() {
            Kind::Text(text) => literal(Value::String(text)),
            Kind::Int(number) => literal(Value::Int(number)),
            Kind::Double(number) => literal(Value::Double(number)),
            Kind::Keyword("NULL") => literal(Value::Null),
            Kind::Keyword("TRUE") => literal(Value::Bool(true)),
            Kind::Keyword("FALSE") => literal(Value::Bool(false)),
            Kind::Parameter(name) => Ok(match self.bound(&name) {
                Some(value) => ExpressionKind::Literal(value),
                None => ExpressionKind::Parameter(name),
            }),
            Kind::CollectionParameter(name) => {
                let text = self.bound_name(&name)?;
                self.collection(Name { text, position })
            }
            Kind::Name(name) => {
                if matches!(self.peek_after(1), Kind::Sign("(" | "::")) {
                    return self.call();
                }
                match self.scopes.read(&name) {
                    Some(slot) => Ok(variable(slot)),
                    None => self.collection(Name { text: name, position }),
                }
            }
            Kind::Keyword("LIKE") if *self.peek_after(1) == Kind::Sign("(") => return self.call(),
            Kind::Sign("(") => {
                self.advance();
                let inner = if self.at_block() { self.subquery()? } else { self.expression()? };
                self.expect_sign(")")?;
                return Ok(inner);
            }
            Kind::Sign("[") => {
                self.advance();
                let elements = self.list("]", Self::expression)?;
                return self.node(position, ExpressionKind::Array(elements));
            }
            Kind::Sign("{") => {
                self.advance();
                let members = self.list("}", Self::member)?;
                return self.node(position, ExpressionKind::Object(members));
            }
            _ => Err(self.unexpected("")),
        }?;
        self.advance();
        self.node(position, kind)
    }

    fn collection(&mut self, name: Name) -> Parsed<ExpressionKind> {
        self.use_collection(&name, false)?;
        Ok(ExpressionKind::Collection(name))
    }

    fn subquery(&mut self) -> Parsed<Expression> {
        let position = self.position();
        let block = self.block()?;
        self.node(position, ExpressionKind::Subquery(Box::new(block)))
    }

    /// Up to and with the closing sign; a comma may stand before it.
    fn list<T>(&mut self, close: &'static str, element: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut elements = Vec::new();
        loop {
            if self.eat_sign(close) {
                return Ok(elements);
            }
            elements.push(element(self)?);
            if !self.eat_sign(",") {
                self.expect_sign(close)?;
                return Ok(elements);
            }
        }
    }

    fn member(&mut self) -> Parsed<Member> {
        let position = self.position();
        let name = match self.peek().clone() {
            Kind::Name(name) if *self.peek_after(1) != Kind::Sign(":") => {
                let Some(slot) = self.scopes.read(&name) else {
                    let message = format!("use of unknown variable '{name}' in object literal");
                    return Err(self.refuse(errors::QUERY_VARIABLE_NAME_UNKNOWN, &message));
                };
                self.advance();
                let value = self.node(position, variable(slot))?;
                return Ok(Member { name: MemberName::Fixed(name), value });
            }
            Kind::Name(name) | Kind::Text(name) => MemberName::Fixed(name),
            Kind::Parameter(parameter) => match self.bound(&parameter) {
                None => MemberName::Computed(self.node(position, ExpressionKind::Parameter(parameter))?),
                Some(Value::String(name)) => MemberName::Fixed(name),
                Some(_) if self.missing.is_some() => MemberName::Fixed(parameter),
                Some(_) => return Err(bind_error(errors::QUERY_BIND_PARAMETER_TYPE, &parameter)),
            },
            Kind::Sign("[") => {
                self.advance();
                let name = self.expression()?;
                if *self.peek() != Kind::Sign("]") {
                    return Err(self.unexpected("]"));
                }
                MemberName::Computed(name)
            }
            _ => return Err(self.unexpected("")),
        };
        self.advance();
        self.expect_sign(":")?;
        Ok(Member { name, value: self.expression()? })
    }

    /// `NAME(…)` or `SPACE::NAME(…)`
    fn call(&mut self) -> Parsed<Expression> {
        let (position, token) = (self.position(), self.at);
        let mut name = match self.peek() {
            Kind::Name(name) => name.to_ascii_uppercase(),
            _ => "LIKE".to_owned(),
        };
        self.advance();
        while self.eat_sign("::") {
            name = format!("{name}::{}", self.name()?.to_ascii_uppercase());
        }
        self.expect_sign("(")?;
        let arguments = self.arguments()?;
        self.check_call(token, &name, arguments.len())?;
        self.node(position, ExpressionKind::Call(name.into(), arguments))
    }

    /// Up to and with the parenthesis. A subquery that is an argument needs none of its own.
    pub fn arguments(&mut self) -> Parsed<Vec<Expression>> {
        let mut arguments = Vec::new();
        if self.eat_sign(")") {
            return Ok(arguments);
        }
        loop {
            arguments.push(if self.at_block() { self.subquery()? } else { self.expression()? });
            if !self.eat_sign(",") {
                self.expect_sign(")")?;
                return Ok(arguments);
            }
        }
    }

    /// Whether there is a function of that name that takes so many arguments.
    fn check_call(&self, token: usize, name: &str, arguments: usize) -> Parsed<()> {
        if name.contains("::") {
            let kind = errors::QUERY_FUNCTION_NOT_FOUND;
            return Err(self.refuse_at(token, kind, &kind.message.replace("%s", name)));
        }
        let Some(function) = functions::lookup(name) else {
            let kind = errors::QUERY_FUNCTION_NAME_UNKNOWN;
            return Err(self.refuse_at(token, kind, &format!("{} '{name}()'", kind.message)));
        };
        function.check_count(arguments).map_err(|error| self.refuse_at(token, error.kind, &error.message))
    }
}
