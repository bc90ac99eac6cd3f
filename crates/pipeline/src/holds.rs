//! Legal holds: what stays as it is, whatever was decided about it.
//!
//! A hold names events by dataset, day and uid. It keeps the objects that hold them from expiring, and their
//! original bytes from being withheld. In: what a configuration or a command says. Out: whether it is of an event.

use std::collections::BTreeSet;

use keytrail_model::{Day, Uid};

use crate::readable::SealedObject;

/// What is kept whatever the rules say. A hold that names nothing keeps everything.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Hold {
    /// Why, in words.
    pub reason: String,
    /// Of this dataset.
    pub dataset: Option<String>,
    /// Of this day and later ones.
    pub from: Option<Day>,
    /// Of this day and earlier ones.
    pub to: Option<Day>,
    /// This event, and the objects that hold it.
    pub uid: Option<Uid>,
}

impl Hold {
    /// Whether it is of an object, or of something in it; `inside` are the events in it that holds name.
    pub(crate) fn keeps(&self, object: &SealedObject, inside: &BTreeSet<Uid>) -> bool {
        // Of what has no day nobody knows that it lies outside.
        let day = Day::parse(&object.rows.day).filter(|day| *day != Day::Undated);
        self.dataset.as_ref().is_none_or(|d| *d == object.rows.dataset)
            && self.from.is_none_or(|from| day.is_none_or(|day| day >= from))
            && self.to.is_none_or(|to| day.is_none_or(|day| day <= to))
            && self.uid.is_none_or(|uid| inside.contains(&uid))
    }

    /// Whether it is of an event that an object holds.
    pub(crate) fn keeps_event(&self, object: &SealedObject, uid: Uid) -> bool {
        self.keeps(object, &BTreeSet::from([uid]))
    }
}
