#include "compiler/sim/simulate.h"

#include <algorithm>
#include <optional>
#include <queue>
#include <unordered_map>
#include <utility>

#include "common/error.h"
#include "compiler/cost/tier1.h"

namespace cimq::compiler {
namespace {

constexpr std::int64_t kMaxSteps = std::int64_t{1} << 31;

/// A point in time, and what the chain of instructions that led to it spent on writing and multiplying.
struct Moment {
  std::int64_t time_ps = 0, write_ps = 0, mvm_ps = 0;
};

/// The later one; of equal ones the first.
Moment later(const Moment& a, const Moment& b) { return b.time_ps > a.time_ps ? b : a; }

/// A value, or a register that is filled again and again.
struct Place {
  Moment ready;      ///< what it holds is there
  Moment last_read;  ///< it may be filled again
};

/// Ports through which crossbars are written.
class WritePorts {
 public:
  explicit WritePorts(const std::optional<std::int64_t>& count) : unused_(count) {}

  /// When a write that is otherwise ready at `at` may begin.
  Moment begin(const Moment& at) {
    if (!unused_) return at;
    if (*unused_ > 0) {
      --*unused_;
      return at;
    }
    const Moment free = busy_.top();
    busy_.pop();
    return later(at, free);
  }
  void end(const Moment& at) {
    if (unused_) busy_.push(at);
  }

 private:
  struct Later {
    bool operator()(const Moment& a, const Moment& b) const { return a.time_ps > b.time_ps; }
  };
  std::optional<std::int64_t> unused_;  // ports that no write has gone through yet; none: no limit
  std::priority_queue<Moment, std::vector<Moment>, Later> busy_;
};

class Simulator {
 public:
  explicit Simulator(const Program& program)
      : program_(program),
        ends_(loop_ends(program)),
        write_ps_(picoseconds(program.hardware.timing.write_time_us)),
        mvm_ps_(picoseconds(program.hardware.timing.mvm_time_us)),
        ports_(program.hardware.resources.parallel_writes) {}

  SimulatedTime run() {
    const auto is_ready = [](const isa::Instruction& i) { return std::holds_alternative<isa::Ready>(i); };
    const auto ready = std::ranges::find_if(program_.code, is_ready);
    const std::size_t end = program_.code.size();
    std::size_t begin = 0;
    if (ready != program_.code.end()) {
      begin = static_cast<std::size_t>(ready - program_.code.begin()) + 1;
      setup_ = true;
      walk(0, begin - 1);
      setup_ = false;
    }
    walk(begin, end);
    result_.time_ps = last_.time_ps;
    result_.write_ps = last_.write_ps;
    result_.mvm_ps = last_.mvm_ps;
    result_.crossbars = static_cast<std::int64_t>(crossbars_.size());
    for (const SimulatedLayer& layer : result_.layers) {
      result_.busy_ps = sum(result_.busy_ps, sum(layer.write_ps, layer.mvm_ps));
    }
    return std::move(result_);
  }

 private:
  static std::int64_t sum(std::int64_t a, std::int64_t b) { return checked_sum(a, b, "the simulated time in ps"); }

  void walk(std::size_t begin, std::size_t end) {
    for (std::size_t at = begin; at < end; ++at) {
      check(++steps_ <= kMaxSteps, line_of(at), ": the program runs more than ", kMaxSteps, " instructions");
      const isa::Instruction& instruction = program_.code[at];
      const auto* loop = std::get_if<isa::Loop>(&instruction);
      if (loop == nullptr) {
        std::visit([this](const auto& i) { step(i); }, instruction);
        continue;
      }
      loops_.emplace_back(&loop->variable, 0);
      const std::size_t depth = loops_.size() - 1;
      for (std::int64_t i = 0; i < loop->count; ++i) {
        loops_[depth].second = i;
        walk(at + 1, ends_[at]);
      }
      loops_.pop_back();
      at = ends_[at];
    }
  }

  std::int64_t value_of(const isa::Index& index) const {
    std::int64_t value = index.base;
    for (const isa::Term& term : index.terms) {
      for (const auto& [variable, now] : loops_) {
        if (*variable == term.variable) value += term.stride * now;
      }
    }
    return value;
  }

