//! Sizes of the zips, as `infra/aws/build` packs them.

use std::fs;
use std::process::Command;

use super::{PARQUET, REPORTS, SMALL, largest};
use crate::bench::{Bar, Failure, Figure, Setting, child};
use crate::tools;

/// Runs this part.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let zips = tempfile::tempdir()?;
    let built = tools::lambda("stage-records");
    let folder = built.parent().ok_or("a binary without a folder")?;
    let profile = folder.file_name().ok_or("a folder without a name")?;
    let mut pack = Command::new(tools::root().join("infra/aws/build"));
    pack.args(["--no-build", "--profile"]).arg(profile).arg(zips.path());
    pack.env("CARGO_TARGET_DIR", folder.parent().ok_or("a folder without a folder")?);
    child::measure(pack)?;
    let mut figures = Vec::new();
    for (what, names, bar) in [
        ("zip", &SMALL[..], 5.0),
        ("zip with Parquet", &PARQUET, 10.0),
        ("zip of the report", &REPORTS, 40.0),
    ] {
        let mut sizes = Vec::new();
        for name in names {
            let bytes = fs::metadata(zips.path().join(format!("{name}.zip")))?.len();
            sizes.push((*name, bytes as f64 / 1e6));
        }
        figures.extend(largest(setting, what, "MB", Bar::AtMost(bar), sizes));
    }
    Ok(figures)
}
