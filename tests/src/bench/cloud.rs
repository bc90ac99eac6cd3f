//! The functions of AWS, as they are built: their size, how they start, what the path through them costs against the path
//! of one process, their memory, and how long an event of a stream takes to be archived, sealed and found.
//!
//! They run in the harness, over MinIO and the other services of LocalStack, all on the cores of this machine. The short
//! form puts 500 records a second for a minute, gathers them for 5 s and seals every 5 s; the full form does so for ten
//! minutes, gathers for 30 s and seals every minute, as the template says; `CLOUD_SECONDS` says otherwise, and `CLOUD_PARTS`
//! names what is run of `package init tls stages memory load`.

mod init;
mod load;
mod package;
mod stages;
mod tls;

use std::env;

use super::{Bar, Failure, Figure, Setting};

/// A part of the bench.
type Part = fn(&Setting) -> Result<Vec<Figure>, Failure>;

/// Functions that stage and index.
const SMALL: [&str; 4] = ["stage-records", "stage-objects", "index-events", "redrive-batches"];

/// Functions that archive, seal and look after it.
const PARQUET: [&str; 5] =
    ["archive-events", "publish-alerts", "seal-archive", "compact-archive", "sweep-raw"];

/// Functions of the weekly report.
const REPORTS: [&str; 6] =
    ["freeze-week", "verify-archive", "assess-day", "render-report", "sign-report", "publish-report"];

/// Runs the bench.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let parts: [(&str, Part); 6] = [
        ("package", package::run),
        ("init", init::run),
        ("tls", tls::run),
        ("stages", stages::run),
        ("memory", stages::memory),
        ("load", load::run),
    ];
    let wanted = env::var("CLOUD_PARTS").ok();
    let mut figures = Vec::new();
    for (name, part) in parts {
        if wanted.as_ref().is_none_or(|wanted| wanted.split(' ').any(|part| part == name)) {
            eprintln!("cloud: {name}");
            figures.extend(part(setting)?);
        }
    }
    Ok(figures)
}

fn figure(what: &str, value: f64, unit: &'static str, baseline: Option<f64>, bar: Option<Bar>) -> Figure {
    Figure { name: format!("cloud: {what}"), value, unit, baseline, bar }
}

/// The largest of some values, each with its name: one figure; in the full form one for each.
fn largest(
    setting: &Setting,
    what: &str,
    unit: &'static str,
    bar: Bar,
    mut values: Vec<(&str, f64)>,
) -> Vec<Figure> {
    values.sort_by(|a, b| b.1.total_cmp(&a.1));
    values.truncate(if setting.full { values.len() } else { 1 });
    let named = values.into_iter();
    named.map(|(name, value)| figure(&format!("{what}, {name}"), value, unit, None, Some(bar))).collect()
}
