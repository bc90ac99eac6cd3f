"""An executor of functions for LocalStack core 2026.3.0 (LAMBDA_RUNTIME_EXECUTOR=host), which has one for docker alone.

What it is: the `bootstrap` of a function's zip as a process of this machine, served by a Runtime API of its own, with the
answers to crashes and timeouts that AWS gives. What it is not: a sandbox. In: invocations of LocalStack. Out: results.
"""

import functools

from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin


class HostPlugin(RuntimeExecutorPlugin):
    name = "host"

    def load(self, *_args, **_kwargs):
        from keytrail_lambda_host.executor import HostExecutor

        change_localstack()
        return HostExecutor


@functools.cache
def change_localstack():
    """Once, however often the plugin is loaded."""
    from keytrail_lambda_host import calls, repairs

    repairs.apply()
    calls.apply()
