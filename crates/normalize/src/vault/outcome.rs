//! What came of a call, as its record says it.
//!
//! What it is: the rules of `schemas/mappings/vault.md`, section "Outcome". What it is not: it joins no
//! request to its response. In: the parts of a record that bear on it. Out: outcome, error and reason columns.

use std::borrow::Cow;

use keytrail_model::{ActionClass, AuditEvent, Column};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::clear;
use super::record::{self, Auth, Batch, ResponseData};
use crate::Context;

/// Whether the call was refused for want of permission.
pub(super) fn denied(auth: &Auth<'_>, error: Option<&str>) -> bool {
    auth.policy_results.as_ref().is_some_and(|r| r.allowed == Some(false))
        || error.is_some_and(|t| t.contains("permission denied"))
}

/// What came of the call: outcome, error, reason.
///
/// Vault says failure in four places, and often in one alone: the record's `error`, an error as the
/// answer (`logical.ErrorResponse`: `data.error`), a status code as the answer (`http_status_code`, 207
/// for a batch that failed in part), and items of a batch. A failed verification is `valid: false`.
pub(super) fn outcome<'a>(
    e: &mut AuditEvent<'a>,
    said: Said<'a>,
    data: &ResponseData<'a>,
    batch: &Batch,
    class: Option<ActionClass>,
    ctx: &Context<'a>,
) {
    let status = record::number(data.http_status_code).filter(|code| {
        (*code == 207 || *code >= 400) && (!said.users_data || data.http_content_type.is_some())
    });
    let answer = record::says(data.error) && (!said.users_data || said.data.is_some_and(error_alone));
    let invalid = class == Some(ActionClass::Verify) && (record::is(data.valid, false) || batch.invalid > 0);
    let errors = record::says(said.errors) || (record::says(data.errors) && !said.users_data);
    let failed = said.error.is_some() || answer || errors || status.is_some() || batch.errors > 0 || invalid;
    let outcome = match (failed, said.phase) {
        (true, _) => "failure",
        // Allowed to go on, no more: what came of it is the response's to say.
        (false, "request") => "unknown",
        (false, _) => "success",
    };
    e.text(Column::EventOutcome, outcome);
    e.maybe(Column::ErrorCode, status.map(|code| code.to_string()));
    let message = said.error.or_else(|| record::string(data.error).filter(|t| answer && clear(t)));
    e.maybe(Column::ErrorMessage, message.map(|m| ctx.masker.scrub(trimmed(m))));
    if invalid {
        e.text(Column::EventReason, "the signature or MAC is not valid");
    } else if batch.errors > 0 || status == Some(207) {
        e.text(Column::EventReason, "some items of the batch failed");
    }
}

/// What of a record bears on its outcome, beside the fields of the answer.
pub(super) struct Said<'a> {
    pub phase: &'static str,
    pub error: Option<Cow<'a, str>>,
    pub errors: Option<&'a RawValue>,
    pub data: Option<&'a RawValue>,
    /// The answer's keys are users' own, as in KV version 1: an `error` among others is their secret.
    pub users_data: bool,
}

/// An answer that is an error holds nothing else (`logical.Response.IsError`).
fn error_alone(data: &RawValue) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Alone {
        #[serde(rename = "error")]
        _error: IgnoredAny,
    }
    serde_json::from_str::<Alone>(data.get()).is_ok()
}

/// Without the line ends that Go's multi-errors have.
fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(t) => Cow::Borrowed(t.trim()),
        Cow::Owned(t) => Cow::Owned(t.trim().to_owned()),
    }
}
