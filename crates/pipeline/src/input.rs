//! Opens inputs and gives their records: the first stage of the path.
//!
//! What it is: names of files, folders, globs and stdin to [`Input`]s, and one input to frames, inflated
//! as a stream (plain, gzip with any number of members, zstd; told by content). What it is not: it looks
//! into no record. In: an [`Input`]. Out: [`Frame`]s, and the hash of the bytes as they came.
//!
//! What cannot be read is no error of the run: it leaves as one bad frame with its reason, as a record
//! that cannot be read does.

mod blob;
mod complete;
mod compression;
pub mod part;
mod raw;
mod stdin;

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use keytrail_model::{Fatal, Hash, Reject, Rejection};
pub use keytrail_normalize::framing::Limits as FramingLimits;
use keytrail_normalize::framing::{self, Frame, Splitter};
use keytrail_ports::{BlobRead, ObjectName};

use crate::config::DeclaredSource;
pub use blob::Blob;
use blob::Interrupted;
pub(crate) use compression::is_whole_gzip;
use compression::{Compression, decoder, inflate_at_once};
use raw::Raw;
use stdin::Stdin;

/// Pieces in which bytes are read, and inflated.
const READ_BYTES: usize = 128 << 10;
const INFLATE_BYTES: usize = 256 << 10;

/// Something to read records from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Input {
    /// Its name as the user gave it, or as the folder given leads to it; bytes that are not UTF-8 as
    /// `\xNN`.
    pub name: String,
    /// Where the bytes are.
    pub source: Source,
    /// The source that declares it, if one does.
    pub declared: Option<Arc<DeclaredSource>>,
}

/// Stands before the version in the name of an object of a bucket.
pub(crate) const OBJECT_VERSION: &str = "?versionId=";

/// Where an input's bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A file.
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// Bytes at hand.
    Bytes(Vec<u8>),
    /// An object of a store; `None` where there is none of that name.
    Blob(Option<Blob>),
    /// A quarantine entry, whose key is the input's name: it is tried again. It is loaded when its turn
    /// comes, so that all of them can be given at once.
    Quarantine,
}

impl Input {
    /// The input at a path.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { name: printable(&path), source: Source::Path(path), declared: None }
    }

    /// An object that was opened, or is not there.
    pub fn object(name: &ObjectName, opened: Option<Box<dyn BlobRead>>) -> Self {
        let version = name.version.as_deref().map_or_else(String::new, |v| format!("{OBJECT_VERSION}{v}"));
        let source = Source::Blob(opened.map(Blob::new));
        Self { name: format!("s3://{}/{}{version}", name.bucket, name.key), source, declared: None }
    }

    /// A quarantine entry, by its key.
    pub fn quarantine(key: impl Into<String>) -> Self {
        Self { name: key.into(), source: Source::Quarantine, declared: None }
    }
}

/// Limits of reading one input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Limits of its records.
    pub framing: FramingLimits,
    /// Compressed input is read up to this many inflated bytes.
    pub max_inflated_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { framing: FramingLimits::default(), max_inflated_bytes: 8 << 30 }
    }
}

/// What was read of an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InputSummary {
    /// SHA-256 of all bytes as they came, also of those behind the place where inflating stopped.
    pub sha256: Hash,
    /// How many these are.
    pub bytes: u64,
    /// Bytes after inflating.
    pub inflated_bytes: u64,
}

