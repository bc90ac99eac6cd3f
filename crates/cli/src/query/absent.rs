//! `keytrail query` where it was not compiled in.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use keytrail_model::Fatal;

use crate::{exit, help, tell};

/// `keytrail query`.
#[derive(Args, Debug)]
#[command(after_help = help::QUERY)]
pub struct QueryArgs {
    /// What a build with SQL takes
    #[arg(value_name = "SQL", trailing_var_arg = true, allow_hyphen_values = true)]
    _args: Vec<OsString>,
}

/// Says how to get a build that can.
pub fn query(_args: &QueryArgs) -> Result<ExitCode, Fatal> {
    tell("keytrail: this build has no SQL engine, which takes long to compile; one that has it:");
    tell("  cargo build --release --features sql    (or: cargo run --release --features sql -- query ...)");
    Ok(ExitCode::from(exit::USAGE))
}
