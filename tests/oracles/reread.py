"""`reread.py DATA FOLDER`: the logs below FOLDER, read anew from their raw files, against what the archive holds of them.

Written from the sources' own documentation and `schemas/mappings/`, with Python's JSON alone: no event may be missing, none
too many, and each copied column must hold what the raw event says (or a mask in place of a secret).
Prints {source: {events, columns, values, masked}}.
"""

import datetime
import glob
import hashlib
import ipaddress
import json
import os
import sys

from archive import by_duckdb, check, fail
from raw import (
    DECODER, block, cloudhsm_events, cloudtrail_events, inflated, key_operation_events, listed_events, vault_events,
)

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def micros(text):
    """Microseconds of an RFC 3339 time; what is finer is cut off."""
    if not isinstance(text, str):
        return None
    head, _, rest = text.partition(".")
    digits = rest.rstrip("Z") if rest else ""
    try:
        time = datetime.datetime.fromisoformat((head if rest else head.rstrip("Z")) + "+00:00")
    except ValueError:
        return None
    return (time - EPOCH) // datetime.timedelta(microseconds=1) + int((digits + "000000")[:6])


def at(event, *path):
    for step in path:
        event = event.get(step) if isinstance(event, dict) else None
    return None if event in ("", []) else event


def address(text):
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


# --- what the columns must hold ---


def cloudtrail(e):
    who, session = at(e, "userIdentity"), at(e, "userIdentity", "sessionContext")
    insight = at(e, "insightDetails")
    mfa = at(session, "attributes", "mfaAuthenticated")
    tls = at(e, "tlsDetails", "tlsVersion")
    scope = at(e, "recipientAccountId") or at(who, "accountId")
    row = {
        "timestamp": micros(at(e, "eventTime")),
        "event_id": at(e, "eventID"),
        "event_action": at(e, "eventName") or at(insight, "eventName") or at(e, "eventType"),
        "event_code": at(e, "eventType"),
        "event_provider": at(e, "eventSource"),
        "event_module": "aws",
        "event_kind": "alert" if insight else "event",
        "error_code": at(e, "errorCode"),
        "error_message": at(e, "errorMessage"),
        "cloud_provider": "aws",
        "cloud_region": at(e, "awsRegion"),
        "cloud_account_id": scope,
        "cloud_service_name": (at(e, "eventSource") or "").removesuffix(".amazonaws.com") or None,
        "source_address": at(e, "sourceIPAddress"),
        "source_ip": address(at(e, "sourceIPAddress")),
        "user_agent_original": at(e, "userAgent"),
        "user_id": at(session, "onBehalfOf", "userId") or at(e, "userIdentity", "onBehalfOf", "userId") or at(who, "principalId"),
        "keytrail_actor_type": at(who, "type"),
        "keytrail_actor_arn": at(who, "arn"),
        "keytrail_actor_account_id": at(who, "accountId"),
        "keytrail_actor_access_key_id": at(who, "accessKeyId"),
        "keytrail_actor_invoked_by": at(who, "invokedBy"),
        "keytrail_actor_issuer_arn": at(session, "sessionIssuer", "arn"),
        "keytrail_operation_id": at(e, "sharedEventID") or at(e, "requestID"),
        "keytrail_read_only": at(e, "readOnly"),
        "keytrail_scope": scope if at(e, "eventID") else None,
        "tls_version": tls.removeprefix("TLSv") if tls else None,
        "tls_cipher": at(e, "tlsDetails", "cipherSuite"),
        "tls_client_server_name": at(e, "tlsDetails", "clientProvidedHostHeader"),
    }
    if at(e, "eventType") == "AwsApiCall":
        row["event_outcome"] = "failure" if at(e, "errorCode") or at(e, "errorMessage") else "success"
        row["keytrail_actor_mfa"] = {None: None, "true": True, "false": False}[mfa]
    if at(who, "type") == "IAMUser":
        row["user_name"] = at(who, "userName") or at(who, "arn").rpartition("/")[2]
    if at(who, "type") == "AssumedRole":
        row["user_effective_name"] = at(session, "sessionIssuer", "userName") or at(who, "arn").split("/")[1]
        row["keytrail_actor_session"] = at(who, "arn").split("/", 2)[2] if at(who, "arn") else at(who, "principalId").split(":")[1]
    return row


