//! Errors of the libraries below, as the model's [`Fatal`].

use std::error::Error;
use std::io;

use keytrail_model::Fatal;
use parquet::errors::ParquetError;

/// A file system that did not do what it was asked; a full one may have room later.
pub(crate) fn from_io(what: &str, error: &io::Error) -> Fatal {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "Retryable.StoreFull",
        _ => "Fatal.Store",
    };
    Fatal::new(code, format!("{what}: {error}"))
}

/// An encoder that failed: over a failed write most often, which keeps its own code.
pub(crate) fn from_parquet(what: &str, error: &ParquetError) -> Fatal {
    match io_cause(error) {
        Some(e) => from_io(what, e),
        None => Fatal::new("Fatal.Archive", format!("{what}: {error}")),
    }
}

/// The I/O error below a Parquet error, if that is what it is.
pub(crate) fn io_cause(error: &ParquetError) -> Option<&io::Error> {
    let ParquetError::External(inner) = error else { return None };
    let mut cause: Option<&(dyn Error + 'static)> = Some(&**inner);
    while let Some(e) = cause {
        if let Some(e) = e.downcast_ref::<io::Error>() {
            return Some(e);
        }
        cause = e.source();
    }
    None
}
