use std::path::Path;
use std::time::Duration;

use super::*;
use keytrail_ports::section::{duration_text, read_noting};

fn problems(text: &str) -> Vec<String> {
    let problems = Config::parse(text, Path::new("/etc")).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

/// What is commented out, as a user would take it in.
fn uncommented(template: &str) -> String {
    let line = |l: &str| match l.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{l}\n"),
    };
    template.lines().map(line).collect()
}

#[test]
fn the_template_has_every_key_and_is_good_as_it_is_and_uncommented() {
    let template = template();
    assert_eq!(Config::parse(&template, Path::new("/etc")), Ok(Config::default()));
    let text = uncommented(&template);
    let (config, problems, absent) = read_noting(&text, |top| Config::read(top, Path::new("/etc")));
    assert_eq!(problems, []);
    let config = config.unwrap();
    assert_eq!((config.sources.len(), config.retention.len(), config.holds.len()), (2, 2, 2));
    assert_eq!(config.tables.len(), 5);
    // Keys of one example may be missing in another.
    let is_there = |key: &str| {
        let name = key.rsplit('.').next().unwrap_or(key);
        text.lines().any(|l| {
            l.starts_with(&format!("{name} =")) || l == format!("[{name}]") || l == format!("[[{name}]]")
        })
    };
    assert_eq!(absent.into_iter().filter(|key| !is_there(key)).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn what_is_wrong_with_an_index_is_told_with_its_place() {
    let text = r#"
        [index]
        shards = 0

        [[index.changes]]
        from = "2027-1"
        period = "week"

        [[index.changes]]
        from = "2027-02"
        period = "day"

        [[index.changes]]
        from = "2027-02"
        shards = 4

        [[index.changes]]
        from = "2027-03"

        [[index.exclude]]

        [[index.include]]
        datasets = ["aws.cloudtrial"]
        classes = ["decrypt", "decipher"]
        outcomes = "failed"
    "#;
    let found = problems(text);
    for wanted in [
        "line 3: `index.shards`",
        "`index.changes[0].period`: expected `day`, `month` or `year`, found `week`",
        "`index.changes[0].from`: expected a month, as in \"2027-01\", found `2027-1`",
        "`index.changes[2].from`: expected a later month",
        "`index.changes[3].from`: nothing changes",
        "`index.exclude[0].datasets`: expected at least one",
        "found `aws.cloudtrial`",
        "found `decipher`",
        "found `failed`",
    ] {
        assert!(found.iter().any(|problem| problem.contains(wanted)), "{wanted}: {found:#?}");
    }
}

#[test]
fn a_source_is_read() {
    let text = r#"
        [[sources]]
        name = "vault-eu"
        dataset = "vault.audit"
        instance = "vault-eu/file"
        location = ["logs/*.json", "/srv/vault"]
        longest_silence = "1h30m"
    "#;
    let config = Config::parse(text, Path::new("/etc")).unwrap();
    let [source] = &config.sources[..] else { panic!("{config:?}") };
    assert_eq!((source.name.as_str(), source.format.name()), ("vault-eu", "vault"));
    assert_eq!(source.instance.as_deref(), Some("vault-eu/file"));
    assert_eq!(source.longest_silence, Some(Duration::from_secs(5_400)));
    assert_eq!(
        source.locations.iter().map(Location::text).collect::<Vec<_>>(),
        ["logs/*.json", "/srv/vault"]
    );
}

#[test]
fn retention_and_holds_are_read() {
    let text = r#"
        [[retention]]
        older_than = "400d"
        dataset = "vault.audit"
        [[retention]]
        older_than = "36h"
        [[holds]]
        reason = "case 17"
        from = "2024-01-01"
        [[holds]]
        to = "undated"
        uid = "17"
        [[holds]]
        reason = "everything"
    "#;
    let problems = Config::parse(text, Path::new("/etc")).unwrap_err();
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "line 6: `retention[1].older_than`: expected whole days, as in \"400d\"",
            "line 10: `holds[1].reason`: missing, expected why, as in \"case 17\"",
            "line 11: `holds[1].to`: expected a day, as in \"2024-01-31\", found `undated`",
            "line 12: `holds[1].uid`: expected 40 lower-case hex digits",
            "line 13: `holds[2].dataset`: expected at least one of `dataset`, `from`, `to` and `uid`",
        ]
    );
    let good = text.split("[[retention]]\n        older_than = \"36h\"").next().unwrap();
    let rules = Config::parse(good, Path::new("/etc")).unwrap().retention;
    assert_eq!((rules.len(), rules[0].days, rules[0].dataset.as_deref()), (1, 400, Some("vault.audit")));
}

