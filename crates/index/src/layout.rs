//! How indices are cut: what time one is of, and into how many shards.
//!
//! What it is: a function from an event's day to its index's period and shards. Both may change from a month of
//! events' own time on: what was indexed before keeps its place, so each event still has one alone.

use std::fmt;

use keytrail_model::Day;

use crate::name::{IndexName, Period};

/// How an index is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// What time it is of.
    pub period: Period,
    /// Primary shards.
    pub shards: u32,
}

impl Default for Layout {
    fn default() -> Self {
        Self { period: Period::default(), shards: 1 }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} in {} shards", self.period.name(), self.shards)
    }
}

/// The layouts of all times.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Layouts {
    first: Layout,
    /// Days since 1970 from which on another holds, ascending.
    changes: Vec<(i64, Layout)>,
}

impl Layouts {
    /// One for all times.
    pub fn new(first: Layout) -> Self {
        Self { first, changes: Vec::new() }
    }

    /// Another one from the first day of a month on (days since 1970); `false` where one of that month or of a later one
    /// is there already.
    pub fn change(&mut self, from: i64, layout: Layout) -> bool {
        let fits = self.changes.last().is_none_or(|(last, _)| *last < from);
        if fits {
            self.changes.push((from, layout));
        }
        fits
    }

    /// The newest.
    pub fn last(&self) -> Layout {
        self.changes.last().map_or(self.first, |(_, layout)| *layout)
    }

    /// Of events of a day. Those without one are where they were first: they have no month.
    pub fn of(&self, day: Day) -> Layout {
        let Day::Dated(day) = day else { return self.first };
        let change = self.changes.iter().rev().find(|(from, _)| *from <= day);
        change.map_or(self.first, |(_, layout)| *layout)
    }

    /// Of an index: of the first of its days on which indices have its period.
    pub fn of_index(&self, name: &IndexName) -> Layout {
        let Some((period, days)) = name.time() else { return self.first };
        let changes = self.changes.iter().map(|(from, _)| *from).filter(|from| days.contains(from));
        let of = |day| self.of(Day::Dated(day));
        let fitting = [days.start].into_iter().chain(changes).map(of).find(|layout| layout.period == period);
        fitting.unwrap_or_else(|| of(days.start))
    }

    /// Whether they make an index of that name with so many shards; else what they make of its time.
    pub fn made(&self, name: &IndexName, shards: u32) -> Result<(), Layout> {
        let layout = self.of_index(name);
        let period = name.time().map_or(layout.period, |(period, _)| period);
        if layout == (Layout { period, shards }) { Ok(()) } else { Err(layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Namespace;

    fn day(text: &str) -> i64 {
        let Some(Day::Dated(day)) = Day::parse(text) else { panic!("{text} is a day") };
        day
    }

    fn layout(period: Period, shards: u32) -> Layout {
        Layout { period, shards }
    }

    #[test]
    fn a_change_holds_for_events_from_its_month_on() {
        let mut layouts = Layouts::new(Layout::default());
        assert!(layouts.change(day("2024-03-01"), layout(Period::Day, 3)));
        assert!(!layouts.change(day("2024-02-01"), layout(Period::Day, 4)), "they ascend");
        assert_eq!(layouts.of(Day::Dated(day("2024-02-29"))), Layout::default());
        assert_eq!(layouts.of(Day::Dated(day("2024-03-01"))), layout(Period::Day, 3));
        assert_eq!(layouts.of(Day::Undated), Layout::default());
        assert_eq!(layouts.last(), layout(Period::Day, 3));
    }

    #[test]
    fn indices_that_no_layout_makes_are_found() {
        let mut layouts = Layouts::new(layout(Period::Year, 1));
        layouts.change(day("2024-03-01"), layout(Period::Month, 2));
        let namespace = Namespace::default();
        let made = |suffix: &str, shards| {
            let name = format!("keytrail-vault.audit-default-{suffix}");
            layouts.made(&IndexName::parse(&name, &namespace).expect(&name), shards)
        };
        assert_eq!((made("2023", 1), made("2024", 1), made("undated", 1)), (Ok(()), Ok(()), Ok(())));
        assert_eq!((made("2024.03", 2), made("2025.01", 2)), (Ok(()), Ok(())));
        assert_eq!(made("2024.03", 1), Err(layout(Period::Month, 2)));
        assert_eq!(made("2024.02", 2), Err(layout(Period::Year, 1)));
        assert_eq!(made("2025", 1), Err(layout(Period::Month, 2)));
        assert_eq!(made("undated", 2), Err(layout(Period::Year, 1)));
    }
}
