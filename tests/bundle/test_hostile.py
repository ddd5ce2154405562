"""Bundles that ask for memory, time or trust that they must not have."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_nets import write_handmade
from hostile import bounded_run, changed_json, corner, padded, relu, rewritten, sample_of_zeros, with_nodes

import cimq
from cimq.bundle import folder as folders

HEIGHT, WIDTH = 2048, 2048  # three channels: 48 MiB a value


def chain(folder: Path, length: int) -> Path:
    names = ["big", *(f"r{i}" for i in range(length))]
    nodes = [relu(name, source, HEIGHT, WIDTH) for source, name in itertools.pairwise(names)]
    return with_nodes(folder, padded("big", "image", HEIGHT, WIDTH), *nodes, corner("one", names[-1]))


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    return write_handmade(tmp_path / "net.cimq")


# ---- memory and work ----


def test_intermediate_values_are_given_back(tmp_path: Path) -> None:
    # Twenty values of 48 MiB, of which two are needed at once.
    bundle = chain(tmp_path / "net.cimq", 20)
    np.save(tmp_path / "x.npy", np.ones((1, 4), np.float32))
    done = bounded_run(bundle, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy", megabytes=300)
    assert done.returncode == 0, done.stderr
    relu_of_fc = cimq.load_bundle(write_handmade(tmp_path / "small.cimq")).run(np.ones((1, 4), np.float32))
    assert np.array_equal(np.load(tmp_path / "y.npy").reshape(1, 3), relu_of_fc)


def test_memory_of_one_sample_is_bounded(tmp_path: Path) -> None:
    bundle = chain(tmp_path / "net.cimq", 3)
    with pytest.raises(
        ValueError, match=r"one sample needs \d+ bytes at once, more than 90000000 bytes of working mem"
    ):
        cimq.load_bundle(bundle, max_working_bytes=90_000_000)
    assert cimq.load_bundle(bundle, max_working_bytes=110_000_000).threads >= 1


def test_work_of_one_sample_is_bounded(tmp_path: Path) -> None:
    pool = {
        "name": "pool",
        "op": "max_pool2d",
        "inputs": ["big"],
        "shape": [3, 4097, 4097],
        "attrs": {"kernel": [4096, 4096], "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1]},
        "tensors": {},
    }
    bundle = with_nodes(tmp_path / "net.cimq", padded("big", "image", 8192, 8192), pool)
    with pytest.raises(ValueError, match=r"node 'pool' \(max_pool2d\) brings one sample to 8448\d+ operations"):
        cimq.load_bundle(bundle)
    assert cimq.load_bundle(bundle, max_operations=10**15).input_shape == (4,)


@pytest.mark.parametrize(
    ("bounds", "error", "match"),
    [
        ({"max_operations": 0}, ValueError, "max_operations must be a positive number below 2"),
        ({"max_operations": 2**64}, ValueError, "max_operations must be a positive number below 2"),
        ({"max_operations": 1e13}, TypeError, "max_operations must be an integer"),
        ({"max_working_bytes": True}, TypeError, "max_working_bytes must be an integer"),
        ({"max_working_bytes": -1}, ValueError, "max_working_bytes must be a positive number"),
    ],
)
def test_bounds_are_numbers(bundle_path: Path, bounds: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        cimq.load_bundle(bundle_path, **bounds)


def test_many_json_objects_take_linear_time(bundle_path: Path) -> None:
    (bundle_path / "layers.json").write_text("[" + ",".join(["{}"] * 400_000) + "]")
    rewritten(bundle_path)
    done = bounded_run(bundle_path, "--check", megabytes=1000, seconds=30)
    assert done.returncode == 2
    assert "layers.json: must be a JSON object, got an array of 400000" in done.stderr


def test_a_large_sample_is_checked_in_parts(tmp_path: Path) -> None:
    # Of 2,000 samples every value of every layer would be 2,000 * 3 * 128 KiB.
    names = ["big", *(f"r{i}" for i in range(6))]
    nodes = [relu(name, source, 128, 256) for source, name in itertools.pairwise(names)]
    bundle = with_nodes(tmp_path / "net.cimq", padded("big", "image", 128, 256), *nodes, corner("one", names[-1]))
    from safetensors.numpy import save_file

    x = np.random.default_rng(0).random((2000, 4), np.float32) * 5
    y, layers = cimq.load_bundle(bundle).run_layers(x)
    expected = {"input": x, "output": y} | {f"layer.{name}": value for name, value in layers.items()}
    save_file(expected, bundle / "expected.safetensors")
    rewritten(bundle)
    done = bounded_run(bundle, "--check", "--threads", 1, megabytes=100)
    assert done.returncode == 0, done.stderr
    assert "fc: 6000 values, equal" in done.stdout
    assert "output: 6000 values, equal" in done.stdout


def test_out_of_memory_is_one_sentence(tmp_path: Path) -> None:
    bundle = chain(tmp_path / "net.cimq", 3)
    np.save(tmp_path / "x.npy", np.ones((1, 4), np.float32))
    done = bounded_run(bundle, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy", megabytes=80)
    assert done.returncode == 2
    assert done.stderr == "cimq-run: error: out of memory\n"
    assert not (tmp_path / "y.npy").exists()


# ---- what a check proves ----


@pytest.mark.parametrize("samples", [0, 1])
def test_a_sample_without_results_proves_nothing(bundle_path: Path, samples: int) -> None:
    sample_of_zeros(bundle_path, samples)
    with pytest.raises(
        ValueError, match=r"expected\.safetensors: '(input' holds no sample|layer\.fc' must be I32 \[1, 3)"
    ):
        cimq.load_bundle(bundle_path).check()
    done = bounded_run(bundle_path, "--check", megabytes=1000)
    assert done.returncode == 2
    assert "passed" not in done.stdout


def test_an_empty_report_is_no_pass() -> None:
    assert not cimq.bundle.CheckReport(()).equal
    assert not cimq.bundle.CheckReport((cimq.bundle.CheckEntry("output", 0, 0, ""),)).equal


def test_the_program_belongs_to_the_network(bundle_path: Path) -> None:
    cimq.compile(bundle_path)
    assert cimq.load_bundle(bundle_path).check().equal
    text = (bundle_path / "program.jsonl").read_text()
    for before, after, match in [
        ('"digits":[0,3]', '"digits":[0,2]', r"program\.jsonl: .* sees a digit 0 times"),
        ('"rows":32', '"rows":64', r"program\.jsonl: line 1: hardware must be that of hardware\.json"),
        ('"scale":"fc.x_scale"', '"scale":"fc.bias"', r"program\.jsonl: line 3: x_scale must be 'fc\.x_scale'"),
    ]:
        assert before in text
        (bundle_path / "program.jsonl").write_text(text.replace(before, after))
        rewritten(bundle_path)
        with pytest.raises(ValueError, match=match):
            cimq.load_bundle(bundle_path)
        assert bounded_run(bundle_path, "--check", megabytes=1000).returncode == 2
    # Compiling anew mends it.
    cimq.compile(bundle_path)
    assert cimq.load_bundle(bundle_path).check().equal


def test_cimq_run_looks_at_the_policy(bundle_path: Path) -> None:
    (bundle_path / "policy.json").write_text('{"fc": [4, 4]}')
    rewritten(bundle_path)
    done = bounded_run(bundle_path, "--check", megabytes=1000)
    assert done.returncode == 2
    assert "policy.json and layers.json state different bits: layer 'fc' has (4, 4) and (4, 3)" in done.stderr


def test_only_what_was_verified_is_used(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The files change as soon as the executor has verified them.
    load = cimq._C.Executor.load

    class Executor:
        @staticmethod
        def load(path: str, **options: Any) -> Any:
            made = load(path, **options)
            for name in ("manifest.json", "policy.json", "layers.json", "hardware.json"):
                Path(path, name).write_text("{}")
            return made

    monkeypatch.setattr("cimq.bundle.loader._C.Executor", Executor)
    bundle = cimq.load_bundle(bundle_path)
    assert bundle.policy.pairs() == [(4, 3)]
    assert bundle.manifest["schema"] == "cimq.bundle"
    assert bundle.hardware.rows == 32


@pytest.mark.parametrize("name", ["manifest.json", "layers.json", "hardware.json", "policy.json"])
def test_a_byte_order_mark_is_refused_by_both_readers(bundle_path: Path, name: str) -> None:
    file = bundle_path / name
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    if name != "manifest.json":
        rewritten(bundle_path)
    with pytest.raises(ValueError, match="begins with a byte order mark"):
        cimq.load_bundle(bundle_path)
    done = bounded_run(bundle_path, "--check", megabytes=1000)
    assert done.returncode == 2
    assert "begins with a byte order mark" in done.stderr


# ---- terminals ----

NAME = "fc\x1b]0;owned\x07\x9b31m: 6 values, equal\ncheck passed"


def renamed(bundle: Path) -> Path:
    from safetensors.torch import load_file, save_file

    def layer(layers: Any) -> None:
        layers["nodes"][0]["layer_name"] = NAME

    (bundle / "policy.json").write_text(json.dumps({NAME: [4, 3]}))
    expected = load_file(bundle / "expected.safetensors")
    expected[f"layer.{NAME}"] = expected.pop("layer.fc")
    save_file(expected, bundle / "expected.safetensors")
    return changed_json(bundle, "layers.json", layer)


def test_names_reach_no_terminal_raw(bundle_path: Path) -> None:
    bundle = renamed(bundle_path)
    shown = r"fc\x1b]0;owned\x07\u009b31m: 6 values, equal\ncheck passed"
    report = cimq.load_bundle(bundle).check()
    assert report.equal
    assert report.entries[0].name == NAME
    assert str(report).splitlines()[0] == f"{shown}: 6 values, equal"
    done = bounded_run(bundle, "--check", megabytes=1000)
    assert done.stdout.splitlines()[0] == f"{shown}: 6 values, equal"
    for arguments in (["run", bundle, "--check"], ["compile", bundle]):
        ran = subprocess.run(
            [sys.executable, "-m", "cimq", *map(str, arguments)],
            cwd=bundle_path.parent,  # beside the sources it would import those
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert shown in ran.stdout
        assert not set("\x1b\x07\x9b") & set(ran.stdout + ran.stderr)
    (bundle / "policy.json").write_text(json.dumps({NAME: [4, 4]}))
    rewritten(bundle)
    with pytest.raises(ValueError, match="state different bits") as error:
        cimq.load_bundle(bundle)
    assert not set("\x1b\x07\x9b\n") & set(str(error.value))


# ---- zips ----


def test_a_zip_that_expands_too_much_is_refused(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "SMALL_ZIP_BYTES", 100_000)
    (bundle_path / "zeros.bin").write_bytes(bytes(5_000_000))
    rewritten(bundle_path)
    path = Path(shutil.make_archive(str(tmp_path / "net"), "zip", bundle_path))
    with pytest.raises(ValueError, match=r"would take more than \d+ bytes when extracted"):
        cimq.load_bundle(path)


def test_a_zip_that_lies_about_sizes_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    (bundle_path / "zeros.bin").write_bytes(bytes(1_000_000))
    rewritten(bundle_path)
    path = Path(shutil.make_archive(str(tmp_path / "net"), "zip", bundle_path))
    whole = path.read_bytes()
    lied = whole.replace((1_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert lied != whole
    path.write_bytes(lied)
    with pytest.raises(ValueError, match=r"zip"):
        cimq.load_bundle(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_are_stored_or_deflated(bundle_path: Path, tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "net.zip", "w", method) as archive:
        for file in bundle_path.iterdir():
            archive.write(file, file.name)
    with pytest.raises(ValueError, match="is neither stored nor deflated"):
        cimq.load_bundle(tmp_path / "net.zip")


# ---- where a bundle is written ----


def test_export_writes_through_links_and_over_no_pipe(tmp_path: Path) -> None:
    x = torch.rand(4, 3)
    q = cimq.prepare(torch.nn.Linear(3, 2), example_inputs=x).eval()
    os.symlink(tmp_path / "far.cimq", tmp_path / "link.cimq")
    os.symlink(tmp_path / "far.zip", tmp_path / "link.zip")
    for name in ("link.cimq", "link.zip"):
        for _ in range(2):
            cimq.export(q, tmp_path / name, x, overwrite=True)
            assert (tmp_path / name).is_symlink()
            assert cimq.load_bundle(tmp_path / name.replace("link", "far")).check().equal
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(FileExistsError, match="is a pipe or device"):
        cimq.export(q, tmp_path / "pipe.zip", x, overwrite=True)
    assert (tmp_path / "pipe.zip").is_fifo()
