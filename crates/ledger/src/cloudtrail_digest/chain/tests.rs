//! Chains without keys: hours, links, forks.

use super::*;

const FOLDER: &str = "AWSLogs/111122223333/CloudTrail-Digest/us-east-1";
const TRAIL: &str = "111122223333_CloudTrail-Digest_us-east-1_main_us-east-1";

fn hour(n: i64) -> Timestamp {
    Timestamp(Timestamp::parse("2026-03-01T20:01:31Z").unwrap().0 + n * HOUR)
}

fn name(n: i64) -> DigestName {
    let (folder, trail) = (FOLDER.to_owned(), TRAIL.to_owned());
    DigestName { folder, account: "1".into(), region: "r".into(), trail, end: hour(n), backfill: false }
}

fn path(n: i64) -> String {
    name(n).at(hour(n))
}

fn digest(object: String, name: DigestName, from: i64, previous: Option<(&str, u8)>) -> Link {
    let previous = previous.map(|(object, content)| Previous {
        bucket: "b".into(),
        object: object.to_owned(),
        sha256: Hash([content; 32]),
        signature: String::new(),
    });
    let digest = DigestFile {
        start: Timestamp(name.end.0 - from * HOUR),
        end: name.end,
        end_text: String::new(),
        bucket: "b".into(),
        object: object.clone(),
        fingerprint: String::new(),
        algorithm: None,
        previous,
        log_files: Vec::new(),
    };
    let content = Content { sha256: Hash([0; 32]), digest, listed: 0, head: None };
    Link { object, name, content: Some(content) }
}

/// Hours 0 to `n`, the first one starting the chain.
fn chain(n: i64) -> Vec<Link> {
    let previous = |i: i64| (i > 0).then(|| path(i - 1));
    (0..n).map(|i| digest(path(i), name(i), 1, previous(i).as_deref().map(|p| (p, 0)))).collect()
}

fn previous(link: &mut Link) -> &mut Previous {
    link.content.as_mut().and_then(|c| c.digest.previous.as_mut()).unwrap()
}

fn found(links: Vec<Link>, range: &Range, latest: Option<Timestamp>) -> (Vec<(Code, String)>, u64, u64) {
    let walked = walk(links, None, range, latest);
    let sum = |n: fn(&Chain) -> u64| walked.chains.iter().map(n).sum();
    let mut all: Vec<_> = walked.findings.iter().map(|f| (f.code, f.element.clone())).collect();
    all.sort();
    (all, sum(|c| c.hours_expected), sum(|c| c.hours_present))
}

fn all(links: Vec<Link>) -> (Vec<(Code, String)>, u64, u64) {
    found(links, &Range::default(), None)
}

#[test]
fn a_whole_chain_in_any_order() {
    let mut links = chain(30);
    links.reverse();
    links.swap(3, 20);
    assert_eq!(all(links.clone()), (Vec::new(), 30, 30));
    let walked = walk(links, None, &Range::default(), Some(hour(30)));
    assert_eq!(walked.windows, [(hour(-1), hour(29))]);
    assert_eq!(walked.chains[0].window, (hour(-1), hour(29)));
    assert!(walked.findings.is_empty());
    assert_eq!(all(Vec::new()), (Vec::new(), 0, 0));
}

#[test]
fn each_missing_hour_is_a_finding() {
    let mut links = chain(10);
    links.drain(4..6);
    links.remove(6);
    let expected = vec![(Code::Gap, path(4)), (Code::Gap, path(5)), (Code::Gap, path(8))];
    // Without the newest one nothing says that hour 8 is missing.
    let newest = links.pop().unwrap();
    assert_eq!(all(links.clone()).0, expected[..2]);
    links.push(newest);
    assert_eq!(all(links.clone()), (expected.clone(), 10, 7));
    // The oldest one names what was before it, and a range that begins later does not ask for it.
    let first = links.remove(0);
    assert_eq!(all(links.clone()).0.len(), 4);
    let from = Range { from: Some(hour(0)), to: None };
    assert_eq!(found(links.clone(), &from, None), (expected.clone(), 9, 6));
    links.push(first);
    let to = Range { from: None, to: Some(hour(4)) };
    assert_eq!(found(links, &to, None), (expected[..1].to_vec(), 5, 4));
}

