// The decoder against logits that want to write something else than they may.
#include "serve/decoder.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>

#include "grammar/test_checker.h"
#include "serve/formats.h"
#include "text/test_vocab.h"

namespace narwhal::serve {
namespace {

const text::Tokenizer& tokenizer() {
  static const text::Tokenizer t = *text::Tokenizer::create(text::tiny_vocab());
  return t;
}
const text::Controls& controls() {
  static const text::Controls c = *text::Controls::find(tokenizer());
  return c;
}
const Vocabulary& vocabulary() {
  static const Vocabulary v(tokenizer(), controls());
  return v;
}

constexpr std::string_view kWeather =
    R"({"name": "get_weather", "strict": true, "parameters": {"type": "object", "properties":
      {"city": {"type": "string", "minLength": 1, "maxLength": 9},
       "days": {"type": "integer", "minimum": 1, "maximum": 31}, "unit": {"enum": ["C", "F"]}},
      "required": ["city", "days", "unit"], "additionalProperties": false}})";
constexpr std::string_view kBash =
    R"({"name": "bash", "parameters": {"type": "object", "properties": {"command": {"type":
      "string"}}}})";

TurnJob job_for(const std::vector<std::string_view>& tools, bool thinking = false) {
  TurnJob job;
  job.tokens = {5, thinking ? controls().think.id : controls().end_think.id};
  job.max_tokens = 3000;
  job.request.sampling = {.temperature = 0, .top_p = 1, .seed = 1};
  for (const std::string_view tool : tools) {
    job.request.tools.push_back(*Json::parse(tool));
    if (tool.find("strict") != tool.npos)
      job.request.strict_tools.push_back(job.request.tools.back()["name"].text);
  }
  return job;
}

std::vector<int32_t> ids_of(std::string_view text) {
  std::vector<int32_t> ids;
  size_t at = 0;
  const auto add = [&](std::string_view part) {
    for (int32_t id : tokenizer().encode(part)) ids.push_back(id);
  };
  while (const auto match = tokenizer().find_added(text, at)) {
    add(text.substr(at, match->begin - at));
    ids.push_back(match->id);
    at = match->begin + match->length;
  }
  add(text.substr(at));
  return ids;
}

struct Wrote {
  std::string reasoning = {}, content = {};
  std::vector<std::pair<std::string, std::string>> calls = {};
  int n_back = 0;
  Finish finish = Finish::kStop;
  std::vector<int32_t> ids = {};
};

// `want(ids, logits)` says what the model would like to write after ids.
template <class F>
Wrote write(const TurnJob& job, F want) {
  Decoder decoder(vocabulary(), job);
  Wrote w;
  std::vector<float> logits(static_cast<size_t>(tokenizer().vocab_size()));
  for (int i = 0; !decoder.finished() && i < 10'000; i++) {
    std::fill(logits.begin(), logits.end(), 0.f);
    want(decoder.ids(), logits);
    const Candidates best = candidates_of(logits);
    const auto id =
        decoder.next(Prediction{best, [&]() -> std::span<const float> { return logits; }});
    EXPECT_TRUE(id.ok()) << id.status().message();
    if (!id.ok()) break;
    w.n_back += decoder.went_back();
    for (const TurnEvent& e : decoder.events()) {
      if (e.kind == TurnEvent::kReasoning) w.reasoning += e.text;
      if (e.kind == TurnEvent::kContent) w.content += e.text;
      if (e.kind == TurnEvent::kCallStart) w.calls.emplace_back(e.text, "");
      if (e.kind == TurnEvent::kCallArguments) w.calls.back().second += e.text;
    }
  }
  EXPECT_TRUE(decoder.finished());
  w.finish = decoder.finish();
  w.ids = decoder.ids();
  return w;
}

// Wants to write one text; where it was led elsewhere, to end.
auto wants(std::string_view text) {
  return [ids = ids_of(text)](const std::vector<int32_t>& written, std::vector<float>& logits) {
    const bool on_track =
        written.size() < ids.size() && std::equal(written.begin(), written.end(), ids.begin());
    logits[static_cast<size_t>(on_track ? ids[written.size()] : controls().eos.id)] = 20;
  };
}

// Wants anything, above all to come to an end.
auto babbles(uint64_t seed) {
  return [random = std::mt19937_64(seed)](const auto&, std::vector<float>& logits) mutable {
    for (float& x : logits) x = static_cast<float>(random() % 1000) / 100;
    for (const char* closer : {"\"", "</", "<", "}", "\n"}) {
      const auto ids = tokenizer().encode(closer);
      if (ids.size() == 1) logits[static_cast<size_t>(ids[0])] += 5;
    }
    logits[static_cast<size_t>(controls().dsml.id)] += 6;
  };
}

