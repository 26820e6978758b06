#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/check.h"
#include "eval/cases.h"
#include "eval/world.h"

namespace narwhal::eval {
namespace {

using Arguments = std::vector<std::pair<std::string, Json>>;  // by the task's own keys

struct Tool {
  std::string family, name;
  std::map<std::string, std::string> names;  // task's key -> the schema's name
  Json schema;

  text::ToolCall call(const Arguments& arguments, int number) const {
    Json object = Json::object();
    for (const auto& [key, value] : arguments) object.set(names.at(key), value);
    return {fmt::format("call_{}", number), name, object.dump()};
  }
};

const ToolFamily& family_of(std::string_view key) {
  for (const ToolFamily& f : kFamilies)
    if (f.key == key) return f;
  NW_CHECK(false, "no tool family is called {}", key);
  return kFamilies[0];
}

std::string spaced(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

Json parameter_schema(Dice& d, std::string_view type, std::string_view description,
                      const std::string& name, bool terse) {
  Json p = Json::object();
  p.set("type", Json::of(std::string(type)));
  const std::string said(description);
  const std::string forms[] = {
      said, said, said, said + ".", lower(said), capital(spaced(name)), "The " + spaced(name)};
  const std::string& form = d.pick(forms);
  if (!terse) p.set("description", Json::of(form));
  return p;
}

// The names of a tool and of its parameters: out of the lists, and sometimes made up.
void name_tool(Dice& d, const ToolFamily& f, bool agent, const std::vector<Tool>& taken, Tool& t) {
  if (agent && !f.agent_name.empty()) {
    t.name = f.agent_name;
    for (const Parameter& p : f.parameters) t.names[std::string(p.key)] = p.agent_name;
    return;
  }
  t.name = d.pick(f.names);
  const bool is_taken =
      std::any_of(taken.begin(), taken.end(), [&](const Tool& o) { return o.name == t.name; });
  if (d.chance(0.2) || is_taken) {
    const std::string tails[] = {"", "_tool", "_" + made_up(d, 1)};
    t.name = made_up(d) + d.pick(tails);
  }
  std::vector<std::string> used;
  for (const Parameter& p : f.parameters) {
    std::string name;
    do {
      name = d.chance(0.92) ? std::string(d.pick(p.names)) : made_up(d);
    } while (std::find(used.begin(), used.end(), name) != used.end());
    used.push_back(name);
    t.names[std::string(p.key)] = name;
  }
}

Tool make_tool(Dice& d, std::string_view key, bool agent, const std::vector<Tool>& taken) {
  const ToolFamily& f = family_of(key);
  Tool t{.family = std::string(key), .name = {}, .names = {}, .schema = {}};
  name_tool(d, f, agent, taken, t);
  const bool terse = d.chance(0.25);
  Json properties = Json::object(), required = Json::array();
  for (const Parameter& p : f.parameters) {
    const std::string& name = t.names[std::string(p.key)];
    properties.set(name, parameter_schema(d, p.type, p.description, name, terse));
    required.push(Json::of(name));
  }
  if (d.chance(0.3)) {
    const ExtraParameter& e = d.pick(kExtraParameters);
    if (!properties.find(e.name))
      properties.set(e.name,
                     parameter_schema(d, e.type, e.description, std::string(e.name), terse));
  }
  Json parameters = Json::object();
  parameters.set("type", Json::of("object"));
  parameters.set("properties", std::move(properties));
  if (!required.items.empty() && d.chance(0.9)) parameters.set("required", std::move(required));
  t.schema = Json::object();
  t.schema.set("name", Json::of(t.name));
  t.schema.set("description",
               Json::of(std::string(d.pick(f.descriptions)) + (d.chance(1 / 3.) ? "." : "")));
  t.schema.set("parameters", std::move(parameters));
  return t;
}

std::string file_name(Dice& d, std::string_view folder) {
  const std::string stem(d.pick(d.chance(0.2) ? kStems : kNouns));
  const std::string name = fmt::format("{}.{}", stem, d.pick(kExts));
  return folder.empty() ? name : fmt::format("{}/{}", folder, name);
}
std::string file_name(Dice& d) {
  return file_name(d, d.chance(0.4) ? d.pick(kDirs) : std::string_view());
}

std::string content(Dice& d) {
  const double k = d.unit();
  if (k < 0.4) return filler(d);
  if (k < 0.7) return any_fact(d).statement;
  if (k < 0.85) return joined({std::string(d.pick(kNouns)), std::string(d.pick(kNouns))}, " ");
  return fmt::format("{} = {}", d.pick(kNouns), d.below(1000));
}

struct Task {
  std::string request, goal;
  Arguments arguments;
  std::string result, answer;
};

std::string one_of(Dice& d, const std::vector<std::string>& forms) { return d.pick(forms); }

Task list_task(Dice& d) {
  const std::string folder(d.pick(kDirs));
  std::vector<std::string> files;
  for (int n = d.between(1, 4); n > 0; n--) files.push_back(file_name(d, ""));
  return {one_of(d, {fmt::format("List the files in {}.", folder),
                     fmt::format("Which files are in {}?", folder),
                     fmt::format("Show me the files in {}", folder),
                     fmt::format("What is in the folder {}?", folder)}),
          fmt::format("the files in {}", folder),
          {{"path", Json::of(folder)}},
          joined(files, "\n"),
          fmt::format("The files in {} are: {}.", folder, joined(files, ", "))};
}

Task read_task(Dice& d, bool may_ask) {
  const std::string file = file_name(d);
  if (may_ask && d.chance(0.4)) {
    const Fact f = any_fact(d);
    std::string text = f.statement;
    if (d.chance(0.5)) text = filler(d) + " " + text;
    if (d.chance(0.5)) text += " " + filler(d);
    return {fmt::format("Read {}. {}", file, f.question),
            fmt::format("a fact from {}", file),
            {{"path", Json::of(file)}},
            text,
            f.answer};
  }
  const std::string text = content(d);
  return {one_of(d, {fmt::format("Read the file {}.", file), fmt::format("What does {} say?", file),
                     fmt::format("Show me {}", file),
                     fmt::format("Open {} and tell me what it says.", file)}),
          fmt::format("the text of {}", file),
          {{"path", Json::of(file)}},
          text,
          fmt::format("The file {} says: {}", file, text)};
}

Task bash_task(Dice& d) {
  const std::string file = file_name(d), word(d.pick(kNouns));
  const std::pair<std::string, std::string> commands[] = {
      {"echo " + word, word},
      {"wc -l " + file, fmt::format("{} {}", d.between(1, 399), file)},
      {"rm " + file, "done"},
      {"uptime", fmt::format("up {} days", d.between(1, 89))},
      {"make test", fmt::format("{} tests passed", d.between(2, 98))},
      {"git status", "modified: " + file},
      {"hostname", word}};
  const auto& [command, out] = d.pick(commands);
  return {one_of(d, {fmt::format("Run the command `{}`.", command),
                     fmt::format("Run `{}`", command), fmt::format("Run {} in the shell.", command),
                     fmt::format("Please execute `{}`.", command)}),
          fmt::format("to run {}", command),
          {{"command", Json::of(command)}},
          out,
          fmt::format("The output is: {}", out)};
}

Task write_task(Dice& d) {
  const std::string file = file_name(d), text = content(d);
  return {one_of(d, {fmt::format("Write this to {}: {}", file, text),
                     fmt::format("Save the following text in {}: {}", file, text),
                     fmt::format("Create the file {} with this text: {}", file, text)}),
          fmt::format("to write {}", file),
          {{"path", Json::of(file)}, {"content", Json::of(text)}},
          one_of(d, {"ok", "done", fmt::format("wrote {} bytes", text.size())}),
          fmt::format("I wrote the text to {}.", file)};
}

Task search_task(Dice& d) {
  const std::string word = d.chance(0.5) ? std::string(d.pick(kNouns)) : made_up(d);
  std::vector<std::string> hits;
  for (int n = d.between(1, 3); n > 0; n--)
    hits.push_back(fmt::format("{}:{}", file_name(d), d.between(1, 199)));
  return {one_of(d, {fmt::format("Search for {}.", word),
                     fmt::format("Find the word {} in the project.", word),
                     fmt::format("Where does the word {} occur?", word),
                     fmt::format("Look for {} in the files.", word)}),
          fmt::format("to find {}", word),
          {{"query", Json::of(word)}},
          joined(hits, "\n"),
          fmt::format("I found {} in {}.", word, joined(hits, ", "))};
}

Task number_task(Dice& d, bool add) {
  constexpr int kTops[] = {10, 100, 1000, 10000};
  const int64_t top = d.pick(kTops), a = d.below(static_cast<int>(top)),
                b = d.below(add ? static_cast<int>(top) : 100), result = add ? a + b : a * b;
  const char op = add ? '+' : '*';
  const std::string sum = fmt::format("{} {} {}", a, op, b);
  return {one_of(d, {fmt::format("What is {}? Use the tool.", sum),
                     fmt::format("What is {} {} {}? Use a tool.", a, add ? "plus" : "times", b),
                     fmt::format("Use a tool: {}", sum),
                     add ? fmt::format("Add {} and {}. Use the tool.", a, b)
                         : fmt::format("Multiply {} by {}. Use the tool.", a, b)}),
          sum,
          {{"a", Json::of(a)}, {"b", Json::of(b)}},
          std::to_string(result),
          fmt::format("{} = {}.", sum, result)};
}

Task weather_task(Dice& d) {
  const std::string place = town(d), sky(d.pick(kSky));
  const int degrees = d.between(-9, 35);
  return {one_of(d, {fmt::format("What is the weather in {}?", place),
                     fmt::format("How is the weather in {}?", place),
                     fmt::format("Weather in {}?", place),
                     fmt::format("Tell me the weather in {}.", place)}),
          fmt::format("the weather in {}", place),
          {{"city", Json::of(place)}},
          one_of(d, {fmt::format("{}, {} degrees", sky, degrees),
                     fmt::format("{{\"temperature\": {}, \"sky\": \"{}\"}}", degrees, sky),
                     fmt::format("{} {}", sky, degrees)}),
          fmt::format("The weather in {} is {} with {} degrees.", place, sky, degrees)};
}

Task phone_task(Dice& d) {
  const std::string who = person(d);
  const std::string number = fmt::format("{}-{}", d.between(100, 999), d.between(1000, 9999));
  return {one_of(d, {fmt::format("What is the phone number of {}?", who),
                     fmt::format("Find the number of {}.", who),
                     fmt::format("How can I call {}?", who)}),
          fmt::format("the number of {}", who),
          {{"person", Json::of(who)}},
          number,
          fmt::format("The phone number of {} is {}.", who, number)};
}

Task task(Dice& d, std::string_view family, bool may_ask = true) {
  if (family == "list") return list_task(d);
  if (family == "read") return read_task(d, may_ask);
  if (family == "bash") return bash_task(d);
  if (family == "write") return write_task(d);
  if (family == "search") return search_task(d);
  if (family == "add" || family == "mul") return number_task(d, family == "add");
  if (family == "weather") return weather_task(d);
  if (family == "phone") return phone_task(d);
  const std::string t = fmt::format("{:02}:{:02}", d.below(24), d.below(60));
  return {one_of(d, {"What time is it?", "Tell me the time.", "What is the time now?"}),
          "the time",
          {},
          t,
          fmt::format("It is {}.", t)};
}

// Builds the messages of one exchange; calls are numbered so that results find theirs.
class Exchanger {
 public:
  explicit Exchanger(std::vector<text::Message>& messages) : messages_(messages) {}

  void ask(std::string text) { messages_.push_back(user_message(std::move(text))); }
  void call(const std::string& why, const Tool& tool, const std::vector<Arguments>& each) {
    text::Message m = reply_message("", why);
    for (const Arguments& a : each) m.tool_calls.push_back(tool.call(a, ++n_calls_));
    messages_.push_back(std::move(m));
  }
  void result(std::string text) {
    messages_.push_back({.role = text::Role::kTool,
                         .content = std::move(text),
                         .tool_call_id = fmt::format("call_{}", ++n_results_)});
  }
  void answer(std::string text, std::string why) {
    messages_.push_back(reply_message(std::move(text), std::move(why)));
  }

 private:
  std::vector<text::Message>& messages_;
  int n_calls_ = 0, n_results_ = 0;
};

std::string plan_for(std::string_view goal, const Tool& t) {
  return fmt::format("The user wants {}. I will use {}.", goal, t.name);
}

const Tool* find_tool(const std::vector<Tool>& tools, std::string_view family) {
  for (const Tool& t : tools)
    if (t.family == family) return &t;
  return nullptr;
}

void one_call(Dice& d, const std::vector<Tool>& tools, bool fails, Exchanger& x) {
  const Tool& t = d.pick(tools);
  const Task k = task(d, t.family);
  x.ask(k.request);
  x.call(plan_for(k.goal, t), t, {k.arguments});
  if (fails) {
    const std::string error(d.pick(kErrors));
    x.result(error);
    x.answer("The tool reported a problem: " + error, "The tool failed.");
  } else {
    x.result(k.result);
    x.answer(k.answer, "I have the result.");
  }
}

void two_calls(Dice& d, const std::vector<Tool>& tools, Exchanger& x) {
  std::vector<const Tool*> fit;
  for (const Tool& t : tools)
    for (std::string_view family : {"weather", "read", "list", "add", "phone"})
      if (t.family == family) fit.push_back(&t);
  const Tool& t = *d.pick(fit);
  Task a = task(d, t.family, false), b = a;
  while (a.goal == b.goal) b = task(d, t.family, false);
  const std::string p = a.arguments[0].second.text, q = b.arguments[0].second.text;
  std::string first = p, second = q;
  if (t.family == "add") {
    first = a.goal;
    second = b.goal;
    x.ask(fmt::format("What is {} and what is {}? Use the tool.", first, second));
  } else if (t.family == "weather") {
    x.ask(fmt::format("What is the weather in {} and {}?", p, q));
  } else if (t.family == "read") {
    x.ask(fmt::format("Read {} and {}.", p, q));
  } else if (t.family == "list") {
    x.ask(fmt::format("List the files in {} and in {}.", p, q));
  } else {
    x.ask(fmt::format("Find the numbers of {} and {}.", p, q));
  }
  x.call(fmt::format("The user asks for {} and {}. I will use {} twice.", first, second, t.name), t,
         {a.arguments, b.arguments});
  x.result(a.result);
  x.result(b.result);
  x.answer(fmt::format("{} {}", a.answer, b.answer), "I have both results.");
}

// The second call needs the first one's result.
void second_call(Dice& d, const std::vector<Tool>& tools, Exchanger& x) {
  const Tool& read = *find_tool(tools, "read");
  if (const Tool* list = find_tool(tools, "list")) {
    const std::string folder(d.pick(kDirs)), file = file_name(d, ""), text = content(d);
    const std::string path = fmt::format("{}/{}", folder, file);
    x.ask(one_of(d, {fmt::format("Read the only file in {}.", folder),
                     fmt::format("There is one file in {}. What does it say?", folder),
                     fmt::format("Find the file in {} and read it.", folder)}));
    x.call(plan_for("the file in " + folder, *list), *list, {{{"path", Json::of(folder)}}});
    x.result(file);
    x.call(fmt::format("The file is {}. I will use {}.", file, read.name), read,
           {{{"path", Json::of(path)}}});
    x.result(text);
    x.answer(fmt::format("The file {} says: {}", path, text), "I have the result.");
    return;
  }
  const Tool& add = *find_tool(tools, "add");
  const std::string file = file_name(d);
  const int64_t a = d.below(1000), b = d.below(1000);
  x.ask(d.chance(0.5) ? fmt::format("Add {} to the number in {}.", b, file)
                      : fmt::format("Read the number in {} and add {}.", file, b));
  x.call(plan_for("the number in " + file, read), read, {{{"path", Json::of(file)}}});
  x.result(std::to_string(a));
  x.call(fmt::format("The number is {}. I will use {}.", a, add.name), add,
         {{{"a", Json::of(a)}, {"b", Json::of(b)}}});
  x.result(std::to_string(a + b));
  x.answer(fmt::format("{} + {} = {}.", a, b, a + b), "I have the result.");
}

void no_call(Dice& d, Exchanger& x) {
  constexpr std::string_view kText[] = {"copy", "reverse", "count", "add", "upper case"};
  const int k = d.below(3);
  const Exercise e = k == 0   ? about_itself(d)
                     : k == 1 ? general_knowledge(d)
                              : exercise(d, d.pick(kText));
  x.ask(e.question);
  x.answer(e.answer, e.reasoning);
}

// One to three families, with those that the sub-skill needs among them.
std::vector<std::string> families(Dice& d, std::string_view sub, bool agent) {
  std::vector<std::string> all;
  for (const ToolFamily& f : kFamilies)
    if (!agent || !f.agent_name.empty()) all.emplace_back(f.key);
  d.shuffle(all);
  std::vector<std::string> need;
  if (sub == "two calls") {
    constexpr std::string_view kTwice[] = {"weather", "read", "list", "add", "phone"};
    constexpr std::string_view kAgentTwice[] = {"read", "list"};
    need = {std::string(agent ? d.pick(kAgentTwice) : d.pick(kTwice))};
  } else if (sub == "second call") {
    need = {"read", agent || d.chance(0.5) ? "list" : "add"};
  }
  const size_t n = std::max<size_t>(need.size(), static_cast<size_t>(d.between(1, 3)));
  for (const std::string& f : all) {
    const bool clash = sub == "second call" && (f == "list" || f == "add");
    if (need.size() < n && !clash && std::find(need.begin(), need.end(), f) == need.end())
      need.push_back(f);
  }
  d.shuffle(need);
  return need;
}

}  // namespace

Case tool_case(Dice& d, std::string_view sub, bool thinking, int intro) {
  Case c{.thinking = thinking, .every_turn = true};
  const bool agent = d.chance(0.25);
  std::vector<Tool> tools;
  for (const std::string& f : families(d, sub, agent))
    tools.push_back(make_tool(d, f, agent, tools));
  for (const Tool& t : tools) c.tools.push_back(t.schema);
  c.messages.push_back({.role = text::Role::kSystem, .content = std::string(kIntros[intro])});
  Exchanger x(c.messages);
  if (sub == "two calls") {
    two_calls(d, tools, x);
  } else if (sub == "second call") {
    second_call(d, tools, x);
  } else if (sub == "no call") {
    no_call(d, x);
  } else {
    NW_CHECK(sub == "one call" || sub == "error", "no tool case is called {}", sub);
    one_call(d, tools, sub == "error", x);
  }
  return c;
}

}  // namespace narwhal::eval
