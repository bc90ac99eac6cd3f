//! The trail that functions work on: its ports, its keys and its configuration, each fetched once.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use keytrail_adapters::aws::{Aws, Lock, LockMode};
use keytrail_adapters::keys::TrailKeys;
use keytrail_adapters::local::SystemClock;
use keytrail_model::Fatal;
use keytrail_pipeline::input::Limits;
use keytrail_pipeline::seal::LOCK;
use keytrail_pipeline::{
    Checkpoint, Config, LogKeys, Masker, Options, Tables, Trail, VerifierKey, ingest, tables,
};
use keytrail_ports::{BlobStore, CheckpointStore, Clock, Signer, StoreError};

use crate::Environment;
use crate::environment::S3Url;

/// The log's public keys.
pub const LOG_KEYS: &str = "keys/log.keys";

/// Size at which an archive object is closed.
const OBJECT_BYTES: u64 = 128 << 20;

/// Gives a text that is kept elsewhere: a secret, a file.
pub type Fetch = dyn Fn() -> Result<Option<String>, StoreError> + Send + Sync;

/// What a function locks of what it puts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Locks {
    /// Nothing.
    None,
    /// New objects: those of the archive for as long as compaction may take.
    New,
    /// What stays: all of it for the whole time.
    Kept,
}

/// The trail's ports.
pub struct TrailPorts {
    /// The trail's objects.
    pub store: Arc<dyn BlobStore>,
    /// The log's lock checkpoint.
    pub lock: Arc<dyn CheckpointStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the trail is, for people.
    pub place: String,
    /// The secret of the trail's keys.
    pub secret: Box<Fetch>,
    /// `keytrail.toml`; `None`: there is none.
    pub config: Box<Fetch>,
    /// A folder for files in the making.
    pub scratch: PathBuf,
    fetched: Mutex<Option<Arc<Fetched>>>,
}

/// What does not change while a process lives.
pub struct Fetched {
    keys: TrailKeys,
    masker: Masker,
    /// What `keytrail.toml` says.
    pub config: Config,
    tables: Tables,
}

impl TrailPorts {
    /// Of the environment: `KEYTRAIL_DATA`, `KEYTRAIL_KEYS`, `KEYTRAIL_CONFIG`, and where it puts archive objects,
    /// `KEYTRAIL_LOCK` and `KEYTRAIL_LOCK_DAYS`.
    pub fn of(environment: &mut Environment<'_>, aws: &Aws, locks: Locks) -> Self {
        let data = environment.s3("KEYTRAIL_DATA");
        let secret = environment.text("KEYTRAIL_KEYS", "the ARN of the secret of the trail's keys");
        let config = match environment.optional("KEYTRAIL_CONFIG") {
            None => None,
            Some(_) => environment.parsed("KEYTRAIL_CONFIG", "a file as s3://bucket/key", S3Url::parse),
        };
        let mut store = aws.store(&data.bucket, &data.key);
        if let Some((lock, archive)) = if locks == Locks::None { None } else { lock(environment) } {
            store = store.with_lock(lock, Arc::new(SystemClock));
            if locks == Locks::New {
                store = store.with_archive_lock(archive);
            }
        }
        let aws_of_secret = aws.clone();
        let config_store = config.map(|url| {
            let (folder, file) = url.key.rsplit_once('/').unwrap_or(("", &url.key));
            (aws.store(&url.bucket, folder), file.to_owned())
        });
        Self::new(
            Arc::new(store),
            Arc::new(aws.checkpoint(&data.bucket, &data.below(LOCK))),
            Arc::new(SystemClock),
            format!("s3://{}/{}", data.bucket, data.key).trim_end_matches('/').to_owned(),
            Box::new(move || aws_of_secret.secret(&secret)),
            Box::new(move || match &config_store {
                Some((store, file)) => {
                    let bytes =
                        store.get(file)?.ok_or_else(|| StoreError::Fatal(format!("there is no `{file}`")))?;
                    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
                }
                None => match std::fs::read_to_string(package().join("keytrail.toml")) {
                    Ok(text) => Ok(Some(text)),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(e) => Err(StoreError::Fatal(format!("keytrail.toml of the package: {e}"))),
                },
            }),
            std::env::temp_dir().join("keytrail"),
        )
    }

    /// Of these ports.
    pub fn new(
        store: Arc<dyn BlobStore>,
        lock: Arc<dyn CheckpointStore>,
        clock: Arc<dyn Clock>,
        place: String,
        secret: Box<Fetch>,
        config: Box<Fetch>,
        scratch: PathBuf,
    ) -> Self {
        Self { store, lock, clock, place, secret, config, scratch, fetched: Mutex::new(None) }
    }

