//! Events as documents of a search index (Elasticsearch, OpenSearch).
//!
//! What it is: the ECS document of an event, bulk bodies of such documents, what a server's answer says of each of
//! them, the names, mappings and templates of indices, and searches. What it is not: it speaks no HTTP and keeps no
//! state. In: rows of the archive, searches. Out: bytes to send, outcomes, pages of documents.
//!
//! A document's place is a function of its event ([`IndexName`]), its id is the event's uid, and it is written with
//! `create`: whatever is sent twice is refused by the server and is there once.

mod bulk;
mod document;
mod filter;
mod layout;
mod lifecycle;
mod mapping;
mod name;
mod response;
mod search;
mod text;

use keytrail_model::Column;

pub use bulk::{Bulk, Item, Limits, Op};
pub use document::{Event, Fields, Writer};
pub use filter::{Filter, Rule};
pub use layout::{Layout, Layouts};
pub use lifecycle::{creation, policy, policy_name};
pub use mapping::{Component, Target, components, dead_letter_template, index_template, mapping};
pub use name::{IndexName, Namespace, Period};
pub use response::{Answer, Deferral, Outcome, answer, is_block};
pub use search::{
    FieldName, KEPT, Mistake, PAGE_PATH, Page, PageRequest, Place, Points, Refusal, Search, Total,
    UnknownField, events_of, page,
};

/// A column's field in documents: its own, but where that lies below one that is a value. No server takes a field as
/// both: `keytrail.source` is the log's source, and what tables say of the caller's network is no part of it.
pub const fn field(column: Column) -> &'static str {
    match column {
        Column::KeytrailSourceSite => "keytrail.network.site",
        Column::KeytrailSourceZone => "keytrail.network.zone",
        other => other.field(),
    }
}