def vault(e):
    auth, request = at(e, "auth"), at(e, "request")
    decision = {None: None, True: "allow", False: "deny"}[at(auth, "policy_results", "allowed")]
    error = at(e, "error")
    row = {
        "timestamp": micros(at(e, "time")),
        "event_id": at(request, "id"),
        "keytrail_operation_id": at(request, "id"),
        "event_code": at(e, "type"),
        "event_module": "vault",
        "event_kind": "event",
        "keytrail_phase": at(e, "type"),
        "keytrail_scope": None,
        "keytrail_read_only": {None: None}.get(at(request, "operation"), at(request, "operation") in ("read", "list", "scan", "help")),
        "keytrail_vault_path": at(request, "path"),
        "keytrail_vault_namespace": at(request, "namespace", "path") or at(request, "namespace", "id"),
        "keytrail_vault_mount_point": at(request, "mount_point") or at(e, "response", "mount_point"),
        "keytrail_vault_mount_type": at(request, "mount_type") or at(e, "response", "mount_type"),
        "keytrail_actor_type": None if at(auth, "token_type") == "default" else at(auth, "token_type"),
        "keytrail_actor_policies": at(auth, "policies") or (at(auth, "token_policies") or []) + (at(auth, "identity_policies") or []) or None,
        "user_id": at(auth, "entity_id"),
        "source_address": at(request, "remote_address"),
        "source_ip": address(at(request, "remote_address")),
        "source_port": at(request, "remote_port") or None,
        "error_message": error.strip() if error else at(e, "response", "data", "error") and ...,
        "keytrail_batch_count": len(at(request, "data", "batch_input")) if isinstance(at(request, "data", "batch_input"), list) else None,
    }
    if decision:
        row["keytrail_policy_decision"] = decision
    if at(e, "type") == "request":
        row["event_outcome"] = "failure" if error else "unknown"
    if at(auth, "metadata", "username") or at(auth, "display_name"):
        row["user_name"] = at(auth, "metadata", "username") or at(auth, "display_name")
    return row


def key_operation(e):
    body, phase = e["body"], e["phase"]
    key, actor, hsm, rv = at(body, "key"), at(body, "actor"), at(body, "hsm"), at(body, "result", "rv")
    outcome = {"intent": "unknown", "deny": "failure"}.get(phase)
    if phase == "outcome":
        outcome = "success" if rv == "CKR_OK" else "failure" if rv else "unknown"
    return {
        "timestamp": micros(e["time"]),
        "event_id": f"{e['epoch']}/{e['seq']}",
        "event_sequence": e["seq"],
        "event_code": phase,
        "event_outcome": outcome,
        "event_action": at(body, "operation") or phase,
        "event_duration": at(body, "timings", "total_ns"),
        "error_code": None if rv == "CKR_OK" else rv,
        "keytrail_phase": phase,
        "keytrail_scope": e["source"],
        "keytrail_ledger_source": e["source"],
        "keytrail_ledger_epoch": e["epoch"],
        "keytrail_ledger_seq": e["seq"],
        "keytrail_ledger_prev": e["prev"],
        "keytrail_operation_id": at(e, "op_id"),
        "keytrail_mechanism": at(body, "mechanism"),
        "keytrail_batch_count": at(body, "count"),
        "keytrail_policy_decision": at(body, "policy", "decision"),
        "keytrail_policy_ids": at(body, "policy", "ids"),
        "keytrail_key_id": at(key, "id"),
        "keytrail_key_alias": at(key, "label"),
        "keytrail_key_version": at(key, "version") and str(key["version"]),
        "keytrail_key_algorithm": at(key, "algorithm"),
        "keytrail_key_state": at(key, "state"),
        "keytrail_key_store": at(key, "store"),
        "keytrail_key_target_id": at(body, "target_key_id"),
        "keytrail_hsm_id": at(hsm, "id"),
        "keytrail_hsm_serial": at(hsm, "serial"),
        "keytrail_hsm_slot": at(hsm, "slot"),
        "keytrail_hsm_firmware": at(hsm, "firmware"),
        "user_id": at(actor, "id"),
        "user_name": at(actor, "name") or at(actor, "id"),
        "service_name": at(actor, "service"),
        "source_ip": at(actor, "ip"),
        "source_port": at(actor, "port"),
    }


