//! Reads inputs and normalizes their records on all cores, and hands the results over in input order.
//!
//! One lane per core takes whole inputs: it reads, inflates, frames and normalizes. Each input has a
//! channel of its own with room for one batch, and the consumer drains the channels in the order of
//! the inputs: what comes out does not depend on the number of cores, and memory is bounded by it. Memory
//! of rows that were written goes back to the lanes.

use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use keytrail_model::row::Provenance;
use keytrail_model::{Fatal, Reject, Rejection, RowBuffer, Timestamp};
use keytrail_normalize::chained::{self, Foreign};
use keytrail_normalize::framing::Frame;
use keytrail_normalize::{Context, Format, Origin, Standing, containers, normalize_of};

use crate::config::DeclaredSource;
use crate::input::part::{self, Part, PartRead, Span};
use crate::input::{self, Buffers, Input, InputSummary, Limits, STOPPED, Source};
use crate::quarantine;
use crate::trail::Trail;

/// A batch is handed on when it holds so many inflated bytes of records; a larger record has its own.
const BATCH_BYTES: usize = 4 << 20;
/// What a record takes beside its bytes, and more when it has a reason.
const RECORD_COST: usize = 128;

/// What consecutive records of an input became.
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
    /// Control messages of log subscriptions: they hold no record.
    pub controls: u64,
}

/// A refused record.
#[derive(Debug)]
pub struct Rejected {
    /// The format that its input was taken for, if any.
    pub format: Option<Format>,
    /// Why.
    pub rejection: Rejection,
    /// Offset in the inflated input; of a record from a container where the outermost one holds it.
    pub offset: u64,
    /// Its bytes, with the containers that hold it alone.
    pub original: Vec<u8>,
}

/// What a lane reads.
#[derive(Clone, Copy, Debug)]
pub enum Reading<'a> {
    /// An input, to its end.
    Input(&'a Input),
    /// A part of a file that is followed.
    Part(&'a Part),
}

impl<'a> Reading<'a> {
    fn declared(self) -> Option<&'a DeclaredSource> {
        match self {
            Self::Input(input) => input.declared.as_deref(),
            Self::Part(part) => part.declared.as_deref(),
        }
    }
}

/// What a lane sends.
enum Message {
    Records(Normalized),
    End(InputSummary),
    EndOfPart(PartRead),
    Failed(Fatal),
}

/// What the consumer gets, in input order.
#[derive(Debug)]
pub enum Step {
    /// Records of an input.
    Records(Normalized),
    /// All records of that input have been handed over.
    EndOfInput(u32, InputSummary),
    /// All records of that part of a file have been handed over.
    EndOfPart(u32, PartRead),
}

/// How inputs are read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Lanes.
    pub threads: usize,
    /// Taken for granted instead of detection, where no source declares an input.
    pub format: Option<Format>,
    /// Bounds of framing and inflation.
    pub limits: Limits,
}

/// Takes a step on the caller's thread; gives back buffers that it is done with.
pub type Each<'a> = dyn FnMut(Step) -> Result<Vec<RowBuffer>, Fatal> + 'a;

