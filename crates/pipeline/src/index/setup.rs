//! What a server needs before the first document: templates. And who it is.

use keytrail_index::{
    Component, IndexName, Target, components, dead_letter_template, index_template, is_block, policy,
    policy_name,
};
use keytrail_model::{Fatal, Hash};
use keytrail_ports::{EventIndex, IndexBody, IndexRequest, Method, Reply, Unreachable};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::Settings;

/// A server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// What it is.
    pub kind: Target,
    /// Its version.
    pub version: String,
    /// Its cluster's id.
    pub cluster: String,
}

/// A template or policy, and what was done with it.
#[derive(Clone, PartialEq, Debug)]
pub struct Installed {
    /// Its name on the server.
    pub name: String,
    /// What was there; `None` where nothing was.
    pub before: Option<Value>,
    /// What is there now, or would be.
    pub now: Value,
    /// Both are the same.
    pub same: bool,
}

/// Asks a server who it is.
///
/// # Errors
/// `Retryable.IndexFailed`: it does not answer. `Fatal.IndexDenied`, `Fatal.IndexServer`.
pub fn identify(index: &dyn EventIndex) -> Result<Server, Fatal> {
    let reply = asked(index, Method::Get, "", IndexBody::Empty)?;
    let said: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (Some(version), Some(cluster)) = (text(&said["version"]["number"]), text(&said["cluster_uuid"]))
    else {
        return Err(Fatal::new(
            "Fatal.IndexServer",
            "whoever answers is neither Elasticsearch nor OpenSearch",
        ));
    };
    let kind = match said["version"]["distribution"].as_str() {
        Some("opensearch") => Target::OpenSearch,
        _ => Target::Elasticsearch,
    };
    Ok(Server { kind, version, cluster })
}

/// What a server was given.
#[derive(Clone, PartialEq, Debug)]
pub struct Setup {
    /// Templates and policy.
    pub parts: Vec<Installed>,
    /// Indices get this lifecycle policy. `None` where nothing expires, or the server knows no such policies.
    pub policy: Option<String>,
}

/// Puts templates and policy of this version where they are not, or only says what would be done.
///
/// # Errors
/// As [`identify`].
pub fn install(
    index: &dyn EventIndex,
    kind: Target,
    settings: &Settings,
    dry_run: bool,
) -> Result<Setup, Fatal> {
    let components = components(kind)
        .into_iter()
        .map(|Component { name, body }| ("_component_template", name, body, "component_template"));
    let whole = [("keytrail", index_template()), ("keytrail-deadletter", dead_letter_template())];
    let whole = whole.into_iter().map(|(name, body)| ("_index_template", name, body, "index_template"));
    let mut parts = Vec::new();
    for (place, name, mut now, one) in components.chain(whole) {
        now["_meta"]["sha256"] = Hash::of(now.to_string().as_bytes()).to_hex().into();
        let path = format!("{place}/{name}");
        let before = match ask(index, Method::Get, &path, IndexBody::Empty)? {
            Reply { status: 200, body, .. } => {
                let said: Value = serde_json::from_slice(&body).unwrap_or_default();
                Some(said[format!("{one}s")][0][one].clone())
            }
            _ => None,
        };
        let same = before.as_ref().is_some_and(|before| before["_meta"] == now["_meta"]);
        if !same && !dry_run {
            put(index, &path, &now)?;
        }
        parts.push(Installed { name: name.to_owned(), before, now, same });
    }
    let policy = match (kind, settings.retention) {
        (Target::Elasticsearch, Some(retention)) => {
            let name = policy_name(&settings.namespace);
            lifecycle(index, &name, policy(retention), dry_run)?
        }
        _ => None,
    };
    let name = policy.as_ref().map(|policy| policy.name.clone());
    parts.extend(policy);
    Ok(Setup { parts, policy: name })
}

/// The lifecycle policy; `None` where the server knows none.
fn lifecycle(
    index: &dyn EventIndex,
    name: &str,
    now: Value,
    dry_run: bool,
) -> Result<Option<Installed>, Fatal> {
    let path = format!("_ilm/policy/{name}");
    let before = match ask(index, Method::Get, &path, IndexBody::Empty)? {
        Reply { status: 200, body, .. } => {
            let mut said: Value = serde_json::from_slice(&body).unwrap_or_default();
            Some(serde_json::json!({"policy": said[name]["policy"].take()}))
        }
        Reply { status: 404, .. } => None,
        // No handler for it.
        _ => return Ok(None),
    };
    let phases = |policy: &Value| policy["policy"]["phases"]["delete"]["min_age"].clone();
    let same = before.as_ref().is_some_and(|before| phases(before) == phases(&now));
    if !same && !dry_run {
        put(index, &path, &now)?;
    }
    Ok(Some(Installed { name: name.to_owned(), before, now, same }))
}

