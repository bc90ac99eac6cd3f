//! key_operation

use keytrail_model::{AuditEvent, Rejection};

use crate::Context;

/// `event.dataset` of these events.
/// Normalizer and version.
pub const NORMALIZER: &str = "key-operation/1";
/// `event.dataset` of these events.
pub const DATASET: &str = "keytrail.key_operation";

/// Whether a record's content looks like one of this source.
pub fn recognises(_record: &str) -> bool {
    false
}

/// The event of one record.
pub fn normalize<'a>(_json: &'a str, _ctx: &Context<'a>) -> Result<AuditEvent<'a>, Rejection> {
    Ok(AuditEvent::new(DATASET, "keytrail"))
}
