"""`sam-service sessions`: list or delete what is open on a running service, undo or redo the last step there."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence

from sam_service.client import SamClient, SamError, SessionState, calls
from sam_service.commands.exits import Exit, exit_of
from sam_service.commands.service import explained
from sam_service.commands.words import counted


def list_sessions(url: str, *, as_json: bool) -> Exit:
    """Print the open sessions, oldest first, a line each or as JSON."""
    def run(client: SamClient) -> None:
        sessions = client.sessions()
        if as_json:
            print(json.dumps({"sessions": sessions}, indent=1))
        else:
            for session in sessions:
                print(_line(session))
            if not sessions:
                print("no session is open", file=sys.stderr)
    return _with(url, run)


def delete_sessions(url: str, session_ids: Sequence[str] | None, *, as_json: bool) -> Exit:
    """Delete these sessions, or all. An unknown one is refused before any is deleted."""
    def run(client: SamClient) -> None:
        if session_ids is None:
            chosen = [session["session_id"] for session in client.sessions()]
        else:
            chosen = [client.session(session_id).session_id for session_id in session_ids]
        for session_id in chosen:
            client.perform(calls.delete(session_id))
        if as_json:
            print(json.dumps({"deleted": chosen}))
        elif chosen:
            print("\n".join(f"deleted {session_id}" for session_id in chosen))
        else:
            print("no session is open", file=sys.stderr)
    return _with(url, run)


def move_sessions(url: str, session_ids: Sequence[str], *, undo: bool, as_json: bool) -> Exit:
    """Undo the last step of each of these sessions, or redo the one that was undone last."""
    def run(client: SamClient) -> None:
        for session_id in session_ids:
            moved = client.perform(calls.undo(session_id) if undo else calls.redo(session_id))
            if as_json:
                print(json.dumps(moved))
            else:
                objects = ", ".join(map(str, moved["step"]["object_ids"]))
                print(f"{'undid' if undo else 'redid'} {moved['step']['kind'].replace('_', ' ')} (object {objects}); "
                      f"{counted(len(moved['changed_frames']), 'frame')} changed")
    return _with(url, run)


def _with(url: str, run: Callable[[SamClient], None]) -> Exit:
    try:
        with SamClient(url) as client:
            run(client)
    except SamError as error:
        print(explained(error), file=sys.stderr)
        return exit_of(error)
    return Exit.OK


def _line(session: SessionState) -> str:
    names = ", ".join(item["name"] for item in session["objects"]) or "no objects"
    running = session["running"]
    work = f", propagating {running['done']}/{running['total']}" if running else ""
    minutes = max(0.0, session["expires_at"] - time.time()) / 60
    return (f"{session['session_id']}  {session['video_name']}: {session['width']} x {session['height']}, "
            f"{counted(session['num_frames'], 'frame')}, {len(session['frames_with_masks'])} with masks; {names}{work}; "
            f"expires in {minutes:.0f} min")
