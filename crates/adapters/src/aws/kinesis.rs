//! A stream of Kinesis Data Streams.
//!
//! Records go by `PutRecords`, a call at a time, in their order. A call that is answered for some records alone leaves
//! holes: from the first one on that was not taken, all are sent again, the same bytes in the same order. An answer
//! whose sequence numbers do not ascend, or that is not about as many records, is not believed at all. After a failure
//! calls have half as many records, down to one, and twice as many after each that succeeds: what is too much for a slow
//! line or a shard is not sent for ever.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use keytrail_ports::{MAX_STREAM_RECORD_BYTES, StoreError, Stream, Unput};

use super::{Aws, Driver, failure, passes};

/// Records of a call (PutRecords, API reference).
const CALL_RECORDS: usize = 500;

/// Bytes of a call, keys included.
const CALL_BYTES: usize = 5 << 20;

/// How long a call may take.
const CALL: Duration = Duration::from_secs(15);

/// After so long no other attempt begins.
const PATIENCE: Duration = Duration::from_secs(8);

/// The first pause between attempts, and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A stream. See [`Stream`] for the contract.
pub struct KinesisStream {
    client: Client,
    runtime: Driver,
    name: String,
    /// Records that the next call may have.
    window: AtomicUsize,
}

impl KinesisStream {
    pub(super) fn new(aws: &Aws, name: &str) -> Self {
        // What is sent again is decided here, by record.
        let (timeouts, retries) = aws.limits(CALL, 1);
        let config = aws_sdk_kinesis::config::Builder::from(&aws.config)
            .timeout_config(timeouts)
            .retry_config(retries)
            .build();
        Self {
            client: Client::from_conf(config),
            runtime: aws.runtime.clone(),
            name: name.to_owned(),
            window: AtomicUsize::new(CALL_RECORDS),
        }
    }

    fn call(&self, key: &str, records: &[&[u8]]) -> Result<Vec<Answer>, StoreError> {
        let entries = records.iter().map(|record| {
            let entry = PutRecordsRequestEntry::builder().data(Blob::new(*record)).partition_key(key);
            entry.build().map_err(|e| StoreError::Fatal(format!("cannot put a record: {e}")))
        });
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let request = self.client.put_records().stream_name(&self.name).set_records(Some(entries));
        let output = self
            .runtime
            .block_on(request.send())
            .map_err(|e| failure(&format!("put records to the stream `{}`", self.name), &e))?;
        Ok(output.records().iter().map(answer).collect())
    }
}

impl Stream for KinesisStream {
    fn put(&self, key: &str, records: &[&[u8]]) -> Result<(), Unput> {
        let begin = Instant::now();
        let mut pause = |attempt: u32| {
            let time = pause_before(attempt);
            let goes_on = begin.elapsed() + time < PATIENCE;
            if goes_on {
                std::thread::sleep(time);
            }
            goes_on
        };
        let mut window = self.window.load(Ordering::Relaxed);
        let put = put_in_order(key, records, &mut window, &|group| self.call(key, group), &mut pause);
        self.window.store(window, Ordering::Relaxed);
        put
    }
}

/// What was said of a record: its shard and sequence number, or why it was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Answer {
    Taken { shard: String, number: String },
    Refused { code: String, message: String },
}

/// Puts some records, and gives what was said of each.
type Call<'a> = dyn Fn(&[&[u8]]) -> Result<Vec<Answer>, StoreError> + 'a;

fn answer(entry: &PutRecordsResultEntry) -> Answer {
    match (entry.error_code(), entry.shard_id(), entry.sequence_number()) {
        (None, Some(shard), Some(number)) => {
            Answer::Taken { shard: shard.to_owned(), number: number.to_owned() }
        }
        (code, ..) => Answer::Refused {
            code: code.unwrap_or("InternalFailure").to_owned(),
            message: entry.error_message().unwrap_or_default().to_owned(),
        },
    }
}

/// Puts all records, by calls for as many as one takes and no more than `window`, which follows what comes of them. `pause` waits before the attempt of that number, from 1, and
/// says whether there is to be one.
fn put_in_order(
    key: &str,
    records: &[&[u8]],
    window: &mut usize,
    call: &Call<'_>,
    pause: &mut dyn FnMut(u32) -> bool,
) -> Result<(), Unput> {
    let (mut durable, mut attempt) = (0, 0);
    while durable < records.len() {
        let group = group(key, &records[durable..], *window);
        let (taken, error) = match group.is_empty() {
            true => (0, Some(StoreError::Fatal("a record is larger than a stream takes".to_owned()))),
            false => match call(group) {
                Ok(answers) => in_order(&answers, group.len()),
                Err(error) => (0, Some(error)),
            },
        };
        durable += taken;
        if taken > 0 {
            attempt = 0;
        }
        let Some(error) = error else {
            // One that had fewer says nothing of as many.
            if group.len() >= *window {
                *window = (*window * 2).min(CALL_RECORDS);
            }
            continue;
        };
        *window = (group.len() / 2).max(1);
        attempt += 1;
        if !matches!(error, StoreError::Retryable(_)) || !pause(attempt) {
            return Err(Unput { durable, error });
        }
    }
    Ok(())
}

