//! A receiver: its own cursor and groups, and a thread that hands it one alert at a time, so that one that
//! is slow or down delays neither ingest nor other receivers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Answers, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use keytrail_model::{Fatal, Hash, Timestamp};
use keytrail_normalize::Masker;
use keytrail_ports::{BlobStore, Notice, Notifier, NotifyError};

use super::alert::Place;
use super::group::Key;
use super::rule::Severity;
use super::state::{self, State};

/// After a failure: the first wait, which doubles with each further one up to the longest.
const FIRST_WAIT: i64 = 2_000_000;
const LONGEST_WAIT: i64 = 300_000_000;

/// How long an alert that a receiver refused is not offered to it again.
const REFUSED_WAIT: i64 = 3_600_000_000;

/// Who is told.
pub struct Receiver {
    id: String,
    name: String,
    least: Severity,
    hand: Hand,
    pub(super) state: State,
    /// Alerts that it refused, and when they are offered again.
    refused: BTreeMap<String, i64>,
    failures: u32,
    /// Not before.
    next: i64,
    /// Its thread ended.
    is_gone: bool,
    error: Option<String>,
}

/// Alerts that a receiver did not take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Undelivered {
    /// The receiver.
    pub receiver: String,
    /// How many.
    pub alerts: u64,
    /// Why the last attempt failed; none was made yet where it is empty.
    pub error: String,
}

/// What goes to the thread: id, time, body.
type Handed = (String, Timestamp, String);

/// The thread's two ends.
struct Hand {
    /// `None`: the thread is gone.
    give: SyncSender<Handed>,
    answers: Answers<Result<(), NotifyError>>,
    /// What it has.
    busy: Option<(Key, String)>,
}

impl Hand {
    fn new(notifier: Arc<dyn Notifier>) -> Self {
        let (give, take) = sync_channel::<Handed>(1);
        let (answer, answers) = sync_channel(1);
        // It ends with the channels, after what it is about: nothing waits for it.
        std::thread::spawn(move || {
            for (id, at, body) in take {
                let taken = notifier.notify(&Notice { id: &id, at, body: body.as_bytes() });
                if answer.send(taken).is_err() {
                    return;
                }
            }
        });
        Self { give, answers, busy: None }
    }
}

impl Receiver {
    /// A receiver that is told of what is at least so severe. `target` tells it from others, and may be
    /// secret: it is hashed. `name` is shown to people.
    pub fn new(target: &str, name: impl Into<String>, least: Severity, notifier: Arc<dyn Notifier>) -> Self {
        Self {
            id: Hash::of(target.as_bytes()).to_hex()[..16].to_owned(),
            name: name.into(),
            least,
            hand: Hand::new(notifier),
            state: State::default(),
            refused: BTreeMap::new(),
            failures: 0,
            next: 0,
            is_gone: false,
            error: None,
        }
    }

    /// Takes up what is remembered; `start` gives the cursor where nothing is.
    pub(super) fn resume(
        &mut self,
        store: &dyn BlobStore,
        masker: &Masker,
        size: u64,
        start: &dyn Fn() -> Result<u64, Fatal>,
    ) -> Result<(), Fatal> {
        self.state = match state::load(store, masker, &self.id)?.filter(|s| s.cursor <= size) {
            Some(state) => state,
            None => State { version: 1, cursor: start()?, ..State::default() },
        };
        Ok(())
    }

    pub(super) fn save(&self, store: &dyn BlobStore, masker: &Masker) -> Result<(), Fatal> {
        state::save(store, masker, &self.id, &self.state)
    }

    /// Whether it is to be told of something so severe.
    pub(super) fn wants(&self, severity: Severity) -> bool {
        severity >= self.least
    }

    /// Makes alerts of what is due and hands the next one over, if it is idle. Whether the state changed;
    /// it has to be durable before [`send`](Self::send).
    pub(super) fn raise(&mut self, place: &Place, now: Timestamp) -> Result<bool, Fatal> {
        self.state.groups.raise(place, now, &mut |_| {})
    }

    /// Hands the next alert to the thread, unless that has one or waits after a failure.
    pub(super) fn send(&mut self, now: Timestamp) {
        // Beyond the longest wait they are of a clock that was ahead.
        let is_ahead = |until: i64, longest: i64| until > now.0 && until <= now.0.saturating_add(longest);
        self.refused.retain(|_, until| is_ahead(*until, REFUSED_WAIT));
        if self.hand.busy.is_some() || self.is_gone || is_ahead(self.next, LONGEST_WAIT) {
            return;
        }
        let refused = &self.refused;
        let Some((key, sending)) = self.state.groups.sending(&|id| refused.contains_key(id)) else { return };
        let handed = (sending.id.clone(), now, sending.body.clone());
        self.hand.busy = Some((key.clone(), sending.id.clone()));
        if self.hand.give.send(handed).is_err() {
            self.hand.busy = None;
            self.is_gone = true;
            self.error = Some("its thread ended".into());
        }
    }

    /// Whether the thread has an alert.
    pub(super) fn is_busy(&self) -> bool {
        self.hand.busy.is_some()
    }

    /// Takes the thread's answer, waiting so long for it; whether an alert was acknowledged.
    pub(super) fn settle(&mut self, wait: Duration, window: i64, now: &dyn Fn() -> Timestamp) -> bool {
        if self.hand.busy.is_none() {
            return false;
        }
        let answer = match self.hand.answers.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => {
                self.is_gone = true;
                Err(NotifyError::Retryable("its thread ended".into()))
            }
            Ok(answer) => answer,
        };
        let Some((key, id)) = self.hand.busy.take() else { return false };
        match answer {
            Ok(()) => {
                self.failures = 0;
                self.error = None;
                self.state.groups.acknowledged(&key, window, now());
                true
            }
            Err(NotifyError::Refused(why)) => {
                self.refused.insert(id, now().0.saturating_add(REFUSED_WAIT));
                self.error = Some(why);
                false
            }
            Err(NotifyError::Retryable(why)) => {
                let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(20)).min(LONGEST_WAIT);
                self.failures = self.failures.saturating_add(1);
                self.next = self.next.max(now().0.saturating_add(wait));
                self.error = Some(why);
                false
            }
        }
    }

    /// What it has not taken; `None`: nothing.
    pub(super) fn undelivered(&self) -> Option<Undelivered> {
        let alerts = self.state.groups.unsent() as u64;
        (alerts > 0).then(|| Undelivered {
            receiver: self.name.clone(),
            alerts,
            error: self.error.clone().unwrap_or_default(),
        })
    }
}
