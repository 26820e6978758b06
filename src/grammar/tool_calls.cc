#include "grammar/tool_calls.h"

#include <algorithm>
#include <tuple>

#include "grammar/regex.h"
#include "grammar/schema_compiler.h"

namespace narwhal {
namespace {

using namespace grammar;  // the parts this is made of

constexpr std::string_view kOpener = "\n\n<";

bool fits_in_attribute(std::string_view name) {
  return !name.empty() && std::none_of(name.begin(), name.end(), [](char c) {
    return c == '"' || c == '<' || c == '>' || static_cast<uint8_t>(c) < 0x20;
  });
}

// UTF-8 text. kWhole: all of it; else until the text that opens a block was read, which may be text
// as well.
Dfa text_dfa(bool until_opener) {
  using State = std::pair<uint8_t, uint8_t>;  // Utf8, bytes of the opener just read
  const auto step = [](const State& s, uint8_t b) -> std::optional<State> {
    const uint8_t next = utf8_step(s.first, b);
    if (next == kNotUtf8) return std::nullopt;
    if (b == '\n') return State{next, s.second == 1 || s.second == 2 ? 2 : 1};
    return State{next, static_cast<uint8_t>(b == '<' && s.second == 2 ? 3 : 0)};
  };
  auto dfa = explore_dfa(
      State{kWhole, 0}, every_byte(), step,
      [&](const State& s) { return until_opener ? s.second == 3 : s.first == kWhole; }, 1000);
  return *std::move(dfa);
}

class ToolCompiler {
 public:
  ToolCompiler(GrammarBuilder& b, int32_t dsml, const ToolCallOptions& options)
      : b_(b), options_(options), dsml_(b.control(dsml)) {}

  Result<NodeId> whole(std::span<const ToolSpec> tools) {
    NodeId calls = kNoNode;  // after "<｜DSML｜tool_calls>\n"
    if (!tools.empty()) {
      NW_ASSIGN(calls, inside(tools));
    }
    const auto after_opener = [&] { return b_.seq({dsml_, b_.literal("tool_calls>\n"), calls}); };
    switch (options_.start) {
      case ToolStart::kCall:
      case ToolStart::kInsideCall:
        if (tools.empty()) return usage("tool_choice: a call is required, but there are no tools");
        if (options_.start == ToolStart::kInsideCall) return calls;
        return b_.seq({b_.literal(std::string(kOpener)), after_opener()});
      case ToolStart::kText: {
        const NodeId text = b_.dfa(text_dfa(false));
        if (tools.empty()) return text;
        return b_.choice({text, b_.seq({b_.dfa(text_dfa(true)), after_opener()})});
      }
      case ToolStart::kJson: {
        SchemaCompiler schema(b_, *options_.content, options_.schema);
        NW_ASSIGN(const NodeId content, schema.value({options_.content}));
        if (tools.empty()) return content;
        return b_.choice({content, b_.seq({b_.literal(std::string(kOpener)), after_opener()})});
      }
    }
    return usage("tool calls: unknown start");
  }

 private:
  Result<NodeId> inside(std::span<const ToolSpec> tools) {
    std::vector<NodeId> invokes;
    for (const ToolSpec& tool : tools) {
      auto parameters = fits_in_attribute(tool.name)
                            ? parameters_of(tool)
                            : Result<NodeId>(usage("the name has a sign that markup cannot carry"));
      if (!parameters.ok()) return parameters.status().within("tool '" + tool.name + "'");
      invokes.push_back(b_.seq({b_.literal(tool.name + "\">\n"), *parameters}));
    }
    const NodeId line_feed = b_.literal("\n");
    const NodeId invoke =
        b_.seq({b_.literal("<"), dsml_, b_.literal("invoke name=\""), b_.choice(std::move(invokes)),
                b_.literal("\n</"), dsml_, b_.literal("invoke>")});
    const NodeId list = b_.list({.rest = invoke,
                                 .separator = line_feed,
                                 .min = 1,
                                 .max = options_.is_parallel ? List{}.max : 1});
    return b_.seq({list, b_.literal("\n</"), dsml_, b_.literal("tool_calls>")});
  }

