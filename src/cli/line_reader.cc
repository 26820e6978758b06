#include "cli/line_reader.h"

#include <histedit.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <iostream>

namespace narwhal::cli {
namespace {

constexpr char kPrompt[] = "> ";

const char* prompt_text(EditLine*) { return kPrompt; }

}  // namespace

struct LineReader::Editor {
  EditLine* line = el_init("narwhal", stdin, stdout, stderr);
  History* history = history_init();
  HistEvent event{};

  Editor() {
    std::setlocale(LC_CTYPE, "");  // so that the editor knows how wide a character is
    history_(H_SETSIZE, 1000);
    el_set(line, EL_PROMPT, prompt_text);
    el_set(line, EL_EDITOR, "emacs");
    el_set(line, EL_HIST, ::history, history);
    el_set(line, EL_SETTY, "-d", "-isig", nullptr);  // Ctrl+C reaches the editor as a key
    el_set(line, EL_BIND, "^C", "em-kill-line", nullptr);
    el_set(line, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  }
  ~Editor() {
    history_end(history);
    el_end(line);
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  template <class... T>
  void history_(T... args) {
    ::history(history, &event, args...);
  }
};

LineReader::LineReader() {
  if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) editor_ = std::make_unique<Editor>();
}

LineReader::~LineReader() = default;

std::optional<std::string> LineReader::read() {
  std::string text;
  if (!editor_) {
    if (!std::getline(std::cin, text)) return std::nullopt;
  } else {
    int n = 0;
    const char* line = el_gets(editor_->line, &n);
    if (!line || n <= 0) return std::nullopt;
    text.assign(line, static_cast<size_t>(n));
    if (text.ends_with('\n')) text.pop_back();
    if (!text.empty()) editor_->history_(H_ENTER, text.c_str());
  }
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

}  // namespace narwhal::cli