/// As many records as a call takes; none, if the first is too large.
fn group<'a, 'b>(key: &str, records: &'b [&'a [u8]], most: usize) -> &'b [&'a [u8]] {
    let mut bytes = 0;
    let fits = records.iter().take(most).take_while(|record| {
        bytes += key.len() + record.len();
        bytes <= CALL_BYTES && key.len() + record.len() <= MAX_STREAM_RECORD_BYTES
    });
    &records[..fits.count()]
}

/// How many records from the first on stand in the stream in their order, and why not all of them.
fn in_order(answers: &[Answer], expected: usize) -> (usize, Option<StoreError>) {
    let wrong = |message: String| (0, Some(StoreError::Retryable(message)));
    if answers.len() != expected {
        return wrong(format!("{expected} records were put, and {} answered", answers.len()));
    }
    let taken = answers.iter().filter_map(|a| match a {
        Answer::Taken { shard, number } => Some((shard, (number.len(), number))),
        Answer::Refused { .. } => None,
    });
    // Decimal numbers without leading zeros: the longer one is the larger one.
    let taken: Vec<_> = taken.collect();
    if taken.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[0].1 >= pair[1].1) {
        return wrong("records were answered out of their order".to_owned());
    }
    let refused = answers.iter().enumerate().find_map(|(at, a)| match a {
        Answer::Refused { code, message } => Some((at, code, message)),
        Answer::Taken { .. } => None,
    });
    let Some((at, code, message)) = refused else { return (expected, None) };
    let message = format!("a record was not taken: {code}: {message}");
    match passes(200, code) {
        true => (at, Some(StoreError::Retryable(message))),
        false => (at, Some(StoreError::Fatal(message))),
    }
}