def kubernetes(e):
    user, target, status = at(e, "user"), at(e, "objectRef"), at(e, "responseStatus")
    received, reached = micros(at(e, "requestReceivedTimestamp")), micros(at(e, "stageTimestamp"))
    addresses = [address(ip) for ip in at(e, "sourceIPs") or []]
    decision = {None: None, "allow": "allow", "forbid": "deny"}[at(e, "annotations", "authorization.k8s.io/decision")]
    code, sub = at(status, "code"), at(target, "subresource")
    failed = decision == "deny" or at(status, "status") == "Failure" or (code or 0) >= 400
    row = {
        "timestamp": reached or received or micros(at(e, "timestamp")),
        "event_id": at(e, "auditID"),
        "event_action": at(e, "verb"),
        "event_code": at(e, "level"),
        "event_module": "kubernetes",
        "event_kind": "event",
        "event_outcome": "failure" if failed else "success" if code else "unknown",
        "event_reason": at(e, "annotations", "authorization.k8s.io/reason"),
        "error_message": at(status, "message") if failed else None,
        "keytrail_operation_id": at(e, "auditID"),
        "keytrail_phase": at(e, "stage"),
        "keytrail_scope": None,
        "keytrail_policy_decision": decision,
        "keytrail_actor_policies": at(user, "groups"),
        "user_name": at(user, "username"),
        "user_id": at(user, "uid"),
        "user_effective_name": at(e, "impersonatedUser", "username"),
        "user_agent_original": at(e, "userAgent"),
        "source_ip": addresses[0] if addresses else None,
        "related_ip": addresses or None,
        "orchestrator_namespace": at(target, "namespace"),
        "orchestrator_resource_type": target and target["resource"] + (f"/{sub}" if sub else ""),
    }
    if reached and received and at(e, "stage") != "RequestReceived":
        row["event_duration"] = (reached - received) * 1000
    if at(target, "resource") == "secrets" and not at(target, "apiGroup") and at(target, "name"):
        row["keytrail_key_id"], row["keytrail_key_store"] = at(target, "name"), at(target, "namespace")
    return row


def gcp(e):
    log, labels = e["protoPayload"], at(e, "resource", "labels")
    who, status, operation = at(log, "authenticationInfo"), at(log, "status"), at(e, "operation")
    code, first, last = at(status, "code") or 0, at(operation, "first"), at(operation, "last")
    keyed = at(e, "logName") and at(e, "timestamp") and at(e, "insertId")
    named = [at(log, "resourceName")] + [at(a, "resource") for a in at(log, "authorizationInfo") or []]
    row = {
        "timestamp": micros(at(e, "timestamp")),
        "event_id": at(e, "insertId"),
        "event_action": at(log, "methodName"),
        "event_provider": at(log, "serviceName"),
        "event_code": e["logName"].rpartition("%2F")[2],
        "event_module": "gcp",
        "event_kind": "event",
        "event_outcome": "failure" if code else "unknown" if first and not last else "success",
        "error_code": str(code) if code else None,
        "error_message": at(status, "message"),
        "cloud_provider": "gcp",
        "cloud_project_id": e["logName"].split("/")[1],
        "cloud_account_id": e["logName"].split("/")[1],
        "cloud_service_name": (at(log, "serviceName") or "").removesuffix(".googleapis.com") or None,
        "keytrail_scope": at(e, "logName") if keyed else None,
        "keytrail_operation_id": at(operation, "id"),
        "keytrail_phase": "first" if first and not last else "last" if last and not first else None,
        "keytrail_resource_ids": [name for name in named if name] or None,
        "user_id": at(who, "principalSubject"),
        "source_address": at(log, "requestMetadata", "callerIp"),
        "source_ip": address(at(log, "requestMetadata", "callerIp")),
        "user_agent_original": at(log, "requestMetadata", "callerSuppliedUserAgent"),
        "orchestrator_cluster_name": at(labels, "cluster_name"),
    }
    if not at(who, "serviceAccountDelegationInfo"):
        row["user_name"] = at(who, "principalEmail") or at(who, "principalSubject")
    for column, collection in (("keytrail_key_id", "cryptoKeys"), ("keytrail_key_store", "keyRings")):
        parts = (at(log, "resourceName") or "").split("/")
        if at(log, "serviceName") == "cloudkms.googleapis.com" and collection in parts:
            row[column] = parts[parts.index(collection) + 1]
    return row


