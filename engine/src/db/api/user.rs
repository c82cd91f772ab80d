//! `/_api/user` and `/_open/auth`: who may do what, and how they prove who they are.

use super::*;
use serde_json::json;

// ---- logging in -----------------------------------------------------------------------------------------------------

pub(super) fn log_in(call: &mut Call<'_, '_>) -> Answer {
    let auth = &call.run.view.auth;
    if !auth.enabled {
        return Err(errors::HTTP_NOT_FOUND.because("authentication is switched off").into());
    }
    let body = call.json()?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let (Some(name), Some(password)) = (text("username"), text("password")) else {
        return Err(errors::HTTP_BAD_PARAMETER.because("'username' and 'password' are needed").into());
    };
    let user = users::find(&call.reader(), name)?.map(|(user, _)| user);
    if !user.is_some_and(|user| user.active() && user.password_matches(password)) {
        return Err(errors::HTTP_UNAUTHORIZED.says("Wrong credentials").into());
    }
    match auth::user_token(auth, name, call.run.now.wall_ms) {
        Some(token) => Ok(Response::json(200, &json!({"jwt": token})).into()),
        None => Err(errors::INTERNAL.because("this server has no secret to sign with").into()),
    }
}

/// A new token for whoever has one. (ArangoDB gives one only shortly before the old one ends.)
pub(super) fn renew(call: &mut Call<'_, '_>) -> Answer {
    let (auth, wall_ms) = (&call.run.view.auth, call.run.now.wall_ms);
    let authorization = call.request().header(header::AUTHORIZATION);
    match (auth::credentials(auth, authorization, wall_ms), &call.who) {
        (auth::Credentials::Bearer(auth::Token::User(_)), Who::User(user)) => {
            let token = auth::user_token(auth, &user.name, wall_ms);
            Ok(Response::json(200, &json!({"jwt": token})).into())
        }
        _ => Err(errors::USER_NOT_FOUND.into()),
    }
}

// ---- helpers --------------------------------------------------------------------------------------------------------

/// Writes a user back, or for the first time.
pub(super) fn store(call: &mut Call<'_, '_>, user: &User) -> Result<(), Failure> {
    let collection = users::collection(&call.reader())?.ok_or(errors::DATA_SOURCE_NOT_FOUND)?;
    let before = users::find(&call.reader(), &user.name)?.map(|(_, document)| document);
    let key = before.as_ref().map_or_else(|| users::key(&user.name), |document| document.key.clone());
    call.writer()?.put(&collection, &key, user.body().into(), before.as_ref())?;
    Ok(())
}

/// Whoever makes a collection may use it.
pub(super) fn grant_creator(call: &mut Call<'_, '_>, row: &CollectionRow) -> Result<(), Failure> {
    let Who::User(creator) = &call.who else { return Ok(()) };
    if row.system || creator.collection_level(&call.database.name, &row.name) == Level::Rw {
        return Ok(());
    }
    if let Some((mut user, _)) = users::find(&call.reader(), &creator.name)? {
        user.grant_collection(&call.database.name, &row.name, Level::Rw);
        store(call, &user)?;
    }
    Ok(())
}

pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.len() > users::NAME_BYTES_MAX || name.contains('\0') {
        return Err(errors::USER_INVALID_NAME.into());
    }
    Ok(())
}

fn is_self(call: &Call<'_, '_>, name: &str) -> bool {
    matches!(&call.who, Who::User(user) if user.name == name)
}

/// The user in the path, for its own eyes or an administrator's.
fn visible(call: &Call<'_, '_>) -> Result<User, Failure> {
    let name = &call.open[0];
    if !is_self(call, name) && !call.is_administrator() {
        return Err(errors::HTTP_FORBIDDEN.into());
    }
    Ok(users::find(&call.reader(), name)?.ok_or(errors::USER_NOT_FOUND)?.0)
}

/// The user in the path, whose rights only an administrator may change.
fn grantable(call: &Call<'_, '_>) -> Result<User, Failure> {
    call.needs_administrator()?;
    Ok(users::find(&call.reader(), &call.open[0])?.ok_or(errors::USER_NOT_FOUND)?.0)
}

fn shown(user: &User) -> Value {
    json!({"user": user.name, "active": user.active(), "extra": user.extra()})
}

/// As ArangoDB does for users: `error` and `code` come last.
fn result(status: u16, mut body: Value) -> Answer {
    body["error"] = false.into();
    body["code"] = status.into();
    Ok(Response::json(status, &body).into())
}

// ---- users ----------------------------------------------------------------------------------------------------------

pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    if !call.is_administrator() {
        return Err(errors::HTTP_FORBIDDEN.into());
    }
    ok(200, users::all(&call.reader())?.iter().map(|(user, _)| shown(user)).collect())
}

pub(super) fn get(call: &mut Call<'_, '_>) -> Answer {
    result(200, shown(&visible(call)?))
}

