//! The parts of a CloudTrail record that every event has, as AWS documents them ("CloudTrail record
//! contents", event versions 1.01 to 1.11).
//!
//! In: the JSON text of one record. Out: a [`Record`] that borrows from it. Fields of the documented
//! record are typed and a wrong type is refused; what each service defines for itself
//! (`requestParameters` and its like) stays raw and is read only where it has a meaning for keys.

use crate::object::Object;
use crate::reader::{Read, Reader, fields};
pub(crate) use crate::value::{Flag, Open, Text};
pub(super) use crate::value::{open, read};

/// A member by which a record is of another kind: there is none in what is read.
#[derive(Default, PartialEq, Debug)]
pub(crate) struct Elsewhere;

impl Read<'_> for Elsewhere {
    fn read(&mut self, _: &mut Reader<'_>) -> Option<()> {
        None
    }
}

fields! {
    pub(crate) struct Record<'a> {
        #[serde(borrow)]
        user_identity: Object<UserIdentity<'a>> = "userIdentity",
        event_time: Text<'a> = "eventTime",
        event_source: Text<'a> = "eventSource",
        event_name: Text<'a> = "eventName",
        aws_region: Text<'a> = "awsRegion",
        source_ip_address: Text<'a> = "sourceIPAddress",
        user_agent: Text<'a> = "userAgent",
        error_code: Text<'a> = "errorCode",
        error_message: Text<'a> = "errorMessage",
        request_parameters: Open<'a> = "requestParameters",
        response_elements: Open<'a> = "responseElements",
        additional_event_data: Open<'a> = "additionalEventData",
        service_event_details: Open<'a> = "serviceEventDetails",
        request_id: Text<'a> = "requestID",
        event_id: Text<'a> = "eventID",
        event_type: Text<'a> = "eventType",
        event_category: Text<'a> = "eventCategory",
        read_only: Flag = "readOnly",
        resources: Option<Vec<Object<Resource<'a>>>> = "resources",
        recipient_account_id: Text<'a> = "recipientAccountId",
        shared_event_id: Text<'a> = "sharedEventID",
        vpc_endpoint_id: Text<'a> = "vpcEndpointId",
        tls_details: Object<TlsDetails<'a>> = "tlsDetails",
        insight_details: Object<InsightDetails<'a>> = "insightDetails",
        addendum: Object<Addendum<'a>> = "addendum",
        // The wrapper of the LookupEvents API, see `unwrap_lookup`.
        #[serde(skip)]
        lookup: Elsewhere = "CloudTrailEvent",
    }
}

fields! {
    /// Who made the call ("CloudTrail userIdentity element").
    pub(crate) struct UserIdentity<'a> {
        #[serde(borrow)]
        kind: Text<'a> = "type",
        principal_id: Text<'a> = "principalId",
        arn: Text<'a> = "arn",
        account_id: Text<'a> = "accountId",
        access_key_id: Text<'a> = "accessKeyId",
        user_name: Text<'a> = "userName",
        invoked_by: Text<'a> = "invokedBy",
        session_context: Object<SessionContext<'a>> = "sessionContext",
        on_behalf_of: Object<OnBehalfOf<'a>> = "onBehalfOf",
    }
}

fields! {
    pub(crate) struct SessionContext<'a> {
        #[serde(borrow)]
        session_issuer: Object<SessionIssuer<'a>> = "sessionIssuer",
        attributes: Object<SessionAttributes> = "attributes",
        source_identity: Text<'a> = "sourceIdentity",
    }
}

fields! {
    pub(crate) struct SessionIssuer<'a> {
        #[serde(borrow)]
        arn: Text<'a> = "arn",
        user_name: Text<'a> = "userName",
    }
}

fields! {
    pub(crate) struct SessionAttributes {
        mfa_authenticated: Flag = "mfaAuthenticated",
    }
}

fields! {
    /// The person of IAM Identity Center behind a call.
    pub(crate) struct OnBehalfOf<'a> {
        #[serde(borrow)]
        user_id: Text<'a> = "userId",
    }
}

fields! {
    pub(crate) struct Resource<'a> {
        #[serde(borrow)]
        arn: Text<'a> = "ARN",
    }
}

