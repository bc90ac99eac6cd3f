//! What arrives on a stream and in a bucket, whatever happens on the way.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use keytrail_model::Hash;
use keytrail_model::segment::{read_header, read_reference};
use keytrail_tests::fault_proxy::{Fault, FaultProxy, Rule, When};
use keytrail_tests::load::random::Random;
use keytrail_tests::localstack::LocalStack;
use keytrail_tests::sidecar::{SOURCE, Shipped, Sidecar, TOKEN, in_order};

/// A sidecar that ships to a stream and a bucket of its own.
struct Shipping {
    aws: LocalStack,
    proxy: FaultProxy,
    stream: String,
    bucket: String,
    sidecar: Sidecar,
    _folder: tempfile::TempDir,
}

/// What arrived.
struct Arrived {
    records: Vec<Shipped>,
    /// Segments on the stream, those that came again too.
    on_stream: usize,
    /// Those that came once.
    segments: usize,
    references: usize,
}

impl Shipping {
    /// `more`: of its table of the stream.
    fn new(more: &str) -> Self {
        let aws = LocalStack::shared();
        let (stream, bucket) = (aws.stream(2), aws.bucket());
        let to =
            format!("kinesis = {{ stream = \"{stream}\", bucket = \"{bucket}\", prefix = \"a/b\"{more} }}");
        Self::to(aws, stream, bucket, &to)
    }

    fn to(aws: LocalStack, stream: String, bucket: String, to: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let proxy = FaultProxy::before(&aws.url());
        let mut sidecar = Sidecar::new(folder.path(), "");
        sidecar.configure("", &format!("[ship]\ninterval = \"100ms\"\n{to}\n"));
        sidecar.set_environment(LocalStack::environment(&proxy.url(), &aws.url()));
        Self { aws, proxy, stream, bucket, sidecar, _folder: folder }
    }

    /// Lines of about a kilobyte.
    fn write(&self, lines: std::ops::Range<usize>) {
        for n in lines {
            self.line(&format!("line {n} {}", "x".repeat(1_000)));
        }
    }

    fn line(&self, line: &str) {
        assert_eq!(self.sidecar.line(TOKEN, line.as_bytes()).status, 200);
    }

    fn shipped(&self) {
        self.until("all is shipped", |s| s.metric("keytrail_sidecar_unshipped_records") == Some(0.0));
    }

