//! Alerts over stores in memory, where time can be set: what is told, when, and how often.

// Helpers of tests panic as tests do; clippy knows tests by their attribute alone.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use keytrail_adapters::memory::{ManualClock, MemoryCheckpoint, MemoryNotifier, MemorySigner, MemoryStore};
use keytrail_model::Timestamp;
use keytrail_pipeline::alerts::{Engine, Options as AlertOptions, Place, Receiver, Severity, Undelivered};
use keytrail_pipeline::input::{Input, Limits, Source};
use keytrail_pipeline::{Masker, Options, Progress, Tables, Trail, ingest, run};
use keytrail_ports::{BlobStore, NotifyError};
use serde_json::Value;

const ORIGIN: &str = "example.org/trail";
const START: i64 = 1_700_000_000_000_000;
const MINUTE: i64 = 60_000_000;

struct Quiet;

impl Progress for Quiet {
    fn at(&self, _: u64, _: u64, _: u64) {}
    fn sealed(&self, _: u64, _: u64) {}
}

/// A trail, a receiver, and the time in minutes.
struct World {
    store: MemoryStore,
    lock: MemoryCheckpoint,
    signer: MemorySigner,
    clock: ManualClock,
    masker: Masker,
    receiver: Arc<MemoryNotifier>,
    events: u32,
}

