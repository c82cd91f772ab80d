//! `/_api/database`.

use super::*;
use serde_json::json;

pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    in_system(call)?;
    call.needs_administrator()?;
    let rows = call.reader().databases()?;
    ok(200, rows.into_iter().map(|row| Value::from(row.name)).collect())
}

pub(super) fn list_accessible(call: &mut Call<'_, '_>) -> Answer {
    let rows = call.reader().databases()?;
    let visible = rows.into_iter().filter(|row| call.database_level(&row.name) > Level::None);
    ok(200, visible.map(|row| Value::from(row.name)).collect())
}

pub(super) fn current(call: &mut Call<'_, '_>) -> Answer {
    let database = &call.database;
    let system = database.name == SYSTEM;
    ok(
        200,
        json!({"result": {"name": database.name, "id": database.id.to_string(), "path": "none", "isSystem": system}}),
    )
}

pub(super) fn in_system(call: &Call<'_, '_>) -> Result<(), Failure> {
    if call.database.name == SYSTEM { Ok(()) } else { Err(errors::USE_SYSTEM_DATABASE.into()) }
}

pub(super) fn create(call: &mut Call<'_, '_>) -> Answer {
    in_system(call)?;
    call.needs_administrator()?;
    call.needs_database(Level::Rw)?;
    let body = call.json()?;
    let Some(name) = body.get("name").and_then(Value::as_str) else {
        return Err(errors::DATABASE_NAME_INVALID.into());
    };
    if call.run.view.limits.extended_names && !names::is_normal(name) {
        return Err(errors::ILLEGAL_NAME.says("database name is not properly UTF-8 NFC-normalized").into());
    }
    if !names::is_of_database(name, call.run.view.limits.extended_names) {
        let rule = "1 to 64 of a-z, A-Z, 0-9, _ and -, beginning with a letter";
        return Err(errors::DATABASE_NAME_INVALID.because(format!("'{name}' is not {rule}")).into());
    }
    if call.reader().database(name)?.is_some() {
        return Err(errors::DUPLICATE_NAME.into());
    }
    let users = read_users(body.get("users"))?;
    let options = match body.get("options") {
        Some(options @ Value::Object(_)) if !json::fits(options) => {
            return Err(errors::BAD_PARAMETER.because("options are nested too deeply").into());
        }
        Some(options @ Value::Object(_)) => options.clone(),
        None | Some(Value::Null) => json!({}),
        Some(_) => return Err(errors::HTTP_BAD_PARAMETER.says("invalid options slice").into()),
    };
    call.writer()?.create_database(name, options)?;
    for new in users {
        let mut user = match users::find(&call.reader(), &new.name)? {
            Some((user, _)) => user,
            None => {
                let mut user = User::new(&new.name, &new.password, call.chance());
                user.set_active(new.active);
                user.set_extra(new.extra);
                user
            }
        };
        user.grant_whole(name, Level::Rw);
        user::store(call, &user)?;
    }
    // Whoever makes a database may use it.
    if let Who::User(creator) = &call.who
        && let Some((mut user, _)) = users::find(&call.reader(), &creator.name)?
        && user.database_level(name) < Level::Rw
    {
        user.grant_whole(name, Level::Rw);
        user::store(call, &user)?;
    }
    ok(201, json!({"result": true}))
}

struct NewUser {
    name: String,
    password: String,
    active: bool,
    extra: Value,
}

fn read_users(users: Option<&Value>) -> Result<Vec<NewUser>, Failure> {
    let Some(users) = users.filter(|users| !users.is_null()) else { return Ok(Vec::new()) };
    let users = users.as_array().ok_or(errors::BAD_PARAMETER.because("users must be an array"))?;
    let read = |given: &Value| {
        let text = |name: &str| given.get(name).and_then(Value::as_str);
        let name = text("username").or(text("user")).unwrap_or_default().to_owned();
        user::check_name(&name)?;
        let extra = given.get("extra").filter(|extra| extra.is_object()).cloned().unwrap_or_else(|| json!({}));
        if !json::fits(&extra) {
            return Err(errors::BAD_PARAMETER.because("extra is nested too deeply").into());
        }
        Ok(NewUser {
            name,
            password: text("passwd").or(text("password")).unwrap_or_default().to_owned(),
            active: given.get("active").and_then(Value::as_bool).unwrap_or(true),
            extra,
        })
    };
    users.iter().map(read).collect()
}

pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    in_system(call)?;
    call.needs_administrator()?;
    call.needs_database(Level::Rw)?;
    let name = call.open[0].clone();
    if name == SYSTEM {
        return Err(errors::FORBIDDEN.into());
    }
    let found = if name.len() <= NAME_BYTES_MAX { call.reader().database(&name)? } else { None };
    let row = found.ok_or(errors::DATABASE_NOT_FOUND)?;
    call.writer()?.drop_database(&row)?;
    for (mut user, _) in users::all(&call.reader())? {
        if user.configured_database(&name).is_some() {
            user.revoke_database(&name);
            user::store(call, &user)?;
        }
    }
    ok(200, json!({"result": true}))
}
