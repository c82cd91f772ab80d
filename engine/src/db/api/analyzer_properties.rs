//! What each type of analyzer takes as properties, and how ArangoDB shows them: with their defaults.

use serde_json::{Map, Value, json};

/// Bound on the properties of one analyzer.
const BYTES_MAX: usize = 1 << 20;
const PIPELINE_DEPTH_MAX: usize = 8;

/// The properties as they are kept and shown, or what is wrong with them.
pub(super) fn normal(kind: &str, given: Option<&Value>) -> Result<Value, String> {
    let empty = Map::new();
    let given = match given {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(map)) => map,
        Some(_) => return Err("'properties' must be an object".into()),
    };
    let normal = of_kind(kind, &Given(given), 0)?;
    if normal.to_string().len() > BYTES_MAX {
        return Err("the properties are too big".into());
    }
    Ok(normal)
}

struct Given<'b>(&'b Map<String, Value>);

impl<'b> Given<'b> {
    fn get(&self, name: &str) -> Option<&'b Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn read<T>(&self, name: &str, read: impl Fn(&'b Value) -> Option<T>) -> Result<Option<T>, String> {
        self.get(name).map(|value| read(value).ok_or_else(|| format!("illegal value of '{name}'"))).transpose()
    }

    fn text(&self, name: &str) -> Result<Option<&'b str>, String> {
        self.read(name, Value::as_str)
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, String> {
        Ok(self.read(name, Value::as_bool)?.unwrap_or(default))
    }

    fn number(&self, name: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, String> {
        self.read(name, |value| value.as_u64().filter(|number| range.contains(number)))
    }

    fn one_of(&self, name: &str, known: &[&'static str], default: &'static str) -> Result<&'static str, String> {
        let found = self.read(name, |value| {
            let text = value.as_str()?;
            known.iter().find(|word| **word == text).copied()
        })?;
        Ok(found.unwrap_or(default))
    }

    fn texts(&self, name: &str) -> Result<Option<&'b Vec<Value>>, String> {
        self.read(name, |value| value.as_array().filter(|all| all.iter().all(Value::is_string)))
    }

    /// The language, without an encoding: that is always UTF-8.
    fn locale(&self) -> Result<&'b str, String> {
        let text = self.text("locale")?.filter(|text| !text.is_empty()).ok_or("'locale' is needed")?;
        let bare = text.split('.').next().unwrap_or(text);
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"_-@=".contains(&b);
        if bare.is_empty() || !bare.bytes().all(legal) { Err("illegal value of 'locale'".into()) } else { Ok(bare) }
    }
}

const CASES: [&str; 3] = ["lower", "none", "upper"];

fn of_kind(kind: &str, given: &Given<'_>, depth: usize) -> Result<Value, String> {
    Ok(match kind {
        "identity" => json!({}),
        "delimiter" => json!({"delimiter": given.text("delimiter")?.ok_or("'delimiter' is needed")?}),
        "stem" => json!({"locale": given.locale()?.split(['_', '@']).next()}),
        "norm" => json!({
            "locale": given.locale()?,
            "case": given.one_of("case", &CASES, "none")?,
            "accent": given.flag("accent", true)?,
        }),
        "collation" => json!({"locale": given.locale()?}),
        "ngram" => ngram(given)?,
        "text" => text(given)?,
        "segmentation" => json!({
            "case": given.one_of("case", &CASES, "lower")?,
            "break": given.one_of("break", &["all", "alpha", "graphic"], "alpha")?,
        }),
        "stopwords" => json!({
            "stopwords": given.texts("stopwords")?.ok_or("'stopwords' are needed")?,
            "hex": given.flag("hex", false)?,
        }),
        "aql" => aql(given)?,
        "pipeline" => {
            let parts = given.read("pipeline", Value::as_array)?.ok_or("'pipeline' is needed")?;
            if depth >= PIPELINE_DEPTH_MAX {
                return Err("nested too deeply".into());
            }
            let parts: Result<Vec<Value>, String> = parts.iter().map(|part| nested(part, depth)).collect();
            json!({"pipeline": parts?})
        }
        "geojson" => {
            let kind = given.one_of("type", &["shape", "centroid", "point"], "shape")?;
            let mut shown = json!({"type": kind, "options": geo_options(given)?});
            if given.flag("legacy", false)? {
                shown["legacy"] = true.into();
            }
            shown
        }
        "geopoint" => {
            let path = |name| Ok::<_, String>(given.texts(name)?.cloned().unwrap_or_default());
            let (latitude, longitude) = (path("latitude")?, path("longitude")?);
            if latitude.is_empty() != longitude.is_empty() {
                return Err("'latitude' and 'longitude' go together".into());
            }
            json!({"latitude": latitude, "longitude": longitude, "options": geo_options(given)?})
        }
        "classification" | "nearest_neighbors" | "minhash" | "geo_s2" => {
            return Err("only the Enterprise Edition has it".into());
        }
        _ => return Err("there is no such type".into()),
    })
}

