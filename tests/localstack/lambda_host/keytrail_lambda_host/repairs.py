"""What LocalStack core 2026.3.0 does otherwise than AWS, and the deployment, its machines or their tests need."""

import time
import types

from localstack.aws.api.stepfunctions import HistoryEventType, TaskFailedEventDetails
from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent
from localstack.services.lambda_.resource_providers.lambda_alias import LambdaAliasProvider
from localstack.services.stepfunctions.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from localstack.services.stepfunctions.asl.component.common.error_name.states_error_name import StatesErrorName
from localstack.services.stepfunctions.asl.component.common.error_name.states_error_name_type import StatesErrorNameType
from localstack.services.stepfunctions.asl.component.common.retry import retrier_decl
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.iteration import (
    distributed_iteration_component,
)
from localstack.services.stepfunctions.asl.eval.event.event_detail import EventDetails


def apply():
    aliases_are_updated()
    tolerance_is_kept()
    retries_come_soon()


def aliases_are_updated():
    """An update of a stack replaces the alias of a function, and fails since there is one."""

    def update(_self, request):
        new, old = request.desired_state, request.previous_state or {}
        names = ("FunctionName", "Name", "FunctionVersion", "Description")
        updated = request.aws_client_factory.lambda_.update_alias(
            **{name: new[name] for name in names if new.get(name)}
        )
        new["Id"] = old.get("Id") or updated["AliasArn"]
        new["AliasArn"] = updated["AliasArn"]
        return ProgressEvent(OperationStatus.SUCCESS, resource_model=new, custom_context=request.custom_context)

    LambdaAliasProvider.SCHEMA["createOnlyProperties"] = []
    LambdaAliasProvider.update = update


def tolerance_is_kept():
    """Failed items of a distributed Map never fail it."""
    component = distributed_iteration_component.DistributedIterationComponent
    run = component._map_run

    def map_run(self, env, eval_input):
        run(self, env, eval_input)
        count = eval_input.map_run_record.item_counter.describe()
        percent = 100.0 * count["failed"] / max(1, count["total"])
        tolerated = eval_input.tolerated_failure_count, eval_input.tolerated_failure_percentage
        if count["failed"] > tolerated[0] and percent > tolerated[1]:
            name = StatesErrorName(typ=StatesErrorNameType.StatesExceedToleratedFailureThreshold)
            details = TaskFailedEventDetails(
                error=name.error_name, cause="The specified tolerated failure threshold was exceeded"
            )
            event = FailureEvent(
                env=env,
                error_name=name,
                event_type=HistoryEventType.MapRunFailed,
                event_details=EventDetails(taskFailedEventDetails=details),
            )
            raise FailureEventException(event)

    component._map_run = map_run


def retries_come_soon():
    """A machine waits a hundredth of what it says before it tries a task again: tests try each of them."""
    retrier_decl.time = types.SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 100))
