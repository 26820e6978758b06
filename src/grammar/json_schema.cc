#include "grammar/json_schema.h"

#include "grammar/schema_compiler.h"

namespace narwhal {

Result<std::shared_ptr<const Grammar>> compile_json_schema(const Json& schema,
                                                           const SchemaOptions& options) {
  GrammarBuilder builder;
  grammar::SchemaCompiler compiler(builder, schema, options);
  NW_ASSIGN(const grammar::NodeId root, compiler.value({&schema}));
  auto grammar = builder.finish(root, static_cast<uint32_t>(options.max_depth));
  if (!grammar.ok()) return grammar.status().within("schema");
  return grammar;
}

Result<std::shared_ptr<const Grammar>> compile_json_object(const SchemaOptions& options) {
  Json schema = Json::object();
  schema.set("type", Json::of("object"));
  return compile_json_schema(schema, options);
}

Result<std::shared_ptr<const Grammar>> compile_json_value(const SchemaOptions& options) {
  return compile_json_schema(Json::of(true), options);
}

}  // namespace narwhal
