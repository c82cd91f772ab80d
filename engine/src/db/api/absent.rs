//! What ArangoDB has and this server has not: JavaScript, and the parts of the Enterprise Edition. Lists are empty, so
//! that clients that look first go on; whatever would do something is refused as a server without it refuses.

use super::*;
use serde_json::json;

fn no_javascript() -> Failure {
    errors::NOT_IMPLEMENTED.says("JavaScript operations are not available on this server").into()
}

fn enterprise() -> Failure {
    errors::ONLY_ENTERPRISE.into()
}

// ---- JavaScript -----------------------------------------------------------------------------------------------------

/// No Foxx services, no tasks, no Pregel jobs.
pub(super) fn empty_list(_: &mut Call<'_, '_>) -> Answer {
    Ok(Response::raw(200, "[]").into())
}

pub(super) fn javascript(_: &mut Call<'_, '_>) -> Answer {
    Err(no_javascript())
}

/// Pregel's algorithms.
pub(super) fn pregel(_: &mut Call<'_, '_>) -> Answer {
    Err(errors::NOT_IMPLEMENTED.says("Pregel is not available on this server").into())
}

pub(super) fn no_task(_: &mut Call<'_, '_>) -> Answer {
    Err(errors::TASK_NOT_FOUND.into())
}

/// There are no routes in JavaScript, so all of them are as they should be.
pub(super) fn reload_routing(_: &mut Call<'_, '_>) -> Answer {
    ok(200, json!({}))
}

// ---- the Enterprise Edition -----------------------------------------------------------------------------------------

pub(super) fn license(_: &mut Call<'_, '_>) -> Answer {
    Ok(Response::json(200, &json!({"license": "none"})).into())
}

pub(super) fn only_enterprise(_: &mut Call<'_, '_>) -> Answer {
    Err(enterprise())
}

/// Secrets and keys are not even refused to anybody but the deployment itself.
pub(super) fn secrets(call: &mut Call<'_, '_>) -> Answer {
    call.needs_superuser()?;
    Err(enterprise())
}

/// The port speaks no TLS, so there is nothing to tell, and nothing to load again.
pub(super) fn tls(_: &mut Call<'_, '_>) -> Answer {
    ok(200, json!({"result": {"keyfile": {}, "SNI": {}}}))
}

pub(super) fn reload_tls(call: &mut Call<'_, '_>) -> Answer {
    call.needs_superuser()?;
    tls(call)
}

// ---- a storage engine of another kind -------------------------------------------------------------------------------

/// What is deleted is free for what comes next, without anybody's help.
pub(super) fn compact(call: &mut Call<'_, '_>) -> Answer {
    call.needs_superuser()?;
    Ok(Response::raw(200, "{}").into())
}

/// Each acknowledged write is on disk already.
pub(super) fn flush_wal(_: &mut Call<'_, '_>) -> Answer {
    ok(200, json!({}))
}

pub(super) fn wal_properties(_: &mut Call<'_, '_>) -> Answer {
    Err(errors::HTTP_NOT_IMPLEMENTED.into())
}

pub(super) fn wal_transactions(_: &mut Call<'_, '_>) -> Answer {
    ok(200, json!({"runningTransactions": 0, "minLastCollected": null, "minLastSealed": null}))
}
