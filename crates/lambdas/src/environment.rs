//! What a function is told by its environment: read once, all problems together.

use keytrail_model::Fatal;

/// A place in S3.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct S3Url {
    /// The bucket.
    pub bucket: String,
    /// Folders or a key, without a slash at the ends; may be empty.
    pub key: String,
}

impl S3Url {
    /// Reads `s3://bucket/key`.
    pub fn parse(text: &str) -> Option<Self> {
        let (bucket, key) = text.strip_prefix("s3://")?.split_once('/').unwrap_or((&text[5..], ""));
        let bucket = Some(bucket).filter(|b| !b.is_empty())?;
        Some(Self { bucket: bucket.to_owned(), key: key.trim_matches('/').to_owned() })
    }

    /// A key below it.
    pub fn below(&self, key: &str) -> String {
        if self.key.is_empty() { key.to_owned() } else { format!("{}/{key}", self.key) }
    }
}

/// Environment variables, and what is wrong with them.
pub struct Environment<'a> {
    read: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl<'a> Environment<'a> {
    /// Variables as `read` gives them.
    pub fn new(read: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { read, problems: Vec::new() }
    }

    /// One that may be missing.
    pub fn optional(&mut self, name: &str) -> Option<String> {
        (self.read)(name).filter(|value| !value.is_empty())
    }

    /// One that has to be there.
    pub fn text(&mut self, name: &str, expected: &str) -> String {
        self.parsed(name, expected, |text| Some(text.to_owned())).unwrap_or_default()
    }

    /// A place in S3.
    pub fn s3(&mut self, name: &str) -> S3Url {
        let url = self.parsed(name, "a place as s3://bucket/prefix", S3Url::parse);
        url.unwrap_or(S3Url { bucket: String::new(), key: String::new() })
    }

    /// A value that `parse` reads.
    pub fn parsed<T>(&mut self, name: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = self.optional(name);
        let parsed = value.as_deref().and_then(parse);
        if parsed.is_none() {
            let found = value.map_or_else(|| "it is not set".to_owned(), |v| format!("found `{v}`"));
            self.problems.push(format!("`{name}`: expected {expected}, {found}"));
        }
        parsed
    }

    /// A number with a default.
    pub fn number(&mut self, name: &str, default: u64) -> u64 {
        match self.optional(name) {
            None => default,
            Some(_) => self.parsed(name, "a whole number", |text| text.parse().ok()).unwrap_or(default),
        }
    }

    /// # Errors
    /// `Fatal.Config`: every problem.
    pub fn finish(self) -> Result<(), Fatal> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(Fatal::new("Fatal.Config", self.problems.join("; ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_told_together() {
        let read = |name: &str| match name {
            "A" => Some("s3://b/p/q/".to_owned()),
            "B" => Some("file:///x".to_owned()),
            "N" => Some("seven".to_owned()),
            _ => None,
        };
        let mut env = Environment::new(&read);
        let a = env.s3("A");
        assert_eq!((a.bucket.as_str(), a.below("k")), ("b", "p/q/k".to_owned()));
        env.s3("B");
        env.text("C", "an ARN");
        assert_eq!((env.number("N", 3), env.number("M", 4)), (3, 4));
        let e = env.finish().unwrap_err();
        assert_eq!(
            e.to_string(),
            "Fatal.Config: `B`: expected a place as s3://bucket/prefix, found `file:///x`; `C`: expected an ARN, it is \
             not set; `N`: expected a whole number, found `seven`"
        );
        assert_eq!(S3Url::parse("s3://b").map(|u| u.below("k")), Some("k".into()));
        assert_eq!(S3Url::parse("s3:///k"), None);
    }
}
