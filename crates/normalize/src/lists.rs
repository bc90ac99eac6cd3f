//! Lists of events, filled at once.
//!
//! What it is: the way to put many texts of a record into one column. What it is not: for a handful,
//! [`AuditEvent::add`] keeps their order. In: texts. Out: the column's list.

use std::borrow::Cow;

use keytrail_model::{AuditEvent, Column, Value};

/// Adds texts to a list: sorted, each once. A record may hold a million of them.
pub(crate) fn add_all<'a>(
    event: &mut AuditEvent<'a>,
    column: Column,
    texts: impl IntoIterator<Item = Cow<'a, str>>,
) {
    let mut list = match event.get(column) {
        Value::List(list) => list.clone(),
        _ => Vec::new(),
    };
    list.extend(texts.into_iter().filter(|t| !t.is_empty()));
    list.sort_unstable();
    list.dedup();
    if !list.is_empty() {
        event.set(column, Value::List(list));
    }
}
