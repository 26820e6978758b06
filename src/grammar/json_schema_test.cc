#include "grammar/json_schema.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "grammar/test_checker.h"
#include "grammar/test_documents.h"

namespace narwhal {
namespace {

using grammar::matches;

const grammar::TestVocabulary& vocabulary() {
  static const grammar::TestVocabulary v;
  return v;
}

Json parsed(std::string_view text) {
  auto j = Json::parse(text);
  EXPECT_TRUE(j.ok()) << text;
  return j.ok() ? *j : Json();
}

Constraint constraint_of(std::string_view schema, const SchemaOptions& options = {}) {
  static const auto trie = vocabulary().trie();
  const Json json = parsed(schema);
  auto g = compile_json_schema(json, options);
  EXPECT_TRUE(g.ok()) << g.status().message();
  return Constraint::create(*g, trie);
}

void expect_takes(std::string_view schema, std::initializer_list<std::string_view> yes,
                  std::initializer_list<std::string_view> no) {
  const Constraint c = constraint_of(schema);
  for (const auto t : yes) EXPECT_TRUE(matches(c, t)) << schema << " should take " << t;
  for (const auto t : no) EXPECT_FALSE(matches(c, t)) << schema << " should not take " << t;
}

std::string refusal(std::string_view schema) {
  const Json json = parsed(schema);
  const auto g = compile_json_schema(json, {});
  if (g.ok()) return "accepted";
  EXPECT_EQ(g.status().code(), Code::kUsage);
  return g.status().message();
}

TEST(JsonSchema, AnyValueIsJson) {
  expect_takes("true",
               {"null", "true", "-0", "10", "1.5e-3", "\"\"", "[]", "{}", "[1, [2], {\"a\":null}]",
                "\"\\u00e9\\n\\/ é 😀 \\ud83d\\ude00\""},
               {"",
                "01",
                "1.",
                ".5",
                "+1",
                "nul",
                "[1,]",
                "[,1]",
                "{\"a\"}",
                "{a:1}",
                "'x'",
                "\"\t\"",
                "\"\\x\"",
                "\"\\ud83d\"",
                "\"\\ud83dx\"",
                "\"\\ude00\"",
                "\"\xC3\"",
                "\"\xED\xA0\x80\"",
                "\"\xC0\x80\"",
                "1 ",
                " 1",
                "[1,  2]",
                "[ 1]",
                "NaN"});
}

TEST(JsonSchema, MembersComeInTheOrderOfTheSchema) {
  expect_takes(
      R"({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"},
          "c": {"type": "null"}}, "required": ["b"], "additionalProperties": false})",
      {R"({"b":"x"})", R"({"a": 1, "b": "x"})", R"({"a":1,"b":"x","c":null})",
       R"({"b":"x","c":null})"},
      {"{}", R"({"a":1})", R"({"b":"x","a":1})", R"({"b":"x","b":"x"})", R"({"b":"x",})",
       R"({"b":"x","d":1})", R"({"b":1})", R"({"\u0062":"x"})"});
}

TEST(JsonSchema, OtherMembersNeverTakeADeclaredName) {
  expect_takes(R"({"properties": {"ab": {"type": "integer"}, "q\"": {"type": "null"}},
                   "additionalProperties": {"type": "boolean"}, "type": "object"})",
               {R"({"ab":1,"a":true})", R"({"abc":true,"":false})", R"({"q\"":null})",
                R"({"q\"\"":true})", R"({"é\u001f":true})"},
               {R"({"ab":true})", R"({"a":1})", R"({"\u0061b":true})", R"({"q\"":true})",
                R"({"a":true,"ab":1})"});
}

TEST(JsonSchema, RequiredNamesNeedNoProperty) {
  expect_takes(R"({"type": "object", "required": ["x"], "maxProperties": 2})",
               {R"({"x":1})", R"({"x":[],"y":2})"}, {"{}", R"({"y":1})", R"({"x":1,"y":2,"z":3})"});
}

TEST(JsonSchema, ArraysCountTheirItems) {
  expect_takes(R"({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3})",
               {"[true,true]", "[true, false, true]"},
               {"[]", "[true]", "[true,true,true,true]", "[true,1]"});
  expect_takes(R"({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": false})",
               {"[]", "[1]", "[1,2]"}, {"[2]", "[1,2,3]"});
  expect_takes(R"({"type": "array", "items": {"type": "null"}, "maxItems": 100000,
                   "minItems": 1})",
               {"[null]", "[null,null,null]"}, {"[]"});
}

TEST(JsonSchema, LengthsCountCodePoints) {
  expect_takes(R"({"type": "string", "minLength": 2, "maxLength": 3})",
               {"\"ab\"", "\"äöü\"", "\"\\n\\u00e9\"", "\"\\ud83d\\ude00a\"", "\"😀😀\""},
               {"\"a\"", "\"abcd\"", "\"\\ud83d\\ude00\"", "\"\\n\""});
  expect_takes(R"({"type": "string", "maxLength": 0})", {"\"\""}, {"\"a\""});
}

