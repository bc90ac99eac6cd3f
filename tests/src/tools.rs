//! Where tests and benches find what `tests/run tools` installed and built.

use std::env;
use std::path::PathBuf;

/// keytrail's cache: `${XDG_CACHE_HOME:-$HOME/.cache}/keytrail`.
fn cache() -> PathBuf {
    let base = env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    base.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache"))
        .join("keytrail")
}

/// The path that `variable` names, else the default; it must be there.
fn path(variable: &str, default: impl FnOnce() -> PathBuf, made_by: &str) -> PathBuf {
    let path = env::var_os(variable).map_or_else(default, PathBuf::from);
    assert!(path.exists(), "`{}` is not there: run `{made_by}` first", path.display());
    path
}

fn tools() -> PathBuf {
    path("KEYTRAIL_TOOLS", || cache().join("tools"), "tests/run tools")
}

/// cargo's target folder.
fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| cache().join("target"), PathBuf::from)
}

/// The release build of `keytrail` (`KEYTRAIL_BIN`).
pub fn keytrail() -> PathBuf {
    path("KEYTRAIL_BIN", || target().join("release/keytrail"), "tests/run build")
}

/// The release build of `audit-sidecar`, beside that of `keytrail`.
pub fn audit_sidecar() -> PathBuf {
    let path = keytrail().with_file_name("audit-sidecar");
    assert!(path.exists(), "`{}` is not there: run `tests/run build` first", path.display());
    path
}

/// A build of a Lambda function: in `KEYTRAIL_LAMBDAS`, else the release build beside that of `keytrail`.
pub fn lambda(name: &str) -> PathBuf {
    let path = match env::var_os("KEYTRAIL_LAMBDAS") {
        Some(folder) => PathBuf::from(folder).join(name),
        None => keytrail().with_file_name(name),
    };
    assert!(path.exists(), "`{}` is not there: run `tests/run build` first", path.display());
    path
}

/// A build of `keytrail` that has SQL and S3 (`KEYTRAIL_SQL_BIN`): the debug build, which comes with the tests.
pub fn keytrail_sql() -> PathBuf {
    path("KEYTRAIL_SQL_BIN", || target().join("debug/keytrail"), "tests/run test")
}

/// A release build of an example beside it, for benches.
pub fn example(name: &str) -> PathBuf {
    let path = keytrail().with_file_name("examples").join(name);
    assert!(path.exists(), "`{}` is not there: run `tests/bench` first", path.display());
    path
}

/// A Python with DuckDB, pyarrow, orjson and jsonschema.
pub fn python() -> PathBuf {
    path("KEYTRAIL_PYTHON", || tools().join("venv/bin/python"), "tests/run tools")
}

/// The OpenBao server and client.
pub fn openbao() -> PathBuf {
    path("KEYTRAIL_OPENBAO", || tools().join("venv/bin/bao"), "tests/run tools")
}

/// Tessera's check of a tlog-tiles log (`tests/fsck`): `-key FILE -url file:///DIR/`.
pub fn fsck() -> PathBuf {
    path("KEYTRAIL_FSCK", || tools().join("fsck"), "tests/run tools")
}

/// Elasticsearch, OpenSearch and their JDK, which `tests/search/serve` runs.
pub fn search_servers() -> PathBuf {
    path("KEYTRAIL_SEARCH", || tools().join("search"), "tests/run tools")
}

/// LocalStack, which `tests/localstack/serve` runs.
pub fn localstack() -> PathBuf {
    path("KEYTRAIL_LOCALSTACK", || tools().join("localstack"), "tests/run tools")
}

/// The AWS SAM CLI with its Python, checkov, and the validator of state machines, which `tests/aws/lint` runs.
pub fn aws() -> PathBuf {
    path("KEYTRAIL_AWS", || tools().join("aws"), "tests/run tools")
}

/// MinIO, which `tests/minio/serve` runs.
pub fn minio() -> PathBuf {
    path("KEYTRAIL_MINIO", || tools().join("minio"), "tests/run tools")
}

/// Chromium, to open pages with.
pub fn chromium() -> PathBuf {
    path("KEYTRAIL_CHROMIUM", || PathBuf::from("/usr/bin/chromium"), "tests/run tools")
}

/// The checkout.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