/// Runs all inputs through the lanes, each under its number. The first error ends everything; so does `stop` where
/// standard input is waited for, and what was read of it is handed over before.
pub fn ingest(
    trail: &Trail<'_>,
    inputs: &[(u32, Reading<'_>)],
    options: &Options,
    stop: &AtomicBool,
    each: &mut Each<'_>,
) -> Result<(), Fatal> {
    let spare = Mutex::new(Vec::new());
    let lanes = options.threads.clamp(1, inputs.len().max(1));
    let (announce, announced) = sync_channel::<(u32, Receiver<Message>)>(lanes);
    let queue = Mutex::new((inputs.iter(), announce));
    std::thread::scope(|scope| {
        // Owned by this closure, so that lanes blocked on a full channel end when the consumer stops.
        let announced = announced;
        for _ in 0..lanes {
            scope.spawn(|| {
                let mut buffers = Buffers::default();
                while let Some((number, reading, results)) = claim(&queue) {
                    let declared = reading.declared();
                    let lane = Lane::new(trail, number, declared, options, &results, &spare);
                    let last = match reading {
                        Reading::Input(input) => lane.run(input, &mut buffers, stop),
                        Reading::Part(part) => lane.run_part(part, &mut buffers),
                    };
                    // Nobody is left to tell when this fails.
                    let _consumer_gone = results.send(last);
                }
            });
        }
        for _ in 0..inputs.len() {
            let Ok((number, results)) = announced.recv() else {
                return Err(Fatal::new("Fatal.Internal", "a reader ended before its inputs did"));
            };
            drain(number, &results, &spare, each)?;
        }
        Ok(())
    })
}

type Queue<I> = Mutex<(I, SyncSender<(u32, Receiver<Message>)>)>;

/// Takes the next input and announces its channel; both under one lock, so channels come in order.
fn claim<'a, I: Iterator<Item = &'a (u32, Reading<'a>)>>(
    queue: &Queue<I>,
) -> Option<(u32, Reading<'a>, SyncSender<Message>)> {
    let mut queue = queue.lock().ok()?;
    let (number, reading) = *queue.0.next()?;
    let (send, receive) = sync_channel(1);
    queue.1.send((number, receive)).ok()?;
    Some((number, reading, send))
}

/// Emptied buffers for the lanes.
type Spare = Mutex<Vec<RowBuffer>>;

/// One input, from its bytes to rows.
struct Lane<'a> {
    trail: &'a Trail<'a>,
    options: &'a Options,
    results: &'a SyncSender<Message>,
    spare: &'a Spare,
    /// What is declared of the input: all its records are to be of that source.
    declared: Option<&'a DeclaredSource>,
    /// The input's format: the first record that a source recognises decides it, and a record that does
    /// not fit it is looked at again by itself. One that is given or declared stays.
    detected: Option<Format>,
    /// The last frame was a container: the next one is likely one, too.
    in_containers: bool,
    batch: Normalized,
    /// Memory that the batch takes.
    cost: usize,
    /// When the batch was begun.
    now: Timestamp,
}

impl<'a> Lane<'a> {
    fn new(
        trail: &'a Trail<'a>,
        input: u32,
        declared: Option<&'a DeclaredSource>,
        options: &'a Options,
        results: &'a SyncSender<Message>,
        spare: &'a Spare,
    ) -> Self {
        let batch = Normalized { input, bytes: 0, rows: RowBuffer::new(), rejects: Vec::new(), controls: 0 };
        Self {
            trail,
            options,
            results,
            spare,
            declared,
            detected: declared.map(|d| d.format).or(options.format),
            in_containers: false,
            batch,
            cost: 0,
            now: trail.clock.now(),
        }
    }

    /// Reads it all; gives the last message. A consumer that went away ends it.
    fn run(mut self, input: &Input, buffers: &mut Buffers, stop: &AtomicBool) -> Message {
        let read = loaded(self.trail, input)
            .and_then(|i| input::read(&i, &self.options.limits, buffers, stop, &mut self));
        if read.as_ref().is_err_and(|e| e.code == STOPPED) && self.hand_on().is_err() {
            return Message::Failed(gone());
        }
        match read.and_then(|summary| self.hand_on().map(|()| summary)) {
            Ok(summary) => Message::End(summary),
            Err(fatal) => Message::Failed(fatal),
        }
    }

    /// Reads a part of a file, as [`Lane::run`] reads all of it.
    fn run_part(mut self, part: &Part, buffers: &mut Buffers) -> Message {
        if let Span::On(from) | Span::Rest(from) = &part.span {
            let known = from.format.as_deref().and_then(Format::by_name);
            self.detected = self.detected.or(known);
            self.in_containers = from.in_containers;
        }
        let read = part::read(part, &self.options.limits, buffers, &mut self);
        match read.and_then(|done| self.hand_on().map(|()| done)) {
            Ok(mut done) => {
                if let Some(next) = &mut done.next {
                    next.format = self.detected.map(|f| f.name().to_owned());
                    next.in_containers = self.in_containers;
                }
                Message::EndOfPart(done)
            }
            Err(fatal) => Message::Failed(fatal),
        }
    }

    /// Hands the batch on when it has no room for a record of that size, and begins the next one.
    fn make_room(&mut self, bytes: usize) -> Result<(), Fatal> {
        let cost = bytes + RECORD_COST;
        if self.cost + cost > BATCH_BYTES {
            self.hand_on()?;
        }
        if self.cost == 0 {
            let spare = self.spare.lock().ok().and_then(|mut spare| spare.pop());
            self.batch.rows = spare.unwrap_or_default();
            self.now = self.trail.clock.now();
        }
        self.cost += cost;
        Ok(())
    }

    /// The record that a frame is, or those that it carries.
    fn records(&mut self, frame: &[u8], offset: u64) -> Result<(), Fatal> {
        if let Some(Foreign { envelope, line }) = chained::foreign(frame) {
            let origin = Origin { envelope: envelope.into(), ..Origin::default() };
            if let Err(refused) = self.foreign(line, &origin, offset) {
                self.reject(refused, offset, frame);
            }
            return Ok(());
        }
        // Nearly all frames of an input are alike: where the last one was a record, this one is tried as
        // one before it is looked at as a container.
        let is_record = self.detected.is_some() && !self.in_containers && !containers::is_exported(frame);
        let refused = if is_record {
            let Err(refused) = self.normalize(frame, &Origin::default(), offset) else { return Ok(()) };
            Some(refused)
        } else {
            None
        };
        let mut room = Ok(());
        let controls = containers::open(frame, &mut |carried| {
            // A frame that is a container holds any number of records.
            if room.is_ok() {
                room = self.make_room(carried.record.len());
            }
            if room.is_err() {
                return;
            }
            let offset = offset + carried.at as u64;
            let outcome =
                carried.verdict.and_then(|()| self.normalize(carried.record, carried.origin, offset));
            if let Err(rejection) = outcome {
                self.reject(rejection, offset, carried.unit);
            }
        });
        room?;
        self.in_containers = controls.is_some();
        match (controls, refused) {
            (Some(controls), _) => self.batch.controls += controls,
            (None, Some(refused)) => self.reject(refused, offset, frame),
            (None, None) => {
                if let Err(refused) = self.normalize(frame, &Origin::default(), offset) {
                    self.reject(refused, offset, frame);
                }
            }
        }
        Ok(())
    }

    fn reject(&mut self, rejection: Rejection, offset: u64, original: &[u8]) {
        self.cost += RECORD_COST;
        let original = original.to_vec();
        self.batch.rejects.push(Rejected { format: self.detected, rejection, offset, original });
    }

    fn hand_on(&mut self) -> Result<(), Fatal> {
        if self.cost == 0 {
            return Ok(());
        }
        self.cost = 0;
        let empty =
            Normalized { bytes: 0, rows: RowBuffer::new(), rejects: Vec::new(), controls: 0, ..self.batch };
        let batch = std::mem::replace(&mut self.batch, empty);
        self.results.send(Message::Records(batch)).map_err(|_| gone())
    }

    fn context(&self) -> Context<'a> {
        let declared = self.declared.map(DeclaredSource::declaration);
        Context { now: self.now, masker: self.trail.masker, declared }
    }

    /// A line that a record of a chain carries, whatever source is declared: it came by the chain's.
    fn foreign(&mut self, line: &[u8], origin: &Origin<'_>, offset: u64) -> Result<(), Rejection> {
        if Format::recognise(line) != Some(Format::Vault) {
            let why = "expected a line of an audit device of OpenBao or Vault in a foreign record";
            return Err(Rejection::new(Reject::FormatUnknown, why));
        }
        let from = Provenance { input: self.batch.input, offset };
        normalize_of(Format::Vault, line, origin, from, &self.context(), &mut self.batch.rows)
    }

    fn normalize(&mut self, bytes: &[u8], origin: &Origin<'_>, offset: u64) -> Result<(), Rejection> {
        let ctx = self.context();
        let from = Provenance { input: self.batch.input, offset };
        let rows = &mut self.batch.rows;
        if let Some(format) = self.detected {
            let refused = match normalize_of(format, bytes, origin, from, &ctx, rows) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            let other = match refused.code {
                Reject::FieldMissing | Reject::FieldType | Reject::JsonBroken
                    if self.declared.is_some() || self.options.format.is_none() =>
                {
                    Format::recognise(bytes)
                }
                _ => None,
            };
            return match (other.filter(|other| *other != format), self.declared) {
                (Some(other), Some(declared)) => Err(declared.mismatch(other)),
                (Some(other), None) => normalize_of(other, bytes, origin, from, &ctx, rows),
                _ => Err(refused),
            };
        }
        match Format::recognise(bytes) {
            Some(format) => {
                self.detected = Some(format);
                normalize_of(format, bytes, origin, from, &ctx, rows)
            }
            None => Err(keytrail_normalize::check(bytes).err().unwrap_or_else(|| {
                Rejection::new(
                    Reject::FormatUnknown,
                    format!("expected a record of {}", Format::ALL.map(Format::name).join(", ")),
                )
            })),
        }
    }
}