    fn until(&self, what: &str, holds: impl Fn(&Sidecar) -> bool) {
        let begin = Instant::now();
        while !holds(&self.sidecar) {
            assert!(
                begin.elapsed() < Duration::from_secs(120),
                "not yet that {what}: {:?} {:#?}",
                self.sidecar.admin("/metrics"),
                self.sidecar.logged()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that is on the stream and in the bucket: whole, in order, linked, and again only as the same bytes.
    fn arrived(&self) -> Arrived {
        let mut segments: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
        let mut add = |bytes: Vec<u8>| {
            let (header, _) = read_header(&bytes).expect("a header");
            let place = (header.epoch, header.first_seq);
            if let Some(before) = segments.insert(place, bytes.clone()) {
                assert!(before == bytes, "{place:?} came again as other bytes");
            }
            place
        };
        let (mut places, mut references) = (Vec::new(), 0);
        for (key, bytes) in self.aws.records(&self.stream) {
            assert_eq!(key, SOURCE);
            assert!(bytes.len() <= 900_000, "{} bytes", bytes.len());
            let Ok((reference, length)) = read_reference(&bytes) else {
                places.push(add(bytes));
                continue;
            };
            assert_eq!((length, &reference.bucket), (bytes.len(), &self.bucket));
            let object = self.aws.object(&reference.bucket, &reference.key);
            assert_eq!((object.len() as u64, Hash::of(&object)), (reference.bytes, reference.sha256));
            references += 1;
            places.push(add(object));
            assert_eq!(places.last(), Some(&(reference.epoch, reference.first_seq)));
        }
        for (key, object) in self.aws.objects(&self.bucket) {
            let (epoch, first_seq) = add(object);
            assert_eq!(key, format!("a/b/gateway-1=2Fpartition-0/{epoch:020}-{first_seq:020}.ktseg"));
        }
        // However often they came, in the end they came in order.
        let mut last: Vec<(u64, u64)> = Vec::new();
        for place in places.iter().rev() {
            if !last.contains(place) {
                last.push(*place);
            }
        }
        last.reverse();
        assert!(last.is_sorted(), "{places:?}");
        let count = segments.len();
        let named = segments.into_iter().map(|(place, bytes)| (format!("{place:?}"), bytes));
        Arrived { records: in_order(named), on_stream: places.len(), segments: count, references }
    }

    /// Ends the sidecar and gives what arrived; all lines of these numbers have to be in it, once.
    fn end(&mut self, lines: usize) -> Arrived {
        assert!(self.sidecar.stop().success(), "{:#?}", self.sidecar.logged());
        let arrived = self.arrived();
        let found =
            arrived.records.iter().filter_map(Shipped::line).filter(|l| l.starts_with(b"line ")).count();
        assert_eq!(found, lines);
        assert_eq!(arrived.records.first().map(|r| (r.epoch, r.seq)), Some((1, 0)));
        assert_eq!(arrived.records.last().map(Shipped::phase).as_deref(), Some("epoch_close"));
        arrived
    }
}

/// In order, whole, and in few records of the stream.
#[test]
fn a_stream_has_all_records_in_order() {
    let mut shipping = Shipping::new("");
    shipping.sidecar.start();
    shipping.write(0..1_200);
    shipping.shipped();
    let shipped = shipping.sidecar.metric("keytrail_sidecar_shipped_bytes_total").expect("a sample");
    assert!(shipped > 1_200_000.0, "{shipped}");
    let arrived = shipping.end(1_200);
    assert_eq!((arrived.on_stream, arrived.references), (arrived.segments, 0), "each came once");
    assert!(arrived.segments < 200, "{} segments", arrived.segments);
    println!("{} records in {} segments", arrived.records.len(), arrived.segments);
}

/// What a stream has no room for is an object, to which the stream refers in its place.
#[test]
fn large_lines_go_by_the_bucket() {
    let mut shipping = Shipping::new("");
    shipping.sidecar.start();
    shipping.write(0..10);
    for (n, size) in [(10, 2_000_000), (11, 16 << 20), (12, 899_000)] {
        let head = format!("line {n} ");
        shipping.line(&format!("{head}{}", "y".repeat(size - head.len())));
    }
    shipping.write(13..20);
    shipping.shipped();
    let arrived = shipping.end(20);
    assert_eq!(arrived.references, 2);
}

/// Whatever a stream answers, nothing is lost, and in the end all of it is there in order.
mod answers {
    use super::*;

    fn with(rule: Rule) {
        let mut shipping = Shipping::new("");
        shipping.proxy.set(vec![rule]);
        shipping.sidecar.start();
        // Several segments to a call.
        let large = "z".repeat(450_000);
        for n in 0..3 {
            shipping.line(&format!("line {n} {large}"));
        }
        shipping.write(3..30);
        shipping.shipped();
        let faults = shipping.proxy.faults();
        let arrived = shipping.end(30);
        println!("{faults} faults, {} segments, {} on the stream", arrived.segments, arrived.on_stream);
        assert!(faults > 0);
    }

    #[test]
    fn a_gateway_refuses() {
        with(Fault::Status(503).on("", When::Nth(1..=3)));
    }

    #[test]
    fn the_service_fails() {
        with(Fault::Status(500).on("", When::Nth(1..=3)));
    }

    #[test]
    fn connections_end_before_the_request() {
        with(Fault::Dropped.on("", When::Nth(1..=3)));
    }

    #[test]
    fn answers_are_lost() {
        with(Fault::Closed.on("", When::Nth(1..=3)));
    }

    #[test]
    fn it_is_done_and_called_a_failure() {
        with(Fault::DoneWith(500).on("", When::Nth(1..=2)));
    }

    #[test]
    fn answers_end_halfway() {
        with(Fault::Cut.on("", When::Nth(1..=2)));
    }

    #[test]
    fn answers_are_late() {
        with(Fault::Late(Duration::from_millis(700)).on("", When::Nth(1..=4)));
    }

    #[test]
    fn there_are_too_many_records() {
        with(Fault::Throttled.on("", When::Nth(1..=12)));
    }

    #[test]
    fn there_are_too_many_requests() {
        with(Fault::Busy(1).on("", When::Nth(1..=2)));
    }

    #[test]
    fn answers_are_reversed() {
        with(Fault::Reversed.on("", When::Nth(1..=6)));
    }

    #[test]
    fn an_answer_is_missing() {
        with(Fault::OneLess.on("", When::Nth(1..=3)));
    }

    #[test]
    fn there_is_an_answer_too_many() {
        with(Fault::OneMore.on("", When::Nth(1..=3)));
    }
}

/// While nobody listens records wait, then they go to the bucket, and once the stream is back, there again.
#[test]
fn a_stream_that_is_down_is_replaced_by_the_bucket() {
    let mut shipping = Shipping::new(", fallback_after = \"1s\"");
    shipping.sidecar.start();
    shipping.write(0..20);
    shipping.shipped();
    shipping.proxy.set(vec![Fault::Down(Duration::from_secs(3_600)).on("", When::Always)]);
    shipping.write(20..40);
    shipping.until("the bucket is used", |s| s.metric("keytrail_sidecar_fallback") == Some(1.0));
    assert!(shipping.sidecar.metric("keytrail_sidecar_ship_errors_total") > Some(0.0));
    shipping.write(40..60);
    shipping.shipped();
    assert!(!shipping.aws.objects(&shipping.bucket).is_empty());
    let before = shipping.arrived().on_stream;
    shipping.proxy.end_outage();
    shipping.write(60..80);
    shipping.until("the stream is used again", |s| {
        shipping.write(80..81);
        s.metric("keytrail_sidecar_fallback") == Some(0.0)
    });
    shipping.write(81..100);
    shipping.shipped();
    let arrived = shipping.end(100);
    assert!(arrived.on_stream > before);
    println!("{} segments, {} of them on the stream", arrived.segments, arrived.on_stream);
}

/// A sidecar that is told to stop while the stream is down keeps what it has, and the next one ships it.
#[test]
fn what_a_stream_did_not_take_waits_for_the_next_start() {
    let mut shipping = Shipping::new("");
    shipping.proxy.set(vec![Fault::Status(503).on("", When::Always)]);
    shipping.sidecar.start();
    shipping.write(0..30);
    assert!(shipping.sidecar.stop().success());
    assert!(shipping.aws.records(&shipping.stream).is_empty());
    shipping.proxy.set(vec![]);
    shipping.sidecar.start();
    shipping.write(30..40);
    assert_eq!(shipping.end(40).records.iter().filter(|r| r.phase() == "epoch_close").count(), 2);
}

/// A bucket alone.
#[test]
fn a_bucket_has_all_records() {
    let aws = LocalStack::shared();
    let (stream, bucket) = (aws.stream(1), aws.bucket());
    let to = format!("s3 = {{ bucket = \"{bucket}\", prefix = \"a/b\" }}");
    let mut shipping = Shipping::to(aws, stream, bucket, &to);
    shipping.sidecar.start();
    shipping.write(0..100);
    shipping.line(&format!("line 100 {}", "y".repeat(3_000_000)));
    shipping.sidecar.kill();
    shipping.sidecar.start();
    shipping.write(101..120);
    let arrived = shipping.end(120);
    assert_eq!((arrived.on_stream, arrived.references), (0, 0));
}

/// Killed while it ships, with answers that are lost and late: what comes again is the same, byte for byte.
#[test]
fn a_kill_while_it_ships_loses_nothing() {
    let mut shipping = Shipping::new("");
    shipping.proxy.set(vec![
        Fault::Closed.on("", When::Share(25, Random::of(7, 0))),
        Fault::Late(Duration::from_millis(150)).on("", When::Share(50, Random::of(8, 0))),
    ]);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 0..15 {
        shipping.sidecar.start();
        shipping.write(round * 20..round * 20 + 20);
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        thread::sleep(Duration::from_millis((state >> 33) % 300));
        shipping.sidecar.kill();
    }
    shipping.sidecar.start();
    let arrived = shipping.end(300);
    println!("{} segments, {} on the stream", arrived.segments, arrived.on_stream);
}

/// Region and names are told before the start.
#[test]
fn without_a_region_it_does_not_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.configure("", "[ship]\ns3 = { bucket = \"records\" }\n");
    sidecar.set_environment(vec![
        ("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned()),
        ("AWS_CONFIG_FILE".to_owned(), "/dev/null".to_owned()),
    ]);
    sidecar.spawn();
    assert_eq!(sidecar.ended().code(), Some(78));
    let said = format!("{:?}", sidecar.logged());
    assert!(said.contains("the AWS region is not known: expected `AWS_REGION`"), "{said}");
}
