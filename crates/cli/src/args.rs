//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use keytrail_pipeline::Format;

use crate::expire::ExpireArgs;
use crate::report::ReportArgs;
use crate::rewrite::{CompactArgs, RenormalizeArgs, WithholdArgs};

/// Audit pipeline of a key-management platform: logs in, a proven Parquet archive out.
#[derive(Parser, Debug)]
#[command(name = "keytrail", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Ingest audit logs: archive them, seal the archive, verify it
    Run(RunArgs),
    /// Check the log and the archive against each other, without trust in who runs them
    Verify(VerifyArgs),
    /// Show one event: its fields, its original bytes, where it came from, and its inclusion proof
    Explain(ExplainArgs),
    /// Make one archive object of many small ones, where it pays
    Compact(CompactArgs),
    /// Derive columns of archived events again, by this version's normalizers
    Renormalize(RenormalizeArgs),
    /// Take original bytes out of the archive; everything else of the events stays
    Withhold(WithholdArgs),
    /// Say what expires by retention; with --apply, delete it
    Expire(ExpireArgs),
    /// Show events that share their producer's key and differ
    Conflicts(ReadArgs),
    /// Show what the rules of alerts find in the archive; nobody is told
    Alerts(AlertsArgs),
    /// List, show or replay records that were refused
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Write the report of a week, as a page and as JSON
    Report(ReportArgs),
    /// Write a bundle that verifies on a machine that has this binary alone
    Export(ExportArgs),
    /// Show or rotate the log's key, show its checkpoint
    #[command(subcommand)]
    Log(LogCommand),
    /// Show what was heard of each source: last event, rate, silence left, gaps, rejects
    Sources(SourcesArgs),
    /// Write a commented keytrail.toml, or check one
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// The data folder.
#[derive(Args, Debug, Clone)]
pub struct DataArgs {
    /// Data folder of the trail
    #[arg(long, value_name = "DIR", default_value = "trail", env = "KEYTRAIL_DATA")]
    pub data: PathBuf,
}

/// Where private keys are.
#[derive(Args, Debug, Clone)]
pub struct KeyArgs {
    /// Folder of the signing and mask keys, outside the data folder [default: keytrail/ in the user's
    /// configuration folder]
    #[arg(long, value_name = "DIR", env = "KEYTRAIL_KEY_DIR")]
    pub key_dir: Option<PathBuf>,
}

/// The configuration.
#[derive(Args, Debug, Clone)]
pub struct ConfigArgs {
    /// Configuration [default: keytrail.toml in the current folder, where there is one]
    #[arg(long, value_name = "FILE", env = "KEYTRAIL_CONFIG")]
    pub config: Option<PathBuf>,
}

/// `keytrail config`.
#[derive(Subcommand, Debug)]
pub enum ConfigCommand {
    /// Write every key with its default and an example, all commented out
    #[command(after_help = "\
Examples:
  keytrail config init                       keytrail.toml in the current folder
  keytrail config init --out - | less        look at it

A file that is there is not overwritten. Exit codes: 0 written, 64 there is one already.")]
    Init(ConfigInitArgs),
    /// Tell everything that is wrong in a configuration, or what it declares and how many files lie there
    #[command(after_help = "\
Examples:
  keytrail config check                      keytrail.toml in the current folder
  keytrail config check /etc/keytrail.toml --json

Exit codes: 0 good, 78 problems (each with its line, key and what was expected).")]
    Check(ConfigCheckArgs),
}

/// `keytrail config init`.
#[derive(Args, Debug)]
pub struct ConfigInitArgs {
    /// File to write, or `-` for standard output
    #[arg(long, value_name = "FILE", default_value = "keytrail.toml")]
    pub out: PathBuf,
}

