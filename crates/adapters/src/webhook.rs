//! A web server as receiver of notices: a signed POST, after the Standard Webhooks specification 1.0.0.
//!
//! Headers `webhook-id`, `webhook-timestamp` (seconds since 1970) and `webhook-signature`: for each secret
//! `v1,` and HMAC-SHA-256 in Base64 over id, timestamp and body with full stops between. A status of 2xx is
//! the acknowledgement; redirects are not followed. Statuses 408, 429 and 5xx, and what the network does,
//! are tried again for seconds; `Retry-After` is heeded within that time.
//!
//! The machine's certificate store decides whom TLS trusts. A web hook's path is often a secret by itself:
//! errors name scheme, host and port alone.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use keytrail_ports::{Notice, Notifier, NotifyError};
use sha2::Sha256;
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Error, Timeout};

/// Waits between the attempts of one call, in milliseconds.
const WAITS: [u64; 2] = [500, 2_000];

/// How long an attempt may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How long all attempts of a call may take, the last one's own time not counted.
const PATIENCE: Duration = Duration::from_secs(20);

/// What signs. It has neither `Debug` nor `Display`.
pub struct Secret(Vec<Vec<u8>>);

impl Secret {
    /// Reads secrets as the specification writes them, `whsec_` and 24 to 64 bytes in Base64, one or more
    /// with white space between: while one replaces another, both sign.
    pub fn parse(text: &str) -> Result<Self, String> {
        let keys: Option<Vec<Vec<u8>>> = text
            .split_whitespace()
            .map(|word| {
                let key = STANDARD.decode(word.strip_prefix("whsec_")?).ok()?;
                (24..=64).contains(&key.len()).then_some(key)
            })
            .collect();
        match keys {
            Some(keys) if !keys.is_empty() => Ok(Self(keys)),
            _ => Err("expected `whsec_` and 24 to 64 bytes in Base64".into()),
        }
    }

    /// The value of `webhook-signature`.
    fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let signature = |key: &Vec<u8>| {
            // HMAC takes keys of any length, so this is never `None`.
            let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
            mac.update(format!("{id}.{seconds}.").as_bytes());
            mac.update(body);
            Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
        };
        self.0.iter().filter_map(signature).collect::<Vec<_>>().join(" ")
    }
}

/// Posts notices to a URL.
pub struct WebhookNotifier {
    agent: Agent,
    url: Uri,
    secret: Secret,
    shown: String,
}