/// Takes what an input holds; the first error ends reading.
pub trait Sink {
    /// A frame.
    fn frame(&mut self, frame: Frame<'_>) -> Result<(), Fatal>;

    /// A record begins at the start of `text`: see [`framing::Sink::record`].
    fn record(&mut self, text: &str, offset: u64) -> Result<Option<usize>, Fatal> {
        let _ = (text, offset);
        Ok(None)
    }
}

impl<F: FnMut(Frame<'_>) -> Result<(), Fatal>> Sink for F {
    fn frame(&mut self, frame: Frame<'_>) -> Result<(), Fatal> {
        self(frame)
    }
}

/// Reads an input to the end of file that it has when the end is met, and hands on its frames in order.
///
/// What cannot be read ends the input with one frame more: `compression_broken` or
/// `inflated_too_large` with what was inflated of the unfinished record (with the input's name where
/// nothing was), `input_unreadable` with the input's name; such a frame's offset is the one at which
/// reading ended. Fails only when `sink` does, and with [`STOPPED`] where standard input was waited for when it was
/// to `stop`: what was not whole by then is not handed on.
pub fn read(
    input: &Input,
    limits: &Limits,
    buffers: &mut Buffers,
    stop: &AtomicBool,
    sink: &mut dyn Sink,
) -> Result<InputSummary, Fatal> {
    let interrupted = Interrupted::default();
    let stopped = &interrupted.stopped;
    let mut frames = Frames { name: &input.name, sink, failed: None, stopped: Some(stopped) };
    let opened: io::Result<Box<dyn Read + '_>> = match &input.source {
        Source::Path(path) => open(path).map(|f| Box::new(f) as _),
        Source::Stdin => Ok(Box::new(Stdin { stop, stopped })),
        Source::Bytes(bytes) => Ok(Box::new(&bytes[..])),
        Source::Blob(Some(blob)) => Ok(Box::new(blob::Reader::new(blob, &interrupted))),
        Source::Blob(None) => Err(io::Error::other("there is no such object")),
        Source::Quarantine => Err(io::Error::other("expected the bytes of the quarantine entry")),
    };
    let summary = read_from(opened, limits, buffers, &mut frames);
    match frames.failed {
        Some(fatal) => Err(fatal),
        None if stopped.get() => {
            Err(interrupted.failed.take().unwrap_or_else(|| Fatal::new(STOPPED, "asked to stop")))
        }
        None => Ok(summary),
    }
}

/// Code of the error that ends reading when it is asked to stop.
pub const STOPPED: &str = "Retryable.Stopped";

/// The inputs that arguments name, in their order: files, folders (all files below, in byte order of
/// their paths), globs, `-` for standard input.
///
/// In folders, hidden files count; symbolic links are not followed, and what is no regular file is left
/// out. A link or pipe named itself is read. A path or glob that leads nowhere is an error that names it.
pub fn expand(args: &[OsString]) -> Result<Vec<Input>, String> {
    expand_but(args, &|_| false)
}

/// [`expand`], but for folders of which `is_own` says so, by device and inode: they are not looked into.
pub(crate) fn expand_but(args: &[OsString], is_own: &IsOwn<'_>) -> Result<Vec<Input>, String> {
    let mut inputs = Vec::new();
    for arg in args {
        if arg == "-" {
            if inputs.iter().any(|i: &Input| i.source == Source::Stdin) {
                return Err("`-` is given twice, standard input can be read once".to_owned());
            }
            inputs.push(Input { name: "-".to_owned(), source: Source::Stdin, declared: None });
            continue;
        }
        let path = Path::new(arg);
        let name = printable(path);
        match (fs::metadata(path), arg.to_str().filter(|a| a.contains(['*', '?', '[']))) {
            (Ok(_), _) => inputs.extend(below(path, is_own)),
            (Err(_), Some(pattern)) => {
                let before = inputs.len();
                let matches = glob::glob(pattern)
                    .map_err(|e| format!("`{name}` is no glob: {} at its character {}", e.msg, e.pos))?;
                // A folder that the glob could not look into is an input that cannot be read.
                let mut paths: Vec<PathBuf> =
                    matches.map(|m| m.unwrap_or_else(|e| e.path().to_path_buf())).collect();
                paths.sort_by(|a, b| bytes(a).cmp(bytes(b)));
                inputs.extend(paths.iter().flat_map(|p| below(p, is_own)));
                if inputs.len() == before {
                    return Err(format!("`{name}` matches no file"));
                }
            }
            (Err(e), None) => return Err(format!("`{name}` cannot be read: {}", cause(&e))),
        }
    }
    Ok(inputs)
}

