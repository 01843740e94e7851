"""Names of files, as odd as clients and file systems make them: shown as they are meant, without what would change a log."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import parse_options_header
from sam_service.api.file_names import file_name
from sam_service.client import SamClient
from sam_service.sessions.names import shown_name

HEAD = b'form-data; name="file"; '


@pytest.mark.parametrize(("parameters", "name"), [
    (b'filename="a.mp4"', "a.mp4"),
    (b"filename=a.mp4", "a.mp4"),
    ("filename=\"caf\u00e9.mp4\"".encode(), "caf\u00e9.mp4"),
    (b'filename="caf\xe9.mp4"', "caf\u00e9.mp4"),
    (b"filename*=UTF-8''caf%C3%A9.mp4", "caf\u00e9.mp4"),
    (b"filename*=utf-8'fr'caf%C3%A9%20%28a%29.mp4", "caf\u00e9 (a).mp4"),
    (b"filename*=ISO-8859-1''caf%E9.mp4", "caf\u00e9.mp4"),
    (b"filename*=UTF-8''caf%E9.mp4", "caf\u00e9.mp4"),
    (b"filename=\"old.mp4\"; filename*=UTF-8''n%C3%A9w.mp4", "n\u00e9w.mp4"),
    (b"filename*=UTF-8''n%C3%A9w.mp4; filename=\"old.mp4\"", "n\u00e9w.mp4"),
    (b"filename*=rubbish; filename=\"old.mp4\"", "old.mp4"),
    (b'filename="=?utf-8?B?Y2Fmw6kubXA0?="', "caf\u00e9.mp4"),
    (b'filename="=?iso-8859-1?Q?caf=E9.mp4?="', "caf\u00e9.mp4"),
    (b'filename="=?nonsense?B?YQ==?="', "=?nonsense?B?YQ==?="),
    (b'filename="a%22b%0Ac.mp4"', 'a"b\nc.mp4'),
    (b'filename="100%25.mp4"', "100%25.mp4"),
    (b'filename="a\\"b.mp4"', 'a"b.mp4'),
    (b'filename=""', ""),
    (b"filename*=UTF-8''", ""),
    (b"", None),
])
def test_every_way_to_write_a_name(parameters: bytes, name: str | None) -> None:
    assert file_name(HEAD + parameters, parse_options_header(HEAD + parameters)[1]) == name


@pytest.mark.parametrize(("name", "shown"), [
    ("caf\u00e9 \u4e2d\u6587 \U0001f3c0.mp4", "caf\u00e9 \u4e2d\u6587 \U0001f3c0.mp4"),
    ("\U0001f468\u200d\U0001f469.mp4", "\U0001f468\u200d\U0001f469.mp4"),
    ("a\r\nINFO: all is well.mp4", "a__INFO: all is well.mp4"),
    ("\x1b[2J\x07a\x00b\x7f\x9b.mp4", "_[2J_a_b__.mp4"),
    ("a\u202egpj.mp4", "a_gpj.mp4"),
    ("\u2066a\u2069\u200e\u200f\u061c\ufeff\u2028\u2029.mp4", "_a_______.mp4"),
    ("a\u00a0b\u3000c.mp4", "a_b_c.mp4"),
    ("caf\udce9.mp4", "caf\u00e9.mp4"),
    ("a\ud800.mp4", "a?.mp4"),
    ("x" * 300, "x" * 200),
])
def test_how_names_are_shown(name: str, shown: str) -> None:
    assert shown_name(name) == shown


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=60))
def test_a_shown_name_is_one_line_that_can_be_sent(name: str) -> None:
    shown = shown_name(name)
    assert shown.encode().decode() == shown and len(shown.splitlines()) <= 1
    assert shown_name(shown) == shown
    assert all(character.isprintable() or character in "\u200c\u200d" for character in shown)


def test_an_upload_with_such_a_name(client: SamClient, clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sam_service.sessions.service")
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename*=UTF-8\'\'%E2%80%AEa%0D%0A%1B%5B2Jb.mp4\r\n\r\n'
    limit = b'--x\r\nContent-Disposition: form-data; name="max_frames"\r\n\r\n1\r\n'
    body = limit + part + clip.read_bytes() + b"\r\n--x--\r\n"
    opened = client.http.post("/initialize", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}).json()
    state = client.call("GET", f"/sessions/{opened['session_id']}")
    assert state["video_name"] == "_a___[2Jb.mp4"
    client.http.delete(f"/sessions/{opened['session_id']}")
    (line,) = [record.getMessage() for record in caplog.records if "opened" in record.getMessage()]
    assert "_a___[2Jb.mp4" in line and line.isprintable()


def test_a_video_whose_name_is_no_utf_8(client: SamClient, clip: Path) -> None:
    odd = os.path.join(os.fsencode(clip.parent), b"caf\xe9.mp4")
    link = clip.parent / "link.mp4"
    try:
        with open(odd, "wb") as file:
            file.write(clip.read_bytes())
        link.symlink_to(os.fsdecode(odd))
        opened = client.http.post("/initialize", json={"video_path": "link.mp4", "max_frames": 2})
        assert (opened.status_code, opened.json()["errors"][0]["field"]) == (422, "video_path")
        assert "UTF-8" in opened.json()["detail"]
    finally:
        link.unlink(missing_ok=True)
        os.unlink(odd)
