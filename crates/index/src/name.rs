//! Where a document lives: a function of its event alone (ARCHITECTURE rule 6).

use std::fmt;

use keytrail_model::Day;

/// How long a time one index is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Period {
    /// `2023.07.10`
    Day,
    /// `2023.07`
    #[default]
    Month,
    /// `2023`
    Year,
}

impl Period {
    /// The period of that name in configuration: `day`, `month`, `year`.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "day" => Some(Self::Day),
            "month" => Some(Self::Month),
            "year" => Some(Self::Year),
            _ => None,
        }
    }

    /// The suffix of indices: the period that a day lies in, or `undated`.
    pub fn suffix(self, day: Day) -> String {
        let name = day.to_string();
        match (day, self) {
            (Day::Undated, _) => name,
            (_, Self::Day) => name.replace('-', "."),
            // Years have four digits: days lie between 2006 and what a receipt's clock says.
            (_, Self::Month) => name.get(..7).unwrap_or(&name).replace('-', "."),
            (_, Self::Year) => name.get(..4).unwrap_or(&name).to_owned(),
        }
    }
}

/// Tells indices of several installations in one cluster apart: lower-case letters, digits and `_`, at most 64.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Namespace(String);

impl Namespace {
    /// `None` where a name has other characters, is empty or longer.
    pub fn new(name: &str) -> Option<Self> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        ((1..=64).contains(&name.len()) && name.bytes().all(fits)).then(|| Self(name.to_owned()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `keytrail-<dataset>-<namespace>-<period>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IndexName(String);

impl IndexName {
    /// Of a dataset's events of a day.
    pub fn of(dataset: &str, namespace: &Namespace, period: Period, day: Day) -> Self {
        Self(format!("keytrail-{dataset}-{namespace}-{}", period.suffix(day)))
    }

    /// Of what an index refused.
    pub fn dead_letters(namespace: &Namespace, period: Period, day: Day) -> Self {
        Self(format!("keytrail-deadletter-{namespace}-{}", period.suffix(day)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IndexName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_follows_from_dataset_and_day() {
        let day = Day::parse("2023-07-10").expect("a day");
        let namespace = Namespace::default();
        let of = |period| IndexName::of("aws.cloudtrail", &namespace, period, day).to_string();
        assert_eq!(of(Period::Month), "keytrail-aws.cloudtrail-default-2023.07");
        assert_eq!(of(Period::Day), "keytrail-aws.cloudtrail-default-2023.07.10");
        assert_eq!(of(Period::Year), "keytrail-aws.cloudtrail-default-2023");
        let undated = IndexName::of("vault.audit", &namespace, Period::Day, Day::Undated);
        assert_eq!(undated.as_str(), "keytrail-vault.audit-default-undated");
    }

    #[test]
    fn namespaces_are_safe_in_names_and_patterns() {
        for bad in ["", "a-b", "A", "a*", "a,b", "../x", "ä", &"x".repeat(65)] {
            assert_eq!(Namespace::new(bad), None, "{bad}");
        }
        assert_eq!(Namespace::new("prod_eu1").expect("fits").as_str(), "prod_eu1");
    }
}
