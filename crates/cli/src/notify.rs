//! `--notify` and `[[notify]]`: receivers of alerts.

use std::path::Path;
use std::sync::Arc;

use keytrail_adapters::command::CommandNotifier;
use keytrail_adapters::local::secret;
use keytrail_adapters::webhook::{Secret, WebhookNotifier};
use keytrail_model::Fatal;
use keytrail_pipeline::alerts::{Receiver, Severity};
use keytrail_pipeline::config::alerts::is_url;
use keytrail_pipeline::config::{DeclaredReceiver, Target};

use crate::args::NotifyArgs;

/// Holds the secret that signs web hooks, where no file does.
const SECRET: &str = "KEYTRAIL_NOTIFY_SECRET";

/// The receivers of the command line, and of `keytrail.toml`.
pub fn receivers(args: &NotifyArgs, declared: &[DeclaredReceiver]) -> Result<Vec<Receiver>, Fatal> {
    let secret_file = args.notify_secret.as_deref();
    let mut receivers = Vec::new();
    for target in &args.notify {
        receivers.push(if is_url(target) {
            web_hook(target, secret_file, Severity::Low)?
        } else {
            command(target, Severity::Low)?
        });
    }
    for receiver in declared {
        receivers.push(match &receiver.target {
            Target::Command(line) => command(line, receiver.least)?,
            Target::Url(url, file) => web_hook(url, file.as_deref().or(secret_file), receiver.least)?,
        });
    }
    Ok(receivers)
}

fn command(line: &str, least: Severity) -> Result<Receiver, Fatal> {
    let Some(program) = line.split_whitespace().next() else {
        return Err(Fatal::new("Config.Notify", "--notify: expected a command or a URL"));
    };
    let notifier = Arc::new(CommandNotifier::new(line));
    Ok(Receiver::new(line, format!("command `{program}`"), least, notifier))
}

fn web_hook(url: &str, secret_file: Option<&Path>, least: Severity) -> Result<Receiver, Fatal> {
    let hook = WebhookNotifier::new(url, hook_secret(secret_file)?)
        .map_err(|e| Fatal::new("Config.Notify", format!("--notify: {e}")))?;
    Ok(Receiver::new(url, format!("web hook {}", hook.shown()), least, Arc::new(hook)))
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
