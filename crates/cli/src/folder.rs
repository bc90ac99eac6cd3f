//! A data folder and its keys: the local adapters, put together.
//!
//! Private keys are in a folder of their own, outside the data folder: `<key dir>/<trail>/` holds
//! `log-<n>.key` (C2SP signed-note private key), `mask.key` (64 hex digits) and `head`, the newest
//! checkpoint that this machine signed: a data folder behind it was rolled back, and is not written to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keytrail_adapters::keys::TrailKeys;
use keytrail_adapters::local::{FolderLock, KeyFile, LocalCheckpoint, LocalStore, SystemClock, secret};
use keytrail_model::{Fatal, Hash};
use keytrail_pipeline::readable::Readable;
use keytrail_pipeline::seal::LOCK;
use keytrail_pipeline::{Checkpoint, LogKeys, Masker, Tables, Trail, VerifierKey};
use keytrail_ports::{BlobStore, CheckpointStore, Clock, Signer};

use crate::place::Place;
use crate::s3;

const KEYS: &str = "keys/log.keys";
const CHECKPOINT: &str = "log/checkpoint";
const HEAD: &str = "head";

/// Says where the trail went: below `state/`, and beside the keys, where nobody deletes it to free room.
const MOVED: &str = "moved";

/// What functions of AWS have archived and not yet sealed.
const PENDING: &str = "state/pending/";

/// How often a reader starts again because of a writer.
const READ_ATTEMPTS: u32 = 10;
const MASK: &str = "mask.key";

/// An opened data folder.
pub struct Folder {
    root: PathBuf,
    store: Arc<dyn BlobStore>,
    checkpoint: Box<dyn CheckpointStore>,
    // Where it is a folder of this machine.
    local: Option<LocalStore>,
    writing: Option<Writing>,
    // Of who writes and signs nothing; held until the folder is dropped.
    _lock: Option<FolderLock>,
    key_dir: Option<PathBuf>,
    tables: Tables,
}

/// What only a writer has.
struct Writing {
    // Held until the folder is dropped.
    _lock: FolderLock,
    keys: LogKeys,
    secrets: PathBuf,
    signers: Vec<KeyFile>,
    masker: Masker,
    scratch: PathBuf,
}

impl Folder {
    /// Opens a folder for `run`: takes its lock, makes what a new trail needs.
    pub fn open_for_writing(place: &Place, key_dir: Option<&Path>) -> Result<Self, Fatal> {
        let folder = Self::open_with_keys(place, key_dir)?;
        folder.is_not_moved()?;
        Ok(folder)
    }

    /// As [`open_for_writing`](Self::open_for_writing), also where the trail was moved.
    pub fn open_with_keys(place: &Place, key_dir: Option<&Path>) -> Result<Self, Fatal> {
        let Place::Folder(root) = place else {
            return Err(Fatal::new(
                "Usage.Data",
                format!(
                    "`{place}` is written to by the functions that keytrail has on AWS: this command takes a data \
                     folder"
                ),
            ));
        };
        let store = LocalStore::open(root)?;
        let lock = FolderLock::acquire(&store, &command(), SystemClock.now())?;
        store.clear_temporary()?;
        let key_dir = key_dir_or_default(key_dir)?;
        outside(root, &key_dir)?;
        let keys = match store.get(KEYS)? {
            Some(text) => parse_keys(&text)?,
            None => match first_of(&store, &["log/", "log-staging/", "archive/", "detail/"])? {
                None => new_trail(&store, &key_dir)?,
                Some(file) => {
                    return Err(Fatal::new(
                        "Config.Keys",
                        format!("`{}` has `{file}` and no `{KEYS}`: restore that file", root.display()),
                    ));
                }
            },
        };
        let secrets = secrets_of(&key_dir, &keys);
        let signers = open_signers(&keys, &secrets)?;
        let masker = masker(&secrets.join(MASK))?.ok_or_else(|| {
            Fatal::new("Config.Keys", format!("the mask key `{}` is missing", secrets.join(MASK).display()))
        })?;
        let scratch = store.temporary()?;
        Ok(Self {
            checkpoint: Box::new(LocalCheckpoint::new(&store, LOCK)?),
            root: root.to_owned(),
            store: Arc::new(store.clone()),
            local: Some(store),
            writing: Some(Writing { _lock: lock, keys, secrets, signers, masker, scratch }),
            _lock: None,
            key_dir: Some(key_dir),
            tables: Tables::default(),
        })
    }

