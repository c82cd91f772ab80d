//! JSON Schema, draft 4: rules that a value fits or not.
//!
//! A rule is read once into nodes that refer to one another by number, so that a `$ref` may lead back to where it
//! stands in. References lead to places in the rule itself and nowhere else. What a rule may cost is bounded: its
//! nodes, its patterns, and the steps that one value may take.

use crate::aql::value::{Value, compare};
use regex::{Regex, RegexBuilder};
use serde_json::Value as Json;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Schemas within a rule.
const NODES_MAX: usize = 10_000;
/// Patterns within a rule, and the memory of one that is compiled.
const PATTERNS_MAX: usize = 200;
const PATTERN_BYTES_MAX: usize = 1 << 18;
/// Values and schemas looked at for one document, and within one another.
const STEPS_MAX: usize = 2_000_000;
const DEPTH_MAX: usize = 250;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fits,
    FitsNot,
    /// It took more steps than it may.
    TooMuch,
}

#[derive(Debug)]
pub struct Rule {
    nodes: Vec<Node>,
    root: usize,
}

#[derive(Debug, Default)]
struct Node {
    /// Everything else is ignored beside it.
    reference: Option<usize>,
    kinds: Option<Vec<Kind>>,
    values: Option<Vec<Value>>,
    multiple_of: Option<Value>,
    /// A bound, and whether it is excluded itself.
    maximum: Option<(Value, bool)>,
    minimum: Option<(Value, bool)>,
    length: Range,
    pattern: Option<Regex>,
    format: Option<Format>,
    items: Option<Items>,
    more_items: Others,
    count: Range,
    unique: bool,
    members: Range,
    required: Vec<String>,
    properties: BTreeMap<String, usize>,
    patterns: Vec<(Regex, usize)>,
    more_properties: Others,
    dependencies: Vec<(String, Dependency)>,
    all_of: Vec<usize>,
    any_of: Option<Vec<usize>>,
    one_of: Option<Vec<usize>>,
    not: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    min: u64,
    max: u64,
}

impl Default for Range {
    fn default() -> Range {
        Range { min: 0, max: u64::MAX }
    }
}

#[derive(Debug)]
enum Items {
    All(usize),
    /// One after the other.
    Each(Vec<usize>),
}

/// Elements and members that nothing else speaks of.
#[derive(Debug, Default)]
enum Others {
    #[default]
    Allowed,
    Forbidden,
    Fit(usize),
}

#[derive(Debug)]
enum Dependency {
    Members(Vec<String>),
    Fits(usize),
}

#[derive(Clone, Copy, Debug)]
enum Format {
    DateTime,
    Email,
    Hostname,
    Ipv4,
    Ipv6,
    Uri,
}

// ---- reading --------------------------------------------------------------------------------------------------------

type Read<T> = Result<T, String>;

struct Reading<'j> {
    whole: &'j Json,
    nodes: Vec<Node>,
    patterns: usize,
    /// Nodes of places that a reference leads to.
    places: BTreeMap<String, usize>,
    depth: usize,
}

impl Rule {
    /// In words, what is wrong with it.
    pub fn read(json: &Json) -> Read<Rule> {
        let mut reading = Reading { whole: json, nodes: Vec::new(), patterns: 0, places: BTreeMap::new(), depth: 0 };
        let root = reading.at("#", json)?;
        Ok(Rule { nodes: reading.nodes, root })
    }
}

impl<'j> Reading<'j> {
    /// The schema at a place that references may lead to.
    fn at(&mut self, place: &str, json: &'j Json) -> Read<usize> {
        if let Some(known) = self.places.get(place) {
            return Ok(*known);
        }
        let number = self.reserve()?;
        self.places.insert(place.to_owned(), number);
        self.nodes[number] = self.node(json)?;
        Ok(number)
    }

    fn schema(&mut self, json: &'j Json) -> Read<usize> {
        let number = self.reserve()?;
        self.nodes[number] = self.node(json)?;
        Ok(number)
    }

