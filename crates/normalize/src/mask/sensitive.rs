//! The table behind `schemas/sensitive.yaml`: fields that hold secrets, and what secrets look like.
//!
//! The file is printed from these tables and a test keeps them equal, so that what is documented is
//! what is masked; the same test runs the examples.

use crate::Format;

/// A field that holds a secret.
pub(super) struct Field {
    /// The source that has it.
    pub format: Format,
    /// Dotted path; a name with dots of its own stands in `["..."]`. The last name is masked wherever it
    /// stands, in any case.
    pub path: &'static str,
}

impl Field {
    /// The last name of the path.
    pub fn name(&self) -> &'static str {
        let last = match self.path.strip_suffix("\"]") {
            Some(path) => path.rsplit("[\"").next(),
            None => self.path.rsplit('.').next(),
        };
        last.unwrap_or(self.path)
    }
}

macro_rules! fields {
    ($($format:ident: $($path:literal)*;)*) => {
        /// All fields that hold secrets.
        pub(super) const FIELDS: &[Field] =
            &[$($(Field { format: Format::$format, path: $path },)*)*];
    };
}

fields! {
    CloudTrail:
        "responseElements.credentials.sessionToken"
        "responseElements.credentials.secretAccessKey"
        "responseElements.accessKey.secretAccessKey"
        "responseElements.keyMaterial"
        "responseElements.plaintext"
        "responseElements.privateKeyPlaintext"
        "responseElements.randomPassword"
        "responseElements.secretString"
        "responseElements.secretBinary"
        "requestParameters.secretString"
        "requestParameters.secretBinary"
        "requestParameters.plaintext"
        "requestParameters.password"
        "requestParameters.newPassword"
        "requestParameters.oldPassword"
        "requestParameters.masterUserPassword"
        "requestParameters.keyStorePassword"
        "requestParameters.privateKey"
        "requestParameters.clientSecret"
        "requestParameters.sAMLAssertion"
        "requestParameters.webIdentityToken"
        "requestParameters.rawSecretAccessKey"
        "requestParameters.userData"
        "responseElements.accessToken"
        "responseElements.refreshToken"
        "responseElements.idToken"
        "responseElements.signinToken";
    Gcp:
        "protoPayload.request.plaintext"
        "protoPayload.request.payload"
        "protoPayload.request.privateKeyData"
        "protoPayload.request.additionalAuthenticatedData"
        "protoPayload.response.plaintext"
        "protoPayload.response.payload"
        "protoPayload.response.privateKeyData"
        "protoPayload.response.sharedSecret"
        "protoPayload.response.accessToken";
    KeyOperation:
        "body.pin"
        "body.password"
        "body.plaintext"
        "body.key_material"
        "body.token";
    KeyVault:
        "identity.claim.aio"
        "identity.claim.rh"
        "identity.claim.uti";
    Kubernetes:
        "requestObject.data"
        "requestObject.stringData"
        "requestObject.spec.token"
        "responseObject.data"
        "responseObject.items.data"
        "responseObject.status.token"
        "metadata.annotations[\"kubectl.kubernetes.io/last-applied-configuration\"]";
    Vault:
        "auth.client_token"
        "auth.accessor"
        "request.client_token"
        "request.client_token_accessor"
        "request.data.password"
        "request.data.secret_id"
        "request.data.plaintext"
        "request.data.private_key"
        "request.data.token"
        "request.data.key"
        "request.data.jwt"
        "response.auth.client_token"
        "response.data.keys"
        "response.data.keys_base64"
        "response.data.recovery_keys"
        "response.data.root_token"
        "response.data.secret_key"
        "response.data.security_token"
        "response.wrap_info.token"
        "response.wrap_info.wrapped_accessor";
}

/// A shape of secrets in free text, found by [`super::secrets`].
/// Whether a key names a secret field of the source, or of any, where it is not known.
pub(super) fn is_secret(format: Option<Format>, key: &str) -> bool {
    FIELDS.iter().any(|f| format.is_none_or(|known| f.format == known) && f.name().eq_ignore_ascii_case(key))
}

#[cfg(test)]
pub(super) struct Shape {
    pub name: &'static str,
    pub doc: &'static str,
    /// A text, and the part of it that is masked.
    pub example: (&'static str, &'static str),
    /// A text that stays as it is.
    pub not: &'static str,
}

