"""A folder of small images (ImageFolder layout: DIR/<class>/*.jpg) as tensors in memory.

Decoding 60,000 JPEGs takes longer than an epoch of a small network on two cores, so they are decoded once, kept as
uint8, and stored in a cache file; augmentation works on whole batches of tensors.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
SUFFIXES = {".jpg", ".jpeg", ".png"}


def read_folder(folder: Path, cache: Path | None = None) -> tuple[Tensor, Tensor, list[str]]:
    """Decodes DIR/<class>/* into one tensor.

    Args:
        folder: A folder with one sub-folder per class; classes are numbered in alphabetical order.
        cache: A folder for the decoded images, so that the next call is quick.

    Returns:
        Images uint8 [N, 3, H, W], labels int64 [N], class names.

    Raises:
        FileNotFoundError: If the folder is missing.
        ValueError: If it holds no image, or images of different sizes.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder of images: {folder}")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise ValueError(f"{folder} must hold <class>/*.jpg, found no image in {len(classes)} classes")
    labels = torch.tensor([label for _, label in files])
    # The key holds names and sizes, so that a changed folder is decoded again.
    key = hashlib.sha256("\n".join(f"{path.relative_to(folder)} {path.stat().st_size}" for path, _ in files).encode())
    stored = cache / f"{folder.name}-{key.hexdigest()[:16]}.npy" if cache else None
    if stored and stored.exists():
        return torch.from_numpy(np.load(stored, allow_pickle=False)), labels, classes
    images = []
    for path, _ in tqdm(files, desc=f"decoding {folder.name}", disable=None, leave=False):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        if images and pixels.shape != images[0].shape:
            raise ValueError(f"images must have one size, {path} has {pixels.shape[:2]}, others {images[0].shape[:2]}")
        images.append(pixels)
    array = np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
    if stored:
        stored.parent.mkdir(parents=True, exist_ok=True)
        temporary = stored.with_name(f".{stored.stem}.{os.getpid()}.npy")
        np.save(temporary, array)
        temporary.replace(stored)
    return torch.from_numpy(array), labels, classes


class ImageTensors(Dataset[tuple[Tensor, Tensor]]):
    """uint8 images and labels; an item is (normalised float image, label)."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return normalise(self.images[index : index + 1])[0], self.labels[index]

    def subset(self, indices: Tensor) -> ImageTensors:
        return ImageTensors(self.images[indices], self.labels[indices])


def last_of_each_class(labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices of all images but the last `count` of every class, and of those.

    Args:
        labels: int64 [N].
        count: Images of every class that are held out.

    Raises:
        ValueError: If a class has no more than that; names it.
    """
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        if len(members) <= count:
            raise ValueError(f"class {int(label)} must have more than the {count} images held out, got {len(members)}")
        held[members[len(members) - count :]] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()


def normalise(images: Tensor) -> Tensor:
    """uint8 [N, 3, H, W] -> float32 with ImageNet's mean and standard deviation removed."""
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    std = torch.tensor(STD).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / std


class BatchLoader:
    """Batches of an ImageTensors data set, shuffled and augmented (random crop, horizontal flip) on request.

    Works a batch at a time, which is what makes two cores enough. Like torch's DataLoader it draws a seed from torch's
    random state at the start of every pass, so seeding torch makes a pass repeatable. Crops move an image by at most
    `crop_pixels` to each side.
    """

    def __init__(self, dataset: ImageTensors, batch_size: int, *, train: bool = False, crop_pixels: int = 4) -> None:
        self.dataset, self.batch_size, self.train, self.crop_pixels = dataset, batch_size, train, crop_pixels

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self.dataset)
        if not self.train:
            for start in range(0, count, self.batch_size):
                part = slice(start, start + self.batch_size)
                yield normalise(self.dataset.images[part]), self.dataset.labels[part]
            return
        generator = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        order = torch.randperm(count, generator=generator)
        for chosen in order.split(self.batch_size):
            images = augment(self.dataset.images[chosen], generator, self.crop_pixels)
            yield normalise(images), self.dataset.labels[chosen]


def augment(images: Tensor, generator: torch.Generator, pixels: int) -> Tensor:
    """Random crop after zero padding, and horizontal flip, each image its own; uint8 [N, C, H, W]."""
    count, channels, height, width = images.shape
    padded = F.pad(images, (pixels,) * 4)
    top = torch.randint(0, 2 * pixels + 1, (count, 1), generator=generator)
    left = torch.randint(0, 2 * pixels + 1, (count, 1), generator=generator)
    flip = torch.rand(count, 1, generator=generator) < 0.5
    rows = top + torch.arange(height)
    columns = torch.arange(width).expand(count, width)
    columns = left + torch.where(flip, width - 1 - columns, columns)
    batch = torch.arange(count).view(count, 1, 1, 1)
    channel = torch.arange(channels).view(1, channels, 1, 1)
    return padded[batch, channel, rows.view(count, 1, height, 1), columns.view(count, 1, 1, width)]
