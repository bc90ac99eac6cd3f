//! Where a document lives: a function of its event alone (ARCHITECTURE rule 6).

use std::fmt;
use std::ops::Range;

use keytrail_model::Day;

/// Stands in the place of the dataset in the name of what an index refused.
const DEAD_LETTERS: &str = "deadletter";

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

    /// Its name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
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

    /// The days (since 1970) of a suffix with a time.
    fn days(suffix: &str) -> Option<(Self, Range<i64>)> {
        let number =
            |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i64>().ok())?;
        let first = |year: i64, month: i64| match Day::parse(&format!("{year:04}-{month:02}-01")) {
            Some(Day::Dated(day)) => Some(day),
            _ => None,
        };
        let mut parts = suffix.split('.');
        let year = parts.next().filter(|year| year.len() == 4).and_then(number)?;
        let two = |part: &str| (part.len() == 2).then(|| number(part))?;
        let (month, day) = (parts.next().map(two), parts.next());
        let (period, days) = match (month, day, parts.next()) {
            (None, ..) => (Self::Year, first(year, 1)?..first(year + 1, 1)?),
            (Some(month), None, _) => {
                let month = month?;
                let next = if month == 12 { first(year + 1, 1)? } else { first(year, month + 1)? };
                (Self::Month, first(year, month)?..next)
            }
            (Some(_), Some(_), None) => match Day::parse(&suffix.replace('.', "-"))? {
                Day::Dated(day) => (Self::Day, day..day + 1),
                Day::Undated => return None,
            },
            _ => return None,
        };
        // One way to write it: what another name says is another index.
        (period.suffix(Day::Dated(days.start)) == suffix).then_some((period, days))
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
        Self::of(DEAD_LETTERS, namespace, period, day)
    }

    /// Reads a name as a server lists it; `None` where it is not one of keytrail's indices in this namespace.
    pub fn parse(name: &str, namespace: &Namespace) -> Option<Self> {
        let this = Self(name.to_owned());
        let (dataset, its, suffix) = this.parts()?;
        let fits = !dataset.is_empty() && its == namespace.as_str();
        (fits && (suffix == "undated" || Period::days(suffix).is_some())).then_some(this)
    }

    /// Dataset, namespace and suffix.
    fn parts(&self) -> Option<(&str, &str, &str)> {
        let mut parts = self.0.strip_prefix("keytrail-")?.rsplitn(3, '-');
        let (suffix, namespace, dataset) = (parts.next()?, parts.next()?, parts.next()?);
        Some((dataset, namespace, suffix))
    }

    /// The dataset of its documents.
    pub fn dataset(&self) -> &str {
        self.parts().map_or("", |(dataset, ..)| dataset)
    }

    /// Its period, and the days since 1970 of its documents; `None` for those without a time.
    pub fn time(&self) -> Option<(Period, Range<i64>)> {
        Period::days(self.parts()?.2)
    }

    /// Whether it holds what indices refused.
    pub fn is_of_dead_letters(&self) -> bool {
        self.dataset() == DEAD_LETTERS
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
    fn names_are_read_as_they_are_written() {
        let namespace = Namespace::default();
        for (day, period, days) in [
            ("2023-12-31", Period::Month, "2023-12-01..2024-01-01"),
            ("2024-02-29", Period::Day, "2024-02-29..2024-03-01"),
            ("2024-02-29", Period::Year, "2024-01-01..2025-01-01"),
        ] {
            let name = IndexName::of("aws.cloudtrail", &namespace, period, Day::parse(day).expect("a day"));
            let read = IndexName::parse(name.as_str(), &namespace).expect("a name");
            let (its, Range { start, end }) = read.time().expect("a time");
            let text = format!("{}..{}", Day::Dated(start), Day::Dated(end));
            assert_eq!((its, text.as_str(), read.dataset()), (period, days, "aws.cloudtrail"));
        }
        for other in [
            "keytrail-aws.cloudtrail-other-2023.07",
            "keytrail-default-2023.07",
            "keytrail-aws.cloudtrail-default-2023.7",
            "keytrail-aws.cloudtrail-default-2023.13",
            "keytrail-aws.cloudtrail-default-2023.02.30",
            "keytrail-aws.cloudtrail-default-2023.07.10.11",
            "keytrail-aws.cloudtrail-default-+023",
            "keytrail-aws.cloudtrail-default-",
            "logs-aws.cloudtrail-default-2023.07",
        ] {
            assert_eq!(IndexName::parse(other, &namespace), None, "{other}");
        }
        let undated = IndexName::parse("keytrail-vault.audit-default-undated", &namespace).expect("a name");
        assert!(undated.time().is_none() && !undated.is_of_dead_letters());
    }

    #[test]
    fn namespaces_are_safe_in_names_and_patterns() {
        for bad in ["", "a-b", "A", "a*", "a,b", "../x", "ä", &"x".repeat(65)] {
            assert_eq!(Namespace::new(bad), None, "{bad}");
        }
        assert_eq!(Namespace::new("prod_eu1").expect("fits").as_str(), "prod_eu1");
    }
}
