#include "serve/turn_memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "serve/tool_table.h"

namespace narwhal::serve {
namespace {

std::string_view trimmed(std::string_view s) {
  constexpr std::string_view kBlanks = " \t\r\n";
  s.remove_prefix(std::min(s.find_first_not_of(kBlanks), s.size()));
  return s.substr(0, s.find_last_not_of(kBlanks) + 1);
}

// FNV-1a with a separator after each field.
uint64_t mix(uint64_t h, std::string_view field) {
  for (const char c : field) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return (h ^ 0x1FFu) * 0x100000001B3u;
}

std::string history_name(uint64_t history, std::string_view content) {
  return fmt::format("h{:x}.{:x}", history, mix(history, trimmed(content)));
}

}  // namespace

uint64_t extend_history(uint64_t history, const text::Message& m) {
  history = mix(history ^ 0xCBF29CE484222325u, fmt::to_string(static_cast<int>(m.role)));
  history = mix(history, trimmed(m.content));
  history = mix(history, m.tool_call_id);
  for (const text::ToolCall& call : m.tool_calls) history = mix(mix(history, call.id), call.name);
  return history;
}

void TurnMemory::add(uint64_t history, const std::string& key, std::string content,
                     std::vector<text::ToolCall> calls, text::SampledTurn turn) {
  Entry e;
  if (!key.empty()) e.names.push_back("k" + key);
  for (const text::ToolCall& call : calls) e.names.push_back("c" + call.id);
  if (calls.empty()) e.names.push_back(history_name(history, content));
  e.content = std::move(content);
  e.calls = std::move(calls);
  e.turn = std::make_shared<const text::SampledTurn>(std::move(turn));
  if (store_) store_->put_turn(e.names, stored(e));
  hold(std::move(e));
}

// Tokens: reasoning, then answer. Metadata: all else as JSON.
KvTurn TurnMemory::stored(const Entry& e) {
  KvTurn out;
  out.tokens = e.turn->reasoning;
  out.tokens.insert(out.tokens.end(), e.turn->answer.begin(), e.turn->answer.end());
  Json names = Json::array(), calls = Json::array(), j = Json::object();
  for (const std::string& name : e.names) names.push(Json::of(name));
  for (const text::ToolCall& call : e.calls) {
    Json c = Json::object();
    c.set("id", Json::of(call.id));
    c.set("name", Json::of(call.name));
    c.set("arguments", Json::of(call.arguments));
    calls.push(std::move(c));
  }
  j.set("n_reasoning", Json::of(std::ssize(e.turn->reasoning)));
  j.set("content", Json::of(e.content));
  j.set("names", std::move(names));
  j.set("calls", std::move(calls));
  out.metadata = j.dump();
  return out;
}

Result<TurnMemory::Entry> TurnMemory::read(KvTurn turn) {
  NW_ASSIGN(const Json j, Json::parse(turn.metadata));
  const int64_t n = j["n_reasoning"].as_int(-1);
  if (n < 0 || n > std::ssize(turn.tokens) || j["names"].items.empty())
    return bad_input("a remembered turn of another format");
  Entry e;
  e.content = j["content"].text;
  for (const Json& name : j["names"].items) e.names.push_back(name.text);
  for (const Json& c : j["calls"].items)
    e.calls.push_back({c["id"].text, c["name"].text, c["arguments"].text});
  e.turn = std::make_shared<const text::SampledTurn>(
      text::SampledTurn{{turn.tokens.begin(), turn.tokens.begin() + n},
                        {turn.tokens.begin() + n, turn.tokens.end()}});
  return e;
}

void TurnMemory::hold(Entry e) {
  e.n_bytes = sizeof(Entry) + e.content.size() +
              4 * (e.turn->reasoning.capacity() + e.turn->answer.capacity());
  for (const auto& call : e.calls) e.n_bytes += call.arguments.size() + 128;
  const std::lock_guard lock(mutex_);
  for (const std::string& name : e.names) {
    if (const auto old = index_.find(name); old != index_.end()) erase(old->second);
  }
  n_bytes_ += e.n_bytes;
  entries_.push_front(std::move(e));
  for (const std::string& name : entries_.front().names) index_[name] = entries_.begin();
  while (entries_.size() > 1 && (entries_.size() > max_entries_ || n_bytes_ > max_bytes_))
    erase(std::prev(entries_.end()));
}

void TurnMemory::erase(Place place) {
  for (const std::string& name : place->names) {
    if (const auto at = index_.find(name); at != index_.end() && at->second == place)
      index_.erase(at);
  }
  n_bytes_ -= place->n_bytes;
  entries_.erase(place);
}

bool TurnMemory::matches(const Entry& e, const text::Message& m) {
  if (trimmed(e.content) != trimmed(m.content) || e.calls.size() != m.tool_calls.size())
    return false;
  for (size_t i = 0; i < e.calls.size(); i++) {
    const text::ToolCall &a = e.calls[i], &b = m.tool_calls[i];
    if (a.id != b.id || a.name != b.name) return false;
    if (a.arguments == b.arguments) continue;
    const auto left = Json::parse(a.arguments), right = Json::parse(b.arguments);
    if (!left.ok() || !right.ok() || !json_equal(*left, *right)) return false;
  }
  return true;
}

std::shared_ptr<const text::SampledTurn> TurnMemory::find(uint64_t history,
                                                          const ChatMessage& message) {
  const text::Message& m = message.message;
  const auto by_name = [&](const std::string& name) -> std::shared_ptr<const text::SampledTurn> {
    {
      const std::lock_guard lock(mutex_);
      if (const auto at = index_.find(name); at != index_.end()) {
        if (!matches(*at->second, m)) return nullptr;
        entries_.splice(entries_.begin(), entries_, at->second);
        return at->second->turn;
      }
    }
    auto kept = store_ ? store_->find_turn(name) : std::nullopt;
    if (!kept) return nullptr;
    auto entry = read(*std::move(kept));
    if (!entry.ok() || !matches(*entry, m)) return nullptr;
    auto turn = entry->turn;
    hold(*std::move(entry));
    return turn;
  };
  if (!m.tool_calls.empty()) return by_name("c" + m.tool_calls.front().id);
  if (!message.turn_key.empty()) {
    if (auto turn = by_name("k" + message.turn_key)) return turn;
  }
  return by_name(history_name(history, m.content));
}

size_t TurnMemory::n_entries() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

size_t TurnMemory::n_bytes() const {
  const std::lock_guard lock(mutex_);
  return n_bytes_;
}

}  // namespace narwhal::serve
