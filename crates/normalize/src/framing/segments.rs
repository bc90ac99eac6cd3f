//! Records that lie in segments, as the sidecar ships them (`schemas/segment.md`).
//!
//! A record is cut by its length, and counts if its checksum is right. Inside a segment records have ascending
//! numbers, and each says itself that it is the one that its segment calls it: one that does not, or comes behind a
//! later one, was put there by somebody else. Where bytes are no part of a segment, reading goes on where the next
//! part begins whose checksum is right, and whose number may follow.

use std::collections::BTreeMap;

use keytrail_model::segment::{
    Fault, Footer, Header, MAGIC, Part, RECORD_HEADER_BYTES, read_header, read_part,
};
use keytrail_model::{Reject, Rejection};

use super::{Emit, Limits, too_large};
use crate::chained;

/// A record has room for its line, and for what the chain says of it.
const ENVELOPE_BYTES: usize = 1 << 20;

/// How far ahead a number may be that is found behind damage.
const MOST_AHEAD: u64 = 1 << 20;

/// Bytes in damage whose checksum is taken, for each byte that is looked at, and beside that: a hostile input could
/// claim a large record at each of its bytes.
const CHECKED_FACTOR: usize = 4;
const CHECKED_BYTES: usize = 64 << 20;

/// Segments in the course of being cut.
#[derive(Debug)]
pub(super) struct Segments {
    limits: Limits,
    open: Option<Open>,
    lost: Option<Lost>,
}

/// The segment that is read.
#[derive(Debug)]
struct Open {
    header: Header,
    /// Behind the highest number so far.
    next: u64,
    /// Numbers below it that were left out: first and last.
    holes: BTreeMap<u64, u64>,
    records: u64,
}

/// Among bytes that are no part of a segment.
#[derive(Clone, Copy, Default, Debug)]
struct Lost {
    /// So many of the bytes at hand are looked at.
    searched: usize,
    /// So many were looked at in all.
    looked_at: usize,
    /// So many had their checksum taken.
    checked: usize,
}

/// What the bytes at hand begin with.
enum Step<'a> {
    /// So many bytes that are no record.
    Skip(usize),
    /// A record: its bytes behind so many, and whether it is in its place.
    Record(usize, &'a [u8], Result<(), Rejection>),
    /// A footer of so many bytes that does not fit.
    Refused(usize, Rejection),
    /// More bytes are needed.
    More,
    /// No part of a segment.
    Damage,
}

