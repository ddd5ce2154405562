// What every instruction must fulfil.
#include <cstdint>

#include "common/error.h"
#include "common/mapping.h"
#include "compiler/ir/tiling.h"
#include "compiler/verify/verifier.h"

namespace cimq::compiler::verify {

void Verifier::visit(const isa::Configure& i) {
  if (!counting_) return;
  check(loops_.empty(), where(), ": CFG must stand outside of loops");
  check(i.layer == static_cast<std::int64_t>(layers_.size()), where(), ": layer must be ", layers_.size());
  const Node& node = node_of(i.node);
  check(node.crossbar && i.name == compiler::crossbar_of(node).layer_name, where(), ": '", i.node,
        "' is not the crossbar layer '", i.name, "'");
  check(configured_.insert(&node).second, where(), ": '", i.node, "' has a CFG already");
  const CrossbarLayer& facts = compiler::crossbar_of(node);
  const Layer layer{&node, tile_layer(program_.hardware, facts)};
  check(layer.is_described_by(i), where(), ": CFG does not describe layer '", facts.layer_name, "' on this hardware");
  tiles_ += layer.tiling.tiles();
  check(tiles_ <= kMaxTiles, where(), ": more than ", kMaxTiles, " tiles");
  layers_.push_back(layer);
  products_.add_layer({facts.layer_name, layer.tiling.tiles(), layer.tiling.digits, facts.repeats, facts.invocations});
}

void Verifier::visit(const isa::Quantize& i) {
  const Layer& layer = layer_of(i.layer);
  if (i.operand) return quantise_operand(layer, i);
  const CrossbarLayer& facts = layer.facts();
  const std::int64_t magnitudes = std::int64_t{1} << (facts.act_bits - (facts.act_signed ? 1 : 0));
  check(i.lo == (facts.act_signed ? -magnitudes : 0) && i.hi == magnitudes - 1, where(), ": the range must be that of ",
        facts.act_bits, " bits");
  check(i.zero == facts.act_zero, where(), ": zero must be ", facts.act_zero, ", got ", i.zero);
  const RowSpan rows = span_of(i.rows, rows_of(graph_.shape_of(layer.node->inputs[0])));
  read_node(i.src, name_of_input(*layer.node, 0), rows.end);
  is_tensor(layer, "x_scale", i.scale);
  const Register content{Register::kQuantized, i.layer, {}, {}, 0};
  if (rows.begin > 0) hold(i.dst, content);
  set(i.dst, content);
  if (!again_) values_.quantise(i.dst, rows, where());
}

void Verifier::quantise_operand(const Layer& layer, const isa::Quantize& i) {
  check(layer.writes_operand(), where(), ": layer ", i.layer, " has no input that its crossbars hold");
  const IntegerRange range = weight_range(layer.facts().weight_bits);
  check(i.lo == range.lo && i.hi == range.hi && i.zero == 0, where(), ": the range must be that of weights of ",
        layer.facts().weight_bits, " bits, with zero 0");
  check(!i.rows, where(), ": an input that crossbars hold is quantised as a whole");
  read_node(i.src, name_of_input(*layer.node, 1), rows_of(graph_.shape_of(layer.node->inputs[1])));
  is_tensor(layer, "w_scale", i.scale);
  set(i.dst, {Register::kOperand, i.layer, {}, {}, 0});
}

void Verifier::visit(const isa::Write& i) {
  const Layer& layer = layer_of(i.layer);
  const std::int64_t tile = tile_of(layer, i.tile);
  const isa::Region region = layer.tiling.region(tile);
  check(!i.region || *i.region == region, where(), ": tile ", tile, " must be rows ", region.row_begin, "..",
        region.row_end, ", columns ", region.column_begin, "..", region.column_end);
  const std::int64_t crossbar = crossbar_of(i.crossbar);
  const auto& crossbars = program_.hardware.resources.crossbars;
  check(!crossbars || crossbar < *crossbars, where(), ": the hardware has ", crossbars.value_or(0),
        " crossbars, got number ", crossbar);
  check(crossbar < kMaxCrossbars, where(), ": a program uses crossbars 0 to ", kMaxCrossbars - 1, ", got number ",
        crossbar);
  is_weight(layer, i.layer, i.weight);
  check(!layer.writes_operand() || of_one_sample(), where(), ": a value is written in a loop over samples");
  state_.write(crossbar, held(layer, i.layer, tile, bounded("repeat", i.repeat, layer.facts().repeats)));
  if (counting_) add(setup_ ? counts_.setup_writes : counts_.writes, times_);
}

void Verifier::visit(const isa::Gather& i) {
  const Layer& layer = layer_of(i.layer);
  hold(i.src, {Register::kQuantized, i.layer, {}, {}, 0});
  const Affine at = bounded("at", i.at, layer.facts().invocations);
  const std::int64_t row = verify::highest(at, loops_.counts()) / vectors_per_row(*layer.node);
  if (!again_) values_.need_quantised(i.src, rows_needed(graph_, *layer.node, 0, row + 1), where());
  const Affine repeat = bounded("repeat", i.repeat, layer.facts().repeats);
  set(i.dst, {Register::kVector, i.layer, repeat, at, state_.sample()}, lane_of(i.lane));
}

void Verifier::visit(const isa::Mvm& i) {
  const Layer& layer = layer_of(i.layer);
  const std::int64_t tile = tile_of(layer, i.tile);
  const std::int64_t crossbar = crossbar_of(i.crossbar);
  const Affine repeat = bounded("repeat", i.repeat, layer.facts().repeats);
  const Affine at = bounded("at", i.at, layer.facts().invocations);
  check(state_.holds(crossbar, held(layer, i.layer, tile, repeat)), where(), ": crossbar ", crossbar,
        " does not hold tile ", tile, " of layer ", i.layer);
  check(i.digit_begin >= 0 && i.digit_begin < i.digit_end && i.digit_end <= layer.tiling.digits, where(),
        ": digits must lie in [0, ", layer.tiling.digits, ")");
  hold(i.src, {Register::kVector, i.layer, repeat, at, state_.sample()}, lane_of(i.lane));
  set(i.acc, {Register::kAcc, i.layer, {}, {}, 0});
  if (!counting_) return;
  const Box box{i.layer, tile, i.digit_begin, i.digit_end, {repeat, 1}, {at, 1}, at_, 0};
  products_.made(box, i.acc);
  add(counts_.mvms, multiplied(times_, i.digit_end - i.digit_begin));
}

void Verifier::visit(const isa::ShiftAdd& i) {
  const Layer& layer = layer_of(i.layer);
  bool fits = static_cast<int>(i.shifts.size()) == layer.tiling.slices;
  for (std::size_t s = 0; fits && s < i.shifts.size(); ++s) {
    fits = i.shifts[s] == static_cast<std::int64_t>(s) * program_.hardware.cell_bits;
  }
  check(fits, where(), ": shifts must be one multiple of ", program_.hardware.cell_bits, " per slice");
  hold(i.acc, {Register::kAcc, i.layer, {}, {}, 0});
  const CrossbarLayer& facts = layer.facts();
  const Range repeat = i.repeat ? Range{bounded("repeat", *i.repeat, facts.repeats), 1} : Range{{}, facts.repeats};
  const Range at = i.at ? Range{bounded("at", *i.at, facts.invocations), 1} : Range{{}, facts.invocations};
  set(i.dst, {Register::kY, i.layer, {}, {}, 0});
  if (!counting_) return;
  spend(layer.tiling.tiles());
  products_.add_up({i.layer, 0, 0, 1, repeat, at, at_, 0}, i.acc, i.dst, loops_.counts());
}

void Verifier::visit(const isa::Requantize& i) {
  const Layer& layer = layer_of(i.layer);
  check(i.dst == layer.node->name, where(), ": dst must be '", layer.node->name, "'");
  const int zero = layer.facts().act_zero;
  check(i.zero == zero, where(), ": zero must be ", zero, ", got ", i.zero);
  if (zero != 0) is_weight(layer, i.layer, i.weight);
  hold(i.src, {Register::kY, i.layer, {}, {}, 0});
  is_tensor(layer, "multiplier", i.multiplier);
  const bool adds_nothing = layer.writes_operand();
  if (!adds_nothing) is_tensor(layer, "bias", i.bias);
  check(!adds_nothing || i.bias.empty(), where(), ": layer ", i.layer, " has no bias");
  const RowSpan rows = span_of(*layer.node, i.rows);
  if (!counting_) return;
  const std::int64_t each = vectors_per_row(*layer.node);
  products_.check_complete(i.src, i.layer, {{rows.begin * each, {}}, (rows.end - rows.begin) * each}, where());
  produce(*layer.node, rows);
}

void Verifier::visit(const isa::Vector& i) {
  const Node& node = node_of(i.dst);
  check(!node.crossbar && i.fn == name_of(node.op), where(), ": '", i.dst, "' is computed by ", name_of(node.op));
  check(i.src.size() == node.inputs.size(), where(), ": ", i.fn, " of '", i.dst, "' has ", node.inputs.size(),
        " inputs");
  const RowSpan rows = span_of(node, i.rows);
  for (std::size_t k = 0; k < i.src.size(); ++k) {
    const std::string& name = name_of_input(node, k);
    check(i.src[k] == name, where(), ": input ", k, " of '", i.dst, "' must be '", name, "'");
    read_node(name, name, rows_needed(graph_, node, k, rows.end));
  }
  if (counting_) produce(node, rows);
}

}  // namespace cimq::compiler::verify
