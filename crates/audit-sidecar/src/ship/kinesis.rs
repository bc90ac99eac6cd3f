//! Ships to a stream of Kinesis, with a bucket for what a stream does not take.
//!
//! A record of the stream is a whole segment of at most [`FRAME_BYTES`], under the source as key: few large records, and
//! one order. A segment with a record that is too large for it lies in the bucket, and a reference to it
//! (`model::segment::Reference`) stands in its place on the stream. When the stream takes nothing for a while, the same
//! segments go to the bucket instead, and the stream is tried now and then. Readers put segments in order by what they
//! say of themselves, and drop those that come again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keytrail_model::Hash;
use keytrail_model::merkle::leaf_hash;
use keytrail_model::segment::{FOOTER_BYTES, Header, MAX_SOURCE_BYTES, RECORD_HEADER_BYTES, Reference};
use keytrail_ports::Stream;

use super::s3::Objects;
use super::{Destination, Records, Shipped, segment};

/// The largest segment on the stream: well below what one takes with its key, and what a reader gets at once.
pub const FRAME_BYTES: usize = 900_000;

/// At most a header's bytes.
const HEADER_BYTES: usize = 74 + MAX_SOURCE_BYTES;

/// How often a stream that is down is tried, at the least.
const TRY: Duration = Duration::from_secs(30);

/// A stream, and a bucket beside it.
pub struct Kinesis {
    stream: Arc<dyn Stream>,
    objects: Objects,
    fallback_after: Duration,
    down: Option<Down>,
}

/// A stream that takes nothing.
struct Down {
    since: Instant,
    /// When it is tried again, once the bucket is used in its place.
    next_try: Instant,
}

impl Kinesis {
    /// After `fallback_after` without a record that the stream took, the bucket is used in its place.
    pub fn new(stream: Arc<dyn Stream>, objects: Objects, fallback_after: Duration) -> Self {
        Self { stream, objects, fallback_after, down: None }
    }

    /// Puts as many segments to the stream as it takes, and references in place of those that it does not.
    fn put(&mut self, frames: &[Frame<'_>]) -> Result<Shipped, String> {
        let mut put: Vec<Vec<u8>> = Vec::with_capacity(frames.len());
        let mut bytes = Vec::with_capacity(frames.len());
        let mut failed = None;
        for frame in frames {
            let segment = segment(&frame.header, frame.records);
            bytes.push(segment.len() as u64);
            if segment.len() <= FRAME_BYTES {
                put.push(segment);
                continue;
            }
            match self.refer(frame, &segment) {
                Ok(reference) => put.push(reference),
                Err(error) => {
                    // What comes before it can be put all the same.
                    failed = Some(error);
                    break;
                }
            }
        }
        let mut durable = put.len();
        let slices: Vec<&[u8]> = put.iter().map(Vec::as_slice).collect();
        if let Some(source) = frames.first().map(|f| &f.header.source).filter(|_| !put.is_empty()) {
            match self.stream.put(source, &slices) {
                Ok(()) => self.down = None,
                Err(unput) => {
                    durable = unput.durable;
                    failed = Some(unput.error.to_string());
                    self.down = match self.down.take() {
                        _ if durable > 0 => None,
                        Some(down) => Some(down),
                        None => Some(Down { since: Instant::now(), next_try: Instant::now() }),
                    };
                }
            }
        }
        match (durable.checked_sub(1).and_then(|n| frames.get(n)), failed) {
            (Some(last), _) => Ok(Shipped {
                last_seq: last.last_seq(),
                segments: durable as u64,
                bytes: bytes[..durable].iter().sum(),
                fallback: false,
            }),
            (None, failed) => Err(failed.unwrap_or_else(|| "there was nothing to ship".to_owned())),
        }
    }

    /// Puts a segment to the bucket; gives what stands for it on the stream.
    fn refer(&self, frame: &Frame<'_>, segment: &[u8]) -> Result<Vec<u8>, String> {
        self.objects.put(&frame.header, frame.records)?;
        let reference = Reference {
            bucket: self.objects.bucket().to_owned(),
            key: self.objects.key(&frame.header),
            bytes: segment.len() as u64,
            sha256: Hash::of(segment),
            source: frame.header.source.clone(),
            epoch: frame.header.epoch,
            first_seq: frame.header.first_seq,
            last_seq: frame.last_seq(),
        };
        let mut bytes = Vec::new();
        reference.write(&mut bytes);
        Ok(bytes)
    }

    /// Puts the segments to the bucket.
    fn fall_back(&self, frames: &[Frame<'_>]) -> Result<Shipped, String> {
        let mut shipped: Option<Shipped> = None;
        for frame in frames {
            let (last_seq, bytes) = match self.objects.put(&frame.header, frame.records) {
                Ok(put) => put,
                Err(error) => return shipped.ok_or(error),
            };
            let (segments, before) = shipped.map_or((0, 0), |s| (s.segments, s.bytes));
            shipped =
                Some(Shipped { last_seq, segments: segments + 1, bytes: before + bytes, fallback: true });
            if last_seq != frame.last_seq() {
                // One that was there is shorter: the next ones begin behind it.
                break;
            }
        }
        shipped.ok_or_else(|| "there was nothing to ship".to_owned())
    }
}

impl Destination for Kinesis {
    fn ship(&mut self, header: &Header, records: &Records) -> Result<Shipped, String> {
        let frames = frames(header, records, FRAME_BYTES);
        let is_due = self.down.as_ref().is_none_or(|d| Instant::now() >= d.next_try);
        if !is_due {
            return self.fall_back(&frames);
        }
        let error = match self.put(&frames) {
            Ok(shipped) => return Ok(shipped),
            Err(error) => error,
        };
        let Some(down) = &mut self.down else { return Err(error) };
        if down.since.elapsed() < self.fallback_after {
            return Err(error);
        }
        down.next_try = Instant::now() + TRY.min(self.fallback_after);
        tracing::warn!(
            code = "Retryable.Stream",
            %error,
            seconds = down.since.elapsed().as_secs(),
            "the stream takes nothing: segments go to the bucket"
        );
        self.fall_back(&frames).map_err(|e| format!("{error}; and {e}"))
    }
}

/// Records that become one segment.
struct Frame<'a> {
    header: Header,
    records: &'a Records,
}

impl Frame<'_> {
    fn last_seq(&self) -> u64 {
        self.records.last().map_or(self.header.first_seq, |r| r.0)
    }
}

