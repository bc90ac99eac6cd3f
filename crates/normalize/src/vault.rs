//! Audit device records of HashiCorp Vault and OpenBao.
//!
//! What it is: one line of an audit device (`type` request or response) to one event; the two lines of a
//! call share `request.id` (`keytrail.operation.id`). What it is not: it joins nothing, and it does not
//! trust a request line for an outcome: that is `unknown` until a response says it, unless the line
//! itself holds an error.
//! In: a JSON object as the file, socket, syslog and http devices write it. Out: [`AuditEvent`]s of
//! `vault.audit`. `schemas/mappings/vault.md` is the mapping in words.
//!
//! Values that devices with `log_raw` write in the clear (tokens, plaintext) are never read into a
//! column; accessors are masked unless the device has HMAC'd them.

mod outcome;
mod record;
mod route;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use keytrail_model::{ActionClass, AuditEvent, Column, Reject, Rejection, Timestamp, Value};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::category::classify;
use crate::{Context, json_rejection};
use record::{
    Auth, Batch, Entry, Headers, Made, Namespace, Request, RequestData, Response, ResponseData, Text,
};
use route::Route;

/// `event.dataset` of these events.
pub const DATASET: &str = "vault.audit";

/// Normalizer and version, `keytrail.normalizer`.
pub const NORMALIZER: &str = "vault/1";

/// Kinds of records, with the phase that each is.
const KINDS: [(&str, &str); 4] = [
    ("request", "request"),
    ("response", "response"),
    ("kmip-request", "request"),
    ("kmip-response", "response"),
];

/// Whether a record's content looks like one of this source: a known `type` beside a `request` or an
/// `auth` object, and none of the fields by which CloudTrail, Kubernetes and key operation events are known.
pub fn recognises(record: &str) -> bool {
    #[derive(Deserialize)]
    struct Probe<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<Text<'a>>,
        #[serde(borrow)]
        request: Option<&'a RawValue>,
        #[serde(borrow)]
        auth: Option<&'a RawValue>,
        #[serde(rename = "eventVersion")]
        event_version: Option<IgnoredAny>,
        #[serde(rename = "apiVersion")]
        api_version: Option<IgnoredAny>,
        #[serde(rename = "prev")]
        chain: Option<IgnoredAny>,
    }
    let Ok(probe) = serde_json::from_str::<Probe<'_>>(record) else { return false };
    let object = |raw: Option<&RawValue>| raw.is_some_and(|r| r.get().starts_with('{'));
    probe.kind.is_some_and(|k| phase(&k.0).is_some())
        && (object(probe.request) || object(probe.auth))
        && probe.event_version.is_none()
        && probe.api_version.is_none()
        && probe.chain.is_none()
}

fn phase(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|(k, _)| *k == kind).map(|(_, phase)| *phase)
}

