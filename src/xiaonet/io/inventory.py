"""Read an inventory of stations: StationXML, or another format that ObsPy knows."""

import hashlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from xiaonet.errors import DataError
from xiaonet.extras import import_for

if TYPE_CHECKING:
    from obspy import Inventory


def load_inventory(source: "str | Path | Inventory") -> "tuple[Inventory, str]":
    """Read an inventory from a file, or take one that ObsPy has read.

    Returns:
        The inventory; and its name with a digest of its content, for the provenance of what is made with it.

    Raises:
        DataError: the file is missing or holds no stations.
    """
    obspy = import_for("an inventory", "obspy")
    if isinstance(source, obspy.Inventory):
        content = BytesIO()
        source.write(content, format="STATIONXML")
        return source, _described("Inventory", content.getvalue())
    try:
        held = Path(source).read_bytes()
        inventory = obspy.read_inventory(BytesIO(held))
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}; wanted an inventory such as station.xml") from error
    except Exception as error:  # of ObsPy or its parsers, about any content
        raise DataError(f"{source} holds no inventory: {error}; wanted StationXML, or another format that ObsPy reads") from error
    if not any(network.stations for network in inventory):
        raise DataError(f"{source} holds no stations; wanted the stations of the records")
    return inventory, _described(Path(source).name, held)


def _described(name: str, content: bytes) -> str:
    return f"{name}, sha256 {hashlib.sha256(content).hexdigest()[:12]}"
