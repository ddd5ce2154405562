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


WHOLE = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import front
import _networks
import numpy as np
import torch
from PIL import Image

torch.manual_seed(0)
_networks.HELD_PER_CLASS = 2
folder = Path(sys.argv[3])
pixels = np.random.default_rng(0)
for part in ("train", "test"):
    for label in range(10):
        (folder / part / str(label)).mkdir(parents=True)
        for i in range(4):
            image = Image.fromarray(pixels.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            image.save(folder / part / str(label) / f"{i}.png")
torch.save(_networks.ResNetCifar(3, 10).state_dict(), folder / "resnet20-cifar10jpeg-45k.pt")
sys.argv = ["front.py", "--data", str(folder), "--checkpoints", str(folder), "--out", str(folder / "out"),
            "--shared-epochs", "0", "--first-last", "both", "--strategies", "random", "--evaluations", "2"]
args = front.arguments()
task = front.Task(args, 0, front.seed_folder(args, 0))
fixed, free = task.spaces["8"], task.spaces["free"]
assert fixed.fastest[0] == (8, 8) and free.fastest[0][1] == 2
for space in (fixed, free):
    found, evaluations, _ = front.searched(task, space, "random", 1e9, 2, 0)
    assert evaluations == 2 and space.contains(found)
measured = task.measured("test", [task.uniform_of(8, 8), task.uniform_of(2, 2)])
assert 0 <= measured[0].damage < measured[1].damage
"""


def test_both_spaces_are_searched_with_one_set_of_weights(tmp_path: Path) -> None:
    package = Path(cimq.__file__).resolve().parents[1]
    command = [sys.executable, "-c", WHOLE, str(FOLDER), str(package), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
