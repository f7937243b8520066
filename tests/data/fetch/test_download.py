"""Downloads: whatever the server does, the file is right or there is none, and nothing that came is fetched twice."""

from __future__ import annotations

import errno
import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flaky import Server

from eo_adapt.data.fetch import download as module
from eo_adapt.data.fetch.download import Got, download
from eo_adapt.data.fetch.patience import AgainError, Patience
from eo_adapt.data.fetch.responses import DownloadError
from eo_adapt.data.fetch.sources import UNKNOWN, Source

QUICK = Patience(attempts=4, base=0.01, longest=0.05, connect=2.0, stall=0.3, least=64)
DATA = np.random.default_rng(0).bytes(300_000)
SHA, MD5 = hashlib.sha256(DATA).hexdigest(), hashlib.md5(DATA).hexdigest()


def fetch(url: str, folder: Path, patience: Patience = QUICK, **known: Any) -> Got:
    source = Source(url=url, page="https://example.org/data", **known)
    return download(source, folder / source.file, folder / ".locks" / "one", patience)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".locks"}


# -- what goes well ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "verified"),
    [
        ({"sha256": SHA}, "sha256"),
        ({"md5": MD5}, "md5"),
        ({"bytes": len(DATA)}, "size"),
        ({}, "nothing"),
        ({"sha256": SHA, "md5": MD5, "bytes": len(DATA)}, "sha256"),
    ],
)
def test_a_file_is_fetched_and_says_how_it_was_verified(
    server: Server, tmp_path: Path, known: dict[str, Any], verified: str
) -> None:
    got = fetch(server.put("/a.bin", DATA), tmp_path, **known)
    assert got == Got(tmp_path / "a.bin", {"sha256": SHA, "md5": MD5}, len(DATA), verified)
    assert got.path.read_bytes() == DATA
    assert left(tmp_path) == {"a.bin"}
    assert server.files["/a.bin"].asked == [""]


def test_an_empty_file(server: Server, tmp_path: Path) -> None:
    assert fetch(server.put("/a.bin", b""), tmp_path).bytes == 0


def test_a_drawn_bar_changes_nothing(server: Server, tmp_path: Path) -> None:
    source = Source(url=server.put("/a.bin", DATA), sha256=SHA)
    assert download(source, tmp_path / "a.bin", tmp_path / "lock", QUICK, show=True).bytes == len(DATA)


# -- faults that pass --------------------------------------------------------------------------------------------------


