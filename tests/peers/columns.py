"""The columns that the peers fill from a CloudTrail event: those that `keytrail run` fills for the bench's load.

`KINDS` names them in order, with their kinds. Left out are `event_ingested` and `keytrail_input`, which say when and
from where, and `keytrail_group`, an index of ours. `differences.py` holds the values of a peer's file against
those of keytrail's archive. What calls mean stands in `CALLS`; keytrail's own tables know some hundred more.
"""

KINDS = {
    "timestamp": "time",
    "event_original": "bytes",
    "event_hash": "text",
    "event_id": "text",
    "event_action": "text",
    "event_provider": "text",
    "event_code": "text",
    "event_kind": "text",
    "event_category": "list",
    "event_type": "list",
    "event_outcome": "text",
    "event_dataset": "text",
    "event_module": "text",
    "cloud_provider": "text",
    "cloud_region": "text",
    "cloud_account_id": "text",
    "cloud_service_name": "text",
    "source_address": "text",
    "source_ip": "text",
    "user_agent_original": "text",
    "error_code": "text",
    "error_message": "text",
    "tls_version": "text",
    "tls_cipher": "text",
    "tls_client_server_name": "text",
    "user_id": "text",
    "user_name": "text",
    "user_effective_name": "text",
    "related_user": "list",
    "related_hosts": "list",
    "related_ip": "list",
    "keytrail_uid": "text",
    "keytrail_scope": "text",
    "keytrail_source": "text",
    "keytrail_schema": "int",
    "keytrail_normalizer": "text",
    "keytrail_undeclared": "bool",
    "keytrail_operation_id": "text",
    "keytrail_read_only": "bool",
    "keytrail_action_class": "text",
    "keytrail_actor_type": "text",
    "keytrail_actor_arn": "text",
    "keytrail_actor_account_id": "text",
    "keytrail_actor_access_key_id": "text",
    "keytrail_actor_invoked_by": "text",
    "keytrail_actor_issuer_arn": "text",
    "keytrail_actor_session": "text",
    "keytrail_actor_mfa": "bool",
    "keytrail_key_arn": "text",
    "keytrail_key_id": "text",
    "keytrail_key_alias": "text",
    "keytrail_key_target_id": "text",
    "keytrail_key_algorithm": "text",
    "keytrail_key_usage": "text",
    "keytrail_key_origin": "text",
    "keytrail_key_state": "text",
    "keytrail_encryption_context": "text",
    "keytrail_grant_id": "text",
    "keytrail_grant_principal": "text",
    "keytrail_grant_operations": "list",
    "keytrail_resource_ids": "list",
}

READ = (["api"], ["access"])
CHANGE = (["api", "configuration"], ["change"])
POWER = (["api", "iam"], ["admin", "change"])
SIGN_IN = (["authentication"], ["start"])

# Action class, categories and types of the calls that the load makes.
CALLS = {
    "AssumeRole": (None, *SIGN_IN),
    "CancelKeyDeletion": ("cancel-deletion", *CHANGE),
    "ConsoleLogin": (None, *SIGN_IN),
    "CreateAlias": ("alias-change", *CHANGE),
    "CreateGrant": ("grant", *POWER),
    "CreateKey": ("create", ["api", "configuration"], ["creation"]),
    "Decrypt": ("decrypt", *READ),
    "DescribeInstances": (None, *READ),
    "DescribeKey": ("access", *READ),
    "DescribeRouteTables": (None, *READ),
    "DescribeSecurityGroups": (None, *READ),
    "DescribeVpcs": (None, *READ),
    "DisableKey": ("disable", *CHANGE),
    "EnableKey": ("enable", *CHANGE),
    "EnableKeyRotation": ("administer", *CHANGE),
    "Encrypt": ("encrypt", *READ),
    "GenerateDataKey": ("generate-data-key", *READ),
    "GenerateMac": ("mac", *READ),
    "GetBucketAcl": (None, *READ),
    "GetKeyPolicy": ("access", *READ),
    "GetObject": (None, *READ),
    "GetSecretValue": ("export", *READ),
    "PutKeyPolicy": ("policy-change", *POWER),
    "PutObject": (None, *CHANGE),
    "ReEncrypt": ("decrypt", *READ),
    "RetireGrant": ("grant", *POWER),
    "RotateKey": ("rotate", *CHANGE),
    "ScheduleKeyDeletion": ("schedule-deletion", *CHANGE),
    "Sign": ("sign", *READ),
    "Verify": ("verify", *READ),
}


def length(n):
    """A length as it stands before each part of what a uid is made of."""
    return n.to_bytes(8, "big")


# What stands before the account, the event's id and the digest of the record in what a uid is the hash of.
UID_HEAD = length(14) + b"keytrail/uid/1" + length(14) + b"aws.cloudtrail" + length(12)
UID_KEY = length(1) + length(36)
UID_CONTENT = length(32)
