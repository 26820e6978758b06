// What differs between a person at a terminal and a pipe: Ctrl+C, colour, what is shown.
#pragma once

#include <string>
#include <string_view>

namespace narwhal::cli {

// While one exists, Ctrl+C sets a flag instead of ending the program. With `second_ends` another
// Ctrl+C ends it at once with exit code 130, for when a step takes long. One at a time.
class InterruptGuard {
 public:
  explicit InterruptGuard(bool second_ends);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  static bool interrupted();
};

// Prints an answer as it comes, flushed piece by piece. On a terminal the reasoning comes first, in
// grey, and control characters that could steer the terminal are dropped; in a pipe only the answer
// is printed, byte for byte. Ends with a line feed.
class AnswerPrinter {
 public:
  AnswerPrinter();
  void reasoning(std::string_view text);
  void content(std::string_view text);
  void finish();

 private:
  void put(std::string_view text);
  void leave_reasoning();
  const bool on_terminal_;
  bool in_reasoning_ = false, wrote_ = false;
  char last_ = '\n';
};

// `text` without control characters other than line feed and tab.
std::string printable(std::string_view text);

}  // namespace narwhal::cli
