// What tests of a backend over a stand-in for its device's library have in common.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "ops/ref/ref_ops.h"

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
  // 2 n ops, each of which needs the one before: x[1] shrinks, so the order shows in sum[1].
  static void chain(Ops& ops, int n, float* sum, float* x) {
    for (int i = 0; i < n; i++) {
      ops.add(3, x, sum);
      ops.swiglu(1, 0, x, x + 1);
    }
  }
  // What chain() makes of {1, 2, 3} and {1, 10, 100}.
  void expect_chained(int n, const float* sum) {
    std::vector<float> want{1, 2, 3}, x{1, 10, 100};
    RefOps ref;
    chain(ref, n, want.data(), x.data());
    const auto got = fetch(sum, 3);
    for (int i = 0; i < 3; i++) EXPECT_NEAR(got[i], want[i], 1e-5 * std::fabs(want[i])) << i;
  }
  // One of 40 launches fails, as `fail` asks for.
  void expect_end_at_the_next_wait(const std::function<void()>& fail, const std::string& words) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
          open();
          float* const a = send({1});
          fail();
          for (int i = 0; i < 40; i++) backend_->ops().add(1, a, a);
          fetch(a, 1);
        },
        words);
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
