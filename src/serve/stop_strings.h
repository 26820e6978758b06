// Finds stop strings in text that comes in pieces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace narwhal::serve {

// Holds back only what may become a stop string. The earliest match wins, at one place the longest.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops);  // none may be empty

  // The text that is certainly no part of a stop string. After a match, nothing more.
  std::string push(std::string_view text);
  std::string finish();

  bool matched() const { return !match_.empty(); }
  const std::string& match() const { return match_; }

 private:
  std::vector<std::string> stops_;  // longest first
  std::string held_, match_;
};

}  // namespace narwhal::serve
