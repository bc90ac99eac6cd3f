//! AWS CloudTrail: records of log files, of LookupEvents answers, and of lines.
//!
//! What it is: the mapping of a CloudTrail record to ECS and `keytrail.*`, documented field by field in
//! `schemas/mappings/cloudtrail.md`. What it is not: it cuts no file into records and knows no trail's
//! configuration. In: the JSON text of one record, checked for balance, depth and encoding. Out: an
//! [`AuditEvent`], or a [`Rejection`] that names the field.
//!
//! Source: "CloudTrail record contents for management, data, and network activity events" and "CloudTrail
//! userIdentity element" of the AWS CloudTrail user guide; event versions 1.01 to 1.11.

mod actions;
mod identity;
mod keys;
mod record;

use std::borrow::Cow;

use keytrail_model::row::Content;
use keytrail_model::{ActionClass, AuditEvent, Column, Reject, Rejection, Timestamp, Value};
use serde::Deserialize;

use crate::Context;
use crate::category::classify;
use crate::reader::{self, fields};
use crate::value::{slice, text};
use crate::walk;
use actions::{Service, Verb};
pub(crate) use record::Record;
use record::{Open, open};

/// `event.dataset` of these events.
pub const DATASET: &str = "aws.cloudtrail";

/// `keytrail.normalizer`: raised with every change of what a record becomes.
pub const NORMALIZER: &str = "cloudtrail/1";

/// Whether a record's content looks like one of this source: `eventVersion` 1.x beside one of the
/// fields that every kind of event has, or the wrapper of LookupEvents. Digest files and the
/// notifications of S3, DynamoDB and Kinesis, which share some names, are not claimed. A torn record is
/// judged by what is there.
pub fn recognises(record: &str) -> bool {
    let (mut version, mut event, mut wrapped, mut foreign) = (false, false, false, false);
    walk::top_keys(record, |key, value| {
        let value = value.trim_ascii_start();
        match key {
            "eventVersion" => version = value.starts_with("\"1."),
            "eventSource" if value.starts_with("\"aws:") => foreign = true,
            "eventSource" | "eventName" | "eventType" | "insightDetails" => event = true,
            "digestStartTime" | "digestS3Object" => foreign = true,
            "CloudTrailEvent" => wrapped = value.starts_with('"'),
            _ => {}
        }
        !wrapped && !foreign
    });
    wrapped || (version && event && !foreign)
}

/// The event inside an answer of the LookupEvents API, where it stands as a JSON string: the unescaped
/// string is the event's original. `None` for a record that is an event itself.
///
/// Fails with `field_type` where `CloudTrailEvent` is no string.
pub fn unwrap_lookup(json: &str) -> Result<Option<String>, Rejection> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Wrapper<'a> {
        #[serde(rename = "CloudTrailEvent", borrow)]
        event: record::Text<'a>,
    }
    if memchr::memmem::find(json.as_bytes(), b"\"CloudTrailEvent\"").is_none() {
        return Ok(None);
    }
    let wrapper: Wrapper<'_> = record::read(json)?;
    Ok(wrapper.event.get().map(Cow::into_owned))
}

/// Reads a record that is in order into a default, and says how its content is spaced. `None`: see
/// [`unwrap_lookup`] and [`parse`].
pub(crate) fn read<'a>(json: &'a str, into: &mut Record<'a>) -> Option<Content> {
    reader::read(json, into)
}

/// Reads the record that a text begins with, as [`read`] does; gives its length too.
pub(crate) fn read_first<'a>(text: &'a str, into: &mut Record<'a>) -> Option<(usize, Content)> {
    reader::read_first(text, into)
}

/// A record that was checked.
///
/// Fails with `field_type` where a field of the documented record has another type, and with
/// `json_duplicate_key` where one stands twice.
pub(crate) fn parse(json: &str) -> Result<Record<'_>, Rejection> {
    record::read(json)
}

