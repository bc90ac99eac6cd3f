//! A table of the file, asked for its keys one by one: what is wrong is noted, and what nobody asked for
//! is a problem of its own.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Something that is wrong in the file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// Line of the file, from 1.
    pub line: usize,
    /// The key, with the tables that it is in, as in `sources[0].dataset`; empty for the file itself.
    pub key: String,
    /// What was expected. Values stand in it only where they cannot be secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "line {}: {}", self.line, self.message),
            key => write!(f, "line {}: `{key}`: {}", self.line, self.message),
        }
    }
}

/// A text and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Text<'a> {
    /// The text.
    pub text: &'a str,
    /// Its line.
    pub line: usize,
}

/// The file.
struct Page<'t> {
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
    /// Keys that were asked for and are not there.
    absent: RefCell<Vec<String>>,
}

impl Page<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        1 + memchr::memchr_iter(b'\n', before).count()
    }
}

/// A table of the file.
///
/// Every getter notes a problem where the value is of another kind than asked for, and gives `None` then
/// as where there is none: the caller puts the default in its place. `expected` goes on after "expected",
/// as in "the name of the source".
pub struct Section<'p, 't> {
    page: &'p Page<'t>,
    /// With the tables around it, as in `sources[0]`.
    name: String,
    line: usize,
    /// None: it is not in the file, and all of it is at its defaults.
    table: Option<&'p DeTable<'t>>,
    asked: Vec<&'static str>,
}

/// Reads a file: all of what `read` asks for, or the problems.
pub fn read<T>(text: &str, read: impl FnOnce(&mut Section<'_, '_>) -> T) -> Result<T, Vec<Problem>> {
    let (value, mut problems, _) = read_noting(text, read);
    problems.sort();
    problems.dedup();
    value.filter(|_| problems.is_empty()).ok_or(problems)
}

/// [`read`], and the keys that were asked for and are not there.
pub fn read_noting<T>(
    text: &str,
    read: impl FnOnce(&mut Section<'_, '_>) -> T,
) -> (Option<T>, Vec<Problem>, Vec<String>) {
    let page = Page { text, problems: RefCell::default(), absent: RefCell::default() };
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problem = |e: &toml::de::Error| Problem {
            line: page.line(&e.span().unwrap_or_default()),
            key: String::new(),
            message: format!("no TOML: {}", e.message()),
        };
        return (None, errors.iter().map(problem).collect(), Vec::new());
    }
    let mut top = Section {
        page: &page,
        name: String::new(),
        line: 1,
        table: Some(table.get_ref()),
        asked: Vec::new(),
    };
    let value = read(&mut top);
    top.finish();
    (Some(value), page.problems.into_inner(), page.absent.into_inner())
}

