//! `keytrail explain` and `keytrail conflicts`: events for people.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use keytrail_model::row::{Encoded, columns};
use keytrail_model::{Column, Fatal, Hash, Kind, Timestamp};
use keytrail_pipeline::conflicts::{self, Conflict};
use keytrail_pipeline::explain::{self, Explained};
use keytrail_pipeline::objects::StoredEvent;
use keytrail_pipeline::{Format, Masker};

use crate::args::{ExplainArgs, ReadArgs};
use crate::folder::Folder;
use crate::terminal::{escape, escape_bytes, json_line};
use crate::{print, print_bytes};

/// Shows one event.
pub fn explain(args: &ExplainArgs) -> Result<ExitCode, Fatal> {
    let folder = Folder::open_for_reading(&args.data.data, args.keys.key_dir.as_deref())?;
    let found = folder.at_head(|readable, checkpoint, _| {
        explain::explain(folder.store(), readable, checkpoint, &args.uid)
    })?;
    if args.raw {
        let original = found.event.original.as_deref().ok_or_else(withheld)?;
        print_bytes(original);
        return Ok(ExitCode::SUCCESS);
    }
    let (masker, _) = folder.masker_for_reading()?;
    print(&if args.json { as_json(&found, &masker) } else { as_text(&found, &masker) });
    Ok(ExitCode::SUCCESS)
}

fn withheld() -> Fatal {
    Fatal::new("Usage.Withheld", "the original of this event is withheld")
}

fn as_text(found: &Explained, masker: &Masker) -> String {
    let event = &found.event;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _infallible = writeln!(out, "uid       {}", event.uid);
    out.push_str(&fields_text(&event.columns, &|_| String::new()));
    if !event.enrichment.is_empty() {
        let _infallible = writeln!(out, "enrichment, as tables said when the event came");
        out.push_str(&fields_text(&event.enrichment, &|column| from_tables(found, column)));
    }
    if event.original.is_some() {
        let _infallible = writeln!(out, "original  masked and escaped; --raw gives the bytes");
        let _infallible = writeln!(out, "  {}", shown_original(event, masker));
    } else {
        let reason = found.withheld.as_deref().unwrap_or("no entry of the log says why");
        let _infallible = writeln!(out, "original  withheld: {}", escape(reason));
    }
    let _infallible = writeln!(out, "source");
    let _infallible = writeln!(out, "  read from   {}", escape(&event.input));
    if let Some(t) = event.ingested {
        let _infallible = writeln!(out, "  ingested    {}", Timestamp(t).to_rfc3339());
    }
    let _infallible = writeln!(out, "proof");
    let _infallible = writeln!(out, "  event hash  {}", event.hash);
    let _infallible = writeln!(out, "  row         {} of {}", event.row, escape(&found.object.object.key));
    for hash in &found.row_proof {
        let _infallible = writeln!(out, "    {hash}");
    }
    let _infallible = writeln!(out, "  events root {}", found.object.rows.events_root);
    let _infallible = writeln!(out, "  log entry   {} of {}", found.object.leaf, found.checkpoint.size);
    for hash in &found.log_proof {
        let _infallible = writeln!(out, "    {hash}");
    }
    let _infallible =
        writeln!(out, "  log root    {} ({})", found.checkpoint.root, escape(&found.checkpoint.origin));
    out
}

fn as_json(found: &Explained, masker: &Masker) -> String {
    let hex = |list: &[Hash]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let all = serde_json::json!({
        "event": event_json(&found.event, masker),
        "enrichment": {
            "fields": fields_json(&found.event.enrichment),
            "tables": found.tables(),
        },
        "withheld": found.withheld,
        "proof": {
            "object": found.object.object.key,
            "row": found.event.row,
            "row_count": found.object.rows.count,
            "row_path": hex(&found.row_proof),
            "events_root": found.object.rows.events_root,
            "leaf_index": found.object.leaf,
            "tree_size": found.checkpoint.size,
            "leaf_path": hex(&found.log_proof),
            "root_hash": found.checkpoint.root_base64(),
            "origin": found.checkpoint.origin,
        },
    });
    json_line(&all)
}

fn event_json(event: &StoredEvent, masker: &Masker) -> serde_json::Value {
    serde_json::json!({
        "uid": event.uid.to_string(),
        "hash": event.hash.to_string(),
        "input": event.input,
        "original_masked": shown_original(event, masker),
        "fields": fields_json(&event.columns),
    })
}

