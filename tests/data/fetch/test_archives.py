"""Archives: what is in them comes out byte for byte, and nothing else happens."""

from __future__ import annotations

import bz2
import errno
import io
import lzma
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eo_adapt.data.fetch import archives
from eo_adapt.data.fetch.archives import ArchiveError, Limits, Unpacked, is_archive, unpack

FILES = {"a.txt": b"hello", "deep/er/b.bin": np.random.default_rng(0).bytes(100_000), "deep/empty": b""}
KINDS = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")


def pack(path: Path, files: dict[str, bytes], kind: str) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in files.items():
                packed.writestr(name, data)
        return path
    mode = {"tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}[kind]
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o4777
            tar.addfile(info, io.BytesIO(data))
    return path


def tar_with(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(b"x" * info.size) if info.isfile() else None)
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(archive: Path, message: str, limits: Limits | None = None) -> None:
    before = set(archive.parent.parent.rglob("*"))
    with pytest.raises(ArchiveError, match=message):
        unpack(archive, archive.parent / "out", limits)
    assert set(archive.parent.parent.rglob("*")) == before


# -- what goes well ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(tmp_path: Path, kind: str) -> None:
    archive = pack(tmp_path / "strange name", FILES, kind)  # told by its bytes, not its name
    size = sum(map(len, FILES.values()))
    assert unpack(archive, tmp_path / "out") == Unpacked(len(FILES), size)
    assert contents(tmp_path / "out") == FILES
    assert not (tmp_path / "out.part").exists()
    assert all(p.stat().st_mode & 0o7022 == 0 for p in (tmp_path / "out").rglob("*") if p.is_file())


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.binary(max_size=50), max_size=6), st.sampled_from(KINDS)
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flat_archive(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], kind: str) -> None:
    root = tmp_path_factory.mktemp("any")
    unpack(pack(root / "archive", files, kind), root / "out")
    assert contents(root / "out") == files


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "old").write_text("old")
    unpack(pack(tmp_path / "a.zip", FILES, "zip"), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="is there already; remove it"):
        unpack(pack(tmp_path / "a.zip", FILES, "zip"), tmp_path / "out")


def test_names_of_archives() -> None:
    assert is_archive(Path("A.ZIP"))
    assert is_archive(Path("a.tar.gz"))
    assert not is_archive(Path("a.laz"))


def test_zstandard_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"0" * 50)
    with pytest.raises(ArchiveError, match="packed with zstd, which is not read here; unpack it by hand"):
        unpack(tmp_path / "a.tar.zst", tmp_path / "out")


# -- what none should hold ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "a/..", "..", "C:/evil", "C:evil", "a\\..\\evil"])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_paths_that_lead_out(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / "in").mkdir()
    refused(pack(tmp_path / "in" / "a", {"fine": b"1", name: b"2"}, kind), "leads out of the folder it is unpacked in")


def test_a_name_with_a_hidden_end(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    archive = pack(tmp_path / "in" / "a.zip", {"fine.txt_hidden": b"1"}, "zip")
    archive.write_bytes(archive.read_bytes().replace(b"fine.txt_hidden", b"fine.txt\0hidden"))
    refused(archive, "leads out of the folder")


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
    ],
)
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes, what: str) -> None:
    (tmp_path / "in").mkdir()
    refused(tar_with(tmp_path / "in" / "a.tar.gz", special("x", kind, "../../etc")), f"holds 'x', which is {what}")


def test_a_link_that_later_members_go_through(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    through = tarfile.TarInfo("x/evil")
    through.size = 3
    refused(tar_with(tmp_path / "in" / "a.tar.gz", special("x", tarfile.SYMTYPE, ".."), through), "which is a link")


@pytest.mark.parametrize(
    ("mode", "what"), [(stat.S_IFLNK, "a link"), (stat.S_IFCHR, "a device"), (stat.S_IFIFO, "a device")]
)
def test_links_and_devices_in_a_zip(tmp_path: Path, mode: int, what: str) -> None:
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "a.zip", "w") as packed:
        info = zipfile.ZipInfo("x")
        info.external_attr = (mode | 0o777) << 16
        packed.writestr(info, "/etc/passwd")
    refused(tmp_path / "in" / "a.zip", f"which is {what}")


