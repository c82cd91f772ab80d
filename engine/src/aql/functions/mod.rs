//! The functions of AQL, one file for a page of ArangoDB's manual.
//!
//! A function gets its arguments as values and answers with a value. An argument of a wrong type is no error: the
//! answer is null and a warning (1542), as in ArangoDB. The clock, the random numbers and the store come from
//! [`Context`] only. No function panics, and none builds a value beyond [`VALUE_BYTES_MAX`].

mod array;
mod bit;
pub(crate) mod date;
mod document;
pub(crate) mod geo;
mod miscellaneous;
mod numeric;
mod string;
mod r#type;

use super::value::Value;
use crate::db::index::lookup::Lookup;
use crate::errors::{self, Error, Kind};
use crate::types::{Duration, Rng};
use regex::{Regex, RegexBuilder};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// No function builds a larger value (about).
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Of more warnings than this the first are kept, unless a query says otherwise.
pub const WARNINGS_MAX: usize = 10;

/// As many arguments as the query has.
pub const ANY: usize = usize::MAX;

/// For one compiled regular expression.
const REGEX_BYTES_MAX: usize = 1 << 20;
const REGEXES_KEPT: usize = 32;

pub struct Function {
    /// In capitals.
    pub name: &'static str,
    pub min_args: usize,
    pub max_args: usize,
    /// The same arguments give the same value, whenever and wherever.
    pub deterministic: bool,
    /// To be called by [`Function::invoke`], which checks the number of arguments.
    pub call: Call,
}

pub type Call = fn(&mut Context<'_>, &[Value]) -> Result<Value, Error>;

impl Function {
    pub fn invoke(&self, context: &mut Context<'_>, args: &[Value]) -> Result<Value, Error> {
        self.check_count(args.len())?;
        let caller = std::mem::replace(&mut context.function, self.name);
        let result = (self.call)(context, args);
        context.function = caller;
        result
    }

    /// Also for the parser, which knows the number before there are values.
    pub fn check_count(&self, count: usize) -> Result<(), Error> {
        if (self.min_args..=self.max_args).contains(&count) {
            return Ok(());
        }
        let kind = errors::QUERY_FUNCTION_ARGUMENT_NUMBER_MISMATCH;
        Err(kind.says(format!(
            "{} '{}()', expected number of arguments: minimum: {}, maximum: {}",
            kind.message, self.name, self.min_args, self.max_args
        )))
    }
}

/// What functions need of the store and the request; given by the executor.
///
/// A collection as an argument (`LENGTH(users)`, `COLLECTION_COUNT(users)`) is passed as its name.
pub trait Environment {
    fn database(&self) -> &str;
    /// Nobody if authentication is off.
    fn user(&self) -> Option<&str>;
    /// As `/_api/version` names it.
    fn version(&self) -> &str;
    /// None if the collection or the document is missing.
    fn document(&self, collection: &str, key: &str) -> Result<Option<Value>, Error>;
    fn count(&self, collection: &str) -> Result<u64, Error>;
    /// Documents of a collection, and how far away they are.
    fn look_up(&self, collection: &str, lookup: &Lookup) -> Result<Vec<(Value, f64)>, Error>;
    /// Of a collection that must be there; null if it has none.
    fn schema(&self, collection: &str) -> Result<Value, Error>;
    /// Fails if the query is to end; for functions that take long.
    fn go_on(&self) -> Result<(), Error> {
        Ok(())
    }
    /// Waits; false if that was cut short.
    fn sleep(&self, time: Duration) -> Result<bool, Error>;
    /// Ids and names.
    fn collections(&self) -> Result<Vec<(String, String)>, Error>;
}

/// What a query's functions share while it runs.
pub struct Context<'a> {
    pub environment: &'a dyn Environment,
    /// Milliseconds since 1970 when the query began: it sees one time.
    pub now_ms: i64,
    pub rng: Rng,
    pub warnings: Vec<Warning>,
    /// The first warning ends the query.
    pub fail_on_warning: bool,
    pub warnings_max: usize,
    /// The function that runs, for what it has to say.
    function: &'static str,
    /// Regular expressions that were compiled, by pattern and whether case is ignored.
    pub regexes: Regexes,
}

pub type Regexes = BTreeMap<(String, bool), Option<Regex>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub number: u32,
    pub message: String,
}

