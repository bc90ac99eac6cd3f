//! What `--help` of each command says below its options: examples, what they do not tell, exit codes.
//!
//! What it is: text. A paragraph is one line, which clap breaks where the terminal ends; examples fit
//! into 80 columns as they are. What it is not: the options, which stand in `args`.

pub const RUN: &str = "\
Examples:
  keytrail run logs/ --data ./trail              a folder; formats are detected
  keytrail run 'logs/**/*.json.gz' vault.log     a glob and a file
  zcat old.gz | keytrail run - --source vault    standard input, format given
  keytrail run --config /etc/keytrail.toml       what the declared sources hold
  keytrail run --follow /var/log/vault/          a service: seals every minute
  keytrail run logs/ --notify 'mail -s keytrail security@example.com'

Input: plain, gzip or zstd, also one in the other; NDJSON, JSON arrays, concatenated JSON, {\"Records\":[...]}, {\"records\":[...]}, \
{\"entries\":[...]}, an EventList of Kubernetes, text blocks of CloudHSM; inside of CloudWatch Logs, EventBridge, \
Lambda events and diagnostic logs of AKS, too. Reading the same input again adds nothing.

Exit codes: 0 good (also with rejected records, which are in quarantine; --follow: after a signal), 65 every record \
was rejected, 70 fatal or findings, 75 try again later (the folder is in use, the disk is full, the run was \
stopped), 78 configuration, 64 usage.";

pub const VERIFY: &str = "\
Examples:
  keytrail verify --data ./trail                            consistency only
  keytrail verify --keys log.keys --known head              nor forged, nor cut
  keytrail verify --bundle ./bundle --keys log.keys         an exported bundle
  keytrail verify --from 2023-07-10 --to 2023-07-11 --rederive
  aws s3 sync s3://BUCKET mirror     # was every file ingested that AWS wrote?
  aws cloudtrail list-public-keys > aws.keys
  keytrail verify --audit-keys sidecars.keys --receipts receipts.jsonl
  keytrail verify --cloudtrail-digests mirror --cloudtrail-keys aws.keys

Keys and head prove something when you have them from elsewhere: `keytrail log key` and `keytrail log checkpoint` \
print them, to be kept outside of the data folder. Chains of key operations are followed, and numbers that are missing \
of one or of an HSM are findings; schemas/verify.md explains all codes.

Exit codes: 0 no finding (CONFLICT, VARIANT, WITHHELD and EXPIRED are shown and do not count), 1 findings, 2 could \
not verify.";

pub const REPORT: &str = "\
Examples:
  keytrail report --data ./trail                 the last full week
  keytrail report --week 2023-W28                another one, with amendments
  keytrail report --week 2023-W28 --out ./copy   a copy of its files, too

A week is of ISO 8601, in UTC, by the events' own time. The first report that is made 36 hours after the week's end \
or later fixes its checkpoint of the log in reports/<week>/: making it again gives the same bytes. Earlier ones are \
PROVISIONAL and fix nothing. Events that are sealed after it get an amendment. Each report names the hash of the one \
made before it.

Exit codes: 0 written, 70 verify has findings (the report is written and shows them) or fatal, 75 the folder is in use \
(run --follow writes reports itself), 78 configuration, 64 usage.";

pub const MOVE: &str = "\
Examples:
  keytrail move --data ./trail --to s3://example-audit/trail --dry-run
  keytrail move --to s3://example-audit/trail --keys-out keys.json
  keytrail move --to s3://example-audit/trail --lock compliance --lock-days 400
  keytrail verify --data s3://example-audit/trail --keys log.keys --known head

The same log goes on in the bucket: no fork, and no new key to trust. All that the log names is copied, verified down to \
the folder's head, and then the lock checkpoint is, which makes it the trail. From then on nothing writes to the folder. A \
move that was killed is run again: what is there is compared, and other bytes are refused. Region, credentials and endpoint \
are those of the AWS command line (AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_S3). A lock in the mode `compliance` cannot be \
taken back by anybody before its time, and until then the bucket cannot be deleted.

Needs a build with the feature `aws`.

Exit codes: 0 moved, or was before, 64 usage (also: the target holds something else), 70 fatal or findings in the copy, 75 \
the folder is in use or S3 did not answer: run it again, 78 configuration.";

pub const INDEX: &str = "\
Examples:
  keytrail run logs/ --elasticsearch http://localhost:9200
  keytrail index --elasticsearch https://search.example.com:9200
  keytrail index setup --dry-run     what would be changed on the server

Every event of the sealed log is indexed once, as a document of ECS under its uid: what is sent again is found to be \
there. A server that takes nothing costs nothing but delay: the archive does not wait, and the next run goes on where \
this one ended. An index that was lost is made again by `keytrail reindex`; `keytrail reconcile` says what is missing.

Exit codes: 0 all is indexed, 70 fatal (the server lets nobody in, or holds other events), 75 not all is indexed yet, \
or the folder is in use, 78 configuration, 64 usage.";

pub const INDEX_SETUP: &str = "\
Examples:
  keytrail index setup --elasticsearch http://localhost:9200
  keytrail index setup --dry-run     only say what would be changed

Component and index templates of this version, and the lifecycle policy of `retention` where the server has lifecycles; \
`run` and `index` put them where they are missing or older, too, if the server lets them.

Exit codes: 0 good, 70 the server refuses, 75 it does not answer, 78 configuration, 64 usage.";

pub const SEARCH: &str = "\
Examples:
  keytrail search --since 7d --elasticsearch http://localhost:9200
  keytrail search 'event.action:Decrypt AND NOT event.outcome:success'
  keytrail search Decrypt Alice --since 2023-07-10 --until 2023-07-11
  keytrail search --field user.name=Alice --field source.ip=10.0.0.0/8
  keytrail search 'keytrail.action.class:schedule*' --all --json | jq .
  keytrail search --columns @timestamp,user.name,error.message

A query string is Lucene's: words, `field:value`, AND, OR, NOT, (), \"a value with blanks\", `value*`, `field:*`, \
`[a TO b]`. A word without a field is looked for in event.action, event.id, user.name, error.message and \
keytrail.key.id, as a whole value: `Decrypt AND Alice`, or two QUERYs. A wildcard cannot stand at a value's start. \
--field takes its value as it is. Times are UTC, and events without one come last. Where a server and its \
credentials are is said by [index] of keytrail.toml; its namespace is the one that is searched.

Exit codes: 0 good (also where nothing is found), 64 usage, or a query that is none, 70 fatal (the server lets nobody \
in), 75 no answer, or stopped, 78 configuration.";

pub const INDEX_EXPIRE: &str = "\
Examples:
  keytrail index expire --dry-run    only name them
  keytrail index expire --elasticsearch http://localhost:9200

An index goes once all of its time, that of the events, is longer ago than `retention` of [index]; those without a time \
stay. The archive is not touched: `keytrail expire` does that, by its own rules.

Exit codes: 0 good, 70 the server refuses, 75 it does not answer, 78 configuration, 64 usage, as without `retention`.";

pub const REINDEX: &str = "\
Examples:
  keytrail reindex --from 2023-07-01 --to 2023-08-01
  keytrail reindex                   all of the archive: an index that was lost

Documents take the place of those that are there, so it can be run again at any time. Where mappings changed, delete the \
indices first: they are made anew, by the templates of this version. How far the index follows the log stays as it is.

Exit codes: 0 all is indexed, 70 fatal (the server lets nobody in), 75 not all is indexed, or the folder is in use, \
78 configuration, 64 usage.";

pub const RECONCILE: &str = "\
Examples:
  keytrail reconcile
  keytrail reconcile --repair        and mend the index

Compares both for each dataset and hour by the number of events and a digest of their hashes, and names, where they \
differ, the events that are missing, those whose hash is another, and documents of no event. Counted beside: events that \
are not indexed yet, dead letters, what configuration leaves out (`include`, `exclude`), and what is older than \
`retention`. Without --repair nothing is written, and a service may run.

Exit codes: 0 both are the same, 1 they differ, 70 fatal, 75 some events are not indexed yet, the server does not answer, \
or the folder is in use (--repair), 78 configuration, 64 usage.";

pub const QUERY: &str = "\
Examples:
  keytrail query 'SHOW TABLES' --data ./trail
  keytrail query 'DESCRIBE key_operations'
  keytrail query 'SELECT key, failures FROM keys ORDER BY 2 DESC LIMIT 10'
  keytrail query 'SELECT count(*) FROM events' --explain   what is read for it
  cat statement.sql | keytrail query - --format json

Tables: `events` (all columns of schemas/archive.md, of what is sealed), `key_operations`, `principals`, `keys` \
(schemas/query.md). Statements only read. A condition on dataset, day or timestamp keeps objects from being read at \
all. Original bytes may hold secrets: `event_original` is a column with --raw. CSV: a text that begins with = + - @ \
tab or return gets an apostrophe before it, since spreadsheets run formulas. JSON: one object a line, integers as \
numbers, times as RFC 3339 in UTC, bytes as hexadecimal.

Exit codes: 0 answered, 64 usage or wrong SQL, 70 fatal or an object that is missing or damaged, 75 the limit of memory \
or time, or an object was replaced meanwhile.";

pub const EXPLAIN: &str = "\
Examples:
  keytrail explain 89e3c1f6 --data ./trail         by the first digits of a uid
  keytrail explain 89e3c1f6 --json | jq .proof     for programs
  keytrail explain 89e3c1f6 --raw | sha256sum      equal to its event_hash

Exit codes: 0 shown, 64 there is no such event, or more than one, 70 fatal.";

pub const CONFLICTS: &str = "\
Examples:
  keytrail conflicts --data ./trail        each group with its original bytes
  keytrail conflicts --json | jq -r .kind  for programs

CONFLICT: events of one producer's id that differ; VARIANT: that differ in their spelling alone. All of them are \
archived in full, and none is the first. Exit codes: 0 whatever is found, 64 usage, 70 fatal.";

pub const ALERTS: &str = "\
Examples:
  keytrail alerts --data ./trail              all that would have been told
  keytrail alerts --from 2026-11-01 --json    of what was archived since then

Findings of verify and silent sources are not in the archive: `run` tells of them. schemas/alerts.md says what each \
rule means. Exit codes: 0 whatever is found, 64 usage, 70 fatal, 78 configuration.";

pub const QUARANTINE_LIST: &str = "\
Examples:
  keytrail quarantine list --data ./trail
  keytrail quarantine list --json | jq -r .code | sort | uniq -c

Codes are explained in schemas/manifest.md. Exit codes: 0 listed, 64 usage, 70 fatal.";

pub const QUARANTINE_SHOW: &str = "\
Examples:
  keytrail quarantine show 6c1fe452 --data ./trail    by the first digits
  keytrail quarantine show 6c1fe452 --raw > record    verbatim, with secrets

Exit codes: 0 shown, 64 there is no such entry, or more than one, 70 fatal.";

pub const QUARANTINE_REPLAY: &str = "\
Examples:
  keytrail quarantine replay --data ./trail    after an update of keytrail
  keytrail quarantine replay 6c1fe452          one entry

Entries stay where they are: a replay of what is archived by now adds nothing. Exit codes: as those of \
`keytrail run`.";

pub const EXPORT: &str = "\
Examples:
  keytrail export --data ./trail --out ./bundle
  keytrail export --out ./march --from 2024-03-01 --to 2024-04-01
  keytrail verify --bundle ./bundle --keys log.keys       where it is looked at

Original bytes are in the bundle, secrets included. Exit codes: 0 written, 64 usage, 70 fatal.";

pub const LOG_KEY: &str = "\
Examples:
  keytrail log key --data ./trail > log.keys    keep it elsewhere
  keytrail log key --all                        after a rotation

Exit codes: 0 printed, 64 usage, 70 fatal.";

pub const LOG_CHECKPOINT: &str = "\
Examples:
  keytrail log checkpoint --data ./trail > head    for `verify --known`

Exit codes: 0 printed, 64 usage, 70 fatal.";

pub const LOG_ROTATE_KEY: &str = "\
Examples:
  keytrail log rotate-key --data ./trail    from now on both keys sign
  keytrail log rotate-key --finish          the old one signs no more

Give the new key (`keytrail log key --all`) to whoever verifies before you finish. Exit codes: 0 done, 64 usage, 70 \
fatal, 75 the folder is in use, 78 configuration.";

pub const COMPACT: &str = "\
Examples:
  keytrail compact --data ./trail --dry-run    what would become one object
  keytrail compact --data ./trail              do it

`run` does the same at its end. No event changes: `verify` puts every object that was replaced together again from \
the new one. It pays where the new object is four times as large as the largest that it replaces; reading the same \
logs again adds nothing, before and after.

Exit codes: 0 good, also when nothing pays, 70 fatal, a damaged object or findings, 75 try again later, 78 \
configuration, 64 usage.";

pub const RENORMALIZE: &str = "\
Examples:
  keytrail renormalize --dataset aws.cloudtrail --from 2023-01-01
  keytrail renormalize --dataset vault.audit --data ./trail --dry-run

Rows that this version's normalizer made stay as they are. So do events whose bytes are withheld, and those that it \
refuses; uid, dataset, day and hash of an event never change. `verify --rederive` checks the result.

Exit codes: as those of `keytrail compact`.";

pub const WITHHOLD: &str = "\
Examples:
  keytrail withhold 89e3c1f6... --reason 'GDPR request 2024-17'

There is no way back: the bytes are deleted from the archive. Columns, uid and hash of the event stay, so all proofs \
stay good; `verify` says WITHHELD with the reason, and reading the same log again does not bring the bytes back. The \
log keeps the reason for ever: name no person in it. Other copies of the bytes are yours to delete: input files, \
exported bundles, backups, quarantine. An event that [[holds]] of keytrail.toml name keeps its bytes: the whole \
command is refused, and says which hold it is.

Exit codes: 0 good, 64 usage, also when an event is not in the archive or under a legal hold, 70 fatal, a damaged \
object or findings, 75 try again later, 78 configuration.";

pub const EXPIRE: &str = "\
Examples:
  keytrail expire --older-than 400d    what would go, and what holds keep
  keytrail expire --apply              by the rules of keytrail.toml
  keytrail expire --older-than 400d --hold dataset=gcp.audit,from=2024-01-01

An archive object goes when all of its events, and their archiving, are of days before the limit. The log says by \
which rule; `verify` tells what expired (EXPIRED) from what is missing (FILE_MISSING). Holds of the configuration \
count beside those given. An expired event is forgotten: reading its log again archives it again, and it is kept \
anew. Quarantine entries and the log's own files stay.

Exit codes: 0 good, 64 usage, 70 fatal or findings, 75 try again later, 78 configuration.";

pub const SOURCES: &str = "\
Examples:
  keytrail sources --data ./trail    declared ones first
  keytrail sources --config /etc/keytrail.toml --json

Heard is when an event was archived; the rate is over the 24 hours up to a source's newest event. Duplicates are not \
in the archive: runs count them in state/, since the date that is shown.

Exit codes: 0, also where a source is overdue, 64 usage, 70 fatal, 78 configuration.";

pub const ENRICH_CHECK: &str = "\
Examples:
  keytrail enrich check                        tables of ./keytrail.toml
  keytrail enrich check --config FILE --json   for programs
  keytrail enrich check --data ./trail         how many events they know
  keytrail enrich check --data ./trail --event 89e3c1f6
                                               what they say of it today

Archived events keep what tables said when they came; schemas/tables.md says what tables hold.

Exit codes: 0 good, 78 problems (each with its file, row and column, and what was expected).";

pub const CONFIG_INIT: &str = "\
Examples:
  keytrail config init                   keytrail.toml in the current folder
  keytrail config init --out - | less    look at it

A file that is there is not overwritten. Exit codes: 0 written, 64 there is one already.";

pub const CONFIG_CHECK: &str = "\
Examples:
  keytrail config check                            keytrail.toml
  keytrail config check /etc/keytrail.toml --json

Exit codes: 0 good, 78 problems (each with its line, key and what was expected).";

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use crate::args::Cli;

    fn commands(command: &Command, into: &mut Vec<Command>) {
        match command.get_subcommands().count() {
            0 => into.push(command.clone()),
            _ => command.get_subcommands().for_each(|c| commands(c, into)),
        }
    }

    #[test]
    fn every_command_has_examples_that_fit_and_exit_codes() {
        let mut all = Vec::new();
        commands(&Cli::command(), &mut all);
        assert!(all.len() > 15);
        for command in all {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let (examples, rest) = help.split_once("\n\n").unwrap_or_default();
            assert!(examples.starts_with("Examples:\n  ") && examples.contains(name), "{name}: {help}");
            assert!(rest.contains("Exit codes: "), "{name}: {help}");
            for line in examples.lines() {
                assert!(line.len() <= 80, "{name}: {line}");
            }
        }
    }

    /// Every example is a command line that the command takes, up to the text behind it.
    #[test]
    fn examples_are_sound() {
        let mut all = Vec::new();
        commands(&Cli::command(), &mut all);
        for command in all {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = help.lines().take_while(|l| !l.is_empty()).filter(|l| l.contains("keytrail "));
            for line in examples {
                let line = &line[line.find("keytrail ").unwrap_or_default()..];
                let line = line.split(['|', '>', '#']).next().unwrap_or_default();
                let line =
                    line.split("  ").next().unwrap_or_default().replace("89e3c1f6...", &"0".repeat(40));
                let mut words: Vec<String> = Vec::new();
                for (i, part) in line.split('\'').enumerate() {
                    match i % 2 {
                        0 => words.extend(part.split_whitespace().map(str::to_owned)),
                        _ => words.push(part.to_owned()),
                    }
                }
                if let Err(e) = Cli::command().try_get_matches_from(&words) {
                    panic!("{line}: {e}");
                }
            }
        }
    }
}
