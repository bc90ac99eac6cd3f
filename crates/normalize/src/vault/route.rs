//! What a call's path means: Vault's API is its paths (transit, PKI, KV, sys, identity, auth methods).
//!
//! What it is: a pure function of engine, operation and the path below the mount. What it is not: it
//! says nothing of what came of the call. `schemas/mappings/vault.md` has the table in words.
//! In: engine, operation, path. Out: [`Route`].

use std::borrow::Cow;

use keytrail_model::ActionClass as C;

/// The meaning of a path.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Route<'a> {
    /// `event.action`: `<engine>/<verb>`, or `<engine>/<resource>/<operation>` where the path names no verb.
    pub action: Cow<'static, str>,
    /// Action class; `None` for logins and for what this version does not know.
    pub class: Option<C>,
    /// Transit (or identity token) key that the path names.
    pub key: Option<&'a str>,
    /// Version that the path names.
    pub version: Option<&'a str>,
    /// Second key: destination of a wrapped export.
    pub target: Option<&'a str>,
    /// A login, as the user that the path may name.
    pub login: Option<Option<&'a str>>,
    /// User that is acted on.
    pub user: Option<&'a str>,
    /// The last segment is a token or accessor, as the API took them in URLs.
    pub token_in_path: bool,
}

/// Operations that the producer calls reads (`sdk/logical/request.go`).
pub(super) fn reads(operation: &str) -> bool {
    matches!(operation, "read" | "list" | "scan" | "help" | "header" | "alias-lookahead" | "resolve-role")
}

/// Segments beyond this many stay together in the last one.
const SEGMENTS: usize = 6;

/// What an operation on a path below a mount of an engine means. `engine` is the mount type without
/// the `ns_` of a namespace's own mounts; `auth` says that it is an auth method.
pub(super) fn route<'a>(engine: &str, auth: bool, operation: &str, path: &'a str) -> Route<'a> {
    let mut parts = [""; SEGMENTS];
    let mut n = 0;
    for part in path.trim_matches('/').splitn(SEGMENTS, '/') {
        parts[n] = part;
        n += 1;
    }
    let call = Call { engine, operation, parts: &parts[..n] };
    if matches!(operation, "help" | "header" | "alias-lookahead" | "resolve-role") {
        return call.resource(Some(C::Access));
    }
    match engine {
        "transit" => transit(&call),
        "pki" => pki(&call),
        "kv" | "generic" => kv(&call),
        "cubbyhole" => secret(&call),
        "system" => system(&call),
        "identity" => identity(&call),
        "token" if auth => token(&call),
        _ if auth => login(&call),
        _ => other(&call),
    }
}

struct Call<'e, 'p, 'a> {
    engine: &'e str,
    operation: &'e str,
    parts: &'p [&'a str],
}

impl<'a> Call<'_, '_, 'a> {
    /// A path that names what is done.
    fn verb(&self, class: impl Into<Option<C>>, action: &'static str) -> Route<'a> {
        Route { action: Cow::Borrowed(action), class: class.into(), ..Route::default() }
    }

    /// As [`verb`](Self::verb), with a key.
    fn key(&self, class: C, action: &'static str, key: &'a str) -> Route<'a> {
        Route { key: Some(key), ..self.verb(class, action) }
    }

    /// A path that names a thing: the operation says what is done with it.
    fn resource(&self, class: Option<C>) -> Route<'a> {
        let engine = if self.engine == "system" { "sys" } else { self.engine };
        let first = self.parts.first().copied().unwrap_or_default();
        let mut action = engine.to_owned();
        for part in [first, self.operation].into_iter().filter(|p| !p.is_empty()) {
            action.push('/');
            action.push_str(part);
        }
        Route { action: Cow::Owned(action), class, ..Route::default() }
    }

    /// `Access` for reads, else `write`.
    fn read_or(&self, write: C) -> Option<C> {
        Some(if reads(self.operation) { C::Access } else { write })
    }

    fn is(&self, operation: &str) -> bool {
        self.operation == operation
    }
}