impl<'a> Context<'a> {
    pub fn new(environment: &'a dyn Environment, now_ms: i64, rng: Rng) -> Context<'a> {
        Context {
            environment,
            now_ms,
            rng,
            warnings: Vec::new(),
            fail_on_warning: false,
            warnings_max: WARNINGS_MAX,
            function: "",
            regexes: BTreeMap::new(),
        }
    }

    /// A compiled regular expression; none if the pattern is not valid or would take too much memory.
    pub fn regex(&mut self, pattern: &str, ignore_case: bool) -> Option<Regex> {
        let key = (pattern.to_owned(), ignore_case);
        if let Some(known) = self.regexes.get(&key) {
            return known.clone();
        }
        let mut builder = RegexBuilder::new(pattern);
        builder
            .case_insensitive(ignore_case)
            .crlf(true)
            .nest_limit(50)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX);
        let regex = builder.build().ok();
        if self.regexes.len() >= REGEXES_KEPT {
            self.regexes.clear();
        }
        self.regexes.insert(key, regex.clone());
        regex
    }

    /// Keeps the warning and gives null in place of a value.
    pub fn warn(&mut self, kind: Kind, message: impl Into<String>) -> Result<Value, Error> {
        let message = message.into();
        if self.fail_on_warning {
            return Err(kind.says(message));
        }
        if self.warnings.len() < self.warnings_max {
            self.warnings.push(Warning { number: kind.number, message });
        }
        Ok(Value::Null)
    }

    /// Null, and a warning with the kind's own message.
    pub fn warn_of(&mut self, kind: Kind) -> Result<Value, Error> {
        self.warn(kind, kind.message)
    }

    /// Null, and the warning that an argument has a wrong type.
    pub fn invalid_type(&mut self) -> Result<Value, Error> {
        let kind = errors::QUERY_FUNCTION_ARGUMENT_TYPE_MISMATCH;
        let message = format!("{} '{}()'", kind.message, self.function);
        self.warn(kind, message)
    }

    pub fn array_expected(&mut self) -> Result<Value, Error> {
        self.warn_of(errors::QUERY_ARRAY_EXPECTED)
    }
}

/// Refuses a value that would become too large.
pub fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes > VALUE_BYTES_MAX {
        return Err(errors::RESOURCE_LIMIT.because("a function's result would be too large"));
    }
    Ok(())
}

/// A function by its name, in whatever case.
pub fn lookup(name: &str) -> Option<&'static Function> {
    static BY_NAME: LazyLock<BTreeMap<&'static str, &'static Function>> =
        LazyLock::new(|| all().map(|function| (function.name, function)).collect());
    BY_NAME.get(name).or_else(|| BY_NAME.get(name.to_ascii_uppercase().as_str())).copied()
}

/// All functions, by page.
pub fn all() -> impl Iterator<Item = &'static Function> {
    let pages = [
        array::FUNCTIONS,
        bit::FUNCTIONS,
        date::FUNCTIONS,
        document::FUNCTIONS,
        geo::FUNCTIONS,
        miscellaneous::FUNCTIONS,
        numeric::FUNCTIONS,
        r#type::FUNCTIONS,
    ];
    pages.into_iter().flatten().chain(string::functions())
}

/// A function whose value rests on its arguments only.
pub(crate) const fn pure(name: &'static str, min_args: usize, max_args: usize, call: Call) -> Function {
    Function { name, min_args, max_args, deterministic: true, call }
}

/// A function that looks at the store, the clock or the random numbers, or that has something to say.
pub(crate) const fn impure(name: &'static str, min_args: usize, max_args: usize, call: Call) -> Function {
    Function { name, min_args, max_args, deterministic: false, call }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aql::testing::{any_value, with_context};
    use proptest::prelude::*;

    #[test]
    fn each_function_is_there_once_and_found_in_any_case() {
        let names: Vec<&str> = all().map(|function| function.name).collect();
        let distinct: std::collections::BTreeSet<&&str> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(names.iter().all(|name| lookup(&name.to_lowercase()).is_some_and(|function| function.name == *name)));
        assert!(lookup("NOTHING").is_none());
    }

    #[test]
    fn a_warning_can_end_the_query_and_few_are_kept() {
        let (result, _) = with_context(|context| {
            context.fail_on_warning = true;
            lookup("FIRST").unwrap().invoke(context, &[Value::Null])
        });
        assert_eq!(result.unwrap_err().kind, errors::QUERY_ARRAY_EXPECTED);
        let (_, warnings) = with_context(|context| {
            (0..100).for_each(|_| drop(lookup("POP").unwrap().invoke(context, &[Value::Int(1)])));
            context.warnings[0].message.clone()
        });
        assert_eq!(warnings.len(), WARNINGS_MAX);
    }

    proptest! {
        #[test]
        fn no_function_panics(args in prop::collection::vec(any_value(), 8)) {
            for function in all() {
                let most = function.max_args.min(args.len());
                for count in function.min_args..=most {
                    let call = |args: &[Value]| with_context(|context| function.invoke(context, args));
                    let first = call(&args[..count]);
                    // The same again, whether by the same seed or because nothing else is looked at.
                    prop_assert_eq!(first, call(&args[..count]), "{}", function.name);
                }
            }
        }
    }
}
