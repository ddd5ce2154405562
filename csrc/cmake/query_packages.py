"""Print where the packages that the build needs are, as KEY=value lines for packages.cmake.

On a missing package it exits with one sentence on stderr that names the command to run.
"""

from __future__ import annotations

import argparse
import sys
import warnings


def fail(sentence: str) -> None:
    print(sentence, file=sys.stderr)
    raise SystemExit(1)


def show(key: str, value: object) -> None:
    text = ";".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    print(f"{key}={text}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--torch", choices=["ON", "OFF"], default="ON")
    args = parser.parse_args()

    try:
        import nlohmann_json
    except ImportError:
        fail("nlohmann/json is missing: run `python -m pip install nlohmann-json==3.12.0`.")
    show("NLOHMANN_INCLUDE", nlohmann_json.get_include())

    if args.torch == "OFF":
        show("TORCH_VERSION", "none")
        return

    try:
        import pybind11
    except ImportError:
        fail("pybind11 is missing: run `python -m pip install pybind11`.")
    show("PYBIND11_INCLUDE", pybind11.get_include())

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "No CUDA runtime is found": irrelevant for a query
            import torch
            from torch.utils.cpp_extension import TORCH_LIB_PATH, include_paths
    except ImportError:
        fail(
            "PyTorch is missing: install it first, then run "
            "`pip install --no-build-isolation -e .` (without --no-build-isolation pip hides the installed torch)."
        )
    show("TORCH_VERSION", torch.__version__)
    show("TORCH_CUDA", torch.version.cuda or "")
    show("TORCH_INCLUDES", [path for path in include_paths() if "cuda" not in path.rsplit("/", 1)[-1]])
    show("TORCH_LIB", TORCH_LIB_PATH)
    show("TORCH_CXX11_ABI", int(torch.compiled_with_cxx11_abi()))
    show("TORCH_OPENMP", int("OpenMP" in torch.__config__.parallel_info()))


if __name__ == "__main__":
    main()
