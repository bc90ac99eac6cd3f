//! A topic of SNS.

use aws_sdk_sns::Client;
use aws_sdk_sns::types::MessageAttributeValue;
use keytrail_ports::{Notice, Notifier, NotifyError, StoreError};
use serde_json::Value;

use super::{ATTEMPT, ATTEMPTS, Aws, Driver, failure};

/// What a message may have (Publish, API reference), its attributes among it.
const MESSAGE_BYTES: usize = 256 << 10;

/// What a subject may have, which is the subject of a mail: printable ASCII.
const SUBJECT_BYTES: usize = 99;

/// A topic, whose subscribers are told. See [`Notifier`] for the contract. Whoever subscribes reads what is sent; SNS
/// signs what it delivers.
pub struct SnsTopic {
    client: Client,
    runtime: Driver,
    arn: String,
}

impl SnsTopic {
    pub(super) fn new(aws: &Aws, arn: &str) -> Self {
        let (timeouts, retries) = aws.limits(ATTEMPT, ATTEMPTS);
        let config = aws_sdk_sns::config::Builder::from(&aws.config)
            .timeout_config(timeouts)
            .retry_config(retries)
            .build();
        Self { client: Client::from_conf(config), runtime: aws.runtime.clone(), arn: arn.to_owned() }
    }

    /// Sends a message to the subscribers; its id.
    ///
    /// # Errors
    /// The topic did not take it, or it is larger than 256 KiB.
    pub fn publish(&self, subject: &str, body: &str) -> Result<String, StoreError> {
        self.send(subject, body, None)
    }

    fn send(&self, subject: &str, body: &str, id: Option<&str>) -> Result<String, StoreError> {
        let what = format!("publish to the topic `{}`", self.arn);
        if body.len() + id.map_or(0, |id| id.len() + 16) > MESSAGE_BYTES {
            return Err(StoreError::Fatal(format!("cannot {what}: the message is larger than 256 KiB")));
        }
        let mut request = self.client.publish().topic_arn(&self.arn).message(body).subject(plain(subject));
        if let Some(id) = id {
            let value = MessageAttributeValue::builder().data_type("String").string_value(id).build();
            let value = value.map_err(|e| StoreError::Fatal(format!("cannot {what}: {e}")))?;
            request = request.message_attributes("id", value);
        }
        let sent = self.runtime.block_on(request.send()).map_err(|e| failure(&what, &e))?;
        sent.message_id.ok_or_else(|| StoreError::Retryable(format!("cannot {what}: no id came")))
    }
}

impl Notifier for SnsTopic {
    fn notify(&self, notice: &Notice<'_>) -> Result<(), NotifyError> {
        let body = std::str::from_utf8(notice.body)
            .map_err(|_| NotifyError::Refused("the notice is no text".to_owned()))?;
        match self.send(&subject(body), body, Some(notice.id)) {
            Ok(_) => Ok(()),
            Err(StoreError::Retryable(e) | StoreError::Full(e)) => Err(NotifyError::Retryable(e)),
            Err(StoreError::Fatal(e)) => Err(NotifyError::Refused(e)),
        }
    }
}

/// What a mail is called: severity and title of an alert.
fn subject(body: &str) -> String {
    let notice: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |name: &str| notice["data"][name].as_str().unwrap_or_default();
    match (text("severity"), text("title")) {
        (_, "") => "keytrail".to_owned(),
        ("", title) => format!("keytrail: {title}"),
        (severity, title) => format!("keytrail {severity}: {title}"),
    }
}

/// A subject that SNS takes: printable ASCII that begins with neither space nor dash.
fn plain(subject: &str) -> String {
    let plain = subject.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' });
    let plain: String = plain.take(SUBJECT_BYTES).collect();
    let plain = plain.trim_start_matches([' ', '-']);
    if plain.is_empty() { "keytrail".to_owned() } else { plain.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_what_a_mail_can_have() {
        assert_eq!(subject("{}"), "keytrail");
        let body = r#"{"data":{"severity":"critical","title":"the log was rolled back"}}"#;
        assert_eq!(subject(body), "keytrail critical: the log was rolled back");
        assert_eq!(plain(" -a\nb\u{e9}"), "a?b?");
        assert_eq!(plain(&"x".repeat(200)).len(), 99);
        assert_eq!(plain("\n"), "?");
        assert_eq!(plain("- "), "keytrail");
    }
}
