//! Serves programs as functions over the Invoke API until its input ends:
//! `cargo run -p keytrail-lambda-harness --example serve -- NAME=PROGRAM...`. They see its variables `KEYTRAIL_...`.

use keytrail_lambda_harness::{Function, Harness};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let harness = Harness::new()?;
    for argument in std::env::args().skip(1) {
        let (name, program) = argument.split_once('=').ok_or("expected `NAME=PROGRAM`")?;
        let variables = std::env::vars().filter(|(name, _)| name.starts_with("KEYTRAIL_")).collect();
        harness.deploy(Function { variables, ..Function::new(name, program) })?;
    }
    println!("http://{}", harness.front()?);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
