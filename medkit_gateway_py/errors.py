"""The errors a client can get, as types; `api/errors.py` is the one place that turns them into HTTP.

Wire form and codes: API.md §1.3, §1.7. Codes that begin with `x-medkit-` travel as
`error_code: "vendor-error"` plus `vendor_code`.
"""

from __future__ import annotations

from typing import Any, ClassVar


class GatewayError(Exception):
    """An answer other than success. `status` is HTTP, `code` an error or vendor code, `parameters` JSON members."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"

    def __init__(self, message: str, *, headers: dict[str, str] | None = None, **parameters: Any) -> None:
        super().__init__(message)
        self.message = message
        self.parameters = {key: value for key, value in parameters.items() if value is not None}
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """The JSON body of API.md §1.3; `parameters` is omitted when empty."""
        body: dict[str, Any] = {"message": self.message}
        if self.code.startswith("x-medkit-"):
            body["error_code"] = "vendor-error"
            body["vendor_code"] = self.code
        else:
            body["error_code"] = self.code
        if self.parameters:
            body["parameters"] = self.parameters
        return body


class InvalidRequest(GatewayError):
    """400: the body is not what the route takes."""

    status = 400
    code = "invalid-request"


class InvalidParameter(GatewayError):
    """400: an id, a query value or a field of a message is wrong."""

    status = 400
    code = "invalid-parameter"


class CollectionNotSupported(GatewayError):
    """400: this kind of entity has no such collection (API.md §3.9)."""

    status = 400
    code = "collection-not-supported"


class Forbidden(GatewayError):
    """403: a request that a web page of another origin must not send (DECISIONS 11)."""

    status = 403
    code = "forbidden"


class ParameterReadOnly(GatewayError):
    """403: the node takes no other value for this parameter (API.md §6.4)."""

    status = 403
    code = "x-medkit-ros2-parameter-read-only"


class ParameterAnswerUnusable(GatewayError):
    """500: a node answered a question on its parameters with something that cannot be used."""


class EntityNotFound(GatewayError):
    """404: no such entity."""

    status = 404
    code = "entity-not-found"


class ResourceNotFound(GatewayError):
    """404: no such item, or no such route."""

    status = 404
    code = "resource-not-found"


class OperationNotFound(GatewayError):
    """404: the entity has no such operation."""

    status = 404
    code = "operation-not-found"


class PreconditionNotFulfilled(GatewayError):
    """409: what is asked for does not fit the state of the execution."""

    status = 409
    code = "precondition-not-fulfilled"


class PayloadTooLarge(GatewayError):
    """413: the body is longer than `server.max_body_bytes`."""

    status = 413
    code = "payload-too-large"


class NotImplementedHere(GatewayError):
    """501: the route exists and nothing serves it (DECISIONS 14)."""

    status = 501
    code = "not-implemented"


class PeerUnavailable(GatewayError):
    """502: the gateway that owns the entity cannot be reached (AGGREGATION.md §6)."""

    status = 502
    code = "x-medkit-peer-unavailable"


class ServiceUnavailable(GatewayError):
    """503: a bound is reached or a part of the gateway is not there now."""

    status = 503
    code = "service-unavailable"


class NodeNotAvailable(GatewayError):
    """503: the parameter service of a node is missing or silent (API.md §6.2)."""

    status = 503
    code = "x-medkit-ros2-node-unavailable"


class ColdWaitCapExceeded(GatewayError):
    """503: too many topics are being waited for (API.md §4.2, DECISIONS 7)."""

    status = 503
    code = "x-medkit-cold-wait-cap-exceeded"


class GatewayShutdown(GatewayError):
    """503: the gateway is stopping."""

    status = 503
    code = "x-medkit-gateway-shutdown"


class SubscribeFailed(GatewayError):
    """500: ROS refused the subscription."""

    status = 500
    code = "x-medkit-subscribe-failed"


class PublishFailed(GatewayError):
    """500: ROS refused the publisher or the publication."""

    status = 500
    code = "internal-error"


class ServiceCallFailed(GatewayError):
    """500: a service call ended without a response, whatever the reason (API.md §5.3)."""

    status = 500
    code = "x-medkit-ros2-service-unavailable"


class ActionFailed(GatewayError):
    """500: a goal or its cancellation could not be sent (API.md §5.3, §5.6)."""

    status = 500
    code = "x-medkit-ros2-action-unavailable"


class ActionRejected(GatewayError):
    """400: the action server refused the goal or its cancellation."""

    status = 400
    code = "x-medkit-ros2-action-rejected"


class CancelUnavailable(GatewayError):
    """503: there is no server that could cancel (API.md §5.6)."""

    status = 503
    code = "x-medkit-ros2-action-unavailable"


class NotResponding(GatewayError):
    """504: the owner took the request and did not answer in time (AGGREGATION.md §6)."""

    status = 504
    code = "not-responding"


class LoopDetected(GatewayError):
    """508: the request came back to a gateway it had passed (AGGREGATION.md §5)."""

    status = 508
    code = "loop-detected"


class PluginFailed(GatewayError):
    """500: a plugin raised what it should not have."""

    code = "x-medkit-plugin-error"


class PluginTimeout(PluginFailed):
    """504: a plugin did not end a call in time."""

    status = 504
