//! A trail: one archive with its log and keys, as the ports that reach it.

use std::path::Path;

use keytrail_enrich::Tables;
use keytrail_ledger::Checkpoint;
use keytrail_model::Fatal;
use keytrail_normalize::Masker;
use keytrail_ports::{BlobStore, CheckpointStore, Clock, Signer};

use crate::seal::Log;

/// Everything that the stages need of one trail.
#[derive(Clone, Copy)]
pub struct Trail<'a> {
    /// `archive/`, `log/`, `log-staging/`, `detail/`, `quarantine/`, `state/`.
    pub store: &'a dyn BlobStore,
    /// The log's lock checkpoint.
    pub lock: &'a dyn CheckpointStore,
    /// The newest head that the key is known to have signed, kept beside the key: a log behind it was
    /// rolled back.
    pub known: Option<&'a Checkpoint>,
    /// Who signs; two while a key is being rotated.
    pub signers: &'a [&'a dyn Signer],
    /// The log's origin line.
    pub origin: &'a str,
    /// Time of receipt and of archiving.
    pub clock: &'a dyn Clock,
    /// Hides secrets in typed columns.
    pub masker: &'a Masker,
    /// What new rows are enriched with.
    pub tables: &'a Tables,
    /// A local folder for files in the making, on the store's file system where that is local.
    pub scratch: &'a Path,
}

impl<'a> Trail<'a> {
    /// The trail's log, for appending.
    pub fn log(&self) -> Log<'a> {
        Log { store: self.store, lock: self.lock, signers: self.signers, origin: self.origin }
    }
}

/// A local file that could not be made or written, as an error that ends the run.
pub(crate) fn scratch_error(what: &str, path: &Path, error: &std::io::Error) -> Fatal {
    let code =
        if error.kind() == std::io::ErrorKind::StorageFull { "Retryable.StoreFull" } else { "Fatal.Scratch" };
    Fatal::new(code, format!("cannot {what} `{}`: {error}", path.display()))
}
