#include "text/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "text/chat_text.h"
#include "text/replace.h"

namespace narwhal::text {
namespace {

struct Block {
  bool is_result;
  std::string id;  // of the call that a result answers
  std::string text;
};

// A message after tool results and user texts have become turns.
struct Turn {
  Message message;            // role kUser for a turn of blocks, whose content is in `blocks`
  std::vector<Block> blocks;  // not empty exactly for kUser
};

bool opens_answer(Role role) { return role == Role::kUser || role == Role::kDeveloper; }

// One turn for any run of tool results and user texts, except that a user text starts a new turn
// after a turn that has a task.
std::vector<Turn> merge_turns(std::vector<Message> messages) {
  std::vector<Turn> turns;
  for (Message& m : messages) {
    const bool is_result = m.role == Role::kTool;
    if (!is_result && m.role != Role::kUser) {
      turns.push_back({std::move(m), {}});
      continue;
    }
    const bool joins = !turns.empty() && turns.back().message.role == Role::kUser &&
                       (is_result || turns.back().message.task.empty());
    if (!joins) turns.push_back({});
    Turn& turn = turns.back();
    turn.message.role = Role::kUser;
    turn.blocks.push_back({is_result, std::move(m.tool_call_id), std::move(m.content)});
    if (is_result) continue;
    turn.message.task = std::move(m.task);
    turn.message.no_eos = m.no_eos;
  }
  return turns;
}

// Results stand in the order of the calls they answer.
void order_results(std::vector<Turn>& turns) {
  std::map<std::string, size_t> order;  // of the last message that had calls
  for (Turn& turn : turns) {
    const auto& calls = turn.message.tool_calls;
    if (!calls.empty()) order.clear();
    for (size_t i = 0; i < calls.size(); i++)
      if (!calls[i].id.empty()) order[calls[i].id] = i;
    std::vector<Block> results;
    for (const Block& b : turn.blocks)
      if (b.is_result) results.push_back(b);
    const auto place = [&](const Block& b) {
      const auto at = order.find(b.id);
      return at == order.end() ? size_t{0} : at->second;
    };
    std::stable_sort(results.begin(), results.end(),
                     [&](const Block& a, const Block& b) { return place(a) < place(b); });
    auto next = results.begin();
    for (Block& b : turn.blocks)
      if (b.is_result) b = std::move(*next++);
  }
}

// Old reasoning costs context; with tools the model was trained to keep seeing it.
bool drops_reasoning(const std::vector<Message>& messages) {
  return std::none_of(messages.begin(), messages.end(), [](const Message& m) {
    return !m.tools.empty() || !m.tool_calls.empty() || m.role == Role::kTool;
  });
}

// Index of the last turn that an answer follows, or -1.
int64_t last_question(const std::vector<Turn>& turns) {
  for (auto i = std::ssize(turns) - 1; i >= 0; i--)
    if (opens_answer(turns[i].message.role)) return i;
  return -1;
}

void drop_old(std::vector<Turn>& turns) {
  const int64_t last = last_question(turns);
  std::vector<Turn> kept;
  for (int64_t i = 0; i < std::ssize(turns); i++) {
    if (i < last && turns[i].message.role == Role::kDeveloper) continue;
    if (i < last) turns[i].message.reasoning.clear();
    kept.push_back(std::move(turns[i]));
  }
  turns = std::move(kept);
}

std::string_view effort_text(const RenderOptions& options) {
  if (!options.thinking) return {};
  const bool preview = options.profile == PromptProfile::kPreview;
  switch (options.effort) {
    case Effort::kNone:
    case Effort::kLow:
      return {};
    case Effort::kHigh:
      return preview ? std::string_view() : kEffortMore;
    case Effort::kMax:
      return preview ? kEffortMore : kEffortMost;
  }
  return {};
}

// Writes the turns of one prompt; the steps are methods so that they share its state.
class Renderer {
 public:
  Renderer(const Controls& controls, const Prompt& before, const Prompt& after,
           const std::vector<Turn>& turns, bool thinking, bool drop)
      : c_(controls),
        before_schemas_(before),
        after_schemas_(after),
        turns_(turns),
        last_(last_question(turns)),
        thinking_(thinking),
        drop_(drop) {}

  Result<Prompt> render(std::string_view preamble) {
    add_control(out_, c_.bos);
    add_text(out_, preamble);
    for (int64_t i = 0; i < std::ssize(turns_); i++) {
      NW_TRY(write_message(i));
      const bool answer_next = i + 1 == std::ssize(turns_) ||
                               turns_[i + 1].message.role == Role::kAssistant ||
                               turns_[i + 1].message.role == Role::kReminder;
      if (answer_next) NW_TRY(write_transition(i));
    }
    return std::move(out_);
  }

 private:
  Status write_message(int64_t i) {
    const Turn& turn = turns_[i];
    const Message& m = turn.message;
    switch (m.role) {
      case Role::kDeveloper:
        if (m.content.empty()) return bad_input("a developer message is empty; give it text");
        add_control(out_, c_.user);
        [[fallthrough]];
      case Role::kSystem:
        add_text(out_, m.content);
        write_appendices(m);
        break;
      case Role::kUser:
      case Role::kTool:
        add_control(out_, c_.user);
        write_blocks(turn.blocks);
        break;
      case Role::kReminder:
        add_control(out_, c_.reminder);
        add_text(out_, m.content);
        break;
      case Role::kAssistant:
        if (thinking_ && (i == 0 || turns_[i - 1].message.task.empty()) && (!drop_ || i > last_)) {
          if (m.sampled && !m.sampled->reasoning.empty()) {
            add_ids(out_, m.sampled->reasoning);
          } else {
            if (!m.sampled) add_text(out_, m.reasoning);
            add_control(out_, c_.end_think);
          }
        }
        write_answer(m);
        break;
    }
    return ok_status();
  }

