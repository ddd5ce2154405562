"""Loading and running bundles."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cimq import _C
from cimq.bundle.folder import extract_zip
from cimq.hardware import Hardware
from cimq.policy import Policy
from cimq.printable import printable

MAX_WORKING_BYTES = 8 * 1024**3
MAX_OPERATIONS = 10**13

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class CheckEntry:
    """Comparison of one result with the one stored in the bundle.

    Attributes:
        name: Layer name, or "output".
        compared: Values compared.
        different: Values that differ; there is no tolerance.
        first_difference: Where and what, empty if nothing differs.
    """

    name: str
    compared: int
    different: int
    first_difference: str


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """Result of `Bundle.check`: one entry for each crossbar layer, and one for the output."""

    entries: tuple[CheckEntry, ...]

    @property
    def equal(self) -> bool:
        """Whether every value is equal, and there is at least one to every name."""
        return bool(self.entries) and all(entry.compared > 0 and entry.different == 0 for entry in self.entries)

    def __bool__(self) -> bool:
        return self.equal

    def __str__(self) -> str:
        lines = [
            f"{printable(e.name)}: {e.compared} values, "
            + ("equal" if e.different == 0 else f"{e.different} differ ({e.first_difference})")
            for e in self.entries
        ]
        return "\n".join([*lines, "check passed" if self.equal else "check FAILED"])


@dataclasses.dataclass(frozen=True)
class BundleLayer:
    """A crossbar layer of a bundle; the attributes are the keys of layers.json."""

    name: str
    op: str
    weight_bits: int
    act_bits: int
    act_signed: bool
    outputs: int
    inputs_per_output: int
    invocations: int
    repeats: int
    act_zero: int = 0
    adc_bits: int | None = None
    mapping: str | None = None


class Bundle:
    """A verified bundle, executed by the C++ executor. Made by `load_bundle`.

    Attributes:
        path: Where it was loaded from.
        layers: Its crossbar layers in order of execution.
        policy: Bits per layer, and what it chooses of the machine, by name.
        hardware: The machine.
        manifest: The content of manifest.json.
        input_shape: Shape of one sample.
        threads: Threads of `run`.
    """

    def __init__(self, path: Path, executor: Any) -> None:
        # Everything comes from the texts that the executor has verified; the folder may be another by now.
        self.path = path
        self.policy = Policy.from_json(executor.text_of("policy.json"))
        self.manifest: dict[str, Any] = json.loads(executor.text_of("manifest.json"))
        self.hardware = Hardware.from_dict(json.loads(executor.text_of("hardware.json")))
        self.input_shape: tuple[int, ...] = tuple(executor.input_shape)
        self.threads: int = executor.threads
        nodes = json.loads(executor.text_of("layers.json"))["nodes"]
        keys = [field.name for field in dataclasses.fields(BundleLayer) if field.name not in ("name", "op")]
        self.layers: tuple[BundleLayer, ...] = tuple(
            BundleLayer(name=node["layer_name"], op=node["op"], **{key: node[key] for key in keys if key in node})
            for node in nodes
            if "layer_name" in node
        )
        self._executor = executor

    @overload
    def run(self, x: Array) -> Array: ...
    @overload
    def run(self, x: Tensor) -> Tensor: ...

    def run(self, x: Array | Tensor) -> Array | Tensor:
        """Executes the network.

        Args:
            x: float32 [B, *input_shape], finite; float16 and bfloat16 are widened. B may be 0.

        Returns:
            float32 [B, ...], an array for an array, a tensor (on the CPU) for a tensor.

        Raises:
            TypeError: For another type, e.g. float64, whose conversion would round.
            ValueError: For another shape, NaN or infinity.

        Example:
            >>> bundle = cimq.load_bundle("net.cimq")                    # doctest: +SKIP
            >>> bundle.run(torch.zeros(1, *bundle.input_shape)).shape    # doctest: +SKIP
            torch.Size([1, 10])
        """
        y: Array = self._executor.run(_as_float32(x))
        return torch.from_numpy(y) if isinstance(x, Tensor) else y

    def run_layers(self, x: Array | Tensor) -> tuple[Array | Tensor, dict[str, Array | Tensor]]:
        """As `run`, with the raw result Y of every crossbar layer.

        Returns:
            The output, and layer name -> Y before scales and bias: int32, or float32 where the converter is lossy or
            cells vary.
        """
        y, layers = self._executor.run_layers(_as_float32(x))
        if isinstance(x, Tensor):
            return torch.from_numpy(y), {name: torch.from_numpy(value) for name, value in layers.items()}
        return y, layers

    def check(self) -> CheckReport:
        """Runs the sample stored in the bundle and compares every layer and the output, value by value.

        Samples are run in parts, so that their number does not matter to memory. That layers, policy, hardware and
        program agree was checked when the bundle was loaded.

        Raises:
            ValueError: If the bundle holds no expected results or no sample, a name or shape in them does not fit the
                network, they need more than `max_operations`, or the bundle was loaded with another seed or chip.
        """
        return CheckReport(tuple(CheckEntry(*entry) for entry in self._executor.check()))

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}, {len(self.layers)} crossbar layers, hardware {self.hardware.name!r})"


def load_bundle(
    path: str | Path,
    *,
    threads: int | None = None,
    seed: int | None = None,
    chip: int | None = None,
    max_working_bytes: int = MAX_WORKING_BYTES,
    max_operations: int = MAX_OPERATIONS,
) -> Bundle:
    """Loads a bundle after verifying every file of it: sizes, hashes, shapes, ranges. Runs no code from it.

    Args:
        path: The folder, or a zip of it (extracted to a temporary folder).
        threads: Threads of `run`; None: OMP_NUM_THREADS, or all processors that the process may run on. Never changes
            a result.
        seed: Device variation of another seed than the bundle's.
        chip: Another chip of the seed.
        max_working_bytes: Refuses a network that needs more memory than this for one sample, or whose weights and
            programmed cells take more. Larger batches are run in parts that keep within it.
        max_operations: Refuses a network that needs more operations (products; for other nodes values read and
            elements of windows) for one sample, and a `check` of more.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If the bundle is damaged, incomplete, beyond a bound, or of a version that cannot be read, or if its
            layers, policy, hardware and program do not agree; names the file.

    Example:
        >>> bundle = cimq.load_bundle("runs/demo/model.cimq")    # doctest: +SKIP
        >>> bundle.check().equal                                # doctest: +SKIP
        True
    """
    path = Path(path)
    if threads is not None and threads < 1:
        raise ValueError(f"load_bundle: threads must be a positive number or None, got {threads}")
    for name, value in (("max_working_bytes", max_working_bytes), ("max_operations", max_operations)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"load_bundle: {name} must be an integer, got {value!r}")
        if not 1 <= value < 2**64:
            raise ValueError(f"load_bundle: {name} must be a positive number below 2^64, got {value}")
    with bundle_folder(path) as folder:
        executor = _C.Executor.load(
            str(folder),
            threads=threads or 0,
            seed=seed,
            chip=chip,
            max_working_bytes=max_working_bytes,
            max_operations=max_operations,
        )
    return Bundle(path, executor)


class bundle_folder:  # noqa: N801 (a context manager)
    """The folder of a bundle: itself, or a temporary one that a zip is extracted to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Path:
        if not self._path.exists():
            raise FileNotFoundError(f"bundle {self._path}: there is no such file or folder")
        if self._path.is_dir():
            return self._path
        self._temporary = tempfile.TemporaryDirectory(prefix="cimq-bundle-")
        try:
            return extract_zip(self._path, Path(self._temporary.name))
        except BaseException:
            self._temporary.cleanup()
            raise

    def __exit__(self, *unused: object) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()


def _as_float32(x: Array | Tensor) -> Array:
    if isinstance(x, Tensor):
        if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise TypeError(f"run: x must be float32, got {x.dtype}; convert it with x.float()")
        return np.ascontiguousarray(x.detach().to("cpu", torch.float32).numpy())
    if not isinstance(x, np.ndarray):
        raise TypeError(f"run: x must be a numpy array or a torch tensor, got {type(x).__name__}")
    if x.dtype not in (np.float32, np.float16):
        raise TypeError(f"run: x must be float32, got {x.dtype}; convert it with x.astype(numpy.float32)")
    # ascontiguousarray would make a 0-d array 1-d, hence np.require.
    return np.require(x, np.float32, ["C_CONTIGUOUS"])
