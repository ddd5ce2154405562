"""Reading of image folders, augmentation, and the seeded loader of the CIFAR example."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from scripts import load_script

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load_example(name: str) -> ModuleType:
    return load_script(EXAMPLES / f"{name}.py", f"examples_{name}")


folder_module = load_example("image_folder")


def write_images(folder: Path, classes: int = 2, each: int = 3, size: int = 8) -> None:
    rng = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for index in range(each):
            pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{index}.png")


def test_reads_in_class_order_and_caches(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    images, labels, classes = folder_module.read_folder(tmp_path / "train", tmp_path / "cache")
    assert images.shape == (6, 3, 8, 8)
    assert images.dtype == torch.uint8
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert classes == ["class0", "class1"]
    with Image.open(tmp_path / "train" / "class1" / "0.png") as image:
        assert torch.equal(images[3], torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy()))
    again, _, _ = folder_module.read_folder(tmp_path / "train", tmp_path / "cache")
    assert torch.equal(again, images)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder of images"):
        folder_module.read_folder(tmp_path / "nowhere")
    (tmp_path / "train" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="found no image in 1 classes"):
        folder_module.read_folder(tmp_path / "train")


def test_images_of_two_sizes_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "train", classes=1)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "train" / "class0" / "z.png")
    with pytest.raises(ValueError, match=r"one size.*z\.png"):
        folder_module.read_folder(tmp_path / "train")


def test_augmentation_crops_and_flips_each_image() -> None:
    images = torch.arange(64 * 3 * 8 * 8, dtype=torch.int64).remainder(251).to(torch.uint8).view(64, 3, 8, 8)
    out = folder_module.augment(images, torch.Generator().manual_seed(0), pixels=1)
    assert out.shape == images.shape
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    found = 0
    for original, image in zip(padded, out, strict=True):
        crops = [original[:, t : t + 8, left : left + 8] for t in range(3) for left in range(3)]
        found += any(torch.equal(image, c) or torch.equal(image, c.flip(2)) for c in crops)
    assert found == 64


def test_loader_without_crops_only_flips() -> None:
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    dataset = folder_module.ImageTensors(images, torch.arange(16))
    torch.manual_seed(0)
    (batch, chosen), *_ = folder_module.BatchLoader(dataset, 16, train=True, crop_pixels=0)
    originals = folder_module.normalise(images[chosen])
    straight = [torch.equal(a, b) for a, b in zip(batch, originals, strict=True)]
    flipped = [torch.equal(a, b.flip(2)) for a, b in zip(batch, originals, strict=True)]
    assert all(a or b for a, b in zip(straight, flipped, strict=True))
    assert any(straight)
    assert any(flipped)


def test_loader_is_seeded_and_complete() -> None:
    dataset = folder_module.ImageTensors(
        torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)),
        torch.arange(10),
    )
    loader = folder_module.BatchLoader(dataset, 4, train=True)
    assert len(loader) == 3
    torch.manual_seed(3)
    batches, other = list(loader), list(loader)
    torch.manual_seed(3)
    same = list(loader)
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(batches, same, strict=True))
    assert any(not torch.equal(a[1], b[1]) for a, b in zip(batches, other, strict=True))
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == list(range(10))
    plain = folder_module.BatchLoader(dataset, 4)
    assert torch.equal(torch.cat([images for images, _ in plain]), folder_module.normalise(dataset.images))


def test_resnet20_has_the_published_number_of_parameters() -> None:
    model = load_example("models/resnet_cifar").ResNetCifar()
    # 0.27 M in table 6 of He et al. 2016.
    assert sum(p.numel() for p in model.parameters()) == 269_722
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
