//! What `OPTIONS` may say of each operation. Anything else means nothing, and is told of in a warning (1539), as
//! ArangoDB does since 3.9.

use super::super::ast::*;
use super::super::value::Value;
use super::expressions::for_each_block_mut;

#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Number,
    Text,
    /// One or several names.
    Names,
    /// A name, or several, or an object of them.
    Hint,
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Kind::Bool => matches!(value, Value::Bool(_)),
            Kind::Number => value.is_number(),
            Kind::Text => matches!(value, Value::String(_)),
            Kind::Names => matches!(value, Value::String(_) | Value::Array(_)),
            Kind::Hint => matches!(value, Value::String(_) | Value::Array(_) | Value::Object(_)),
        }
    }
}

type Known = &'static [(&'static str, Kind)];

const FOR: Known = &[
    ("indexHint", Kind::Hint),
    ("forceIndexHint", Kind::Bool),
    ("disableIndex", Kind::Bool),
    ("maxProjections", Kind::Number),
    ("useCache", Kind::Bool),
    ("lookahead", Kind::Number),
];
const TRAVERSAL: Known = &[
    ("order", Kind::Text),
    ("bfs", Kind::Bool),
    ("uniqueVertices", Kind::Text),
    ("uniqueEdges", Kind::Text),
    ("edgeCollections", Kind::Names),
    ("vertexCollections", Kind::Names),
    ("weightAttribute", Kind::Text),
    ("defaultWeight", Kind::Number),
    ("parallelism", Kind::Number),
    ("maxProjections", Kind::Number),
    ("useCache", Kind::Bool),
];
const PATHS: Known = &[("weightAttribute", Kind::Text), ("defaultWeight", Kind::Number)];
const COLLECT: Known = &[("method", Kind::Text)];
const MODIFICATION: Known = &[
    ("waitForSync", Kind::Bool),
    ("skipDocumentValidation", Kind::Bool),
    ("keepNull", Kind::Bool),
    ("mergeObjects", Kind::Bool),
    ("overwrite", Kind::Bool),
    ("overwriteMode", Kind::Text),
    ("ignoreRevs", Kind::Bool),
    ("exclusive", Kind::Bool),
    ("ignoreErrors", Kind::Bool),
    ("refillIndexCaches", Kind::Bool),
    ("versionAttribute", Kind::Text),
];
/// Of an `UPSERT`, besides.
const LOOK_UP: Known = &[("indexHint", Kind::Hint), ("forceIndexHint", Kind::Bool), ("disableIndex", Kind::Bool)];

/// A sentence for each option that its operation does not know, or not with such a value.
pub fn unknown(query: &mut Query) -> Vec<String> {
    let mut sentences = Vec::new();
    for_each_block_mut(&mut query.body, &mut |block| {
        for operation in &block.operations {
            let (name, options, known): (_, _, [Known; 2]) = match &operation.kind {
                OperationKind::For { options, .. } => ("FOR", options, [FOR, &[]]),
                OperationKind::Traversal(traversal) => ("TRAVERSAL", &traversal.options, [TRAVERSAL, &[]]),
                OperationKind::Paths(paths) => (paths_name(paths.kind), &paths.options, [PATHS, &[]]),
                OperationKind::Collect(collect) => ("COLLECT", &collect.options, [COLLECT, &[]]),
                OperationKind::Insert(insert) => ("INSERT", &insert.options, [MODIFICATION, &[]]),
                OperationKind::Update(update) if update.replace => ("REPLACE", &update.options, [MODIFICATION, &[]]),
                OperationKind::Update(update) => ("UPDATE", &update.options, [MODIFICATION, &[]]),
                OperationKind::Remove(remove) => ("REMOVE", &remove.options, [MODIFICATION, &[]]),
                OperationKind::Upsert(upsert) => ("UPSERT", &upsert.options, [MODIFICATION, LOOK_UP]),
                _ => continue,
            };
            for (option, value) in options.as_object().into_iter().flat_map(|options| options.iter()) {
                match known.into_iter().flatten().find(|(known, _)| **known == **option) {
                    None => sentences.push(format!("unknown OPTIONS attribute '{option}' in {name} operation")),
                    Some((_, kind)) if !kind.fits(value) => {
                        sentences.push(format!("invalid value of OPTIONS attribute '{option}' in {name} operation"));
                    }
                    Some(_) => {}
                }
            }
        }
    });
    sentences
}

fn paths_name(kind: PathsKind) -> &'static str {
    match kind {
        PathsKind::Shortest => "SHORTEST_PATH",
        PathsKind::AllShortest => "ALL_SHORTEST_PATHS",
        PathsKind::KShortest => "K_SHORTEST_PATHS",
        PathsKind::K => "K_PATHS",
    }
}
