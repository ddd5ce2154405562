// cimq-run: executes a bundle on a .npy file, or checks it against the results stored in it. No Python, no PyTorch.
#include <charconv>
#include <exception>
#include <iostream>
#include <new>
#include <string>

#include "common/error.h"
#include "common/printable.h"
#include "runtime/executor.h"
#include "runtime/npy.h"

namespace {

constexpr const char* kUsage =
    "usage: cimq-run BUNDLE --input x.npy --output y.npy [OPTIONS]\n"
    "       cimq-run BUNDLE --check [OPTIONS]\n"
    "\n"
    "BUNDLE is a bundle folder (NAME.cimq). x.npy holds float32 [batch, ...] in C order.\n"
    "--check runs the sample stored in the bundle and compares every layer and the output; exit status 1 if any "
    "differs.\n"
    "\n"
    "--threads N            threads; default: OMP_NUM_THREADS, or all processors. No result depends on it\n"
    "--max-operations N     refuse a network that needs more for one sample; default 10000000000000\n"
    "--max-working-bytes N  refuse a network that needs more memory for one sample; default 8589934592\n"
    "--version              print the version\n";

constexpr int kMismatch = 1;  // exit statuses
constexpr int kBadInput = 2;

struct Arguments {
  std::string bundle, input, output;
  bool check = false;
  bool help = false;
  bool version = false;
  cimq::runtime::LoadOptions options;
};

template <typename T>
T positive(const std::string& option, const std::string& text) {
  T value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  cimq::check(status == std::errc() && end == text.data() + text.size() && value >= 1, option,
              " must be a positive number, got '", text, "'");
  return value;
}

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
    } else if (word == "--version") {
      result.version = true;
    } else if (word == "--check") {
      result.check = true;
    } else if (word == "--input") {
      result.input = value_of(i);
    } else if (word == "--output") {
      result.output = value_of(i);
    } else if (word == "--threads") {
      result.options.threads = positive<int>(word, value_of(i));
    } else if (word == "--max-operations") {
      result.options.max_operations = positive<std::uint64_t>(word, value_of(i));
    } else if (word == "--max-working-bytes") {
      result.options.max_working_bytes = positive<std::uint64_t>(word, value_of(i));
    } else {
      cimq::check(word.empty() || word[0] != '-', "unknown option '", word, "'");
      cimq::check(result.bundle.empty(), "one bundle at a time, got '", result.bundle, "' and '", word, "'");
      result.bundle = word;
    }
  }
  if (result.help || result.version) return result;
  cimq::check(!result.bundle.empty(), "no bundle given (cimq-run --help shows the usage)");
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
    std::cout << cimq::printable(entry.name) << ": " << entry.compared << " values, ";
    if (entry.different == 0) {
      std::cout << "equal\n";
    } else {
      std::cout << entry.different << " differ (" << entry.first_difference << ")\n";
    }
  }
  std::cout << (report.passed() ? "check passed\n" : "check FAILED\n");
  return report.passed() ? 0 : kMismatch;
}

int run(const Arguments& arguments) {
  if (arguments.help) {
    std::cout << kUsage;
    return 0;
  }
  if (arguments.version) {
    std::cout << "cimq-run " << CIMQ_VERSION << "\n";
    return 0;
  }
  const auto executor = cimq::Executor::load(arguments.bundle, arguments.options);
  if (arguments.check) return run_check(executor);
  const cimq::runtime::Tensor y = executor.run(cimq::runtime::read_npy(arguments.input));
  cimq::runtime::write_npy(arguments.output, y);
  std::cout << "wrote " << cimq::printable(arguments.output) << " " << cimq::runtime::shape_text(y.shape) << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int status = run(parse(argc, argv));
    std::cout.flush();
    cimq::check(std::cout.good(), "the standard output cannot be written");
    return status;
  } catch (const std::bad_alloc&) {
    std::cerr << "cimq-run: error: out of memory\n";
  } catch (const std::exception& error) {
    std::cerr << "cimq-run: error: " << cimq::printable(error.what()) << "\n";
  }
  return kBadInput;
}
