// Lines from the user: edited with a history at a terminal (libedit), plain and silent in a pipe.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace narwhal::cli {

class LineReader {
 public:
  LineReader();
  ~LineReader();

  bool on_terminal() const { return editor_ != nullptr; }
  // The next line without its line feed; nothing at the end of the input. At a terminal Ctrl+C
  // empties the line and Ctrl+D on an empty one ends the input.
  std::optional<std::string> read();

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;
};

}  // namespace narwhal::cli