fields! {
    pub(crate) struct TlsDetails<'a> {
        #[serde(borrow)]
        tls_version: Text<'a> = "tlsVersion",
        cipher_suite: Text<'a> = "cipherSuite",
        client_provided_host_header: Text<'a> = "clientProvidedHostHeader",
    }
}

fields! {
    pub(crate) struct InsightDetails<'a> {
        #[serde(borrow)]
        state: Text<'a> = "state",
        event_source: Text<'a> = "eventSource",
        event_name: Text<'a> = "eventName",
        insight_type: Text<'a> = "insightType",
        error_code: Text<'a> = "errorCode",
    }
}

fields! {
    pub(crate) struct Addendum<'a> {
        #[serde(borrow)]
        reason: Text<'a> = "reason",
    }
}

#[cfg(test)]
mod tests {
    use keytrail_model::json::MAX_DEPTH;
    use proptest::prelude::*;

    use super::*;
    use crate::reader;

    /// Values of all kinds, in order and not.
    const VALUES: [&str; 36] = [
        "null",
        "true",
        "false",
        "nul",
        "truE",
        "0",
        "-0",
        "01",
        "-",
        "1.5e-7",
        "1.",
        ".5",
        "1e",
        "1e400",
        "\"\"",
        "\"true\"",
        "\"x\"",
        "\"\\u00e9\\n\\/\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\x\"",
        "\"a\tb\"",
        "\"\u{7f}\u{e9}\"",
        "\"open",
        "[]",
        "[1,\"a\"]",
        "[1,]",
        "[,1]",
        "{}",
        "{\"a\":1,}",
        "{\"ARN\":\"r\"}",
        "{\"a\":1,\"a\":2}",
        "[null,{\"ARN\":\"r\"}]",
        "[{\"ARN\":1}]",
        "[}",
        "{]",
    ];

    /// Names of fields at all levels, one that is unknown and one with an escape.
    const NAMES: [&str; 16] = [
        "eventName",
        "readOnly",
        "resources",
        "requestParameters",
        "userIdentity",
        "sessionContext",
        "sessionIssuer",
        "attributes",
        "mfaAuthenticated",
        "arn",
        "type",
        "tlsDetails",
        "tlsVersion",
        "other",
        "event\\u004eame",
        "CloudTrailEvent",
    ];

    fn spaces() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["", "", "", "", " ", "\n\t", "\u{c}"])
    }

    /// An object of such fields, which nest.
    fn objects() -> impl Strategy<Value = String> {
        let member = |value: BoxedStrategy<String>| {
            let parts = (prop::sample::select(&NAMES[..]), spaces(), spaces(), value, spaces());
            parts.prop_map(|(name, a, b, value, c)| format!("{a}\"{name}\"{b}:{value}{c}"))
        };
        let object = move |value: BoxedStrategy<String>| {
            prop::collection::vec(member(value), 0..6)
                .prop_map(|members| format!("{{{}}}", members.join(",")))
        };
        let leaf = prop::sample::select(&VALUES[..]).prop_map(str::to_owned).boxed();
        let inner = leaf.clone().prop_recursive(3, 12, 4, move |value| object(value).boxed());
        (object(prop_oneof![1 => leaf, 2 => inner].boxed()), spaces())
            .prop_map(|(object, tail)| object + tail)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// What is read in one pass is what serde reads, and all of it but what is left to serde: escapes
        /// in keys and flags, and answers of LookupEvents.
        #[test]
        fn one_pass_reads_what_serde_reads(json in objects()) {
            let slow = serde_json::from_str::<Record<'_>>(json.trim_ascii_end()).ok();
            let left = ["\\", "CloudTrailEvent"].iter().any(|part| json.contains(part));
            let mut fast = Record::default();
            match reader::read(&json, &mut fast) {
                Some(_) => prop_assert_eq!(Some(fast), slow),
                None => prop_assert!(slow.is_none() || left),
            }
        }
    }

    #[test]
    fn nesting_ends_where_the_limit_is() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        let reads = |json: &str| reader::read(json, &mut Record::default()).is_some();
        assert!(reads(&nested(MAX_DEPTH as usize)) && !reads(&nested(MAX_DEPTH as usize + 1)));
    }
}
