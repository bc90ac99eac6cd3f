//! Secrets of Secrets Manager.

use aws_sdk_secretsmanager::Client;
use keytrail_ports::StoreError;

use super::{ATTEMPT, ATTEMPTS, Aws, failure};

/// The text of a secret, or `None`. No message has it.
pub(super) fn read(aws: &Aws, id: &str) -> Result<Option<String>, StoreError> {
    let (timeouts, retries) = aws.limits(ATTEMPT, ATTEMPTS);
    let config = aws_sdk_secretsmanager::config::Builder::from(&aws.config)
        .timeout_config(timeouts)
        .retry_config(retries)
        .build();
    let what = format!("read the secret `{id}`");
    match aws.runtime.block_on(Client::from_conf(config).get_secret_value().secret_id(id).send()) {
        Ok(secret) => match secret.secret_string {
            Some(text) => Ok(Some(text)),
            None => Err(StoreError::Fatal(format!("cannot {what}: it is no text"))),
        },
        Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => Ok(None),
        Err(e) => Err(failure(&what, &e)),
    }
}
