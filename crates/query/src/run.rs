//! A statement from its text to its rows, within its limits.
//!
//! What it is: the engine runs on threads of its own; this one takes batches as they come, writes them, and watches
//! the clock and the memory. What it is not: it opens no trail. In: an [`Archive`], SQL, [`Options`]. Out: bytes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use keytrail_model::Fatal;
use tokio::runtime::{Builder, Runtime};

use crate::mistake;
use crate::object::{Archive, Object, Read};
use crate::rows::{Format, Rows};
use crate::session::{FAILED, Session, unexpected};
use crate::statement::{Asked, Statement};

/// How a statement is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How rows are written.
    pub format: Format,
    /// Columns of the terminal that is written to.
    pub terminal: Option<usize>,
    /// Whether `event_original` is a column.
    pub raw: bool,
    /// Whether the statement is only planned.
    pub explain: bool,
    /// Bytes that joins, groups and sorts may take.
    pub memory_bytes: u64,
    /// How long rows are waited for.
    pub time: Duration,
    /// Threads.
    pub threads: usize,
}

/// What a statement did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ran {
    /// Rows; `None`: it was only planned.
    pub rows: Option<u64>,
    /// What was read of the archive.
    pub read: Read,
}

/// Stack of a thread: plans are trees, and as deep as statements.
const STACK_BYTES: usize = 128 << 20;

/// How often the memory is looked at.
const WATCH: Duration = Duration::from_millis(50);

/// What the process may take beyond the limit before it is stopped: pages that are being decoded, metadata of
/// objects, rows on their way out.
const SLACK_BYTES: u64 = 512 << 20;

/// Objects that `explain` names.
const NAMED_OBJECTS: usize = 20;

/// What comes from the engine's threads.
enum Part {
    Columns(Vec<String>, SchemaRef),
    Rows(RecordBatch),
    Plan(String),
    End(Result<(), Fatal>),
}