/// A part of a pipeline: another analyzer without a name.
fn nested(part: &Value, depth: usize) -> Result<Value, String> {
    let kind = part.get("type").and_then(Value::as_str).ok_or("a part of a pipeline has a 'type'")?;
    let empty = Map::new();
    let properties = match part.get("properties") {
        None | Some(Value::Null) => &empty,
        Some(given) => given.as_object().ok_or("'properties' must be an object")?,
    };
    Ok(json!({"type": kind, "properties": of_kind(kind, &Given(properties), depth + 1)?}))
}

fn ngram(given: &Given<'_>) -> Result<Value, String> {
    let length = |name: &str| given.number(name, 1..=u64::from(u32::MAX))?.ok_or(format!("'{name}' is needed"));
    let (min, max) = (length("min")?, length("max")?);
    Ok(json!({
        "min": min,
        "max": max.max(min),
        "preserveOriginal": given.read("preserveOriginal", Value::as_bool)?.ok_or("'preserveOriginal' is needed")?,
        "startMarker": given.text("startMarker")?.unwrap_or_default(),
        "endMarker": given.text("endMarker")?.unwrap_or_default(),
        "streamType": given.one_of("streamType", &["binary", "utf8"], "binary")?,
    }))
}

fn text(given: &Given<'_>) -> Result<Value, String> {
    let mut shown = json!({
        "locale": given.locale()?,
        "case": given.one_of("case", &CASES, "lower")?,
        "accent": given.flag("accent", false)?,
        "stemming": given.flag("stemming", true)?,
    });
    if let Some(words) = given.texts("stopwords")? {
        shown["stopwords"] = words.clone().into();
    }
    if let Some(path) = given.text("stopwordsPath")? {
        shown["stopwordsPath"] = path.into();
    }
    if let Some(edge) = given.read("edgeNgram", Value::as_object)? {
        let edge = Given(edge);
        let mut parts = Map::new();
        for name in ["min", "max"] {
            if let Some(length) = edge.number(name, 0..=u64::from(u32::MAX))? {
                parts.insert(name.into(), length.into());
            }
        }
        parts.insert("preserveOriginal".into(), edge.flag("preserveOriginal", false)?.into());
        shown["edgeNgram"] = parts.into();
    }
    Ok(shown)
}

fn aql(given: &Given<'_>) -> Result<Value, String> {
    let query = given.text("queryString")?.filter(|query| query.len() <= 4096).ok_or("'queryString' is needed")?;
    Ok(json!({
        "queryString": query,
        "collapsePositions": given.flag("collapsePositions", false)?,
        "keepNull": given.flag("keepNull", true)?,
        "batchSize": given.number("batchSize", 1..=1000)?.unwrap_or(10),
        "memoryLimit": given.number("memoryLimit", 1..=33_554_432)?.unwrap_or(1_048_576),
        "returnType": given.one_of("returnType", &["string", "number", "bool"], "string")?,
    }))
}

fn geo_options(given: &Given<'_>) -> Result<Value, String> {
    let empty = Map::new();
    let options = Given(given.read("options", Value::as_object)?.unwrap_or(&empty));
    let (min, max) =
        (options.number("minLevel", 0..=30)?.unwrap_or(4), options.number("maxLevel", 0..=30)?.unwrap_or(23));
    if min > max {
        return Err("'minLevel' is above 'maxLevel'".into());
    }
    let cells = options.number("maxCells", 0..=u64::from(u32::MAX))?.unwrap_or(20);
    Ok(json!({"maxCells": cells, "minLevel": min, "maxLevel": max}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_get_their_defaults_or_are_refused() {
        for (kind, given, expected) in [
            ("identity", json!({}), Some(json!({}))),
            ("delimiter", json!({"delimiter": ","}), Some(json!({"delimiter": ","}))),
            ("delimiter", json!({}), None),
            ("text", json!({}), None),
            (
                "text",
                json!({"locale": "en.UTF-8", "stopwords": []}),
                Some(json!({
                    "locale": "en", "case": "lower", "accent": false, "stemming": true, "stopwords": [],
                })),
            ),
            ("collation", json!({"locale": "en_US.utf-8"}), Some(json!({"locale": "en_US"}))),
            (
                "ngram",
                json!({"min": 1, "max": 14, "preserveOriginal": false}),
                Some(json!({
                    "min": 1, "max": 14, "preserveOriginal": false,
                    "startMarker": "", "endMarker": "", "streamType": "binary",
                })),
            ),
            ("ngram", json!({"min": 0, "max": 14, "preserveOriginal": false}), None),
            (
                "pipeline",
                json!({"pipeline": [{"type": "identity"}]}),
                Some(json!({
                    "pipeline": [{"type": "identity", "properties": {}}],
                })),
            ),
            ("pipeline", json!({"pipeline": [{"type": "text"}]}), None),
            ("segmentation", json!({"case": "loud"}), None),
            ("minhash", json!({}), None),
            ("none", json!({}), None),
        ] {
            assert_eq!(normal(kind, Some(&given)).ok(), expected, "{kind} {given}");
        }
        let deep = (0..20).fold(
            json!({"type": "identity"}),
            |part, _| json!({"type": "pipeline", "properties": {"pipeline": [part]}}),
        );
        assert!(normal("pipeline", Some(&json!({"pipeline": [deep]}))).is_err());
    }
}
