//! The path on AWS as it is deployed, on LocalStack.

// Helpers of tests panic as tests do; clippy knows tests by their attribute alone.
#![allow(clippy::expect_used, clippy::panic)]

mod retries;
mod stack;
mod whole;
