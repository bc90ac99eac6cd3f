//! `[follow]` and `[metrics]`: how a service runs.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use keytrail_ports::section::Section;

/// `[follow]`: how `run --follow` goes about it. An option of the command line beats its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Following {
    /// Time between two looks at the files.
    pub poll_interval: Duration,
    /// Time between two seals, when there is something to seal.
    pub seal_interval: Duration,
    /// A record or document whose end does not come is taken as it is when its file has been still for so long.
    pub still: Duration,
    /// Time between two verifies of what was sealed since the last one.
    pub verify_interval: Duration,
    /// Whether small archive objects are made one, where it pays.
    pub compact: bool,
}

impl Default for Following {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(1),
            seal_interval: Duration::from_secs(60),
            still: Duration::from_secs(30),
            verify_interval: Duration::from_secs(3_600),
            compact: true,
        }
    }
}

/// `[metrics]`: where a service serves them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listen {
    /// Nowhere, where it is not said.
    pub address: Option<SocketAddr>,
    /// The address may be one that other machines reach.
    pub remote: bool,
}

impl Listen {
    /// Why an address is not taken: it can be reached from elsewhere, and that was not asked for.
    ///
    /// # Errors
    /// What was expected.
    pub fn check(&self) -> Result<(), String> {
        match self.address {
            Some(address) if !address.ip().is_loopback() && !self.remote => {
                Err(format!("`{address}` can be reached from other machines, expected a loopback address"))
            }
            _ => Ok(()),
        }
    }
}

/// Their part of the template.
pub const TEMPLATE: &str = r#"
# How `keytrail run --follow` goes about it. An option of the command line (--poll-interval and so on) beats
# its key here.
#
# poll_interval    time between two looks at the files
# seal_interval    time between two seals, when there is something to seal
# still            a last line, or a document, whose end does not come is taken as it is when its file has been
#                  still for so long
# verify_interval  time between two verifies of what was sealed since the last one
# compact          make one archive object of many small ones, where it pays
#
#[follow]
#poll_interval = "1s"
#seal_interval = "1m"
#still = "30s"
#verify_interval = "1h"
#compact = true

# Prometheus metrics of a service, at http://ADDRESS/metrics; not served where nothing is said.
#
# listen  address and port
# remote  take an address that other machines can reach
#
# Example:
#[metrics]
#listen = "127.0.0.1:9464"
#remote = false
"#;

const SHORT: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// How a service goes about it.
pub(super) fn following(top: &mut Section<'_, '_>) -> Following {
    let default = Following::default();
    top.section("follow", |section| {
        let mut time =
            |key, within: RangeInclusive<Duration>, default| section.duration(key, within).unwrap_or(default);
        Following {
            poll_interval: time("poll_interval", SHORT..=HOUR, default.poll_interval),
            seal_interval: time("seal_interval", SHORT..=DAY, default.seal_interval),
            still: time("still", SHORT..=DAY, default.still),
            verify_interval: time("verify_interval", SHORT..=YEAR, default.verify_interval),
            compact: section.flag("compact").unwrap_or(default.compact),
        }
    })
}

/// Where it serves metrics.
pub(super) fn listen(top: &mut Section<'_, '_>) -> Listen {
    top.section("metrics", |section| {
        let expected = "an address and port, as in \"127.0.0.1:9464\"";
        let text = section.text("listen", expected).map(|t| t.text);
        let listen = Listen {
            address: text.and_then(|t| t.parse().ok()),
            remote: section.flag("remote").unwrap_or(false),
        };
        match text {
            Some(text) if listen.address.is_none() => {
                section.problem("listen", format!("expected {expected}, found `{text}`"));
            }
            _ => {
                if let Err(why) = listen.check() {
                    section.problem("listen", format!("{why}, or `remote = true`"));
                }
            }
        }
        listen
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn said(text: &str) -> Vec<String> {
        let problems = Config::parse(text, Path::new("/etc")).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_service_is_read() {
        let text = "[follow]\nseal_interval = \"2m\"\ncompact = false\n[metrics]\nlisten = \"[::1]:0\"\n";
        let config = Config::parse(text, Path::new("/etc")).unwrap();
        let expected =
            Following { seal_interval: Duration::from_secs(120), compact: false, ..Following::default() };
        assert_eq!(config.follow, expected);
        assert_eq!(config.metrics, Listen { address: "[::1]:0".parse().ok(), remote: false });
        assert_eq!(Config::parse("", Path::new("/etc")).unwrap().follow, Following::default());
    }

    #[test]
    fn all_problems_are_told_with_line_and_key() {
        let text = concat!(
            "[follow]\n",
            "seal_interval = \"2\"\n",
            "poll_interval = \"2h\"\n",
            "compact = \"yes\"\n",
            "verify = \"1h\"\n",
            "[metrics]\n",
            "listen = \"0.0.0.0:9464\"\n",
        );
        assert_eq!(
            said(text),
            [
                "line 2: `follow.seal_interval`: expected a duration from 10ms to 1d, as in \"15m\", found `2`",
                "line 3: `follow.poll_interval`: expected a duration from 10ms to 1h, as in \"15m\", found `2h`",
                "line 4: `follow.compact`: expected true or false, found a text",
                "line 5: `follow.verify`: unknown key, expected one of `poll_interval`, `seal_interval`, `still`, \
                 `verify_interval` or `compact`",
                "line 7: `metrics.listen`: `0.0.0.0:9464` can be reached from other machines, expected a loopback \
                 address, or `remote = true`",
            ]
        );
        assert_eq!(
            said("[metrics]\nlisten = \"localhost\"\n"),
            [
                "line 2: `metrics.listen`: expected an address and port, as in \"127.0.0.1:9464\", found `localhost`"
            ]
        );
    }
}
