"""Small files in the layouts that several tests need."""

import json
from pathlib import Path
from typing import Any

from evlgen.captioning import CaptionRow

COCO = {
    "images": [{"id": 9, "file_name": "COCO_val2014_000000000009.jpg"}, {"id": 10, "file_name": "x.jpg"}, {"id": 11}],
    "annotations": [
        {"id": 1, "image_id": 10, "caption": "p"},
        {"id": 2, "image_id": 9, "caption": "q"},
        {"id": 3, "image_id": 10, "caption": "r"},
    ],
}
VQA = {
    "info": {},
    "annotations": [
        {
            "question_type": "what is",
            "answers": [{"answer": "net", "answer_confidence": "yes", "answer_id": 1}, {"answer": "mesh"}],
            "image_id": 458752,
            "answer_type": "other",
            "question_id": 458752000,
        }
    ],
}


def write(folder: Path, content: str | bytes | Any, name: str = "file") -> Path:
    path = folder / name
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def own(video: str, caption: str | None, status: Any = "ok", settings: str = "s1", error: Any = None) -> str:
    row = CaptionRow(
        video=video,
        status=status,
        caption=caption,
        log_probability=None,
        token_count=None,
        alternatives=(),
        tags=(),
        frame_indices=(0,),
        timestamps_seconds=(0.0,),
        duration_seconds=1.0,
        model="m",
        model_hash="h",
        settings_hash=settings,
        settings={},
        fingerprint=None,
        root=None,
        error=error,
        warnings=(),
        seconds=0.1,
    )
    return row.as_line().decode()


MSR_VTT = {
    "info": {"year": "2016"},
    "videos": [
        {"video_id": "video1", "split": "train", "category": 9, "id": 1},
        {"video_id": "video0", "split": "validate", "category": 3, "id": 0},
    ],
    "sentences": [
        {"video_id": "video0", "caption": "p", "sen_id": 0},
        {"video_id": "video1", "caption": "q", "sen_id": 2},
        {"video_id": "video0", "caption": "r", "sen_id": 1},
    ],
}
