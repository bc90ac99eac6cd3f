//! Reads inputs and normalizes their records on all cores, and hands the results over in input order.
//!
//! One lane per core takes whole inputs: it reads, inflates, frames and normalizes. Each input has a
//! channel of its own with room for one chunk, and the consumer drains the channels in the order of
//! the inputs: what comes out does not depend on the number of cores, and memory is bounded by it.

use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use keytrail_model::row::Provenance;
use keytrail_model::{Fatal, Reject, Rejection, RowBuffer};
use keytrail_normalize::{Context, Format, normalize};

use crate::input::{self, Chunk, Input, InputSummary, Limits, Source};
use crate::quarantine;
use crate::trail::Trail;

/// What one chunk of an input became.
#[derive(Debug)]
pub struct Normalized {
    /// Number of the input, as `inputs` counts.
    pub input: u32,
    /// Inflated bytes of the frames.
    pub bytes: u64,
    /// Accepted records.
    pub rows: RowBuffer,
    /// Refused records.
    pub rejects: Vec<Rejected>,
}

/// A refused record.
#[derive(Debug)]
pub struct Rejected {
    /// The format that its input was taken for, if any.
    pub format: Option<Format>,
    /// Why.
    pub rejection: Rejection,
    /// Offset in the inflated input.
    pub offset: u64,
    /// Its bytes.
    pub original: Vec<u8>,
}

/// What a lane sends.
enum Message {
    Chunk(Normalized),
    End(InputSummary),
    Failed(Fatal),
}

/// What the consumer gets, in input order.
#[derive(Debug)]
pub enum Step {
    /// Records of an input.
    Records(Normalized),
    /// All records of that input have been handed over.
    EndOfInput(u32, InputSummary),
}

/// How inputs are read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Lanes.
    pub threads: usize,
    /// Taken for granted instead of detection.
    pub format: Option<Format>,
    /// Bounds of framing and inflation.
    pub limits: Limits,
}

/// Runs all inputs through the lanes; `each` is called on the caller's thread. The first error ends
/// everything.
pub fn ingest(
    trail: &Trail<'_>,
    inputs: &[Input],
    options: &Options,
    each: &mut dyn FnMut(Step) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let lanes = options.threads.clamp(1, inputs.len().max(1));
    let (announce, announced) = sync_channel::<(u32, Receiver<Message>)>(lanes);
    let queue = Mutex::new((inputs.iter().zip(0u32..), announce));
    std::thread::scope(|scope| {
        // Owned by this closure, so that lanes blocked on a full channel end when the consumer stops.
        let announced = announced;
        for _ in 0..lanes {
            scope.spawn(|| {
                while let Some((input, number, results)) = claim(&queue) {
                    lane(trail, input, number, options, &results);
                }
            });
        }
        for _ in 0..inputs.len() {
            let Ok((number, results)) = announced.recv() else {
                return Err(Fatal::new("Fatal.Internal", "a reader ended before its inputs did"));
            };
            drain(number, &results, each)?;
        }
        Ok(())
    })
}

type Queue<'a, I> = Mutex<(I, SyncSender<(u32, Receiver<Message>)>)>;

/// Takes the next input and announces its channel; both under one lock, so channels come in order.
fn claim<'a, I: Iterator<Item = (&'a Input, u32)>>(
    queue: &Queue<'a, I>,
) -> Option<(&'a Input, u32, SyncSender<Message>)> {
    let mut queue = queue.lock().ok()?;
    let (input, number) = queue.0.next()?;
    let (send, receive) = sync_channel(1);
    queue.1.send((number, receive)).ok()?;
    Some((input, number, send))
}

