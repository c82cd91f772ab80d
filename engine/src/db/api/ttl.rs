//! `/_api/ttl`: how documents in `ttl` indexes expire on this server, and what came of it.

use super::database::in_system;
use super::*;
use crate::io::ExpiryView;
use crate::types::{Duration, ExpiryProperties};
use serde_json::json;

/// ArangoDB's: no sweep follows another sooner.
const FREQUENCY_MS_MIN: u64 = 1000;

fn shown(properties: &ExpiryProperties) -> Value {
    json!({"result": {
        "frequency": properties.frequency.as_millis(),
        "maxTotalRemoves": properties.total_max,
        "maxCollectionRemoves": properties.collection_max,
        "onlyLoadedCollections": false,
        "active": properties.active,
    }})
}

pub(super) fn properties(call: &mut Call<'_, '_>) -> Answer {
    in_system(call)?;
    ok(200, shown(&call.run.view.expiry.properties))
}

/// For this server, until its process ends.
pub(super) fn set_properties(call: &mut Call<'_, '_>) -> Answer {
    in_system(call)?;
    let body = call.json()?;
    let Value::Object(body) = body else {
        return Err(errors::BAD_PARAMETER.says("expecting object for properties").into());
    };
    let mut wanted = call.run.view.expiry.properties;
    if let Some(active) = body.get("active") {
        let wrong = || errors::BAD_PARAMETER.says("active flag should be a boolean value");
        wanted.active = active.as_bool().ok_or_else(wrong)?;
    }
    let number = |name: &str, default: u64| match body.get(name) {
        None => Ok(default),
        // A fraction or what is below zero counts as ArangoDB's conversion takes it: cut off.
        Some(value) => {
            let wrong = || errors::BAD_PARAMETER.says(format!("expecting numeric value for {name}"));
            value.as_u64().or_else(|| value.as_f64().map(|number| number as u64)).ok_or_else(wrong)
        }
    };
    let frequency_ms = number("frequency", wanted.frequency.as_millis() as u64)?;
    if body.contains_key("frequency") && frequency_ms < FREQUENCY_MS_MIN {
        return Err(errors::BAD_PARAMETER.says("too low value for frequency").into());
    }
    wanted.frequency = Duration::from_millis(frequency_ms);
    wanted.total_max = number("maxTotalRemoves", wanted.total_max)?;
    wanted.collection_max = number("maxCollectionRemoves", wanted.collection_max)?;
    let handled = ok(200, shown(&wanted))?;
    Ok(Handled { then: Some(Then::SetExpiry(wanted)), ..handled })
}

pub(super) fn statistics(call: &mut Call<'_, '_>) -> Answer {
    in_system(call)?;
    let ExpiryView { runs, removed, limit_reached, .. } = call.run.view.expiry;
    ok(200, json!({"result": {"runs": runs, "documentsRemoved": removed, "limitReached": limit_reached}}))
}
