//! The operations: from `FOR` to `RETURN`.

use super::super::aggregate;
use super::super::ast::*;
use super::super::functions::date;
use super::super::lexer::Kind;
use super::super::value::Value;
use super::{OPERATIONS_MAX, Parsed, Parser, bind_error};
use crate::errors;
use std::sync::Arc;

fn direction_of(kind: &Kind) -> Option<Direction> {
    Some(match kind {
        Kind::Keyword("OUTBOUND") => Direction::Outbound,
        Kind::Keyword("INBOUND") => Direction::Inbound,
        Kind::Keyword("ANY") => Direction::Any,
        _ => return None,
    })
}

/// Both bounds of a window over a range are numbers from 0, or both are durations.
fn check_range(preceding: &Value, following: &Value) -> Parsed<()> {
    let is_number = |bound: &Value| bound.as_double().is_some_and(|number| number >= 0.0);
    let is_duration = |bound: &Value| bound.as_str().is_some_and(date::is_duration);
    let all = |fits: &dyn Fn(&Value) -> bool| [preceding, following].iter().all(|bound| bound.is_null() || fits(bound));
    if all(&is_number) || all(&is_duration) {
        return Ok(());
    }
    Err(errors::BAD_PARAMETER.because("WINDOW bounds of a range must be numbers from 0, or ISO 8601 durations"))
}