@pytest.mark.parametrize("names", [["a", "a"], ["a", "./a"], ["a", "a/b"], ["a/b", "a"], ["d/", "d"]])
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_occur_twice(tmp_path: Path, names: list[str], kind: str) -> None:
    (tmp_path / "in").mkdir()
    archive = tmp_path / "in" / "a"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for name in names:
                packed.writestr(name, "")
    else:
        with tarfile.open(archive, "w") as tar:
            for name in names:
                info = tarfile.TarInfo(name.rstrip("/"))
                info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
                tar.addfile(info)
    refused(archive, "twice, or in a file; nothing was unpacked")


def test_a_folder_may_be_named_again(tmp_path: Path) -> None:
    archive = tar_with(tmp_path / "a.tar.gz", special("d", tarfile.DIRTYPE), special("d", tarfile.DIRTYPE))
    assert unpack(archive, tmp_path / "out").files == 0


def test_encrypted_archives(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    archive = pack(tmp_path / "in" / "a.zip", {"a": b"1"}, "zip")
    data = bytearray(archive.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + at] |= 1
    archive.write_bytes(data)
    refused(archive, "is encrypted .*unpack it by hand")


# -- bombs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_bombs(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_OF_RATIO", 1 << 20)
    (tmp_path / "in").mkdir()
    archive = pack(tmp_path / "in" / "a", {"zeros": bytes(8 << 20)}, kind)
    refused(
        archive, r"would unpack to more than [\d,]+ bytes; .*It may be a bomb: nothing was unpacked", Limits(ratio=50)
    )
    assert unpack(archive, tmp_path / "out", Limits(ratio=1e6)).bytes == 8 << 20


def test_a_zip_that_lies_about_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_OF_RATIO", 1 << 20)
    (tmp_path / "in").mkdir()
    archive = pack(tmp_path / "in" / "a.zip", {"zeros": bytes(8 << 20)}, "zip")
    archive.write_bytes(archive.read_bytes().replace((8 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    refused(archive, "bomb|cannot be unpacked", Limits(ratio=50))


def test_limits_of_size_and_count(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    archive = pack(tmp_path / "in" / "a.zip", {str(i): b"12" for i in range(10)}, "zip")
    refused(archive, "holds more than 9 files", Limits(files=9))
    refused(archive, "would unpack to more than 19 bytes", Limits(bytes=19))
    assert unpack(archive, tmp_path / "out", Limits(bytes=20, files=10)) == Unpacked(10, 20)


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_an_archive_cut_short_is_never_taken_for_whole(tmp_path: Path, kind: str, share: float) -> None:
    (tmp_path / "in").mkdir()
    archive = pack(tmp_path / "in" / "a", {f"{i}.bin": np.random.default_rng(i).bytes(20_000) for i in range(10)}, kind)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * share) if kind != "tar" else min(int(len(data) * share), 20_992 * 10)])
    refused(archive, r"cannot be unpacked .*damaged or cut short: fetch it again")


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    files = {f"{i}.bin": np.random.default_rng(i).bytes(5000) for i in range(4)}
    archive = pack(tmp_path / "in" / "a", files, kind)
    data = bytearray(archive.read_bytes())
    at = 5632 + 10 if kind == "tar" else len(data) // 2  # a plain tar has check sums of its headers only
    data[at] ^= 16
    archive.write_bytes(data)
    refused(archive, "cannot be unpacked")


def test_a_wrong_check_sum_at_the_very_end(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    archive = pack(tmp_path / "in" / "a", FILES, "tar.gz")
    data = bytearray(archive.read_bytes())
    data[-8] ^= 1  # of all bytes, so that it stands after them
    archive.write_bytes(data)
    refused(archive, "cannot be unpacked")


@pytest.mark.parametrize(
    "data", [b"", b"<html>log in</html>", b"PK\x03\x04", bytes(100), bz2.compress(b"x"), lzma.compress(b"")]
)
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(data)
    refused(tmp_path / "in" / "a", "cannot be unpacked|goes on")


def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = archives.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OSError, match=r"a\.zip needs 3,000,000 bytes more, and 1,000 are free") as caught:
        unpack(pack(tmp_path / "a.zip", {"a": bytes(3_000_000)}, "zip"), tmp_path / "out")
    assert caught.value.errno == errno.ENOSPC
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip"}


def test_no_archive_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no archive"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
