//! Objects that nobody can delete for a time (S3 Object Lock).
//!
//! A lock is on a version of an object. Whoever may, can put another version before it, or a delete marker: what was
//! locked stays, and is read by its version. So a lock proves nothing and loses nothing: the log proves.

use std::sync::Arc;

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode,
};
use keytrail_model::Timestamp;
use keytrail_ports::{Clock, StoreError};

use super::{Bucket, S3Store};
use crate::aws::{answered, failure};

/// Who can end a retention early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// Whoever has the right `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody, the account's root user and AWS among them.
    Compliance,
}

impl LockMode {
    /// As S3 spells it: `GOVERNANCE` or `COMPLIANCE`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "GOVERNANCE" => Some(Self::Governance),
            "COMPLIANCE" => Some(Self::Compliance),
            _ => None,
        }
    }

    pub(super) fn as_s3(self) -> ObjectLockMode {
        match self {
            Self::Governance => ObjectLockMode::Governance,
            Self::Compliance => ObjectLockMode::Compliance,
        }
    }

    fn as_retention(self) -> ObjectLockRetentionMode {
        match self {
            Self::Governance => ObjectLockRetentionMode::Governance,
            Self::Compliance => ObjectLockRetentionMode::Compliance,
        }
    }
}

/// How objects are locked when they are put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lock {
    /// Who can end it early.
    pub mode: LockMode,
    /// For how many days from the put on.
    pub days: u32,
}

/// How a store locks what it puts.
#[derive(Clone)]
pub(super) struct Locked {
    lock: Lock,
    /// Of objects below `archive/`.
    archive: Lock,
    clock: Arc<dyn Clock>,
}

/// What holds an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Who can end it early.
    pub mode: LockMode,
    /// When it ends.
    pub until: Timestamp,
}

/// A version of an object, or a delete marker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Its id.
    pub id: String,
    /// Whether it hides those before it, and has no bytes.
    pub is_marker: bool,
    /// Whether it is what a get without a version finds.
    pub is_latest: bool,
}

/// Outcome of deleting a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// It is gone for good, or was.
    Done,
    /// A retention, a legal hold or a right that is missing keeps it: S3 answers alike.
    Kept,
}

/// When a lock that is put now ends, in seconds since 1970.
#[derive(Clone, Copy)]
pub(super) struct Until {
    pub mode: LockMode,
    seconds: i64,
}

impl Until {
    fn new(lock: Lock, clock: &dyn Clock) -> Self {
        // Rounded up: not a second less than was asked for.
        let now = clock.now().0.div_euclid(1_000_000).saturating_add(1);
        Self { mode: lock.mode, seconds: now.saturating_add(i64::from(lock.days) * 86_400) }
    }

    pub fn date(self) -> DateTime {
        DateTime::from_secs(self.seconds)
    }
}

/// What a head says of an object.
pub(super) struct Head {
    mode: Option<LockMode>,
    until: Option<i64>,
}

impl Bucket {
    pub(super) fn get_head(&self, key: &str, version: Option<&str>) -> Result<Option<Head>, StoreError> {
        let request = self.client.head_object().bucket(&self.name).key(key);
        let request = request.set_version_id(version.map(str::to_owned));
        let head = match self.runtime.block_on(request.send()) {
            Ok(head) => head,
            Err(e) if e.as_service_error().is_some_and(|e| e.is_not_found()) => return Ok(None),
            Err(e) => return Err(failure(&self.at("look at", key), &e)),
        };
        Ok(Some(Head {
            mode: head.object_lock_mode().and_then(|mode| LockMode::parse(mode.as_str())),
            until: head.object_lock_retain_until_date().map(DateTime::secs),
        }))
    }
}

/// Whether objects of that key are locked: what the log names, the log's own full tiles, and what reports rest on.
fn is_to_be_locked(key: &str) -> bool {
    let is_below = |folder: &str| key.starts_with(folder);
    is_below("archive/")
        || is_below("detail/")
        || is_below("quarantine/")
        // Partial tiles are superseded.
        || (is_below("log/tile/") && !key.contains(".p/"))
        || (is_below("reports/") && key.ends_with(".checkpoint"))
}

impl S3Store {
    /// The store, which from now on locks what has to stay: objects below `archive/`, `detail/` and `quarantine/`, full
    /// tiles of the log, and the checkpoints of reports. Each put of them says for how long, and reads back that it is
    /// so; where one is there already, its lock is extended to as long. The bucket has to be made with Object Lock.
    pub fn with_lock(mut self, lock: Lock, clock: Arc<dyn Clock>) -> Self {
        self.locked = Some(Locked { lock, archive: lock, clock });
        self
    }

