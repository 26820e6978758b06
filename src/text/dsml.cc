#include "text/dsml.h"

#include <fmt/format.h>

#include "base/json.h"
#include "text/invoke.h"
#include "text/replace.h"

namespace narwhal::text {
namespace {

// A value that contains the closer is written with another spelling of its "<".
constexpr std::string_view kCloser = "</｜DSML｜parameter>";
constexpr std::string_view kHiddenCloser = "&lt;/｜DSML｜parameter>";
constexpr std::string_view kJsonCloser = "\\u003c/｜DSML｜parameter>";  // equal as JSON

// Writes "<｜DSML｜" or "</｜DSML｜" and the text that follows.
class TagWriter {
 public:
  TagWriter(Prompt& prompt, const Controls& controls) : prompt_(prompt), controls_(controls) {}
  void open(std::string_view after) { tag("<", after); }
  void close(std::string_view after) { tag("</", after); }
  void text(std::string_view s) { add_text(prompt_, s); }

  void parameter(std::string_view name, bool is_string, std::string_view value) {
    open(fmt::format("parameter name=\"{}\" string=\"{}\">", name, is_string));
    text(value);
    close("parameter>");
  }

 private:
  void tag(std::string_view before, std::string_view after) {
    text(before);
    add_control(prompt_, controls_.dsml);
    text(after);
  }
  Prompt& prompt_;
  const Controls& controls_;
};

void write_parameters(TagWriter& out, const ToolCall& call) {
  const auto arguments = Json::parse(call.arguments);
  if (!arguments.ok() || !arguments->is_object()) {
    out.parameter("arguments", true, replace_all(call.arguments, kCloser, kHiddenCloser));
    return;
  }
  bool first = true;
  for (const auto& [name, value] : arguments->members) {
    if (!first) out.text("\n");
    first = false;
    if (value.is_string())
      out.parameter(name, true, replace_all(value.text, kCloser, kHiddenCloser));
    else
      out.parameter(name, false, replace_all(value.dump(), kCloser, kJsonCloser));
  }
}

Status refuse_controls(const Controls& controls, std::string_view flat, std::string_view part) {
  const size_t at = flat.find(kFlatMark);
  if (at == flat.npos) return ok_status();
  return bad_input(fmt::format("completion: control token {} inside the {}",
                               unflatten(controls, flat.substr(at, kFlatSize)), part));
}

Status parse_block(const Controls& controls, const DsmlTags& tags, std::string_view flat,
                   std::vector<ToolCall>& calls) {
  if (!flat.starts_with('\n'))
    return bad_input("completion: no line feed after the opener of the tool calls");
  flat.remove_prefix(1);
  while (flat.starts_with(tags.open_invoke)) {
    auto call = take_invoke(controls, tags, flat, true);
    if (!call.ok()) return call.status().within("completion");
    calls.push_back(*std::move(call));
    if (!flat.starts_with('\n'))
      return bad_input("completion: no line feed after the closer of an invoke");
    flat.remove_prefix(1);
  }
  if (!flat.starts_with(tags.close_block))
    return bad_input("completion: expected an invoke or the closer of the tool calls");
  if (flat.size() > tags.close_block.size())
    return bad_input("completion: text after the tool calls, expected the end of sentence");
  return ok_status();
}

}  // namespace

void render_tool_calls(Prompt& prompt, const Controls& controls, std::span<const ToolCall> calls) {
  if (calls.empty()) return;
  TagWriter out(prompt, controls);
  out.text("\n\n");
  out.open("tool_calls>\n");
  for (const ToolCall& call : calls) {
    out.open(fmt::format("invoke name=\"{}\">\n", call.name));
    write_parameters(out, call);
    out.text("\n");
    out.close("invoke>\n");
  }
  out.close("tool_calls>");
}

Result<Completion> parse_completion(const Controls& controls, std::span<const PromptItem> items,
                                    bool thinking) {
  const DsmlTags tags(controls);
  const std::string whole = flatten(items);
  std::string_view rest = whole;
  const std::string eos = flatten(controls.eos), end_think = flatten(controls.end_think);
  if (!rest.ends_with(eos))
    return bad_input("completion: it does not end with the end of sentence");
  rest.remove_suffix(eos.size());
  // The first such control ends the turn wherever it stands, in a value too.
  for (const PromptItem& item : items.first(items.size() - 1))
    if (item.is_control() && controls.ends_turn(item.control))
      return bad_input(
          fmt::format("completion: {} before its end", controls.name_of(item.control)));

  Completion out;
  if (thinking) {
    const size_t at = rest.find(end_think);
    if (at == rest.npos) return bad_input("completion: no </think> after the reasoning");
    NW_TRY(refuse_controls(controls, rest.substr(0, at), "reasoning"));
    out.reasoning = rest.substr(0, at);
    rest.remove_prefix(at + end_think.size());
  }
  const std::string opener = "\n\n" + tags.open_block;
  const size_t block = rest.find(opener);
  const std::string_view content = rest.substr(0, block);
  NW_TRY(refuse_controls(controls, content, "content"));
  out.content = content;
  if (block != rest.npos)
    NW_TRY(parse_block(controls, tags, rest.substr(block + opener.size()), out.tool_calls));
  return out;
}

}  // namespace narwhal::text
