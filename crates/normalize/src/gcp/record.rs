//! The shape of a LogEntry whose payload is an AuditLog, as Google's reference of both defines it.
//!
//! What it is: the fields that keytrail reads, borrowed from the record. What it is not: `request`,
//! `response` and `metadata` are each service's own; they stay raw and are read name by name.

use crate::object::Object;
use crate::reader::fields;
use crate::value::{Flag, Open, Text};

fields! {
    /// A LogEntry.
    pub(crate) struct Record<'a> {
        #[serde(borrow)]
        log_name: Text<'a> = "logName",
        insert_id: Text<'a> = "insertId",
        timestamp: Text<'a> = "timestamp",
        receive_timestamp: Text<'a> = "receiveTimestamp",
        resource: Object<Monitored<'a>> = "resource",
        operation: Object<Operation<'a>> = "operation",
        payload: Object<AuditLog<'a>> = "protoPayload",
        // Payloads of other logs.
        text_payload: Open<'a> = "textPayload",
        json_payload: Open<'a> = "jsonPayload",
    }
}

fields! {
    /// The monitored resource. Its labels are strings.
    pub(crate) struct Monitored<'a> {
        #[serde(borrow)]
        labels: Object<Labels<'a>> = "labels",
    }
}

fields! {
    pub(crate) struct Labels<'a> {
        #[serde(borrow)]
        project_id: Text<'a> = "project_id",
        location: Text<'a> = "location",
        cluster_name: Text<'a> = "cluster_name",
    }
}

fields! {
    /// The long-running operation that the entry belongs to.
    pub(crate) struct Operation<'a> {
        #[serde(borrow)]
        id: Text<'a> = "id",
        first: Flag = "first",
        last: Flag = "last",
    }
}

fields! {
    /// `google.cloud.audit.AuditLog`.
    pub(crate) struct AuditLog<'a> {
        #[serde(borrow)]
        kind: Text<'a> = "@type",
        service_name: Text<'a> = "serviceName",
        method_name: Text<'a> = "methodName",
        resource_name: Text<'a> = "resourceName",
        resource_location: Object<Location<'a>> = "resourceLocation",
        status: Object<Status<'a>> = "status",
        authentication_info: Object<Authentication<'a>> = "authenticationInfo",
        authorization_info: Option<Vec<Object<Authorization<'a>>>> = "authorizationInfo",
        request_metadata: Object<RequestMetadata<'a>> = "requestMetadata",
        request: Open<'a> = "request",
        response: Open<'a> = "response",
        service_data: Open<'a> = "serviceData",
    }
}

fields! {
    pub(crate) struct Location<'a> {
        #[serde(borrow)]
        current_locations: Option<Vec<Text<'a>>> = "currentLocations",
    }
}

fields! {
    /// `google.rpc.Status`.
    pub(crate) struct Status<'a> {
        #[serde(borrow)]
        code: Open<'a> = "code",
        message: Text<'a> = "message",
        details: Open<'a> = "details",
    }
}

fields! {
    /// Who called.
    pub(crate) struct Authentication<'a> {
        #[serde(borrow)]
        principal_email: Text<'a> = "principalEmail",
        principal_subject: Text<'a> = "principalSubject",
        service_account_key_name: Text<'a> = "serviceAccountKeyName",
        delegation: Option<Vec<Object<Delegation<'a>>>> = "serviceAccountDelegationInfo",
    }
}

fields! {
    /// Who acted as a service account, the first one first.
    pub(crate) struct Delegation<'a> {
        #[serde(borrow)]
        principal_subject: Text<'a> = "principalSubject",
        first_party: Object<FirstParty<'a>> = "firstPartyPrincipal",
    }
}

fields! {
    pub(crate) struct FirstParty<'a> {
        #[serde(borrow)]
        principal_email: Text<'a> = "principalEmail",
    }
}

fields! {
    /// A permission that was asked for; `granted` is left out where it is false.
    pub(crate) struct Authorization<'a> {
        #[serde(borrow)]
        resource: Text<'a> = "resource",
        granted: Flag = "granted",
        permission_type: Text<'a> = "permissionType",
    }
}

fields! {
    pub(crate) struct RequestMetadata<'a> {
        #[serde(borrow)]
        caller_ip: Text<'a> = "callerIp",
        caller_supplied_user_agent: Text<'a> = "callerSuppliedUserAgent",
    }
}