/// The event of one record.
///
/// Refused are a `type` that is missing or unknown, a record with neither `request` nor `auth`, and
/// fields of another type than the devices write.
pub fn normalize<'a>(json: &'a str, ctx: &Context<'a>) -> Result<AuditEvent<'a>, Rejection> {
    let entry: Entry<'a> = serde_json::from_str(json).map_err(|e| json_rejection(&e))?;
    let kind = entry.kind.ok_or_else(|| Rejection::new(Reject::FieldMissing, "`type` is missing"))?.0;
    let Some(phase) = phase(&kind) else {
        return Err(Rejection::new(
            Reject::FormatUnknown,
            "expected `request`, `response`, `kmip-request` or `kmip-response` in `type`",
        ));
    };
    if entry.request.is_none() && entry.auth.is_none() {
        return Err(Rejection::new(Reject::FieldMissing, "`request` is missing"));
    }
    let mut request = entry.request.unwrap_or_default();
    let auth = entry.auth.unwrap_or_default();
    let mut response = entry.response.unwrap_or_default();
    // Taken before the mount borrows the rest.
    let (id, remote, token_accessor) =
        (request.id.take(), request.remote_address.take(), request.client_token_accessor.take());
    let (token, wrap) = (response.auth.take(), response.wrap_info.take());
    let asked: RequestData<'a> = record::open(request.data)?;
    let answered: ResponseData<'a> = record::open(response.data)?;
    let mount = Mount::of(&request, &response);
    let operation = request.operation.as_ref().map_or("", |o| &o.0);
    let route = route::route(mount.engine, mount.auth, operation, mount.path);

    let mut e = AuditEvent::new(DATASET, "vault");
    e.text(Column::KeytrailNormalizer, NORMALIZER);
    e.at(entry.time.as_ref().and_then(|t| Timestamp::parse(&t.0)));
    e.text(Column::EventKind, "event");
    e.text(Column::KeytrailPhase, phase);
    if !operation.is_empty() {
        e.flag(Column::KeytrailReadOnly, route::reads(operation));
    }
    what(&mut e, &route, &mount, operation, &kind, ctx);
    let batch = Batch::of(answered.batch_results).unwrap_or_default();
    versions(&mut e, &route, &asked, &answered, &batch);
    let error = entry.error.map(|t| t.0).filter(|t| !t.is_empty());
    let denied = outcome::denied(&auth, error.as_deref());
    let said = outcome::Said {
        phase,
        error,
        errors: entry.errors,
        data: response.data,
        users_data: matches!(mount.engine, "kv" | "generic" | "cubbyhole"),
    };
    outcome::outcome(&mut e, said, &answered, &batch, route.class, ctx);
    if let Some(batch) = Batch::of(asked.batch_input) {
        e.int(Column::KeytrailBatchCount, batch.count);
    }
    // ECS expects no `denied` with `authentication`: there the outcome says it.
    if denied && route.login.is_none() {
        e.add(Column::EventType, "denied");
    }
    if let Some(allowed) = auth.policy_results.as_ref().and_then(|r| r.allowed) {
        e.text(Column::KeytrailPolicyDecision, if allowed { "allow" } else { "deny" });
    } else if denied && auth.policies.is_some() {
        // Older versions write no policy results: a known token that is refused is the policies' doing.
        e.text(Column::KeytrailPolicyDecision, "deny");
    }
    made(&mut e, &route, token, wrap, ctx);
    let version = response.mount_running_plugin_version.as_ref().or(request.mount_running_version.as_ref());
    e.maybe(Column::EventProvider, version.and_then(|v| maker(&v.0)));
    who(&mut e, auth, token_accessor, &route, ctx);
    whence(&mut e, remote, request.remote_port);
    agent(&mut e, request.headers, ctx)?;
    place(&mut e, &mount, request.namespace.as_ref(), &route, request.path.as_ref(), ctx);

    if let Some(id) = id.map(|t| t.0).filter(|id| !id.is_empty()) {
        e.text(Column::EventId, id.clone());
        e.text(Column::KeytrailOperationId, id.clone());
        e.identity.key = vec![id, kind.clone()];
    }
    e.text(Column::EventCode, kind);
    Ok(e)
}

/// Where in Vault's tree of mounts a call went.
struct Mount<'r> {
    /// Type of the engine, without the `ns_` of a namespace's own mounts; empty when nothing says it.
    engine: &'r str,
    /// Type of the engine as the record has it.
    kind: Option<&'r str>,
    /// The mount, with its namespace, as the record has it.
    point: Option<&'r str>,
    /// The mount as the path has it: without its namespace, and by its default name where no field says it.
    base: &'r str,
    /// An auth method.
    auth: bool,
    /// The path below the mount.
    path: &'r str,
}

impl<'r> Mount<'r> {
    /// From `mount_point` and `mount_type` where the record has them (Vault since 1.13 and 1.8), else
    /// from the path, by the mounts' default names.
    fn of(request: &'r Request<'_>, response: &'r Response<'_>) -> Self {
        let text = |t: &'r Option<Text<'_>>| t.as_ref().map(|t| t.0.as_ref()).filter(|t| !t.is_empty());
        let path = text(&request.path).unwrap_or_default();
        let point = text(&request.mount_point).or(text(&response.mount_point));
        let kind = text(&request.mount_type).or(text(&response.mount_type));
        let class = text(&request.mount_class).or(text(&response.mount_class));
        // Paths start at the namespace, mount points at the root.
        let namespace = request.namespace.as_ref().and_then(|n| text(&n.path)).unwrap_or_default();
        let local = point.map(|p| p.strip_prefix(namespace).unwrap_or(p));
        let (guess, guessed) = default_mount(path);
        let below = local
            .and_then(|p| path.strip_prefix(p))
            .or_else(|| local.and_then(|_| path.strip_prefix(namespace)?.strip_prefix(local?)));
        let auth = class.map_or_else(|| local.unwrap_or(path).starts_with("auth/"), |c| c == "auth");
        let engine = kind.unwrap_or(guess);
        // `sys/` is also called as `sys`, and paths may start at the root after all.
        let bare = local.is_some_and(|l| path == l.trim_end_matches('/'));
        let below = below.unwrap_or(if bare { "" } else { guessed });
        Self {
            engine: engine.strip_prefix("ns_").unwrap_or(engine),
            kind,
            point,
            base: path.strip_suffix(below).unwrap_or_default(),
            auth,
            path: below,
        }
    }
}