  void write_answer(const Message& m) {
    bool has_eos = m.no_eos;
    if (m.sampled) {
      const std::vector<int32_t>& ids = m.sampled->answer;
      add_ids(out_, ids);
      has_eos = has_eos || (!ids.empty() && ids.back() == c_.eos.id);
    } else {
      add_text(out_, m.content);
      render_tool_calls(out_, c_, m.tool_calls);
    }
    if (!has_eos) add_control(out_, c_.eos);
  }

  void write_appendices(const Message& m) {
    if (!m.tools.empty()) {
      add_text(out_, "\n\n");
      add_items(out_, before_schemas_);
      for (size_t k = 0; k < m.tools.size(); k++) {
        if (k > 0) add_text(out_, "\n");
        add_text(out_, m.tools[k].dump());
      }
      add_items(out_, after_schemas_);
    }
    if (!m.response_format.is_null()) {
      add_text(out_, "\n\n");
      add_text(out_, kResponseFormat);
      add_text(out_, m.response_format.dump());
    }
  }

  void write_blocks(const std::vector<Block>& blocks) {
    for (size_t k = 0; k < blocks.size(); k++) {
      if (k > 0) add_text(out_, "\n\n");
      if (blocks[k].is_result)
        add_text(out_,
                 fmt::format("<tool_result>{}</tool_result>",
                             replace_all(blocks[k].text, "</tool_result>", "&lt;/tool_result>")));
      else
        add_text(out_, blocks[k].text);
    }
  }

  // What stands between message i and the answer to it.
  Status write_transition(int64_t i) {
    const Message& m = turns_[i].message;
    if (!m.task.empty()) return write_task(m.task);
    if (!opens_answer(m.role)) return ok_status();
    add_control(out_, c_.assistant);
    add_control(out_, thinking_ && (!drop_ || i >= last_) ? c_.think : c_.end_think);
    return ok_status();
  }

  Status write_task(const std::string& task) {
    const std::pair<std::string_view, const Control*> tasks[] = {
        {"action", &c_.action}, {"query", &c_.query}, {"authority", &c_.authority},
        {"domain", &c_.domain}, {"title", &c_.title}, {"read_url", &c_.read_url}};
    const auto* at = std::find_if(std::begin(tasks), std::end(tasks),
                                  [&](const auto& t) { return t.first == task; });
    if (at == std::end(tasks))
      return bad_input(fmt::format(
          "task \"{}\", expected action, query, authority, domain, title or read_url", task));
    if (at->second->id < 0)
      return bad_input(
          fmt::format("task \"{}\": the vocabulary has no token {}", task, at->second->name));
    if (task == "action") {
      add_control(out_, c_.assistant);
      add_control(out_, thinking_ ? c_.think : c_.end_think);
    }
    add_control(out_, *at->second);
    return ok_status();
  }

  const Controls& c_;
  const Prompt &before_schemas_, &after_schemas_;
  const std::vector<Turn>& turns_;
  const int64_t last_;
  const bool thinking_, drop_;
  Prompt out_;
};

}  // namespace

void attach_tools(std::vector<Message>& messages, std::vector<Json> tools) {
  if (tools.empty()) return;
  auto system = std::find_if(messages.begin(), messages.end(),
                             [](const Message& m) { return m.role == Role::kSystem; });
  if (system == messages.end()) {
    system = messages.insert(messages.begin(), Message{});
    system->role = Role::kSystem;
  }
  system->tools = std::move(tools);
}

Result<ChatTemplate> ChatTemplate::create(const Tokenizer& tokenizer) {
  ChatTemplate chat;
  NW_ASSIGN(chat.controls_, Controls::find(tokenizer));
  chat.before_schemas_ = split_controls(tokenizer, kBeforeSchemas);
  chat.after_schemas_ = split_controls(tokenizer, kAfterSchemas);
  return chat;
}

Result<Prompt> ChatTemplate::render(std::vector<Message> messages,
                                    const RenderOptions& options) const {
  if (messages.empty()) return bad_input("no messages; at least one is needed");
  attach_tools(messages, options.tools);
  const bool drop = drops_reasoning(messages);
  std::vector<Turn> turns = merge_turns(std::move(messages));
  order_results(turns);
  if (options.thinking && drop) drop_old(turns);
  Renderer renderer(controls_, before_schemas_, after_schemas_, turns, options.thinking, drop);
  return renderer.render(effort_text(options));
}

Result<Prompt> ChatTemplate::fill_in_middle(std::string_view prefix,
                                            std::string_view suffix) const {
  for (const Control* c : {&controls_.fim_begin, &controls_.fim_hole, &controls_.fim_end})
    if (c->id < 0)
      return bad_input(fmt::format("fill in the middle: the vocabulary has no token {}", c->name));
  Prompt prompt;
  add_control(prompt, controls_.bos);
  add_control(prompt, controls_.fim_begin);
  add_text(prompt, prefix);
  add_control(prompt, controls_.fim_hole);
  add_text(prompt, suffix);
  add_control(prompt, controls_.fim_end);
  return prompt;
}

Prompt ChatTemplate::raw(std::string_view text) const {
  Prompt prompt;
  add_control(prompt, controls_.bos);
  add_text(prompt, text);
  return prompt;
}

}  // namespace narwhal::text
