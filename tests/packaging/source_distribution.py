"""The source distribution: made from the files that git knows, and what must be in it.

As a script (`make test-sdist`): sdist -> wheel -> import in a fresh environment, none of which sees this checkout:

    python tests/packaging/source_distribution.py [--keep DIR] [--install]

With --install the interpreter that runs the script gets the wheel at the end, for tests of what users install. The
environment borrows the installed packages of the interpreter that runs the script (torch is large), but not its
cimq.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = {".gitignore"}  # of no use outside of a checkout; .ci/ likewise
# Imports what was installed, multiplies, exports and executes: the module, its data files and cimq-run are there.
USE = """
import subprocess, sys
from pathlib import Path
import torch, cimq
package = Path(cimq.__file__).parent
assert package.is_relative_to(sys.prefix), package
x, w = torch.randint(16, (8, 300)), torch.randint(-7, 8, (10, 300))
assert torch.equal(cimq.ops.crossbar_mvm(x, w, "paper", weight_bits=4, act_bits=4), (x @ w.T).int())
model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3)).eval()
images = torch.randn(16, 8)
prepared = cimq.prepare(model, cimq.Policy.uniform(4, 4), "rram-wan2022", example_inputs=images).eval()
bundle = cimq.export(prepared, "net.cimq", images[:2])
assert bundle.check().equal
subprocess.run([package / "bin" / "cimq-run", "net.cimq", "--check"], check=True, stdout=subprocess.DEVNULL)
subprocess.run([sys.executable, "-m", "cimq", "info"], check=True, stdout=subprocess.DEVNULL)
print("== cimq: installed from the source distribution:", package)
"""


def tracked_files() -> list[str]:
    """Files that git knows and that are there, relative to the root."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def make(folder: Path) -> Path:
    """Copies the tracked files below `folder` and makes the source distribution of the copy."""
    tree = folder / "tree"
    for name in tracked_files():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    subprocess.run([sys.executable, "setup.py", "-q", "sdist", "-d", str(folder / "dist")], cwd=tree, check=True)
    (made,) = (folder / "dist").glob("cimq-*.tar.gz")
    return made


def missing(made: Path) -> list[str]:
    """Tracked files that a source distribution lacks."""
    with tarfile.open(made) as archive:
        there = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {name for name in tracked_files() if name not in LEFT_OUT and not name.startswith(".ci/")}
    return sorted(wanted - there)


def build_wheel(made: Path, folder: Path) -> Path:
    """Builds a wheel from a source distribution, with the packages of this interpreter."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TMPDIR": str(folder)}
    environment.pop("CIMQ_BUILD_DIR", None)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    command = [*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(folder), str(made)]
    subprocess.run(command, check=True, env=environment, cwd=folder)
    (wheel,) = folder.glob("cimq-*.whl")
    return wheel


def use_in_a_fresh_environment(wheel: Path, folder: Path) -> None:
    """Installs a wheel into a new environment and uses it there."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    python = folder / "env" / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(python)]
    subprocess.run([*command, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    # A path in a .pth file is searched, but its own .pth files are not read: an editable cimq there stays unseen.
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "empty").mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [python, "-W", "error::DeprecationWarning:cimq", "-c", USE], check=True, cwd=folder / "empty", env=environment
    )


def install_here(wheel: Path) -> None:
    """Installs a wheel for the interpreter that runs this."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--force-reinstall", "--no-deps", "--no-index", str(wheel)], check=True)


def main() -> None:
    """Everything, in a temporary folder or in the one given."""
    parser = argparse.ArgumentParser(description="sdist -> wheel -> import in a fresh environment")
    parser.add_argument("--keep", type=Path, help="work in this new folder and leave everything there")
    parser.add_argument("--install", action="store_true", help="install the wheel for this interpreter as well")
    options = parser.parse_args()
    keep = options.keep
    if keep is not None:
        keep.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="cimq-sdist-") as temporary:
        folder = (keep or Path(temporary)).resolve()
        made = make(folder)
        lacking = missing(made)
        if lacking:
            raise SystemExit(f"cimq: {made.name} lacks {len(lacking)} files of the project: {', '.join(lacking[:10])}")
        print(
            f"== cimq: {made.name} is complete, {made.stat().st_size / 1e6:.1f} MB; building a wheel from it",
            flush=True,
        )
        wheel = build_wheel(made, folder)
        use_in_a_fresh_environment(wheel, folder)
        if options.install:
            install_here(wheel)


if __name__ == "__main__":
    main()
