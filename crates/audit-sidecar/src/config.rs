//! `audit-sidecar.toml`: read once at start, all problems told together.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keytrail_model::key_operation::{Hsm, Id};
use keytrail_ports::section::{Problem, Section, read};

/// What an operator sets.
#[derive(Debug)]
pub struct Config {
    /// Stable id of the workload, HSM partition included.
    pub source: String,
    /// First part of the origin of heads, e.g. `example.org`.
    pub organization: String,
    /// When a record is durable, against its operation.
    pub mode: Mode,
    /// The HSM, as a JSON object of the schema's `hsm`.
    pub hsm: String,
    /// File of the policies in force, by whose SHA-256 an epoch names them.
    pub policy_file: Option<PathBuf>,
    /// File of the key that vouches for the epochs' keys.
    pub audit_key: PathBuf,
    /// The spool.
    pub spool: SpoolConfig,
    /// Socket of the service that asks the HSM.
    pub api: Option<PathBuf>,
    /// Audit device over HTTP.
    pub http_device: Option<HttpDeviceConfig>,
    /// Audit device over a Unix socket.
    pub unix_device: Option<PathBuf>,
    /// Where segments are shipped to.
    pub ship_to: ShipTo,
    /// How long records may wait for more before they are shipped.
    pub ship_interval: Duration,
    /// Where the sidecar sees what was sealed.
    pub seal: Option<SealConfig>,
    /// Where metrics and health are asked for.
    pub admin: Option<SocketAddr>,
    /// After this long without an outcome an operation's is recorded as unknown.
    pub operation_timeout: Duration,
    /// After this long an answer is a refusal.
    pub answer_timeout: Duration,
    /// Unsealed for longer: alarm.
    pub alarm_after: Duration,
    /// Unsealed for longer: operations are denied.
    pub deny_after: Duration,
}

/// Where segments are shipped to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShipTo {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket.
    S3 {
        /// Its name.
        bucket: String,
        /// What keys begin with, without a slash at its end.
        prefix: String,
    },
    /// A stream, and a bucket for what it does not take.
    Kinesis {
        /// Name of the stream.
        stream: String,
        /// Name of the bucket.
        bucket: String,
        /// What keys begin with, without a slash at its end.
        prefix: String,
        /// When the stream took nothing for so long, the bucket is used in its place.
        fallback_after: Duration,
    },
}

/// When a record is durable, against its operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The intent before the HSM is asked, the outcome before the reply.
    Strict,
    /// Both before the reply: the intent becomes durable while the HSM works.
    OutcomeStrict,
    /// As `OutcomeStrict`, but for public reads (`verify`, `access`), which wait for nothing.
    Relaxed,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Strict, Self::OutcomeStrict, Self::Relaxed];

    /// As records and the file spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::OutcomeStrict => "outcome-strict",
            Self::Relaxed => "relaxed",
        }
    }
}

/// The spool.
#[derive(Debug)]
pub struct SpoolConfig {
    /// Its folder.
    pub folder: PathBuf,
    /// Size of a segment's file.
    pub segment_bytes: u64,
    /// Size of all of them.
    pub max_bytes: u64,
}

/// Audit device over HTTP.
#[derive(Debug)]
pub struct HttpDeviceConfig {
    /// Where it listens: a loopback address.
    pub listen: SocketAddr,
    /// File of the bearer token.
    pub token_file: PathBuf,
}

/// Where the sidecar sees what was sealed.
#[derive(Debug)]
pub struct SealConfig {
    /// Where the archive and its log are.
    pub data: Archive,
    /// Public keys of its log.
    pub keys: PathBuf,
}

/// Where the archive and its log are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Archive {
    /// Data folder of `keytrail run`.
    Folder(PathBuf),
    /// The same in a bucket.
    S3 {
        /// Its name.
        bucket: String,
        /// What keys begin with, without a slash at its end.
        prefix: String,
    },
}

const MIB: u64 = 1 << 20;