def keyvault(e):
    properties, claim = at(e, "properties"), at(e, "identity", "claim")
    code = at(properties, "httpStatusCode") or at(e, "httpStatusCode")
    challenge = e["operationName"] == "Authentication" and code == 401
    resource = e["resourceId"].lower().split("/")
    tls = at(properties, "tlsVersion")
    row = {
        "timestamp": micros(at(e, "time")),
        "event_id": None,
        "event_action": at(e, "operationName"),
        "event_code": "AuditEvent",
        "event_provider": "Microsoft.KeyVault",
        "event_module": "azure",
        "event_kind": "event",
        "event_duration": at(e, "durationMs") and int(e["durationMs"]) * 1_000_000,
        "event_outcome": "unknown" if challenge else "failure" if code >= 400 else "success",
        "cloud_provider": "azure",
        "cloud_account_id": resource[resource.index("subscriptions") + 1],
        "cloud_service_name": {"vaults": "keyvault", "managedhsms": "managedhsm"}[resource[-2]],
        "keytrail_scope": None,
        "keytrail_operation_id": at(e, "correlationId"),
        "source_address": at(e, "callerIpAddress"),
        "source_ip": address(at(e, "callerIpAddress")),
        "user_agent_original": at(properties, "clientInfo") or at(e, "clientInfo"),
        "tls_version": tls and tls.removeprefix("TLS").replace("_", "."),
    }
    if claim:
        long = "http://schemas.%s/identity/claims/%s"
        upn = at(claim, "upn") or at(claim, long % ("xmlsoap.org/ws/2005/05", "upn"))
        row["user_id"] = at(claim, "oid") or at(claim, long % ("microsoft.com", "objectidentifier"))
        row["service_name"] = at(claim, "appid")
        if upn:
            row["user_name"] = upn
    return row


def cloudhsm(e):
    code, _, answer = e["Response"].partition(":")
    reboots, number = int(e["Reboot counter"], 16), int(e["Sequence No"], 16)
    opcode = e["Opcode"].split("(")[0].strip()
    handles = [e.get(name) for name in ("Priv/Secret Key Handle", "Public Key Handle")]
    handles = [handle for handle in handles if handle not in (None, "", "0")]
    of_user = opcode in ("CN_CREATE_USER", "CN_CREATE_CO", "CN_DELETE_USER", "CN_CHANGE_PSWD")
    name, kind = e.get("User Name"), e.get("User Type")
    return {
        "timestamp": int(e["Time"].partition("usecs:")[2]),
        "event_id": f"{reboots:#x}/{number:#x}",
        "event_sequence": number,
        "keytrail_hsm_reboot_counter": reboots,
        "keytrail_hsm_id": None,
        "keytrail_scope": None,
        "event_action": opcode,
        "event_code": e["Log type"].split("(")[0].strip(),
        "event_outcome": "success" if code == "0" else "failure",
        "error_code": None if code == "0" else code,
        "error_message": None if code == "0" else answer.strip(),
        "keytrail_actor_session": e["Session Handle"],
        "user_name": None if of_user else name,
        "user_target_name": name if of_user else None,
        "keytrail_actor_type": kind.split("(")[0].strip() if kind and not of_user else None,
        "keytrail_key_id": handles[0] if handles else None,
        "keytrail_resource_ids": handles or None,
        "cloud_provider": "aws",
        "cloud_service_name": "cloudhsm",
    }


# --- the comparison ---