impl fmt::Debug for WebhookNotifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl WebhookNotifier {
    /// A notifier for an `http://` or `https://` URL.
    ///
    /// # Errors
    /// What is wrong with the URL, without the URL.
    pub fn new(url: &str, secret: Secret) -> Result<Self, String> {
        let expected = || "expected an `http://` or `https://` URL with a host".to_owned();
        let uri: Uri = url.parse().map_err(|_| expected())?;
        let (Some("http" | "https"), Some(host)) = (uri.scheme_str(), uri.host().filter(|h| !h.is_empty()))
        else {
            return Err(expected());
        };
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err("expected a URL without user and password".into());
        }
        let port = uri.port_u16().map(|p| format!(":{p}")).unwrap_or_default();
        let shown = format!("{}://{host}{port}", uri.scheme_str().unwrap_or_default());
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(TIMEOUT))
            .max_idle_connections(0)
            .user_agent(concat!("keytrail/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { agent, url: uri, secret, shown })
    }

    /// Where it leads, without path and query.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// One attempt; an error that may pass has the wait that the receiver asked for.
    fn attempt(&self, notice: &Notice<'_>, seconds: i64) -> Result<(), (NotifyError, Option<Duration>)> {
        let sent = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json")
            .header("webhook-id", notice.id)
            .header("webhook-timestamp", seconds.to_string())
            .header("webhook-signature", self.secret.sign(notice.id, seconds, notice.body))
            .send(notice.body);
        let retryable = |why: String| NotifyError::Retryable(format!("{}: {why}", self.shown));
        let answer = match sent {
            Ok(answer) => answer,
            Err(e) => return Err((retryable(cause(&e)), None)),
        };
        let status = answer.status().as_u16();
        let wait = answer
            .headers()
            .get("retry-after")
            .and_then(|v| v.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        match status {
            200..=299 => Ok(()),
            408 | 429 | 500..=599 => Err((retryable(format!("it answered with status {status}")), wait)),
            300..=399 => Err((
                NotifyError::Refused(format!(
                    "{}: it answered with status {status}; redirects are not followed",
                    self.shown
                )),
                None,
            )),
            _ => {
                Err((NotifyError::Refused(format!("{}: it answered with status {status}", self.shown)), None))
            }
        }
    }
}

impl Notifier for WebhookNotifier {
    fn notify(&self, notice: &Notice<'_>) -> Result<(), NotifyError> {
        let began = Instant::now();
        let mut waits = WAITS.into_iter().map(Duration::from_millis);
        loop {
            let now = i64::try_from(began.elapsed().as_micros()).unwrap_or(0) + notice.at.0;
            let (error, asked) = match self.attempt(notice, now.div_euclid(1_000_000)) {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            let wait = match (&error, waits.next()) {
                (NotifyError::Retryable(_), Some(wait)) => wait.max(asked.unwrap_or_default()),
                _ => return Err(error),
            };
            // A receiver may ask for any time.
            if began.elapsed().saturating_add(wait) > PATIENCE {
                return Err(error);
            }
            thread::sleep(wait);
        }
    }
}

/// What kept an attempt from its answer. Texts of libraries are left out where they may hold the URL.
fn cause(error: &Error) -> String {
    match error {
        Error::HostNotFound => "there is no such host".into(),
        Error::Timeout(Timeout::Resolve | Timeout::Connect) => "cannot connect in time".into(),
        Error::Timeout(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        Error::Io(e) => format!("cannot reach it: {}", e.kind()),
        Error::Tls(what) => format!("TLS: {what}"),
        Error::Rustls(e) => format!("TLS: {e}"),
        Error::ConnectionFailed => "cannot connect".into(),
        _ => "its answer is no HTTP".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries: svix and standard-webhooks share it.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").ok().unwrap();
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn both_secrets_sign_while_one_replaces_the_other() {
        let both =
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nwhsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
        let signed = Secret::parse(both).ok().unwrap().sign("a", 1, b"{}");
        assert_eq!(signed.split(' ').filter(|s| s.starts_with("v1,")).count(), 2, "{signed}");
        for wrong in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%%%%"] {
            let e = Secret::parse(wrong).err().unwrap();
            assert!(!e.contains("AAAA") && !e.contains("MfKQ"), "{e}");
        }
    }

    #[test]
    fn a_url_that_is_none_is_not_repeated() {
        let secret = || Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").ok().unwrap();
        for url in ["ftp://h/t0ken", "https:///t0ken", "t0ken", "http://u:t0ken@h/"] {
            let e = WebhookNotifier::new(url, secret()).unwrap_err();
            assert!(e.starts_with("expected") && !e.contains("t0ken"), "{e}");
        }
        let hook = WebhookNotifier::new("https://hooks.example.com:8443/t0ken?x=t0ken", secret()).unwrap();
        assert_eq!(hook.shown(), "https://hooks.example.com:8443");
    }

    #[test]
    fn nobody_there_is_told_without_the_path() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").ok().unwrap();
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let hook = WebhookNotifier::new(&format!("http://127.0.0.1:{port}/t0ken"), secret).unwrap();
        let notice = Notice { id: "a", at: keytrail_model::Timestamp(0), body: b"{}" };
        let NotifyError::Retryable(e) = hook.notify(&notice).unwrap_err() else { panic!("it may come back") };
        assert_eq!(e, format!("http://127.0.0.1:{port}: cannot reach it: connection refused"));
    }

    #[test]
    fn a_receiver_that_asks_for_any_wait_ends_nothing() {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _read = stream.read(&mut [0; 4_096]).unwrap();
            let answer =
                "HTTP/1.1 503 Busy\r\nRetry-After: 18446744073709551615\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").ok().unwrap();
        let hook = WebhookNotifier::new(&format!("http://127.0.0.1:{port}/"), secret).unwrap();
        let notice = Notice { id: "a", at: keytrail_model::Timestamp(0), body: b"{}" };
        let e = hook.notify(&notice).unwrap_err();
        let why = format!("http://127.0.0.1:{port}: it answered with status 503");
        assert_eq!(e, NotifyError::Retryable(why));
        server.join().unwrap();
    }
}
