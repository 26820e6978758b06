// Inside of json_schema.cc and tool_calls.cc: nodes for what schemas allow.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/json_schema.h"
#include "grammar/schema_facts.h"

namespace narwhal::grammar {

// One document. Errors are kUsage and name the keyword and its place.
class SchemaCompiler {
 public:
  SchemaCompiler(GrammarBuilder& builder, const Json& document, const SchemaOptions& options);

  // A value of JSON that all the schemas allow. The same node for the same schemas.
  Result<NodeId> value(const Conjunction& all);
  // A value of JSON by facts that were read already.
  Result<NodeId> value(const Facts& facts, const std::string& path);
  // The string alone, with its closer: '"' after the opening quote, or "</".
  Result<NodeId> string(const Facts& facts, StringForm form, const std::string& path);

  // The members that facts about an object name, in the order they are written.
  struct Property {
    std::string name;
    Conjunction value;
    bool is_required;
  };
  static std::vector<Property> properties(const Facts& facts);
  // Whether members that are not named are refused.
  static bool is_closed(const Facts& facts);
  // kUsage when the number of members cannot be kept exactly.
  Status check_member_count(const Facts& facts, const std::string& path) const;

  SchemaReader& reader() { return reader_; }
  GrammarBuilder& builder() { return b_; }

 private:
  Result<NodeId> define_value(NodeId id, const Conjunction& all);
  Result<NodeId> literals(const std::vector<const Json*>& values, const std::string& path);
  NodeId literal_value(const Json& value);
  Result<NodeId> number(const Facts& facts, const std::string& path);
  Result<NodeId> array(const Facts& facts);
  Result<NodeId> object(const Facts& facts, const std::string& path);
  Result<NodeId> other_name(const std::vector<Property>& named, const std::string& path);

  GrammarBuilder& b_;
  SchemaReader reader_;
  SchemaOptions options_;
  std::map<Conjunction, NodeId> values_;
  std::map<std::string, NodeId> numbers_;     // by type and bounds
  NodeId comma_ = kNoNode, colon_ = kNoNode;  // each with a space or without
  int depth_ = 0;
};

}  // namespace narwhal::grammar
