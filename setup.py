"""Builds cimq's extension with CMake (the one build definition) and places it in the package.

Use:  pip install --no-build-isolation -e .

Environment variables, all optional (the values chosen are printed at the start of a build):
    CIMQ_CUDA      auto | on | off   build CUDA code (default auto)
    CIMQ_TESTS     ON | OFF          also build the C++ tests (default OFF)
    CIMQ_BUILD_DIR path              build folder (default build/torch-<version>-cp<python>)
    CATCH2_INCLUDE path              folder that holds catch2/catch.hpp, for CIMQ_TESTS=ON
    MAX_JOBS       number            parallel compilations (default: the number of usable cores)
    CMAKE_ARGS     text              further arguments for cmake
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def torch_version() -> str:
    """Version of the torch that the extension is built against; exits with a sentence if there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
    except ImportError:
        raise SystemExit(
            "cimq is built against the PyTorch that is installed, and `import torch` failed. Install PyTorch first, "
            "then run `pip install --no-build-isolation -e .` (without that flag pip hides the installed torch)."
        ) from None
    return str(torch.__version__)


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


class CMakeBuild(build_ext):
    """Configures and builds with CMake; CMake itself copies the products into the package folder."""

    def build_extension(self, ext: Extension) -> None:
        version = torch_version()
        tag = f"torch-{version.split('+')[0]}-cp{sys.version_info.major}{sys.version_info.minor}"
        build_dir = Path(os.environ.get("CIMQ_BUILD_DIR") or ROOT / "build" / tag).resolve()
        # CMake copies the module, its build record and cimq-run: into the source tree for an editable
        # install, else into the folder that becomes the wheel.
        package_dir = ROOT / "cimq" if self.editable_mode else Path(self.get_ext_fullpath(ext.name)).resolve().parent
        jobs = os.environ.get("MAX_JOBS") or str(usable_cores())
        settings = {
            "CMAKE_BUILD_TYPE": "Release",
            "Python_EXECUTABLE": sys.executable,
            "CIMQ_CUDA": "on" if os.environ.get("FORCE_CUDA") == "1" else os.environ.get("CIMQ_CUDA", "auto"),
            "CIMQ_TESTS": os.environ.get("CIMQ_TESTS", "OFF"),
            "CIMQ_PACKAGE_DIR": str(package_dir),
        }
        if os.environ.get("CATCH2_INCLUDE"):
            settings["CIMQ_CATCH2_INCLUDE"] = os.environ["CATCH2_INCLUDE"]
        print(
            "cimq build configuration:", f"  torch {version}", f"  build folder {build_dir}", f"  jobs {jobs}", sep="\n"
        )
        for key, value in settings.items():
            print(f"  {key}={value}")
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        definitions = [f"-D{key}={value}" for key, value in settings.items()]
        extra = shlex.split(os.environ.get("CMAKE_ARGS", ""))
        self.spawn_cmake(["-S", str(ROOT), "-B", str(build_dir), *generator, *definitions, *extra])
        self.spawn_cmake(["--build", str(build_dir), "--parallel", jobs])

    def copy_extensions_to_source(self) -> None:
        """Nothing to copy: an editable install was built in place."""

    @staticmethod
    def spawn_cmake(arguments: list[str]) -> None:
        try:
            subprocess.run(["cmake", *arguments], check=True)
        except FileNotFoundError:
            raise SystemExit("cimq needs CMake: run `python -m pip install cmake ninja`.") from None
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"cimq: cmake failed with exit status {error.returncode}; its message is above.") from None


setup(ext_modules=[Extension("cimq._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
