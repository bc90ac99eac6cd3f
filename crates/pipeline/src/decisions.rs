//! What people decided about archived events, as the sealed log has it: whose original bytes are withheld,
//! and which objects expired.

use std::collections::HashMap;

use keytrail_model::manifest::ManifestKind;
use keytrail_model::{Fatal, Uid};
use keytrail_ports::BlobStore;

use crate::readable::{self, Readable};

/// Events whose original bytes are withheld, and why.
#[derive(Clone, Default, Debug)]
pub struct Withheld {
    /// By event: the log entry that decided it, and why.
    decided: HashMap<Uid, Vec<(u64, String)>>,
    /// The first log entry whose decision cannot be read.
    first_lost: Option<u64>,
}

impl Withheld {
    /// Reads all decisions of a trail. One whose detail object is not what was sealed decides nothing, and is
    /// remembered as lost.
    pub fn load(store: &dyn BlobStore, readable: &Readable) -> Result<Self, Fatal> {
        let mut withheld = Self::default();
        for (leaf, sealed) in readable.decisions(ManifestKind::Withhold) {
            let detail = match readable::detail(store, sealed) {
                Ok(detail) => detail,
                Err(e) if e.code == "Fatal.ObjectMissing" => None,
                Err(e) => return Err(e),
            };
            let Some(detail) = detail else {
                withheld.first_lost.get_or_insert(leaf);
                continue;
            };
            let Some(decision) = detail.decision else { continue };
            for uid in decision.uids.iter().filter_map(|uid| Uid::from_hex(uid)) {
                withheld.decided.entry(uid).or_default().push((leaf, decision.reason.clone()));
            }
        }
        Ok(withheld)
    }

    /// Whether a decision of a log entry up to that one cannot be read.
    pub fn is_lost_before(&self, leaf: u64) -> bool {
        self.first_lost.is_some_and(|lost| lost <= leaf)
    }

    /// Why an event's original is not in the object of a log entry: what was decided last, there or before.
    pub fn reason(&self, uid: &Uid, leaf: u64) -> Option<&str> {
        let decisions = self.decided.get(uid)?;
        decisions.iter().rev().find(|(decided, _)| *decided <= leaf).map(|(_, reason)| reason.as_str())
    }
}