/// The transit engine: keys by name, `<verb>/<key>[/...]`.
fn transit<'a>(c: &Call<'_, '_, 'a>) -> Route<'a> {
    match *c.parts {
        ["encrypt", k] => c.key(C::Encrypt, "transit/encrypt", k),
        ["decrypt", k] => c.key(C::Decrypt, "transit/decrypt", k),
        ["rewrap", k] => c.key(C::Decrypt, "transit/rewrap", k),
        ["sign", k] | ["sign", k, _] => c.key(C::Sign, "transit/sign", k),
        ["verify", k] | ["verify", k, _] => c.key(C::Verify, "transit/verify", k),
        ["hmac", k] | ["hmac", k, _] => c.key(C::Mac, "transit/hmac", k),
        ["cmac", k] | ["cmac", k, _] => c.key(C::Mac, "transit/cmac", k),
        ["datakey", _, k] => c.key(C::GenerateDataKey, "transit/datakey", k),
        // The public half is no secret and leaves no boundary.
        ["export", "public-key" | "certificate-chain", k] => c.key(C::Access, "transit/export-public", k),
        ["export", "public-key" | "certificate-chain", k, v] => {
            Route { version: Some(v), ..c.key(C::Access, "transit/export-public", k) }
        }
        ["export", _, k] => c.key(C::Export, "transit/export", k),
        ["export", _, k, v] => Route { version: Some(v), ..c.key(C::Export, "transit/export", k) },
        ["byok-export", to, k] => Route { target: Some(to), ..c.key(C::Export, "transit/byok-export", k) },
        ["byok-export", to, k, v] => {
            Route { target: Some(to), version: Some(v), ..c.key(C::Export, "transit/byok-export", k) }
        }
        ["backup", k] => c.key(C::Export, "transit/backup", k),
        ["restore", k] => c.key(C::Import, "transit/restore", k),
        ["restore"] => c.verb(C::Import, "transit/restore"),
        ["keys", k, "rotate"] => c.key(C::Rotate, "transit/keys/rotate", k),
        ["keys", k, "config"] => c.key(C::Administer, "transit/keys/config", k),
        ["keys", k, "trim"] => c.key(C::Destroy, "transit/keys/trim", k),
        ["keys", k, "import"] => c.key(C::Import, "transit/keys/import", k),
        ["keys", k, "import_version"] => c.key(C::Import, "transit/keys/import_version", k),
        ["keys", k, "soft-delete"] => c.key(C::Disable, "transit/keys/soft-delete", k),
        ["keys", k, "soft-delete-restore"] => c.key(C::Enable, "transit/keys/soft-delete-restore", k),
        ["keys", k, "csr"] => c.key(C::Sign, "transit/keys/csr", k),
        ["keys", k, "set-certificate"] => c.key(C::Administer, "transit/keys/set-certificate", k),
        ["keys", k] if c.is("delete") => c.key(C::Destroy, "transit/keys/delete", k),
        ["keys", k] if reads(c.operation) => Route { key: Some(k), ..c.resource(Some(C::Access)) },
        ["keys", k] => c.key(C::Create, "transit/keys/create", k),
        // No key is used or changed: random bytes, digests and the key that wraps imports.
        ["random", ..] => c.verb(C::Access, "transit/random"),
        ["hash", ..] => c.verb(C::Access, "transit/hash"),
        ["wrapping_key"] => c.verb(C::Access, "transit/wrapping_key"),
        ["config" | "cache-config", ..] => c.resource(c.read_or(C::Administer)),
        ["keys"] => c.resource(Some(C::Access)),
        _ => c.resource(None),
    }
}

