#include "runtime/interpreter/machine.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>

#include "compiler/ir/rows.h"

namespace cimq::runtime {

using compiler::RowLayout;
using compiler::isa::Index;
namespace isa = compiler::isa;

namespace {

/// `body(begin, length)` for every part in memory of rows [first, first + count).
template <typename Body>
void each_part(const RowLayout& layout, std::int64_t first, std::int64_t count, const Body& body) {
  for (std::int64_t block = 0; block < layout.blocks; ++block) {
    body((block * layout.rows + first) * layout.length, count * layout.length);
  }
}

std::int64_t key_of(const ProgramLayer& layer, std::int64_t repeat, std::int64_t at) {
  return repeat * layer.facts().invocations + at;
}

}  // namespace

void Machine::run(std::size_t begin, std::size_t end) {
  for (std::size_t at = begin; at < end; ++at) {
    const isa::Instruction& instruction = program_.code[at];
    const auto* loop = std::get_if<isa::Loop>(&instruction);
    if (loop == nullptr) {
      std::visit([this](const auto& i) { step(i); }, instruction);
      continue;
    }
    const std::size_t close = layers_.loop_ends[at];
    run_loop(*loop, at + 1, close);
    at = close;
  }
}

void Machine::run_loop(const isa::Loop& loop, std::size_t begin, std::size_t end) {
  if (loop.samples) {
    for (Sample& sample : samples_) {
      now_ = &sample;
      run(begin, end);
    }
    return;
  }
  loops_.emplace_back(loop.variable, 0);
  const std::size_t depth = loops_.size() - 1;
  for (std::int64_t i = 0; i < loop.count; ++i) {
    loops_[depth].second = i;
    run(begin, end);
  }
  loops_.pop_back();
}

void Machine::begin_samples(std::int64_t first, std::int64_t count, const float* x) {
  const std::int64_t elements = compiler::elements(graph_.input_shape);
  samples_.clear();
  samples_.resize(static_cast<std::size_t>(count));
  for (Sample& sample : samples_) {
    sample.number = first++;
    sample.values[program_.input].assign(x, x + elements);
    x += elements;
  }
  now_ = samples_.data();
}

const std::vector<float>& Machine::result(std::int64_t number, const std::string& node) const {
  return sample(number).values.at(node);
}

const std::vector<std::int32_t>& Machine::integers(std::int64_t number, std::int64_t layer) const {
  return sample(number).results.at(layer).integers;
}

const std::vector<float>& Machine::floats(std::int64_t number, std::int64_t layer) const {
  return sample(number).results.at(layer).floats;
}

std::int64_t Machine::value_of(const Index& index) const {
  std::int64_t value = index.base;
  for (const isa::Term& term : index.terms) {
    const auto loop = std::ranges::find(loops_, term.variable, &std::pair<std::string, std::int64_t>::first);
    value += term.stride * loop->second;
  }
  return value;
}

Machine::RowsNow Machine::rows_now(const std::optional<isa::Rows>& rows, std::int64_t all) const {
  if (!rows) return {0, all, all};
  return {value_of(rows->first), rows->count, all};
}

const LayerCells& Machine::cells_of(std::int64_t layer, std::int64_t repeat) const {
  const std::vector<LayerCells>& groups = layers_.layers[static_cast<std::size_t>(layer)].groups;
  return (groups.empty() ? now_->operands.at(layer).matrices : groups)[static_cast<std::size_t>(repeat)];
}

void Machine::step(const isa::Quantize& i) {
  const ProgramLayer& layer = layers_.layers[static_cast<std::size_t>(i.layer)];
  const std::vector<float>& x = now_->values.at(i.src);
  if (i.operand) {
    Operand& operand = now_->operands[i.layer];
    operand.integers = layer.operand()->quantizer(x.data(), static_cast<std::int64_t>(x.size()));
    operand.matrices = layer.written(program_.hardware, operand.integers);
    return;
  }
  const RowLayout layout = compiler::row_layout(layer.input);
  const RowsNow rows = rows_now(i.rows, layout.rows);
  std::vector<std::uint8_t>& levels = now_->levels[i.dst];
  if (rows.begins()) levels.assign(x.size(), 0);
  each_part(layout, rows.first, rows.count, [&](std::int64_t at, std::int64_t length) {
    const std::vector<std::uint8_t> part = layer.quantizer(x.data() + at, length);
    std::ranges::copy(part, levels.begin() + at);
  });
}

void Machine::step(const isa::Write& i) {
  const ProgramLayer& layer = layers_.layers[static_cast<std::size_t>(i.layer)];
  const LayerCells& cells = cells_of(i.layer, value_of(i.repeat));
  crossbars_[value_of(i.crossbar)] = std::make_shared<TileCells>(cells.program(layer.tiling.region(value_of(i.tile))));
}

void Machine::step(const isa::Gather& i) {
  const ProgramLayer& layer = layers_.layers[static_cast<std::size_t>(i.layer)];
  now_->vectors[i.dst][value_of(i.lane)] = layer.vector_of(now_->levels.at(i.src), value_of(i.repeat), value_of(i.at));
}

void Machine::step(const isa::Mvm& i) {
  const ProgramLayer& layer = layers_.layers[static_cast<std::size_t>(i.layer)];
  const std::int64_t repeat = value_of(i.repeat);
  const std::int64_t at = value_of(i.at);
  std::vector<std::int64_t>& sums = now_->sums[i.acc][key_of(layer, repeat, at)];
  sums.resize(static_cast<std::size_t>(layer.tiling.columns));
  const auto access = static_cast<std::uint64_t>(now_->number * layer.facts().invocations + at);
  cells_of(i.layer, repeat)
      .multiply(*crossbars_.at(value_of(i.crossbar)), value_of(i.tile) / layer.tiling.column_tiles,
                {now_->vectors.at(i.src).at(value_of(i.lane)), access}, static_cast<int>(i.digit_begin),
                static_cast<int>(i.digit_end), sums);
}

void Machine::step(const isa::ShiftAdd& i) {
  const compiler::CrossbarLayer& facts = layers_.layers[static_cast<std::size_t>(i.layer)].facts();
  const std::int64_t first_group = i.repeat ? value_of(*i.repeat) : 0;
  const std::int64_t last_group = i.repeat ? first_group + 1 : facts.repeats;
  const std::int64_t first = i.at ? value_of(*i.at) : 0;
  const std::int64_t last = i.at ? first + 1 : facts.invocations;
  for (std::int64_t repeat = first_group; repeat < last_group; ++repeat) {
    for (std::int64_t at = first; at < last; ++at) add_up(i, repeat, at);
  }
}

void Machine::add_up(const isa::ShiftAdd& i, std::int64_t repeat, std::int64_t at) {
  const ProgramLayer& layer = layers_.layers[static_cast<std::size_t>(i.layer)];
  const LayerCells& cells = cells_of(i.layer, repeat);
  Sums& sums = now_->sums.at(i.acc);
  const std::int64_t key = key_of(layer, repeat, at);
  Products& products = now_->products[i.dst];
  const auto size = static_cast<std::size_t>(compiler::elements(layer.node->shape));
  const auto place = [&](auto& all) {
    all.resize(size);
    std::remove_reference_t<decltype(all)> y(static_cast<std::size_t>(layer.facts().outputs));
    cells.add_up(sums.at(key), std::span(y));
    for (std::size_t o = 0; o < y.size(); ++o) {
      all[static_cast<std::size_t>(layer.place_of(repeat, at, static_cast<std::int64_t>(o)))] = y[o];
    }
  };
  if (layer.exact()) {
    place(products.integers);
  } else {
    place(products.floats);
  }
  sums.erase(key);
}

void Machine::step(const isa::Requantize& i) {
  const ProgramLayer& layer = layers_.layers[static_cast<std::size_t>(i.layer)];
  const Products& products = now_->products.at(i.src);
  const RowLayout layout = compiler::row_layout(layer.node->shape);
  const RowsNow rows = rows_now(i.rows, layout.rows);
  std::vector<float>& out = result_in_rows(*layer.node, rows);
  const auto requantize = [&](const auto& y) {
    std::remove_cvref_t<decltype(y)> part;
    each_part(layout, rows.first, rows.count, [&](std::int64_t at, std::int64_t length) {
      part.insert(part.end(), y.begin() + at, y.begin() + at + length);
    });
    std::vector<float> result(part.size());
    rescale(i.layer, part, rows.count, result);
    auto next = result.cbegin();
    each_part(layout, rows.first, rows.count, [&](std::int64_t at, std::int64_t length) {
      std::copy(next, next + length, out.begin() + at);
      next += length;
    });
  };
  if (layer.exact()) {
    requantize(products.integers);
  } else {
    requantize(products.floats);
  }
  if (rows.ends()) now_->results[i.layer] = products;
}

/// Whole rows of Y, or all of it where crossbars hold an input.
template <typename T>
void Machine::rescale(std::int64_t number, const std::vector<T>& y, std::int64_t rows,
                      std::vector<float>& result) const {
  const ProgramLayer& layer = layers_.layers[static_cast<std::size_t>(number)];
  const auto all = static_cast<std::int64_t>(y.size());
  if (const WrittenOperand* operand = layer.operand()) {
    const compiler::CrossbarLayer& facts = layer.facts();
    const std::vector<std::int8_t>& w = now_->operands.at(number).integers;
    const std::int64_t each = all / facts.repeats;
    for (std::int64_t r = 0; r < facts.repeats; ++r) {
      operand->rescale(y.data() + r * each, w.data() + r * facts.outputs * facts.inputs_per_output, facts.invocations,
                       result.data() + r * each);
    }
    return;
  }
  const auto& rescale = std::get<Rescale>(layer.rest);
  const std::int64_t inner = compiler::is_conv(layer.node->op) ? rows * vectors_per_row(*layer.node) : 1;
  rescale(y.data(), all / (inner * rescale.outputs()), inner, result.data());
}

void Machine::step(const isa::Vector& i) {
  const compiler::Node& node = *layers_.nodes.at(i.dst);
  std::vector<const float*> inputs;
  inputs.reserve(i.src.size());
  for (const std::string& name : i.src) inputs.push_back(now_->values.at(name).data());
  std::vector<float> all(static_cast<std::size_t>(compiler::elements(node.shape)));
  // Steps know whole values only. Rows that are not there yet are no numbers, and neither is what needs them.
  layers_.steps.at(i.dst)->run(1, inputs, all.data(), nullptr, {1, now_->number});
  const RowLayout layout = compiler::row_layout(node.shape);
  const RowsNow rows = rows_now(i.rows, layout.rows);
  std::vector<float>& out = result_in_rows(node, rows);
  each_part(layout, rows.first, rows.count,
            [&](std::int64_t at, std::int64_t length) { std::copy_n(all.begin() + at, length, out.begin() + at); });
}

std::vector<float>& Machine::result_in_rows(const compiler::Node& node, const RowsNow& rows) {
  std::vector<float>& out = now_->values[node.name];
  if (rows.begins()) {
    out.assign(static_cast<std::size_t>(compiler::elements(node.shape)), std::numeric_limits<float>::quiet_NaN());
  }
  return out;
}

}  // namespace cimq::runtime