/// One input, from its bytes to rows. A consumer that went away ends it.
fn lane(trail: &Trail<'_>, input: &Input, number: u32, options: &Options, results: &SyncSender<Message>) {
    let mut format = options.format;
    let gone = || Fatal::new("Fatal.Stopped", "the run was stopped");
    let read = loaded(trail, input).and_then(|input| {
        input::read(&input, &options.limits, &mut |chunk| {
            let done = normalize_chunk(trail, number, &chunk, options.format, &mut format);
            results.send(Message::Chunk(done)).map_err(|_| gone())
        })
    });
    let last = match read {
        Ok(summary) => Message::End(summary),
        Err(fatal) => Message::Failed(fatal),
    };
    // Nobody is left to tell when this fails.
    let _consumer_gone = results.send(last);
}

/// The input, with a quarantine entry's bytes.
fn loaded<'a>(trail: &Trail<'_>, input: &'a Input) -> Result<Cow<'a, Input>, Fatal> {
    if input.source != Source::Quarantine {
        return Ok(Cow::Borrowed(input));
    }
    let entry = quarantine::get(trail.store, &input.name)?;
    Ok(Cow::Owned(Input { name: entry.key, source: Source::Bytes(entry.original) }))
}

fn drain(
    number: u32,
    results: &Receiver<Message>,
    each: &mut dyn FnMut(Step) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    loop {
        match results.recv() {
            Ok(Message::Chunk(done)) => each(Step::Records(done))?,
            Ok(Message::End(summary)) => return each(Step::EndOfInput(number, summary)),
            Ok(Message::Failed(fatal)) => return Err(fatal),
            Err(_) => return Err(Fatal::new("Fatal.Internal", "a reader ended in the middle of its input")),
        }
    }
}

/// Normalizes the frames of a chunk. `detected` is the input's format: the first record that a source
/// recognises decides it, and a record that does not fit it is looked at again by itself.
fn normalize_chunk(
    trail: &Trail<'_>,
    input: u32,
    chunk: &Chunk,
    forced: Option<Format>,
    detected: &mut Option<Format>,
) -> Normalized {
    let ctx = Context { now: trail.clock.now(), masker: trail.masker };
    // A row is the record and, about as large, its columns.
    let mut rows = RowBuffer::with_capacity(chunk.frames.len(), 2 * chunk.data.len());
    let mut rejects = Vec::new();
    for frame in &chunk.frames {
        let bytes = chunk.bytes(frame);
        let from = Provenance { input, offset: frame.offset };
        let outcome = match &frame.rejection {
            Some(rejection) => Err(rejection.clone()),
            None => normalize_record(bytes, from, forced, detected, &ctx, &mut rows),
        };
        if let Err(rejection) = outcome {
            rejects.push(Rejected {
                format: *detected,
                rejection,
                offset: frame.offset,
                original: bytes.to_vec(),
            });
        }
    }
    Normalized { input, bytes: chunk.data.len() as u64, rows, rejects }
}

fn normalize_record(
    bytes: &[u8],
    from: Provenance,
    forced: Option<Format>,
    detected: &mut Option<Format>,
    ctx: &Context<'_>,
    rows: &mut RowBuffer,
) -> Result<(), Rejection> {
    if let Some(format) = *detected {
        let refused = match normalize(format, bytes, from, ctx, rows) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        let other = match refused.code {
            Reject::FieldMissing | Reject::FieldType if forced.is_none() => recognise(bytes),
            _ => None,
        };
        return match other {
            Some(other) if other != format => normalize(other, bytes, from, ctx, rows),
            _ => Err(refused),
        };
    }
    match recognise(bytes) {
        Some(format) => {
            *detected = Some(format);
            normalize(format, bytes, from, ctx, rows)
        }
        None => Err(keytrail_normalize::check(bytes).err().unwrap_or_else(|| {
            Rejection::new(
                Reject::FormatUnknown,
                format!("expected a record of {}", Format::ALL.map(Format::name).join(", ")),
            )
        })),
    }
}

fn recognise(bytes: &[u8]) -> Option<Format> {
    let start = memchr::memchr(b'{', bytes)?;
    Format::detect(std::str::from_utf8(&bytes[start..]).ok()?)
}