    fn reserve(&mut self) -> Read<usize> {
        if self.nodes.len() >= NODES_MAX {
            return Err(format!("more than {NODES_MAX} schemas"));
        }
        self.nodes.push(Node::default());
        Ok(self.nodes.len() - 1)
    }

    fn node(&mut self, json: &'j Json) -> Read<Node> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("too deep".into());
        }
        let node = self.keywords(json);
        self.depth -= 1;
        node
    }

    fn keywords(&mut self, json: &'j Json) -> Read<Node> {
        let members = json.as_object().ok_or("a schema must be an object")?;
        let mut node = Node::default();
        if let Some(reference) = members.get("$ref") {
            node.reference = Some(self.referred(reference)?);
            return Ok(node);
        }
        for (name, value) in members {
            self.keyword(&mut node, name, value).map_err(|what| format!("'{name}': {what}"))?;
        }
        for (bound, flag) in [(&mut node.maximum, "exclusiveMaximum"), (&mut node.minimum, "exclusiveMinimum")] {
            let excluded = members.get(flag).map_or(Some(false), Json::as_bool);
            let excluded = excluded.ok_or_else(|| format!("'{flag}' must be a boolean"))?;
            match bound {
                Some((_, exclusive)) => *exclusive = excluded,
                None if members.contains_key(flag) => return Err(format!("'{flag}' without a bound")),
                None => {}
            }
        }
        Ok(node)
    }

    fn keyword(&mut self, node: &mut Node, name: &str, value: &'j Json) -> Read<()> {
        match name {
            "type" => node.kinds = Some(kinds(value)?),
            "enum" => {
                let values = value.as_array().filter(|values| !values.is_empty()).ok_or("it must be an array")?;
                node.values = Some(values.iter().map(own).collect());
            }
            "multipleOf" => {
                let positive = value.as_f64().is_some_and(|number| number > 0.0);
                node.multiple_of = Some(positive.then(|| own(value)).ok_or("it must be a number above 0")?);
            }
            "maximum" => node.maximum = Some((number(value)?, false)),
            "minimum" => node.minimum = Some((number(value)?, false)),
            "maxLength" => node.length.max = count(value)?,
            "minLength" => node.length.min = count(value)?,
            "pattern" => node.pattern = Some(self.pattern(value.as_str().ok_or("it must be a string")?)?),
            "format" => node.format = format_named(value.as_str().ok_or("it must be a string")?),
            "items" if value.is_array() => node.items = Some(Items::Each(self.schemas(value)?)),
            "items" => node.items = Some(Items::All(self.schema(value)?)),
            "additionalItems" => node.more_items = self.others(value)?,
            "maxItems" => node.count.max = count(value)?,
            "minItems" => node.count.min = count(value)?,
            "uniqueItems" => node.unique = value.as_bool().ok_or("it must be a boolean")?,
            "maxProperties" => node.members.max = count(value)?,
            "minProperties" => node.members.min = count(value)?,
            "required" => node.required = names(value)?,
            "properties" => {
                for (name, schema) in object(value)? {
                    let schema = self.schema(schema)?;
                    node.properties.insert(name.clone(), schema);
                }
            }
            "patternProperties" => {
                for (pattern, schema) in object(value)? {
                    let pattern = self.pattern(pattern)?;
                    node.patterns.push((pattern, self.schema(schema)?));
                }
            }
            "additionalProperties" => node.more_properties = self.others(value)?,
            "dependencies" => {
                for (name, dependency) in object(value)? {
                    let dependency = match dependency {
                        Json::Array(_) => Dependency::Members(names(dependency)?),
                        schema => Dependency::Fits(self.schema(schema)?),
                    };
                    node.dependencies.push((name.clone(), dependency));
                }
            }
            "allOf" => node.all_of = self.schemas(value)?,
            "anyOf" => node.any_of = Some(self.schemas(value)?),
            "oneOf" => node.one_of = Some(self.schemas(value)?),
            "not" => node.not = Some(self.schema(value)?),
            // What stands here is read when something refers to it; but it must be what it should be.
            "definitions" => {
                for (_, schema) in object(value)? {
                    self.schema(schema)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn referred(&mut self, reference: &Json) -> Read<usize> {
        let place = reference.as_str().ok_or("'$ref' must be a string")?;
        let pointer = place.strip_prefix('#').ok_or_else(|| format!("'$ref' leads outside: {place}"))?;
        let whole = self.whole;
        let found = whole.pointer(pointer).ok_or_else(|| format!("'$ref' leads nowhere: {place}"))?;
        self.at(place, found)
    }

    fn schemas(&mut self, value: &'j Json) -> Read<Vec<usize>> {
        let schemas = value.as_array().filter(|schemas| !schemas.is_empty()).ok_or("it must be an array of schemas")?;
        schemas.iter().map(|schema| self.schema(schema)).collect()
    }

    fn others(&mut self, value: &'j Json) -> Read<Others> {
        Ok(match value {
            Json::Bool(true) => Others::Allowed,
            Json::Bool(false) => Others::Forbidden,
            schema => Others::Fit(self.schema(schema)?),
        })
    }

    fn pattern(&mut self, text: &str) -> Read<Regex> {
        self.patterns += 1;
        if self.patterns > PATTERNS_MAX {
            return Err(format!("more than {PATTERNS_MAX} patterns"));
        }
        let mut builder = RegexBuilder::new(text);
        builder.nest_limit(50).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        builder.build().map_err(|_| format!("'{text}' is no pattern, or too large"))
    }
}

fn own(json: &Json) -> Value {
    Value::parse_stored(&json.to_string())
}

fn number(value: &Json) -> Read<Value> {
    if value.is_number() { Ok(own(value)) } else { Err("it must be a number".into()) }
}

fn count(value: &Json) -> Read<u64> {
    value.as_u64().ok_or_else(|| "it must be a whole number from 0".into())
}

fn object(value: &Json) -> Read<&serde_json::Map<String, Json>> {
    value.as_object().ok_or_else(|| "it must be an object".into())
}

fn names(value: &Json) -> Read<Vec<String>> {
    let name = |name: &Json| name.as_str().map(str::to_owned);
    let names = value.as_array().and_then(|names| names.iter().map(name).collect());
    names.ok_or_else(|| "it must be an array of strings".into())
}

fn kinds(value: &Json) -> Read<Vec<Kind>> {
    let kind = |name: &Json| {
        Ok(match name.as_str().unwrap_or_default() {
            "null" => Kind::Null,
            "boolean" => Kind::Boolean,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "string" => Kind::String,
            "array" => Kind::Array,
            "object" => Kind::Object,
            _ => return Err(format!("{name} is no type")),
        })
    };
    match value {
        Json::Array(names) if !names.is_empty() => names.iter().map(kind).collect(),
        name => Ok(vec![kind(name)?]),
    }
}

/// Formats that are not known say nothing.
fn format_named(name: &str) -> Option<Format> {
    Some(match name {
        "date-time" => Format::DateTime,
        "email" => Format::Email,
        "hostname" => Format::Hostname,
        "ipv4" => Format::Ipv4,
        "ipv6" => Format::Ipv6,
        "uri" => Format::Uri,
        _ => return None,
    })
}

// ---- judging --------------------------------------------------------------------------------------------------------

/// The judging ends early.
struct Exhausted;

type Judged = Result<bool, Exhausted>;

struct Judging<'r> {
    nodes: &'r [Node],
    steps: usize,
    depth: usize,
}

impl Rule {
    pub fn judge(&self, value: &Value) -> Verdict {
        let mut judging = Judging { nodes: &self.nodes, steps: 0, depth: 0 };
        match judging.fits(self.root, value) {
            Ok(true) => Verdict::Fits,
            Ok(false) => Verdict::FitsNot,
            Err(Exhausted) => Verdict::TooMuch,
        }
    }
}

impl Judging<'_> {
    fn take(&mut self, steps: usize) -> Result<(), Exhausted> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX { Err(Exhausted) } else { Ok(()) }
    }

    fn fits(&mut self, number: usize, value: &Value) -> Judged {
        self.take(1)?;
        if self.depth >= DEPTH_MAX {
            return Err(Exhausted);
        }
        self.depth += 1;
        let judged = self.node(number, value);
        self.depth -= 1;
        judged
    }

    fn node(&mut self, number: usize, value: &Value) -> Judged {
        let node = &self.nodes[number];
        if let Some(reference) = node.reference {
            return self.fits(reference, value);
        }
        let kind_fits = node.kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|kind| is_of(*kind, value)));
        let listed = node.values.as_ref().is_none_or(|values| values.iter().any(|one| order(one, value).is_eq()));
        if !kind_fits || !listed {
            return Ok(false);
        }
        let part = match value {
            Value::Int(_) | Value::Double(_) => number_fits(node, value),
            Value::String(text) => self.text_fits(node, text)?,
            Value::Array(elements) => self.array_fits(node, elements)?,
            Value::Object(object) => self.object_fits(node, object)?,
            Value::Null | Value::Bool(_) => true,
        };
        Ok(part && self.combined(node, value)?)
    }

    fn combined(&mut self, node: &Node, value: &Value) -> Judged {
        for schema in &node.all_of {
            if !self.fits(*schema, value)? {
                return Ok(false);
            }
        }
        if let Some(schemas) = &node.any_of {
            let mut any = false;
            for schema in schemas {
                any = any || self.fits(*schema, value)?;
            }
            if !any {
                return Ok(false);
            }
        }
        if let Some(schemas) = &node.one_of {
            let mut hits = 0;
            for schema in schemas {
                hits += usize::from(self.fits(*schema, value)?);
            }
            if hits != 1 {
                return Ok(false);
            }
        }
        match node.not {
            Some(schema) => Ok(!self.fits(schema, value)?),
            None => Ok(true),
        }
    }

    fn text_fits(&mut self, node: &Node, text: &str) -> Judged {
        self.take(text.len() / 64)?;
        Ok(node.length.holds(text.chars().count())
            && node.pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
            && node.format.is_none_or(|format| format.fits(text)))
    }

    fn array_fits(&mut self, node: &Node, elements: &[Value]) -> Judged {
        if !node.count.holds(elements.len()) {
            return Ok(false);
        }
        if node.unique {
            self.take(elements.iter().map(|element| 1 + element.size_bytes() / 64).sum())?;
            let mut sorted: Vec<&Value> = elements.iter().collect();
            sorted.sort_by(|a, b| order(a, b));
            if sorted.windows(2).any(|pair| order(pair[0], pair[1]).is_eq()) {
                return Ok(false);
            }
        }
        for (place, element) in elements.iter().enumerate() {
            let schema = match &node.items {
                None => break,
                Some(Items::All(schema)) => *schema,
                Some(Items::Each(schemas)) => match (schemas.get(place), &node.more_items) {
                    (Some(schema), _) | (None, Others::Fit(schema)) => *schema,
                    (None, Others::Allowed) => break,
                    (None, Others::Forbidden) => return Ok(false),
                },
            };
            if !self.fits(schema, element)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn object_fits(&mut self, node: &Node, object: &crate::aql::value::Object) -> Judged {
        self.take(node.required.len())?;
        if !node.members.holds(object.len()) || node.required.iter().any(|name| object.get(name).is_none()) {
            return Ok(false);
        }
        for (name, value) in object.iter() {
            let mut spoken_of = false;
            if let Some(schema) = node.properties.get(&**name) {
                spoken_of = true;
                if !self.fits(*schema, value)? {
                    return Ok(false);
                }
            }
            for (pattern, schema) in &node.patterns {
                self.take(1)?;
                if pattern.is_match(name) {
                    spoken_of = true;
                    if !self.fits(*schema, value)? {
                        return Ok(false);
                    }
                }
            }
            match &node.more_properties {
                Others::Forbidden if !spoken_of => return Ok(false),
                Others::Fit(schema) if !spoken_of && !self.fits(*schema, value)? => return Ok(false),
                _ => {}
            }
        }
        for (name, dependency) in &node.dependencies {
            self.take(1)?;
            if object.get(name).is_none() {
                continue;
            }
            let holds = match dependency {
                Dependency::Members(names) => names.iter().all(|name| object.get(name).is_some()),
                Dependency::Fits(schema) => self.fits(*schema, &Value::Object(object.clone().into()))?,
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Range {
    fn holds(self, count: usize) -> bool {
        (self.min..=self.max).contains(&(count as u64))
    }
}

fn is_of(kind: Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Null, Value::Null)
        | (Kind::Boolean, Value::Bool(_))
        | (Kind::Integer | Kind::Number, Value::Int(_))
        | (Kind::Number, Value::Double(_))
        | (Kind::String, Value::String(_))
        | (Kind::Array, Value::Array(_))
        | (Kind::Object, Value::Object(_)) => true,
        // An integer beyond 2^63.
        (Kind::Integer, Value::Double(number)) => number.fract() == 0.0 && number.abs() >= 9.2e18,
        _ => false,
    }
}

fn number_fits(node: &Node, value: &Value) -> bool {
    let within = |bound: &Option<(Value, bool)>, side: Ordering| {
        bound.as_ref().is_none_or(|(bound, excluded)| match compare(value, bound) {
            Ordering::Equal => !excluded,
            other => other == side,
        })
    };
    let multiple = match (&node.multiple_of, value) {
        (Some(Value::Int(of)), Value::Int(number)) => number % of == 0,
        (Some(of), _) => {
            let times = value.as_double().unwrap_or_default() / of.as_double().unwrap_or(1.0);
            (times - times.round()).abs() <= 1e-9 * times.abs().max(1.0)
        }
        (None, _) => true,
    };
    multiple && within(&node.maximum, Ordering::Less) && within(&node.minimum, Ordering::Greater)
}

/// An order in which exactly those values are equal that are the same JSON; in AQL's, null equals what is missing.
fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            let first = a.iter().zip(b.iter()).map(|(a, b)| order(a, b)).find(|order| order.is_ne());
            first.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let (mine, others) = (a.sorted(), b.sorted());
            let pairs = mine.iter().zip(&others);
            let first = pairs.map(|(a, b)| a.0.cmp(b.0).then_with(|| order(a.1, b.1))).find(|order| order.is_ne());
            first.unwrap_or_else(|| mine.len().cmp(&others.len()))
        }
        _ => compare(a, b),
    }
}