/// Engine and path below the mount, by the names that mounts have unless somebody chose others.
fn default_mount(path: &str) -> (&str, &str) {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    match first {
        "sys" => ("system", rest),
        "secret" => ("kv", rest),
        "auth" => rest.split_once('/').unwrap_or((rest, "")),
        "transit" | "pki" | "kv" | "cubbyhole" | "identity" | "ssh" | "database" => (first, rest),
        _ => ("", rest),
    }
}

/// Action, class, categories, key.
fn what<'a>(
    e: &mut AuditEvent<'a>,
    route: &Route<'_>,
    mount: &Mount<'_>,
    operation: &str,
    kind: &str,
    ctx: &Context<'a>,
) {
    if mount.engine.is_empty() {
        // No engine claimed the call: only the operation is known.
        let operation = route.action.trim_start_matches('/');
        e.text(
            Column::EventAction,
            if operation.is_empty() { kind.to_owned() } else { operation.to_owned() },
        );
    } else {
        e.text(Column::EventAction, ctx.masker.scrub(route.action.clone()));
    }
    if route.login.is_some() {
        e.add(Column::EventCategory, "authentication");
        e.add(Column::EventType, "start");
        return;
    }
    classify(e, route.class);
    use ActionClass as C;
    match (operation, route.class) {
        // Encrypting by a name that no key has makes the key.
        ("create", Some(C::Encrypt)) => e.add(Column::EventType, "creation"),
        ("delete", Some(C::PolicyChange | C::Administer | C::AuditControl)) => {
            e.add(Column::EventType, "deletion");
        }
        _ => {}
    }
    if let Some(key) = route.key {
        e.text(Column::KeytrailKeyId, ctx.masker.scrub(key.to_owned()));
        e.text(Column::KeytrailKeyStore, mount.point.unwrap_or(mount.base).to_owned());
    }
    e.maybe(Column::KeytrailKeyTargetId, route.target.map(|t| ctx.masker.scrub(t.to_owned())));
}

/// Key version and what the record says of the key.
fn versions<'a>(
    e: &mut AuditEvent<'a>,
    route: &Route<'_>,
    asked: &RequestData<'a>,
    answered: &ResponseData<'a>,
    batch: &Batch,
) {
    if route.key.is_none() {
        return;
    }
    let makes = matches!(route.class, Some(ActionClass::Create | ActionClass::Rotate | ActionClass::Import));
    let version = record::number(answered.key_version)
        .or(batch.version)
        .or_else(|| record::number(answered.latest_version).filter(|_| makes))
        .or_else(|| route.version.and_then(|v| v.parse().ok()))
        .or_else(|| record::number(asked.key_version))
        .or_else(|| [asked.ciphertext, asked.signature, asked.hmac].into_iter().find_map(prefixed_version))
        // 0 asks for the latest.
        .filter(|v| *v > 0);
    e.maybe(Column::KeytrailKeyVersion, version.map(|v| v.to_string()));
    let algorithm = record::string(answered.kind).or_else(|| record::string(asked.kind));
    e.maybe(Column::KeytrailKeyAlgorithm, algorithm.filter(|a| clear(a) && a.len() <= 64));
    if record::is(answered.imported_key, true) {
        e.text(Column::KeytrailKeyOrigin, "imported");
    }
    if record::is(answered.soft_deleted, true) {
        e.text(Column::KeytrailKeyState, "soft_deleted");
    }
}

/// The version that transit writes before a ciphertext, signature or MAC (`vault:v3:...`), where a
/// device logs it in the clear.
fn prefixed_version(raw: Option<&RawValue>) -> Option<i64> {
    let text = raw?.get();
    let (version, _) = text.strip_prefix("\"vault:v")?.split_once(':')?;
    version.parse().ok()
}

/// Whether a value is neither empty nor what a device made of it.
fn clear(value: &str) -> bool {
    !value.is_empty() && !value.starts_with("hmac-sha256:")
}