  Place& place(const std::string& name, std::int64_t lane = 0) {
    std::vector<Place>& lanes = places_[name];
    if (lane >= static_cast<std::int64_t>(lanes.size())) lanes.resize(static_cast<std::size_t>(lane) + 1);
    return lanes[static_cast<std::size_t>(lane)];
  }
  SimulatedLayer& layer(std::int64_t number) { return result_.layers[static_cast<std::size_t>(number)]; }

  /// Fills a register once nobody reads it any more and its source is there.
  Moment fill(const std::string& name, const Moment& source, std::int64_t lane = 0) {
    Place& filled = place(name, lane);
    filled.ready = later(source, filled.last_read);
    return filled.ready;
  }
  static void read(Place& from, const Moment& at) { from.last_read = later(from.last_read, at); }

  void step(const isa::Loop&) {}
  void step(const isa::End&) {}
  void step(const isa::Ready&) {}
  void step(const isa::Configure& i) { result_.layers.push_back({i.name, 0, 0, 0, 0, 0, 0}); }

  void step(const isa::Quantize& i) {
    const Moment source = place(i.src).ready;
    if (i.rows && value_of(i.rows->first) > 0) {  // further rows, beside those that are read
      Place& filled = place(i.dst);
      filled.ready = later(filled.ready, source);
      return;
    }
    layer(i.layer).begin_ps = fill(i.dst, source).time_ps;
  }

  void step(const isa::Write& i) {
    Moment& crossbar = crossbars_[value_of(i.crossbar)];
    if (setup_) return;
    Moment end = ports_.begin(crossbar);
    end.time_ps = sum(end.time_ps, write_ps_);
    end.write_ps += write_ps_;
    ports_.end(end);
    crossbar = end;
    last_ = later(last_, end);
    ++layer(i.layer).writes;
    layer(i.layer).write_ps = sum(layer(i.layer).write_ps, write_ps_);
  }

  void step(const isa::Gather& i) {
    const Moment at = fill(i.dst, place(i.src).ready, value_of(i.lane));
    read(place(i.src), at);
  }

  void step(const isa::Mvm& i) {
    Moment& crossbar = crossbars_[value_of(i.crossbar)];
    Place& vector = place(i.src, value_of(i.lane));
    Moment end = later(vector.ready, crossbar);
    const std::int64_t digits = i.digit_end - i.digit_begin;
    const std::int64_t time = digits * mvm_ps_;
    end.time_ps = sum(end.time_ps, time);
    end.mvm_ps += time;
    crossbar = end;
    read(vector, end);
    Place& acc = place(i.acc);
    acc.ready = later(acc.ready, end);
    last_ = later(last_, end);
    layer(i.layer).mvms += digits;
    layer(i.layer).mvm_ps = sum(layer(i.layer).mvm_ps, time);
  }

  void step(const isa::ShiftAdd& i) {
    Place& y = place(i.dst);
    y.ready = later(y.ready, place(i.acc).ready);
  }

  void step(const isa::Requantize& i) {
    const Moment at = place(i.src).ready;
    place(i.dst).ready = at;
    layer_end_ = later(layer_end_, at);
    layer(i.layer).end_ps = at.time_ps;
  }

  void step(const isa::Vector& i) {
    Moment at;
    for (const std::string& name : i.src) at = later(at, place(name).ready);
    place(i.dst).ready = at;
  }

  const Program& program_;
  std::vector<std::size_t> ends_;
  std::int64_t write_ps_, mvm_ps_;
  WritePorts ports_;
  std::vector<std::pair<const std::string*, std::int64_t>> loops_;
  std::unordered_map<std::string, std::vector<Place>> places_;  // by lane
  std::unordered_map<std::int64_t, Moment> crossbars_;          // free from then on
  Moment layer_end_;                                            // of the layers so far
  Moment last_;
  bool setup_ = false;
  std::int64_t steps_ = 0;
  SimulatedTime result_;
};

}  // namespace

SimulatedTime simulate(const Program& program) { return Simulator(program).run(); }

}  // namespace cimq::compiler
