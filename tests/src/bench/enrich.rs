//! What enrichment takes of ingest: the same events without tables, and with an inventory of 100,000 keys,
//! 50,000 principals and 20,000 networks among which are those of the events.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Bar, Failure, Figure, Setting, child};
use crate::load::files::{self, Layout};
use crate::load::{DAY_MICROS, Format, Load};

const EVENTS: u64 = 300_000;
const KEYS: usize = 100_000;
const PRINCIPALS: usize = 50_000;
const NETWORKS: usize = 20_000;

/// Times that each is measured; the least counts.
const ROUNDS: usize = 3;

/// Runs the bench.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let scratch = tempfile::tempdir()?;
    let load = Load {
        seed: 23,
        format: Format::Cloudtrail,
        events: EVENTS,
        start_micros: 20_458 * DAY_MICROS,
        days: 4,
        shuffle: false,
        replay_percent: 0,
        late_percent: 0,
    };
    let input = scratch.path().join("in");
    files::write_folder(load, Layout::Lines, None, 4, &input)?;
    let config = tables(&input, scratch.path())?;
    let keytrail = |args: &[&str]| {
        let mut command = super::on_one_core(&setting.keytrail);
        super::isolate(&mut command, scratch.path());
        command.args(args);
        command
    };
    let ingest = |name: String, config: Option<&Path>| {
        let mut command: Command = keytrail(&["run", "--json", "--threads", "1"]);
        command.arg(&input).arg("--data").arg(scratch.path().join(name));
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        child::measure(command)
    };
    let (mut plain, mut enriched, mut loading) = (f64::MAX, f64::MAX, f64::MAX);
    for round in 0..ROUNDS {
        plain = plain.min(ingest(format!("plain-{round}"), None)?.1.cpu_seconds);
        enriched = enriched.min(ingest(format!("enriched-{round}"), Some(&config))?.1.cpu_seconds);
        let mut check = keytrail(&["enrich", "check"]);
        check.arg("--config").arg(&config);
        loading = loading.min(child::measure(check)?.1.cpu_seconds);
    }
    let mut share = keytrail(&["enrich", "check", "--json", "--config"]);
    share.arg(&config).arg("--data").arg(scratch.path().join("enriched-0"));
    let (said, _) = child::measure(share)?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    for one in said["coverage"].as_array().ok_or("no coverage")? {
        // An inventory that knows nothing would cost nothing.
        if one["events_known"].as_f64() < one["events_naming"].as_f64().map(|n| n / 2.0) {
            return Err(format!("the tables know too little: {one}").into());
        }
    }
    let rate = |seconds: f64| EVENTS as f64 / seconds / 1e3;
    let figure =
        |name: &str, value, unit, baseline, bar| Figure { name: name.to_owned(), value, unit, baseline, bar };
    Ok(vec![
        figure(
            "enrich: ingest with tables, once they are read",
            rate(enriched - loading),
            "k events/s",
            Some(rate(plain)),
            Some(Bar::AtLeast(0.9)),
        ),
        figure(
            "enrich: ingest with the reading of tables",
            rate(enriched),
            "k events/s",
            Some(rate(plain)),
            None,
        ),
        figure("enrich: tables of 170,000 rows read", loading, "s", None, None),
    ])
}

/// Writes the tables and their configuration.
fn tables(input: &Path, folder: &Path) -> Result<std::path::PathBuf, Failure> {
    let (mut keys, mut principals) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(input)? {
        let text = fs::read_to_string(entry?.path())?;
        for part in text.split('"').filter(|part| part.starts_with("arn:aws:")) {
            if part.starts_with("arn:aws:kms:") && part.contains(":key/") && keys.len() < KEYS {
                keys.insert(part.to_owned());
            }
            if (part.starts_with("arn:aws:sts:") || part.starts_with("arn:aws:iam:"))
                && principals.len() < PRINCIPALS
            {
                principals.insert(part.to_owned());
            }
        }
    }
    for n in 0.. {
        if keys.len() >= KEYS {
            break;
        }
        keys.insert(format!("arn:aws:kms:eu-west-1:000000000000:key/{n:08x}-0000-4000-8000-000000000000"));
    }
    for n in 0.. {
        if principals.len() >= PRINCIPALS {
            break;
        }
        principals.insert(format!("arn:aws:iam::000000000000:user/person-{n}"));
    }
    let mut csv = "arn,alias,owner,team,purpose,tier,cryptoperiod\n".to_owned();
    for (n, arn) in keys.iter().enumerate() {
        let team = n % 200;
        writeln!(csv, "{arn},alias/key-{n},owner {},team-{team},purpose {},standard,P1Y", n % 900, n % 40)?;
    }
    fs::write(folder.join("keys.csv"), csv)?;
    let mut csv = "principal,person,team,role,privileged\n".to_owned();
    for (n, name) in principals.iter().enumerate() {
        writeln!(csv, "{name},Person {n},team-{},engineer,{}", n % 200, n % 20 == 0)?;
    }
    fs::write(folder.join("principals.csv"), csv)?;
    let mut csv = "network,zone,site\n0.0.0.0/0,internet,\n".to_owned();
    for n in 1..NETWORKS {
        writeln!(csv, "10.{}.{}.0/24,zone-{},site-{}", n >> 8, n & 255, n % 30, n % 7)?;
    }
    fs::write(folder.join("networks.csv"), csv)?;
    let table = |kind: &str| format!("[[tables]]\nkind = \"{kind}\"\npath = \"{kind}.csv\"\n");
    let config = folder.join("keytrail.toml");
    fs::write(&config, ["keys", "principals", "networks"].map(table).concat())?;
    Ok(config)
}