/// Records as segments of at most so many bytes, but for a record that needs more; each is as long as it can be, so the
/// same records from the same one on always give the same segments.
fn frames<'a>(header: &Header, records: &'a Records, max_bytes: usize) -> Vec<Frame<'a>> {
    let room = max_bytes - HEADER_BYTES - FOOTER_BYTES;
    let (mut frames, mut rest, mut prev) = (Vec::new(), records, header.prev);
    while let Some((first_seq, _)) = rest.first() {
        let mut bytes = 0;
        let fit = rest.iter().take_while(|(_, record)| {
            bytes += RECORD_HEADER_BYTES + record.len();
            bytes <= room
        });
        let (these, others) = rest.split_at(fit.count().max(1));
        frames
            .push(Frame { header: Header { first_seq: *first_seq, prev, ..header.clone() }, records: these });
        if let (Some((_, last)), false) = (these.last(), others.is_empty()) {
            prev = leaf_hash(last);
        }
        rest = others;
    }
    frames
}

#[cfg(test)]
mod tests {
    use keytrail_adapters::memory::{MemoryStore, MemoryStream};
    use keytrail_model::segment::{Part, read_header, read_part, read_reference};
    use keytrail_ports::{BlobStore, StoreError, Unput};

    use super::super::tests::{SOURCE, header, records};
    use super::*;

    fn kinesis(fallback_after: Duration) -> (Kinesis, Arc<MemoryStream>, Arc<MemoryStore>) {
        let (stream, store) = (Arc::new(MemoryStream::new()), Arc::new(MemoryStore::new()));
        let objects = Objects::new(Arc::clone(&store) as Arc<dyn BlobStore>, "bucket", "keytrail");
        (Kinesis::new(Arc::clone(&stream) as Arc<dyn Stream>, objects, fallback_after), stream, store)
    }

    fn down(durable: usize) -> Option<Unput> {
        Some(Unput { durable, error: StoreError::Retryable("no".to_owned()) })
    }

    const LATER: Duration = Duration::from_secs(3_600);

