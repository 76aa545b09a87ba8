"""Caption files as `evlgen caption` writes them, without a model."""

import json
from pathlib import Path
from typing import Any


def line(video: str, caption: str | None = None, **values: Any) -> dict[str, Any]:
    """A line about a video; without a caption, one of a failure."""
    failed = {"kind": "timeout", "message": "took longer than 60 s"}
    return {
        "video": video,
        "status": "error" if caption is None else "ok" if caption else "empty",
        "caption": caption,
        "log_probability": None if caption is None else -6.0,
        "token_count": None if caption is None else 4,
        "frame_indices": [0, 25],
        "timestamps_seconds": [0.5, 1.5],
        "duration_seconds": 2.0,
        "model": "evlgen-mini",
        "model_hash": "a1",
        "settings_hash": "s1",
        "settings": {"model": "evlgen-mini"},
        "fingerprint": f"of-{video}",
        "root": "videos",
        "error": failed if caption is None else None,
        "warnings": [],
        "seconds": 0.1,
    } | values


def write(path: Path, *lines: dict[str, Any]) -> Path:
    """A caption file with these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def touch(folder: Path, *names: str) -> None:
    """Files that nobody decodes."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"content of {name}".encode())
