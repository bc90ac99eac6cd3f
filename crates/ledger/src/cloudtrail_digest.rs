//! CloudTrail's own proof of delivery: digest files, each signed and linked to the one before.
//!
//! What it is: what a digest file says ([`DigestFile`]), what AWS signs of it ([`string_to_sign`]), the keys
//! that AWS publishes ([`PublicKeys`]), and the walk along the chains ([`walk`]). What it is not: it opens no
//! file and looks at no log file: that is the pipeline's. In: inflated bytes of digest files, and what their
//! object's metadata say. Out: [`Finding`](crate::Finding)s, windows of time, what was not checked.
//!
//! Source: the CloudTrail user guide, "CloudTrail digest file structure" and "Custom implementations of
//! CloudTrail log file integrity validation".

mod chain;
mod file;
mod keys;
mod name;

pub use chain::{Chain, Content, Link, Range, Walked, walk};
pub use file::{DigestFile, LogFile, ObjectHead, Previous, string_to_sign};
pub use keys::{PublicKey, PublicKeys};
pub use name::{DigestName, LogName};