/// Whether a folder, by device and inode, is one that keytrail writes itself.
pub(crate) type IsOwn<'a> = dyn Fn((u64, u64)) -> bool + 'a;

/// A file, or the files below a folder in byte order of their paths. A folder that cannot be listed becomes
/// an input itself, which is then unreadable.
pub(crate) fn below(path: &Path, is_own: &IsOwn<'_>) -> Vec<Input> {
    if !path.is_dir() {
        return vec![Input::path(path)];
    }
    let mut inputs = Vec::new();
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if fs::metadata(&folder).is_ok_and(|m| is_own((m.dev(), m.ino()))) {
            continue;
        }
        let listed = fs::read_dir(&folder).and_then(|entries| {
            entries.map(|e| e.and_then(|e| Ok((e.path(), e.file_type()?)))).collect::<io::Result<Vec<_>>>()
        });
        match listed {
            Ok(entries) => {
                for (path, kind) in entries {
                    if kind.is_dir() {
                        folders.push(path);
                    } else if kind.is_file() {
                        inputs.push(Input::path(path));
                    }
                }
            }
            Err(_) => inputs.push(Input::path(folder)),
        }
    }
    inputs.sort_by(|a, b| match (&a.source, &b.source) {
        (Source::Path(a), Source::Path(b)) => bytes(a).cmp(bytes(b)),
        _ => a.name.cmp(&b.name),
    });
    inputs
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn printable(path: &Path) -> String {
    let mut name = String::new();
    for part in bytes(path).utf8_chunks() {
        name.push_str(part.valid());
        for byte in part.invalid() {
            name.push_str(&format!("\\x{byte:02x}"));
        }
    }
    name
}

/// Why something cannot be read, in a few words.
pub(crate) fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or folder".to_owned(),
        kind => kind.to_string(),
    }
}

/// Opens a file or pipe. Devices have no end, folders no bytes.
fn open(path: &Path) -> io::Result<File> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "expected a file, found a folder"));
    }
    if kind.is_block_device() || kind.is_char_device() || kind.is_socket() {
        return Err(io::Error::other("expected a file or a pipe, found a device or socket"));
    }
    File::open(path)
}

fn read_from(
    opened: io::Result<Box<dyn Read + '_>>,
    limits: &Limits,
    buffers: &mut Buffers,
    frames: &mut Frames<'_>,
) -> InputSummary {
    let (source, unopened) = match opened {
        Ok(source) => (source, None),
        Err(e) => (Box::new(io::empty()) as _, Some(e)),
    };
    let Buffers { raw, inflated } = buffers;
    let mut raw = Raw::new(source, raw);
    let inflated_bytes = inflate(&mut raw, limits, inflated, frames);
    if frames.failed.is_none() {
        raw.drain();
    }
    if let Some(e) = unopened.as_ref().or(raw.failed.as_ref()) {
        frames.unreadable(e, inflated_bytes);
    }
    InputSummary { sha256: raw.sha256(), bytes: raw.bytes, inflated_bytes }
}

/// Memory that one input after the other is read with.
#[derive(Default, Debug)]
pub struct Buffers {
    raw: Vec<u8>,
    inflated: Vec<u8>,
}

