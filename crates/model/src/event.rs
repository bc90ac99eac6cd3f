//! A normalized event: ECS and `keytrail.*` columns over the record's own bytes.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::column::{COUNT, Column, ColumnSet, Kind};
use crate::time::Timestamp;

/// A column's value, borrowed from the record where it can be.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Value<'a> {
    /// Not set.
    #[default]
    Null,
    /// For [`Kind::Text`].
    Text(Cow<'a, str>),
    /// For [`Kind::Int`].
    Int(i64),
    /// For [`Kind::Bool`].
    Bool(bool),
    /// For [`Kind::Time`].
    Time(Timestamp),
    /// For [`Kind::List`].
    List(Vec<Cow<'a, str>>),
}

/// What the record says of its own identity (ARCHITECTURE rule 4). Configuration adds nothing to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity<'a> {
    /// Within what the producer's key is one of a kind, as the record says it; may be empty.
    pub scope: Cow<'a, str>,
    /// Parts of the producer's key; empty when the producer gives none.
    pub key: Vec<Cow<'a, str>>,
}

/// An audit event as a normalizer makes it. It costs what is set of it: most columns never are.
#[derive(Clone, Debug)]
pub struct AuditEvent<'a> {
    /// `event.dataset`; fixed by the normalizer.
    pub dataset: &'static str,
    /// The event's own time, if it has one.
    pub time: Option<Timestamp>,
    /// What makes it one of a kind.
    pub identity: Identity<'a>,
    /// The place of each column in `values`, from 1; 0: it has none.
    places: [u8; COUNT],
    /// The columns that have one.
    placed: ColumnSet,
    values: Vec<Value<'a>>,
    /// What long lists hold: a record may name a million things.
    held: Vec<(Column, HashSet<Cow<'a, str>>)>,
}

/// From so many items on, a list has its set.
const LONG: usize = 32;

const _: () = assert!(COUNT <= u8::MAX as usize);

/// As many columns as most events set, in a block of 1,024 bytes, which allocators have at hand.
const USUAL: usize = 32;

impl<'a> AuditEvent<'a> {
    /// An event with its dataset and module.
    pub fn new(dataset: &'static str, module: &'static str) -> Self {
        let mut e = Self {
            dataset,
            time: None,
            identity: Identity::default(),
            places: [0; COUNT],
            placed: ColumnSet::default(),
            values: Vec::with_capacity(USUAL),
            held: Vec::new(),
        };
        e.text(Column::EventDataset, dataset);
        e.text(Column::EventModule, module);
        e
    }

    /// Sets the event's own time.
    pub fn at(&mut self, time: Option<Timestamp>) {
        self.time = time;
        if let Some(t) = time {
            self.set(Column::Timestamp, Value::Time(t));
        }
    }

    /// Sets a text; an empty one leaves the column null, since producers write `""` for "none".
    pub fn text(&mut self, column: Column, value: impl Into<Cow<'a, str>>) {
        let value = value.into();
        if !value.is_empty() {
            self.set(column, Value::Text(value));
        }
    }

    /// Sets a text if there is one.
    pub fn maybe(&mut self, column: Column, value: Option<impl Into<Cow<'a, str>>>) {
        if let Some(v) = value {
            self.text(column, v);
        }
    }

    /// Sets an integer.
    pub fn int(&mut self, column: Column, value: i64) {
        self.set(column, Value::Int(value));
    }

    /// Sets a flag.
    pub fn flag(&mut self, column: Column, value: bool) {
        self.set(column, Value::Bool(value));
    }

    /// Appends to a list what it does not hold yet; empty texts are left out.
    pub fn add(&mut self, column: Column, value: impl Into<Cow<'a, str>>) {
        let value = value.into();
        if value.is_empty() {
            return;
        }
        let place = usize::from(self.places[column.index()]).wrapping_sub(1);
        match self.values.get_mut(place) {
            Some(Value::List(list)) if list.len() >= LONG => {
                if hold(&mut self.held, column, list).insert(value.clone()) {
                    list.push(value);
                }
            }
            Some(Value::List(list)) if list.contains(&value) => {}
            Some(Value::List(list)) => list.push(value),
            _ => {
                let mut list = Vec::with_capacity(4);
                list.push(value);
                self.set(column, Value::List(list));
            }
        }
    }