/// What a body says of a user.
struct Given {
    password: Option<String>,
    active: Option<bool>,
    extra: Option<Value>,
}

fn read_given(body: &Value) -> Result<Given, Failure> {
    let extra = body.get("extra").filter(|extra| extra.is_object()).cloned();
    if extra.as_ref().is_some_and(|extra| !json::fits(extra)) {
        return Err(errors::BAD_PARAMETER.because("extra is nested too deeply").into());
    }
    Ok(Given {
        password: body.get("passwd").and_then(Value::as_str).map(str::to_owned),
        active: body.get("active").and_then(Value::as_bool),
        extra,
    })
}

pub(super) fn create(call: &mut Call<'_, '_>) -> Answer {
    call.needs_administrator()?;
    let body = Value::Object(call.object()?);
    let name = body.get("user").and_then(Value::as_str).unwrap_or_default();
    check_name(name)?;
    if users::find(&call.reader(), name)?.is_some() {
        return Err(errors::USER_DUPLICATE.into());
    }
    let given = read_given(&body)?;
    let mut user = User::new(name, &given.password.unwrap_or_default(), call.chance());
    user.set_active(given.active.unwrap_or(true));
    user.set_extra(given.extra.unwrap_or_else(|| json!({})));
    store(call, &user)?;
    result(201, shown(&user))
}

pub(super) fn check_password(call: &mut Call<'_, '_>) -> Answer {
    let body = call.object()?;
    let password = body.get("passwd").and_then(Value::as_str).unwrap_or_default();
    match users::find(&call.reader(), &call.open[0])? {
        Some((user, _)) if user.active() && user.password_matches(password) => ok(200, true.into()),
        _ => Err(errors::USER_NOT_FOUND.into()),
    }
}

pub(super) fn replace(call: &mut Call<'_, '_>) -> Answer {
    let mut user = visible(call)?;
    let given = read_given(&call.json()?)?;
    user.set_password(&given.password.unwrap_or_default(), call.chance());
    user.set_active(given.active.unwrap_or(true));
    user.set_extra(given.extra.unwrap_or_else(|| json!({})));
    store(call, &user)?;
    result(200, shown(&user))
}

pub(super) fn update(call: &mut Call<'_, '_>) -> Answer {
    let mut user = visible(call)?;
    let given = read_given(&call.json()?)?;
    if let Some(password) = given.password {
        user.set_password(&password, call.chance());
    }
    if let Some(active) = given.active {
        user.set_active(active);
    }
    // As in ArangoDB, it is replaced as a whole, unless there is nothing in it.
    if let Some(extra) = given.extra.filter(|extra| extra.as_object().is_some_and(|extra| !extra.is_empty())) {
        user.set_extra(extra);
    }
    store(call, &user)?;
    result(200, shown(&user))
}

pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    let user = grantable(call)?;
    // As in ArangoDB: somebody must be able to log in.
    if user.name == users::ROOT {
        return Err(errors::FORBIDDEN.into());
    }
    let collection = users::collection(&call.reader())?.ok_or(errors::DATA_SOURCE_NOT_FOUND)?;
    let (_, document) = users::find(&call.reader(), &user.name)?.ok_or(errors::USER_NOT_FOUND)?;
    call.writer()?.remove(&collection, &document)?;
    result(202, json!({}))
}

// ---- rights ---------------------------------------------------------------------------------------------------------

pub(super) fn databases(call: &mut Call<'_, '_>) -> Answer {
    let user = visible(call)?;
    let full = call.flag("full", false);
    let mut map = Map::new();
    for database in call.reader().databases()? {
        if full {
            let configured = |level: Option<Level>| level.map_or("undefined", Level::as_str);
            let mut collections = Map::new();
            for collection in call.reader().collections(database.id)? {
                let level = user.configured_collection(&database.name, &collection.name);
                collections.insert(collection.name, configured(level).into());
            }
            collections.insert("*".into(), configured(user.configured_collection(&database.name, "*")).into());
            let permission = configured(user.configured_database(&database.name));
            map.insert(database.name, json!({"permission": permission, "collections": collections}));
        } else if user.database_level(&database.name) > Level::None {
            let level = user.database_level(&database.name).as_str();
            map.insert(database.name, level.into());
        }
    }
    if full {
        map.insert("*".into(), json!({"permission": user.database_level("*").as_str()}));
    }
    ok(200, json!({"result": map}))
}

pub(super) fn database_level(call: &mut Call<'_, '_>) -> Answer {
    let user = visible(call)?;
    let name = &call.open[1];
    let mut level = user.database_level(name);
    if !call.flag("configured", false) && call.run.view.read_only {
        level = level.min(Level::Ro);
    }
    ok(200, level.as_str().into())
}