  // Between the line feed after the opening tag and the one before the closing tag.
  Result<NodeId> parameters_of(const ToolSpec& tool) {
    if (!tool.is_strict || !tool.parameters) return free_parameters(tool.parameters);
    SchemaCompiler schema(b_, *tool.parameters, options_.schema);
    const Conjunction object = {tool.parameters, &object_schema_};
    NW_ASSIGN(const std::vector<Facts> alternatives, schema.reader().alternatives(object));
    std::vector<NodeId> children;
    for (const Facts& facts : alternatives) {
      NW_ASSIGN(const NodeId child, members(schema, facts));
      children.push_back(child);
    }
    return b_.choice(std::move(children));
  }

  Result<NodeId> members(SchemaCompiler& schema, const Facts& facts) {
    if (facts.values) return usage("schema #: enum and const of all arguments are not supported");
    NW_TRY(schema.check_member_count(facts, "#"));
    Members out{.separator = b_.literal("\n"), .min = facts.min_members, .max = facts.max_members};
    const auto properties = SchemaCompiler::properties(facts);
    std::vector<std::string> names;
    for (const auto& p : properties) {
      if (!fits_in_attribute(p.name))
        return usage(
            fmt::format("schema #/properties/{}: the name has a sign that markup cannot "
                        "carry",
                        p.name));
      names.push_back(p.name);
      NW_ASSIGN(const NodeId value, parameter_value(schema, p.value));
      out.members.push_back({parameter(b_.literal(p.name + "\""), value), p.is_required});
    }
    if (!SchemaCompiler::is_closed(facts)) {
      NW_ASSIGN(const NodeId value, parameter_value(schema, facts.additional));
      NW_ASSIGN(const NodeId name, other_name(names));
      out.rest = parameter(name, value);
    }
    return b_.members(std::move(out));
  }

