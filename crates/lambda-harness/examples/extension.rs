//! An extension that writes the events it gets to a file, for the tests of the harness.

use std::fs;
use std::io::Write as _;

use lambda_extension::{Error, Extension, LambdaEvent, NextEvent, service_fn};

fn main() -> Result<(), Error> {
    println!("init of the extension");
    append(&format!("extension {}", std::env::var("_HANDLER").is_err()))?;
    if std::env::var("GO").is_ok() {
        std::process::exit(7);
    }
    let events = std::env::var("EVENTS").unwrap_or_else(|_| "INVOKE,SHUTDOWN".to_owned());
    let events: Vec<&str> = events.split(',').collect();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        Extension::new().with_events(&events).with_events_processor(service_fn(handle)).run().await
    })
}

async fn handle(event: LambdaEvent) -> Result<(), Error> {
    match event.next {
        NextEvent::Invoke(invoke) => append(&format!("invoke {}", invoke.request_id))?,
        NextEvent::Shutdown(shutdown) => {
            append(&format!("shutdown {}", shutdown.shutdown_reason))?;
            println!("the extension goes");
            if std::env::var("STAY").is_ok() {
                std::thread::sleep(std::time::Duration::from_secs(3600));
            }
            std::process::exit(0);
        }
    }
    Ok(())
}

fn append(line: &str) -> Result<(), Error> {
    let mut file = fs::File::options().create(true).append(true).open(std::env::var("INIT_LOG")?)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    Ok(())
}