constexpr std::string_view kOpen = "\n\n<｜DSML｜tool_calls>\n";
constexpr std::string_view kClose = "\n</｜DSML｜tool_calls>";

std::string call_of(std::string_view name, std::string_view parameters) {
  return fmt::format("{}<｜DSML｜invoke name=\"{}\">\n{}\n</｜DSML｜invoke>{}", kOpen, name,
                     parameters, kClose);
}

TEST(Decoder, StrictArgumentsFitTheirSchemaWhateverTheModelWants) {
  Formats formats(tokenizer());
  const Json schema = (*Json::parse(kWeather))["parameters"];
  const grammar::Checker checker(schema);
  int n_calls = 0;
  for (const ToolChoice choice : {ToolChoice::kAuto, ToolChoice::kRequired}) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
      const bool thinking = seed % 2 == 0;
      TurnJob job = job_for({kWeather}, thinking);
      job.request.tool_choice = choice;
      job.request.thinking_budget = 20;
      job.request.parallel_tool_calls = seed % 3 != 0;
      job.request.sampling.temperature = 1;
      ASSERT_TRUE(formats.add_call_grammar(job.request, controls().dsml.id).ok());
      const Wrote w = write(job, babbles(seed));
      if (w.finish == Finish::kToolCalls) {
        EXPECT_FALSE(w.calls.empty());
        for (const auto& [name, arguments] : w.calls) {
          const auto json = Json::parse(arguments);
          ASSERT_TRUE(json.ok()) << arguments;
          EXPECT_TRUE(checker.valid(*json)) << arguments;
          n_calls++;
        }
      }
      if (!job.request.parallel_tool_calls) {
        EXPECT_LE(w.calls.size(), 1u);
      }
    }
  }
  EXPECT_GT(n_calls, 40);
}

TEST(Decoder, OnlyStrictBlocksAreFreeOfSlips) {
  Formats formats(tokenizer());
  const std::string slip = call_of("get_weather",
                                   "<｜DSML｜parameter name=\"place\" string=\"true\">Rome"
                                   "</｜DSML｜parameter>");
  TurnJob loose = job_for({R"({"name": "get_weather", "parameters": {}})"});
  EXPECT_EQ(write(loose, wants(slip)).calls[0].second, R"({"place": "Rome"})");
  TurnJob strict = job_for({kWeather});
  ASSERT_TRUE(formats.add_call_grammar(strict.request, controls().dsml.id).ok());
  const Wrote w = write(strict, wants(slip));
  ASSERT_EQ(w.calls.size(), 1u);
  EXPECT_TRUE(w.calls[0].second.starts_with(R"({"city": ")")) << w.calls[0].second;

  // Spelled out, it is text; in the reasoning its control cannot be written.
  const std::string spelled =
      "<tool_calls>\n<invoke name=\"get_weather\">\n</invoke>\n</tool_calls>";
  EXPECT_EQ(write(strict, wants(spelled)).content, spelled);
  strict.tokens.back() = controls().think.id;
  strict.request.thinking_budget = 40;
  const Wrote thought = write(strict, wants("Hm.\n" + std::string(kOpen)));
  EXPECT_EQ(std::count(thought.ids.begin(), thought.ids.end(), controls().dsml.id), 0);
}

TEST(Decoder, OnlyAllowedToolsAreCalled) {
  Formats formats(tokenizer());
  TurnJob job = job_for({kBash, R"({"name": "now", "parameters": {}})"});
  job.request.allowed_tools = {"now"};
  ASSERT_TRUE(formats.add_call_grammar(job.request, controls().dsml.id).ok());
  const Wrote w = write(job, wants(call_of("bash", "")));
  ASSERT_EQ(w.calls.size(), 1u);
  EXPECT_EQ(w.calls[0].first, "now");
}

TEST(Decoder, AStrictSchemaThatCannotBeEnforcedIsNamed) {
  Formats formats(tokenizer());
  TurnJob job = job_for({kBash,
                         R"({"name": "odd", "strict": true, "parameters": {"type": "object",
      "properties": {"a": {"type": "string", "contentSchema": {}, "not": {}}}}})"});
  const Status status = formats.add_call_grammar(job.request, controls().dsml.id);
  ASSERT_FALSE(status.ok());
  EXPECT_TRUE(status.message().starts_with("tools[1].parameters: ")) << status.message();
  EXPECT_NE(status.message().find("not"), std::string::npos) << status.message();
  job.request.strict_tools.clear();
  EXPECT_TRUE(formats.add_call_grammar(job.request, controls().dsml.id).ok());
}