    /// The value of a column that has a place.
    #[inline]
    fn value_mut(&mut self, column: Column) -> Option<&mut Value<'a>> {
        self.values.get_mut(usize::from(self.places[column.index()]).wrapping_sub(1))
    }

    /// A column's value.
    pub fn get(&self, column: Column) -> &Value<'a> {
        const UNSET: &Value<'_> = &Value::Null;
        self.values.get(usize::from(self.places[column.index()]).wrapping_sub(1)).unwrap_or(UNSET)
    }

    /// A column's text, if it is set.
    pub fn get_text(&self, column: Column) -> Option<&str> {
        match self.get(column) {
            Value::Text(t) => Some(t),
            _ => None,
        }
    }

    /// Sets a value. A value of another kind than the column's is a bug of the caller.
    #[inline]
    pub fn set(&mut self, column: Column, value: Value<'a>) {
        debug_assert!(
            matches!(
                (&value, column.kind()),
                (Value::Null, _)
                    | (Value::Text(_), Kind::Text | Kind::Binary)
                    | (Value::Int(_), Kind::Int)
                    | (Value::Bool(_), Kind::Bool)
                    | (Value::Time(_), Kind::Time)
                    | (Value::List(_), Kind::List)
            ),
            "{} is no {:?}: {value:?}",
            column.name(),
            column.kind()
        );
        match self.value_mut(column) {
            Some(place) => {
                *place = value;
                if !self.held.is_empty() {
                    self.held.retain(|(of, _)| *of != column);
                }
            }
            None => {
                self.values.push(value);
                self.places[column.index()] = self.values.len() as u8;
                self.placed.insert(column);
            }
        }
    }

    /// The set columns, by ascending name.
    pub fn values(&self) -> impl Iterator<Item = (Column, &Value<'a>)> {
        self.placed.iter().map(|column| (column, self.get(column))).filter(|(_, v)| !matches!(v, Value::Null))
    }
}

/// The set of what a long list holds.
fn hold<'h, 'a>(
    held: &'h mut Vec<(Column, HashSet<Cow<'a, str>>)>,
    column: Column,
    list: &[Cow<'a, str>],
) -> &'h mut HashSet<Cow<'a, str>> {
    let at = held.iter().position(|(of, _)| *of == column).unwrap_or_else(|| {
        held.push((column, list.iter().cloned().collect()));
        held.len() - 1
    });
    &mut held[at].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_by_name_whatever_was_set_first() {
        let mut e = AuditEvent::new("d", "m");
        for column in Column::ALL.into_iter().rev().filter(|c| c.kind() == Kind::Int) {
            e.int(column, 1);
            e.int(column, column.index() as i64);
        }
        e.add(Column::RelatedIp, "a");
        e.add(Column::RelatedIp, "b");
        e.add(Column::RelatedIp, "a");
        e.text(Column::EventModule, "");
        e.set(Column::EventDataset, Value::Null);
        let names: Vec<_> = e.values().map(|(c, _)| c.name()).collect();
        assert!(names.is_sorted() && !names.contains(&"event_dataset"));
        for (column, value) in e.values() {
            assert_eq!(e.get(column), value);
            match value {
                Value::Int(n) => assert_eq!(*n, column.index() as i64),
                Value::List(items) => assert_eq!(*items, ["a", "b"]),
                other => assert_eq!((column, other), (Column::EventModule, &Value::Text("m".into()))),
            }
        }
        assert_eq!(e.get(Column::UserName), &Value::Null);
    }

    /// Looking through the list for each item would take minutes.
    #[test]
    fn long_lists_hold_each_item_once_in_order() {
        let mut e = AuditEvent::new("d", "m");
        let items = || (0..300_000).map(|i| format!("item-{i}"));
        for item in items().chain(items()) {
            e.add(Column::RelatedUser, item);
        }
        assert_eq!(*e.get(Column::RelatedUser), Value::List(items().map(Cow::Owned).collect()));
        // A list that is set as a whole begins anew, also one of the same length.
        let others = || (1..300_001).map(|i| format!("item-{i}"));
        e.set(Column::RelatedUser, Value::List(others().map(Cow::Owned).collect()));
        for item in ["item-300000", "item-0", "item-1"] {
            e.add(Column::RelatedUser, item);
        }
        let all = others().chain(["item-0".to_owned()]);
        assert_eq!(*e.get(Column::RelatedUser), Value::List(all.map(Cow::Owned).collect()));
    }
}