/// The PKI engine. Its keys have references of their own, which only some paths name.
fn pki<'a>(c: &Call<'_, '_, 'a>) -> Route<'a> {
    match *c.parts {
        ["issue", _] | ["issuer", _, "issue", _] => c.verb(C::Create, "pki/issue"),
        ["sign", ..] | ["issuer", _, "sign", ..] => c.verb(C::Sign, "pki/sign"),
        ["sign-verbatim", ..] | ["issuer", _, "sign-verbatim", ..] => c.verb(C::Sign, "pki/sign-verbatim"),
        ["root", "sign-self-issued"] | ["issuer", _, "sign-self-issued"] => {
            c.verb(C::Sign, "pki/sign-self-issued")
        }
        ["root", "sign-intermediate"] | ["issuer", _, "sign-intermediate"] => {
            c.verb(C::Sign, "pki/sign-intermediate")
        }
        ["issuer", _, "sign-revocation-list" | "resign-crls"] => c.verb(C::Sign, "pki/sign-revocation-list"),
        ["root", "generate", _] | ["issuers", "generate", "root", _] => {
            c.verb(C::Create, "pki/root/generate")
        }
        ["root", "rotate", _] => c.verb(C::Rotate, "pki/root/rotate"),
        ["root", "replace"] => c.verb(C::Rotate, "pki/root/replace"),
        ["root"] if c.is("delete") => c.verb(C::Destroy, "pki/root/delete"),
        ["intermediate", "generate", _] | ["issuers", "generate", "intermediate", _] => {
            c.verb(C::Create, "pki/intermediate/generate")
        }
        ["intermediate", "cross-sign"] => c.verb(C::Sign, "pki/intermediate/cross-sign"),
        ["intermediate", "set-signed"] => c.verb(C::Import, "pki/intermediate/set-signed"),
        ["keys", "generate", _] => c.verb(C::Create, "pki/keys/generate"),
        ["keys", "import"] => c.verb(C::Import, "pki/keys/import"),
        ["issuers", "import", _] => c.verb(C::Import, "pki/issuers/import"),
        ["config", "ca"] if !reads(c.operation) => c.verb(C::Import, "pki/config/ca"),
        ["key", k] if c.is("delete") => c.key(C::Destroy, "pki/key/delete", k),
        ["key", k] => Route { key: Some(k), ..c.resource(c.read_or(C::Administer)) },
        ["revoke"] => c.verb(C::Administer, "pki/revoke"),
        ["revoke-with-key"] => c.verb(C::Administer, "pki/revoke-with-key"),
        ["issuer", _, "revoke"] => c.verb(C::Administer, "pki/issuer/revoke"),
        // A read by its operation, yet it makes and signs a new list.
        ["crl", "rotate"] => c.verb(C::Sign, "pki/crl/rotate"),
        ["crl", "rotate-delta"] => c.verb(C::Sign, "pki/crl/rotate-delta"),
        ["tidy" | "tidy-cancel" | "auto-tidy"] => c.verb(C::Administer, "pki/tidy"),
        ["roles", _] => c.resource(c.read_or(C::PolicyChange)),
        // OCSP and ACME clients read and order by writes.
        ["ocsp" | "unified-ocsp", ..] => c.verb(C::Access, "pki/ocsp"),
        _ => c.resource(c.read_or(C::Administer)),
    }
}

/// KV, version 2 where the first segment is one of its own, else version 1.
fn kv<'a>(c: &Call<'_, '_, 'a>) -> Route<'a> {
    match *c.parts {
        ["data", ..] if c.is("read") => c.resource(Some(C::Export)),
        ["data", ..] if c.is("create") => c.resource(Some(C::Create)),
        ["data", ..] if c.is("update") || c.is("patch") => c.resource(Some(C::Rotate)),
        ["data", ..] if c.is("delete") => c.resource(Some(C::Disable)),
        ["delete", _, ..] => c.verb(C::Disable, "kv/delete"),
        ["undelete", _, ..] => c.verb(C::Enable, "kv/undelete"),
        ["destroy", _, ..] => c.verb(C::Destroy, "kv/destroy"),
        ["metadata", ..] if c.is("delete") => c.resource(Some(C::Destroy)),
        ["metadata" | "config", ..] => c.resource(c.read_or(C::Administer)),
        ["subkeys" | "detailed-metadata", ..] => c.resource(Some(C::Access)),
        _ => secret(c),
    }
}

/// Secrets at paths that users choose: the action names no path.
fn secret<'a>(c: &Call<'_, '_, 'a>) -> Route<'a> {
    let class = match c.operation {
        "read" => C::Export,
        "create" => C::Create,
        "update" | "patch" => C::Rotate,
        "delete" => C::Destroy,
        _ => C::Access,
    };
    Call { engine: c.engine, operation: c.operation, parts: &[] }.resource(Some(class))
}

