//! `keytrail-bench`: runs benches and prints a line per figure. `tests/bench` builds and calls it.
//!
//! In: names of benches. Out: figures on stdout, progress on stderr; exit 1 if a bar does not hold, 2 if a
//! bench could not run.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use keytrail_tests::bench::{BENCHES, Setting, heading};
use keytrail_tests::tools;

/// Runs benches with bars and prints a line per figure.
#[derive(Parser)]
#[command(name = "tests/bench")]
struct Options {
    /// Benches to run; without a name all but `query` and `cloud`, which take half an hour to build
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(BENCHES.map(|b| b.name)))]
    names: Vec<String>,
    /// Print one JSON object a line: {name, value, unit, baseline, ratio, bar, pass}
    #[arg(long)]
    json: bool,
    /// Longer forms
    #[arg(long)]
    full: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let setting = Setting {
        keytrail: tools::keytrail(),
        floor: tools::example("floor"),
        uids: tools::example("uids"),
        spool_load: tools::example("spool_load"),
        python: tools::python(),
        peers: tools::root().join("tests/peers"),
        full: options.full,
    };
    let (mut short, mut broken) = (0, 0);
    if !options.json {
        println!("{}", heading());
    }
    for bench in &BENCHES {
        let named = options.names.iter().any(|n| n == bench.name);
        if !(named || options.names.is_empty() && !bench.if_named) {
            continue;
        }
        eprintln!("{}: {}", bench.name, bench.about);
        let start = Instant::now();
        match (bench.run)(&setting) {
            Ok(figures) => {
                for figure in figures {
                    short += usize::from(figure.pass() == Some(false));
                    println!("{}", if options.json { figure.json() } else { figure.to_string() });
                }
            }
            Err(error) => {
                broken += 1;
                eprintln!("{}: could not run: {error}", bench.name);
            }
        }
        eprintln!("{}: {:.0} s", bench.name, start.elapsed().as_secs_f64());
    }
    if broken > 0 {
        return ExitCode::from(2);
    }
    if short > 0 {
        eprintln!("{short} figures fall short of their bars");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
