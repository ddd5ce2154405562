"""benchmarks/policy_search/front.py: what is there is taken up, and never for other options than it was made with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cimq

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "policy_search"
SCRIPT = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import front

given = ["front.py", "--data", "data", "--checkpoints", "fp32", "--out", sys.argv[3]]
others = [[], ["--images", "50"], ["--hardware", "isaac"], ["--data", "other"], ["--checkpoints", "other"],
          ["--network", "vgg11"], ["--first-last", "free"], ["--shared-epochs", "1"]]
names = []
for more in [*others, []]:
    sys.argv = [*given, *more]
    names.append(front.seed_folder(front.arguments(), 0).name)
# Of the second, which is slower and worse than the third, nothing counts.
line = front.front_line([4.0, 3.0, 2.0, 1.0], [0.1, 0.9, 0.3, 0.8])
assert [damage for _, damage in line] == [0.8, 0.3, 0.1]
assert 0.1 < front.between(line, line[1][0] + 0.3) < 0.3
print(json.dumps(names))
"""


def test_every_option_that_results_depend_on_has_a_folder_of_its_own(tmp_path: Path) -> None:
    package = Path(cimq.__file__).resolve().parents[1]
    command = [sys.executable, "-c", SCRIPT, str(FOLDER), str(package), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    *others, again = json.loads(done.stdout)
    assert len(set(others)) == len(others)
    assert again == others[0]