/// Runs a statement and writes its rows as they come, until nobody reads them.
///
/// # Errors
/// `Usage.Query`: wrong SQL. `Retryable.QueryMemory`, `Retryable.QueryTime`: a limit. `Fatal.ObjectMissing`,
/// `Fatal.ObjectConflict`: an object is not what was sealed.
pub fn run(
    archive: Archive,
    sql: &str,
    options: &Options,
    write: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Ran, Fatal> {
    let archive = Arc::new(archive);
    let runtime = Builder::new_multi_thread()
        .worker_threads(options.threads)
        .thread_stack_size(STACK_BYTES)
        .thread_name("query")
        .build()
        .map_err(|e| Fatal::new(FAILED, format!("cannot start threads: {e}")))?;
    let (sender, parts) = sync_channel(2);
    let work = work(Arc::clone(&archive), sql.to_owned(), *options, sender.clone());
    runtime.spawn(async move {
        let end = work.await;
        let _gone = sender.send(Part::End(end));
    });
    let rows = receive(&parts, options, write);
    stop(runtime);
    let rows = rows.map_err(|e| match e.code {
        // A decoder that failed does not say on which object.
        FAILED => archive.find_damaged().unwrap_or(e),
        _ => e,
    })?;
    Ok(Ran { rows, read: archive.read() })
}

/// Threads may be in the middle of a page: nobody waits for them.
fn stop(runtime: Runtime) {
    runtime.shutdown_background();
}

/// Writes what comes; how many rows.
fn receive(
    parts: &Receiver<Part>,
    options: &Options,
    write: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Option<u64>, Fatal> {
    let before = resident_bytes().unwrap_or_default();
    let mut left = options.time;
    let mut rows: Option<Rows> = None;
    loop {
        let began = Instant::now();
        let part = parts.recv_timeout(left.min(WATCH));
        // What a reader takes to read is not the statement's time.
        left = left.saturating_sub(began.elapsed());
        let text = match part {
            Ok(Part::Columns(heads, schema)) => {
                rows.insert(Rows::new(options.format, options.terminal, heads, schema)).head()
            }
            Ok(Part::Rows(batch)) => {
                let read_on = rows.as_mut().is_none_or(|rows| rows.add(&batch, write));
                if !read_on {
                    return Ok(rows.map(|rows| rows.count()));
                }
                String::new()
            }
            Ok(Part::Plan(text)) => text,
            Ok(Part::End(Ok(()))) => {
                if let Some(rows) = &mut rows {
                    write(rows.end().as_bytes());
                }
                return Ok(rows.map(|rows| rows.count()));
            }
            Ok(Part::End(Err(e))) => return Err(e),
            Err(RecvTimeoutError::Timeout) if left.is_zero() => return Err(out_of_time(options)),
            Err(RecvTimeoutError::Timeout) => {
                let taken = resident_bytes().unwrap_or_default().saturating_sub(before);
                if taken > options.memory_bytes.saturating_add(SLACK_BYTES) {
                    return Err(out_of_memory(options));
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Fatal::new(FAILED, "the query engine failed: a thread of it ended"));
            }
        };
        if !text.is_empty() && !write(text.as_bytes()) {
            return Ok(rows.map(|rows| rows.count()));
        }
    }
}

/// Runs on the engine's threads.
async fn work(
    archive: Arc<Archive>,
    sql: String,
    options: Options,
    sender: SyncSender<Part>,
) -> Result<(), Fatal> {
    // Here, since a long statement is a deep tree.
    let statement = Statement::parse(&sql)?;
    let session = Session::open(Arc::clone(&archive), options.raw, options.threads, options.memory_bytes)
        .await
        .map_err(|e| unexpected(&e))?;
    let why = |e: DataFusionError| failure(&session, &statement, &options, &e);
    let plan = session.plan(&statement).await?;
    let state = session.context().state();
    let plan = state.optimize(&plan).map_err(why)?;
    let physical = state.query_planner().create_physical_plan(&plan, &state).await.map_err(why)?;
    if options.explain || matches!(statement.asked, Asked::Plan(_)) {
        let plan = mistake::types(&plan.display_indent().to_string());
        let text = format!("{}\n{plan}\n", objects(&archive));
        let _gone = sender.send(Part::Plan(text));
        return Ok(());
    }
    let mut stream = execute_stream(physical, state.task_ctx()).map_err(why)?;
    let schema = stream.schema();
    let heads = match statement.asked {
        Asked::Rows(_) => statement.heads(&schema),
        _ => schema.fields().iter().map(|field| field.name().clone()).collect(),
    };
    if sender.send(Part::Columns(heads, schema)).is_err() {
        return Ok(());
    }
    while let Some(batch) = stream.next().await {
        if sender.send(Part::Rows(batch.map_err(why)?)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// What ended a statement.
fn failure(session: &Session, statement: &Statement, options: &Options, error: &DataFusionError) -> Fatal {
    if let Some(why) = session.archive().failure() {
        return why;
    }
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => out_of_memory(options),
        _ if mistake::is_in_filter(error) => session.failed(statement, error),
        DataFusionError::ParquetError(_)
        | DataFusionError::IoError(_)
        | DataFusionError::ExecutionJoin(_)
        | DataFusionError::Internal(_) => unexpected(error),
        DataFusionError::ArrowError(e, _)
            if matches!(**e, ArrowError::ParquetError(_) | ArrowError::IoError(..)) =>
        {
            unexpected(error)
        }
        _ => session.failed(statement, error),
    }
}

fn out_of_memory(options: &Options) -> Fatal {
    Fatal::new(
        "Retryable.QueryMemory",
        format!(
            "the statement needs more than the {} of memory that it may take: ask for less, or give it more with `--memory`",
            size(options.memory_bytes)
        ),
    )
}

fn out_of_time(options: &Options) -> Fatal {
    Fatal::new(
        "Retryable.QueryTime",
        format!(
            "the statement took longer than the {} that it may take: ask for less, or give it more with `--timeout`",
            seconds(options.time)
        ),
    )
}

/// As `--memory` takes it.
fn size(bytes: u64) -> String {
    let units = [
        (1 << 30, "GiB"),
        (1_000_000_000, "GB"),
        (1 << 20, "MiB"),
        (1_000_000, "MB"),
        (1 << 10, "KiB"),
        (1000, "kB"),
    ];
    let whole = units.into_iter().find(|(unit, _)| bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes}B"), |(unit, name)| format!("{}{name}", bytes / unit))
}

/// As `--timeout` takes it.
fn seconds(time: Duration) -> String {
    match (time.as_secs(), time.subsec_millis()) {
        (s, 0) if s % 60 == 0 => format!("{}m", s / 60),
        (s, 0) => format!("{s}s"),
        (_, _) => format!("{}ms", time.as_millis()),
    }
}

/// The objects that would be read.
fn objects(archive: &Archive) -> String {
    let all = archive.objects();
    let planned: Vec<&Object> = archive.planned().collect();
    let bytes = |objects: &mut dyn Iterator<Item = &Object>| objects.map(|o| o.bytes).sum::<u64>();
    let mut out = format!(
        "objects  {} of {}, {} of {} bytes, {} of {} rows\n",
        planned.len(),
        all.len(),
        bytes(&mut planned.iter().copied()),
        bytes(&mut all.iter()),
        planned.iter().map(|o| o.rows).sum::<u64>(),
        all.iter().map(|o| o.rows).sum::<u64>(),
    );
    for object in planned.iter().take(NAMED_OBJECTS) {
        // Writing to a string does not fail.
        let _infallible = writeln!(out, "  {}", object.key);
    }
    if planned.len() > NAMED_OBJECTS {
        let _infallible = writeln!(out, "  and {} more", planned.len() - NAMED_OBJECTS);
    }
    out
}

/// Memory of this process, where the system says it as Linux does.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_as_options_take_them() {
        assert_eq!(size(1 << 30), "1GiB");
        assert_eq!(size(500_000_000), "500MB");
        assert_eq!(size(1025), "1025B");
        assert_eq!(seconds(Duration::from_secs(300)), "5m");
        assert_eq!(seconds(Duration::from_millis(1500)), "1500ms");
        assert_eq!(seconds(Duration::from_secs(90)), "90s");
    }
}
