"""Tiny shards as img2dataset writes them, and what is in them according to the standard library's tarfile."""

import io
import json
import tarfile
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evlgen.data.shards import FoundShards, ShardSource, count_shards, open_reader
from evlgen.recipes.data_schema import DataConfig

SIDE = 16


def colour(number: int) -> tuple[int, int, int]:
    """The colour of the picture of a sample: its number, in steps that PNG keeps exactly."""
    return (number % 256, number // 256, 77)


def picture(number: int, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (20, 12), colour(number)).save(content, kind)
    return content.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def member(name: bytes, content: bytes = b"", *, size: bytes | None = None, kind: bytes = b"0") -> bytes:
    """A member of a ustar file as POSIX.1-1988 lays it out, with any bytes in the field of its size."""
    field = b"%011o\0" % len(content) if size is None else size
    header = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field + b"0" * 11 + b"\0" + b" " * 8 + kind
    header = header.ljust(257, b"\0") + b"ustar\x0000"
    header = header.ljust(512, b"\0")
    header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    return header + content + b"\0" * (-len(content) % 512)


def base_256(size: int) -> bytes:
    return b"\x80" + size.to_bytes(11, "big")


def write_shard(path: Path, samples: dict[str, dict[str, bytes]], form: int = tarfile.GNU_FORMAT) -> None:
    """A tar of {key: {suffix: content}}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for key, members in samples.items():
            for suffix, content in members.items():
                add(tar, f"{key}.{suffix}", content)


def write_shards(folder: Path, sizes: list[int], *, stats: bool = True) -> None:
    """00000.tar and so on; sample n of all has colour n and the caption "picture n"."""
    number = 0
    for shard, size in enumerate(sizes):
        samples = {}
        for k in range(size):
            text = f"picture {number}"
            samples[f"{shard:05d}{k:04d}"] = {
                "jpg": picture(number),
                "json": json.dumps({"caption": text, "key": f"{shard:05d}{k:04d}"}).encode(),
                "txt": text.encode(),
            }
            number += 1
        write_shard(folder / f"{shard:05d}.tar", samples)
        if stats:
            (folder / f"{shard:05d}_stats.json").write_text(json.dumps({"count": size + 3, "successes": size}))


def pattern(folder: Path, count: int) -> str:
    return f"{folder}/{{00000..{count - 1:05d}}}.tar"


def data_config(shards: str, source: dict[str, Any] | None = None, **data: Any) -> DataConfig:
    return DataConfig.model_validate(
        {"train": [{"shards": shards, **(source or {})}], "validation": [{"captions": "none.jsonl"}], **data}
    )


def numbers(text: str) -> list[int]:
    """An encoder of captions: "picture 12" -> [12]."""
    return [int(text.split()[-1])]


def at_once(work: Any) -> Future[Any]:
    """Instead of threads."""
    done: Future[Any] = Future()
    try:
        done.set_result(work())
    except Exception as error:
        done.set_exception(error)
    return done


def found(shards: str, folder: Path, source: dict[str, Any] | None = None, **data: Any) -> FoundShards:
    config = data_config(shards, source, **data)
    made = count_shards(config.train[0], open_reader(config.train[0], config, folder))
    assert made is not None
    return made


def open_source(shards: str, folder: Path, source: dict[str, Any] | None = None, **data: Any) -> ShardSource:
    config = data_config(shards, source, **data)
    made = found(shards, folder, source, **data)
    return ShardSource(made, numbers, at_once, side=SIDE, max_broken_share=config.max_broken_share)


def shown(pixels: np.ndarray) -> int:
    """The number whose colour a picture (3, S, S) has."""
    red, green, _ = (int(v) for v in pixels[:, SIDE // 2, SIDE // 2])
    return red + 256 * green


def with_tarfile(path: Path) -> dict[str, dict[str, bytes]]:
    """{key: {suffix: content}} of a shard, as the standard library reads it."""
    read: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is not None:
                folder, slash, last = member.name.rpartition("/")
                key, _, suffix = last.partition(".")
                read.setdefault(f"{folder}{slash}{key}", {})[suffix] = stream.read()
    return read
