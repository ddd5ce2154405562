"""What `doctor` measures of one layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DoctorRow:
    """What one layer adds to the error, each cause by itself, for the inputs that the fp32 network gives it.

    Signal-to-noise ratios are 10 log10(sum of squares of the layer's fp32 product / sum of squared differences) in
    dB, inf without any difference. Of a converted model without a reference, "fp32" is the network of its integer
    weights, with nothing else quantised.

    Attributes:
        layer: Name of the layer, as in a policy.
        weight_bits: Bits of its weight.
        act_bits: Bits of its input.
        act_sqnr_db: With the input quantised, the weight not.
        weight_sqnr_db: With the weight quantised, the input not; None where the fp32 weight is not known.
        adc_sqnr_db: What the converters add to the digital product of the integers.
        cell_sqnr_db: What cells add (variation, stuck cells, drift, wires, reads) to ideal cells with those converters.
        sqnr_db: All of it.
        clipped_inputs: Share of the inputs beyond the largest or smallest integer of the activation scale.
        clip_error: Share of the squared error of the inputs that those make.
        used_input_codes: Share of the input's integers that occur.
        output_sqnr_db: Of the network's output when this layer alone is quantised; how much the layer matters.
        output_without_adc_db: The same with ideal converters in this layer.
        output_without_cell_db: The same with cells that hold what they should.
        cause: The largest of those known: "act", "weight", "adc" or "cell".
    """

    layer: str
    weight_bits: int
    act_bits: int
    act_sqnr_db: float
    weight_sqnr_db: float | None
    adc_sqnr_db: float
    cell_sqnr_db: float
    sqnr_db: float
    clipped_inputs: float
    clip_error: float
    used_input_codes: float
    output_sqnr_db: float
    output_without_adc_db: float
    output_without_cell_db: float
    cause: str