impl Config {
    /// Reads the file's text; relative paths are taken from `folder`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Problem>> {
        read(text, |top| Self::read(top, folder))
    }

    /// Name of the audit key.
    pub fn key_name(&self) -> String {
        format!("{}/{}", self.organization, self.source)
    }

    fn read(top: &mut Section<'_, '_>, folder: &Path) -> Self {
        let hours = |n: u64| Duration::from_secs(n * 3_600);
        let (ship_to, ship_interval) = top.section("ship", |s| {
            let to = ship_to(s, folder);
            let interval = s.duration("interval", Duration::from_millis(50)..=Duration::from_secs(60));
            (to, interval.unwrap_or(Duration::from_secs(1)))
        });
        let (alarm_after, deny_after) = top.section("unsealed", |s| {
            let within = Duration::from_secs(1)..=hours(24 * 365);
            let alarm = s.duration("alarm_after", within.clone()).unwrap_or(hours(1));
            let deny = s.duration("deny_after", within).unwrap_or(hours(72));
            if deny < alarm {
                s.problem("deny_after", "expected no less than `alarm_after`");
            }
            (alarm, deny)
        });
        let config = Self {
            source: ident(top, "source", "the id of the workload and its HSM partition"),
            organization: organization(top),
            mode: mode(top),
            hsm: top.section("hsm", hsm),
            policy_file: path(top, "policy_file", folder),
            audit_key: required_path(top, "audit_key", folder, "the path of the audit key's file"),
            spool: top.section("spool", |s| SpoolConfig {
                folder: required_path(s, "folder", folder, "the path of the spool's folder"),
                segment_bytes: mebibytes(s, "segment_mib", 1..=1_024, 64),
                max_bytes: mebibytes(s, "max_mib", 4..=1 << 24, 4_096),
            }),
            api: optional(top, "api", |s| socket(s, folder)),
            http_device: optional(top, "http_device", |s| http_device(s, folder)),
            unix_device: optional(top, "unix_device", |s| socket(s, folder)),
            ship_to,
            ship_interval,
            seal: optional(top, "seal", |s| SealConfig {
                data: archive(s, folder),
                keys: required_path(s, "keys", folder, "the file of the log's public keys"),
            }),
            admin: optional(top, "admin", |s| address(s, "listen", "127.0.0.1:9465")).flatten(),
            operation_timeout: top
                .duration("operation_timeout", Duration::from_secs(1)..=hours(24))
                .unwrap_or(Duration::from_secs(300)),
            answer_timeout: top
                .duration("answer_timeout", Duration::from_millis(100)..=Duration::from_secs(60))
                .unwrap_or(Duration::from_secs(2)),
            alarm_after,
            deny_after,
        };
        if config.api.is_none() && config.http_device.is_none() && config.unix_device.is_none() {
            top.problem(
                "api",
                "nothing listens, expected one of `[api]`, `[http_device]` and `[unix_device]`",
            );
        }
        if config.spool.max_bytes < 3 * config.spool.segment_bytes {
            top.problem("spool", "expected room for three segments or more in `max_mib`");
        }
        config
    }
}

fn ident(s: &mut Section<'_, '_>, key: &'static str, expected: &str) -> String {
    let Some(text) = s.required_text(key, expected) else { return String::new() };
    let quoted = serde_json::Value::from(text.text).to_string();
    if let Err(e) = serde_json::from_str::<Id<'_>>(&quoted) {
        s.problem(key, e.to_string());
    }
    text.text.to_owned()
}

fn organization(s: &mut Section<'_, '_>) -> String {
    let Some(text) = s.required_text("organization", "a name as in `example.org`") else {
        return String::new();
    };
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if text.text.is_empty() || text.text.len() > 64 || !text.text.bytes().all(good) {
        s.problem("organization", "expected 1 to 64 of `A-Z a-z 0-9 . _ -`, as in `example.org`");
    }
    text.text.to_owned()
}