/// Tokens that the call made, and who they are for.
fn made<'a>(
    e: &mut AuditEvent<'a>,
    route: &Route<'_>,
    token: Option<Made<'a>>,
    wrap: Option<Made<'a>>,
    ctx: &Context<'a>,
) {
    if let Some(token) = token.filter(|_| route.class == Some(ActionClass::Grant)) {
        e.maybe(Column::KeytrailGrantId, token.accessor.map(|a| accessor(a, ctx)));
        if let Some(name) = token.display_name {
            let name = ctx.masker.scrub(name.0);
            e.add(Column::RelatedUser, name.clone());
            e.text(Column::UserTargetName, name);
        }
    } else if let Some(wrap) = wrap {
        e.maybe(Column::KeytrailGrantId, wrap.accessor.map(|a| accessor(a, ctx)));
    }
}

fn accessor<'a>(text: Text<'a>, ctx: &Context<'a>) -> Cow<'a, str> {
    if clear(&text.0) { Cow::Owned(ctx.masker.mask(&text.0)) } else { text.0 }
}

/// The caller. In the response to a login that is who has logged in.
fn who<'a>(
    e: &mut AuditEvent<'a>,
    auth: Auth<'a>,
    token_accessor: Option<Text<'a>>,
    route: &Route<'_>,
    ctx: &Context<'a>,
) {
    let scrubbed = |t: Option<Text<'a>>| t.map(|t| ctx.masker.scrub(t.0)).filter(|t| clear(t));
    let (username, role) = match auth.metadata {
        Some(m) => (scrubbed(m.username), scrubbed(m.role_name).or(scrubbed(m.role))),
        None => (None, None),
    };
    let tried = route.login.flatten().map(|u| ctx.masker.scrub(u.to_owned()));
    let name = username.or(scrubbed(auth.display_name)).or(tried);
    let id = scrubbed(auth.entity_id);
    for user in [&id, &name, &role].into_iter().flatten() {
        e.add(Column::RelatedUser, user.clone());
    }
    e.maybe(Column::UserName, name);
    e.maybe(Column::UserEffectiveName, role);
    if let Some(user) = route.user {
        let user = ctx.masker.scrub(user.to_owned());
        e.add(Column::RelatedUser, user.clone());
        e.text(Column::UserTargetName, user);
    }
    e.maybe(Column::UserId, id);
    e.maybe(Column::KeytrailActorAccessKeyId, auth.accessor.or(token_accessor).map(|a| accessor(a, ctx)));
    // `default` is Go's zero value: no token was looked up.
    e.maybe(Column::KeytrailActorType, auth.token_type.filter(|t| t.0 != "default").map(|t| t.0));
    let own = match auth.policies {
        Some(all) => vec![Some(all)],
        None => vec![auth.token_policies, auth.identity_policies],
    };
    names(e, Column::KeytrailActorPolicies, own.into_iter().flatten().flatten(), ctx);
    let granting = auth.policy_results.and_then(|r| r.granting_policies).unwrap_or_default();
    names(e, Column::KeytrailPolicyIds, granting.into_iter().filter_map(|p| p.0?.name), ctx);
}

/// Sets a list of names, sorted, each once. A record may hold a million of them.
fn names<'a>(
    e: &mut AuditEvent<'a>,
    column: Column,
    names: impl Iterator<Item = Text<'a>>,
    ctx: &Context<'a>,
) {
    let mut list: Vec<_> = names.filter(|n| !n.0.is_empty()).map(|n| ctx.masker.scrub(n.0)).collect();
    list.sort_unstable();
    list.dedup();
    if !list.is_empty() {
        e.set(column, Value::List(list));
    }
}

/// Address and port of the caller: `ip`, `ip:port` or `[v6]:port` beside `remote_port`; any other text
/// (a unix socket's) is an address without an IP.
fn whence<'a>(e: &mut AuditEvent<'a>, address: Option<Text<'a>>, port: Option<&RawValue>) {
    let Some(address) = address.map(|t| t.0).filter(|t| !t.is_empty()) else { return };
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(&address);
    let (ip, in_address) = match (bare.parse::<IpAddr>(), address.parse::<SocketAddr>()) {
        (Ok(ip), _) => (Some(ip), None),
        (_, Ok(socket)) => (Some(socket.ip()), Some(i64::from(socket.port()))),
        _ => (None, None),
    };
    let port = record::number(port).filter(|p| (1..=65_535).contains(p)).or(in_address.filter(|p| *p > 0));
    if let Some(port) = port {
        e.int(Column::SourcePort, port);
    }
    match ip {
        Some(ip) => {
            let ip = ip.to_string();
            e.add(Column::RelatedIp, ip.clone());
            e.text(Column::SourceAddress, ip.clone());
            e.text(Column::SourceIp, ip);
        }
        None => e.text(Column::SourceAddress, address),
    }
}

