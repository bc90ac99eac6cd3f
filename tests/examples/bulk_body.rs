//! gz -> bulk bodies of ECS documents on one core: keytrail's way, and the way of a `serde_json::Value`.
//!
//! In: `keytrail` or `value`, and gzip files of one member with CloudTrail's `Records`. Out, on stdout: how
//! many documents, and the bytes of all bodies. Both inflate, hash, and write the same number of documents; the second
//! one fills fewer fields. `tests/bench bulk` runs it.
//!
//! In: `bodies`, a namespace, a folder, and archive objects. Out: the bodies that `keytrail index` sends of them, in the
//! folder, for `tests/bench index`.

use std::error::Error;
use std::fs;
use std::path::Path;

use keytrail_archive::{ObjectReader, Projection, Selection};
use keytrail_index::{Bulk, Event, Fields, IndexName, Limits, Namespace, Op, Period, Writer};
use keytrail_model::row::Provenance;
use keytrail_model::{Column, Day, RowBuffer, Timestamp, Uid};
use keytrail_normalize::{Context, Format, Masker, Standing};
use libdeflater::Decompressor;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What `Records` files begin with.
const HEAD: &str = "{\"Records\":[";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let way = args.next().ok_or("expected `keytrail`, `value` or `bodies`")?;
    if way == "bodies" {
        let (Some(namespace), Some(folder)) = (args.next(), args.next()) else {
            return Err("expected a namespace and a folder".into());
        };
        return archived(&namespace, Path::new(&folder), args);
    }
    let files = args.map(fs::read).collect::<Result<Vec<_>, _>>()?;
    let mut bodies = Bodies::default();
    match way.as_str() {
        "keytrail" => keytrail(&files, &mut bodies)?,
        "value" => value(&files, &mut bodies)?,
        other => return Err(format!("expected `keytrail`, `value` or `bodies`, found `{other}`").into()),
    }
    println!("{} {}", bodies.documents, bodies.bytes);
    Ok(())
}

/// Writes the bodies of archive objects.
fn archived(
    namespace: &str,
    folder: &Path,
    objects: impl Iterator<Item = String>,
) -> Result<(), Box<dyn Error>> {
    let namespace = Namespace::new(namespace).ok_or("no namespace")?;
    let (mut writer, mut bulk) = (Writer::new(Fields::default()), Bulk::new(Limits::default()));
    let (mut bodies, mut documents) = (0, 0);
    let mut flush = |bulk: &mut Bulk| -> std::io::Result<()> {
        fs::write(folder.join(format!("{bodies:06}.ndjson")), bulk.body())?;
        bodies += 1;
        documents += bulk.items().len();
        bulk.clear();
        Ok(())
    };
    let columns = Column::ALL.into_iter().filter(|column| *column != Column::EventOriginal).collect();
    let projection = Projection::Columns(columns);
    for object in objects {
        let part = |name: &str| object.split('/').find_map(|part| part.strip_prefix(name));
        let (dataset, day) = part("dataset=").zip(part("day=")).ok_or("no object of an archive")?;
        let day = Day::parse(day).ok_or("no day")?;
        let index = IndexName::of(dataset, &namespace, Period::Month, day);
        for batch in ObjectReader::in_memory(fs::read(&object)?)?.batches(&projection, Selection::All) {
            for row in batch?.rows() {
                let event = Event {
                    uid: row.uid,
                    hash: row.hash.unwrap_or_default(),
                    ingested: row.ingested,
                    group: row.group,
                    input: row.input,
                    columns: row.columns,
                    enrichment: row.enrichment,
                    original: None,
                };
                bulk.push(Op::Create, &index, &event, &mut writer);
                if bulk.is_full() {
                    flush(&mut bulk)?;
                }
            }
        }
    }
    if !bulk.is_empty() {
        flush(&mut bulk)?;
    }
    println!("{documents} {bodies}");
    Ok(())
}

/// What was made.
#[derive(Default)]
struct Bodies {
    documents: usize,
    bytes: usize,
}

