// The tiny checkpoint and what an independent implementation computes from it (tests/data/tiny).
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "convert/convert.h"
#include "gguf/reader.h"
#include "model/config.h"
#include "model/weights.h"
#include "safetensors/reader.h"

namespace narwhal {

inline const std::string kTiny = std::string(NARWHAL_TEST_DATA) + "/tiny";

// A conversion of the checkpoint, bound and ready to run.
struct Tiny {
  explicit Tiny(const std::string& type)
      : path((std::filesystem::temp_directory_path() /
              fmt::format("narwhal_tiny_{}_{}.gguf", type, getpid()))
                 .string()) {
    ConvertOptions options;
    options.checkpoint = kTiny;
    options.output = path;
    options.type = type;
    const auto report = convert(options);
    EXPECT_TRUE(report.ok()) << report.status().message();
    file = std::make_unique<gguf::File>(*gguf::File::open(path));
    config = *read_config(*file);
    weights = *bind_weights(config, *file);
  }
  ~Tiny() { std::filesystem::remove(path); }

  std::string path;
  std::unique_ptr<gguf::File> file;
  Config config;
  Weights weights;
};

class Goldens {
 public:
  template <class T>
  std::vector<T> values(const std::string& name) const {
    const safetensors::Tensor* t = file_.find(name);
    EXPECT_NE(t, nullptr) << name;
    std::vector<T> v(t->n_elements());
    std::memcpy(v.data(), t->data, t->n_bytes);
    return v;
  }

 private:
  safetensors::Checkpoint file_ = *safetensors::Checkpoint::open(kTiny + "/golden.safetensors");
};

// Infinite where one is not a number.
inline double distance(float a, float b) {
  const double d = std::fabs(double(a) - b);
  return std::isnan(d) ? INFINITY : d;
}

inline double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < b.size(); i++) worst = std::max(worst, distance(a[i], b[i]));
  return worst;
}

}  // namespace narwhal
