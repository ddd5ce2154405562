"""Loading and running bundles that were written by hand, and everything that must be refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_nets import handmade_result, write_handmade

import cimq
from cimq.bundle import folder as folders


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    return write_handmade(tmp_path / "net.cimq")


def test_runs_arrays_and_tensors(bundle_path: Path) -> None:
    bundle = cimq.load_bundle(bundle_path)
    x = torch.rand(7, 4, generator=torch.Generator().manual_seed(0)) * 5
    Y, y = handmade_result(x)
    assert torch.equal(bundle.run(x), y)
    assert np.array_equal(bundle.run(x.numpy()), y.numpy())
    output, layers = bundle.run_layers(x)
    assert torch.equal(output, y)
    assert torch.equal(layers["fc"], Y)
    assert layers["fc"].dtype == torch.int32
    assert bundle.run(x[:0]).shape == (0, 3)
    assert torch.equal(bundle.run(x.half()), handmade_result(x.half().float())[1])
    assert np.array_equal(bundle.run(np.asfortranarray(x.numpy())), y.numpy())


def test_describes_itself(bundle_path: Path) -> None:
    bundle = cimq.load_bundle(str(bundle_path))
    assert bundle.policy.pairs() == [(4, 3)]
    assert bundle.hardware.rows == 32
    assert bundle.input_shape == (4,)
    assert [(layer.name, layer.outputs, layer.act_signed) for layer in bundle.layers] == [("fc", 3, False)]
    assert bundle.manifest["producer"]["torch"] == torch.__version__
    assert "1 crossbar layer" in repr(bundle)
    assert cimq.latency(bundle_path).writes == 1


def test_check_compares_value_by_value(bundle_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    report = cimq.load_bundle(bundle_path).check()
    assert report.equal
    assert bool(report)
    assert [entry.name for entry in report.entries] == ["fc", "output"]
    expected = load_file(bundle_path / "expected.safetensors")
    expected["layer.fc"][1, 2] += 1
    save_file(expected, bundle_path / "expected.safetensors")
    folders.replace_in_bundle(
        bundle_path, "expected.safetensors", (bundle_path / "expected.safetensors").read_bytes(), {}
    )
    report = cimq.load_bundle(bundle_path).check()
    assert not report.equal
    assert report.entries[0].different == 1
    assert "element 5: expected" in str(report)


@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (torch.zeros(2, 5), ValueError, r"shape must be .* \[2, 4\], got \[2, 5\]"),
        (torch.zeros(4), ValueError, "shape must be"),
        (torch.tensor([[0.0, float("nan"), 0, 0]]), ValueError, "must be finite, got nan at element 1"),
        (torch.tensor([[0.0, 0, float("inf"), 0]]), ValueError, "must be finite, got inf at element 2"),
        (torch.zeros(1, 4, dtype=torch.float64), TypeError, "must be float32, got torch.float64"),
        (np.zeros((1, 4)), TypeError, "must be float32, got float64"),
        (np.zeros((1, 4), np.int64), TypeError, "must be float32, got int64"),
        ([[0.0] * 4], TypeError, "numpy array or a torch tensor, got list"),
        (np.zeros((), np.float32), ValueError, "shape must be"),
    ],
)
def test_inputs_that_do_not_fit(bundle_path: Path, x: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        cimq.load_bundle(bundle_path).run(x)  # type: ignore[call-overload]


def test_damage_is_refused(bundle_path: Path) -> None:
    weights = bundle_path / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-3])
    with pytest.raises(ValueError, match=r"weights\.safetensors: has .* bytes, manifest\.json says"):
        cimq.load_bundle(bundle_path)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"weights\.safetensors: SHA-256 is"):
        cimq.load_bundle(bundle_path)
    weights.unlink()
    with pytest.raises(ValueError, match=r"'weights\.safetensors' is missing"):
        cimq.load_bundle(bundle_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        cimq.load_bundle(bundle_path / "nothing")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": "2.0.0"}, "cannot be read"),
        ({"schema": "x"}, "schema must be"),
        ({"required_extensions": ["tiles"]}, "requires the extension 'tiles'"),
    ],
)
def test_foreign_manifests_are_refused(bundle_path: Path, change: dict[str, object], match: str) -> None:
    manifest = json.loads((bundle_path / "manifest.json").read_text())
    (bundle_path / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(ValueError, match=match):
        cimq.load_bundle(bundle_path)


def test_policy_must_agree_with_the_layers(bundle_path: Path, tmp_path: Path) -> None:
    cimq.Policy({"fc": (4, 4)}).save(tmp_path / "other.json")
    folders.replace_in_bundle(bundle_path, "policy.json", (tmp_path / "other.json").read_bytes(), {})
    with pytest.raises(ValueError, match=r"policy\.json and layers\.json state different bits"):
        cimq.load_bundle(bundle_path)


def test_threads_and_chips(bundle_path: Path) -> None:
    x = torch.rand(64, 4, generator=torch.Generator().manual_seed(0)) * 5
    assert torch.equal(cimq.load_bundle(bundle_path, threads=5).run(x), cimq.load_bundle(bundle_path, threads=1).run(x))
    with pytest.raises(ValueError, match="threads must be a positive number"):
        cimq.load_bundle(bundle_path, threads=0)
    with pytest.raises(ValueError, match="another seed or chip"):
        cimq.load_bundle(bundle_path, chip=1).check()


# ---- zips ----


def zipped(bundle: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in bundle.iterdir():
            archive.write(file, prefix + file.name)
    return path


@pytest.mark.parametrize("prefix", ["", "net.cimq/"])
def test_a_zip_is_a_bundle(bundle_path: Path, tmp_path: Path, prefix: str) -> None:
    bundle = cimq.load_bundle(zipped(bundle_path, tmp_path / "net.zip", prefix))
    assert bundle.check().equal


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "C:evil"])
def test_zip_entries_never_leave_the_bundle(bundle_path: Path, tmp_path: Path, name: str) -> None:
    path = zipped(bundle_path, tmp_path / "net.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), "x")
    with pytest.raises(ValueError, match="leads out of the bundle"):
        cimq.load_bundle(path)
    assert not (tmp_path / "evil").exists()


def test_zips_with_links_repeats_or_too_much_are_refused(bundle_path: Path, tmp_path: Path) -> None:
    path = zipped(bundle_path, tmp_path / "link.zip")
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="'link' is a link"):
        cimq.load_bundle(path)

    path = zipped(bundle_path, tmp_path / "twice.zip")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("policy.json", "{}")
    with pytest.raises(ValueError, match="is there twice"):
        cimq.load_bundle(path)

    path = zipped(bundle_path, tmp_path / "large.zip")
    with pytest.raises(ValueError, match="more than 100 bytes"):
        folders.extract_zip(path, tmp_path / "to", max_bytes=100)

    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="cannot be read as a zip"):
        cimq.load_bundle(path)
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        cimq.load_bundle(tmp_path / "empty.zip")


# ---- cimq-run ----


def cimq_run(*arguments: object) -> subprocess.CompletedProcess[str]:
    binary = Path(cimq.__file__).parent / "bin" / "cimq-run"  # part of every build
    return subprocess.run([str(binary), *map(str, arguments)], capture_output=True, text=True, check=False)


def test_cimq_run_checks_and_runs(bundle_path: Path, tmp_path: Path) -> None:
    done = cimq_run(bundle_path, "--check")
    assert done.returncode == 0, done.stderr
    assert "fc: 6 values, equal" in done.stdout
    assert "check passed" in done.stdout
    x = torch.rand(5, 4, generator=torch.Generator().manual_seed(3)) * 4
    np.save(tmp_path / "x.npy", x.numpy())
    done = cimq_run(bundle_path, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy", "--threads", 2)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "y.npy"), handmade_result(x)[1].numpy())


def test_cimq_run_says_what_is_wrong(bundle_path: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 4)))
    for arguments, part in [
        ((), "no bundle given"),
        ((bundle_path,), "--input and --output, or --check"),
        ((bundle_path, "--check", "--input", "x"), "own sample"),
        ((bundle_path, "--fast"), "unknown option '--fast'"),
        ((bundle_path, "--threads", "0", "--check"), "--threads must be a positive number"),
        ((bundle_path, "--input"), "--input needs a value"),
        ((bundle_path, "--input", tmp_path / "x.npy", "--output", "y"), "must hold float32 ('<f4'), got '<f8'"),
        ((tmp_path / "none", "--check"), "must be a bundle folder"),
        ((bundle_path, "b", "--check"), "one bundle at a time"),
    ]:
        done = cimq_run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("cimq-run: error: ")
        assert part in done.stderr
    assert "usage:" in cimq_run("--help").stdout


def test_cimq_run_needs_no_torch(bundle_path: Path) -> None:
    if sys.platform != "linux" or not Path("/usr/bin/ldd").exists():
        pytest.skip("needs ldd")
    binary = Path(cimq.__file__).parent / "bin" / "cimq-run"
    libraries = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=True).stdout
    assert "torch" not in libraries
    assert "python" not in libraries
    empty = {key: value for key, value in os.environ.items() if key == "PATH"}
    assert subprocess.run([str(binary), str(bundle_path), "--check"], env=empty, check=False).returncode == 0