fn mode(s: &mut Section<'_, '_>) -> Mode {
    let Some(text) = s.text("mode", "`strict`, `outcome-strict` or `relaxed`") else {
        return Mode::OutcomeStrict;
    };
    Mode::ALL.into_iter().find(|m| m.name() == text.text).unwrap_or_else(|| {
        s.problem("mode", "expected `strict`, `outcome-strict` or `relaxed`");
        Mode::OutcomeStrict
    })
}

/// The HSM as the schema has it.
fn hsm(s: &mut Section<'_, '_>) -> String {
    let mut fields = serde_json::Map::new();
    let id = s.required_text("id", "the name of the HSM or cluster").map(|t| t.text).unwrap_or_default();
    fields.insert("id".to_owned(), id.into());
    for key in ["serial", "firmware"] {
        if let Some(text) = s.text(key, "a text") {
            fields.insert(key.to_owned(), text.text.into());
        }
    }
    for key in ["slot", "reboot_counter"] {
        if let Some(number) = s.number(key, 0..=i64::MAX) {
            fields.insert(key.to_owned(), number.into());
        }
    }
    let json = serde_json::Value::Object(fields).to_string();
    if let Err(e) = serde_json::from_str::<Hsm<'_>>(&json)
        && !id.is_empty()
    {
        s.problem("id", e.to_string());
    }
    json
}

fn optional<T>(
    top: &mut Section<'_, '_>,
    key: &'static str,
    read: impl FnOnce(&mut Section<'_, '_>) -> T,
) -> Option<T> {
    if top.has(key) { Some(top.section(key, |s| read(s))) } else { None }
}

fn ship_to(s: &mut Section<'_, '_>, folder: &Path) -> ShipTo {
    let given: Vec<&str> = ["folder", "kinesis", "s3"].into_iter().filter(|key| s.has(key)).collect();
    match given[..] {
        [] => s.problem(
            "folder",
            "missing, expected `folder`, `kinesis` or `s3`: where segments are shipped to",
        ),
        [_] => {}
        [_, second, ..] => s.problem(second, "expected one of `folder`, `kinesis` and `s3` alone"),
    }
    let to_folder = s.text("folder", "a path").map(|t| ShipTo::Folder(folder.join(t.text)));
    let kinesis = optional(s, "kinesis", |s| ShipTo::Kinesis {
        stream: stream(s),
        bucket: bucket(s),
        prefix: prefix(s),
        fallback_after: s
            .duration("fallback_after", Duration::from_secs(1)..=Duration::from_secs(86_400))
            .unwrap_or(Duration::from_secs(300)),
    });
    let s3 = optional(s, "s3", |s| ShipTo::S3 { bucket: bucket(s), prefix: prefix(s) });
    to_folder.or(kinesis).or(s3).unwrap_or(ShipTo::Folder(PathBuf::new()))
}

fn archive(s: &mut Section<'_, '_>, folder: &Path) -> Archive {
    if s.has("data") && s.has("s3") {
        s.problem("s3", "expected one of `data` and `s3` alone");
    }
    match optional(s, "s3", |s| Archive::S3 { bucket: bucket(s), prefix: prefix(s) }) {
        Some(s3) => path(s, "data", folder).map_or(s3, Archive::Folder),
        None => Archive::Folder(required_path(s, "data", folder, "the data folder of `keytrail run`")),
    }
}