/// The event of one record.
///
/// Fails with `field_type` and `json_duplicate_key` where a sub-tree that has a meaning for keys is not
/// as its service writes it, and with `field_missing` where the record says nothing of what happened. A
/// time that is missing or unreadable leaves the event undated.
pub(crate) fn normalize<'a>(record: &Record<'a>, ctx: &Context<'a>) -> Result<AuditEvent<'a>, Rejection> {
    let no_insight = Default::default();
    let insight = record.insight_details.0.as_ref();
    let details = insight.unwrap_or(&no_insight);
    if record.event_source.starts_with("aws:") {
        let why = "expected the name of a service in `eventSource`, found that of a Lambda event source";
        return Err(Rejection::new(Reject::FormatUnknown, why));
    }
    if record.event_name.is_empty() && record.event_type.is_empty() && insight.is_none() {
        return Err(Rejection::new(
            Reject::FieldMissing,
            "`eventName` is missing, and so are `eventType` and `insightDetails`",
        ));
    }
    let masker = ctx.masker;
    let mut event = AuditEvent::new(DATASET, "aws");
    event.at(Timestamp::parse(&record.event_time));
    identify(&mut event, record);

    let source = record.event_source.or(&details.event_source);
    let action = record.event_name.or(&details.event_name).or(&record.event_type);
    let service = Service::of(source);
    let verb = Verb::of(action, record.read_only.0);
    event.text(Column::KeytrailNormalizer, NORMALIZER);
    event.maybe(Column::EventAction, action.get());
    event.maybe(Column::EventProvider, source.get());
    event.maybe(Column::EventCode, record.event_type.get());
    event.maybe(Column::EventReason, record.addendum.0.as_ref().and_then(|a| a.reason.get()));
    if let Some(read_only) = record.read_only.0 {
        event.flag(Column::KeytrailReadOnly, read_only);
    }

    place(&mut event, record, source);
    network(&mut event, record, ctx);
    if let Some(user) = &record.user_identity.0 {
        identity::fill(&mut event, user, masker);
    }
    event.maybe(Column::ErrorCode, record.error_code.or(&details.error_code).get());
    event.maybe(Column::ErrorMessage, record.error_message.get().map(|m| masker.scrub(m)));
    if insight.is_some() {
        event.text(Column::EventKind, "alert");
        event.maybe(Column::KeytrailInsightState, details.state.get());
        event.maybe(Column::KeytrailInsightType, details.insight_type.get());
        event.add(Column::EventCategory, "api");
        event.add(Column::EventType, "info");
        return Ok(event);
    }

    event.text(Column::EventKind, "event");
    event.text(Column::EventOutcome, outcome(record, service)?);
    let mut class = actions::class(service, action, verb == Verb::Read);
    for resource in record.resources.iter().flatten() {
        let arn = resource.0.as_ref().and_then(|r| r.arn.get());
        if let Some(arn) = arn {
            event.add(Column::KeytrailResourceIds, masker.scrub(arn));
        }
    }
    if service.holds_keys() {
        class = keys::fill(&mut event, record, service, class, masker)?;
    }
    special(&mut event, record, service, ctx)?;
    categorize(&mut event, record, service, action, verb, class);
    Ok(event)
}

/// Frozen with `keytrail/uid/1`: the account that the record was delivered to, else the caller's, and
/// the event's id.
fn identify<'a>(event: &mut AuditEvent<'a>, record: &Record<'a>) {
    let caller = record.user_identity.0.as_ref().and_then(|u| u.account_id.get());
    let account = record.recipient_account_id.get().or(caller);
    event.maybe(Column::CloudAccountId, account.clone());
    if let Some(id) = record.event_id.get() {
        event.maybe(Column::KeytrailScope, account.clone());
        event.text(Column::EventId, id.clone());
        event.identity.key = vec![id];
    }
    event.identity.scope = account.unwrap_or_default();
    // One call that is recorded in two accounts shares an id; else the request's own joins its records.
    event.maybe(Column::KeytrailOperationId, record.shared_event_id.or(&record.request_id).get());
}

fn place<'a>(event: &mut AuditEvent<'a>, record: &Record<'a>, source: &record::Text<'a>) {
    event.text(Column::CloudProvider, "aws");
    event.maybe(Column::CloudRegion, record.aws_region.get());
    let service =
        source.get().and_then(|s| slice(&s, |s| Some(s.strip_suffix(".amazonaws.com").unwrap_or(s))));
    event.maybe(Column::CloudServiceName, service);
}

/// Where the call came from and how it was protected.
fn network<'a>(event: &mut AuditEvent<'a>, record: &Record<'a>, ctx: &Context<'a>) {
    let masker = ctx.masker;
    if let Some(address) = record.source_ip_address.get() {
        if address.parse::<std::net::IpAddr>().is_ok() {
            event.text(Column::SourceIp, address.clone());
            event.add(Column::RelatedIp, address.clone());
            event.text(Column::SourceAddress, address);
        } else {
            // A service calls under its name, the AWS network as `AWS Internal`.
            let address = masker.scrub(address);
            if address.contains('.')
                && !address.contains(' ')
                && !address.ends_with(|c: char| c.is_ascii_digit())
            {
                event.add(Column::RelatedHosts, address.clone());
            }
            event.text(Column::SourceAddress, address);
        }
    }
    event.maybe(Column::UserAgentOriginal, record.user_agent.get().map(|a| masker.scrub(a)));
    if let Some(endpoint) = record.vpc_endpoint_id.get() {
        event.add(Column::KeytrailResourceIds, endpoint);
    }
    if let Some(tls) = &record.tls_details.0 {
        let version = tls.tls_version.get();
        event.maybe(
            Column::TlsVersion,
            version.and_then(|v| slice(&v, |v| Some(v.strip_prefix("TLSv").unwrap_or(v)))),
        );
        event.maybe(Column::TlsCipher, tls.cipher_suite.get());
        if let Some(host) = tls.client_provided_host_header.get() {
            let host = masker.scrub(host);
            event.add(Column::RelatedHosts, host.clone());
            event.text(Column::TlsClientServerName, host);
        }
    }
}