impl Segments {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, open: None, lost: None }
    }

    /// As [`super::Lines::run`].
    pub(super) fn run(&mut self, data: &[u8], eof: bool, emit: &mut dyn Emit) -> usize {
        let mut at = 0;
        while at < data.len() {
            if self.lost.is_some() {
                let (used, found) = self.search(&data[at..], at, eof, emit);
                at += used;
                if !found {
                    return at;
                }
                continue;
            }
            match self.step(&data[at..], eof) {
                Step::Skip(n) => at += n,
                Step::Record(before, record, verdict) => {
                    let start = at + before;
                    at = start + record.len();
                    self.give(start..at, verdict, emit);
                }
                Step::Refused(n, why) => {
                    emit.frame(at..at + n, Err(why));
                    at += n;
                }
                Step::More => return at,
                Step::Damage => self.lost = Some(Lost { searched: 1, ..Lost::default() }),
            }
        }
        at
    }

    /// Whether nothing is left open by what was read.
    pub(super) fn is_closed(&self) -> bool {
        self.open.is_none() && self.lost.is_none()
    }

    /// What the bytes begin with where all is well.
    fn step<'a>(&mut self, rest: &'a [u8], eof: bool) -> Step<'a> {
        let short = if eof { Step::Damage } else { Step::More };
        if rest.len() < MAGIC.len() && MAGIC.starts_with(rest) {
            // It may be the beginning of the next segment: a part has other first bytes.
            return short;
        }
        let open = match &mut self.open {
            // A segment that was not closed ends where the next one begins.
            Some(open) if !rest.starts_with(&MAGIC) => open,
            _ => {
                let zeros = rest.iter().take_while(|b| **b == 0).count();
                if zeros > 0 {
                    return Step::Skip(zeros);
                }
                return match read_header(rest) {
                    Ok((header, length)) => {
                        let next = header.first_seq;
                        self.open = Some(Open { header, next, holes: BTreeMap::new(), records: 0 });
                        Step::Skip(length)
                    }
                    Err(Fault::Short { .. }) => short,
                    Err(_) => Step::Damage,
                };
            }
        };
        match read_part(rest) {
            Ok((Part::Record { seq, bytes }, _)) => {
                Step::Record(RECORD_HEADER_BYTES, bytes, open.judge(seq, bytes))
            }
            Ok((Part::Footer(footer), length)) => {
                let verdict = open.fits(&footer);
                self.open = None;
                verdict.map_or_else(|why| Step::Refused(length, why), |()| Step::Skip(length))
            }
            Ok((Part::Blank, length)) => {
                self.open = None;
                Step::Skip(length)
            }
            Ok((Part::Header(_), length)) => Step::Skip(length),
            // Room that was set aside, and cut off.
            Err(Fault::Short { .. }) if eof && rest.iter().all(|b| *b == 0) => Step::Skip(rest.len()),
            Err(Fault::Short { .. }) => short,
            Err(_) => Step::Damage,
        }
    }

    /// Gives away the damage up to where a part begins; says how much that is, and whether it goes on there.
    fn search(&mut self, rest: &[u8], at: usize, eof: bool, emit: &mut dyn Emit) -> (usize, bool) {
        let max = self.limits.max_record_bytes;
        let mut lost = self.lost.unwrap_or_default();
        let mut given = 0;
        let damaged =
            || Err(Rejection::new(Reject::SegmentDamaged, "no part of a segment, or a damaged one"));
        while given + lost.searched < rest.len() {
            if lost.searched == max {
                emit.frame(at + given..at + given + max, damaged());
                given += max;
                lost.searched = 0;
            }
            match self.begins(&rest[given + lost.searched..], eof, &mut lost.checked, lost.looked_at) {
                Some(true) => {
                    emit.frame(at + given..at + given + lost.searched, damaged());
                    self.lost = None;
                    return (given + lost.searched, true);
                }
                Some(false) => {
                    lost.searched += 1;
                    lost.looked_at += 1;
                }
                None => {
                    self.lost = Some(lost);
                    return (given, false);
                }
            }
        }
        self.lost = Some(lost);
        if eof {
            emit.frame(at + given..at + rest.len(), damaged());
            self.lost = None;
            return (rest.len(), false);
        }
        (given, false)
    }

    /// Whether a part begins here that may follow; `None`: more bytes have to be seen.
    fn begins(&self, rest: &[u8], eof: bool, checked: &mut usize, looked_at: usize) -> Option<bool> {
        let short = if eof { Some(false) } else { None };
        if rest[0] == MAGIC[0] {
            match read_header(rest) {
                Ok(_) => return Some(true),
                Err(Fault::Short { .. }) if !eof => return None,
                Err(_) => {}
            }
        }
        let Some(open) = &self.open else { return Some(false) };
        let Some(head) = rest.first_chunk::<RECORD_HEADER_BYTES>() else { return short };
        let number = |from: usize| head[from..from + 8].try_into().map_or(0, u64::from_le_bytes);
        let may_follow = |seq: u64| seq >= open.next && seq - open.next <= MOST_AHEAD;
        let is_footer = head[..4] == [0xff; 4] && may_follow(number(8).saturating_add(1));
        if !is_footer && !may_follow(number(8)) {
            return Some(false);
        }
        let claimed = head[..4].try_into().map_or(0, u32::from_le_bytes) as usize;
        if !is_footer {
            if *checked > looked_at.saturating_mul(CHECKED_FACTOR).saturating_add(CHECKED_BYTES) {
                return Some(false);
            }
            if rest.len() >= claimed {
                *checked = checked.saturating_add(claimed);
            }
        }
        match read_part(rest) {
            Ok((Part::Record { .. } | Part::Footer(_), _)) => Some(true),
            Err(Fault::Short { .. }) => short,
            _ => Some(false),
        }
    }

    /// A record, in pieces where it is larger than one may be.
    fn give(&self, range: std::ops::Range<usize>, verdict: Result<(), Rejection>, emit: &mut dyn Emit) {
        let max = self.limits.max_record_bytes;
        if range.len() <= max.saturating_add(ENVELOPE_BYTES) {
            emit.frame(range, verdict);
            return;
        }
        for start in range.clone().step_by(max) {
            emit.frame(start..range.end.min(start + max), Err(too_large(self.limits)));
        }
    }
}

