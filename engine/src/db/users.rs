//! Users and their rights: documents of `_system/_users`, in ArangoDB's form.
//!
//! They are replicated like any document, so a password that counts on the leader counts everywhere. A level asked for
//! is looked up at the most specific place and falls back to `*`; what is granted nowhere is not granted.

use super::reader::Reader;
use super::rows::{CollectionRow, Document};
use super::store::StoreResult;
use crate::auth::PasswordHash;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The database that holds the users, and whose rights make an administrator.
pub const SYSTEM: &str = "_system";
pub const USERS: &str = "_users";
pub const ROOT: &str = "root";
/// Longest name of a user.
pub const NAME_BYTES_MAX: usize = 256;
const PAGE: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    None,
    Ro,
    Rw,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::Ro => "ro",
            Level::Rw => "rw",
        }
    }

    pub fn parse(text: &str) -> Option<Level> {
        [Level::None, Level::Ro, Level::Rw].into_iter().find(|level| level.as_str() == text)
    }

    fn permissions(self) -> Value {
        json!({"read": self >= Level::Ro, "write": self == Level::Rw})
    }

    /// `{"permissions":{"read":…,"write":…}}`, or the old form "rw".
    fn read(grant: &Value) -> Option<Level> {
        if let Some(text) = grant.as_str() {
            return Level::parse(text);
        }
        let permissions = grant.get("permissions")?;
        let flag = |name| permissions.get(name).and_then(Value::as_bool) == Some(true);
        Some(match (flag("write"), flag("read")) {
            (true, _) => Level::Rw,
            (false, true) => Level::Ro,
            (false, false) => Level::None,
        })
    }
}

/// A user, as its document says. Members that are not known here are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    pub name: String,
    body: Map<String, Value>,
}

impl User {
    pub fn new(name: &str, password: &str, chance: u64) -> User {
        let mut user = User { name: name.to_owned(), body: Map::new() };
        user.body.insert("user".into(), name.into());
        user.body.insert("source".into(), "LOCAL".into());
        user.body.insert("authData".into(), json!({"active": true, "simple": {}}));
        user.body.insert("databases".into(), json!({}));
        user.body.insert("userData".into(), json!({}));
        user.body.insert("configData".into(), json!({}));
        user.set_hash(PasswordHash::new(password, chance));
        user
    }

    /// The administrator that every deployment begins with.
    pub fn root(password: &str, chance: u64) -> User {
        let mut root = User::new(ROOT, password, chance);
        [SYSTEM, "*"].into_iter().for_each(|database| root.grant_whole(database, Level::Rw));
        root
    }

    pub fn from_document(document: &Document) -> Option<User> {
        let Value::Object(body) = serde_json::from_slice(&document.body).ok()? else { return None };
        Some(User { name: body.get("user")?.as_str()?.to_owned(), body })
    }

    /// The text of its document, without system attributes.
    pub fn body(&self) -> String {
        Value::Object(self.body.clone()).to_string()
    }

    pub fn active(&self) -> bool {
        self.body.get("authData").and_then(|auth| auth.get("active")).and_then(Value::as_bool) == Some(true)
    }

    pub fn set_active(&mut self, active: bool) {
        self.object("authData").insert("active".into(), active.into());
    }

    fn hash(&self) -> Option<PasswordHash> {
        let simple = self.body.get("authData")?.get("simple")?;
        let text = |name: &str| Some(simple.get(name)?.as_str()?.to_owned());
        Some(PasswordHash { method: text("method")?, salt: text("salt")?, hash: text("hash")? })
    }

    fn set_hash(&mut self, hash: PasswordHash) {
        let simple = json!({"hash": hash.hash, "salt": hash.salt, "method": hash.method});
        self.object("authData").insert("simple".into(), simple);
    }

    pub fn password_matches(&self, password: &str) -> bool {
        self.hash().is_some_and(|hash| hash.matches(password))
    }

    /// Salt and method stay, if the method is known.
    pub fn set_password(&mut self, password: &str, chance: u64) {
        let kept = self.hash().and_then(|old| PasswordHash::with(&old.method, old.salt, password));
        self.set_hash(kept.unwrap_or_else(|| PasswordHash::new(password, chance)));
    }

    /// `extra` in the API.
    pub fn extra(&self) -> Value {
        self.body.get("userData").cloned().unwrap_or_else(|| json!({}))
    }

    pub fn set_extra(&mut self, extra: Value) {
        self.body.insert("userData".into(), extra);
    }

    /// Settings of a web interface.
    pub fn config(&mut self) -> &mut Map<String, Value> {
        self.object("configData")
    }