  // Parameters in any order.
  Result<NodeId> free_parameters(const Json* schema) {
    const Json* properties = schema ? schema->find("properties") : nullptr;
    const Json* additional = schema ? schema->find("additionalProperties") : nullptr;
    NodeId name = kNoNode;
    if (properties && additional && additional->is_bool() && !additional->boolean) {
      std::vector<std::string> names;
      for (const auto& [n, value] : properties->members)
        if (fits_in_attribute(n)) names.push_back(n + '"');
      if (names.empty()) return b_.nothing();
      NW_ASSIGN(Dfa dfa, literals_dfa(names, 200'000));
      name = b_.dfa(std::move(dfa));
    } else {
      NW_ASSIGN(name, other_name({}));
    }
    if (any_value_ == kNoNode) {
      SchemaCompiler any_json(b_, anything_, options_.schema);
      NW_ASSIGN(any_value_, parameter_value(any_json, {}));
    }
    return b_.list({.rest = parameter(name, any_value_), .separator = b_.literal("\n")});
  }

  // name: with its closing quote. value: from the quote of string="..." to the "</" of the closer.
  NodeId parameter(NodeId name, NodeId value) {
    return b_.seq({b_.literal("<"), dsml_, b_.literal("parameter name=\""), name,
                   b_.literal(" string=\""), value, dsml_, b_.literal("parameter>")});
  }

  // Strings as they stand, everything else as JSON.
  Result<NodeId> parameter_value(SchemaCompiler& schema, const Conjunction& all) {
    const std::string path = schema.reader().path_of(all);
    NW_ASSIGN(const std::vector<Facts> alternatives, schema.reader().alternatives(all));
    std::vector<NodeId> texts, values;
    for (Facts facts : alternatives) {
      NW_TRY(take_strings(schema, facts, path, texts));
      if (facts.types == 0 || (facts.values && facts.values->empty())) continue;
      NW_ASSIGN(const NodeId value, schema.value(facts, path));
      values.push_back(value);
    }
    return b_.choice(
        {b_.seq({b_.literal("true\">"), b_.choice(std::move(texts))}),
         b_.seq({b_.literal("false\">"), b_.choice(std::move(values)), b_.literal("</")})});
  }

  // Moves what facts say about strings into nodes of raw text.
  Status take_strings(SchemaCompiler& schema, Facts& facts, const std::string& path,
                      std::vector<NodeId>& texts) {
    if (facts.values) {
      std::vector<std::string> literals;
      for (const Json* v : *facts.values)
        if (v->is_string()) literals.push_back(v->text + "</");
      std::erase_if(*facts.values, [](const Json* v) { return v->is_string(); });
      NW_ASSIGN(Dfa dfa, literals_dfa(literals, 400'000));
      texts.push_back(b_.dfa(std::move(dfa)));
    } else if (facts.types & kString) {
      NW_ASSIGN(const NodeId text, schema.string(facts, StringForm::kRaw, path));
      texts.push_back(text);
    }
    facts.types &= ~unsigned{kString};
    return ok_status();
  }

  // A name of one to 64 characters with its closing quote, none of `taken`.
  Result<NodeId> other_name(const std::vector<std::string>& taken) {
    NW_ASSIGN(const Dfa known, literals_dfa(taken, 200'000));
    struct State {
      uint32_t known;
      uint8_t utf8, length;
      bool done;
      bool operator<(const State& o) const {
        return std::tie(known, utf8, length, done) < std::tie(o.known, o.utf8, o.length, o.done);
      }
    };
    const auto step = [&](const State& from, uint8_t b) -> std::optional<State> {
      State s = from;
      const bool may_be_known = s.known != Dfa::kDead;
      if (s.done || b < 0x20 || b == '<' || b == '>') return std::nullopt;
      if (b == '"') {
        if (s.utf8 != kWhole || s.length == 0 || (may_be_known && known.accepts(s.known)))
          return std::nullopt;
        return State{Dfa::kDead, kWhole, 0, true};
      }
      if (s.utf8 == kWhole && ++s.length > 64) return std::nullopt;
      s.utf8 = utf8_step(s.utf8, b);
      if (s.utf8 == kNotUtf8) return std::nullopt;
      if (may_be_known) s.known = known.step(s.known, b);
      return s;
    };
    const uint32_t start = known.is_empty() ? Dfa::kDead : Dfa::kStart;
    auto dfa = explore_dfa(
        State{start, kWhole, 0, false}, every_byte(), step, [](const State& s) { return s.done; },
        200'000);
    if (!dfa.ok()) return dfa.status().within("schema #/properties");
    return b_.dfa(*std::move(dfa));
  }

  static Json make_object_schema() {
    Json j = Json::object();
    j.set("type", Json::of("object"));
    return j;
  }

  GrammarBuilder& b_;
  const ToolCallOptions& options_;
  NodeId dsml_ = kNoNode;
  Json anything_ = Json::of(true), object_schema_ = make_object_schema();
  NodeId any_value_ = kNoNode;  // shared by all tools without a strict schema
};

}  // namespace

Result<std::shared_ptr<const Grammar>> compile_tool_calls(std::span<const ToolSpec> tools,
                                                          int32_t dsml,
                                                          const ToolCallOptions& options) {
  if (options.start == ToolStart::kJson && !options.content)
    return usage("tool calls: a schema of the content is expected");
  GrammarBuilder builder;
  ToolCompiler compiler(builder, dsml, options);
  NW_ASSIGN(const NodeId root, compiler.whole(tools));
  auto grammar = builder.finish(root, static_cast<uint32_t>(options.schema.max_depth));
  if (!grammar.ok()) return grammar.status().within("tools");
  return grammar;
}

}  // namespace narwhal