TEST(JsonSchema, PatternsAndFormats) {
  expect_takes(R"({"type": "string", "pattern": "^[a-z]+(-[0-9]{2,3})?$"})",
               {"\"abc\"", "\"abc-12\"", "\"a-123\""},
               {"\"abc-\"", "\"A\"", "\"abc-1234\"", "\"\""});
  expect_takes(R"({"type": "string", "pattern": "b|^c"})", {"\"abz\"", "\"cx\""}, {"\"xc\""});
  expect_takes(R"({"type": "string", "pattern": "^\"\\\\é.$"})", {R"("\"\\éx")", R"("\"\\é😀")"},
               {R"("\"\\é")", R"("\"\\é\n")"});
  expect_takes(R"({"type": "string", "pattern": "^a*$", "minLength": 2, "maxLength": 4})",
               {"\"aa\"", "\"aaaa\""}, {"\"a\"", "\"aaaaa\"", "\"ab\""});
  expect_takes(R"({"type": "string", "format": "date"})", {"\"2024-02-29\"", "\"2000-02-29\""},
               {"\"2023-02-29\"", "\"1900-02-29\"", "\"2024-04-31\"", "\"2024-13-01\""});
  expect_takes(R"({"type": "string", "format": "uuid"})",
               {"\"123e4567-e89b-12d3-a456-426614174000\""}, {"\"123e4567\""});
}

TEST(JsonSchema, NumbersStayInRange) {
  expect_takes(R"({"type": "integer", "minimum": -12, "exclusiveMaximum": 105})",
               {"-12", "-9", "0", "9", "99", "100", "104"},
               {"-13", "105", "1000", "-0", "1.0", "1e1", "00"});
  expect_takes(R"({"type": "number", "minimum": 0.05, "maximum": 10})",
               {"0.05", "0.051", "0.1", "1", "9.999", "10", "10.0", "10.00"},
               {"0", "0.04", "0.049", "10.01", "11", "-1", "0.5e1"});
  expect_takes(R"({"type": "number", "exclusiveMinimum": -1, "exclusiveMaximum": 0})",
               {"-0.5", "-0.0001"}, {"-1", "0", "-0", "-1.0", "-0.00"});
  expect_takes(R"({"type": "integer", "multipleOf": 12, "minimum": 1})", {"12", "24", "1200"},
               {"0", "13", "6"});
  expect_takes(R"({"type": "number", "multipleOf": 0.05})", {"0.05", "-1.1", "3", "0.10"},
               {"0.01", "0.051", "0.123"});
  expect_takes(R"({"format": "int32"})", {"2147483647", "-2147483648", "\"x\""},
               {"2147483648", "-2147483649", "0.5"});
  expect_takes(R"({"type": "integer", "minimum": 1, "exclusiveMinimum": true})", {"2"}, {"1"});
}

TEST(JsonSchema, EnumsAndConstants) {
  expect_takes(
      R"({"enum": ["a", "ab", 1, 1.5, null, [1, {"k": "v"}], "é\n"]})",
      {"\"a\"", "\"ab\"", "1", "1.5", "null", R"([1,{"k":"v"}])", R"([1, {"k": "v"}])", "\"é\\n\""},
      {"\"b\"", "2", "[1]", "\"\\u0061\"", "true"});
  // Values that the other keywords exclude are not offered.
  expect_takes(R"({"enum": ["a", "abc", 1, null], "type": ["string", "null"], "minLength": 2})",
               {"\"abc\"", "null"}, {"\"a\"", "1"});
}

TEST(JsonSchema, Combinations) {
  expect_takes(R"({"anyOf": [{"type": "string", "maxLength": 1}, {"type": "integer"}]})",
               {"\"a\"", "3"}, {"\"ab\"", "1.5", "null"});
  expect_takes(R"({"type": "object", "required": ["k"], "oneOf": [
                   {"properties": {"k": {"const": 1}, "a": {"type": "null"}}, "required": ["k"]},
                   {"properties": {"k": {"const": 2}, "b": {"type": "null"}}, "required": ["k"]}]})",
               {R"({"k":1,"a":null})", R"({"k":2,"a":5})"},
               {R"({"k":1,"a":5})", R"({"k":3})", "{}"});
  expect_takes(R"({"allOf": [{"minimum": 3}, {"maximum": 5}], "type": "integer"})", {"3", "5"},
               {"2", "6"});
  expect_takes(R"({"type": "integer", "nullable": true})", {"1", "null"}, {"\"\""});
}

TEST(JsonSchema, RecursionIsBounded) {
  const std::string schema = R"({"type": "array", "items": {"$ref": "#"}})";
  const auto nested = [](int n) { return std::string(n, '[') + std::string(n, ']'); };
  const Constraint c = constraint_of(schema, {.max_depth = 5});
  EXPECT_TRUE(matches(c, nested(5)));
  EXPECT_FALSE(matches(c, nested(6)));
  // A list that must go on is ended by its other alternative in time.
  const Constraint pairs = constraint_of(
      R"({"anyOf": [{"type": "null"},
                    {"type": "array", "items": {"$ref": "#"}, "minItems": 2, "maxItems": 2}]})",
      {.max_depth = 3});
  Constraint deep = pairs;
  EXPECT_TRUE(deep.accept_bytes("[[["));
  EXPECT_FALSE(deep.accept_bytes("["));
  EXPECT_TRUE(deep.accept_bytes("null,null],null],null]"));
  EXPECT_TRUE(deep.must_end());
}