fn put(index: &dyn EventIndex, path: &str, body: &Value) -> Result<(), Fatal> {
    let reply = ask(index, Method::Put, path, IndexBody::Json(body.to_string().as_bytes()))?;
    match reply.status {
        200 => Ok(()),
        status => {
            let said = refusal(status, &reply.body);
            Err(Fatal::new("Fatal.IndexServer", format!("the server refuses `{path}`: {said}")))
        }
    }
}

/// keytrail's indices of a namespace, with their primary shards, by name; those of dead letters, too.
///
/// # Errors
/// As [`identify`].
pub fn indices(index: &dyn EventIndex, settings: &Settings) -> Result<Vec<(IndexName, u32)>, Fatal> {
    let namespace = &settings.namespace;
    let path = format!(
        "keytrail-*-{namespace}-*/_settings/index.number_of_shards?flat_settings=true&expand_wildcards=all"
    );
    let reply = ask(index, Method::Get, &path, IndexBody::Empty)?;
    if reply.status != 200 {
        let said = refusal(reply.status, &reply.body);
        return Err(Fatal::new("Fatal.IndexServer", format!("the server does not list its indices: {said}")));
    }
    let said: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let listed = said.as_object().into_iter().flatten().filter_map(|(name, said)| {
        let shards = said["settings"]["index.number_of_shards"].as_str()?.parse().ok()?;
        Some((IndexName::parse(name, namespace)?, shards))
    });
    let mut indices: Vec<_> = listed.collect();
    indices.sort();
    Ok(indices)
}

/// Refuses a configuration by which events that are indexed would have another place: they would be there twice.
///
/// # Errors
/// `Config.IndexLayout`, and as [`identify`].
pub fn check_layouts(index: &dyn EventIndex, settings: &Settings) -> Result<(), Fatal> {
    for (name, shards) in indices(index, settings)? {
        if name.is_of_dead_letters() {
            continue;
        }
        if let Err(layout) = settings.layouts.made(&name, shards) {
            let why = format!(
                "`{name}` is there with {shards} shards, and [index] makes indices of {layout} at that time: what is \
                 indexed keeps its place; give the change a month from which it holds, in [[index.changes]]"
            );
            return Err(Fatal::new("Config.IndexLayout", why));
        }
    }
    Ok(())
}

/// Asks once, for an answer in JSON: a page of something between, taken for it, would be an index that holds nothing.
pub(super) fn ask(
    index: &dyn EventIndex,
    method: Method,
    path: &str,
    body: IndexBody<'_>,
) -> Result<Reply, Fatal> {
    let reply = asked(index, method, path, body)?;
    match reply.status {
        200 if serde_json::from_slice::<IgnoredAny>(&reply.body).is_err() => {
            Err(Fatal::new("Retryable.IndexFailed", "whoever answers speaks no JSON"))
        }
        _ => Ok(reply),
    }
}

/// Asks once.
fn asked(index: &dyn EventIndex, method: Method, path: &str, body: IndexBody<'_>) -> Result<Reply, Fatal> {
    let reply = reached(index.send(&IndexRequest { method, path, body }))?;
    match reply.status {
        401 | 403 => {
            let said = refusal(reply.status, &reply.body);
            if is_block(&said) {
                return Err(Fatal::new("Retryable.IndexBlocked", said));
            }
            Err(Fatal::new("Fatal.IndexDenied", format!("the server does not let keytrail in: {said}")))
        }
        429 | 500..=599 => Err(Fatal::new("Retryable.IndexFailed", refusal(reply.status, &reply.body))),
        _ => Ok(reply),
    }
}

/// What kept a request from its answer, as an error.
pub(super) fn reached(reply: Result<Reply, Unreachable>) -> Result<Reply, Fatal> {
    reply.map_err(|unreachable| match unreachable {
        Unreachable::Retryable(why) => Fatal::new("Retryable.IndexFailed", why),
        Unreachable::Fatal(why) => Fatal::new("Fatal.IndexServer", why),
    })
}

/// What a server says of a request that it refuses.
pub(super) fn refusal(status: u16, body: &[u8]) -> String {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &said["error"];
    match (error["type"].as_str(), error["reason"].as_str()) {
        // What all shards say is that they failed; one of them says why.
        (Some(kind), Some(reason)) => match error["root_cause"][0]["reason"].as_str() {
            Some(cause) if cause != reason => format!("{status} {kind}: {reason}: {cause}"),
            _ => format!("{status} {kind}: {reason}"),
        },
        _ => format!("status {status}"),
    }
}
