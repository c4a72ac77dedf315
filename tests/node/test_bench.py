"""The bench's sender and receivers: real processes, real answers, and the count of sync calls."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from app.bench.figures import figure, ratio
from app.bench.receivers import BUSMAP, STORESCP, Receiver, running
from app.bench.receiving import images_a_second, make_images
from app.bench.syncs import count_syncs, say_syncs


def test_four_senders_get_their_images_kept(tmp_path: Path) -> None:
    with running(BUSMAP, tmp_path / "node") as receiver:
        assert images_a_second(receiver, make_images(tmp_path / "images", 8, 4)) > 0
        assert len(list(receiver.folder.glob("state/images/*/*.dcm"))) == 8


@pytest.mark.peers
def test_storescp_gets_the_same(tmp_path: Path) -> None:
    if shutil.which("storescp") is None:
        pytest.skip("storescp is not installed: make peers")
    with running(STORESCP, tmp_path / "scp") as receiver:
        assert images_a_second(receiver, make_images(tmp_path / "images", 8, 4)) > 0
        assert len([path for path in receiver.folder.iterdir() if path.stat().st_size > 300_000]) == 8


def test_a_refusing_receiver_is_no_figure(tmp_path: Path) -> None:
    with running(BUSMAP, tmp_path / "node") as receiver:
        stranger = Receiver(receiver.name, "SOMEBODY", receiver.port, receiver.folder)
        with pytest.raises(SystemExit, match="did not get ready"):
            images_a_second(stranger, make_images(tmp_path / "images", 1, 1))


def test_sync_calls_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "state" / "images" / "0a").mkdir(parents=True)
    state = tmp_path / "state"
    trace = (
        f"1 fsync(10<{state}/incoming/x.dcm>) = 0\n"
        f"1 fsync(10<{state}/images/0a>) = 0\n"
        f"1 fdatasync(4<{state}/busmap.sqlite-wal>) = 0\n"
        "1 write(4) = 1\n"
    )
    receiver = Receiver(BUSMAP, "BUSMAP", 1, tmp_path)
    counted = count_syncs(trace, receiver)
    assert counted == Counter({"image file": 1, "folder": 1, "database": 1})
    assert say_syncs(counted, 1) == "database 1.00, folder 1.00, image file 1.00 an image"
    assert "memory" in say_syncs(Counter(), 1)


def test_a_figure_says_its_spread() -> None:
    assert figure("x", [3.0, 1.0, 2.0], "s") == "x: median 2.00 s (1.00 to 3.00, n = 3)"
    assert ratio([2.0, 4.0, 6.0], [2.0]) == 2.0
