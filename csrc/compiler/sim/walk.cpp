#include "compiler/sim/walk.h"

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "compiler/cost/tier1.h"

namespace cimq::compiler::sim {
namespace {

constexpr std::int64_t kMaxSteps = std::int64_t{1} << 31;

std::int64_t& count(SimulatedLayer& layer, EnergyPart part) { return layer.events[static_cast<std::size_t>(part)]; }

void add(std::int64_t& sum, std::int64_t more) { sum = checked_sum(sum, more, "the time of all crossbars in ps"); }

}  // namespace

Walk::Walk(const Steps& steps, Trace* trace)
    : steps_(steps),
      hardware_(steps.program.hardware),
      trace_(trace),
      write_ps_(picoseconds(hardware_.timing.write_time_us)),
      ports_(hardware_.resources.parallel_writes),
      buffer_(hardware_.resources.buffer_bytes),
      values_(steps.values, std::vector<Value>(1)),
      sums_(steps.layers.size()) {
  for (const LayerFacts& facts : steps.layers) {
    result_.layers.emplace_back();
    result_.layers.back().name = facts.name;
  }
}

SimulatedTime Walk::run() {
  const auto is_ready = [](const isa::Instruction& i) { return std::holds_alternative<isa::Ready>(i); };
  const auto ready = std::ranges::find_if(steps_.program.code, is_ready);
  std::size_t begin = 0;
  if (ready != steps_.program.code.end()) {
    begin = static_cast<std::size_t>(ready - steps_.program.code.begin()) + 1;
    setup_ = true;
    walk(0, begin - 1, true);
    setup_ = false;
  }
  walk(begin, steps_.code.size(), true);
  finish();
  return std::move(result_);
}

void Walk::walk(std::size_t begin, std::size_t end, bool outermost) {
  for (std::size_t at = begin; at < end; ++at) {
    const Step& step = steps_.code[at];
    if (step.kind == StepKind::kLoop) {
      walk_loop(at, outermost);
      at = step.end;
    } else {
      take(at);
    }
    if (outermost) release_registers(at);
  }
}

void Walk::walk_loop(std::size_t at, bool outermost) {
  const Step& step = steps_.code[at];
  const std::size_t release = next_release_;
  counters_.push_back(0);
  const std::size_t depth = counters_.size() - 1;
  for (std::int64_t i = 0; i < step.count; ++i) {
    counters_[depth] = i;
    if (step.samples) sample_ = i;
    next_release_ = release;  // every sample releases what it uses last
    walk(at + 1, step.end, outermost && step.samples);
  }
  if (step.samples) sample_ = 0;
  counters_.pop_back();
}

void Walk::take(std::size_t at) {
  check(++count_ <= kMaxSteps, line_of(at), ": the program runs more than ", kMaxSteps, " instructions");
  const Step& step = steps_.code[at];
  switch (step.kind) {
    case StepKind::kNothing:
    case StepKind::kLoop:
      return;
    case StepKind::kQuantize:
      return quantize(step);
    case StepKind::kWrite:
      return write(step);
    case StepKind::kGather:
      return gather(step, at);
    case StepKind::kMvm:
      return mvm(step, at);
    case StepKind::kShiftAdd:
      return shift_add(step);
    case StepKind::kRequantize:
      return requantize(step);
    case StepKind::kVector:
      return vector(step);
  }
}

Walk::Crossbar& Walk::crossbar(std::int64_t number) {
  const auto at = static_cast<std::size_t>(number);
  if (at >= crossbars_.size()) crossbars_.resize(std::max(at + 1, 2 * crossbars_.size()));
  Crossbar& found = crossbars_[at];
  if (!found.used) ++result_.crossbars.parts;
  found.used = true;
  return found;
}

Value& Walk::value(std::int32_t number, std::int64_t part) {
  std::vector<Value>& parts = values_[static_cast<std::size_t>(number)];
  const auto at = static_cast<std::size_t>(part);
  if (at >= parts.size()) parts.resize(at + 1);
  return parts[at];
}

Moment Walk::space(const Moment& at, std::int64_t bytes, const Request& request, std::int32_t layer) {
  const std::int64_t from = buffer_.take(at.time_ps, bytes, request);
  return chains_.spend(at, layer, Cause::kStall, from - at.time_ps);
}

Moment Walk::on_vector_unit(const Moment& at, std::int32_t layer, std::int64_t ps) {
  const Moment end = vector_unit_.run(chains_, at, layer, ps);
  if (trace_ != nullptr && ps > 0) trace_->add({Track::kVectorUnit, 0}, layer, Cause::kDigital, end.time_ps - ps, ps);
  done(end);
  return end;
}

Moment Walk::on_bus(Unit& direction, Track track, const Moment& at, std::int32_t layer, std::int64_t ps) {
  const Moment end = direction.run(chains_, at, layer, ps);
  if (trace_ != nullptr && ps > 0) trace_->add({track, 0}, layer, Cause::kMove, end.time_ps - ps, ps);
  done(end);
  return end;
}

void Walk::quantize(const Step& step) {
  Value& dst = value(step.dst);
  Moment begin = value(step.src[0]).ready;
  // Further rows come beside those that are read.
  const bool further = step.first_row && step.first_row->at(counters_) > 0;
  if (!further) begin = later(begin, dst.last_read);
  if (layer(step.layer).begin_ps < 0) layer(step.layer).begin_ps = begin.time_ps;
  const Moment end = on_vector_unit(begin, step.layer, step.vector_ps);
  dst.ready = further ? later(dst.ready, end) : end;
}

void Walk::write(const Step& step) {
  const std::int64_t number = step.crossbar.at(counters_);
  Crossbar& crossbar = this->crossbar(number);
  if (setup_) return;
  Moment begin = crossbar.free;
  for (const std::int32_t written : step.src) begin = later(begin, value(written).ready);
  const Moment end = chains_.spend(ports_.begin(begin), step.layer, Cause::kWrite, write_ps_);
  ports_.end(end);
  crossbar.free = end;
  done(end);
  if (trace_ != nullptr) {
    trace_->add({Track::kCrossbar, number}, step.layer, Cause::kWrite, end.time_ps - write_ps_, write_ps_);
  }
  SimulatedLayer& layer = this->layer(step.layer);
  ++layer.writes;
  ++count(layer, EnergyPart::kWrite);
  add(layer.write_ps, write_ps_);
}

void Walk::gather(const Step& step, std::size_t at) {
  const LayerFacts& facts = this->facts(step.layer);
  Value& from = value(step.src[0]);
  Value& to = value(step.dst, step.lane.at(counters_));
  // The half of the register that is filled is free since the last vector was handed over.
  Moment begin = later(from.ready, to.ready);
  if (to.bytes > 0) buffer_.give_back(later(to.ready, to.last_read).time_ps, to.bytes);
  begin = space(begin, facts.vector_bytes, {at, "IM2COL", "an input vector", facts.name}, step.layer);
  to.bytes = facts.vector_bytes;
  const Moment loaded = on_bus(vectors_in_, Track::kVectorsIn, begin, step.layer, facts.load_ps);
  from.read(loaded);
  to.ready = later(loaded, to.last_read);
  count(layer(step.layer), EnergyPart::kBuffer) += facts.vector_bytes;
  count(layer(step.layer), EnergyPart::kBus) += facts.vector_bytes;
}

void Walk::mvm(const Step& step, std::size_t at) {
  const LayerFacts& facts = this->facts(step.layer);
  const std::int64_t number = step.crossbar.at(counters_);
  Crossbar& crossbar = this->crossbar(number);
  Value& vector = value(step.src[0], step.lane.at(counters_));
  Moment begin = later(vector.ready, crossbar.free);
  Sums& sums = sums_[static_cast<std::size_t>(step.layer)];
  const std::int64_t key = vector_of(facts, step.repeat.at(counters_), step.at.at(counters_));
  Moment* sum = sums.find(key);
  if (sum == nullptr) {
    begin = space(begin, facts.sum_bytes, {at, "MVM", "the sums of an input vector", facts.name}, step.layer);
    sum = &sums.open(key);
  }
  const std::int64_t tile = step.tile.at(counters_);
  const auto columns = static_cast<std::int64_t>(facts.columns.size());
  const LayerFacts::ColumnTile& column = facts.columns[static_cast<std::size_t>(tile % columns)];
  const std::int64_t read_ps = step.digits * column.digit.read_ps;
  const std::int64_t wait_ps = step.digits * column.digit.wait_ps;
  Moment end = chains_.spend(begin, step.layer, Cause::kMvm, read_ps);
  end = chains_.spend(end, step.layer, Cause::kAdc, wait_ps);
  crossbar.free = end;
  vector.read(end);
  const Moment last_code = chains_.spend(end, step.layer, Cause::kAdc, column.digit.drain_ps);
  *sum = later(*sum, last_code);
  done(last_code);
  if (trace_ != nullptr) {
    trace_->add({Track::kCrossbar, number}, step.layer, Cause::kMvm, begin.time_ps, read_ps + wait_ps);
  }
  SimulatedLayer& layer = this->layer(step.layer);
  layer.mvms += step.digits;
  add(layer.mvm_ps, read_ps);
  add(layer.adc_ps, wait_ps);
  count(layer, EnergyPart::kMvm) += step.digits;
  count(layer, EnergyPart::kAdc) += step.digits * column.lines;
  count(layer, EnergyPart::kDac) += step.digits * facts.rows[static_cast<std::size_t>(tile / columns)];
  count(layer, EnergyPart::kDigital) += step.digits * column.lines;
}

void Walk::shift_add(const Step& step) {
  const LayerFacts& facts = this->facts(step.layer);
  Sums& sums = sums_[static_cast<std::size_t>(step.layer)];
  const std::int64_t first_group = step.all_repeat ? 0 : step.repeat.at(counters_);
  const std::int64_t groups = step.all_repeat ? facts.groups : 1;
  const std::int64_t first = step.all_at ? 0 : step.at.at(counters_);
  const std::int64_t vectors = step.all_at ? facts.vectors : 1;
  Moment ready;
  for (std::int64_t g = first_group; g < first_group + groups; ++g) {
    for (std::int64_t v = first; v < first + vectors; ++v) {
      const std::int64_t key = vector_of(facts, g, v);
      if (const Moment* sum = sums.find(key)) ready = later(ready, *sum);
      sums.close(key);
    }
  }
  const std::int64_t all = groups * vectors;
  const Moment added = on_vector_unit(ready, step.layer, vector_time_ps(hardware_, all * facts.lines));
  const Moment moved =
      on_bus(results_out_, Track::kResultsOut, added, step.layer, bus_time_ps(hardware_, all * facts.result_bytes));
  buffer_.give_back(moved.time_ps, all * facts.sum_bytes);
  Value& dst = value(step.dst);
  dst.ready = later(dst.ready, moved);
  count(layer(step.layer), EnergyPart::kBuffer) += all * facts.result_bytes;
  count(layer(step.layer), EnergyPart::kBus) += all * facts.result_bytes;
}

void Walk::requantize(const Step& step) {
  const Moment end = on_vector_unit(value(step.src[0]).ready, step.layer, step.vector_ps);
  value(step.dst).ready = end;
  layer(step.layer).end_ps = std::max(layer(step.layer).end_ps, end.time_ps);
}

void Walk::vector(const Step& step) {
  Moment ready;
  for (const std::int32_t number : step.src) ready = later(ready, value(number).ready);
  value(step.dst).ready = on_vector_unit(ready, kBetweenLayers, step.vector_ps);
}

void Walk::release_registers(std::size_t at) {
  while (next_release_ < steps_.last_uses.size() && steps_.last_uses[next_release_].first <= at) {
    for (Value& held : values_[static_cast<std::size_t>(steps_.last_uses[next_release_++].second)]) {
      if (held.bytes > 0) buffer_.give_back(later(held.ready, held.last_read).time_ps, held.bytes);
      held.bytes = 0;
    }
  }
}

void Walk::finish() {
  result_.time_ps = last_.time_ps;
  result_.batch = steps_.program.batch;
  result_.first_ps = value(steps_.output, 0).ready.time_ps;
  const std::vector<CauseTimes> along = chains_.along(last_, result_.layers.size());
  for (std::size_t i = 0; i < result_.layers.size(); ++i) result_.layers[i].critical = along[i];
  result_.between_layers = along.back();
  for (const CauseTimes& part : along) {
    for (std::size_t cause = 0; cause < kCauses; ++cause) result_.causes.ps[cause] += part.ps[cause];
  }
  for (SimulatedLayer& layer : result_.layers) {
    layer.begin_ps = std::max<std::int64_t>(0, layer.begin_ps);
    add(result_.write_ports.busy_ps, layer.write_ps);
    add(result_.crossbars.busy_ps, layer.write_ps);
    add(result_.crossbars.busy_ps, layer.mvm_ps);
    add(result_.crossbars.busy_ps, layer.adc_ps);
    if (trace_ != nullptr) {
      trace_->add_layer(static_cast<std::int32_t>(&layer - result_.layers.data()), layer.begin_ps, layer.end_ps);
    }
  }
  result_.write_ports.parts = hardware_.resources.parallel_writes.value_or(0);
  result_.bus_in = {vectors_in_.busy_ps(), 1};
  result_.bus_out = {results_out_.busy_ps(), 1};
  result_.vector_unit = {vector_unit_.busy_ps(), 1};
  result_.buffer_bytes = buffer_.need_bytes();
}

}  // namespace cimq::compiler::sim
