// Timeline: the Session of include/narwhal/session.h over one slot of the KV cache.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "narwhal/session.h"
#include "session/kv_cache.h"
#include "session/runner.h"

namespace narwhal {

// What all sessions of an engine share. Steps take turns under the mutex.
struct SessionHost {
  Runner& runner;
  KvCache& cache;
  int n_vocab = 0;
  int64_t n_ctx = 0;
  int chunk = 0;  // rows of a prefill step
  std::mutex mutex{};
};

Result<std::unique_ptr<Session>> make_session(SessionHost& host);

}  // namespace narwhal
