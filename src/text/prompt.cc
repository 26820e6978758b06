#include "text/prompt.h"

#include <fmt/format.h>

namespace narwhal::text {

Result<Controls> Controls::find(const Tokenizer& tokenizer) {
  const auto at = [&](std::string_view name) { return Control{tokenizer.id_of(name), name}; };
  Controls c;
  c.bos = at(kBosName);
  c.eos = at(kEosName);
  c.user = at("<｜User｜>");
  c.assistant = at("<｜Assistant｜>");
  c.think = at("<think>");
  c.end_think = at("</think>");
  c.dsml = at("｜DSML｜");
  c.reminder = at("<｜latest_reminder｜>");
  for (const Control* control :
       {&c.bos, &c.eos, &c.user, &c.assistant, &c.think, &c.end_think, &c.dsml, &c.reminder})
    if (control->id < 0)
      return bad_input(
          fmt::format("vocabulary: no added token \"{}\", which the chat template needs; use a "
                      "DeepSeek V4 file",
                      control->name));
  c.fim_begin = at("<｜fim▁begin｜>");
  c.fim_hole = at("<｜fim▁hole｜>");
  c.fim_end = at("<｜fim▁end｜>");
  c.action = at("<｜action｜>");
  c.query = at("<｜query｜>");
  c.authority = at("<｜authority｜>");
  c.domain = at("<｜domain｜>");
  c.title = at("<｜title｜>");
  c.read_url = at("<｜read_url｜>");
  return c;
}

std::string_view Controls::name_of(int32_t id) const {
  for (const Control* c :
       {&bos, &eos, &user, &assistant, &think, &end_think, &dsml, &reminder, &fim_begin, &fim_hole,
        &fim_end, &action, &query, &authority, &domain, &title, &read_url})
    if (id >= 0 && c->id == id) return c->name;
  return {};
}

bool Controls::ends_turn(int32_t id) const {
  return id == eos.id || id == user.id || id == assistant.id || id == bos.id || id == reminder.id;
}

void add_text(Prompt& prompt, std::string_view text) {
  if (text.empty()) return;
  if (prompt.empty() || prompt.back().is_control() || !prompt.back().ids.empty())
    prompt.emplace_back();
  prompt.back().text += text;
}

void add_control(Prompt& prompt, const Control& control) {
  prompt.push_back({.control = control.id, .text = std::string(control.name)});
}

void add_items(Prompt& prompt, std::span<const PromptItem> items) {
  for (const PromptItem& item : items) {
    if (item.is_control() || !item.ids.empty())
      prompt.push_back(item);
    else
      add_text(prompt, item.text);
  }
}

void add_ids(Prompt& prompt, std::span<const int32_t> ids) {
  if (!ids.empty()) prompt.push_back({.ids = {ids.begin(), ids.end()}});
}

Prompt split_controls(const Tokenizer& tokenizer, std::string_view text) {
  Prompt prompt;
  size_t at = 0;
  while (const auto match = tokenizer.find_added(text, at)) {
    add_text(prompt, text.substr(at, match->begin - at));
    add_control(prompt, {match->id, text.substr(match->begin, match->length)});
    at = match->begin + match->length;
  }
  add_text(prompt, text.substr(at));
  return prompt;
}

Prompt prompt_of_ids(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  Prompt prompt;
  for (const int32_t id : ids) {
    if (tokenizer.is_control(id))
      add_control(prompt, {id, tokenizer.bytes(id)});
    else
      add_text(prompt, tokenizer.bytes(id));
  }
  return prompt;
}

std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, std::span<const PromptItem> prompt) {
  std::vector<int32_t> ids;
  std::string run;
  const auto flush = [&] {
    const auto part = tokenizer.encode(run);
    ids.insert(ids.end(), part.begin(), part.end());
    run.clear();
  };
  for (const PromptItem& item : prompt) {
    if (!item.is_control() && item.ids.empty()) {
      run += item.text;
      continue;
    }
    flush();
    if (item.is_control()) ids.push_back(item.control);
    ids.insert(ids.end(), item.ids.begin(), item.ids.end());
  }
  flush();
  return ids;
}

std::string to_string(std::span<const PromptItem> prompt) {
  std::string out;
  for (const PromptItem& item : prompt) out += item.text;
  return out;
}

}  // namespace narwhal::text