TEST(JsonSchema, RefusesByNameAndPlace) {
  const auto has = [](const std::string& text, std::string_view part) {
    EXPECT_NE(text.find(part), text.npos) << text;
  };
  has(refusal(R"({"not": {}})"), "#/not: this keyword");
  has(refusal(R"({"properties": {"a": {"items": {"if": true}}}})"), "#/properties/a/items/if");
  has(refusal(R"({"patternProperties": {"a": {}}})"), "patternProperties");
  has(refusal(R"({"uniqueItems": true})"), "uniqueItems");
  has(refusal(R"({"madeUp": 1})"), "madeUp");
  has(refusal(R"({"$ref": "http://x/y"})"), "$ref 'http://x/y'");
  has(refusal(R"({"$ref": "#/nowhere"})"), "leads nowhere");
  has(refusal(R"({"$ref": "#"})"), "back to itself");
  has(refusal(R"({"anyOf": [{"$ref": "#"}]})"), "back to itself");
  has(refusal(R"({"oneOf": [{"type": "integer"}, {"minimum": 2}]})"), "0 and 1 may both match");
  has(refusal(R"({"pattern": "(?=a)b"})"), "#/pattern: look-around");
  has(refusal(R"({"pattern": "(a)\\1"})"), "'\\1'");
  has(refusal(R"({"format": "regex"})"), "format 'regex'");
  has(refusal(R"({"minProperties": 2})"), "minProperties");
  has(refusal(R"({"type": "strin"})"), "#/type");
  has(refusal(R"({"minLength": -1})"), "minLength");
  has(refusal(R"({"items": 3})"), "#/items");
  has(refusal("false"), "nothing can match");
  has(refusal(R"({"enum": []})"), "nothing can match");
  has(refusal(R"({"type": "integer", "minimum": 3, "maximum": 2})"), "nothing can match");
  has(refusal(R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})"),
      "nothing can match");
  EXPECT_EQ(refusal(R"({"title": "t", "description": 1, "default": 2, "x-y": {}, "$id": "u",
                        "uniqueItems": false, "examples": [1]})"),
            "accepted");
}

TEST(JsonSchema, HostileSchemasAreRefusedInTime) {
  for (const char* pattern : {"^(a{0,9999}){0,9999}$", "(.*a.{12}){3}", "^((a|b)*c){0,500}.{500}$",
                              "(((((((((a{9})){9}){9}){9}){9}){9}){9}){9})"})
    refusal(Json::object().set("pattern", Json::of(pattern)).dump());  // any answer, soon
  // 2^20 combinations.
  Json all = Json::array();
  for (int i = 0; i < 20; i++)
    all.push(parsed(
        fmt::format(R"({{"anyOf": [{{"required": ["a{0}"]}}, {{"required": ["b{0}"]}}]}})", i)));
  Json schema = Json::object();
  schema.set("allOf", std::move(all));
  EXPECT_NE(refusal(schema.dump()).find("alternatives"), std::string::npos);
  // Deeper than the compiler goes.
  std::string deep = "true";
  for (int i = 0; i < 200; i++) deep = R"({"items": )" + deep + "}";
  EXPECT_NE(refusal(deep).find("nested more than"), std::string::npos);
}

TEST(JsonSchema, ALargeEnumIsExact) {
  Json values = Json::array();
  for (int i = 0; i < 20000; i++) values.push(Json::of(fmt::format("value {}", i * 7)));
  Json schema = Json::object();
  schema.set("enum", std::move(values));
  const Constraint c = constraint_of(schema.dump());
  EXPECT_TRUE(matches(c, "\"value 7\""));
  EXPECT_TRUE(matches(c, "\"value 139993\""));
  EXPECT_FALSE(matches(c, "\"value 8\""));
}

// Whatever is sampled under the mask is a valid document.
TEST(JsonSchema, RandomDocumentsAreValid) {
  const auto text = read_file(NARWHAL_TEST_DATA "/../grammar/schemas.json");
  ASSERT_TRUE(text.ok());
  std::mt19937_64 random(20260101);
  int n_documents = 0;
  for (const Json& item : parsed(*text).items) {
    const Json& schema = item["schema"];
    const Constraint start = constraint_of(schema.dump());
    const grammar::Checker checker(schema);
    for (int i = 0; i < 60; i++) {
      const auto document = grammar::random_document(vocabulary(), start, random, 30);
      ASSERT_TRUE(document) << item["name"].text << ": no end";
      const auto value = Json::parse(*document);
      ASSERT_TRUE(value.ok()) << *document;
      EXPECT_TRUE(checker.valid(*value)) << item["name"].text << ": " << *document;
      n_documents++;
    }
  }
  EXPECT_GE(n_documents, 600);
}

}  // namespace
}  // namespace narwhal
