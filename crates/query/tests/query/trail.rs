//! Archives for tests: real objects in memory, and statements on them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keytrail_archive::{ObjectWriter, ReadAt};
use keytrail_model::row::{Content, Provenance};
use keytrail_model::{AuditEvent, Column, Fatal, Hash, Partition, RowBuffer, Timestamp};
use keytrail_query::{Archive, Format, Object, Options, Ran};

/// Objects by their keys.
#[derive(Clone, Default)]
pub struct Trail {
    pub objects: Vec<Object>,
    pub files: BTreeMap<String, Vec<u8>>,
}

/// An event: dataset, time, and columns.
pub struct Event<'a> {
    pub dataset: &'static str,
    pub time: Option<&'a str>,
    pub columns: &'a [(Column, &'a str)],
}

impl Trail {
    /// An object of events of one partition each.
    pub fn with(mut self, events: &[Event<'_>]) -> Self {
        let mut rows = RowBuffer::new();
        for (i, event) in events.iter().enumerate() {
            let mut e = AuditEvent::new(event.dataset, "test");
            e.at(event.time.map(|t| Timestamp::parse(t).expect("a time")));
            e.text(Column::KeytrailNormalizer, "test/1");
            for (column, text) in event.columns {
                if *column == Column::KeytrailActorPolicies {
                    e.add(*column, (*text).to_owned());
                } else {
                    e.text(*column, (*text).to_owned());
                }
            }
            let n = self.objects.len() * 1000 + i;
            e.identity.key = vec![format!("key-{n}").into()];
            let original = format!("{{\"secret\":\"hunter{n}\"}}");
            rows.push(&e, original.as_bytes(), Content::AsIs, Provenance { input: 0, offset: n as u64 });
        }
        rows.sort();
        let head = rows.row(0).head;
        let partition = Partition { dataset: head.dataset.into(), day: head.day };
        let key = format!("{}{}.parquet", partition.prefix(), self.objects.len());
        let all: Vec<_> = rows.rows().collect();
        let mut writer = ObjectWriter::new(partition, Vec::new(), 1).expect("a writer");
        writer.append(&all, Timestamp(5), &["input".to_owned()]).expect("rows are written");
        let finished = writer.finish().expect("an object");
        let times: Vec<i64> = all.iter().filter_map(|row| row.head.time).map(|t| t.0).collect();
        let object = Object {
            key: key.clone(),
            bytes: finished.out.len() as u64,
            sha256: Hash::of(&finished.out),
            rows: all.len() as u64,
            dataset: head.dataset.to_owned(),
            day: head.day.to_string(),
            time_min: times.iter().min().copied(),
            time_max: times.iter().max().copied(),
        };
        self.objects.push(object);
        self.files.insert(key, finished.out);
        self
    }

    /// A file that this version did not write.
    pub fn with_file(mut self, object: Object, file: Vec<u8>) -> Self {
        self.files.insert(object.key.clone(), file);
        self.objects.push(object);
        self
    }

    /// A day of CloudTrail with so many decryptions, a minute apart, from noon on.
    pub fn with_day(self, day: &str, events: usize) -> Self {
        let times: Vec<String> =
            (0..events).map(|i| format!("{day}T{:02}:{:02}:00Z", 12 + i / 60, i % 60)).collect();
        let events: Vec<Event<'_>> = times.iter().map(|time| decrypt(Some(time))).collect();
        self.with(&events)
    }

    /// The archive.
    pub fn archive(&self) -> Archive {
        let files = self.files.clone();
        let open = move |key: &str| Ok(files.get(key).map(|f| Arc::new(f.clone()) as Arc<dyn ReadAt>));
        Archive::new(self.objects.clone(), Box::new(open))
    }

    /// Runs a statement: what was written, and what it did.
    pub fn try_run(&self, sql: &str, options: &Options) -> (String, Result<Ran, Fatal>) {
        let mut out = Vec::new();
        let ran = keytrail_query::run(self.archive(), sql, options, &mut |text| {
            out.extend_from_slice(text);
            true
        });
        (String::from_utf8(out).expect("UTF-8"), ran)
    }

    /// Rows of a statement as JSON, and what it did.
    #[track_caller]
    pub fn run(&self, sql: &str) -> (String, Ran) {
        match self.try_run(sql, &options()) {
            (out, Ok(ran)) => (out, ran),
            (_, Err(e)) => panic!("{:.200}\n{}: {:.500}", sql, e.code, e.message),
        }
    }

    /// Rows of a statement as JSON.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> String {
        self.run(sql).0
    }

    /// What is wrong with a statement: code and message.
    #[track_caller]
    pub fn error(&self, sql: &str) -> String {
        match self.try_run(sql, &options()).1 {
            Err(e) => format!("{} {}", e.code, e.message),
            Ok(_) => panic!("{sql:.200}: no error"),
        }
    }
}

pub fn decrypt(time: Option<&str>) -> Event<'_> {
    Event {
        dataset: "aws.cloudtrail",
        time,
        columns: &[
            (Column::EventAction, "Decrypt"),
            (Column::KeytrailActionClass, "decrypt"),
            (Column::KeytrailKeyId, "k1"),
            (Column::UserName, "alice"),
            (Column::EventOutcome, "success"),
        ],
    }
}

pub fn options() -> Options {
    Options {
        format: Format::Json,
        terminal: None,
        raw: false,
        explain: false,
        memory_bytes: 256 << 20,
        time: Duration::from_secs(60),
        threads: 2,
    }
}
