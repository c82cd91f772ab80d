//! What a query says: the tree that the parser builds and that everything after it works on.
//!
//! Names are resolved: a variable is a [`Slot`], different for each declaration in the whole query, so that a row can
//! be a vector of [`Query::variables`]`.len()` values. That holds for the variables that nobody declares, too:
//! `CURRENT` of an array operator, `OLD` and `NEW`, have slots of their own. A name that no variable has is a
//! collection's ([`ExpressionKind::Collection`], [`Name`]); whether there is such a collection is asked when the
//! query runs.
//!
//! Bind parameters are gone: the parser puts their values in their places. Only a query that was parsed without values
//! (for `/_api/query` and `explain`) has [`ExpressionKind::Parameter`] and names that begin with `@`.
//!
//! No tree is higher than [`HEIGHT_MAX`], so whatever walks one may recurse. Expressions are made by
//! [`Expression::new`], which keeps count.

pub use super::operators::{Arithmetic, Comparison};
use super::value::Value;
use std::sync::Arc;

/// As ArangoDB's limit. It is the parser that refuses what is higher.
pub const HEIGHT_MAX: u16 = 500;

/// Where something begins in the query's text; line and column count from 1 (in characters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// A place in a row, an index of [`Query::variables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    pub name: Arc<str>,
    /// Whether anything reads it. `OLD` and `NEW` that are not used need not be kept.
    pub used: bool,
}

/// A whole query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// The collections after `WITH`.
    pub with: Vec<Name>,
    pub body: Block,
    /// By slot.
    pub variables: Vec<Variable>,
    /// What the query names as collections, each once, in the order in which they come. A name that is only given to a
    /// function as a string, or computed, is not here.
    pub collections: Vec<CollectionUse>,
    /// The bind parameters that the text has, each once; those for collections begin with `@`.
    pub parameters: Vec<Arc<str>>,
}

impl Query {
    /// Whether it changes data.
    pub fn writes(&self) -> bool {
        self.collections.iter().any(|used| used.written)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct CollectionUse {
    pub name: Name,
    pub written: bool,
}

/// The name of a collection or a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    pub text: Arc<str>,
    pub position: Position,
}

/// Operations one after the other: a query or a subquery.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    pub operations: Vec<Operation>,
}

