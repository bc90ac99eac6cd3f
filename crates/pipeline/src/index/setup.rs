//! What a server needs before the first document: templates. And who it is.

use keytrail_index::{Component, Target, components, dead_letter_template, index_template};
use keytrail_model::{Fatal, Hash};
use keytrail_ports::{EventIndex, IndexBody, IndexRequest, Method, Reply, Unreachable};
use serde_json::Value;

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

/// A template, and what was done with it.
#[derive(Clone, PartialEq, Debug)]
pub struct Installed {
    /// Its name on the server.
    pub name: &'static str,
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
    let reply = ask(index, Method::Get, "", IndexBody::Empty)?;
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

/// Puts the templates of this version where they are not, or only says what would be done.
///
/// # Errors
/// As [`identify`].
pub fn install(index: &dyn EventIndex, kind: Target, dry_run: bool) -> Result<Vec<Installed>, Fatal> {
    let parts =
        components(kind).into_iter().map(|Component { name, body }| ("_component_template", name, body));
    let whole = [("keytrail", index_template()), ("keytrail-deadletter", dead_letter_template())];
    let whole = whole.into_iter().map(|(name, body)| ("_index_template", name, body));
    let mut done = Vec::new();
    for (place, name, mut now) in parts.chain(whole) {
        let hash = Hash::of(now.to_string().as_bytes()).to_hex();
        now["_meta"]["sha256"] = hash.into();
        let path = format!("{place}/{name}");
        let before = match ask(index, Method::Get, &path, IndexBody::Empty)? {
            Reply { status: 200, body, .. } => {
                let said: Value = serde_json::from_slice(&body).unwrap_or_default();
                let one = place.trim_start_matches('_');
                Some(said[format!("{one}s")][0][one].clone())
            }
            _ => None,
        };
        let same = before.as_ref().is_some_and(|before| before["_meta"] == now["_meta"]);
        if !same && !dry_run {
            let reply = ask(index, Method::Put, &path, IndexBody::Json(now.to_string().as_bytes()))?;
            if reply.status != 200 {
                let said = refusal(reply.status, &reply.body);
                return Err(Fatal::new("Fatal.IndexServer", format!("the server refuses `{path}`: {said}")));
            }
        }
        done.push(Installed { name, before, now, same });
    }
    Ok(done)
}

/// Asks once.
fn ask(index: &dyn EventIndex, method: Method, path: &str, body: IndexBody<'_>) -> Result<Reply, Fatal> {
    let reply = reached(index.send(&IndexRequest { method, path, body }))?;
    match reply.status {
        401 | 403 => {
            let said = refusal(reply.status, &reply.body);
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
        (Some(kind), Some(reason)) => format!("{status} {kind}: {reason}"),
        _ => format!("status {status}"),
    }
}
