// What tests of a backend over a stand-in for its device's library have in common.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace narwhal {

class StandInTest : public testing::Test {
 protected:
  using Make = Result<std::unique_ptr<Backend>> (*)(const BackendOptions& options);
  explicit StandInTest(Make make) : make_(make) {}

  Backend& open() {
    auto backend = make_({});
    EXPECT_TRUE(backend.ok()) << backend.status().message();
    backend_ = *std::move(backend);
    return *backend_;
  }
  void refused(const std::string& words) {
    const auto backend = make_({});
    ASSERT_FALSE(backend.ok());
    EXPECT_EQ(backend.status().code(), Code::kFailed);
    EXPECT_NE(backend.status().message().find(words), std::string::npos)
        << backend.status().message();
  }

  // Memory of the device, until close().
  float* send(const std::vector<float>& v) {
    const int64_t n_bytes = std::ssize(v) * 4;
    memory_.emplace_back(*backend_->allocate(n_bytes), n_bytes);
    backend_->copy_in(memory_.back().first, v.data(), n_bytes);
    return reinterpret_cast<float*>(memory_.back().first);
  }
  std::vector<float> fetch(const float* device, int64_t n) {
    std::vector<float> v(n);
    backend_->copy_out(v.data(), device, n * 4);
    return v;
  }
  void close() {
    for (const auto& [memory, n_bytes] : memory_) backend_->release(memory, n_bytes);
    memory_.clear();
    backend_.reset();
  }

  std::unique_ptr<Backend> backend_;

 private:
  Make make_;
  std::vector<std::pair<std::byte*, int64_t>> memory_;
};

}  // namespace narwhal
