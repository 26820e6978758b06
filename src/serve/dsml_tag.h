// Tags of tool calls as models spell them: exactly, or with the slips that are seen in practice.
//
// Text here carries the DSML control as the byte FF, which no UTF-8 text contains, so a tag made
// with the control is told apart from one that spells it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace narwhal::serve {

inline constexpr char kDsmlByte = '\xFF';

enum class Fit { kNo, kMaybe, kYes };  // kMaybe: more text may make it one

// "<｜DSML｜invoke", "</tool_calls", "<|DSML|parameter" ... at the start of `s`, without what
// follows the word. Words: tool_calls (also toolcalls, function_calls), invoke, parameter.
struct Tag {
  enum Word { kBlock, kInvoke, kParameter };
  Fit fit = Fit::kNo;
  bool close = false;
  bool real = false;  // made with the control
  Word word = kBlock;
  size_t end = 0;  // after the word
};
Tag match_tag(std::string_view s);

// As above with blanks and ">" behind the word; `end` is after the ">".
Tag match_plain_tag(std::string_view s);

// The attributes between the word of an opening tag (at `at`) and its ">".
struct Header {
  Fit fit = Fit::kNo;
  std::string name;
  std::optional<bool> is_string;
  size_t end = 0;  // after the ">"
};
Header match_header(std::string_view s, size_t at);

// How much white space `s` begins with.
size_t n_blanks(std::string_view s);

// Whether `s` is closers of any spelling and blanks, nothing else, up to its end (kMaybe) or to a
// closer made with the control.
Fit fit_closers(std::string_view s);

}  // namespace narwhal::serve
