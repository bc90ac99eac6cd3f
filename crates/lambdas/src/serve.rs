//! A handler as a Lambda function.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keytrail_model::Fatal;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::errors::{diagnostic, error_type};
use crate::{Call, Environment, Line};

/// What a function does.
pub trait Handler: Send + Sync + 'static {
    /// What it is called with.
    type Event: DeserializeOwned;
    /// What it answers.
    type Answer: Serialize;

    /// Handles an event. It blocks; AWS's clients have threads of their own.
    fn handle(&self, event: Self::Event, call: &Call, line: &mut Line) -> Result<Self::Answer, Fatal>;
}

/// Runs a function until Lambda ends it. What is wrong with its environment ends it at once.
pub fn serve<H: Handler>(
    name: &'static str,
    make: impl FnOnce(&mut Environment<'_>) -> Result<H, Fatal>,
) -> ExitCode {
    let ended = |fatal: &Fatal| {
        let error = error_type(fatal);
        eprintln!(
            "{}",
            serde_json::json!({"level": "error", "message": "init", "Function": name, "error": error, "reason": fatal.message})
        );
        ExitCode::FAILURE
    };
    let read = |name: &str| std::env::var(name).ok();
    let mut environment = Environment::new(&read);
    let stage = stage(&environment.optional("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default(), name);
    let made = make(&mut environment).and_then(|handler| environment.finish().map(|()| handler));
    let handler = match made {
        Ok(handler) => Arc::new(handler),
        Err(fatal) => return ended(&fatal),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return ended(&Fatal::new("Fatal.Internal", format!("cannot start: {e}"))),
    };
    let stage: Arc<str> = stage.into();
    let cold = Arc::new(AtomicBool::new(true));
    let served =
        runtime.block_on(lambda_runtime::run(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
            let (handler, stage) = (Arc::clone(&handler), Arc::clone(&stage));
            let call = call(&event.context, cold.swap(false, Ordering::Relaxed));
            async move {
                let answered = tokio::task::spawn_blocking(move || {
                    handled(&*handler, event.payload.get(), name, &stage, &call)
                });
                answered.await.unwrap_or_else(|_| Err(internal("the handler ended early")))
            }
        })));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => ended(&Fatal::new("Fatal.Internal", format!("the runtime ended: {e}"))),
    }
}

/// The environment that a function's name on AWS has in it: `keytrail-dev-archive-events`.
fn stage(function: &str, name: &str) -> String {
    let stage =
        function.strip_prefix("keytrail-").and_then(|rest| rest.strip_suffix(name)?.strip_suffix('-'));
    stage.unwrap_or_default().to_owned()
}

fn call(context: &lambda_runtime::Context, cold: bool) -> Call {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    Call {
        request_id: context.request_id.clone(),
        trace: context.xray_trace_id.clone(),
        deadline: Instant::now() + Duration::from_millis(context.deadline.saturating_sub(now)),
        cold,
    }
}

/// Handles an event, and prints the line of it.
fn handled<H: Handler>(
    handler: &H,
    event: &str,
    name: &str,
    stage: &str,
    call: &Call,
) -> Result<Box<RawValue>, Diagnostic> {
    let mut line = Line::default();
    let begun = Instant::now();
    let parsed = serde_json::from_str(event)
        .map_err(|e| Fatal::new("Fatal.Input", format!("the event cannot be read: {e}")));
    let answer = parsed.and_then(|event| {
        let done = catch_unwind(AssertUnwindSafe(|| handler.handle(event, call, &mut line)));
        done.unwrap_or_else(|_| Err(Fatal::new("Fatal.Internal", "the handler panicked")))
    });
    let answer = answer.and_then(|answer| {
        serde_json::value::to_raw_value(&answer)
            .map_err(|e| Fatal::new("Fatal.Internal", format!("the answer cannot be written: {e}")))
    });
    line.field("took_ms", begun.elapsed().as_millis() as u64);
    let failed = answer.as_ref().err().map(|fatal| (error_type(fatal), fatal.message.as_str()));
    println!("{}", line.text(name, stage, call, failed));
    answer.map_err(|fatal| diagnostic(&fatal))
}

fn internal(why: &str) -> Diagnostic {
    diagnostic(&Fatal::new("Fatal.Internal", why))
}

#[cfg(test)]
mod tests {
    use super::stage;

    #[test]
    fn the_environment_is_that_of_the_name() {
        assert_eq!(stage("keytrail-dev-archive-events", "archive-events"), "dev");
        assert_eq!(stage("archive-events", "archive-events"), "");
        assert_eq!(stage("keytrail-archive-events", "archive-events"), "");
    }
}
