//! The shape of an audit record of Key Vault or Managed HSM, as the logging pages of both document it.
//!
//! What it is: the fields that keytrail reads, borrowed from the record. Managed HSM writes some of what
//! is in `properties` beside it, and `identity` as a string of JSON. What it is not: `properties` differ
//! by operation; they are read name by name, and a value of another type says nothing.

use crate::reader::fields;
use crate::value::{Open, Text};

fields! {
    /// A resource log record.
    pub(crate) struct Record<'a> {
        #[serde(borrow)]
        time: Text<'a> = "time",
        resource_id: Text<'a> = "resourceId",
        operation_name: Text<'a> = "operationName",
        category: Open<'a> = "category",
        result_type: Text<'a> = "resultType",
        result_signature: Text<'a> = "resultSignature",
        result_description: Text<'a> = "resultDescription",
        duration_ms: Open<'a> = "durationMs",
        caller_ip_address: Text<'a> = "callerIpAddress",
        correlation_id: Text<'a> = "correlationId",
        identity: Open<'a> = "identity",
        properties: Open<'a> = "properties",
        location: Text<'a> = "location",
        // Managed HSM.
        client_info: Text<'a> = "clientInfo",
        request_uri: Text<'a> = "requestUri",
        http_status_code: Open<'a> = "httpStatusCode",
    }
}

fields! {
    /// What the operation says of itself.
    pub(super) struct Properties<'a> {
        #[serde(borrow)]
        id: Open<'a> = "id",
        client_info: Open<'a> = "clientInfo",
        request_uri: Open<'a> = "requestUri",
        http_status_code: Open<'a> = "httpStatusCode",
        algorithm: Open<'a> = "algorithm",
        tls_version: Open<'a> = "tlsVersion",
        is_access_policy_match: Open<'a> = "isAccessPolicyMatch",
        is_rbac_authorized: Open<'a> = "isRbacAuthorized",
        applied_assignment_id: Open<'a> = "appliedAssignmentId",
        key_properties: Open<'a> = "keyProperties",
        secret_properties: Open<'a> = "secretProperties",
        added_access_policy: Open<'a> = "addedAccessPolicy",
        removed_access_policy: Open<'a> = "removedAccessPolicy",
    }
}

fields! {
    /// What is said of a key, a secret, or an access policy.
    pub(super) struct Facts<'a> {
        #[serde(borrow)]
        kind: Open<'a> = "type",
        attributes: Open<'a> = "attributes",
        enabled: Open<'a> = "enabled",
        object_id: Open<'a> = "ObjectId",
        permissions: Open<'a> = "Permissions",
        keys: Open<'a> = "keys",
        secrets: Open<'a> = "secrets",
        certificates: Open<'a> = "certificates",
    }
}

fields! {
    pub(super) struct Identity<'a> {
        #[serde(borrow)]
        claim: Open<'a> = "claim",
    }
}

fields! {
    /// Claims of the token: by their short names, by their long ones, and taken apart at the dots of the
    /// long ones as Managed HSM has them.
    pub(super) struct Claims<'a> {
        #[serde(borrow)]
        appid: Open<'a> = "appid",
        idtyp: Open<'a> = "idtyp",
        amr: Open<'a> = "amr",
        long_amr: Open<'a> = "http://schemas.microsoft.com/claims/authnmethodsreferences",
        oid: Open<'a> = "oid",
        long_oid: Open<'a> = "http://schemas.microsoft.com/identity/claims/objectidentifier",
        upn: Open<'a> = "upn",
        long_upn: Open<'a> = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
        long_name: Open<'a> = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
        unique_name: Open<'a> = "unique_name",
        managed_identity: Open<'a> = "xms_mirid",
        microsoft: Open<'a> = "http_schemas_microsoft_com_identity",
        xmlsoap: Open<'a> = "http_schemas_xmlsoap_org_ws_2005_05_identity",
        claims: Open<'a> = "claims",
        objectidentifier: Open<'a> = "objectidentifier",
        name: Open<'a> = "name",
    }
}