    /// First and last number of each segment and reference, and whether it is a reference.
    fn on(stream: &MemoryStream) -> Vec<(u64, u64, bool)> {
        let places = stream.taken().into_iter().map(|(key, bytes)| {
            assert_eq!(key, SOURCE);
            if let Ok((reference, _)) = read_reference(&bytes) {
                return (reference.first_seq, reference.last_seq, true);
            }
            assert!(bytes.len() <= FRAME_BYTES, "{} bytes", bytes.len());
            let (header, mut at) = read_header(&bytes).unwrap();
            loop {
                let (part, length) = read_part(&bytes[at..]).unwrap();
                at += length;
                if let Part::Footer(footer) = part {
                    assert_eq!(at, bytes.len());
                    return (header.first_seq, footer.last_seq, false);
                }
            }
        });
        places.collect()
    }

    #[test]
    fn as_few_segments_as_fit() {
        let (mut kinesis, stream, _) = kinesis(LATER);
        let all = records(7, &[600; 3_500]);
        let shipped = kinesis.ship(&header(7), &all).unwrap();
        assert_eq!((shipped.last_seq, shipped.segments, shipped.fallback), (3_506, 3, false));
        assert_eq!(on(&stream), [(7, 1_466, false), (1_467, 2_926, false), (2_927, 3_506, false)]);
        assert_eq!(shipped.bytes, stream.taken().iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
        let (second, _) = read_header(&stream.taken()[1].1).unwrap();
        assert_eq!(second.prev, leaf_hash(&all[0].1));
        // From the second segment on they are the same, byte for byte.
        let before = stream.taken();
        let rest = Header { first_seq: 1_467, prev: second.prev, ..header(7) };
        kinesis.ship(&rest, &all[1_460..]).unwrap();
        assert_eq!(stream.taken()[3..], before[1..]);
    }

    #[test]
    fn a_record_that_is_too_large_goes_by_the_bucket() {
        let (mut kinesis, stream, store) = kinesis(LATER);
        let all = records(0, &[10, 2_000_000, 20, 899_900, 899_700]);
        let shipped = kinesis.ship(&header(0), &all).unwrap();
        assert_eq!((shipped.last_seq, shipped.segments), (4, 5));
        assert_eq!(on(&stream), [(0, 0, false), (1, 1, true), (2, 2, false), (3, 3, true), (4, 4, false)]);
        let (reference, _) = read_reference(&stream.taken()[1].1).unwrap();
        assert_eq!(
            reference.key,
            "keytrail/gateway-1=2Fp=400/00000000000000000001-00000000000000000001.ktseg"
        );
        let object = store.get(&reference.key).unwrap().unwrap();
        assert_eq!((object.len() as u64, Hash::of(&object)), (reference.bytes, reference.sha256));
        assert_eq!(read_header(&object).unwrap().0.prev, leaf_hash(&all[0].1));
    }

    #[test]
    fn what_was_taken_is_told_and_the_rest_comes_again() {
        let (mut kinesis, stream, _) = kinesis(LATER);
        let all = records(0, &[700_000, 700_000, 700_000]);
        stream.fail(down(2));
        assert_eq!(kinesis.ship(&header(0), &all).unwrap().last_seq, 1);
        stream.fail(down(0));
        assert_eq!(kinesis.ship(&header(0), &all).unwrap_err(), "no");
        assert!(kinesis.down.is_some());
        stream.fail(None);
        assert_eq!(kinesis.ship(&header(0), &all).unwrap().last_seq, 2);
        assert!(kinesis.down.is_none());
    }

    #[test]
    fn after_a_while_the_bucket_takes_what_the_stream_does_not() {
        let (mut kinesis, stream, store) = kinesis(Duration::from_millis(40));
        let (first, second) = (records(0, &[1]), records(1, &[700_000, 700_000]));
        stream.fail(down(0));
        kinesis.ship(&header(0), &first).unwrap_err();
        std::thread::sleep(Duration::from_millis(50));
        let shipped = kinesis.ship(&header(0), &first).unwrap();
        assert_eq!((shipped.last_seq, shipped.fallback), (0, true));
        // Until it is tried again, the stream is left alone.
        stream.fail(None);
        assert!(kinesis.ship(&header(1), &second).unwrap().fallback);
        assert_eq!((on(&stream), store.list("").unwrap().len()), (vec![], 3));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!kinesis.ship(&header(3), &records(3, &[1])).unwrap().fallback);
        assert_eq!(on(&stream), [(3, 3, false)]);
        // The next outage is one of its own.
        stream.fail(down(0));
        kinesis.ship(&header(4), &records(4, &[1])).unwrap_err();
    }
}
