//! Hides secrets and personal data from typed columns and terminals (ARCHITECTURE rule 2).
//!
//! What it is: the mask of a value, the search for secrets in a text, and the view of a record's
//! original bytes that people may see. What it is not: it never touches the archived original.
//! In: texts and record bytes. Out: the same with secrets as `masked:<key id>:<tag>`.

mod clean;
mod document;
mod hints;
mod quoted;
mod secrets;
mod sensitive;

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::Format;

/// Masks values with a keyed hash: equal values stay comparable, the value itself stays hidden.
#[derive(Clone)]
pub struct Masker {
    mac: Hmac<Sha256>,
    key_id: String,
}

impl Masker {
    /// A masker with the archive's mask key; the key id is the first 8 hex digits of the key's SHA-256.
    pub fn new(key: &[u8; 32]) -> Self {
        // HMAC pads a short key with zeros to the hash's block (RFC 2104 section 2).
        let mut block = [0; 64];
        block[..32].copy_from_slice(key);
        let mac = Hmac::<Sha256>::new(&block.into());
        Self { mac, key_id: keytrail_model::Hash::of(key).to_hex()[..8].to_owned() }
    }

    /// `masked:<key id>:<16 hex of HMAC-SHA-256>`.
    pub fn mask(&self, value: &str) -> String {
        let mut mac = self.mac.clone();
        mac.update(value.as_bytes());
        let tag: [u8; 32] = mac.finalize().into_bytes().into();
        format!("masked:{}:{}", self.key_id, &keytrail_model::Hash(tag).to_hex()[..16])
    }

    /// Masks the parts of a free text that look like secrets, as `schemas/sensitive.yaml` lists them; a
    /// text without any comes back as it is. A text that was scrubbed stays as it is.
    pub fn scrub<'a>(&self, text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
        let text = text.into();
        let mut found = None;
        let is_clean = clean::known_or(text.as_bytes(), |text| {
            found = if hints::suspect(text) { secrets::next(text, 0) } else { None };
            found.is_none()
        });
        if is_clean {
            return text;
        }
        let mut out = String::with_capacity(text.len());
        let mut kept = 0;
        while let Some(secret) = found {
            out.push_str(&text[kept..secret.start]);
            out.push_str(&self.mask(&text[secret.clone()]));
            kept = secret.end;
            found = secrets::next(text.as_bytes(), kept);
        }
        out.push_str(&text[kept..]);
        Cow::Owned(out)
    }

    /// A tag over bytes that are to be recognised as this trail's own, with the purpose put first.
    pub fn tagger(&self, purpose: &[u8]) -> Tagger {
        let mut mac = self.mac.clone();
        mac.update(purpose);
        Tagger(mac)
    }

    /// A record's original bytes for people's eyes: the values of the source's secret fields (of any
    /// source's, where it is not known) masked, also in records that it holds as strings, all other strings
    /// scrubbed, everything else as it came. Bytes that are not UTF-8 are shown as U+FFFD, and what is not JSON is scrubbed as text. Control characters are the terminal's matter.
    pub fn mask_document(&self, format: Option<Format>, original: &[u8]) -> String {
        document::mask(self, format, &String::from_utf8_lossy(original))
    }
}

/// HMAC-SHA-256 in the making, under the mask key.
#[derive(Clone)]
pub struct Tagger(Hmac<Sha256>);