fields! {
    /// A sign-in event's result stands under the event's own name.
    struct SignIn<'a> {
        #[serde(borrow)]
        console_login: Open<'a> = "ConsoleLogin",
        check_mfa: Open<'a> = "CheckMfa",
        switch_role: Open<'a> = "SwitchRole",
        exit_role: Open<'a> = "ExitRole",
        credential_verification: Open<'a> = "CredentialVerification",
        user_authentication: Open<'a> = "UserAuthentication",
    }
}

/// A call failed when the record has an error, or when a sign-in event says so in its own way.
fn outcome(record: &Record<'_>, service: Service) -> Result<&'static str, Rejection> {
    if !record.error_code.is_empty() || !record.error_message.is_empty() {
        return Ok("failure");
    }
    if service == Service::SignIn {
        for (field, raw) in [
            ("responseElements", record.response_elements),
            ("serviceEventDetails", record.service_event_details),
        ] {
            let mut said = SignIn::default();
            open(field, raw, &mut said)?;
            let results = [
                said.console_login,
                said.check_mfa,
                said.switch_role,
                said.exit_role,
                said.credential_verification,
                said.user_authentication,
            ];
            if results.into_iter().flatten().any(|r| r.get().starts_with("\"Fail")) {
                return Ok("failure");
            }
        }
    }
    // Service events that end badly are named so: they have no error code.
    if record.event_name.ends_with("Failed") || record.event_name.ends_with("Abandoned") {
        return Ok("failure");
    }
    Ok("success")
}

fields! {
    /// What is read of single services' sub-trees.
    struct Beside<'a> {
        #[serde(borrow)]
        mfa_used: Open<'a> = "MFAUsed",
        user_name: Open<'a> = "userName",
    }
}

/// What single services say beside: the second factor of a sign-in, the user that IAM acts on.
fn special<'a>(
    event: &mut AuditEvent<'a>,
    record: &Record<'a>,
    service: Service,
    ctx: &Context<'a>,
) -> Result<(), Rejection> {
    let mut said = Beside::default();
    match service {
        Service::SignIn => {
            open("additionalEventData", record.additional_event_data, &mut said)?;
            match said.mfa_used.map(|m| m.get()) {
                Some("\"Yes\"") => event.flag(Column::KeytrailActorMfa, true),
                Some("\"No\"") => event.flag(Column::KeytrailActorMfa, false),
                _ => {}
            }
        }
        Service::Iam => {
            open("requestParameters", record.request_parameters, &mut said)?;
            if let Some(name) = text(said.user_name) {
                let name = ctx.masker.scrub(name);
                event.add(Column::RelatedUser, name.clone());
                event.text(Column::UserTargetName, name);
            }
        }
        _ => {}
    }
    Ok(())
}

/// ECS categories and types: of the class where there is one, as for all sources.
fn categorize(
    event: &mut AuditEvent<'_>,
    record: &Record<'_>,
    service: Service,
    action: &str,
    verb: Verb,
    class: Option<ActionClass>,
) {
    if class.is_some() {
        classify(event, class);
    } else {
        let (categories, types) = actions::categorize(service, action, verb);
        categories.into_iter().for_each(|c| event.add(Column::EventCategory, c));
        types.into_iter().for_each(|t| event.add(Column::EventType, t));
    }
    if &*record.event_category == "NetworkActivity" {
        event.add(Column::EventCategory, "network");
    }
    let error = &*record.error_code;
    let denied =
        ["AccessDenied", "UnauthorizedOperation", "UnauthorizedAccess"].iter().any(|e| error.contains(e));
    // ECS expects `denied` with `api`, not with `authentication`.
    let api = matches!(event.get(Column::EventCategory), Value::List(c) if c.iter().any(|c| c == "api"));
    if denied && api {
        event.add(Column::EventType, "denied");
    }
}