impl Open {
    /// Whether a record is the one that stands here.
    fn judge(&mut self, seq: u64, record: &[u8]) -> Result<(), Rejection> {
        self.records += 1;
        let duplicate =
            |n| Rejection::new(Reject::SegmentDuplicate, format!("the segment had record {n} before"));
        let order = |n| Rejection::new(Reject::SegmentOrder, format!("record {n} stands behind a later one"));
        if seq >= self.next {
            if seq > self.next {
                self.holes.insert(self.next, seq - 1);
            }
            self.next = seq.saturating_add(1);
        } else {
            let hole = self.holes.range(..=seq).next_back().map(|(first, last)| (*first, *last));
            let Some((first, last)) = hole.filter(|(_, last)| seq <= *last) else {
                return Err(duplicate(seq));
            };
            self.holes.remove(&first);
            if first < seq {
                self.holes.insert(first, seq - 1);
            }
            if seq < last {
                self.holes.insert(seq + 1, last);
            }
            return Err(order(seq));
        }
        let Some(said) = chained::position(record) else { return Ok(()) };
        let is = |n: u64, said: i64| u64::try_from(said).is_ok_and(|said| said == n);
        if said.source == self.header.source && is(self.header.epoch, said.epoch) && is(seq, said.seq) {
            return Ok(());
        }
        let why = format!("expected record {seq} of epoch {} of the segment's source", self.header.epoch);
        Err(Rejection::new(Reject::SegmentOrder, why))
    }

    /// Whether a footer is that of what was read.
    fn fits(&self, footer: &Footer) -> Result<(), Rejection> {
        if footer.last_seq.checked_add(1) == Some(self.next) && footer.records == self.records {
            return Ok(());
        }
        let why = format!(
            "the segment's end says {} records up to {}, there are {}",
            footer.records, footer.last_seq, self.records
        );
        Err(Rejection::new(Reject::SegmentDamaged, why))
    }
}

#[cfg(test)]
mod tests {
    use keytrail_model::Hash;
    use keytrail_model::segment::write_record;

    use super::super::{Frame, Splitter};
    use super::*;

    fn record(seq: u64) -> Vec<u8> {
        format!(
            r#"{{"v":1,"source":"a","epoch":3,"seq":{seq},"prev":"{}","phase":"heartbeat"}}"#,
            "0".repeat(64)
        )
        .into_bytes()
    }

    /// A segment of these records, each with the number that it is stored under.
    fn segment(records: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        Header { source: "a".into(), epoch: 3, first_seq: 5, prev: Hash([1; 32]), created_ns: 0 }
            .write(&mut out);
        records.iter().for_each(|(seq, bytes)| write_record(&mut out, *seq, bytes));
        let last = records.iter().map(|(seq, _)| *seq).max().unwrap_or(4);
        Footer { last_seq: last, records: records.len() as u64, last_hash: Hash([0; 32]) }.write(&mut out);
        out
    }

    fn numbered(seqs: &[u64]) -> Vec<u8> {
        segment(&seqs.iter().map(|seq| (*seq, record(*seq))).collect::<Vec<_>>())
    }

    type Got = Vec<(u64, Vec<u8>, Option<Reject>)>;

