//! What statements may say, what is said of wrong ones, and where they end.

use std::time::{Duration, Instant};

use keytrail_model::Column;
use keytrail_query::Format;

use crate::trail::{Event, Trail, decrypt, options};

fn trail() -> Trail {
    Trail::default().with_day("2024-01-01", 3).with_day("2024-01-02", 5)
}

#[test]
fn tables_and_columns_are_listed() {
    let tables = trail().rows("SHOW TABLES");
    let names: Vec<&str> = tables.lines().filter_map(|l| l.split('"').nth(3)).collect();
    assert_eq!(names, ["events", "key_operations", "principals", "keys"]);
    let columns = trail().rows("DESCRIBE events");
    assert_eq!(
        columns.lines().count(),
        Column::ALL.len() + 1,
        "without event_original, with dataset and day"
    );
    for line in [
        r#"{"column":"event_action","type":"text","meaning":"what was done, as the producer names it"}"#,
        r#"{"column":"event_category","type":"list of texts","meaning":"ECS categories"}"#,
        r#"{"column":"timestamp","type":"time","#,
        r#"{"column":"day","type":"text","#,
    ] {
        assert!(columns.contains(line), "{line}\n{columns}");
    }
    assert!(
        trail().rows("DESCRIBE keys").contains(r#"{"column":"failures","type":"integer","meaning":null}"#)
    );
    assert_eq!(
        trail().rows("DESCRIBE SELECT 1 + 1, now() AS t"),
        "{\"column\":\"1 + 1\",\"type\":\"integer\"}\n{\"column\":\"t\",\"type\":\"time\"}\n"
    );
}

#[test]
fn plans_name_objects_and_read_none() {
    let mut trail = trail();
    trail.files.clear();
    let mut explained = options();
    explained.explain = true;
    let sql = "SELECT user_name FROM events WHERE timestamp < '2024-01-02'";
    for (sql, options) in [(sql.to_owned(), explained), (format!("EXPLAIN {sql}"), options())] {
        let (out, ran) = trail.try_run(&sql, &options);
        let all: u64 = trail.objects.iter().map(|o| o.bytes).sum();
        let head = format!(
            "objects  1 of 2, {} of {all} bytes, 3 of 8 rows\n  {}\n",
            trail.objects[0].bytes, trail.objects[0].key
        );
        assert!(out.starts_with(&head) && out.contains("TableScan: events"), "{out}");
        assert_eq!(ran.map(|ran| (ran.rows, ran.read.objects)), Ok((None, 0)));
    }
}

#[test]
fn original_bytes_are_there_on_request() {
    let trail = trail();
    let sql = "SELECT event_original FROM events WHERE day = '2024-01-01' ORDER BY timestamp LIMIT 1";
    let said = "Usage.Query line 1, column 8: `event_original` holds the bytes as they came, which may be secret: it is a column with `--raw`";
    assert_eq!(trail.error(sql), said);
    assert!(!trail.rows("SELECT * FROM events").contains("hunter"));
    let mut raw = options();
    raw.raw = true;
    let hex: String = br#"{"secret":"hunter0"}"#.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(trail.try_run(sql, &raw).0, format!("{{\"event_original\":\"{hex}\"}}\n"));
}

#[test]
fn wrong_names_are_told_what_was_meant() {
    let trail = trail();
    for (sql, said) in [
        (
            "SELECT evnt_action FROM events",
            "line 1, column 8: no column is named `evnt_action`; did you mean `event_action`?",
        ),
        (
            "SELECT event.action FROM events",
            "line 1, column 14: no column is named `event.action`; did you mean `event_action`?",
        ),
        (
            "SELECT \"event.action\" FROM events",
            "line 1, column 8: no column is named `event.action`; did you mean `event_action`?",
        ),
        (
            "SELECT \"@timestamp\" FROM events",
            "line 1, column 8: no column is named `@timestamp`; did you mean `timestamp`?",
        ),
        (
            "SELECT \"Event_Action\" FROM events",
            "line 1, column 8: no column is named `Event_Action`; did you mean `event_action`?",
        ),
        (
            "SELECT 1 FROM events\nWHERE keytrail.key.id = 'x'",
            "line 2, column 20: no column is named `keytrail.key.id`; did you mean `keytrail_key_id`?",
        ),
        (
            "SELECT e.actoin FROM key_operations e",
            "line 1, column 10: no column is named `e.actoin`; did you mean `action`?",
        ),
        ("SELECT ip FROM events", "line 1, column 8: no column is named `ip`; did you mean `source_ip`?"),
        (
            "SELECT failures FROM events",
            "line 1, column 8: no column is named `failures` here; `principals`, `keys` has it",
        ),
        (
            "SELECT zzz FROM events",
            "line 1, column 8: no column is named `zzz`: `DESCRIBE events` lists them",
        ),
        ("SELECT 1 FROM event", "line 1, column 15: no table is named `event`; did you mean `events`?"),
        (
            "DESCRIBE key_operation",
            "line 1, column 10: no table is named `key_operation`; did you mean `key_operations`?",
        ),
        (
            "SELECT * FROM '/etc/passwd.csv'",
            "no table is named `/etc/passwd.csv`: statements read the sealed archive alone, as `events`, `key_operations`, `principals`, `keys`",
        ),
        (
            "SELECT * FROM read_parquet('x')",
            "line 1, column 15: no table comes of a function `read_parquet`: statements read the sealed archive alone, as `events`, `key_operations`, `principals` and `keys`",
        ),
        (
            "SELECT cuont(*) FROM events",
            "line 1, column 8: no function is named `cuont`; did you mean `count`?",
        ),
        (
            "SELECT dataset FROM events a JOIN events b ON a.day = b.day",
            "line 1, column 8: more than one table has a column `dataset`: say which, as in `t.dataset`",
        ),
    ] {
        assert_eq!(trail.error(sql), format!("Usage.Query {said}"), "{sql}");
    }
}

/// Whatever is wrong, it is said without names of Rust types and the engine's parts.
#[test]
fn errors_are_sentences() {
    let trail = trail();
    for sql in [
        "SELECT sum(user_name) FROM events",
        "SELECT user_name + 1 FROM events",
        "SELECT * FROM events WHERE timestamp > 5",
        "SELECT * FROM events WHERE timestamp > 'yesterday'",
        "SELECT CAST(user_name AS integer) FROM events",
        "SELECT lower(1, 2) FROM events",
        "SELECT 1 / (source_port - source_port) FROM events WHERE false OR 1 / 0 = 1",
        "SELECT user_name, count(*) FROM events",
        "SELECT (SELECT day FROM events) AS x",
        "SELECT 1 UNION SELECT 1, 2",
        "SELECT * FROM events WHERE count(*) > 1",
        "SELECT * INTO t FROM events",
        "SELECT 1 ORDER BY 5",
        "SELECT $1",
        "SELECT * FROM events a JOIN events b USING (nothing)",
    ] {
        let said = trail.error(sql);
        let text = said.strip_prefix("Usage.Query ").unwrap_or_else(|| panic!("{sql}: {said}"));
        for internal in [
            "Utf8",
            "Int64",
            "Timestamp(",
            "DataFusion",
            "Schema",
            "Plan",
            "Some(",
            "Error",
            "error:",
            "Expr",
            "::",
            "\n",
        ] {
            assert!(!text.contains(internal), "{sql}: {text}");
        }
        let first = text.chars().next().expect("a text");
        assert!(
            !first.is_uppercase() || text.starts_with("SELECT") || text.starts_with("UNION"),
            "{sql}: {text}"
        );
        println!("{sql}\n  {text}");
    }
}

#[test]
fn memory_and_time_have_limits_that_say_so() {
    let trail = trail();
    let mut small = options();
    small.memory_bytes = 2 << 20;
    let sort = "SELECT a.value, b.value AS v FROM generate_series(1, 2000) a, generate_series(1, 500) b ORDER BY a.value % 7, v";
    let (_, ran) = trail.try_run(sort, &small);
    let e = ran.expect_err("too much");
    assert_eq!(e.code, "Retryable.QueryMemory");
    assert_eq!(
        e.message,
        "the statement needs more than the 2MiB of memory that it may take: ask for less, or give it more with `--memory`"
    );
    let mut quick = options();
    quick.time = Duration::from_millis(200);
    let began = Instant::now();
    let endless = "SELECT count(*) FROM generate_series(1, 1000000000) a, generate_series(1, 1000000000) b WHERE a.value % 7 = b.value % 11";
    let e = trail.try_run(endless, &quick).1.expect_err("too long");
    assert_eq!(e.code, "Retryable.QueryTime");
    assert!(
        e.message.contains("longer than the 200ms that it may take") && e.message.contains("`--timeout`"),
        "{}",
        e.message
    );
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// A reader that goes away ends a statement, however many rows there would be.
#[test]
fn nobody_reads_on() {
    let mut parts = 0;
    let sql = "SELECT value FROM generate_series(1, 100000000000)";
    let ran = keytrail_query::run(trail().archive(), sql, &options(), &mut |_| {
        parts += 1;
        parts < 3
    });
    assert!(ran.is_ok_and(|ran| ran.rows.is_some_and(|rows| rows < 100_000)));
}

/// Long is deep: of as many levels as there are operators.
#[test]
fn long_statements_end() {
    let mut quick = options();
    quick.time = Duration::from_secs(1);
    for (word, times) in
        [("1 + ", 3_900), ("source_port = 1 OR ", 1_900), ("- ", 3_900), ("1 UNION SELECT ", 1_900)]
    {
        let (_, ran) = trail().try_run(&format!("SELECT {}1 FROM events", word.repeat(times)), &quick);
        if let Err(e) = ran {
            assert!(
                ["Retryable.QueryTime", "Usage.Query"].contains(&e.code),
                "{} {:.100}",
                e.code,
                e.message
            );
        }
    }
    let list: Vec<String> = (0..9_000).map(|n| n.to_string()).collect();
    let sql = format!("SELECT count(*) AS n FROM events WHERE source_port IN ({})", list.join(","));
    assert_eq!(trail().rows(&sql), "{\"n\":0}\n");
}

#[test]
fn formats_say_the_same() {
    let hostile = Event {
        dataset: "aws.cloudtrail",
        time: Some("2024-01-01T00:00:00.000001Z"),
        columns: &[
            (Column::UserName, "=HYPERLINK(\"x\")\u{1b}[2J"),
            (Column::ErrorMessage, "a,b\r\nc"),
            (Column::KeytrailActorPolicies, "root"),
        ],
    };
    let trail = Trail::default().with(&[hostile, decrypt(Some("2024-01-01T10:00:00Z"))]);
    let sql = "SELECT timestamp, user_name, error_message, keytrail_actor_policies, 7 AS n FROM events ORDER BY timestamp";
    let write = |format: Format| {
        let mut options = options();
        options.format = format;
        trail.try_run(sql, &options).0
    };
    let line = |cells: [&str; 5]| {
        format!("{:<27}  {:<24}  {:<13}  {:<23}  {}\n", cells[0], cells[1], cells[2], cells[3], cells[4])
    };
    assert_eq!(
        write(Format::Table),
        line(["timestamp", "user_name", "error_message", "keytrail_actor_policies", "n"])
            + &line([
                "2024-01-01T00:00:00.000001Z",
                "=HYPERLINK(\"x\")\\u{1b}[2J",
                "a,b\\r\\nc",
                "[\"root\"]",
                "7"
            ])
            + &line(["2024-01-01T10:00:00Z", "alice", "", "", "7"])
    );
    assert_eq!(
        write(Format::Csv),
        "timestamp,user_name,error_message,keytrail_actor_policies,n\r\n\
         2024-01-01T00:00:00.000001Z,\"'=HYPERLINK(\"\"x\"\")\u{1b}[2J\",\"a,b\r\nc\",\"[\"\"root\"\"]\",7\r\n\
         2024-01-01T10:00:00Z,alice,,,7\r\n"
    );
    assert_eq!(
        write(Format::Json),
        "{\"timestamp\":\"2024-01-01T00:00:00.000001Z\",\"user_name\":\"=HYPERLINK(\\\"x\\\")\\u001b[2J\",\"error_message\":\"a,b\\r\\nc\",\"keytrail_actor_policies\":[\"root\"],\"n\":7}\n\
         {\"timestamp\":\"2024-01-01T10:00:00Z\",\"user_name\":\"alice\",\"error_message\":null,\"keytrail_actor_policies\":null,\"n\":7}\n"
    );
}

/// Columns without a name are called what was typed.
#[test]
fn expressions_are_heads() {
    assert_eq!(
        trail().rows(
            "SELECT count(*), keytrail_actor_policies[1] IS NULL, e.dataset FROM events e GROUP BY 2, 3"
        ),
        "{\"count(*)\":8,\"keytrail_actor_policies[1] IS NULL\":true,\"dataset\":\"aws.cloudtrail\"}\n"
    );
}

/// Nulls come last, whichever way one sorts: as in DuckDB.
#[test]
fn nulls_are_last() {
    for order in ["ASC", "DESC"] {
        let sql = format!("SELECT x FROM (VALUES (1), (NULL), (2)) t(x) ORDER BY x {order}");
        assert!(trail().rows(&sql).ends_with("{\"x\":null}\n"));
    }
}

/// What the engine alone would get wrong of what logs hold.
#[test]
fn answers_are_exact() {
    let trail = trail();
    let one = |sql: &str| trail.rows(sql);
    assert_eq!(
        one("SELECT sum(n) AS n FROM (VALUES (9223372036854775807), (9223372036854775807)) AS t(n)"),
        "{\"n\":18446744073709551614}\n"
    );
    assert_eq!(one("SELECT sum(n) AS n FROM (VALUES (1.5), (2.25)) AS t(n)"), "{\"n\":3.75}\n");
    assert_eq!(one("SELECT sum(n) AS n FROM (VALUES (1)) AS t(n) WHERE n > 1"), "{\"n\":null}\n");
    let running = "SELECT n, sum(n) OVER (ORDER BY n) AS s FROM (VALUES (1), (2)) AS t(n) ORDER BY n";
    assert_eq!(one(running), "{\"n\":1,\"s\":1}\n{\"n\":2,\"s\":3}\n");
    assert!(trail.error("SELECT sum(user_name) FROM events").contains("a `sum` is of numbers"));

    // Three events from noon on, a minute apart, and five on the next day.
    let pairs = |condition: &str| {
        let first = "a.timestamp = '2024-01-01T12:00:00Z'";
        one(&format!("SELECT count(*) AS n FROM events a, events b WHERE {first} AND {condition}"))
    };
    for (condition, n) in [
        ("b.timestamp - a.timestamp > INTERVAL '1 day'", 4),
        ("b.timestamp - a.timestamp >= INTERVAL '24 hours'", 5),
        ("INTERVAL '90 seconds' > b.timestamp - a.timestamp", 2),
        ("b.timestamp - a.timestamp BETWEEN INTERVAL '1 minute' AND INTERVAL '25 hours'", 7),
        ("b.timestamp - a.timestamp NOT BETWEEN INTERVAL '1 minute' AND INTERVAL '1 day'", 5),
    ] {
        assert_eq!(pairs(condition), format!("{{\"n\":{n}}}\n"), "{condition}");
    }
    let months = "SELECT count(*) FROM events WHERE event_ingested - timestamp > INTERVAL '1 month'";
    assert!(trail.error(months).contains("months differ in length"), "{}", trail.error(months));

    let odd = Trail::default()
        .with(&[decrypt(Some("0000-03-01T10:20:30Z"))])
        .with(&[decrypt(Some("9999-12-31T23:00:00Z"))]);
    assert_eq!(
        odd.rows("SELECT date_trunc('quarter', timestamp) AS q FROM events ORDER BY q"),
        "{\"q\":\"0000-01-01T00:00:00Z\"}\n{\"q\":\"9999-10-01T00:00:00Z\"}\n"
    );
}
