"""Running chains: check, prepare, train, eval, caption and compare steps in a row, resumed where they ended.

`run_chain` is the whole of it. The state file (state.py) says what is done; fingerprints.py, what a step's result
depends on; chain_steps.py, what each kind of step does.
"""

from evlgen.workflow.chain_run import ChainResult, StepEvent, StepReport, run_chain
from evlgen.workflow.chain_steps import ChainTools
from evlgen.workflow.needs import check_chain_inputs
from evlgen.workflow.state import STATE_FILE, ChainState, StepRecord, kept_overrides

__all__ = [
    "STATE_FILE",
    "ChainResult",
    "ChainState",
    "ChainTools",
    "StepEvent",
    "StepRecord",
    "StepReport",
    "check_chain_inputs",
    "kept_overrides",
    "run_chain",
]
