//! The Lambda function `render-report`: see [`keytrail_lambdas::handlers::render_report`].

use std::process::ExitCode;

use keytrail_lambdas::handlers::render_report::RenderReport;

fn main() -> ExitCode {
    keytrail_lambdas::serve("render-report", RenderReport::of)
}
