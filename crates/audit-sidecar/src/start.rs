//! From what the spool holds to an epoch that takes entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use keytrail_model::merkle::leaf_hash;
use keytrail_model::{Hash, Receipt};
use keytrail_ports::Signer;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::chain::{Chain, Opening, Phase, SystemClocks, wall_ns};
use crate::config::Config;
use crate::journal::{Recent, unknown_outcome};
use crate::sealed::Covered;
use crate::spool::{OsFiles, Recovered, Settings, Spool, SpoolError, SpoolReader};

/// Small file of the spool's folder with the number of the newest epoch.
const EPOCH: &str = "epoch";

/// Bytes of records that are read at a time.
const READ_BYTES: usize = 8 << 20;

/// What is kept of earlier epochs beside their records.
#[derive(Default, Serialize, Deserialize)]
struct Epoch {
    /// The newest epoch that was begun.
    epoch: u64,
}

/// An epoch that was begun.
pub struct Started {
    /// Its chain.
    pub chain: Chain,
    /// The spool.
    pub spool: Spool,
    /// Lines that stand in the spool.
    pub recent: Recent,
    /// What the spool had in it.
    pub recovered: Recovered,
    /// Operations of earlier epochs of which nobody knows what came.
    pub unknown: usize,
}

/// Opens the spool; says what was in it.
pub fn open(config: &Config) -> Result<(Spool, Recovered), SpoolError> {
    let settings = Settings {
        segment_bytes: config.spool.segment_bytes,
        max_bytes: config.spool.max_bytes,
        ..Settings::default()
    };
    Spool::open(&config.spool.folder, &config.source, settings, Arc::new(OsFiles))
}

/// Begins a new epoch: its first record, the outcomes that nobody knows, and what was lost, all durable.
pub fn begin(
    config: &Config,
    mut spool: Spool,
    recovered: Recovered,
    covered: &Covered,
    audit: &dyn Signer,
) -> Result<Started, String> {
    let said = |e: SpoolError| e.to_string();
    let mut recent = Recent::default();
    let mut reader = spool.reader();
    let earlier = read_back(&mut reader, &mut recent)?;
    let state = reader.read_state(EPOCH).map_err(said)?;
    let state: Epoch = match state {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| format!("the state `{EPOCH}`: {e}"))?,
        None => Epoch::default(),
    };
    let last_epoch = earlier.last.as_ref().map_or(0, |last| last.epoch);
    let epoch = state.epoch.max(last_epoch).max(covered.newest_epoch) + 1;
    let bytes = serde_json::to_vec(&Epoch { epoch }).map_err(|e| e.to_string())?;
    reader.write_state(EPOCH, &bytes).map_err(said)?;

    let random = || {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|e| format!("the system gives no random bytes: {e}"))?;
        Ok::<_, String>(bytes)
    };
    let key = SigningKey::from_bytes(&random()?);
    let policy_set_sha256 = match &config.policy_file {
        None => Hash::of(b"").to_hex(),
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|e| format!("cannot read `{}`: {e}", path.display()))?;
            Hash::of(&bytes).to_hex()
        }
    };
    let opening = Opening {
        boot_nonce: random()?,
        hsm: &config.hsm,
        policy_set_sha256: &policy_set_sha256,
        version: env!("CARGO_PKG_VERSION"),
        mode: config.mode.name(),
        epoch_key: key.verifying_key().to_bytes(),
        last: earlier.last.as_ref(),
        checkpoint: Some(covered.checkpoint.as_str()).filter(|c| !c.is_empty()),
    };
    let body = opening.body(&config.source, epoch, audit).map_err(|e| e.to_string())?;
    spool.begin(epoch, wall_ns()).map_err(said)?;
    let clocks = Box::new(SystemClocks::start());
    let mut chain = Chain::new(&config.organization, &config.source, epoch, key, clocks);
    let mut record = Vec::new();
    let mut put = |chain: &mut Chain, phase, op_id: Option<&str>, body: &str| {
        record.clear();
        let receipt = chain.own(phase, op_id, body, &mut record);
        spool.append(receipt.seq, &record)
    };
    put(&mut chain, Phase::EpochOpen, None, &body).map_err(said)?;
    for (op_id, intent) in &earlier.open {
        let body = unknown_outcome(intent, "the sidecar ended before the service said the outcome")?;
        put(&mut chain, Phase::Outcome, Some(op_id), &body).map_err(said)?;
    }
    for (first, last) in &earlier.missing {
        let cause = "damaged in the spool";
        let body = format!(r#"{{"first_seq":{first},"last_seq":{last},"cause":"{cause}"}}"#);
        put(&mut chain, Phase::Gap, None, &body).map_err(said)?;
    }
    spool.commit().map_err(said)?;
    Ok(Started { chain, spool, recent, recovered, unknown: earlier.open.len() })
}

/// What earlier epochs left.
#[derive(Default)]
struct Earlier {
    last: Option<Receipt>,
    /// Bodies of intents without an outcome, by operation.
    open: BTreeMap<String, String>,
    /// Numbers that are missing of the last epoch, first and last: a `gap` is told in the next one.
    missing: Vec<(u64, u64)>,
}

/// A record as far as recovery reads it.
#[derive(Deserialize)]
struct Known<'a> {
    phase: &'a str,
    op_id: Option<&'a str>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// Reads all that the spool holds.
fn read_back(reader: &mut SpoolReader, recent: &mut Recent) -> Result<Earlier, String> {
    let mut earlier = Earlier::default();
    let mut after = None;
    while let Some(batch) = reader.next(after, READ_BYTES).map_err(|e| e.to_string())? {
        let (source, epoch) = (batch.header.source, batch.header.epoch);
        for (seq, record) in &batch.records {
            after = Some((epoch, *seq));
            let receipt = Receipt { source: source.clone(), epoch, seq: *seq, leaf_hash: leaf_hash(record) };
            let end = memchr::memchr(b'\n', record).unwrap_or(record.len());
            if let Ok(known) = serde_json::from_slice::<Known<'_>>(&record[..end]) {
                match (known.phase, known.op_id, known.body) {
                    ("intent", Some(id), Some(body)) => {
                        earlier.open.insert(id.to_owned(), body.get().to_owned());
                    }
                    ("outcome", Some(id), _) => {
                        earlier.open.remove(id);
                    }
                    ("foreign", ..) if end < record.len() => {
                        recent.add(Hash::of(&record[end + 1..]), receipt.clone());
                    }
                    _ => {}
                }
            }
            match &earlier.last {
                Some(last) if last.epoch == epoch && last.seq + 1 < *seq => {
                    earlier.missing.push((last.seq + 1, seq - 1));
                }
                Some(last) if last.epoch != epoch => earlier.missing.clear(),
                _ => {}
            }
            earlier.last = Some(receipt);
        }
    }
    Ok(earlier)
}