impl input::Sink for Lane<'_> {
    fn frame(&mut self, frame: Frame<'_>) -> Result<(), Fatal> {
        self.make_room(frame.bytes.len())?;
        self.batch.bytes += frame.bytes.len() as u64;
        match frame.verdict {
            Ok(()) => self.records(frame.bytes, frame.offset),
            Err(rejection) => {
                self.reject(rejection, frame.offset, frame.bytes);
                Ok(())
            }
        }
    }

    /// Takes what its format reads and accepts; all else comes as a frame.
    fn record(&mut self, text: &str, offset: u64) -> Result<Option<usize>, Fatal> {
        let Some(format) = self.detected.filter(|_| !self.in_containers) else { return Ok(None) };
        let Some(record) = Standing::read(format, text) else { return Ok(None) };
        let len = record.bytes().len();
        self.make_room(len)?;
        let ctx = self.context();
        let from = Provenance { input: self.batch.input, offset };
        if record.normalize(from, &ctx, &mut self.batch.rows).is_err() {
            self.cost -= len + RECORD_COST;
            return Ok(None);
        }
        self.batch.bytes += len as u64;
        Ok(Some(len))
    }
}

/// Nobody takes what is read any more.
fn gone() -> Fatal {
    Fatal::new("Fatal.Stopped", "the run was stopped")
}

