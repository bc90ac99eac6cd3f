//! A stream under a steady load through stage-records, archive-events, index-events and seal-archive: when an event is
//! archived, sealed and found.
//!
//! Measured from outside, from when a record is put: until the answer of the archive-events that had it; until the answer of
//! the seal after which its batch is not pending any more; until a search finds it, with Elasticsearch refreshing as
//! keytrail's templates say (every 5 s). Executions of the state machine `ingest` wait for one of two workers, where
//! AWS has no such limit.

use std::collections::HashMap;
use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use keytrail_lambda_harness::{KinesisMapping, Stream};
use serde_json::{Value, json};

use super::figure;
use crate::bench::{Failure, Figure, Setting, isolate};
use crate::cloud::Cloud;
use crate::load::{DAY_MICROS, Format, Load, Records};
use crate::s3::Maker;
use crate::search_server::{Kind, OwnServer, SearchServer};

/// Records a second.
const RATE: u64 = 500;

/// Time between two puts, and between two looks.
const STEP: Duration = Duration::from_millis(100);

/// How long the last record may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Executions of `ingest` at a time.
const WORKERS: usize = 2;

/// All events of the bench.
const EVENTS: &str = "keytrail-*-default-*,-keytrail-deadletter-*";

/// Functions whose CPU time counts.
const FUNCTIONS: [&str; 4] = ["stage-records", "archive-events", "index-events", "seal-archive"];

/// An execution of `ingest` that is through.
struct Batch {
    /// Its events.
    ids: Vec<String>,
    pending: String,
    archived: Instant,
}

/// When events reached a stage.
type Reached = Mutex<HashMap<String, Instant>>;

/// What the parts of the run share.
struct Run<'a> {
    cloud: &'a Cloud,
    server: &'a SearchServer,
    total: u64,
    seal_every: Duration,
    put: Reached,
    archived: Reached,
    sealed: Reached,
    found: Reached,
    accepted: AtomicU64,
    /// No more comes, or something failed.
    over: AtomicBool,
}

