//! Load as files: `{"Records":[...]}` or lines, plain or gzip.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Load, Moment, Records};

/// How records stand in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Layout {
    /// `{"Records":[...]}`, as CloudTrail delivers to S3.
    Records,
    /// One record a line.
    Lines,
}

/// Text that is gathered before it is written, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// Writes up to `count` records, and says how many it wrote.
pub fn write(records: &mut Records, count: u64, layout: Layout, mut sink: impl Write) -> io::Result<u64> {
    let mut text = String::with_capacity(CHUNK_BYTES + (1 << 14));
    if layout == Layout::Records {
        text.push_str("{\"Records\":[");
    }
    let mut written = 0;
    while written < count {
        let before = text.len();
        if layout == Layout::Records && written > 0 {
            text.push(',');
        }
        if !records.next(&mut text) {
            text.truncate(before);
            break;
        }
        written += 1;
        if layout == Layout::Lines {
            text.push('\n');
        }
        if text.len() >= CHUNK_BYTES {
            sink.write_all(text.as_bytes())?;
            text.clear();
        }
    }
    if layout == Layout::Records {
        text.push_str("]}");
    }
    sink.write_all(text.as_bytes())?;
    sink.flush()?;
    Ok(written)
}

/// As [`write()`], compressed as one gzip member without a time stamp.
pub fn write_gzip(
    records: &mut Records,
    count: u64,
    layout: Layout,
    level: u32,
    sink: impl Write,
) -> io::Result<u64> {
    let mut encoder = GzEncoder::new(BufWriter::new(sink), Compression::new(level));
    let written = write(records, count, layout, &mut encoder)?;
    encoder.finish()?.flush()?;
    Ok(written)
}

/// Writes the load as `files` files of nearly equal counts into `folder`, and gives their paths.
pub fn write_folder(
    load: Load,
    layout: Layout,
    gzip_level: Option<u32>,
    files: u64,
    folder: &Path,
) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let mut records = Records::new(load);
    let mut paths = Vec::new();
    for number in 0..files {
        let count = load.events * (number + 1) / files - load.events * number / files;
        let day = Moment(load.start_micros).day().replace('-', "");
        let end = match (layout, gzip_level) {
            (Layout::Records, None) => "json",
            (Layout::Records, Some(_)) => "json.gz",
            (Layout::Lines, None) => "ndjson",
            (Layout::Lines, Some(_)) => "ndjson.gz",
        };
        let path = folder.join(format!("load-{day}-{number:05}.{end}"));
        let file = File::create(&path)?;
        match gzip_level {
            Some(level) => write_gzip(&mut records, count, layout, level, file)?,
            None => write(&mut records, count, layout, file)?,
        };
        paths.push(path);
    }
    Ok(paths)
}
