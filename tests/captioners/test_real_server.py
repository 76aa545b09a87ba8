"""A server that is not ours and no fake: `transformers serve` with a tiny random model."""

import base64
import io
import json
import logging
import socket
import time
from pathlib import Path

import httpx2
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from evlgen.captioners.endpoint_messages import media, messages
from evlgen.captioners.protocol import PromptedClip
from evlgen.captioning import CaptionRequest, caption_videos
from evlgen.decoding_options import DecodingOptions

from . import tiny_models
from .test_endpoint_runs import write_clips


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_transformers_own_server_says_what_the_model_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each caption is what the class generates for the same messages, as its documentation calls it."""
    from transformers.cli.serve import Serve

    for variable in ("EVLGEN_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    folder, videos = tiny_models.make("idefics3", tmp_path / "tiny"), write_clips(tmp_path / "clips", 3)
    url = f"http://127.0.0.1:{(port := free_port())}"
    server = Serve(str(folder), host="127.0.0.1", port=port, device="cpu", dtype="float32", non_blocking=True)
    logging.getLogger("uvicorn.access").disabled = True
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert httpx2.get(f"{url}/health").status_code == 200
                break
            except httpx2.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        decoding = DecodingOptions(num_beams=1, max_new_tokens=7)
        request = CaptionRequest(
            [str(videos)], tmp_path / "out.jsonl", f"openai:{folder}@{url}", decoding, frames=2, workers=1
        )
        caption_videos(request)
    finally:
        server.kill_server()
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["ok"] * 3
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    for row in rows:
        grey = int(Path(row["video"]).stem)
        frames = np.stack([np.full((16, 24, 3), one, np.uint8) for one in (grey, 255 - grey)])
        clip = PromptedClip(frames, tuple(row["timestamps_seconds"]), "")
        (user,) = messages(clip, media(frames, video=False), "")
        pictures = [Image.open(io.BytesIO(base64.b64decode(one["image_url"]["url"].partition(",")[2])))
                    for one in user["content"] if one["type"] == "image_url"]  # fmt: skip
        places = [{"type": "image"} if one["type"] == "image_url" else one for one in user["content"]]
        text = processor.apply_chat_template([{"role": "user", "content": places}], add_generation_prompt=True)
        inputs = processor(text=text, images=pictures, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=7, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert row["caption"] == processor.decode(ids, skip_special_tokens=True).strip()
        assert row["token_count"] == len(ids)
