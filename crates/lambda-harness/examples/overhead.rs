//! What the harness itself costs: `cargo run --release -p keytrail-lambda-harness --example overhead`, after the example
//! `function` was built the same way.

use std::time::{Duration, Instant};

use keytrail_lambda_harness::{Function, Harness, KinesisMapping, Stream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let function = std::env::current_exe()?.with_file_name("function");
    let harness = Harness::new()?;
    for (name, freeze) in [("frozen", true), ("running", false)] {
        harness.deploy(Function { freeze, ..Function::new(name, &function) })?;
        let event = r#"{"op":"echo"}"#;
        for _ in 0..200 {
            harness.invoke(name, event)?;
        }
        let mut waited = Vec::new();
        let mut inside = Vec::new();
        for _ in 0..5000 {
            let begun = Instant::now();
            let invocation = harness.invoke(name, event)?;
            waited.push(begun.elapsed());
            inside.push(invocation.duration);
        }
        println!(
            "warm, {name}: waited {}; of that until all were ready {}",
            summary(waited),
            summary(inside)
        );
    }
    let mut cold = Vec::new();
    let mut init = Vec::new();
    for _ in 0..100 {
        harness.retire("frozen")?;
        let begun = Instant::now();
        let invocation = harness.invoke("frozen", r#"{"op":"echo"}"#)?;
        cold.push(begun.elapsed());
        init.extend(invocation.init);
    }
    println!("cold: waited {}; of that init {}", summary(cold), summary(init));
    let stream = Stream::new("events", 2);
    let data = "x".repeat(1024);
    const RECORDS: usize = 50_000;
    for n in 0..RECORDS {
        stream.put(format!("key-{}", n % 100), data.clone());
    }
    let begun = Instant::now();
    let mapping = KinesisMapping { batch_size: 500, ..KinesisMapping::default() };
    harness.map_kinesis(&stream, "running", mapping)?.wait(Duration::from_secs(60))?;
    let each = f64::from(u32::try_from(RECORDS)?) / begun.elapsed().as_secs_f64();
    println!("stream: {each:.0} records of 1 KiB a second, 500 a batch, two shards");
    Ok(())
}

fn summary(mut of: Vec<Duration>) -> String {
    of.sort();
    let at = |percent: usize| of[(of.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    format!("p50 {:.3} ms, p99 {:.3} ms", at(50), at(99))
}
