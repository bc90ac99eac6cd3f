//! The command line.

mod run;
pub mod value;

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::expire::ExpireArgs;
use crate::help;
use crate::moving::MoveArgs;
use crate::place::Place;
use crate::query::QueryArgs;
use crate::report::ReportArgs;
use crate::rewrite::{CompactArgs, RenormalizeArgs, WithholdArgs};
use crate::search::SearchArgs;
pub use run::{FollowArgs, NotifyArgs, RunArgs, ServerArgs};
use value::{cores, time};

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
    #[command(after_help = help::EXPLAIN)]
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
    #[command(after_help = help::CONFLICTS)]
    Conflicts(ReadArgs),
    /// Show what the rules of alerts find in the archive; nobody is told
    Alerts(AlertsArgs),
    /// List, show or replay records that were refused
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Ask the archive in SQL
    Query(QueryArgs),
    /// Write the report of a week, as a page and as JSON
    Report(ReportArgs),
    /// Move a trail to S3, where it goes on as the same log
    Move(MoveArgs),
    /// Write a bundle that verifies on a machine that has this binary alone
    #[command(after_help = help::EXPORT)]
    Export(ExportArgs),
    /// Show or rotate the log's key, show its checkpoint
    #[command(subcommand)]
    Log(LogCommand),
    /// Show what was heard of each source: last event, rate, silence left, gaps, rejects
    Sources(SourcesArgs),
    /// Write a commented keytrail.toml, or check one
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check the tables that new events are enriched with
    #[command(subcommand)]
    Enrich(EnrichCommand),
    /// Index what a search index has not of the archive, or prepare its server
    Index(IndexArgs),
    /// Search the index: events by query string, field and time, newest first
    Search(SearchArgs),
    /// Index archived events once more, in place of what is there
    Reindex(ReindexArgs),
    /// Say where the search index and the archive differ; with --repair, mend the index
    Reconcile(ReconcileArgs),
}

/// The data folder.
#[derive(Args, Debug, Clone)]
pub struct DataArgs {
    /// Data folder of the trail, or s3://BUCKET[/PREFIX] for commands that read
    #[arg(long, value_name = "DIR", default_value = "trail", env = "KEYTRAIL_DATA", value_parser = place())]
    pub data: Place,
}

/// Reads where a trail is.
pub fn place() -> impl TypedValueParser<Value = Place> {
    OsStringValueParser::new().try_map(Place::parse)
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
    #[command(after_help = help::CONFIG_INIT)]
    Init(ConfigInitArgs),
    /// Tell everything that is wrong in a configuration, or what it declares and how many files lie there
    #[command(after_help = help::CONFIG_CHECK)]
    Check(ConfigCheckArgs),
}

/// `keytrail enrich`.
#[derive(Subcommand, Debug)]
pub enum EnrichCommand {
    /// Read the tables that the configuration names: rows, hash, when they hold; or everything that is wrong
    #[command(after_help = help::ENRICH_CHECK)]
    Check(EnrichCheckArgs),
}

/// `keytrail enrich check`.
#[derive(Args, Debug)]
pub struct EnrichCheckArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Count which events of this data folder the tables know
    #[arg(long, value_name = "DIR", value_parser = place())]
    pub data: Option<Place>,
    /// Show what the tables say of an archived event, by enough of its uid's first digits
    #[arg(long, value_name = "UID", requires = "data")]
    pub event: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `keytrail index`.
#[derive(Args, Debug)]
#[command(after_help = help::INDEX, args_conflicts_with_subcommands = true)]
pub struct IndexArgs {
    #[command(subcommand)]
    pub command: Option<IndexCommand>,
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub server: ServerArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What is done beside.
#[derive(Subcommand, Debug)]
pub enum IndexCommand {
    /// Put this version's templates and lifecycle policy on the server, and say what changed
    #[command(after_help = help::INDEX_SETUP)]
    Setup(IndexServerArgs),
    /// Delete the indices that are older than `retention`, as a server's lifecycle does where it has one
    #[command(after_help = help::INDEX_EXPIRE)]
    Expire(IndexServerArgs),
}

/// `keytrail index setup` and `keytrail index expire`.
#[derive(Args, Debug)]
pub struct IndexServerArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub server: ServerArgs,
    /// Only say what would be changed
    #[arg(long)]
    pub dry_run: bool,
}

/// `keytrail reindex`.
#[derive(Args, Debug)]
#[command(after_help = help::REINDEX)]
pub struct ReindexArgs {
    /// Events from this time on (RFC 3339, or a date) [default: all, those without a time, too]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<i64>,
    /// ... and before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<i64>,
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub server: ServerArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `keytrail reconcile`.
#[derive(Args, Debug)]
#[command(after_help = help::RECONCILE)]
pub struct ReconcileArgs {
    /// Write what is missing or changed from the archive, delete what is of no event
    #[arg(long)]
    pub repair: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub server: ServerArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
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
#[command(after_help = help::SOURCES)]
pub struct SourcesArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub data: DataArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `keytrail verify`.
#[derive(Args, Debug)]
#[command(after_help = help::VERIFY)]
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
    /// Public keys of audit sidecars, a line each, as `audit-sidecar key` prints them: without them nobody vouches for
    /// the keys that sign the heads of their chains
    #[arg(long, value_name = "FILE")]
    pub audit_keys: Option<PathBuf>,
    /// Receipts that callers of a sidecar hold, a line each: every one demands its record
    #[arg(long, value_name = "FILE")]
    pub receipts: Option<PathBuf>,
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
    #[arg(long, value_name = "N", value_parser = cores)]
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
#[command(after_help = help::ALERTS)]
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
    #[command(after_help = help::QUARANTINE_LIST)]
    List(ReadArgs),
    /// One entry with its bytes, masked and escaped
    #[command(after_help = help::QUARANTINE_SHOW)]
    Show(QuarantineShowArgs),
    /// Try all entries again, or those named: what is good now is archived
    #[command(after_help = help::QUARANTINE_REPLAY)]
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
    #[command(after_help = help::LOG_KEY)]
    Key(LogKeyArgs),
    /// Print the newest checkpoint (C2SP tlog-checkpoint)
    #[command(after_help = help::LOG_CHECKPOINT)]
    Checkpoint(DataArgs),
    /// Make a new signing key; both sign until `--finish` retires the old one
    #[command(after_help = help::LOG_ROTATE_KEY)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
