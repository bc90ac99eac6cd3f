//! One event, with everything that speaks for it: its object, its manifest, and the two inclusion
//! proofs that lead from its bytes to the signed head.

use keytrail_archive::{Projection, Selection};
use keytrail_enrich::table_kind;
use keytrail_ledger::{Checkpoint, proof};
use keytrail_model::merkle::{audit_path, leaf_hash};
use keytrail_model::row::{Encoded, columns};
use keytrail_model::{Column, Fatal, Hash, TableRef};
use keytrail_ports::BlobStore;

use crate::decisions::Withheld;
use crate::objects::{self, StoredEvent};
use crate::readable::{Readable, SealedObject};
use crate::seal;

/// An event and its proof.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The event.
    pub event: StoredEvent,
    /// The object that holds it.
    pub object: SealedObject,
    /// Why its original bytes are not there.
    pub withheld: Option<String>,
    /// From the event's leaf, `SHA-256(0x00 || event_hash)`, to the manifest's `events_root`.
    pub row_proof: Vec<Hash>,
    /// From the manifest's leaf to the log's root.
    pub log_proof: Vec<Hash>,
    /// The head that they lead to.
    pub checkpoint: Checkpoint,
}

impl Explained {
    /// The tables that said something of the event when it came.
    pub fn tables(&self) -> Vec<&TableRef> {
        let labels = columns(&self.event.enrichment).find_map(|(column, value)| match value {
            Encoded::List(labels) if column == Column::KeytrailTables => Some(labels),
            _ => None,
        });
        let tables = self.object.rows.tables.iter();
        tables.filter(|t| labels.is_some_and(|mut all| all.any(|label| label == t.label()))).collect()
    }

    /// Those of them that fill that column.
    pub fn tables_of(&self, column: Column) -> impl Iterator<Item = &TableRef> {
        self.tables().into_iter().filter(move |t| table_kind(column) == Some(t.kind))
    }
}

/// The event whose uid starts with `prefix`, if there is exactly one.
pub fn explain(
    store: &dyn BlobStore,
    readable: &Readable,
    checkpoint: &Checkpoint,
    prefix: &str,
) -> Result<Explained, Fatal> {
    let mut found: Option<(StoredEvent, &SealedObject)> = None;
    for object in readable.objects() {
        let key = &object.object.key;
        let reader = objects::open(store, key)?;
        let mut several = false;
        objects::pick(&reader, &|uid, _| uid.hex().starts_with(prefix.as_bytes()), &mut |event| {
            several |= found.as_ref().is_some_and(|(f, _)| f.uid != event.uid);
            found = Some((event, object));
        })
        .map_err(|e| objects::at(key, e))?;
        if several {
            return Err(Fatal::new(
                "Usage.NotFound",
                format!("more than one event's uid starts with `{prefix}`, give more digits"),
            ));
        }
    }
    let (event, object) = found
        .ok_or_else(|| Fatal::new("Usage.NotFound", format!("no event's uid starts with `{prefix}`")))?;
    let row_proof = row_proof(store, object, event.row)?;
    let read = &mut |path: &str| store.get(&format!("log/{path}")).map_err(|e| e.to_string());
    let log_proof = proof::inclusion_proof(object.leaf, checkpoint.size, read)
        .map_err(|e| Fatal::new("Fatal.LogDamaged", e.to_string()))?;
    check(store, object, checkpoint, &log_proof)?;
    let withheld = match event.original {
        Some(_) => None,
        None => Withheld::load(store, readable)?.reason(&event.uid, object.leaf).map(str::to_owned),
    };
    Ok(Explained {
        event,
        object: object.clone(),
        withheld,
        row_proof,
        log_proof,
        checkpoint: checkpoint.clone(),
    })
}

/// Nothing is shown as proven that is not: the object's rows are those that were sealed, and its manifest
/// is in the tree of the head.
fn check(
    store: &dyn BlobStore,
    object: &SealedObject,
    checkpoint: &Checkpoint,
    log_proof: &[Hash],
) -> Result<(), Fatal> {
    let key = &object.object.key;
    let differs = |what: &str| {
        let message = format!("{what}: `keytrail verify` says what was changed");
        Err(Fatal::new("Fatal.ArchiveDamaged", message))
    };
    let contents = objects::contents(&objects::open(store, key)?).map_err(|e| objects::at(key, e))?;
    if contents.roots != (object.rows.events_root, object.rows.rows_root) {
        return differs(&format!("`{key}` has other rows than were sealed"));
    }
    let mut leaf = None;
    seal::read_entries(store, checkpoint.size, object.leaf, object.leaf + 1, &mut |_, entry| {
        leaf = Some(leaf_hash(entry));
        Ok(())
    })?;
    let proven = leaf.is_some_and(|leaf| {
        proof::verify_inclusion(&leaf, object.leaf, checkpoint.size, log_proof, &checkpoint.root)
    });
    if proven { Ok(()) } else { differs(&format!("log entry {} is another than was sealed", object.leaf)) }
}

fn row_proof(store: &dyn BlobStore, object: &SealedObject, row: u64) -> Result<Vec<Hash>, Fatal> {
    let key = &object.object.key;
    let reader = objects::open(store, key)?;
    let mut leaves = Vec::new();
    for batch in reader.batches(&Projection::Columns(vec![Column::EventHash]), Selection::All) {
        let batch = batch.map_err(|e| objects::at(key, e))?;
        leaves.extend(batch.rows().map(|r| leaf_hash(&r.hash.unwrap_or_default().0)));
    }
    Ok(audit_path(&leaves, usize::try_from(row).unwrap_or(usize::MAX)))
}
