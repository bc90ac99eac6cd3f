//! A live OpenBao, its audit file taken in while the server writes it, and what DuckDB reads of it.
//!
//! The expected values come from the calls that the test makes and the answers that the server gives
//! (`request_id` of an answer is the call's id in the audit file), not from the records.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keytrail_tests::openbao::{Answer, OpenBao, ROOT};
use keytrail_tests::trail::{Trail, hex, number, text};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What no typed column may hold, whatever the device writes.
const PLAINTEXT: &str = "keytrail plaintext 61d5c0f2 of a payment";
const PASSWORD: &str = "correct-horse-61d5c0f2";
const SECRET: &str = "kv-secret-value-61d5c0f2";

fn b64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// The calls that a test made, by name: the ids under which the server recorded them.
#[derive(Default)]
struct Calls {
    ids: BTreeMap<&'static str, String>,
    secrets: Vec<String>,
    made: usize,
}

impl Calls {
    /// Notes a call that was answered with this status.
    fn made(&mut self, name: &'static str, status: u16, answer: Answer) -> Answer {
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        self.made += 1;
        if let Some(id) = answer.body["request_id"].as_str() {
            self.ids.insert(name, id.to_owned());
        }
        answer
    }

    fn secret(&mut self, secret: String) -> String {
        assert!(secret.len() > 12, "too short to be looked for");
        self.secrets.push(secret.clone());
        secret
    }
}