fn keytrail(files: &[Vec<u8>], bodies: &mut Bodies) -> Result<(), Box<dyn Error>> {
    let masker = Masker::new(&[7; 32]);
    let context = Context { now: Timestamp(i64::MAX), masker: &masker, declared: None };
    let (mut rows, mut writer) = (RowBuffer::new(), Writer::new(Fields::default()));
    let mut bulk = Bulk::new(Limits::default());
    let namespace = Namespace::default();
    let mut index = None;
    for file in files {
        let bytes = inflate(file)?;
        let mut rest = std::str::from_utf8(&bytes)?.strip_prefix(HEAD).ok_or("no `Records`")?;
        loop {
            let record = Standing::read(Format::CloudTrail, rest).ok_or("a record that is not in order")?;
            let len = record.bytes().len();
            record
                .normalize(Provenance { input: 0, offset: 0 }, &context, &mut rows)
                .map_err(|e| e.reason)?;
            if rows.len() == 1_000 {
                documents(&mut rows, &mut bulk, &mut writer, &namespace, &mut index, bodies);
            }
            rest = &rest[len..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
        }
    }
    documents(&mut rows, &mut bulk, &mut writer, &namespace, &mut index, bodies);
    bodies.add(&mut bulk);
    Ok(())
}

fn documents(
    rows: &mut RowBuffer,
    bulk: &mut Bulk,
    writer: &mut Writer,
    namespace: &Namespace,
    index: &mut Option<(Day, IndexName)>,
    bodies: &mut Bodies,
) {
    for row in rows.rows() {
        let day = row.head.day;
        if index.as_ref().is_none_or(|(of, _)| *of != day) {
            *index = Some((day, IndexName::of(row.head.dataset, namespace, Period::Month, day)));
        }
        let Some((_, name)) = index else { continue };
        let event = Event {
            uid: row.head.uid,
            hash: row.head.hash,
            ingested: Some(Timestamp(0)),
            group: Some(row.head.group),
            input: Some("in.json.gz@0"),
            columns: row.columns,
            enrichment: &[],
            original: None,
        };
        bulk.push(Op::Create, name, &event, writer);
        if bulk.is_full() {
            bodies.add(bulk);
        }
    }
    rows.clear();
}

impl Bodies {
    fn add(&mut self, bulk: &mut Bulk) {
        self.documents += bulk.items().len();
        self.bytes += std::hint::black_box(bulk.body()).len();
        bulk.clear();
    }
}

fn value(files: &[Vec<u8>], bodies: &mut Bodies) -> Result<(), Box<dyn Error>> {
    let mut body = Vec::new();
    for file in files {
        let mut root: Value = serde_json::from_slice(&inflate(file)?)?;
        let records = root["Records"].as_array_mut().map(std::mem::take).ok_or("no `Records`")?;
        for record in records {
            let original = serde_json::to_vec(&record)?;
            let hash: [u8; 32] = Sha256::digest(&original).into();
            let id = Uid(*hash.first_chunk().ok_or("a hash")?);
            serde_json::to_writer(
                &mut body,
                &json!({"create": {"_index": "keytrail-aws.cloudtrail-default-2026.01", "_id": id.to_string()}}),
            )?;
            body.push(b'\n');
            serde_json::to_writer(&mut body, &document(&record, &hash))?;
            body.push(b'\n');
            bodies.documents += 1;
            if body.len() > 5 << 20 {
                bodies.bytes += std::hint::black_box(&body).len();
                body.clear();
            }
        }
    }
    bodies.bytes += body.len();
    Ok(())
}

/// Some fields of ECS, as one would write it down.
fn document(record: &Value, hash: &[u8; 32]) -> Value {
    let identity = &record["userIdentity"];
    let failed = !record["errorCode"].is_null();
    json!({
        "@timestamp": record["eventTime"],
        "event": {
            "id": record["eventID"], "action": record["eventName"], "provider": record["eventSource"],
            "code": record["eventType"], "dataset": "aws.cloudtrail", "module": "aws", "kind": "event",
            "outcome": if failed { "failure" } else { "success" },
            "hash": hash.iter().map(|b| format!("{b:02x}")).collect::<String>(),
        },
        "cloud": {
            "provider": "aws", "region": record["awsRegion"],
            "account": {"id": record["recipientAccountId"]},
        },
        "user": {"id": identity["principalId"], "name": identity["userName"]},
        "source": {"address": record["sourceIPAddress"], "ip": record["sourceIPAddress"]},
        "user_agent": {"original": record["userAgent"]},
        "error": {"code": record["errorCode"], "message": record["errorMessage"]},
        "tls": {
            "version": record["tlsDetails"]["tlsVersion"], "cipher": record["tlsDetails"]["cipherSuite"],
            "client": {"server_name": record["tlsDetails"]["clientProvidedHostHeader"]},
        },
        "keytrail": {
            "actor": {"type": identity["type"], "arn": identity["arn"], "account_id": identity["accountId"]},
            "key": {"arn": record["resources"][0]["ARN"]},
            "encryption_context": record["requestParameters"]["encryptionContext"],
            "read_only": record["readOnly"],
        },
    })
}

/// Inflates one gzip member, whose trailer is trusted for its size.
fn inflate(member: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let size = member.last_chunk::<4>().ok_or("short gzip member")?;
    let mut out = vec![0; u32::from_le_bytes(*size) as usize];
    let len = Decompressor::new().gzip_decompress(member, &mut out)?;
    out.truncate(len);
    Ok(out)
}