#[test]
fn tables_are_read() {
    let text = r#"
        [[tables]]
        kind = "keys"
        path = "inventory.parquet"
        valid_from = "2024-01-01"
        [[tables]]
        kind = "geoip"
        name = "asn"
        path = "/srv/asn.bin"
        format = "mmdb"
    "#;
    let tables = Config::parse(text, Path::new("/etc")).unwrap().tables;
    let said: Vec<_> =
        tables.iter().map(|t| (t.name.as_str(), t.format.name(), t.path.to_str().unwrap())).collect();
    assert_eq!(said, [("keys", "parquet", "/etc/inventory.parquet"), ("asn", "mmdb", "/srv/asn.bin")]);
    assert!(tables[0].default.from.is_some() && tables[1].default.from.is_none());
    let text = r#"
        [[tables]]
        kind = "key"
        path = "a.txt"
        [[tables]]
        kind = "keys"
        [[tables]]
        kind = "keys"
        name = "The Keys"
        path = "a.mmdb"
        valid_from = "spring"
        [[tables]]
        kind = "networks"
        path = "n.csv"
        [[tables]]
        kind = "networks"
        path = "m.csv"
    "#;
    assert_eq!(
        problems(text),
        [
            "line 2: `tables[0].format`: missing, expected one of `csv`, `json`, `yaml`, `parquet` or `mmdb`: the file's name does not say it",
            "line 3: `tables[0].kind`: expected one of `accounts`, `geoip`, `keys`, `networks` or `principals`, found `key`",
            "line 5: `tables[1].path`: missing, expected the table's file",
            "line 7: `tables[2].format`: expected `mmdb` for the kind `geoip`, and another for all others",
            "line 9: `tables[2].name`: expected up to 64 small letters, digits, `-` and `.`, found `The Keys`",
            "line 11: `tables[2].valid_from`: expected a day as in \"2024-01-31\", or a time as in \"2024-01-31T12:00:00Z\", found `spring`",
            "line 15: `tables[4].name`: the table of line 13 is named `networks` too",
        ]
    );
}

#[test]
fn all_problems_are_told_at_once_with_line_key_and_what_was_expected() {
    let text = r#"
sorces = 1
[[sources]]
name = "Vault"
dataset = "vault"
location = []
longest_silence = "15 minutes"
[[sources]]
nam = "b"
dataset = "aws.cloudtrail"
instance = "x"
location = ["a", 7]
accounts = ["111122223333", "1234"]
[[sources]]
name = "gcp"
dataset = "kubernetes.audit"
location = "b"
accounts = "p"
"#;
    assert_eq!(
        problems(text),
        [
            "line 2: `sorces`: unknown key, did you mean `sources`?",
            "line 4: `sources[0].name`: expected up to 64 small letters, digits, `-` and `.`, the first a letter or digit",
            "line 5: `sources[0].dataset`: the dataset of `vault` is `vault.audit`",
            "line 6: `sources[0].location`: expected a file, folder or glob, or a list of them, found none",
            "line 7: `sources[0].longest_silence`: expected a duration from 1s to 366d, as in \"15m\", found `15 minutes`",
            "line 8: `sources[1].name`: missing, expected the source's name, as in \"vault-eu\"",
            "line 9: `sources[1].nam`: unknown key, did you mean `name`?",
            "line 11: `sources[1].instance`: records of `aws.cloudtrail` say themselves whose they are, expected none",
            "line 12: `sources[1].location`: expected a file, folder or glob, or a list of them, found a number",
            "line 13: `sources[1].accounts`: expected an AWS account id, 12 digits, found `1234`",
            "line 15: `sources[2].name`: `gcp` is what undeclared records are counted under, expected another name",
            "line 18: `sources[2].accounts`: records of `kubernetes.audit` name no account, expected none",
        ]
    );
}

#[test]
fn what_is_no_toml_is_told_with_its_lines() {
    let found = problems("a = \n\n[b\nc = 1\nc = 2\n");
    assert!(found[0].starts_with("line 1: no TOML: "), "{found:?}");
    assert!(found.iter().any(|p| p.starts_with("line 3: ")), "{found:?}");
    assert!(problems("sources = 7")[0].contains("expected tables, each under `[[sources]]`, found a number"));
}