#[test]
fn log_files_behind_the_newest_digest_expect_digests() {
    assert!(found(chain(4), &Range::default(), Some(Timestamp(hour(6).0 - 1))).0.is_empty());
    let (gaps, expected, present) = found(chain(4), &Range::default(), Some(hour(7)));
    assert_eq!((gaps, expected, present), (vec![(Code::Gap, path(4)), (Code::Gap, path(5))], 6, 4));
}

#[test]
fn a_start_in_the_middle_ends_no_walk() {
    let mut links = chain(8);
    links[6].content.as_mut().unwrap().digest.previous = None;
    assert_eq!(all(links.clone()), (vec![(Code::ChainBreak, path(6))], 8, 8));
    links.drain(2..6);
    let gaps = (2..6).map(|i| (Code::Gap, path(i)));
    let expected: Vec<_> = gaps.chain([(Code::ChainBreak, path(6))]).collect();
    assert_eq!(all(links).0, expected);
}

#[test]
fn links_are_by_hash_and_bucket_to_an_older_digest_of_the_same_trail() {
    let mut links = chain(8);
    previous(&mut links[3]).sha256 = Hash([1; 32]);
    previous(&mut links[5]).bucket = "other".into();
    assert_eq!(all(links.clone()).0, [(Code::ChainBreak, path(2)), (Code::ChainBreak, path(4))]);
    let mut links = chain(8);
    previous(&mut links[4]).object = path(6);
    let (findings, ..) = all(links);
    assert!(findings.contains(&(Code::ChainBreak, path(4))), "{findings:?}");
    let mut links = chain(8);
    links[3].name.trail = "another".into();
    let (findings, ..) = all(links);
    assert!(findings.contains(&(Code::ChainBreak, path(4))), "{findings:?}");
    // A digest that the next one jumps over.
    let mut links = chain(8);
    previous(&mut links[4]).object = path(2);
    assert_eq!(all(links).0, [(Code::ChainBreak, path(4))]);
}

#[test]
fn two_digests_of_one_hour_are_a_fork() {
    for seconds in [-1, 1] {
        let mut links = chain(6);
        let mut twin = name(3);
        twin.end = Timestamp(hour(3).0 + seconds * 1_000_000);
        let object = twin.at(twin.end);
        links.push(digest(object.clone(), twin, 1, Some((&path(2), 0))));
        assert_eq!(all(links), (vec![(Code::Fork, object)], 6, 6), "{seconds}");
    }
    // In place of the one that the next one names.
    let mut links = chain(6);
    let mut twin = name(3);
    twin.end = Timestamp(hour(3).0 + 1_000_000);
    let object = twin.at(twin.end);
    links[3] = digest(object.clone(), twin, 1, Some((&path(2), 0)));
    let (findings, ..) = all(links);
    assert!(findings.contains(&(Code::Gap, path(3))), "{findings:?}");
}

#[test]
fn a_digest_that_cannot_be_read_or_was_moved_still_has_its_hour() {
    let mut links = chain(6);
    links[2].content = None;
    assert_eq!(all(links.clone()), (Vec::new(), 6, 6));
    let (a, b) = (links[3].content.take(), links[5].content.take());
    (links[3].content, links[5].content) = (b, a);
    assert_eq!(all(links).0, [(Code::ObjectMismatch, path(3)), (Code::ObjectMismatch, path(5))]);
}

#[test]
fn backfill_digests_belong_to_no_hour() {
    let mut links = chain(4);
    let backfill = |n: i64, previous: Option<&str>| {
        let object = path(n).replace(".json.gz", "_backfill.json.gz");
        let name = DigestName { backfill: true, ..name(n) };
        digest(object, name, 1, previous.map(|p| (p, 0)))
    };
    links.push(backfill(1, None));
    let first = links[4].object.clone();
    links.push(backfill(3, Some(&first)));
    assert_eq!(all(links.clone()), (Vec::new(), 4, 4));
    links.remove(4);
    assert_eq!(all(links).0, [(Code::FileMissing, first)]);
}

#[test]
fn a_digest_of_year_0_fills_no_memory() {
    let mut links = chain(2);
    let mut old = name(0);
    old.end = Timestamp::parse("0000-01-02T00:00:00Z").unwrap();
    links.push(digest(old.at(old.end), old, 1, None));
    links[0].content.as_mut().unwrap().digest.previous = None;
    let walked = walk(links, None, &Range::default(), None);
    assert_eq!(walked.findings.len() as u64, MAX_GAPS + 2);
    assert!(walked.findings.iter().any(|f| f.message.contains(" more hours")));
}
