//! What is counted of the search index that a service keeps.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use keytrail_model::Fatal;
use keytrail_pipeline::index::Indexed;

use super::Page;

/// Seals that are told apart while nothing is indexed; further ones count as one with the last.
const MOST_SEALS: usize = 10_000;

/// Counts since the process started.
pub struct IndexMetrics {
    /// By outcome.
    documents: BTreeMap<&'static str, u64>,
    pending: Option<u64>,
    lag_entries: Option<u64>,
    /// Sizes of the log up to which it is not known to be indexed, and since when it had them.
    waiting: VecDeque<(u64, Instant)>,
    /// Why the server was left alone: how often, and whether it is now.
    parked: BTreeMap<&'static str, (u64, bool)>,
}

impl IndexMetrics {
    /// Of a log of this size: what is not indexed of it waits since now.
    pub fn of(size: u64) -> Self {
        let outcomes = ["created", "replaced", "duplicate", "dead_letter", "expired", "not_indexed"];
        Self {
            documents: outcomes.into_iter().map(|outcome| (outcome, 0)).collect(),
            pending: None,
            lag_entries: None,
            waiting: (size > 0).then(|| (size, Instant::now())).into_iter().collect(),
            parked: BTreeMap::new(),
        }
    }

    /// The log was sealed at this size.
    pub fn sealed(&mut self, size: u64) {
        let full = self.waiting.len() >= MOST_SEALS;
        match self.waiting.back_mut().filter(|_| full) {
            Some(last) => last.0 = size,
            None => self.waiting.push_back((size, Instant::now())),
        }
    }

    /// So many rows of sealed entries have no outcome yet.
    pub fn pending(&mut self, rows: u64) {
        self.pending = Some(rows);
    }

    /// What was done of a log of this size.
    pub fn indexed(&mut self, indexed: &Result<Indexed, Fatal>, size: u64) {
        let code = match indexed {
            Ok(indexed) => {
                self.count(indexed, size);
                indexed.parked.as_ref().map(|(code, _)| *code)
            }
            Err(fatal) => Some(fatal.code),
        };
        self.parked.values_mut().for_each(|(_, now)| *now = false);
        if let Some(code) = code {
            let parked = self.parked.entry(code).or_default();
            *parked = (parked.0 + 1, true);
        }
    }

    fn count(&mut self, indexed: &Indexed, size: u64) {
        for (outcome, n) in [
            ("created", indexed.created),
            ("replaced", indexed.replaced),
            ("duplicate", indexed.duplicates),
            ("dead_letter", indexed.dead_letters.values().sum()),
            ("expired", indexed.expired),
            ("not_indexed", indexed.not_indexed),
        ] {
            *self.documents.entry(outcome).or_default() += n;
        }
        // Of a server that never answered it is not known how far it is.
        if indexed.cursor > 0 || indexed.parked.is_none() {
            self.pending = Some(indexed.pending);
            self.lag_entries = Some(size.saturating_sub(indexed.cursor));
            let done = self.waiting.partition_point(|(size, _)| *size <= indexed.cursor);
            self.waiting.drain(..done);
        }
    }

    /// Its part of the page.
    pub fn render(&self, page: &mut Page) {
        let name = "keytrail_index_documents_total";
        page.family(name, "counter", "Rows of sealed entries that the index is done with, by outcome.");
        for (outcome, n) in &self.documents {
            page.sample(name, &[("outcome", outcome)], n);
        }
        if let Some(rows) = self.pending {
            let help = "Rows of sealed entries that are not indexed yet.";
            page.single("keytrail_index_pending_rows", "gauge", help, rows);
        }
        if let Some(entries) = self.lag_entries {
            let help = "Entries of the log that are not known to be indexed whole.";
            page.single("keytrail_index_lag_entries", "gauge", help, entries);
        }
        let seconds = self.waiting.front().map_or(0.0, |(_, since)| since.elapsed().as_secs_f64());
        let help =
            "Time since the oldest seal that is not indexed whole; of one before the start, since the start.";
        page.single("keytrail_index_lag_seconds", "gauge", help, format!("{seconds:.3}"));
        let name = "keytrail_index_parked";
        page.family(name, "gauge", "Whether the server is left alone for a while now, and why.");
        for (code, (_, now)) in &self.parked {
            page.sample(name, &[("code", code)], u8::from(*now));
        }
        let name = "keytrail_index_parks_total";
        page.family(name, "counter", "Tries that ended early, by the code of what ended them.");
        for (code, (n, _)) in &self.parked {
            page.sample(name, &[("code", code)], n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(metrics: &IndexMetrics) -> String {
        let mut page = Page(String::new());
        metrics.render(&mut page);
        page.0
    }

    fn has(metrics: &IndexMetrics, sample: &str) -> bool {
        page(metrics).lines().any(|line| line == sample)
    }

    #[test]
    fn what_waits_is_known_once_a_server_answered() {
        let mut metrics = IndexMetrics::of(7);
        let parked = |pending, cursor| {
            let parked = Some(("Retryable.IndexFailed", "refused".to_owned()));
            Ok(Indexed { parked, pending, cursor, ..Indexed::default() })
        };
        metrics.indexed(&parked(0, 0), 7);
        assert!(has(&metrics, "keytrail_index_parked{code=\"Retryable.IndexFailed\"} 1"));
        assert!(!page(&metrics).contains("pending_rows") && metrics.waiting.len() == 1);
        metrics.sealed(9);
        metrics.indexed(&Ok(Indexed { created: 5, cursor: 9, ..Indexed::default() }), 9);
        for sample in [
            "keytrail_index_documents_total{outcome=\"created\"} 5",
            "keytrail_index_pending_rows 0",
            "keytrail_index_lag_entries 0",
            "keytrail_index_lag_seconds 0.000",
            "keytrail_index_parked{code=\"Retryable.IndexFailed\"} 0",
            "keytrail_index_parks_total{code=\"Retryable.IndexFailed\"} 1",
        ] {
            assert!(has(&metrics, sample), "{sample}: {}", page(&metrics));
        }
        (0..MOST_SEALS as u64 + 5).for_each(|n| metrics.sealed(10 + n));
        metrics.indexed(&parked(3, 11), 12);
        assert!(
            has(&metrics, "keytrail_index_pending_rows 3") && has(&metrics, "keytrail_index_lag_entries 1")
        );
        assert_eq!(metrics.waiting.len(), MOST_SEALS - 2);
        metrics.indexed(&Err(Fatal::new("Fatal.IndexConflict", "another event")), 12);
        assert!(has(&metrics, "keytrail_index_parked{code=\"Retryable.IndexFailed\"} 0"));
        assert!(has(&metrics, "keytrail_index_parked{code=\"Fatal.IndexConflict\"} 1"));
    }
}
