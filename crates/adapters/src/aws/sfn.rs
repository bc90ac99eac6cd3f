//! State machines of Step Functions.

use aws_sdk_sfn::Client;
use keytrail_ports::{Started, StoreError, Workflow};

use super::{ATTEMPT, ATTEMPTS, Aws, Driver, answered, failure};

/// What an execution's input may have (Step Functions Developer Guide, "service quotas").
const INPUT_BYTES: usize = 256 << 10;

/// Starts executions. See [`Workflow`] for the contract.
pub struct StateMachines {
    client: Client,
    runtime: Driver,
}

impl StateMachines {
    pub(super) fn new(aws: &Aws) -> Self {
        let (timeouts, retries) = aws.limits(ATTEMPT, ATTEMPTS);
        let config = aws_sdk_sfn::config::Builder::from(&aws.config)
            .timeout_config(timeouts)
            .retry_config(retries)
            .build();
        Self { client: Client::from_conf(config), runtime: aws.runtime.clone() }
    }
}

impl Workflow for StateMachines {
    fn start(&self, machine: &str, name: &str, input: &str) -> Result<Started, StoreError> {
        let what = format!("start `{name}` of the state machine `{machine}`");
        if input.len() > INPUT_BYTES {
            return Err(StoreError::Fatal(format!("cannot {what}: its input is larger than 256 KiB")));
        }
        let request = self.client.start_execution().state_machine_arn(machine).name(name).input(input);
        // What a Lambda function was called with (X-Ray).
        let request = request.set_trace_header(std::env::var("_X_AMZN_TRACE_ID").ok());
        match self.runtime.block_on(request.send()) {
            Ok(_) => Ok(Started::New),
            Err(e) => match answered(&e) {
                Some((_, "ExecutionAlreadyExists")) => Ok(Started::Before),
                _ => Err(failure(&what, &e)),
            },
        }
    }
}
