//! The shape of an audit event, as `k8s.io/apiserver/pkg/apis/audit/v1` defines it; v1beta1 and v1alpha1
//! differ in the names of times alone.
//!
//! What it is: the fields that keytrail reads, borrowed from the record. What it is not: the objects of
//! requests and answers, which hold the values of Secrets, stay raw and are read name by name.

use crate::object::Object;
use crate::reader::fields;
use crate::value::{Open, Text};

fields! {
    /// One stage of one request.
    pub(crate) struct Record<'a> {
        #[serde(borrow)]
        kind: Text<'a> = "kind",
        api_version: Text<'a> = "apiVersion",
        level: Text<'a> = "level",
        audit_id: Text<'a> = "auditID",
        stage: Text<'a> = "stage",
        request_uri: Text<'a> = "requestURI",
        verb: Text<'a> = "verb",
        user: Object<User<'a>> = "user",
        impersonated_user: Object<Impersonated<'a>> = "impersonatedUser",
        source_ips: Option<Vec<Text<'a>>> = "sourceIPs",
        user_agent: Text<'a> = "userAgent",
        object_ref: Object<ObjectRef<'a>> = "objectRef",
        response_status: Object<Status<'a>> = "responseStatus",
        request_object: Open<'a> = "requestObject",
        response_object: Open<'a> = "responseObject",
        request_received_timestamp: Text<'a> = "requestReceivedTimestamp",
        stage_timestamp: Text<'a> = "stageTimestamp",
        annotations: Object<Annotations<'a>> = "annotations",
        // Times of v1beta1 and v1alpha1.
        timestamp: Text<'a> = "timestamp",
        metadata: Object<Metadata<'a>> = "metadata",
    }
}

fields! {
    /// Who authenticated.
    pub(crate) struct User<'a> {
        #[serde(borrow)]
        username: Text<'a> = "username",
        uid: Text<'a> = "uid",
        groups: Option<Vec<Text<'a>>> = "groups",
        extra: Open<'a> = "extra",
    }
}

fields! {
    /// Who the request was made as.
    pub(crate) struct Impersonated<'a> {
        #[serde(borrow)]
        username: Text<'a> = "username",
    }
}

fields! {
    /// What authenticators add, each a list of strings: those of EKS, and of Kubernetes itself.
    pub(crate) struct Extra<'a> {
        #[serde(borrow)]
        arn: Open<'a> = "arn",
        access_key_id: Open<'a> = "accessKeyId",
        session_name: Open<'a> = "sessionName",
        credential_id: Open<'a> = "authentication.kubernetes.io/credential-id",
    }
}

fields! {
    pub(crate) struct ObjectRef<'a> {
        #[serde(borrow)]
        resource: Text<'a> = "resource",
        namespace: Text<'a> = "namespace",
        name: Text<'a> = "name",
        api_group: Text<'a> = "apiGroup",
        subresource: Text<'a> = "subresource",
    }
}

fields! {
    /// `metav1.Status`, without its details.
    pub(crate) struct Status<'a> {
        #[serde(borrow)]
        status: Text<'a> = "status",
        message: Text<'a> = "message",
        reason: Text<'a> = "reason",
        code: Open<'a> = "code",
    }
}

fields! {
    /// What the authorizer adds.
    pub(crate) struct Annotations<'a> {
        #[serde(borrow)]
        decision: Text<'a> = "authorization.k8s.io/decision",
        reason: Text<'a> = "authorization.k8s.io/reason",
    }
}

fields! {
    pub(crate) struct Metadata<'a> {
        #[serde(borrow)]
        creation_timestamp: Text<'a> = "creationTimestamp",
    }
}
