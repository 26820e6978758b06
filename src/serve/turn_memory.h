// TurnMemory: what the model wrote, token for token, to be found again when a client sends the turn
// back in its own words.
//
// Clients re-serialise arguments, drop reasoning and trim text, so a rendered history would not be
// the one whose state is cached. A remembered turn stands in for a message only when everything
// visible is equal: content but for white space at its ends, names, and arguments as JSON values.
// The ids it is found by cannot be guessed, so clients do not see each other's turns.
//
// With a store, turns are kept there, too, and found again by another run of the server. All
// methods are thread-safe.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvstore/kv_store.h"
#include "serve/turn.h"
#include "text/chat.h"

namespace narwhal::serve {

// The hash of a conversation as the client sees it, continued by one message. Reasoning and the
// spelling of arguments do not count.
uint64_t extend_history(uint64_t history, const text::Message& message);

class TurnMemory {
 public:
  // `store` may be null and must outlive this. The limits are those of what is held in memory.
  explicit TurnMemory(KvStore* store = nullptr, size_t max_entries = 100'000,
                      size_t max_bytes = size_t{512} << 20)
      : store_(store), max_entries_(max_entries), max_bytes_(max_bytes) {}

  // `history`: of the messages before. `key`: an unguessable name that the client may return.
  void add(uint64_t history, const std::string& key, std::string content,
           std::vector<text::ToolCall> calls, text::SampledTurn turn);

  // The turn that wrote this message, or null.
  std::shared_ptr<const text::SampledTurn> find(uint64_t history, const ChatMessage& message);

  size_t n_entries() const;
  size_t n_bytes() const;

 private:
  struct Entry {
    std::string content;
    std::vector<text::ToolCall> calls;
    std::shared_ptr<const text::SampledTurn> turn;
    std::vector<std::string> names;  // under which it stands in the index
    size_t n_bytes = 0;
  };
  using Place = std::list<Entry>::iterator;
  static bool matches(const Entry& entry, const text::Message& message);
  static KvTurn stored(const Entry& entry);
  static Result<Entry> read(KvTurn turn);
  void hold(Entry entry);
  void erase(Place place);

  KvStore* const store_;
  const size_t max_entries_, max_bytes_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // most recently used first
  std::unordered_map<std::string, Place> index_;
  size_t n_bytes_ = 0;
};

}  // namespace narwhal::serve