/// `keytrail config check`.
#[derive(Args, Debug)]
pub struct ConfigCheckArgs {
    /// File to check
    #[arg(value_name = "FILE", env = "KEYTRAIL_CONFIG", default_value = "keytrail.toml")]
    pub file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `keytrail sources`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keytrail sources --data ./trail                     declared sources first, then undeclared formats
  keytrail sources --config /etc/keytrail.toml --json

Heard is when an event was archived; the rate is over the 24 hours up to a source's newest event. Duplicates
are not in the archive: runs count them in state/, since the date that is shown. Exit code: 0, also where a
source is overdue.")]
pub struct SourcesArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub data: DataArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

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
                                                    a service: what is written there, sealed every minute

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
    /// Write no reports of weeks that ended 36 hours ago
    #[arg(long)]
    pub no_report: bool,
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

/// `keytrail verify`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keytrail verify --data ./trail                                  consistency only
  keytrail verify --data ./trail --keys log.keys --known head     authenticity, and no rollback
  keytrail verify --bundle ./bundle --keys log.keys               an exported bundle, no network
  keytrail verify --data ./trail --from 2023-07-10 --to 2023-07-11 --rederive
  aws s3 sync s3://BUCKET mirror && aws cloudtrail list-public-keys > aws.keys
  keytrail verify --cloudtrail-digests mirror --cloudtrail-keys aws.keys
                                                                  was each log file ingested that AWS delivered?

Numbers that are missing between records of one key-operation epoch or of one HSM are findings (GAP).
Exit codes: 0 no finding (CONFLICT, VARIANT, WITHHELD and EXPIRED are shown and do not count),
1 findings, 2 could not verify.")]
pub struct VerifyArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Verify an exported bundle instead of a data folder (which is then not looked at)
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Archive objects with events from this time on (RFC 3339, or a date)
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<i64>,
    /// ... and before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<i64>,
    /// Trusted verifier keys, got from elsewhere: `keytrail log key` prints them
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// A checkpoint seen before: the log must have grown from it
    #[arg(long, value_name = "FILE")]
    pub known: Option<PathBuf>,
    /// Derive every column from the original bytes again
    #[arg(long)]
    pub rederive: bool,
    /// Check CloudTrail's digest files, and the ingested log files against them: a local mirror of the
    /// trail's bucket, as `aws s3 sync` makes it (schemas/cloudtrail-digests.md)
    #[arg(long, value_name = "DIR")]
    pub cloudtrail_digests: Option<PathBuf>,
    /// AWS's public keys, as `aws cloudtrail list-public-keys` prints them, those of several regions one
    /// after the other: without them no digest's signature is checked
    #[arg(long, value_name = "FILE", requires = "cloudtrail_digests")]
    pub cloudtrail_keys: Option<PathBuf>,
    #[command(flatten)]
    pub key_dir: KeyArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Cores to use [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// Commands that only read.
#[derive(Args, Debug)]
pub struct ReadArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `keytrail alerts`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keytrail alerts --data ./trail                       all that would have been told, newest last
  keytrail alerts --from 2026-11-01 --json             of what was archived since then, for programs

Findings of verify and silent sources are not in the archive: `run` tells of them. Exit code 0, whatever
is found. schemas/alerts.md says what each rule means.")]
pub struct AlertsArgs {
    #[command(flatten)]
    pub read: ReadArgs,
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Look at what was archived from this time on (RFC 3339, or a date)
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<i64>,
}

/// `keytrail explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The event's `keytrail_uid`, or enough of its first digits
    pub uid: String,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Print the original bytes alone, verbatim: they may hold secrets
    #[arg(long)]
    pub raw: bool,
    /// Print one JSON object
    #[arg(long, conflicts_with = "raw")]
    pub json: bool,
}

/// `keytrail quarantine`.
#[derive(Subcommand, Debug)]
pub enum QuarantineCommand {
    /// One line an entry: id, code, bytes, input and offset, reason
    List(ReadArgs),
    /// One entry with its bytes, masked and escaped
    Show(QuarantineShowArgs),
    /// Try all entries again, or those named: what is good now is archived
    Replay(ReplayArgs),
}

/// `keytrail quarantine show`.
#[derive(Args, Debug)]
pub struct QuarantineShowArgs {
    /// The entry's id, or enough of its first digits
    pub id: String,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Print the bytes alone, verbatim: they may hold secrets
    #[arg(long)]
    pub raw: bool,
}

/// `keytrail quarantine replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// Entries' ids, or enough of their first digits [default: all]
    pub ids: Vec<String>,
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Print nothing on standard output but one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `keytrail export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Folder to make
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Archive objects with events from this time on (RFC 3339, or a date)
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<i64>,
    /// ... and before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<i64>,
}

/// `keytrail log`.
#[derive(Subcommand, Debug)]
pub enum LogCommand {
    /// Print the log's verifier key (C2SP signed-note): the newest, or all of the key file
    Key(LogKeyArgs),
    /// Print the newest checkpoint (C2SP tlog-checkpoint)
    Checkpoint(DataArgs),
    /// Make a new signing key; both sign until `--finish` retires the old one
    RotateKey(RotateArgs),
}

/// `keytrail log key`.
#[derive(Args, Debug)]
pub struct LogKeyArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Print the key file: every key, and from and to which tree size it signs
    #[arg(long)]
    pub all: bool,
}

/// `keytrail log rotate-key`.
#[derive(Args, Debug)]
pub struct RotateArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// End the overlap: the old key signs no more
    #[arg(long)]
    pub finish: bool,
}

/// Reads `128MB`, `16MiB`, `1000`.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        unit => return Err(format!("`{unit}` is no unit, expected B, kB, MB, GB, KiB, MiB or GiB")),
    };
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|n| *n > 0).ok_or_else(|| {
        format!("`{text}` is no size, expected a whole number above 0 and a unit, as in 128MB")
    })
}

/// Reads `60s`, `500ms`, `1h30m`, as keytrail.toml has them.
fn duration(text: &str) -> Result<Duration, String> {
    keytrail_pipeline::config::duration(text).filter(|time| !time.is_zero()).ok_or_else(|| {
        format!("`{text}` is no time, expected numbers above 0 with ms, s, m, h or d, as in 60s")
    })
}

/// Reads RFC 3339 or a date (its first moment, UTC).
pub fn time(text: &str) -> Result<i64, String> {
    keytrail_model::Timestamp::parse(text)
        .or_else(|| keytrail_model::Timestamp::parse(&format!("{text}T00:00:00Z")))
        .map(|t| t.0)
        .ok_or_else(|| format!("`{text}` is no time, expected one as 2023-07-10 or 2023-07-10T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_and_times_are_read() {
        assert_eq!(size("128MB"), Ok(128_000_000));
        assert_eq!(size("16MiB"), Ok(16 << 20));
        assert!(size("0").is_err());
        assert!(size("12 parsecs").unwrap_err().contains("no unit"));
        assert_eq!(time("1970-01-02"), Ok(86_400_000_000));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("0s").is_err() && duration("90").unwrap_err().contains("is no time"));
        assert!(time("yesterday").unwrap_err().contains("no time"));
    }
}