/// Encoded columns by the names of their fields.
pub fn fields_json(encoded: &[u8]) -> serde_json::Value {
    let mut fields = serde_json::Map::new();
    for (column, value) in columns(encoded) {
        let value = match value {
            Encoded::Text(t) => t.into(),
            Encoded::Int(n) if column.kind() == Kind::Time => Timestamp(n).to_rfc3339().into(),
            Encoded::Int(n) => n.into(),
            Encoded::Bool(b) => b.into(),
            Encoded::List(items) => items.collect::<Vec<_>>().into(),
        };
        fields.insert(column.field().into(), value);
    }
    fields.into()
}

/// A line for each encoded column, with what `note` adds.
pub fn fields_text(encoded: &[u8], note: &dyn Fn(Column) -> String) -> String {
    let mut out = String::new();
    for (column, value) in columns(encoded) {
        let value = escape(&text_of(column, &value));
        let _infallible = writeln!(out, "  {:<32} {value}{}", column.field(), note(column));
    }
    out
}

/// The tables that filled a column of an event.
fn from_tables(found: &Explained, column: Column) -> String {
    let tables: Vec<_> =
        found.tables_of(column).map(|t| format!("{} {}", t.kind.name(), escape(&t.label()))).collect();
    if tables.is_empty() { String::new() } else { format!("  ({})", tables.join(", ")) }
}

/// Original bytes for the eyes: secrets masked, control characters escaped.
fn shown_original(event: &StoredEvent, masker: &Masker) -> String {
    match &event.original {
        None => "withheld".into(),
        Some(bytes) => {
            let format =
                Format::ALL.into_iter().find(|f| Some(f.dataset()) == event.text(Column::EventDataset));
            escape_bytes(masker.mask_document(format, bytes).as_ref())
        }
    }
}

fn text_of(column: Column, value: &Encoded<'_>) -> String {
    match value {
        Encoded::Text(t) => (*t).to_owned(),
        Encoded::Int(n) if column.kind() == Kind::Time => Timestamp(*n).to_rfc3339(),
        Encoded::Int(n) => n.to_string(),
        Encoded::Bool(b) => b.to_string(),
        Encoded::List(items) => (*items).collect::<Vec<_>>().join(", "),
    }
}

/// Shows conflicts and variants, the events of each side by side.
pub fn conflicts(args: &ReadArgs) -> Result<ExitCode, Fatal> {
    let folder = Folder::open_for_reading(&args.data.data, args.keys.key_dir.as_deref())?;
    let (masker, _) = folder.masker_for_reading()?;
    // What was printed before a writer made this start again is not printed twice.
    let mut printed = HashSet::new();
    folder.at_head(|readable, _, _| {
        conflicts::find(folder.store(), readable, &|_| true, &mut |conflict| {
            let claim = conflict.events.first().and_then(|(_, e)| e.claim()).unwrap_or_default();
            if printed.insert(Hash::of(format!("{claim:?}").as_bytes())) {
                print(&one_conflict(&conflict, &masker, args.json));
            }
            Ok(())
        })
    })?;
    if !args.json {
        print(&format!("{} found\n", printed.len()));
    }
    Ok(ExitCode::SUCCESS)
}

fn one_conflict(conflict: &Conflict, masker: &Masker, json: bool) -> String {
    let kind = if conflict.differs { "CONFLICT" } else { "VARIANT" };
    let claim = conflict.events.first().and_then(|(_, e)| e.claim()).unwrap_or_default();
    if json {
        let events: Vec<_> = conflict.events.iter().map(|(_, e)| event_json(e, masker)).collect();
        return json_line(&serde_json::json!({
            "kind": kind, "dataset": claim.0, "scope": claim.1, "id": claim.2, "phase": claim.3, "events": events,
        }));
    }
    let mut out = String::new();
    let _infallible = writeln!(out, "{kind} {}", escape(&[claim.0, claim.1, claim.2, claim.3].join(" ")));
    for (_, event) in &conflict.events {
        let (input, original) = (escape(&event.input), shown_original(event, masker));
        let _infallible = writeln!(out, "  {}  {input}\n    {original}", event.uid);
    }
    out
}
