//! `/_api/analyzer`: definitions of analyzers. Nothing is analyzed with them.
//!
//! Those that every database has are a table here; the others are documents of `_analyzers`, as ArangoDB keeps them.
//! Where a database says nothing of a name, `_system`'s counts with `::` in front of it.

use super::*;
use crate::db::rows::DOCUMENT_KEY_BYTES_MAX;
use serde_json::json;

const ANALYZERS: &str = "_analyzers";
const NAME_MAX: usize = 254;
const FEATURES: [&str; 4] = ["frequency", "norm", "position", "offset"];
/// ArangoDB's languages of ready-made `text` analyzers.
const LANGUAGES: [&str; 12] = ["de", "en", "es", "fi", "fr", "it", "nl", "no", "pt", "ru", "sv", "zh"];

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Analyzer {
    name: String,
    kind: String,
    properties: Value,
    features: Vec<String>,
}

impl Analyzer {
    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "properties": self.properties,
            "features": self.features,
        })
    }

    /// Of a database's collection; what is no analyzer, whoever wrote it, is left out.
    fn of(document: &Document, database: &str) -> Option<Analyzer> {
        let body: Value = serde_json::from_slice(&document.body).ok()?;
        let text = |name: &str| Some(body.get(name)?.as_str()?.to_owned());
        let features = body.get("features").and_then(Value::as_array).into_iter().flatten();
        Some(Analyzer {
            name: format!("{database}::{}", text("name")?),
            kind: text("type")?,
            properties: body.get("properties").cloned().unwrap_or_else(|| json!({})),
            features: features.filter_map(|feature| feature.as_str().map(str::to_owned)).collect(),
        })
    }
}

fn built_in() -> Vec<Analyzer> {
    let features = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let identity = Analyzer {
        name: "identity".into(),
        kind: "identity".into(),
        properties: json!({}),
        features: features(&["norm", "frequency"]),
    };
    let text = LANGUAGES.iter().map(|language| Analyzer {
        name: format!("text_{language}"),
        kind: "text".into(),
        properties: json!({
            "locale": language,
            "case": "lower",
            "stopwords": [],
            "accent": false,
            "stemming": true,
        }),
        features: features(&["frequency", "norm", "position"]),
    });
    std::iter::once(identity).chain(text).collect()
}

/// The collection of a database that has its analyzers.
fn collection(call: &Call<'_, '_>, database: u64) -> Result<CollectionRow, Failure> {
    Ok(call.reader().collection(database, ANALYZERS)?.ok_or(errors::DATA_SOURCE_NOT_FOUND)?)
}

/// `name`, `::name` (of `_system`) or `database::name`: the database and the name in it.
fn split<'n>(call: &Call<'_, '_>, name: &'n str) -> (String, &'n str) {
    match name.rsplit_once("::") {
        Some(("", name)) => (SYSTEM.to_owned(), name),
        Some((database, name)) => (database.to_owned(), name),
        None => (call.database.name.clone(), name),
    }
}

/// An analyzer as this database knows it. Another database's is none, unless that is `_system`.
pub(super) fn find(call: &Call<'_, '_>, name: &str) -> Result<Option<Analyzer>, Failure> {
    if let Some(found) = built_in().into_iter().find(|analyzer| analyzer.name == name) {
        return Ok(Some(found));
    }
    let (database, short) = split(call, name);
    if database != call.database.name && database != SYSTEM {
        return Ok(None);
    }
    let Some(row) = call.reader().database(&database)? else { return Ok(None) };
    let document = find_document(&call.reader(), &collection(call, row.id)?, short)?;
    Ok(document.and_then(|document| Analyzer::of(&document, &database)))
}

/// Refuses the name of an analyzer that is not there.
pub(super) fn check_known(call: &Call<'_, '_>, name: &str) -> Result<(), Failure> {
    match find(call, name)? {
        Some(_) => Ok(()),
        None => Err(errors::BAD_PARAMETER.because(format!("unknown analyzer '{name}'")).into()),
    }
}

fn not_found(name: &str) -> Failure {
    let message = format!("unable to find analyzer '{name}'");
    errors::DOCUMENT_NOT_FOUND.says(message).into()
}

pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    call.needs_database(Level::Ro)?;
    let mut found = built_in();
    let mut databases = vec![(call.database.id, call.database.name.clone())];
    if call.database.name != SYSTEM
        && let Some(system) = call.reader().database(SYSTEM)?
    {
        databases.push((system.id, system.name));
    }
    for (id, name) in databases {
        for_each_document(&call.reader(), &collection(call, id)?, |document| {
            found.extend(Analyzer::of(&document, &name));
            Ok(true)
        })?;
    }
    ok(200, found.iter().map(Analyzer::json).collect())
}

