//! Indices whose events are all older than the index keeps.
//!
//! What it is: what a server's lifecycle does where it has one, by event time, for those that have none. What it is not:
//! the archive's own expiry; nothing of it is touched.

use keytrail_index::IndexName;
use keytrail_model::{Fatal, Timestamp};
use keytrail_ports::{EventIndex, IndexBody, Method, Reply};

use super::Settings;
use super::setup::{ask, indices, refusal};

/// Deletes the indices of a namespace, those of dead letters too, that hold nothing younger than the retention; or only
/// names them.
///
/// # Errors
/// `Retryable.IndexFailed`: the server does not answer. `Fatal.IndexDenied`, `Fatal.IndexServer`.
pub fn expire(
    index: &dyn EventIndex,
    settings: &Settings,
    now: Timestamp,
    dry_run: bool,
) -> Result<Vec<IndexName>, Fatal> {
    let past = |name: &IndexName| name.time().is_some_and(|(_, days)| settings.is_past(days.end, now));
    let expired = indices(index, settings)?.into_iter().map(|(name, _)| name).filter(past);
    let expired: Vec<IndexName> = expired.collect();
    for name in expired.iter().filter(|_| !dry_run) {
        let Reply { status, body, .. } = ask(index, Method::Delete, name.as_str(), IndexBody::Empty)?;
        // The server's own lifecycle may have been faster.
        if !matches!(status, 200 | 404) {
            let said = refusal(status, &body);
            return Err(Fatal::new(
                "Fatal.IndexServer",
                format!("the server does not delete `{name}`: {said}"),
            ));
        }
    }
    Ok(expired)
}