    /// The store [with a lock](Self::with_lock), and with another one for objects below `archive/`, which compaction may
    /// replace.
    pub fn with_archive_lock(mut self, lock: Lock) -> Self {
        if let Some(locked) = &mut self.locked {
            locked.archive = lock;
        }
        self
    }

    /// How an object that is put now is to be locked.
    pub(super) fn until(&self, key: &str) -> Option<Until> {
        let locked = self.locked.as_ref().filter(|_| is_to_be_locked(key))?;
        let lock = if key.starts_with("archive/") { locked.archive } else { locked.lock };
        Some(Until::new(lock, locked.clock.as_ref()))
    }

    /// Reads back that what was put is locked as it was asked for.
    pub(super) fn is_locked(
        &self,
        full: &str,
        version: Option<&str>,
        until: Option<Until>,
    ) -> Result<(), StoreError> {
        let Some(wanted) = until else { return Ok(()) };
        let head = self.bucket.get_head(full, version)?.ok_or_else(|| {
            StoreError::Retryable(format!("{} came and went", self.bucket.at("what was put to", full)))
        })?;
        if head.mode == Some(wanted.mode) && head.until.is_some_and(|until| until >= wanted.seconds) {
            return Ok(());
        }
        Err(StoreError::Fatal(format!(
            "`s3://{}/{full}` was put and is not locked as it should be: expected {:?} until {}, found {}; has the \
             bucket Object Lock, and may this process read retentions (s3:GetObjectRetention)?",
            self.bucket.name,
            wanted.mode,
            Timestamp(wanted.seconds.saturating_mul(1_000_000)).to_rfc3339(),
            match head.retention() {
                Some(found) => format!("{:?} until {}", found.mode, found.until.to_rfc3339()),
                None => "none".to_owned(),
            }
        )))
    }

    /// Locks what was found in place of what was to be put.
    pub(super) fn lock_found(&self, key: &str, until: Option<Until>) -> Result<(), StoreError> {
        match until {
            Some(until) => self.extend(key, until),
            None => Ok(()),
        }
    }

    /// Keeps an object, as it now is, for the time of a lock from now on; one that is kept longer stays so, and none is
    /// shortened or loosened.
    pub fn extend_lock(&self, key: &str, lock: Lock, clock: &dyn Clock) -> Result<(), StoreError> {
        self.extend(key, Until::new(lock, clock))
    }

    fn extend(&self, key: &str, wanted: Until) -> Result<(), StoreError> {
        let full = self.full(key)?;
        let gone = || StoreError::Fatal(format!("`s3://{}/{full}` is not there", self.bucket.name));
        let there = self.bucket.get_head(&full, None)?.ok_or_else(gone)?;
        // A try that comes a little later has nothing to add.
        const SLACK_SECONDS: i64 = 3_600;
        let keeps = |head: &Head, slack: i64| {
            head.mode.is_some_and(|mode| mode == wanted.mode || mode == LockMode::Compliance)
                && head.until.is_some_and(|until| until >= wanted.seconds - slack)
        };
        if keeps(&there, SLACK_SECONDS) {
            return Ok(());
        }
        let mode = if there.mode == Some(LockMode::Compliance) { LockMode::Compliance } else { wanted.mode };
        let seconds = there.until.map_or(wanted.seconds, |until| until.max(wanted.seconds));
        let retention = ObjectLockRetention::builder()
            .mode(mode.as_retention())
            .retain_until_date(DateTime::from_secs(seconds))
            .build();
        let Bucket { client, runtime, name } = &self.bucket;
        let request = client.put_object_retention().bucket(name).key(&full).retention(retention);
        let refused = match runtime.block_on(request.send()) {
            Ok(_) => None,
            // Another one may have made it longer meanwhile.
            Err(e) if matches!(answered(&e), Some((400 | 403, _))) => {
                Some(failure(&self.bucket.at("lock", &full), &e))
            }
            Err(e) => return Err(failure(&self.bucket.at("lock", &full), &e)),
        };
        let there = self.bucket.get_head(&full, None)?.ok_or_else(gone)?;
        if keeps(&there, 0) || (refused.is_some() && keeps(&there, SLACK_SECONDS)) {
            return Ok(());
        }
        Err(refused.unwrap_or_else(|| {
            StoreError::Fatal(format!(
                "`s3://{name}/{full}` was locked, and is not kept as long as was asked for"
            ))
        }))
    }

    /// What keeps an object; `None`: nothing does.
    ///
    /// # Errors
    /// It is not there, or cannot be asked about.
    pub fn retention(&self, key: &str) -> Result<Option<Retention>, StoreError> {
        let full = self.full(key)?;
        let head = self.bucket.get_head(&full, None)?;
        let head = head
            .ok_or_else(|| StoreError::Fatal(format!("`s3://{}/{full}` is not there", self.bucket.name)))?;
        Ok(head.retention())
    }

