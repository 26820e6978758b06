#include "serve/stop_strings.h"

#include <algorithm>
#include <utility>

namespace narwhal::serve {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::stable_sort(stops_.begin(), stops_.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
}

std::string StopStrings::push(std::string_view text) {
  if (stops_.empty()) return std::string(text);
  if (matched()) return {};
  held_ += text;
  size_t cut = held_.npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at < cut) cut = at, match_ = stop;
  }
  // A longer stop string may have begun before the match and still be growing.
  size_t keep = std::min(cut, held_.size());
  for (const std::string& stop : stops_) {
    const size_t from = held_.size() - std::min(held_.size(), stop.size() - 1);
    for (size_t at = from; at < keep; at++) {
      if (std::string_view(stop).starts_with(std::string_view(held_).substr(at))) keep = at;
    }
  }
  if (cut != held_.npos && keep < cut) match_.clear();  // wait for it
  if (cut != held_.npos && keep == cut) return std::exchange(held_, {}).substr(0, cut);
  std::string out = held_.substr(0, keep);
  held_.erase(0, keep);
  return out;
}

std::string StopStrings::finish() {
  if (stops_.empty() || matched()) return {};
  // What waited for a longer match may still hold a shorter one.
  size_t cut = held_.size();
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at < cut) cut = at, match_ = stop;
  }
  return std::exchange(held_, {}).substr(0, cut);
}

}  // namespace narwhal::serve
