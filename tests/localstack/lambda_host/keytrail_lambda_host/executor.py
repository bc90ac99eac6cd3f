"""Execution environments: one process of a function each, started again when an invocation ended it."""

import json
import os
import queue
import subprocess
import tempfile
import threading
import time

from localstack.services.lambda_.invocation.lambda_models import InvocationResult
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from keytrail_lambda_host import faults
from keytrail_lambda_host.calls import functions
from keytrail_lambda_host.runtime_api import RuntimeApi

# How long a process may take until it asks for its first invocation, as on AWS.
INIT_SECONDS = 10


class HostExecutor(RuntimeExecutor):
    def start(self, env_vars):
        config = self.function_version.config
        code = config.code.get_unzipped_code_location()
        self.output = tempfile.NamedTemporaryFile(prefix="function-", suffix=".log", delete=False)
        self.code = code
        self.environment = {name: str(value) for name, value in env_vars.items() if value is not None}
        # Each environment has a /tmp of its own.
        scratch = tempfile.mkdtemp(prefix="environment-")
        self.environment |= {"LAMBDA_TASK_ROOT": str(code), "PATH": os.environ["PATH"], "TMPDIR": scratch}
        functions[env_vars["AWS_ACCESS_KEY_ID"]] = self.function_version.id.function_name
        self.process = None
        self._spawn()

    def _spawn(self):
        self.api = RuntimeApi(self.function_version.config.timeout)
        environment = self.environment | {"AWS_LAMBDA_RUNTIME_API": self.api.address}
        self.process = subprocess.Popen(
            [str(self.code / "bootstrap")], cwd=self.code, env=environment, stdout=self.output, stderr=self.output
        )
        begin = time.monotonic()
        while not self.api.ready.wait(0.002):
            if self.process.poll() is not None or time.monotonic() - begin > INIT_SECONDS:
                raise RuntimeError(f"`bootstrap` asked for no invocation: {self.get_logs()}")
        if self.api.init_error is not None:
            raise RuntimeError(self.api.init_error.decode())

    def stop(self):
        self.api.end()
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def invoke(self, payload):
        fault = faults.take(self.function_version.id.function_name)
        if fault is None:
            return self._invoke(payload)
        kind, worked = fault
        result = self._invoke(payload) if worked else None
        if kind in faults.ENDED:
            self.process.kill()
            self.process.wait()
        when = "after" if worked else "before"
        failed = failure(kind, f"injected {when} the work")
        return InvocationResult(payload["invoke-id"], failed, is_error=True, logs=result.logs if result else "")

    def _invoke(self, payload):
        if self.process.poll() is not None:
            self.api.end()
            self._spawn()
        offset = os.path.getsize(self.output.name)
        begin = time.monotonic()
        request = payload["invoke-id"]
        self.api.invocations.put(payload)
        timeout = self.function_version.config.timeout
        while True:
            try:
                body, is_error = self.api.results.get(timeout=0.02)
                break
            except queue.Empty:
                if self.process.poll() is not None:
                    # The process may have answered before it ended.
                    try:
                        body, is_error = self.api.results.get_nowait()
                    except queue.Empty:
                        body, is_error = (
                            failure("Runtime.ExitError", f"RequestId: {request} Error: Runtime exited"),
                            True,
                        )
                    break
                if time.monotonic() - begin > timeout:
                    self.process.kill()
                    self.process.wait()
                    message = f"RequestId: {request} Error: Task timed out after {timeout}.00 seconds"
                    body, is_error = failure("Sandbox.Timedout", message), True
                    break
        return InvocationResult(request, body, is_error=is_error, logs=self._lines(request, offset, begin))

    def _lines(self, request, offset, begin):
        """What the invocation printed, between the lines that Lambda prints."""
        with open(self.output.name, errors="replace") as output:
            output.seek(offset)
            printed = output.read().rstrip("\n")
        spent = (time.monotonic() - begin) * 1000
        version = self.function_version
        return (
            f"START RequestId: {request} Version: {version.id.qualifier}\n{printed}\nEND RequestId: {request}\n"
            f"REPORT RequestId: {request}\tDuration: {spent:.2f} ms\tBilled Duration: {spent + 1:.0f} ms\t"
            f"Memory Size: {version.config.memory_size} MB\tMax Memory Used: 0 MB\t"
        )

    def get_logs(self):
        with open(self.output.name, errors="replace") as output:
            return output.read()

    def get_address(self):
        return "127.0.0.1"

    def get_endpoint_from_executor(self):
        return "127.0.0.1"

    def get_runtime_endpoint(self):
        return "http://127.0.0.1"

    # One at a time: versions of a function are prepared by several threads.
    preparing = threading.Lock()

    @classmethod
    def prepare_version(cls, function_version):
        if function_version.config.code:
            with cls.preparing:
                function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version):
        pass


def failure(kind, message):
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()