impl Parser<'_> {
    /// `WITH a, b`; the commas can be left out.
    pub fn with(&mut self) -> Parsed<Vec<Name>> {
        let mut names = Vec::new();
        if !self.eat_keyword("WITH") {
            return Ok(names);
        }
        loop {
            let name = self.collection_name()?;
            self.use_collection(&name, false)?;
            names.push(name);
            let comma = self.eat_sign(",");
            if !comma && !matches!(self.peek(), Kind::Name(_) | Kind::Parameter(_) | Kind::CollectionParameter(_)) {
                return Ok(names);
            }
        }
    }

    /// Operations up to a `RETURN`, or, if the last one writes, up to what is none.
    pub fn block(&mut self) -> Parsed<Block> {
        let outer = self.scopes.enter_block();
        let block = self.nested(|parser| {
            let mut operations = Vec::new();
            loop {
                if !parser.operation(&mut operations)? {
                    let writes = operations.last().is_some_and(|last: &Operation| last.kind.writes());
                    return if writes { Ok(Block { operations }) } else { Err(parser.unexpected("")) };
                }
                if matches!(operations.last(), Some(Operation { kind: OperationKind::Return { .. }, .. })) {
                    return Ok(Block { operations });
                }
            }
        })?;
        self.scopes.leave_block(outer);
        if block.height() > HEIGHT_MAX {
            return Err(self.too_deep());
        }
        Ok(block)
    }

    /// Whether a block can begin here; an expression can't.
    pub fn at_block(&self) -> bool {
        matches!(
            self.peek(),
            Kind::Keyword(
                "FOR"
                    | "LET"
                    | "FILTER"
                    | "SORT"
                    | "LIMIT"
                    | "COLLECT"
                    | "WINDOW"
                    | "RETURN"
                    | "INSERT"
                    | "UPDATE"
                    | "REPLACE"
                    | "REMOVE"
                    | "UPSERT"
            )
        )
    }

    /// False if there is none here. `LET a = 1, b = 2` is two.
    fn operation(&mut self, out: &mut Vec<Operation>) -> Parsed<bool> {
        if !self.at_block() {
            return Ok(false);
        }
        self.operations += 1;
        if self.operations > OPERATIONS_MAX {
            return Err(errors::QUERY_TOO_MUCH_NESTING.into());
        }
        let position = self.position();
        let Kind::Keyword(word) = *self.peek() else { return Ok(false) };
        self.advance();
        let kind = match word {
            "FOR" => self.for_loop()?,
            "LET" => loop {
                let (name, token) = (self.name()?, self.at - 1);
                self.expect_sign("=")?;
                let value = self.expression()?;
                let variable = self.declare(name, token)?;
                out.push(Operation { position, kind: OperationKind::Let { variable, value } });
                if !self.eat_sign(",") {
                    return Ok(true);
                }
            },
            "FILTER" => OperationKind::Filter(self.expression()?),
            "SORT" => self.sort()?,
            "LIMIT" => {
                let (offset, count) = self.limit()?;
                OperationKind::Limit { offset, count }
            }
            "COLLECT" => self.collect()?,
            "WINDOW" => self.window()?,
            "RETURN" => {
                let distinct = *self.peek() == Kind::Keyword("DISTINCT");
                if distinct && !self.scopes.in_loop() {
                    let message = "cannot use DISTINCT modifier on top-level query element";
                    return Err(self.refuse(errors::QUERY_PARSE, message));
                }
                if distinct {
                    self.advance();
                }
                OperationKind::Return { distinct, value: self.expression()? }
            }
            "INSERT" => self.insert()?,
            "UPDATE" | "REPLACE" => self.update(word == "REPLACE")?,
            "REMOVE" => self.remove()?,
            _ => self.upsert()?,
        };
        out.push(Operation { position, kind });
        Ok(true)
    }

    // ---- FOR ----

    fn for_loop(&mut self) -> Parsed<OperationKind> {
        let mut names = vec![(self.name()?, self.at - 1)];
        while self.eat_sign(",") {
            names.push((self.name()?, self.at - 1));
        }
        let in_token = self.at;
        self.expect_keyword("IN")?;
        let mut depth = None;
        if direction_of(self.peek()).is_none() {
            let source = self.expression()?;
            if direction_of(self.peek()).is_none() {
                let [(name, token)] = &names[..] else {
                    let message = "Collections and views FOR loops only allow a single return variable";
                    return Err(self.refuse_at(in_token, errors::QUERY_PARSE, message));
                };
                return self.enumeration(name.clone(), *token, source);
            }
            depth = Some(match source.kind {
                ExpressionKind::Binary(BinaryOperator::Range, min, max) => Depth { min: *min, max: Some(*max) },
                _ => Depth { min: source, max: None },
            });
        }
        let Some(direction) = direction_of(self.peek()) else { return Err(self.unexpected("")) };
        self.advance();
        let kind = match self.peek() {
            Kind::Keyword("SHORTEST_PATH") => PathsKind::Shortest,
            Kind::Keyword("ALL_SHORTEST_PATHS") => PathsKind::AllShortest,
            Kind::Keyword("K_SHORTEST_PATHS") => PathsKind::KShortest,
            Kind::Keyword("K_PATHS") => PathsKind::K,
            _ => return self.traversal(names, depth, direction),
        };
        if depth.is_some() && kind != PathsKind::K {
            return Err(self.unexpected(""));
        }
        self.advance();
        self.paths(kind, names, depth, direction)
    }

    fn enumeration(&mut self, name: Arc<str>, token: usize, source: Expression) -> Parsed<OperationKind> {
        self.scopes.enter_loop();
        let variable = self.declare(name, token)?;
        if self.at_word("SEARCH") {
            return Err(self.refuse(errors::NOT_IMPLEMENTED, "views are not supported: SEARCH"));
        }
        let options = self.options()?;
        Ok(OperationKind::For { variable, source, options })
    }

    fn traversal(
        &mut self,
        names: Vec<(Arc<str>, usize)>,
        depth: Option<Depth>,
        direction: Direction,
    ) -> Parsed<OperationKind> {
        let start = self.expression()?;
        let graph = self.graph()?;
        let mut variables =
            self.output_variables(names, 3, "Traversals only have one, two or three return variables")?;
        let (vertex, edge, path) = (variables.remove(0), variables.first().copied(), variables.get(1).copied());
        let mut prune = None;
        if self.at_word("PRUNE") {
            self.advance();
            let named = matches!(self.peek(), Kind::Name(_)) && *self.peek_after(1) == Kind::Sign("=");
            let variable = if named {
                let found = (self.name()?, self.at - 1);
                self.advance();
                Some(found)
            } else {
                None
            };
            let condition = self.expression()?;
            let variable = variable.map(|(name, token)| self.declare(name, token)).transpose()?;
            prune = Some(Prune { variable, condition });
        }
        let options = self.options()?;
        let traversal = Traversal { vertex, edge, path, depth, direction, start, graph, prune, options };
        Ok(OperationKind::Traversal(Box::new(traversal)))
    }

    fn paths(
        &mut self,
        kind: PathsKind,
        names: Vec<(Arc<str>, usize)>,
        depth: Option<Depth>,
        direction: Direction,
    ) -> Parsed<OperationKind> {
        let start = self.expression()?;
        self.expect_word("TO")?;
        let target = self.expression()?;
        let graph = self.graph()?;
        let options = self.options()?;
        let (most, message) = match kind {
            PathsKind::Shortest => (2, "SHORTEST_PATH must have one or two return variables"),
            PathsKind::AllShortest => (1, "ALL_SHORTEST_PATHS only has one return variable"),
            PathsKind::KShortest => (1, "K_SHORTEST_PATHS only has one return variable"),
            PathsKind::K => (1, "K_PATHS only has one return variable"),
        };
        let variables = self.output_variables(names, most, message)?;
        let (variable, edge) = (variables[0], variables.get(1).copied());
        let paths = Paths { kind, variable, edge, depth, direction, start, target, graph, options };
        Ok(OperationKind::Paths(Box::new(paths)))
    }

    fn output_variables(&mut self, names: Vec<(Arc<str>, usize)>, most: usize, message: &str) -> Parsed<Vec<Slot>> {
        if names.len() > most {
            return Err(self.refuse(errors::QUERY_PARSE, message));
        }
        self.scopes.enter_loop();
        names.into_iter().map(|(name, token)| self.declare(name, token)).collect()
    }

    fn graph(&mut self) -> Parsed<Graph> {
        if self.eat_keyword("GRAPH") {
            let position = self.position();
            let text = match self.peek().clone() {
                Kind::Name(name) | Kind::Text(name) => name,
                Kind::Parameter(name) | Kind::CollectionParameter(name) => self.bound_name(&name)?,
                _ => return Err(self.unexpected("")),
            };
            self.advance();
            return Ok(Graph::Named(Name { text, position }));
        }
        let mut edges = Vec::new();
        loop {
            let direction = direction_of(self.peek());
            if direction.is_some() {
                self.advance();
            }
            let name = self.collection_name()?;
            self.use_collection(&name, false)?;
            edges.push(EdgeCollection { name, direction });
            if !self.eat_sign(",") {
                return Ok(Graph::Edges(edges));
            }
        }
    }

    /// A collection where nothing else can be.
    fn collection_name(&mut self) -> Parsed<Name> {
        let position = self.position();
        let text = match self.peek().clone() {
            Kind::Name(name) => name,
            Kind::Parameter(name) | Kind::CollectionParameter(name) => self.bound_name(&name)?,
            _ => return Err(self.unexpected("")),
        };
        self.advance();
        Ok(Name { text, position })
    }

    /// `OPTIONS {…}`, or null.
    fn options(&mut self) -> Parsed<Value> {
        if !matches!(self.peek(), Kind::Name(_)) {
            return Ok(Value::Null);
        }
        self.expect_word("OPTIONS")?;
        let token = self.at;
        if *self.peek() != Kind::Sign("{") {
            let parameter = matches!(self.peek(), Kind::Parameter(_));
            if !parameter {
                return Err(self.unexpected("{"));
            }
        }
        let object = self.expression()?;
        match object.constant() {
            Some(value @ Value::Object(_)) => Ok(value),
            Some(_) => Err(self.refuse_at(token, errors::QUERY_PARSE, "'OPTIONS' have to be an object")),
            None if self.values.is_none() => Ok(Value::Null),
            None => {
                let message = "'OPTIONS' have to be known at query compile time";
                Err(self.refuse_at(token, errors::QUERY_COMPILE_TIME_OPTIONS, message))
            }
        }
    }

    // ---- SORT and LIMIT ----

    fn sort(&mut self) -> Parsed<OperationKind> {
        let mut keys = Vec::new();
        loop {
            let value = self.expression()?;
            let descending = self.descending()?;
            keys.push(SortKey { value, descending });
            if !self.eat_sign(",") {
                return Ok(OperationKind::Sort(keys));
            }
        }
    }

    fn descending(&mut self) -> Parsed<bool> {
        let token = self.at;
        let value = match self.peek().clone() {
            Kind::Keyword("ASC") => Value::Bool(true),
            Kind::Keyword("DESC") => Value::Bool(false),
            Kind::Keyword("TRUE") => Value::Bool(true),
            Kind::Keyword("FALSE") => Value::Bool(false),
            Kind::Text(word) => Value::String(word),
            Kind::Parameter(name) => {
                let value = self.bound(&name).unwrap_or(Value::Bool(true));
                if self.missing.is_some() { Value::Bool(true) } else { value }
            }
            _ => return Ok(false),
        };
        self.advance();
        match value {
            Value::Bool(ascending) => Ok(!ascending),
            Value::String(word) if word.eq_ignore_ascii_case("ASC") => Ok(false),
            Value::String(word) if word.eq_ignore_ascii_case("DESC") => Ok(true),
            _ => Err(self.refuse_at(token, errors::QUERY_PARSE, "invalid sort direction, expecting 'ASC' or 'DESC'")),
        }
    }

    /// `[offset,] count`
    pub fn limit(&mut self) -> Parsed<(Option<Expression>, Expression)> {
        let first = self.expression()?;
        if self.eat_sign(",") { Ok((Some(first), self.expression()?)) } else { Ok((None, first)) }
    }

    // ---- COLLECT and WINDOW ----

    fn collect(&mut self) -> Parsed<OperationKind> {
        let mut groups = Vec::new();
        if matches!(self.peek(), Kind::Name(_)) {
            groups = self.assignments(Self::expression)?;
        }
        let mut aggregates = Vec::new();
        let mut count = None;
        let mut into = None;
        let counts = *self.peek() == Kind::Keyword("WITH");
        if counts {
            self.advance();
            self.expect_word("COUNT")?;
            self.expect_keyword("INTO")?;
            count = Some((self.name()?, self.at - 1));
        } else {
            if self.eat_keyword("AGGREGATE") {
                aggregates = self.assignments(Self::aggregate)?;
            }
            if groups.is_empty() && aggregates.is_empty() {
                return Err(self.unexpected(""));
            }
            if self.eat_keyword("INTO") {
                let (name, token) = (self.name()?, self.at - 1);
                let member = if self.eat_sign("=") {
                    GroupMember::Projection(self.expression()?)
                } else if self.at_word("KEEP") {
                    self.advance();
                    GroupMember::Keep(self.kept()?)
                } else {
                    GroupMember::All(self.scopes.grouped())
                };
                if let GroupMember::All(variables) = &member {
                    variables.iter().for_each(|(_, slot)| self.scopes.mark_used(*slot));
                }
                into = Some((name, token, member));
            } else if self.at_word("KEEP") {
                return Err(self.refuse(errors::QUERY_PARSE, "use of 'KEEP' without 'INTO'"));
            }
        }
        let options = self.options()?;
        self.scopes.end_loops();
        let mut collect = Collect { groups: Vec::new(), aggregates: Vec::new(), into: None, count: None, options };
        for (name, token, value) in groups {
            collect.groups.push(Group { variable: self.declare(name, token)?, value });
        }
        for (name, token, aggregate) in aggregates {
            let variable = self.declare(name, token)?;
            collect.aggregates.push(Aggregate { variable, ..aggregate });
        }
        if let Some((name, token)) = count {
            collect.count = Some(self.declare(name, token)?);
        }
        if let Some((name, token, member)) = into {
            collect.into = Some(CollectInto { variable: self.declare(name, token)?, member });
        }
        Ok(OperationKind::Collect(Box::new(collect)))
    }

    /// `name = …, name = …`, to be declared by the caller; with the names' tokens.
    fn assignments<T>(&mut self, value: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<(Arc<str>, usize, T)>> {
        let mut list = Vec::new();
        loop {
            let (name, token) = (self.name()?, self.at - 1);
            self.expect_sign("=")?;
            list.push((name, token, value(self)?));
            if !self.eat_sign(",") {
                return Ok(list);
            }
        }
    }

    /// The variable is filled in by the caller.
    fn aggregate(&mut self) -> Parsed<Aggregate> {
        let (position, token) = (self.position(), self.at);
        let function: Arc<str> = self.name()?.to_ascii_uppercase().into();
        self.expect_sign("(")?;
        let mut arguments = self.arguments()?;
        if aggregate::Aggregate::named(&function).is_none() {
            let message = "unknown aggregate function used";
            return Err(self.refuse_at(token, errors::QUERY_INVALID_AGGREGATE_EXPRESSION, message));
        }
        let argument = match arguments.pop() {
            Some(argument) if arguments.is_empty() => argument,
            None if matches!(function.as_ref(), "LENGTH" | "COUNT") => {
                Expression::new(position, ExpressionKind::Literal(Value::Int(1)))
            }
            _ => {
                let kind = errors::QUERY_FUNCTION_ARGUMENT_NUMBER_MISMATCH;
                let message =
                    format!("{} '{function}()', expected number of arguments: minimum: 1, maximum: 1", kind.message);
                return Err(self.refuse_at(token, kind, &message));
            }
        };
        Ok(Aggregate { variable: Slot(0), position, function, argument })
    }

    /// The names after `KEEP`.
    fn kept(&mut self) -> Parsed<Vec<(Arc<str>, Slot)>> {
        let mut kept = Vec::new();
        loop {
            let name = self.name()?;
            let Some(slot) = self.scopes.read(&name) else {
                let message = format!("use of unknown variable '{name}' for KEEP");
                return Err(self.refuse_at(self.at - 1, errors::QUERY_PARSE, &message));
            };
            kept.push((name, slot));
            if !self.eat_sign(",") {
                return Ok(kept);
            }
        }
    }

    fn window(&mut self) -> Parsed<OperationKind> {
        let mut token = self.at;
        let mut bounds = self.expression()?;
        let mut range = None;
        if self.eat_keyword("WITH") {
            token = self.at;
            range = Some(std::mem::replace(&mut bounds, self.expression()?));
        }
        let mut window = Window { range, preceding: Value::Null, following: Value::Null, aggregates: Vec::new() };
        let fail = |message: &str| Err(self.refuse_at(token, errors::QUERY_PARSE, message));
        let constant = match (&bounds.kind, bounds.constant()) {
            (ExpressionKind::Object(_), Some(constant)) => constant,
            (ExpressionKind::Object(_), None) => return fail("WINDOW bounds must be constant"),
            _ => return fail("WINDOW bounds must be an object"),
        };
        let members = constant.as_object();
        if members.is_none_or(|members| members.is_empty()) {
            return fail("At least one WINDOW bound must be specified ('preceding'/'following')");
        }
        for (name, value) in members.into_iter().flat_map(|members| members.iter()) {
            match name.as_ref() {
                "preceding" => window.preceding = value.clone(),
                "following" => window.following = value.clone(),
                other => {
                    return fail(&format!(
                        "Invalid WINDOW attribute '{other}'; only \"preceding\" and \"following\" are supported"
                    ));
                }
            }
        }
        if window.range.is_some() {
            check_range(&window.preceding, &window.following)?;
        }
        self.expect_keyword("AGGREGATE")?;
        for (name, token, aggregate) in self.assignments(Self::aggregate)? {
            let variable = self.declare(name, token)?;
            window.aggregates.push(Aggregate { variable, ..aggregate });
        }
        Ok(OperationKind::Window(Box::new(window)))
    }

    // ---- what writes ----

    fn old(&mut self) -> Parsed<Slot> {
        self.add_variable("OLD".into(), false)
    }

    fn new_document(&mut self) -> Parsed<Slot> {
        self.add_variable("NEW".into(), false)
    }

    /// `INTO collection` or `IN collection`
    fn target(&mut self) -> Parsed<Name> {
        if !self.eat_keyword("INTO") {
            self.expect_keyword("IN")?;
        }
        let position = self.position();
        let text = match self.peek().clone() {
            Kind::Name(name) | Kind::Text(name) => name,
            Kind::CollectionParameter(name) => self.bound_name(&name)?,
            Kind::Parameter(name) => return Err(bind_error(errors::QUERY_BIND_PARAMETER_TYPE, &name)),
            _ => return Err(self.unexpected("")),
        };
        self.advance();
        let name = Name { text, position };
        self.use_collection(&name, true)?;
        Ok(name)
    }

    fn insert(&mut self) -> Parsed<OperationKind> {
        let document = self.expression_before_in()?;
        let (collection, options) = (self.target()?, self.options()?);
        // There is an old one only where it may take the place of one.
        let mode = options.attribute("overwriteMode");
        let takes_place = match mode.as_str() {
            Some(mode) => matches!(mode, "update" | "replace"),
            None => options.attribute("overwrite").truthy(),
        };
        let old = if takes_place { self.old()? } else { self.new_variable(&"OLD".into())? };
        let new = self.new_document()?;
        Ok(OperationKind::Insert(Box::new(Insert { document, collection, options, old, new })))
    }

    fn update(&mut self, replace: bool) -> Parsed<OperationKind> {
        let mut document = self.expression_before_in()?;
        let mut key = None;
        if self.eat_keyword("WITH") {
            key = Some(std::mem::replace(&mut document, self.expression_before_in()?));
        }
        let (collection, options) = (self.target()?, self.options()?);
        let (old, new) = (self.old()?, self.new_document()?);
        let update = Update { replace, key, document, collection, options, old, new };
        Ok(OperationKind::Update(Box::new(update)))
    }

    fn remove(&mut self) -> Parsed<OperationKind> {
        let key = self.expression_before_in()?;
        let (collection, options) = (self.target()?, self.options()?);
        let old = self.old()?;
        Ok(OperationKind::Remove(Box::new(Remove { key, collection, options, old })))
    }

    fn upsert(&mut self) -> Parsed<OperationKind> {
        let search = if self.eat_keyword("FILTER") {
            let current = self.new_variable(&"CURRENT".into())?;
            self.scopes.enter_element(current);
            let condition = self.expression();
            self.scopes.leave_element();
            UpsertSearch::Filter { current, condition: condition? }
        } else {
            if !matches!(self.peek(), Kind::Sign("{") | Kind::Parameter(_)) {
                return Err(self.unexpected(""));
            }
            UpsertSearch::Example(self.expression()?)
        };
        let old = self.old()?;
        self.expect_keyword("INSERT")?;
        let insert = self.expression()?;
        let replace = self.eat_keyword("REPLACE");
        if !replace {
            self.expect_keyword("UPDATE")?;
        }
        let update = self.expression_before_in()?;
        let (collection, options) = (self.target()?, self.options()?);
        let new = self.new_document()?;
        let upsert = Upsert { search, insert, update, replace, collection, options, old, new };
        Ok(OperationKind::Upsert(Box::new(upsert)))
    }
}

impl OperationKind {
    /// Whether it writes into a collection.
    pub fn writes(&self) -> bool {
        matches!(
            self,
            OperationKind::Insert(_) | OperationKind::Update(_) | OperationKind::Remove(_) | OperationKind::Upsert(_)
        )
    }
}
