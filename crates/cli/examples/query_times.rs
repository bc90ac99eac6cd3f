//! What statements cost: each as `keytrail query --threads 1` runs it, again and again in one process.
//!
//! In: a data folder, and a folder of `<topic>/<name>.sql`. Out, on stdout: a line a statement, with tabs between its
//! name, its rows, and the CPU seconds of one run, as the mean of half a second of them. `tests/bench` runs it.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keytrail_adapters::local::LocalStore;
use keytrail_pipeline::query::{self, Format, Options};
use keytrail_pipeline::readable::Readable;

/// CPU seconds of a statement's runs together, at least: the system counts in ticks of 10 ms.
const SECONDS: f64 = 0.5;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [data, statements] = args.as_slice() else {
        return Err("expected a data folder and one of SQL".into());
    };
    let store = Arc::new(LocalStore::open(data)?);
    let note = fs::read_to_string(data.join("log/checkpoint"))?;
    let size = note.lines().nth(1).ok_or("a checkpoint without a size")?.parse()?;
    let readable = Readable::load(&*store, size).map_err(|e| e.message)?;
    for topic in listed(statements)? {
        for path in listed(&topic)? {
            let sql = fs::read_to_string(&path)?;
            let options = Options {
                format: Format::Json,
                terminal: None,
                raw: sql.contains("\n-- with --raw\n"),
                explain: false,
                // `archive/originals` holds the distinct ones of a million; the others are content with 1 GiB.
                memory_bytes: 4 << 30,
                time: Duration::from_secs(300),
                threads: 1,
            };
            let run = || {
                let archive = query::archive(&readable, store.clone());
                query::run(archive, &sql, &options, &mut |_| true)
                    .map_err(|e| format!("{}: {}", path.display(), e.message))
            };
            // The first run reads the files into the system's cache.
            let rows = run()?.rows.unwrap_or_default();
            let (before, mut runs) = (cpu_seconds()?, 0);
            let mut spent = 0.0;
            while spent < SECONDS {
                run()?;
                runs += 1;
                spent = cpu_seconds()? - before;
            }
            let name = path.strip_prefix(statements)?.with_extension("");
            println!("{}\t{rows}\t{:.6}", name.display(), spent / f64::from(runs));
        }
    }
    Ok(())
}

/// What is in a folder, in the order of names.
fn listed(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

/// CPU time of this process and its threads, those that ended too (proc_pid_stat(5), `utime` and `stime`).
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| -> Result<f64, Box<dyn Error>> { Ok(fields.get(i).ok_or("short stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
