"""Which networks of torchvision and timm run: prepared, converted, exported, executed, and what they say if not.

    python benchmarks/models/survey.py                    # every network of the lists below
    python benchmarks/models/survey.py resnet18 timm:dla34 --markdown

Weights are random and images small; the whole list takes about half an hour on two cores. Each network gets 4-bit
weights and activations in every layer (W4A4) on the machine `paper`; then the integers of every layer and the outputs
are compared, value by value, from the prepared model through the converted one to the executor.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from _common import environment, parser
from torch import Tensor, nn

import cimq
from cimq.quantization import layer_outputs, quant_layers

CLASSES = 10
# One or more of each family: name -> size of the images.
TORCHVISION = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 32,
    "googlenet": 32,
    "inception_v3": 80,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 48,
    "mobilenet_v3_small": 48,
    "mobilenet_v3_large": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "resnet50": 32,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 48,
    "swin_t": 32,
    "swin_v2_t": 32,
    "vgg11": 32,
    "vgg16_bn": 32,
    "vit_b_32": 64,
    "wide_resnet50_2": 32,
}
TIMM = {
    "convnext_atto": 64,
    "convnextv2_atto": 64,
    "cspdarknet53": 64,
    "cspresnet50": 64,
    "darknet53": 64,
    "densenet121": 64,
    "dla34": 64,
    "ecaresnet26t": 64,
    "edgenext_xx_small": 64,
    "efficientnet_b0": 64,
    "efficientnet_lite0": 64,
    "fbnetc_100": 64,
    "ghostnet_100": 64,
    "hardcorenas_a": 64,
    "hrnet_w18_small": 64,
    "inception_resnet_v2": 96,
    "inception_v4": 96,
    "lcnet_050": 64,
    "legacy_xception": 96,
    "mixnet_s": 64,
    "mnasnet_small": 64,
    "mobilenetv2_050": 64,
    "mobilenetv3_small_050": 64,
    "mobilenetv4_conv_small": 64,
    "mobileone_s0": 64,
    "nf_resnet26": 64,
    "nfnet_l0": 64,
    "dm_nfnet_f0": 64,
    "regnetx_002": 64,
    "regnety_002": 64,
    "regnetz_b16": 64,
    "repvgg_a0": 64,
    "res2net50_26w_4s": 64,
    "resnet18": 64,
    "resnet26": 64,
    "resnet50d": 64,
    "resnetrs50": 64,
    "resnetv2_50": 64,
    "resnetv2_50x1_bit": 64,
    "resnext26ts": 64,
    "resnext50_32x4d": 64,
    "rexnet_100": 64,
    "selecsls42b": 64,
    "semnasnet_050": 64,
    "seresnet50": 64,
    "skresnet18": 64,
    "spnasnet_100": 64,
    "tf_efficientnet_b0": 64,
    "tf_efficientnetv2_b0": 64,
    "tf_mobilenetv3_small_minimal_100": 64,
    "tinynet_e": 64,
    "vgg11_bn": 64,
    "vovnet39a": 64,
    "xception41": 96,
    "resnest14d": 64,
    "vit_tiny_patch16_224": 224,
    "mixer_s32_224": 224,
    "poolformer_s12": 64,
}


def built(name: str) -> nn.Module:
    """A network of the lists with random weights: "resnet18" of torchvision, "timm:resnet18"."""
    torch.manual_seed(0)
    if name.startswith("timm:"):
        import timm

        made: nn.Module = timm.create_model(name.removeprefix("timm:"), pretrained=False, num_classes=CLASSES)
        return made
    from torchvision import models

    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": False}
    elif name.startswith("vit_"):
        options = {"image_size": TORCHVISION[name]}
    elif name.startswith("maxvit"):
        options = {"input_size": (TORCHVISION[name],) * 2}
    made = getattr(models, name)(weights=None, num_classes=CLASSES, **options)
    return made


def images(count: int, size: int) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def surveyed(name: str, size: int) -> dict[str, Any]:
    """One network: how far it comes, and what it says there."""
    start = time.perf_counter()
    row: dict[str, Any] = {"network": name, "image": size}
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            _steps(name, size, row)
        except Exception as error:  # a survey goes on
            row["message"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    for warning in caught:
        text = " ".join(str(warning.message).split())
        if issubclass(warning.category, cimq.CimqWarning) and text not in said:
            said.append(text)
    row["warnings"] = said
    row["seconds"] = round(time.perf_counter() - start, 1)
    return row


def _steps(name: str, size: int, row: dict[str, Any]) -> None:
    model, x = built(name).eval(), images(3, size)
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        cimq.reestimate_bn(model, [x])  # random weights: a trained model has batch statistics of its own
    # GoogLeNet and Inception do not call their auxiliary heads in evaluation.
    heads = [child for child, _ in model.named_children() if child.lower().startswith("aux")]
    row["of"] = sum(isinstance(module, (nn.Conv2d, nn.Conv1d, nn.Linear)) for module in model.modules())
    q = cimq.prepare(model, cimq.Policy.uniform(4, 4), inplace=True, exclude=heads).eval()
    cimq.calibrate(q, [x])
    layers = quant_layers(q)
    row["layers"] = len(layers)
    row["fp32"] = [layer for layer, module in layers if module.left_fp32]
    row["parameters"] = sum(parameter.numel() for parameter in q.parameters())
    with torch.no_grad():
        wanted = q(x)
    converted = cimq.convert(q)  # without a sample: right for every size of images
    with torch.no_grad():
        row["converted"] = bool(torch.equal(converted(x), wanted))
    with tempfile.TemporaryDirectory() as folder:
        bundle = cimq.export(converted, Path(folder) / "net.cimq", x[:2])
        row["exported"] = True
        onnx = bundle.manifest.get("onnx", {})
        row["onnx"] = onnx.get("status", onnx)
        y, outputs = bundle.run_layers(x)
        integers = layer_outputs(converted, x)
        row["executed"] = bool(torch.equal(y, wanted)) and outputs.keys() == integers.keys()
        row["executed"] &= all(torch.equal(outputs[layer], value) for layer, value in integers.items())
        row["values"] = sum(value.numel() for value in integers.values())


def markdown(rows: list[dict[str, Any]]) -> str:
    """The tables of docs/networks.md."""
    lines = ["| network | image | layers on crossbars | integers compared |", "| --- | --- | --- | --- |"]
    others = ["| network | layers on crossbars | converted, equal | what export says |", "| --- | --- | --- | --- |"]
    for row in rows:
        kept = f", {len(row['fp32'])} in fp32" if row.get("fp32") else ""
        layers = f"{row.get('layers', '-')}{kept}"
        if row.get("converted") and row.get("executed"):
            lines.append(f"| {row['network']} | {row['image']} | {layers} | {row['values']:,} |")
        else:
            said = re.sub(r"^\w+Error: ", "", row.get("message", "; ".join(row["warnings"])))
            others.append(f"| {row['network']} | {layers} | {'yes' if row.get('converted') else '**no**'} | {said} |")
    return "\n".join([*lines, "", *others])


def main() -> None:
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("networks", nargs="*", help="names, those of timm as timm:NAME (default: all of the lists)")
    arguments.add_argument("--source", choices=["all", "torchvision", "timm"], default="all")
    arguments.add_argument("--size", type=int, help="of the images, for networks that are not in the lists")
    arguments.add_argument("--markdown", action="store_true", help="print the tables of docs/networks.md")
    chosen = arguments.parse_args()
    listed = {f"timm:{name}": size for name, size in TIMM.items()}
    known = TORCHVISION | listed
    lists = {"all": known, "torchvision": TORCHVISION, "timm": listed}
    rows = []
    for name in chosen.networks or lists[chosen.source]:
        rows.append(surveyed(name, chosen.size or known.get(name, 64)))
        print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), file=sys.stderr, flush=True)
    if chosen.json:
        print(json.dumps({"environment": environment(), "rows": rows}, indent=1))
    elif chosen.markdown:
        print(markdown(rows))


if __name__ == "__main__":
    main()
