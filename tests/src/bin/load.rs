//! `keytrail-load`: seeded log files for tests, benches and trials.
//!
//! What it is: the command line of [`keytrail_tests::load`]. In: options. Out: files, or stdout.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use keytrail_tests::load::files::{self, Layout};
use keytrail_tests::load::{Format, Load, Records};

/// Writes log files like those of CloudTrail, Vault and the HSM-fronting service.
#[derive(Parser)]
#[command(name = "keytrail-load", version)]
struct Options {
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Source of the records
    #[arg(long, value_enum, default_value_t = Format::Cloudtrail)]
    format: Format,
    /// How records stand in a file [default: records for cloudtrail, lines otherwise]
    #[arg(long, value_enum)]
    layout: Option<Layout>,
    /// Number of records, replays included
    #[arg(long, default_value_t = 10_000)]
    events: u64,
    /// First day of the events (UTC)
    #[arg(long, default_value = "2026-01-05")]
    start: jiff::civil::Date,
    /// Days over which event times spread
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Event times in random order instead of ascending
    #[arg(long)]
    shuffle: bool,
    /// Of a hundred records, how many repeat an earlier one
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=99))]
    replay_percent: u8,
    /// Of a hundred new events, how many carry an earlier time
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    late_percent: u8,
    /// Compress with gzip
    #[arg(long)]
    gzip: bool,
    /// Level of the compression
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=9))]
    gzip_level: u32,
    /// Number of files in the folder
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    files: u64,
    /// Folder for the files; without it one file goes to stdout
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keytrail-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    let layout = options.layout.unwrap_or(match options.format {
        Format::Cloudtrail => Layout::Records,
        _ => Layout::Lines,
    });
    let midnight = options.start.to_zoned(jiff::tz::TimeZone::UTC).map_err(io::Error::other)?;
    let load = Load {
        seed: options.seed,
        format: options.format,
        events: options.events,
        start_micros: midnight.timestamp().as_microsecond(),
        days: options.days,
        shuffle: options.shuffle,
        replay_percent: options.replay_percent,
        late_percent: options.late_percent,
    };
    let level = options.gzip.then_some(options.gzip_level);
    let Some(folder) = &options.out else {
        let (mut records, stdout) = (Records::new(load), io::stdout().lock());
        return match level {
            Some(level) => files::write_gzip(&mut records, load.events, layout, level, stdout).map(drop),
            None => files::write(&mut records, load.events, layout, stdout).map(drop),
        };
    };
    for path in files::write_folder(load, layout, level, options.files, folder)? {
        println!("{}", path.display());
    }
    Ok(())
}
