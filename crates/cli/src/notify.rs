//! `--notify`: receivers of alerts from the command line.

use std::path::Path;
use std::sync::Arc;

use keytrail_adapters::command::CommandNotifier;
use keytrail_adapters::local::secret;
use keytrail_adapters::webhook::{Secret, WebhookNotifier};
use keytrail_model::Fatal;
use keytrail_pipeline::alerts::{Receiver, Severity};

use crate::args::NotifyArgs;

/// Holds the secret that signs web hooks, where no file does.
const SECRET: &str = "KEYTRAIL_NOTIFY_SECRET";

/// The receivers that were asked for.
pub fn receivers(args: &NotifyArgs) -> Result<Vec<Receiver>, Fatal> {
    let config = |e: String| Fatal::new("Config.Notify", e);
    let mut receivers = Vec::new();
    for target in &args.notify {
        let is_url = ["http://", "https://"].iter().any(|scheme| {
            target.as_bytes().get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme.as_bytes()))
        });
        receivers.push(if is_url {
            let hook = WebhookNotifier::new(target, hook_secret(args.notify_secret.as_deref())?)
                .map_err(|e| config(format!("--notify: {e}")))?;
            let name = format!("web hook {}", hook.shown());
            Receiver::new(target, name, Severity::Low, Arc::new(hook))
        } else if target.trim().is_empty() {
            return Err(config("--notify: expected a command or a URL".into()));
        } else {
            let program: String = target.split_whitespace().next().unwrap_or_default().into();
            Receiver::new(
                target,
                format!("command `{program}`"),
                Severity::Low,
                Arc::new(CommandNotifier::new(target.as_str())),
            )
        });
    }
    Ok(receivers)
}

/// The secret of web hooks: of the file, else of the environment.
fn hook_secret(file: Option<&Path>) -> Result<Secret, Fatal> {
    let config = |e: String| Fatal::new("Config.Notify", e);
    let (text, place) = match file {
        Some(path) => {
            let place = format!("`{}`", path.display());
            let bytes = secret::read(path)?.ok_or_else(|| config(format!("{place} is not there")))?;
            (String::from_utf8_lossy(&bytes).into_owned(), place)
        }
        None => {
            let text = std::env::var(SECRET).map_err(|_| {
                config(format!(
                    "web hooks are signed: give their secret by --notify-secret FILE or in `{SECRET}`"
                ))
            })?;
            (text, format!("`{SECRET}`"))
        }
    };
    Secret::parse(&text).map_err(|e| config(format!("{place}: {e}")))
}
