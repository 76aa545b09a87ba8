"""What starting costs is what is imported: seen in a fresh process, where nothing is there yet."""

import json
import subprocess
import sys

import pytest


def run(code: str) -> object:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


def test_the_model_comes_without_transformers_and_without_the_compiler() -> None:
    seen = run(
        "import json, sys; import evlgen.modeling; "
        "print(json.dumps([name for name in ('transformers', 'torch._dynamo', 'sympy') if name in sys.modules]))"
    )
    assert seen == []


@pytest.mark.slow
def test_who_compiles_afterwards_meets_the_real_compiler() -> None:
    seen = run(
        "import json, sys; import evlgen.modeling, torch; layer = sys.modules['torchvision.ops.roi_align']; "
        "asked = layer.is_compile_supported('cpu'); from torch._dynamo.utils import is_compile_supported as real; "
        "compiled = torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).tolist(); "
        "print(json.dumps([asked == real('cpu'), torch._dynamo.utils.is_compile_supported is real, compiled]))"
    )
    assert seen == [True, True, [2.0, 2.0]]