fn stream(s: &mut Section<'_, '_>) -> String {
    let expected = "the name of a stream: 1 to 128 of `A-Z a-z 0-9 . _ -`";
    let good = |t: &str| {
        (1..=128).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    named(s, "stream", expected, good)
}

fn bucket(s: &mut Section<'_, '_>) -> String {
    let expected = "the name of a bucket: 3 to 63 of `a-z 0-9 . -`, a letter or digit at both ends";
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let good = |t: &str| {
        (3..=63).contains(&t.len())
            && t.bytes().all(|b| plain(&b) || b".-".contains(&b))
            && t.as_bytes().first().is_some_and(plain)
            && t.as_bytes().last().is_some_and(plain)
    };
    named(s, "bucket", expected, good)
}

fn prefix(s: &mut Section<'_, '_>) -> String {
    if !s.has("prefix") {
        // Asked for all the same: what can be set is known.
        let _absent = s.text("prefix", "a text");
        return "keytrail".to_owned();
    }
    let expected = "a prefix of at most 256 of `A-Z a-z 0-9 . _ = -`, with `/` between its parts";
    let good = |t: &str| {
        t.len() <= 256
            && t.split('/').all(|part| {
                !matches!(part, "" | "." | "..")
                    && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._=-".contains(&b))
            })
    };
    named(s, "prefix", expected, good)
}

/// A text that has to be there, and to be good.
fn named(s: &mut Section<'_, '_>, key: &'static str, expected: &str, good: impl Fn(&str) -> bool) -> String {
    let Some(text) = s.required_text(key, expected) else { return String::new() };
    if !good(text.text) {
        s.problem(key, format!("expected {expected}"));
    }
    text.text.to_owned()
}

fn socket(s: &mut Section<'_, '_>, folder: &Path) -> PathBuf {
    let path = required_path(s, "socket", folder, "the path of the socket");
    if path.as_os_str().len() > 100 {
        s.problem("socket", "expected a path of at most 100 bytes: sockets take no longer one");
    }
    path
}

fn http_device(s: &mut Section<'_, '_>, folder: &Path) -> HttpDeviceConfig {
    let fallback = SocketAddr::from(([127, 0, 0, 1], 8_209));
    let listen = address(s, "listen", "127.0.0.1:8209").unwrap_or(fallback);
    if !listen.ip().is_loopback() {
        s.problem("listen", "expected a loopback address: the bearer token goes over it in the clear");
    }
    let token_file = required_path(s, "token_file", folder, "the path of the bearer token's file");
    HttpDeviceConfig { listen, token_file }
}

fn address(s: &mut Section<'_, '_>, key: &'static str, example: &str) -> Option<SocketAddr> {
    let text = s.required_text(key, &format!("an address and port, as in `{example}`"))?;
    let address = text.text.parse().ok();
    if address.is_none() {
        s.problem(key, format!("expected an address and port, as in `{example}`"));
    }
    address
}

fn mebibytes(
    s: &mut Section<'_, '_>,
    key: &'static str,
    within: std::ops::RangeInclusive<i64>,
    default: u64,
) -> u64 {
    s.number(key, within).and_then(|n| u64::try_from(n).ok()).unwrap_or(default) * MIB
}

fn path(s: &mut Section<'_, '_>, key: &'static str, folder: &Path) -> Option<PathBuf> {
    s.text(key, "a path").map(|t| folder.join(t.text))
}

fn required_path(s: &mut Section<'_, '_>, key: &'static str, folder: &Path, expected: &str) -> PathBuf {
    let text = s.required_text(key, expected);
    folder.join(text.map(|t| t.text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file that users copy is right, and what it says of defaults, too.
    #[test]
    fn the_example_is_a_configuration() {
        let text = include_str!("../audit-sidecar.toml");
        let config = Config::parse(text, Path::new("/etc/keytrail")).unwrap();
        assert_eq!(config.key_name(), "example.org/gateway-1/partition-0");
        assert_eq!(config.audit_key, Path::new("/etc/keytrail/keys/audit.key"));
        let without = |key: &str| {
            text.lines().filter(|l| !l.starts_with(key)).map(|l| format!("{l}\n")).collect::<String>()
        };
        let defaults = [
            "mode",
            "operation_timeout",
            "answer_timeout",
            "segment_mib",
            "max_mib",
            "interval",
            "alarm_after",
            "deny_after",
        ];
        for key in defaults {
            let other = Config::parse(&without(key), Path::new("/etc/keytrail")).unwrap();
            assert_eq!(format!("{other:?}"), format!("{config:?}"), "{key}");
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let problems =
            Config::parse("source = \"-\"\n[http_device]\nlisten = \"0.0.0.0:1\"\n", Path::new(""))
                .unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        for expected in [
            "line 1: `audit_key`: missing, expected the path of the audit key's file",
            "line 1: `organization`: missing, expected a name as in `example.org`",
            "line 1: `source`: invalid value: a string, expected 1 to 128 of `A-Z a-z 0-9 . _ : / @ -`",
            "line 3: `http_device.listen`: expected a loopback address",
            "`http_device.token_file`: missing",
        ] {
            assert!(told.iter().any(|t| t.contains(expected)), "{expected} is not in {told:#?}");
        }
    }

    fn shipped_to(ship: &str) -> Result<ShipTo, String> {
        let text = include_str!("../audit-sidecar.toml").replace("folder = \"shipped\"", ship);
        Config::parse(&text, Path::new("/etc/keytrail"))
            .map(|config| config.ship_to)
            .map_err(|problems| problems.iter().map(|p| format!("{}: {}\n", p.key, p.message)).collect())
    }

    #[test]
    fn what_is_sealed_is_read_in_one_place() {
        let sealed = |seal: &str| {
            let text = include_str!("../audit-sidecar.toml").replace("data = \"../trail\"", seal);
            Config::parse(&text, Path::new("/etc/keytrail"))
                .map(|config| config.seal.unwrap().data)
                .map_err(|problems| problems[0].to_string())
        };
        let (bucket, prefix) = ("example-archive".to_owned(), "trail".to_owned());
        let s3 = "s3 = { bucket = \"example-archive\", prefix = \"trail\" }";
        assert_eq!(sealed(s3), Ok(Archive::S3 { bucket, prefix }));
        assert_eq!(sealed("data = \"/t\""), Ok(Archive::Folder("/t".into())));
        let both = sealed(&format!("data = \"/t\"\n{s3}")).unwrap_err();
        assert!(both.ends_with("`seal.s3`: expected one of `data` and `s3` alone"), "{both}");
        let none = sealed("").unwrap_err();
        assert!(none.ends_with("`seal.data`: missing, expected the data folder of `keytrail run`"), "{none}");
    }

    #[test]
    fn segments_go_to_one_place() {
        let (bucket, prefix) = ("example-records".to_owned(), "keytrail".to_owned());
        let s3 = shipped_to("s3 = { bucket = \"example-records\" }");
        assert_eq!(s3, Ok(ShipTo::S3 { bucket: bucket.clone(), prefix }));
        let kinesis = "kinesis = { stream = \"records\", bucket = \"example-records\", prefix = \"a/b\" }";
        let expected = ShipTo::Kinesis {
            stream: "records".to_owned(),
            bucket,
            prefix: "a/b".to_owned(),
            fallback_after: Duration::from_secs(300),
        };
        assert_eq!(shipped_to(kinesis), Ok(expected));
        let missing =
            "ship.folder: missing, expected `folder`, `kinesis` or `s3`: where segments are shipped to\n";
        assert_eq!(shipped_to(""), Err(missing.to_owned()));
        let both = shipped_to(&format!("folder = \"a\"\n{kinesis}")).unwrap_err();
        assert_eq!(both, "ship.kinesis: expected one of `folder`, `kinesis` and `s3` alone\n");
        let wrong = "kinesis = { stream = \"a/b\", bucket = \"A\", prefix = \"a//b\", fallback_after = \"1ms\", x = 1 }";
        let wrong = shipped_to(wrong).unwrap_err();
        for expected in [
            "ship.kinesis.stream: expected the name of a stream: 1 to 128 of",
            "ship.kinesis.bucket: expected the name of a bucket: 3 to 63 of",
            "ship.kinesis.prefix: expected a prefix of at most 256 of",
            "ship.kinesis.fallback_after: expected a duration from 1s to 1d",
            "ship.kinesis.x: unknown key",
        ] {
            assert!(wrong.contains(expected), "{expected} is not in {wrong}");
        }
    }
}