    /// The object of that name; made if it is missing.
    fn object(&mut self, name: &str) -> &mut Map<String, Value> {
        object_in(&mut self.body, name)
    }

    // ---- rights ----

    fn database_grant(&self, database: &str) -> Option<&Value> {
        self.body.get("databases")?.get(database)
    }

    /// What was granted for exactly this database.
    pub fn configured_database(&self, database: &str) -> Option<Level> {
        Level::read(self.database_grant(database)?)
    }

    /// What was granted for the database; else the better of what was for all and for `_system`.
    pub fn database_level(&self, database: &str) -> Level {
        let general = || match database {
            "*" => None,
            _ => self.configured_database("*").max(self.configured_database(SYSTEM)),
        };
        self.configured_database(database).or_else(general).unwrap_or(Level::None)
    }

    /// What was granted for exactly this collection of exactly this database.
    pub fn configured_collection(&self, database: &str, collection: &str) -> Option<Level> {
        let grant = self.database_grant(database)?;
        match grant.get("collections").and_then(|collections| collections.get(collection)) {
            Some(level) => Level::read(level),
            // The old form counts for the database and for its collections.
            None if grant.is_string() && collection == "*" => Level::read(grant),
            None => None,
        }
    }

    /// What was granted for the collection alone counts, if anything was; else the best of all that is more general.
    /// (ArangoDB's manual, "Permission resolution".)
    pub fn collection_level(&self, database: &str, collection: &str) -> Level {
        match collection {
            USERS => return Level::None,
            "_queues" => return Level::Ro,
            "_frontend" => return Level::Rw,
            _ if collection.starts_with('_') => return self.database_level(database),
            _ => {}
        }
        let of_all = self.configured_database("*").max(self.configured_collection("*", "*"));
        let level = match (self.configured_collection(database, collection), database, collection) {
            (Some(level), ..) => Some(level),
            (None, "*", "*") => of_all,
            (None, "*", _) => None,
            (None, _, "*") if self.database_grant(database).is_some() => None,
            _ => {
                let of_database = self.configured_database(database).max(self.configured_collection(database, "*"));
                of_database.max(self.configured_database(SYSTEM)).max(of_all)
            }
        };
        level.unwrap_or(Level::None)
    }

    /// Changes no right that was granted for collections.
    pub fn grant_database(&mut self, database: &str, level: Level) {
        let grant = object_in(self.object("databases"), database);
        grant.insert("permissions".into(), level.permissions());
        object_in(grant, "collections");
    }

    /// The database, and all collections for which nothing else is granted.
    pub fn grant_whole(&mut self, database: &str, level: Level) {
        self.grant_database(database, level);
        self.grant_collection(database, "*", level);
    }

    pub fn grant_collection(&mut self, database: &str, collection: &str, level: Level) {
        if let Some(old) =
            self.configured_database(database).filter(|_| !self.database_grant(database).is_some_and(Value::is_object))
        {
            self.object("databases").remove(database);
            self.grant_whole(database, old);
        }
        let grant = object_in(self.object("databases"), database);
        object_in(grant, "collections").insert(collection.to_owned(), json!({"permissions": level.permissions()}));
    }

    pub fn revoke_database(&mut self, database: &str) {
        self.object("databases").remove(database);
    }

    pub fn revoke_collection(&mut self, database: &str, collection: &str) {
        if self.database_grant(database).is_some() {
            object_in(object_in(self.object("databases"), database), "collections").remove(collection);
        }
    }
}

fn object_in<'a>(map: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let slot = map.entry(name.to_owned()).or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut().expect("an object was put there")
}

/// The key of a user's document: the name itself where it can be one.
pub fn key(name: &str) -> String {
    if is_key(name) { name.to_owned() } else { Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect() }
}

/// ArangoDB's rule for `_key`: 1 to 254 of these characters.
pub fn is_key(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-:.@()+,=;$!*'%".contains(&b);
    !text.is_empty() && text.len() <= super::rows::DOCUMENT_KEY_BYTES_MAX && text.bytes().all(plain)
}

pub fn collection(db: &Reader<'_>) -> StoreResult<Option<CollectionRow>> {
    match db.database(SYSTEM)? {
        Some(system) => db.collection(system.id, USERS),
        None => Ok(None),
    }
}

/// A user and its document.
pub fn find(db: &Reader<'_>, name: &str) -> StoreResult<Option<(User, Document)>> {
    let Some(users) = collection(db)? else { return Ok(None) };
    if let Some(document) = db.document(&users, &key(name))?
        && let Some(user) = User::from_document(&document)
        && user.name == name
    {
        return Ok(Some((user, document)));
    }
    // Users that came from elsewhere have other keys.
    Ok(all(db)?.into_iter().find(|(user, _)| user.name == name))
}

