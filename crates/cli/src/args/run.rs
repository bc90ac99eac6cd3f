//! The options of `keytrail run`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use keytrail_pipeline::Format;

use super::value::{duration, size};
use super::{ConfigArgs, DataArgs, KeyArgs};

/// `keytrail run`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keytrail run logs/ --data ./trail                 a folder, recursively; formats are detected
  keytrail run 'logs/**/*.json.gz' vault.log        a glob and a file
  zcat old.gz | keytrail run - --source vault       standard input, format given
  keytrail run --config /etc/keytrail.toml          all locations of the declared sources
  keytrail run logs/ --notify 'mail -s keytrail-alert security@example.com'
  keytrail run --follow /var/log/vault/ --metrics 127.0.0.1:9464
                                                    a service: what is written there, sealed every minute;
                                                    [follow] and [metrics] of keytrail.toml say the same

Input: plain, gzip or zstd; NDJSON, JSON arrays, concatenated JSON, {\"Records\":[...]},
{\"records\":[...]}, {\"entries\":[...]}, an EventList of Kubernetes, text blocks of CloudHSM; inside of
CloudWatch Logs, EventBridge, Lambda events and diagnostic logs of AKS, too.
Reading the same input again adds nothing. Exit codes: 0 good (also with rejected records, which are in
quarantine; --follow: after a signal), 65 every record was rejected, 70 fatal or findings, 75 try again later (the folder is in use,
the disk is full, the run was stopped), 78 configuration, 64 usage.")]
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
    pub notify: NotifyArgs,
    /// Print nothing on standard output but one JSON object
    #[arg(long)]
    pub json: bool,
    /// Cores to use [default: all]
    #[arg(long, value_name = "N")]
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
    #[command(flatten)]
    pub follow: FollowArgs,
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
