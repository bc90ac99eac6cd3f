//! What became of the records of each source, counted: the declared source of their input, else the format
//! that they were taken for.
//!
//! In: inputs, and the outcome of each record. Out: [`Counts`] by the source's name.

use std::collections::BTreeMap;

use keytrail_model::Counts;
use keytrail_normalize::Format;

use crate::config::DeclaredSource;
use crate::input::Input;

/// What records that nothing is known of are counted under.
pub const UNKNOWN: &str = "unknown";

/// Counts of a run. A source has a number: those of the formats, then of what is unknown, then of the
/// declared ones.
#[derive(Debug)]
pub(crate) struct Tally {
    counts: Vec<(String, Counts)>,
    /// The number of each input's declared source.
    declared: Vec<Option<usize>>,
}

impl Tally {
    /// Nothing is counted yet.
    pub fn new(inputs: &[Input]) -> Self {
        let formats = Format::ALL.map(Format::name).into_iter().chain([UNKNOWN]);
        let mut tally = Self {
            counts: formats.map(|name| (name.to_owned(), Counts::default())).collect(),
            declared: Vec::with_capacity(inputs.len()),
        };
        inputs.iter().for_each(|input| tally.add_input(input.declared.as_deref()));
        tally
    }

    /// One more input, and what is declared of it.
    pub fn add_input(&mut self, declared: Option<&DeclaredSource>) {
        let number = declared.map(|source| {
            let known = self.counts.iter().position(|(name, _)| *name == source.name);
            known.unwrap_or_else(|| {
                self.counts.push((source.name.clone(), Counts::default()));
                self.counts.len() - 1
            })
        });
        self.declared.push(number);
    }

    /// Inputs are numbered anew; what was counted stays.
    pub fn forget_inputs(&mut self) {
        self.declared.clear();
    }

    /// The number of the source of an input's record.
    pub fn source(&self, input: u32, format: Option<Format>) -> usize {
        let declared = self.declared.get(input as usize).copied().flatten();
        declared.unwrap_or(format.map_or(Format::ALL.len(), |format| format as usize))
    }

    /// The counts of a source.
    pub fn of(&mut self, source: usize) -> &mut Counts {
        &mut self.counts[source].1
    }

    /// The name of a source.
    pub fn name(&self, source: usize) -> &str {
        &self.counts[source].0
    }

    /// All records.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.counts.iter().for_each(|(_, counts)| total += *counts);
        total
    }

    /// Sources that a record was read of.
    pub fn sources(&self) -> BTreeMap<String, Counts> {
        self.counts.iter().filter(|(_, counts)| counts.read > 0).cloned().collect()
    }
}

/// The format whose events a dataset holds.
pub(crate) fn format_of(dataset: &str) -> Option<Format> {
    Format::ALL.into_iter().find(|f| f.dataset() == dataset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_their_own_numbers() {
        let tally = Tally::new(&[]);
        for format in Format::ALL {
            assert_eq!(tally.name(tally.source(0, Some(format))), format.name());
        }
        assert_eq!(tally.name(tally.source(0, None)), UNKNOWN);
    }
}
