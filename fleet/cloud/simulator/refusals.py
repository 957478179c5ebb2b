"""The cloud's refusals: codes, HTTP statuses, texts and the shapes of their bodies.

From the ECS API reference, section 8: four services, and four ways to write an error down.
"""

from __future__ import annotations

from typing import Any, Final, Literal

Form = Literal["ecs", "gateway", "job", "nova", "keystone"]

CODES: Final[dict[str, tuple[int, str]]] = {
    "Ecs.0000": (400, "Request error."),
    "Ecs.0001": (400, "The number of ECSs is beyond the quota limit."),
    "Ecs.0003": (
        403,
        "You do not have permission to perform this operation: token role contains op_suspended.",
    ),
    "Ecs.0005": (400, "Invalid request body."),
    "Ecs.0011": (400, "The password does not meet the complexity requirements."),
    "Ecs.0021": (400, "The number of volumes is beyond the quota limit."),
    "Ecs.0023": (400, "The project ID in the URL is different from that in the token."),
    "Ecs.0030": (400, "The ECS is frozen."),
    "Ecs.0031": (400, "The image does not exist."),
    "Ecs.0032": (400, "The image is not active."),
    "Ecs.0073": (400, "The system disk is being backed up. Try again later."),
    "Ecs.0100": (400, "The ECS status does not meet requirements: not shutdown."),
    "Ecs.0105": (400, "The ECS has no system disk."),
    "Ecs.0114": (404, "itemNotFound: Instance could not be found."),
    "Ecs.0118": (400, "The number of ECSs is greater than the maximum number 1000."),
    "Ecs.0202": (400, "Failed to create the system disk."),
    "Ecs.0204": (400, "Failed to create the ECS."),
    "Ecs.0226": (400, "Failed to start the ECS."),
    "Ecs.0314": (400, "Failed to obtain the key pair. Reason: the key pair could not be found."),
    "Ecs.0319": (400, "Insufficient resources: the flavor is sold out."),
    "Ecs.0603": (501, "Another command is running: the state of the ECS is unstable. Try again in 1 minute."),
    "Ecs.0605": (400, "The ECS is locked."),
    "Ecs.0614": (404, "The ECS does not exist."),
    "Ecs.0615": (500, "Internal error."),
    "Ecs.0089": (400, "The tag is invalid."),
    "Ecs.0905": (400, "The number of tags of the ECS exceeds the limit 10."),
    "Ecs.1002": (400, "OpenStack timed out."),
    "Common.0001": (500, "System error."),
    "Common.0002": (400, "The request body is empty."),
    "Common.0011": (400, "Failed to obtain the job."),
    "Common.0013": (401, "Invalid token."),
    "Common.0021": (400, "Sub job fail!"),
    "Common.0022": (400, "Job failed."),
    "Common.0024": (202, "Exceeding the flow limit. Try again later."),
    "Common.0025": (400, "Query job error."),
    "Common.1503": (503, "API flow control: too many requests are being processed."),
    "Pdp.0001": (403, "Policy does not allow the action to be performed."),
    "APIGW.0101": (404, "The API does not exist or has not been published in the environment."),
    "APIGW.0201": (502, "Backend unavailable."),
    "APIGW.0301": (401, "Incorrect IAM authentication information."),
    "APIGW.0307": (401, "The token must be updated."),
    "APIGW.0308": (
        429,
        "The throttling threshold has been reached: policy user over ratelimit,limit:60,time:1 minute",
    ),
}

_NOVA: Final = {
    400: "badRequest",
    403: "forbidden",
    404: "itemNotFound",
    409: "conflictingRequest",
    413: "overLimit",
}
_TITLES: Final = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}


class Refused(Exception):
    """The cloud says no, and did nothing.

    Attributes:
        code: Such as ``Ecs.0100``; empty for the services that have none.
        form: Which service's way of writing an error down.
    """

    def __init__(
        self, code: str, message: str | None = None, *, status: int | None = None, form: Form = "ecs"
    ) -> None:
        usual_status, usual_message = CODES.get(code, (400, "Request error."))
        super().__init__(code, message or usual_message)
        self.code = code
        self.message = message or usual_message
        self.status = status or usual_status
        self.form: Form = "gateway" if code.startswith("APIGW.") else form

    def body(self, request_id: str) -> dict[str, Any]:
        """Return the body, as the service writes it."""
        match self.form:
            case "gateway":
                return {"error_code": self.code, "error_msg": self.message, "request_id": request_id}
            case "job":
                return {"code": self.code, "message": self.message}
            case "nova":
                return {
                    _NOVA.get(self.status, "computeFault"): {"code": self.status, "message": self.message}
                }
            case "keystone":
                title = _TITLES.get(self.status, "Error")
                return {"error": {"code": self.status, "message": self.message, "title": title}}
            case _:
                return {"error": {"code": self.code, "message": self.message}}
