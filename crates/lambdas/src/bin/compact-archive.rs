//! The Lambda function `compact-archive`: see [`keytrail_lambdas::handlers::compact_archive`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::compact_archive::CompactArchive;

fn main() -> ExitCode {
    keytrail_lambdas::serve("compact-archive", CompactArchive::of)
}