    /// As [`open_for_writing`](Self::open_for_writing), of a trail that is there.
    pub fn open_for_writing_to(place: &Place, key_dir: Option<&Path>) -> Result<Self, Fatal> {
        is_trail(place)?;
        Self::open_for_writing(place, key_dir)
    }

    /// Opens a folder to be moved: takes its lock.
    pub fn open_for_moving(place: &Place, key_dir: Option<&Path>) -> Result<Self, Fatal> {
        is_trail(place)?;
        Self::open_with_keys(place, key_dir)
    }

    /// Opens a trail to index it: a folder as [`open_for_writing`](Self::open_for_writing).
    pub fn open_for_indexing(place: &Place, key_dir: Option<&Path>) -> Result<Self, Fatal> {
        match place {
            Place::Folder(_) => Self::open_for_writing(place, key_dir),
            Place::S3 { .. } => Self::open_for_reading(place, key_dir),
        }
    }

    /// Opens a folder or bundle that is only read; nothing in it changes.
    pub fn open_for_reading(place: &Place, key_dir: Option<&Path>) -> Result<Self, Fatal> {
        let (store, checkpoint, local): (Arc<dyn BlobStore>, Box<dyn CheckpointStore>, _) = match place {
            Place::Folder(root) if !root.is_dir() => {
                return Err(Fatal::new(
                    "Usage.Data",
                    format!("there is no data folder `{}`", root.display()),
                ));
            }
            Place::Folder(root) => {
                let store = LocalStore::open(root)?;
                let checkpoint = LocalCheckpoint::new(&store, LOCK)?;
                (Arc::new(store.clone()), Box::new(checkpoint), Some(store))
            }
            Place::S3 { bucket, prefix } => {
                let s3::Opened { store, lock } = s3::open(bucket, prefix, None)?;
                (store, lock, None)
            }
        };
        Ok(Self {
            root: place.path(),
            checkpoint,
            store,
            local,
            writing: None,
            _lock: None,
            key_dir: key_dir_or_default(key_dir).ok(),
            tables: Tables::default(),
        })
    }

    /// Opens a folder for reports: takes its lock, and needs no private key; with the mask key it keeps what it
    /// read of days.
    pub fn open_for_reports(place: &Place, key_dir: Option<&Path>) -> Result<Self, Fatal> {
        let mut folder = Self::open_for_reading(place, key_dir)?;
        folder.head()?;
        // In a bucket a report that is made twice has the same bytes.
        if let Some(local) = &folder.local {
            folder.is_not_moved()?;
            folder._lock = Some(FolderLock::acquire(local, &command(), SystemClock.now())?);
            local.clear_temporary()?;
        }
        Ok(folder)
    }

    /// The folder, with tables that new rows are enriched with.
    pub fn enriched_with(self, tables: Tables) -> Self {
        Self { tables, ..self }
    }

    /// What new rows are enriched with.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folders that keytrail writes itself: the data folder's, and that of the private keys.
    pub fn own(&self) -> Vec<PathBuf> {
        [Some(&self.root), self.key_dir.as_ref()].into_iter().flatten().cloned().collect()
    }

    /// Its files.
    pub fn store(&self) -> &dyn BlobStore {
        &*self.store
    }

    /// Its files, for threads that outlive a call.
    #[cfg(feature = "sql")]
    pub fn shared_store(&self) -> Arc<dyn BlobStore> {
        Arc::clone(&self.store)
    }

    /// Whether another process is writing: in a bucket, whether there is something that is not sealed yet.
    pub fn in_use(&self) -> bool {
        match &self.local {
            Some(local) => self.writing.is_none() && FolderLock::is_held(local),
            None => self.store.list(PENDING).is_ok_and(|pending| !pending.is_empty()),
        }
    }

    /// Where the trail was moved to.
    pub fn moved_to(&self) -> Result<Option<String>, Fatal> {
        let note = match self.store.get(&format!("state/{MOVED}"))? {
            Some(note) => Some(note),
            None => match &self.key_dir {
                Some(dir) => secret::read(&secrets_of(dir, &self.log_keys()?).join(MOVED))?,
                None => None,
            },
        };
        Ok(note.map(|note| String::from_utf8_lossy(&note).trim().to_owned()))
    }

    fn is_not_moved(&self) -> Result<(), Fatal> {
        let Some(to) = self.moved_to()? else { return Ok(()) };
        Err(Fatal::new(
            "Usage.Moved",
            format!(
                "`{}` was moved to `{to}`, where the log goes on: what is written here would fork it; use --data {to}",
                self.root.display()
            ),
        ))
    }

