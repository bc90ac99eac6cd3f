//! The Lambda function `stage-objects`: see [`keytrail_lambdas::handlers::stage_objects`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::stage_objects::StageObjects;

fn main() -> ExitCode {
    keytrail_lambdas::serve("stage-objects", StageObjects::of)
}
