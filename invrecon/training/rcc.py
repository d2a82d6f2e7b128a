"""Unpacks Qt's binary resource archives: `python -m invrecon.training.rcc FOLDER_OF_RCC_FILES OUT`."""

import struct
import sys
import zlib
from pathlib import Path

DIRECTORY, ZLIB, ZSTD = 2, 1, 4  # a node's flags


def unpack(archive: Path, out: Path) -> int:
    """Writes the files in `archive` below `out` and returns how many there are.

    Raises:
        ValueError: not such an archive, a file compressed with zstd, or a name that leads out of `out`.
    """
    packed = archive.read_bytes()
    if packed[:4] != b"qres":
        raise ValueError(f"{archive} is no Qt resource archive")
    version, nodes, contents, names = struct.unpack_from(">4I", packed, 4)
    node_size = 14 if version < 2 else 22

    def unpack_node(index: int, folder: Path) -> int:
        at = nodes + index * node_size
        name_at, flags, first, second = struct.unpack_from(">IHII", packed, at)
        name = ""
        if index:  # the root has no name
            length = struct.unpack_from(">H", packed, names + name_at)[0]
            start = names + name_at + 6
            name = packed[start : start + 2 * length].decode("utf-16-be")
        if flags & ZSTD or "/" in name or name == "..":
            raise ValueError(f"{archive}: can't unpack {name!r}")
        path = folder / name
        if flags & DIRECTORY:  # `first` children, from node `second` on
            return sum(unpack_node(second + child, path) for child in range(first))
        length = struct.unpack_from(">I", packed, contents + second)[0]
        content = packed[contents + second + 4 : contents + second + 4 + length]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zlib.decompress(content[4:]) if flags & ZLIB else content)
        return 1

    return unpack_node(0, out)


if __name__ == "__main__":
    for file in sorted(Path(sys.argv[1]).glob("*.rcc")):
        print(file.name, unpack(file, Path(sys.argv[2])))