/// Makes the calls: keys, versions, batches, refusals, signatures, a namespace, secrets.
fn use_it(bao: &OpenBao) -> Calls {
    let mut calls = Calls::default();
    let c = &mut calls;
    for secret in [ROOT.into(), b64(PLAINTEXT), PLAINTEXT.into(), PASSWORD.into(), SECRET.into()] {
        c.secret(secret);
    }
    c.made("mount transit", 204, bao.call("sys/mounts/transit", &json!({"type": "transit"})));
    c.made("mount pki", 204, bao.call("sys/mounts/pki", &json!({"type": "pki"})));
    c.made("mount kv", 204, bao.call("sys/mounts/kv", &json!({"type": "kv", "options": {"version": "2"}})));
    c.made("mount userpass", 204, bao.call("sys/auth/userpass", &json!({"type": "userpass"})));

    c.made("create", 200, bao.call("transit/keys/payments", &json!({})));
    let plaintext = json!({"plaintext": b64(PLAINTEXT)});
    let first = c.made("encrypt 1", 200, bao.call("transit/encrypt/payments", &plaintext)).data("ciphertext");
    c.made("rotate", 200, bao.call("transit/keys/payments/rotate", &json!({})));
    c.made("encrypt 2", 200, bao.call("transit/encrypt/payments", &plaintext));
    c.made("rewrap", 200, bao.call("transit/rewrap/payments", &json!({"ciphertext": first})));
    c.made("decrypt", 200, bao.call("transit/decrypt/payments", &json!({"ciphertext": first})));
    c.made(
        "batch",
        200,
        bao.call("transit/encrypt/payments", &json!({"batch_input": vec![plaintext.clone(); 5]})),
    );
    let half = json!({"partial_failure_response_code": 207,
        "batch_input": [{"ciphertext": first}, {"ciphertext": "vault:v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]});
    c.made("half", 207, bao.call("transit/decrypt/payments", &half));
    let key =
        c.made("datakey", 200, bao.call("transit/datakey/plaintext/payments", &json!({}))).data("plaintext");
    c.secret(key);

    c.made("export refused", 400, bao.call("transit/export/encryption-key/payments", &Value::Null));
    let too_high = json!({"min_decryption_version": 99});
    c.made("version refused", 400, bao.call("transit/keys/payments/config", &too_high));
    c.made(
        "login refused",
        400,
        bao.call_with(&[], "auth/userpass/login/nobody", &json!({"password": PASSWORD})),
    );
    c.made("root", 200, bao.call("pki/root/generate/internal", &json!({"common_name": "Test Root"})));
    c.made(
        "role",
        200,
        bao.call(
            "pki/roles/web",
            &json!({"allowed_domains": "example.org", "allow_subdomains": true, "ttl": "1h"}),
        ),
    );
    c.made("issue refused", 400, bao.call("pki/issue/web", &json!({"common_name": "www.example.net"})));
    let issued = c.made("issue", 200, bao.call("pki/issue/web", &json!({"common_name": "www.example.org"})));
    let private = issued.data("private_key");
    c.secret(private.lines().nth(1).expect("PEM").to_owned());

    c.made(
        "create signer",
        200,
        bao.call("transit/keys/signer", &json!({"type": "ed25519", "exportable": true})),
    );
    let signature =
        c.made("sign", 200, bao.call("transit/sign/signer", &json!({"input": b64("a")}))).data("signature");
    let verify = |input: &str| json!({"input": b64(input), "signature": signature});
    let good = c.made("verify", 200, bao.call("transit/verify/signer", &verify("a")));
    let bad = c.made("verify wrong", 200, bao.call("transit/verify/signer", &verify("b")));
    assert_eq!((&good.body["data"]["valid"], &bad.body["data"]["valid"]), (&json!(true), &json!(false)));
    let exported = c.made("export", 200, bao.call("transit/export/signing-key/signer", &Value::Null));
    c.secret(text(&exported.body["data"]["keys"]["1"]));

    let policy = json!({"policy": "path \"transit/keys/payments\" { capabilities = [\"read\"] }"});
    c.made("policy", 204, bao.call("sys/policies/acl/reader", &policy));
    let alice = json!({"password": PASSWORD, "token_policies": "reader"});
    c.made("user", 204, bao.call("auth/userpass/users/alice", &alice));
    let login = bao.call_with(&[], "auth/userpass/login/alice", &json!({"password": PASSWORD}));
    let login = c.made("login", 200, login);
    let token = c.secret(text(&login.body["auth"]["client_token"]));
    c.secret(text(&login.body["auth"]["accessor"]));
    c.made("read key", 200, bao.call_as(&token, "transit/keys/payments", &Value::Null));
    c.made("denied", 403, bao.call_as(&token, "transit/encrypt/payments", &plaintext));
    let wrapped = [("X-Vault-Token", ROOT), ("X-Vault-Wrap-TTL", "60s")];
    let made =
        c.made("wrapped", 200, bao.call_with(&wrapped, "kv/data/db", &json!({"data": {"password": SECRET}})));
    c.secret(text(&made.body["wrap_info"]["token"]));
    c.made("read secret", 200, bao.call("kv/data/db", &Value::Null));

    let team = [("X-Vault-Token", ROOT), ("X-Vault-Namespace", "team-a")];
    c.made("namespace", 200, bao.call("sys/namespaces/team-a", &json!({})));
    c.made("team mount", 204, bao.call_with(&team, "sys/mounts/transit", &json!({"type": "transit"})));
    c.made("team create", 200, bao.call_with(&team, "transit/keys/payments", &json!({})));
    c.made("team encrypt", 200, bao.call_with(&team, "transit/encrypt/payments", &plaintext));
    calls
}

/// SHA-256 of each line of audit files.
fn lines(files: &[&Path]) -> BTreeSet<String> {
    files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).expect("the audit file");
            text.lines().map(|line| hex(&Sha256::digest(line))).collect::<Vec<_>>()
        })
        .collect()
}

/// (request, response) rows of the calls that have both, by id, with columns that the tests look at; and
/// the paths of rows without a partner.
fn pairs(trail: &Trail) -> (BTreeMap<String, (Value, Value)>, Vec<String>) {
    let rows = trail.query(
        "select keytrail_operation_id as id, keytrail_phase as phase, keytrail_vault_path as path, \
         event_action as action, keytrail_action_class as class, event_outcome as outcome, event_type as types, \
         event_category as categories, error_code as code, error_message as message, event_reason as reason, \
         keytrail_key_id as key, keytrail_key_version as version, keytrail_key_store as store, \
         keytrail_batch_count as batch, keytrail_policy_decision as decision, user_name as user, source_ip as ip, \
         source_port as port, keytrail_scope as scope, event_provider as provider, \
         keytrail_vault_namespace as namespace from {archive} order by timestamp, phase",
    );
    let mut calls: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut pairs = BTreeMap::new();
    let mut singles = Vec::new();
    for row in rows {
        match row["id"].as_str() {
            // Made by a server in development mode itself, from no address.
            Some(id) if id.starts_with("dev-") => {}
            Some(id) => calls.entry(id.to_owned()).or_default().push(row),
            None => singles.push(text(&row["path"])),
        }
    }
    for (id, rows) in calls {
        match <[Value; 2]>::try_from(rows) {
            Ok([a, b]) if a["phase"] == "request" && b["phase"] == "response" => {
                pairs.insert(id, (a, b));
            }
            Ok([a, b]) => {
                assert_eq!((&a["phase"], &b["phase"]), (&json!("response"), &json!("request")), "{a} {b}");
                pairs.insert(id, (b, a));
            }
            Err(rows) => singles.extend(rows.iter().map(|r| text(&r["path"]))),
        }
    }
    (pairs, singles)
}

#[test]
fn calls_are_read_as_they_were_made() {
    let bao = OpenBao::start(&[("audit.jsonl", "")]);
    let file = bao.audit_file("audit.jsonl");
    let trail = Trail::new();

    // Runs beside the server's work, over a file that grows under them and may end in a torn line.
    let working = AtomicBool::new(true);
    let (calls, reads) = thread::scope(|scope| {
        let ingest = scope.spawn(|| {
            let mut read = Vec::new();
            while working.load(Ordering::Relaxed) {
                read.push(number(&trail.run_json([&file])["read"]));
            }
            read
        });
        // Also when a call fails, the runs end.
        let calls = std::panic::catch_unwind(|| use_it(&bao));
        working.store(false, Ordering::Relaxed);
        let reads = ingest.join().expect("each run is good");
        (calls.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), reads)
    });
    let last = trail.run_json([&file]);
    assert!(reads[0] < number(&last["read"]), "no run beside the server's work: {reads:?}");
    assert_eq!(number(&last["rejected"]), 0, "{last}");

    // Each line of the file is one row, and no row is anything else.
    let expected = lines(&[&file]);
    let hashes: Vec<String> = trail.events().into_iter().map(|(_, hash)| hash).collect();
    assert_eq!(hashes.len(), expected.len());
    assert_eq!(hashes.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(number(&last["accepted"]) + number(&last["duplicates"]), number(&last["read"]));
    assert_eq!(number(&last["read"]) as usize, expected.len());
    let (code, report) = trail.verify_json(["--rederive"]);
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");

    // A reader that comes while a line is half written keeps the half aside and has the whole line later.
    let written = fs::read(&file).expect("the audit file");
    let torn = Trail::new();
    let early = torn.run_json([torn.input("audit.jsonl", &written[..written.len() - 300])]);
    assert_eq!(
        (number(&early["rejected"]), number(&early["accepted"]) as usize),
        (1, expected.len() - 1),
        "{early}"
    );
    let late = torn.run_json([torn.input("audit.jsonl", &written)]);
    assert_eq!((number(&late["rejected"]), number(&late["accepted"])), (0, 1), "{late}");
    assert_eq!(torn.events(), trail.events());

    // Two rows a call.
    let (pairs, singles) = pairs(&trail);
    // The device's own probe, and the mounts that a server in development mode makes before anyone calls.
    let own = ["sys/audit/test", "sys/mounts/secret"];
    assert!(
        singles.iter().all(|path| own.contains(&path.as_str())),
        "records without a partner: {singles:?}"
    );
    assert!(pairs.len() >= calls.made, "{} calls made, {} recorded", calls.made, pairs.len());
    for (request, response) in pairs.values() {
        for column in [
            "path",
            "action",
            "class",
            "key",
            "store",
            "batch",
            "ip",
            "scope",
            "user",
            "provider",
            "namespace",
        ] {
            assert_eq!(request[column], response[column], "{column}\n{request}\n{response}");
        }
        assert!(["unknown", "failure"].iter().any(|o| request["outcome"] == **o), "{request}");
        assert!(["success", "failure"].iter().any(|o| response["outcome"] == **o), "{response}");
        assert!(response["outcome"] == "failure" || request["outcome"] == "unknown", "{request}\n{response}");
        assert_eq!(request["scope"], Value::Null);
        assert_eq!(request["provider"], "openbao");
        assert_eq!(request["ip"], "127.0.0.1", "{request}");
        assert!(number(&request["port"]) > 1023, "{request}");
    }

    let call = |name: &str| {
        let id = calls.ids.get(name).unwrap_or_else(|| panic!("`{name}` has no id"));
        pairs.get(id).unwrap_or_else(|| panic!("`{name}` is not in the archive"))
    };
    let transit = |name: &str, action: &str, class: &str, version: Option<&str>| {
        let (request, response) = call(name);
        assert_eq!(
            (
                &response["action"],
                &response["class"],
                &response["key"],
                &response["version"],
                &response["outcome"]
            ),
            (&json!(action), &json!(class), &json!("payments"), &json!(version), &json!("success")),
            "{name}: {response}"
        );
        assert_eq!(
            (&request["store"], &request["outcome"]),
            (&json!("transit/"), &json!("unknown")),
            "{name}"
        );
        assert_eq!(response["decision"], "allow", "{name}");
    };
    transit("create", "transit/keys/create", "create", Some("1"));
    transit("encrypt 1", "transit/encrypt", "encrypt", Some("1"));
    transit("rotate", "transit/keys/rotate", "rotate", Some("2"));
    transit("encrypt 2", "transit/encrypt", "encrypt", Some("2"));
    transit("rewrap", "transit/rewrap", "decrypt", Some("2"));
    transit("decrypt", "transit/decrypt", "decrypt", None);
    transit("batch", "transit/encrypt", "encrypt", Some("2"));
    transit("datakey", "transit/datakey", "generate-data-key", Some("2"));
    assert_eq!((&call("batch").0["batch"], &call("batch").1["batch"]), (&json!(5), &json!(5)));
    assert_eq!((&call("half").0["batch"], &call("half").1["batch"]), (&json!(2), &json!(2)));
    assert_eq!((&call("half").1["outcome"], &call("half").1["code"]), (&json!("failure"), &json!("207")));
    let outcome = |name: &str| (text(&call(name).1["outcome"]), call(name).1["reason"].clone());
    assert_eq!(outcome("verify"), ("success".into(), Value::Null));
    assert_eq!(outcome("verify wrong"), ("failure".into(), json!("the signature or MAC is not valid")));
    assert_eq!(
        (&call("export").1["class"], &call("export").1["outcome"]),
        (&json!("export"), &json!("success"))
    );
    assert_eq!(call("login").1["categories"], json!(["authentication"]));
    assert_eq!(call("login").1["user"], "alice");
    let (_, team) = call("team encrypt");
    assert_eq!(
        (&team["store"], &team["key"], &team["version"], &team["namespace"]),
        (&json!("team-a/transit/"), &json!("payments"), &json!("1"), &json!("team-a/"))
    );

    // Refused calls have no id in their answer: they are found by what was asked, and are all that failed.
    let mut failed: Vec<(String, bool)> = pairs
        .values()
        .filter(|(_, response)| response["outcome"] == "failure")
        .map(|(request, response)| {
            let denied = response["decision"] == "deny";
            let types = response["types"].as_array().expect("types");
            assert_eq!(types.contains(&json!("denied")), denied, "{response}");
            // Denied by policy stands on both records, what else went wrong on the answer alone.
            assert_eq!(request["outcome"] == "failure", denied, "{request}");
            assert_eq!(request["decision"], response["decision"]);
            (text(&response["path"]), denied)
        })
        .collect();
    failed.sort();
    let expected = [
        ("auth/userpass/login/nobody", false),
        ("pki/issue/web", false),
        ("transit/decrypt/payments", false),
        ("transit/encrypt/payments", true),
        ("transit/export/encryption-key/payments", false),
        ("transit/keys/payments/config", false),
        ("transit/verify/signer", false),
    ];
    assert_eq!(failed, expected.map(|(path, denied)| (path.to_owned(), denied)));
}

#[test]
fn a_second_device_in_the_clear_shows_no_secret() {
    let bao = OpenBao::start(&[("audit.jsonl", ""), ("raw.jsonl", "log_raw = \"true\"")]);
    let calls = use_it(&bao);
    let files = [bao.audit_file("audit.jsonl"), bao.audit_file("raw.jsonl")];
    let trail = Trail::new();
    let both = trail.run_json(&files);
    assert_eq!((number(&both["rejected"]), number(&both["conflicts"])), (0, 0), "{both}");
    assert_eq!(number(&both["accepted"]) as usize, lines(&[&files[0], &files[1]]).len());

    // The same calls, by the same ids, from each device.
    let by_device = trail.query(
        "select parse_filename(split_part(keytrail_input, '@', 1)) as device, count(*) as n, \
         count(distinct keytrail_operation_id) as calls, \
         list(distinct keytrail_operation_id || keytrail_phase order by keytrail_operation_id || keytrail_phase) \
         filter (keytrail_vault_path != 'sys/audit/test') as ids from {archive} group by 1 order by 1",
    );
    assert_eq!(by_device.len(), 2);
    assert_eq!(by_device[0]["ids"], by_device[1]["ids"]);
    let recorded = by_device[0]["ids"].as_array().expect("ids").len();
    assert!(recorded >= 2 * calls.made, "{recorded} records of {} calls", calls.made);

    // The raw file holds every secret, and no column of any row does.
    let raw = fs::read_to_string(&files[1]).expect("the raw file");
    for secret in &calls.secrets {
        assert!(raw.contains(secret.as_str()) || *secret == PLAINTEXT, "the server does not log `{secret}`");
    }
    let rows = trail.query("select * exclude (event_original, timestamp, event_ingested) from {archive}");
    assert_eq!(rows.len(), number(&both["accepted"]) as usize);
    for row in &rows {
        for (column, value) in row.as_object().expect("a row") {
            let value = value.to_string();
            for secret in &calls.secrets {
                assert!(!value.contains(secret.as_str()), "{column} holds {secret}: {row}");
            }
        }
    }
    // Nor do keytrail's words about a call that carried one.
    for name in ["encrypt 1", "decrypt", "datakey", "export", "issue", "login", "wrapped"] {
        for row in rows.iter().filter(|r| r["keytrail_operation_id"] == calls.ids[name].as_str()) {
            let uid = text(&row["keytrail_uid"]);
            let shown = trail.keytrail(["explain", &uid]).success().stdout;
            for secret in calls.secrets.iter().filter(|s| *s != SECRET) {
                assert!(!shown.contains(secret.as_str()), "{name}: {secret} in\n{shown}");
            }
        }
    }
}
