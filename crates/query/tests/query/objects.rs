//! Which objects statements read, and what they say of those that are not as they were sealed.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::parquet::arrow::ArrowWriter;
use keytrail_model::{Column, Hash};
use keytrail_query::Object;

use crate::trail::{Event, Trail, decrypt, options};

/// Nine days of CloudTrail, one of them of Vault too, and events without a place in time.
fn days() -> Trail {
    let mut trail = Trail::default();
    for day in 1..=9 {
        trail = trail.with_day(&format!("2024-01-0{day}"), 3);
    }
    let vault = Event {
        dataset: "vault.audit",
        time: Some("2024-01-05T01:00:00Z"),
        columns: &[(Column::KeytrailKeyId, "k1"), (Column::KeytrailKeyStore, "transit/")],
    };
    trail.with(&[vault]).with(&[decrypt(None), decrypt(Some("1999-01-01T00:00:00Z"))])
}

/// The days that a condition reads; every other day's object is gone.
#[track_caller]
fn reads(condition: &str, days_read: &[&str], rows: usize) {
    let mut trail = days();
    let keys: Vec<&Object> = trail
        .objects
        .iter()
        .filter(|o| {
            days_read.contains(&format!("{} {}", o.dataset, o.day).as_str())
                || days_read.contains(&o.day.as_str())
        })
        .collect();
    let kept: Vec<String> = keys.iter().map(|o| o.key.clone()).collect();
    let bytes: u64 = keys.iter().map(|o| o.bytes).sum();
    trail.files.retain(|key, _| kept.contains(key));
    let (out, ran) = trail.run(&format!("SELECT event_action, day FROM events WHERE {condition}"));
    assert_eq!(out.lines().count(), rows, "{condition}\n{out}");
    assert_eq!(ran.read.objects, kept.len() as u64, "{condition}");
    assert!(ran.read.bytes <= bytes && ran.read.all_objects == 11, "{condition}: {:?}", ran.read);
    assert!(kept.is_empty() || ran.read.bytes > 0);
}

#[test]
fn conditions_on_partitions_read_no_other_object() {
    reads("day = '2024-01-03'", &["2024-01-03"], 3);
    reads("day IN ('2024-01-03', '2024-01-04')", &["2024-01-03", "2024-01-04"], 6);
    reads("day BETWEEN '2024-01-08' AND '2024-12-31'", &["2024-01-08", "2024-01-09"], 6);
    reads("day LIKE '2024-01-0_' AND dataset = 'vault.audit'", &["vault.audit 2024-01-05"], 1);
    reads("dataset <> 'aws.cloudtrail'", &["vault.audit 2024-01-05"], 1);
    reads("day = 'undated'", &["undated"], 2);
    reads("day > '2024-01-09'", &["undated"], 2);
    reads("try_cast(day AS date) = DATE '2024-01-02'", &["2024-01-02"], 3);
    reads("dataset = 'aws.cloudtrial'", &[], 0);
    reads("substr(day, 1, 4) = '2023'", &[], 0);
}

#[test]
fn conditions_on_the_time_alone_read_no_other_object() {
    let third = &["2024-01-03"];
    reads("timestamp >= '2024-01-03' AND timestamp < '2024-01-04'", third, 3);
    reads(
        "timestamp >= TIMESTAMP '2024-01-03 00:00:00' AND timestamp < TIMESTAMP '2024-01-04 00:00:00'",
        third,
        3,
    );
    reads("timestamp BETWEEN '2024-01-03T12:01:00Z' AND '2024-01-03T23:59:59Z'", third, 2);
    reads("timestamp::date = '2024-01-03'", third, 3);
    reads("CAST(timestamp AS date) IN (DATE '2024-01-03')", third, 3);
    reads("date_trunc('day', timestamp) = '2024-01-03'", third, 3);
    reads("date_trunc('hour', timestamp) = TIMESTAMP '2024-01-03 12:00:00'", third, 3);
    reads("timestamp + INTERVAL '1 day' >= '2024-01-04' AND timestamp < '2024-01-04'", third, 3);
    reads(
        "timestamp = '2024-01-03T12:02:00Z' OR timestamp::date = '2024-01-02'",
        &["2024-01-02", "2024-01-03"],
        4,
    );
    reads("extract(year FROM timestamp) = 2023", &[], 0);
    reads("timestamp > now() - INTERVAL '1 second'", &[], 0);
    reads("timestamp < '2000-01-01'", &["undated"], 1);
    reads("timestamp IS NULL", &["undated"], 1);
    reads("timestamp >= '2024-01-09' AND user_name = 'alice'", &["2024-01-09"], 3);
}

