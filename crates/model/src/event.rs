//! A normalized event: ECS and `keytrail.*` columns over the record's own bytes.

use std::borrow::Cow;

use crate::column::{COUNT, Column, Kind};
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

/// An audit event as a normalizer makes it.
#[derive(Clone, PartialEq, Debug)]
pub struct AuditEvent<'a> {
    /// `event.dataset`; fixed by the normalizer.
    pub dataset: &'static str,
    /// The event's own time, if it has one.
    pub time: Option<Timestamp>,
    /// What makes it one of a kind.
    pub identity: Identity<'a>,
    values: Box<[Value<'a>]>,
}

impl<'a> AuditEvent<'a> {
    /// An event with its dataset and module.
    pub fn new(dataset: &'static str, module: &'static str) -> Self {
        let mut e = Self {
            dataset,
            time: None,
            identity: Identity::default(),
            values: (0..COUNT).map(|_| Value::Null).collect(),
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
        match &mut self.values[column.index()] {
            Value::List(list) if list.contains(&value) => {}
            Value::List(list) => list.push(value),
            _ => self.set(column, Value::List(vec![value])),
        }
    }

    /// A column's value.
    pub fn get(&self, column: Column) -> &Value<'a> {
        &self.values[column.index()]
    }

    /// A column's text, if it is set.
    pub fn get_text(&self, column: Column) -> Option<&str> {
        match self.get(column) {
            Value::Text(t) => Some(t),
            _ => None,
        }
    }

    /// Sets a value. A value of another kind than the column's is a bug of the caller.
    pub fn set(&mut self, column: Column, value: Value<'a>) {
        debug_assert!(
            matches!(
                (&value, column.kind()),
                (Value::Null, _)
                    | (Value::Text(_), Kind::Text)
                    | (Value::Int(_), Kind::Int)
                    | (Value::Bool(_), Kind::Bool)
                    | (Value::Time(_), Kind::Time)
                    | (Value::List(_), Kind::List)
            ),
            "{} is no {:?}: {value:?}",
            column.name(),
            column.kind()
        );
        self.values[column.index()] = value;
    }

    /// The set columns, by ascending name.
    pub fn values(&self) -> impl Iterator<Item = (Column, &Value<'a>)> {
        Column::ALL.into_iter().zip(self.values.iter()).filter(|(_, v)| !matches!(v, Value::Null))
    }
}