    /// Keeps an object until this is taken back, whatever its retention.
    pub fn legal_hold(&self, key: &str, on: bool) -> Result<(), StoreError> {
        let full = self.full(key)?;
        let status = if on { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
        let Bucket { client, runtime, name } = &self.bucket;
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let request = client.put_object_legal_hold().bucket(name).key(&full).legal_hold(hold);
        let sent = runtime.block_on(request.send());
        sent.map(|_| ()).map_err(|e| failure(&self.bucket.at("hold", &full), &e))
    }

    /// Whether an object is held.
    pub fn is_held(&self, key: &str) -> Result<bool, StoreError> {
        let full = self.full(key)?;
        let Bucket { client, runtime, name } = &self.bucket;
        let request = client.get_object_legal_hold().bucket(name).key(&full);
        match runtime.block_on(request.send()) {
            Ok(answer) => {
                let status = answer.legal_hold().and_then(|hold| hold.status());
                Ok(status == Some(&ObjectLockLegalHoldStatus::On))
            }
            Err(e) => match answered(&e) {
                Some((_, "NoSuchObjectLockConfiguration")) => Ok(false),
                _ => Err(failure(&self.bucket.at("look at", &full), &e)),
            },
        }
    }

    /// Versions of an object and its delete markers, the newest first.
    pub fn versions(&self, key: &str) -> Result<Vec<Version>, StoreError> {
        let full = self.full(key)?;
        let Bucket { client, runtime, name } = &self.bucket;
        let mut all = Vec::new();
        let (mut after, mut after_version) = (None, None);
        loop {
            let request = client.list_object_versions().bucket(name).prefix(&full);
            let request = request.set_key_marker(after).set_version_id_marker(after_version);
            let page = runtime.block_on(request.send());
            let page = page.map_err(|e| failure(&self.bucket.at("list versions of", &full), &e))?;
            let versions = page
                .versions()
                .iter()
                .map(|v| (v.key(), v.version_id(), v.last_modified(), false, v.is_latest()));
            let markers = page
                .delete_markers()
                .iter()
                .map(|v| (v.key(), v.version_id(), v.last_modified(), true, v.is_latest()));
            for (key, id, time, is_marker, is_latest) in versions.chain(markers) {
                if let (Some(key), Some(id)) = (key, id)
                    && key == full
                {
                    let is_latest = is_latest.unwrap_or_default();
                    let order = (!is_latest, time.map(|t| (-t.secs(), t.subsec_nanos())));
                    all.push((order, Version { id: id.to_owned(), is_marker, is_latest }));
                }
            }
            after = page.next_key_marker().map(str::to_owned);
            after_version = page.next_version_id_marker().map(str::to_owned);
            if !page.is_truncated().unwrap_or_default() || after.is_none() {
                break;
            }
        }
        all.sort_by_key(|(order, _)| *order);
        Ok(all.into_iter().map(|(_, version)| version).collect())
    }

    /// Deletes one version of an object for good.
    pub fn delete_version(&self, key: &str, version: &str) -> Result<Removal, StoreError> {
        let full = self.full(key)?;
        let Bucket { client, runtime, name } = &self.bucket;
        let request = client.delete_object().bucket(name).key(&full).version_id(version);
        match runtime.block_on(request.send()) {
            Ok(_) => Ok(Removal::Done),
            Err(e) => match answered(&e) {
                Some((403, "AccessDenied") | (400, "InvalidRequest")) => Ok(Removal::Kept),
                _ => Err(failure(&self.bucket.at("delete a version of", &full), &e)),
            },
        }
    }
}

impl Head {
    fn retention(&self) -> Option<Retention> {
        let until = Timestamp(self.until?.saturating_mul(1_000_000));
        Some(Retention { mode: self.mode?, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_to_stay_is_locked() {
        for key in [
            "archive/dataset=a/day=2026-01-01/x.parquet",
            "detail/x.json",
            "quarantine/x",
            "log/tile/0/000",
            "log/tile/entries/x001/067",
            "reports/2026-W01/report.checkpoint",
        ] {
            assert!(is_to_be_locked(key), "{key}");
        }
        for key in [
            "log/tile/0/000.p/3",
            "log/tile/entries/000.p/3",
            "log/checkpoint",
            "log-staging/lock",
            "reports/2026-W01/report.json",
            "state/archive/x",
            "keys/log.keys",
        ] {
            assert!(!is_to_be_locked(key), "{key}");
        }
    }
}
