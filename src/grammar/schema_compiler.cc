#include "grammar/schema_compiler.h"

#include <algorithm>
#include <tuple>

#include "base/check.h"
#include "grammar/regex.h"

namespace narwhal::grammar {
namespace {

constexpr int kMaxSchemaDepth = 128;
constexpr size_t kMaxLiteralStates = 400'000;
constexpr size_t kMaxNameStates = 200'000;

NodeId literal_set(GrammarBuilder& b, const std::vector<std::string>& texts) {
  auto dfa = literals_dfa(texts, 16);
  NW_CHECK(dfa.ok(), "{}", dfa.status().message());
  return b.dfa(*std::move(dfa));
}

std::string quoted(std::string_view text) { return '"' + canonical_escape(text) + '"'; }

// A name in its one spelling, up to the closing quote, unless it is one of `taken`.
struct NameState {
  enum : uint8_t { kBody = 0, kEscape = 8, kU, kU0, kU00, kU000, kU001, kDone };  // 1..7: Utf8
  uint32_t taken = 0;
  uint8_t at = kBody;
  bool operator<(const NameState& o) const { return std::tie(taken, at) < std::tie(o.taken, o.at); }
};

int name_step(uint8_t at, uint8_t b) {
  const std::string_view byte(reinterpret_cast<const char*>(&b), 1);
  const auto is_in = [&](std::string_view set) { return set.find(byte) != set.npos; };
  switch (at) {
    case NameState::kEscape:
      if (b == 'u') return NameState::kU;
      return is_in("\"\\bfnrt") ? int{NameState::kBody} : -1;
    case NameState::kU:
    case NameState::kU0:
      return b == '0' ? at + 1 : -1;
    case NameState::kU00:
      if (b == '1') return NameState::kU001;
      return b == '0' ? int{NameState::kU000} : -1;
    case NameState::kU000:
      return is_in("01234567bef") ? int{NameState::kBody} : -1;
    case NameState::kU001:
      return is_in("0123456789abcdef") ? int{NameState::kBody} : -1;
    default:
      break;
  }
  if (at == NameState::kDone) return -1;
  if (at == NameState::kBody) {
    if (b < 0x20) return -1;
    if (b == '"') return NameState::kDone;
    if (b == '\\') return NameState::kEscape;
  }
  const uint8_t next = utf8_step(at, b);
  return next == kNotUtf8 ? -1 : next;
}

}  // namespace

SchemaCompiler::SchemaCompiler(GrammarBuilder& builder, const Json& document,
                               const SchemaOptions& options)
    : b_(builder),
      reader_(document),
      options_(options),
      comma_(literal_set(builder, {",", ", "})),
      colon_(literal_set(builder, {":", ": "})) {}

Result<NodeId> SchemaCompiler::value(const Conjunction& all) {
  const auto known = values_.find(all);
  if (known != values_.end()) return known->second;
  const NodeId id = b_.reserve();
  values_.emplace(all, id);
  if (depth_ >= kMaxSchemaDepth)
    return usage(fmt::format("schema {}: nested more than {} levels", reader_.path_of(all),
                             kMaxSchemaDepth));
  depth_++;
  auto out = define_value(id, all);
  depth_--;
  return out;
}

Result<NodeId> SchemaCompiler::define_value(NodeId id, const Conjunction& all) {
  if (b_.n_nodes() > static_cast<size_t>(options_.max_nodes))
    return usage(fmt::format("schema: needs a grammar of more than {} nodes; simplify it",
                             options_.max_nodes));
  const std::string path = reader_.path_of(all);
  NW_ASSIGN(const std::vector<Facts> alternatives, reader_.alternatives(all));
  std::vector<NodeId> children;
  for (const Facts& facts : alternatives) {
    NW_ASSIGN(const NodeId child, value(facts, path));
    children.push_back(child);
  }
  b_.define(id, std::move(children));
  return id;
}

Result<NodeId> SchemaCompiler::value(const Facts& facts, const std::string& path) {
  if (facts.values) return literals(*facts.values, path);
  std::vector<NodeId> children;
  if (facts.types & kNull) children.push_back(b_.literal("null"));
  if (facts.types & kBoolean) {
    children.push_back(b_.literal("true"));
    children.push_back(b_.literal("false"));
  }
  if (facts.types & kNumber) {
    NW_ASSIGN(const NodeId node, number(facts, path));
    children.push_back(node);
  }
  if (facts.types & kString) {
    NW_ASSIGN(const NodeId body, string(facts, StringForm::kJson, path));
    children.push_back(b_.seq({b_.literal("\""), body}));
  }
  if (facts.types & kArray) {
    NW_ASSIGN(const NodeId node, array(facts));
    children.push_back(node);
  }
  if (facts.types & kObject) {
    NW_ASSIGN(const NodeId node, object(facts, path));
    children.push_back(node);
  }
  return b_.choice(std::move(children));
}

Result<NodeId> SchemaCompiler::literals(const std::vector<const Json*>& values,
                                        const std::string& path) {
  std::vector<std::string> scalars;
  std::vector<NodeId> children;
  for (const Json* v : values) {
    if (v->is_array() || v->is_object())
      children.push_back(literal_value(*v));
    else
      scalars.push_back(v->is_string() ? quoted(v->text) : v->dump());
  }
  if (!scalars.empty()) {
    auto dfa = literals_dfa(scalars, kMaxLiteralStates);
    if (!dfa.ok()) return dfa.status().within(fmt::format("schema {}/enum", path));
    children.push_back(b_.dfa(*std::move(dfa)));
  }
  return b_.choice(std::move(children));
}

NodeId SchemaCompiler::literal_value(const Json& value) {
  if (value.is_string()) return b_.literal(quoted(value.text));
  if (!value.is_array() && !value.is_object()) return b_.literal(value.dump());
  std::vector<NodeId> parts = {b_.literal(value.is_array() ? "[" : "{")};
  for (const Json& item : value.items) {
    if (parts.size() > 1) parts.push_back(comma_);
    parts.push_back(literal_value(item));
  }
  for (const auto& [name, member] : value.members) {
    if (parts.size() > 1) parts.push_back(comma_);
    parts.push_back(b_.literal(quoted(name)));
    parts.push_back(colon_);
    parts.push_back(literal_value(member));
  }
  parts.push_back(b_.literal(value.is_array() ? "]" : "}"));
  return b_.seq(std::move(parts));
}

Result<NodeId> SchemaCompiler::string(const Facts& facts, StringForm form,
                                      const std::string& path) {
  if (facts.length.min > facts.length.max) return b_.choice({});
  if (facts.patterns.empty()) return b_.string(form, facts.length);
  std::vector<Regex> patterns;
  for (const std::string& p : facts.patterns) {
    NW_ASSIGN(Regex regex, parse_regex(p));
    patterns.push_back(std::move(regex));
  }
  auto dfa = string_dfa(patterns, facts.length, form);
  if (!dfa.ok())
    return dfa.status().within(fmt::format("schema {}: pattern, format and length", path));
  return b_.dfa(*std::move(dfa));
}

Result<NodeId> SchemaCompiler::number(const Facts& facts, const std::string& path) {
  NumberBounds bounds = facts.number;
  bounds.is_integer |= !(facts.types & kFraction);
  if (bounds.is_empty()) return b_.choice({});
  std::string key = bounds.is_integer ? "i" : "n";
  for (const auto* side : {&bounds.low, &bounds.high})
    key += *side ? fmt::format(" {} {}", (*side)->value.text(), (*side)->is_open) : " -";
  for (const Decimal& m : bounds.multiples_of) key += "/" + m.text();
  const auto [it, is_new] = numbers_.emplace(key, kNoNode);
  if (!is_new) return it->second;
  auto dfa = number_dfa(bounds);
  if (!dfa.ok()) return dfa.status().within(fmt::format("schema {}: number", path));
  it->second = b_.dfa(*std::move(dfa));
  return it->second;
}

Result<NodeId> SchemaCompiler::array(const Facts& facts) {
  if (facts.min_items > facts.max_items) return b_.choice({});
  List list{.separator = comma_, .min = facts.min_items, .max = facts.max_items};
  for (const Conjunction& item : facts.prefix) {
    if (list.prefix.size() >= facts.max_items) break;
    NW_ASSIGN(const NodeId node, value(item));
    list.prefix.push_back(node);
  }
  if (facts.max_items > facts.prefix.size()) {
    NW_ASSIGN(list.rest, value(facts.items));
  }
  return b_.seq({b_.literal("["), b_.list(std::move(list)), b_.literal("]")});
}

std::vector<SchemaCompiler::Property> SchemaCompiler::properties(const Facts& facts) {
  const auto is_required = [&](const std::string& name) {
    return std::find(facts.required.begin(), facts.required.end(), name) != facts.required.end();
  };
  std::vector<Property> out;
  for (const Facts::Property& p : facts.properties)
    out.push_back({p.name, p.value, is_required(p.name)});
  for (const std::string& name : facts.required)
    if (!facts.find(name)) out.push_back({name, facts.additional, true});
  return out;
}

bool SchemaCompiler::is_closed(const Facts& facts) {
  return std::any_of(facts.additional.begin(), facts.additional.end(),
                     [](const Json* s) { return s->is_bool() && !s->boolean; });
}

Status SchemaCompiler::check_member_count(const Facts& facts, const std::string& path) const {
  const uint64_t certain = std::max<uint64_t>(1, facts.required.size());
  if (facts.min_members > certain && !is_closed(facts))
    return usage(
        fmt::format("schema {}/minProperties: {} is supported only with "
                    "additionalProperties false; name the members in required",
                    path, facts.min_members));
  return ok_status();
}

Result<NodeId> SchemaCompiler::object(const Facts& facts, const std::string& path) {
  NW_TRY(check_member_count(facts, path));
  Members members{.separator = comma_, .min = facts.min_members, .max = facts.max_members};
  const std::vector<Property> named = properties(facts);
  for (const Property& p : named) {
    NW_ASSIGN(const NodeId v, value(p.value));
    members.members.push_back({b_.seq({b_.literal(quoted(p.name)), colon_, v}), p.is_required});
  }
  if (!is_closed(facts)) {
    NW_ASSIGN(const NodeId name, other_name(named, path));
    NW_ASSIGN(const NodeId v, value(facts.additional));
    members.rest = b_.seq({b_.literal("\""), name, colon_, v});
  }
  return b_.seq({b_.literal("{"), b_.members(std::move(members)), b_.literal("}")});
}

Result<NodeId> SchemaCompiler::other_name(const std::vector<Property>& named,
                                          const std::string& path) {
  if (named.empty()) return b_.string(StringForm::kJson, {});
  std::vector<std::string> texts;
  texts.reserve(named.size());
  for (const Property& p : named) texts.push_back(canonical_escape(p.name));
  NW_ASSIGN(const Dfa taken, literals_dfa(texts, kMaxNameStates));
  const auto step = [&](const NameState& from, uint8_t b) -> std::optional<NameState> {
    const int at = name_step(from.at, b);
    if (at < 0) return std::nullopt;
    const bool may_be_taken = from.taken != Dfa::kDead;
    if (at == NameState::kDone && may_be_taken && taken.accepts(from.taken)) return std::nullopt;
    NameState next{may_be_taken ? taken.step(from.taken, b) : from.taken, static_cast<uint8_t>(at)};
    if (at == NameState::kDone) next.taken = Dfa::kDead;
    return next;
  };
  auto dfa = explore_dfa(
      NameState{}, every_byte(), step, [](const NameState& s) { return s.at == NameState::kDone; },
      kMaxNameStates);
  if (!dfa.ok()) return dfa.status().within(fmt::format("schema {}/properties", path));
  return b_.dfa(*std::move(dfa));
}

}  // namespace narwhal::grammar
