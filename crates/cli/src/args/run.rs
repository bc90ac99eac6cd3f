//! The options of `keytrail run`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use keytrail_pipeline::Format;

use super::value::{cores, duration, size};
use super::{ConfigArgs, DataArgs, KeyArgs};
use crate::help;

/// `keytrail run`.
#[derive(Args, Debug)]
#[command(after_help = help::RUN)]
pub struct RunArgs {
    /// Files, folders, globs, or `-` for standard input [default: what the configuration declares]
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<OsString>,
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Take every input that no source declares for this format instead of detecting it
    #[arg(long, value_name = "FORMAT")]
    pub source: Option<SourceArg>,
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub notify: NotifyArgs,
    /// Print nothing on standard output but one JSON object
    #[arg(long)]
    pub json: bool,
    /// Cores to use [default: all]
    #[arg(long, value_name = "N", value_parser = cores)]
    pub threads: Option<usize>,
    /// Size at which an archive object is closed
    #[arg(long, value_name = "SIZE", default_value = "128MB", value_parser = size)]
    pub object_size: u64,
    /// Records larger than this are rejected
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = size)]
    pub max_record_size: u64,
    /// Compressed inputs that inflate beyond this are rejected from there on
    #[arg(long, value_name = "SIZE", default_value = "8GiB", value_parser = size)]
    pub max_inflated_size: u64,
    /// Write no reports of weeks that ended 36 hours ago
    #[arg(long)]
    pub no_report: bool,
    #[command(flatten)]
    pub follow: FollowArgs,
}

/// The search index.
#[derive(Args, Debug)]
pub struct ServerArgs {
    /// The search index to keep, or to ask: an Elasticsearch or OpenSearch server. Credentials and the rest stand in
    /// `[index]` of keytrail.toml
    #[arg(long, value_name = "URL", env = "KEYTRAIL_ELASTICSEARCH")]
    pub elasticsearch: Option<String>,
}

/// `keytrail run --follow`. What is given beats `[follow]` and `[metrics]` of keytrail.toml.
#[derive(Args, Debug)]
pub struct FollowArgs {
    /// Keep reading what is written to the inputs, and seal at intervals, until SIGTERM or SIGINT; inputs need not
    /// be there yet
    #[arg(long)]
    pub follow: bool,
    /// Time between two looks at the inputs [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "follow")]
    pub poll_interval: Option<Duration>,
    /// Time between two seals, when there is something to seal [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "follow")]
    pub seal_interval: Option<Duration>,
    /// A last line, or a document, whose end does not come is taken as it is when its file has been still for so long
    /// [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "follow")]
    pub still: Option<Duration>,
    /// Time between two verifies of what was sealed since the last one [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "follow")]
    pub verify_interval: Option<Duration>,
    /// Leave small archive objects as they are: `keytrail compact` makes them one
    #[arg(long, requires = "follow")]
    pub no_compact: bool,
    /// Serve Prometheus metrics at http://ADDRESS/metrics
    #[arg(long, value_name = "ADDRESS", requires = "follow")]
    pub metrics: Option<SocketAddr>,
    /// Let other machines read metrics: take an address that is not loopback
    #[arg(long, requires = "follow")]
    pub metrics_remote: bool,
}

/// Who is told of alerts.
#[derive(Args, Debug)]
pub struct NotifyArgs {
    /// Tell of alerts: a command line for `sh -c`, which reads one alert as JSON on standard input and
    /// exits with 0, or an http(s) URL, to which each is posted, signed. Can be given more than once
    #[arg(long, value_name = "CMD|URL")]
    pub notify: Vec<String>,
    /// File (0600) with the secret that signs web hooks, `whsec_` and 24 to 64 bytes in Base64 [default: the
    /// environment's KEYTRAIL_NOTIFY_SECRET]
    #[arg(long, value_name = "FILE")]
    pub notify_secret: Option<PathBuf>,
}

/// Formats by name.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum SourceArg {
    /// AWS CloudHSM audit log
    Cloudhsm,
    /// AWS CloudTrail
    Cloudtrail,
    /// Cloud Audit Logs of Google Cloud
    Gcp,
    /// Key operation events v1
    KeyOperation,
    /// Kubernetes API server audit log
    Kubernetes,
    /// Azure Key Vault or Managed HSM audit log
    Keyvault,
    /// HashiCorp Vault or OpenBao audit device
    Vault,
}

impl From<SourceArg> for Format {
    fn from(s: SourceArg) -> Self {
        match s {
            SourceArg::Cloudhsm => Self::CloudHsm,
            SourceArg::Cloudtrail => Self::CloudTrail,
            SourceArg::Gcp => Self::Gcp,
            SourceArg::KeyOperation => Self::KeyOperation,
            SourceArg::Kubernetes => Self::Kubernetes,
            SourceArg::Keyvault => Self::KeyVault,
            SourceArg::Vault => Self::Vault,
        }
    }
}
