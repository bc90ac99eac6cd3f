//! Where a trail is: a folder of this machine, or below a prefix of an S3 bucket.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a trail is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A folder.
    Folder(PathBuf),
    /// `s3://BUCKET[/PREFIX]`; no slash at the ends of the prefix, which may be empty.
    S3 {
        /// The bucket.
        bucket: String,
        /// What all keys begin with.
        prefix: String,
    },
}

impl Place {
    /// Reads a folder's path or an `s3://` URL.
    ///
    /// # Errors
    /// What was expected of the URL.
    pub fn parse(text: OsString) -> Result<Self, String> {
        let Some(rest) = text.to_str().and_then(|text| text.strip_prefix("s3://")) else {
            return Ok(Self::Folder(text.into()));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let is_bucket = (3..=63).contains(&bucket.len())
            && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b));
        let is_segment = |segment: &str| {
            !["", ".", ".."].contains(&segment)
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._=-".contains(&b))
        };
        if !is_bucket || !(prefix.is_empty() || prefix.split('/').all(is_segment)) {
            return Err("expected s3://BUCKET or s3://BUCKET/PREFIX, a prefix of letters, digits and `._=-` with `/` \
                        between them"
                .to_owned());
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// As it is shown, and as files are named in it.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Folder(path) => path.clone(),
            Self::S3 { bucket, prefix } => Path::new(&format!("s3://{bucket}")).join(prefix),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().display().to_string();
        f.write_str(path.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_shown() {
        let of = |text: &str| Place::parse(text.into());
        assert_eq!(of("trail"), Ok(Place::Folder("trail".into())));
        for (url, shown) in [
            ("s3://a-bucket", "s3://a-bucket"),
            ("s3://a-bucket/", "s3://a-bucket"),
            ("s3://a-bucket/x/y_1/", "s3://a-bucket/x/y_1"),
        ] {
            let place = of(url).unwrap();
            assert!(matches!(place, Place::S3 { .. }));
            assert_eq!(place.to_string(), shown);
        }
        for url in
            ["s3://", "s3://A", "s3://ab", "s3:///x", "s3://bucket//x", "s3://bucket/../x", "s3://bucket/a b"]
        {
            assert!(of(url).unwrap_err().starts_with("expected s3://BUCKET"), "{url}");
        }
    }
}
