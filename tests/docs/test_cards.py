"""What the cards of packaged models say of their files."""

import re

from safetensors import safe_open

from evlgen.weights.named_models import WEIGHTS_FILE, packaged_models


def test_gates_are_those_of_the_file() -> None:
    told = {}
    for name, folder in packaged_models().items():
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            gates = [file.get_tensor(key).item() for key in file.keys() if key.endswith(".alpha")]  # noqa: SIM118 - no dict
        card = (folder / "README.md").read_text(encoding="utf-8")
        told[name] = [float(number) for number in re.findall(r"gate[^.]*?\(([\d.]+)\)", card)]
        assert [round(gate, 4) for gate in gates] == told[name], name
    assert any(told.values())