/// `sys/`: the barrier, audit devices, policies, mounts.
fn system<'a>(c: &Call<'_, '_, 'a>) -> Route<'a> {
    match *c.parts {
        ["audit", ..] | ["config", "auditing", ..] => c.resource(c.read_or(C::AuditControl)),
        ["audit-hash", ..] => c.verb(C::Access, "sys/audit-hash"),
        ["policy" | "policies", ..] => c.resource(c.read_or(C::PolicyChange)),
        ["seal"] => c.verb(C::Administer, "sys/seal"),
        ["unseal"] => c.verb(C::Administer, "sys/unseal"),
        ["step-down"] => c.verb(C::Administer, "sys/step-down"),
        ["init"] => c.verb(c.read_or(C::Create), "sys/init"),
        ["rotate", "config"] | ["rotate", _, "config"] => c.resource(c.read_or(C::Administer)),
        ["rotate", _, "backup"] | ["rekey", "backup" | "recovery-key-backup"] if c.is("read") => {
            c.verb(C::Export, "sys/rekey/backup")
        }
        ["rotate"] | ["rotate", "keyring"] => c.verb(c.read_or(C::Rotate), "sys/rotate"),
        ["rotate" | "rekey" | "rekey-recovery-key", ..] => c.resource(c.read_or(C::Rotate)),
        ["generate-root" | "generate-recovery-token" | "decode-token", ..] => c.resource(c.read_or(C::Grant)),
        ["wrapping", "wrap"] => c.verb(C::Grant, "sys/wrapping/wrap"),
        ["wrapping", "rewrap"] => c.verb(C::Grant, "sys/wrapping/rewrap"),
        ["wrapping", "unwrap"] => c.verb(C::Export, "sys/wrapping/unwrap"),
        ["wrapping", "lookup"] => c.verb(C::Access, "sys/wrapping/lookup"),
        ["raw", ..] if c.is("read") => c.verb(C::Export, "sys/raw/read"),
        ["storage", "raft", "snapshot"] if c.is("read") => c.verb(C::Export, "sys/storage/raft/snapshot"),
        ["storage", "raft", "snapshot" | "snapshot-force"] => {
            c.verb(C::Import, "sys/storage/raft/snapshot-restore")
        }
        ["leases", "lookup", ..] => c.verb(C::Access, "sys/leases/lookup"),
        ["leases", "tidy"] => c.verb(C::Administer, "sys/leases/tidy"),
        ["leases" | "renew" | "revoke" | "revoke-prefix" | "revoke-force" | "control-group", ..] => {
            c.resource(c.read_or(C::Grant))
        }
        ["mfa", ..] => c.resource(c.read_or(C::PolicyChange)),
        // Questions that are asked by writes.
        ["capabilities" | "capabilities-self" | "capabilities-accessor" | "tools" | "internal", ..] => {
            c.resource(Some(C::Access))
        }
        _ => c.resource(c.read_or(C::Administer)),
    }
}

/// Entities, groups and the OIDC provider, which has keys of its own.
fn identity<'a>(c: &Call<'_, '_, 'a>) -> Route<'a> {
    match *c.parts {
        ["oidc", "key", k, "rotate"] => c.key(C::Rotate, "identity/oidc/key/rotate", k),
        ["oidc", "key", k] if c.is("delete") => c.key(C::Destroy, "identity/oidc/key/delete", k),
        ["oidc", "key", k] if reads(c.operation) => c.key(C::Access, "identity/oidc/key/read", k),
        ["oidc", "key", k] => c.key(C::Create, "identity/oidc/key/create", k),
        ["oidc", "token", _] => c.verb(C::Sign, "identity/oidc/token"),
        ["oidc", "introspect"] => c.verb(C::Access, "identity/oidc/introspect"),
        ["lookup", ..] => c.verb(C::Access, "identity/lookup"),
        _ => c.resource(c.read_or(C::PolicyChange)),
    }
}

