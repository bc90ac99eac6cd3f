//! Which events a panel is about: one value, as a query of Kibana (KQL) and as what Kibana makes of it.

use serde_json::{Value, json};

/// A condition.
#[derive(Clone, Debug)]
pub enum Filter {
    /// On nothing: every event.
    All,
    /// The field has one of these values.
    Is(&'static str, Vec<&'static str>),
    /// The field has a value.
    Has(&'static str),
    /// What does not fulfil it.
    Not(Box<Filter>),
    /// All of them hold.
    And(Vec<Filter>),
    /// One of them holds.
    Or(Vec<Filter>),
}

/// The field has this value.
pub fn is(field: &'static str, value: &'static str) -> Filter {
    Filter::Is(field, vec![value])
}

/// The field has one of these values.
pub fn one_of(field: &'static str, values: &[&'static str]) -> Filter {
    Filter::Is(field, values.to_vec())
}

/// The field has a value.
pub fn has(field: &'static str) -> Filter {
    Filter::Has(field)
}

/// It does not hold.
pub fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

/// All of them hold.
pub fn and(filters: impl Into<Vec<Filter>>) -> Filter {
    Filter::And(filters.into())
}

/// One of them holds.
pub fn or(filters: impl Into<Vec<Filter>>) -> Filter {
    Filter::Or(filters.into())
}

impl Filter {
    /// As a person would type it into Kibana.
    pub fn kql(&self) -> String {
        match self {
            Self::All => String::new(),
            Self::Is(field, values) => {
                let quoted: Vec<String> = values
                    .iter()
                    .map(|v| {
                        assert!(!v.contains(['"', '\\']), "a value that needs escapes: {v}");
                        format!("\"{v}\"")
                    })
                    .collect();
                match quoted.as_slice() {
                    [one] => format!("{field}: {one}"),
                    many => format!("{field}: ({})", many.join(" or ")),
                }
            }
            Self::Has(field) => format!("{field}: *"),
            Self::Not(inner) => format!("not {}", inner.part()),
            Self::And(all) => all.iter().map(Self::part).collect::<Vec<_>>().join(" and "),
            Self::Or(any) => any.iter().map(Self::part).collect::<Vec<_>>().join(" or "),
        }
    }

    fn part(&self) -> String {
        match self {
            Self::And(_) | Self::Or(_) => format!("({})", self.kql()),
            _ => self.kql(),
        }
    }

    /// As Kibana sends it to the server.
    pub fn query(&self) -> Value {
        let any = |queries: Vec<Value>| json!({"bool": {"should": queries, "minimum_should_match": 1}});
        match self {
            Self::All => json!({"match_all": {}}),
            Self::Is(field, values) => {
                any(values.iter().map(|v| json!({"match_phrase": {*field: v}})).collect())
            }
            Self::Has(field) => any(vec![json!({"exists": {"field": field}})]),
            Self::Not(inner) => json!({"bool": {"must_not": inner.query()}}),
            Self::And(all) => json!({"bool": {"filter": all.iter().map(Self::query).collect::<Vec<_>>()}}),
            Self::Or(parts) => any(parts.iter().map(Self::query).collect()),
        }
    }

    /// The fields that it is about.
    pub fn fields(&self) -> Vec<&'static str> {
        match self {
            Self::All => vec![],
            Self::Is(field, _) | Self::Has(field) => vec![field],
            Self::Not(inner) => inner.fields(),
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::fields).collect(),
        }
    }
    /// The values that it asks for, with their fields.
    pub fn values(&self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::All | Self::Has(_) => vec![],
            Self::Is(field, values) => values.iter().map(|value| (*field, *value)).collect(),
            Self::Not(inner) => inner.values(),
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::values).collect(),
        }
    }
}
