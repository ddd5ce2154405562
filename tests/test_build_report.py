"""cimq.build_report: the facts are those of this build and this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

import cimq


def test_build_info_matches_the_process() -> None:
    info = cimq.build_info()
    assert info["version"] == cimq.__version__
    assert info["torch_built"] == info["torch_running"] == torch.__version__
    assert info["python"] == sys.version.split()[0]
    assert info["threads"] == torch.get_num_threads()
    assert info["isa_chosen"] in info["isa_available"]
    assert info["isa_available"][-1] == "scalar"
    assert info["compiler"]
    assert info["cuda_available"] == (info["cuda"].startswith("on") and torch.cuda.is_available())
    assert json.loads(json.dumps(info)) == info


def test_the_choice_of_instruction_set_shows(tmp_path: Path) -> None:
    code = "import cimq; print(cimq.build_info()['isa_chosen'])"
    env = {**os.environ, "CIMQ_CPU_ISA": "scalar"}
    # Not in the source tree, where the working folder would come before an installed cimq.
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "scalar"