/// `auth/token/`: tokens are delegated permissions.
fn token<'a>(c: &Call<'_, '_, 'a>) -> Route<'a> {
    let verb = c.parts.first().copied().unwrap_or_default();
    let (class, action) = match verb {
        "create" => (C::Grant, "auth/token/create"),
        "create-orphan" => (C::Grant, "auth/token/create-orphan"),
        "renew" => (C::Grant, "auth/token/renew"),
        "renew-self" => (C::Grant, "auth/token/renew-self"),
        "renew-accessor" => (C::Grant, "auth/token/renew-accessor"),
        "revoke" => (C::Grant, "auth/token/revoke"),
        "revoke-self" => (C::Grant, "auth/token/revoke-self"),
        "revoke-accessor" => (C::Grant, "auth/token/revoke-accessor"),
        "revoke-orphan" => (C::Grant, "auth/token/revoke-orphan"),
        "revoke-prefix" => (C::Grant, "auth/token/revoke-prefix"),
        "lookup" => (C::Access, "auth/token/lookup"),
        "lookup-self" => (C::Access, "auth/token/lookup-self"),
        "lookup-accessor" => (C::Access, "auth/token/lookup-accessor"),
        "tidy" => (C::Administer, "auth/token/tidy"),
        "roles" => return under_auth(c, c.read_or(C::PolicyChange)),
        _ => return under_auth(c, c.read_or(C::Administer)),
    };
    let token_in_path = c.parts.len() > 1 && !verb.starts_with("create");
    Route { token_in_path, ..c.verb(class, action) }
}

/// An auth method: logins, users, roles.
fn login<'a>(c: &Call<'_, '_, 'a>) -> Route<'a> {
    match *c.parts {
        ["login"] => Route { login: Some(None), ..under_auth(c, None) },
        ["login", user, ..] => Route { login: Some(Some(user)), ..under_auth(c, None) },
        ["oidc", "callback"] | ["callback"] => Route { login: Some(None), ..under_auth(c, None) },
        ["oidc", ..] => under_auth(c, Some(C::Access)),
        ["users", user, ..] => Route { user: Some(user), ..under_auth(c, c.read_or(C::PolicyChange)) },
        ["role", _, "secret-id" | "secret-id-accessor" | "custom-secret-id", ref rest @ ..] => {
            let class = if rest.contains(&"lookup") { Some(C::Access) } else { c.read_or(C::Grant) };
            let action =
                Cow::Owned(format!("auth/{}/secret-id/{}", c.engine, rest.last().unwrap_or(&c.operation)));
            Route { action, class, ..Route::default() }
        }
        ["tidy", ..] => under_auth(c, Some(C::Administer)),
        _ => under_auth(c, c.read_or(C::PolicyChange)),
    }
}

/// `auth/<method>/<resource>`, with the operation unless it is a login.
fn under_auth<'a>(c: &Call<'_, '_, 'a>, class: Option<C>) -> Route<'a> {
    let first = c.parts.first().copied().unwrap_or_default();
    let action = if matches!(first, "login" | "callback" | "oidc") {
        format!("auth/{}/{first}", c.engine)
    } else {
        format!("auth/{}/{first}/{}", c.engine, c.operation)
    };
    Route { action: Cow::Owned(action), class, ..Route::default() }
}

/// Engines without a table of their own: only words that all of them share are understood, the rest
/// has no class, so that controls see it as unmapped.
fn other<'a>(c: &Call<'_, '_, 'a>) -> Route<'a> {
    match *c.parts {
        ["creds" | "static-creds" | "sts", _, ..] => c.resource(Some(C::Export)),
        ["rotate-root" | "rotate-role", ..] | ["config", "rotate-root"] => c.resource(Some(C::Rotate)),
        ["config", ..] => c.resource(c.read_or(C::Administer)),
        ["role" | "roles" | "static-roles", ..] => c.resource(c.read_or(C::PolicyChange)),
        _ if c.is("list") || c.is("scan") => c.bare(Some(C::Access)),
        _ => c.bare(None),
    }
}

