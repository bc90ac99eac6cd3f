//! `keytrail search` finds in the index what SQL finds in the archive, page by page at one point in time.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use keytrail_tests::indexed::Indexed;
use keytrail_tests::search_server::{SearchServer, namespace};
use keytrail_tests::service::until;
use keytrail_tests::tools;
use keytrail_tests::trail::{Ran, Trail, number, text};
use serde_json::{Value, json};

fn uids(documents: &[Value]) -> Vec<String> {
    documents.iter().map(|d| text(&d["keytrail"]["uid"])).collect()
}

/// Runs inputs into trail and index, and has all of it found.
#[track_caller]
fn load(indexed: &Indexed<'_>, inputs: &[&str]) {
    let said = indexed.run(inputs);
    assert_eq!((&said["pending"], &said["parked"]), (&json!(0), &Value::Null), "{said}");
    assert!(indexed.documents() > 0);
}

/// CloudTrail events, one a line.
fn event(id: &str, time: &str, user: &str, context: &Value) -> String {
    let event = json!({
        "eventVersion": "1.08", "eventTime": time, "eventSource": "kms.amazonaws.com", "eventName": "Decrypt",
        "awsRegion": "us-east-1", "sourceIPAddress": "192.0.2.7", "eventType": "AwsApiCall", "eventID": id,
        "recipientAccountId": "111122223333",
        "userIdentity": {"type": "IAMUser", "userName": user, "accountId": "111122223333"},
        "requestParameters": {"encryptionContext": context},
    });
    format!("{event}\n")
}