TEST(Decoder, AMalformedBlockIsWrittenAgain) {
  Formats formats(tokenizer());
  const std::string garbage = fmt::format("Look.{}{}", kOpen, std::string(400, 'x'));
  TurnJob job = job_for({kBash});
  ASSERT_TRUE(formats.add_call_grammar(job.request, controls().dsml.id).ok());
  EXPECT_FALSE(job.request.enforces_calls);
  const Wrote once = write(job, wants(garbage));
  EXPECT_EQ(once.n_back, 1);
  EXPECT_EQ(once.content, "Look.");
  ASSERT_EQ(once.calls.size(), 1u) << "the grammar leaves nothing else";
  EXPECT_EQ(once.calls[0].first, "bash");
  EXPECT_EQ(once.finish, Finish::kToolCalls);
  // What is left are the tokens of what the client saw.
  std::string text;
  for (int32_t id : once.ids) text += tokenizer().bytes(id);
  EXPECT_EQ(text.find("xxx"), text.npos) << text;

  job.request.call_retries = 0;
  const Wrote never = write(job, wants(garbage));
  EXPECT_EQ(never.n_back, 0);
  EXPECT_TRUE(never.content.starts_with("Look.\n\n<｜DSML｜tool_calls>\nxxx")) << never.content;
  EXPECT_EQ(never.finish, Finish::kStop);
}

TEST(Decoder, NoBlockIsWrittenAgainForEver) {
  TurnJob job = job_for({kBash});
  job.request.call_retries = 3;
  // Without a grammar the same garbage comes every time.
  const Wrote w = write(job, wants(fmt::format("{}{}", kOpen, std::string(400, 'x'))));
  EXPECT_EQ(w.n_back, 3);
  EXPECT_EQ(w.finish, Finish::kStop);
  EXPECT_TRUE(w.calls.empty());
}

TEST(Decoder, RepetitionEndsTheTurnUnlessItIsAllowedTo) {
  TurnJob job = job_for({});
  job.request.loop_tokens = 64;
  const auto babble = [](const std::vector<int32_t>& ids, std::vector<float>& logits) {
    logits[static_cast<size_t>(tokenizer().encode(ids.size() % 2 ? "a" : "b")[0])] = 20;
  };
  const Wrote guarded = write(job, babble);
  EXPECT_EQ(guarded.ids.size(), 66u);
  EXPECT_EQ(guarded.finish, Finish::kLength);
  job.request.loop_tokens = 0;
  EXPECT_EQ(write(job, babble).ids.size(), 3000u);
}

TEST(Decoder, MarkupIsWrittenGreedilyAndTextsAreSampled) {
  const std::string head = "<｜DSML｜parameter name=\"command\" string=\"true\">";
  const auto ids = ids_of(head);
  std::set<std::string> texts;
  for (uint64_t seed = 1; seed <= 12; seed++) {
    TurnJob job = job_for({kBash});
    job.request.tool_choice = ToolChoice::kRequired;
    job.request.allowed_tools = {"bash"};
    job.request.sampling = {.temperature = 50, .top_p = 1, .seed = seed};
    job.max_tokens = 120;
    size_t first = 0;
    const Wrote w =
        write(job, [&](const std::vector<int32_t>& written, std::vector<float>& logits) {
          // The opener and the name are forced: the parameter comes after their line feed.
          if (first == 0) {
            std::string text;
            for (int32_t id : written) text += tokenizer().bytes(id);
            if (text.ends_with("name=\"bash\">\n")) first = written.size();
          }
          if (first > 0 && written.size() - first < ids.size())
            logits[static_cast<size_t>(ids[written.size() - first])] = 1;
        });
    ASSERT_GT(w.ids.size(), first + ids.size());
    EXPECT_TRUE(std::equal(ids.begin(), ids.end(), w.ids.begin() + static_cast<int64_t>(first)));
    ASSERT_EQ(w.calls.size(), 1u);
    texts.insert(w.calls[0].second);
  }
  EXPECT_GT(texts.size(), 10u);
}

TEST(Decoder, AScriptGoesThroughTheWholePipeline) {
  TurnJob job = job_for({kBash}, /*thinking=*/true);
  job.request.script =
      call_of("bash", "<｜DSML｜parameter name=\"command\" string=\"true\">ls</｜DSML｜parameter>");
  const Wrote w = write(job, babbles(3));
  ASSERT_EQ(w.calls.size(), 1u);
  EXPECT_EQ(w.calls[0].second, R"({"command": "ls"})");
  EXPECT_EQ(w.finish, Finish::kToolCalls);
}

}  // namespace
}  // namespace narwhal::serve