/// The input, with a quarantine entry's bytes.
fn loaded<'a>(trail: &Trail<'_>, input: &'a Input) -> Result<Cow<'a, Input>, Fatal> {
    if input.source != Source::Quarantine {
        return Ok(Cow::Borrowed(input));
    }
    let entry = quarantine::get(trail.store, &input.name)?;
    let bytes = Source::Bytes(entry.original);
    Ok(Cow::Owned(Input { name: entry.key, source: bytes, declared: input.declared.clone() }))
}

fn drain(number: u32, results: &Receiver<Message>, spare: &Spare, each: &mut Each<'_>) -> Result<(), Fatal> {
    loop {
        let (step, last) = match results.recv() {
            Ok(Message::Records(done)) => (Step::Records(done), false),
            Ok(Message::End(summary)) => (Step::EndOfInput(number, summary), true),
            Ok(Message::EndOfPart(done)) => (Step::EndOfPart(number, done), true),
            Ok(Message::Failed(fatal)) => return Err(fatal),
            Err(_) => return Err(Fatal::new("Fatal.Internal", "a reader ended in the middle of its input")),
        };
        let emptied = each(step)?;
        if let Ok(mut spare) = spare.lock() {
            spare.extend(emptied);
        }
        if last {
            return Ok(());
        }
    }
}
