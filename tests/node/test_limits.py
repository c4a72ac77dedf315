"""What the gateway does when the disk, the database or the caller's title is not as it should be."""

from __future__ import annotations

from typing import Any

from tests.node.rig import associate, echo, send, ultrasound


def test_low_disk_is_out_of_resources(make_node: Any) -> None:
    node = make_node(gateway={"minimum_free_disk_mib": 1 << 30})
    node.start("gateway")
    assert send(node.port, ultrasound("any")) == [0xA700]
    assert "disk-low" in node.events()
    assert not list((node.folder / "images").glob("*/*"))
    assert not list((node.folder / "incoming").iterdir())


def test_unwritable_store_is_out_of_resources_and_recovers(make_node: Any) -> None:
    node = make_node(gateway={"allowed_calling_ae_titles": ["SCANNER"]})
    node.start("gateway")
    port = node.port
    images = node.folder / "images"
    images.rename(node.folder / "elsewhere")
    assert send(port, ultrasound("any")) == [0xA700]
    (node.folder / "elsewhere").rename(images)
    assert send(port, ultrasound("any")) == [0]
    (node.folder / "incoming").rmdir()  # no room for a transfer: answered, and nothing else suffers
    assert send(port, ultrasound("other")) == [0xA700]
    assert echo(port) == 0
    (node.folder / "incoming").mkdir()
    assert send(port, ultrasound("other")) == [0]
    assert "image-not-stored" in node.events()
    association = associate(port, calling="STRANGER")
    assert association.is_rejected
    assert echo(port) == 0