def test_dropped_connections_are_resumed_where_they_broke(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", DATA, "drop:100000", "drop:50000", "503", "stall:25000")
    assert fetch(url, tmp_path, sha256=SHA).hashes["sha256"] == SHA
    assert server.files["/a.bin"].asked == ["", "bytes=100000-", "bytes=150000-", "bytes=150000-", "bytes=175000-"]


@pytest.mark.parametrize("fault", ["503", "429", "500", "drop:0", "stall:0", "corrupt", "cut:1000", "drop:299999"])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("etag", [True, False])
def test_one_fault_of_any_kind(server: Server, tmp_path: Path, fault: str, ranges: bool, etag: bool) -> None:
    url = server.put("/a.bin", DATA, fault, ranges=ranges, etag=etag)
    got = fetch(url, tmp_path, sha256=SHA)
    assert got.path.read_bytes() == DATA
    assert left(tmp_path) == {"a.bin"}


def test_many_faults_in_any_order(server: Server, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for trial in range(6):
        faults = [str(f) for f in rng.choice(["503", "drop:70000", "drop:9", "stall:40000", "range", "corrupt"], 3)]
        if faults.count("corrupt") > 1:
            continue
        url = server.put(f"/{trial}.bin", DATA, *faults, ranges=bool(rng.integers(2)), etag=bool(rng.integers(2)))
        assert fetch(url, tmp_path, sha256=SHA).path.read_bytes() == DATA, faults


def test_a_server_without_ranges_that_drops_gives_up_in_the_end(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", DATA, *["drop:1000"] * 50, ranges=False)
    with pytest.raises(DownloadError, match=r"could not be fetched: .*, 4 times in a row\. 1,000 bytes are kept"):
        fetch(url, tmp_path, sha256=SHA)
    assert len(server.files["/a.bin"].asked) == 4
    server.files["/a.bin"].faults.clear()
    assert fetch(url, tmp_path, sha256=SHA).path.read_bytes() == DATA


def test_progress_is_no_failure(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", DATA, *["drop:20000"] * 12)  # thrice as many as there are attempts
    assert fetch(url, tmp_path, sha256=SHA).path.read_bytes() == DATA


def test_what_an_earlier_process_left_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", DATA, "drop:123456", *["503"] * 9)
    with pytest.raises(DownloadError, match=r"123,456 bytes are kept in .*a\.bin\.part; run the same command again"):
        fetch(url, tmp_path)
    assert left(tmp_path) == {"a.bin.part", "a.bin.part.json"}
    server.files["/a.bin"].faults.clear()
    assert fetch(url, tmp_path).path.read_bytes() == DATA
    assert server.files["/a.bin"].asked[-1] == "bytes=123456-"
    assert left(tmp_path) == {"a.bin"}


def test_all_was_there_but_the_name(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", DATA)
    (tmp_path / "a.bin.part").write_bytes(DATA)
    about = {"url": url, "etag": server.files["/a.bin"].mark(), "modified": "", "total": len(DATA)}
    (tmp_path / "a.bin.part.json").write_text(json.dumps(about))
    assert fetch(url, tmp_path).path.read_bytes() == DATA
    assert server.files["/a.bin"].asked == []


@pytest.mark.parametrize("etag", [True, False])
@pytest.mark.parametrize("known", [{}, {"sha256": hashlib.sha256(DATA[::-1]).hexdigest()}])
def test_a_file_that_changes_between_attempts_is_never_mixed(
    server: Server, tmp_path: Path, etag: bool, known: dict[str, str]
) -> None:
    url = server.put("/a.bin", DATA, "drop:100000", "changed", etag=etag)
    assert fetch(url, tmp_path, **known).path.read_bytes() == DATA[::-1]


@pytest.mark.parametrize("about", ["{", "[]", '{"url": "http://elsewhere/a.bin"}', None])
def test_a_part_of_unknown_origin_is_not_trusted(server: Server, tmp_path: Path, about: str | None) -> None:
    (tmp_path / "a.bin.part").write_bytes(b"something else")
    if about is not None:
        (tmp_path / "a.bin.part.json").write_text(about)
    assert fetch(server.put("/a.bin", DATA), tmp_path).path.read_bytes() == DATA


def test_a_trickle_counts_as_a_stall(server: Server, tmp_path: Path) -> None:
    watch = Patience(stall=0.05, least=1000).watch()
    watch.saw(10)
    time.sleep(0.06)
    with pytest.raises(AgainError, match=r"only 20 bytes came in 0 s"):
        watch.saw(10)


@pytest.mark.parametrize("after", ["2", "Wed, 21 Oct 2099 07:28:00 GMT", "soon", ""])
def test_waits_grow_and_follow_the_server(
    server: Server, tmp_path: Path, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("eo_adapt.data.fetch.patience.time.sleep", waits.append)
    patience = Patience(attempts=6, base=1.0, longest=60.0)
    fetch(server.put("/a.bin", DATA, "503", "503", "503", "503", retry_after=after), tmp_path, patience)
    expected = {"2": [2, 2, 2, 2], "Wed, 21 Oct 2099 07:28:00 GMT": [60] * 4}.get(after, [1, 2, 4, 8])
    assert len(waits) == 4
    assert all(0.75 * e <= w <= 1.25 * e for w, e in zip(waits, expected, strict=True))
    assert len(set(waits)) == 4  # jitter


def test_two_at_once_fetch_once(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = server.put("/a.bin", DATA, slow=0.02)
    results: list[Got] = []
    threads = [threading.Thread(target=lambda: results.append(fetch(url, tmp_path, sha256=SHA))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got.hashes["sha256"] for got in results] == [SHA, SHA]
    assert len(server.files["/a.bin"].asked) == 1
    assert "waiting for another process that fetches a.bin" in capsys.readouterr().err


# -- faults that do not pass -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("404", r"answered 404 Not Found\. It is not there any more\. Get it with a browser from https://example\.org"),
        ("403", r"answered 403 .*wants a login or an agreement"),
        ("418", r"answered 418 .*The publisher does not give it"),
        (
            "login",
            r"a web page in place of the file, after leading to http.*/login\. The publisher wants you to log in",
        ),
    ],
)
def test_refusals_say_what_to_do(server: Server, tmp_path: Path, fault: str, message: str) -> None:
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(server.put("/a.bin", DATA, fault), tmp_path)
    assert f"put it at {tmp_path / 'a.bin'}, and run the same command again" in str(caught.value)
    assert len(server.files["/a.bin"].asked) == 1
    assert left(tmp_path) == set()


def test_another_file_than_the_recipe_says(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", DATA)
    wrong = "0" * 64
    with pytest.raises(DownloadError, match=rf"gives a file that has the sha256 {SHA}, the recipe says {wrong}, twice"):
        fetch(url, tmp_path, sha256=wrong)
    assert len(server.files["/a.bin"].asked) == 2
    with pytest.raises(DownloadError, match=r"is 300,000 bytes long, the recipe says 5: the publisher changed it"):
        fetch(url, tmp_path, bytes=5)
    assert left(tmp_path) == set()


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"the connection failed .*, 2 times in a row"):
        fetch("http://127.0.0.1:9/a.bin", tmp_path, Patience(attempts=2, base=0.01))


def test_a_file_of_another_process_that_is_wrong(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    with pytest.raises(DownloadError, match=r"is there, but has the sha256 .*; remove it to fetch it again"):
        fetch(server.put("/a.bin", DATA), tmp_path, sha256=SHA)


def test_a_disk_without_room_is_noticed_before(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=module.SPARE + 1000))
    with pytest.raises(
        OSError, match=r"a\.bin needs 300,000 bytes more, and 67,109,864 are free.*choose another folder"
    ):
        fetch(server.put("/a.bin", DATA), tmp_path)


def test_a_disk_that_fills_up_loses_nothing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.put("/a.bin", DATA, "drop:100000")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "fsync", full)
        with pytest.raises(
            OSError, match=r"a\.bin\.part cannot be written \(No space left on device\); what came is kept"
        ):
            fetch(url, tmp_path, sha256=SHA)
    assert fetch(url, tmp_path, sha256=SHA).path.read_bytes() == DATA


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        fetch(server.put("/a.bin", DATA), tmp_path / "file")


def test_unknown_hashes_are_spelled_out() -> None:
    assert Source(url="https://a/b", sha256=UNKNOWN).known == {}
