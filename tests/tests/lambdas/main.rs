//! The Lambda functions as Lambda runs them: the real binaries in the harness, over emulated services of AWS.

mod faults;
mod image;
mod index;
mod path;
mod stream;
