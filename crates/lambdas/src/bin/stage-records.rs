//! The Lambda function `stage-records`: see [`keytrail_lambdas::handlers::stage_records`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::stage_records::StageRecords;

fn main() -> ExitCode {
    keytrail_lambdas::serve("stage-records", StageRecords::of)
}
