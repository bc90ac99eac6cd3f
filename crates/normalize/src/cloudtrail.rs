//! cloudtrail

use keytrail_model::{AuditEvent, Rejection};

use crate::Context;

/// `event.dataset` of these events.
pub const DATASET: &str = "aws.cloudtrail";

/// Whether a record's content looks like one of this source.
pub fn recognises(_record: &str) -> bool {
    false
}

/// The event of one record.
pub fn normalize<'a>(_json: &'a str, _ctx: &Context<'a>) -> Result<AuditEvent<'a>, Rejection> {
    Ok(AuditEvent::new(DATASET, "aws"))
}

/// The event inside an answer of the LookupEvents API, where it stands as a JSON string.
pub fn unwrap_lookup(_json: &str) -> Result<Option<String>, Rejection> {
    Ok(None)
}