impl<'p, 't> Section<'p, 't> {
    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.contains_key(key))
    }

    /// Line of the key, else of the table.
    pub fn line_of(&self, key: &str) -> usize {
        let found = self.table.and_then(|t| t.get_key_value(key));
        found.map_or(self.line, |(key, _)| self.page.line(&key.span()))
    }

    /// Notes a problem with a key.
    pub fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.problem_at(self.line_of(key), key, message);
    }

    /// Notes a problem with a part of a key's value, on that line.
    pub fn problem_at(&mut self, line: usize, key: &str, message: impl Into<String>) {
        let key = self.path(key);
        self.page.problems.borrow_mut().push(Problem { line, key, message: message.into() });
    }

    /// A text.
    pub fn text(&mut self, key: &'static str, expected: &str) -> Option<Text<'p>> {
        let value = self.ask(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(self.placed(value, text)),
            other => self.wrong(key, expected, other),
        }
    }

    /// A text that has to be there.
    pub fn required_text(&mut self, key: &'static str, expected: &str) -> Option<Text<'p>> {
        self.require(key, expected);
        self.text(key, expected)
    }

    /// A list of texts, or one of them.
    pub fn texts(&mut self, key: &'static str, expected: &str) -> Vec<Text<'p>> {
        let Some(value) = self.ask(key) else { return Vec::new() };
        let items = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        let mut texts = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => texts.push(self.placed(item, text)),
                other => {
                    let line = self.page.line(&item.span());
                    self.problem_at(line, key, format!("expected {expected}, found {}", kind(other)));
                }
            }
        }
        texts
    }

    /// [`texts`](Self::texts) of which there has to be one.
    pub fn required_texts(&mut self, key: &'static str, expected: &str) -> Vec<Text<'p>> {
        self.require(key, expected);
        let texts = self.texts(key, expected);
        if texts.is_empty()
            && matches!(self.ask(key).map(Spanned::get_ref), Some(DeValue::Array(a)) if a.is_empty())
        {
            self.problem(key, format!("expected {expected}, found none"));
        }
        texts
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.ask(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => self.wrong(key, "true or false", other),
        }
    }

    /// A whole number in a range.
    pub fn number(&mut self, key: &'static str, within: RangeInclusive<i64>) -> Option<i64> {
        let value = self.ask(key)?;
        let expected = format!("a whole number from {} to {}", within.start(), within.end());
        let DeValue::Integer(digits) = value.get_ref() else {
            return self.wrong(key, &expected, value.get_ref());
        };
        let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
        let number = number.filter(|n| within.contains(n));
        if number.is_none() {
            self.problem(key, format!("expected {expected}, found {digits}"));
        }
        number
    }

    /// A duration in a range, as in `"15m"` or `"1h30m"`.
    pub fn duration(&mut self, key: &'static str, within: RangeInclusive<Duration>) -> Option<Duration> {
        let expected = format!(
            "a duration from {} to {}, as in \"15m\"",
            duration_text(*within.start()),
            duration_text(*within.end())
        );
        let text = self.text(key, &expected)?.text;
        let duration = duration(text).filter(|d| within.contains(d));
        if duration.is_none() {
            self.problem(key, format!("expected {expected}, found `{text}`"));
        }
        duration
    }

    /// The table `[key]`; one that is not there has all defaults.
    pub fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_, 't>) -> T) -> T {
        let (line, table) = match self.ask(key) {
            None => (self.line, None),
            Some(value) => match value.get_ref() {
                DeValue::Table(table) => (self.line_of(key), Some(table)),
                other => {
                    let _noted: Option<()> = self.wrong(key, &format!("a table, `[{key}]`"), other);
                    (self.line, None)
                }
            },
        };
        let mut section = Section { page: self.page, name: self.path(key), line, table, asked: Vec::new() };
        let value = read(&mut section);
        section.finish();
        value
    }

    /// The tables `[[key]]`, in their order.
    pub fn sections<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_, 't>) -> T,
    ) -> Vec<T> {
        let Some(value) = self.ask(key) else { return Vec::new() };
        let expected = format!("tables, each under `[[{key}]]`");
        let DeValue::Array(items) = value.get_ref() else {
            let _noted: Option<()> = self.wrong(key, &expected, value.get_ref());
            return Vec::new();
        };
        let mut all = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let line = self.page.line(&item.span());
            let DeValue::Table(table) = item.get_ref() else {
                self.problem_at(line, key, format!("expected {expected}, found {}", kind(item.get_ref())));
                continue;
            };
            let name = format!("{}[{number}]", self.path(key));
            let mut section = Section { page: self.page, name, line, table: Some(table), asked: Vec::new() };
            all.push(read(&mut section));
            section.finish();
        }
        all
    }

    fn ask(&mut self, key: &'static str) -> Option<&'p Spanned<DeValue<'t>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let value = self.table.and_then(|t| t.get(key));
        if value.is_none() {
            self.page.absent.borrow_mut().push(self.path(key));
        }
        value
    }

    fn require(&mut self, key: &'static str, expected: &str) {
        if !self.has(key) {
            self.problem(key, format!("missing, expected {expected}"));
        }
    }

    fn wrong<T>(&mut self, key: &str, expected: &str, found: &DeValue<'_>) -> Option<T> {
        self.problem(key, format!("expected {expected}, found {}", kind(found)));
        None
    }

    fn placed(&self, value: &Spanned<DeValue<'_>>, text: &'p str) -> Text<'p> {
        Text { text, line: self.page.line(&value.span()) }
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// Notes what nobody asked for.
    fn finish(mut self) {
        let Some(table) = self.table else { return };
        for (key, _) in table.iter() {
            let key: &str = key.get_ref();
            if !self.asked.contains(&key) {
                let near = self.asked.iter().map(|known| (strsim::damerau_levenshtein(key, known), *known));
                let near = near.min().filter(|(distance, known)| *distance <= known.len() / 3 + 1);
                let message = match near {
                    Some((_, known)) => format!("unknown key, did you mean `{known}`?"),
                    None => format!("unknown key, expected one of {}", list(&self.asked)),
                };
                self.problem(key, message);
            }
        }
    }
}

/// `` `a`, `b` or `c` ``.
pub fn list<T: fmt::Display>(names: &[T]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    match quoted.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => quoted.concat(),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads whole numbers with units, added up: `90s`, `1h30m`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == &rest[..unit])?;
        total = total.checked_add(number.checked_mul(*millis)?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// A duration as the file has it, in its two largest units.
pub fn duration_text(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    let mut parts = 0;
    for (name, millis) in UNITS {
        if left >= millis && parts < 2 {
            text.push_str(&format!("{}{name}", left / millis));
            left %= millis;
            parts += 1;
        } else if parts > 0 {
            break;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}
