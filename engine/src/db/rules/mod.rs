//! What a collection demands of its documents: values that it computes, and a schema that they must fit.
//!
//! - [`computed`]: values that are made from a document while it is written.
//! - [`schema`]: the schema and whom it binds. [`draft4`]: JSON Schema.
//!
//! Both stand in the collection's properties. They are applied by the leader before it writes: the log has what came of
//! it, and nobody who applies the log looks at them again.

pub mod computed;
pub mod draft4;
pub mod schema;

use super::json::Member;
use super::rows::{CollectionRow, Document};
use super::writer::Writer;
use crate::aql::value::Value;
use crate::errors::Error;
use computed::ComputedValue;
use schema::Schema;

/// The operation that writes a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Insert,
    Update,
    Replace,
}

#[derive(Debug, Default)]
pub struct Rules {
    computed: Vec<ComputedValue>,
    schema: Option<Schema>,
}

/// A document that is to be written.
pub struct Draft<'d> {
    pub collection: &'d CollectionRow,
    pub key: &'d str,
    pub event: Event,
    /// The document that it replaces.
    pub before: Option<&'d Document>,
    /// Whether it must fit the schema.
    pub validate: bool,
}

impl Rules {
    /// Those in the properties of a collection.
    pub fn of(properties: &serde_json::Value) -> Result<Rules, Error> {
        let part = |name: &str| properties.get(name).unwrap_or(&serde_json::Value::Null);
        Ok(Rules { computed: computed::read(part("computedValues"))?, schema: Schema::read(part("schema"))? })
    }

    /// Whether they give documents values of their own.
    pub fn compute(&self) -> bool {
        !self.computed.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.computed.is_empty() && self.schema.is_none()
    }

    /// The members with what is computed, if that fits the schema.
    pub fn apply<'m>(
        &self,
        draft: &Draft<'_>,
        members: Vec<Member<'m>>,
        db: &mut Writer<'_>,
    ) -> Result<Vec<Member<'m>>, Error> {
        let members = computed::compute(&self.computed, draft, members, db)?;
        if let Some(schema) = self.schema.as_ref().filter(|_| draft.validate) {
            let after = Value::parse_stored(&super::json::object(&members));
            let before = draft.before.map(|before| Value::parse_stored(&String::from_utf8_lossy(&before.body)));
            schema.check(&after, before.as_ref())?;
        }
        Ok(members)
    }
}