impl Format {
    fn fits(self, text: &str) -> bool {
        match self {
            Format::DateTime => is_date_time(text),
            Format::Email => text.rsplit_once('@').is_some_and(|(name, host)| !name.is_empty() && is_hostname(host)),
            Format::Hostname => is_hostname(text),
            Format::Ipv4 => text.parse::<std::net::Ipv4Addr>().is_ok(),
            Format::Ipv6 => text.parse::<std::net::Ipv6Addr>().is_ok(),
            Format::Uri => text.split_once(':').is_some_and(|(scheme, rest)| {
                let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
                let begins = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
                begins && scheme.chars().all(legal) && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
            }),
        }
    }
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// `2020-01-31T23:59:60.5Z`, as RFC 3339 has it.
fn is_date_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    let shaped = bytes.len() >= 20
        && text.is_ascii()
        && separators.iter().all(|(at, separator)| bytes[*at] == *separator)
        && matches!(bytes[10], b'T' | b't')
        && (0..19).all(|at| bytes[at].is_ascii_digit() || matches!(at, 4 | 7 | 10 | 13 | 16));
    if !shaped {
        return false;
    }
    let number = |from: usize| text[from..from + 2].parse::<u32>().unwrap_or(u32::MAX);
    let rest =
        text[19..].strip_prefix('.').map_or(&text[19..], |rest| rest.trim_start_matches(|c| char::is_ascii_digit(&c)));
    let zone = rest.as_bytes();
    let offset = zone.len() == 6 && matches!(zone[0], b'+' | b'-') && zone[3] == b':';
    let offset = offset && [1, 2, 4, 5].iter().all(|at| zone[*at].is_ascii_digit());
    (1..=12).contains(&number(5))
        && (1..=31).contains(&number(8))
        && number(11) <= 23
        && number(14) <= 59
        && number(17) <= 60
        && (rest.eq_ignore_ascii_case("z") || offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(rule: &str, value: &str) -> Verdict {
        let rule = Rule::read(&serde_json::from_str(rule).unwrap()).unwrap_or_else(|what| panic!("{rule}: {what}"));
        rule.judge(&Value::parse(value.as_bytes()).unwrap())
    }

    /// A rule, values that fit it, values that do not.
    const TABLE: &[(&str, &[&str], &[&str])] = &[
        ("{}", &["1", "null", "{}"], &[]),
        (r#"{"type":"integer"}"#, &["1", "-3", "9223372036854775808"], &["1.5", "1.0", r#""1""#, "null"]),
        (r#"{"type":"number"}"#, &["1", "1.5"], &[r#""1""#, "true"]),
        (r#"{"type":["string","null"]}"#, &[r#""a""#, "null"], &["1", "[]"]),
        (r#"{"type":"boolean"}"#, &["true"], &["0"]),
        (
            r#"{"enum":[1,"a",{"x":null},[null]]}"#,
            &["1", "1.0", r#""a""#, r#"{"x":null}"#, "[null]"],
            &["{}", "[]", "2"],
        ),
        (r#"{"multipleOf":2}"#, &["4", "0", "-2", r#""a""#], &["3", "2.5"]),
        (r#"{"multipleOf":0.1}"#, &["0.3", "1", "4.7"], &["0.35"]),
        (r#"{"maximum":3}"#, &["3", "-1", "2.9"], &["3.1", "4"]),
        (r#"{"maximum":3,"exclusiveMaximum":true}"#, &["2"], &["3", "3.0"]),
        (r#"{"minimum":3}"#, &["3"], &["2"]),
        (r#"{"minimum":3,"exclusiveMinimum":true}"#, &["3.1"], &["3"]),
        (r#"{"minLength":2,"maxLength":3}"#, &[r#""äö""#, r#""abc""#, "1"], &[r#""a""#, r#""abcd""#]),
        (r#"{"pattern":"b+"}"#, &[r#""abbc""#, "3"], &[r#""ac""#]),
        (r#"{"items":{"type":"integer"}}"#, &["[]", "[1,2]", "{}"], &[r#"[1,"a"]"#]),
        (r#"{"items":[{"type":"integer"}]}"#, &["[]", r#"[1,"a"]"#], &[r#"["a"]"#]),
        (r#"{"items":[{}],"additionalItems":false}"#, &["[]", "[1]"], &["[1,2]"]),
        (r#"{"items":[{}],"additionalItems":{"type":"null"}}"#, &["[1,null]"], &["[1,2]"]),
        (r#"{"additionalItems":false}"#, &["[1,2]"], &[]),
        (r#"{"minItems":1,"maxItems":2}"#, &["[1]", "[1,2]"], &["[]", "[1,2,3]"]),
        (r#"{"uniqueItems":true}"#, &["[1,2]", "[{},{\"a\":null}]"], &["[1,1.0]", r#"[{"a":1,"b":2},{"b":2,"a":1}]"#]),
        (r#"{"minProperties":1,"maxProperties":1}"#, &[r#"{"a":1}"#], &["{}", r#"{"a":1,"b":2}"#]),
        (r#"{"required":["a"]}"#, &[r#"{"a":null}"#, "1"], &["{}"]),
        (r#"{"properties":{"a":{"type":"string"}}}"#, &["{}", r#"{"a":"x","b":1}"#], &[r#"{"a":1}"#]),
        (r#"{"patternProperties":{"^n":{"type":"number"}}}"#, &[r#"{"n1":1,"x":"y"}"#], &[r#"{"n1":"1"}"#]),
        (
            r#"{"properties":{"a":{}},"patternProperties":{"^n":{}},"additionalProperties":false}"#,
            &[r#"{"a":1,"n":2}"#],
            &[r#"{"b":1}"#],
        ),
        (r#"{"additionalProperties":{"type":"string"}}"#, &[r#"{"b":"x"}"#], &[r#"{"b":1}"#]),
        (r#"{"dependencies":{"a":["b"]}}"#, &["{}", r#"{"a":1,"b":2}"#], &[r#"{"a":1}"#]),
        (r#"{"dependencies":{"a":{"required":["b"]}}}"#, &[r#"{"b":1}"#], &[r#"{"a":1}"#]),
        (r#"{"allOf":[{"minimum":1},{"maximum":2}]}"#, &["1"], &["0", "3"]),
        (r#"{"anyOf":[{"type":"string"},{"minimum":3}]}"#, &[r#""a""#, "4"], &["1"]),
        (r#"{"oneOf":[{"multipleOf":2},{"multipleOf":3}]}"#, &["2", "9"], &["6", "1"]),
        (r#"{"not":{"type":"string"}}"#, &["1"], &[r#""a""#]),
        (r##"{"definitions":{"n":{"type":"number"}},"items":{"$ref":"#/definitions/n"}}"##, &["[1]"], &[r#"["a"]"#]),
        (
            r##"{"properties":{"next":{"$ref":"#"}},"additionalProperties":false}"##,
            &["{}", r#"{"next":{"next":{}}}"#],
            &[r#"{"next":{"other":1}}"#],
        ),
        (
            r#"{"format":"date-time"}"#,
            &[r#""2020-02-03T04:05:06.7+01:00""#, "1"],
            &[r#""2020-02-03""#, r#""2020-13-03T04:05:06Z""#],
        ),
        (r#"{"format":"email"}"#, &[r#""a@b.c""#], &[r#""a""#, r#""@b""#]),
        (r#"{"format":"ipv4"}"#, &[r#""1.2.3.4""#], &[r#""1.2.3""#]),
        (r#"{"format":"ipv6"}"#, &[r#""::1""#], &[r#""1.2.3.4""#]),
        (r#"{"format":"hostname"}"#, &[r#""a-b.c""#], &[r#""-a""#, r#""a..b""#]),
        (r#"{"format":"uri"}"#, &[r#""http://a/b""#, r#""urn:x""#], &[r#""//a""#, r#""a b:c""#]),
        (r#"{"format":"whatever","title":"t","$schema":"x"}"#, &[r#""a""#], &[]),
    ];

    #[test]
    fn values_fit_or_not() {
        for (rule, fit, fit_not) in TABLE {
            for value in *fit {
                assert_eq!(judge(rule, value), Verdict::Fits, "{rule} and {value}");
            }
            for value in *fit_not {
                assert_eq!(judge(rule, value), Verdict::FitsNot, "{rule} and {value}");
            }
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for rule in [
            r#"{"type":"text"}"#,
            r#"{"type":3}"#,
            r#"{"enum":[]}"#,
            r#"{"multipleOf":0}"#,
            r#"{"maxLength":-1}"#,
            r#"{"pattern":"("}"#,
            r#"{"pattern":"(a{1000}){1000}"}"#,
            r#"{"items":3}"#,
            r#"{"required":"a"}"#,
            r#"{"properties":{"a":1}}"#,
            r#"{"allOf":[]}"#,
            r#"{"exclusiveMinimum":true}"#,
            r#"{"$ref":"http://elsewhere/x"}"#,
            r##"{"$ref":"#/nowhere"}"##,
            r#"{"definitions":{"a":{"type":"text"}}}"#,
            "[]",
        ] {
            assert!(Rule::read(&serde_json::from_str(rule).unwrap()).is_err(), "{rule}");
        }
    }

    #[test]
    fn nothing_goes_on_for_ever() {
        assert_eq!(judge(r##"{"$ref":"#"}"##, "1"), Verdict::TooMuch);
        assert_eq!(judge(r##"{"not":{"$ref":"#"}}"##, "1"), Verdict::TooMuch);
        let doubling = r##"{"allOf":[{"$ref":"#/definitions/a"},{"$ref":"#/definitions/a"}],
            "definitions":{"a":{"anyOf":[{"not":{}},{"$ref":"#"},{"$ref":"#"}]}}}"##;
        assert_eq!(judge(doubling, "1"), Verdict::TooMuch);
    }
}
