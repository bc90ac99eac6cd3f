"""The Runtime API of one process (AWS Lambda Developer Guide, "Using the Lambda runtime API"): four routes over HTTP."""

import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class RuntimeApi:
    """Hands `invocations` to the process, and what it answers to `results` as (body, is it an error)."""

    def __init__(self, timeout_seconds):
        self.timeout_seconds = timeout_seconds
        self.invocations, self.results = queue.Queue(), queue.Queue()
        self.ready = threading.Event()
        self.init_error = None
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.api = self
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def end(self):
        self.invocations.put(None)
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Else each answer waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, *_args):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if length := self.headers.get("Content-Length"):
            return self.rfile.read(int(length))
        read = b""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                read += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        return read

    def do_GET(self):
        api = self.server.api
        if not self.path.endswith("/runtime/invocation/next"):
            return self.answer(404)
        api.ready.set()
        invocation = api.invocations.get()
        if invocation is None:
            return self.answer(410)
        deadline = int((time.time() + api.timeout_seconds) * 1000)
        headers = [
            ("Content-Type", "application/json"),
            ("Lambda-Runtime-Aws-Request-Id", invocation["invoke-id"]),
            ("Lambda-Runtime-Deadline-Ms", str(deadline)),
            ("Lambda-Runtime-Invoked-Function-Arn", invocation["invoked-function-arn"]),
            ("Lambda-Runtime-Trace-Id", invocation["trace-id"]),
        ]
        return self.answer(200, invocation["payload"].encode(), headers)

    def do_POST(self):
        api, body = self.server.api, self.body()
        self.answer(202, b'{"status":"OK"}')
        if self.path.endswith("/runtime/init/error"):
            api.init_error = body
            api.ready.set()
        else:
            api.results.put((body, self.path.endswith("/error")))