SOURCES = {
    "aws.cloudhsm": (["cloudhsm/*"], cloudhsm_events, cloudhsm),
    "aws.cloudtrail": (["cloudtrail/**/*"], cloudtrail_events, cloudtrail),
    "vault.audit": (["vault/*", "openbao/*", "damaged/*"], vault_events, vault),
    "keytrail.key_operation": (["key-operation/*"], key_operation_events, key_operation),
    "kubernetes.audit": (["kubernetes/**/*"], listed_events, kubernetes),
    "gcp.audit": (["gcp/**/*"], listed_events, gcp),
    "azure.keyvault": (["keyvault/**/*"], listed_events, keyvault),
}


def canonical(event):
    return json.dumps(event, sort_keys=True)


def parsed(row):
    original = row["event_original"]
    return block(original) if row["dataset"] == "aws.cloudhsm" else json.loads(original)


def compare(rows, folder, patterns, events, expected):
    """Rows of one dataset against the raw events: the same events, each once, with the right columns."""
    paths = [p for pattern in patterns for p in glob.glob(os.path.join(folder, pattern), recursive=True) if os.path.isfile(p)]
    raw = {canonical(event): event for path in sorted(paths) for event in events(path)}
    kept = {}
    for row in rows:
        event = canonical(parsed(row))
        check(event not in kept, f"two rows of one event: {row['keytrail_uid']}, {kept.get(event)}")
        kept[event] = row["keytrail_uid"]
    for event in raw.keys() - kept.keys():
        fail(f"an event of the raw files is not in the archive: {event[:300]}")
    for uid in kept.keys() - raw.keys():
        fail(f"an event of the archive is in no raw file: {kept[uid]}")
    columns, count, masked = set(), 0, 0
    for row in rows:
        for name, value in expected(raw[canonical(parsed(row))]).items():
            # An HMAC'd error text, which is no text: either way is right.
            if value is ...:
                continue
            # Lists are sets: sorted, each value once.
            value = sorted(set(value)) if isinstance(value, list) else value
            columns.add(name)
            count += 1
            found = sorted(row[name]) if isinstance(row[name], list) else row[name]
            if found != value:
                mask = isinstance(found, str) and "masked:" in found
                check(mask, f"{row['keytrail_uid']}: {name} is {found!r}, the raw event says {value!r}")
                masked += 1
        provenance(row)
    return {"events": len(rows), "columns": len(columns), "values": count, "masked": masked}


def provenance(row):
    """`keytrail_input` names the file and the place where the original begins."""
    path, _, offset = row["keytrail_input"].rpartition("@")
    data, start = inflated(path), int(offset)
    if data[start:start + len(row["event_original"])] != row["event_original"]:
        # LookupEvents: the place of the answer, whose string holds the event.
        answer, _ = DECODER.raw_decode(data[start:].decode())
        check(answer["CloudTrailEvent"].encode() == row["event_original"], f"{row['keytrail_uid']}: not at {row['keytrail_input']}")


def chains(rows):
    """Each key-operation record's `prev` is the leaf hash of the bytes that the archive kept of the one before."""
    records = {(r["keytrail_ledger_source"], r["keytrail_ledger_epoch"], r["keytrail_ledger_seq"]): r for r in rows}
    for (source, epoch, seq), row in records.items():
        before = records.get((source, epoch, seq - 1))
        if before:
            leaf = hashlib.sha256(b"\0" + before["event_original"]).hexdigest()
            check(row["keytrail_ledger_prev"] == leaf, f"{source} {epoch}/{seq}: prev is not the hash of the record before")


def main(data, folder):
    rows = list(by_duckdb(data).values())
    figures = {}
    for dataset, (patterns, events, expected) in SOURCES.items():
        of_dataset = [row for row in rows if row["dataset"] == dataset]
        figures[dataset] = compare(of_dataset, folder, patterns, events, expected)
    chains([row for row in rows if row["dataset"] == "keytrail.key_operation"])
    check(sum(f["events"] for f in figures.values()) == len(rows), "the archive has rows of other datasets")
    print(json.dumps(figures))


main(*sys.argv[1:])