pub fn all(db: &Reader<'_>) -> StoreResult<Vec<(User, Document)>> {
    let Some(users) = collection(db)? else { return Ok(Vec::new()) };
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = db.documents(&users, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.revision);
        found.extend(page.into_iter().filter_map(|document| Some((User::from_document(&document)?, document))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(databases: Value) -> User {
        let mut user = User::new("ann", "pw", 1);
        user.body.insert("databases".into(), databases);
        user
    }

    #[test]
    fn levels_fall_back_from_the_specific_to_the_general() {
        let grant =
            |level: Level, collections: Value| json!({"permissions": level.permissions(), "collections": collections});
        let level = |level: Level| json!({"permissions": level.permissions()});
        let ann = user(json!({
            "d": grant(Level::Ro, json!({"c": level(Level::Rw), "*": level(Level::None)})),
            "*": grant(Level::Rw, json!({"*": level(Level::Ro), "x": level(Level::Rw)})),
        }));
        assert_eq!(ann.database_level("d"), Level::Ro);
        assert_eq!(ann.database_level("e"), Level::Rw);
        for (database, collection, expected) in [
            ("d", "c", Level::Rw),
            ("d", "*", Level::None),
            // The best of what counts for all collections.
            ("d", "other", Level::Rw),
            ("e", "other", Level::Rw),
            ("*", "*", Level::Ro),
            ("*", "y", Level::None),
            ("d", "_graphs", Level::Ro),
            ("_system", "_users", Level::None),
            ("e", "_queues", Level::Ro),
        ] {
            assert_eq!(ann.collection_level(database, collection), expected, "{database}/{collection}");
        }
        assert_eq!(user(json!({})).database_level("d"), Level::None);
        assert_eq!(user(json!({})).collection_level("d", "c"), Level::None);
    }

    #[test]
    fn the_old_form_of_grants_is_read() {
        let mut ann = user(json!({"d": "rw"}));
        assert_eq!((ann.database_level("d"), ann.collection_level("d", "c")), (Level::Rw, Level::Rw));
        ann.grant_collection("d", "c", Level::None);
        assert_eq!((ann.database_level("d"), ann.collection_level("d", "c")), (Level::Rw, Level::None));
        assert_eq!(ann.collection_level("d", "e"), Level::Rw);
    }

    #[test]
    fn what_is_granted_for_a_database_counts_for_collections_without_a_grant() {
        let mut ann = user(json!({}));
        ann.grant_database("d", Level::Rw);
        assert_eq!(ann.collection_level("d", "c"), Level::Rw);
        ann.grant_collection("d", "c", Level::None);
        assert_eq!(ann.collection_level("d", "c"), Level::None);
        ann.revoke_collection("d", "c");
        ann.grant_database("d", Level::Ro);
        assert_eq!((ann.database_level("d"), ann.collection_level("d", "c")), (Level::Ro, Level::Ro));
        ann.grant_database(SYSTEM, Level::Rw);
        assert_eq!((ann.database_level("e"), ann.collection_level("e", "c")), (Level::Rw, Level::Rw));
        assert_eq!((ann.database_level("d"), ann.database_level("*")), (Level::Ro, Level::None));
        ann.revoke_database(SYSTEM);
        ann.revoke_database("d");
        assert_eq!(ann.collection_level("d", "c"), Level::None);
        ann.revoke_collection("d", "c");
        assert_eq!(ann.configured_database("d"), None);
    }

    #[test]
    fn a_user_survives_its_document() {
        let mut root = User::root("secret", 7);
        root.set_extra(json!({"a": 1.5}));
        let document = Document { key: "root".into(), revision: Default::default(), body: root.body().into() };
        let again = User::from_document(&document).unwrap();
        assert_eq!(again, root);
        assert!(again.active() && again.password_matches("secret") && !again.password_matches(""));
        assert_eq!(again.database_level("anything"), Level::Rw);
        let mut changed = again.clone();
        changed.set_password("other", 9);
        assert!(changed.password_matches("other") && !changed.password_matches("secret"));
        assert_eq!(changed.hash().unwrap().salt, root.hash().unwrap().salt);
    }

    #[test]
    fn every_name_has_a_legal_key() {
        assert_eq!(key("root"), "root");
        for name in ["ü", "a/b", "a b", &"x".repeat(256)] {
            assert!(is_key(&key(name)) && key(name) != name, "{name}");
        }
    }
}