impl Tagger {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The tag over all of them.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }

    /// Whether `tag` is over all of them, in constant time.
    pub fn matches(self, tag: &[u8]) -> bool {
        self.0.verify_slice(tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masker() -> Masker {
        Masker::new(&[7; 32])
    }

    #[test]
    fn masks_are_stable_and_keyed() {
        let m = masker();
        assert_eq!(m.mask("a"), m.mask("a"));
        assert_ne!(m.mask("a"), m.mask("b"));
        assert_ne!(m.mask("a"), Masker::new(&[8; 32]).mask("a"));
        assert_eq!(m.mask("a").len(), "masked:".len() + 8 + 1 + 16);
    }

    #[test]
    fn texts_without_secrets_are_not_copied() {
        for text in [
            "",
            "aws-cli/1.18.89 Python/3.6.10 Linux/4.9.217-0.1.ac.205.84.332.metal1.x86_64 botocore/1.17.12",
            "APN/1.0 HashiCorp/1.0 Terraform/1.1.2 (+https://www.terraform.io) terraform-provider-aws/3.76.1 \
             (+https://registry.terraform.io/providers/hashicorp/aws) stratus-red-team_561fe49b-e6b4-44da-a587-f2c718eb578a",
            "arn:aws:kms:us-west-2:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
            "f020fe75197b93991dc8491d6f19dd3cebb24ee62277a05914386724f3d48758",
            "arn:aws:secretsmanager:us-east-1:123837392027:secret:stratus-red-team-retrieve-secret-18-L0CnJd",
            "AROATFQR7NSC3K2SEQDM2:MandoService364061179539770931",
            "hmac-sha256:9e3e2ef3a5b4b8b2c8e8e8d0f7d3d3ce0d0b0b7f9e3e2ef3a5b4b8b2c8e8e8d0",
            "The security token included in the request is invalid",
            "User: arn:aws:sts::1:assumed-role/r/aws-go-sdk-1722587398902687000 is not authorized to perform: kms:Decrypt",
        ] {
            assert!(matches!(masker().scrub(text), Cow::Borrowed(t) if t == text), "{text}");
        }
    }

    #[test]
    fn secrets_in_hostile_places_are_found() {
        let m = masker();
        for (text, secret) in [
            (r#"{"password":"hunter2"}"#, "hunter2"),
            (r#"{\"dbPassword\" : \"hunter2\"}"#, "hunter2"),
            ("PASSWORD = h\u{fc}nter2", "h\u{fc}nter2"),
            ("Authorization: Bearer abcdef0123456789.xyz", "abcdef0123456789.xyz"),
            ("?X-Amz-Security-Token=IQoJ%2Fabc&", "IQoJ%2Fabc"),
            ("s.5njfHdQjbQpQ0MmjB8SPaTZk", "s.5njfHdQjbQpQ0MmjB8SPaTZk"),
            ("card-5500005555555559.", "5500005555555559"),
            ("3782 822463 10005", "3782 822463 10005"),
            ("a,xoxb-123456789012-abc", "xoxb-123456789012-abc"),
        ] {
            assert_eq!(m.scrub(text), text.replace(secret, &m.mask(secret)), "{text}");
        }
    }

    #[test]
    fn what_was_scrubbed_stays_as_it_is() {
        let m = masker();
        let token = "hvs.CAESIJlWh1Zj0123456789abcdef";
        for before in
            ["hvs.CAESIJ00000ke/", "x-", "eyJhbGciOiJI.eyJzdW/", "AKIAIOSF0DNN7EXAMPLE+abcdEFGH0123456789/"]
        {
            let scrubbed = m.scrub(format!("{before}{} {token}", m.mask("a"))).into_owned();
            assert!(!scrubbed.contains(token) && scrubbed.contains(&m.mask("a")), "{scrubbed}");
            assert_eq!(m.scrub(scrubbed.as_str()), scrubbed);
        }
    }

    #[test]
    fn long_hostile_texts_take_linear_time() {
        let m = masker();
        for part in [
            "eyJghp_0123456789abcdefghijABCDEFGHIJ012345",
            "password=",
            "4111 ",
            "-----BEGIN ",
            "s.",
            "\\\"",
            "=:",
        ] {
            let text = part.repeat(2_000_000 / part.len());
            let scrubbed = m.scrub(text.as_str());
            assert!(scrubbed.len() < 8 * text.len());
        }
    }
}