pub(super) fn collection_level(call: &mut Call<'_, '_>) -> Answer {
    let user = visible(call)?;
    let mut level = user.collection_level(&call.open[1], &call.open[2]);
    if !call.flag("configured", false) && call.run.view.read_only {
        level = level.min(Level::Ro);
    }
    ok(200, level.as_str().into())
}

fn granted(call: &Call<'_, '_>) -> Result<Level, Failure> {
    let body = call.json()?;
    let grant = body.get("grant").and_then(Value::as_str).and_then(Level::parse);
    grant.ok_or_else(|| errors::BAD_PARAMETER.because("'grant' must be \"rw\", \"ro\" or \"none\"").into())
}

/// Rights are given on what exists, or on `*`.
fn check_exists(call: &Call<'_, '_>, database: &str, collection: &str) -> Result<(), Failure> {
    if database == "*" {
        return Ok(());
    }
    let known = |name: &str| name.len() <= NAME_BYTES_MAX && !name.is_empty();
    let row = if known(database) { call.reader().database(database)? } else { None };
    let row = row.ok_or(errors::DATABASE_NOT_FOUND)?;
    if collection == "*" {
        return Ok(());
    }
    let found = known(collection) && call.reader().collection(row.id, collection)?.is_some();
    if found { Ok(()) } else { Err(errors::DATA_SOURCE_NOT_FOUND.into()) }
}

pub(super) fn grant_database(call: &mut Call<'_, '_>) -> Answer {
    let mut user = grantable(call)?;
    let level = granted(call)?;
    let database = call.open[1].clone();
    check_exists(call, &database, "*")?;
    check_root(&user, &database, level)?;
    user.grant_database(&database, level);
    store(call, &user)?;
    result(200, json!({database: level.as_str()}))
}

pub(super) fn revoke_database(call: &mut Call<'_, '_>) -> Answer {
    let mut user = grantable(call)?;
    let database = call.open[1].clone();
    check_root(&user, &database, Level::None)?;
    user.revoke_database(&database);
    store(call, &user)?;
    result(202, json!({}))
}

/// Somebody must be able to give rights.
fn check_root(user: &User, database: &str, level: Level) -> Result<(), Failure> {
    if user.name == users::ROOT && database == SYSTEM && level < Level::Rw {
        return Err(errors::FORBIDDEN.says("Cannot lower access level of 'root' to _system").into());
    }
    Ok(())
}

pub(super) fn grant_collection(call: &mut Call<'_, '_>) -> Answer {
    let mut user = grantable(call)?;
    let level = granted(call)?;
    let (database, collection) = (call.open[1].clone(), call.open[2].clone());
    if collection.starts_with('_') {
        return Err(errors::BAD_PARAMETER.says("Cannot set rights for system collections").into());
    }
    if database == "*" && collection != "*" {
        return Err(errors::BAD_PARAMETER.says("Invalid database / collection pair").into());
    }
    check_exists(call, &database, &collection)?;
    if collection == "*" {
        check_root(&user, &database, level)?;
    }
    user.grant_collection(&database, &collection, level);
    store(call, &user)?;
    result(200, json!({format!("{database}/{collection}"): level.as_str()}))
}

pub(super) fn revoke_collection(call: &mut Call<'_, '_>) -> Answer {
    let mut user = grantable(call)?;
    let (database, collection) = (call.open[1].clone(), call.open[2].clone());
    check_exists(call, &database, &collection)?;
    if collection == "*" {
        check_root(&user, &database, Level::None)?;
    }
    user.revoke_collection(&database, &collection);
    store(call, &user)?;
    result(202, json!({}))
}

// ---- settings of a web interface ------------------------------------------------------------------------------------

pub(super) fn config(call: &mut Call<'_, '_>) -> Answer {
    let mut user = visible(call)?;
    ok(200, json!({"result": user.config()}))
}

pub(super) fn config_value(call: &mut Call<'_, '_>) -> Answer {
    let mut user = visible(call)?;
    let value = user.config().get(&call.open[1]).cloned().unwrap_or(Value::Null);
    ok(200, json!({"result": value}))
}

pub(super) fn set_config(call: &mut Call<'_, '_>) -> Answer {
    let mut user = visible(call)?;
    let key = call.open[1].clone();
    match call.json()?.get("value") {
        Some(value) if json::fits(value) => {
            user.config().insert(key, value.clone());
        }
        Some(_) => return Err(errors::BAD_PARAMETER.because("the value is nested too deeply").into()),
        None => {
            user.config().remove(&key);
        }
    }
    store(call, &user)?;
    ok(200, json!({}))
}

pub(super) fn remove_config(call: &mut Call<'_, '_>) -> Answer {
    let mut user = visible(call)?;
    user.config().remove(&call.open[1]);
    store(call, &user)?;
    result(202, json!({}))
}

pub(super) fn clear_config(call: &mut Call<'_, '_>) -> Answer {
    let mut user = visible(call)?;
    user.config().clear();
    store(call, &user)?;
    result(202, json!({}))
}
