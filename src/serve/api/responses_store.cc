#include "serve/api/responses_store.h"

#include <utility>

namespace narwhal::serve {
namespace {

size_t bytes_of(const std::vector<ChatMessage>& conversation) {
  size_t n = 0;
  for (const ChatMessage& m : conversation) {
    n += sizeof m + m.message.content.size() + m.message.reasoning.size();
    for (const text::ToolCall& call : m.message.tool_calls)
      n += sizeof call + call.arguments.size();
  }
  return n;
}

}  // namespace

void ResponseStore::put(std::string id, std::vector<ChatMessage> conversation) {
  const size_t n_bytes = bytes_of(conversation);
  const std::lock_guard lock(mutex_);
  if (index_.count(id)) return;
  entries_.push_front({std::move(id), std::move(conversation), n_bytes});
  index_[entries_.front().id] = entries_.begin();
  n_bytes_ += n_bytes;
  while (!entries_.empty() && (entries_.size() > max_n_ || n_bytes_ > max_bytes_)) {
    n_bytes_ -= entries_.back().n_bytes;
    index_.erase(entries_.back().id);
    entries_.pop_back();
  }
}

std::optional<std::vector<ChatMessage>> ResponseStore::find(std::string_view id) {
  const std::lock_guard lock(mutex_);
  const auto at = index_.find(id);
  if (at == index_.end()) return std::nullopt;
  entries_.splice(entries_.begin(), entries_, at->second);
  return at->second->conversation;
}

size_t ResponseStore::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

}  // namespace narwhal::serve