/// Splits what `raw` holds; gives the inflated bytes.
fn inflate(raw: &mut Raw<'_>, limits: &Limits, inflated: &mut Vec<u8>, frames: &mut Frames<'_>) -> u64 {
    let mut splitter = Splitter::new(limits.framing);
    raw.prefill(4);
    let (held, n, stop) = match Compression::of(raw.buffered()) {
        Some(compression) => {
            if compression == Compression::Gzip
                && let Some(n) = inflate_at_once(raw, limits, inflated)
            {
                splitter.run(&inflated[..n], true, frames);
                return n as u64;
            }
            match decoder(&mut *raw, compression, limits.max_inflated_bytes) {
                Ok(decoder) => split(decoder, limits.max_inflated_bytes, inflated, &mut splitter, frames),
                Err(e) => (&[][..], 0, Stop::Error(e)),
            }
        }
        None => split(&mut *raw, u64::MAX, inflated, &mut splitter, frames),
    };
    if frames.stopped.is_some_and(Cell::get) {
        return n;
    }
    let why = match stop {
        // A failure of the input itself is told elsewhere: this is its end.
        Stop::End => None,
        Stop::Error(_) if raw.failed.is_some() => None,
        Stop::Error(e) => Some(Rejection::new(
            Reject::CompressionBroken,
            format!("compressed data cannot be read further near its byte {}: {e}", raw.position()),
        )),
        Stop::TooLarge => Some(Rejection::new(
            Reject::InflatedTooLarge,
            format!("the input inflates to more than {} bytes", limits.max_inflated_bytes),
        )),
    };
    match why {
        None => {
            splitter.run(held, true, frames);
        }
        Some(why) => {
            if !splitter.abort(held, &why, frames) {
                frames.push_name(why, n);
            }
        }
    }
    n
}

enum Stop {
    End,
    Error(io::Error),
    TooLarge,
}

/// Shows what a decoder gives to the splitter, up to the limit or to the end. Gives what the splitter is
/// not done with, and the inflated bytes.
fn split<'b>(
    mut decoder: impl Read,
    max_bytes: u64,
    buffer: &'b mut Vec<u8>,
    splitter: &mut Splitter,
    frames: &mut Frames<'_>,
) -> (&'b [u8], u64, Stop) {
    // Bytes that the splitter is not done with.
    let mut held = 0..0;
    let mut total = 0u64;
    let stop = loop {
        if frames.failed.is_some() {
            break Stop::End;
        }
        if buffer.len() - held.end < INFLATE_BYTES {
            buffer.copy_within(held.clone(), 0);
            held = 0..held.len();
            // A record that goes on takes twice the room each time it fills it.
            buffer.resize(buffer.len().max(2 * held.len() + INFLATE_BYTES), 0);
        }
        let n = match decoder.read(&mut buffer[held.end..held.end + INFLATE_BYTES]) {
            Ok(0) => break Stop::End,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => break Stop::Error(e),
        };
        let left = max_bytes - total;
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(n);
        held.end += taken;
        held.start += splitter.run(&buffer[held.clone()], false, frames);
        total += taken as u64;
        if taken < n {
            break Stop::TooLarge;
        }
    };
    (&buffer[held], total, stop)
}

/// Hands frames on until that fails.
struct Frames<'a> {
    name: &'a str,
    sink: &'a mut dyn Sink,
    failed: Option<Fatal>,
    /// The input did not end: it was asked to stop.
    stopped: Option<&'a Cell<bool>>,
}

impl framing::Sink for Frames<'_> {
    fn frame(&mut self, frame: Frame<'_>) {
        self.push(frame);
    }

    fn record(&mut self, text: &str, offset: u64) -> Option<usize> {
        if self.failed.is_some() {
            return None;
        }
        self.sink.record(text, offset).unwrap_or_else(|fatal| {
            self.failed = Some(fatal);
            None
        })
    }
}

impl Frames<'_> {
    fn push(&mut self, frame: Frame<'_>) {
        if self.failed.is_none()
            && let Err(fatal) = self.sink.frame(frame)
        {
            self.failed = Some(fatal);
        }
    }

    /// A frame that stands for the input.
    fn push_name(&mut self, why: Rejection, offset: u64) {
        self.push(Frame { bytes: self.name.as_bytes(), offset, verdict: Err(why) });
    }

    fn unreadable(&mut self, error: &io::Error, offset: u64) {
        let reason = match error.get_ref() {
            Some(own) => format!("the input cannot be read: {own}"),
            None => format!("the input cannot be read: {}", cause(error)),
        };
        self.push_name(Rejection::new(Reject::InputUnreadable, reason), offset);
    }
}

#[cfg(test)]
mod tests;
