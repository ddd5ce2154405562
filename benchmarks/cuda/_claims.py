"""The claims on CUDA kernels that one run checks: what is asked, what was found, met or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# The case that a claim is about; this module is read where cimq is not built yet.
BANDWIDTH_CASE = "fake_quantize: activations"

INT8_SHARE = "crossbar product with an 8-bit converter: share of the rate of plain int8 products"
OVER_LOOP = "the same, over a loop in PyTorch on the same device"
COPY_SHARE = "fake quantisation: share of the bandwidth of a copy"
EAGER_STEP = "training step of ResNet-18, 4 bits, over the fp32 step (both eager)"
COMPILED_STEP = "the same with torch.compile, over the eager fp32 step"
AMX_TABLES = "AMX: speed over tables of sums, the same layer"
AMX_MATMUL = "AMX: time over torch's fp32 matmul"
AMX_NOISE = "AMX: time with noisy cells over the time without noise"


@dataclass(frozen=True)
class Asked:
    """A claim holds where the number found is at least, or at most, the bound."""

    bound: float
    at_least: bool
    share: bool = False

    def holds(self, found: float) -> bool:
        return found >= self.bound if self.at_least else found <= self.bound

    def number(self, value: float) -> str:
        return f"{100 * value:.1f} %" if self.share else f"{value:.2f}x"

    @property
    def text(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.number(self.bound)}"


CUDA_CLAIMS = {
    INT8_SHARE: Asked(0.35, True, share=True),
    OVER_LOOP: Asked(20.0, True),
    COPY_SHARE: Asked(0.80, True, share=True),
    EAGER_STEP: Asked(1.3, False),
    COMPILED_STEP: Asked(1.3, False),
}
AMX_CLAIMS = {AMX_TABLES: Asked(2.2, True), AMX_MATMUL: Asked(2.5, False), AMX_NOISE: Asked(2.0, False)}
CLAIMS = CUDA_CLAIMS | AMX_CLAIMS


@dataclass(frozen=True)
class Verdict:
    claim: str
    asked: str
    found: str
    verdict: str  # met, not met, not measured


def verdicts(claims: Mapping[str, Asked], found: Mapping[str, float], why_not: Mapping[str, str]) -> list[Verdict]:
    """One per claim, in their order; what was not measured says why (`why_not`, by claim)."""
    rows = []
    for claim, asked in claims.items():
        if claim in found:
            value = found[claim]
            verdict = "met" if asked.holds(value) else "not met"
            rows.append(Verdict(claim, asked.text, asked.number(value), verdict))
        else:
            rows.append(Verdict(claim, asked.text, why_not.get(claim, "not run"), "not measured"))
    return rows
