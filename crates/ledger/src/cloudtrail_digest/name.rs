//! Names of digest files and log files, as CloudTrail gives them.

use keytrail_model::Timestamp;
use keytrail_model::time::day_name;

/// What the S3 path of a digest file says.
///
/// `[PREFIX/]AWSLogs/[ORGANISATION/]ACCOUNT/CloudTrail-Digest/REGION/YYYY/MM/DD/`
/// `ACCOUNT_CloudTrail-Digest_REGION_TRAIL_HOMEREGION_YYYYMMDDTHHMMSSZ[_backfill].json.gz`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DigestName {
    /// The path up to the region.
    pub folder: String,
    /// The account's folder.
    pub account: String,
    /// The region whose log files it lists.
    pub region: String,
    /// The file's name up to its time: the same for all digests of one trail, account and region.
    pub trail: String,
    /// End of the hour, as the name says.
    pub end: Timestamp,
    /// It lists log files that the hour's own digest left out.
    pub backfill: bool,
}

const FOLDER: &str = "CloudTrail-Digest";
const SUFFIX: &str = ".json.gz";
const BACKFILL: &str = "_backfill";

impl DigestName {
    /// Reads an S3 path; `None`: it is not that of a digest file.
    pub fn parse(object: &str) -> Option<Self> {
        let (path, file) = object.rsplit_once('/')?;
        let segments: Vec<&str> = path.split('/').collect();
        let at = segments.iter().rposition(|s| *s == FOLDER)?;
        let (account, region) = (segments[..at].last()?, segments.get(at + 1)?);
        let name = file.strip_suffix(SUFFIX)?;
        let (name, backfill) = name.strip_suffix(BACKFILL).map_or((name, false), |name| (name, true));
        let (trail, time) = name.rsplit_once('_')?;
        Some(Self {
            folder: segments[..at + 2].join("/"),
            account: (*account).to_owned(),
            region: (*region).to_owned(),
            trail: trail.to_owned(),
            end: compact(time)?,
            backfill,
        })
    }

    /// The path of the same trail's digest of another hour.
    pub fn at(&self, end: Timestamp) -> String {
        let text = end.to_rfc3339();
        let time: String = text.chars().take(19).filter(char::is_ascii_alphanumeric).collect();
        let day = day_name(end.days()).replace('-', "/");
        let Self { folder, trail, .. } = self;
        format!("{folder}/{day}/{trail}_{time}Z{SUFFIX}")
    }
}

/// What the name of a log file says: `ACCOUNT_CloudTrail_REGION_YYYYMMDDTHHmmZ_UNIQUE.json.gz`, or
/// `CloudTrail-Insight` and the like in place of `CloudTrail`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogName {
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The minute of its delivery.
    pub minute: Timestamp,
    /// It holds ordinary events, which digests are about; not those of another kind, as Insights.
    pub ordinary: bool,
}

impl LogName {
    /// The file's name in a path, without `.gz`: the same for a file as it came and inflated.
    pub fn file(path: &str) -> &str {
        let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
        file.strip_suffix(".gz").unwrap_or(file)
    }

    /// Reads a path's last part; `None`: it is not that of a CloudTrail log file.
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts = Self::file(path).strip_suffix(".json")?.split('_');
        let (account, kind, region, time, unique) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        let ordinary = kind == "CloudTrail";
        let is_log = ordinary || kind.starts_with("CloudTrail-") && kind != FOLDER;
        if !is_account || !is_log || unique.is_empty() || parts.next().is_some() {
            return None;
        }
        let minute = compact(&format!("{}00Z", time.strip_suffix('Z')?))?;
        Some(Self { account: account.to_owned(), region: region.to_owned(), minute, ordinary })
    }
}

/// Reads `20150817T150131Z`.
pub(super) fn compact(text: &str) -> Option<Timestamp> {
    if text.len() != 16 || !text.is_ascii() || text.as_bytes()[8] != b'T' {
        return None;
    }
    let [y, mo, d, h, mi, s] =
        [&text[..4], &text[4..6], &text[6..8], &text[9..11], &text[11..13], &text[13..]];
    Timestamp::parse(&format!("{y}-{mo}-{d}T{h}:{mi}:{s}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "111122223333_CloudTrail-Digest_us-east-2_my_trail_eu-west-1_20150817T150131Z";

    #[test]
    fn paths_of_digests() {
        for (folder, suffix, backfill) in [
            ("AWSLogs/111122223333/CloudTrail-Digest/us-east-2", ".json.gz", false),
            ("AWSLogs/o-a1b2c3/111122223333/CloudTrail-Digest/us-east-2", "_backfill.json.gz", true),
            ("CloudTrail-Digest/logs/AWSLogs/111122223333/CloudTrail-Digest/us-east-2", ".json.gz", false),
        ] {
            let object = format!("{folder}/2015/08/17/{FILE}{suffix}");
            let name = DigestName::parse(&object).unwrap();
            assert_eq!((name.folder.as_str(), name.backfill), (folder, backfill));
            assert_eq!((name.account.as_str(), name.region.as_str()), ("111122223333", "us-east-2"));
            assert_eq!(name.trail, "111122223333_CloudTrail-Digest_us-east-2_my_trail_eu-west-1");
            assert_eq!(name.end, Timestamp::parse("2015-08-17T15:01:31Z").unwrap());
            if !backfill {
                assert_eq!(name.at(name.end), object);
            }
        }
        let midnight = DigestName::parse(&format!("AWSLogs/1/CloudTrail-Digest/r/2015/08/17/{FILE}.json.gz"));
        assert!(
            midnight
                .unwrap()
                .at(Timestamp::parse("2016-01-01T00:00:00Z").unwrap())
                .starts_with("AWSLogs/1/CloudTrail-Digest/r/2016/01/01/")
        );
        for other in [
            "",
            "x.json.gz",
            "AWSLogs/1/CloudTrail/us-east-2/2015/08/17/a_20150817T150131Z.json.gz",
            "AWSLogs/1/CloudTrail-Digest/us-east-2/2015/08/17/a_20150817T150131.json.gz",
            "AWSLogs/1/CloudTrail-Digest/us-east-2/2015/08/17/a_2015é817T15013Z.json.gz",
            "CloudTrail-Digest/a_20150817T150131Z.json.gz",
        ] {
            assert_eq!(DigestName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn names_of_log_files() {
        let name = "111122223333_CloudTrail_us-east-2_20150817T1445Z_9nYN7gp2eWAJHIfT.json";
        for path in [name.to_owned(), format!("a/b/{name}.gz")] {
            let log = LogName::parse(&path).unwrap();
            assert_eq!((log.account.as_str(), log.region.as_str()), ("111122223333", "us-east-2"));
            assert_eq!(log.minute, Timestamp::parse("2015-08-17T14:45:00Z").unwrap());
            assert_eq!(LogName::file(&path), name);
            assert!(log.ordinary);
        }
        assert!(!LogName::parse(&name.replace("CloudTrail", "CloudTrail-Insight")).unwrap().ordinary);
        for other in
            ["-", "vault.log", "1_CloudTrail_r_20150817T1445Z_a.json", &name.replace("T1445Z", "T2545Z")]
        {
            assert_eq!(LogName::parse(other), None, "{other}");
        }
    }
}
