"""DuckDB as a loader of CloudTrail events into Parquet, one thread: `duckdb_load.py lines|records INPUT OUTPUT`.

Each event is parsed once, by its known structure; the columns are those of `columns.py`.
"""

import json
import sys

import duckdb

from columns import CALLS, KINDS, UID_CONTENT, UID_HEAD, UID_KEY

ISSUER = {"arn": "VARCHAR", "userName": "VARCHAR"}
STRUCTURE = {
    **dict.fromkeys(
        "eventID eventName eventSource eventType eventTime awsRegion recipientAccountId sourceIPAddress"
        " userAgent errorCode errorMessage requestID".split(),
        "VARCHAR",
    ),
    "readOnly": "BOOLEAN",
    "userIdentity": {
        **dict.fromkeys("type principalId arn accountId accessKeyId userName invokedBy".split(), "VARCHAR"),
        "sessionContext": {"sessionIssuer": ISSUER, "attributes": {"mfaAuthenticated": "BOOLEAN"}},
    },
    "requestParameters": {
        **dict.fromkeys(
            "keyId sourceKeyId targetKeyId destinationKeyId aliasName encryptionAlgorithm"
            " sourceEncryptionAlgorithm signingAlgorithm macAlgorithm keySpec keyUsage origin granteePrincipal"
            " secretId".split(),
            "VARCHAR",
        ),
        "encryptionContext": "JSON",
        "sourceEncryptionContext": "JSON",
        "operations": ["VARCHAR"],
    },
    "responseElements": {
        **dict.fromkeys("grantId keyState ConsoleLogin".split(), "VARCHAR"),
        "keyMetadata": dict.fromkeys("keyUsage keyState origin".split(), "VARCHAR"),
    },
    "additionalEventData": {"MFAUsed": "VARCHAR"},
    "resources": [{"ARN": "VARCHAR"}],
    "tlsDetails": dict.fromkeys("tlsVersion cipherSuite clientProvidedHostHeader".split(), "VARCHAR"),
}

EVENTS = {
    "lines": "SELECT json FROM read_ndjson_objects($source)",
    "records": """SELECT unnest(Records) AS json FROM read_json($source, format = 'unstructured',
                  columns = {Records: 'JSON[]'}, maximum_object_size = 2000000000)""",
}

# What other columns are made of.
PARTS = {
    "who": "e.userIdentity",
    "request": "e.requestParameters",
    "response": "e.responseElements",
    "host": "e.tlsDetails.clientProvidedHostHeader",
    "arns": "nullif(list_transform(e.resources, r -> r.ARN), [])",
    "is_address": r"regexp_full_match(e.sourceIPAddress, '[0-9.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*')",
    "failed": "e.errorCode IS NOT NULL OR e.responseElements.ConsoleLogin IS NOT DISTINCT FROM 'Failure'",
    "session": "CASE WHEN e.userIdentity.type = 'AssumedRole' THEN split_part(e.userIdentity.arn, '/', 3) END",
    "hash": "sha256(CAST(json AS VARCHAR))",
}