impl Block {
    /// Whether it changes data, itself or in a subquery.
    pub fn writes(&self) -> bool {
        self.operations.iter().any(|operation| {
            let mut writes = operation.kind.writes();
            operation.kind.for_each_expression(&mut |expression| writes |= expression.writes());
            writes
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    pub position: Position,
    pub kind: OperationKind,
}

/// `options`, wherever it stands, is an object, or null if there is no `OPTIONS`.
#[derive(Clone, Debug, PartialEq)]
pub enum OperationKind {
    /// `FOR variable IN source`. The source is a collection if it is an [`ExpressionKind::Collection`].
    For {
        variable: Slot,
        source: Expression,
        options: Value,
    },
    Traversal(Box<Traversal>),
    Paths(Box<Paths>),
    Let {
        variable: Slot,
        value: Expression,
    },
    Filter(Expression),
    Sort(Vec<SortKey>),
    /// Both refer to no variables.
    Limit {
        offset: Option<Expression>,
        count: Expression,
    },
    Collect(Box<Collect>),
    Window(Box<Window>),
    /// Always the last operation of its block.
    Return {
        distinct: bool,
        value: Expression,
    },
    Insert(Box<Insert>),
    Update(Box<Update>),
    Remove(Box<Remove>),
    Upsert(Box<Upsert>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Outbound,
    Inbound,
    Any,
}

/// `FOR vertex, edge, path IN min..max direction start graph PRUNE … OPTIONS …`
#[derive(Clone, Debug, PartialEq)]
pub struct Traversal {
    pub vertex: Slot,
    pub edge: Option<Slot>,
    pub path: Option<Slot>,
    pub depth: Option<Depth>,
    pub direction: Direction,
    pub start: Expression,
    pub graph: Graph,
    pub prune: Option<Prune>,
    pub options: Value,
}

/// The path lengths that are asked for; both ends refer to no variables, and are 1 if none are given.
#[derive(Clone, Debug, PartialEq)]
pub struct Depth {
    pub min: Expression,
    /// `None`: the same as `min`.
    pub max: Option<Expression>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Prune {
    /// `PRUNE variable = condition`
    pub variable: Option<Slot>,
    pub condition: Expression,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Graph {
    Named(Name),
    /// Edge collections, each with the direction that it is followed in.
    Edges(Vec<EdgeCollection>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct EdgeCollection {
    pub name: Name,
    /// `None`: as the traversal as a whole.
    pub direction: Option<Direction>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathsKind {
    /// `SHORTEST_PATH`; the variables are a vertex and an edge.
    Shortest,
    /// `ALL_SHORTEST_PATHS`; of this and those below the variable is a path.
    AllShortest,
    /// `K_SHORTEST_PATHS`
    KShortest,
    /// `K_PATHS`, the only kind with a depth.
    K,
}

/// `FOR variable, edge IN direction kind start TO target graph OPTIONS …`
#[derive(Clone, Debug, PartialEq)]
pub struct Paths {
    pub kind: PathsKind,
    pub variable: Slot,
    /// Of `SHORTEST_PATH` only.
    pub edge: Option<Slot>,
    pub depth: Option<Depth>,
    pub direction: Direction,
    pub start: Expression,
    pub target: Expression,
    pub graph: Graph,
    pub options: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SortKey {
    pub value: Expression,
    pub descending: bool,
}

/// After it only the variables that it declares are there (and those of the blocks around).
#[derive(Clone, Debug, PartialEq)]
pub struct Collect {
    pub groups: Vec<Group>,
    pub aggregates: Vec<Aggregate>,
    pub into: Option<CollectInto>,
    /// `WITH COUNT INTO variable`, never together with aggregates or `INTO`.
    pub count: Option<Slot>,
    pub options: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub variable: Slot,
    pub value: Expression,
}

/// `variable = FUNCTION(argument)` after `AGGREGATE`; the function is one that aggregates.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub variable: Slot,
    pub position: Position,
    /// In upper case.
    pub function: Arc<str>,
    pub argument: Expression,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CollectInto {
    pub variable: Slot,
    pub member: GroupMember,
}

/// What becomes of each row in the array of its group.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupMember {
    /// An object of all variables that there are.
    All(Vec<(Arc<str>, Slot)>),
    /// The same of those that are named after `KEEP`.
    Keep(Vec<(Arc<str>, Slot)>),
    /// `INTO variable = expression`
    Projection(Expression),
}

/// `WINDOW { preceding, following } AGGREGATE …` over rows, or with a value `WINDOW value WITH { … }` over a range.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub range: Option<Expression>,
    /// A number, "unbounded" or, of a range, a duration; null if it is not given.
    pub preceding: Value,
    pub following: Value,
    pub aggregates: Vec<Aggregate>,
}

/// `INSERT document INTO collection OPTIONS …`
#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    pub document: Expression,
    pub collection: Name,
    pub options: Value,
    /// The document that this one took the place of (option `overwriteMode`), or null.
    pub old: Slot,
    pub new: Slot,
}

/// `UPDATE document IN collection`, `UPDATE key WITH document IN collection`, and the same with `REPLACE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub replace: bool,
    pub key: Option<Expression>,
    pub document: Expression,
    pub collection: Name,
    pub options: Value,
    pub old: Slot,
    pub new: Slot,
}

/// `REMOVE key IN collection`
#[derive(Clone, Debug, PartialEq)]
pub struct Remove {
    pub key: Expression,
    pub collection: Name,
    pub options: Value,
    pub old: Slot,
}

/// `UPSERT search INSERT document UPDATE|REPLACE document IN collection`
#[derive(Clone, Debug, PartialEq)]
pub struct Upsert {
    pub search: UpsertSearch,
    pub insert: Expression,
    /// May read `old`.
    pub update: Expression,
    pub replace: bool,
    pub collection: Name,
    pub options: Value,
    /// The document that was found; null if none was.
    pub old: Slot,
    pub new: Slot,
}

#[derive(Clone, Debug, PartialEq)]
pub enum UpsertSearch {
    /// A document with all of these attributes.
    Example(Expression),
    /// `UPSERT FILTER condition`: a document for which this is true while it is in the slot.
    Filter { current: Slot, condition: Expression },
}

/// An expression; `position` is where its operator, or else its first token, stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    pub position: Position,
    pub kind: ExpressionKind,
    height: u16,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExpressionKind {
    Literal(Value),
    /// A bind parameter without a value.
    Parameter(Arc<str>),
    Variable(Slot),
    /// A name that is no variable's.
    Collection(Name),
    Array(Vec<Expression>),
    Object(Vec<Member>),
    /// `of.name`
    Attribute(Box<Expression>, Arc<str>),
    /// `of[place]`: an attribute if the place is a string, an element if it is a number.
    Index(Box<Expression>, Box<Expression>),
    /// `array[* …]`
    Expansion(Box<Expansion>),
    /// `array[? …]`
    Question(Box<Question>),
    Unary(UnaryOperator, Box<Expression>),
    Binary(BinaryOperator, Box<Expression>, Box<Expression>),
    /// `left ALL == right`: whether so many elements of the left side compare so with the right side.
    Quantified {
        quantifier: Box<Quantifier>,
        operator: Comparison,
        left: Box<Expression>,
        right: Box<Expression>,
    },
    /// `condition ? then : otherwise`; without `then`, `condition ?: otherwise`, it is the condition's value.
    Ternary {
        condition: Box<Expression>,
        then: Option<Box<Expression>>,
        otherwise: Box<Expression>,
    },
    /// The name is in upper case.
    Call(Arc<str>, Vec<Expression>),
    /// All of its rows, as an array.
    Subquery(Box<Block>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub name: MemberName,
    pub value: Expression,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MemberName {
    Fixed(Arc<str>),
    /// `[expression]: …`
    Computed(Expression),
}

/// `source[* FILTER filter LIMIT offset, count RETURN projection]` and the accesses that follow it.
///
/// For each element of the source (null stands for an empty array) that passes the filter, the projection's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Expansion {
    pub source: Expression,
    /// So many levels of arrays within arrays are first made one: 0 for `[*]`, 1 for `[**]`.
    pub flatten: u32,
    /// Holds the element; it is `CURRENT` in the three below.
    pub element: Slot,
    pub filter: Option<Expression>,
    pub limit: Option<(Option<Expression>, Expression)>,
    /// The element itself if there is no `RETURN`; with `.name` and `[place]` around it that follow the brackets:
    /// `a[*].b` is `a[* RETURN CURRENT.b]`.
    pub projection: Expression,
}

/// `source[? quantifier FILTER filter]`
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    pub source: Expression,
    pub element: Slot,
    /// `None`: at least one.
    pub quantifier: Option<Quantifier>,
    pub filter: Option<Expression>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Quantifier {
    All,
    Any,
    None,
    AtLeast(Expression),
    /// So many; with a range, between so many. Of [`Question`] only.
    Exactly(Expression),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOperator {
    Plus,
    Minus,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOperator {
    Or,
    And,
    Compare(Comparison),
    Like,
    NotLike,
    /// `=~`
    Matches,
    /// `!~`
    NotMatches,
    Range,
    Arithmetic(Arithmetic),
}

impl Expression {
    pub fn new(position: Position, kind: ExpressionKind) -> Expression {
        let height = kind.height();
        Expression { position, kind, height }
    }

    /// Whether a subquery in it changes data.
    pub fn writes(&self) -> bool {
        if let ExpressionKind::Subquery(block) = &self.kind {
            return block.writes();
        }
        let mut writes = false;
        self.kind.for_each_child(&mut |child| writes |= child.writes());
        writes
    }

    /// How many nodes stand above one another.
    pub fn height(&self) -> u16 {
        self.height
    }

    /// Its value, if that is clear without running anything: literals, and arrays and objects of them.
    pub fn constant(&self) -> Option<Value> {
        match &self.kind {
            ExpressionKind::Literal(value) => Some(value.clone()),
            ExpressionKind::Array(elements) => {
                let elements: Option<Vec<Value>> = elements.iter().map(Expression::constant).collect();
                elements.map(Value::from)
            }
            ExpressionKind::Object(members) => {
                let members: Option<super::value::Object> = members
                    .iter()
                    .map(|member| match &member.name {
                        MemberName::Fixed(name) => Some((name.clone(), member.value.constant()?)),
                        MemberName::Computed(_) => None,
                    })
                    .collect();
                members.map(Value::from)
            }
            ExpressionKind::Unary(UnaryOperator::Minus, operand) => match operand.constant()? {
                Value::Int(number) => number.checked_neg().map(Value::Int),
                Value::Double(number) => Some(Value::Double(-number)),
                _ => None,
            },
            _ => None,
        }
    }
}

impl ExpressionKind {
    fn height(&self) -> u16 {
        let mut below = 0;
        self.for_each_child(&mut |child| below = below.max(child.height));
        if let ExpressionKind::Subquery(block) = self {
            below = block.height();
        }
        below.saturating_add(1)
    }
}

impl Block {
    pub fn height(&self) -> u16 {
        let mut below = 0;
        for operation in &self.operations {
            operation.kind.for_each_expression(&mut |expression| below = below.max(expression.height));
        }
        below.saturating_add(1)
    }
}

/// Walks to what is right below, once for trees that are read and once for those that are changed.
macro_rules! walks {
    ($children:ident $expressions:ident $($mutable:ident)?) => {
        impl ExpressionKind {
            /// The expressions right below, in the order of the text; those in a subquery's operations not.
            pub fn $children<'a>(&'a $($mutable)? self, each: &mut impl FnMut(&'a $($mutable)? Expression)) {
                match self {
                    ExpressionKind::Literal(_)
                    | ExpressionKind::Parameter(_)
                    | ExpressionKind::Variable(_)
                    | ExpressionKind::Collection(_)
                    | ExpressionKind::Subquery(_) => {}
                    ExpressionKind::Array(elements) | ExpressionKind::Call(_, elements) => {
                        elements.into_iter().for_each(each)
                    }
                    ExpressionKind::Object(members) => {
                        for member in members {
                            if let MemberName::Computed(name) = & $($mutable)? member.name {
                                each(name);
                            }
                            each(& $($mutable)? member.value);
                        }
                    }
                    ExpressionKind::Attribute(of, _) | ExpressionKind::Unary(_, of) => each(of),
                    ExpressionKind::Index(left, right) | ExpressionKind::Binary(_, left, right) => {
                        each(left);
                        each(right);
                    }
                    ExpressionKind::Expansion(expansion) => {
                        let Expansion { source, filter, limit, projection, .. } = & $($mutable)? **expansion;
                        each(source);
                        filter.into_iter().for_each(&mut *each);
                        if let Some((offset, count)) = limit {
                            offset.into_iter().for_each(&mut *each);
                            each(count);
                        }
                        each(projection);
                    }
                    ExpressionKind::Question(question) => {
                        let Question { source, quantifier, filter, .. } = & $($mutable)? **question;
                        each(source);
                        if let Some(Quantifier::AtLeast(number) | Quantifier::Exactly(number)) = quantifier {
                            each(number);
                        }
                        filter.into_iter().for_each(each);
                    }
                    ExpressionKind::Quantified { quantifier, left, right, .. } => {
                        each(left);
                        if let Quantifier::AtLeast(number) | Quantifier::Exactly(number) = & $($mutable)? **quantifier {
                            each(number);
                        }
                        each(right);
                    }
                    ExpressionKind::Ternary { condition, then, otherwise } => {
                        each(condition);
                        if let Some(then) = then {
                            each(then);
                        }
                        each(otherwise);
                    }
                }
            }
        }

        impl OperationKind {
            /// The expressions of this operation, in the order of the text.
            pub fn $expressions<'a>(&'a $($mutable)? self, each: &mut impl FnMut(&'a $($mutable)? Expression)) {
                match self {
                    OperationKind::For { source: value, .. }
                    | OperationKind::Let { value, .. }
                    | OperationKind::Filter(value)
                    | OperationKind::Return { value, .. } => each(value),
                    OperationKind::Traversal(traversal) => {
                        let Traversal { depth, start, prune, .. } = & $($mutable)? **traversal;
                        if let Some(Depth { min, max }) = depth {
                            each(min);
                            max.into_iter().for_each(&mut *each);
                        }
                        each(start);
                        if let Some(prune) = prune {
                            each(& $($mutable)? prune.condition);
                        }
                    }
                    OperationKind::Paths(paths) => {
                        let Paths { depth, start, target, .. } = & $($mutable)? **paths;
                        if let Some(Depth { min, max }) = depth {
                            each(min);
                            max.into_iter().for_each(&mut *each);
                        }
                        each(start);
                        each(target);
                    }
                    OperationKind::Sort(keys) => keys.into_iter().for_each(|key| each(& $($mutable)? key.value)),
                    OperationKind::Limit { offset, count } => {
                        offset.into_iter().for_each(&mut *each);
                        each(count);
                    }
                    OperationKind::Collect(collect) => {
                        let Collect { groups, aggregates, into, .. } = & $($mutable)? **collect;
                        groups.into_iter().for_each(|group| each(& $($mutable)? group.value));
                        aggregates.into_iter().for_each(|aggregate| each(& $($mutable)? aggregate.argument));
                        if let Some(CollectInto { member: GroupMember::Projection(value), .. }) = into {
                            each(value);
                        }
                    }
                    OperationKind::Window(window) => {
                        let Window { range, aggregates, .. } = & $($mutable)? **window;
                        range.into_iter().for_each(&mut *each);
                        aggregates.into_iter().for_each(|aggregate| each(& $($mutable)? aggregate.argument));
                    }
                    OperationKind::Insert(insert) => each(& $($mutable)? insert.document),
                    OperationKind::Update(update) => {
                        let Update { key, document, .. } = & $($mutable)? **update;
                        key.into_iter().for_each(&mut *each);
                        each(document);
                    }
                    OperationKind::Remove(remove) => each(& $($mutable)? remove.key),
                    OperationKind::Upsert(upsert) => {
                        let Upsert { search, insert, update, .. } = & $($mutable)? **upsert;
                        match search {
                            UpsertSearch::Example(value) | UpsertSearch::Filter { condition: value, .. } => each(value),
                        }
                        each(insert);
                        each(update);
                    }
                }
            }
        }
    };
}

walks! { for_each_child for_each_expression }
walks! { for_each_child_mut for_each_expression_mut mut }
