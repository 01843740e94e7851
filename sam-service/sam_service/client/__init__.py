"""A Python client over REST. The command line, the demo and the tests use it, too; `docs/client.md` describes it.

    with SamClient("http://127.0.0.1:8002") as client, client.initialize("clip.mp4") as video:
        video.add_object(points=[[640, 360]], name="cup")
        for frame in video.propagate():
            print(frame.index, frame.masks[1].mask.sum())

`AsyncSamClient` is its twin with `await`. Neither needs torch, and OpenCV only once a mask is decoded.
"""

from sam_service.client.async_client import AsyncLiveSession, AsyncSamClient, AsyncVideoSession
from sam_service.client.errors import (
    ApiError,
    Busy,
    Cancelled,
    Conflict,
    InvalidArgument,
    InvalidRequest,
    ModelUnavailable,
    NoService,
    NotFound,
    NotReady,
    SamError,
    ServiceFailed,
    SessionExpired,
    Unauthorized,
    Unreachable,
)
from sam_service.client.live import LiveFrame
from sam_service.client.results import FrameMasks, ObjectMask, ObjectState, PropagatedFrame, SessionState, Track
from sam_service.client.sync_client import LiveSession, SamClient, VideoSession

ServiceProblem = ApiError

__all__ = [
    "ApiError", "AsyncLiveSession", "AsyncSamClient", "AsyncVideoSession", "Busy", "Cancelled", "Conflict", "FrameMasks",
    "InvalidArgument", "InvalidRequest", "LiveFrame", "LiveSession", "ModelUnavailable", "NoService", "NotFound", "NotReady",
    "ObjectMask", "ObjectState", "PropagatedFrame", "SamClient", "SamError", "ServiceFailed", "ServiceProblem",
    "SessionExpired", "SessionState", "Track", "Unauthorized", "Unreachable", "VideoSession",
]
