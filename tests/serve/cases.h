// The requests of the text files beside this one; replay_test.cc says how they are written.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"

namespace narwhal::serve {

struct Case {
  std::string name = {}, request_line = {}, headers = {}, body = {};
  int status = 0;
  std::vector<std::string> checks = {};
};

inline std::vector<Case> read_cases(const std::string& path) {
  const auto text = read_file(path);
  if (!text.ok()) return {};
  std::vector<Case> cases;
  std::istringstream in(*text);
  enum { kHead, kBody, kChecks } part = kHead;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("# ")) {
      cases.push_back({.name = line.substr(2)});
      part = kHead;
    } else if (cases.empty() || line.empty()) {
      continue;
    } else if (line.starts_with("== ")) {
      cases.back().status = std::atoi(line.c_str() + 3);
      part = kChecks;
    } else if (part == kChecks) {
      cases.back().checks.push_back(line);
    } else if (cases.back().request_line.empty()) {
      cases.back().request_line = line;
    } else if (part == kHead && line[0] != '{' && line.find(": ") != line.npos) {
      cases.back().headers += line + "\r\n";
    } else {
      cases.back().body += line + "\n";
      part = kBody;
    }
  }
  return cases;
}

inline std::vector<std::filesystem::path> case_files() {
  std::vector<std::filesystem::path> files;
  for (const auto& file : std::filesystem::directory_iterator(NARWHAL_TEST_DATA "/../serve")) {
    if (file.path().extension() == ".txt") files.push_back(file.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace narwhal::serve
