//! What tests and benches of keytrail share; no part of the product.
//!
//! What it is: the seeded load generator, the benches, a trail to run commands on, and where to find the
//! tools that tests use. What it is not: the generator uses no code of keytrail, so that a mistake there
//! cannot hide itself here.
//! In: options. Out: log files, figures.

pub mod bench;
pub mod cloud;
pub mod digests;
pub mod fault_proxy;
pub mod forge;
pub mod indexed;
pub mod load;
pub mod localstack;
pub mod minio;
pub mod mmdb;
pub mod openbao;
pub mod oracle;
pub mod projection;
pub mod s3;
pub mod search_server;
pub mod service;
pub mod sidecar;
pub mod tools;
pub mod trail;
