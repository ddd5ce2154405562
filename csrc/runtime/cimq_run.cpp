// cimq-run: executes a bundle on a .npy file, or checks it against the results stored in it. No Python, no PyTorch.
#include <charconv>
#include <exception>
#include <iostream>
#include <string>

#include "common/error.h"
#include "runtime/executor.h"
#include "runtime/npy.h"

namespace {

constexpr const char* kUsage =
    "usage: cimq-run BUNDLE --input x.npy --output y.npy [--threads N]\n"
    "       cimq-run BUNDLE --check [--threads N]\n"
    "\n"
    "BUNDLE is a bundle folder (NAME.cimq). x.npy holds float32 [batch, ...] in C order.\n"
    "--check runs the sample stored in the bundle and compares every layer and the output; exit status 1 if any "
    "differs.\n";

struct Arguments {
  std::string bundle, input, output;
  bool check = false;
  bool help = false;
  int threads = 0;
};

Arguments parse(int argc, char** argv) {
  Arguments result;
  const auto value_of = [&](int& i) -> std::string {
    cimq::check(i + 1 < argc, argv[i], " needs a value");
    return argv[++i];
  };
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--help" || word == "-h") {
      result.help = true;
    } else if (word == "--check") {
      result.check = true;
    } else if (word == "--input") {
      result.input = value_of(i);
    } else if (word == "--output") {
      result.output = value_of(i);
    } else if (word == "--threads") {
      const std::string text = value_of(i);
      const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), result.threads);
      cimq::check(status == std::errc() && end == text.data() + text.size() && result.threads >= 1,
                  "--threads must be a positive number, got '", text, "'");
    } else {
      cimq::check(word.empty() || word[0] != '-', "unknown option '", word, "'");
      cimq::check(result.bundle.empty(), "one bundle at a time, got '", result.bundle, "' and '", word, "'");
      result.bundle = word;
    }
  }
  if (result.help) return result;
  cimq::check(!result.bundle.empty(), "no bundle given\n", kUsage);
  if (result.check) {
    cimq::check(result.input.empty() && result.output.empty(),
                "--check uses the bundle's own sample; "
                "leave out --input and --output");
  } else {
    cimq::check(!result.input.empty() && !result.output.empty(), "give --input and --output, or --check");
  }
  return result;
}

int run_check(const cimq::Executor& executor) {
  const cimq::runtime::CheckReport report = executor.check();
  for (const auto& entry : report.entries) {
    std::cout << entry.name << ": " << entry.compared << " values, ";
    if (entry.different == 0) {
      std::cout << "equal\n";
    } else {
      std::cout << entry.different << " differ (" << entry.first_difference << ")\n";
    }
  }
  std::cout << (report.passed() ? "check passed\n" : "check FAILED\n");
  return report.passed() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Arguments arguments = parse(argc, argv);
    if (arguments.help) {
      std::cout << kUsage;
      return 0;
    }
    cimq::runtime::LoadOptions options;
    options.threads = arguments.threads;
    const auto executor = cimq::Executor::load(arguments.bundle, options);
    if (arguments.check) return run_check(executor);
    const cimq::runtime::Tensor y = executor.run(cimq::runtime::read_npy(arguments.input));
    cimq::runtime::write_npy(arguments.output, y);
    std::cout << "wrote " << arguments.output << " " << cimq::runtime::shape_text(y.shape) << "\n";
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "cimq-run: error: " << error.what() << "\n";
    return 2;
  }
}
