#include "text/invoke.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/json.h"
#include "text/detokenizer.h"
#include "text/replace.h"

namespace narwhal::text {
namespace {

constexpr std::string_view kHiddenCloser = "&lt;/｜DSML｜parameter>";
constexpr std::string_view kCloser = "</｜DSML｜parameter>";

// Consumes parts of the text from the front.
struct Reader {
  std::string_view rest;

  bool take(std::string_view expected) {
    if (!rest.starts_with(expected)) return false;
    rest.remove_prefix(expected.size());
    return true;
  }
  void skip_blanks() {
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t\r\n"), rest.size()));
  }
  // Everything before `stop`, which is consumed too; nothing when there is no `stop` or a control
  // stands before it.
  bool take_until(std::string_view stop, std::string_view& out) {
    const size_t at = rest.find(stop);
    if (at == rest.npos || rest.substr(0, at).find(kFlatMark) != rest.npos) return false;
    out = rest.substr(0, at);
    rest.remove_prefix(at + stop.size());
    return true;
  }
};

struct Parameter {
  std::string name, value;  // value: JSON text
};

struct ValueEnd {
  size_t end, next;  // where the value ends and where reading goes on; npos when it does not end
};

// Strict reading insists on the value's own closer. Otherwise any other tag made with the control
// shows that the closer was forgotten.
ValueEnd value_end(const DsmlTags& tags, std::string_view rest, bool strict) {
  const std::string_view control = std::string_view(tags.open).substr(1);
  for (size_t at = rest.find(control); at != rest.npos; at = rest.find(control, at + 1)) {
    const auto is_tag = [&](size_t n_before, std::string_view tag) {
      return at >= n_before && rest.substr(at - n_before).starts_with(tag);
    };
    if (is_tag(2, tags.close_parameter)) return {at - 2, at - 2 + tags.close_parameter.size()};
    const size_t n_before = is_tag(1, tags.open_parameter) ? 1
                            : is_tag(2, tags.close_invoke) ? 2
                                                           : 0;
    if (strict || n_before == 0) continue;
    const size_t other = at - n_before;
    return {other > 0 && rest[other - 1] == '\n' ? other - 1 : other, other};
  }
  return {rest.npos, rest.npos};
}

Result<std::string> json_value(const std::string& value, bool strict) {
  // Parsed inside brackets, as it will stand inside an object: nesting is limited.
  const auto parsed = Json::parse(fmt::format("[{}]", value));
  if (parsed.ok() && parsed->items.size() == 1) return value;
  if (!strict) return json_quote(value);
  return bad_input(fmt::format("value {} has string=\"false\" but is not JSON", json_quote(value)));
}

Result<Parameter> take_parameter(const Controls& controls, const DsmlTags& tags, Reader& in,
                                 bool strict) {
  if (!in.take(" name=\"")) return bad_input("a parameter without name=\"...\"");
  // The name may contain quotes: it ends where the other attribute begins.
  constexpr std::string_view kString = "\" string=\"";
  std::string_view name;
  bool is_string = false;
  for (size_t at = in.rest.find(kString);; at = in.rest.find(kString, at + 1)) {
    if (at == in.rest.npos) return bad_input("a parameter without string=\"true|false\"");
    const std::string_view after = in.rest.substr(at + kString.size());
    is_string = after.starts_with("true\">");
    if (!is_string && !after.starts_with("false\">")) continue;
    name = in.rest.substr(0, at);
    in.rest = after.substr(is_string ? 6 : 7);
    break;
  }
  if (name.find(kFlatMark) != name.npos) return bad_input("a control token in a parameter's name");

  const auto [end, next] = value_end(tags, in.rest, strict);
  if (end == in.rest.npos) return bad_input(fmt::format("parameter {} is not closed", name));
  const std::string value = unflatten(controls, in.rest.substr(0, end));
  in.rest.remove_prefix(next);
  Parameter p;
  p.name = name;
  if (!is_string) {
    NW_ASSIGN(p.value, json_value(value, strict));
    return p;
  }
  p.value = json_quote(replace_all(value, kHiddenCloser, kCloser));
  return p;
}

}  // namespace

std::string flatten(const Control& control) {
  std::string out(1, kFlatMark);
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(control.id >> shift);
  return out;
}

std::string flatten(std::span<const PromptItem> items) {
  std::string out;
  for (const PromptItem& item : items)
    out += item.is_control() ? flatten(Control{item.control, {}}) : to_utf8(item.text);
  return out;
}

std::string unflatten(const Controls& controls, std::string_view flat) {
  std::string out;
  while (!flat.empty()) {
    const size_t mark = std::min(flat.find(kFlatMark), flat.size());
    out += flat.substr(0, mark);
    flat.remove_prefix(mark);
    if (flat.size() < kFlatSize) break;
    uint32_t id = 0;
    for (size_t k = 1; k < kFlatSize; k++) id = id << 8 | static_cast<uint8_t>(flat[k]);
    out += controls.name_of(static_cast<int32_t>(id));
    flat.remove_prefix(kFlatSize);
  }
  return out;
}

DsmlTags::DsmlTags(const Controls& controls)
    : open(fmt::format("<{}", flatten(controls.dsml))),
      close(fmt::format("</{}", flatten(controls.dsml))),
      open_block(open + "tool_calls>"),
      close_block(close + "tool_calls>"),
      open_invoke(open + "invoke"),
      close_invoke(close + "invoke>"),
      open_parameter(open + "parameter"),
      close_parameter(close + "parameter>") {}

Result<ToolCall> take_invoke(const Controls& controls, const DsmlTags& tags, std::string_view& flat,
                             bool strict) {
  Reader in{flat};
  ToolCall call;
  std::string_view name;
  if (!in.take(tags.open_invoke) || !in.take(" name=\"") || !in.take_until("\"", name) ||
      !in.take(strict ? ">\n" : ">"))
    return bad_input("an invoke without name=\"...\">");
  call.name = name;
  const std::string empty_line_and_closer = fmt::format("\n{}", tags.close_invoke);
  std::unordered_set<std::string> names;
  call.arguments += '{';
  const auto close = [&] {
    if (!strict) in.skip_blanks();
    if (in.take(tags.close_invoke)) return true;
    // Without parameters the template leaves an empty line.
    return names.empty() && in.take(empty_line_and_closer);
  };
  while (!close()) {
    if (!in.take(tags.open_parameter))
      return bad_input(fmt::format("invoke {}: expected a parameter or the closer", name));
    auto p = take_parameter(controls, tags, in, strict);
    if (!p.ok()) return p.status().within(fmt::format("invoke {}", name));
    if (strict && !in.take("\n"))
      return bad_input(fmt::format("invoke {}: no line feed after parameter {}", name, p->name));
    const bool is_first = names.empty();
    if (!names.insert(p->name).second) {
      if (strict) return bad_input(fmt::format("invoke {}: parameter {} twice", name, p->name));
      continue;
    }
    if (!is_first) call.arguments += ", ";
    call.arguments += fmt::format("{}: {}", json_quote(p->name), p->value);
  }
  call.arguments += '}';
  flat = in.rest;
  return call;
}

}  // namespace narwhal::text
