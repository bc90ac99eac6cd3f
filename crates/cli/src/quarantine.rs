//! `keytrail quarantine`.

use std::process::ExitCode;

use keytrail_model::{Fatal, Timestamp};
use keytrail_pipeline::input::{Input, Limits};
use keytrail_pipeline::{Options, ingest, quarantine};

use crate::args::{QuarantineCommand, QuarantineShowArgs, ReadArgs, ReplayArgs};
use crate::config;
use crate::folder::Folder;
use crate::terminal::{bytes, escape, escape_bytes, json_line};
use crate::{print, print_bytes, tell};

/// Lists, shows or replays.
pub fn quarantine(command: QuarantineCommand) -> Result<ExitCode, Fatal> {
    match command {
        QuarantineCommand::List(args) => list(&args),
        QuarantineCommand::Show(args) => show(&args),
        QuarantineCommand::Replay(args) => replay(&args),
    }
}

fn list(args: &ReadArgs) -> Result<ExitCode, Fatal> {
    let folder = Folder::open_for_reading(&args.data.data, args.keys.key_dir.as_deref())?;
    quarantine::entries(folder.store(), &mut |key, entry| {
        match entry {
            Ok(e) if args.json => {
                let one = serde_json::json!({
                    "id": e.id(), "code": e.header.code, "bytes": e.header.bytes, "input": e.header.input,
                    "offset": e.header.offset, "reason": e.header.reason,
                    "received": Timestamp(e.header.received).to_rfc3339(),
                });
                print(&json_line(&one));
            }
            Ok(e) => print(&format!(
                "{}  {:<20} {:>10}  {}@{}  {}\n",
                &e.id()[..16.min(e.id().len())],
                escape(&e.header.code),
                bytes(e.header.bytes),
                escape(&e.header.input),
                e.header.offset,
                escape(&e.header.reason)
            )),
            Err(e) => tell(&format!("keytrail: {}: {}", escape(key), escape(&e))),
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn show(args: &QuarantineShowArgs) -> Result<ExitCode, Fatal> {
    let folder = Folder::open_for_reading(&args.data.data, args.keys.key_dir.as_deref())?;
    let entry = quarantine::find(folder.store(), &args.id)?;
    if args.raw {
        print_bytes(&entry.original);
        return Ok(ExitCode::SUCCESS);
    }
    let (masker, _) = folder.masker_for_reading()?;
    let h = &entry.header;
    print(&format!(
        "id        {}\ncode      {} ({})\nreason    {}\ninput     {}@{}\nreceived  {}\nbytes     {}\noriginal  masked and escaped; --raw gives the bytes\n  {}\n",
        entry.id(),
        escape(&h.code),
        quarantine::explain(&h.code),
        escape(&h.reason),
        escape(&h.input),
        h.offset,
        Timestamp(h.received).to_rfc3339(),
        h.bytes,
        escape_bytes(masker.mask_document(None, &entry.original).as_ref()),
    ));
    Ok(ExitCode::SUCCESS)
}

fn replay(args: &ReplayArgs) -> Result<ExitCode, Fatal> {
    let config = config::load(&args.config)?;
    let tables = crate::enrich::tables(&config.tables)?;
    let folder = Folder::open_for_writing(&args.data.data, args.keys.key_dir.as_deref())?;
    let folder = folder.enriched_with(tables);
    let mut keys = Vec::new();
    if args.ids.is_empty() {
        keys = folder.store().list("quarantine/")?;
    }
    for id in &args.ids {
        keys.push(quarantine::find(folder.store(), id)?.key);
    }
    let inputs: Vec<Input> = keys
        .iter()
        .map(|key| quarantine::input(folder.store(), key, &config.sources))
        .collect::<Result<_, _>>()?;
    let threads = crate::run::threads(None);
    let options = Options {
        ingest: ingest::Options { threads, format: None, limits: Limits::default() },
        object_bytes: 128_000_000,
    };
    let telling = crate::alerts::Telling::default();
    crate::run::run_inputs(&folder, &inputs, &options, telling, args.json, false, None)
}
