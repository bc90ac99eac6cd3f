//! The direction of dependencies (crates/README.md), read from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What each crate may depend on inside the workspace.
const ALLOWED: [(&str, &[&str]); 16] = [
    ("model", &[]),
    ("normalize", &["model"]),
    ("enrich", &["model"]),
    ("archive", &["model"]),
    ("index", &["model"]),
    ("ledger", &["model"]),
    ("ports", &["model"]),
    ("report", &["model"]),
    ("query", &["model", "archive"]),
    ("pipeline", &["model", "normalize", "enrich", "archive", "index", "ledger", "query", "report", "ports"]),
    ("adapters", &["model", "ports"]),
    ("cli", &["model", "pipeline", "adapters", "ports"]),
    ("audit-sidecar", &["model", "ledger", "adapters", "ports"]),
    ("sidecar-client", &["model"]),
    ("lambdas", &["model", "pipeline", "adapters", "ports"]),
    ("lambda-harness", &[]),
];

/// Crates that must stay free of I/O, environment, clock and randomness.
const PURE: [&str; 8] = ["model", "normalize", "enrich", "archive", "index", "ledger", "report", "ports"];

/// External crates that bring what pure crates must not have.
const IMPURE: [&str; 9] =
    ["tokio", "getrandom", "rand", "rustix", "walkdir", "glob", "signal-hook", "indicatif", "clap"];

/// Crates of the workspace by short name, with the dependencies that are compiled into them.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline", "--locked"])
        .current_dir(root)
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let compiled = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .filter(|d| d["kind"] != "dev")
                .map(|d| short(d["name"].as_str().expect("name")));
            (short(package["name"].as_str().expect("name")), compiled.collect())
        })
        .collect()
}

fn short(name: &str) -> String {
    name.strip_prefix("keytrail-").unwrap_or(name).to_owned()
}

#[test]
fn crates_depend_in_one_direction() {
    let found = dependencies();
    let members: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    let mut wrong = Vec::new();
    for (name, dependencies) in &found {
        if name == "tests" {
            continue;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(n, _)| n == name) else {
            wrong.push(format!("`{name}` has no rule in this test"));
            continue;
        };
        for dependency in dependencies {
            if members.contains(dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("`{name}` must not depend on `{dependency}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_but_archive_knows_parquet() {
    for (name, dependencies) in dependencies() {
        if name == "archive" || name == "tests" {
            continue;
        }
        let found: Vec<_> = dependencies
            .iter()
            .filter(|d| d.as_str() == "parquet" || d.as_str() == "arrow" || d.starts_with("arrow-"))
            .collect();
        assert!(found.is_empty(), "`{name}` depends on {found:?}");
    }
}

#[test]
fn nothing_but_adapters_knows_aws() {
    for (name, dependencies) in dependencies() {
        let found: Vec<_> = dependencies.iter().filter(|d| d.starts_with("aws-")).collect();
        assert!(found.is_empty() || name == "adapters", "`{name}` depends on {found:?}");
    }
}

/// A default build compiles nothing of it.
#[test]
fn nothing_but_query_knows_datafusion() {
    for (name, dependencies) in dependencies() {
        let found: Vec<_> = dependencies.iter().filter(|d| d.starts_with("datafusion")).collect();
        assert!(found.is_empty() || name == "query", "`{name}` depends on {found:?}");
    }
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--package", "keytrail-cli", "--offline", "--locked", "--prefix", "none"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .expect("cargo starts");
    let tree = String::from_utf8_lossy(&tree.stdout);
    assert!(tree.contains("keytrail-pipeline"), "{tree}");
    assert!(!tree.contains("datafusion") && !tree.contains("keytrail-query"), "{tree}");
}

/// The sidecar runs beside the HSM: what only readers of the archive need has no place in it.
#[test]
fn the_sidecar_compiles_no_parquet() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--package", "keytrail-audit-sidecar", "--offline", "--locked", "--prefix", "none"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .expect("cargo starts");
    let tree = String::from_utf8_lossy(&tree.stdout);
    assert!(tree.contains("keytrail-ledger"), "{tree}");
    for other in ["parquet", "arrow", "datafusion", "elasticsearch", "reqwest"] {
        assert!(!tree.contains(other), "{other} is in {tree}");
    }
}

#[test]
fn pure_crates_stay_pure() {
    for (name, dependencies) in dependencies() {
        if !PURE.contains(&name.as_str()) {
            continue;
        }
        let found: Vec<_> = dependencies.iter().filter(|d| IMPURE.contains(&d.as_str())).collect();
        assert!(found.is_empty(), "`{name}` depends on {found:?}");
    }
}

/// The ledger makes bytes to sign; a private key never comes near it.
#[test]
fn ledger_never_signs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/ledger/src");
    for entry in fs::read_dir(folder).expect("crates/ledger/src") {
        let path = entry.expect("folder entry").path();
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let source = fs::read_to_string(&path).expect("source file");
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(!code.contains("SigningKey"), "{} holds a signing key", path.display());
    }
}

#[test]
fn the_map_names_every_crate() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/README.md"))
        .expect("crates/README.md");
    for name in dependencies().keys() {
        let (row, link) = (format!("| `{name}` |"), format!("`keytrail-{name}`"));
        assert!(map.contains(&row) || map.contains(&link), "crates/README.md does not name `{name}`");
    }
}