pub(super) fn get(call: &mut Call<'_, '_>) -> Answer {
    call.needs_database(Level::Ro)?;
    let name = call.open[0].clone();
    let found = find(call, &name)?.ok_or_else(|| not_found(&name))?;
    ok(200, found.json())
}

pub(super) fn create(call: &mut Call<'_, '_>) -> Answer {
    let body = call.object()?;
    let Some(given) = body.get("name").and_then(Value::as_str) else {
        return Err(errors::BAD_PARAMETER.because("'name' must be the name of an analyzer").into());
    };
    let (database, name) = split(call, given);
    if database != call.database.name {
        return Err(errors::FORBIDDEN.because("an analyzer is created in its own database").into());
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    if !begins || name.len() > NAME_MAX.min(DOCUMENT_KEY_BYTES_MAX) || !name.bytes().all(legal) {
        return Err(errors::BAD_PARAMETER.because(format!("'{name}' is no name of an analyzer")).into());
    }
    if built_in().iter().any(|analyzer| analyzer.name == name) {
        return Err(errors::BAD_PARAMETER.because(format!("'{name}' is built in")).into());
    }
    let Some(kind) = body.get("type").and_then(Value::as_str) else {
        return Err(errors::BAD_PARAMETER.because("'type' must be the type of an analyzer").into());
    };
    let analyzer = Analyzer {
        name: format!("{database}::{name}"),
        kind: kind.to_owned(),
        properties: analyzer_properties::normal(kind, body.get("properties"))
            .map_err(|why| errors::BAD_PARAMETER.because(format!("an analyzer of type '{kind}': {why}")))?,
        features: features(body.get("features"))?,
    };
    if let Some(present) = find(call, name)? {
        if present == analyzer {
            return Ok(Response::json(200, &analyzer.json()).into());
        }
        let message = format!("an analyzer '{name}' with another definition exists already");
        return Err(errors::BAD_PARAMETER.because(message).into());
    }
    let mut stored = analyzer.json();
    stored["name"] = name.into();
    let row = collection(call, call.database.id)?;
    call.writer()?.put(&row, name, stored.to_string().into(), None)?;
    Ok(Response::json(201, &analyzer.json()).into())
}

fn features(given: Option<&Value>) -> Result<Vec<String>, Failure> {
    let wrong = || errors::BAD_PARAMETER.because("'features' must be an array of \"frequency\", \"norm\", …");
    let names = match given {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(given) => given.as_array().ok_or_else(wrong)?,
    };
    let names: Vec<&str> = names
        .iter()
        .map(|name| name.as_str().filter(|name| FEATURES.contains(name)).ok_or_else(wrong))
        .collect::<Result<_, _>>()?;
    let has = |name: &str| names.contains(&name);
    if (has("position") && !has("frequency")) || (has("offset") && !has("position")) {
        let rule = "\"position\" needs \"frequency\", and \"offset\" needs both";
        return Err(errors::BAD_PARAMETER.because(rule).into());
    }
    Ok(FEATURES.iter().filter(|name| has(name)).map(|name| (*name).to_owned()).collect())
}

pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    let given = call.open[0].clone();
    if built_in().iter().any(|analyzer| analyzer.name == given) {
        return Err(errors::FORBIDDEN.because("what is built in can't be removed").into());
    }
    let (database, name) = split(call, &given);
    if database != call.database.name {
        return Err(errors::FORBIDDEN.because("an analyzer is removed in its own database").into());
    }
    let row = collection(call, call.database.id)?;
    let document = find_document(&call.reader(), &row, name)?.ok_or_else(|| not_found(&given))?;
    if !call.flag("force", false) && in_use(call, name)? {
        return Err(errors::CONFLICT.says(format!("analyzer '{given}' is in use")).into());
    }
    call.writer()?.remove(&row, &document)?;
    ok(200, json!({"name": format!("{database}::{name}")}))
}

/// Whether a view or an inverted index of this database names it.
fn in_use(call: &Call<'_, '_>, name: &str) -> Result<bool, Failure> {
    let full = format!("{}::{name}", call.database.name);
    let names = |value: &Value| value.as_str().is_some_and(|used| used == name || used == full);
    for view in call.reader().views(call.database.id)? {
        if mentions(&view.properties, &names) {
            return Ok(true);
        }
    }
    for collection in call.reader().collections(call.database.id)? {
        if collection.indexes.iter().any(|index| mentions(&index.properties, &names)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether anything below `value` that is called "analyzer" or is in "analyzers" is named so.
fn mentions(value: &Value, names: &impl Fn(&Value) -> bool) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(key, value)| match key.as_str() {
            "analyzer" => names(value),
            "analyzers" => value.as_array().is_some_and(|all| all.iter().any(names)),
            _ => mentions(value, names),
        }),
        Value::Array(elements) => elements.iter().any(|element| mentions(element, names)),
        _ => false,
    }
}