impl<'a> Call<'_, '_, 'a> {
    /// The operation alone: of an engine without a table, any segment may be a user's.
    fn bare(&self, class: Option<C>) -> Route<'a> {
        Call { engine: self.engine, operation: self.operation, parts: &[] }.resource(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(engine: &str, operation: &str, path: &'static str) -> (String, Option<C>, Option<&'static str>) {
        let r = route(engine, matches!(engine, "token" | "userpass" | "approle"), operation, path);
        (r.action.into_owned(), r.class, r.key)
    }

    #[test]
    fn transit_paths_name_verb_and_key() {
        for (operation, path, action, class, key) in [
            ("update", "encrypt/payments", "transit/encrypt", C::Encrypt, Some("payments")),
            ("update", "verify/doc/sha2-256", "transit/verify", C::Verify, Some("doc")),
            ("update", "datakey/plaintext/k", "transit/datakey", C::GenerateDataKey, Some("k")),
            ("read", "export/encryption-key/k", "transit/export", C::Export, Some("k")),
            ("read", "export/public-key/k/2", "transit/export-public", C::Access, Some("k")),
            ("update", "keys/k", "transit/keys/create", C::Create, Some("k")),
            ("read", "keys/k", "transit/keys/read", C::Access, Some("k")),
            ("list", "keys/", "transit/keys/list", C::Access, None),
            ("delete", "keys/k", "transit/keys/delete", C::Destroy, Some("k")),
            ("update", "keys/rotate/rotate", "transit/keys/rotate", C::Rotate, Some("rotate")),
            ("update", "restore", "transit/restore", C::Import, None),
        ] {
            assert_eq!(of("transit", operation, path), (action.to_owned(), Some(class), key), "{path}");
        }
        assert_eq!(of("transit", "update", "nosuchop/payments").1, None);
        let byok = route("transit", false, "read", "byok-export/to/from/3");
        assert_eq!((byok.target, byok.key, byok.version), (Some("to"), Some("from"), Some("3")));
    }

    #[test]
    fn the_public_half_is_no_export() {
        assert_eq!(of("transit", "read", "export/public-key/k").1, Some(C::Access));
        assert_eq!(of("transit", "read", "export/signing-key/k").1, Some(C::Export));
    }

    #[test]
    fn reads_of_secrets_leave_the_boundary_and_reads_of_metadata_do_not() {
        assert_eq!(of("kv", "read", "data/db").1, Some(C::Export));
        assert_eq!(of("kv", "read", "metadata/db").1, Some(C::Access));
        assert_eq!(of("kv", "read", "app/db"), ("kv/read".to_owned(), Some(C::Export), None));
        assert_eq!(of("database", "read", "creds/app").1, Some(C::Export));
        assert_eq!(of("totp", "update", "code/me"), ("totp/update".to_owned(), None, None));
    }

    #[test]
    fn logins_name_their_user() {
        let r = route("userpass", true, "update", "login/alice");
        assert_eq!((r.action.as_ref(), r.class, r.login), ("auth/userpass/login", None, Some(Some("alice"))));
        assert_eq!(route("approle", true, "update", "login").login, Some(None));
        assert_eq!(route("userpass", true, "create", "users/bob").user, Some("bob"));
        assert!(route("token", true, "update", "revoke/abc").token_in_path);
        assert!(!route("token", true, "update", "create/role").token_in_path);
    }

    #[test]
    fn the_barrier_and_the_audit_devices_are_told_apart() {
        assert_eq!(of("system", "update", "audit/file").1, Some(C::AuditControl));
        assert_eq!(of("system", "read", "audit").1, Some(C::Access));
        assert_eq!(of("system", "update", "rotate").1, Some(C::Rotate));
        assert_eq!(of("system", "update", "rotate/config").1, Some(C::Administer));
        assert_eq!(of("system", "update", "policies/acl/app").1, Some(C::PolicyChange));
        assert_eq!(of("system", "update", "wrapping/unwrap").1, Some(C::Export));
    }

    #[test]
    fn long_paths_stay_whole() {
        let deep = "a/".repeat(100_000);
        assert_eq!(route("kv", false, "read", &deep).class, Some(C::Export));
    }
}