VALUES = {
    "timestamp": "CAST(e.eventTime AS TIMESTAMPTZ)",
    "event_original": "CAST(json AS BLOB)",
    "event_hash": "hash",
    "event_id": "e.eventID",
    "event_action": "e.eventName",
    "event_provider": "e.eventSource",
    "event_code": "e.eventType",
    "event_kind": "'event'",
    "event_category": "category",
    "event_type": """CASE WHEN e.errorCode = 'AccessDenied' AND list_contains(category, 'api')
                          THEN list_append(kind, 'denied') ELSE kind END""",
    "event_outcome": "CASE WHEN failed THEN 'failure' ELSE 'success' END",
    "event_dataset": "'aws.cloudtrail'",
    "event_module": "'aws'",
    "cloud_provider": "'aws'",
    "cloud_region": "e.awsRegion",
    "cloud_account_id": "e.recipientAccountId",
    "cloud_service_name": "replace(e.eventSource, '.amazonaws.com', '')",
    "source_address": "e.sourceIPAddress",
    "source_ip": "CASE WHEN is_address THEN e.sourceIPAddress END",
    "user_agent_original": "e.userAgent",
    "error_code": "e.errorCode",
    "error_message": "e.errorMessage",
    "tls_version": "replace(e.tlsDetails.tlsVersion, 'TLSv', '')",
    "tls_cipher": "e.tlsDetails.cipherSuite",
    "tls_client_server_name": "host",
    "user_id": "who.principalId",
    "user_name": """CASE who.type WHEN 'AssumedRole' THEN session WHEN 'Root' THEN 'root'
                                  WHEN 'AWSService' THEN who.invokedBy
                    ELSE coalesce(who.userName, split_part(who.arn, '/', -1), who.invokedBy) END""",
    "user_effective_name": "CASE WHEN who.type = 'AssumedRole' THEN who.sessionContext.sessionIssuer.userName END",
    "related_user": """nullif(list_filter([user_id, if(user_name = user_id, NULL, user_name), user_effective_name],
                                          u -> u IS NOT NULL), [])""",
    "related_hosts": """nullif(list_filter([
        CASE WHEN NOT is_address AND contains(e.sourceIPAddress, '.') AND NOT contains(e.sourceIPAddress, ' ')
             THEN e.sourceIPAddress END,
        host,
        CASE WHEN regexp_full_match(session, 'i-([0-9a-f]{8}|[0-9a-f]{17})') THEN session END],
        h -> h IS NOT NULL), [])""",
    "related_ip": "CASE WHEN is_address THEN [e.sourceIPAddress] END",
    "keytrail_uid": f"""left(sha256(unhex('{UID_HEAD.hex()}') || encode(e.recipientAccountId)
        || unhex('{UID_KEY.hex()}') || encode(e.eventID) || unhex('{UID_CONTENT.hex()}') || unhex(hash)), 40)""",
    "keytrail_scope": "e.recipientAccountId",
    "keytrail_source": "'cloudtrail'",
    "keytrail_schema": "1::BIGINT",
    "keytrail_normalizer": "'cloudtrail/1'",
    "keytrail_undeclared": "true",
    "keytrail_operation_id": "e.requestID",
    "keytrail_read_only": "e.readOnly",
    "keytrail_action_class": "action_class",
    "keytrail_actor_type": "who.type",
    "keytrail_actor_arn": "who.arn",
    "keytrail_actor_account_id": "who.accountId",
    "keytrail_actor_access_key_id": "who.accessKeyId",
    "keytrail_actor_invoked_by": "who.invokedBy",
    "keytrail_actor_issuer_arn": "who.sessionContext.sessionIssuer.arn",
    "keytrail_actor_session": "session",
    "keytrail_actor_mfa": """CASE WHEN e.eventSource = 'signin.amazonaws.com' THEN e.additionalEventData.MFAUsed = 'Yes'
                                  ELSE who.sessionContext.attributes.mfaAuthenticated END""",
    "keytrail_key_arn": """CASE e.eventSource WHEN 'kms.amazonaws.com' THEN arns[1]
                                              WHEN 'secretsmanager.amazonaws.com' THEN request.secretId END""",
    "keytrail_key_id": """CASE e.eventSource WHEN 'kms.amazonaws.com' THEN split_part(arns[1], ':key/', 2)
        WHEN 'secretsmanager.amazonaws.com' THEN split_part(request.secretId, ':secret:', 2) END""",
    "keytrail_key_alias": r"""coalesce(request.aliasName,
        nullif(regexp_extract(coalesce(request.sourceKeyId, request.targetKeyId, request.keyId), ':(alias/.*)', 1), ''))""",
    "keytrail_key_target_id": """CASE WHEN request.destinationKeyId = arns[1] THEN split_part(arns[1], ':key/', 2)
                                      ELSE request.destinationKeyId END""",
    "keytrail_key_algorithm": """coalesce(request.encryptionAlgorithm, request.sourceEncryptionAlgorithm,
        request.signingAlgorithm, request.macAlgorithm, request.keySpec)""",
    "keytrail_key_usage": "coalesce(response.keyMetadata.keyUsage, request.keyUsage)",
    "keytrail_key_origin": "coalesce(response.keyMetadata.origin, request.origin)",
    "keytrail_key_state": """coalesce(response.keyMetadata.keyState, response.keyState,
        CASE WHEN failed THEN NULL WHEN e.eventName = 'EnableKey' THEN 'Enabled'
             WHEN e.eventName IN ('DisableKey', 'CancelKeyDeletion') THEN 'Disabled' END)""",
    "keytrail_encryption_context": """CAST(coalesce(request.encryptionContext, request.sourceEncryptionContext)
                                           AS VARCHAR)""",
    "keytrail_grant_id": "response.grantId",
    "keytrail_grant_principal": "request.granteePrincipal",
    "keytrail_grant_operations": "request.operations",
    "keytrail_resource_ids": "arns",
}


def main(layout, source, target):
    con = duckdb.connect()
    con.execute("SET threads = 1")
    con.execute("SET preserve_insertion_order = true")
    con.execute("SET TimeZone = 'UTC'")
    con.execute("CREATE TABLE calls (name VARCHAR, action_class VARCHAR, category VARCHAR[], kind VARCHAR[])")
    con.executemany("INSERT INTO calls VALUES (?, ?, ?, ?)", [[name, *said] for name, said in CALLS.items()])
    parts = ", ".join(f"{sql} AS {name}" for name, sql in PARTS.items())
    values = ", ".join(f"{VALUES[name]} AS {name}" for name in KINDS)
    con.execute(
        f"""COPY (SELECT {values}
                  FROM (SELECT *, {parts}
                        FROM (SELECT json, json_transform(json, '{json.dumps(STRUCTURE)}') AS e
                              FROM ({EVENTS[layout]})))
                  LEFT JOIN calls ON calls.name = e.eventName)
            TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3)""",
        {"source": source},
    )
    print(con.execute("SELECT count(*) FROM read_parquet($target)", {"target": target}).fetchone()[0])


main(*sys.argv[1:])