fn finds_what_sql_finds(server: &SearchServer) {
    let indexed = Indexed::on(server);
    let examples = tools::root().join("examples");
    let contexts = [json!({"app": "pay", "a.b c": "d=e"}), json!({"app": "other"})];
    let more: String = contexts
        .iter()
        .zip(0..)
        .map(|(context, n)| event(&format!("c{n}"), "2024-02-03T10:00:00Z", "Bob", context))
        .collect();
    let more = indexed.trail.input("more.json", more);
    let undated = indexed.trail.undated();
    load(&indexed, &[&examples, &more, &undated].map(|path| path.to_str().expect("UTF-8")));
    for (args, sql) in [
        (&[][..], "true"),
        (&["Decrypt"], "event_action = 'Decrypt'"),
        (&["Decrypt", "Alice"], "event_action = 'Decrypt' and user_name = 'Alice'"),
        (
            &["event.outcome:failure AND NOT user.name:(Alice OR Bob)"],
            "event_outcome = 'failure' and coalesce(user_name, '') not in ('Alice', 'Bob')",
        ),
        (&["keytrail.action.class:schedule*"], "keytrail_action_class like 'schedule%'"),
        (&["error.code:*"], "error_code is not null"),
        (
            &["_exists_:error.code", "--until", "2021-01-01"],
            "error_code is not null and timestamp < '2021-01-01'",
        ),
        (
            &["--field", "user.name=Alice", "--field", "user.name=root", "--field", "event.outcome=success"],
            "user_name in ('Alice', 'root') and event_outcome = 'success'",
        ),
        (&["--field", "source.ip=10.0.0.0/8"], "source_ip like '10.%'"),
        (&["--field", "event.sequence=1"], "event_sequence = 1"),
        (
            &["--since", "2021-10-26T23:00:00Z", "--until", "2023-07-10"],
            "timestamp >= '2021-10-26 23:00:00' and timestamp < '2023-07-10'",
        ),
        // From an event's own time on it is there, before it it is not.
        (
            &["--since", "2021-03-23T18:58:30Z", "--until", "2021-10-26T23:25:25Z"],
            "timestamp >= '2021-03-23 18:58:30' and timestamp < '2021-10-26 23:25:25'",
        ),
        (&["--since", "1000d"], "epoch(timestamp) >= epoch(now()) - 1000 * 86400"),
        (
            &["--field", "keytrail.encryption_context.app=pay"],
            "json_extract_string(keytrail_encryption_context, '$.app') = 'pay'",
        ),
        (&["--field", "keytrail.encryption_context.a.b c=d=e"], "event_id = 'c0'"),
    ] {
        let sql = format!(
            "select keytrail_uid as uid from {{archive}} where {sql} order by epoch_ms(timestamp) desc nulls last, uid"
        );
        let expected: Vec<String> = indexed.trail.query(&sql).iter().map(|row| text(&row["uid"])).collect();
        assert!(!expected.is_empty(), "{sql}");
        assert_eq!(uids(&indexed.found(&[args, &["--all"]].concat())), expected, "{args:?}");
        if args.is_empty() {
            assert_eq!(uids(&indexed.found(args)), expected[..50]);
        }
    }
    // A table says the same.
    let columns = [
        "--columns",
        "@timestamp,user.name,keytrail.encryption_context",
        "--limit",
        "2",
        "--since",
        "2024-02-03",
        "--until",
        "2024-02-04",
    ];
    let ran = indexed.search(&columns).success();
    let rows: Vec<Vec<&str>> = ran
        .stdout
        .lines()
        .map(|line| line.split("  ").filter(|c| !c.is_empty()).map(str::trim).collect())
        .collect();
    assert_eq!(rows[0], ["@timestamp", "user.name", "keytrail.encryption_context"]);
    assert!(
        rows[1..].contains(&vec!["2024-02-03T10:00:00Z", "Bob", r#"{"a.b c":"d=e","app":"pay"}"#]),
        "{rows:?}"
    );
    assert!(ran.stderr.starts_with("2 events, "), "{}", ran.stderr);
    let ran = indexed.search(&["--limit", "1", "Decrypt"]).success();
    assert!(ran.stderr.starts_with("1 of ") && ran.stdout.lines().count() == 2, "{ran:?}");
    // Documents are those of the index, or what is asked of them.
    let one = indexed.found(&["--limit", "1", "--field", "event.id=c0"]).remove(0);
    assert_eq!((&one["event"]["action"], &one["user"]["name"]), (&json!("Decrypt"), &json!("Bob")));
    let some = indexed.found(&["--columns", "user.name,event.id", "--field", "event.id=c0"]);
    assert_eq!(some, [json!({"user": {"name": "Bob"}, "event": {"id": "c0"}})]);
    // What has no time comes last, and is in no time.
    let last = indexed.found(&["--all", "--columns", "event.id"]).split_off(rows_of(&indexed) - 2);
    assert_eq!(last, [json!({"event": {"id": "b"}}), json!({"event": {"id": "a"}})]);
    assert_eq!(
        indexed.found(&["--all", "--until", "2005-01-01", "--columns", "event.id"]),
        [json!({"event": {"id": "b"}})]
    );
}

fn rows_of(indexed: &Indexed<'_>) -> usize {
    indexed.trail.events().len()
}

#[test]
fn elasticsearch_finds_what_sql_finds() {
    finds_what_sql_finds(&SearchServer::elasticsearch());
}

#[test]
fn opensearch_finds_what_sql_finds() {
    finds_what_sql_finds(&SearchServer::opensearch());
}

/// A search whose reader takes a line and no more, for now.
fn begun(indexed: &Indexed<'_>) -> (Child, impl BufRead + use<>, String) {
    let args = ["search", "--config", &indexed.config, "--all", "--json"];
    let mut child =
        indexed.trail.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::with_capacity(16, child.stdout.take().expect("piped"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("a line");
    (child, lines, first)
}

fn ended(child: Child) -> Ran {
    child.wait_with_output().expect("it ends").into()
}

/// Points in time that a server keeps open.
fn open_points(server: &SearchServer) -> u64 {
    let stats = server.get("_nodes/stats/indices/search").body;
    stats["nodes"]
        .as_object()
        .expect("nodes")
        .values()
        .map(|n| number(&n["indices"]["search"]["open_contexts"]))
        .sum()
}

fn pages_are_of_one_point_in_time(server: &SearchServer) {
    let indexed = Indexed::on(server);
    let first = indexed.trail.load(1, 0, 40, 2_500);
    load(&indexed, &[first.to_str().expect("UTF-8")]);
    let before = uids(&indexed.found(&["--all"]));
    assert_eq!(before.len(), 2_500);
    assert_eq!(before, uids(&indexed.found(&["--all"])));
    // Newer and older events come while somebody reads on slowly.
    let (child, mut lines, mut read) = begun(&indexed);
    let more = indexed.trail.load(2, 20, 40, 500);
    load(&indexed, &[more.to_str().expect("UTF-8")]);
    lines.read_to_string(&mut read).expect("the rest");
    assert_eq!(ended(child).code, Some(0));
    let documents: Vec<Value> = read.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(uids(&documents), before);
    assert_eq!(indexed.found(&["--all"]).len(), 3_000);
    assert_eq!(indexed.found(&["--limit", "1234"]).len(), 1_234);
    // Whoever reads no more is no error, and whoever asks to stop is told that this is not all.
    let (child, lines, _) = begun(&indexed);
    drop(lines);
    let ran = ended(child).success();
    assert_eq!(ran.stderr, "");
    let (child, mut lines, mut read) = begun(&indexed);
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill starts");
    assert!(sent.success());
    lines.read_to_string(&mut read).expect("the rest");
    let ran = ended(child).exits(75);
    assert!(ran.stderr.contains("stopped: these are not all events"), "{}", ran.stderr);
    assert!(read.lines().count() < 3_000);
    // The server was told that nobody asks for more.
    until("no point in time is open", || open_points(server) == 0);
}

#[test]
fn pages_of_elasticsearch_are_of_one_point_in_time() {
    pages_are_of_one_point_in_time(&SearchServer::elasticsearch());
}

#[test]
fn pages_of_opensearch_are_of_one_point_in_time() {
    pages_are_of_one_point_in_time(&SearchServer::opensearch());
}

#[test]
fn a_value_may_hold_anything() {
    let server = SearchServer::elasticsearch();
    let indexed = Indexed::on(&server);
    let hostile = [
        "*",
        "\"}}]}}, \"size\": 9",
        "a OR b",
        "user.name:Alice",
        "\u{1b}[31mred\u{7}",
        "\u{202e}nimda\n\tx",
        "--all",
        "=1+1",
        "\\\"",
        "{\"$ne\":1}",
        "ü語🔑",
        " ",
        "a=b=c",
        "/.*/",
    ];
    let lines: String = hostile
        .iter()
        .zip(0..)
        .map(|(user, n)| event(&format!("e{n}"), "2024-02-03T10:00:00Z", user, &json!({})))
        .collect();
    let input = indexed.trail.input("in.json", lines);
    load(&indexed, &[input.to_str().expect("UTF-8")]);
    assert_eq!(rows_of(&indexed), hostile.len());
    for (user, n) in hostile.iter().zip(0..) {
        let field = format!("user.name={user}");
        let found = indexed.found(&["--field", &field]);
        assert_eq!(found.len(), 1, "{user:?}");
        assert_eq!(
            (&found[0]["event"]["id"], &found[0]["user"]["name"]),
            (&json!(format!("e{n}")), &json!(user))
        );
    }
    // Neither form has a character that a terminal would obey.
    for args in [&["--all"][..], &["--all", "--json"]] {
        let out = indexed.search(args).success().stdout;
        assert!(!out.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{out:?}");
        assert!(out.contains("red") && out.contains("nimda"), "{out}");
    }
}

fn mistakes_are_told(server: &SearchServer) {
    let indexed = Indexed::on(server);
    let input = indexed.trail.input("in.json", event("a", "2024-02-03T10:00:00Z", "Alice", &json!({})));
    load(&indexed, &[input.to_str().expect("UTF-8")]);
    for (args, expected) in [
        (&["Alice AND ("][..], "`Alice AND (`: unexpected end at character 12"),
        (&["user.name:\"Alice"], "`user.name:\"Alice`: unexpected end at character 17"),
        (&["user.name:a:b"], "`user.name:a:b`: unexpected `:` at character 12"),
        (
            &["urn:x"],
            "no field is named `urn`: schemas/archive.md lists them. A colon in a value stands in quotes",
        ),
        (&["*lice"], "'*' or '?' not allowed as first character"),
        (&["source.ip:nobody"], "`source.ip:nobody`: 'nobody' is not an IP string literal"),
        (&["user.nam:Alice"], "no field is named `user.nam`; did you mean `user.name`?"),
        (
            &["--field", "event.acton=Decrypt"],
            "no field is named `event.acton`; did you mean `event.action`?",
        ),
        (&["--field", "Decrypt"], "expected NAME=VALUE, found `Decrypt`"),
        (&["--field", "event.sequence=many"], "`event.sequence`: expected a whole number, found `many`"),
        (&["--columns", "event.action,usr.name"], "no field is named `usr.name`; did you mean `user.name`?"),
        (&["--since", "someday"], "`someday` is no time"),
        (&["--since", "2024-01-02", "--until", "2024-01-01"], "expected a time after --since"),
        (&["--limit", "0"], "0 is not in 1.."),
        (&["--limit", "5", "--all"], "cannot be used with"),
    ] {
        let ran = indexed.search(args).exits(64);
        assert!(ran.stderr.contains(expected) && ran.stdout.is_empty(), "{args:?}: {}", ran.stderr);
    }
    // Nothing is found, which is no mistake.
    let ran = indexed.search(&["Encrypt"]).success();
    assert_eq!((ran.stdout.as_str(), ran.stderr.starts_with("0 events, ")), ("", true), "{}", ran.stderr);
}

#[test]
fn mistakes_are_told_as_elasticsearch_sees_them() {
    mistakes_are_told(&SearchServer::elasticsearch());
}

#[test]
fn mistakes_are_told_as_opensearch_sees_them() {
    mistakes_are_told(&SearchServer::opensearch());
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let trail = Trail::new();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it").port();
    let url = format!("http://127.0.0.1:{port}");
    let ran = trail.keytrail(["search", "--elasticsearch", &url]).exits(75);
    assert!(ran.stderr.contains("refused"), "{}", ran.stderr);
    let ran = trail.keytrail(["search"]).exits(64);
    assert!(ran.stderr.contains("give --elasticsearch URL"), "{}", ran.stderr);
}

fn namespaces_are_apart(server: &SearchServer) {
    let (one, other, empty) = (Indexed::on(server), Indexed::on(server), Indexed::on(server));
    // One of its events is refused, because somebody made the index with another type.
    let name = format!("keytrail-aws.cloudtrail-{}-2024.02", one.namespace);
    let mapping = json!({"mappings": {"properties": {"event": {"properties": {"id": {"type": "long"}}}}}});
    assert_eq!(server.put(&name, &mapping).status, 200);
    for (indexed, ids) in [(&one, &["17", "no number"][..]), (&other, &["18"])] {
        let lines: String =
            ids.iter().map(|id| event(id, "2024-02-03T10:00:00Z", "Alice", &json!({}))).collect();
        let input = indexed.trail.input("in.json", lines);
        load(indexed, &[input.to_str().expect("UTF-8")]);
    }
    assert_eq!(server.count(&format!("keytrail-deadletter-{}-*", one.namespace)), 1);
    for (indexed, id) in [(&one, "17"), (&other, "18")] {
        let found = indexed.found(&["--all", "--columns", "event.id"]);
        assert_eq!(found, [json!({"event": {"id": id}})]);
    }
    let ran = empty.search(&["Decrypt"]).success();
    let expected =
        format!("has no events of the namespace `{}` that this client may read\n0 events, ", empty.namespace);
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
}

#[test]
fn namespaces_of_elasticsearch_are_apart() {
    namespaces_are_apart(&SearchServer::elasticsearch());
}

#[test]
fn namespaces_of_opensearch_are_apart() {
    namespaces_are_apart(&SearchServer::opensearch());
}

/// Whoever may read the events' indices and nothing else can search.
#[test]
fn reading_is_all_that_a_search_needs() {
    let server = SearchServer::secured();
    let key = |role: Value| {
        let key = server.api_key(&json!({"name": namespace(), "role_descriptors": {"keytrail": role}}));
        let owner: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        (key, owner)
    };
    let reader = key(json!({"index": [{"names": ["keytrail-*"], "privileges": ["read"]}]}));
    let nobody = key(json!({"index": [{"names": ["other-*"], "privileges": ["read"]}]}));
    let indexed = Indexed::on(&server);
    let name = format!("keytrail-aws.cloudtrail-{}-2024.02", indexed.namespace);
    let document = json!({"@timestamp": "2024-02-03T10:00:00Z", "event": {"id": "a"}});
    assert_eq!(server.bulk(&[json!({"create": {"_index": name, "_id": "a"}}), document]).items(), [201]);
    assert_eq!(server.count(&name), 1);
    let search = |(key, owner): (String, std::fs::Permissions)| {
        let file = indexed.trail.input("search.key", key);
        std::fs::set_permissions(&file, owner).expect("its mode");
        let more = format!("credentials = \"{}\"\nca_file = \"{}\"\n", file.display(), server.ca().display());
        let toml = std::fs::read_to_string(&indexed.config).expect("a configuration") + &more;
        let config = indexed.trail.input("secured.toml", toml);
        indexed.trail.keytrail([
            "search",
            "--json",
            "--columns",
            "event.id",
            "--config",
            config.to_str().expect("UTF-8"),
        ])
    };
    assert_eq!(search(reader).success().json_lines(), [json!({"event": {"id": "a"}})]);
    // To others it is as if there were none.
    let none = search(nobody).success();
    assert!(none.stdout.is_empty() && none.stderr.contains("that this client may read"), "{}", none.stderr);
    let unknown =
        search(("bm9ib2R5OmF0IGFsbA==".into(), std::os::unix::fs::PermissionsExt::from_mode(0o600)))
            .exits(70);
    assert!(unknown.stderr.contains("does not let keytrail read"), "{}", unknown.stderr);
    assert_eq!(server.delete(&name).status, 200);
}
