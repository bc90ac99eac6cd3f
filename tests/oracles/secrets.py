"""Secrets that raw CloudTrail files hold must not leave the original bytes.

`secrets.py find FOLDER`: the secrets below FOLDER, one a line: values of session tokens, secret keys, plaintexts and
passwords, wherever they stand. `secrets.py rows DATA FOLDER`: looks for each in all typed columns of all rows; prints
{secrets, rows, values, holders}: uids of the events whose original holds one. `secrets.py text FOLDER FILE...`: looks
for each in what commands printed.
"""

import glob
import json
import os
import re
import sys

from archive import by_duckdb, check
from raw import DECODER, inflated

# Names of members that hold a secret, in any case. Their values are looked for, not their places.
NAMES = re.compile(
    r"^(sessiontoken|secretaccesskey|secretkey|secretstring|secretbinary|plaintext|password|newpassword|oldpassword|masteruserpassword"
    r"|privatekey|privatekeyplaintext|keymaterial|samlassertion|webidentitytoken|authorization|client_token|secret_id|userdata)$", re.I)
# What stands there instead of one.
HIDDEN = re.compile(r"^(\*+|.{0,5}|HIDDEN_DUE_TO_SECURITY_REASONS|hmac-sha256:.*|<.*>|true|false|(AWS|aws)[ _-]?\w{0,10})$")


def secrets_of(value, found):
    if isinstance(value, dict):
        for name, member in value.items():
            if NAMES.match(name) and isinstance(member, str) and not HIDDEN.match(member):
                found.add(member)
            elif isinstance(member, str) and member.lstrip()[:1] in ("{", "["):
                try:
                    secrets_of(json.loads(member), found)
                except ValueError:
                    pass
            else:
                secrets_of(member, found)
    elif isinstance(value, list):
        for item in value:
            secrets_of(item, found)


def find(folder):
    """All secrets of the files below a folder, found by name in every JSON document that begins anywhere in a file."""
    found = set()
    for path in sorted(glob.glob(os.path.join(folder, "**", "*"), recursive=True)):
        if not os.path.isfile(path):
            continue
        text, index = inflated(path).decode(errors="replace"), 0
        while (index := min((i for i in (text.find("{", index), text.find("[", index)) if i >= 0), default=-1)) >= 0:
            try:
                value, index = DECODER.raw_decode(text, index)
            except ValueError:
                index += 1
                continue
            secrets_of(value, found)
    return sorted(found)


def spellings(secret):
    """As it is, as JSON or an escaping terminal writes it, and what is left of a long one that was cut or half hidden."""
    return {secret, json.dumps(secret)[1:-1], json.dumps(secret)[1:-1].replace("/", "\\/"), secret[8:48] if len(secret) > 60 else secret}


def shown(secrets, text):
    return next((secret for secret in secrets if any(s in text for s in spellings(secret))), None)


def rows(data, folder):
    secrets = find(folder)
    check(secrets, "the raw files hold no secret")
    count, values, holders = 0, {}, []
    for uid, row in by_duckdb(data).items():
        if shown(secrets, row.pop("event_original").decode(errors="replace")):
            holders.append(uid)
        for name, value in row.items():
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    count += 1
                    values.setdefault(text, (uid, name))
    if shown(secrets, "\0".join(values)):
        for text, (uid, name) in values.items():
            check(not shown(secrets, text), f"{uid}: {name} holds a secret of {len(text)} characters")
    print(json.dumps({"secrets": len(secrets), "values": count, "holders": sorted(holders)}))


def text(folder, paths):
    secrets = find(folder)
    for path in paths:
        secret = shown(secrets, open(path, encoding="utf-8").read())
        check(secret is None, f"{path} shows a secret of {len(secret or '')} characters")


match sys.argv[1:]:
    case ["find", folder]:
        print("\n".join(json.dumps(secret) for secret in find(folder)))
    case ["rows", data, folder]:
        rows(data, folder)
    case ["text", folder, *paths]:
        text(folder, paths)