/// The manifests are sealed: they know how many rows there are.
#[test]
fn counts_need_no_object() {
    let mut trail = days();
    trail.files.clear();
    for (sql, answer) in [
        ("SELECT count(*) AS n FROM events", "{\"n\":30}\n"),
        ("SELECT count(*) AS n FROM events WHERE day = '2024-01-02'", "{\"n\":3}\n"),
        ("SELECT count(*) AS n FROM events WHERE timestamp >= '2030-01-01'", "{\"n\":0}\n"),
    ] {
        let (out, ran) = trail.run(sql);
        assert_eq!((out.as_str(), ran.read.objects, ran.read.bytes), (answer, 0, 0), "{sql}");
    }
}

/// The newest rows are in the newest object; the first rows that come, in the first.
#[test]
fn limits_stop_early() {
    let (out, ran) = days().run("SELECT timestamp FROM events LIMIT 2");
    assert_eq!((out.lines().count(), ran.read.objects), (2, 1));
    let mut options = options();
    options.threads = 1;
    let newest = "SELECT timestamp FROM events WHERE day <= '2024-12-31' ORDER BY timestamp DESC LIMIT 1";
    let (out, ran) = days().try_run(newest, &options);
    assert_eq!(out, "{\"timestamp\":\"2024-01-09T12:02:00Z\"}\n");
    assert!(ran.as_ref().is_ok_and(|ran| ran.read.objects < 11), "{ran:?}");
}

#[test]
fn an_empty_archive_has_columns_and_no_rows() {
    let empty = Trail::default();
    assert_eq!(empty.rows("SELECT count(*) AS n, max(timestamp) AS t FROM events"), "{\"n\":0,\"t\":null}\n");
    let mut options = options();
    options.format = keytrail_query::Format::Csv;
    let (out, ran) = empty.try_run("SELECT time, actor, key FROM key_operations", &options);
    assert_eq!((out.as_str(), ran.map(|r| r.rows)), ("time,actor,key\r\n", Ok(Some(0))));
}

#[test]
fn what_is_missing_or_damaged_is_named() {
    let whole = days();
    let key = whole.objects[2].key.clone();
    let sql = "SELECT user_name, keytrail_uid FROM events WHERE day <= '2024-12-31'";

    let mut missing = whole.clone();
    missing.files.remove(&key);
    let said = missing.error(sql);
    assert_eq!(
        said,
        format!("Fatal.ObjectMissing `{key}` is named by the log and is not there: see `keytrail verify`")
    );

    let conflict =
        format!("Fatal.ObjectConflict `{key}` is not the object that was sealed: see `keytrail verify`");
    let length = whole.files[&key].len();
    for damage in [
        &(|file: &mut Vec<u8>| file.truncate(file.len() / 2)) as &dyn Fn(&mut Vec<u8>),
        // The magic number, the footer's length, the footer, the pages.
        &|file| file[length - 1] ^= 1,
        &|file| file[length - 7] ^= 0xff,
        &|file| file[length - 60..length - 20].fill(0xff),
        &|file| file[4..length - 4000].fill(0xff),
    ] {
        let mut damaged = whole.clone();
        damage(damaged.files.get_mut(&key).expect("a file"));
        assert_eq!(damaged.error(sql), conflict);
        // Nothing is said where it is not read.
        assert_eq!(
            damaged.rows("SELECT count(user_name) AS n FROM events WHERE day = '2024-01-01'"),
            "{\"n\":3}\n"
        );
    }
}

/// Columns are only added: an older object has no value in newer ones.
#[test]
fn objects_of_older_versions_have_nulls() {
    let uids: ArrayRef = Arc::new(StringArray::from(vec!["old-1", "old-2"]));
    let actions: ArrayRef = Arc::new(StringArray::from(vec!["Encrypt", "Decrypt"]));
    let ports: ArrayRef = Arc::new(Int64Array::from(vec![Some(443), None]));
    let at = 1_704_067_200_000_000;
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![at, at + 1]).with_timezone("UTC"));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("event_action", actions, true),
        ("keytrail_uid", uids, true),
        ("source_port", ports, true),
        ("timestamp", times, true),
    ])
    .unwrap();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let object = Object {
        key: "archive/old.parquet".into(),
        bytes: file.len() as u64,
        sha256: Hash::of(&file),
        rows: 2,
        dataset: "aws.cloudtrail".into(),
        day: "2024-01-01".into(),
        time_min: Some(at),
        time_max: Some(at + 1),
    };
    let trail = days().with_file(object, file);
    assert_eq!(
        trail.rows("SELECT event_action, keytrail_actor_policies, source_port FROM events WHERE keytrail_uid LIKE 'old%' ORDER BY keytrail_uid"),
        "{\"event_action\":\"Encrypt\",\"keytrail_actor_policies\":null,\"source_port\":443}\n\
         {\"event_action\":\"Decrypt\",\"keytrail_actor_policies\":null,\"source_port\":null}\n"
    );
    assert_eq!(
        trail.rows(
            "SELECT user_name, count(*) AS n FROM events WHERE day = '2024-01-01' GROUP BY 1 ORDER BY n"
        ),
        "{\"user_name\":null,\"n\":2}\n{\"user_name\":\"alice\",\"n\":3}\n"
    );
}