impl World {
    fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            lock: MemoryCheckpoint::new(),
            signer: MemorySigner::new(ORIGIN, 1),
            clock: ManualClock::new(Timestamp(START)),
            masker: Masker::new(&[7; 32]),
            receiver: Arc::new(MemoryNotifier::new()),
            events: 0,
        }
    }

    fn at(&self, minute: i64) {
        self.clock.set(Timestamp(START + minute * MINUTE));
    }

    /// Archives events of CloudTrail: name, key, error code.
    fn seal(&mut self, events: &[(&str, &str, &str)]) {
        let mut text = String::new();
        for (name, key, error) in events {
            self.events += 1;
            let error = if error.is_empty() { String::new() } else { format!(r#","errorCode":"{error}""#) };
            text += &format!(
                concat!(
                    r#"{{"eventVersion":"1.08","userIdentity":{{"type":"IAMUser","userName":"alice"}},"#,
                    r#""eventTime":"2023-11-14T22:00:00Z","eventSource":"kms.amazonaws.com","eventName":"{}","#,
                    r#""requestParameters":{{"keyId":"{}"}},"responseElements":null,"eventID":"e-{}","#,
                    r#""eventType":"AwsApiCall","readOnly":false,"recipientAccountId":"1"{}}}"#,
                    "\n"
                ),
                name, key, self.events, error
            );
        }
        self.ingest(text);
    }

    fn ingest(&mut self, text: String) {
        let limits = Limits::default();
        let options =
            Options { ingest: ingest::Options { threads: 1, format: None, limits }, object_bytes: 1 << 20 };
        let input = Input { name: "a.log".into(), source: Source::Bytes(text.into_bytes()), declared: None };
        self.with_trail(|trail| {
            run(trail, &[input], &options, &Quiet, &AtomicBool::new(false)).unwrap();
        });
    }

    fn with_trail<T>(&self, with: impl FnOnce(&Trail<'_>) -> T) -> T {
        let scratch = tempfile::tempdir().unwrap();
        with(&Trail {
            store: &self.store,
            lock: &self.lock,
            known: None,
            signers: &[&self.signer],
            origin: ORIGIN,
            clock: &self.clock,
            masker: &self.masker,
            tables: &Tables::default(),
            scratch: scratch.path(),
        })
    }

    /// A process that looks at what was sealed and delivers.
    fn alert(&self) -> Vec<Undelivered> {
        self.alert_at_least(Severity::Low)
    }

    fn alert_at_least(&self, least: Severity) -> Vec<Undelivered> {
        self.with_trail(|trail| {
            let size = trail.log().recover().unwrap().size;
            let place = Place { trail: ORIGIN.into(), data: "trail".into() };
            let mut receivers = vec![Receiver::new("target", "target", least, self.receiver.clone())];
            let mut engine =
                Engine::open(trail, AlertOptions::default(), place, &mut receivers, size).unwrap();
            engine.sealed(trail, size).unwrap();
            engine.deliver(trail, Duration::from_secs(10)).unwrap()
        })
    }

    /// (rule, key, count, summary) of all that was told.
    fn told(&self) -> Vec<(String, String, u64, bool)> {
        self.receiver
            .taken()
            .iter()
            .map(|(id, body)| {
                let body: Value = serde_json::from_slice(body).unwrap();
                let data = &body["data"];
                assert_eq!(&data["id"], id);
                let text = |v: &Value| v.as_str().unwrap().to_owned();
                (
                    text(&data["rule"]),
                    text(&data["group"]["key"]),
                    data["count"].as_u64().unwrap(),
                    data["summary"].as_bool().unwrap(),
                )
            })
            .collect()
    }
}

fn told(rule: &str, key: &str, count: u64, summary: bool) -> (String, String, u64, bool) {
    (rule.into(), key.into(), count, summary)
}

#[test]
fn the_first_is_told_at_once_and_others_at_the_windows_end() {
    let mut world = World::new();
    world.seal(&[("DisableKey", "k1", ""), ("DisableKey", "k1", ""), ("Decrypt", "k1", "")]);
    world.alert();
    assert_eq!(world.told(), [told("key-disabled", "k1", 2, false)]);
    world.at(5);
    world.seal(&[("DisableKey", "k1", ""), ("DisableKey", "k2", "")]);
    world.alert();
    world.at(14);
    world.seal(&[("DisableKey", "k1", "")]);
    world.alert();
    assert_eq!(world.told()[1..], [told("key-disabled", "k2", 1, false)]);
    world.at(15);
    world.alert();
    assert_eq!(world.told()[2..], [told("key-disabled", "k1", 2, true)]);
    // The window after the summary passes with nothing in it: the next one is a first one.
    world.at(31);
    world.seal(&[("DisableKey", "k1", "")]);
    world.alert();
    assert_eq!(world.told()[3..], [told("key-disabled", "k1", 1, false)]);
}

/// A clock that was a year ahead when the first alert was told holds the next one back for a day at most.
#[test]
fn a_clock_that_was_ahead_holds_nothing_back_for_ever() {
    let mut world = World::new();
    world.at(365 * 24 * 60);
    world.seal(&[("DisableKey", "k1", "")]);
    world.alert();
    world.at(0);
    world.seal(&[("DisableKey", "k1", "")]);
    world.alert();
    assert_eq!(world.told().len(), 1);
    world.at(24 * 60 + 1);
    world.alert();
    assert_eq!(world.told()[1..], [told("key-disabled", "k1", 1, true)]);
}

#[test]
fn a_success_is_not_hidden_by_failures_before_it() {
    let mut world = World::new();
    world.seal(&[("ScheduleKeyDeletion", "k1", "AccessDenied")]);
    world.alert();
    world.at(1);
    world.seal(&[("ScheduleKeyDeletion", "k1", "")]);
    world.alert();
    let bodies: Vec<Value> =
        world.receiver.taken().iter().map(|(_, b)| serde_json::from_slice(b).unwrap()).collect();
    let said: Vec<_> = bodies.iter().map(|b| (&b["data"]["severity"], &b["data"]["outcome"])).collect();
    assert_eq!(said, [(&"medium".into(), &"failure".into()), (&"high".into(), &"success".into())]);
}

#[test]
fn what_is_not_taken_stays_the_same_until_it_is() {
    let mut world = World::new();
    world.receiver.fail(Some(NotifyError::Retryable("down".into())));
    world.seal(&[("DisableKey", "k1", "")]);
    let undelivered = world.alert();
    assert_eq!(undelivered, [Undelivered { receiver: "target".into(), alerts: 1, error: "down".into() }]);
    // Days later, with more of it: the first alert is as it was, since it may have arrived after all.
    world.at(3 * 24 * 60);
    world.seal(&[("DisableKey", "k1", ""), ("DisableKey", "k1", "")]);
    world.alert();
    assert_eq!(world.told(), []);
    world.receiver.fail(None);
    assert_eq!(world.alert(), []);
    assert_eq!(world.told(), [told("key-disabled", "k1", 1, false)]);
    world.at(3 * 24 * 60 + 15);
    world.alert();
    assert_eq!(world.told()[1..], [told("key-disabled", "k1", 2, true)]);
    // Nothing is told twice.
    world.at(9 * 24 * 60);
    world.alert();
    assert_eq!(world.told().len(), 2);
}

#[test]
fn an_alert_that_is_refused_does_not_hold_up_others() {
    let mut world = World::new();
    world.receiver.fail(Some(NotifyError::Refused("no".into())));
    world.seal(&[("DisableKey", "k1", ""), ("DisableKey", "k2", "")]);
    assert_eq!(world.alert()[0].alerts, 2);
    world.receiver.fail(None);
    world.alert();
    assert_eq!(world.told().len(), 2);
}

#[test]
fn a_receiver_that_is_new_is_told_of_the_last_day_alone() {
    let mut world = World::new();
    world.seal(&[("DisableKey", "old", "")]);
    world.at(20 * 60);
    world.seal(&[("DisableKey", "new", "")]);
    world.at(30 * 60);
    world.alert();
    assert_eq!(world.told(), [told("key-disabled", "new", 1, false)]);
}

#[test]
fn a_cursor_that_somebody_moved_is_not_believed() {
    let mut world = World::new();
    world.seal(&[("DisableKey", "k1", "")]);
    world.alert();
    let key = world.store.list("state/alerts/").unwrap().pop().unwrap();
    let before = world.store.get(&key).unwrap().unwrap();
    world.at(20);
    world.seal(&[("DisableKey", "k2", "")]);
    let forged = String::from_utf8(before).unwrap().replace(r#""cursor":1"#, r#""cursor":2"#);
    world.store.replace(&key, forged.as_bytes()).unwrap();
    world.alert();
    // What was told before is told again, under its id: better twice than never.
    assert_eq!(
        world.told()[1..],
        [told("key-disabled", "k1", 1, false), told("key-disabled", "k2", 1, false)]
    );
    assert_eq!(world.receiver.taken()[0].0, world.receiver.taken()[1].0);
}

#[test]
fn receivers_are_told_of_what_is_severe_enough() {
    let mut world = World::new();
    world.seal(&[("DisableKey", "k1", ""), ("ScheduleKeyDeletion", "k1", "")]);
    world.alert_at_least(Severity::High);
    assert_eq!(world.told(), [told("key-deletion-scheduled", "k1", 1, false)]);
}

/// A million keys that do not exist must not become a million alerts, nor a state of that size.
#[test]
fn many_keys_share_a_group() {
    let mut world = World::new();
    let keys: Vec<String> = (0..300).map(|i| format!("k{i:03}")).collect();
    let events: Vec<_> = keys.iter().map(|k| ("DisableKey", k.as_str(), "")).collect();
    world.seal(&events);
    world.alert();
    let mut all = world.told();
    assert_eq!((all.len(), all.iter().map(|a| a.2).sum::<u64>()), (101, 300));
    all.retain(|a| a.1 == "(further ones)");
    assert_eq!(all[0].2, 200);
}

#[test]
fn conflicts_are_told_when_the_second_event_comes() {
    let mut world = World::new();
    world.seal(&[("DisableKey", "k1", "")]);
    world.alert();
    world.at(1);
    // The same id again, with another key.
    world.events -= 1;
    world.seal(&[("EnableKey", "k2", "")]);
    world.alert();
    assert_eq!(world.told()[1..], [told("conflict", "aws.cloudtrail 1", 1, false)]);
    world.at(60);
    world.seal(&[("EnableKey", "k2", "")]);
    world.alert();
    assert_eq!(world.told().len(), 2, "a conflict is told once");
}

#[test]
fn much_quarantine_is_told_and_little_is_not() {
    let mut world = World::new();
    let bad = |from: u32, n: u32| (from..from + n).map(|i| format!("{{\"no\":{i}}}\n")).collect::<String>();
    world.ingest(bad(0, 6));
    world.alert();
    assert_eq!(world.told(), [], "10 of an hour are usual");
    world.at(30);
    world.ingest(bad(100, 6));
    world.alert();
    assert_eq!(world.told(), [told("quarantine", "quarantine", 12, false)]);
    world.at(120);
    let good = vec![("Decrypt", "k", ""); 2_000];
    world.seal(&good);
    world.ingest(bad(200, 15));
    world.alert();
    assert_eq!(world.told().len(), 1, "less than a percent is usual");
}