    /// Notes where the trail is moved to: from here on nothing writes to the folder.
    pub fn mark_moved(&self, to: &str) -> Result<(), Fatal> {
        let note = format!("{to}\n");
        if let Some(w) = &self.writing {
            secret::replace(&w.secrets.join(MOVED), note.as_bytes())?;
        }
        Ok(self.store.replace(&format!("state/{MOVED}"), note.as_bytes())?)
    }

    /// The private keys, as a store of secrets is to have them.
    pub fn private_keys(&self) -> Result<TrailKeys, Fatal> {
        let wrong = |e: String| Fatal::new("Config.Keys", e);
        let w =
            self.writing.as_ref().ok_or_else(|| wrong("the folder was opened without its keys".into()))?;
        let mask = mask_key(&w.secrets.join(MASK))?.ok_or_else(|| wrong("the mask key is missing".into()))?;
        let signers = open_signers(&w.keys, &w.secrets)?.into_iter().map(KeyFile::into_key).collect();
        TrailKeys::new(signers, mask).map_err(wrong)
    }

    /// The log's public keys, as the folder has them.
    pub fn log_keys(&self) -> Result<LogKeys, Fatal> {
        match &self.writing {
            Some(w) => Ok(w.keys.clone()),
            None => match self.store.get(KEYS)? {
                Some(text) => parse_keys(&text),
                None => Err(Fatal::new("Config.Keys", format!("`{KEYS}` is missing; give --keys FILE"))),
            },
        }
    }

    /// The newest checkpoint, checked with the folder's own keys, and its file.
    pub fn head(&self) -> Result<(Checkpoint, Vec<u8>), Fatal> {
        let note = self
            .store
            .get(CHECKPOINT)?
            .ok_or_else(|| Fatal::new("Usage.Data", format!("`{}` holds no log yet", self.root.display())))?;
        let checkpoint = self
            .log_keys()?
            .open(&note)
            .map_err(|e| Fatal::new("Fatal.LogDamaged", format!("`{CHECKPOINT}`: {e}")))?;
        Ok((checkpoint, note))
    }

    /// What is sealed at a checkpoint.
    pub fn readable(&self, checkpoint: &Checkpoint) -> Result<Readable, Fatal> {
        Readable::load(&*self.store, checkpoint.size)
    }

    /// Reads what is sealed at the newest head: again, where a writer replaced meanwhile what was to be read.
    pub fn at_head<T>(
        &self,
        mut read: impl FnMut(&Readable, &Checkpoint, &[u8]) -> Result<T, Fatal>,
    ) -> Result<T, Fatal> {
        let mut attempts = 0;
        loop {
            let (checkpoint, note) = self.head()?;
            match read(&self.readable(&checkpoint)?, &checkpoint, &note) {
                Err(e)
                    if e.code == "Fatal.ObjectMissing"
                        && attempts < READ_ATTEMPTS
                        && self.head()?.0.size > checkpoint.size =>
                {
                    attempts += 1;
                }
                read => return read,
            }
        }
    }

