"""A receiver of keytrail's alerts: Python's own HTTP server, jsonschema, and the check of signatures that
schemas/alerts.md gives, as it stands there.

webhook.py FOLDER PORT STATUS...: answers the first requests with these statuses, the rest with 204. PORT 0 is any free
one; FOLDER/port says which. A line of JSON in FOLDER/requests for each request: what it said, and whether it is
keytrail's by its signature and a body by the schema. The secret is in FOLDER/secret.
"""

import http.server
import json
import os
import pathlib
import re
import sys

import jsonschema

folder = pathlib.Path(sys.argv[1])
statuses = [int(s) for s in sys.argv[3:]]
secret = (folder / "secret").read_text().strip()
schemas = pathlib.Path(__file__).parents[2] / "schemas"
schema = json.loads((schemas / "alert.v1.schema.json").read_text())
documented = re.search(r"^```python\n(.*?)^```", (schemas / "alerts.md").read_text(), re.M | re.S)
exec(documented.group(1))
validator = jsonschema.Draft202012Validator(schema)


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status = statuses.pop(0) if statuses else 204
        alert = json.loads(body)
        request = {
            "path": self.path,
            "id": self.headers["webhook-id"],
            "status": status,
            "signed": is_from_keytrail(secret, self.headers, body),
            "invalid": [e.message for e in validator.iter_errors(alert)],
            "alert": alert,
        }
        with open(folder / "requests", "a") as out:
            out.write(json.dumps(request) + "\n")
        self.send_response(status)
        if status == 302:
            self.send_header("location", "/elsewhere")
        self.end_headers()

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Receiver)
(folder / "port.new").write_text(str(server.server_port))
os.rename(folder / "port.new", folder / "port")
server.serve_forever()
