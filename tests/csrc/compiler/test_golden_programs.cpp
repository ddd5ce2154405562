// Programs of the closed-form pipeline, byte for byte: bundles that exist hold them, and a compiler that is rebuilt
// must write them again. A change of a digest is a change of the format.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "compiler/emit/program_jsonl.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/passes/pipeline.h"
#include "runtime/bundle_fixture.h"

using namespace cimq::compiler;
using cimq::Hardware;
using cimq::Mapping;

namespace {

struct Golden {
  Mapping mapping;
  int rows, cols, cell_bits, dac_bits;
  std::int64_t crossbars;  ///< 0: no limit
  int act_zero;            ///< of the convolution
  const char* digest;
};

std::string program_of(const Golden& golden) {
  auto layers = cimq::test::layers_of_small_net();
  if (golden.act_zero != 0) {
    layers["nodes"][0]["act_signed"] = false;
    layers["nodes"][0]["act_zero"] = golden.act_zero;
  }
  Hardware hardware;
  hardware.mapping = golden.mapping;
  hardware.rows = golden.rows;
  hardware.cols = golden.cols;
  hardware.cell_bits = golden.cell_bits;
  hardware.dac_bits = golden.dac_bits;
  hardware.resources.crossbars.reset();
  if (golden.crossbars != 0) hardware.resources.crossbars = golden.crossbars;
  return write_program(*compile_graph(read_layers(layers.dump()), hardware).program);
}

}  // namespace

TEST_CASE("Programs of the closed form are what they always were", "[program]") {
  const auto [mapping, rows, cols, cell_bits, dac_bits, crossbars, act_zero, digest] = GENERATE(values<Golden>({
      {Mapping::kDifferentialColumn, 256, 256, 4, 1, 1, 0,
       "a1671db5b25e214b6a4a5d962e7ba411f3ef05b025e27b302163220c99eeb52c"},
      {Mapping::kDifferentialColumn, 8, 8, 2, 1, 3, 0,
       "0d283210dad251036d775f5589d5f770b06e1dac241796c6171d7d26a52eb56e"},
      {Mapping::kDifferentialColumn, 7, 64, 1, 2, 0, -3,
       "ec6fd61b0a13b70d4df013e2d1526b149a2e422a4f0e07047c95785f17cd098a"},
      {Mapping::kDifferentialRow, 256, 256, 4, 1, 1, 0,
       "3e354b5b2febcfc0f1cd22fa98bc4fcadeda31a2e9108c2932fe2cd2141e5dab"},
      {Mapping::kDifferentialRow, 4, 5, 2, 2, 1, -31,
       "8992aa25a9489426ec1bf28372a7191202eb94eda86329c0f1dc449f3bfd46c1"},
      {Mapping::kDifferentialRow, 3, 5, 2, 2, 2, 0, "ea202c6d508bf0d6b6a6893207ab850ddf6409a6793cff7c8e3235aa88c804d6"},
      {Mapping::kOffset, 256, 256, 4, 1, 1, 0, "936da63e4ff6ddf564356c4cf326af7f3c7287c0bd0c736d1fcd8d62d177f43f"},
      {Mapping::kOffset, 2, 1, 1, 1, 5, -1, "b03a1a28867ad5e9d7c0382011f2031f97eb7ad8c69b4dde150ce5ffe5b4eb91"},
      {Mapping::kOffset, 8, 4, 2, 3, 0, 0, "96229586dea1e6efee8345994e07175d37773ff8da002b7e931cd94309f708ac"},
  }));
  const std::string text = program_of({mapping, rows, cols, cell_bits, dac_bits, crossbars, act_zero, digest});
  INFO(text.substr(0, 400));
  CHECK(cimq::runtime::sha256_hex(cimq::test::bytes_of(text)) == digest);
}
