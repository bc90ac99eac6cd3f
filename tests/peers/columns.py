"""Which columns the peers fill from a CloudTrail event: those that keytrail fills by copying a member.

(archive column, path in the event, kind). What keytrail derives (action class, categories, related.*, identity
behind a role session, uid) is left out: the peers have less to do than keytrail.
"""

COLUMNS = [
    ("event_id", ("eventID",), "text"),
    ("event_action", ("eventName",), "text"),
    ("event_provider", ("eventSource",), "text"),
    ("event_code", ("eventType",), "text"),
    ("timestamp", ("eventTime",), "time"),
    ("cloud_region", ("awsRegion",), "text"),
    ("cloud_account_id", ("recipientAccountId",), "text"),
    ("source_address", ("sourceIPAddress",), "text"),
    ("user_agent_original", ("userAgent",), "text"),
    ("error_code", ("errorCode",), "text"),
    ("error_message", ("errorMessage",), "text"),
    ("keytrail_operation_id", ("requestID",), "text"),
    ("keytrail_read_only", ("readOnly",), "bool"),
    ("keytrail_actor_type", ("userIdentity", "type"), "text"),
    ("user_id", ("userIdentity", "principalId"), "text"),
    ("user_name", ("userIdentity", "userName"), "text"),
    ("keytrail_actor_arn", ("userIdentity", "arn"), "text"),
    ("keytrail_actor_account_id", ("userIdentity", "accountId"), "text"),
    ("keytrail_actor_access_key_id", ("userIdentity", "accessKeyId"), "text"),
    ("keytrail_actor_invoked_by", ("userIdentity", "invokedBy"), "text"),
    ("keytrail_actor_issuer_arn", ("userIdentity", "sessionContext", "sessionIssuer", "arn"), "text"),
    ("user_effective_name", ("userIdentity", "sessionContext", "sessionIssuer", "userName"), "text"),
    ("keytrail_actor_mfa", ("userIdentity", "sessionContext", "attributes", "mfaAuthenticated"), "text"),
    ("keytrail_key_id", ("requestParameters", "keyId"), "text"),
    ("keytrail_key_algorithm", ("requestParameters", "encryptionAlgorithm"), "text"),
    ("keytrail_encryption_context", ("requestParameters", "encryptionContext"), "json"),
    ("keytrail_grant_principal", ("requestParameters", "granteePrincipal"), "text"),
    ("keytrail_grant_id", ("responseElements", "grantId"), "text"),
    ("keytrail_key_state", ("responseElements", "keyState"), "text"),
    ("tls_version", ("tlsDetails", "tlsVersion"), "text"),
    ("tls_cipher", ("tlsDetails", "cipherSuite"), "text"),
    ("tls_client_server_name", ("tlsDetails", "clientProvidedHostHeader"), "text"),
]
