//! The types of errors that functions end with, as state machines match them.
//!
//! A type is the code of a [`Fatal`] where it is one of these; all others are of the class that they begin with. Nothing
//! else ever stands there, a Rust type's name least of all.

use keytrail_model::Fatal;
use lambda_runtime::Diagnostic;

/// A later call may succeed.
pub const RETRYABLE: [&str; 14] = [
    "Retryable.Index",
    "Retryable.IndexBlocked",
    "Retryable.IndexBusy",
    "Retryable.IndexDiskFull",
    "Retryable.IndexFailed",
    "Retryable.LogBusy",
    "Retryable.LogMoved",
    "Retryable.Notify",
    "Retryable.Other",
    "Retryable.Replaced",
    "Retryable.Store",
    "Retryable.StoreFull",
    "Retryable.Time",
    "Retryable.Workflow",
];

/// A person has to do something.
pub const FATAL: [&str; 22] = [
    "Fatal.Archive",
    "Fatal.ArchiveDamaged",
    "Fatal.Config",
    "Fatal.IndexConflict",
    "Fatal.IndexDenied",
    "Fatal.IndexServer",
    "Fatal.Input",
    "Fatal.Internal",
    "Fatal.LogDamaged",
    "Fatal.LogEntry",
    "Fatal.LogFork",
    "Fatal.LogKey",
    "Fatal.LogMissing",
    "Fatal.LogRollback",
    "Fatal.ObjectConflict",
    "Fatal.ObjectMissing",
    "Fatal.Other",
    "Fatal.RecordLost",
    "Fatal.ReportDiffers",
    "Fatal.Reports",
    "Fatal.Scratch",
    "Fatal.Store",
];

/// The type of an error.
pub fn error_type(fatal: &Fatal) -> &'static str {
    let known = RETRYABLE.into_iter().chain(FATAL).find(|code| *code == fatal.code);
    match (known, fatal.code.split('.').next()) {
        (Some(known), _) => known,
        (None, Some("Retryable")) => "Retryable.Other",
        (None, Some("Config" | "Usage")) => "Fatal.Config",
        (None, _) => "Fatal.Other",
    }
}

/// What Lambda is answered: the type, and the code where that is another one.
pub fn diagnostic(fatal: &Fatal) -> Diagnostic {
    let error_type = error_type(fatal);
    let error_message = if error_type == fatal.code { fatal.message.clone() } else { fatal.to_string() };
    Diagnostic { error_type: error_type.to_owned(), error_message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_of_the_closed_list() {
        let of = |code| diagnostic(&Fatal::new(code, "why"));
        assert_eq!(
            (of("Retryable.Store").error_type, of("Retryable.Store").error_message),
            ("Retryable.Store".into(), "why".into())
        );
        assert_eq!(of("Retryable.SpoolBusy").error_type, "Retryable.Other");
        assert_eq!(of("Config.Keys").error_message, "Config.Keys: why");
        assert_eq!(
            (of("Usage.Day").error_type, of("Fatal.Worker").error_type),
            ("Fatal.Config".into(), "Fatal.Other".into())
        );
        assert!(RETRYABLE.is_sorted() && FATAL.is_sorted());
    }
}