#[cfg(test)]
const SHAPES: &[Shape] = &[
    Shape {
        name: "pem",
        doc: "a PEM block of any label, from its first dash on",
        example: (
            "key -----BEGIN EC PRIVATE KEY-----\\nMHcCAQEE\\n-----END EC PRIVATE KEY-----\\n; next",
            "-----BEGIN EC PRIVATE KEY-----\\nMHcCAQEE\\n-----END EC PRIVATE KEY-----\\n",
        ),
        not: "a line of dashes ------------ BEGIN",
    },
    Shape {
        name: "random-base64",
        doc: "40 or more characters of base64 or base64url that change between upper case, lower case and digits as \
              random bytes do: AWS secret access keys and session tokens, ciphertexts, key blobs",
        example: (
            "used wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY today",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        ),
        not: "assumed-role/AWSReservedSSO_AdministratorAccess_0123456789abcdef/AWSLogs/111122223333/ConfigWritabilityCheckFile",
    },
    Shape {
        name: "vault-token",
        doc: "tokens of Vault and OpenBao: hvs., hvb., hvr., and the older s., b., r.",
        example: ("X hvs.CAESIJlWh1Zj0123456789abcdef Y", "hvs.CAESIJlWh1Zj0123456789abcdef"),
        not: "logs.example.com and s.amazonaws.com",
    },
    Shape {
        name: "jwt",
        doc: "JSON web tokens, signed or not (RFC 7519)",
        example: (
            "sent eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP here",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP",
        ),
        not: "eyJhIjoxfQ is a page marker",
    },
    Shape {
        name: "vendor-token",
        doc: "tokens that name their issuer: GitHub, GitLab, Slack",
        example: (
            "clone https://ghp_0123456789abcdefghijABCDEFGHIJ012345@example.com",
            "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        ),
        not: "ghp_short and xox-games",
    },
    Shape {
        name: "named-value",
        doc: "the value behind password, passphrase, pwd, an API, secret, access or private key, a client secret, a \
              session or access token and `=` or `:`; behind secret, token, signature, pin and `=`; behind Bearer",
        example: ("https://example.com/?user=a&password=hunter2&x=1", "hunter2"),
        not: "arn:aws:secretsmanager:us-east-1:111122223333:secret:password-of-db-AbCdEf",
    },
    Shape {
        name: "card-number",
        doc: "payment card numbers of the large networks with a right check digit (ISO/IEC 7812-1), plain or grouped",
        example: ("paid with 4111 1111 1111 1111, thanks", "4111 1111 1111 1111"),
        not: "aws-go-sdk-1722587398902687000 at 4111111111111112",
    },
];

/// The text of `schemas/sensitive.yaml`.
#[cfg(test)]
fn yaml() -> String {
    let mut out = String::from(
        "# What keytrail masks: fields that hold secrets, and texts that look like secrets.\n\
         # Typed columns, index, reports, alerts and terminals show `masked:<key id>:<16 hex of HMAC-SHA-256>`\n\
         # instead; the original bytes alone keep the value. Printed from the tables that do the masking:\n\
         # change those, then run the tests of the normalizers with UPDATE_GOLDEN=1.\n\
         version: 1\n\
         # By source. Documents: the value of a field with the path's last name, wherever it stands and in any\n\
         # case. Columns: normalizers copy none of these but accessors, as their masks.\n\
         fields:\n",
    );
    for format in Format::ALL {
        let mut fields = FIELDS.iter().filter(|f| f.format == format).peekable();
        out += &format!("  {}:{}\n", format.name(), if fields.peek().is_none() { " []" } else { "" });
        for field in fields {
            out += &format!("    - {}\n", field.path);
        }
    }
    out += "# In free texts, of all sources. `example` becomes `masked`, where `*` stands for the mask; `not` stays.\n\
            patterns:\n";
    let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
    for shape in SHAPES {
        let (text, secret) = shape.example;
        out += &format!("  - name: {}\n    doc: {}\n", shape.name, quote(shape.doc));
        out += &format!("    example: {}\n", quote(text));
        out += &format!("    masked: {}\n", quote(&text.replace(secret, "*")));
        out += &format!("    not: {}\n", quote(shape.not));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::Masker;
    use super::*;

    #[test]
    fn the_documented_table_is_the_one_in_use() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/sensitive.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, yaml()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), yaml());
    }

    #[test]
    fn shapes_are_found_as_documented() {
        let masker = Masker::new(&[7; 32]);
        for shape in SHAPES {
            let (text, secret) = shape.example;
            assert!(text.contains(secret), "{}", shape.name);
            assert_eq!(masker.scrub(text), text.replace(secret, &masker.mask(secret)), "{}", shape.name);
            assert_eq!(masker.scrub(shape.not), shape.not, "{}", shape.name);
        }
    }
}