#[test]
fn sources_share_neither_names_nor_files() {
    let two = |a: &str, b: &str| {
        format!(
            "[[sources]]\nname = \"a\"\ndataset = \"vault.audit\"\nlocation = {a}\n\
             [[sources]]\nname = \"b\"\ndataset = \"vault.audit\"\nlocation = {b}\n"
        )
    };
    assert_eq!(
        problems(&two("'logs/*.log'", "'logs/vault.log'")),
        [
            "line 8: `sources[1].location`: `logs/vault.log` can have files in common with `logs/*.log` of the source `a` in line 2, expected files of one source"
        ]
    );
    assert!(problems(&two("['x', 'x/y']", "'z'"))[0].contains("`x/y` and `x` can have files in common"));
    assert!(Config::parse(&two("'logs/a*'", "'logs/b*'"), Path::new("/etc")).is_ok());
    let same = two("'x'", "'y'").replace("\"b\"", "\"a\"");
    assert!(problems(&same)[0].contains("the source of line 2 is named `a` too"));
}

#[test]
fn globs_that_can_meet_are_told_from_those_that_cannot() {
    let at = |text: &str| Location::new(text, Path::new("/logs")).unwrap();
    let overlap = [
        ("a", "a"),
        ("a", "./a/"),
        ("a", "/logs/a/b/c"),
        ("/", "a"),
        (".", "a"),
        ("*.log", "a?.log"),
        ("/logs/a/", "a/*"),
        ("**/*.log", "a/b/c.log"),
        ("**/*.log", "c.log"),
        ("**", "a/b"),
        ("a/**/z", "a/z"),
        ("[a-c]1", "[!b]1"),
        ("[a-c]", "[c-e]"),
        ("a*b", "*ab*"),
        ("**/x/*", "y/**/z"),
    ];
    let apart = [
        ("a", "b"),
        ("a", "ab"),
        ("a/b", "a/c"),
        ("*.log", "*.json"),
        ("a*", "b*"),
        ("[a-c]1", "[d-f]1"),
        ("[a]", "[!a]"),
        ("a?c", "ac"),
        ("x/*.log", "y/*.log"),
        ("/logs2", "a"),
        ("**/*.log", "**/*.json"),
        ("*", "a/*"),
    ];
    for (a, b) in overlap {
        assert!(at(a).overlaps(&at(b)) && at(b).overlaps(&at(a)), "{a} {b}");
    }
    for (a, b) in apart {
        assert!(!at(a).overlaps(&at(b)) && !at(b).overlaps(&at(a)), "{a} {b}");
    }
}

#[test]
fn a_location_knows_its_files_through_links_too() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["real[1]/a.log", "real[1]/sub/b.log", "other/a.log"] {
        std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        std::fs::write(at(name), b"x").unwrap();
    }
    std::os::unix::fs::symlink(at("real[1]"), at("link")).unwrap();
    let files = |text: &str| Location::new(text, dir.path()).unwrap().inputs().len();
    // A glob follows the link.
    assert_eq!(
        (files("real[1]"), files("link/*.log"), files("**/*.log"), files("none"), files("none*")),
        (2, 1, 5, 0, 0)
    );
    let holds = |text: &str, file: &str| {
        Location::new(text, dir.path())
            .unwrap()
            .place()
            .unwrap()
            .holds(&location::File::at(&at(file)).unwrap())
    };
    assert!(holds("link", "real[1]/sub/b.log") && holds("real[1]", "link/a.log"));
    assert!(holds("link/*.log", "real[1]/a.log") && holds("lin*", "link/sub/b.log"));
    assert!(holds("**/*.log", "other/a.log") && holds("*", "other/a.log"));
    assert!(!holds("link", "other/a.log") && !holds("link/*.log", "link/sub/b.log"));
}

#[test]
fn durations_are_written_as_they_are_read() {
    for text in ["15m", "1h30m", "90d", "500ms", "1s", "2d12h"] {
        let read = read_noting(&format!("a = '{text}'"), |s| s.duration("a", Duration::ZERO..=Duration::MAX));
        assert_eq!(duration_text(read.0.flatten().unwrap()), text);
    }
    for text in ["", "15", "m", "1.5h", "-1s", "1h 30m", "99999999999999999999d", "1w"] {
        let (_, problems, _) =
            read_noting(&format!("a = '{text}'"), |s| s.duration("a", Duration::ZERO..=Duration::MAX));
        assert_eq!(problems.len(), 1, "{text}");
    }
}