/// Runs this part.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let seconds: u64 = match env::var("CLOUD_SECONDS") {
        Ok(seconds) => seconds.parse()?,
        Err(_) if setting.full => 600,
        Err(_) => 60,
    };
    let (window, seal_every) = if setting.full { (30, 60) } else { (5, 5) };
    let server = OwnServer::start(Kind::Elasticsearch, &[]);
    let scratch = tempfile::tempdir()?;
    let mut setup = Command::new(&setting.keytrail);
    setup.args(["index", "setup", "--elasticsearch", &server.url()]);
    isolate(&mut setup, scratch.path());
    let said = setup.output()?;
    if !said.status.success() {
        return Err(String::from_utf8_lossy(&said.stderr).into());
    }
    let cloud = Cloud::on_minio();
    for name in FUNCTIONS {
        let memory = if name == "archive-events" { 1769 } else { 512 };
        let function = cloud.function(name).variable("KEYTRAIL_ELASTICSEARCH", server.url());
        cloud.deploy(function.memory_mib(memory).keep_history());
    }
    let stream = Stream::new("records", 1);
    // As the template has it.
    let mapping = KinesisMapping {
        batch_size: 1000,
        batching_window: Duration::from_secs(window),
        bisect: true,
        maximum_retry_attempts: Some(100),
        report_batch_item_failures: true,
        ..KinesisMapping::default()
    };
    let source = cloud.harness.map_kinesis(&stream, "stage-records", mapping)?;
    let run = Run {
        cloud: &cloud,
        server: &server,
        total: seconds * RATE,
        seal_every: Duration::from_secs(seal_every),
        put: Reached::default(),
        archived: Reached::default(),
        sealed: Reached::default(),
        found: Reached::default(),
        accepted: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    run.all(&stream)?;
    source.stop();
    let accepted = run.accepted.load(Ordering::SeqCst);
    if accepted < run.total {
        return Err(format!("{accepted} of {} events were accepted", run.total).into());
    }

    let mut cpu = 0.0;
    let mut figures = Vec::new();
    for name in FUNCTIONS {
        let mut of_it = 0.0;
        for past in cloud.harness.history(name)? {
            of_it += past.result.map_err(|e| format!("{name}: {e:?}"))?.cpu.as_secs_f64();
        }
        figures.push(figure(
            &format!("load: CPU of {name}"),
            of_it / run.total as f64 * 1e6,
            "us/event",
            None,
            None,
        ));
        cpu += of_it;
    }
    figures.insert(0, figure("load: events", run.total as f64 / cpu / 1e3, "k events/s/core", None, None));
    for (what, reached) in [("archived", &run.archived), ("sealed", &run.sealed), ("searchable", &run.found)]
    {
        let lags = run.lags(reached)?;
        for percent in [50, 99] {
            let lag = lags[(lags.len() - 1) * percent / 100].as_secs_f64();
            figures.push(figure(&format!("load: put to {what}, p{percent}"), lag, "s", None, None));
        }
    }
    Ok(figures)
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run<'_> {
    /// Until every record is archived, sealed and found.
    fn all(&self, stream: &Stream) -> Result<(), Failure> {
        let (started, inputs) = channel();
        let inputs = Mutex::new(inputs);
        let (through, batches) = channel();
        let (indexed, waiting) = channel();
        thread::scope(|scope| {
            let guarded = |part: &str, ended: Result<(), Failure>| {
                ended.map_err(|e| {
                    self.over.store(true, Ordering::SeqCst);
                    format!("{part}: {e}")
                })
            };
            let parts = [
                scope.spawn(move || guarded("put", self.feed(stream))),
                scope.spawn(move || guarded("start", self.start(&started))),
                scope.spawn(move || guarded("seal", self.seal(&batches))),
                scope.spawn(move || guarded("search", self.search(&waiting))),
            ];
            let inputs = &inputs;
            let workers: Vec<_> = (0..WORKERS)
                .map(|_| {
                    let (through, indexed) = (through.clone(), indexed.clone());
                    scope.spawn(move || guarded("ingest", self.ingest(inputs, &through, &indexed)))
                })
                .collect();
            let ended = parts
                .into_iter()
                .chain(workers)
                .map(|part| part.join().map_err(|_| "a part died".to_owned())?);
            ended.collect::<Result<Vec<()>, String>>()
        })?;
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn reached(&self, stage: &Reached, ids: &[String], at: Instant) {
        let mut stage = lock(stage);
        for id in ids {
            stage.entry(id.clone()).or_insert(at);
        }
    }

    fn has_all(&self, stage: &Reached) -> bool {
        lock(stage).len() as u64 >= self.total
    }

    fn lags(&self, reached: &Reached) -> Result<Vec<Duration>, Failure> {
        let (put, reached) = (lock(&self.put), lock(reached));
        let mut lags = Vec::new();
        for (id, at) in &*reached {
            lags.push(*at - *put.get(id).ok_or("an event that nobody put")?);
        }
        lags.sort_unstable();
        if lags.len() as u64 == self.total {
            Ok(lags)
        } else {
            Err(format!("{} of {} events", lags.len(), self.total).into())
        }
    }

    fn feed(&self, stream: &Stream) -> Result<(), Failure> {
        let load = Load {
            seed: 13,
            format: Format::Cloudtrail,
            events: self.total,
            start_micros: 20_458 * DAY_MICROS,
            days: 1,
            shuffle: false,
            replay_percent: 0,
            late_percent: 0,
        };
        let mut records = Records::new(load);
        let (begin, mut written) = (Instant::now(), 0);
        while written < self.total && !self.is_over() {
            let wanted = self.total.min((begin.elapsed().as_secs_f64() * RATE as f64) as u64);
            while written < wanted {
                let mut text = String::new();
                records.next(&mut text);
                let id = ids(&text).pop().ok_or("a record without an id")?;
                lock(&self.put).insert(id, Instant::now());
                stream.put(format!("k{}", written % 16), text);
                written += 1;
            }
            thread::sleep(STEP);
        }
        // What is late is missed.
        let begin = Instant::now();
        while !(self.is_over() || self.has_all(&self.found) && self.has_all(&self.sealed)) {
            if begin.elapsed() > LIMIT {
                let reached = [&self.archived, &self.sealed, &self.found].map(|stage| lock(stage).len());
                return Err(format!("archived, sealed and found of {}: {reached:?}", self.total).into());
            }
            thread::sleep(STEP);
        }
        self.over.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Hands on what executions of `ingest` were started with.
    fn start(&self, started: &Sender<Value>) -> Result<(), Failure> {
        while !self.is_over() {
            for input in self.cloud.started(0) {
                started.send(input)?;
            }
            thread::sleep(STEP);
        }
        Ok(())
    }

    /// An execution of `ingest`, one after the other.
    fn ingest(
        &self,
        inputs: &Mutex<Receiver<Value>>,
        through: &Sender<Batch>,
        indexed: &Sender<Vec<String>>,
    ) -> Result<(), Failure> {
        while !self.is_over() {
            let next = lock(inputs).recv_timeout(STEP);
            let Ok(mut input) = next else { continue };
            while !input.is_null() {
                let answer = self.called("archive-events", &input)?;
                let at = Instant::now();
                let ids = self.ids(&input)?;
                self.accepted.fetch_add(answer["counts"]["accepted"].as_u64().unwrap_or(0), Ordering::SeqCst);
                self.reached(&self.archived, &ids, at);
                let pending = answer["pending"].as_str().unwrap_or_default().to_owned();
                let batch = Batch { ids: ids.clone(), pending: pending.clone(), archived: at };
                through.send(batch)?;
                self.called("index-events", &json!({"pending": pending}))?;
                indexed.send(ids)?;
                input = answer["next"].clone();
            }
        }
        Ok(())
    }

    /// Every so often, as the state machine `seal` does.
    fn seal(&self, batches: &Receiver<Batch>) -> Result<(), Failure> {
        let Maker::Minio(minio) = &self.cloud.s3 else { return Err("expected MinIO".into()) };
        let mut open: Vec<Batch> = Vec::new();
        while !self.is_over() {
            let begin = Instant::now();
            self.called("seal-archive", &json!({}))?;
            let at = Instant::now();
            open.extend(batches.try_iter());
            let pending = minio.keys(&self.cloud.archive, "state/pending/");
            open.retain(|batch| {
                // What was archived after the seal ended is of a later one.
                let sealed = batch.archived < at && !pending.contains(&batch.pending);
                if sealed {
                    self.reached(&self.sealed, &batch.ids, at);
                }
                !sealed
            });
            self.called("index-events", &json!({}))?;
            while begin.elapsed() < self.seal_every && !self.is_over() {
                thread::sleep(STEP);
            }
        }
        Ok(())
    }

    /// Looks for what is indexed; nobody asks for a refresh.
    fn search(&self, indexed: &Receiver<Vec<String>>) -> Result<(), Failure> {
        let mut open: Vec<Vec<String>> = Vec::new();
        while !self.is_over() {
            open.extend(indexed.try_iter());
            open.retain(|ids| {
                let query = json!({"query": {"terms": {"event.id": ids}}});
                let there = self.server.post(&format!("{EVENTS}/_count"), &query);
                let found = there.body["count"].as_u64() == Some(ids.len() as u64);
                if found {
                    self.reached(&self.found, ids, Instant::now());
                }
                !found
            });
            thread::sleep(STEP);
        }
        Ok(())
    }

    fn called(&self, name: &str, event: &Value) -> Result<Value, Failure> {
        let done = self.cloud.try_call(name, event);
        match done.function_error {
            None => Ok(done.json()),
            Some(_) => Err(format!("{name}: {}", done.json()).into()),
        }
    }

    /// The events of the objects that an execution has.
    fn ids(&self, input: &Value) -> Result<Vec<String>, Failure> {
        let Maker::Minio(minio) = &self.cloud.s3 else { return Err("expected MinIO".into()) };
        let mut all = Vec::new();
        for object in input["objects"].as_array().ok_or("an input without objects")? {
            let bytes =
                minio.object(&self.cloud.raw, object["key"].as_str().ok_or("an object without a key")?);
            all.extend(ids(&String::from_utf8_lossy(&bytes)));
        }
        Ok(all)
    }
}

/// Ids of CloudTrail's events.
fn ids(text: &str) -> Vec<String> {
    let parts = text.split(r#""eventID":""#).skip(1);
    parts.map(|rest| rest.split('"').next().unwrap_or_default().to_owned()).collect()
}
