//! A queue of SQS.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::MessageSystemAttributeName;
use keytrail_model::Timestamp;
use keytrail_ports::{Message, Queue, StoreError};

use super::{ATTEMPT, ATTEMPTS, Aws, Driver, failure};

/// Messages of a call (ReceiveMessage, API reference).
const CALL_MESSAGES: usize = 10;

/// How long a call waits for messages: one that does not wait asks some of the queue's servers alone.
const WAIT_SECONDS: i32 = 1;

/// A queue. See [`Queue`] for the contract.
pub struct SqsQueue {
    client: Client,
    runtime: Driver,
    url: String,
}

impl SqsQueue {
    pub(super) fn new(aws: &Aws, url: &str) -> Self {
        let (timeouts, retries) = aws.limits(ATTEMPT, ATTEMPTS);
        let config = aws_sdk_sqs::config::Builder::from(&aws.config)
            .timeout_config(timeouts)
            .retry_config(retries)
            .build();
        Self { client: Client::from_conf(config), runtime: aws.runtime.clone(), url: url.to_owned() }
    }
}

impl Queue for SqsQueue {
    fn receive(&self, max: usize) -> Result<Vec<Message>, StoreError> {
        let max = i32::try_from(max.clamp(1, CALL_MESSAGES)).unwrap_or(1);
        let request = self.client.receive_message().queue_url(&self.url);
        let request = request.max_number_of_messages(max).wait_time_seconds(WAIT_SECONDS);
        let request = request.message_system_attribute_names(MessageSystemAttributeName::SentTimestamp);
        let what = format!("take messages of the queue `{}`", self.url);
        let answer = self.runtime.block_on(request.send()).map_err(|e| failure(&what, &e))?;
        let message = |m: aws_sdk_sqs::types::Message| {
            // Milliseconds since 1970.
            let sent =
                m.attributes.and_then(|mut all| all.remove(&MessageSystemAttributeName::SentTimestamp));
            let sent = sent.and_then(|text| text.parse::<i64>().ok());
            match (m.body, m.receipt_handle, sent) {
                (Some(body), Some(receipt), Some(sent)) => {
                    Ok(Message { body, receipt, sent: Timestamp(sent.saturating_mul(1_000)) })
                }
                _ => Err(StoreError::Retryable(format!("cannot {what}: one has no body, receipt or time"))),
            }
        };
        answer.messages.unwrap_or_default().into_iter().map(message).collect()
    }

    fn done(&self, receipt: &str) -> Result<(), StoreError> {
        let request = self.client.delete_message().queue_url(&self.url).receipt_handle(receipt);
        let sent = self.runtime.block_on(request.send());
        sent.map(|_| ()).map_err(|e| failure(&format!("end a message of the queue `{}`", self.url), &e))
    }
}
