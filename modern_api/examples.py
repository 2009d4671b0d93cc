"""Examples of what the modern faces take and give, as the OpenAPI document and its page show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from importing.errors import ApiError


@dataclass(frozen=True, slots=True)
class Example:
    """Of one operation: the file or the JSON that it takes, and its good replies by status.

    `leads_to`: an operation, its parameter, and the member of the reply that goes there.
    """

    replies: Mapping[int, object]
    file: str = ""
    body: Mapping[str, object] = field(default_factory=dict)
    leads_to: tuple[str, str, str] | None = None


REQUEST_ID = "4f1c0de2b7a94c53a1f6d2e8c9b07a35"
_SECOND_OF = "2026-11-21T09:00:0"
_LISTED = {
    "id": "aa_0a875d56c805df66010b",
    "type": "CUSTOMERS.IMPORT_CSV",
    "status": "DONE",
    "created_at": f"{_SECOND_OF}0.042Z",
    "updated_at": f"{_SECOND_OF}0.310Z",
    "request_id": f"v-{REQUEST_ID}",
    "processing_time": 203,
    "progress": 100,
    "object": "async_action",
    "operation_status": "SUCCESS",
}
_JOB = "Job:0a875d56-c805-8df6-8601-0b0000000000"
_USER = {
    "id": "1",
    "email": "kim@greatwidgets.example",
    "name": "kim",
    "image": None,
    "emailVerified": True,
    "role": "admin",
    "createdAt": f"{_SECOND_OF}0.000Z",
    "updatedAt": f"{_SECOND_OF}0.000Z",
}
_TOKEN = "uX3q0l5w7bJ9Zr2kTn8vYc4mHs6pDf1a"  # noqa: S105 - an example

EXAMPLES: Mapping[str, Example] = {
    "importCustomersCsv": Example(
        {202: {"async_action_id": _LISTED["id"]}},
        file="Name,Email,Source_id,Birthdate,Favourite_brands\n"
        'Kim Lee,kim@example.com,c-1001,1970-05-17,"Acme,Umbra"\n'
        "Ann Bell,ann@example.com,c-1002,17 May,\n",
        leads_to=("getAsyncAction", "action_id", "async_action_id"),
    ),
    "getAsyncAction": Example(
        {
            200: {
                **_LISTED,
                "result": {
                    "message": "1 customer(s) imported successfully, 1 failed.",
                    "done_count": 1,
                    "failed_count": 1,
                    "failed": [
                        {
                            "source_id": "c-1002",
                            "row": 2,
                            "reason": 'Row 2, Birthdate: "17 May" is not a date (YYYY-MM-DD).',
                        }
                    ],
                },
            }
        }
    ),
    "listAsyncActions": Example(
        {200: {"object": "list", "data_ref": "async_actions", "async_actions": [_LISTED], "has_more": False}}
    ),
    "uploadCustomersCsv": Example(
        {202: {"jobId": _JOB, "status": "PENDING"}},
        file="umaAddress,platformCustomerId,customerType,fullName,birthDate,addressLine1,city,state,postalCode,country\n"
        "$kim@uma.example,k-1001,INDIVIDUAL,Kim Lee,1970-05-17,1 Main Street,Springfield,IL,62701,US\n"
        "$ann@uma.example,k-1002,INDIVIDUAL,Ann Bell,1980-02-29,2 Main Street,Springfield,IL,62701,\n",
        leads_to=("getBulkCustomerImportJob", "job_id", "jobId"),
    ),
    "getBulkCustomerImportJob": Example(
        {
            200: {
                "jobId": _JOB,
                "id": _JOB,
                "status": "COMPLETED",
                "progress": {"total": 2, "processed": 2, "successful": 1, "failed": 1},
                "completedAt": f"{_SECOND_OF}0.310Z",
                "errors": [
                    {
                        "correlationId": "k-1002",
                        "code": "MISSING_MANDATORY_USER_INFO",
                        "message": "Row 2, country: The value is missing.",
                        "details": {
                            "row": 2,
                            "field": "country",
                            "value": "",
                            "reason": "missing_value",
                            "message": "Row 2, country: The value is missing.",
                            "errors": [
                                {
                                    "field": "country",
                                    "value": "",
                                    "reason": "missing_value",
                                    "message": "Row 2, country: The value is missing.",
                                }
                            ],
                        },
                    }
                ],
            }
        }
    ),
    "signInEmail": Example(
        {200: {"redirect": False, "token": _TOKEN, "user": _USER}},
        body={"email": _USER["email"], "password": "correct horse battery staple"},
    ),
    "getSession": Example(
        {
            200: {
                "session": {
                    "id": "5d0c1f8e7a6b4932810fedcba9876543",
                    "userId": "1",
                    "token": _TOKEN,
                    "expiresAt": "2026-11-28T09:00:00.000Z",
                    "createdAt": f"{_SECOND_OF}0.000Z",
                    "updatedAt": f"{_SECOND_OF}0.000Z",
                    "ipAddress": "192.0.2.7",
                    "userAgent": "curl/8.5.0",
                },
                "user": _USER,
            }
        }
    ),
    "signOut": Example({200: {"success": True}}),
    "importCustomers": Example(
        {
            200: {
                "count": 2,
                "errors": [{"index": 2, "message": "Missing or invalid field(s): name"}],
            }
        },
        body={"content": "name;source\nKim Lee;fair\nAnn Bell;\n;shop\n"},
    ),
}

# Of the refusals, one of each status.
FAULTS: Mapping[int, ApiError] = {
    401: ApiError("bad_credentials"),
    403: ApiError("no_permission"),
    413: ApiError("body_too_large", limit=134217728),
    422: ApiError("request_id_reused", value="2026-11-21-a"),
    429: ApiError("too_many_requests", seconds=17, retry_after=17),
    500: ApiError("bug", request_id=REQUEST_ID),
    503: ApiError("busy"),
}

# Of the faces for people, by face and status.
ERRORS: Mapping[str, Mapping[int, Mapping[str, object]]] = {
    "auth": {
        400: {"message": "Invalid email", "code": "INVALID_EMAIL"},
        401: {"message": "Invalid email or password", "code": "INVALID_EMAIL_OR_PASSWORD"},
        403: {"message": "Invalid origin", "code": "INVALID_ORIGIN"},
        413: {"message": "Request body too large", "code": "PAYLOAD_TOO_LARGE"},
        429: {"message": "Too many requests. Please try again later.", "code": "TOO_MANY_REQUESTS"},
        500: {"message": "Internal Server Error", "code": "INTERNAL_SERVER_ERROR"},
        503: {"message": "Service unavailable. Please try again.", "code": "SERVICE_UNAVAILABLE"},
    },
    "solivio": {
        400: {"error": "Import failed.", "errors": [{"index": 0, "message": "Missing required columns: name"}]},
        401: {"error": "Unauthorized"},
        403: {"error": "Forbidden"},
        413: {"error": "The request is larger than the 10485760 bytes that this server takes."},
        422: {"error": "The Idempotency-Key was used for a different text."},
        429: {"error": "Too many requests; send it again in 17 s."},
        500: {"error": "The account is busy with another import; nothing was imported."},
    },
}