    /// Calls `with` with the trail.
    pub fn with_trail<T>(&self, with: impl FnOnce(&Trail<'_>) -> Result<T, Fatal>) -> Result<T, Fatal> {
        let w = self
            .writing
            .as_ref()
            .ok_or_else(|| Fatal::new("Fatal.Internal", "the folder was opened for reading only"))?;
        let known = known_head(w)?;
        let signers: Vec<&dyn Signer> = w.signers.iter().map(|s| s as &dyn Signer).collect();
        with(&Trail {
            store: &*self.store,
            lock: &*self.checkpoint,
            known: known.as_ref(),
            signers: &signers,
            origin: w.keys.origin(),
            clock: &SystemClock,
            masker: &w.masker,
            tables: &self.tables,
            scratch: &w.scratch,
        })
    }

    /// Keeps the newest head beside the key; never one that is behind what is kept there.
    pub fn remember(&self) -> Result<(), Fatal> {
        let (Some(w), Some(note)) = (&self.writing, self.store.get(CHECKPOINT)?) else { return Ok(()) };
        let size = |head: &Checkpoint| head.size;
        if w.keys.open(&note).ok().as_ref().map(size) <= known_head(w)?.as_ref().map(size) {
            return Ok(());
        }
        Ok(secret::replace(&w.secrets.join(HEAD), &note)?)
    }

    /// Fingerprint of the newest signing key: SHA-256 of its public key.
    pub fn fingerprint(&self) -> Result<String, Fatal> {
        let keys = self.log_keys()?;
        let newest = keys.keys().last().map(|k| k.key.fingerprint());
        Ok(newest.map_or_else(String::new, |f| format!("SHA256:{f}")))
    }

    /// The trail's masker where its key is at hand, else one that masks with a key of its own.
    pub fn masker_for_reading(&self) -> Result<(Masker, bool), Fatal> {
        if let (Some(dir), Ok(keys)) = (&self.key_dir, self.log_keys())
            && let Some(masker) = masker(&secrets_of(dir, &keys).join(MASK))?
        {
            return Ok((masker, true));
        }
        Ok((Masker::new(&secret::random()?), false))
    }

    /// Begins or ends the overlap of two signing keys; gives the new key file.
    pub fn rotate_key(&mut self, finish: bool) -> Result<LogKeys, Fatal> {
        let size = self.with_trail(|trail| Ok(trail.log().recover()?.size))?;
        let Some(w) = &mut self.writing else { return self.log_keys() };
        let open: Vec<VerifierKey> =
            w.keys.keys().iter().filter(|k| k.to.is_none()).map(|k| k.key.clone()).collect();
        let now = match (open.as_slice(), finish) {
            ([_], false) => {
                let name = format!("log-{}.key", w.keys.keys().len());
                let (signer, _) = KeyFile::open_or_create(&w.secrets.join(name), w.keys.origin())?;
                let new = verifier(&signer)?;
                [open, vec![new]].concat()
            }
            ([_, new], true) => {
                let began = w.keys.keys().last().map_or(0, |k| k.from);
                if size < began {
                    return Err(Fatal::new(
                        "Usage.Rotation",
                        "nothing was sealed by both keys yet: run once, so that whoever has the old key can \
                         see the new one take over",
                    ));
                }
                vec![new.clone()]
            }
            (_, false) => {
                return Err(Fatal::new("Usage.Rotation", "a rotation is under way: end it with --finish"));
            }
            (_, true) => return Err(Fatal::new("Usage.Rotation", "no rotation is under way")),
        };
        w.keys.sign_from(&now, size + 1);
        self.store.replace(KEYS, w.keys.to_string().as_bytes())?;
        Ok(w.keys.clone())
    }
}

/// The command line as it may be kept.
fn command() -> String {
    std::env::args_os().map(|a| without_path(&a.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// An argument as it may be kept: of a URL, scheme and host alone, since the path of a web hook is a secret.
fn without_path(argument: &str) -> String {
    match argument.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            format!("{scheme}://{}", host.rsplit('@').next().unwrap_or_default())
        }
        None => argument.to_owned(),
    }
}

/// The first file below any of the folders.
fn first_of(store: &LocalStore, folders: &[&str]) -> Result<Option<String>, Fatal> {
    for folder in folders {
        if let Some(file) = store.list(folder)?.into_iter().next() {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

fn parse_keys(text: &[u8]) -> Result<LogKeys, Fatal> {
    let text =
        std::str::from_utf8(text).map_err(|_| Fatal::new("Config.Keys", format!("`{KEYS}` is not UTF-8")))?;
    LogKeys::parse(text).map_err(|e| Fatal::new("Config.Keys", format!("`{KEYS}`: {e}")))
}

/// A name for the log, a signing key and a mask key. The public key is written last: a folder that has
/// it has all of them.
fn new_trail(store: &LocalStore, key_dir: &Path) -> Result<LogKeys, Fatal> {
    let random = secret::random()?;
    let origin = format!("keytrail.local/{}", &Hash::of(&random).to_hex()[..16]);
    let secrets = key_dir.join(trail_name(&origin));
    let (signer, _) = KeyFile::open_or_create(&secrets.join("log-0.key"), &origin)?;
    secret::replace(&secrets.join(MASK), format!("{}\n", Hash(secret::random()?)).as_bytes())?;
    let keys = LogKeys::of(verifier(&signer)?);
    store.replace(KEYS, keys.to_string().as_bytes())?;
    Ok(keys)
}

fn verifier(signer: &KeyFile) -> Result<VerifierKey, Fatal> {
    VerifierKey::new(signer.name(), signer.public_key()).map_err(|e| Fatal::new("Config.Keys", e))
}

/// The private keys of all public keys that have no end; key number N of the key file is `log-N.key`.
fn open_signers(keys: &LogKeys, secrets: &Path) -> Result<Vec<KeyFile>, Fatal> {
    let mut signers = Vec::new();
    for (i, key) in keys.keys().iter().enumerate().filter(|(_, k)| k.to.is_none()) {
        let path = secrets.join(format!("log-{i}.key"));
        let config =
            |what: &str| Fatal::new("Config.Keys", format!("the signing key `{}` {what}", path.display()));
        let signer = KeyFile::open(&path, keys.origin())?
            .ok_or_else(|| config("is missing: restore it, or say where it is by --key-dir"))?;
        if signer.public_key() != *key.key.public() {
            return Err(config(&format!("is another one than `{KEYS}` names")));
        }
        signers.push(signer);
    }
    Ok(signers)
}

/// The part of the origin that names the trail's folder of private keys.
fn trail_name(origin: &str) -> String {
    origin.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' }).collect()
}

fn secrets_of(key_dir: &Path, keys: &LogKeys) -> PathBuf {
    key_dir.join(trail_name(keys.origin()))
}

fn key_dir_or_default(given: Option<&Path>) -> Result<PathBuf, Fatal> {
    if let Some(dir) = given {
        return Ok(dir.to_owned());
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|config| config.join("keytrail"))
        .ok_or_else(|| {
            Fatal::new("Config.KeyDir", "no folder for private keys: set --key-dir, KEYTRAIL_KEY_DIR or HOME")
        })
}

/// Keys inside the folder that they protect would protect nothing.
fn outside(root: &Path, key_dir: &Path) -> Result<(), Fatal> {
    let real = |p: &Path| std::fs::canonicalize(p).or_else(|_| std::path::absolute(p));
    match (real(root), real(key_dir)) {
        (Ok(root), Ok(keys)) if keys.starts_with(&root) => Err(Fatal::new(
            "Config.KeyDir",
            format!("the key folder `{}` is inside the data folder: keep it elsewhere", keys.display()),
        )),
        _ => Ok(()),
    }
}

fn known_head(w: &Writing) -> Result<Option<Checkpoint>, Fatal> {
    let path = w.secrets.join(HEAD);
    match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Fatal::new("Config.Keys", format!("cannot read `{}`: {e}", path.display()))),
        Ok(note) => w
            .keys
            .open(&note)
            .map(Some)
            .map_err(|e| Fatal::new("Config.Keys", format!("`{}`: {e}", path.display()))),
    }
}

fn masker(path: &Path) -> Result<Option<Masker>, Fatal> {
    Ok(mask_key(path)?.map(|key| Masker::new(&key)))
}

fn mask_key(path: &Path) -> Result<Option<[u8; 32]>, Fatal> {
    match secret::read(path)? {
        None => Ok(None),
        Some(text) => {
            let key = std::str::from_utf8(&text).ok().and_then(|t| Hash::from_hex(t.trim_ascii()));
            let key = key.ok_or_else(|| {
                Fatal::new("Config.Keys", format!("`{}` is not 64 hex digits", path.display()))
            })?;
            Ok(Some(key.0))
        }
    }
}

fn is_trail(place: &Place) -> Result<(), Fatal> {
    match place {
        Place::Folder(root) if !root.join(KEYS).exists() => {
            Err(Fatal::new("Usage.Data", format!("`{place}` holds no trail")))
        }
        _ => Ok(()),
    }
}

/// A file that the command line named.
pub fn read_file(path: &Path) -> Result<Vec<u8>, Fatal> {
    std::fs::read(path)
        .map_err(|e| Fatal::new("Config.File", format!("cannot read `{}`: {e}", path.display())))
}

/// A new folder for a bundle.
pub fn create_bundle(path: &Path) -> Result<LocalStore, Fatal> {
    if path.exists() {
        return Err(Fatal::new("Usage.OutputExists", format!("`{}` is there already", path.display())));
    }
    Ok(LocalStore::open(path)?)
}

/// Takes back a bundle that was begun.
pub fn remove_bundle(path: &Path) -> Result<(), Fatal> {
    std::fs::remove_dir_all(path)
        .map_err(|e| Fatal::new("Fatal.Output", format!("cannot remove `{}`: {e}", path.display())))
}

/// Puts the instructions into a bundle.
pub fn write_instructions(bundle: &Path, text: &str) -> Result<(), Fatal> {
    let path = bundle.join("README.md");
    std::fs::write(&path, text)
        .map_err(|e| Fatal::new("Fatal.Output", format!("cannot write `{}`: {e}", path.display())))
}
