// Responses that clients may continue by their id (previous_response_id), in memory.
#pragma once

#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "serve/turn.h"

namespace narwhal::serve {

// Thread-safe.
class ResponseStore {
 public:
  explicit ResponseStore(size_t max_n = 512, size_t max_bytes = size_t{256} << 20)
      : max_n_(max_n), max_bytes_(max_bytes) {}

  // The conversation up to and with the answer, without instructions. Forgets the least recently
  // used beyond the limits.
  void put(std::string id, std::vector<ChatMessage> conversation);
  std::optional<std::vector<ChatMessage>> find(std::string_view id);
  size_t size() const;

 private:
  struct Entry {
    std::string id;
    std::vector<ChatMessage> conversation;
    size_t n_bytes;
  };
  const size_t max_n_, max_bytes_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // most recently used first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> index_;
  size_t n_bytes_ = 0;
};

}  // namespace narwhal::serve