    /// Keys and configuration.
    ///
    /// # Errors
    /// `Fatal.Config`; `Retryable.Store`.
    pub fn fetched(&self) -> Result<Arc<Fetched>, Fatal> {
        let mut known = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known {
            return Ok(Arc::clone(known));
        }
        let wrong = |what: String| Fatal::new("Fatal.Config", what);
        let secret =
            (self.secret)()?.ok_or_else(|| wrong("the secret of the trail's keys is not there".into()))?;
        let keys =
            TrailKeys::parse(&secret).map_err(|e| wrong(format!("the secret of the trail's keys: {e}")))?;
        let config = match (self.config)()? {
            None => Config::default(),
            Some(text) => Config::parse(&text, &package()).map_err(|problems| {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                wrong(format!("keytrail.toml: {}", problems.join("; ")))
            })?,
        };
        let tables = tables::load(&config.tables).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            wrong(format!("tables: {}", problems.join("; ")))
        })?;
        let masker = Masker::new(keys.mask());
        Ok(Arc::clone(known.insert(Arc::new(Fetched { keys, masker, config, tables }))))
    }

    /// Calls `with` with the trail. What another call left in the folder of files in the making goes first.
    pub fn with<T>(&self, with: impl FnOnce(&Trail<'_>, &Config) -> Result<T, Fatal>) -> Result<T, Fatal> {
        let fetched = self.fetched()?;
        clear(&self.scratch)?;
        let signers: Vec<&dyn Signer> = fetched.keys.signers().iter().map(|s| s as &dyn Signer).collect();
        let trail = Trail {
            store: &*self.store,
            lock: &*self.lock,
            known: None,
            signers: &signers,
            origin: fetched.keys.origin(),
            clock: &*self.clock,
            masker: &fetched.masker,
            tables: &fetched.tables,
            scratch: &self.scratch,
        };
        with(&trail, &fetched.config)
    }

    /// The log's public keys, as the trail has them; a trail that is new gets them now.
    pub fn log_keys(&self, trail: &Trail<'_>) -> Result<LogKeys, Fatal> {
        let wrong = |e: String| Fatal::new("Fatal.LogKey", format!("`{LOG_KEYS}`: {e}"));
        if let Some(text) = self.store.get(LOG_KEYS)? {
            let keys = LogKeys::parse(&String::from_utf8_lossy(&text)).map_err(wrong)?;
            // Whoever can write to the bucket cannot choose whose signatures count.
            let is_ours = |s: &&dyn Signer| keys.keys().iter().any(|k| *k.key.public() == s.public_key());
            return match trail.signers.iter().all(is_ours) {
                true => Ok(keys),
                false => Err(wrong("it does not name the keys of the secret".into())),
            };
        }
        let mut keys = None;
        for signer in trail.signers {
            keys = Some(VerifierKey::new(signer.name(), signer.public_key()).map_err(wrong)?);
        }
        let keys = LogKeys::of(keys.ok_or_else(|| wrong("the secret has no key".into()))?);
        self.store.put_if_absent(LOG_KEYS, keys.to_string().as_bytes())?;
        Ok(keys)
    }

    /// The newest head, checked, and its note.
    ///
    /// # Errors
    /// `Fatal.LogMissing`: nothing was sealed yet.
    pub fn head(&self, keys: &LogKeys) -> Result<(Checkpoint, Vec<u8>), Fatal> {
        let note = self.store.get("log/checkpoint")?;
        let note = note.ok_or_else(|| Fatal::new("Fatal.LogMissing", "nothing was sealed yet"))?;
        let checkpoint = keys.open(&note).map_err(|e| Fatal::new("Fatal.LogKey", e))?;
        Ok((checkpoint, note))
    }

    /// How inputs are read, and objects written.
    pub fn options(&self) -> Options {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let ingest = ingest::Options { threads, format: None, limits: Limits::default() };
        Options { ingest, object_bytes: OBJECT_BYTES }
    }
}

/// Where the function's package lies.
fn package() -> PathBuf {
    std::env::var_os("LAMBDA_TASK_ROOT").map_or_else(PathBuf::new, PathBuf::from)
}

/// The lock of what it puts, and of archive objects: compaction may replace these.
pub fn lock(environment: &mut Environment<'_>) -> Option<(Lock, Lock)> {
    let mode = environment.parsed("KEYTRAIL_LOCK", "`GOVERNANCE`, `COMPLIANCE` or `none`", |text| {
        if text == "none" { Some(None) } else { LockMode::parse(text).map(Some) }
    })?;
    let days = environment.number("KEYTRAIL_LOCK_DAYS", 1);
    let archive = environment.number("KEYTRAIL_LOCK_ARCHIVE_DAYS", days);
    let of = |mode, days| Lock { mode, days: u32::try_from(days).unwrap_or(u32::MAX) };
    mode.map(|mode| (of(mode, days), of(mode, archive)))
}

fn clear(scratch: &Path) -> Result<(), Fatal> {
    let wrong = |e: std::io::Error| {
        Fatal::new("Fatal.Scratch", format!("the folder `{}` of files in the making: {e}", scratch.display()))
    };
    match std::fs::remove_dir_all(scratch) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(wrong(e)),
        _ => {}
    }
    std::fs::create_dir_all(scratch).map_err(wrong)
}
