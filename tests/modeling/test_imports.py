"""What starting costs is what is imported: seen in a fresh process, where nothing is there yet."""

import json
import subprocess
import sys

import pytest


def run(code: str) -> object:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


def test_the_model_comes_without_transformers_the_compiler_and_the_hub() -> None:
    seen = run(
        "import json, sys; import evlgen.modeling; "
        "names = ('transformers', 'torch._dynamo', 'sympy', 'huggingface_hub'); "
        "print(json.dumps([name for name in names if name in sys.modules]))"
    )
    assert seen == []


@pytest.mark.parametrize("before", ["evlgen.modeling", "huggingface_hub, evlgen.modeling"])
def test_who_has_timm_fetch_weights_afterwards_meets_the_real_hub(before: str) -> None:
    """Offline, so that what is not in the hub's cache is an error of the hub's own kind."""
    seen = run(
        f"import json, os; os.environ['HF_HUB_OFFLINE'] = '1'; import {before}, timm\n"
        "from huggingface_hub.errors import LocalEntryNotFoundError\n"
        "try: timm.create_model('hf-hub:nobody/nothing', pretrained=True)\n"
        "except LocalEntryNotFoundError: real = True\n"
        "import huggingface_hub.utils as utils; hub = timm.models._hub\n"
        "print(json.dumps([real, hub.has_hf_hub(), hub.EntryNotFoundError is utils.EntryNotFoundError, "
        "hub.RepositoryNotFoundError is utils.RepositoryNotFoundError]))"
    )
    assert seen == [True] * 4


@pytest.mark.slow
def test_who_compiles_afterwards_meets_the_real_compiler() -> None:
    seen = run(
        "import json, sys; import evlgen.modeling, torch; layer = sys.modules['torchvision.ops.roi_align']; "
        "asked = layer.is_compile_supported('cpu'); from torch._dynamo.utils import is_compile_supported as real; "
        "compiled = torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).tolist(); "
        "print(json.dumps([asked == real('cpu'), torch._dynamo.utils.is_compile_supported is real, compiled]))"
    )
    assert seen == [True, True, [2.0, 2.0]]