    /// What comes out, the bytes shown in pieces of that size.
    fn frames(bytes: &[u8], piece: usize) -> Got {
        let mut splitter = Splitter::new(Limits { max_record_bytes: 4_000 });
        let mut got = Vec::new();
        let (mut from, mut to) = (0, 0);
        loop {
            to = bytes.len().min(to + piece);
            let eof = to == bytes.len();
            from += splitter.run(&bytes[from..to], eof, &mut |f: Frame<'_>| {
                got.push((f.offset, f.bytes.to_vec(), f.verdict.err().map(|r| r.code)));
            });
            if eof {
                assert_eq!(from, bytes.len());
                return got;
            }
        }
    }

    fn codes(bytes: &[u8]) -> Vec<Option<Reject>> {
        let whole = frames(bytes, bytes.len());
        for piece in [1, 7, 100] {
            assert_eq!(frames(bytes, piece), whole, "in pieces of {piece}");
        }
        whole.into_iter().map(|(.., code)| code).collect()
    }

    #[test]
    fn records_come_as_they_are() {
        let mut bytes = numbered(&[5, 6, 7]);
        bytes.extend(numbered(&[5]));
        bytes.extend([0; 300]);
        assert_eq!(codes(&bytes), [None, None, None, None]);
        let got = frames(&bytes, bytes.len());
        assert_eq!(got[1].1, record(6));
        assert_eq!(&bytes[got[1].0 as usize..][..got[1].1.len()], record(6));
    }

    #[test]
    fn a_segment_that_was_not_closed_ends_where_the_next_one_begins() {
        let mut bytes = numbered(&[5, 6]);
        bytes.truncate(bytes.len() - 56);
        bytes.extend(numbered(&[5, 6, 7]));
        assert_eq!(codes(&bytes), [None; 5]);
        for piece in 2..9 {
            assert_eq!(frames(&bytes, piece), frames(&bytes, bytes.len()), "in pieces of {piece}");
        }
    }

    #[test]
    fn records_out_of_their_place_are_told_apart() {
        use Reject::{SegmentDuplicate as Dup, SegmentOrder as Order};
        assert_eq!(codes(&numbered(&[5, 6, 6, 7, 5])), [None, None, Some(Dup), None, Some(Dup)]);
        assert_eq!(codes(&numbered(&[5, 7, 6, 8])), [None, None, Some(Order), None]);
        let swapped = segment(&[(5, record(6)), (6, record(5)), (7, record(7))]);
        assert_eq!(codes(&swapped), [Some(Order), Some(Order), None]);
        // What is missing is the chain's matter.
        assert_eq!(codes(&numbered(&[5, 8])), [None, None]);
    }

    #[test]
    fn damage_costs_what_is_damaged() {
        let bytes = numbered(&[5, 6, 7, 8]);
        let length = 16 + record(5).len();
        let second = bytes.len() - 56 - 3 * length;
        for at in [second, second + 3, second + 5, second + 9, second + 40] {
            let mut bad = bytes.clone();
            bad[at] ^= 0x55;
            let got = frames(&bad, bad.len());
            assert_eq!(codes(&bad)[..4], [None, Some(Reject::SegmentDamaged), None, None], "byte {at}");
            assert_eq!(got[1].1, bad[second..second + length]);
            // The end counts one more than could be read.
            assert_eq!(got[4].2, Some(Reject::SegmentDamaged));
        }
        let mut bad = bytes.clone();
        bad[20] ^= 1;
        let all = codes(&bad);
        assert!(all.iter().all(|c| *c == Some(Reject::SegmentDamaged)), "{all:?}");
    }

    #[test]
    fn every_cut_is_damage_but_between_records() {
        let bytes = numbered(&[5, 6]);
        let length = 16 + record(5).len();
        let start = bytes.len() - 56 - 2 * length;
        for cut in 8..bytes.len() {
            let between = [start, start + length, start + 2 * length].contains(&cut);
            let refused = codes(&bytes[..cut]).iter().filter(|c| c.is_some()).count();
            assert_eq!(refused, usize::from(!between), "cut at {cut}");
        }
    }

    #[test]
    fn a_hostile_input_takes_linear_time() {
        let mut bytes = numbered(&[5]);
        bytes.truncate(bytes.len() - 56);
        bytes.push(1);
        // At each 16 bytes a record begins that reaches to the end.
        let total: usize = 4 << 20;
        while bytes.len() < total {
            let left = (total - bytes.len()) as u32;
            bytes.extend(left.saturating_sub(16).max(1).to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend(7u64.to_le_bytes());
        }
        let all = codes_of_one_piece(&bytes);
        assert!(all.len() > 2 && all[1..].iter().all(Option::is_some));
    }

    fn codes_of_one_piece(bytes: &[u8]) -> Vec<Option<Reject>> {
        frames(bytes, bytes.len()).into_iter().map(|(.., code)| code).collect()
    }
}