/// Doubles with each attempt, and is shortened by up to a half, so that many who were refused come back apart.
fn pause_before(attempt: u32) -> Duration {
    let (first, longest) = PAUSES;
    let time = first.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(longest);
    // Without randomness all of it is waited for.
    let share = getrandom::u32().map_or(1.0, |n| f64::from(n) / f64::from(u32::MAX));
    time.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use super::*;

    /// What a stream does with a call.
    enum Does {
        /// Takes all, and says so.
        Takes,
        /// Takes all but these, which are refused with this code.
        Refuses(&'static [usize], &'static str),
        /// Takes all, and its answer is lost.
        Loses,
        /// Takes nothing, and fails.
        Fails(fn(String) -> StoreError),
        /// Takes all, and answers backwards.
        Reverses,
        /// Takes all but the first one, and answers backwards.
        ReversesWithout,
        /// Takes all, and answers for one less.
        Short,
    }

    /// What a stream holds after `records` were put, by this; the outcome; how many pauses there were.
    fn put(
        records: &[&[u8]],
        does: impl IntoIterator<Item = Does>,
    ) -> (Vec<Vec<u8>>, Result<(), Unput>, u32) {
        let does = RefCell::new(does.into_iter().collect::<VecDeque<_>>());
        let held = RefCell::new(Vec::<Vec<u8>>::new());
        let take = |record: &[u8]| {
            held.borrow_mut().push(record.to_vec());
            // Numbers of different lengths, too.
            let number = (held.borrow().len() + 7).to_string();
            Answer::Taken { shard: "shard".to_owned(), number }
        };
        let refused = |code: &str| Answer::Refused { code: code.to_owned(), message: String::new() };
        let call = |group: &[&[u8]]| {
            let all = |group: &[&[u8]]| group.iter().map(|r| take(r)).collect::<Vec<_>>();
            match does.borrow_mut().pop_front().unwrap_or(Does::Takes) {
                Does::Takes => Ok(all(group)),
                Does::Refuses(which, code) => Ok(group
                    .iter()
                    .enumerate()
                    .map(|(at, r)| if which.contains(&at) { refused(code) } else { take(r) })
                    .collect()),
                Does::Loses => {
                    all(group);
                    Err(StoreError::Retryable("the connection ended".to_owned()))
                }
                Does::Fails(error) => Err(error("no".to_owned())),
                Does::Reverses => Ok(all(group).into_iter().rev().collect()),
                Does::ReversesWithout => {
                    let mut answers = all(&group[1..]);
                    answers.insert(0, refused("InternalFailure"));
                    Ok(answers.into_iter().rev().collect())
                }
                Does::Short => Ok(all(group).into_iter().skip(1).collect()),
            }
        };
        let mut pauses = 0;
        let mut window = CALL_RECORDS;
        let outcome = put_in_order("key", records, &mut window, &call, &mut |attempt| {
            pauses += 1;
            attempt < 4
        });
        (held.into_inner(), outcome, pauses)
    }

    const RECORDS: [&[u8]; 4] = [b"0", b"1", b"2", b"3"];

    fn held(outcome: (Vec<Vec<u8>>, Result<(), Unput>, u32)) -> String {
        assert_eq!(outcome.1, Ok(()));
        outcome.0.iter().map(|r| String::from_utf8(r.clone()).unwrap()).collect()
    }

    #[test]
    fn from_the_first_refused_one_on_all_are_sent_again() {
        const THROTTLED: &str = "ProvisionedThroughputExceededException";
        assert_eq!(held(put(&RECORDS, [])), "0123");
        assert_eq!(held(put(&RECORDS, [Does::Refuses(&[1], THROTTLED)])), "023123");
        assert_eq!(held(put(&RECORDS, [Does::Refuses(&[0, 2], THROTTLED)])), "130123");
        assert_eq!(
            held(put(&RECORDS, [Does::Refuses(&[3], "InternalFailure"), Does::Refuses(&[0], THROTTLED)])),
            "0123"
        );
        // Progress is not counted as an attempt in vain.
        let one_by_one = (0..4).map(|_| Does::Refuses(&[1, 2, 3], THROTTLED));
        assert_eq!(held(put(&RECORDS, one_by_one)), "0123");
    }

    #[test]
    fn an_answer_that_is_lost_or_out_of_order_is_not_believed() {
        assert_eq!(held(put(&RECORDS, [Does::Loses])), "01230123");
        assert_eq!(held(put(&RECORDS, [Does::Reverses])), "01230123");
        assert_eq!(held(put(&RECORDS, [Does::ReversesWithout])), "1230123");
        assert_eq!(held(put(&RECORDS, [Does::Short])), "01230123");
        // The second call has half of them, and the third one half of that.
        assert_eq!(held(put(&RECORDS, [Does::Fails(StoreError::Retryable), Does::Loses])), "010123");
    }

    #[test]
    fn what_is_durable_is_said_of_what_was_not_put() {
        let down = || (0..9).map(|_| Does::Fails(StoreError::Retryable));
        let unput = |outcome: (_, Result<(), Unput>, u32)| (outcome.1.unwrap_err(), outcome.2);
        let (failed, pauses) = unput(put(&RECORDS, down()));
        assert_eq!((failed.durable, failed.error.code(), pauses), (0, "Retryable.Store", 4));
        let first = Does::Refuses(&[2, 3], "InternalFailure");
        let (failed, _) = unput(put(&RECORDS, std::iter::once(first).chain(down())));
        assert_eq!((failed.durable, failed.error.code()), (2, "Retryable.Store"));
        // What does not pass is not tried again.
        let (failed, pauses) = unput(put(&RECORDS, [Does::Fails(StoreError::Fatal)]));
        assert_eq!((failed.durable, failed.error.code(), pauses), (0, "Fatal.Store", 0));
        let (failed, pauses) = unput(put(&RECORDS, [Does::Refuses(&[1], "KMSAccessDeniedException")]));
        assert_eq!((failed.durable, failed.error.code(), pauses), (1, "Fatal.Store", 0));
        let large = vec![0; MAX_STREAM_RECORD_BYTES];
        let (failed, _) = unput(put(&[b"0", &large], []));
        assert_eq!((failed.durable, failed.error.code()), (1, "Fatal.Store"));
    }

    #[test]
    fn calls_become_smaller_while_they_fail() {
        let sizes = RefCell::new(Vec::new());
        // As many as this are too many for a slow line.
        let call = |group: &[&[u8]]| {
            sizes.borrow_mut().push(group.len());
            match group.len() {
                4.. => Err(StoreError::Retryable("it took too long".to_owned())),
                _ => Ok((0..group.len())
                    .map(|n| Answer::Taken { shard: String::new(), number: n.to_string() })
                    .collect()),
            }
        };
        let (records, mut window) = (vec![&b"x"[..]; 12], CALL_RECORDS);
        assert_eq!(put_in_order("key", &records, &mut window, &call, &mut |attempt| attempt < 4), Ok(()));
        assert_eq!(*sizes.borrow(), [12, 6, 3, 6, 3, 6, 3, 3]);
        // It is known at the next call.
        assert_eq!(window, 6);
    }

    #[test]
    fn calls_are_within_their_limits() {
        let small: Vec<&[u8]> = vec![b"x"; 1_200];
        let sizes = |records: &[&[u8]]| {
            let (mut sizes, mut at) = (Vec::new(), 0);
            while at < records.len() {
                sizes.push(group("key", &records[at..], CALL_RECORDS).len());
                at += sizes.last().unwrap();
            }
            sizes
        };
        assert_eq!(sizes(&small), [500, 500, 200]);
        let large = vec![0; 900_000];
        let large: Vec<&[u8]> = vec![&large; 12];
        assert_eq!(sizes(&large), [5, 5, 2]);
        assert_eq!(put(&large, []).0.len(), 12);
    }

    #[test]
    fn pauses_double_and_are_no_longer_than_the_longest() {
        for (attempt, most) in [(1, 100), (2, 200), (3, 400), (6, 2_000), (40, 2_000)] {
            let (most, pause) = (Duration::from_millis(most), pause_before(attempt));
            assert!(pause >= most / 2 && pause <= most, "{attempt}: {pause:?}");
        }
    }
}