/// The user agent, where an operator has it audited in the clear.
fn agent<'a>(
    e: &mut AuditEvent<'a>,
    headers: Option<&'a RawValue>,
    ctx: &Context<'a>,
) -> Result<(), Rejection> {
    let headers: Headers<'a> = record::open(headers)?;
    let agent = headers.user_agent.and_then(|list| list.into_iter().next()).map(|t| t.0);
    e.maybe(Column::UserAgentOriginal, agent.filter(|a| clear(a)).map(|a| ctx.masker.scrub(a)));
    Ok(())
}

/// Namespace, mount, path, resources.
fn place<'a>(
    e: &mut AuditEvent<'a>,
    mount: &Mount<'_>,
    namespace: Option<&Namespace<'_>>,
    route: &Route<'_>,
    path: Option<&Text<'_>>,
    ctx: &Context<'a>,
) {
    let text = |t: &Option<Text<'_>>| t.as_ref().map(|t| t.0.to_string()).filter(|t| !t.is_empty());
    let in_path = namespace.and_then(|n| text(&n.path));
    let named = in_path.clone().or_else(|| namespace.and_then(|n| text(&n.id)));
    e.maybe(Column::KeytrailVaultNamespace, named);
    e.maybe(Column::KeytrailVaultMountPoint, mount.point.map(str::to_owned));
    e.maybe(Column::KeytrailVaultMountType, mount.kind.map(str::to_owned));
    let Some(path) = path.map(|p| p.0.as_ref()).filter(|p| !p.is_empty()) else { return };
    let shown = match path.trim_end_matches('/').rsplit_once('/') {
        Some((before, token)) if route.token_in_path => format!("{before}/{}", ctx.masker.mask(token)),
        _ => ctx.masker.scrub(path.to_owned()).into_owned(),
    };
    e.text(Column::KeytrailVaultPath, shown.clone());
    let namespace = in_path.unwrap_or_default();
    let resource = match route.key {
        // All operations on a key name one resource.
        Some(key) if mount.engine == "transit" => {
            ctx.masker.scrub(format!("{namespace}{}keys/{key}", mount.base)).into_owned()
        }
        _ => format!("{namespace}{shown}"),
    };
    e.add(Column::KeytrailResourceIds, resource);
}

/// The product, from the version of its built-in plugins (`v2.7.2+builtin.bao`).
fn maker(version: &str) -> Option<&'static str> {
    match version.rsplit_once("+builtin.")?.1 {
        "bao" => Some("openbao"),
        "vault" => Some("vault"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Masker;

    #[test]
    fn identity_is_request_id_and_type() {
        let masker = Masker::new(&[7; 32]);
        let ctx = Context { now: Timestamp(0), masker: &masker, declared: None };
        let e = normalize(r#"{"type":"response","request":{"id":"r-1"}}"#, &ctx).unwrap();
        assert_eq!(
            (e.identity.scope.as_ref(), e.identity.key.as_slice()),
            ("", &["r-1".into(), "response".into()][..])
        );
        assert_eq!(e.get_text(Column::KeytrailScope), None);
        let e = normalize(r#"{"type":"response","request":{"id":""}}"#, &ctx).unwrap();
        assert!(e.identity.key.is_empty());
    }

    /// Quadratic work would take minutes here.
    #[test]
    fn a_hundred_thousand_policies_are_read_at_once() {
        let policies: Vec<_> = (0..100_000).map(|i| format!("\"p{i}\"")).collect();
        let json = format!(r#"{{"type":"request","auth":{{"policies":[{}]}}}}"#, policies.join(","));
        let masker = Masker::new(&[7; 32]);
        let ctx = Context { now: Timestamp(0), masker: &masker, declared: None };
        let e = normalize(&json, &ctx).unwrap();
        assert!(matches!(e.get(Column::KeytrailActorPolicies), Value::List(l) if l.len() == 100_000));
    }
}
